"""Groups of samples that are alike (auto grouping)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_MOST_TRIED = 20
_JUDGED = 2000


@dataclass(frozen=True)
class Groups:
    """The group of each sample, numbered from 0, the largest first; and its distance to the group's middle."""

    numbers: NDArray[np.int64]
    distances: NDArray[np.float64]


def group(points: NDArray[np.float64], number: int | None, seed: int = 0) -> Groups:
    """:param number: of groups; None: the number whose groups part best (silhouette)."""
    from sklearn.cluster import KMeans

    if len(points) < 2 or number == 1:
        middle = points.mean(axis=0) if len(points) else points
        return Groups(np.zeros(len(points), np.int64), np.linalg.norm(points - middle, axis=1))
    wanted = number or _chosen(points, seed)
    fitted = KMeans(min(wanted, len(points)), n_init=5, random_state=seed).fit(points)
    order = np.argsort(-np.bincount(fitted.labels_), kind="stable")
    renumbered = np.empty_like(order)
    renumbered[order] = np.arange(len(order))
    distances = np.linalg.norm(points - fitted.cluster_centers_[fitted.labels_], axis=1)
    return Groups(renumbered[fitted.labels_], distances)


def _chosen(points: NDArray[np.float64], seed: int) -> int:
    from sklearn.cluster import KMeans
    from sklearn.metrics import silhouette_score

    rows = points
    if len(rows) > _JUDGED:
        rows = rows[np.random.default_rng(seed).choice(len(rows), _JUDGED, replace=False)]
    best, found = -1.0, 2
    for number in range(2, min(_MOST_TRIED, len(rows) - 1) + 1):
        labels = KMeans(number, n_init=2, random_state=seed).fit_predict(rows)
        if len(set(labels)) < 2:
            break
        score = float(silhouette_score(rows, labels))
        if score > best:
            best, found = score, number
    return found
