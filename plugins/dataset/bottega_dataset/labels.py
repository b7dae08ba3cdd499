"""The labels of a dataset: adding, renaming, giving a color, deleting with or without their samples."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, delete, exists, func, update
from sqlmodel import col, select

from bottega.database import AsyncSession
from bottega.errors import Conflict, Invalid, NotFound
from bottega_dataset.entities import AnnotationRow, Dataset, Label, Sample
from bottega_dataset.extension_points import DatasetType
from bottega_dataset.label_names import check_label_name

COLOR = "@modelarts:color"
SHORTCUT = "@modelarts:shortcut"
RENAME_TO = "@modelarts:rename_to"
_COLOR = re.compile(r"#[0-9A-Fa-f]{6}")
_SHORTCUT = re.compile(r"[A-Za-z0-9]")


def check_property(label: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The properties to keep, without empty ones. Raises Invalid for a color or shortcut that is none."""
    kept = {k: v for k, v in given.items() if v not in (None, "") and k != RENAME_TO}
    if COLOR in kept and not _COLOR.fullmatch(str(kept[COLOR])):
        raise Invalid(f"label '{label}': {COLOR} '{kept[COLOR]}' is not a color code such as #FFFFF0")
    if SHORTCUT in kept and not _SHORTCUT.fullmatch(str(kept[SHORTCUT])):
        raise Invalid(f"label '{label}': {SHORTCUT} '{kept[SHORTCUT]}' is not one letter or digit")
    return kept


async def of_dataset(session: AsyncSession, dataset: Dataset) -> Sequence[Label]:
    """In the order they were made."""
    query = select(Label).where(Label.dataset_key == dataset.key).order_by(col(Label.key))
    return (await session.exec(query)).all()


async def get(session: AsyncSession, dataset: Dataset, name: str) -> Label:
    """The label of a name; of several (an entity's and a relation's) the one made first."""
    query = select(Label).where(Label.dataset_key == dataset.key, Label.name == name).order_by(col(Label.key))
    label = (await session.exec(query)).first()
    if label is None:
        raise NotFound(f"the dataset has no label '{name}'")
    return label


async def add(
    session: AsyncSession,
    dataset: Dataset,
    name: str,
    properties: Mapping[str, Any] | None = None,
    attributes: Sequence[dict[str, Any]] = (),
) -> Label:
    """Raises Conflict when there is one of this name, or the shortcut is another label's."""
    check_label_name(name)
    others = await of_dataset(session, dataset)
    if any(other.name == name for other in others):
        raise Conflict(f"the dataset has a label '{name}' already")
    kept = check_property(name, properties or {})
    _check_shortcut(name, kept, others)
    assert dataset.key is not None
    label = Label(
        dataset_key=dataset.key, type=dataset.dataset_type, name=name, property=kept, attributes=list(attributes)
    )
    session.add(label)
    await session.flush()
    return label


NO_LABEL = 0
"""The label key of an annotation that bears none."""


async def ensure(
    session: AsyncSession, dataset: Dataset, kind: DatasetType, wanted: Iterable[tuple[str, str]]
) -> tuple[dict[tuple[str, str], int], list[str]]:
    """The keys of labels by annotation type and name, those that were missing made; and the names of these.

    The empty name is no label: its key is `NO_LABEL`.
    """
    types = {one.code: one.type for one in kind.annotations}
    keys = {(one.type, ""): NO_LABEL for one in kind.annotations}
    for label in await of_dataset(session, dataset):
        if label.type in types:
            assert label.key is not None
            keys[types[label.type], label.name] = label.key
    missing = [pair for pair in dict.fromkeys(wanted) if pair not in keys]
    assert dataset.key is not None
    made = [
        Label(dataset_key=dataset.key, type=kind.label_type(annotation_type), name=check_label_name(name))
        for annotation_type, name in missing
    ]
    session.add_all(made)
    await session.flush()
    for pair, label in zip(missing, made, strict=True):
        assert label.key is not None
        keys[pair] = label.key
    return keys, [name for _, name in missing]


async def change(session: AsyncSession, dataset: Dataset, name: str, properties: Mapping[str, Any]) -> str:
    """Set properties (an empty one is removed) and rename when ``@modelarts:rename_to`` is among them.

    Renaming holds for every sample at once. Returns the name it has now.
    """
    label = await get(session, dataset, name)
    others = [other for other in await of_dataset(session, dataset) if other.key != label.key]
    new_name = str(properties.get(RENAME_TO) or name)
    if new_name != name:
        check_label_name(new_name)
        if any(other.name == new_name for other in others):
            raise Conflict(f"the dataset has a label '{new_name}' already")
        label.name = new_name
    kept = check_property(new_name, {**label.property, **properties})
    _check_shortcut(new_name, kept, others)
    label.property = kept
    session.add(label)
    await session.flush()
    return new_name


async def remove(session: AsyncSession, dataset: Dataset, names: Sequence[str], *, with_samples: bool) -> list[str]:
    """Take labels off all samples and out of the dataset.

    :param with_samples: remove the samples too that bear only these labels; their sources are returned.
    """
    keys = [(await get(session, dataset, name)).key for name in dict.fromkeys(names)]
    bears = select(AnnotationRow.sample_key).where(col(AnnotationRow.label_key).in_(keys))
    bears_other = exists().where(col(AnnotationRow.sample_key) == Sample.key, col(AnnotationRow.label_key).not_in(keys))
    only_these = (col(Sample.key).in_(bears), ~bears_other)
    sources: list[str] = []
    if with_samples:
        sources = list((await session.exec(select(Sample.source).where(*only_these))).all())
        await session.exec(delete(Sample).where(*only_these))
    else:
        await session.exec(update(Sample).where(*only_these).values(labeled=False))
    await session.exec(delete(AnnotationRow).where(col(AnnotationRow.label_key).in_(keys)))
    await session.exec(delete(Label).where(col(Label.key).in_(keys)))
    return sources


async def sources_of_only(session: AsyncSession, dataset: Dataset, names: Sequence[str]) -> Sequence[str]:
    """The sources of the samples that bear these labels and no other."""
    keys = [(await get(session, dataset, name)).key for name in dict.fromkeys(names)]
    return (await session.exec(select(Sample.source).where(*_bearing_only(keys)))).all()


def _bearing_only(keys: Sequence[int | None]) -> tuple[ColumnElement[bool], ...]:
    bears = select(AnnotationRow.sample_key).where(col(AnnotationRow.label_key).in_(keys))
    bears_other = exists().where(col(AnnotationRow.sample_key) == Sample.key, col(AnnotationRow.label_key).not_in(keys))
    return col(Sample.key).in_(bears), ~bears_other


async def counts(session: AsyncSession, dataset: Dataset) -> list[dict[str, Any]]:
    """How many samples bear each label, with the label's properties."""
    query = (
        select(AnnotationRow.label_key, func.count())
        .where(col(AnnotationRow.label_key).in_(select(Label.key).where(col(Label.dataset_key) == dataset.key)))
        .group_by(col(AnnotationRow.label_key))
    )
    found: dict[int | None, int] = dict((await session.exec(query)).all())
    labels = await of_dataset(session, dataset)
    return [{**shape(one), "count": found.get(one.key, 0), "sample_count": found.get(one.key, 0)} for one in labels]


def shape(label: Label) -> dict[str, Any]:
    """A label as the API shows it."""
    return {"name": label.name, "type": label.type, "property": label.property, "attributes": label.attributes}


def _check_shortcut(name: str, kept: Mapping[str, Any], others: Sequence[Label]) -> None:
    shortcut = kept.get(SHORTCUT)
    taken = next((o.name for o in others if shortcut and o.property.get(SHORTCUT) == shortcut), None)
    if taken:
        raise Conflict(f"label '{name}': shortcut '{shortcut}' is that of label '{taken}'")
