"""Bodies of requests, in the vendor's shapes (its public REST reference, data management)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from bottega_dataset.import_rows import BROKEN, WHOLE

_USAGES = "^(TRAIN|EVAL|TEST|INFERENCE|)$"
_LABEL_FORMAT_SEPARATORS = r"^[A-Za-z0-9!@#$%^&*_=|?/':.;,\t ]$"


class Body(BaseModel):
    """Clients of the vendor send more fields than are used here; a wrong type of one that is used is refused."""

    model_config = ConfigDict(populate_by_name=True, defer_build=True)


class SchemaMap(Body):
    """A column's name in the files, and in the dataset."""

    src_name: str
    dest_name: str


class DataSource(Body):
    """`with_column_header` and `schema_maps` are for tables."""

    data_path: str | None = None
    data_type: int = 0
    with_column_header: bool = False
    schema_maps: list[SchemaMap] = Field(default_factory=list)


class Column(Body):
    """A column of a table; `type` is STRING, BOOLEAN, a whole (INT, LONG, …) or a broken number (DOUBLE, …)."""

    schema_id: int | None = None
    name: str = Field(min_length=1, max_length=256)
    type: str = Field("STRING", pattern="^(?i:STRING|DATE|TIMESTAMP|BOOLEAN|" + "|".join((*WHOLE, *BROKEN)) + ")$")
    description: str = ""


class LabelFormat(Body):
    """How texts and labels are stored: ``"0"`` in files of their own (``_result``), ``"1"`` in one line."""

    label_type: str | None = Field(None, pattern="^[01]$")
    text_label_separator: str | None = Field(None, pattern=_LABEL_FORMAT_SEPARATORS)
    text_sample_separator: str | None = Field(None, pattern=_LABEL_FORMAT_SEPARATORS)


class LabelBody(Body):
    name: str
    type: int | None = None
    property: dict[str, Any] = Field(default_factory=dict)
    attributes: list[dict[str, Any]] | None = Field(None, max_length=100)


class NewDataset(Body):
    """`watch` (the vendor lacks it): what is written to the input path, or deleted there, enters and leaves at once."""

    dataset_name: str
    dataset_type: int = 0
    description: str = ""
    data_sources: list[DataSource] = Field(default_factory=list, max_length=1)
    work_path: str
    work_path_type: int = Field(0, ge=0, le=0)
    labels: list[LabelBody] = Field(default_factory=list, max_length=10_000)
    label_format: LabelFormat = Field(default_factory=LabelFormat)
    import_annotations: bool = True
    import_data: bool = False
    columns: list[Column] = Field(default_factory=list, alias="schema", max_length=10_000)
    workspace_id: str | None = None
    data_format: str = Field("Default", pattern="^(Default|CarbonData)$")
    managed: bool = False
    watch: bool = False

    @property
    def options(self) -> dict[str, Any]:
        """What is kept to be shown again."""
        return {
            "data_format": self.data_format,
            "import_annotations": self.import_annotations,
            "import_data": self.import_data,
            "managed": self.managed,
            "data_source": self.data_sources[0].model_dump(exclude_none=True) if self.data_sources else None,
            "schema": [one.model_dump() for one in self.columns],
        }


class DatasetChange(Body):
    dataset_name: str | None = None
    description: str | None = None
    current_version_id: str | None = None
    watch: bool | None = None
    add_labels: list[LabelBody] = Field(default_factory=list)
    update_labels: list[LabelBody] = Field(default_factory=list)
    delete_labels: list[LabelBody] = Field(default_factory=list)


class LabelList(Body):
    labels: list[LabelBody] = Field(min_length=1, max_length=10_000)


class SampleLabelBody(Body):
    """`score` is the confidence; ``@modelarts:hard`` in `property` says whether the label is a hard example.

    `type` is the label type, where a dataset has several; `id` is what other labels of the sample refer to it by.
    """

    name: str = ""
    id: str | None = Field(None, min_length=1, max_length=64)
    type: int | None = None
    property: dict[str, Any] = Field(default_factory=dict)
    score: float | None = Field(None, ge=0, le=1)
    annotated_by: str | None = Field(None, max_length=64)


class SampleLabelsBody(Body):
    sample_id: str = Field(pattern="^[0-9a-f]{32}$")
    labels: list[SampleLabelBody] | None = Field(default_factory=list)
    metadata: dict[str, Any] | None = None
    sample_usage: str | None = Field(None, pattern=_USAGES)
    revision: int | None = Field(None, ge=0)


class SampleLabelsList(Body):
    """`partial`: samples that were changed since their `revision` fail alone instead of refusing the whole."""

    samples: list[SampleLabelsBody] = Field(min_length=1, max_length=10_000)
    partial: bool = False


class NewSample(Body):
    """A file by its bytes (`data`, base64), or an object in storage by its path."""

    name: str = Field("", max_length=1024)
    data: str | None = None
    data_source: DataSource | None = None
    encoding: str = "UTF-8"
    labels: list[SampleLabelBody] = Field(default_factory=list)
    metadata: dict[str, Any] | None = None
    sample_type: int | None = None


class NewSamples(Body):
    """`final_annotation` false: the labels wait to be confirmed."""

    samples: list[NewSample] = Field(min_length=1, max_length=1000)
    final_annotation: bool = True
    label_format: LabelFormat = Field(default_factory=LabelFormat)


class SampleChoice(Body):
    """Samples by id, or all that fit one of `search_conditions` (and the state)."""

    samples: list[str] = Field(default_factory=list, max_length=10_000)
    sample_state: str | None = None
    search_conditions: list[dict[str, Any]] | None = None
    filter_id: str | None = None


class SampleDeletion(SampleChoice):
    delete_source: bool = False


class FilterBody(Body):
    """A filter with a name; all of its conditions must hold."""

    name: str = Field(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f]+$")
    sample_state: str | None = None
    search_conditions: list[dict[str, Any]] = Field(default_factory=list, max_length=100)


class OldJob(Body):
    """A labeling job of the old data management: where its images lie, and the manifest of what was said of them."""

    name: str
    type: Literal[0, 1] = 0
    sources: list[str] = Field(min_length=1, max_length=100)
    manifest_path: str | None = None
    work_path: str
    description: str = ""
    workspace_id: str | None = None


class Migration(Body):
    jobs: list[OldJob] = Field(min_length=1, max_length=100)


class BatchUpdate(SampleChoice):
    labels: list[SampleLabelBody] | None = None
    add_labels: list[SampleLabelBody] = Field(default_factory=list, max_length=100)
    remove_labels: list[LabelBody] = Field(default_factory=list, max_length=1000)
    sample_usage: str | None = Field(None, pattern=_USAGES)
    metadata: dict[str, Any] | None = None


class UndoBody(Body):
    revision: int | None = Field(None, ge=0)
    partial: bool = False


class NewImport(Body):
    """`on_error`: whether the import goes on behind what breaks a rule, or ends there.

    `import_samples` false: only labels of samples that are there. `final_annotation` false: they wait to be confirmed.
    """

    import_path: str
    import_type: str = "dir"
    import_annotations: bool = True
    difficult_only: bool = False
    included_labels: list[LabelBody] = Field(default_factory=list)
    excluded_labels: list[LabelBody] = Field(default_factory=list)
    label_format: LabelFormat = Field(default_factory=LabelFormat)
    with_column_header: bool = False
    data_source: DataSource | None = None
    import_origin: str = "obs"
    import_samples: bool = True
    final_annotation: bool = True
    on_error: Literal["continue", "stop"] = "continue"


class NewVersion(Body):
    """`seed` decides which samples the split takes; the same one gives the same split.

    Of format ``CSV`` a version has a table of its samples beside its manifest.
    """

    version_name: str | None = None
    description: str = ""
    train_evaluate_sample_ratio: float = Field(1.0, ge=0, le=1)
    seed: int = Field(0, ge=-(2**63), lt=2**63)
    export_images: bool = False
    remove_sample_usage: bool = True
    clear_hard_property: bool = True
    version_format: Literal["Default", "CSV"] = "Default"
    with_column_header: bool = True


class ExportParams(Body):
    """`train_sample_ratio` is a number written as a text, as the vendor's clients send it."""

    export_dest: Literal["DIR", "NEW_DATASET"] = "DIR"
    export_new_dataset_name: str | None = None
    export_new_dataset_work_path: str | None = None
    export_dataset_version_name: str | None = None
    export_dataset_version_format: Literal["Default"] | None = None
    clear_hard_property: bool = True
    ratio_sample_usage: bool = False
    train_sample_ratio: float = Field(1.0, ge=0, le=1)
    sample_state: str | None = None
    samples: list[Annotated[str, Field(pattern="^[0-9a-f]{32}$")]] = Field(default_factory=list, max_length=10_000)
    search_conditions: list[dict[str, Any]] = Field(default_factory=list, max_length=100)


class NewExport(Body):
    """`annotation_format` names an exporter (``COCO``, ``VOC``, …); `export_format` is the layout of a folder.

    `export_images` says whether objects are copied beside what is written of them.
    """

    path: str = ""
    export_type: int = Field(2, ge=0, le=3)
    version_id: str | None = None
    sample_state: str | None = None
    annotation_format: str | None = None
    export_format: int | None = Field(None, ge=1, le=2)
    version_format: Literal["Default", "CSV"] = "Default"
    with_column_header: bool = True
    source_type_header: Literal["s3://", "obs://"] = "s3://"
    export_images: bool = True
    export_params: ExportParams = Field(default_factory=ExportParams)
