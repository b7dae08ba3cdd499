"""What is said in a sound, where the same few things are said again and again (commands, digits, announcements).

A sound is compared with the labeled ones by dynamic time warping of their cepstra (H. Sakoe and S. Chiba, 1978), and is
said to say what the nearest one says, if it is as near as sounds of one transcript are to each other. It knows no
words: what was not labeled before is never suggested.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LENGTH = 64
"""Moments a sound is brought to, so that the time a comparison takes is bounded."""
_COMPARED = 24
"""Labeled sounds, nearest by their rows, that a sound is warped onto."""
_JUDGED = 400
"""So many labeled sounds are held out to learn how near is near enough."""
_TOLERANCE = 1.15
_LEAST = 0.5
_SILENCE = 0.05
"""Moments at both ends with less than this part of the loudest moments' energy are not speech."""

Sequences = NDArray[np.float64]
"""(n, LENGTH, features)."""


@dataclass(frozen=True, slots=True)
class Near:
    """`text` of the labeled sound that is nearest, its `distance`, and that of the nearest one with another text."""

    text: str
    distance: float
    other: float


@dataclass(frozen=True, slots=True)
class Heard:
    """`text` is empty, and `confidence` 0, where nothing labeled is near enough."""

    text: str
    confidence: float


def sequence(moments: NDArray[np.float32]) -> NDArray[np.float64]:
    """`LENGTH` rows of a sound (``sounds.moments``) without the silence around it, freed of loudness and channel."""
    loud = moments[:, 0].astype(np.float64)
    speech = np.flatnonzero(loud >= loud.max() + np.log(_SILENCE))
    inner = moments[speech[0] : speech[-1] + 1].astype(np.float64)
    inner = (inner - inner.mean(axis=0)) / np.maximum(inner.std(axis=0), 1e-3)
    places = np.linspace(0, len(inner) - 1, LENGTH)
    return np.stack([np.interp(places, np.arange(len(inner)), column) for column in inner.T], axis=1)


class Listener:
    """Learns from sounds (`sequence`) and what is said in each."""

    def __init__(self, sequences: Sequences, texts: Sequence[str], seed: int) -> None:
        self._sequences, self._texts = sequences, np.array(texts, dtype=object)
        self._rows = _row(sequences)
        held_out = np.random.default_rng(seed).permutation(len(texts))[:_JUDGED]
        near = [self._nearest(sequences[n], without=int(n)) for n in held_out]
        judged = [(one, one.text == self._texts[n]) for one, n in zip(near, held_out, strict=True) if one]
        alike = [one.distance for one, right in judged if right]
        self._limit = _TOLERANCE * max(alike, default=0.0)
        self._odds = _odds(judged, seed) if alike else None
        # As in use: what is not near enough, or not likely enough, counts as not found.
        found = [self._judge(one).text == self._texts[n] for one, n in zip(near, held_out, strict=True) if one]
        self.accuracy = sum(found) / len(held_out) if len(held_out) >= 2 else None

    @property
    def closed(self) -> bool:
        """Whether any transcript was heard twice and known again: else nothing can be suggested."""
        return self._odds is not None

    def hear(self, one: NDArray[np.float64]) -> Heard:
        near = self._nearest(one)
        return self._judge(near) if near else Heard("", 0.0)

    def _nearest(self, one: NDArray[np.float64], without: int | None = None) -> Near | None:
        gaps = np.linalg.norm(self._rows - _row(one[None])[0], axis=1)
        if without is not None:
            gaps[without] = np.inf
        chosen = np.argsort(gaps, kind="stable")[: min(_COMPARED, len(gaps) - (without is not None))]
        if not len(chosen):
            return None
        distances = warped(one, self._sequences[chosen])
        best = int(distances.argmin())
        text = str(self._texts[chosen[best]])
        others = distances[self._texts[chosen] != text]
        return Near(text, float(distances[best]), float(others.min(initial=2 * distances.max() + 1e-9)))

    def _judge(self, near: Near) -> Heard:
        if self._odds is None or near.distance > self._limit:
            return Heard("", 0.0)
        sure = float(self._odds(near))
        return Heard(near.text, round(sure, 4)) if sure >= _LEAST else Heard("", 0.0)


def warped(one: NDArray[np.float64], others: Sequences) -> NDArray[np.float64]:
    """The mean distance along the best path that warps `one` onto each of the others, diagonal by diagonal."""
    length = len(one)
    squares = (one**2).sum(1)[None, :, None] + (others**2).sum(2)[:, None, :] - 2 * one @ others.transpose(0, 2, 1)
    costs = np.sqrt(np.maximum(squares, 0))
    flat = costs.reshape(len(others), -1)
    before = np.full((len(others), length + 1), np.inf)
    last = before.copy()
    for diagonal in range(2 * length - 1):
        rows = np.arange(max(0, diagonal - length + 1), min(diagonal, length - 1) + 1)
        here = np.full_like(last, np.inf)
        cost = flat[:, rows * length + diagonal - rows]
        # Column r + 1 of a diagonal is its cell in row r; column 0 lies outside.
        way = np.minimum(np.minimum(last[:, rows], last[:, rows + 1]), before[:, rows])
        here[:, rows + 1] = cost + (way if diagonal else 0.0)
        before, last = last, here
    return np.asarray(last[:, length] / (2 * length - 1))


def _row(sequences: Sequences) -> NDArray[np.float64]:
    """A sequence by eight moments of it, which is enough to leave out most of what is unlike."""
    parts = sequences.reshape(len(sequences), 8, LENGTH // 8, -1).mean(axis=2)
    return np.asarray(parts.reshape(len(sequences), -1))


def _odds(judged: Sequence[tuple[Near, bool]], seed: int) -> Any:
    """The chance that the nearest sound says the same, by how much nearer it is than one that says something else.

    One right and one wrong answer that never were are added, so that few sounds make nobody certain.
    """
    from sklearn.linear_model import LogisticRegression

    def told(near: Near) -> list[float]:
        return [float(np.log(near.other + 1e-9) - np.log(near.distance + 1e-9))]

    rows = [told(one) for one, _ in judged]
    middle = float(np.median([row[0] for row in rows]))
    rows += [[0.0], [middle]]
    said = [*[right for _, right in judged], False, True]
    model = LogisticRegression(random_state=seed).fit(rows, said)
    share = len(judged) / (len(judged) + 2)
    return lambda near: share * float(model.predict_proba([told(near)])[0, 1])
