"""``bottega keys temporary``: an access key that ends by itself, for S3 tools, programs and acting by an agency."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from bottega.cli_support import connect, note
from bottega.errors import Invalid
from bottega.private_files import write_private


def temporary(
    output: Annotated[Path, typer.Argument(help="File to write it to (mode 0600).")],
    minutes: Annotated[int, typer.Option(help="How long it is good.", min=15, max=1440)] = 15,
    policy: Annotated[Path | None, typer.Option(help="JSON file of a policy that narrows what it may do.")] = None,
    agency: Annotated[str | None, typer.Option(help="Act by this agency …")] = None,
    account: Annotated[str | None, typer.Option(help="… of this account.")] = None,
) -> None:
    """Make a temporary access key, with its security token and the address for S3 tools.

    The file serves as credentials of this command line, too.
    """
    if (agency is None) != (account is None):
        raise Invalid("--agency and --account go together")
    client = connect()
    identity: dict[str, Any] = {"methods": ["token"], "token": {"duration_seconds": minutes * 60}}
    if agency is not None:
        role = {"agency_name": agency, "domain_name": account, "duration_seconds": minutes * 60}
        identity = {"methods": ["assume_role"], "assume_role": role}
    if policy is not None:
        identity["policy"] = json.loads(policy.read_text("utf-8"))
    made = client.post("/v3.0/OS-CREDENTIAL/securitytokens", {"auth": {"identity": identity}})["credential"]
    key = {
        "url": client.url,
        "project_id": client.project_id,
        "access_key": made["access"],
        "secret_key": made["secret"],
        "security_token": made["securitytoken"],
        "expires_at": made["expires_at"],
        "s3_endpoint": f"{client.url}/s3",
    }
    write_private(output, json.dumps(key, indent=2) + "\n")
    note(f"{output} holds a temporary access key, good until {made['expires_at']}")
