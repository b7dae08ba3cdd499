"""``bottega can-i``, ``why``, ``who-can`` and ``preflight``."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from bottega.cli_support import OPTIONS, connect, console, show
from bottega.client import Client
from bottega.errors import Invalid, NotFound

_WORKSPACE_ID = re.compile(r"0|[0-9a-f]{32}|[0-9a-f-]{36}")
_Resource = Annotated[str, typer.Argument(help="The thing; * for none in particular.")]
_User = Annotated[str | None, typer.Option(help="Another user of the account.")]
_Workspace = Annotated[str | None, typer.Option(help="Name or id of the workspace it would be made in.")]


def add_to(cli: typer.Typer) -> None:
    """Add the commands to the program."""
    cli.command(name="can-i")(can_i)
    cli.command()(why)
    cli.command(name="who-can")(who_can)
    cli.command()(preflight)


def can_i(action: str, resource: _Resource = "*", user: _User = None, workspace: _Workspace = None) -> None:
    """Ask whether ACTION on RESOURCE is allowed, and which statement decides; exit code 1 when it is not."""
    answer = _ask("check", action, resource, workspace, user=user)
    if OPTIONS.as_json:
        show(answer)
    else:
        _verdict(answer["allowed"], answer["explanation"])
    if not answer["allowed"]:
        raise typer.Exit(1)


def why(action: str, resource: _Resource = "*", user: _User = None, workspace: _Workspace = None) -> None:
    """Tell everything that decides whether ACTION on RESOURCE is allowed: statements, workspace, agency, account."""
    answer = _ask("why", action, resource, workspace, user=user)
    if OPTIONS.as_json:
        show(answer)
        return
    _verdict(answer["allowed"], answer["explanation"])
    room, account, agency = answer["workspace"], answer["account"], answer["agency"]
    root = ", the account itself: it may do everything in it" if answer["is_account_root"] else ""
    place = f"{room['id']} ({room['auth_type']}, enterprise project {room['enterprise_project_id']})"
    acting = "none acts for this user's programs"
    if agency is not None:
        acting = f"{agency['name']} acts for this user's programs: {agency['explanation'] or 'on storage'}"
    show(
        {
            "user": f"{answer['user_name']} ({answer['user_id']}){root}",
            "workspace": f"{place}: {'open' if room['may_enter'] else 'closed to this user'}",
            "account": f"{account['auth_mode']} authorization, standing {account['standing']}",
            "agency": acting,
        }
    )
    rows = [
        row | {"statement": f"{row['policy']} #{row['statement']}", "outcome": _outcome(row)}
        for row in answer["statements"]
    ]
    if rows:
        show(
            rows,
            {"statement": "statement", "effect": "effect", "source": "through", "scope": "in", "outcome": "outcome"},
        )


def who_can(action: str, resource: _Resource = "*", workspace: _Workspace = None) -> None:
    """List the users and agencies that may do ACTION on RESOURCE, and what allows each."""
    answer = _ask("who-can", action, resource, workspace)
    if OPTIONS.as_json:
        show(answer)
        return
    rows = [{"kind": "user", "name": row["user_name"], **row} for row in answer["users"]]
    rows += [{"kind": "agency", "name": row["agency_name"], **row} for row in answer["agencies"]]
    show(rows, ["kind", "name", "policy", "statement", "source", "scope", "reason"])


def preflight(
    path: Annotated[str, typer.Argument(help="Path of the creating request, such as /v2/{project_id}/training-jobs.")],
    file: Annotated[Path, typer.Argument(help="Its body, a JSON file; - reads standard input.")],
) -> None:
    """Check every permission that a creation will need, its agency's too; exit code 1 when any is missing."""
    text = sys.stdin.read() if str(file) == "-" else file.read_text("utf-8")
    try:
        body = json.loads(text)
    except json.JSONDecodeError as e:
        raise Invalid(f"{file}: not valid JSON: {e}") from None
    answer = connect().post(path.rstrip("/") + "/preflight", body)
    if OPTIONS.as_json:
        show(answer)
    else:
        _verdict(answer["allowed"], f"{len(answer['needs'])} permissions are needed, {len(answer['missing'])} missing")
        show(answer["needs"], {"met": "met", "action": "action", "resource": "resource", "by": "by", "why": "why"})
        for missing in answer["missing"]:
            console.print(f"missing for {missing['by']}: {missing['reason']}", markup=False, soft_wrap=True)
    if not answer["allowed"]:
        raise typer.Exit(1)


def _ask(question: str, action: str, resource: str, workspace: str | None, **more: Any) -> dict[str, Any]:
    client = connect()
    body = {"action": action, "resource": resource, "workspace_id": _workspace_id(client, workspace), **more}
    answer: dict[str, Any] = client.post(f"/v1/{{project_id}}/permissions/{question}", body)
    return answer


def _workspace_id(client: Client, wanted: str | None) -> str | None:
    if wanted is None or _WORKSPACE_ID.fullmatch(wanted):
        return wanted
    found = client.get("/v1/{project_id}/workspaces", {"name": wanted})["workspaces"]
    named = next((row for row in found if row["name"] == wanted), None)
    if named is None:
        raise NotFound(f"there is no workspace '{wanted}' in this project, or you may not enter it")
    return str(named["id"])


def _verdict(allowed: bool, explanation: str) -> None:
    console.print(("[green]yes[/]: " if allowed else "[red]no[/]: "), end="")
    console.print(explanation, markup=False)


def _outcome(row: dict[str, Any]) -> str:
    if row["decides"]:
        return "decides"
    return "applies too" if row["applies"] else str(row["obstacle"])
