"""Videos: intervals of them, and single frames with what is on these (REST type 600)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from bottega.hookspecs import hookimpl
from bottega_dataset.extension_points import AnnotationKind, DatasetType
from bottega_dataset.sample import SampleRecord
from bottega_dataset.types.geometry import FEATURE, SHAPE, Number, check_shape
from bottega_dataset.types.image import image_size
from bottega_dataset.types.times import Interval, check_interval, seconds

VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm")
TIME_IN_VIDEO, TRACK = "@modelarts:time_in_video", "@modelarts:track"
INTERVAL, FRAME = "video_interval", "video_frame"


class FrameProperty(BaseModel):
    """A moment in seconds from the start, and where in that frame: nothing for the whole frame, or a shape as in
    object detection. Annotations of one `track` show the same thing in several frames."""

    model_config = ConfigDict(extra="allow")
    time_in_video: Annotated[Number, Field(alias=TIME_IN_VIDEO, ge=0)]
    shape: Literal["bndbox", "polygon", "circle", "line", "dashed", "point", "polyline"] | None = Field(
        None, alias=SHAPE
    )
    feature: list[list[Number]] | None = Field(None, alias=FEATURE)
    track: str | None = Field(None, alias=TRACK)

    @model_validator(mode="after")
    def _together(self) -> FrameProperty:
        if (self.shape is None) != (self.feature is None):
            raise ValueError(f"{SHAPE} and {FEATURE} go together")
        return self


class Video(DatasetType):
    """Labels on intervals of a video and on its frames."""

    code = 600
    name = "video"
    sample_type = 6
    tags = ("Video", "Video labeling")
    suffixes = VIDEO_SUFFIXES
    annotations = (
        AnnotationKind(INTERVAL, 600, schema=Interval),
        AnnotationKind(FRAME, 601, schema=FrameProperty),
    )
    layout = "Every video below the folder is a sample, without labels."

    def check_annotations(self, record: SampleRecord) -> None:
        super().check_annotations(record)
        size = image_size(record)
        for index, one in enumerate(record.annotations):
            where, given = f"annotation[{index}].property", one.property or {}
            if one.type == INTERVAL:
                check_interval(given, where)
            elif given.get(SHAPE) is not None:
                check_shape(given[SHAPE], given[FEATURE], size, where)

    def measures(self, record: SampleRecord) -> Mapping[str, float]:
        """Intervals, how many seconds they take together, and annotations of frames."""
        intervals = [one.property or {} for one in record.annotations if one.type == INTERVAL]
        return {
            "intervals": len(intervals),
            "seconds": sum(seconds(one) for one in intervals),
            "frames": len(record.annotations) - len(intervals),
        }


@hookimpl
def bottega_dataset_types() -> list[DatasetType]:
    return [Video()]
