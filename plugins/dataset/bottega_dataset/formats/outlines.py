"""Shapes and masks as the formats of images write them: boxes, flat lists of points, run lengths."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bottega_dataset.manifest import format_time, parse_time
from bottega_dataset.media import MAX_PIXELS
from bottega_dataset.sample import HUMAN, Annotation, BadSample
from bottega_dataset.types.geometry import FEATURE, MASK, SHAPE
from bottega_dataset.types.masks import run_lengths

USAGE_OF = {"train": "TRAIN", "test": "TEST", "inference": "INFERENCE"} | dict.fromkeys(
    ("val", "valid", "validation", "dev", "eval"), "EVAL"
)
SUBSET_OF = {"TRAIN": "train", "EVAL": "val", "TEST": "test", "INFERENCE": "inference", None: "default"}
"""What the field calls the parts of a dataset."""
_DIGITS = 3
_RUNS = re.compile(rb"\x00+|\x01+")
_HARD, _BY, _TIME = "hard", "annotated-by", "creation-time"


def usage_of(subset: str) -> str | None:
    """``train2017`` → ``TRAIN``; None for what is no part's name."""
    return USAGE_OF.get(re.split(r"[^a-z]", subset.lower())[0])


def number(value: Any, what: str = "a coordinate") -> float:
    """A coordinate in pixels, to a thousandth; whole ones as whole numbers. Raises BadSample."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e9:
        raise BadSample(f"{what} must be a number, not {str(value)[:40]!r}")
    rounded = round(float(value), _DIGITS)
    return int(rounded) if rounded == int(rounded) else rounded


def numbers(values: Any, what: str, least: int = 0) -> list[float]:
    """Raises BadSample."""
    if not isinstance(values, list) or len(values) < least:
        raise BadSample(f"{what} must be a list of {f'at least {least} ' if least else ''}numbers")
    return [number(value, what) for value in values]


def shape_of(one: Annotation) -> tuple[str, list[list[float]]]:
    """An annotation's shape, empty where it has none, and its feature."""
    given = one.property or {}
    return str(given.get(SHAPE) or ""), list(given.get(FEATURE) or [])


def shaped(kind: str, name: str, shape: str, feature: list[list[float]], **more: Any) -> Annotation:
    return Annotation(kind, name, {SHAPE: shape, FEATURE: feature}, **more)


def boxed(kind: str, name: str, corners: Sequence[float], **more: Any) -> Annotation:
    """:param corners: xmin, ymin, xmax, ymax."""
    left, top, right, bottom = (number(one) for one in corners)
    return shaped(kind, name, "bndbox", [[left, top], [right, bottom]], **more)


def bounds(points: Iterable[Sequence[float]]) -> tuple[float, float, float, float]:
    """xmin, ymin, xmax, ymax."""
    xs, ys = zip(*points, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def area(points: Sequence[Sequence[float]]) -> float:
    """Of a polygon that does not cross itself."""
    pairs = zip(points, [*points[1:], points[0]], strict=True)
    return number(abs(sum(x * b - a * y for (x, y), (a, b) in pairs)) / 2, "an area")


def flat(points: Sequence[Sequence[float]]) -> list[float]:
    return [value for point in points for value in point]


def paired(values: Sequence[float]) -> list[list[float]]:
    """Raises BadSample when there is an odd number of them."""
    if len(values) % 2:
        raise BadSample("points need an even number of coordinates")
    return [list(values[at : at + 2]) for at in range(0, len(values), 2)]


def extras(one: Annotation) -> dict[str, Any]:
    """What is said of an annotation besides its label, shape and confidence."""
    more: dict[str, Any] = {k: v for k, v in (one.property or {}).items() if k not in (SHAPE, FEATURE, MASK)}
    if one.hard is not None:
        more[_HARD] = one.hard
    if one.annotated_by != HUMAN:
        more[_BY] = one.annotated_by
    if one.created_at is not None:
        more[_TIME] = format_time(one.created_at)
    return more


def with_extras(one: Annotation, more: Any) -> Annotation:
    """The annotation, with what `extras` gave. Raises BadSample."""
    if not isinstance(more, dict):
        return one
    kept = dict(more)
    hard, by, at = kept.pop(_HARD, None), kept.pop(_BY, None), kept.pop(_TIME, None)
    one.hard = hard if isinstance(hard, bool) else None
    one.annotated_by = by if isinstance(by, str) and by else HUMAN
    one.created_at = parse_time(at) if isinstance(at, str) else None
    if kept:
        one.property = {**(one.property or {}), **kept}
    return one


def confidence_of(value: Any) -> float | None:
    """A number from 0 to 1, or None."""
    good = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
    return float(value) if good else None


def compressed(counts: Sequence[int]) -> str:
    """Run lengths as COCO's text: 5 bits a character, each count less the one two before it."""
    text = []
    for index, count in enumerate(counts):
        value = count - counts[index - 2] if index > 2 else count
        more = True
        while more:
            bits = value & 0x1F
            value >>= 5
            more = value != (-1 if bits & 0x10 else 0)
            text.append(chr((bits | 0x20 if more else bits) + 48))
    return "".join(text)


def runs_of_bytes(pixels: bytes) -> list[int]:
    """Run lengths of pixels 0 and 1, beginning with those that are 0."""
    runs = [run.end() - run.start() for run in _RUNS.finditer(pixels)]
    return [0, *runs] if pixels[:1] == b"\x01" else runs


def mask_of_polygons(polygons: Sequence[Sequence[float]], width: int, height: int) -> dict[str, Any]:
    """The run lengths of what several polygons cover together."""
    from PIL import Image, ImageDraw

    canvas = Image.new("L", (width, height))
    draw = ImageDraw.Draw(canvas)
    for polygon in polygons:
        draw.polygon([(x, y) for x, y in paired(polygon)], fill=1)
    counts = runs_of_bytes(canvas.transpose(Image.Transpose.TRANSPOSE).tobytes())
    return {"size": [height, width], "counts": compressed(counts)}


def mask_bounds(height: int, counts: Sequence[int]) -> tuple[int, int, int, int]:
    """xmin, ymin, width and height of what a mask covers; all 0 when that is nothing."""
    left = top = 1 << 62
    right = bottom = at = 0
    for index, count in enumerate(counts):
        if index % 2 and count:
            first, last = at, at + count - 1
            left, right = min(left, first // height), max(right, last // height)
            one_column = first // height == last // height
            top = min(top, first % height if one_column else 0)
            bottom = max(bottom, last % height if one_column else height - 1)
        at += count
    return (left, top, right - left + 1, bottom - top + 1) if left <= right else (0, 0, 0, 0)


def bitmap_of(mask: Mapping[str, Any]) -> tuple[int, int, bytes]:
    """Width, height and the pixels of a mask, 0 or 1, row after row. Raises BadSample."""
    height, width, counts = run_lengths(mask, "mask")
    if height * width > MAX_PIXELS or sum(counts) != height * width:
        raise BadSample(f"the mask does not fill {width} x {height} pixels, or these are more than {MAX_PIXELS:,}")
    columns = b"".join((b"\x01" if index % 2 else b"\x00") * count for index, count in enumerate(counts))
    return width, height, b"".join(columns[row::height] for row in range(height))


def mask_of_bitmap(width: int, height: int, pixels: bytes) -> dict[str, Any]:
    """The run lengths of pixels 0 or 1, row after row."""
    columns = b"".join(pixels[column::width] for column in range(width))
    return {"size": [height, width], "counts": compressed(runs_of_bytes(columns))}
