"""Pictures as rows of numbers: gradients, gray values, colors; and the figures hard examples are told by."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bottega_dataset.sample import BadSample

SIDE = 32
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP")
MAX_PIXELS = 64_000_000
_CELL, _BINS = 8, 9


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture made small: `pixels` (SIDE, SIDE, 3) of uint8. `figures` are of the picture as it was."""

    pixels: NDArray[np.uint8]
    width: int
    height: int
    gray: bool

    def figures(self) -> dict[str, float]:
        """What the vendor compares with the training set (reasons 5-10 of hard examples)."""
        rgb = self.pixels.astype(np.float32) / 255
        light = rgb.mean(axis=2)
        high, low = rgb.max(axis=2), rgb.min(axis=2)
        red_green = rgb[..., 0] - rgb[..., 1]
        yellow_blue = (rgb[..., 0] + rgb[..., 1]) / 2 - rgb[..., 2]
        spread = np.hypot(red_green.std(), yellow_blue.std())
        edges = 4 * light[1:-1, 1:-1] - light[:-2, 1:-1] - light[2:, 1:-1] - light[1:-1, :-2] - light[1:-1, 2:]
        return {
            "resolution": float(np.log2(self.width * self.height)),
            "aspect": float(np.log2(self.width / self.height)),
            "brightness": float(light.mean()),
            "saturation": float(np.where(high > 0, (high - low) / np.maximum(high, 1e-6), 0).mean()),
            "colorfulness": float(spread + 0.3 * np.hypot(red_green.mean(), yellow_blue.mean())),
            "clarity": float(np.log1p(1000 * edges.var())),
        }


def decode(data: bytes, name: str, mode: str = "RGB") -> Any:
    """The picture as Pillow has it, turned as its EXIF says. Raises BadSample for what is none, or far too large."""
    import warnings

    from PIL import Image, ImageOps

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise BadSample(f"{name} has {image.width}x{image.height} pixels; at most {MAX_PIXELS} are taken")
                return ImageOps.exif_transpose(image).convert(mode)
    except BadSample:
        raise
    except Exception as e:  # Pillow raises many kinds of errors for broken files
        raise BadSample(f"{name} is not a picture in one of the formats {', '.join(_FORMATS)}: {e}") from e


def opened(data: bytes, name: str) -> Picture:
    """Raises BadSample."""
    from PIL import Image

    image = decode(data, name)
    pixels = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR), np.uint8)
    gray = bool((np.ptp(pixels.astype(np.int16), axis=2) <= 8).all())
    return Picture(pixels, image.width, image.height, gray)


def features(pictures: Sequence[Picture]) -> NDArray[np.float64]:
    """A row a picture: histograms of gradients, 16x16 gray values, and colors unless all are gray."""
    return rows(np.stack([p.pixels for p in pictures]), colors=not all(p.gray for p in pictures))


def rows(small: NDArray[np.uint8], *, colors: bool) -> NDArray[np.float64]:
    """`features` of pictures that are SIDE x SIDE already: (n, SIDE, SIDE, 3)."""
    pixels: NDArray[np.float32] = small.astype(np.float32) / np.float32(255)
    light = pixels.mean(axis=3)
    coarse = light.reshape(len(light), SIDE // 2, 2, SIDE // 2, 2).mean(axis=(2, 4)).reshape(len(light), -1)
    parts = [_gradients(light), coarse]
    if colors:
        parts.append(_colors(pixels))
    return np.hstack([part * (1 / np.sqrt(part.shape[1])) for part in parts]).astype(np.float64)


def _gradients(light: NDArray[np.float32]) -> NDArray[np.float32]:
    """Histograms of oriented gradients in cells of 8x8 that overlap by half."""
    down, across = np.gradient(light, axis=(1, 2))
    strength = np.hypot(down, across)
    angle = np.mod(np.arctan2(down, across), np.pi) * (_BINS / np.pi)
    lower = np.floor(angle).astype(np.int32)
    part = angle - lower
    half, across_cells = _CELL // 2, SIDE // (_CELL // 2)
    place = np.arange(SIDE) // half
    cell = place[:, None] * across_cells + place
    base = (np.arange(len(light), dtype=np.int32)[:, None, None] * across_cells**2 + cell) * _BINS
    size = len(light) * across_cells**2 * _BINS
    counted = np.bincount((base + lower % _BINS).ravel(), (strength * (1 - part)).ravel(), size)
    counted += np.bincount((base + (lower + 1) % _BINS).ravel(), (strength * part).ravel(), size)
    blocks = counted.reshape(len(light), across_cells, across_cells, _BINS).transpose(0, 3, 1, 2)
    cells = blocks[:, :, :-1, :-1] + blocks[:, :, 1:, :-1] + blocks[:, :, :-1, 1:] + blocks[:, :, 1:, 1:]
    norm = np.sqrt((cells**2).sum(axis=1, keepdims=True) + 0.01)
    return np.asarray(np.sqrt(cells / norm).reshape(len(light), -1))


def _colors(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Means and deviations of colors in a grid of 4x4, and a histogram of 4x4x4 colors."""
    grid = pixels.reshape(len(pixels), 4, SIDE // 4, 4, SIDE // 4, 3)
    moments = np.concatenate([grid.mean(axis=(2, 4)), grid.std(axis=(2, 4))], axis=3).reshape(len(pixels), -1)
    step = np.minimum((pixels * 4).astype(int), 3)
    codes = (step[..., 0] * 16 + step[..., 1] * 4 + step[..., 2]).reshape(len(pixels), -1)
    counts = np.stack([np.bincount(row, minlength=64) for row in codes]) / codes.shape[1]
    return np.hstack([moments, np.sqrt(counts)]).astype(np.float32)
