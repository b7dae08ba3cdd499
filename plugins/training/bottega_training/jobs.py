"""The jobs there are: finding them, stopping, describing and deleting them. `lifecycle` moves them on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement
from sqlmodel import col, func, select

from bottega.context import now_ms
from bottega.database import AsyncSession, Transaction
from bottega.entities import Resource
from bottega.errors import Conflict, Invalid, NotFound
from bottega.gateway import Caller
from bottega.notifications import notify
from bottega.platform import Platform
from bottega_training import requests
from bottega_training.entities import (
    COMPLETED,
    CREATING,
    FAILED,
    FINAL,
    PHASES,
    RUNNING,
    TASK,
    TERMINATED,
    TERMINATING,
    TrainingJob,
    TrainingNote,
)
from bottega_training.events import JobDeleted, JobStopped

Found = tuple[TrainingJob, Resource]
_NEWS = {RUNNING: "JobStarted", COMPLETED: "JobCompleted", FAILED: "JobFailed", TERMINATED: "JobTerminated"}


async def move(
    tx: Transaction,
    platform: Platform,
    job: TrainingJob,
    phase: str,
    secondary: str,
    note: str,
    *,
    level: str = "Info",
) -> Resource:
    """Bring a job into another phase, here and in the registry, and write down why. Returns its registry entry."""
    resource = await tx.session.get(Resource, job.id)
    assert resource is not None  # the job's foreign key
    job.phase, job.secondary_phase = phase, secondary
    if phase in FINAL:
        job.finished_at = job.finished_at or now_ms()
    tx.session.add(job)
    tx.session.add(TrainingNote(job_id=job.id, level=level, message=note))
    await platform.resources.set_status(tx, resource, phase)
    _tell_topic(tx, job, resource.name, note)
    return resource


def _tell_topic(tx: Transaction, job: TrainingJob, name: str, note: str) -> None:
    """Tell the topic that the request names (sdk_spec §3.1, ``spec.notification``) of a phase it asks for."""
    wanted: dict[str, Any] | None = job.request["spec"].get("notification")
    event = _NEWS.get(job.phase)
    if wanted and event and (event in wanted["events"] or not wanted["events"]):
        notify(tx, job.urn, wanted["topic_urn"], f"{event}: {name}", f"training job '{name}' ({job.id}): {note}")


class Jobs:
    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    async def get(self, session: AsyncSession, project_id: str, job_id: str, *, lock: bool = False) -> Found:
        """Raises NotFound for a job that is not there, was deleted, or belongs to another project."""
        resource = await self._platform.resources.get(session, "job", project_id, job_id)
        job = await session.get(TrainingJob, job_id, with_for_update=True if lock else None)
        assert job is not None  # registered in the same transaction
        return job, resource

    async def show(self, project_id: str, job_id: str) -> Found:
        async with self._platform.database.read() as session:
            return await self.get(session, project_id, job_id)

    async def task(self, project_id: str, job_id: str, task_id: str) -> TrainingJob:
        """The job of a task. Raises NotFound when it has no such task."""
        job, _ = await self.show(project_id, job_id)
        if task_id != TASK:
            raise NotFound(f"job '{job_id}' has no task '{task_id}'; its tasks are: {TASK}")
        return job

    async def search(
        self, project_id: str, search: requests.Search, first_row: int
    ) -> tuple[int, int, Sequence[Found]]:
        """How many jobs the project has, how many match, and one page of those."""
        mine: list[Any] = [Resource.plugin == "training", Resource.kind == "job", Resource.project_id == project_id]
        mine += [col(Resource.deleted_at).is_(None), self._platform.resources.visible(Resource.workspace_id)]
        if search.workspace_id:
            mine.append(Resource.workspace_id == search.workspace_id)
        matching = [*mine, *(_condition(f) for f in search.filters)]
        key: Any = col(Resource.name) if search.sort_by == "name" else col(Resource.created_at)
        order = (key.asc(), col(Resource.id)) if search.order == "asc" else (key.desc(), col(Resource.id).desc())
        joined = col(TrainingJob.id) == col(Resource.id)
        async with self._platform.database.read() as session:
            total = (await session.exec(select(func.count()).select_from(Resource).where(*mine))).one()
            counting = select(func.count()).select_from(Resource).join(TrainingJob, joined).where(*matching)
            count = (await session.exec(counting)).one()
            query = select(TrainingJob, Resource).join(Resource, joined).where(*matching)
            rows = (await session.exec(query.order_by(*order).offset(first_row).limit(search.limit))).all()
        return total, count, [(job, resource) for job, resource in rows]

    async def name_taken(self, project_id: str, name: str) -> bool:
        async with self._platform.database.read() as session:
            query = select(Resource.id).where(
                Resource.plugin == "training",
                Resource.kind == "job",
                Resource.project_id == project_id,
                Resource.claimed_name == name,
            )
            return (await session.exec(query)).first() is not None

    async def stop(self, caller: Caller, job_id: str) -> Found:
        """Ask a job to end; asking again changes nothing. Raises Conflict when it has ended already."""
        async with self._platform.database.transaction() as tx:
            job, resource = await self.get(tx.session, caller.project_id, job_id, lock=True)
            caller.about(name=resource.name)
            if job.phase in FINAL:
                raise Conflict(f"job '{resource.name}' has ended ({job.phase}); only one that runs can be stopped")
            if job.phase != TERMINATING:
                await self._end(tx, job, f"stopped by {caller.principal.user_name}")
        return job, resource

    async def describe(self, caller: Caller, job_id: str, description: str) -> None:
        async with self._platform.database.transaction() as tx:
            _, resource = await self.get(tx.session, caller.project_id, job_id, lock=True)
            caller.about(name=resource.name)
            resource.description, resource.updated_at = description, now_ms()
            tx.session.add(resource)

    async def delete(self, caller: Caller, job_ids: Sequence[str]) -> None:
        """Take jobs out of the list, all or none, ending those that run (002 §5.3). Their outputs stay."""
        async with self._platform.database.transaction() as tx:
            for job_id in job_ids:
                job, resource = await self.get(tx.session, caller.project_id, job_id, lock=True)
                caller.about(name=resource.name)
                if job.phase not in (*FINAL, TERMINATING):
                    await self._end(tx, job, f"deleted by {caller.principal.user_name}")
                await self._platform.resources.delete(tx, resource)
                tx.emit(JobDeleted(job_id=job.id, name=resource.name), job.urn)

    async def _end(self, tx: Transaction, job: TrainingJob, why: str) -> None:
        if job.phase == CREATING:  # nothing was asked of a backend yet
            resource = await move(tx, self._platform, job, TERMINATED, TERMINATED, why)
            job.message = why
            assert job.finished_at is not None
            stopped = JobStopped(
                job_id=job.id, name=resource.name, train_url=job.train_url, finished_at=job.finished_at
            )
            tx.emit(stopped, job.urn)
            return
        assert job.workload_id is not None
        await self._platform.workloads.stop(tx, job.workload_id)
        await move(tx, self._platform, job, TERMINATING, TERMINATING, why)


def _condition(filter: requests.Filter) -> ColumnElement[bool]:
    column: Any = {
        "name": col(Resource.name),
        "phase": col(TrainingJob.phase),
        "create_time": col(Resource.created_at),
        "engine_id": col(TrainingJob.engine_id),
    }[filter.key]
    values: list[Any] = list(filter.value)
    if filter.key == "create_time":
        if filter.operator != "between" or len(values) != 2 or not all(v.isdecimal() for v in values):
            raise Invalid("filter create_time: the operator is between, with two times in epoch milliseconds")
        return column.between(int(values[0]), int(values[1]))  # type: ignore[no-any-return]  # column is any of four
    if filter.operator == "between":
        raise Invalid(f"filter {filter.key}: the operators are like, in and not")
    if filter.key == "phase" and (unknown := set(values) - set(PHASES)):
        raise Invalid(f"filter phase: '{min(unknown)}' is not a phase; they are {', '.join(PHASES)}")
    if filter.operator == "like":
        return column.contains(values[0], autoescape=True)  # type: ignore[no-any-return]
    found: ColumnElement[bool] = column.in_(values)
    return found if filter.operator == "in" else ~found
