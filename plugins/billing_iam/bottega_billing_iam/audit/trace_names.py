"""The registry of trace names (003 §10.5, tables 10-1 to 10-6), and the name of a call that has none of them."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True, slots=True)
class TraceName:
    name: str
    resource_type: str
    operation: str
    table: str


@cache
def trace_names() -> Mapping[str, TraceName]:
    """Every trace name of the tables."""
    tables = tomllib.loads((Path(__file__).parent / "traces.toml").read_text("utf-8"))
    return {
        name: TraceName(name, row["resource_type"], row["operation"], table)
        for table, rows in tables.items()
        for name, row in rows.items()
    }


def fallback_name(action: str | None) -> str:
    """A name for a call of an action without one: ``modelarts:pool:get`` is ``getPool``."""
    if action is None:
        return "callApi"
    _, kind, operation = action.split(":", 2)
    return operation if operation != operation.lower() else f"{operation}{kind[:1].upper()}{kind[1:]}"
