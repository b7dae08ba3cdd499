"""Taking samples and labels out of a dataset, with all that is kept of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, delete, exists, update
from sqlmodel import col, select

from bottega.database import AsyncSession
from bottega_dataset import labels, samples
from bottega_dataset.entities import AnnotationRow, Dataset, Label, Revision, Sample, Signature, Suggestion
from bottega_dataset.query import span

_UNSEEN = {"synchronize_session": False}
"""Of what deletes or changes rows that this session has not loaded: finding out which they are costs more than that."""
Named = tuple[str, int | None]
"""A label by its name, and by its type where the dataset has several."""


async def remove(session: AsyncSession, dataset: Dataset, ids: Sequence[bytes]) -> tuple[set[bytes], list[str]]:
    """Take samples out. Returns the ids that do not exist, and the sources of those removed."""
    await samples.lock(session, dataset)
    known = await samples.by_id(session, dataset, ids)
    removed: list[str] = []
    for keys in samples.slices([key for key, _ in known.values()]):
        chosen = col(Sample.key).in_(keys)
        removed += (await session.exec(select(Sample.source).where(chosen))).all()
        await forget(session, keys)
        await session.exec(delete(Sample).where(chosen), execution_options=_UNSEEN)
    await count_gone(session, dataset, len(removed))
    return set(ids) - known.keys(), removed


async def forget(session: AsyncSession, keys: Any) -> None:
    """Delete what is kept of samples beside their own rows. `keys` are theirs, or a query for them."""
    for table in (AnnotationRow, Revision, Suggestion, Signature):
        await session.exec(delete(table).where(col(table.sample_key).in_(keys)), execution_options=_UNSEEN)


async def count_gone(session: AsyncSession, dataset: Dataset, number: int) -> None:
    """Count samples that left the dataset (the API's ``deleted_sample_count``)."""
    query = update(Dataset).where(col(Dataset.id) == dataset.id)
    await session.exec(query.values(deleted_samples=Dataset.deleted_samples + number), execution_options=_UNSEEN)


async def sources(session: AsyncSession, dataset: Dataset, ids: Sequence[bytes]) -> list[str]:
    """The sources of those of the samples that exist."""
    found: list[str] = []
    for some in samples.slices(ids):
        query = select(Sample.source).where(Sample.dataset_key == dataset.key, col(Sample.sample_id).in_(some))
        found += (await session.exec(query)).all()
    return found


@dataclass(frozen=True, slots=True)
class Removed:
    """What went with labels: how many samples bore them and stay, and the sources of those that went too."""

    changed: int
    sources: Sequence[str]


async def remove_labels(
    session: AsyncSession, dataset: Dataset, wanted: Sequence[Named], *, with_samples: bool
) -> Removed:
    """Take labels off all samples and out of the dataset.

    :param with_samples: remove the samples too that bear only these labels.
    """
    keys = [(await labels.get(session, dataset, *one)).key for one in dict.fromkeys(wanted)]
    only_these = _bearing_only(keys)
    sources: list[str] = []
    # Who has seen the label on a sample must not put it back unasked: those samples are others now.
    bears = select(AnnotationRow.sample_key).where(col(AnnotationRow.label_key).in_(keys))
    bearing = update(Sample).where(col(Sample.key).in_(bears)).values(revision=Sample.revision + 1)
    changed = (await session.exec(bearing, execution_options=_UNSEEN)).rowcount
    if with_samples:
        sources = list((await session.exec(select(Sample.source).where(*only_these))).all())
        chosen = list((await session.exec(select(Sample.key).where(*only_these))).all())
        for some in samples.slices(chosen):
            await forget(session, some)
            await session.exec(delete(Sample).where(col(Sample.key).in_(some)), execution_options=_UNSEEN)
        await count_gone(session, dataset, len(sources))
    else:
        await session.exec(
            update(Sample).where(*only_these).values(labeled=False, hard=False), execution_options=_UNSEEN
        )
    await session.exec(delete(AnnotationRow).where(col(AnnotationRow.label_key).in_(keys)), execution_options=_UNSEEN)
    first, last = span(dataset)
    said = delete(Suggestion).where(col(Suggestion.sample_key).between(first, last))
    names = {name for name, _ in wanted}
    await session.exec(said.where(col(Suggestion.name).in_(names)), execution_options=_UNSEEN)
    await session.exec(delete(Label).where(col(Label.key).in_(keys)), execution_options=_UNSEEN)
    return Removed(changed - len(sources), sources)


async def sources_of_only(session: AsyncSession, dataset: Dataset, wanted: Sequence[Named]) -> Sequence[str]:
    """The sources of the samples that bear these labels and no other."""
    keys = [(await labels.get(session, dataset, *one)).key for one in dict.fromkeys(wanted)]
    return (await session.exec(select(Sample.source).where(*_bearing_only(keys)))).all()


def _bearing_only(keys: Sequence[int | None]) -> tuple[ColumnElement[bool], ...]:
    bears = select(AnnotationRow.sample_key).where(col(AnnotationRow.label_key).in_(keys))
    bears_other = exists().where(col(AnnotationRow.sample_key) == Sample.key, col(AnnotationRow.label_key).not_in(keys))
    return col(Sample.key).in_(bears), ~bears_other
