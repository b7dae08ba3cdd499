"""Samples and their annotations in the database: adding in bulk, and reading them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import delete, insert, update
from sqlalchemy import select as select_rows
from sqlmodel import col, select

from bottega.context import now_ms
from bottega.database import AsyncSession
from bottega.errors import Conflict, NotFound
from bottega_dataset.entities import AnnotationRow, Dataset, Label, Sample, Suggestion
from bottega_dataset.extension_points import DatasetType
from bottega_dataset.loading import Added, load
from bottega_dataset.packing import pack
from bottega_dataset.sample import Annotation, BadSample, SampleRecord, identity

_TABLE: Any = Sample.__table__  # type: ignore[attr-defined]  # the mapped table: rows go past the ORM
_ANNOTATIONS: Any = AnnotationRow.__table__  # type: ignore[attr-defined]
_KEYS_AT_ONCE = 1000


async def lock(session: AsyncSession, dataset: Dataset, numbers: int = 0) -> int:
    """Take the dataset's row, so that writers of one dataset take turns, and `numbers` sample numbers: the first.

    Raises Conflict when the dataset was deleted meanwhile.
    """
    query = (
        update(Dataset)
        .where(col(Dataset.id) == dataset.id)
        .values(next_sample=Dataset.next_sample + numbers, data_updated_at=now_ms())
        .returning(col(Dataset.next_sample))
    )
    after = (await session.exec(query)).scalar_one_or_none()
    if after is None:
        raise Conflict("the dataset was deleted meanwhile")
    return int(after) - numbers


async def add(session: AsyncSession, dataset: Dataset, kind: DatasetType, records: Iterable[SampleRecord]) -> Added:
    """Add what is not there yet.

    A sample that is there but has no annotations gets the record's; every other one stays as it is. Raises BadSample.
    """
    found, left = pack(records)
    if left:
        raise BadSample(f"{left[0][0].source}: {left[0][1]}")
    return await load(session, dataset, kind, found, await lock(session, dataset, found.count))


async def ids_of(session: AsyncSession, keys: Sequence[int]) -> list[bytes]:
    found: list[bytes] = []
    for some in slices(keys):
        found += (await session.exec(select(Sample.sample_id).where(col(Sample.key).in_(some)))).all()
    return found


async def get(session: AsyncSession, dataset: Dataset, sample_id: bytes) -> Sample:
    query = select(Sample).where(Sample.dataset_key == dataset.key, Sample.sample_id == sample_id)
    found = (await session.exec(query)).first()
    if found is None:
        raise NotFound(f"the dataset has no sample '{sample_id.hex()}'")
    return found


async def annotations_of(session: AsyncSession, keys: Sequence[int], kind: str) -> dict[int, list[Annotation]]:
    """The annotations of samples, by key, in their order. `kind` is the dataset type's annotation type."""
    row = _ANNOTATIONS.c
    query = (
        select_rows(
            row.sample_key,
            row.type,
            col(Label.name),
            row.property,
            row.hard,
            row.annotated_by,
            row.created_at,
            row.confidence,
            row.id,
        )
        .outerjoin(Label, col(Label.key) == row.label_key)
        .where(row.sample_key.in_(keys))
        .order_by(row.sample_key, row.position)
    )
    found: dict[int, list[Annotation]] = {key: [] for key in keys}
    for key, other, name, *rest in (await (await session.connection()).execute(query)).all():
        found[key].append(Annotation(other or kind, name or "", *rest))
    return found


async def by_id(session: AsyncSession, dataset: Dataset, ids: Sequence[bytes]) -> dict[bytes, tuple[int, bool]]:
    """The keys of samples, and whether they are labeled, by id; those that do not exist are left out."""
    known: dict[bytes, tuple[int, bool]] = {}
    for some in slices(ids):
        query = select(Sample.sample_id, Sample.key, Sample.labeled).where(
            Sample.dataset_key == dataset.key, col(Sample.sample_id).in_(some)
        )
        known |= {bytes(ident): (key, labeled) for ident, key, labeled in (await session.exec(query)).all()}
    return known


async def _annotate(
    session: AsyncSession,
    kind: DatasetType,
    records: Mapping[int, SampleRecord],
    label_keys: Mapping[tuple[str, str], int],
) -> None:
    own = kind.annotation_type
    rows = [
        {
            "sample_key": key,
            "position": position,
            "label_key": label_keys[one.type, one.name],
            "confidence": one.confidence,
            "hard": one.hard,
            "annotated_by": one.annotated_by,
            "created_at": one.created_at,
            "property": one.property,
            "type": None if one.type == own else one.type,
            "id": one.id,
        }
        for key, record in records.items()
        for position, one in enumerate(record.annotations)
    ]
    if rows:
        await session.exec(insert(_ANNOTATIONS), params=rows)


def slices(items: Sequence[Any]) -> Iterable[Sequence[Any]]:
    return (items[at : at + _KEYS_AT_ONCE] for at in range(0, len(items), _KEYS_AT_ONCE))


TO_CONFIRM = (0, 1)
"""The types of datasets that take labels to be confirmed (the vendor's `final_annotation`)."""


async def suggest(
    session: AsyncSession, dataset: Dataset, kind: DatasetType, records: Sequence[SampleRecord], task_id: str
) -> int:
    """Keep what is said of samples that bear no labels for somebody to confirm. Returns of how many samples."""
    said = {identity(record): record.annotations for record in records if record.annotations}
    keys = {ident: key for ident, (key, labeled) in (await by_id(session, dataset, list(said))).items() if not labeled}
    for some in slices(list(keys.values())):
        await session.exec(delete(Suggestion).where(col(Suggestion.sample_key).in_(some)))
    rows = [
        {
            "sample_key": key,
            "position": position,
            "task_id": task_id,
            "name": one.name,
            "type": None if one.type == kind.annotation_type else one.type,
            "confidence": 1.0 if one.confidence is None else one.confidence,
            "property": one.property,
            "annotation_id": one.id,
        }
        for ident, key in keys.items()
        for position, one in enumerate(said[ident])
    ]
    if rows:
        await session.exec(insert(Suggestion), params=rows)
    return len(keys)
