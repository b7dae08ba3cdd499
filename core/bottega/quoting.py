"""The option ``--quote`` of commands that create something: what it would cost an hour, with nothing made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from bottega.cli_support import OPTIONS, note, show
from bottega.client import Client

Quote = Annotated[bool, typer.Option("--quote", help="Only say what it would cost an hour; nothing is made.")]


def create(client: Client, path: str, body: Mapping[str, Any], quote: bool) -> Any:
    """Send a creating request and return its answer; with `quote`, ask and show its price and end the command."""
    if not quote:
        return client.post(path, body)
    show_quote(client.post(f"{path}/quote", body))
    raise typer.Exit


def show_quote(answer: Mapping[str, Any]) -> None:
    """Print the answer of ``POST <path>/quote``."""
    if OPTIONS.as_json:
        show(answer)
        return
    show(answer["uses"], ["kind", "flavor", "count", "price_per_hour", "amount_per_hour"])
    note(f"[bold]{answer['amount_per_hour']} {answer['currency']} an hour[/], the first one {answer['first_hour']}")
