"""The types of datasets that come with the plugin: image classification and text classification (002 §2.1)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from bottega.errors import Invalid
from bottega_dataset.sample import Annotation, BadSample, SampleRecord

LABEL_NAME = re.compile(r"[A-Za-z0-9_-]{1,32}")
LABEL_RULE = "a label has 1-32 letters, digits, '_' or '-'"
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")


class _Classification:
    """Any number of labels on a whole sample, each once."""

    annotation_type: str

    def check_annotations(self, annotations: Sequence[Annotation]) -> None:
        names = set()
        for index, one in enumerate(annotations):
            if one.type != self.annotation_type:
                raise BadSample(
                    f"annotation[{index}].type is '{one.type}'; this dataset takes '{self.annotation_type}'"
                )
            if not LABEL_NAME.fullmatch(one.name):
                raise BadSample(f"annotation[{index}].name '{one.name}' breaks the rule: {LABEL_RULE}")
            if one.name in names:
                raise BadSample(f"annotation[{index}] puts label '{one.name}' on the sample a second time")
            names.add(one.name)


class ImageClassification(_Classification):
    code = 0
    name = "image_classification"
    sample_type = 0
    annotation_type = "image_classification"
    tags = ("Image", "Image classification")

    def check_source(self, record: SampleRecord) -> None:
        if record.is_text:
            raise BadSample("source is a text; this dataset holds images")


class TextClassification(_Classification):
    code = 100
    name = "text_classification"
    sample_type = 1
    annotation_type = "text_classification"
    tags = ("Text", "Text classification")

    def check_source(self, record: SampleRecord) -> None:
        if not record.is_text and not record.source.lower().endswith((".txt", ".csv")):
            raise BadSample("source must be content://text or a .txt object; this dataset holds texts")


def check_label_name(name: str) -> str:
    """Raises Invalid with the rule (002 §2.2, table 2-1)."""
    if not LABEL_NAME.fullmatch(name):
        raise Invalid(f"label '{name}': {LABEL_RULE}")
    return name
