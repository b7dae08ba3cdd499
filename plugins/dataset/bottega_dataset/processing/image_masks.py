"""Masks of areas (COCO's run lengths), moved with the pixels of their pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bottega_dataset.processing.image_shapes import Matrix
from bottega_dataset.types.masks import run_lengths


def decode(mask: Any) -> NDArray[np.bool_]:
    """Shape (height, width). Raises BadSample."""
    height, width, counts = run_lengths(mask, "mask")
    inside = np.arange(len(counts)) % 2 == 1
    return np.repeat(inside, counts).reshape(width, height).T


def encode(inside: NDArray[np.bool_]) -> dict[str, Any]:
    """``{"size": [height, width], "counts": […]}``, down each column, outside first."""
    flat = inside.T.ravel()
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    return {"size": list(inside.shape), "counts": counts if not flat[0] else [0, *counts]}


def moved(mask: Any, matrix: Matrix, size: tuple[int, int], min_visible: float) -> dict[str, Any] | None:
    """The mask on a picture of `size` (width, height); None when less than `min_visible` of it stays inside."""
    before = decode(mask)
    inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))[:2]
    picture = Image.fromarray(before.astype(np.uint8) * 255)
    turned = picture.transform(size, Image.Transform.AFFINE, tuple(inverse.ravel()), Image.Resampling.NEAREST)
    after = np.asarray(turned) > 127
    expected = before.sum() * abs(np.linalg.det(matrix[:, :2]))
    if not after.any() or after.sum() < min_visible * expected:
        return None
    return encode(after)
