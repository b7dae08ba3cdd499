"""Acceptance: the owner looks at a seeded sample of what is done and decides about all of it."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from math import ceil
from typing import Any

from sqlalchemy import ColumnElement, func, or_, update
from sqlmodel import col, select

from bottega.context import now_ms
from bottega.database import AsyncSession, Transaction
from bottega.errors import Conflict, Invalid, NotFound
from bottega_dataset import tasks
from bottega_dataset.datasets import Found
from bottega_dataset.entities import Sample, Task
from bottega_dataset.team import items
from bottega_dataset.team.entities import ACCEPTED, REJECTED, UNCHECK, Acceptance, TeamItem, TeamTask
from bottega_dataset.team.events import AcceptanceChecked, AcceptanceFinished, AcceptanceStarted
from bottega_dataset.team.handing_over import CHECK
from bottega_dataset.team.items import Row
from bottega_dataset.team.progress import SCORES
from bottega_dataset.team.requests import NewAcceptance, SampleComment
from bottega_dataset.team.team_tasks import ACCEPTING, COMPLETED, MERGE, RUNNING
from bottega_dataset.team.team_tasks import REJECTED as SENT_BACK

PASS_ALL, REJECT_ALL, CANCEL, CONFLICTS, PASS_REST, REJECT_REST = range(6)
_RUNNING, _PASSED, _REJECTED, _CANCELED = range(4)
_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Counts:
    """Of an acceptance, or of all that a task had: what was drawn, looked at, passed."""

    total: int = 0
    num: int = 0
    rate: float = 0.0
    sampled: int = 0
    accepted: int = 0
    rejected: int = 0
    points: int = 0
    scored: int = 0

    def shape(self, task_id: str) -> dict[str, Any]:
        """The vendor's ``CheckTaskStats``."""
        checked = self.accepted + self.rejected
        return {
            "task_id": task_id,
            "total_sample_count": self.total,
            "sampling_num": self.num,
            "sampling_rate": self.rate,
            "sampled_sample_count": self.sampled,
            "checked_sample_count": checked,
            "accepted_sample_count": self.accepted,
            "rejected_sample_count": self.rejected,
            "unchecked_sample_count": self.sampled - checked,
            "pass_rate": self.accepted / checked if checked else 0.0,
            "score": f"{self.points / self.scored:.2f}" if self.scored else "0",
            "total_score": self.points,
        }


async def start(tx: Transaction, found: Found, task: TeamTask, wanted: NewAcceptance, actor: str) -> Acceptance:
    """Draw samples from those that wait for acceptance, the task being locked.

    The same seed over the same samples draws the same. Raises Conflict when one is running or nothing waits.
    """
    items.check_running(task)
    if task.status == ACCEPTING:
        raise Conflict(f"the team labeling task '{task.name}' is under acceptance already")
    if (wanted.sampling_num is None) == (wanted.sampling_rate is None):
        raise Invalid("say either sampling_num or sampling_rate")
    # Of a sample with several workers all must be done.
    ready = (
        select(TeamItem.sample_key)
        .where(TeamItem.task_key == task.key)
        .group_by(col(TeamItem.sample_key))
        .having(func.min(TeamItem.state) == UNCHECK)
    )
    waiting = (await tx.session.exec(ready)).all()
    if not waiting:
        raise Conflict("no sample waits for acceptance: first they are labeled, and reviewed where there are reviewers")
    number = wanted.sampling_num or ceil(len(waiting) * (wanted.sampling_rate or 0) - 1e-9)
    if number > len(waiting):
        raise Invalid(f"sampling_num {number}: only {len(waiting)} samples wait for acceptance")
    drawn = heapq.nsmallest(number, waiting, key=lambda key: _lot(wanted.seed, key))
    acceptance = Acceptance(
        task_key=task.key or 0,
        sampling_num=number,
        sampling_rate=number / len(waiting),
        seed=wanted.seed,
        total=len(waiting),
        sampled=number,
        created_by=actor,
    )
    tx.session.add(acceptance)
    await tx.session.flush()
    mine = (col(TeamItem.task_key) == task.key, col(TeamItem.sample_key).in_(ready.subquery().select()))
    taken = {"acceptance_key": acceptance.key, "sampled": False, **dict.fromkeys(CHECK)}
    await tx.session.exec(update(TeamItem).where(*mine, col(TeamItem.state) == UNCHECK).values(**taken))
    for at in range(0, number, _AT_ONCE):
        chosen = (col(TeamItem.task_key) == task.key, col(TeamItem.sample_key).in_(drawn[at : at + _AT_ONCE]))
        await tx.session.exec(update(TeamItem).where(*chosen).values(sampled=True))
    task.status, task.acceptance_id = ACCEPTING, acceptance.id
    tx.session.add(task)
    event = AcceptanceStarted(
        dataset_id=found.dataset.id,
        task_id=task.id,
        acceptance_id=acceptance.id,
        sampled=number,
        total=acceptance.total,
    )
    tx.emit(event, found.resource.urn)
    return acceptance


async def current(session: AsyncSession, task: TeamTask) -> Acceptance:
    """The acceptance that is running. Raises Conflict when none is."""
    query = select(Acceptance).where(Acceptance.id == task.acceptance_id, Acceptance.status == _RUNNING)
    found = (await session.exec(query)).first()
    if found is None:
        raise Conflict(f"the team labeling task '{task.name}' is not under acceptance")
    return found


async def get(session: AsyncSession, task: TeamTask, acceptance_id: str) -> Acceptance:
    query = select(Acceptance).where(Acceptance.id == acceptance_id, Acceptance.task_key == task.key)
    found = (await session.exec(query)).first()
    if found is None:
        raise NotFound(f"the team labeling task has no acceptance '{acceptance_id}'")
    return found


async def comment(tx: Transaction, found: Found, task: TeamTask, comments: Sequence[SampleComment], actor: str) -> None:
    """Say of drawn samples whether they pass, the task being locked. All or none.

    Raises Conflict for a sample that was not drawn, or that somebody else has decided on meanwhile.
    """
    acceptance = await current(tx.session, task)
    workers = await items.worker_keys(tx.session, task, [one.worker_id for one in comments if one.worker_id])
    accepted = rejected = 0
    for one in comments:
        rows = await items.of_sample(tx.session, found.dataset, task, bytes.fromhex(one.sample_id))
        chosen = [row for row in rows if one.worker_id is None or row.item.worker_key == workers[one.worker_id]]
        drawn = [row.item for row in chosen if row.item.sampled and row.item.acceptance_key == acceptance.key]
        if not drawn:
            raise Conflict(f"sample '{one.sample_id}' is not among those drawn for this acceptance")
        for item in drawn:
            if item.checker not in (None, actor):
                verdict = "accepted" if item.check_accept else "rejected"
                raise Conflict(f"sample '{one.sample_id}' was {verdict} by somebody else meanwhile")
            item.check_accept, item.check_comment = one.accept, one.comment
            item.check_score, item.checker = one.score, actor
            tx.session.add(item)
        accepted, rejected = accepted + one.accept, rejected + (not one.accept)
    event = AcceptanceChecked(
        dataset_id=found.dataset.id,
        task_id=task.id,
        acceptance_id=acceptance.id,
        accepted=accepted,
        rejected=rejected,
    )
    tx.emit(event, found.resource.urn)


async def finish(
    tx: Transaction, found: Found, task: TeamTask, action: int, overwrite: bool, user_id: str
) -> Acceptance:
    """End the acceptance that is running by `action`, the task being locked.

    What passes is accepted and, where the task says so, becomes the dataset's; what does not goes back to its
    annotators; canceled, everything waits for another acceptance.
    """
    acceptance = await current(tx.session, task)
    counted = await counts(tx.session, acceptance)
    mine = [col(TeamItem.acceptance_key) == acceptance.key, col(TeamItem.task_key) == task.key]
    rejects = _rejected(action)
    gone: dict[str, Any] = {"acceptance_key": None, "sampled": False}
    accepted = rejected = 0
    if action == CANCEL:
        await tx.session.exec(update(TeamItem).where(*mine).values(**gone, **dict.fromkeys(CHECK)))
    else:
        if rejects is not None:
            sent_back = update(TeamItem).where(*mine, rejects).values(state=REJECTED, **gone)
            rejected = (await tx.session.exec(sent_back)).rowcount
        passed = update(TeamItem).where(*mine).values(state=ACCEPTED, merged=False, **gone)
        accepted = (await tx.session.exec(passed)).rowcount
    acceptance.action, acceptance.finished_at = action, now_ms()
    acceptance.status = _CANCELED if action == CANCEL else _REJECTED if action in (REJECT_ALL, REJECT_REST) else _PASSED
    acceptance.overwrite_last_result = overwrite
    acceptance.counts = {"accepted": counted.accepted, "rejected": counted.rejected}
    acceptance.counts |= {"points": counted.points, "scored": counted.scored, "passed": accepted}
    tx.session.add(acceptance)
    task.status = await _status_after(tx.session, task)
    tx.session.add(task)
    event = AcceptanceFinished(
        dataset_id=found.dataset.id,
        task_id=task.id,
        acceptance_id=acceptance.id,
        action=action,
        accepted=accepted,
        rejected=rejected,
        status=task.status,
    )
    tx.emit(event, found.resource.urn)
    if accepted and task.auto_sync_dataset:
        await request_merge(tx, found, task, overwrite, user_id)
    return acceptance


async def request_merge(tx: Transaction, found: Found, task: TeamTask, overwrite: bool, user_id: str) -> Task:
    """Have accepted labels become the dataset's in the background."""
    params = {"team_task_id": task.id, "overwrite": overwrite}
    work = Task(kind=MERGE, dataset_id=found.dataset.id, project_id=task.project_id, user_id=user_id, params=params)
    return await tasks.request(tx, work)


async def conflicts(session: AsyncSession, found: Found, task: TeamTask) -> list[Row]:
    """What of the running acceptance has other labels in the dataset by now than when it was given out."""
    acceptance = await current(session, task)
    query = items.joined().where(
        TeamItem.acceptance_key == acceptance.key, TeamItem.task_key == task.key, changed_meanwhile()
    )
    rows = (await session.exec(query.order_by(col(TeamItem.sample_key), col(TeamItem.worker_key)))).all()
    return [Row(*row) for row in rows]


def changed_meanwhile() -> ColumnElement[bool]:
    """Whether the dataset's own labels of a sample have changed since it was given out."""
    return col(Sample.revision) != col(TeamItem.base_revision)


async def counts(session: AsyncSession, acceptance: Acceptance) -> Counts:
    """Of one acceptance; of one that has ended as it was then."""
    shown = {"total": acceptance.total, "num": acceptance.sampling_num}
    shown["sampled"] = acceptance.sampled
    if acceptance.status != _RUNNING:
        kept = {name: number for name, number in acceptance.counts.items() if name != "passed"}
        return Counts(**shown, rate=acceptance.sampling_rate, **kept)
    query = (
        select(TeamItem.sample_key, TeamItem.check_accept, TeamItem.check_score)
        .where(TeamItem.acceptance_key == acceptance.key, TeamItem.task_key == acceptance.task_key)
        .where(col(TeamItem.check_accept).is_not(None))
    )
    verdicts: dict[int, bool] = {}
    scores: Counter[str] = Counter()
    for sample, accept, score in (await session.exec(query)).all():
        verdicts[sample] = verdicts.get(sample, True) and bool(accept)
        if score:
            scores[score] += 1
    accepted = sum(verdicts.values())
    points = sum(SCORES[score] * number for score, number in scores.items())
    return Counts(
        **shown,
        rate=acceptance.sampling_rate,
        accepted=accepted,
        rejected=len(verdicts) - accepted,
        points=points,
        scored=scores.total(),
    )


async def history(session: AsyncSession, task: TeamTask) -> Counts:
    """Of all acceptances of a task together, but those that were canceled."""
    query = select(Acceptance).where(Acceptance.task_key == task.key, Acceptance.status != _CANCELED)
    total = Counts()
    for one in (await session.exec(query.order_by(col(Acceptance.key)))).all():
        more = await counts(session, one)
        total = Counts(
            total=total.total + more.total,
            num=total.num + more.num,
            rate=0.0,
            sampled=total.sampled + more.sampled,
            accepted=total.accepted + more.accepted,
            rejected=total.rejected + more.rejected,
            points=total.points + more.points,
            scored=total.scored + more.scored,
        )
    rate = total.num / total.total if total.total else 0.0
    return Counts(**{**{f: getattr(total, f) for f in Counts.__slots__}, "rate": rate})


def _rejected(action: int) -> ColumnElement[bool] | None:
    """Which of an acceptance's items do not pass; None for none. Rejecting one annotator's work spares the others'."""
    if action == REJECT_ALL:
        return col(TeamItem.state) == UNCHECK
    if action == PASS_REST:
        return col(TeamItem.check_accept).is_(False)
    if action == REJECT_REST:
        return or_(col(TeamItem.check_accept).is_(False), col(TeamItem.check_accept).is_(None))
    return None


async def _status_after(session: AsyncSession, task: TeamTask) -> int:
    query = select(func.min(TeamItem.state), func.count()).where(TeamItem.task_key == task.key)
    least, total = (await session.exec(query)).one()
    if total and least == ACCEPTED:
        return COMPLETED
    back = select(TeamItem.sample_key).where(TeamItem.task_key == task.key, TeamItem.state == REJECTED).limit(1)
    return SENT_BACK if (await session.exec(back)).first() is not None else RUNNING


def _lot(seed: int, key: int) -> bytes:
    return blake2b(f"{seed}:{key}".encode(), digest_size=8).digest()
