"""Samples and their annotations in the database: adding in bulk, reading pages, labeling, deleting."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, func, insert, update
from sqlalchemy import select as select_rows
from sqlmodel import col, select

from bottega.context import now_ms
from bottega.database import AsyncSession
from bottega.errors import Conflict, Invalid, NotFound
from bottega_dataset import labels
from bottega_dataset.entities import AnnotationRow, Dataset, Label, Sample
from bottega_dataset.extension_points import DatasetType
from bottega_dataset.loading import Added, load
from bottega_dataset.packing import pack
from bottega_dataset.query import SampleFilter, conditions
from bottega_dataset.sample import Annotation, BadSample, SampleRecord

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
    found = pack(records)
    return await load(session, dataset, kind, found, await lock(session, dataset, found.count))


@dataclass(frozen=True, slots=True)
class Change:
    """New annotations (None: as they are), usage and hardness of one sample; what is None stays."""

    sample_id: bytes
    annotations: Sequence[Annotation] | None = None
    usage: str | None = None
    hard: bool | None = None


async def change(
    session: AsyncSession, dataset: Dataset, kind: DatasetType, changes: Sequence[Change]
) -> tuple[set[bytes], list[str]]:
    """Apply changes. Returns the ids of samples that do not exist, and the labels that had to be made.

    Raises Invalid, naming the sample, for annotations that break the type's rules.
    """
    by_id = {one.sample_id: one for one in changes}
    if len(by_id) != len(changes):
        raise Invalid("the same sample is named twice in one request")
    await lock(session, dataset)
    known = await _by_id(session, dataset, list(by_id))
    await _check(session, kind, {key: by_id[ident] for ident, (key, _) in known.items()})
    said = ((a.type, a.name) for ident in known for a in by_id[ident].annotations or ())
    label_keys, new_labels = await labels.ensure(session, dataset, kind, said)
    records: dict[int, SampleRecord] = {}
    grouped: dict[tuple[tuple[str, Any], ...], list[int]] = {}
    for ident, (key, _) in known.items():
        one = by_id[ident]
        values: dict[str, Any] = {}
        if one.annotations is not None:
            records[key] = SampleRecord("", annotations=list(one.annotations))
            values["labeled"] = bool(one.annotations)
            values["hard"] = any(a.hard for a in one.annotations)
        if one.usage is not None:
            values["usage"] = one.usage or None
        if one.hard is not None:
            values["hard"] = one.hard
        if values:
            grouped.setdefault(tuple(values.items()), []).append(key)
    for keys in _slices(list(records)):
        await session.exec(delete(AnnotationRow).where(col(AnnotationRow.sample_key).in_(keys)))
    await _annotate(session, kind, records, label_keys)
    for group, group_keys in grouped.items():
        for keys in _slices(group_keys):
            await session.exec(update(Sample).where(col(Sample.key).in_(keys)).values(**dict(group)))
    return by_id.keys() - known.keys(), new_labels


async def _check(session: AsyncSession, kind: DatasetType, changes: Mapping[int, Change]) -> None:
    """Raises Invalid when annotations cannot be said about their samples; what they are decides, too."""
    row = _TABLE.c
    for keys in _slices([key for key, one in changes.items() if one.annotations]):
        query = select_rows(row.key, row.source, row.extra).where(row.key.in_(keys))
        for key, source, extra in (await (await session.connection()).execute(query)).all():
            one = changes[key]
            record = SampleRecord(source, list(one.annotations or ()), property=(extra or {}).get("property"))
            try:
                kind.check_annotations(record)
            except BadSample as e:
                raise Invalid(f"sample {one.sample_id.hex()}: {e}") from e


async def remove(session: AsyncSession, dataset: Dataset, ids: Sequence[bytes]) -> tuple[set[bytes], list[str]]:
    """Take samples out. Returns the ids that do not exist, and the sources of those removed."""
    await lock(session, dataset)
    known = await _by_id(session, dataset, ids)
    removed: list[str] = []
    for keys in _slices([key for key, _ in known.values()]):
        chosen = col(Sample.key).in_(keys)
        removed += (await session.exec(select(Sample.source).where(chosen))).all()
        await session.exec(delete(AnnotationRow).where(col(AnnotationRow.sample_key).in_(keys)))
        await session.exec(delete(Sample).where(chosen))
    return set(ids) - known.keys(), removed


async def sources(session: AsyncSession, dataset: Dataset, ids: Sequence[bytes]) -> list[str]:
    """The sources of those of the samples that exist."""
    found: list[str] = []
    for some in _slices(ids):
        query = select(Sample.source).where(Sample.dataset_key == dataset.key, col(Sample.sample_id).in_(some))
        found += (await session.exec(query)).all()
    return found


async def get(session: AsyncSession, dataset: Dataset, sample_id: bytes) -> Sample:
    query = select(Sample).where(Sample.dataset_key == dataset.key, Sample.sample_id == sample_id)
    found = (await session.exec(query)).first()
    if found is None:
        raise NotFound(f"the dataset has no sample '{sample_id.hex()}'")
    return found


async def page(
    session: AsyncSession,
    dataset: Dataset,
    wanted: SampleFilter,
    *,
    offset: int = 0,
    limit: int = 10,
    descending: bool = True,
    after: bytes | None = None,
) -> tuple[int, Sequence[Sample]]:
    """The number of matches, and some of them in the order they were added.

    :param after: the sample behind which the page begins; the fast way through very many.
    """
    found = conditions(dataset, wanted)
    total = (await session.exec(select(func.count()).select_from(Sample).where(*found))).one()
    if after is not None:
        last = (await get(session, dataset, after)).key
        found.append(col(Sample.key) < last if descending else col(Sample.key) > last)
    order = col(Sample.key).desc() if descending else col(Sample.key).asc()
    rows = await session.exec(select(Sample).where(*found).order_by(order).offset(offset).limit(limit))
    return total, rows.all()


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


async def counts(session: AsyncSession, dataset_keys: Sequence[int]) -> dict[int, tuple[int, int]]:
    """Samples, and labeled samples, of datasets by key."""
    query = (
        select(Sample.dataset_key, Sample.labeled, func.count())
        .where(col(Sample.dataset_key).in_(dataset_keys))
        .group_by(col(Sample.dataset_key), col(Sample.labeled))
    )
    found = dict.fromkeys(dataset_keys, (0, 0))
    for key, labeled, number in (await session.exec(query)).all():
        total, done = found[key]
        found[key] = (total + number, done + (number if labeled else 0))
    return found


async def _by_id(session: AsyncSession, dataset: Dataset, ids: Sequence[bytes]) -> dict[bytes, tuple[int, bool]]:
    known: dict[bytes, tuple[int, bool]] = {}
    for some in _slices(ids):
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


def _slices(items: Sequence[Any]) -> Iterable[Sequence[Any]]:
    return (items[at : at + _KEYS_AT_ONCE] for at in range(0, len(items), _KEYS_AT_ONCE))
