"""``bottega agencies`` and ``bottega enterprise-projects``."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from bottega.cli_support import OPTIONS, connect, note, show

from .finding import AGENCIES, ENTERPRISE_PROJECTS, agency_id, enterprise_project_id

agencies = typer.Typer(no_args_is_help=True, help="Rights handed to other accounts, or to the platform itself.")
enterprise_projects = typer.Typer(no_args_is_help=True, help="What groups workspaces for grants and bills.")

_AGENCY = ["id", "name", "trust_domain_name", "duration", "expire_time", "description"]
_ROOM = ["id", "name", "status", "description"]
Days = Annotated[int | None, typer.Option(help="How many days it lives from now; without it, for ever.", min=1)]


@agencies.command("list")
def list_agencies() -> None:
    """List the agencies of the account."""
    show(connect().get(AGENCIES)["agencies"], _AGENCY)


@agencies.command("create")
def create_agency(
    name: str,
    trust: Annotated[str, typer.Option(help="Name of the account that may use it; op_svc_modelarts: the platform.")],
    days: Days = None,
    description: str = "",
) -> None:
    """Make an agency without rights; `bottega policies grant POLICY NAME --to agency` gives it some."""
    body = {"name": name, "trust_domain_name": trust, "duration": days or "FOREVER", "description": description}
    show(connect().post(AGENCIES, {"agency": body})["agency"], _AGENCY)


@agencies.command("update")
def update_agency(
    name: str,
    trust: Annotated[str | None, typer.Option(help="Another account.")] = None,
    days: Days = None,
    forever: Annotated[bool, typer.Option("--forever", help="Let it live for ever.")] = False,
    description: str | None = None,
) -> None:
    """Change whom an agency trusts, for how long from now, or its description."""
    client = connect()
    duration = "FOREVER" if forever else days
    body: dict[str, Any] = {"trust_domain_name": trust, "duration": duration, "description": description}
    show(client.put(f"{AGENCIES}/{agency_id(client, name)}", {"agency": body})["agency"], _AGENCY)


@agencies.command("delete")
def delete_agency(name: str) -> None:
    """Delete an agency; whoever acts by it stops at once."""
    client = connect()
    client.delete(f"{AGENCIES}/{agency_id(client, name)}")
    note(f"agency {name} is deleted")


@agencies.command("assume")
def assume_agency(account: str, agency: str) -> None:
    """Print a token to act for ACCOUNT by its AGENCY, which has to trust your account; with --json also its end."""
    claim = {"domain_name": account, "agency_name": agency}
    asked = {"auth": {"identity": {"methods": ["assume_role"], "assume_role": claim}}}
    response = connect().request("POST", "/v3/auth/tokens", params={"nocatalog": "true"}, json=asked)
    token = response.headers["X-Subject-Token"]
    if OPTIONS.as_json:
        show({"token": token, "expires_at": response.json()["token"]["expires_at"]})
    else:
        sys.stdout.write(token + "\n")


@enterprise_projects.command("list")
def list_enterprise_projects() -> None:
    """List the enterprise projects; status 1 is enabled, 2 disabled."""
    show(connect().get(ENTERPRISE_PROJECTS)["enterprise_projects"], _ROOM)


@enterprise_projects.command("create")
def create_enterprise_project(name: str, description: str = "") -> None:
    """Make an enterprise project."""
    body = {"name": name, "description": description}
    show(connect().post(ENTERPRISE_PROJECTS, body)["enterprise_project"], _ROOM)


@enterprise_projects.command("rename")
def rename_enterprise_project(name: str, new_name: str) -> None:
    """Give an enterprise project another name."""
    client = connect()
    path = f"{ENTERPRISE_PROJECTS}/{enterprise_project_id(client, name)}"
    show(client.put(path, {"name": new_name})["enterprise_project"], _ROOM)


@enterprise_projects.command("enable")
def enable_enterprise_project(name: str) -> None:
    """Let policies be granted in it again."""
    _switch(name, "enable")


@enterprise_projects.command("disable")
def disable_enterprise_project(name: str) -> None:
    """Refuse new grants in it; what is granted or bound to it stays."""
    _switch(name, "disable")


def _switch(name: str, action: str) -> None:
    client = connect()
    client.post(f"{ENTERPRISE_PROJECTS}/{enterprise_project_id(client, name)}/action", {"action": action})
    note(f"enterprise project {name}: {action}d")
