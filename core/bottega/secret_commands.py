"""``bottega secrets``: which keys secrets are kept under, and changing them."""

from __future__ import annotations

import typer

from bottega.cli_support import connect, note, show

secrets = typer.Typer(no_args_is_help=True, help="The keys secrets are kept under (operator only).")


@secrets.command("status")
def status() -> None:
    """Show the ids of the keys; the last of each kind is the one in use."""
    show(connect().get("/v1/secrets"))


@secrets.command("rotate")
def rotate() -> None:
    """Replace the keys of secrets at rest and of tokens. Run it again when it was interrupted: it goes on."""
    client, body, renewed = connect(), {"new_key": True}, 0
    while True:
        answer = client.post("/v1/secrets/rotation", body)
        renewed += answer["resealed"]
        body = {"new_key": False}
        if answer["complete"] or answer["unreadable"] or answer["waiting_for_plugins"]:
            break
    note(f"{renewed} secrets are sealed with the key {answer['sealing_keys'][-1]}")
    if answer["complete"]:
        note("the earlier key is gone; back up the folder secrets/ now")
        return
    for what in answer["unreadable"]:
        note(f"no key opens {what}; the earlier key is kept")
    for plugin in answer["waiting_for_plugins"]:
        note(f"the plugin '{plugin}' is not on and may hold secrets; switch it on and run this again")
    raise typer.Exit(1)
