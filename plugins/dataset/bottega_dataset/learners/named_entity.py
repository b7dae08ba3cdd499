"""Learner of named entities: words judged by their form and their neighbors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from bottega.hookspecs import hookimpl
from bottega_dataset.learners.classification import ACTIVE_LEARNING
from bottega_dataset.learners.text import InText
from bottega_dataset.sample import Annotation

if TYPE_CHECKING:
    from bottega_dataset.learner import Answers, Learner, Lesson

_START, _END = "@modelarts:start_index", "@modelarts:end_index"
_LEAST = 0.3
"""Less certain entities are not suggested."""


class NamedEntityLearner(InText):
    id = "learner-named-entity"
    dataset_types = frozenset({101})
    minimum_labels = 1
    minimum_samples = 5

    def suggest(self, lesson: Lesson) -> Answers:
        from bottega_dataset.learning.entities import Entity, Tagger, measured

        known = [
            [Entity(int(a.property[_START]), int(a.property[_END]), a.name) for a in some if a.property]
            for some in lesson.annotations
        ]
        f1 = measured(lesson.labeled, known, lesson.seed)
        lesson.report(0.5)
        tagger = Tagger(lesson.labeled, known, lesson.seed)

        def find(text: str) -> tuple[list[Annotation], float]:
            found, doubt = tagger.find(text)
            return [_annotation(one, lesson.annotation_type) for one in found if one.confidence >= _LEAST], doubt

        return lesson.answers(find, f1, "words and their neighbors; F1 of whole entities")


def _annotation(one: Any, kind: str) -> Annotation:
    place = {_START: one.start, _END: one.end}
    return Annotation(kind, one.label, place, annotated_by=ACTIVE_LEARNING, confidence=one.confidence)


@hookimpl
def bottega_dataset_learners() -> Iterable[Learner]:
    return [NamedEntityLearner()]
