"""Anything at all: objects of every name, about which anything may be said (REST type 900)."""

from __future__ import annotations

from bottega.hookspecs import hookimpl
from bottega_dataset.extension_points import AnnotationKind, DatasetType


class FreeFormat(DatasetType):
    """Annotations with a label, a property, or both, in whatever form."""

    code = 900
    name = "free_format"
    sample_type = 9
    tags = ("Free format",)
    texts = True
    annotations = (AnnotationKind("free_format", 900, label=None),)
    layout = "Every object below the folder is a sample, without labels."


@hookimpl
def bottega_dataset_types() -> list[DatasetType]:
    return [FreeFormat()]
