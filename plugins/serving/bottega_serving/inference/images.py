"""Pictures as model inputs, by the preprocessing a package declares under ``bottega.images`` of its ``config.json``."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from bottega.errors import Invalid
from bottega_serving.package import ImageInput

# Formats whose decoders are written for pictures from strangers; others (EPS, say) start programs.
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP")
_MAX_PIXELS = 64_000_000


def to_array(content: bytes, spec: ImageInput, field: str) -> NDArray[Any]:
    """One picture as a float32 array of shape (1, C, H, W), or (1, H, W, C) for layout ``NHWC``.

    Values are ``(pixel * scale - mean) / std``. Raises Invalid for what is no picture.
    """
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            if image.width * image.height > _MAX_PIXELS:
                raise Invalid(f"'{field}' has {image.width}×{image.height} pixels; at most {_MAX_PIXELS} are taken")
            picture = image.convert(spec.mode)
    except (UnidentifiedImageError, OSError, ValueError) as problem:
        raise Invalid(f"'{field}' is not a picture in one of the formats {', '.join(_FORMATS)}") from problem
    if picture.size != spec.size:
        picture = picture.resize(spec.size, Image.Resampling.BILINEAR)
    pixels: NDArray[Any] = np.asarray(picture, np.float32).reshape(spec.size[1], spec.size[0], -1)
    pixels = (pixels * spec.scale - np.asarray(spec.mean, np.float32)) / np.asarray(spec.std, np.float32)
    if spec.layout == "NCHW":
        pixels = pixels.transpose(2, 0, 1)
    return np.ascontiguousarray(pixels[None], np.float32)
