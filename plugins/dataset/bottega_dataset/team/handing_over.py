"""Moving what is not labeled yet between the annotators of a task, when one leaves or another comes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from sqlalchemy import delete, func, update
from sqlmodel import col, select

from bottega.context import now_ms
from bottega.database import AsyncSession, Transaction
from bottega.errors import Conflict
from bottega_dataset.team.entities import (
    ANNOTATOR,
    DELETED,
    REJECTED,
    UNLABELED,
    TeamItem,
    TeamMember,
    TeamTask,
    Worker,
)

OPEN = (UNLABELED, REJECTED)
_AT_ONCE = 500


async def lock(session: AsyncSession, task_key: int) -> TeamTask:
    """Take a task's row, so that whoever changes it or its items takes turns. Raises Conflict when it is gone."""
    touch = update(TeamTask).where(col(TeamTask.key) == task_key).values(updated_at=now_ms())
    if (await session.exec(touch)).rowcount != 1:
        raise Conflict("the team labeling task was deleted meanwhile")
    return (
        await session.exec(select(TeamTask).where(TeamTask.key == task_key).execution_options(populate_existing=True))
    ).one()


async def annotators(session: AsyncSession, task_key: int) -> dict[int, float]:
    """The annotators of a task who are still there, with their weights."""
    query = (
        select(TeamMember.worker_key, TeamMember.weight)
        .join(Worker, col(Worker.key) == TeamMember.worker_key)
        .where(TeamMember.task_key == task_key, TeamMember.role == ANNOTATOR, Worker.status != DELETED)
        .order_by(col(TeamMember.worker_key))
    )
    return dict((await session.exec(query)).all())


async def loads(session: AsyncSession, task_key: int, states: Sequence[int] | None = None) -> dict[int, int]:
    """How many items each worker of a task has, of these states or at all."""
    query = select(TeamItem.worker_key, func.count()).where(TeamItem.task_key == task_key)
    if states is not None:
        query = query.where(col(TeamItem.state).in_(states))
    return dict((await session.exec(query.group_by(col(TeamItem.worker_key)))).all())


async def give_away(tx: Transaction, worker_key: int, task_key: int | None = None) -> None:
    """Let others of its tasks (or of one) have what a worker has not labeled, and take it out where nothing is left.

    What nobody else can have, because all have it or nobody is there, stays until somebody joins.
    """
    query = select(TeamMember.task_key).where(TeamMember.worker_key == worker_key)
    if task_key is not None:
        query = query.where(TeamMember.task_key == task_key)
    for key in (await tx.session.exec(query)).all():
        await lock(tx.session, key)
        weights = await annotators(tx.session, key)
        weights.pop(worker_key, None)
        mine = select(TeamItem.sample_key).where(
            TeamItem.task_key == key, TeamItem.worker_key == worker_key, col(TeamItem.state).in_(OPEN)
        )
        samples = (await tx.session.exec(mine.order_by(col(TeamItem.sample_key)))).all()
        if weights:
            await _move(tx.session, key, worker_key, samples, weights)
        left = select(TeamItem.sample_key).where(TeamItem.task_key == key, TeamItem.worker_key == worker_key).limit(1)
        if (await tx.session.exec(left)).first() is None:
            await tx.session.exec(
                delete(TeamMember).where(col(TeamMember.task_key) == key, col(TeamMember.worker_key) == worker_key)
            )


async def share(tx: Transaction, task_key: int) -> None:
    """Even out what is not labeled among the annotators of a task, those who have just joined included."""
    weights = await annotators(tx.session, task_key)
    if not weights:
        return
    has = await loads(tx.session, task_key, OPEN)
    total, sum_of_weights = sum(has.values()), sum(weights.values())
    fair = {worker: total * weight / sum_of_weights for worker, weight in weights.items()}
    poor = {worker: weights[worker] for worker in weights if has.get(worker, 0) < int(fair[worker])}
    for worker in has:
        surplus = has[worker] - (-int(-fair[worker]) if worker in fair else 0)
        if surplus <= 0 or not poor:
            continue
        # Who is still there goes on with what was sent back to them.
        states = (UNLABELED,) if worker in weights else OPEN
        mine = select(TeamItem.sample_key).where(
            TeamItem.task_key == task_key, TeamItem.worker_key == worker, col(TeamItem.state).in_(states)
        )
        samples = (await tx.session.exec(mine.order_by(col(TeamItem.sample_key).desc()).limit(surplus))).all()
        await _move(tx.session, task_key, worker, samples, {w: weights[w] for w in poor if w != worker})


async def _move(
    session: AsyncSession, task_key: int, worker_key: int, samples: Sequence[int], weights: dict[int, float]
) -> None:
    """Give a worker's samples to others that have not got them."""
    has = await loads(session, task_key, OPEN)
    for at in range(0, len(samples), _AT_ONCE):
        some = samples[at : at + _AT_ONCE]
        having = await _having(session, task_key, some)
        moved: dict[int, list[int]] = defaultdict(list)
        for sample in some:
            others = having[sample] - {worker_key}
            candidates = [worker for worker in weights if worker not in others]
            if candidates:
                chosen = min(candidates, key=lambda w: ((has.get(w, 0) + 1) / weights[w], w))
                has[chosen] = has.get(chosen, 0) + 1
                moved[chosen].append(sample)
        for chosen, keys in moved.items():
            mine = (
                col(TeamItem.task_key) == task_key,
                col(TeamItem.worker_key) == worker_key,
                col(TeamItem.sample_key).in_(keys),
            )
            fresh = {
                "worker_key": chosen,
                "state": UNLABELED,
                "labels": None,
                "said": None,
                "revision": TeamItem.revision + 1,
            }
            cleared = dict.fromkeys(("labeled_at", *REVIEW, *CHECK))
            await session.exec(update(TeamItem).where(*mine).values(**fresh, **cleared))


REVIEW = ("review_accept", "review_comment", "review_score", "reviewer")
CHECK = ("check_accept", "check_comment", "check_score", "checker")


async def _having(session: AsyncSession, task_key: int, samples: Iterable[int]) -> dict[int, set[int]]:
    found: dict[int, set[int]] = defaultdict(set)
    query = select(TeamItem.sample_key, TeamItem.worker_key).where(
        TeamItem.task_key == task_key, col(TeamItem.sample_key).in_(list(samples))
    )
    for sample, worker in (await session.exec(query)).all():
        found[sample].add(worker)
    return found
