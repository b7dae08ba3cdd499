"""Annotations that are shapes in a picture: reading them, their extent, and moving them with the pixels.

Coordinates are continuous: a pixel in column 3 covers 3.0 to 4.0, so a picture of width w spans 0 to w.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bottega_dataset.sample import Annotation

SHAPE, FEATURE = "@modelarts:shape", "@modelarts:feature"
BOX, POLYGON, CIRCLE, LINE, DASHED, POINT, POLYLINE = (
    "bndbox",
    "polygon",
    "circle",
    "line",
    "dashed",
    "point",
    "polyline",
)
Points = NDArray[np.float64]
Matrix = NDArray[np.float64]
"""2×3: where a point (x, y, 1) goes to."""


@dataclass(frozen=True, slots=True)
class Shape:
    """`points` (n, 2); of a circle the center, with `radius`."""

    kind: str
    points: Points
    radius: float = 0.0

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """xmin, ymin, xmax, ymax."""
        low, high = self.points.min(0) - self.radius, self.points.max(0) + self.radius
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])

    @property
    def area(self) -> float:
        """Of its extent for a box, else its own; 0 for lines and points."""
        if self.kind == CIRCLE:
            return float(np.pi * self.radius**2)
        if self.kind == POLYGON:
            return polygon_area(self.points)
        if self.kind != BOX:
            return 0.0
        x0, y0, x1, y1 = self.extent
        return (x1 - x0) * (y1 - y0)


def shape_of(annotation: Annotation) -> Shape | None:
    """None where the annotation is no shape, or not one that can be read."""
    prop = annotation.property or {}
    kind, feature = prop.get(SHAPE), prop.get(FEATURE)
    if not isinstance(kind, str) or not isinstance(feature, list) or not feature:
        return None
    try:
        if kind == CIRCLE:
            center, radius = feature
            return Shape(kind, np.array([center], np.float64), float(radius[0]))
        points = np.array(feature, np.float64)
    except (TypeError, ValueError, IndexError):
        return None
    return Shape(kind, points) if points.ndim == 2 and points.shape[1] == 2 else None


def with_shape(annotation: Annotation, shape: Shape) -> Annotation:
    points = [[_number(x), _number(y)] for x, y in shape.points]
    feature: list[Any] = [points[0], [_number(shape.radius)]] if shape.kind == CIRCLE else points
    return replace(annotation, property={**(annotation.property or {}), FEATURE: feature})


def moved(shape: Shape, matrix: Matrix) -> Shape:
    """Where the shape is after the pixels were moved by `matrix`; a box becomes the box around its four corners."""
    points = shape.points
    if shape.kind == BOX:
        x0, y0, x1, y1 = shape.extent
        points = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], np.float64)
    at = points @ matrix[:, :2].T + matrix[:, 2]
    if shape.kind == BOX:
        at = np.array([at.min(0), at.max(0)])
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    return Shape(shape.kind, at, shape.radius * scale)


def clipped(shape: Shape, width: float, height: float) -> Shape | None:
    """What of the shape is inside the picture; None when nothing is. Of a circle that crosses the edge, all stays."""
    if shape.kind == BOX:
        x0, y0, x1, y1 = shape.extent
        x0, x1 = max(x0, 0.0), min(x1, width)
        y0, y1 = max(y0, 0.0), min(y1, height)
        return Shape(BOX, np.array([[x0, y0], [x1, y1]])) if x0 < x1 and y0 < y1 else None
    if shape.kind == POLYGON:
        points = _clip_polygon(shape.points, width, height)
        return Shape(POLYGON, points) if len(points) >= 3 and polygon_area(points) > 0 else None
    if shape.kind == CIRCLE:
        x, y = shape.points[0]
        return shape if 0 <= x <= width and 0 <= y <= height else None
    if shape.kind == POINT:
        inside = (shape.points >= 0).all() and (shape.points <= (width, height)).all()
        return shape if inside else None
    return _clip_lines(shape, width, height)


def transformed(
    annotations: list[Annotation], matrix: Matrix, width: float, height: float, min_visible: float
) -> list[Annotation]:
    """The annotations after the pixels were moved; without shapes of which less than `min_visible` stays."""
    found = []
    for one in annotations:
        shape = shape_of(one)
        if shape is None:
            found.append(one)
            continue
        there = moved(shape, matrix)
        seen = clipped(there, width, height)
        if seen is None or (there.area > 0 and seen.area < min_visible * there.area):
            continue
        found.append(with_shape(one, seen))
    return found


def polygon_area(points: Points) -> float:
    x, y = points[:, 0], points[:, 1]
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)


def covered(box: tuple[float, float, float, float], others: list[tuple[float, float, float, float]]) -> float:
    """The part of `box`, 0 to 1, that lies under at least one of `others`."""
    x0, y0, x1, y1 = box
    cut = [(max(a, x0), max(b, y0), min(c, x1), min(d, y1)) for a, b, c, d in others]
    cut = [one for one in cut if one[0] < one[2] and one[1] < one[3]]
    if not cut or x0 >= x1 or y0 >= y1:
        return 0.0
    xs = sorted({x for one in cut for x in (one[0], one[2])})
    ys = sorted({y for one in cut for y in (one[1], one[3])})
    total = 0.0
    for left, right in itertools.pairwise(xs):
        for top, bottom in itertools.pairwise(ys):
            if any(a <= left and right <= c and b <= top and bottom <= d for a, b, c, d in cut):
                total += (right - left) * (bottom - top)
    return total / ((x1 - x0) * (y1 - y0))


def _clip_polygon(points: Points, width: float, height: float) -> Points:
    """Sutherland and Hodgman: against each edge of the picture in turn."""
    edges: list[tuple[Callable[[Points], float], int, float]] = [
        (lambda p: p[0], 0, 0.0),
        (lambda p: width - p[0], 0, width),
        (lambda p: p[1], 1, 0.0),
        (lambda p: height - p[1], 1, height),
    ]
    for inside, axis, at in edges:
        kept: list[Points] = []
        for here, after in zip(points, np.roll(points, -1, 0), strict=True):
            if inside(here) >= 0:
                kept.append(here)
            if inside(here) * inside(after) < 0:
                part = (at - here[axis]) / (after[axis] - here[axis])
                kept.append(here + part * (after - here))
        points = np.array(kept).reshape(-1, 2)
        if not len(points):
            break
    return points


def _clip_lines(shape: Shape, width: float, height: float) -> Shape | None:
    """Of a line that leaves the picture, the longest piece inside."""
    pieces: list[list[Points]] = []
    for start, end in zip(shape.points, shape.points[1:], strict=False):
        low, high = 0.0, 1.0
        step = end - start
        for axis, limit in ((0, width), (1, height)):
            if step[axis] == 0:
                if not 0 <= start[axis] <= limit:
                    high = -1.0
                continue
            a, b = sorted((-start[axis] / step[axis], (limit - start[axis]) / step[axis]))
            low, high = max(low, a), min(high, b)
        if low >= high:
            continue
        first, last = start + low * step, start + high * step
        if pieces and low == 0 and np.allclose(pieces[-1][-1], first):
            pieces[-1].append(last)
        else:
            pieces.append([first, last])
    if not pieces:
        return None
    return Shape(shape.kind, np.array(max(pieces, key=_length)))


def _length(points: list[Points]) -> float:
    return float(np.linalg.norm(np.diff(np.array(points), axis=0), axis=1).sum())


def _number(value: float) -> int | float:
    """Whole pixels stay whole numbers, as people wrote them."""
    rounded = round(float(value), 2)
    return int(rounded) if rounded == int(rounded) else rounded
