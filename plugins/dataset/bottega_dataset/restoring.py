"""What a change deletes is kept aside, as long as its object stays, and can be put back.

All of it in the database's own words: a label may be borne by a million samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, and_, case, delete, exists, insert, literal, select, update
from sqlalchemy import func as sql

from bottega.database import AsyncSession
from bottega.errors import Conflict
from bottega_dataset import counting, labels
from bottega_dataset.entities import (
    AnnotationRow,
    Dataset,
    DatasetChange,
    DeletedAnnotation,
    DeletedSample,
    Label,
    Sample,
)
from bottega_dataset.extension_points import DatasetType
from bottega_dataset.labeling import Author, Outcome, Stale, states_by_key

SAMPLES: Any = Sample.__table__  # type: ignore[attr-defined]  # all goes past the ORM
ANNOTATIONS: Any = AnnotationRow.__table__  # type: ignore[attr-defined]
KEPT_SAMPLES: Any = DeletedSample.__table__  # type: ignore[attr-defined]
KEPT_ANNOTATIONS: Any = DeletedAnnotation.__table__  # type: ignore[attr-defined]
_OF_SAMPLE = [column.name for column in SAMPLES.columns]
_OF_ANNOTATION = [column.name for column in ANNOTATIONS.columns]
_SHOWN = 100
"""Samples that were changed since, told when they are in the way of an undo."""


async def keep_samples(session: AsyncSession, change_id: str, *chosen: ColumnElement[bool]) -> None:
    """Keep samples that are about to be deleted."""
    columns = [SAMPLES.c[name] for name in _OF_SAMPLE]
    query = select(literal(change_id), *columns).where(*chosen)
    await _run(session, insert(KEPT_SAMPLES).from_select(["change_id", *_OF_SAMPLE], query))


async def keep_annotations(session: AsyncSession, change_id: str, *chosen: ColumnElement[bool]) -> None:
    """Keep annotations that are about to be deleted; the revisions of their samples are counted up already."""
    said, label = ANNOTATIONS, Label.__table__  # type: ignore[attr-defined]
    columns = [said.c[name] for name in _OF_ANNOTATION]
    query = (
        select(literal(change_id), *columns, label.c.type, label.c.name, SAMPLES.c.revision, SAMPLES.c.hard)
        .join_from(said, SAMPLES, SAMPLES.c.key == said.c.sample_key)
        .outerjoin(label, label.c.key == said.c.label_key)
        .where(*chosen)
    )
    also = ["label_type", "label_name", "revision", "sample_hard"]
    await _run(session, insert(KEPT_ANNOTATIONS).from_select(["change_id", *_OF_ANNOTATION, *also], query))


async def forget(session: AsyncSession, dataset: Dataset, first: int, last: int) -> None:
    """Delete for good all that is kept of a dataset, whose samples' keys these are."""
    await _run(session, delete(KEPT_ANNOTATIONS).where(KEPT_ANNOTATIONS.c.sample_key.between(first, last)))
    await _run(session, delete(KEPT_SAMPLES).where(KEPT_SAMPLES.c.dataset_key == dataset.key))


async def restore(
    session: AsyncSession, dataset: Dataset, kind: DatasetType, fact: DatasetChange, author: Author, *, partial: bool
) -> Outcome:
    """Put back what `fact` deleted: labels, what bore them, samples. What stays out fails alone, and for good.

    :param partial: leave out samples whose annotations were changed since. Else the whole raises Stale for them.

    Raises Conflict when nothing is kept of it: its objects were deleted too, or it was put back.
    """
    mine = KEPT_ANNOTATIONS.c.change_id == fact.id
    gone = KEPT_SAMPLES.c.change_id == fact.id
    if fact.details.get("restored") or not (fact.details.get("labels") or await _there(session, KEPT_SAMPLES, gone)):
        raise Conflict(
            f"change '{fact.id}' ({fact.cause}) kept nothing that could be restored: it was taken back already, or "
            "objects were deleted with the samples"
        )
    outcome = Outcome()
    await _leave_out_stale(session, kind, mine, outcome, partial)
    again = exists().where(
        SAMPLES.c.dataset_key == KEPT_SAMPLES.c.dataset_key, SAMPLES.c.sample_id == KEPT_SAMPLES.c.sample_id
    )
    for (ident,) in (await _run(session, select(KEPT_SAMPLES.c.sample_id).where(gone, again))).all():
        outcome.failures[bytes(ident)] = Conflict(f"sample {bytes(ident).hex()} is in the dataset again; it stays so")
    keys, outcome.new_labels = await _labels(session, dataset, fact)
    outcome.changed = await _put_annotations_back(session, dataset, mine, keys)
    outcome.restored = await _put_samples_back(session, dataset, mine, gone, again, keys)
    outcome.changed += outcome.restored
    await _run(session, delete(KEPT_ANNOTATIONS).where(mine))
    await _run(session, delete(KEPT_SAMPLES).where(gone))
    fact.details = fact.details | {"restored": True}
    done = DatasetChange(
        dataset_key=fact.dataset_key,
        actor=author.name,
        cause="undo",
        count=outcome.changed,
        details={"undoes": fact.id, "restored_samples": outcome.restored, "restored_labels": list(outcome.new_labels)},
    )
    session.add_all([fact, done])
    await session.flush()
    outcome.change_id = done.id
    return outcome


async def _leave_out_stale(
    session: AsyncSession, kind: DatasetType, mine: ColumnElement[bool], outcome: Outcome, partial: bool
) -> None:
    changed_since = (
        select(SAMPLES.c.key, sql.max(KEPT_ANNOTATIONS.c.revision))
        .join_from(KEPT_ANNOTATIONS, SAMPLES, SAMPLES.c.key == KEPT_ANNOTATIONS.c.sample_key)
        .where(mine, SAMPLES.c.revision != KEPT_ANNOTATIONS.c.revision)
        .group_by(SAMPLES.c.key)
        .order_by(SAMPLES.c.key)
    )
    rows = (await _run(session, changed_since if partial else changed_since.limit(_SHOWN))).all()
    if not rows:
        return
    states = list((await states_by_key(session, [key for key, _ in rows], kind.annotation_type)).values())
    revisions = dict(rows)
    seen = {state.sample_id: revisions[state.key] for state in states}
    if not partial:
        raise Stale(states, seen)
    outcome.failures |= {state.sample_id: Stale([state], seen) for state in states}


async def _labels(session: AsyncSession, dataset: Dataset, fact: DatasetChange) -> tuple[dict[int, int], Sequence[str]]:
    """The keys that labels have by now where it is another one, and the names of those that were made again."""
    rows = await labels.of_dataset(session, dataset)
    known = {(one.type, one.name): one.key for one in rows}
    there, shortcuts = set(known.values()), {one.property.get(labels.SHORTCUT) for one in rows}
    wanted: dict[int, dict[str, Any]] = {one["key"]: one for one in fact.details.get("labels") or ()}
    kept = KEPT_ANNOTATIONS.c
    borne = select(kept.label_key, kept.label_type, kept.label_name).where(kept.change_id == fact.id).distinct()
    for key, kind, name in (await _run(session, borne)).all():
        if key != labels.NO_LABEL:
            wanted.setdefault(key, {"key": key, "type": kind, "name": name, "property": {}, "attributes": []})
    keys: dict[int, int] = {}
    made: list[Label] = []
    for key, one in wanted.items():
        if key in there:
            continue
        same = known.get((one["type"], one["name"]))
        if same is not None:
            keys[key] = same
            continue
        prop = {k: v for k, v in one["property"].items() if k != labels.SHORTCUT or v not in shortcuts}
        made.append(Label(dataset_key=fact.dataset_key, **{**one, "property": prop}))
    session.add_all(made)
    await session.flush()
    return keys, [one.name for one in made]


async def _put_annotations_back(
    session: AsyncSession, dataset: Dataset, mine: ColumnElement[bool], keys: dict[int, int]
) -> int:
    """Of samples that stayed, and are as the change left them; returns how many."""
    fresh = and_(SAMPLES.c.key == KEPT_ANNOTATIONS.c.sample_key, SAMPLES.c.revision == KEPT_ANNOTATIONS.c.revision)
    columns = _kept_columns(keys)
    query = select(*columns).join_from(KEPT_ANNOTATIONS, SAMPLES, fresh).where(mine)
    await _run(session, insert(ANNOTATIONS).from_select(_OF_ANNOTATION, query))
    bearing = select(KEPT_ANNOTATIONS.c.sample_key).join_from(KEPT_ANNOTATIONS, SAMPLES, fresh).where(mine)
    hard = bearing.where(KEPT_ANNOTATIONS.c.sample_hard)
    await _run(session, update(SAMPLES).where(SAMPLES.c.key.in_(hard)).values(hard=True))
    bare = select(sql.count()).select_from(SAMPLES).where(SAMPLES.c.key.in_(bearing), SAMPLES.c.labeled.is_(False))
    await counting.note(session, dataset, 0, (await _run(session, bare)).scalar_one())
    restored = update(SAMPLES).where(SAMPLES.c.key.in_(bearing))
    done = await _run(session, restored.values(labeled=True, revision=SAMPLES.c.revision + 1))
    return int(done.rowcount)


async def _put_samples_back(
    session: AsyncSession,
    dataset: Dataset,
    mine: ColumnElement[bool],
    gone: ColumnElement[bool],
    again: ColumnElement[bool],
    keys: dict[int, int],
) -> int:
    columns = [KEPT_SAMPLES.c[name] + 1 if name == "revision" else KEPT_SAMPLES.c[name] for name in _OF_SAMPLE]
    labeled = sql.coalesce(sql.sum(case((KEPT_SAMPLES.c.labeled, 1), else_=0)), 0)
    numbers = select(sql.count(), labeled).select_from(KEPT_SAMPLES).where(gone, ~again)
    number, bearing = (await _run(session, numbers)).one()
    await counting.gone(session, dataset, -int(number), -int(bearing))
    await _run(session, insert(SAMPLES).from_select(_OF_SAMPLE, select(*columns).where(gone, ~again)))
    back = exists().where(gone, KEPT_SAMPLES.c.key == KEPT_ANNOTATIONS.c.sample_key)
    here = exists().where(SAMPLES.c.key == KEPT_ANNOTATIONS.c.sample_key)
    query = select(*_kept_columns(keys)).where(mine, back, here)
    await _run(session, insert(ANNOTATIONS).from_select(_OF_ANNOTATION, query))
    return int(number)


def _kept_columns(keys: dict[int, int]) -> list[Any]:
    kept = KEPT_ANNOTATIONS.c
    label: Any = case(keys, value=kept.label_key, else_=kept.label_key) if keys else kept.label_key
    return [label if name == "label_key" else kept[name] for name in _OF_ANNOTATION]


async def _there(session: AsyncSession, table: Any, chosen: ColumnElement[bool]) -> bool:
    return (await _run(session, select(literal(1)).select_from(table).where(chosen).limit(1))).first() is not None


async def _run(session: AsyncSession, statement: Any) -> Any:
    return await (await session.connection()).execute(statement)
