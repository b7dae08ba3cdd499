"""What every command of the command line shares: the connection, tables or JSON, progress, exit codes.

Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 the platform cannot be reached.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bottega.client import Client


@dataclass
class Options:
    """Set by the program's global options."""

    credentials: Path | None = None
    as_json: bool = False


OPTIONS = Options()
console = Console(emoji=False)  # a URN holds words between colons
errors = Console(stderr=True, emoji=False)


def connect() -> Client:
    """A client for the platform named by ``--credentials`` or the environment. Raises Unreachable without one."""
    return Client.from_file(OPTIONS.credentials) if OPTIONS.credentials else Client.from_environment()


def show(value: Any, columns: Sequence[str] | Mapping[str, str] = (), title: str | None = None) -> None:
    """Print rows as a table and a mapping as a list of fields, or either as JSON with ``--json``.

    `columns` names the keys to show, dotted for nested ones (``metadata.name``); a mapping gives headings.
    Columns whose key ends in ``_time`` or ``_at`` are shown as local times.
    """
    if OPTIONS.as_json:
        sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")
        return
    if isinstance(value, Mapping):
        table = Table(show_header=False, box=None, title=title)
        wanted = columns or list(value)
        for key in wanted:
            heading = columns[key] if isinstance(columns, Mapping) else key
            table.add_row(f"[bold]{heading}", _text(key, _dig(value, key)))
    else:
        table = Table(title=title)
        rows = list(value)
        wanted = columns or (list(rows[0]) if rows else ["-"])
        for key in wanted:
            table.add_column(columns[key] if isinstance(columns, Mapping) else key.rpartition(".")[2])
        for row in rows:
            table.add_row(*(_text(key, _dig(row, key)) for key in wanted))
    console.print(table)


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
    if isinstance(value, int) and key.endswith(("_time", "_at", "create_at", ".at")) and value > 10**11:
        return datetime.fromtimestamp(value / 1000).strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, Mapping):
        return ", ".join(f"{k}={v}" for k, v in value.items())
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        return ", ".join(map(str, value))
    return str(value)
