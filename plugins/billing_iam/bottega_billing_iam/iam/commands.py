"""``bottega users|groups|policies|projects|keys``: administration from the command line."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from bottega.cli_support import connect, note, show
from bottega.client import ApiFailure, Client
from bottega.errors import Invalid
from bottega.private_files import write_private

from .token_command import token

KEYS = "/v3.0/OS-CREDENTIAL/credentials"
CUSTOM = "/v3.0/OS-ROLE/roles"
InProject = Annotated[
    str | None, typer.Option("--project", help="Name or id of one project; without it, all of the account.")
]

users = typer.Typer(no_args_is_help=True, help="Users of the account. A new one has no rights.")
groups = typer.Typer(no_args_is_help=True, help="Groups: rights reach users through them only.")
policies = typer.Typer(no_args_is_help=True, help="System and custom policies, and granting them.")
projects = typer.Typer(no_args_is_help=True, help="Projects of the account.")
keys = typer.Typer(no_args_is_help=True, help="Access keys.")


def add_to(cli: typer.Typer) -> None:
    for name, app in (
        ("users", users),
        ("groups", groups),
        ("policies", policies),
        ("projects", projects),
        ("keys", keys),
    ):
        cli.add_typer(app, name=name)
    cli.command("token")(token)


@users.command("list")
def list_users() -> None:
    """List the users."""
    show(connect().get("/v3/users")["users"], ["id", "name", "enabled", "is_domain_owner", "create_time"])


@users.command("create")
def create_user(
    name: str, ask_password: Annotated[bool, typer.Option(help="Ask for a password to log in with.")] = False
) -> None:
    """Make a user; without a password it works with access keys only."""
    password = typer.prompt("Password", hide_input=True, confirmation_prompt=True) if ask_password else None
    show(connect().post("/v3/users", {"user": {"name": name, "password": password}})["user"], ["id", "name", "enabled"])


@users.command("disable")
def disable_user(name: str) -> None:
    """Disable a user; its tokens and keys stop working at once."""
    _enable(name, False)


@users.command("enable")
def enable_user(name: str) -> None:
    """Enable a user again."""
    _enable(name, True)


@users.command("delete")
def delete_user(name: str) -> None:
    """Delete a user with its access keys."""
    client = connect()
    client.delete(f"/v3/users/{user_named(client, name)}")
    note(f"user {name} is deleted")


@groups.command("list")
def list_groups() -> None:
    """List the groups."""
    show(connect().get("/v3/groups")["groups"], ["id", "name", "description"])


@groups.command("create")
def create_group(name: str, description: str = "") -> None:
    """Make a group."""
    group = connect().post("/v3/groups", {"group": {"name": name, "description": description}})["group"]
    show(group, ["id", "name", "description"])


@groups.command("delete")
def delete_group(name: str) -> None:
    """Delete a group."""
    client = connect()
    client.delete(f"/v3/groups/{_group(client, name)}")
    note(f"group {name} is deleted")


@groups.command("add")
def add_member(group: str, user: str) -> None:
    """Put USER into GROUP."""
    client = connect()
    client.put(f"/v3/groups/{_group(client, group)}/users/{user_named(client, user)}")
    note(f"{user} is in {group}")


@groups.command("remove")
def remove_member(group: str, user: str) -> None:
    """Take USER out of GROUP."""
    client = connect()
    client.delete(f"/v3/groups/{_group(client, group)}/users/{user_named(client, user)}")
    note(f"{user} is not in {group} any more")


@groups.command("show")
def show_group(group: str) -> None:
    """Show the members of GROUP and what is granted to it for all of the account."""
    client = connect()
    id = _group(client, group)
    members = client.get(f"/v3/groups/{id}/users")["users"]
    granted = client.get(f"/v3/domains/{_account(client)}/groups/{id}/roles")["roles"]
    show({"name": group, "users": [u["name"] for u in members], "policies": [r["display_name"] for r in granted]})


@policies.command("list")
def list_policies(custom: Annotated[bool, typer.Option(help="Only those made in this account.")] = False) -> None:
    """List the policies."""
    client = connect()
    found = client.get(CUSTOM)["roles"]
    if not custom:
        found = client.get("/v3/roles")["roles"] + found
    show(found, {"id": "id", "display_name": "name", "catalog": "catalog", "description": "description"})


@policies.command("show")
def show_policy(name: str) -> None:
    """Print the document of a policy."""
    sys.stdout.write(json.dumps(_policy(connect(), name)["policy"], indent=2, ensure_ascii=False) + "\n")


@policies.command("create")
def create_policy(
    name: str, document: Annotated[Path, typer.Argument(help="JSON file.")], description: str = ""
) -> None:
    """Make a custom policy; mistakes in it are named with their position."""
    from bottega.iam import parse_policy

    try:
        text = document.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise Invalid(f"cannot read the policy {document}: {getattr(e, 'strerror', None) or 'not a text'}") from e
    parse_policy(text, name)
    role = {"display_name": name, "type": "AA", "description": description, "policy": json.loads(text)}
    show(connect().post(CUSTOM, {"role": role})["role"], ["id", "display_name", "description"])


@policies.command("delete")
def delete_policy(name: str) -> None:
    """Delete a custom policy that is granted to nobody."""
    client = connect()
    client.delete(f"{CUSTOM}/{_policy(client, name)['id']}")
    note(f"policy {name} is deleted")


@policies.command("grant")
def grant(policy: str, group: str, project: InProject = None) -> None:
    """Grant POLICY to GROUP."""
    client = connect()
    client.put(_grant_path(client, policy, group, project))
    note(f"{group} has {policy}" + (f" in {project}" if project else ""))


@policies.command("revoke")
def revoke(policy: str, group: str, project: InProject = None) -> None:
    """Take POLICY from GROUP."""
    client = connect()
    client.delete(_grant_path(client, policy, group, project))
    note(f"{group} has {policy} no more" + (f" in {project}" if project else ""))


@projects.command("list")
def list_projects() -> None:
    """List the projects."""
    show(connect().get("/v3/projects")["projects"], ["id", "name", "enabled", "description"])


@projects.command("create")
def create_project(name: str, description: str = "") -> None:
    """Make a project."""
    project = connect().post("/v3/projects", {"project": {"name": name, "description": description}})["project"]
    show(project, ["id", "name", "description"])


@projects.command("delete")
def delete_project(name: str) -> None:
    """Delete a project that never held anything."""
    client = connect()
    client.delete(f"/v3/projects/{_project(client, name)}")
    note(f"project {name} is deleted")


@keys.command("list")
def list_keys(user: str | None = None) -> None:
    """List one's own access keys, or those of USER."""
    client = connect()
    found = client.get(KEYS, {"user_id": user_named(client, user) if user else None})["credentials"]
    show(found, ["access", "status", "create_time", "description"])


@keys.command("create")
def create_key(
    user: str | None = None,
    description: str = "",
    output: Annotated[Path | None, typer.Option(help="Write credentials.json (mode 0600) for --credentials.")] = None,
) -> None:
    """Make an access key; its secret is shown, or written to a file, this once."""
    client = connect()
    if output is not None and not os.access(output.parent, os.W_OK):
        # Found out before: a key whose secret nobody got would stay behind.
        raise Invalid(f"cannot write {output}: '{output.parent}' is no directory you may write in")
    if output is not None and output.exists():
        raise Invalid(f"{output} exists; choose another file")
    user_id = user_named(client, user) if user else client.get("/v1/whoami")["user_id"]
    made = client.post(KEYS, {"credential": {"user_id": user_id, "description": description}})["credential"]
    if output is None:
        show(made, ["access", "secret", "user_id"])
        return
    keys = {"access_key": made["access"], "secret_key": made["secret"]}
    write_private(output, json.dumps({"url": client.url, "project_id": client.project_id, **keys}, indent=2) + "\n")
    note(f"{output} holds the key {made['access']}; use it with --credentials")


@keys.command("disable")
def disable_key(access_key: str) -> None:
    """Make an access key useless, at once."""
    connect().put(f"{KEYS}/{access_key}", {"credential": {"status": "inactive"}})
    note(f"{access_key} is disabled")


@keys.command("enable")
def enable_key(access_key: str) -> None:
    """Enable an access key again."""
    connect().put(f"{KEYS}/{access_key}", {"credential": {"status": "active"}})
    note(f"{access_key} is enabled")


@keys.command("delete")
def delete_key(access_key: str) -> None:
    """Delete an access key."""
    connect().delete(f"{KEYS}/{access_key}")
    note(f"{access_key} is deleted")


def _enable(name: str, enabled: bool) -> None:
    client = connect()
    user = client.request("PATCH", f"/v3/users/{user_named(client, name)}", json={"user": {"enabled": enabled}}).json()[
        "user"
    ]
    show(user, ["id", "name", "enabled"])


def _grant_path(client: Client, policy: str, group: str, project: str | None) -> str:
    place = f"projects/{_project(client, project)}" if project else f"domains/{_account(client)}"
    return f"/v3/{place}/groups/{_group(client, group)}/roles/{_policy(client, policy)['id']}"


def _account(client: Client) -> str:
    return str(client.get("/v1/whoami")["account_id"])


def user_named(client: Client, name: str) -> str:
    """The id of a user of that name."""
    return str(_one("user", name, client.get("/v3/users", {"name": name})["users"])["id"])


def _group(client: Client, name: str) -> str:
    return str(_one("group", name, client.get("/v3/groups", {"name": name})["groups"])["id"])


def _project(client: Client, name: str) -> str:
    every = client.get("/v3/projects")["projects"]
    return str(_one("project", name, [p for p in every if name in (p["name"], p["id"])])["id"])


def _policy(client: Client, name: str) -> dict[str, Any]:
    every = client.get("/v3/roles")["roles"] + client.get(CUSTOM)["roles"]
    return _one("policy", name, [p for p in every if p["display_name"] == name])


def _one(kind: str, name: str, found: list[dict[str, Any]]) -> dict[str, Any]:
    if not found:
        raise ApiFailure(404, "ModelArts.0104", f"there is no {kind} '{name}'", "-")
    return found[0]
