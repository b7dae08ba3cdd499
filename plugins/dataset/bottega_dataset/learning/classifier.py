"""Light classifiers for few labels, with confidences that mean what they say.

Which one is used is decided by cross-validation on the labeled samples; its scores become probabilities by a
temperature that fits the samples it had not seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
_FOLDS = 5
_MOST_COMPARED = 3000
"""Labeled samples beyond this number add nothing to the choice between classifiers, only time."""
_NEIGHBORS = 10
_MOST_SPREAD = 20_000
_THRESHOLD = 0.5


@dataclass(frozen=True)
class Learned:
    """Probabilities (a row a sample, a column a label; rows add up to 1 unless `several` labels fit one sample).

    `accuracy` is what cross-validation measured on the labeled samples, None where they are too few to tell.
    """

    labels: Sequence[str]
    probabilities: Matrix
    several: bool
    accuracy: float | None
    method: str

    def suggested(self) -> list[list[tuple[str, float]]]:
        """The labels of each sample with their confidences: the likeliest one, or all above one half."""
        found = []
        for row in self.probabilities:
            order = np.argsort(-row)
            chosen = [i for i in order if row[i] >= _THRESHOLD] if self.several else []
            found.append([(self.labels[i], float(row[i])) for i in chosen or order[:1]])
        return found


def learn(
    features: Any,
    names: Sequence[Sequence[str]],
    unlabeled: Any,
    *,
    accurate: bool = True,
    seed: int = 0,
) -> Learned:
    """What the unlabeled samples are.

    :param features: a row a labeled sample; an array or a sparse matrix.
    :param names: the labels of each labeled sample, at least one.
    :param accurate: learn from the unlabeled samples' features as well (semi-supervised).
    """
    labels = sorted({name for some in names for name in some})
    if any(len(some) > 1 for some in names):
        return _several(features, names, unlabeled, labels, seed)
    index = {label: number for number, label in enumerate(labels)}
    y = np.array([index[some[0]] for some in names])
    if len(labels) == 1:
        return Learned(labels, np.ones((unlabeled.shape[0], 1)), False, None, "one label")
    return _one(features, y, unlabeled, labels, accurate, seed)


def _one(x: Any, y: NDArray[Any], unlabeled: Any, labels: list[str], accurate: bool, seed: int) -> Learned:
    compared = _sample(y, _MOST_COMPARED, seed)
    found = _folds(y[compared], seed)
    candidates = _candidates(x, seed)
    if found is None:
        name, make = candidates[0]
        return Learned(labels, _softmax(_scores(make().fit(x, y), unlabeled, len(labels))), False, None, name)
    able, folds = found
    scored = []
    for name, make in candidates:
        held_out = _out_of_fold(make, x[compared], y[compared], len(labels), folds)
        temperature = _temperature(held_out[able], y[compared][able])
        scored.append((_loss(held_out[able], y[compared][able], temperature), name, make, held_out, temperature))
    _, name, make, held_out, temperature = min(scored, key=lambda one: one[0])
    known = _softmax(held_out / temperature)
    accuracy = float((known.argmax(1) == y[compared])[able].mean())
    probabilities = _softmax(_scores(make().fit(x, y), unlabeled, len(labels)) / temperature)
    if accurate:
        spread = _Spread(x, y, unlabeled, len(labels), seed)
        weight, sharpness, better = spread.weight(known, compared, able, folds)
        if weight:
            probabilities = _softmax(
                np.log((1 - weight) * probabilities + weight * spread.of_unlabeled() + 1e-9) / sharpness
            )
            name, accuracy = f"{name} and neighbors", better
    return Learned(labels, probabilities, False, accuracy, name)


def _several(x: Any, names: Sequence[Sequence[str]], unlabeled: Any, labels: list[str], seed: int) -> Learned:
    """A yes or no for each label by itself."""
    probabilities = np.zeros((unlabeled.shape[0], len(labels)))
    hits = []
    for number, label in enumerate(labels):
        y = np.array([int(label in some) for some in names])
        if y.all():
            probabilities[:, number] = 1
            continue
        one = _one(x, y, unlabeled, ["no", "yes"], False, seed)
        probabilities[:, number] = one.probabilities[:, 1]
        if one.accuracy is not None:
            hits.append(one.accuracy)
    return Learned(labels, probabilities, True, float(np.mean(hits)) if hits else None, "one classifier a label")


def _candidates(x: Any, seed: int) -> list[tuple[str, Any]]:
    from scipy.sparse import issparse
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC, LinearSVC

    if issparse(x):
        return [
            ("logistic regression", lambda: LogisticRegression(C=30, max_iter=500, random_state=seed)),
            ("linear support vectors", lambda: LinearSVC(C=1, random_state=seed)),
        ]
    return [
        (
            "logistic regression",
            lambda: make_pipeline(StandardScaler(), LogisticRegression(C=1, max_iter=500, random_state=seed)),
        ),
        ("support vectors", lambda: make_pipeline(StandardScaler(), SVC(C=10, random_state=seed))),
    ]


def _folds(y: NDArray[Any], seed: int) -> tuple[NDArray[Any], list[tuple[NDArray[Any], NDArray[Any]]]] | None:
    """The rows that can be held out, and folds: training rows and held-out ones; None where none can be.

    The only sample of a label is in every fold's training rows and never held out.
    """
    import warnings

    from sklearn.model_selection import StratifiedKFold

    counts = np.bincount(y)
    able = np.flatnonzero(counts[y] >= 2)
    if not len(able):
        return None
    alone = np.flatnonzero(counts[y] < 2)
    split = StratifiedKFold(min(_FOLDS, int(counts.max())), shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of labels with fewer samples than folds
        folds = [(np.concatenate([able[train], alone]), able[out]) for train, out in split.split(able, y[able])]
    return able, folds


def _out_of_fold(make: Any, x: Any, y: NDArray[Any], labels: int, folds: Any) -> Matrix:
    scores = np.zeros((len(y), labels))
    for train, held_out in folds:
        scores[held_out] = _scores(make().fit(x[train], y[train]), x[held_out], labels)
    return scores


def _scores(model: Any, x: Any, labels: int) -> Matrix:
    """A score a label; softmax of them over a temperature is the probability."""
    found = np.asarray(model.decision_function(x), np.float64)
    if found.ndim == 1:
        found = np.stack([-found, found], axis=1) / 2
    scores = np.full((x.shape[0], labels), found.min() - 10.0 if found.size else 0.0)
    scores[:, np.asarray(model.classes_, int)] = found
    return scores


def _temperature(scores: Matrix, y: NDArray[Any]) -> float:
    tried = np.geomspace(0.02, 20, 40)
    return float(tried[np.argmin([_loss(scores, y, t) for t in tried])])


def _loss(scores: Matrix, y: NDArray[Any], temperature: float) -> float:
    return _cross_entropy(_softmax(scores / temperature), y)


def _cross_entropy(probabilities: Matrix, y: NDArray[Any]) -> float:
    """With one more sample that was judged wrongly: without a mistake among ten samples nothing is certain yet."""
    logs = np.log(probabilities + 1e-9)
    wrong = 1 / (len(y) + 1)
    right = logs[np.arange(len(y)), y].mean()
    others = (logs.sum(axis=1) - logs[np.arange(len(y)), y]).mean() / max(1, logs.shape[1] - 1)
    return float(-(1 - wrong) * right - wrong * others)


def _softmax(scores: Matrix) -> Matrix:
    raised = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def _sample(y: NDArray[Any], most: int, seed: int) -> NDArray[Any]:
    """Rows to compare on: all, or a random choice."""
    if len(y) <= most:
        return np.arange(len(y))
    return np.sort(np.random.default_rng(seed).choice(len(y), most, replace=False))


class _Spread:
    """Labels carried along a graph of nearest neighbors, through labeled and unlabeled samples alike.

    (Zhou et al., Learning with Local and Global Consistency: F = a·S·F + (1 - a)·Y.)
    """

    def __init__(self, x: Any, y: NDArray[Any], unlabeled: Any, labels: int, seed: int) -> None:
        from scipy.sparse import diags, issparse, vstack
        from sklearn.neighbors import kneighbors_graph

        self._y, self._labels = y, labels
        rng = np.random.default_rng(seed)
        self._places = np.arange(unlabeled.shape[0])
        if len(self._places) > _MOST_SPREAD:
            self._places = np.sort(rng.choice(len(self._places), _MOST_SPREAD, replace=False))
        self._all = unlabeled.shape[0]
        rows = unlabeled[self._places]
        every = vstack([x, rows]).tocsr() if issparse(x) else _scaled(np.vstack([x, rows]))
        neighbors = min(_NEIGHBORS, every.shape[0] - 1)
        metric = "cosine" if issparse(x) else "euclidean"
        graph = kneighbors_graph(every, neighbors, mode="connectivity", metric=metric)
        graph = graph.maximum(graph.T)
        degree = diags(1 / np.sqrt(np.maximum(np.asarray(graph.sum(axis=1)).ravel(), 1)))
        self._graph = (degree @ graph @ degree).tocsr()

    def of_unlabeled(self) -> Matrix:
        found = np.full((self._all, self._labels), 1 / self._labels)
        found[self._places] = self._carried(np.arange(len(self._y)))[len(self._y) :]
        return found

    def weight(self, known: Matrix, rows: NDArray[Any], able: NDArray[Any], folds: Any) -> tuple[float, float, float]:
        """How much to trust the neighbors beside the classifier, 0 for not at all; by which temperature both together
        become probabilities that hold; and their accuracy.

        :param known: the classifier's probabilities for the labeled samples `rows`, of each fold held out.
        :param able: which of these were held out by some fold.
        """
        spread = np.zeros_like(known)
        for train, held_out in folds:
            spread[held_out] = self._carried(rows[train])[rows[held_out]]
        y = self._y[rows][able]
        blends = {w: np.log(((1 - w) * known + w * spread)[able] + 1e-9) for w in (0.0, 0.25, 0.5, 0.75)}
        sharpness = {w: _temperature(blend, y) for w, blend in blends.items()}
        best = min(blends, key=lambda w: _loss(blends[w], y, sharpness[w]))
        return best, sharpness[best], float((blends[best].argmax(1) == y).mean())

    def _carried(self, known: NDArray[Any], share: float = 0.9, times: int = 30) -> Matrix:
        start = np.zeros((self._graph.shape[0], self._labels))
        start[known, self._y[known]] = 1
        start /= np.maximum(start.sum(axis=0, keepdims=True), 1)
        found = start
        for _ in range(times):
            found = share * (self._graph @ found) + (1 - share) * start
        total = found.sum(axis=1, keepdims=True)
        even = np.full_like(found, 1 / self._labels)
        return np.where(total > 0, found / np.maximum(total, 1e-300), even)


def _scaled(x: Matrix) -> Matrix:
    deviation = x.std(axis=0)
    return np.asarray((x - x.mean(axis=0)) / np.where(deviation > 1e-9, deviation, 1))
