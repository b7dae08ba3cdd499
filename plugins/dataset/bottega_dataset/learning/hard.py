"""Hard examples: why a sample is one, in the vendor's numbers, and how hard it is (``hard_coefficient``, 0 to 1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bottega_dataset.hard_reasons import FIGURES, Reason

_FAR = 0.98
"""A sample farther from its label's samples than this part of them are from each other differs greatly."""
_SHIFTED = 3.5
"""Deviations of a figure from the training set's median that count as a shift (median absolute deviations)."""
_LEAST = 20
"""So many labeled samples a distribution of figures needs."""
_NEIGHBORS = 5
_WEIGHTS = {Reason.NOTHING_FOUND: 0.7, Reason.UNLIKE_CLUSTER: 0.4, Reason.UNLIKE_CLASS: 0.3, Reason.UNLIKE_SIMILAR: 0.4}
_SHIFT_WEIGHT = 0.15
_UNFOUND = "\0"
"""Stands for the label of a sample in which nothing was found; no label is called so."""


@dataclass(frozen=True)
class Hardness:
    """`reasons` is empty for a sample that is not hard."""

    reasons: tuple[int, ...]
    coefficient: float


def examine(
    points: NDArray[np.float64],
    known: NDArray[np.float64],
    known_labels: Sequence[Sequence[str]],
    labels: Sequence[Sequence[tuple[str, float]]],
    figures: Sequence[Mapping[str, float]],
    known_figures: Sequence[Mapping[str, float]],
    scope: tuple[float, float],
    seed: int = 0,
) -> list[Hardness]:
    """How hard each unlabeled sample is.

    :param points: the unlabeled samples in few dimensions, `known` the labeled ones (``order.compact``).
    :param labels: what was suggested for the unlabeled ones, with confidences.
    :param scope: a confidence within it is a low one (the API's ``confidence_scope``).
    """
    tops = [max(some, key=lambda one: one[1]) if some else None for some in labels]
    # What bears no label (a transcript, a stretch of speech) is one class; where nothing was found there is none.
    names = np.array([_UNFOUND if top is None else top[0] for top in tops], dtype=object)
    found: list[list[int]] = [[] for _ in tops]
    for place, top in enumerate(tops):
        if top is None:
            found[place].append(Reason.NOTHING_FOUND)
        elif scope[0] <= top[1] <= scope[1]:
            found[place].append(Reason.LOW_CONFIDENCE)
    firsts = np.array([some[0] if some else "" for some in known_labels], dtype=object)
    if len(known) and len(points):
        for reason, hit in (
            (Reason.UNLIKE_CLUSTER, _against_cluster(points, known, firsts, names, seed)),
            (Reason.UNLIKE_CLASS, _far_from_class(points, known, firsts, names)),
            (Reason.UNLIKE_SIMILAR, _against_neighbors(points, names)),
        ):
            for place in np.flatnonzero(hit).tolist():
                found[place].append(reason)
    for place, shifted in enumerate(_shifts(figures, known_figures)):
        found[place] += shifted
    doubts = [1.0 if top is None else 1 - top[1] for top in tops]
    return [_hardness(reasons, doubt) for reasons, doubt in zip(found, doubts, strict=True)]


def _hardness(reasons: list[int], doubt: float) -> Hardness:
    easy = 1 - doubt
    for reason in reasons:
        easy *= 1 - _WEIGHTS.get(Reason(reason), 0 if reason == Reason.LOW_CONFIDENCE else _SHIFT_WEIGHT)
    return Hardness(tuple(sorted(reasons)), round(float(min(1.0, max(0.0, 1 - easy))), 4))


def _against_cluster(points: Any, known: Any, firsts: Any, names: Any, seed: int) -> NDArray[np.bool_]:
    """Whether the labeled samples of a sample's cluster mostly (two thirds) bear another label."""
    from sklearn.cluster import KMeans

    number = int(min(max(2 * len(set(firsts)), 2), len(known)))
    fitted = KMeans(number, n_init=3, random_state=seed).fit(known)
    majority = {}
    for cluster in range(number):
        members = firsts[fitted.labels_ == cluster]
        labels, counts = np.unique(members.astype(str), return_counts=True)
        if len(members) >= 3 and counts.max() * 3 >= len(members) * 2:
            majority[cluster] = str(labels[counts.argmax()])
    clusters = fitted.predict(points)
    return np.array([majority.get(int(c), n) != n for c, n in zip(clusters, names, strict=True)], bool)


def _far_from_class(points: Any, known: Any, firsts: Any, names: Any) -> NDArray[np.bool_]:
    """Whether a sample is farther from the nearest ones of its label than those are from each other."""
    from sklearn.neighbors import NearestNeighbors

    far = np.zeros(len(points), bool)
    for name in set(names) - {_UNFOUND}:
        members, places = known[firsts == name], np.flatnonzero(names == name)
        if len(members) < 5 or not len(places):
            continue
        nearest = NearestNeighbors(n_neighbors=2).fit(members)
        within = np.sort(nearest.kneighbors(members)[0][:, 1])
        limit = within[int(_FAR * (len(within) - 1))] * 1.25
        far[places] = nearest.kneighbors(points[places], n_neighbors=1)[0][:, 0] > limit
    return far


def _against_neighbors(points: Any, names: Any) -> NDArray[np.bool_]:
    """Whether most of the samples most like it were given another label."""
    from sklearn.neighbors import NearestNeighbors

    number = min(_NEIGHBORS, len(points) - 1)
    if number < 3:
        return np.zeros(len(points), bool)
    near = NearestNeighbors(n_neighbors=number + 1).fit(points).kneighbors(points)[1][:, 1:]
    return np.asarray((names[near] != names[:, None]).sum(axis=1) * 5 >= number * 4)


def _shifts(figures: Sequence[Mapping[str, float]], known: Sequence[Mapping[str, float]]) -> list[list[int]]:
    found: list[list[int]] = [[] for _ in figures]
    for name, reason in FIGURES.items():
        values = np.array([one[name] for one in known if name in one])
        if len(values) < _LEAST:
            continue
        middle = np.median(values)
        deviation = 1.4826 * np.median(np.abs(values - middle))
        width = max(_SHIFTED * deviation, 0.02 * abs(middle) + 1e-6)
        low, high = min(values.min(), middle - width), max(values.max(), middle + width)
        for place, one in enumerate(figures):
            if name in one and not low <= one[name] <= high:
                found[place].append(reason)
    return found
