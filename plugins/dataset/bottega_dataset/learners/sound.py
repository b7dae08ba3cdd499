"""Learner of sound classification: how energy lies over the mel bands, its cepstrum, and how both change in time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bottega.hookspecs import hookimpl
from bottega_dataset.learners.classification import Classification, missing_library
from bottega_dataset.sample import Annotation, SampleRecord

if TYPE_CHECKING:
    from bottega_dataset.learner import Learner


class SoundLearner(Classification):
    id = "learner-sound"
    dataset_types = frozenset({200})

    def missing(self) -> str:
        return missing_library("sklearn", "scipy")

    def open(self, record: SampleRecord, data: bytes) -> Any:
        from bottega_dataset.learning import sounds

        return sounds.row(data, record.source)

    def features(self, opened: Sequence[Any], backbone: str | None) -> Any:
        import numpy as np

        return np.stack(opened)

    def figures(self, opened: Any, said: Sequence[Annotation]) -> Mapping[str, float]:
        return {}


@hookimpl
def bottega_dataset_learners() -> Iterable[Learner]:
    return [SoundLearner()]
