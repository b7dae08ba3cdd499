"""What the dataset plugin lets others bring: types of datasets, and importers of formats.

A third party's plugin implements these hooks as any other; what it returns is offered by the API at once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from bottega.hookspecs import hookspec
from bottega.objects import ObjectPath, ObjectStore
from bottega_dataset.sample import Annotation, Chunk, SampleRecord


class DatasetType(Protocol):
    """A kind of samples and what may be said about them.

    `code` is the API's ``dataset_type``, `sample_type` its ``sample_type`` (0 image, 1 text, 2 audio, …).
    `annotation_type` is the ``type`` of its annotations in manifests, without ``modelarts/``.
    """

    @property
    def code(self) -> int: ...

    @property
    def name(self) -> str: ...

    @property
    def sample_type(self) -> int: ...

    @property
    def annotation_type(self) -> str: ...

    @property
    def tags(self) -> Sequence[str]: ...

    def check_source(self, record: SampleRecord) -> None:
        """Raises BadSample when the sample is not of a kind this type holds."""
        ...

    def check_annotations(self, annotations: Sequence[Annotation]) -> None:
        """Raises BadSample, naming annotation and rule, when this cannot be said about one sample."""
        ...


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """What to import. `label_format` is the API's object of that name."""

    path: ObjectPath
    dataset_type: DatasetType
    store: ObjectStore
    label_format: Mapping[str, Any]


def check(kind: DatasetType, record: SampleRecord) -> SampleRecord:
    """The record itself. Raises BadSample when it does not fit the type."""
    kind.check_source(record)
    kind.check_annotations(record.annotations)
    return record


class Importer(Protocol):
    """Reads one format. `dataset_types` are the codes it can fill, None for every type.

    `import_type` is what a request names it by; ``dir`` and ``manifest`` are the vendor's.
    """

    @property
    def import_type(self) -> str: ...

    @property
    def dataset_types(self) -> frozenset[int] | None: ...

    def read(self, request: ImportRequest, cursor: Mapping[str, Any]) -> AsyncIterator[Chunk]:
        """Yield what there is, in chunks of about a thousand, in constant memory.

        :param cursor: empty at first, else that of the last chunk that was kept: go on behind it.

        Raises an ApiError when the whole cannot be imported.
        """
        ...


@hookspec
def bottega_dataset_types() -> Iterable[DatasetType]:
    """Return types of datasets."""


@hookspec
def bottega_dataset_importers() -> Iterable[Importer]:
    """Return importers."""
