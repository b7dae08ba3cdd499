"""What was done to the samples and labels of a dataset, by whom, and taking it back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlmodel import col, func, select

from bottega.database import AsyncSession
from bottega.errors import Conflict, NotFound
from bottega.urn import new_id
from bottega_dataset import labels, restoring, samples
from bottega_dataset.entities import Dataset, DatasetChange, Revision, Sample
from bottega_dataset.extension_points import DatasetType
from bottega_dataset.labeling import Author, Change, Outcome, Stale, State, apply, states, states_by_key
from bottega_dataset.manifest import read_annotation

DELETED_LABEL, DELETED_SAMPLES, RENAME = "delete-label", "delete-samples", "rename"


async def undo(
    session: AsyncSession, dataset: Dataset, kind: DatasetType, sample_id: bytes, author: Author, revision: int | None
) -> Outcome:
    """Take back the last change of a sample that was not taken back yet.

    Raises NotFound, Stale when the sample is not at `revision`, Conflict when there is nothing to take back.
    """
    await samples.lock(session, dataset)
    state = (await states(session, dataset, [sample_id], kind.annotation_type)).get(sample_id)
    if state is None:
        raise NotFound(f"the dataset has no sample '{sample_id.hex()}'")
    if revision is not None and revision != state.revision:
        raise Stale([state], {sample_id: revision})
    query = select(Revision).where(Revision.sample_key == state.key).order_by(col(Revision.revision).desc())
    rows = {row.revision: row for row in (await session.exec(query)).all()}
    last = rows.get(state.revision)
    while last is not None and last.undoes is not None:
        last = rows.get(last.undoes - 1)
    if last is None:
        raise Conflict(
            f"sample {sample_id.hex()} has no change that could be taken back"
            + ("; a label was deleted: that is taken back for all samples" if _label_gone(state, rows) else "")
        )
    pairs = await _before(session, dataset, [(last, state)])
    taken_back = {state.key: last.revision}
    return await apply(session, dataset, kind, pairs, replace(author, cause="undo"), Outcome(), undoes=taken_back)


def _label_gone(state: State, rows: Mapping[int, Revision]) -> bool:
    return state.revision > 0 and state.revision not in rows


async def undo_change(
    session: AsyncSession, dataset: Dataset, kind: DatasetType, change_id: str, author: Author, *, partial: bool = False
) -> Outcome:
    """Take back what one call did to all its samples.

    :param partial: leave out samples that were changed again meanwhile. Else the whole raises Stale for them.

    Deleted labels and samples are put back, renamed labels get their names back. Raises NotFound; Conflict for what
    kept nothing, and where another label has the name by now.
    """
    await samples.lock(session, dataset)
    fact = await session.get(DatasetChange, change_id)
    if fact is None or fact.dataset_key != dataset.key:
        raise NotFound(f"the dataset has no change '{change_id}'")
    if fact.cause == RENAME:
        return await _renamed_back(session, dataset, fact, author)
    if fact.cause in (DELETED_LABEL, DELETED_SAMPLES):
        return await restoring.restore(session, dataset, kind, fact, author, partial=partial)
    query = select(Revision).where(Revision.change_id == change_id).order_by(col(Revision.sample_key))
    rows = (await session.exec(query)).all()
    if not rows:
        raise Conflict(f"change '{change_id}' ({fact.cause}) kept nothing that could be restored")
    found = await states_by_key(session, [row.sample_key for row in rows], kind.annotation_type)
    now = {state.key: state for state in found.values()}
    there = [(row, now[row.sample_key]) for row in rows if row.sample_key in now]
    stale = [state for row, state in there if state.revision != row.revision]
    seen = {state.sample_id: row.revision for row, state in there}
    if stale and not partial:
        raise Stale(stale, seen)
    outcome = Outcome(failures={state.sample_id: Stale([state], seen) for state in stale})
    fresh = [(row, state) for row, state in there if state.sample_id not in outcome.failures]
    pairs = await _before(session, dataset, fresh)
    undoes = {row.sample_key: row.revision for row, _ in fresh}
    done = await apply(session, dataset, kind, pairs, replace(author, cause="undo"), outcome, undoes=undoes)
    if done.change_id:
        taken = await session.get(DatasetChange, done.change_id)
        assert taken is not None
        taken.details = {"undoes": change_id}
        session.add(taken)
    return done


async def _renamed_back(session: AsyncSession, dataset: Dataset, fact: DatasetChange, author: Author) -> Outcome:
    renamed, types = {}, fact.details.get("types") or {}
    for old, new in reversed(fact.details["renamed"].items()):
        back = {labels.RENAME_TO: old}
        renamed[new] = await labels.change(session, dataset, new, back, label_type=types.get(old))
    kinds = {new: types.get(old) for old, new in fact.details["renamed"].items()}
    done = await record_rename(session, dataset, author, renamed, kinds, undoes=fact.id)
    return Outcome(done.id, changed=done.count, renamed=renamed)


async def record_rename(
    session: AsyncSession,
    dataset: Dataset,
    author: Author,
    renamed: Mapping[str, str],
    types: Mapping[str, int | None],
    **more: Any,
) -> DatasetChange:
    """Keep that labels have other names: by the old names the new ones, and the labels' types where they were said."""
    counted = await labels.counts(session, dataset, list(renamed.values()))
    details = {"renamed": dict(renamed), "types": dict(types), **more}
    number = sum(one["sample_count"] for one in counted)
    return await record(session, dataset, replace(author, cause=RENAME), number, details)


async def of_sample(session: AsyncSession, sample: Sample, offset: int, limit: int) -> tuple[int, Sequence[Revision]]:
    """The number of a sample's changes, and some of them, the newest first."""
    chosen = Revision.sample_key == sample.key
    total = (await session.exec(select(func.count()).select_from(Revision).where(chosen))).one()
    query = select(Revision).where(chosen).order_by(col(Revision.revision).desc()).offset(offset).limit(limit)
    return total, (await session.exec(query)).all()


async def of_dataset(
    session: AsyncSession, dataset: Dataset, offset: int, limit: int, actor: str | None = None
) -> tuple[int, Sequence[DatasetChange]]:
    """The number of changes of a dataset's samples and labels, and some of them, the newest first."""
    chosen = [DatasetChange.dataset_key == dataset.key, *([DatasetChange.actor == actor] if actor else [])]
    total = (await session.exec(select(func.count()).select_from(DatasetChange).where(*chosen))).one()
    order = (col(DatasetChange.at).desc(), col(DatasetChange.id).desc())
    rows = await session.exec(select(DatasetChange).where(*chosen).order_by(*order).offset(offset).limit(limit))
    return total, rows.all()


async def record(
    session: AsyncSession,
    dataset: Dataset,
    author: Author,
    count: int,
    details: Mapping[str, Any],
    change_id: str | None = None,
) -> DatasetChange:
    """Keep what is one fact for all samples: a rename, what was deleted."""
    assert dataset.key is not None
    fact = DatasetChange(
        id=change_id or new_id(),
        dataset_key=dataset.key,
        actor=author.name,
        cause=author.cause,
        count=count,
        details=dict(details),
    )
    session.add(fact)
    await session.flush()
    return fact


async def _before(
    session: AsyncSession, dataset: Dataset, rows: Sequence[tuple[Revision, State]]
) -> list[tuple[State, Change]]:
    """What restores samples, with labels named as they are today."""
    if not rows:
        return []
    query = (
        select(DatasetChange.at, DatasetChange.details)
        .where(
            DatasetChange.dataset_key == dataset.key,
            DatasetChange.cause == RENAME,
            DatasetChange.at >= min(row.at for row, _ in rows),
        )
        .order_by(col(DatasetChange.at))
    )
    renames = [(at, details.get("renamed") or {}) for at, details in (await session.exec(query)).all()]
    return [(state, _restoring(row, state, renames)) for row, state in rows]


def _restoring(row: Revision, state: State, renames: Sequence[tuple[int, Mapping[str, str]]]) -> Change:
    annotations = [read_annotation(one, index) for index, one in enumerate(row.before)]
    for at, renamed in renames:
        if at >= row.at:
            annotations = [replace(one, name=renamed.get(one.name, one.name)) for one in annotations]
    own = row.sample or {}
    return Change(
        state.sample_id,
        annotations,
        usage=(own["usage"] or "") if "usage" in own else None,
        hard=own.get("hard"),
        property=dict.fromkeys(state.property) | own["property"] if "property" in own else None,
    )
