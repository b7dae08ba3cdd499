"""What the workers of a task say of its samples: lists, labeling, review."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Text, cast, exists, func
from sqlmodel import col, select

from bottega.context import now_ms
from bottega.database import AsyncSession
from bottega.errors import ApiError, Conflict, Invalid, NotFound
from bottega_dataset.entities import Dataset, Sample, Suggestion
from bottega_dataset.extension_points import DatasetType
from bottega_dataset.query import SampleFilter, conditions
from bottega_dataset.sample import LABELED, Annotation, BadSample, SampleRecord
from bottega_dataset.sample import UNLABELED as NOTHING
from bottega_dataset.team.entities import (
    ACCEPTED,
    DELETED,
    REJECTED,
    REVIEWER,
    UNCHECK,
    UNLABELED,
    UNREVIEWED,
    TeamItem,
    TeamMember,
    TeamTask,
    Worker,
)
from bottega_dataset.team.handing_over import CHECK, REVIEW
from bottega_dataset.team.requests import SampleComment

STATE_NAMES = {
    UNLABELED: NOTHING,
    REJECTED: "__REJECTED__",
    UNREVIEWED: "__UNREVIEWED__",
    UNCHECK: "__UNCHECK__",
    ACCEPTED: "__ACCEPTED__",
}
SAMPLED = col(TeamItem.sampled).is_(True)
STATES: dict[str, tuple[ColumnElement[bool], ...]] = {
    LABELED: (col(TeamItem.state) != UNLABELED,),
    NOTHING: (col(TeamItem.state) == UNLABELED,),
    "__UNCHECK__": (col(TeamItem.state) == UNCHECK,),
    "__ACCEPTED__": (col(TeamItem.state) == ACCEPTED,),
    "__REJECTED__": (col(TeamItem.state) == REJECTED,),
    "__UNREVIEWED__": (col(TeamItem.state) == UNREVIEWED,),
    "__REVIEWED__": (col(TeamItem.review_accept).is_not(None),),
    "__WORKFORCE_SAMPLED__": (SAMPLED,),
    "__WORKFORCE_SAMPLED_UNCHECK__": (SAMPLED, col(TeamItem.check_accept).is_(None)),
    "__WORKFORCE_SAMPLED_CHECKED__": (SAMPLED, col(TeamItem.check_accept).is_not(None)),
    "__WORKFORCE_SAMPLED_ACCEPTED__": (SAMPLED, col(TeamItem.check_accept).is_(True)),
    "__WORKFORCE_SAMPLED_REJECTED__": (SAMPLED, col(TeamItem.check_accept).is_(False)),
    "__AUTO_ANNOTATION__": (
        col(TeamItem.state) == UNLABELED,
        exists().where(col(Suggestion.sample_key) == col(TeamItem.sample_key)),
    ),
}
_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class ItemFilter:
    """All that is given must hold. `sample` are conditions of the dataset's own samples."""

    state: str | None = None
    label: str | None = None
    worker_key: int | None = None
    annotation_type: str | None = None
    sample: SampleFilter | None = None

    def conditions(self, dataset: Dataset, task: TeamTask) -> list[ColumnElement[bool]]:
        """Raises Invalid for a state that there is not."""
        found: list[ColumnElement[bool]] = [col(TeamItem.task_key) == task.key]
        if self.state:
            if self.state not in STATES:
                raise Invalid(f"sample_state '{self.state}' is none of {', '.join(STATES)}")
            found += STATES[self.state]
        if self.worker_key is not None:
            found.append(col(TeamItem.worker_key) == self.worker_key)
        if self.label:
            # As the JSON of the column is written.
            name = f'"name": {json.dumps(self.label)}'
            found.append(cast(col(TeamItem.labels), Text).contains(name, autoescape=True))
        if self.annotation_type:
            type = f'"type": {json.dumps(self.annotation_type)}'
            found.append(cast(col(TeamItem.labels), Text).contains(type, autoescape=True))
        if self.sample is not None:
            found += conditions(dataset, self.sample)
        return found


@dataclass(frozen=True, slots=True)
class Row:
    """An item with its sample and its worker."""

    item: TeamItem
    sample: Sample
    worker: Worker


@dataclass(frozen=True, slots=True)
class Labeling:
    """What somebody says of a sample. `revision`: that of the labels it has seen, None: whatever they are."""

    sample_id: bytes
    annotations: Sequence[Annotation]
    worker_key: int | None = None
    revision: int | None = None
    said: Mapping[str, Any] = field(default_factory=dict)
    """Of the sample itself: `usage`, `hard`, `property`."""


def pack(annotations: Iterable[Annotation]) -> list[dict[str, Any]]:
    return [{k: v for k, v in asdict(one).items() if v is not None} for one in annotations]


def unpack(labels: Iterable[Mapping[str, Any]] | None) -> list[Annotation]:
    return [Annotation(**one) for one in labels or ()]


async def page(
    session: AsyncSession, dataset: Dataset, task: TeamTask, wanted: ItemFilter, offset: int, limit: int
) -> tuple[int, list[Row]]:
    """The number of matches, and some of them by sample, then worker."""
    found = wanted.conditions(dataset, task)
    counted = select(func.count()).select_from(TeamItem)
    if wanted.sample is not None:
        counted = counted.join(Sample, col(Sample.key) == TeamItem.sample_key)
    total = (await session.exec(counted.where(*found))).one()
    query = joined().where(*found).order_by(col(TeamItem.sample_key), col(TeamItem.worker_key))
    rows = (await session.exec(query.offset(offset).limit(limit))).all()
    return total, [Row(*row) for row in rows]


async def of_sample(
    session: AsyncSession, dataset: Dataset, task: TeamTask, sample_id: bytes, worker_key: int | None = None
) -> list[Row]:
    """The items of one sample, or of one worker. Raises NotFound when there is none."""
    query = joined().where(
        TeamItem.task_key == task.key, Sample.dataset_key == dataset.key, Sample.sample_id == sample_id
    )
    if worker_key is not None:
        query = query.where(TeamItem.worker_key == worker_key)
    rows = (await session.exec(query.order_by(col(TeamItem.worker_key)))).all()
    if not rows:
        raise NotFound(f"the team labeling task has no sample '{sample_id.hex()}' for you")
    return [Row(*row) for row in rows]


async def labelers(session: AsyncSession, task: TeamTask, sample_keys: Sequence[int]) -> dict[int, list[int]]:
    """The workers that samples were given to, by the samples' keys."""
    found: dict[int, list[int]] = defaultdict(list)
    query = select(TeamItem.sample_key, TeamItem.worker_key).where(
        TeamItem.task_key == task.key, col(TeamItem.sample_key).in_(sample_keys)
    )
    for sample, worker in (await session.exec(query.order_by(col(TeamItem.worker_key)))).all():
        found[sample].append(worker)
    return found


async def label(
    session: AsyncSession, dataset: Dataset, task: TeamTask, kind: DatasetType, wanted: Sequence[Labeling]
) -> tuple[list[ApiError | None], list[tuple[int, int]]]:
    """Set workers' labels, the task being locked: what became of each, and how many samples each worker labeled.

    No labels put a sample back among those to be labeled.
    """
    reviewed = await _has_reviewers(session, task)
    known = await _items(session, dataset, task, [one.sample_id for one in wanted])
    results: list[ApiError | None] = []
    done: Counter[int] = Counter()
    for one in wanted:
        mine = [r for r in known.get(one.sample_id, ()) if one.worker_key in (None, r.item.worker_key)]
        try:
            _set(_single(mine, one.sample_id), one, kind, reviewed)
        except ApiError as e:
            results.append(e)
        else:
            session.add(mine[0].item)
            done[mine[0].item.worker_key] += 1
            results.append(None)
    await session.flush()
    return results, list(done.items())


def check_running(task: TeamTask) -> None:
    """Raises Conflict for a task whose samples are not given out yet."""
    if task.status in (0, 6):
        raise Conflict(f"the team labeling task '{task.name}' has not been started yet")


def _set(row: Row, one: Labeling, kind: DatasetType, reviewed: bool) -> None:
    item = row.item
    properties = (row.sample.extra or {}).get("property")
    try:
        kind.check_annotations(SampleRecord(row.sample.source, list(one.annotations), property=properties))
    except BadSample as e:
        raise Invalid(f"sample {one.sample_id.hex()}: {e}") from e
    if item.state == ACCEPTED:
        raise Conflict(f"sample '{one.sample_id.hex()}' has been accepted; its labels are the dataset's")
    if item.acceptance_key is not None:
        raise Conflict(f"sample '{one.sample_id.hex()}' is under acceptance; its labels cannot change meanwhile")
    if one.revision is not None and one.revision != item.revision:
        error = Conflict(
            f"the labels of sample '{one.sample_id.hex()}' changed since (revision {item.revision}, not {one.revision})"
        )
        error.details = {"labels": item.labels or [], "revision": item.revision}
        raise error
    item.labels = pack(one.annotations) or None
    item.said = {**(item.said or {}), **one.said} or None
    item.state = UNLABELED if not one.annotations else UNREVIEWED if reviewed else UNCHECK
    item.revision += 1
    item.labeled_at, item.merged = now_ms(), False
    for name in (*REVIEW, *CHECK):
        setattr(item, name, None)


async def review(
    session: AsyncSession,
    dataset: Dataset,
    task: TeamTask,
    comments: Sequence[SampleComment],
    actor: str,
    *,
    owner: bool,
) -> tuple[int, int]:
    """Record what a reviewer says, the task being locked: how many were accepted, and sent back. All or none.

    Raises Conflict for a sample that is not labeled, or that another reviewer has decided on meanwhile.
    """
    rows = await _items(session, dataset, task, [bytes.fromhex(one.sample_id) for one in comments])
    workers = await worker_keys(session, task, [one.worker_id for one in comments if one.worker_id])
    accepted = rejected = 0
    for one in comments:
        all_of = rows.get(bytes.fromhex(one.sample_id), [])
        chosen = [r for r in all_of if one.worker_id is None or r.item.worker_key == workers[one.worker_id]]
        if one.worker_id is None and len(chosen) > 1:
            chosen = [r for r in chosen if r.item.state == UNREVIEWED]
        if not all_of:
            raise NotFound(f"the team labeling task has no sample '{one.sample_id}'")
        if not chosen:
            raise Conflict(f"sample '{one.sample_id}' waits for no review")
        for row in chosen:
            _decide(row.item, one, actor, owner)
            session.add(row.item)
            accepted, rejected = accepted + one.accept, rejected + (not one.accept)
    await session.flush()
    return accepted, rejected


def _decide(item: TeamItem, said: SampleComment, actor: str, owner: bool) -> None:
    again = item.state in (UNCHECK, REJECTED) and item.labels is not None and item.acceptance_key is None
    if item.state != UNREVIEWED and not (again and (owner or item.reviewer == actor)):
        state = STATE_NAMES[item.state]
        if item.reviewer not in (None, actor):
            verdict = "accepted" if item.review_accept else "sent back"
            raise Conflict(f"sample '{said.sample_id}' was {verdict} by another reviewer meanwhile and is {state}")
        raise Conflict(f"sample '{said.sample_id}' is {state} and waits for no review")
    item.state = UNCHECK if said.accept else REJECTED
    item.review_accept, item.review_comment = said.accept, said.comment
    item.review_score, item.reviewer = said.score, actor


async def worker_keys(session: AsyncSession, task: TeamTask, ids: Iterable[str]) -> dict[str, int]:
    """The keys of a task's workers by id. Raises Invalid for one that has no part in it."""
    wanted = list(dict.fromkeys(ids))
    if not wanted:
        return {}
    query = (
        select(Worker.id, Worker.key)
        .join(TeamMember, col(TeamMember.worker_key) == Worker.key)
        .where(TeamMember.task_key == task.key, col(Worker.id).in_(wanted))
    )
    found: dict[str, int] = {id: key for id, key in (await session.exec(query)).all() if key is not None}
    missing = [one for one in wanted if one not in found]
    if missing:
        raise Invalid(f"worker_id '{missing[0]}' takes no part in the team labeling task")
    return found


async def _has_reviewers(session: AsyncSession, task: TeamTask) -> bool:
    query = (
        select(TeamMember.worker_key)
        .join(Worker, col(Worker.key) == TeamMember.worker_key)
        .where(TeamMember.task_key == task.key, TeamMember.role == REVIEWER, Worker.status != DELETED)
    )
    return (await session.exec(query.limit(1))).first() is not None


def joined() -> Any:
    """Items with their samples and workers."""
    return (
        select(TeamItem, Sample, Worker)
        .join(Sample, col(Sample.key) == TeamItem.sample_key)
        .join(Worker, col(Worker.key) == TeamItem.worker_key)
    )


async def _items(
    session: AsyncSession, dataset: Dataset, task: TeamTask, ids: Sequence[bytes]
) -> dict[bytes, list[Row]]:
    found: dict[bytes, list[Row]] = defaultdict(list)
    for at in range(0, len(ids), _AT_ONCE):
        query = joined().where(
            TeamItem.task_key == task.key,
            Sample.dataset_key == dataset.key,
            col(Sample.sample_id).in_(ids[at : at + _AT_ONCE]),
        )
        for row in (await session.exec(query)).all():
            found[bytes(row[1].sample_id)].append(Row(*row))
    return found


def _single(rows: Sequence[Row], sample_id: bytes) -> Row:
    if not rows:
        raise NotFound(f"the team labeling task has no sample '{sample_id.hex()}' for this member")
    if len(rows) > 1:
        raise Invalid(f"sample '{sample_id.hex()}' has several annotators; say which by worker_id")
    return rows[0]
