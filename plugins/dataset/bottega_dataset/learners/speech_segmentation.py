"""Learner of speech segmentation: who or what is heard when, by the cepstrum and loudness of each moment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bottega.hookspecs import hookimpl
from bottega_dataset.learners.classification import ACTIVE_LEARNING, missing_library
from bottega_dataset.sample import Annotation, SampleRecord
from bottega_dataset.types.audio import SOURCE
from bottega_dataset.types.times import END, START, milliseconds, written

if TYPE_CHECKING:
    from bottega_dataset.learner import Answers, Learner, Lesson

_MOST_S = 600
"""Of a longer sound the first ten minutes are heard."""
_MEASURED = 60
"""So many labeled sounds are enough to measure on; it takes a second learning."""


@dataclass(frozen=True, slots=True)
class Heard:
    """`moments` a row each ``sounds.STEP_S`` seconds; `whole` the row of the sound."""

    moments: Any
    whole: Any


class SpeechSegmentationLearner:
    id = "learner-speech-segmentation"
    dataset_types = frozenset({202})
    minimum_labels = 0
    """A stretch need not bear a label; who is heard tells as well."""
    minimum_samples = 5

    def missing(self) -> str:
        return missing_library("sklearn", "scipy")

    def open(self, record: SampleRecord, data: bytes) -> Heard:
        from bottega_dataset.learning import sounds

        heard = sounds.resampled(*sounds.samples(data, record.source, _MOST_S))
        return Heard(sounds.moments(heard), sounds.summed_up(heard))

    def features(self, opened: Sequence[Heard], backbone: str | None) -> Any:
        import numpy as np

        return np.stack([one.whole for one in opened])

    def figures(self, opened: Heard, said: Sequence[Annotation]) -> Mapping[str, float]:
        return {}

    def suggest(self, lesson: Lesson) -> Answers:
        from bottega_dataset.learning.intervals import Spotter, measured
        from bottega_dataset.learning.sounds import STEP_S

        known = [_stretches(some) for some in lesson.annotations]
        heard = [one.moments for one in lesson.labeled]
        f1 = measured(heard[:_MEASURED], known[:_MEASURED], STEP_S, lesson.seed)
        lesson.report(0.3)
        spotter = Spotter(heard, known, STEP_S, lesson.seed)

        def find(one: Heard) -> tuple[list[Annotation], float]:
            found, doubt = spotter.find(one.moments)
            return [_annotation(stretch, lesson.annotation_type) for stretch in found], doubt

        method = "cepstrum and loudness of moments; F1 of stretches; what is said is not written down"
        return lesson.answers(find, f1, method)


def _stretches(said: Sequence[Annotation]) -> list[Any]:
    """The intervals that were labeled; label and source together tell them apart."""
    from bottega_dataset.learning.intervals import Interval

    found = []
    for one in said:
        given = one.property or {}
        if START in given and END in given:
            what = (one.name, str(given.get(SOURCE) or ""))
            found.append(Interval(milliseconds(given[START]) / 1000, milliseconds(given[END]) / 1000, what))
    return found


def _annotation(stretch: Any, kind: str) -> Annotation:
    name, source = stretch.what
    place = {START: written(round(stretch.start * 1000)), END: written(round(stretch.end * 1000))} | (
        {SOURCE: source} if source else {}
    )
    return Annotation(kind, name, place, annotated_by=ACTIVE_LEARNING, confidence=stretch.confidence)


@hookimpl
def bottega_dataset_learners() -> Iterable[Learner]:
    return [SpeechSegmentationLearner()]
