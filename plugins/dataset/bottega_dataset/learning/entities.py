"""Named entities from few labeled texts: each word judged by what it looks like and what stands around it.

A word is the beginning of an entity, inside one, or none (BIO); a logistic regression gives the probabilities, and the
likeliest sequence in which no inside stands without a beginning is taken (Viterbi).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# A word, or one sign; each Chinese or Japanese character by itself, for no spaces part their words.
_TOKEN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+|[^\w\s]")
_OUT = "O"


@dataclass(frozen=True, slots=True)
class Entity:
    """Characters `start` up to, not including, `end`."""

    start: int
    end: int
    label: str
    confidence: float = 1.0


def tokens(text: str) -> list[tuple[int, int]]:
    return [match.span() for match in _TOKEN.finditer(text)]


class Tagger:
    """Learns from texts with their entities; `find` says where entities are in others."""

    def __init__(self, texts: Sequence[str], entities: Sequence[Sequence[Entity]], seed: int = 0) -> None:
        from sklearn.feature_extraction import DictVectorizer
        from sklearn.linear_model import LogisticRegression

        self._vectorizer = DictVectorizer()
        rows: list[list[str]] = []
        tags: list[str] = []
        for text, some in zip(texts, entities, strict=True):
            places = tokens(text)
            said = _tags(places, some)
            rows += _rows(text, places)
            tags += said
        self._model = LogisticRegression(C=10, max_iter=300, random_state=seed)
        self._model.fit(self._vectorizer.fit_transform([dict.fromkeys(row, 1) for row in rows]), tags)
        self._tags = [str(tag) for tag in self._model.classes_]
        self._allowed = np.array([[_follows(after, before) for after in self._tags] for before in self._tags])

    def find(self, text: str) -> tuple[list[Entity], float]:
        """The entities of a text, and how uncertain the least certain word is (0 to 1)."""
        places = tokens(text)
        if not places:
            return [], 0.0
        rows = [dict.fromkeys(row, 1) for row in _rows(text, places)]
        probabilities = self._model.predict_proba(self._vectorizer.transform(rows))
        best = _likeliest(np.log(probabilities + 1e-9), self._allowed, [tag[:2] != "I-" for tag in self._tags])
        found: list[Entity] = []
        certain: list[float] = []
        for (start, end), tag, row in zip(places, best, probabilities, strict=True):
            name, sure = self._tags[tag], float(row[tag])
            if name.startswith("B-"):
                found.append(Entity(start, end, name[2:]))
                certain.append(sure)
            elif name.startswith("I-"):
                found[-1] = Entity(found[-1].start, end, name[2:])
                certain[-1] *= sure
        said = [Entity(e.start, e.end, e.label, round(c, 4)) for e, c in zip(found, certain, strict=True)]
        return said, 1.0 - float(probabilities.max(axis=1).min())


def measured(texts: Sequence[str], entities: Sequence[Sequence[Entity]], seed: int, folds: int = 3) -> float | None:
    """F1 of entities in texts it had not seen: right label, right start, right end. None for fewer texts than folds."""
    if len(texts) < folds:
        return None
    order = np.random.default_rng(seed).permutation(len(texts))
    right = said = there = 0
    for fold in range(folds):
        held_out = set(order[fold::folds].tolist())
        known = [n for n in range(len(texts)) if n not in held_out]
        if not any(entities[n] for n in known):
            continue
        tagger = Tagger([texts[n] for n in known], [entities[n] for n in known], seed)
        for n in held_out:
            found = {(e.start, e.end, e.label) for e in tagger.find(texts[n])[0]}
            truth = {(e.start, e.end, e.label) for e in entities[n]}
            right, said, there = right + len(found & truth), said + len(found), there + len(truth)
    return 2 * right / (said + there) if said + there else None


def _tags(places: Sequence[tuple[int, int]], entities: Sequence[Entity]) -> list[str]:
    tags = [_OUT] * len(places)
    for entity in entities:
        inside = [n for n, (start, end) in enumerate(places) if start < entity.end and end > entity.start]
        for number, n in enumerate(inside):
            tags[n] = f"{'I' if number else 'B'}-{entity.label}"
    return tags


def _rows(text: str, places: Sequence[tuple[int, int]]) -> list[list[str]]:
    words = [text[start:end] for start, end in places]
    rows = []
    for n, word in enumerate(words):
        row = [f"shape={_shape(word)}", f"at={min(n, 3)}"]
        for step in (-2, -1, 0, 1, 2):
            other = words[n + step] if 0 <= n + step < len(words) else "<>"
            row.append(f"{step}:{other.lower()}")
            if step:
                row.append(f"{step}:shape={_shape(other)}")
        low = word.lower()
        row += [f"begins={low[:k]}" for k in (1, 2, 3)] + [f"ends={low[-k:]}" for k in (1, 2, 3, 4)]
        rows.append(row)
    return rows


def _shape(word: str) -> str:
    """``Berlin`` is Xx, ``1961`` is 9, ``GmbH`` XxX."""
    signs = ["X" if c.isupper() else "x" if c.isalpha() else "9" if c.isdigit() else c for c in word]
    return "".join(sign for n, sign in enumerate(signs) if n == 0 or sign != signs[n - 1])[:6]


def _follows(after: str, before: str) -> bool:
    return not after.startswith("I-") or before[2:] == after[2:]


def _likeliest(logs: NDArray[np.float64], allowed: NDArray[np.bool_], begins: Sequence[bool]) -> list[int]:
    barred = np.where(allowed, 0.0, -1e9)
    score: Any = logs[0] + np.where(begins, 0.0, -1e9)
    back = np.zeros(logs.shape, int)
    for n in range(1, len(logs)):
        paths = score[:, None] + barred
        back[n] = paths.argmax(axis=0)
        score = paths.max(axis=0) + logs[n]
    best = [int(score.argmax())]
    for n in range(len(logs) - 1, 0, -1):
        best.append(int(back[n, best[-1]]))
    return best[::-1]
