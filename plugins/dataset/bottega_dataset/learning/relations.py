"""Relations between entities of a text, from few labeled texts: each pair judged by what stands in and around it.

Pairs of entities whose labels some labeled relation joins are looked at; a logistic regression says from the words
between, before and behind them, their order and distance, which relation joins them, or none (after D. Zelenko et al.,
Kernel methods for relation extraction, with plain features).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bottega_dataset.learning.entities import Entity, Tagger, tokens

_FARTHEST = 60
"""Words between two entities that are looked at, at most."""
_MOST_PAIRS = 300
"""Pairs of one text that are judged, the nearest ones."""
_LEAST = 0.5
_NONE = ""


@dataclass(frozen=True, slots=True)
class Relation:
    """`subject` and `other` are places in the list of the text's entities."""

    subject: int
    other: int
    label: str
    confidence: float = 1.0


@dataclass(frozen=True, slots=True)
class Known:
    """What is said of a text."""

    entities: Sequence[Entity]
    relations: Sequence[Relation]


class Relator:
    """Learns from texts with their entities and relations; `find` says which relations join the entities of others."""

    def __init__(self, texts: Sequence[str], known: Sequence[Known], seed: int) -> None:
        from sklearn.feature_extraction import DictVectorizer
        from sklearn.linear_model import LogisticRegression

        # A relation joins what it was seen to join: the label of a relation may allow nothing else.
        self._joined: dict[tuple[str, str], set[str]] = {}
        for some in known:
            for one in some.relations:
                ends = some.entities[one.subject].label, some.entities[one.other].label
                self._joined.setdefault(ends, {_NONE}).add(one.label)
        self._vectorizer = DictVectorizer()
        rows, said = [], []
        for text, some in zip(texts, known, strict=True):
            true = {(one.subject, one.other): one.label for one in some.relations}
            for pair, row in self._pairs(text, some.entities):
                rows.append(row)
                said.append(true.get(pair, _NONE))
        self._labels = sorted(set(said))
        self._model = None
        if len(self._labels) > 1:
            self._model = LogisticRegression(C=10, max_iter=300, random_state=seed)
            self._model.fit(self._vectorizer.fit_transform(rows), said)
            self._labels = [str(one) for one in self._model.classes_]
        # Where every pair that was labeled is joined, nothing tells which are not.
        self._always = len(said) / (len(said) + 1)

    def find(self, text: str, entities: Sequence[Entity]) -> tuple[list[Relation], float]:
        """The relations between entities, and how uncertain the least certain pair is (0 to 1)."""
        pairs = self._pairs(text, entities)
        if not pairs:
            return [], 0.0
        if self._model is None:
            said = [Relation(*pair, self._labels[0], round(self._always, 4)) for pair, _ in pairs if self._labels[0]]
            return said, 1 - self._always
        probabilities = self._model.predict_proba(self._vectorizer.transform([row for _, row in pairs]))
        found = []
        for (pair, _), row in zip(pairs, probabilities, strict=True):
            able = self._joined[entities[pair[0]].label, entities[pair[1]].label]
            best = int(
                np.argmax([chance if label in able else 0.0 for label, chance in zip(self._labels, row, strict=True)])
            )
            if self._labels[best] != _NONE and row[best] >= _LEAST:
                found.append(Relation(*pair, self._labels[best], round(float(row[best]), 4)))
        return found, 1.0 - float(probabilities.max(axis=1).min())

    def _pairs(self, text: str, entities: Sequence[Entity]) -> list[tuple[tuple[int, int], dict[str, float]]]:
        """Pairs that may be joined, and a row for each."""
        places = tokens(text)
        words = [text[start:end].lower() for start, end in places]
        spans = [_span(places, one) for one in entities]
        near = []
        for i, one in enumerate(entities):
            for j, other in enumerate(entities):
                gap = max(spans[i][0], spans[j][0]) - min(spans[i][1], spans[j][1])
                if i != j and (one.label, other.label) in self._joined and gap <= _FARTHEST:
                    near.append((gap, i, j))
        return [((i, j), _row(words, entities, spans, i, j)) for _, i, j in sorted(near)[:_MOST_PAIRS]]


@dataclass(frozen=True, slots=True)
class Found:
    """`confidence` of a relation is that of the relation and of both its entities."""

    entities: list[Entity]
    relations: list[Relation]
    doubt: float


class Reader:
    """Finds entities, then the relations between them."""

    def __init__(self, texts: Sequence[str], known: Sequence[Known], seed: int) -> None:
        self._tagger = Tagger(texts, [some.entities for some in known], seed)
        self._relator = Relator(texts, known, seed)

    def read(self, text: str, least: float) -> Found:
        """:param least: entities that are less certain are left out."""
        tagged, doubt = self._tagger.find(text)
        entities = [one for one in tagged if one.confidence >= least]
        relations, doubt_of_pairs = self._relator.find(text, entities)
        said = [
            Relation(
                one.subject,
                one.other,
                one.label,
                round(one.confidence * entities[one.subject].confidence * entities[one.other].confidence, 4),
            )
            for one in relations
        ]
        return Found(entities, said, max(doubt, doubt_of_pairs))


def measured(texts: Sequence[str], known: Sequence[Known], seed: int, least: float, folds: int = 3) -> float | None:
    """F1 of whole triplets in texts it had not seen: the relation, both entities' labels, and every character of both.

    None for fewer texts than folds.
    """
    if len(texts) < folds:
        return None
    order = np.random.default_rng(seed).permutation(len(texts))
    right = said = there = 0
    for fold in range(folds):
        held_out = set(order[fold::folds].tolist())
        learned = [n for n in range(len(texts)) if n not in held_out]
        if not any(known[n].entities for n in learned):
            continue
        reader = Reader([texts[n] for n in learned], [known[n] for n in learned], seed)
        for n in held_out:
            read = reader.read(texts[n], least)
            found, truth = triplets(read.entities, read.relations), triplets(known[n].entities, known[n].relations)
            right, said, there = right + len(found & truth), said + len(found), there + len(truth)
    return 2 * right / (said + there) if said + there else None


def triplets(entities: Sequence[Entity], relations: Sequence[Relation]) -> set[tuple[object, ...]]:
    """Each relation by its label and what it joins."""

    def place(number: int) -> tuple[int, int, str]:
        return entities[number].start, entities[number].end, entities[number].label

    return {(one.label, place(one.subject), place(one.other)) for one in relations}


def _span(places: Sequence[tuple[int, int]], one: Entity) -> tuple[int, int]:
    """The first word of an entity, and the one behind its last."""
    inside = [n for n, (start, end) in enumerate(places) if start < one.end and end > one.start]
    return (inside[0], inside[-1] + 1) if inside else (len(places), len(places))


def _row(
    words: Sequence[str], entities: Sequence[Entity], spans: Sequence[tuple[int, int]], i: int, j: int
) -> dict[str, float]:
    forward = spans[i][0] <= spans[j][0]
    first, last = (spans[i], spans[j]) if forward else (spans[j], spans[i])
    between = list(words[first[1] : last[0]])
    order = f"{entities[i].label}{'>' if forward else '<'}{entities[j].label}"
    row = {f"types={order}": 1.0, f"far={min(len(between), 12) // 3}": 1.0}
    row |= {f"between={word}": 1.0 for word in between} | {f"{order}:{word}": 1.0 for word in between}
    row |= {f"pair={a} {b}": 1.0 for a, b in itertools.pairwise(between)}
    row[f"first={between[0] if between else '<>'}"] = 1.0
    row[f"last={between[-1] if between else '<>'}"] = 1.0
    row[f"before={words[first[0] - 1] if first[0] > 0 else '<>'}"] = 1.0
    row[f"behind={words[last[1]] if last[1] < len(words) else '<>'}"] = 1.0
    others = sum(first[1] <= start < last[0] for start, _ in spans)
    row[f"others={min(others, 3)}"] = 1.0
    return row
