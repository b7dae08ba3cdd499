"""Taking samples and labels out of a dataset, with all that is kept of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, delete, exists, update
from sqlmodel import col, select

from bottega.database import AsyncSession
from bottega_dataset import counting, labels, restoring, samples
from bottega_dataset.entities import AnnotationRow, Dataset, Label, Revision, Sample, Signature, Suggestion
from bottega_dataset.query import span

_UNSEEN = {"synchronize_session": False}
"""Of what deletes or changes rows that this session has not loaded: finding out which they are costs more than that."""
Named = tuple[str, int | None]
"""A label by its name, and by its type where the dataset has several."""


async def remove(
    session: AsyncSession, dataset: Dataset, ids: Sequence[bytes], change_id: str | None = None
) -> tuple[set[bytes], list[str]]:
    """Take samples out. Returns the ids that do not exist, and the sources of those removed.

    :param change_id: the change by which they can be put back; without one they are gone for good.
    """
    await samples.lock(session, dataset)
    known = await samples.by_id(session, dataset, ids)
    removed: list[str] = []
    for keys in samples.slices([key for key, _ in known.values()]):
        chosen = col(Sample.key).in_(keys)
        removed += (await session.exec(select(Sample.source).where(chosen))).all()
        if change_id is not None:
            await restoring.keep_samples(session, change_id, chosen)
            await restoring.keep_annotations(session, change_id, col(AnnotationRow.sample_key).in_(keys))
        await forget(session, keys, history=change_id is not None)
        await session.exec(delete(Sample).where(chosen), execution_options=_UNSEEN)
    await counting.gone(session, dataset, len(removed), sum(labeled for _, labeled in known.values()))
    return set(ids) - known.keys(), removed


async def forget(session: AsyncSession, keys: Any, *, history: bool = False) -> None:
    """Delete what is kept of samples beside their own rows. `keys` are theirs, or a query for them.

    :param history: their history stays: they may be put back.
    """
    for table in (AnnotationRow, Suggestion, Signature, *(() if history else (Revision,))):
        await session.exec(delete(table).where(col(table.sample_key).in_(keys)), execution_options=_UNSEEN)


async def sources(session: AsyncSession, dataset: Dataset, ids: Sequence[bytes]) -> list[str]:
    """The sources of those of the samples that exist."""
    found: list[str] = []
    for some in samples.slices(ids):
        query = select(Sample.source).where(Sample.dataset_key == dataset.key, col(Sample.sample_id).in_(some))
        found += (await session.exec(query)).all()
    return found


@dataclass(frozen=True, slots=True)
class Removed:
    """What went with labels: how many samples bore them and stay, and the sources of those that went too.

    `labels` are the labels as they were.
    """

    changed: int
    sources: Sequence[str]
    labels: Sequence[Mapping[str, Any]]


async def remove_labels(
    session: AsyncSession,
    dataset: Dataset,
    wanted: Sequence[Named],
    change_id: str,
    *,
    with_samples: bool,
    with_objects: bool = False,
) -> Removed:
    """Take labels off all samples and out of the dataset; `change_id` names the change by which that is taken back.

    :param with_samples: remove the samples too that bear only these labels; :param with_objects: for good.
    """
    found = [await labels.get(session, dataset, *one) for one in dict.fromkeys(wanted)]
    keys = [one.key for one in found]
    were = [{"key": one.key, **labels.shape(one)} for one in found]
    only_these = _bearing_only(keys)
    sources: list[str] = []
    # Who has seen the label on a sample must not put it back unasked: those samples are others now.
    bears = select(AnnotationRow.sample_key).where(col(AnnotationRow.label_key).in_(keys))
    bearing = update(Sample).where(col(Sample.key).in_(bears)).values(revision=Sample.revision + 1)
    changed = (await session.exec(bearing, execution_options=_UNSEEN)).rowcount
    borne = col(AnnotationRow.label_key).in_(keys)
    if not with_objects:
        await restoring.keep_annotations(session, change_id, borne)
    if with_samples:
        if not with_objects:
            await restoring.keep_samples(session, change_id, *only_these)
        sources = list((await session.exec(select(Sample.source).where(*only_these))).all())
        chosen = list((await session.exec(select(Sample.key).where(*only_these))).all())
        for some in samples.slices(chosen):
            await forget(session, some, history=not with_objects)
            await session.exec(delete(Sample).where(col(Sample.key).in_(some)), execution_options=_UNSEEN)
        await counting.gone(session, dataset, len(sources), len(sources))
    else:
        bare = update(Sample).where(*only_these).values(labeled=False, hard=False)
        gone = (await session.exec(bare, execution_options=_UNSEEN)).rowcount
        await counting.note(session, dataset, 0, -gone)
    if with_objects:  # those of the samples that went are gone by now, and stay so
        await restoring.keep_annotations(session, change_id, borne)
    await session.exec(delete(AnnotationRow).where(borne), execution_options=_UNSEEN)
    first, last = span(dataset)
    said = delete(Suggestion).where(col(Suggestion.sample_key).between(first, last))
    names = {name for name, _ in wanted}
    await session.exec(said.where(col(Suggestion.name).in_(names)), execution_options=_UNSEEN)
    await session.exec(delete(Label).where(col(Label.key).in_(keys)), execution_options=_UNSEEN)
    return Removed(changed - len(sources), sources, were)


async def sources_of_only(session: AsyncSession, dataset: Dataset, wanted: Sequence[Named]) -> Sequence[str]:
    """The sources of the samples that bear these labels and no other."""
    keys = [(await labels.get(session, dataset, *one)).key for one in dict.fromkeys(wanted)]
    return (await session.exec(select(Sample.source).where(*_bearing_only(keys)))).all()


def _bearing_only(keys: Sequence[int | None]) -> tuple[ColumnElement[bool], ...]:
    bears = select(AnnotationRow.sample_key).where(col(AnnotationRow.label_key).in_(keys))
    bears_other = exists().where(col(AnnotationRow.sample_key) == Sample.key, col(AnnotationRow.label_key).not_in(keys))
    return col(Sample.key).in_(bears), ~bears_other
