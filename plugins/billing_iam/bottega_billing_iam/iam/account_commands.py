"""``bottega accounts`` for the operator, and ``bottega users password``."""

from __future__ import annotations

from typing import Annotated

import typer

from bottega.cli_support import connect, note, show

from .finding import user_named

accounts = typer.Typer(no_args_is_help=True, help="Accounts: each owns its things and pays for them.")


@accounts.command("list")
def list_accounts() -> None:
    """List one's own account; for the operator all."""
    show(connect().get("/v3/domains")["domains"], ["id", "name"])


@accounts.command("create")
def create_account(name: str) -> None:
    """Make a further account, with a login of its name, a project and the group admin (operator)."""
    made = connect().post("/v3/domains", {"domain": {"name": name, "password": _new_password()}})["domain"]
    show(made, ["id", "name"])


def password(
    user: Annotated[str | None, typer.Argument(help="Name of another user; for administrators.")] = None,
    must_change: Annotated[
        bool, typer.Option("--must-change", help="The user has to choose another one before doing anything else.")
    ] = False,
) -> None:
    """Change one's own password, or set that of USER; all tokens made with the old one end."""
    client = connect()
    if user is not None:
        change = {"password": _new_password(), "pwd_status": must_change}
        client.request("PATCH", f"/v3/users/{user_named(client, user)}", json={"user": change})
        note(f"{user} has a new password")
        return
    if must_change:
        raise typer.BadParameter("is for another user's password; name the user", param_hint="--must-change")
    present = typer.prompt("Present password", hide_input=True, err=True)
    change_own = {"original_password": present, "password": _new_password()}
    client.post(f"/v3/users/{client.get('/v1/whoami')['user_id']}/password", {"user": change_own})
    note("the password is changed")


def _new_password() -> str:
    return str(typer.prompt("New password", hide_input=True, confirmation_prompt=True, err=True))
