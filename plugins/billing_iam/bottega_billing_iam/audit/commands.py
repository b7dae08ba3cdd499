"""``bottega trail``: searching the audit trail, proving it, archiving and exporting it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.padding import Padding
from rich.text import Text

from bottega.cli_support import OPTIONS, connect, console, show
from bottega.client import Client
from bottega.context import now_ms

_TRACES = "/v3/{project_id}/traces"
_PROOF = "/v3/{project_id}/trail/verification"
_WHERE = ("batch", "account_id", "trace_id", "place")
_ARCHIVE = ["day", "part", "count", "key", "sha256"]
_UNITS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


app = typer.Typer(help="Who did what, when, with what result, and why it was refused.", no_args_is_help=False)


def add_to(cli: typer.Typer) -> None:
    cli.add_typer(app, name="trail")


@app.callback(invoke_without_command=True)
def trail(
    context: typer.Context,
    user: Annotated[str | None, typer.Option(help="Name or id of who did it.")] = None,
    trace: Annotated[str | None, typer.Option(help="Trace name, such as createNotebook.")] = None,
    resource_type: Annotated[str | None, typer.Option(help="Such as dataset.")] = None,
    resource: Annotated[
        str | None, typer.Option(help="Name of what it was done to; '*' stands for any characters.")
    ] = None,
    denied: Annotated[bool, typer.Option(help="Only what was refused.")] = False,
    since: Annotated[
        str | None,
        typer.Option(help="A span such as 2h or 7d, a date, or epoch ms; beyond 7 days the archive is read."),
    ] = None,
    account: Annotated[bool, typer.Option(help="The whole account, not only the project.")] = False,
    every: Annotated[bool, typer.Option("--all", help="Also what workloads ask for their own objects.")] = False,
    wide: Annotated[bool, typer.Option(help="Also the year, from where, and the type of the thing.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest.")] = 50,
) -> None:
    """Show who did what, when, with what result, and why it was refused."""
    if context.invoked_subcommand is not None:
        return
    asked: dict[str, Any] = {
        "user": user,
        "trace_name": trace,
        "resource_type": resource_type,
        "resource_name": resource,
        "denied": denied or None,
        "workloads": None if every else False,
        "from": _since(since) if since else None,
        "scope": "account" if account else None,
    }
    rows = list(_pages(connect(), asked, limit))
    if OPTIONS.as_json:
        show(rows)
        return
    _print(rows, wide)


@app.command("verify")
def verify(
    start: Annotated[
        str | None, typer.Option("--from", help="What was sealed since: a span, date or epoch ms.")
    ] = None,
    end: Annotated[str | None, typer.Option("--to", help="What was sealed before.")] = None,
    anchor: Annotated[list[str] | None, typer.Option(help="NUMBER:HASH of a batch that was kept outside.")] = None,
    platform: Annotated[bool, typer.Option(help="All accounts; for the operator.")] = False,
) -> None:
    """Prove that no record was changed, removed, inserted or exchanged; exit status 1, and where, if one was."""
    client = connect()
    asked = {
        "from": _since(start) if start else None,
        "to": _since(end) if end else None,
        "scope": "platform" if platform else "account",
    }
    total: dict[str, Any] = {"intact": True, "batches": 0, "records": 0, "head": None, "findings": []}
    after: int | None = 0
    while after is not None:
        step = client.get(_PROOF, asked | {"after": after})
        total["batches"] += step["batches"]
        total["records"] += step["records"]
        total["findings"] += step["findings"]
        if step["head"]:
            total["head"] = f"{step['last_batch']}:{step['head']}"
        after = step["next"]
    for one in anchor or ():
        # The last batch is known to be good; only the anchor is new.
        step = client.get(_PROOF, asked | {"after": 2**53, "anchor": one})
        total["findings"] += step["findings"]
    total["intact"] = not total["findings"]
    if OPTIONS.as_json:
        show(total)
    else:
        console.print(f"{total['batches']} batches, {total['records']} records, up to {total['head'] or 'nothing'}")
        for finding in total["findings"]:
            where = ", ".join(f"{key} {finding[key]}" for key in _WHERE if finding[key] is not None)
            console.print(Text(f"{finding['kind']}: {finding['says']} ({where})", style="red"))
        console.print("intact" if total["intact"] else "not intact")
    if not total["intact"]:
        raise typer.Exit(1)


@app.command("archive")
def archive() -> None:
    """Archive what is older than the hot days now, which happens by itself, too; for the operator."""
    show(connect().post("/v3/{project_id}/trail/archives")["archives"], columns=_ARCHIVE)


@app.command("archives")
def archives(limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 50) -> None:
    """List the objects in which the account's older records are."""
    show(connect().get("/v3/{project_id}/trail/archives", {"limit": limit})["archives"], columns=_ARCHIVE)


@app.command("export")
def export(
    file: Annotated[Path, typer.Argument(help="A new file of JSON lines; '-' for standard output.")],
    start: Annotated[str, typer.Option("--from", help="A span such as 30d, a date, or epoch ms.")] = "7d",
    end: Annotated[str | None, typer.Option("--to", help="Likewise; not included.")] = None,
    account: Annotated[bool, typer.Option(help="The whole account, not only the project.")] = False,
) -> None:
    """Write records, newest first, those of the archive too."""
    asked = {"from": _since(start), "to": _since(end) if end else None, "scope": "account" if account else None}
    rows = _pages(connect(), asked, None)
    if str(file) == "-":
        for row in rows:
            typer.echo(json.dumps(row))
        return
    count = 0
    with file.open("x", encoding="utf-8") as out:
        for row in rows:
            out.write(json.dumps(row) + "\n")
            count += 1
    console.print(f"{count} records in {file}")


def _pages(client: Client, asked: dict[str, Any], limit: int | None) -> Iterator[dict[str, Any]]:
    """The records, page by page; a page of the archive may be short and still have a next one."""
    left = limit
    marker = None
    while left is None or left > 0:
        page = client.get(_TRACES, asked | {"next": marker, "limit": min(200, left or 200)})
        yield from page["traces"]
        left = None if left is None else left - len(page["traces"])
        marker = page["meta_data"]["marker"]
        if marker is None:
            return


def _print(rows: list[dict[str, Any]], wide: bool) -> None:
    """A line a call; a reason below it, so that both can be read in a narrow terminal."""
    columns = {"when": "when", "user.name": "who", "trace_name": "what", "code": "result"}
    columns |= {"source_ip": "from", "resource_type": "type"} if wide else {}
    table = [(*columns.values(), "name")]
    for row in rows:
        when = datetime.fromtimestamp(row["time"] / 1000).strftime("%Y-%m-%d %H:%M:%S" if wide else "%m-%d %H:%M:%S")
        known = row | {"when": when, "user.name": row["user"]["name"]}
        table.append((*(str(known[key] or "") for key in columns), row["resource_name"] or ""))
    widths = [max(map(len, column)) for column in list(zip(*table, strict=True))[:-1]]
    for number, cells in enumerate(table):
        *first, name = cells
        line = "  ".join([*(cell.ljust(width) for cell, width in zip(first, widths, strict=True)), name])
        console.print(Text(line.rstrip(), style="" if number else "bold", overflow="fold"))
        reason = rows[number - 1]["message"] if number else None
        if reason:
            console.print(Padding(Text(reason, style="red", overflow="fold"), (0, 0, 0, widths[0] + 2)))


def _since(text: str) -> int:
    if span := re.fullmatch(r"(\d{1,6})([smhd])", text):
        return now_ms() - int(span[1]) * _UNITS[span[2]]
    if text.isdecimal():
        return int(text)
    try:
        return int(datetime.fromisoformat(text).timestamp() * 1000)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no span (2h, 7d), date or epoch ms") from None
