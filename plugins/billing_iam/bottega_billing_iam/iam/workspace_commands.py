"""``bottega workspaces`` and ``bottega authorizations``."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from bottega.cli_support import connect, note, show
from bottega.client import Client

from .finding import user_named

BASE, AUTHORIZATIONS, MODE = "/v1/{project_id}/workspaces", "/v2/{project_id}/authorizations", "/v1/auth-mode"
_COLUMNS = {
    "id": "id",
    "name": "name",
    "auth_type": "open to",
    "owner": "owner",
    "enterprise_project_name": "enterprise project",
}

workspaces = typer.Typer(no_args_is_help=True, help="Workspaces of the project, and who may enter them.")
authorizations = typer.Typer(no_args_is_help=True, help="By which agencies the platform works for users.")


def add_to(cli: typer.Typer) -> None:
    cli.add_typer(workspaces, name="workspaces")
    cli.add_typer(authorizations, name="authorizations")


class Access(StrEnum):
    """To all of the account, to its creator, or to those it lists."""

    PUBLIC = "public"
    PRIVATE = "private"
    INTERNAL = "internal"


class Mode(StrEnum):
    STRICT = "strict"
    LOOSE = "loose"


_Guests = Annotated[list[str], typer.Option("--user", help="A user that may enter an internal one; repeatable.")]


@workspaces.command("list")
def list_workspaces(mine: Annotated[bool, typer.Option(help="Only those one may enter.")] = False) -> None:
    """List the workspaces."""
    query = {"order": "asc", "filter_accessible": mine or None}
    show(connect().get(BASE, query)["workspaces"], _COLUMNS)


@workspaces.command("create")
def create_workspace(
    name: str,
    access: Access = Access.PUBLIC,
    user: _Guests = [],  # noqa: B006  # typer reads the default, nobody changes it
    description: str = "",
    enterprise_project: Annotated[str, typer.Option(help="Id of the enterprise project it is bound to.")] = "0",
) -> None:
    """Make a workspace."""
    body = {
        "name": name,
        "description": description,
        "auth_type": access.name,
        "grants": _grants(user),
        "enterprise_project_id": enterprise_project,
    }
    show(connect().post(BASE, body), _COLUMNS)


@workspaces.command("show")
def show_workspace(name: str) -> None:
    """Show a workspace and who may enter it."""
    client = connect()
    found = client.get(f"{BASE}/{_workspace(client, name)}")
    show({**found, "users": [grant["user_name"] for grant in found.pop("grants")]})


@workspaces.command("access")
def change_access(
    name: str,
    access: Access,
    user: _Guests = [],  # noqa: B006  # typer reads the default, nobody changes it
) -> None:
    """Say who may enter a workspace: everybody, its creator only, or the creator and these users."""
    client = connect()
    id = _workspace(client, name)
    client.put(f"{BASE}/{id}", {"auth_type": access.name, "grants": _grants(user)})
    note(f"workspace {name} is {access}{': ' + ', '.join(user) if user else ''}")


@workspaces.command("delete")
def delete_workspace(name: str) -> None:
    """Delete a workspace that holds nothing."""
    client = connect()
    client.delete(f"{BASE}/{_workspace(client, name)}")
    note(f"workspace {name} is deleted")


@authorizations.command("list")
def list_authorizations() -> None:
    """List for which users the platform works by which agency; it works for all others with their own rights."""
    rows = connect().get(AUTHORIZATIONS)["auth"]
    show(rows, {"user_name": "user", "content": "agency", "create_time": "since"})


@authorizations.command("create")
def authorize(
    user: Annotated[
        str, typer.Argument(help="Name of a user, `all-users` for those without one, `all` for everybody.")
    ],
    agency: Annotated[str | None, typer.Option(help="Name of an agency; without it one is made.")] = None,
) -> None:
    """Let the platform read and write for USER with the rights of an agency."""
    client = connect()
    id = user if user in ("all", "all-users") else user_named(client, user)
    if agency is None:
        agency = client.post("/v2/{project_id}/agency", {"agency_name_suffix": user})["agency_name"]
    client.post(AUTHORIZATIONS, {"user_id": id, "content": agency})
    note(f"the platform works for {user} by agency {agency}")


@authorizations.command("delete")
def revoke(user: Annotated[str, typer.Argument(help="Name of a user, `all-users`, or `all`.")]) -> None:
    """Let the platform work for USER with the user's own rights again."""
    client = connect()
    id = user if user in ("all", "all-users") else user_named(client, user)
    client.request("DELETE", AUTHORIZATIONS, params={"user_id": id})
    note(f"the platform works for {user} with the user's own rights")


@authorizations.command("mode")
def mode(to: Annotated[Mode | None, typer.Argument(help="Without it, the present one is shown.")] = None) -> None:
    """Show or change whether users need explicit permissions (strict) or only no refusal (loose)."""
    client = connect()
    show(client.get(MODE) if to is None else client.put(MODE, {"mode": to.value}))


def _grants(names: list[str]) -> list[dict[str, Any]] | None:
    return [{"user_name": name} for name in names] or None


def _workspace(client: Client, name: str) -> str:
    """The id of a workspace by its name; ids are taken as they are."""
    for row in client.get(BASE, {"name": name})["workspaces"]:
        if row["name"] == name:
            return str(row["id"])
    return name
