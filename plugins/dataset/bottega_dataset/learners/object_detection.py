"""Learner of object detection: windows of the sizes of labeled boxes, judged by gradients and colors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bottega.hookspecs import hookimpl
from bottega_dataset.learners.classification import ACTIVE_LEARNING, missing_library
from bottega_dataset.learners.image import ImageLearner
from bottega_dataset.sample import Annotation, SampleRecord

if TYPE_CHECKING:
    from bottega_dataset.learner import Answers, Learner, Lesson
    from bottega_dataset.learning.boxes import Scene

_SHAPE, _FEATURE = "@modelarts:shape", "@modelarts:feature"
_MEASURED = 60
"""So many labeled pictures are enough to measure on; it takes a second learning."""


class ObjectDetectionLearner:
    id = "learner-object-detection"
    dataset_types = frozenset({1})
    minimum_labels = 1
    minimum_samples = 5

    def missing(self) -> str:
        return missing_library("sklearn", "PIL")

    def open(self, record: SampleRecord, data: bytes) -> Scene:
        from bottega_dataset.learning.boxes import scene

        return scene(data, record.source)

    def features(self, opened: Sequence[Scene], backbone: str | None) -> Any:
        return ImageLearner().features([one.whole for one in opened], backbone)

    def figures(self, opened: Scene, said: Sequence[Annotation]) -> Mapping[str, float]:
        """Those of the picture, and of the boxes in it (reasons 11-18)."""
        from bottega_dataset.learning.boxes import figures

        return {**opened.whole.figures(), **figures(opened, [box for _, box in _boxes(said, opened.scale)])}

    def suggest(self, lesson: Lesson) -> Answers:
        from bottega_dataset.learning.boxes import Detector, measured

        known = [_boxes(some, one.scale) for some, one in zip(lesson.annotations, lesson.labeled, strict=True)]
        if not any(known):
            return lesson.nothing("no labeled box to learn from")
        f1 = measured(lesson.labeled[:_MEASURED], known[:_MEASURED], lesson.seed)
        lesson.report(0.2)
        detector = Detector(lesson.labeled, known, lesson.seed)

        def find(one: Scene) -> tuple[list[Annotation], float]:
            objects, doubt = detector.find(one)
            return [_annotation(o, one.scale, lesson.annotation_type) for o in objects], doubt

        return lesson.answers(find, f1, "windows of the sizes of labeled boxes; F1 of boxes", begun=0.4)


def _boxes(said: Sequence[Annotation], scale: float) -> list[tuple[str, list[float]]]:
    """Labels and boxes (what is drawn otherwise: around it), in a scene's own pixels; points and lines are left out."""
    found = []
    for one in said:
        shape, feature = (one.property or {}).get(_SHAPE), (one.property or {}).get(_FEATURE)
        if shape == "circle" and feature:
            (x, y), (radius, *_) = feature[0], feature[1]
            corners = [x - radius, y - radius, x + radius, y + radius]
        elif shape in ("bndbox", "polygon") and feature:
            xs, ys = zip(*feature, strict=True)
            corners = [min(xs), min(ys), max(xs), max(ys)]
        else:
            continue
        box = [float(value) / scale for value in corners]
        if box[2] - box[0] >= 2 and box[3] - box[1] >= 2:
            found.append((one.name, box))
    return found


def _annotation(one: Any, scale: float, kind: str) -> Annotation:
    left, top, right, bottom = (round(value * scale) for value in one.box)
    drawn = {_SHAPE: "bndbox", _FEATURE: [[left, top], [max(right, left + 1), max(bottom, top + 1)]]}
    return Annotation(kind, one.label, drawn, annotated_by=ACTIVE_LEARNING, confidence=one.confidence)


@hookimpl
def bottega_dataset_learners() -> Iterable[Learner]:
    return [ObjectDetectionLearner()]
