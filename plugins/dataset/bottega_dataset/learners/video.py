"""Learner of videos: intervals, by the colors, texture and motion of each moment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bottega.hookspecs import hookimpl
from bottega_dataset.learners.classification import ACTIVE_LEARNING, missing_library
from bottega_dataset.sample import Annotation, SampleRecord
from bottega_dataset.types.times import END, START, milliseconds, written
from bottega_dataset.types.video import INTERVAL

if TYPE_CHECKING:
    from bottega_dataset.learner import Answers, Learner, Lesson
    from bottega_dataset.learning.videos import Clip

_MEASURED = 40
"""So many labeled videos are enough to measure on; it takes a second learning."""


class VideoLearner:
    id = "learner-video"
    dataset_types = frozenset({600})
    minimum_labels = 1
    minimum_samples = 3
    """Fewer than of other types: a video holds many moments, with the label and without."""

    def missing(self) -> str:
        return missing_library("sklearn", "scipy", "cv2")

    def open(self, record: SampleRecord, data: bytes) -> Clip:
        from bottega_dataset.learning import videos

        return videos.opened(data, record.source)

    def features(self, opened: Sequence[Clip], backbone: str | None) -> Any:
        import numpy as np

        return np.stack([one.row() for one in opened])

    def figures(self, opened: Clip, said: Sequence[Annotation]) -> Mapping[str, float]:
        """Those of the frame in the middle."""
        return opened.middle.figures()

    def suggest(self, lesson: Lesson) -> Answers:
        from bottega_dataset.learning.intervals import Spotter, measured
        from bottega_dataset.learning.videos import STEP_S

        known = [_intervals(some) for some in lesson.annotations]
        # Of a video where only frames are labeled nobody said that nothing happens in it.
        able = [n for n, some in enumerate(known) if some]
        if not able:
            return lesson.nothing("no labeled interval to learn from: frames are not learned")
        seen, intervals = [lesson.labeled[n].moments for n in able], [known[n] for n in able]
        f1 = measured(seen[:_MEASURED], intervals[:_MEASURED], STEP_S, lesson.seed)
        lesson.report(0.3)
        spotter = Spotter(seen, intervals, STEP_S, lesson.seed)

        def find(one: Clip) -> tuple[list[Annotation], float]:
            found, doubt = spotter.find(one.moments)
            return [_annotation(interval) for interval in found], doubt

        return lesson.answers(find, f1, "colors, texture and motion of moments; F1 of intervals")


def _intervals(said: Sequence[Annotation]) -> list[Any]:
    from bottega_dataset.learning.intervals import Interval

    return [
        Interval(milliseconds(one.property[START]) / 1000, milliseconds(one.property[END]) / 1000, one.name)
        for one in said
        if one.type == INTERVAL and one.property
    ]


def _annotation(interval: Any) -> Annotation:
    place = {START: written(round(interval.start * 1000)), END: written(round(interval.end * 1000))}
    return Annotation(INTERVAL, str(interval.what), place, annotated_by=ACTIVE_LEARNING, confidence=interval.confidence)


@hookimpl
def bottega_dataset_learners() -> Iterable[Learner]:
    return [VideoLearner()]
