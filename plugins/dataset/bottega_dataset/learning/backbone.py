"""The operator's own feature extractor for pictures: an ONNX or TorchScript file that takes (N, 3, H, W) in 0..1."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SIDE = 224
_AT_ONCE = 64


class CannotExtract(Exception):
    """The backbone cannot be used; the message says why."""


class Backbone:
    """:param path: ``.onnx``, or ``.pt``/``.pts``/``.torchscript``. A fixed H and W of an ONNX input is kept to."""

    def __init__(self, path: str) -> None:
        file = Path(path)
        if not file.is_file():
            raise CannotExtract(f"image_backbone {path} is not a file on this machine")
        self.side = _SIDE
        self._run = self._onnx(file) if file.suffix == ".onnx" else self._torch(file)

    def features(self, pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
        """A row a picture; `pictures` are (H, W, 3)."""
        from PIL import Image

        rows = []
        for at in range(0, len(pictures), _AT_ONCE):
            some = [
                np.asarray(Image.fromarray(one).resize((self.side, self.side), Image.Resampling.BILINEAR), np.float32)
                for one in pictures[at : at + _AT_ONCE]
            ]
            found = self._run(np.stack(some).transpose(0, 3, 1, 2) / np.float32(255))
            rows.append(np.asarray(found, np.float64).reshape(len(some), -1))
        return np.vstack(rows)

    def _onnx(self, file: Path) -> Any:
        import onnxruntime

        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        given = session.get_inputs()[0]
        if len(given.shape) == 4 and isinstance(given.shape[2], int):
            self.side = given.shape[2]
        return lambda batch: session.run(None, {given.name: batch})[0]

    def _torch(self, file: Path) -> Any:
        import torch

        load: Any = torch.jit.load  # it has no types
        module = load(str(file), map_location="cpu").eval()

        def run(batch: NDArray[np.float32]) -> Any:
            with torch.inference_mode():
                return module(torch.from_numpy(batch)).numpy()

        return run
