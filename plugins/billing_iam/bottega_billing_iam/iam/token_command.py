"""``bottega token``: a login with a password, for programs that send ``X-Auth-Token``."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from bottega.cli_support import OPTIONS, connect, show
from bottega.client import CREDENTIALS_VARIABLE, DEFAULT_CREDENTIALS


def token(
    user: Annotated[
        str | None, typer.Option(help="Who logs in; the password is asked for, or read from stdin.")
    ] = None,
    account: Annotated[str | None, typer.Option(help="Account of the user (default: that of the credentials).")] = None,
) -> None:
    """Print a token for the header X-Auth-Token; without --user for the user and password of the credentials file.

    With --json also when it expires. A token is limited to the project of the credentials.
    """
    client = connect()
    me = client.get("/v1/whoami") if user is None or account is None else {}
    password = _password(user)
    who = {
        "name": user or me["user_name"],
        "password": password,
        "domain": {"name": account or me["account_name"]},
    }
    identity = {"methods": ["password"], "password": {"user": who}}
    asked = {"auth": {"identity": identity, "scope": {"project": {"id": client.project_id}}}}
    response = client.request("POST", "/v3/auth/tokens", params={"nocatalog": "true"}, json=asked)
    made, expires = response.headers["X-Subject-Token"], response.json()["token"]["expires_at"]
    if OPTIONS.as_json:
        show({"token": made, "expires_at": expires})
    else:
        sys.stdout.write(made + "\n")


def _password(user: str | None) -> str:
    file = OPTIONS.credentials or Path(os.environ.get(CREDENTIALS_VARIABLE, DEFAULT_CREDENTIALS))
    known: dict[str, Any] = json.loads(file.read_text("utf-8")) if user is None and file.is_file() else {}
    if known.get("password"):
        return str(known["password"])
    if sys.stdin.isatty():
        return str(typer.prompt("Password", hide_input=True, err=True))
    return sys.stdin.readline().rstrip("\r\n")
