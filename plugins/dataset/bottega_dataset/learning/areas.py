"""Areas of pictures from few labeled ones: each pixel judged by color, gradient and texture around it, at four scales.

A forest of trees gives the probabilities of a pixel's label (as in ilastik: C. Sommer et al., 2011); they are smoothed,
and pixels of one label that hang together are an area. It finds what looks like itself: tissue, fields, sky, damage; it
does not tell two things of one label apart that touch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bottega_dataset.learning.boxes import Scene

Mask = NDArray[np.bool_]
"""(h, w) of a scene's own pixels."""
Labeled = Sequence[tuple[str, Mask]]
"""The labels in a scene, each with its area."""
_SCALES = (0.7, 1.5, 3.0, 6.0)
"""Deviations of the Gaussians that pixels are seen through, in pixels of the scene."""
_TREES = 40
_PIXELS = 300
"""So many pixels of each label, and of what has none, are learned from in a scene."""
_LEARNED = 60_000
_SMOOTH, _EDGE = 1.0, 7
_SMALLEST, _FEWEST = 0.3, 12
"""An area smaller than this part of the smallest labeled ones, or of fewer pixels, is noise."""
_MOST = 100
_LEAST = 0.5
_NOTHING = ""


@dataclass(frozen=True, slots=True)
class Area:
    label: str
    mask: Mask
    confidence: float


class Painter:
    """Learns from scenes and the areas in each."""

    def __init__(self, scenes: Sequence[Scene], known: Sequence[Labeled], seed: int) -> None:
        from sklearn.ensemble import RandomForestClassifier

        rng = np.random.default_rng(seed)
        self._labels = sorted({label for some in known for label, _ in some})
        rows, said = [], []
        for one, some in zip(scenes, known, strict=True):
            truth = painted(one, some, self._labels).ravel()
            chosen = np.concatenate(
                [rng.permutation(np.flatnonzero(truth == number))[:_PIXELS] for number in np.unique(truth)]
            )
            rows.append(_features(one)[chosen])
            said.append(truth[chosen])
        x, y = np.vstack(rows), np.concatenate(said)
        if len(x) > _LEARNED:
            some_rows = rng.choice(len(x), _LEARNED, replace=False)
            x, y = x[some_rows], y[some_rows]
        self._model = RandomForestClassifier(_TREES, min_samples_leaf=4, random_state=seed).fit(x, y)
        sizes = [int(mask.sum()) for some in known for _, mask in some]
        self._smallest = max(_FEWEST, _SMALLEST * float(np.quantile(sizes, 0.05)))

    def find(self, one: Scene) -> tuple[list[Area], float]:
        """The areas of a scene, the surest first, and how uncertain its most uncertain tenth is (0 to 1).

        The edge of an area is never certain, so pixels there say nothing of the scene.
        """
        from scipy.ndimage import label, maximum_filter, minimum_filter

        found = self._probabilities(one)
        best = found.argmax(axis=2)
        two = np.sort(found, axis=2)[..., -2:]
        inside = maximum_filter(best, _EDGE) == minimum_filter(best, _EDGE)
        doubts = np.sort((1 - (two[..., -1] - two[..., 0]))[inside])
        doubt = float(np.clip(doubts[-max(1, len(doubts) // 10) :].mean(), 0, 1)) if len(doubts) else 1.0
        areas = []
        for number, name in enumerate(self._labels, 1):
            parts, count = label(best == number)
            sizes = np.bincount(parts.ravel(), minlength=count + 1)
            for part in (1 + np.argsort(-sizes[1:], kind="stable"))[:_MOST]:
                mask = parts == part
                sure = float(found[..., number][mask].mean()) if sizes[part] >= self._smallest else 0.0
                if sure < _LEAST:
                    continue
                areas.append(Area(name, mask, round(sure, 4)))
        return sorted(areas, key=lambda area: -area.confidence)[:_MOST], doubt

    def labels(self, one: Scene) -> NDArray[np.int64]:
        """The likeliest label of each pixel: 0 for none, else its place in `names` and one more."""
        return np.asarray(self._probabilities(one).argmax(axis=2), np.int64)

    @property
    def names(self) -> list[str]:
        return self._labels

    def _probabilities(self, one: Scene) -> Any:
        from scipy.ndimage import gaussian_filter

        height, width = one.pixels.shape[:2]
        found = np.zeros((height * width, 1 + len(self._labels)))
        found[:, np.asarray(self._model.classes_, int)] = self._model.predict_proba(_features(one))
        return gaussian_filter(found.reshape(height, width, -1), (_SMOOTH, _SMOOTH, 0))


def measured(scenes: Sequence[Scene], known: Sequence[Labeled], seed: int, folds: int = 2) -> float | None:
    """The mean over the labels of common by joint area in scenes it had not seen; None for too few."""
    if len(scenes) < 2 * folds:
        return None
    order = np.random.default_rng(seed).permutation(len(scenes))
    common: dict[str, int] = {}
    joint: dict[str, int] = {}
    for fold in range(folds):
        held_out = order[fold::folds].tolist()
        learned = [n for n in range(len(scenes)) if n not in set(held_out)]
        if not any(known[n] for n in learned):
            return None
        painter = Painter([scenes[n] for n in learned], [known[n] for n in learned], seed)
        names = sorted({*painter.names, *(label for n in held_out for label, _ in known[n])})
        for n in held_out:
            found, truth = painter.labels(scenes[n]), painted(scenes[n], known[n], names)
            for number, name in enumerate(names, 1):
                here = found == painter.names.index(name) + 1 if name in painter.names else np.zeros_like(found, bool)
                there = truth == number
                common[name] = common.get(name, 0) + int((here & there).sum())
                joint[name] = joint.get(name, 0) + int((here | there).sum())
    shares = [common[name] / joint[name] for name in joint if joint[name]]
    return float(np.mean(shares)) if shares else None


def painted(one: Scene, some: Labeled, labels: Sequence[str]) -> NDArray[np.int64]:
    """The label of each pixel: 0 for none, else its place in `labels` and one more; later areas cover earlier ones."""
    found = np.zeros(one.pixels.shape[:2], np.int64)
    for label, mask in some:
        found[mask] = labels.index(label) + 1
    return found


def _features(one: Scene) -> NDArray[np.float32]:
    """A row a pixel."""
    from scipy.ndimage import gaussian_filter, gaussian_gradient_magnitude

    pixels = one.pixels.astype(np.float32) / np.float32(255)
    light = pixels.mean(axis=2)
    height, width = light.shape
    layers = [pixels]
    for scale in _SCALES:
        seen = gaussian_filter(pixels, (scale, scale, 0))
        gray = seen.mean(axis=2)
        # Texture: how much the light varies within reach.
        varies = np.sqrt(np.maximum(gaussian_filter(light**2, scale) - gray**2, 0))
        layers += [seen, gaussian_gradient_magnitude(light, scale)[..., None], varies[..., None]]
    down, across = np.mgrid[0:height, 0:width].astype(np.float32)
    layers += [(down / height)[..., None], (across / width)[..., None]]
    return np.concatenate(layers, axis=2).reshape(height * width, -1).astype(np.float32)


def of_polygon(points: Sequence[Sequence[float]], one: Scene) -> Mask:
    """What a polygon in the picture's own coordinates covers."""
    from PIL import Image, ImageDraw

    height, width = one.pixels.shape[:2]
    canvas = Image.new("1", (width, height))
    ImageDraw.Draw(canvas).polygon([(x / one.scale, y / one.scale) for x, y in points], fill=1)
    return np.asarray(canvas, bool)


def of_run_lengths(mask: Any, one: Scene) -> Mask:
    """What run lengths of the picture's own size cover. Raises BadSample."""
    from bottega_dataset.processing.image_masks import decode

    inside = decode(mask)
    height, width = one.pixels.shape[:2]
    rows = ((np.arange(height) + 0.5) * inside.shape[0] / height).astype(int)
    columns = ((np.arange(width) + 0.5) * inside.shape[1] / width).astype(int)
    return np.asarray(inside[rows[:, None], columns])


def as_run_lengths(mask: Mask, one: Scene) -> dict[str, Any]:
    """An area as a mask of the picture's own size, in COCO's compressed form."""
    from PIL import Image

    from bottega_dataset.formats.outlines import compressed
    from bottega_dataset.processing.image_masks import encode

    size = (one.whole.width, one.whole.height)
    large = Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BILINEAR)
    found = encode(np.asarray(large) > 127)
    return {"size": found["size"], "counts": compressed(found["counts"])}


def as_polygon(mask: Mask, one: Scene) -> list[list[float]]:
    """The outline of an area in the picture's own coordinates; holes are not in it."""
    from contourpy import contour_generator

    # Its values are those of the middles of pixels; the frame closes outlines at the picture's edge.
    lines = contour_generator(z=np.pad(mask, 1).astype(float)).lines(0.5)
    outline = max((np.asarray(line) for line in lines), key=lambda line: float(np.ptp(line, axis=0).prod()))
    limits = np.array([one.whole.width, one.whole.height])
    points = np.clip((outline[:-1] - 0.5) * one.scale, 0, limits)
    return [[round(float(x), 1), round(float(y), 1)] for x, y in points]
