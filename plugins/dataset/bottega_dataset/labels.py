"""The labels of a dataset: adding, renaming, giving them colors, shortcuts and attributes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import func, literal, union_all, update
from sqlalchemy import select as select_rows
from sqlmodel import col, select

from bottega.database import AsyncSession
from bottega.errors import Conflict, Invalid, NotFound
from bottega.urn import new_id
from bottega_dataset.entities import AnnotationRow, Dataset, Label, Suggestion
from bottega_dataset.extension_points import DatasetType
from bottega_dataset.label_names import check_label_name
from bottega_dataset.query import span

DEFAULT_SHAPE = "@modelarts:default_shape"
SHAPES = ("bndbox", "polygon", "circle", "line", "dashed", "point", "polyline")
COLOR = "@modelarts:color"
SHORTCUT = "@modelarts:shortcut"
RENAME_TO = "@modelarts:rename_to"
_COLOR = re.compile(r"#[0-9A-Fa-f]{6}")
_SHORTCUT = re.compile(r"[A-Za-z0-9]")
_ATTRIBUTE = re.compile(r"""[^!<>=&"'\x00-\x1f]{1,64}""")


def check_property(label: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The properties to keep, without empty ones. Raises Invalid for a color or shortcut that is none."""
    kept = {k: v for k, v in given.items() if v not in (None, "") and k != RENAME_TO}
    if COLOR in kept and not _COLOR.fullmatch(str(kept[COLOR])):
        raise Invalid(f"label '{label}': {COLOR} '{kept[COLOR]}' is not a color code such as #FFFFF0")
    if SHORTCUT in kept and not _SHORTCUT.fullmatch(str(kept[SHORTCUT])):
        raise Invalid(f"label '{label}': {SHORTCUT} '{kept[SHORTCUT]}' is not one letter or digit")
    if DEFAULT_SHAPE in kept and kept[DEFAULT_SHAPE] not in SHAPES:
        raise Invalid(f"label '{label}': {DEFAULT_SHAPE} '{kept[DEFAULT_SHAPE]}' is none of {', '.join(SHAPES)}")
    return kept


def check_attributes(
    label: str, given: Sequence[Mapping[str, Any]], before: Sequence[Mapping[str, Any]] = ()
) -> list[dict[str, Any]]:
    """The attributes of a label as they are kept: ``text`` or ``select`` ones, each and each value with an id.

    Those of the same name or id as `before` keep their ids. Raises Invalid, naming the attribute and the rule.
    """
    by_id = {one["id"]: one for one in before} | {one["name"]: one for one in before}
    kept: list[dict[str, Any]] = []
    for one in given:
        name, kind = one.get("name"), one.get("type") or "text"
        where = f"label '{label}': attribute '{name}'"
        if not isinstance(name, str) or not _ATTRIBUTE.fullmatch(name):
            raise Invalid(f"{where} must have a name of 1-64 characters, none of ! < > = & \" '")
        if any(other["name"] == name for other in kept):
            raise Invalid(f"{where} is there twice")
        if kind not in ("text", "select"):
            raise Invalid(f"{where} has the type '{kind}'; there are text and select")
        old = by_id.get(one.get("id")) or by_id.get(name) or {}
        old_values = {value["value"]: value["id"] for value in old.get("values") or ()}
        texts = _values(where, one.get("values") or ())
        if (kind == "select") != bool(texts):
            raise Invalid(f"{where}: a select has values, a text has none")
        default = one.get("default_value")
        if default not in (None, "") and kind == "select" and default not in texts:
            raise Invalid(f"{where}: default_value '{default}' is none of its values")
        entry = {"id": old.get("id") or new_id(), "name": name, "type": kind}
        if default not in (None, ""):
            entry["default_value"] = str(default)
        if texts:
            entry["values"] = [{"id": old_values.get(text) or new_id(), "value": text} for text in texts]
        kept.append(entry)
    return kept


def _values(where: str, given: Sequence[Any]) -> list[str]:
    texts = [str(value.get("value", "")) if isinstance(value, Mapping) else str(value) for value in given]
    if not all(texts) or len(set(texts)) < len(texts):
        raise Invalid(f"{where}: each of its values must be a text, and there once")
    return texts


async def of_dataset(session: AsyncSession, dataset: Dataset) -> Sequence[Label]:
    """In the order they were made."""
    query = select(Label).where(Label.dataset_key == dataset.key).order_by(col(Label.key))
    return (await session.exec(query)).all()


async def get(session: AsyncSession, dataset: Dataset, name: str, label_type: int | None = None) -> Label:
    """The label of a name; of several (an entity's and a relation's) the one of the type, or the one made first."""
    query = select(Label).where(Label.dataset_key == dataset.key, Label.name == name).order_by(col(Label.key))
    query = query if label_type is None else query.where(Label.type == label_type)
    label = (await session.exec(query)).first()
    if label is None:
        raise NotFound(f"the dataset has no label '{name}'")
    return label


async def add(
    session: AsyncSession,
    dataset: Dataset,
    name: str,
    properties: Mapping[str, Any] | None = None,
    attributes: Sequence[Mapping[str, Any]] = (),
    *,
    label_type: int | None = None,
) -> Label:
    """Raises Conflict when there is one of this name and type, or the shortcut is another label's; Invalid."""
    check_label_name(name)
    others = await of_dataset(session, dataset)
    kind = dataset.dataset_type if label_type is None else label_type
    if any((other.name, other.type) == (name, kind) for other in others):
        raise Conflict(f"the dataset has a label '{name}' already")
    kept = check_property(name, properties or {})
    _check_shortcut(name, kept, others)
    assert dataset.key is not None
    label = Label(
        dataset_key=dataset.key, type=kind, name=name, property=kept, attributes=check_attributes(name, attributes)
    )
    session.add(label)
    await session.flush()
    return label


_ANNOTATIONS: Any = AnnotationRow.__table__  # type: ignore[attr-defined]
_LABELS_AT_ONCE = 100
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


async def change(
    session: AsyncSession,
    dataset: Dataset,
    name: str,
    properties: Mapping[str, Any],
    attributes: Sequence[Mapping[str, Any]] | None = None,
    *,
    label_type: int | None = None,
) -> str:
    """Set properties (an empty one is removed) and rename when ``@modelarts:rename_to`` is among them.

    Renaming holds for every sample at once. `attributes` replace all there are. Returns the name it has now.
    Raises Conflict for the name or shortcut of another label: two labels do not become one.
    """
    label = await get(session, dataset, name, label_type)
    others = [other for other in await of_dataset(session, dataset) if other.key != label.key]
    new_name = str(properties.get(RENAME_TO) or name)
    if new_name != name:
        check_label_name(new_name)
        if any((other.name, other.type) == (new_name, label.type) for other in others):
            raise Conflict(
                f"the dataset has a label '{new_name}' already; to make one of both, put '{new_name}' on the samples "
                f"that bear '{name}', then delete '{name}'"
            )
        first, last = span(dataset)
        said = update(Suggestion).where(col(Suggestion.sample_key).between(first, last), col(Suggestion.name) == name)
        await session.exec(said.values(name=new_name), execution_options={"synchronize_session": False})
        label.name = new_name
    kept = check_property(new_name, {**label.property, **properties})
    _check_shortcut(new_name, kept, others)
    label.property = kept
    if attributes is not None:
        label.attributes = check_attributes(new_name, attributes, label.attributes)
    session.add(label)
    await session.flush()
    return new_name


async def counts(session: AsyncSession, dataset: Dataset, names: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """How often each label was put on, and on how many samples, with the label's properties."""
    labels = [one for one in await of_dataset(session, dataset) if names is None or one.name in names]
    found: dict[int, tuple[int, int]] = {}
    connection = await session.connection()
    row = _ANNOTATIONS.c
    for at in range(0, len(labels), _LABELS_AT_ONCE):
        parts = []
        for label in labels[at : at + _LABELS_AT_ONCE]:
            # Streamed out of the index in its order: neither sorts, as grouping them all would.
            borne = select_rows(row.sample_key).where(row.label_key == label.key)
            every = select_rows(func.count()).select_from(borne.subquery()).scalar_subquery()
            bearing = select_rows(func.count()).select_from(borne.distinct().subquery()).scalar_subquery()
            parts.append(select_rows(literal(label.key).label("key"), every.label("n"), bearing.label("samples")))
        query = parts[0] if len(parts) == 1 else union_all(*parts)
        found |= {key: (number, bearing) for key, number, bearing in (await connection.execute(query)).all()}
    return [{**shape(one), "count": found[one.key or 0][0], "sample_count": found[one.key or 0][1]} for one in labels]


def shape(label: Label) -> dict[str, Any]:
    """A label as the API shows it."""
    return {"name": label.name, "type": label.type, "property": label.property, "attributes": label.attributes}


def _check_shortcut(name: str, kept: Mapping[str, Any], others: Sequence[Label]) -> None:
    shortcut = kept.get(SHORTCUT)
    taken = next((o.name for o in others if shortcut and o.property.get(SHORTCUT) == shortcut), None)
    if taken:
        raise Conflict(f"label '{name}': shortcut '{shortcut}' is that of label '{taken}'")
