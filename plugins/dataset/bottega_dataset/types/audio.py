"""Sounds: classified, written down, divided into stretches (002 §2.1; REST types 200, 201, 202)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from pydantic import BaseModel, ConfigDict, Field

from bottega.hookspecs import hookimpl
from bottega_dataset.extension_points import AnnotationKind, DatasetType
from bottega_dataset.sample import BadSample, SampleRecord
from bottega_dataset.types.classification import Classification
from bottega_dataset.types.times import Interval, check_interval, seconds

SOUND_SUFFIXES = (".wav",)
CONTENT, SOURCE = "@modelarts:content", "@modelarts:source"


class SpeechProperty(BaseModel):
    """What is said."""

    model_config = ConfigDict(extra="allow")
    content: str = Field(alias=CONTENT, min_length=1)


class StretchProperty(Interval):
    """What is said in a stretch, and by whom or what (002 table 2-8)."""

    source: str | None = Field(None, alias=SOURCE)
    content: str | None = Field(None, alias=CONTENT)


class SoundClassification(Classification):
    code = 200
    name = "audio_classification"
    sample_type = 2
    tags = ("Audio", "Sound classification")
    suffixes = SOUND_SUFFIXES
    annotations = (AnnotationKind("audio_classification", 200),)
    folder_labels = True
    layout = "The folder a sound lies in is its label (Cat/10.wav); sounds beside those folders are unlabeled."


class SpeechContent(DatasetType):
    """What is said in a sound, as one text."""

    code = 201
    name = "audio_content"
    sample_type = 2
    tags = ("Audio", "Speech content")
    suffixes = SOUND_SUFFIXES
    annotations = (AnnotationKind("audio_content", 201, label=False, schema=SpeechProperty),)
    companion = ".txt"
    layout = "Beside each sound (a.wav) lies what is said in it (a.txt); a sound without one is unlabeled."

    def check_annotations(self, record: SampleRecord) -> None:
        super().check_annotations(record)
        if len(record.annotations) > 1:
            raise BadSample("annotation[1]: what is said in a sound is one text; there must be one annotation")

    def measures(self, record: SampleRecord) -> Mapping[str, float]:
        """Characters and words of what is said."""
        said = "".join((one.property or {})[CONTENT] for one in record.annotations)
        return {"characters": len(said), "words": len(said.split())}

    def expanded(self, record: SampleRecord, files: Mapping[str, bytes]) -> SampleRecord:
        annotations = []
        for one in record.annotations:
            if one.loc is not None:
                try:
                    text = files[one.loc].decode("utf-8-sig").strip()
                except UnicodeDecodeError as e:
                    raise BadSample(f"{one.loc} is not UTF-8: {e}") from e
                one = replace(one, property={**(one.property or {}), CONTENT: text}, loc=None)
            annotations.append(one)
        return replace(record, annotations=annotations)


class SpeechSegmentation(DatasetType):
    """Stretches of a sound, each with what is said, who says it, or a label."""

    code = 202
    name = "audio_segmentation"
    sample_type = 2
    tags = ("Audio", "Speech segmentation")
    suffixes = SOUND_SUFFIXES
    annotations = (AnnotationKind("audio_segmentation", 202, label=None, schema=StretchProperty),)
    layout = "Every .wav file below the folder is a sample, without labels."

    def check_annotations(self, record: SampleRecord) -> None:
        super().check_annotations(record)
        for index, one in enumerate(record.annotations):
            check_interval(one.property or {}, f"annotation[{index}].property")

    def measures(self, record: SampleRecord) -> Mapping[str, float]:
        """Stretches, and how many seconds of the sound they take together."""
        return {
            "stretches": len(record.annotations),
            "seconds": sum(seconds(one.property or {}) for one in record.annotations),
        }


@hookimpl
def bottega_dataset_types() -> list[DatasetType]:
    return [SoundClassification(), SpeechContent(), SpeechSegmentation()]
