"""``bottega security``: the account's own rules for passwords, logins, self-management and addresses."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated, Any

import typer

from bottega.cli_support import connect, show
from bottega.client import Client
from bottega.errors import Invalid

from .finding import account_id

security = typer.Typer(no_args_is_help=True, help="The account's own rules of security.")


class Rules(StrEnum):
    """The policies that have single settings."""

    password = "password"  # noqa: S105  # a name
    login = "login"
    protect = "protect"


class From(StrEnum):
    """What an address list holds for."""

    api = "api"
    login = "login"


_LISTS = {From.api: "api-acl-policy", From.login: "console-acl-policy"}


@security.command("show")
def show_rules() -> None:
    """Show all rules of the account."""
    client = connect()
    parts = [f"{rules.value}-policy" for rules in Rules] + list(_LISTS.values())
    rows = [{"rule": f"{part}.{key}", "value": value} for part in parts for key, value in _get(client, part).items()]
    show(rows, ["rule", "value"])


@security.command("set")
def set_rules(
    rules: Rules,
    settings: Annotated[list[str], typer.Argument(help="As in minimum_password_length=12; values are JSON.")],
) -> None:
    """Set rules for passwords (password), logins (login) or what users manage themselves (protect)."""
    changes: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        try:
            if not equals:
                raise ValueError
            changes[key] = json.loads(text)
        except ValueError as e:
            raise Invalid(f"'{setting}' is no setting; write its name, '=' and a number, true, false or JSON") from e
    client = connect()
    part = f"{rules.value}-policy"
    known = _get(client, part)
    unknown = [key for key in changes if key not in known]
    if unknown:
        raise Invalid(f"there is no rule '{unknown[0]}' for {rules.value}; there are {', '.join(known)}")
    show(client.put(_path(client, part), {part.replace("-", "_"): changes})[part.replace("-", "_")])


@security.command("allow")
def allow(
    what: From,
    ranges: Annotated[list[str] | None, typer.Argument(help="10.0.0.0/8, or 10.0.0.1-10.0.0.9.")] = None,
) -> None:
    """Let users call the API (api) or log in (login) from these addresses only; without any, from everywhere."""
    given = ranges or []
    lists = {
        "allow_ip_ranges": [{"ip_range": text, "description": ""} for text in given if "/" not in text],
        "allow_address_netmasks": [{"address_netmask": text, "description": ""} for text in given if "/" in text],
    }
    client, part = connect(), _LISTS[what]
    show(client.put(_path(client, part), {part.replace("-", "_"): lists})[part.replace("-", "_")])


def _path(client: Client, part: str) -> str:
    return f"/v3.0/OS-SECURITYPOLICY/domains/{account_id(client)}/{part}"


def _get(client: Client, part: str) -> dict[str, Any]:
    found: dict[str, Any] = client.get(_path(client, part))[part.replace("-", "_")]
    return found
