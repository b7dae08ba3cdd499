"""``model/config.json`` (002 §12.2) as conversion reads and writes it: what it needs of a model's input and labels.

Pictures and labels are described under ``bottega``, as serving reads them::

    "bottega": {"labels": ["cat", "dog"], "images": {"image": {"mode": "L", "size": [8, 8], "scale": 0.00390625}}}
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

FILE_NAME = "config.json"
PositiveInt = Annotated[int, Field(gt=0)]


class ImageInput(BaseModel):
    """How a picture becomes a row: resized to `size` (width, height), then ``(pixel * scale - mean) / std``."""

    model_config = ConfigDict(extra="allow")
    mode: Literal["L", "RGB"] = "RGB"
    size: tuple[PositiveInt, PositiveInt]
    scale: float = 1 / 255
    mean: list[float] | float = 0.0
    std: list[float] | float = 1.0
    layout: Literal["NCHW", "NHWC"] = "NCHW"

    @property
    def shape(self) -> list[int]:
        """Of one row."""
        channels = 1 if self.mode == "L" else 3
        width, height = self.size
        return [channels, height, width] if self.layout == "NCHW" else [height, width, channels]


class Extension(BaseModel):
    model_config = ConfigDict(extra="allow")
    labels: list[str] = []
    """Class names in the order of the model's first output."""
    images: dict[str, ImageInput] = {}


class ModelConfig(BaseModel):
    """Fields that conversion does not use are kept as they are."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())
    model_type: str = ""
    metrics: dict[str, Any] = {}
    bottega: Extension = Extension()

    @property
    def image(self) -> ImageInput | None:
        """How pictures become rows, where the model takes pictures."""
        return next(iter(self.bottega.images.values()), None)

    @classmethod
    def read(cls, folder: Path) -> ModelConfig:
        """The configuration beside a model; an empty one when there is none. Raises ValueError when it is malformed."""
        file = folder / FILE_NAME
        if not file.exists():
            return cls()
        try:
            return cls.model_validate(json.loads(file.read_text("utf-8")))
        except ValidationError as e:
            problem = e.errors()[0]
            raise ValueError(f"{FILE_NAME}: {'.'.join(map(str, problem['loc']))}: {problem['msg']}") from e
        except ValueError as e:
            raise ValueError(f"{FILE_NAME} is not JSON: {e}") from e

    def write(self, folder: Path, **changes: Any) -> None:
        content = self.model_dump(mode="json", exclude_unset=True) | changes
        (folder / FILE_NAME).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")
