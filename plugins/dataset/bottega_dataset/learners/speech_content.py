"""Learner of speech content: what the labeled sound that is nearest says, where the same things are said again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bottega.hookspecs import hookimpl
from bottega_dataset.learners.classification import ACTIVE_LEARNING, missing_library
from bottega_dataset.sample import Annotation, SampleRecord
from bottega_dataset.types.audio import CONTENT

if TYPE_CHECKING:
    from bottega_dataset.learner import Answers, Learner, Lesson


@dataclass(frozen=True, slots=True)
class Heard:
    """`sequence` the sound by moments, brought to one length; `whole` its row."""

    sequence: Any
    whole: Any


class SpeechContentLearner:
    id = "learner-speech-content"
    dataset_types = frozenset({201})
    minimum_labels = 0
    """What is said bears no label."""
    minimum_samples = 5

    def missing(self) -> str:
        return missing_library("sklearn", "scipy")

    def open(self, record: SampleRecord, data: bytes) -> Heard:
        from bottega_dataset.learning import sounds, transcripts

        heard = sounds.resampled(*sounds.samples(data, record.source))
        return Heard(transcripts.sequence(sounds.moments(heard)), sounds.summed_up(heard))

    def features(self, opened: Sequence[Heard], backbone: str | None) -> Any:
        import numpy as np

        return np.stack([one.whole for one in opened])

    def figures(self, opened: Heard, said: Sequence[Annotation]) -> Mapping[str, float]:
        return {}

    def suggest(self, lesson: Lesson) -> Answers:
        import numpy as np

        from bottega_dataset.learning.transcripts import Listener

        texts = [str((some[0].property or {}).get(CONTENT, "")).strip() for some in lesson.annotations]
        listener = Listener(np.stack([one.sequence for one in lesson.labeled]), texts, lesson.seed)
        if not listener.closed:
            why = "none: no two labeled sounds that say the same were found to be alike, and words are not known here"
            return lesson.nothing(why, listener.accuracy)
        lesson.report(0.3)

        def find(one: Heard) -> tuple[list[Annotation], float]:
            heard = listener.hear(one.sequence)
            return [_annotation(heard, lesson.annotation_type)] if heard.text else [], 1.0 - heard.confidence

        method = "nearest labeled sound by time warping; nothing where none is near; right of all held out"
        return lesson.answers(find, listener.accuracy, method, begun=0.3)


def _annotation(heard: Any, kind: str) -> Annotation:
    return Annotation(kind, property={CONTENT: heard.text}, annotated_by=ACTIVE_LEARNING, confidence=heard.confidence)


@hookimpl
def bottega_dataset_learners() -> Iterable[Learner]:
    return [SpeechContentLearner()]
