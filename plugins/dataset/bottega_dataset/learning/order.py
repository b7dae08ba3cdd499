"""In which order labeling by hand teaches most: what is uncertain, and unlike what is known or chosen already."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_DIMENSIONS = 48
_WEIGHED = 20_000
"""Unlabeled samples that are compared with each other, the most uncertain ones; beyond, time grows and little else."""


def compact(features: Any, seed: int = 0) -> NDArray[np.float64]:
    """The features in few dimensions, where distances are quick: `features` is an array or a sparse matrix."""
    from scipy.sparse import issparse
    from sklearn.decomposition import PCA, TruncatedSVD

    rows, columns = features.shape
    size = min(_DIMENSIONS, rows - 1, columns - 1)
    if issparse(features):
        found = TruncatedSVD(size, random_state=seed).fit_transform(features) if size >= 1 else features.toarray()
        length = np.linalg.norm(found, axis=1, keepdims=True)
        return np.asarray(found / np.where(length > 1e-9, length, 1))
    deviation = features.std(axis=0)
    scaled = (features - features.mean(axis=0)) / np.where(deviation > 1e-9, deviation, 1)
    return np.asarray(PCA(size, random_state=seed).fit_transform(scaled) if size >= 1 else scaled)


def first(points: NDArray[np.float64], number: int, seed: int = 0) -> list[int]:
    """What to label when nothing is: the sample nearest to the middle of each of `number` groups, big groups first."""
    from sklearn.cluster import KMeans

    number = min(number, len(points))
    fitted = KMeans(number, n_init=3, random_state=seed).fit(points)
    sizes = np.bincount(fitted.labels_, minlength=number)
    distances = np.linalg.norm(points - fitted.cluster_centers_[fitted.labels_], axis=1)
    found = []
    for group in np.argsort(-sizes):
        members = np.flatnonzero(fitted.labels_ == group)
        if len(members):
            found.append(int(members[distances[members].argmin()]))
    return found


def uncertainty(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """0 to 1 a sample: how near the second likeliest label comes to the likeliest."""
    if probabilities.shape[1] < 2:
        return 1 - probabilities[:, 0]
    two = np.sort(probabilities, axis=1)[:, -2:]
    return np.asarray(1 - (two[:, 1] - two[:, 0]))


def best(
    points: NDArray[np.float64],
    uncertain: NDArray[np.float64],
    known: NDArray[np.float64],
    number: int,
) -> list[int]:
    """The `number` samples to label next, the most useful first.

    Each is the one whose uncertainty times its distance to everything labeled or chosen before is largest.

    :param points: of the unlabeled samples, `known` of the labeled ones, both from `compact`.
    """
    number = min(number, len(points))
    candidates = np.argsort(-uncertain, kind="stable")[:_WEIGHED]
    rows = points[candidates]
    distance = _nearest(rows, known)
    weight = uncertain[candidates] + 1e-3
    found: list[int] = []
    for _ in range(min(number, len(candidates))):
        place = int((weight * distance).argmax())
        found.append(int(candidates[place]))
        distance = np.minimum(distance, np.linalg.norm(rows - rows[place], axis=1))
        weight[place] = -1.0
    return found


def _nearest(rows: NDArray[np.float64], known: NDArray[np.float64]) -> NDArray[np.float64]:
    if not len(known):
        return np.ones(len(rows))
    from sklearn.neighbors import NearestNeighbors

    found = NearestNeighbors(n_neighbors=1).fit(known).kneighbors(rows)[0]
    return np.asarray(found[:, 0])
