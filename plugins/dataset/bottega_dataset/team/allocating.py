"""Giving samples out, chunk after chunk in the background; new samples join tasks that want them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import func, insert
from sqlmodel import col, select

from bottega.database import AsyncSession, Transaction
from bottega.events import Received
from bottega.platform import Platform
from bottega_dataset import samples
from bottega_dataset.entities import Dataset, Sample, Task
from bottega_dataset.events import SamplesUploaded, TaskFinished
from bottega_dataset.kinds import Kinds
from bottega_dataset.query import conditions
from bottega_dataset.tasks import Running
from bottega_dataset.team import handing_over
from bottega_dataset.team.allocation import Allocator
from bottega_dataset.team.entities import TeamItem, TeamTask
from bottega_dataset.team.events import TeamTaskStarted
from bottega_dataset.team.team_tasks import (
    ALLOCATE,
    COMPLETED,
    CREATED,
    MERGE,
    RUNNING,
    STARTING,
    filter_of_task,
    request_allocation,
)

_CHUNK = 2000
_ITEMS: Any = TeamItem.__table__  # type: ignore[attr-defined]  # the mapped table: bulk rows go past the ORM


class Allocating:
    def __init__(self, platform: Platform, kinds: Kinds) -> None:
        self._platform = platform
        self._kinds = kinds

    async def perform(self, running: Running) -> None:
        """Give out what a team task takes of the samples behind the last it has looked at."""
        dataset, given_out = running.dataset, 0
        while True:
            async with self._platform.database.transaction() as tx:
                query = select(TeamTask).where(TeamTask.id == running.task.params["team_task_id"])
                task = (await tx.session.exec(query)).first()
                if task is None or task.key is None:
                    await running.commit(tx, progress=1.0, state="completed")
                    return
                task = await handing_over.lock(tx.session, task.key)
                allocator = await self._allocator(tx.session, task, running.task.cursor.get("loads"))
                count = await self._chunk(tx.session, dataset, task, allocator)
                given_out += count
                done = count < _CHUNK
                if done:
                    self._settle(tx, dataset, task, given_out)
                await running.commit(
                    tx,
                    cursor={"loads": {str(worker): has for worker, has in allocator.loads.items()}},
                    counted={"allocated": count},
                    progress=1.0 if done else None,
                    state="completed" if done else "running",
                )
            if done:
                return

    async def _allocator(self, session: AsyncSession, task: TeamTask, known: Mapping[str, int] | None) -> Allocator:
        """:param known: what each worker had after the last chunk; counted where it is not known."""
        assert task.key is not None
        weights = await handing_over.annotators(session, task.key)
        if task.allocation.get("method") != "weight":
            weights = dict.fromkeys(weights, 1.0)
        loads = await handing_over.loads(session, task.key) if known is None else {int(k): n for k, n in known.items()}
        return Allocator(weights, task.repetition, loads, task.allocation.get("labels"))

    async def _chunk(self, session: AsyncSession, dataset: Dataset, task: TeamTask, allocator: Allocator) -> int:
        if not allocator.loads:
            return 0  # nobody is there; who joins the task later is given what waits
        wanted = [*conditions(dataset, filter_of_task(task)), col(Sample.key) > task.allocated_key]
        query = select(Sample.key, Sample.revision).where(*wanted).order_by(col(Sample.key)).limit(_CHUNK)
        found = (await session.exec(query)).all()
        if not found:
            return 0
        keys = [key for key, _ in found]
        labels = await self._labels(session, dataset, task, keys)
        rows = [
            {"task_key": task.key, "sample_key": key, "worker_key": worker, "base_revision": revision, **_FRESH}
            for key, revision in found
            for worker in allocator.allocate(labels.get(key, ()))
        ]
        if rows:
            await session.exec(insert(_ITEMS), params=rows)
        task.allocated_key, task.allocated = keys[-1], task.allocated + len(keys)
        session.add(task)
        return len(keys)

    async def _labels(
        self, session: AsyncSession, dataset: Dataset, task: TeamTask, keys: list[int]
    ) -> dict[int, list[str]]:
        if task.allocation.get("method") != "label":
            return {}
        kind = self._kinds.of(dataset.dataset_type)
        found = await samples.annotations_of(session, keys, kind.annotation_type)
        return {key: [one.name for one in some] for key, some in found.items()}

    def _settle(self, tx: Transaction, dataset: Dataset, task: TeamTask, given_out: int) -> None:
        if task.status == STARTING or (task.status == COMPLETED and given_out):
            task.status = RUNNING
            tx.session.add(task)
        elif not given_out:
            return
        urn = self._kinds.urn(task.project_id, dataset.id)
        tx.emit(TeamTaskStarted(dataset_id=dataset.id, task_id=task.id, sample_count=task.allocated), urn)

    async def on_finished(self, received: Received[TaskFinished], tx: Transaction) -> None:
        """After an import or a synchronization: let the new samples join the tasks that want or await them."""
        event = received.event
        if event.kind in (ALLOCATE, MERGE, "publish", "export"):
            return
        await join_new(tx, event.dataset_id)

    async def on_uploaded(self, received: Received[SamplesUploaded], tx: Transaction) -> None:
        await join_new(tx, received.event.dataset_id)


async def join_new(tx: Transaction, dataset_id: str) -> None:
    """Have new samples of a dataset given out in the tasks that take new data, or that wait for their first."""
    started = select(TeamTask, Dataset).join(Dataset, col(Dataset.key) == TeamTask.dataset_key)
    rows = (await tx.session.exec(started.where(Dataset.id == dataset_id, TeamTask.status != CREATED))).all()
    if not rows:
        return
    query = select(Task).where(Task.dataset_id == dataset_id, Task.kind == ALLOCATE, Task.state == "queued")
    coming = {work.params["team_task_id"] for work in (await tx.session.exec(query)).all()}
    newest = (await tx.session.exec(select(func.max(Sample.key)).where(Sample.dataset_key == rows[0][1].key))).one()
    for task, _ in rows:
        if task.id in coming:
            continue  # that one will see these samples, too
        if task.status == STARTING or (task.synchronize_data and (newest or -1) > task.allocated_key):
            await request_allocation(tx, dataset_id, task, task.created_by)


_FRESH: dict[str, Any] = {
    "state": 0,
    "labels": None,
    "revision": 0,
    "merged": False,
    "sampled": False,
}
