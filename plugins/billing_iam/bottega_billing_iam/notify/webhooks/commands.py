"""``bottega webhooks``."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from bottega.cli_support import connect, moment, note, show
from bottega.errors import Invalid, NotFound

app = typer.Typer(
    help="Tell systems outside of events, signed, in order, again until they take it.", no_args_is_help=True
)
_PATH = "/v1/{project_id}/webhooks"
WHICH = Annotated[str, typer.Argument(help="Its name or id.")]


def add_to(cli: typer.Typer) -> None:
    cli.add_typer(app, name="webhooks")


@app.command()
def create(
    name: str,
    url: str,
    events: Annotated[
        list[str], typer.Argument(help="Types of events, such as 'training.job.*'; * and > are wildcards.")
    ],
    where: Annotated[
        list[str] | None,
        typer.Option(
            help="A condition, such as data.name=digits, data.name^=di (begins so) or data.error? (is there)."
        ),
    ] = None,
    workspace: Annotated[str | None, typer.Option(help="Only events about things of this workspace (id).")] = None,
    secret: Annotated[str | None, typer.Option(help="Its signing secret (whsec_…); made without.")] = None,
    description: str = "",
) -> None:
    """Make a webhook and print its secret, this once."""
    wanted = {
        "name": name,
        "url": url,
        "events": events,
        "filter": [_condition(text) for text in where or ()],
        "workspace_id": workspace,
        "secret": secret,
        "description": description,
    }
    made = connect().post(_PATH, wanted)
    show(made, ["id", "name", "url", "event_types", "secret"])
    note("Keep the secret: it is not shown again. See docs/events.md for how to check signatures.")


@app.command("list")
def list_all() -> None:
    """List webhooks."""
    rows = list(connect().pages(_PATH, "webhooks"))
    show(rows, ["id", "name", "url", "events", "status", "reason", "updated_at"])


@app.command("show")
def show_one(webhook: WHICH) -> None:
    """Show a webhook, and how much waits for it."""
    show(connect().get(f"{_PATH}/{_id(webhook)}"))


@app.command()
def deliveries(
    webhook: WHICH,
    outcome: Annotated[str | None, typer.Option(help="delivered, failed, dead, withheld or test")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
) -> None:
    """Show the delivery log, the newest attempt first."""
    params = {"outcome": outcome, "limit": limit}
    rows = connect().get(f"{_PATH}/{_id(webhook)}/deliveries", params)["deliveries"]
    show(rows, ["at", "outcome", "status", "attempt", "latency_ms", "type", "event_id", "answer"])


@app.command()
def test(webhook: WHICH) -> None:
    """Send a test event now; exit code 1 when it is not taken."""
    answer = connect().post(f"{_PATH}/{_id(webhook)}/test")
    show(answer, ["delivered", "status", "latency_ms", "answer", "event_id"])
    if not answer["delivered"]:
        raise typer.Exit(1)


@app.command()
def pause(webhook: WHICH, reason: str = "paused by hand") -> None:
    """Send nothing until it is resumed; what happens meanwhile waits."""
    connect().post(f"{_PATH}/{_id(webhook)}/pause", {"reason": reason})
    note(f"{webhook} is paused; what happens meanwhile waits for it")


@app.command()
def resume(webhook: WHICH) -> None:
    """Send what has waited, and go on."""
    connect().post(f"{_PATH}/{_id(webhook)}/resume")
    note(f"{webhook} is active")


@app.command()
def rotate(
    webhook: WHICH,
    secret: Annotated[str | None, typer.Option(help="The new secret (whsec_…); made without.")] = None,
    keep_hours: Annotated[int, typer.Option(help="How long the old secret signs as well.", min=0, max=720)] = 24,
) -> None:
    """Give it a new secret and print that, this once."""
    wanted = {"secret": secret, "keep_previous_s": keep_hours * 3600}
    show(connect().post(f"{_PATH}/{_id(webhook)}/rotate-secret", wanted), ["id", "secret", "previous_secret_until"])


@app.command()
def replay(
    webhook: WHICH,
    since: Annotated[str | None, typer.Option(help="From 30m, 2h or 7d ago, an ISO time or epoch ms on.")] = None,
    sequence: Annotated[int | None, typer.Option(help="From this place in the stream on.", min=1)] = None,
) -> None:
    """Send past events once more."""
    wanted = {"since": moment(since) if since is not None else None, "sequence": sequence}
    show(connect().post(f"{_PATH}/{_id(webhook)}/replay", {k: v for k, v in wanted.items() if v is not None}))


@app.command()
def dead(webhook: WHICH) -> None:
    """List its dead letters with the reason."""
    rows = list(connect().pages(f"{_PATH}/{_id(webhook)}/dead-letters", "dead_letters"))
    show(rows, ["event_id", "type", "urn", "attempts", "reason", "died_at"])


@app.command()
def redeliver(
    webhook: WHICH,
    event: Annotated[list[str] | None, typer.Argument(help="Ids of the events; all dead letters without.")] = None,
) -> None:
    """Put dead letters back into the queue."""
    path = f"{_PATH}/{_id(webhook)}/dead-letters/redeliver"
    count = connect().post(path, {"event_ids": event} if event else {})["redelivered"]
    note(f"{count} dead letter{'' if count == 1 else 's'} will be sent again")


@app.command()
def discard(webhook: WHICH, event: str) -> None:
    """Drop a dead letter for good."""
    connect().delete(f"{_PATH}/{_id(webhook)}/dead-letters/{event}")
    note("the dead letter is gone")


@app.command()
def delete(webhook: WHICH) -> None:
    """Delete a webhook, with what waits for it and its log."""
    connect().delete(f"{_PATH}/{_id(webhook)}")
    note(f"{webhook} is gone")


def _id(webhook: str) -> str:
    """The id of a webhook by its name or id. Raises NotFound."""
    found = [r for r in connect().pages(_PATH, "webhooks", limit=1000) if webhook in (r["id"], r["name"])]
    if not found:
        raise NotFound(f"there is no webhook '{webhook}'; see `bottega webhooks list`")
    return str(found[0]["id"])


def _condition(text: str) -> dict[str, Any]:
    """``field=value`` (JSON, else text; a list means any of them), ``field^=beginning`` or ``field?``."""
    if text.endswith("?"):
        return {"field": text[:-1], "exists": True}
    field, equals, value = text.partition("=")
    if not equals or not field:
        raise Invalid(f"'{text}' is not a condition: write field=value, field^=beginning or field?")
    if field.endswith("^"):
        return {"field": field[:-1], "prefix": value}
    try:
        read = json.loads(value)
    except ValueError:
        read = value
    return {"field": field, "in" if isinstance(read, list) else "equals": read}
