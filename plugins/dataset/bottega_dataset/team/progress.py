"""How far a task and everybody in it is, and how good."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import ColumnElement, exists, func
from sqlalchemy import select as select_rows
from sqlmodel import col, select

from bottega.database import AsyncSession
from bottega_dataset.entities import Dataset, Sample
from bottega_dataset.statistics import step_of
from bottega_dataset.team.entities import ACCEPTED, REJECTED, UNCHECK, UNLABELED, UNREVIEWED, TeamItem, TeamTask, Worker
from bottega_dataset.team.items import SAMPLED, STATES, ItemFilter

SCORES = {"A": 4, "B": 3, "C": 2, "D": 1}
_AT_ONCE = 1000
Keys = tuple[int, int]
"""Of a task and a worker."""


async def stats(session: AsyncSession, task: TeamTask) -> dict[str, int]:
    """The vendor's ``SampleStats`` of a task; a sample with several workers is as far as the last of them."""
    if task.repetition == 1:
        by_state = (
            select(TeamItem.state, func.count()).where(TeamItem.task_key == task.key).group_by(col(TeamItem.state))
        )
        counted = dict((await session.exec(by_state)).all())
    else:
        least = (
            select(func.min(TeamItem.state).label("state"))
            .where(TeamItem.task_key == task.key)
            .group_by(col(TeamItem.sample_key))
            .subquery()
        )
        counted = dict((await session.execute(select(least.c.state, func.count()).group_by(least.c.state))).all())
    sampled = select(func.count(func.distinct(TeamItem.sample_key))).where(TeamItem.task_key == task.key, SAMPLED)
    auto = 0
    if task.synchronize_auto_labeling_data:
        waiting = [col(TeamItem.task_key) == task.key, *STATES["__AUTO_ANNOTATION__"]]
        auto = (await session.exec(select(func.count(func.distinct(TeamItem.sample_key))).where(*waiting))).one()
    return _stats(counted, (await session.exec(sampled)).one(), auto, max(0, task.allocated - sum(counted.values())))


async def worker_stats(session: AsyncSession, task_keys: Sequence[int | None]) -> dict[Keys, dict[str, int]]:
    """``SampleStats`` of each worker's own samples, by the keys of task and worker."""
    query = (
        select(TeamItem.task_key, TeamItem.worker_key, TeamItem.state, func.count())
        .where(col(TeamItem.task_key).in_(task_keys))
        .group_by(col(TeamItem.task_key), col(TeamItem.worker_key), col(TeamItem.state))
    )
    counted: dict[tuple[int, int], dict[int, int]] = defaultdict(dict)
    for task, worker, state, number in (await session.exec(query)).all():
        counted[task, worker][state] = number
    drawn = (
        select(TeamItem.task_key, TeamItem.worker_key, func.count())
        .where(col(TeamItem.task_key).in_(task_keys), SAMPLED)
        .group_by(col(TeamItem.task_key), col(TeamItem.worker_key))
    )
    sampled = {(task, worker): number for task, worker, number in (await session.exec(drawn)).all()}
    return {key: _stats(states, sampled.get(key, 0), 0, 0) for key, states in counted.items()}


async def verdicts(session: AsyncSession, task_keys: Sequence[int | None]) -> dict[Keys, tuple[float, float]]:
    """Of what each worker labeled and somebody looked at: the part that passed, and the mean score (A 4 … D 1)."""
    query = (
        select_rows(
            col(TeamItem.task_key),
            col(TeamItem.worker_key),
            col(TeamItem.check_accept),
            col(TeamItem.check_score),
            func.count(),
        )
        .where(col(TeamItem.task_key).in_(task_keys), col(TeamItem.check_accept).is_not(None))
        .group_by(
            col(TeamItem.task_key), col(TeamItem.worker_key), col(TeamItem.check_accept), col(TeamItem.check_score)
        )
    )
    rows: dict[tuple[int, int], list[tuple[bool, str | None, int]]] = defaultdict(list)
    for task, worker, accept, score, number in (await session.execute(query)).all():
        rows[task, worker].append((bool(accept), score, number))
    return {key: verdict(some) for key, some in rows.items()}


def verdict(rows: Iterable[tuple[bool, str | None, int]]) -> tuple[float, float]:
    """The part that passed, and the mean score, of (accepted, score, how many)."""
    passed = total = scored = points = 0
    for accept, score, number in rows:
        total += number
        passed += number * accept
        if score:
            scored += number
            points += number * SCORES[score]
    return (passed / total if total else 0.0), (points / scored if scored else 0.0)


async def label_counts(
    session: AsyncSession, dataset: Dataset, task: TeamTask, wanted: ItemFilter
) -> dict[int, dict[str, tuple[int, int]]]:
    """By worker and label: how many annotations, and how many samples with it."""
    found: dict[int, dict[str, tuple[int, int]]] = defaultdict(dict)
    query = select(TeamItem.worker_key, TeamItem.labels).where(
        *wanted.conditions(dataset, task), col(TeamItem.state) != UNLABELED
    )
    if wanted.sample is not None:
        query = query.join(Sample, col(Sample.key) == TeamItem.sample_key)
    rows = await session.stream(query)
    async for some in rows.partitions(_AT_ONCE):
        for worker, labels in some:
            for name, number in Counter(one["name"] for one in labels or ()).items():
                count, samples = found[worker].get(name, (0, 0))
                found[worker][name] = (count + number, samples + 1)
    return found


def given_out(task: TeamTask) -> ColumnElement[bool]:
    """Whether a sample is one of the task's."""
    return exists().where(col(TeamItem.task_key) == task.key, col(TeamItem.sample_key) == col(Sample.key))


def _stats(counted: Mapping[int, int], sampled: int, auto: int, deleted: int) -> dict[str, int]:
    return {
        "total_sample_count": sum(counted.values()),
        "unannotated_sample_count": counted.get(UNLABELED, 0),
        "unreviewed_sample_count": counted.get(UNREVIEWED, 0),
        "uncheck_sample_count": counted.get(UNCHECK, 0),
        "accepted_sample_count": counted.get(ACCEPTED, 0),
        "rejected_sample_count": counted.get(REJECTED, 0),
        "sampled_sample_count": sampled,
        "auto_annotation_sample_count": auto,
        "deleted_sample_count": deleted,
    }


async def task_verdicts(session: AsyncSession, task_keys: Sequence[int | None]) -> dict[int, tuple[float, float]]:
    """Of all that was looked at in tasks: the part that passed, and the mean score."""
    query = (
        select_rows(col(TeamItem.task_key), col(TeamItem.check_accept), col(TeamItem.check_score), func.count())
        .where(col(TeamItem.task_key).in_(task_keys), col(TeamItem.check_accept).is_not(None))
        .group_by(col(TeamItem.task_key), col(TeamItem.check_accept), col(TeamItem.check_score))
    )
    rows: dict[int, list[tuple[bool, str | None, int]]] = defaultdict(list)
    for task, accept, score, number in (await session.execute(query)).all():
        rows[task].append((bool(accept), score, number))
    return {key: verdict(some) for key, some in rows.items()}


def empty() -> dict[str, int]:
    """``SampleStats`` of somebody who has no samples."""
    return _stats({}, 0, 0, 0)


async def metrics(session: AsyncSession, task: TeamTask, start: int, end: int) -> dict[str, dict[str, int]]:
    """What was last labeled in a task from `start` to `end` (epoch ms), in the form of `statistics.metrics`."""
    step = step_of(start, end)
    at = col(TeamItem.labeled_at)
    bucket = at - at % step
    query = (
        select_rows(col(Worker.id), bucket, func.count())
        .join(Worker, col(Worker.key) == col(TeamItem.worker_key))
        .where(col(TeamItem.task_key) == task.key, at.between(start, end))
        .group_by(col(Worker.id), bucket)
    )
    found: dict[str, dict[str, int]] = {"labeled": {}}
    for worker, when, number in (await session.execute(query)).all():
        for name in ("labeled", f"labeled_by/worker:{worker}"):
            counted = found.setdefault(name, {})
            counted[str(when)] = counted.get(str(when), 0) + number
    return found
