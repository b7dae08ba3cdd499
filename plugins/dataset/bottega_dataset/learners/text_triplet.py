"""Learner of text triplets: entities as named entities are found, and relations by what stands between them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from bottega.hookspecs import hookimpl
from bottega_dataset.learners.classification import ACTIVE_LEARNING
from bottega_dataset.learners.text import InText
from bottega_dataset.sample import FROM, TO, Annotation
from bottega_dataset.types.text import END, ENTITY, START, TRIPLET

if TYPE_CHECKING:
    from bottega_dataset.learner import Answers, Learner, Lesson
    from bottega_dataset.learning.relations import Found, Known

_LEAST = 0.3
"""Less certain entities are not suggested."""


class TextTripletLearner(InText):
    id = "learner-text-triplet"
    dataset_types = frozenset({102})
    minimum_labels = 2
    """A label of entities and one of relations."""
    minimum_samples = 5

    def suggest(self, lesson: Lesson) -> Answers:
        from bottega_dataset.learning.relations import Reader, measured

        known = [_known(some) for some in lesson.annotations]
        if not any(some.entities for some in known):
            return lesson.nothing("no labeled entity to learn from")
        f1 = measured(lesson.labeled, known, lesson.seed, _LEAST)
        lesson.report(0.5)
        reader = Reader(lesson.labeled, known, lesson.seed)

        def find(text: str) -> tuple[list[Annotation], float]:
            found = reader.read(text, _LEAST)
            return _annotations(found), found.doubt

        return lesson.answers(find, f1, "words, and what stands between entities; F1 of whole triplets")


def _known(said: Sequence[Annotation]) -> Known:
    from bottega_dataset.learning.entities import Entity
    from bottega_dataset.learning.relations import Known, Relation

    entities: list[Entity] = []
    places: dict[str | None, int] = {}
    for one in said:
        if one.type == ENTITY and one.property:
            places[one.id] = len(entities)
            entities.append(Entity(int(one.property[START]), int(one.property[END]), one.name))
    relations = [
        Relation(places[one.property[FROM]], places[one.property[TO]], one.name)
        for one in said
        if one.type == TRIPLET and one.property and {one.property[FROM], one.property[TO]} <= places.keys()
    ]
    return Known(entities, relations)


def _annotations(found: Found) -> list[Annotation]:
    said = [
        Annotation(
            ENTITY,
            one.label,
            {START: one.start, END: one.end},
            annotated_by=ACTIVE_LEARNING,
            confidence=one.confidence,
            id=f"E{number}",
        )
        for number, one in enumerate(found.entities, 1)
    ]
    said += [
        Annotation(
            TRIPLET,
            one.label,
            {FROM: f"E{one.subject + 1}", TO: f"E{one.other + 1}"},
            annotated_by=ACTIVE_LEARNING,
            confidence=one.confidence,
            id=f"R{number}",
        )
        for number, one in enumerate(found.relations, 1)
    ]
    return said


@hookimpl
def bottega_dataset_learners() -> Iterable[Learner]:
    return [TextTripletLearner()]
