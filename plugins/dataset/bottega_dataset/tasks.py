"""Background work on datasets: kept in the database, driven by events, taken up again where it was interrupted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import structlog
from sqlalchemy import ColumnElement, delete, func, insert, update
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import col, select

from bottega.bus import Retry
from bottega.context import now_ms
from bottega.database import AsyncSession, Database, Transaction
from bottega.errors import ApiError, Conflict, NotFound, StorageFull, Unavailable, is_full_disk
from bottega.events import Received
from bottega.urn import Urn
from bottega_dataset.entities import Dataset, Task, TaskProblem
from bottega_dataset.events import TaskFinished, TaskRequested
from bottega_dataset.sample import Problem

log = structlog.get_logger("bottega.dataset")
UNFINISHED = ("queued", "running")
_STORE_AWAY_S = 3.0
DISK_FULL_S = 10.0
DISK_FULL = "no space is left on the disk of the platform"

Performer = Callable[["Running"], Awaitable[None]]


class Superseded(Exception):
    """Another performer has taken the task on, or it was stopped; this one stops."""


def urn_of(task: Task) -> str:
    return str(Urn("dataset", task.project_id, "task", task.id))


async def request(tx: Transaction, task: Task) -> Task:
    """Have a task performed once this transaction is committed."""
    tx.session.add(task)
    await tx.session.flush()
    tx.emit(TaskRequested(task_id=task.id, dataset_id=task.dataset_id, kind=task.kind), urn_of(task))
    return task


async def get(session: AsyncSession, kind: str, dataset_id: str, task_id: str) -> Task:
    task = await session.get(Task, task_id)
    if task is None or (task.kind, task.dataset_id) != (kind, dataset_id):
        raise NotFound(f"the dataset has no {kind} task '{task_id}'")
    return task


async def listing(
    session: AsyncSession, kind: str, dataset_id: str, offset: int, limit: int, *also: ColumnElement[bool]
) -> tuple[int, Sequence[Task]]:
    """The number of a dataset's tasks of a kind (and of which `also` holds), and some of them, the newest first."""
    chosen = (col(Task.kind) == kind, col(Task.dataset_id) == dataset_id, *also)
    total = (await session.exec(select(func.count()).select_from(Task).where(*chosen))).one()
    order = (col(Task.created_at).desc(), col(Task.id).desc())
    rows = await session.exec(select(Task).where(*chosen).order_by(*order).offset(offset).limit(limit))
    return total, rows.all()


async def unfinished(session: AsyncSession, dataset_ids: Sequence[str]) -> list[Task]:
    query = select(Task).where(col(Task.dataset_id).in_(dataset_ids), col(Task.state).in_(UNFINISHED))
    return list((await session.exec(query)).all())


async def stop(tx: Transaction, task: Task) -> None:
    """End a task where it is; whoever performs it finds that out when it next commits.

    Raises Conflict when it has ended.
    """
    query = (
        update(Task)
        .where(col(Task.id) == task.id, col(Task.state).in_(UNFINISHED))
        .values(state="stopped", step=Task.step + 1, updated_at=now_ms(), finished_at=now_ms())
    )
    if (await tx.session.exec(query)).rowcount != 1:
        raise Conflict(f"{task.kind} task '{task.id}' has ended; there is nothing to stop")
    await tx.session.refresh(task)
    tx.emit(_finished(task, "stopped", task.counts), urn_of(task))


def end(tx: Transaction, task: Task, state: str, error: ApiError | None = None) -> None:
    """Record that a task, locked by the caller, ended without having done its work: ``failed`` or ``stopped``."""
    task.state = state
    if error is not None:
        task.error_code, task.error_msg = error.code, error.message
    task.updated_at = task.finished_at = now_ms()
    tx.session.add(task)
    tx.emit(_finished(task, state, task.counts, task.error_msg), urn_of(task))


async def problems(session: AsyncSession, task_id: str, offset: int, limit: int) -> Sequence[TaskProblem]:
    query = select(TaskProblem).where(TaskProblem.task_id == task_id).order_by(col(TaskProblem.number))
    return (await session.exec(query.offset(offset).limit(limit))).all()


class Running:
    """A task being performed. What `commit` writes is kept for good, and performing goes on from there."""

    def __init__(self, task: Task, dataset: Dataset, problems_kept: int) -> None:
        self.task = task
        self.dataset = dataset
        self._problems_kept = problems_kept

    async def commit(
        self,
        tx: Transaction,
        *,
        cursor: Mapping[str, Any] | None = None,
        counted: Mapping[str, int] | None = None,
        progress: float | None = None,
        found: Sequence[Problem] = (),
        state: str = "running",
    ) -> None:
        """Record in `tx` what was done with it. Raises Superseded when someone else performs the task by now."""
        task, now = self.task, now_ms()
        kept = task.counts.get("bad", 0)
        counts = dict(task.counts)
        for name, number in {**(counted or {}), "bad": len(found)}.items():
            counts[name] = counts.get(name, 0) + number
        values: dict[str, Any] = {
            "step": task.step + 1,
            "state": state,
            "counts": counts,
            "updated_at": now,
            "cursor": task.cursor if cursor is None else dict(cursor),
            "progress": task.progress if progress is None else progress,
            "started_at": task.started_at or now,
            "finished_at": now if state == "completed" else None,
        }
        query = update(Task).where(col(Task.id) == task.id, col(Task.step) == task.step).values(**values)
        if (await tx.session.exec(query)).rowcount != 1:
            raise Superseded
        rows = [
            {"task_id": task.id, "number": kept + i, "place": p.place, "reason": p.reason, "text": p.text}
            for i, p in enumerate(found[: max(0, self._problems_kept - kept)])
        ]
        if rows:
            await tx.session.exec(insert(TaskProblem), params=rows)
        if state == "completed":
            tx.emit(_finished(task, state, counts), urn_of(task))
        for name, value in values.items():
            setattr(task, name, value)

    async def restart(self, tx: Transaction) -> None:
        """Begin anew: what was counted and found before counts no more."""
        self.task.counts = {}
        await tx.session.exec(delete(TaskProblem).where(col(TaskProblem.task_id) == self.task.id))
        await self.commit(tx, progress=0.0)


class Tasks:
    """Performs tasks when their events come."""

    def __init__(self, database: Database, performers: Mapping[str, Performer], problems_kept: int) -> None:
        self._database = database
        self._performers = performers
        self._problems_kept = problems_kept

    async def handle(self, received: Received[TaskRequested]) -> None:
        await self.perform(received.event.task_id)

    async def perform(self, task_id: str) -> None:
        """Do what is left of a task. Raises Retry while the object store is away."""
        async with self._database.read() as session:
            task = await session.get(Task, task_id)
            if task is None or task.state not in UNFINISHED:
                return
            dataset = (await session.exec(select(Dataset).where(Dataset.id == task.dataset_id))).first()
        if dataset is None:
            await self._fail(task, NotFound("the dataset was deleted"))
            return
        running = Running(task, dataset, self._problems_kept)
        try:
            async with self._database.transaction() as tx:
                await running.commit(tx)
            await self._performers[task.kind](running)
        except Superseded:
            log.info("task taken on elsewhere", task=task_id)
        except Unavailable as e:
            raise Retry(_STORE_AWAY_S, e.message) from e
        except ApiError as e:
            await self._fail(task, e)
        except Exception as e:  # importers and types are foreign code; the user must see that the task ended
            if is_full_disk(e):
                await self._fail_for_space(task)
                return
            if isinstance(e, SQLAlchemyError):
                raise
            log.error("task failed", task=task_id, kind=task.kind, exc_info=e)
            await self._fail(
                task, ApiError(f"an error inside the platform ({type(e).__name__}); its log has the details")
            )

    async def _fail_for_space(self, task: Task) -> None:
        """Raises Retry while there is not even space to say so: then the task goes on when there is."""
        full = StorageFull(f"{DISK_FULL}; free some and begin again: what is done stays, and is not done twice")
        try:
            await self._fail(task, full)
        except SQLAlchemyError as e:
            if not is_full_disk(e):
                raise
            raise Retry(DISK_FULL_S, DISK_FULL) from e

    async def resume(self) -> None:
        """After a start: announce again what was interrupted, at once instead of when the bus delivers it again."""
        async with self._database.read() as session:
            left = (await session.exec(select(Task).where(col(Task.state).in_(UNFINISHED)))).all()
        if left:
            async with self._database.transaction() as tx:
                for task in left:
                    tx.emit(TaskRequested(task_id=task.id, dataset_id=task.dataset_id, kind=task.kind), urn_of(task))

    async def _fail(self, task: Task, error: ApiError) -> None:
        async with self._database.transaction() as tx:
            row = await tx.session.get(Task, task.id)
            assert row is not None
            if row.state not in UNFINISHED:
                return
            end(tx, row, "failed", error)


def _finished(task: Task, state: str, counts: dict[str, int], error_msg: str | None = None) -> TaskFinished:
    return TaskFinished(
        task_id=task.id,
        dataset_id=task.dataset_id,
        kind=task.kind,
        state=state,
        counts=counts,
        error_msg=error_msg,
    )
