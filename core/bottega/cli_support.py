"""What every command of the command line shares: the connection, tables or JSON, progress, exit codes.

Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 the platform cannot be reached.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from bottega.client import Client
from bottega.errors import Invalid, NotFound


@dataclass
class Options:
    """Set by the program's global options."""

    credentials: Path | None = None
    as_json: bool = False
    project: str | None = None
    """Id or name of the project to act in; None: that of the credentials."""


OPTIONS = Options()
console = Console(emoji=False)  # a URN holds words between colons
errors = Console(stderr=True, emoji=False)
_PROJECT_ID = re.compile(r"[0-9a-f]{32}")
_AGO = re.compile(r"(\d+)([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_IDENTIFIERS = ("id", "urn", "url", "address", "path")


def connect() -> Client:
    """A client for the platform named by ``--credentials`` or the environment, acting in ``--project``.

    Raises Unreachable without a platform, NotFound when it shows the caller no such project.
    """
    client = Client.from_file(OPTIONS.credentials) if OPTIONS.credentials else Client.from_environment()
    if OPTIONS.project is not None:
        client.project_id = _project_id(client, OPTIONS.project)
    return client


def _project_id(client: Client, wanted: str) -> str:
    if _PROJECT_ID.fullmatch(wanted):
        return wanted
    found = client.get("/v3/projects", {"name": wanted})["projects"]
    if not found:
        raise NotFound(f"there is no project '{wanted}', or you have no right in it; see `bottega projects list`")
    return str(found[0]["id"])


def show(value: Any, columns: Sequence[str] | Mapping[str, str] = (), title: str | None = None) -> None:
    """Print rows as a table and a mapping as a list of fields, or either as JSON with ``--json``.

    `columns` names the keys to show, dotted for nested ones (``metadata.name``); a mapping gives headings.
    Times (keys ``time``, ``…_time``, ``…_at``) are shown as local ones. What another command may need (ids, addresses,
    paths) is never cut or broken: off a terminal a table is as wide as it must be.
    """
    if OPTIONS.as_json:
        sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")
        return
    if title:
        console.print(title, style="italic", markup=False)
    if isinstance(value, Mapping):
        headings = {key: columns[key] if isinstance(columns, Mapping) else key for key in columns or value}
        width = max((cell_len(heading) for heading in headings.values()), default=0)
        for key, heading in headings.items():
            text = escape(_text(key, _dig(value, key)))
            # The terminal wraps a long line, so that it is copied whole.
            console.print(f"[bold]{escape(heading.ljust(width))}[/]  {text}", soft_wrap=True)
        return
    _print_rows(list(value), columns)


def _print_rows(rows: Sequence[Any], columns: Sequence[str] | Mapping[str, str]) -> None:
    wanted = list(columns or (rows[0] if rows else ["-"]))
    cells = {key: [_text(key, _dig(row, key)) for row in rows] for key in wanted}
    table = Table()
    for key in wanted:
        last = key.rpartition(".")[2]
        whole = max(map(cell_len, cells[key]), default=0) if last.endswith(_IDENTIFIERS) else None
        table.add_column(columns[key] if isinstance(columns, Mapping) else last, overflow="fold", min_width=whole)
    for number in range(len(rows)):
        table.add_row(*(escape(cells[key][number]) for key in wanted))
    if console.is_terminal:
        console.print(table, crop=False)
    else:
        needed = Measurement.get(console, console.options.update(max_width=10**6), table).maximum
        Console(emoji=False, width=needed).print(table)


def note(text: str) -> None:
    """Tell a person something; silent with ``--json``."""
    if not OPTIONS.as_json:
        console.print(text)


def _dig(value: Any, key: str) -> Any:
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _text(key: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, int) and (key == "time" or key.endswith(("_time", "_at", ".at"))) and value > 10**11:
        return datetime.fromtimestamp(value / 1000).strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, list | tuple) and not any(isinstance(v, list | tuple | Mapping) for v in value):
        return ", ".join(str(_rounded(v)) for v in value)
    return as_text(value)


def as_text(value: Any) -> str:
    """A value for people: a text as it is, the rest as JSON on one line, numbers rounded to six digits."""
    return value if isinstance(value, str) else json.dumps(_rounded(value), ensure_ascii=False, default=str)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 6) if abs(value) >= 1 else float(f"{value:.6g}")
    if isinstance(value, Mapping):
        return {k: _rounded(v) for k, v in value.items()}
    return [_rounded(v) for v in value] if isinstance(value, list | tuple) else value


def moment(text: str) -> int:
    """Epoch milliseconds of ``2h`` (that long ago; s, m, h, d), an ISO 8601 time, or epoch milliseconds.

    An ISO time without a zone is local. Raises Invalid for anything else.
    """
    if text.isdecimal():
        return int(text)
    ago = _AGO.fullmatch(text)
    try:
        if ago:
            return int((datetime.now() - timedelta(**{_UNITS[ago[2]]: int(ago[1])})).timestamp() * 1000)
        return int(datetime.fromisoformat(text).timestamp() * 1000)
    except (ValueError, OverflowError) as e:
        raise Invalid(f"'{text}' is not a time: use 30m, 2h or 7d, an ISO time, or epoch milliseconds") from e
