"""The extension points of the training plugin."""

from __future__ import annotations

from collections.abc import Iterable

from bottega.hookspecs import hookspec
from bottega_training.engines import Engine


@hookspec
def bottega_training_engines() -> Iterable[Engine]:
    """Return the engines this plugin brings, those that lack something included (`Engine.missing` says what)."""
