"""What a converter is: its template, as users see it, and the work, which only the worker calls."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError

from bottega.errors import Invalid
from bottega_conversion.model_config import ModelConfig

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Rows = NDArray[np.float32]


class ConversionFailure(Exception):
    """The model cannot be converted or checked; the message is the reason the user reads."""


class Options(BaseModel):
    """Base of the advanced options of a template: typed, and an unknown one is an error."""

    model_config = ConfigDict(extra="forbid")


@dataclass(frozen=True)
class OpenModel:
    """A loaded model. `predict` maps rows ``(n, *input_shape)`` to its outputs, each ``(n, …)``.

    It must use one thread, so that latencies compare. `input_shape` is None where the format does not say.
    """

    predict: Callable[[Rows], list[NDArray[Any]]]
    input_shape: tuple[int, ...] | None = None


class Converter(ABC):
    """One way from a model file to another. Subclasses need a constructor without arguments.

    `model_type` is what ``config.json`` says of the result (002 table 12-1); `needs` are the packages that must be
    installed where the worker runs; below `minimum_calibration_rows` (0: data is not needed) it does not convert.
    """

    id: ClassVar[str]
    name: ClassVar[str]
    description: ClassVar[str]
    source_framework: ClassVar[str]
    target_framework: ClassVar[str]
    model_type: ClassVar[str]
    source_suffixes: ClassVar[tuple[str, ...]]
    target_suffix: ClassVar[str]
    options: ClassVar[type[Options]] = Options
    needs: ClassVar[tuple[str, ...]] = ()
    minimum_calibration_rows: ClassVar[int] = 0

    def calibration_rows(self, options: Any) -> int:
        """How many rows of calibration data `convert` uses at most."""
        return self.minimum_calibration_rows

    @abstractmethod
    def convert(self, source: Path, target: Path, options: Any, config: ModelConfig, calibration: Rows | None) -> None:
        """Write `target` from `source`. `options` is an instance of the class attribute.

        `calibration` are rows of input, as many as `calibration_rows` says; None when the task has no data.
        Raises ConversionFailure where the model is at fault; anything else counts as one, too.
        """

    @abstractmethod
    def open_source(self, path: Path) -> OpenModel: ...

    @abstractmethod
    def open_target(self, path: Path) -> OpenModel: ...

    def missing(self) -> str | None:
        """Why this converter cannot work here; None when it can."""
        absent = [name for name in self.needs if find_spec(name) is None]
        return f"not installed: {', '.join(absent)} (pip install 'bottega[conversion]')" if absent else None

    def read_options(self, given: dict[str, Any]) -> Options:
        """Raises Invalid naming each option that is wrong and those there are."""
        try:
            return self.options.model_validate(given)
        except ValidationError as e:
            problems = "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in e.errors()[:5])
            known = ", ".join(self.options.model_fields) or "none"
            raise Invalid(f"options of template '{self.id}': {problems}; its options are: {known}") from e

    def describe(self) -> dict[str, Any]:
        """The template as the API shows it."""
        reason = self.missing()
        return {
            "id": self.id,
            "name": self.name,
            "description": self.description,
            "framework": self.source_framework,
            "target": self.target_framework,
            "model_formats": list(self.source_suffixes),
            "output_format": self.target_suffix,
            "minimum_calibration_rows": self.minimum_calibration_rows,
            "options": self.options.model_json_schema().get("properties", {}),
            "available": reason is None,
            "reason": reason or "",
        }
