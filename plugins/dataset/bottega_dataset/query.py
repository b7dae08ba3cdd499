"""Finding samples: the filters of the API as conditions on the tables.

A filter is a conjunction (`SampleFilter`); several of them are alternatives. What the API's ``search_conditions`` may
hold is read by `bottega_dataset.search`; how a page is found fast is in `bottega_dataset.pages`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Boolean, ColumnElement, and_, exists, false, or_, text
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlmodel import col, select

from bottega.errors import Invalid
from bottega_dataset.entities import SAMPLES_PER_DATASET, AnnotationRow, Dataset, Label, Sample
from bottega_dataset.sample import CONTENT, HUMAN, LABELED, UNLABELED


class _Begins(FunctionElement[bool]):
    """Whether a text begins as a folder does; the third argument is the least text behind all that do."""

    type = Boolean()
    inherit_cache = True


@compiles(_Begins)
def _by_function(element: Any, compiler: Any, **options: Any) -> str:
    text, folder, _ = element.clauses
    return f"starts_with({compiler.process(text, **options)}, {compiler.process(folder, **options)})"


@compiles(_Begins, "sqlite")
def _by_range(element: Any, compiler: Any, **options: Any) -> str:
    # Its texts are compared byte by byte, so this is no more than one comparison.
    text, first, behind = (compiler.process(one, **options) for one in element.clauses)
    return f"({text} >= {first} AND {text} < {behind})"


Props = Mapping[str, Sequence[str] | None]
"""Attributes and the values one of which they must have; None stands for any value."""


@dataclass(frozen=True, slots=True)
class LabelFilter:
    """A label a sample must bear, with attributes on it: all of them, or with `any_property` one of them."""

    name: str | None = None
    type: int | None = None
    property: Props = field(default_factory=dict)
    any_property: bool = False


@dataclass(frozen=True, slots=True)
class SampleFilter:
    """All that is given must hold. `labels` are names or `LabelFilter`s; with `all_labels` a sample must bear each.

    `low` and `high` bound an annotation's confidence, one without counts as 1 (a person's). Times are epoch ms, sizes
    bytes, both bounds inclusive. `suffixes` are what the name ends with (``png``). `coefficient` bounds the difficulty
    of the sample. `metadata` are properties of the sample: all, or with `any_metadata` one must fit. `import_origin` is
    one of them. `since` and `until` are of the time a sample was added.
    """

    state: str | None = None
    labels: tuple[str | LabelFilter, ...] = ()
    all_labels: bool = False
    name: str | None = None
    folder: str | None = None
    low: float | None = None
    high: float | None = None
    hard: bool | None = None
    annotator: str | None = None
    usage: str | None = None
    since: int | None = None
    ids: tuple[bytes, ...] = ()
    until: int | None = None
    smallest: int | None = None
    largest: int | None = None
    suffixes: tuple[str, ...] = ()
    coefficient: tuple[float, float] | None = None
    metadata: Props = field(default_factory=dict)
    any_metadata: bool = False
    text: str | None = None

    def __post_init__(self) -> None:
        if self.state not in (None, "", LABELED, UNLABELED):
            raise Invalid(
                f"sample_state '{self.state}': a dataset has {LABELED} (labeled) and {UNLABELED} (unlabeled) samples"
            )

    @property
    def label_filters(self) -> tuple[LabelFilter, ...]:
        return tuple(LabelFilter(one) if isinstance(one, str) else one for one in self.labels)

    @property
    def asks_annotations(self) -> bool:
        """Whether it says more of annotations than which labels there are."""
        low, high = self.low or 0, 1 if self.high is None else self.high
        return low > 0 or high < 1 or bool(self.annotator)


def span(dataset: Dataset) -> tuple[int, int]:
    """The first and the last key a sample of the dataset may have."""
    assert dataset.key is not None
    first = dataset.key * SAMPLES_PER_DATASET
    return first, first + SAMPLES_PER_DATASET - 1


def conditions(dataset: Dataset, wanted: SampleFilter | Sequence[SampleFilter]) -> list[ColumnElement[bool]]:
    """What a sample of `dataset` must fulfil; of several filters at least one must hold."""
    mine: ColumnElement[bool] = col(Sample.dataset_key) == dataset.key
    if isinstance(wanted, SampleFilter):
        return [mine, *of_sample(wanted), *of_labels(dataset, wanted)]
    alternatives = [and_(*found) for one in wanted if (found := of_sample(one) + of_labels(dataset, one))]
    return [mine, or_(*alternatives)] if len(alternatives) == len(wanted) and alternatives else [mine]


def of_sample(wanted: SampleFilter) -> list[ColumnElement[bool]]:
    """What the sample's own row must fulfil."""
    found: list[ColumnElement[bool]] = []
    if wanted.state:
        found.append(col(Sample.labeled) == (wanted.state == LABELED))
    if wanted.name:
        found.append(_like(col(Sample.name), "%", wanted.name, "%"))
    if wanted.text:
        found.append(_like(col(Sample.source), f"{CONTENT}%", wanted.text, "%"))
    if wanted.folder:
        folder = folder_of(wanted.folder)
        deeper = col(Sample.source).like(escaped(folder) + "%/%", escape="\\")
        found += [_Begins(col(Sample.source), folder, folder[:-1] + chr(ord("/") + 1)), ~deeper]
    if wanted.hard is not None:
        # In the very words of the partial index.
        found.append(text("dataset_sample.hard IS true") if wanted.hard else col(Sample.hard).is_(False))  # type: ignore[arg-type]
    if wanted.usage is not None:
        found.append(col(Sample.usage) == wanted.usage if wanted.usage else col(Sample.usage).is_(None))
    if wanted.suffixes:
        suffixes = [one.lstrip(".") for one in wanted.suffixes]
        # Both cases, for databases that tell them apart.
        ends = [_like(col(Sample.name), "%.", one, "") for s in suffixes for one in sorted({s.lower(), s.upper()})]
        found.append(or_(*ends))
    for column, low, high in (
        (col(Sample.added_at), wanted.since, wanted.until),
        (col(Sample.size), wanted.smallest, wanted.largest),
    ):
        found += [column >= low] if low is not None else []
        found += [column <= high] if high is not None else []
    if wanted.coefficient is not None:
        value = col(Sample.extra)["property"]["@modelarts:hard_coefficient"].as_float()
        found += [col(Sample.extra).is_not(None), value >= wanted.coefficient[0], value <= wanted.coefficient[1]]
    if wanted.metadata:
        properties = [has(col(Sample.extra), ("property", key), values) for key, values in wanted.metadata.items()]
        found += [col(Sample.extra).is_not(None), or_(*properties) if wanted.any_metadata else and_(*properties)]
    if wanted.ids:
        found.append(col(Sample.sample_id).in_(wanted.ids))
    return found


def folder_of(asked: str) -> str:
    """How sources begin of what lies in a folder, which may be written ``/bucket/folder``."""
    folder = asked if asked.endswith("/") else asked + "/"
    return f"s3:/{folder}" if folder.startswith("/") else folder


def of_labels(dataset: Dataset, wanted: SampleFilter) -> list[ColumnElement[bool]]:
    """What the annotations of a sample must fulfil; those of one label and its quality are the same annotation's."""
    quality = of_quality(wanted)
    labels = wanted.label_filters
    groups = [(one,) for one in labels] if wanted.all_labels else [labels] if labels else []
    found: list[ColumnElement[bool]] = []
    for group in groups or ([()] if quality else []):
        borne = [or_(*(of_label(dataset, one) for one in group))] if group else []
        mine = col(AnnotationRow.sample_key) == col(Sample.key)
        found.append(exists().where(mine, *borne, *quality))
    return found


def of_label(dataset: Dataset, one: LabelFilter, key: int | None = None) -> ColumnElement[bool]:
    """What an annotation must fulfil to bear a label. `key` is the label's, where it is known."""
    found: list[ColumnElement[bool]] = []
    if key is not None:
        found.append(col(AnnotationRow.label_key) == key)
    elif one.name is not None or one.type is not None:
        keys = select(Label.key).where(Label.dataset_key == dataset.key)
        keys = keys.where(Label.name == one.name) if one.name is not None else keys
        keys = keys.where(Label.type == one.type) if one.type is not None else keys
        found.append(col(AnnotationRow.label_key).in_(keys))
    properties = [has(col(AnnotationRow.property), (name,), values) for name, values in one.property.items()]
    if properties:
        found.append(or_(*properties) if one.any_property else and_(*properties))
    return and_(*found) if found else col(AnnotationRow.sample_key).is_not(None)


def of_quality(wanted: SampleFilter) -> list[ColumnElement[bool]]:
    """What an annotation's confidence and author must be."""
    found: list[ColumnElement[bool]] = []
    confidence = col(AnnotationRow.confidence)
    high = 1 if wanted.high is None else wanted.high
    if high < 1:
        # In the very words of the partial index.
        found += [text("dataset_annotation.confidence IS NOT NULL"), confidence <= high]  # type: ignore[list-item]
    if wanted.low is not None and wanted.low > 0:
        found.append(confidence >= wanted.low if high < 1 else or_(confidence >= wanted.low, confidence.is_(None)))
    if wanted.annotator:
        found.append(col(AnnotationRow.annotated_by).in_(authors(wanted.annotator)))
    return found


def authors(annotator: str) -> list[str]:
    """What annotations of that author are signed with: their name, or whatever ``annotated_by`` says."""
    return [annotator, f"{HUMAN}/{annotator}"]


def _like(column: Any, before: str, text: str, behind: str) -> ColumnElement[bool]:
    """Whether a column has `text` between what the patterns around it stand for.

    The pattern goes to the database as a whole, or it would be put together for every row; and it says how characters
    are escaped only where one is, for that takes a fifth longer.
    """
    safe = escaped(text)
    pattern = f"{before}{safe}{behind}"
    found: ColumnElement[bool] = column.like(pattern) if safe == text else column.like(pattern, escape="\\")
    return found


def escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def has(document: Any, path: tuple[str, ...], values: Sequence[str] | None) -> ColumnElement[bool]:
    """Whether a JSON document has a value at `path`: any, or one of `values` (numbers count as they are written)."""
    found = document
    for key in path:
        found = found[key]
    written = found.as_string()
    if values is None:
        present: ColumnElement[bool] = written.is_not(None)
        return present
    one: ColumnElement[bool] = written.in_([str(value) for value in values]) if values else false()
    return one
