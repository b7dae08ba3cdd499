"""Learner of image segmentation: pixels judged by color, gradient and texture around them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bottega.hookspecs import hookimpl
from bottega_dataset.learners.classification import ACTIVE_LEARNING, missing_library
from bottega_dataset.learners.image import ImageLearner
from bottega_dataset.sample import Annotation, SampleRecord
from bottega_dataset.types.geometry import FEATURE, MASK, SHAPE

if TYPE_CHECKING:
    from bottega_dataset.learner import Answers, Learner, Lesson
    from bottega_dataset.learning.areas import Area
    from bottega_dataset.learning.boxes import Scene

_MEASURED = 40
"""So many labeled pictures are enough to measure on; it takes a second learning."""


class ImageSegmentationLearner:
    id = "learner-image-segmentation"
    dataset_types = frozenset({3})
    minimum_labels = 1
    minimum_samples = 5

    def missing(self) -> str:
        return missing_library("sklearn", "scipy", "PIL", "contourpy")

    def open(self, record: SampleRecord, data: bytes) -> Scene:
        from bottega_dataset.learning.boxes import scene

        return scene(data, record.source)

    def features(self, opened: Sequence[Scene], backbone: str | None) -> Any:
        return ImageLearner().features([one.whole for one in opened], backbone)

    def figures(self, opened: Scene, said: Sequence[Annotation]) -> Mapping[str, float]:
        """Those of the picture, and of boxes around the areas in it (reasons 11-18)."""
        from bottega_dataset.learning.boxes import figures

        return {**opened.whole.figures(), **figures(opened, [_box(mask) for _, mask in _areas(said, opened)])}

    def suggest(self, lesson: Lesson) -> Answers:
        from bottega_dataset.learning.areas import Painter, measured

        known = [_areas(some, one) for some, one in zip(lesson.annotations, lesson.labeled, strict=True)]
        # A picture of which an area lies in a file of its own would teach that nothing is there.
        able = [n for n, some in enumerate(known) if some and not any(map(_in_file, lesson.annotations[n]))]
        if not able:
            return lesson.nothing("no labeled area to learn from: masks in files are not read")
        scenes, areas = [lesson.labeled[n] for n in able], [known[n] for n in able]
        accuracy = measured(scenes[:_MEASURED], areas[:_MEASURED], lesson.seed)
        lesson.report(0.2)
        painter = Painter(scenes, areas, lesson.seed)
        polygons = all(SHAPE in (a.property or {}) for n in able for a in lesson.annotations[n])

        def find(one: Scene) -> tuple[list[Annotation], float]:
            found, doubt = painter.find(one)
            return [_annotation(area, one, lesson.annotation_type, polygons) for area in found], doubt

        return lesson.answers(find, accuracy, "pixels by color and texture; common by joint area", begun=0.4)


def _in_file(one: Annotation) -> bool:
    given = one.property or {}
    return isinstance(given.get(MASK), str) and SHAPE not in given


def _areas(said: Sequence[Annotation], scene: Scene) -> list[tuple[str, Any]]:
    """Labels and areas in a scene's own pixels; masks in files, and areas too small to be seen, are left out."""
    from bottega_dataset.learning.areas import of_polygon, of_run_lengths

    found = []
    for one in said:
        given = one.property or {}
        if isinstance(given.get(MASK), dict):
            mask = of_run_lengths(given[MASK], scene)
        elif given.get(SHAPE) == "polygon":
            mask = of_polygon(given[FEATURE], scene)
        else:
            continue
        if mask.any():
            found.append((one.name, mask))
    return found


def _box(mask: Any) -> list[float]:
    import numpy as np

    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return [float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)]


def _annotation(area: Area, scene: Scene, kind: str, polygon: bool) -> Annotation:
    from bottega_dataset.learning.areas import as_polygon, as_run_lengths

    drawn: dict[str, Any] = (
        {SHAPE: "polygon", FEATURE: as_polygon(area.mask, scene)}
        if polygon
        else {MASK: as_run_lengths(area.mask, scene)}
    )
    return Annotation(kind, area.label, drawn, annotated_by=ACTIVE_LEARNING, confidence=area.confidence)


@hookimpl
def bottega_dataset_learners() -> Iterable[Learner]:
    return [ImageSegmentationLearner()]
