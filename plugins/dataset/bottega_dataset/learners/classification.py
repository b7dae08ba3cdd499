"""What the learners of classifications share: one of several labels for a whole sample, by a light classifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from bottega_dataset.learner import Answers, Lesson
from bottega_dataset.sample import Annotation

ACTIVE_LEARNING = "modelarts/active-learning"
"""Who annotated, in the words of the documents (002 §2.3.2)."""


def missing_library(*modules: str) -> str:
    """Which of the modules a learner needs are not installed; empty when all are."""
    lacking = [name for name in modules if find_spec(name) is None]
    return f"{', '.join(lacking)} is not installed (pip install 'bottega[labeling]')" if lacking else ""


class Classification:
    """A learner needs `id`, `dataset_types`, `open` and `features` besides."""

    minimum_labels = 2
    minimum_samples = 5

    def missing(self) -> str:
        return missing_library("sklearn")

    def figures(self, opened: Any, said: Sequence[Annotation]) -> Mapping[str, float]:
        return {}

    def suggest(self, lesson: Lesson) -> Answers:
        from bottega_dataset.learning.classifier import learn
        from bottega_dataset.learning.order import uncertainty

        names = [[one.name for one in some] for some in lesson.annotations]
        found = learn(
            lesson.labeled_features, names, lesson.unlabeled_features, accurate=lesson.accurate, seed=lesson.seed
        )
        suggestions = [
            [
                Annotation(lesson.annotation_type, name, annotated_by=ACTIVE_LEARNING, confidence=round(confidence, 4))
                for name, confidence in some
            ]
            for some in found.suggested()
        ]
        return Answers(suggestions, uncertainty(found.probabilities).tolist(), found.accuracy, found.method)
