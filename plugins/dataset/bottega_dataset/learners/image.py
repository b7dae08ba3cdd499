"""Learner of image classification: gradients, gray values and colors (or the operator's own backbone)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bottega.hookspecs import hookimpl
from bottega_dataset.learners.classification import Classification, missing_library
from bottega_dataset.sample import Annotation, SampleRecord

if TYPE_CHECKING:
    from bottega_dataset.learner import Learner
    from bottega_dataset.learning.images import Picture


class ImageLearner(Classification):
    id = "learner-image"
    dataset_types = frozenset({0})

    def missing(self) -> str:
        return missing_library("sklearn", "PIL")

    def open(self, record: SampleRecord, data: bytes) -> Picture:
        from bottega_dataset.learning.images import opened

        return opened(data, record.source)

    def features(self, opened: Sequence[Picture], backbone: str | None) -> Any:
        from bottega_dataset.learning import images

        if backbone:
            from bottega_dataset.learning.backbone import Backbone

            return Backbone(backbone).features([one.pixels for one in opened])
        return images.features(opened)

    def figures(self, opened: Picture, said: Sequence[Annotation]) -> Mapping[str, float]:
        return opened.figures()


@hookimpl
def bottega_dataset_learners() -> Iterable[Learner]:
    return [ImageLearner()]
