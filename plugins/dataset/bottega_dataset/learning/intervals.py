"""What happens when, in sounds and videos: each moment judged by what is heard or seen around it.

A forest of trees gives the probabilities of a moment's class; they are smoothed over time, and moments in a row of the
same class are an interval. Shorter ones than were labeled are left out, gaps shorter than any between labeled ones are
closed.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float32]
"""A row a moment, a fixed step apart."""
_LEARNED = 40_000
"""About so many moments are learned from; of more a random choice."""
_TREES = 60
_LEAST = 0.5
_SHORTEST = 0.6
"""An interval shorter than this part of the shortest labeled ones is noise."""
_NOTHING = -1


@dataclass(frozen=True, slots=True)
class Interval:
    """From `start` to `end` in seconds; `what` is its class, whatever the caller tells classes by."""

    start: float
    end: float
    what: Hashable
    confidence: float = 1.0


class Spotter:
    """Learns from sequences of rows, `step_s` seconds apart, and the intervals in each."""

    def __init__(
        self, sequences: Sequence[Rows], known: Sequence[Sequence[Interval]], step_s: float, seed: int
    ) -> None:
        from sklearn.ensemble import RandomForestClassifier

        self._step_s = step_s
        self._classes = sorted({one.what for some in known for one in some}, key=str)
        rng = np.random.default_rng(seed)
        share = min(1.0, _LEARNED / max(1, sum(map(len, sequences))))
        rows, said = [], []
        for one, some in zip(sequences, known, strict=True):
            chosen = np.flatnonzero(rng.random(len(one)) <= share)
            rows.append(around(one)[chosen])
            said.append(self._said(len(one), some)[chosen])
        self._model = RandomForestClassifier(
            _TREES, min_samples_leaf=3, max_features="sqrt", class_weight="balanced_subsample", random_state=seed
        ).fit(np.vstack(rows), np.concatenate(said))
        lengths = [one.end - one.start for some in known for one in some]
        self._shortest = _SHORTEST * float(np.quantile(lengths, 0.05)) if lengths else 0.0
        gaps = [
            after.start - before.end
            for some in known
            for before, after in _in_a_row(sorted(some, key=lambda one: one.start))
        ]
        self._gap = _SHORTEST * min(gaps) if gaps else self._shortest

    def find(self, rows: Rows) -> tuple[list[Interval], float]:
        """The intervals of a sequence, in order, and how uncertain its most uncertain tenth is (0 to 1).

        Where an interval begins and ends is never certain, so moments there say nothing of the sequence.
        """
        from scipy.ndimage import maximum_filter1d, minimum_filter1d, uniform_filter1d

        if not len(rows):
            return [], 0.0
        found = np.zeros((len(rows), 1 + len(self._classes)))
        found[:, np.asarray(self._model.classes_, int) + 1] = self._model.predict_proba(around(rows))
        width = int(np.clip(round(self._shortest / self._step_s), 1, 15))
        found = uniform_filter1d(found, width, axis=0, mode="nearest")
        best = found.argmax(axis=1)
        two = np.sort(found, axis=1)[:, -2:] if found.shape[1] > 1 else np.stack([0 * best, 1 + 0 * best], axis=1)
        reach = 2 * (width // 2) + 3
        inside = maximum_filter1d(best, reach) == minimum_filter1d(best, reach)
        doubts = np.sort((1 - (two[:, 1] - two[:, 0]))[inside])
        doubt = float(doubts[-max(1, len(doubts) // 10) :].mean()) if len(doubts) else 1.0
        return self._intervals(self._closed(best), found), float(np.clip(doubt, 0, 1))

    def _said(self, length: int, some: Sequence[Interval]) -> NDArray[np.int64]:
        said = np.full(length, _NOTHING)
        for one in some:
            first, last = round(one.start / self._step_s), round(one.end / self._step_s)
            said[first : max(last, first + 1)] = self._classes.index(one.what)
        return said

    def _closed(self, best: Any) -> Any:
        """Gaps between two intervals of one class that are shorter than any that was labeled belong to both."""
        runs = _runs(best)
        closed = best.copy()
        for (_, _, before), (start, end, here), (_, _, after) in zip(runs, runs[1:], runs[2:], strict=False):
            if here == 0 and before == after and (end - start) * self._step_s < self._gap:
                closed[start:end] = before
        return closed

    def _intervals(self, best: Any, found: Any) -> list[Interval]:
        said = []
        for start, end, here in _runs(best):
            sure = float(found[start:end, here].mean())
            begin, finish = start * self._step_s, end * self._step_s
            if here and finish - begin >= self._shortest and sure >= _LEAST:
                said.append(Interval(begin, finish, self._classes[here - 1], round(sure, 4)))
        return said


def around(rows: Rows) -> Rows:
    """Each row beside the means of the rows before it and behind it, and how far it is from the sequence's middle."""
    from scipy.ndimage import uniform_filter1d

    if not len(rows):
        return np.zeros((0, 4 * rows.shape[1]), np.float32)
    near = uniform_filter1d(rows, 5, axis=0, mode="nearest")
    wide = uniform_filter1d(rows, 21, axis=0, mode="nearest")
    return np.hstack([rows, near, wide, rows - np.median(rows, axis=0)]).astype(np.float32)


def measured(
    sequences: Sequence[Rows], known: Sequence[Sequence[Interval]], step_s: float, seed: int, folds: int = 2
) -> float | None:
    """F1 of intervals in sequences it had not seen (right class, half of their joint time in common)."""
    if len(sequences) < 2 * folds:
        return None
    order = np.random.default_rng(seed).permutation(len(sequences))
    right = said = there = 0
    for fold in range(folds):
        held_out = set(order[fold::folds].tolist())
        learned = [n for n in range(len(sequences)) if n not in held_out]
        if not any(known[n] for n in learned):
            return None
        spotter = Spotter([sequences[n] for n in learned], [known[n] for n in learned], step_s, seed)
        for n in held_out:
            found = spotter.find(sequences[n])[0]
            right += sum(any(one.what == true.what and common(one, true) >= 0.5 for true in known[n]) for one in found)
            said, there = said + len(found), there + len(known[n])
    return min(1.0, 2 * right / (said + there)) if said + there else None


def common(one: Interval, other: Interval) -> float:
    """Their common time by their joint time."""
    both = max(0.0, min(one.end, other.end) - max(one.start, other.start))
    return both / max(one.end - one.start + other.end - other.start - both, 1e-9)


def _in_a_row(some: Sequence[Interval]) -> list[tuple[Interval, Interval]]:
    return [(a, b) for a, b in itertools.pairwise(some) if a.what == b.what and b.start > a.end]


def _runs(best: Any) -> list[tuple[int, int, int]]:
    """Start, end and value of each run of equal values."""
    edges = np.flatnonzero(np.diff(best)) + 1
    starts, ends = np.concatenate([[0], edges]), np.concatenate([edges, [len(best)]])
    return [(int(s), int(e), int(best[s])) for s, e in zip(starts, ends, strict=True)]
