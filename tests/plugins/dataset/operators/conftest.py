"""Samples whose answers are known, for the operators of processing tasks."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from scipy.io import wavfile

from bottega_dataset.sample import Annotation, SampleRecord

SHAPE, FEATURE, MASK = "@modelarts:shape", "@modelarts:feature", "@modelarts:mask"
Samples = list[tuple[SampleRecord, bytes | None]]


def png(image: Image.Image, kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    image.save(out, kind)
    return out.getvalue()


def drawn(seed: int, size: tuple[int, int] = (96, 64), shade: int = 128) -> Image.Image:
    """Sharp rectangles on an even ground, others for each seed."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", size, (shade,) * 3)
    draw = ImageDraw.Draw(image)
    for _ in range(6):
        x, y, width, height = (int(n) for n in rng.integers((0, 0, 8, 8), (size[0] - 24, size[1] - 24, 24, 24)))
        color = tuple(int(c) for c in rng.integers(0, 256, 3))
        draw.rectangle((x, y, x + width, y + height), fill=color)
    return image


def tone(hertz: float = 440, seconds: float = 0.5, level: float = 0.5, rate: int = 8000) -> bytes:
    at = np.arange(int(seconds * rate)) / rate
    out = io.BytesIO()
    wavfile.write(out, rate, np.round(level * np.sin(2 * np.pi * hertz * at) * 32767).astype(np.int16))
    return out.getvalue()


def sample(name: str, *labels: str, kind: str = "image_classification", **fields: Any) -> SampleRecord:
    source = name if "://" in name else f"s3://pets/{name}"
    return SampleRecord(source, [Annotation(kind, label) for label in labels], **fields)


def box(name: str, x0: float, y0: float, x1: float, y1: float) -> Annotation:
    return Annotation("object_detection", name, {SHAPE: "bndbox", FEATURE: [[x0, y0], [x1, y1]]})


def texts(*given: str) -> Samples:
    return [(sample(f"content://{one}", kind="text_classification"), None) for one in given]


def short(sources: Any) -> list[str]:
    return sorted(source.rpartition("/")[2] for source in sources)
