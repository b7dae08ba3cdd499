"""Videos as rows of numbers: colors, texture and motion of moments a fixed step apart, decoded by FFmpeg (PyAV)."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bottega_dataset.learning.images import MAX_PIXELS, SIDE, Picture
from bottega_dataset.sample import BadSample

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
    import av

    frames: list[NDArray[np.uint8]] = []
    width = height = 0
    try:
        with av.open(io.BytesIO(data), metadata_errors="ignore") as file:
            if not file.streams.video:
                raise BadSample(f"{name} holds no pictures that move")
            stream = file.streams.video[0]
            width, height = stream.codec_context.width, stream.codec_context.height
            if not 0 < width * height <= MAX_PIXELS:
                raise BadSample(f"{name} has {width}x{height} pixels; at most {MAX_PIXELS} are taken")
            stream.thread_type = "AUTO"
            for time, frame in _timed(file, stream):
                if time >= len(frames) * STEP_S:
                    seen = frame.to_ndarray(format="rgb24", width=SIDE, height=SIDE)
                    # A frame stays until the next one comes.
                    while time >= len(frames) * STEP_S and len(frames) * STEP_S < MOST_S:
                        frames.append(seen)
                if len(frames) * STEP_S >= MOST_S:
                    break
    except (av.error.FFmpegError, ValueError, MemoryError) as e:
        if not frames:
            raise BadSample(f"{name} is not a video that can be seen: {e}") from e
    if not frames:
        raise BadSample(f"{name} holds no frames")
    pixels = np.stack(frames)
    middle = pixels[len(pixels) // 2]
    gray = bool((np.ptp(middle.astype(np.int16), axis=2) <= 8).all())
    return Clip(_rows(pixels), Picture(middle, width, height, gray))


def _timed(file: Any, stream: Any) -> Iterator[tuple[float, Any]]:
    """Frames with their seconds from the first one."""
    rate = float(stream.average_rate or 25)
    first = None
    for number, frame in enumerate(file.decode(stream)):
        time = number / rate if frame.time is None else float(frame.time)
        first = time if first is None else first
        yield max(0.0, time - first), frame


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
