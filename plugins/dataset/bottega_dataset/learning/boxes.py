"""Objects in pictures from few labeled ones: windows of the labeled boxes' sizes, each judged by gradients and colors.

A logistic regression tells a window's label from background, a ridge regression moves the window onto the object, and
of windows that overlap the best one stays (after R. Girshick et al., Rich feature hierarchies). It finds things that
look alike wherever they are: signs, parts, fruits; not what changes its form.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bottega_dataset.learning import images

Boxes = NDArray[np.float64]
"""(n, 4): left, top, right, bottom in pixels."""
Labeled = Sequence[tuple[str, Sequence[float]]]
"""The labels in a scene, each with its box."""
SIDE = 160
"""Pictures are looked at with at most so many pixels a side."""
_SIZES = 4
_NEAR = 0.25
"""Boxes this much larger or smaller (in natural logarithms) than a window are found by it all the same."""
_AROUND = 0.15
_JITTERS = 6
_NEGATIVES = 25
_STRIDE = 0.25
_BACKGROUND = ""
_LEAST, _SAME = 0.5, 0.3
_AT_ONCE = 512


@dataclass(frozen=True, slots=True)
class Scene:
    """A picture made small: `pixels` (h, w, 3) of uint8; `scale` times its coordinates are the picture's own."""

    pixels: NDArray[np.uint8]
    scale: float
    whole: images.Picture


@dataclass(frozen=True, slots=True)
class Found:
    label: str
    box: tuple[float, float, float, float]
    confidence: float


def scene(data: bytes, name: str) -> Scene:
    """Raises BadSample."""
    from PIL import Image

    whole = images.opened(data, name)
    image = images.decode(data, name)
    scale = max(1.0, max(image.size) / SIDE)
    if scale > 1:
        size = (max(8, round(image.width / scale)), max(8, round(image.height / scale)))
        image = image.resize(size, Image.Resampling.BOX)
    return Scene(np.asarray(image, np.uint8), scale, whole)


class Detector:
    """Learns from scenes and the labels and boxes in each (in the scene's own pixels)."""

    def __init__(self, scenes: Sequence[Scene], known: Sequence[Labeled], seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._seed = seed
        boxes = np.array([box for some in known for _, box in some], np.float64)
        self._sizes = _typical_sizes(boxes[:, 2:] - boxes[:, :2], seed)
        rows: list[Any] = []
        names: list[str] = []
        aims: list[Any] = []
        background: list[Any] = []
        for one, some in zip(scenes, known, strict=True):
            there = np.array([box for _, box in some], np.float64).reshape(-1, 4)
            for label, box in some:
                tried = self._jittered(np.asarray(box, np.float64))
                rows.append(_features(one, tried))
                names += [label] * len(tried)
                aims.append(_offsets(tried, np.asarray(box, np.float64)))
            empty = self._windows(one)
            empty = empty[_overlap(empty, there).max(axis=1, initial=0) < _SAME]
            background.append(empty)
            if len(empty):
                chosen = self._rng.permutation(len(empty))[:_NEGATIVES]
                rows.append(_features(one, empty[chosen]))
                names += [_BACKGROUND] * len(chosen)
        positive = np.array([name != _BACKGROUND for name in names])
        self._fit(np.vstack(rows), names)
        self._mover = _ridge(np.vstack(rows)[positive], np.vstack(aims))
        mistakes = [
            (one, empty[self._probabilities(one, empty)[:, 1:].max(axis=1) > 0.2][:_NEGATIVES])
            for one, empty in zip(scenes, background, strict=True)
            if len(empty)
        ]
        more = [_features(one, empty) for one, empty in mistakes if len(empty)]
        if more:
            rows += more
            self._fit(np.vstack(rows), [*names, *[_BACKGROUND] * sum(len(some) for some in more)])

    def find(self, one: Scene) -> tuple[list[Found], float]:
        """What is in a scene, in its own pixels, and how uncertain that is (0 to 1)."""
        windows = self._windows(one)
        probabilities = self._probabilities(one, windows)
        objects = probabilities[:, 1:]
        if not objects.size:
            return [], 0.0
        best = objects.max(axis=1)
        doubt = float(np.max(1 - 2 * np.abs(best - 0.5)))
        likely = np.flatnonzero(best >= _LEAST)
        if not len(likely):
            return [], doubt
        boxes = self._moved(one, windows[likely])
        labels, scores = objects[likely].argmax(axis=1), best[likely]
        # Looked at again where they were moved to: that tells the best of many that overlap.
        again = self._probabilities(one, boxes)[:, 1:]
        scores = np.minimum(1.0, (scores + again[np.arange(len(boxes)), labels]) / 2)
        found = []
        for place in _best_of_overlapping(boxes, scores):
            if scores[place] >= _LEAST:
                box = tuple(float(v) for v in boxes[place])
                found.append(Found(self._labels[labels[place]], box, round(float(scores[place]), 4)))  # type: ignore[arg-type]
        return found, doubt

    def _fit(self, rows: Any, names: Sequence[str]) -> None:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        self._model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300, random_state=self._seed))
        self._model.fit(rows, names)
        self._labels = [str(name) for name in self._model.classes_ if name != _BACKGROUND]

    def _probabilities(self, one: Scene, windows: Boxes) -> Any:
        """A column for background (the empty name sorts first), and one a label."""
        parts = [
            self._model.predict_proba(_features(one, windows[at : at + _AT_ONCE]))
            for at in range(0, len(windows), _AT_ONCE)
        ]
        found = np.vstack(parts) if parts else np.zeros((0, 1 + len(self._labels)))
        if _BACKGROUND not in self._model.classes_:
            found = np.hstack([np.zeros((len(found), 1)), found])
        return found

    def _windows(self, one: Scene) -> Boxes:
        height, width = one.pixels.shape[:2]
        found = []
        for wide, high in self._sizes:
            wide, high = min(wide, width), min(high, height)
            across = np.arange(0, width - wide + 1e-6, max(2.0, wide * _STRIDE))
            down = np.arange(0, height - high + 1e-6, max(2.0, high * _STRIDE))
            lefts, tops = (some.ravel() for some in np.meshgrid(across, down))
            found.append(np.stack([lefts, tops, lefts + wide, tops + high], axis=1))
        return np.vstack(found)

    def _jittered(self, box: Any) -> Boxes:
        """The box itself, and some a little beside it, as windows will lie."""
        size = box[2:] - box[:2]
        shift = self._rng.uniform(-0.14, 0.14, (_JITTERS, 2)) * size
        grow = np.exp(self._rng.uniform(-_NEAR, _NEAR, (_JITTERS, 2))) * size
        middle = (box[:2] + box[2:]) / 2 + shift
        return np.vstack([box, np.hstack([middle - grow / 2, middle + grow / 2])])

    def _moved(self, one: Scene, windows: Boxes) -> Boxes:
        aims = np.clip(self._mover(_features(one, windows)), -0.4, 0.4)
        size = windows[:, 2:] - windows[:, :2]
        middle = (windows[:, :2] + windows[:, 2:]) / 2 + aims[:, :2] * size
        half = size * np.exp(aims[:, 2:]) / 2
        height, width = one.pixels.shape[:2]
        limits = np.array([width, height, width, height])
        return np.asarray(np.clip(np.hstack([middle - half, middle + half]), 0, limits))


def measured(scenes: Sequence[Scene], known: Sequence[Labeled], seed: int, folds: int = 2) -> float | None:
    """F1 of boxes in scenes it had not seen (right label, half of both boxes' area in common); None for too few."""
    if len(scenes) < 2 * folds:
        return None
    order = np.random.default_rng(seed).permutation(len(scenes))
    right = said = there = 0
    for fold in range(folds):
        held_out = order[fold::folds].tolist()
        learned = [n for n in range(len(scenes)) if n not in set(held_out)]
        if not any(known[n] for n in learned):
            return None
        detector = Detector([scenes[n] for n in learned], [known[n] for n in learned], seed)
        for n in held_out:
            found = detector.find(scenes[n])[0]
            right += sum(_hit(one, known[n]) for one in found)
            said, there = said + len(found), there + len(known[n])
    return 2 * right / (said + there) if said + there else None


def _hit(one: Found, known: Labeled) -> bool:
    same = np.array([box for label, box in known if label == one.label], np.float64).reshape(-1, 4)
    return bool(_overlap(np.array([one.box]), same).max(initial=0) >= 0.5)


def _typical_sizes(sizes: Any, seed: int) -> list[tuple[float, float]]:
    from sklearn.cluster import KMeans

    logs = np.log(np.maximum(sizes, 4))
    for number in range(1, min(_SIZES, len(np.unique(logs, axis=0))) + 1):
        fitted = KMeans(number, n_init=3, random_state=seed).fit(logs)
        if np.abs(logs - fitted.cluster_centers_[fitted.labels_]).max() <= _NEAR:
            break
    return [(float(w), float(h)) for w, h in np.exp(fitted.cluster_centers_)]


def _features(one: Scene, windows: Boxes) -> Any:
    """Rows as of pictures, with a little of what lies around each window."""
    height, width = one.pixels.shape[:2]
    size = windows[:, 2:] - windows[:, :2]
    first, last = windows[:, :2] - _AROUND * size, windows[:, 2:] + _AROUND * size
    steps = (np.arange(images.SIDE) + 0.5) / images.SIDE
    xs = np.clip(first[:, :1] + steps * (last - first)[:, :1], 0, width - 1).astype(int)
    ys = np.clip(first[:, 1:] + steps * (last - first)[:, 1:], 0, height - 1).astype(int)
    return images.rows(one.pixels[ys[:, :, None], xs[:, None, :]], colors=True)


def _offsets(windows: Boxes, box: Any) -> Any:
    size = windows[:, 2:] - windows[:, :2]
    shift = ((box[:2] + box[2:]) / 2 - (windows[:, :2] + windows[:, 2:]) / 2) / size
    return np.hstack([shift, np.log((box[2:] - box[:2]) / size)])


def _ridge(rows: Any, aims: Any) -> Any:
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), Ridge(alpha=len(rows))).fit(rows, aims).predict


def _overlap(some: Boxes, others: Boxes) -> Any:
    """Common area by joint area, a row for each of `some`."""
    first = np.maximum(some[:, None, :2], others[None, :, :2])
    last = np.minimum(some[:, None, 2:], others[None, :, 2:])
    common = np.prod(np.maximum(last - first, 0), axis=2)
    areas = [np.prod(one[:, 2:] - one[:, :2], axis=1) for one in (some, others)]
    return common / np.maximum(areas[0][:, None] + areas[1][None, :] - common, 1e-9)


def _best_of_overlapping(boxes: Boxes, scores: Any) -> Iterator[int]:
    left = np.argsort(-scores)
    while len(left):
        best = left[0]
        yield int(best)
        left = left[_overlap(boxes[best : best + 1], boxes[left])[0] < _SAME]


def figures(one: Scene, boxes: Sequence[Sequence[float]]) -> dict[str, float]:
    """What the vendor compares of the boxes in a picture (reasons 11-18); only their number where there are none."""
    found = {"box_count": float(len(boxes))}
    if not boxes:
        return found
    corners = np.asarray(boxes, np.float64)
    height, width = one.pixels.shape[:2]
    size = np.maximum(corners[:, 2:] - corners[:, :2], 1e-6)
    areas = size.prod(axis=1) / (width * height)
    middles = (corners[:, :2] + corners[:, 2:]) / 2 / np.array([width, height])
    common = _overlap(corners, corners) - np.eye(len(corners))
    light = one.pixels.mean(axis=2)
    inside = [light[int(y1) : int(y2) + 1, int(x1) : int(x2) + 1] for x1, y1, x2, y2 in np.maximum(corners, 0)]
    return found | {
        "box_area": float(areas.sum()),
        "box_area_deviation": float(areas.std()),
        "box_aspect": float(np.log2(size[:, 0] / size[:, 1]).mean()),
        "box_edge": float(np.abs(middles - 0.5).max()),
        "box_stacking": float(common.max(initial=0)),
        "box_brightness": float(np.mean([some.mean() for some in inside if some.size] or [0])),
        "box_clarity": float(np.mean([np.log1p(some.var()) for some in inside if some.size] or [0])),
    }
