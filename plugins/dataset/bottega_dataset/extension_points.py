"""What the dataset plugin lets others bring: types of datasets, importers and exporters of formats.

A third party's plugin implements these hooks as any other; what it returns is offered by the API at once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import BaseModel, ValidationError

from bottega.hookspecs import hookspec
from bottega.objects import ObjectPath, ObjectStore
from bottega_dataset.label_names import LABEL_NAME, LABEL_RULE
from bottega_dataset.learner import Learner
from bottega_dataset.sample import CONTENT, EVERYTHING, Annotation, BadSample, Choice, Chunk, SampleRecord

Schema = type[BaseModel]
Refusal = Callable[[ObjectPath], Awaitable[str | None]]
"""Why a path must not be read by the one who asked, None when it may."""

if TYPE_CHECKING:
    from bottega_dataset.export_folder import ExportFolder
    from bottega_dataset.processing.processors import Processor


@dataclass(frozen=True, slots=True)
class AnnotationKind:
    """One kind of annotation: `type` is its ``type`` in manifests, without ``modelarts/``, `code` the API's label type.

    `label` says whether it bears a label: it must (True), may (None), must not (False). `schema` is the model of its
    ``property``; without one anything may stand there.
    """

    type: str
    code: int
    label: bool | None = True
    schema: Schema | None = None


class DatasetType:
    """A kind of samples and what may be said about them. Subclasses give the attributes and override what differs.

    `code` is the API's ``dataset_type``, `sample_type` its ``sample_type`` (0 image, 1 text, 2 audio, 4 table,
    6 video, 9 free). `suffixes` are what the names of its objects end with, in lower case (none: any name);
    `texts` says whether a sample may be a text carried in its source. The first of `annotations` is the type's own.
    In a folder, the directory an object lies in is its label with `folder_labels`; with a `companion` (``.xml``) the
    file of that ending beside it has its annotations, which `expanded` reads. `layout` says so to people.
    `labels_alone` says that annotations without property are judged by their types and names, each once, whatever the
    sample: then what was found good of one sample is not asked again of the next.
    """

    code: int
    name: str
    sample_type: int
    tags: Sequence[str]
    suffixes: tuple[str, ...] = ()
    texts: bool = False
    annotations: Sequence[AnnotationKind]
    folder_labels: bool = False
    companion: str = ""
    layout: str = ""
    labels_alone: bool = False

    @cached_property
    def annotation_type(self) -> str:
        return self.annotations[0].type

    @cached_property
    def kinds(self) -> Mapping[str, AnnotationKind]:
        return {kind.type: kind for kind in self.annotations}

    def label_type(self, annotation_type: str) -> int:
        """The API's type of the labels such annotations bear."""
        return self.kinds[annotation_type].code

    def annotation_of(self, label_type: int | None) -> str:
        """The annotations the API means by a label type; None stands for the type's own.

        Raises BadSample for one that does not occur here.
        """
        if label_type is None:
            return self.annotation_type
        for kind in self.annotations:
            if kind.code == label_type:
                return kind.type
        offered = ", ".join(f"{kind.code} ({kind.type})" for kind in self.annotations)
        raise BadSample(f"type {label_type} does not occur in {self.name} datasets; there is {offered}")

    def check_label(self, annotation_type: str, properties: Mapping[str, Any]) -> None:
        """Raises BadSample when a label of such annotations must not be made by hand with these properties."""
        if self.kinds[annotation_type].label is False:
            raise BadSample(f"{self.name} datasets have no labels")

    def check_source(self, record: SampleRecord) -> None:
        """Raises BadSample when the sample is not of a kind this type holds."""
        source = record.source
        if source.startswith(CONTENT):
            if not self.texts:
                raise BadSample(f"source is a text; a {self.name} dataset holds objects ({self._named})")
        elif self.suffixes and source.startswith("s3://") and not source[-8:].lower().endswith(self.suffixes):
            raise BadSample(f"source '{source}' does not end with {self._named}, as {self.name} datasets hold")

    def check_annotations(self, record: SampleRecord) -> None:
        """Raises BadSample, naming annotation, field and rule, when this cannot be said about the sample."""
        for index, one in enumerate(record.annotations):
            self.check_annotation(one, f"annotation[{index}]")

    def check_annotation(self, one: Annotation, where: str) -> None:
        """What holds for an annotation by itself: its kind, its label, its property. Raises BadSample."""
        kind = self.kinds.get(one.type)
        if kind is None:
            offered = "' or '".join(self.kinds)
            raise BadSample(f"{where}.type is '{one.type}'; this dataset takes '{offered}'")
        if one.name:
            if kind.label is False:
                raise BadSample(f"{where}.name is '{one.name}'; a {one.type} bears no label")
            if not LABEL_NAME.fullmatch(one.name):
                raise BadSample(f"{where}.name '{one.name}' breaks the rule: {LABEL_RULE}")
        elif kind.label:
            raise BadSample(f"{where}.name is missing; {LABEL_RULE}")
        if kind.schema is not None:
            try:
                kind.schema.model_validate(one.property or {})
            except ValidationError as e:
                raise BadSample(f"{where}.property{_reason(e)}") from None
        if one.loc is not None:
            raise BadSample(f"{where}.annotation-loc is not read in {self.name} datasets")

    def check_labels(self, record: SampleRecord, properties: Mapping[tuple[int, str], Mapping[str, Any]]) -> None:
        """Raises BadSample when annotations do not go with the properties of their labels, by label type and name.

        Asked when people label, and of what is imported with the properties labels had before the import.
        """

    @cached_property
    def has_label_rules(self) -> bool:
        """Whether annotations must go with the properties of their labels."""
        return type(self).check_labels is not DatasetType.check_labels

    def label_properties(self, record: SampleRecord) -> Iterable[tuple[str, str, Mapping[str, Any]]]:
        """What a sample tells of the properties of its labels: annotation type, label, properties.

        Asked after an import of labels that `check_label` would refuse to make by hand: what all samples agree about is
        theirs then.
        """
        return ()

    def measures(self, record: SampleRecord) -> Mapping[str, float]:
        """Numbers that describe a labeled sample, by names of the type's own, such as how many boxes it has.

        The statistics of a dataset show how they are spread over its newest labeled samples.
        """
        return {}

    @cached_property
    def has_measures(self) -> bool:
        """Whether samples of this type are measured."""
        return type(self).measures is not DatasetType.measures

    def expanded(self, record: SampleRecord, files: Mapping[str, bytes]) -> SampleRecord:
        """The record with what its annotation files (`Annotation.loc`) say in their place, as a dataset keeps it.

        Raises BadSample, naming the file, when one cannot be read.
        """
        raise BadSample(f"annotation-loc is not read in {self.name} datasets")

    def published(self, record: SampleRecord, folder: ObjectPath) -> tuple[SampleRecord, Mapping[ObjectPath, bytes]]:
        """The record as a version's manifest has it, and the files to write beside it: what `expanded` takes back.

        The same record and folder give the same bytes for ever.
        """
        return record, {}

    @cached_property
    def has_files(self) -> bool:
        """Whether annotations may lie in files of their own."""
        return type(self).expanded is not DatasetType.expanded

    @property
    def _named(self) -> str:
        return ", ".join(self.suffixes) or "of any name"


def _reason(error: ValidationError) -> str:
    """Where in a property, and what is wrong there."""
    first = error.errors(include_url=False)[0]
    place = "".join(f"[{part!r}]" for part in first["loc"])
    return f"{place}: {first['msg'].removeprefix('Value error, ')}"


async def _anything(path: ObjectPath) -> str | None:
    return None


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """What to import. `label_format` is the API's object of that name, `schema` has the columns of a table.

    `refusal` says why a path must not be read by the one who asked, None when it may: an importer asks before it
    follows a path it found in a file. The sources of samples are checked for it. An importer
    need not mind the `choice`: what it yields as records is chosen from afterwards. `target` is the dataset's input
    folder, where it has one: an importer with `stores_objects` puts there what its files hold.
    """

    path: ObjectPath
    dataset_type: DatasetType
    store: ObjectStore
    label_format: Mapping[str, Any]
    refusal: Refusal = _anything
    choice: Choice = EVERYTHING
    schema: Sequence[Mapping[str, Any]] = ()
    target: ObjectPath | None = None


def check(kind: DatasetType, record: SampleRecord) -> SampleRecord:
    """The record itself. Raises BadSample when it does not fit the type."""
    kind.check_source(record)
    if record.annotations:
        kind.check_annotations(record)
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


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """What to export, and where to.

    `samples` come in the order they were added, some hundred at a time; read each batch before asking for the next.
    `labels` are the names of the dataset's labels in the order they were made. `options` are the request's
    ``with_column_header``, ``export_images`` and ``layout`` (``tree`` or ``tile``).
    """

    name: str
    dataset_type: DatasetType
    labels: Sequence[str]
    samples: AsyncIterator[Sequence[SampleRecord]]
    folder: ExportFolder
    options: Mapping[str, Any]


class Exporter(Protocol):
    """Writes one format. `dataset_types` are the codes it can carry, None for every type.

    `export_format` is what a request names it by. Read and written by the same name, a format gives the same samples.
    """

    @property
    def export_format(self) -> str: ...

    @property
    def dataset_types(self) -> frozenset[int] | None: ...

    async def write(self, request: ExportRequest) -> None:
        """Write all samples into the request's folder, in constant memory.

        What the format cannot carry is told to the folder (`leave_out`, `note`), never dropped in silence.
        """
        ...


@hookspec
def bottega_dataset_types() -> Iterable[DatasetType]:
    """Return types of datasets."""


@hookspec
def bottega_dataset_learners() -> Iterable[Learner]:
    """Return learners for automatic labeling."""


@hookspec
def bottega_dataset_importers() -> Iterable[Importer]:
    """Return importers."""


@hookspec
def bottega_dataset_exporters() -> Iterable[Exporter]:
    """Return exporters."""


@hookspec
def bottega_dataset_processors() -> Iterable[Processor]:
    """Return operators of processing tasks (`bottega_dataset.processing.processors.Processor`)."""
