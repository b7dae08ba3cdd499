"""Tables of the plugin. Made for millions of samples: integer keys, one row a sample, one an annotation.

A sample's key is ``dataset.key << 32 | number``, numbers given out by the dataset's own row: the samples of a dataset
lie together and in the order they came, keys are known before the rows are written, and a page is a range of keys.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    UniqueConstraint,
    false,
    text,
)
from sqlmodel import Field, SQLModel

from bottega.context import now_ms
from bottega.urn import new_id

SAMPLES_PER_DATASET = 1 << 32
# Of the partial indexes; a query must say the same in the same words for SQLite to use one.
_HARD = text("hard IS true")
_NAMED = text("annotated_by <> 'human'")
_SCORED = text("confidence IS NOT NULL")


def _json(**kwargs: Any) -> Any:
    return Field(sa_type=JSON(none_as_null=True), **kwargs)


def _time(**kwargs: Any) -> Any:
    return Field(sa_type=BigInteger, **kwargs)


class Dataset(SQLModel, table=True):
    """A dataset; its name, description, owner and times are in the core's registry under the same id.

    `next_sample` is the number of the next sample, and the row's lock what makes writers of one dataset take turns.
    `sample_count` and `labeled_count` are kept by them (`bottega_dataset.counting`).
    `watched`: what is written to its input path or deleted there enters and leaves it at once. `options` has what the
    API takes and shows again (``schema``, ``managed``, …).
    """

    __tablename__ = "dataset_dataset"
    key: int | None = Field(default=None, sa_column=Column(Integer, primary_key=True, autoincrement=True))
    id: str = Field(default_factory=new_id, unique=True)
    dataset_type: int
    data_path: str = ""
    work_path: str
    label_format: dict[str, Any] = _json(default_factory=dict)
    next_sample: int = _time(default=0)
    next_version: int = 1
    current_version_id: str | None = None
    import_task_id: str | None = None
    data_updated_at: int = _time(default_factory=now_ms)
    sample_count: int = _time(default=0, sa_column_kwargs={"server_default": "0"})
    labeled_count: int = _time(default=0, sa_column_kwargs={"server_default": "0"})
    deleted_samples: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    watched: bool = Field(default=False, sa_column_kwargs={"server_default": false()})
    options: dict[str, Any] | None = _json(default=None)


class Label(SQLModel, table=True):
    """A label of a dataset; `property` has the vendor's keys (``@modelarts:color``, ``@modelarts:shortcut``)."""

    __tablename__ = "dataset_label"
    __table_args__ = (UniqueConstraint("dataset_key", "type", "name"),)
    key: int | None = Field(default=None, sa_column=Column(Integer, primary_key=True, autoincrement=True))
    dataset_key: int
    type: int
    name: str
    property: dict[str, Any] = _json(default_factory=dict)
    attributes: list[dict[str, Any]] = _json(default_factory=list)


class Sample(SQLModel, table=True):
    """What is to be labeled: an object, or a text carried in `source`.

    `sample_id` is made from what the sample is (`bottega_dataset.sample.identity`): nothing enters twice.
    `revision` counts the changes of its annotations: who changes what they have read says which they read.
    """

    __tablename__ = "dataset_sample"
    __table_args__ = (
        UniqueConstraint("dataset_key", "sample_id"),
        Index("ix_dataset_sample_state", "dataset_key", "labeled", "key"),
        Index("ix_dataset_sample_hard", "dataset_key", "key", sqlite_where=_HARD, postgresql_where=_HARD),
    )
    key: int = Field(
        sa_column=Column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False)
    )
    dataset_key: int
    sample_id: bytes = Field(sa_column=Column(LargeBinary(16), nullable=False))
    source: str
    name: str = ""
    size: int | None = _time(default=None)
    modified_at: int | None = _time(default=None)
    usage: str | None = None
    labeled: bool = Field(default=False, sa_type=Boolean)
    hard: bool = Field(default=False, sa_type=Boolean)
    extra: dict[str, Any] | None = _json(default=None)
    added_at: int = _time(default_factory=now_ms)
    revision: int = Field(default=0, sa_column_kwargs={"server_default": "0"})


class LookupRow(SQLModel, table=True):
    """The names, or the folders, of samples that came together (`bottega_dataset.lookup`).

    They are `count` samples whose keys begin at `first`; some may be gone. `texts` are their names, or their folders
    without repetition, of which `numbers` has the one of each sample.
    """

    __tablename__ = "dataset_lookup"
    what: str = Field(primary_key=True)
    first: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    count: int
    texts: bytes
    numbers: bytes | None = None


class AnnotationRow(SQLModel, table=True):
    """One thing said about one sample.

    `label_key` is 0 where it bears no label (a transcript). `type` is None where it is the dataset type's own. `id` is
    what other annotations of the sample name it by, where they do (the entities of a relation).
    """

    __tablename__ = "dataset_annotation"
    __table_args__ = (
        Index("ix_dataset_annotation_label", "label_key", "sample_key"),
        # Imports of what people labeled elsewhere have neither: these cost them nothing.
        Index("ix_dataset_annotation_by", "annotated_by", "sample_key", sqlite_where=_NAMED, postgresql_where=_NAMED),
        Index(
            "ix_dataset_annotation_score", "sample_key", "confidence", sqlite_where=_SCORED, postgresql_where=_SCORED
        ),
        {"sqlite_with_rowid": False},
    )
    sample_key: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    position: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    label_key: int
    confidence: float | None = Field(default=None, sa_type=Float)
    hard: bool | None = None
    annotated_by: str = "human"
    created_at: int | None = _time(default=None)
    property: dict[str, Any] | None = _json(default=None)
    type: str | None = None
    id: str | None = None


class DatasetChange(SQLModel, table=True):
    """One thing somebody did to the samples or labels of a dataset, however many samples it changed (`count`).

    `cause` is ``label``, ``undo``, ``rename``, ``delete-label``, ``delete-samples``, ``confirm``, ``review``, …; a
    rename is this one fact, what was deleted is kept aside (`DeletedSample`, `DeletedAnnotation`); of all others each
    sample keeps what it was before (`Revision.change_id`).
    """

    __tablename__ = "dataset_change"
    __table_args__ = (Index("ix_dataset_change_list", "dataset_key", "at"),)
    id: str = Field(default_factory=new_id, primary_key=True)
    dataset_key: int
    at: int = _time(default_factory=now_ms)
    actor: str
    cause: str
    count: int = 0
    details: dict[str, Any] = _json(default_factory=dict)


class Revision(SQLModel, table=True):
    """What a sample's annotations were before its revision `revision`, who changed them (`actor`) and by what.

    `cause` is ``label``, ``undo``, ``confirm``, ``review``, …; `before` a list of annotations in the form of manifests;
    `sample` the sample's own fields before (``usage``, ``hard``, ``property``), where those changed. `undoes` is the
    revision that an undo took back.
    """

    __tablename__ = "dataset_history"
    __table_args__ = (
        Index("ix_dataset_history_change", "change_id", "sample_key"),
        {"sqlite_with_rowid": False},
    )
    sample_key: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    revision: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    at: int = _time(default_factory=now_ms)
    actor: str
    cause: str
    before: list[dict[str, Any]] = Field(sa_type=JSON)
    change_id: str | None = None
    undoes: int | None = None
    sample: dict[str, Any] | None = _json(default=None)


class DeletedSample(SQLModel, table=True):
    """A sample that a change took out of the dataset while its object stayed, as it was: so it can be put back."""

    __tablename__ = "dataset_deleted_sample"
    __table_args__ = ({"sqlite_with_rowid": False},)
    change_id: str = Field(primary_key=True)
    key: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    dataset_key: int = Field(index=True)
    sample_id: bytes = Field(sa_column=Column(LargeBinary(16), nullable=False))
    source: str
    name: str = ""
    size: int | None = _time(default=None)
    modified_at: int | None = _time(default=None)
    usage: str | None = None
    labeled: bool = Field(default=False, sa_type=Boolean)
    hard: bool = Field(default=False, sa_type=Boolean)
    extra: dict[str, Any] | None = _json(default=None)
    added_at: int = _time()
    revision: int = 0


class DeletedAnnotation(SQLModel, table=True):
    """What was said of a sample, and went with a label or with the sample, by a change that can be taken back.

    `label_type` and `label_name` tell which label it was. `revision` and `sample_hard` are the sample's: the revision
    it got by the change, and whether it was a hard one before.
    """

    __tablename__ = "dataset_deleted_annotation"
    __table_args__ = (Index("ix_dataset_deleted_annotation_sample", "sample_key"), {"sqlite_with_rowid": False})
    change_id: str = Field(primary_key=True)
    sample_key: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    position: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    label_key: int
    label_type: int | None = None
    label_name: str | None = None
    confidence: float | None = Field(default=None, sa_type=Float)
    hard: bool | None = None
    annotated_by: str = "human"
    created_at: int | None = _time(default=None)
    property: dict[str, Any] | None = _json(default=None)
    type: str | None = None
    id: str | None = None
    revision: int = 0
    sample_hard: bool = Field(default=False, sa_type=Boolean)


class Suggestion(SQLModel, table=True):
    """What auto-labeling says of a sample, until a person confirms, corrects or discards it.

    Where nothing was found the only one has no name. `annotation_id` is what others of the sample name it by (an entity
    that a relation joins). `hard` and `rank` are the sample's, the same in all its rows:
    whether it is a hard example (reasons and coefficient are in `property`), and its place in the order in which
    labeling by hand teaches most (1 the first; None behind those that were ranked).
    """

    __tablename__ = "dataset_suggestion"
    __table_args__ = (
        Index("ix_dataset_suggestion_task", "task_id", "sample_key"),
        {"sqlite_with_rowid": False},
    )
    sample_key: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    position: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    task_id: str
    name: str
    type: str | None = None
    confidence: float
    property: dict[str, Any] | None = _json(default=None)
    annotation_id: str | None = None
    hard: bool = Field(default=False, sa_type=Boolean, sa_column_kwargs={"server_default": false()})
    rank: int | None = None


class GroupMember(SQLModel, table=True):
    """In which group a sample is by the last auto-grouping of its dataset, and how far from the group's middle."""

    __tablename__ = "dataset_group_member"
    __table_args__ = (
        Index("ix_dataset_group_member_number", "task_id", "number", "distance"),
        {"sqlite_with_rowid": False},
    )
    sample_key: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    task_id: str
    number: int
    distance: float


class SavedFilter(SQLModel, table=True):
    """A filter of samples somebody gave a name; `conditions` is the API's ``search_conditions``."""

    __tablename__ = "dataset_filter"
    __table_args__ = (UniqueConstraint("dataset_key", "name"),)
    id: str = Field(default_factory=new_id, primary_key=True)
    dataset_key: int
    name: str
    sample_state: str | None = None
    conditions: list[dict[str, Any]] = Field(sa_type=JSON)
    created_by: str
    created_at: int = _time(default_factory=now_ms)
    updated_at: int = _time(default_factory=now_ms)


class Signature(SQLModel, table=True):
    """What a sample looks or reads like, in a few bytes (`bottega_dataset.similarity`), made from the object `of`."""

    __tablename__ = "dataset_signature"
    sample_key: int = Field(
        sa_column=Column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False)
    )
    of: str
    bits: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class DatasetVersion(SQLModel, table=True):
    """A published state of a dataset. What `manifest_path` names never changes once `status` is 1.

    `changes` counts what is different from the version before: ``added``, ``removed``, ``modified`` samples, and its
    ``previous_total`` and ``previous_labeled`` samples. Status: 0 creating, 1 normal, 4 failed. A deleted one stays
    (`deleted_at`), and so its name stays taken: the files of that name are still in storage.
    """

    __tablename__ = "dataset_version"
    __table_args__ = (UniqueConstraint("dataset_id", "name"),)
    id: str = Field(default_factory=new_id, primary_key=True)
    dataset_id: str
    name: str
    status: int = 0
    description: str = ""
    train_ratio: float = 1.0
    options: dict[str, Any] = _json(default_factory=dict)
    manifest_path: str = ""
    manifest_sha256: str = ""
    total_samples: int = 0
    labeled_samples: int = 0
    multi_label: bool = False
    label_stats: list[dict[str, Any]] = _json(default_factory=list)
    previous_id: str | None = None
    changes: dict[str, int] | None = _json(default=None)
    message: str = ""
    created_at: int = _time(default_factory=now_ms)
    updated_at: int = _time(default_factory=now_ms)
    deleted_at: int | None = _time(default=None)


class Task(SQLModel, table=True):
    """Background work on a dataset: `kind` is ``import``, ``publish``, ``export``, ``auto-label``, ….

    `state` is ``queued``, ``running``, ``stopping``, ``completed``, ``failed`` or ``stopped``. `cursor` is where to
    go on after an interruption; `step` counts what was committed, so that two performers of one task cannot both go on.
    `counts` has ``read``, ``imported``, ``annotated``, ``known``, ``bad`` (import) or ``written``, ``left_out`` and
    ``total`` (export).
    """

    __tablename__ = "dataset_task"
    __table_args__ = (Index("ix_dataset_task_list", "dataset_id", "kind", "created_at"),)
    id: str = Field(default_factory=new_id, primary_key=True)
    kind: str
    dataset_id: str
    project_id: str
    user_id: str
    state: str = Field(default="queued", index=True)
    params: dict[str, Any] = _json(default_factory=dict)
    step: int = 0
    cursor: dict[str, Any] = _json(default_factory=dict)
    counts: dict[str, int] = _json(default_factory=dict)
    progress: float = 0.0
    error_code: str | None = None
    error_msg: str | None = None
    created_at: int = _time(default_factory=now_ms)
    started_at: int | None = _time(default=None)
    updated_at: int = _time(default_factory=now_ms)
    finished_at: int | None = _time(default=None)


class TaskProblem(SQLModel, table=True):
    """What an import left out: where (object and line), why, and the beginning of the text."""

    __tablename__ = "dataset_task_problem"
    task_id: str = Field(primary_key=True)
    number: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    place: str
    reason: str
    text: str = ""


TABLES: tuple[type[SQLModel], ...] = (
    Dataset,
    Label,
    Sample,
    AnnotationRow,
    DatasetChange,
    Revision,
    DeletedSample,
    DeletedAnnotation,
    SavedFilter,
    Signature,
    Suggestion,
    GroupMember,
    DatasetVersion,
    Task,
    TaskProblem,
)
