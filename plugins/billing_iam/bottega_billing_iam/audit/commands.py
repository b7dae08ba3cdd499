"""``bottega trail``."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.padding import Padding
from rich.text import Text

from bottega.cli_support import OPTIONS, connect, console, show
from bottega.context import now_ms

_UNITS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def add_to(cli: typer.Typer) -> None:
    cli.command("trail")(trail)


def trail(
    user: Annotated[str | None, typer.Option(help="Name or id of who did it.")] = None,
    trace: Annotated[str | None, typer.Option(help="Trace name, such as createNotebook.")] = None,
    resource_type: Annotated[str | None, typer.Option(help="Such as dataset.")] = None,
    resource: Annotated[str | None, typer.Option(help="Part of the name of what it was done to.")] = None,
    denied: Annotated[bool, typer.Option(help="Only what was refused.")] = False,
    since: Annotated[str | None, typer.Option(help="A span such as 2h or 7d, a date, or epoch ms.")] = None,
    account: Annotated[bool, typer.Option(help="The whole account, not only the project.")] = False,
    every: Annotated[bool, typer.Option("--all", help="Also what workloads ask for their own objects.")] = False,
    wide: Annotated[bool, typer.Option(help="Also the year, from where, and the type of the thing.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest.")] = 50,
) -> None:
    """Show who did what, when, with what result, and why it was refused."""
    client = connect()
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
    rows: list[dict[str, Any]] = []
    marker = None
    while len(rows) < limit:
        page = client.get("/v3/{project_id}/traces", asked | {"next": marker, "limit": min(200, limit - len(rows))})
        rows += page["traces"]
        marker = page["meta_data"]["marker"]
        if marker is None:
            break
    if OPTIONS.as_json:
        show(rows)
        return
    _print(rows, wide)


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
        raise typer.BadParameter(f"{text!r} is no span (2h, 7d), date or epoch ms", param_hint="--since") from None
