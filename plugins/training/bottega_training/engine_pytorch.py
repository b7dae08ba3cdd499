"""Scripts written for PyTorch."""

from __future__ import annotations

from bottega.hookspecs import hookimpl
from bottega_training.engines import Engine, PythonEngine


@hookimpl
def bottega_training_engines() -> list[Engine]:
    return [PythonEngine("PyTorch", "torch", "training")]
