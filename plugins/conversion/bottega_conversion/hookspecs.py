"""The extension point of this plugin: converters, each from one model format to another."""

from __future__ import annotations

from bottega.hookspecs import hookspec
from bottega_conversion.converters import Converter


@hookspec
def bottega_conversion_converters() -> Converter:
    """Return a converter; it appears as a conversion template of its `id`.

    The platform calls this at its start, the worker makes its own instance of the same class: nothing heavy may be
    imported before `Converter.convert` or `Converter.open_source` runs.
    """
