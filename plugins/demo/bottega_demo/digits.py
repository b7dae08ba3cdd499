"""The handwritten digits scikit-learn carries: 1,797 real pictures of 8×8 pixels, as PNG files."""

from __future__ import annotations

import io
from typing import NamedTuple

UNLABELED = 200
"""The last so many are stored without a label; the service is asked about them, and the truth is known here."""


class Digit(NamedTuple):
    name: str
    label: str
    png: bytes


def load() -> tuple[list[Digit], list[Digit]]:
    """The labeled and the unlabeled pictures."""
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_digits

    data = load_digits()
    digits = []
    for number, (pixels, label) in enumerate(zip(data.images, data.target, strict=True)):
        file = io.BytesIO()
        Image.fromarray(np.rint(pixels * 255 / 16).astype(np.uint8)).save(file, "PNG")
        digits.append(Digit(f"digit-{number:04d}.png", str(label), file.getvalue()))
    return digits[:-UNLABELED], digits[-UNLABELED:]
