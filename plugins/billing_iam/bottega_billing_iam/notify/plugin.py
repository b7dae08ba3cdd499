"""The plugin `notify`."""

from __future__ import annotations

from collections.abc import Iterable

from bottega.hookspecs import hookimpl
from bottega.plugins import Action


@hookimpl
def bottega_actions() -> Iterable[Action]:
    return []
