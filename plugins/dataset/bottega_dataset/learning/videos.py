"""Videos as rows of numbers: colors, texture and motion of moments a fixed step apart, decoded by FFmpeg (OpenCV)."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bottega_dataset.learning.images import MAX_PIXELS, SIDE, Picture
from bottega_dataset.sample import BadSample

if TYPE_CHECKING:
    import cv2

STEP_S = 0.25
"""The time from one moment to the next."""
MOST_S = 600
"""Of a longer video the first ten minutes are seen."""
_GRID = 4


@dataclass(frozen=True, slots=True)
class Clip:
    """`moments` a row each `STEP_S` seconds; `middle` is the frame in the middle."""

    moments: NDArray[np.float32]
    middle: Picture

    def row(self) -> NDArray[np.float32]:
        """The whole video: how its moments are, and how they vary."""
        return np.concatenate([self.moments.mean(axis=0), self.moments.std(axis=0)])


def opened(data: bytes, name: str) -> Clip:
    """Raises BadSample for what is no video that can be seen."""
    with tempfile.NamedTemporaryFile(suffix=Path(name).suffix) as file:
        file.write(data)
        file.flush()
        frames, width, height = _seen(file.name, name)
    pixels = np.stack(frames)
    middle = pixels[len(pixels) // 2]
    gray = bool((np.ptp(middle.astype(np.int16), axis=2) <= 8).all())
    return Clip(_rows(pixels), Picture(middle, width, height, gray))


def _seen(path: str, name: str) -> tuple[list[NDArray[np.uint8]], int, int]:
    """A small frame each `STEP_S` seconds, and the size of the large ones."""
    import cv2

    frames: list[NDArray[np.uint8]] = []
    file = cv2.VideoCapture(path, cv2.CAP_FFMPEG)
    try:
        if not file.isOpened():
            raise BadSample(f"{name} is not a video that can be seen")
        width, height = (int(file.get(side)) for side in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        if not 0 < width * height <= MAX_PIXELS:
            raise BadSample(f"{name} has {width}x{height} pixels; at most {MAX_PIXELS} are taken")
        for time in _times(file):
            if time >= len(frames) * STEP_S:
                _, frame = file.retrieve()
                small = cv2.resize(frame, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
                seen = np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2RGB), np.uint8)
                # A frame stays until the next one comes.
                while time >= len(frames) * STEP_S and len(frames) * STEP_S < MOST_S:
                    frames.append(seen)
            if len(frames) * STEP_S >= MOST_S:
                break
    except cv2.error as e:
        raise BadSample(f"{name} is not a video that can be seen: {e}") from e
    finally:
        file.release()
    if not frames:
        raise BadSample(f"{name} holds no frames")
    return frames, width, height


def _times(file: cv2.VideoCapture) -> Iterator[float]:
    """The seconds of each frame from the first one; it is retrieved before the next is asked for."""
    import cv2

    first = None
    while file.grab():
        time = file.get(cv2.CAP_PROP_POS_MSEC) / 1000
        first = time if first is None else first
        yield max(0.0, time - first)


def _rows(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Of each frame, in a grid of 4x4: colors, texture, change since the moment before; and how often colors are."""
    found = []
    before = None
    for one in pixels:
        color = one.astype(np.float32) / np.float32(255)
        light = color.mean(axis=2)
        change = np.zeros_like(light) if before is None else np.abs(light - before)
        codes = np.minimum((color * 4).astype(int), 3) @ np.array([16, 4, 1])
        counts = np.bincount(codes.ravel(), minlength=64) / codes.size
        cells = np.concatenate([color, light[..., None], change[..., None]], axis=2)
        cells = cells.reshape(_GRID, SIDE // _GRID, _GRID, SIDE // _GRID, 5)
        parts = [cells[..., [0, 1, 2, 4]].mean(axis=(1, 3)).ravel(), cells[..., 3].std(axis=(1, 3)).ravel()]
        found.append(np.concatenate([*parts, np.sqrt(counts), [change.mean()]]))
        before = light
    return np.array(found, np.float32)
