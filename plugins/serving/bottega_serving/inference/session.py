"""The contract between a runtime and everything around it: named arrays in, named arrays out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Field:
    """An input of a model. `dtype` is numpy's name of it (``str`` for text).

    A None in `shape` is any size; None for `shape` is any shape, where the model's file does not say.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None


class Session(Protocol):
    """A loaded model, as a runtime's loader returns it.

    A loader is ``load(files: Path, config: dict) -> Session``; `files` is the package's ``model/`` folder and `config`
    its ``config.json``. It raises ``LoadFailure`` with a reason a user understands.
    """

    @property
    def inputs(self) -> Sequence[Field]: ...

    @property
    def batches(self) -> bool:
        """Whether the first axis of every input and output counts samples, so that requests can share one run."""
        ...

    def run(self, arrays: Arrays) -> dict[str, Any]:
        """One inference. The values are arrays, or lists with one entry per sample."""
        ...


class LoadFailure(Exception):
    """A model cannot be loaded; the message says why and what would help."""
