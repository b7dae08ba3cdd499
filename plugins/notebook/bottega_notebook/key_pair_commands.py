"""``bottega keypairs …``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from bottega.cli_support import OPTIONS, connect, note, show
from bottega.private_files import write_private

app = typer.Typer(no_args_is_help=True, help="SSH key pairs, by which notebooks are opened from an editor or a shell.")
BASE = "/v3/{project_id}/keypairs"
_COLUMNS = ["name", "fingerprint", "public_key"]


@app.command("list")
def list_key_pairs() -> None:
    """List your key pairs."""
    client, rows, marker = connect(), list[Any](), "0"
    while marker:
        page = client.get(BASE, {"marker": marker})
        rows += [row["keypair"] for row in page["keypairs"]]
        marker = page["page_info"]["next_marker"]
    show(rows, _COLUMNS)


@app.command()
def create(
    name: str,
    save: Annotated[Path | None, typer.Option(help="File for the private key, which is shown only now.")] = None,
    public_key: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Use the key pair of this public key instead.")
    ] = None,
) -> None:
    """Make a key pair, or import the public key of one you have."""
    if save is not None and save.exists():
        raise typer.BadParameter(f"{save} is there already; a private key is never overwritten")
    body = {"name": name} | ({"public_key": public_key.read_text("utf-8")} if public_key else {})
    made = connect().post(BASE, {"keypair": body})["keypair"]
    private_key = made.get("private_key")
    if save is not None and private_key:
        write_private(save, made.pop("private_key"))
        note(f"the private key is in {save}")
    elif private_key and not OPTIONS.as_json:
        sys.stdout.write(private_key)
        return
    show(made if OPTIONS.as_json else {key: made[key] for key in _COLUMNS})


@app.command()
def delete(name: str) -> None:
    """Delete a key pair; what it has opened is closed."""
    connect().delete(f"{BASE}/{name}")
    note(f"key pair {name} is deleted")
