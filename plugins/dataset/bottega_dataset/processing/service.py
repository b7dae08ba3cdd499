"""Processing tasks and their versions (runs): creating, listing, stopping, deleting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, delete
from sqlmodel import col, exists, func, select

from bottega.backends import LogChunk
from bottega.context import current, now_ms
from bottega.database import AsyncSession, Transaction
from bottega.entities import Resource, Workload
from bottega.errors import Conflict, NotFound
from bottega.gateway import Caller, workspace_of
from bottega.platform import Platform
from bottega_dataset import versions
from bottega_dataset.datasets import Datasets, check_description
from bottega_dataset.entities import DatasetVersion
from bottega_dataset.events import ProcessingFinished, ProcessingRequested
from bottega_dataset.processing.entities import (
    COMPLETED,
    FAILED,
    INITIALIZED,
    RUNNING,
    STOPPED,
    ProcessorResult,
    ProcessorTask,
    ProcessorVersion,
)
from bottega_dataset.processing.planner import KIND, Foreseen
from bottega_dataset.processing.requests import NewTask, NewTaskVersion

OPEN = (INITIALIZED, RUNNING)
STATES = {COMPLETED: "completed", FAILED: "failed", STOPPED: "stopped"}
_SORT_TASKS: Mapping[str, Any] = {
    "create_time": ProcessorTask.created_at,
    "name": Resource.name,
    "duration_seconds": ProcessorTask.duration_s,
}


@dataclass(frozen=True, slots=True)
class Asked:
    """A task with its row of the registry, its newest version, and how many it has."""

    task: ProcessorTask
    resource: Resource
    latest: ProcessorVersion | None
    versions: int
    is_current: bool


class Processing:
    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    async def create(self, caller: Caller, body: NewTask, foreseen: Foreseen) -> ProcessorTask:
        """Register a task, and its first version unless one was not asked for (a report is always made at once)."""
        await caller.require(foreseen.needs)
        platform = self._platform
        first = foreseen.inputs[0]
        async with platform.database.transaction() as tx:
            resource = await platform.resources.create(
                tx,
                kind=KIND,
                project_id=caller.project_id,
                owner_id=caller.user_id,
                name=body.name,
                status="normal",
                workspace_id=workspace_of(body.workspace_id),
                description=body.description,
            )
            caller.about(resource=resource.urn, name=resource.name)
            task = ProcessorTask(
                id=resource.id,
                project_id=caller.project_id,
                template_id=foreseen.template.id,
                source_type=first["type"],
                source=first.get("dataset_id") or first.get("task_id") or first["path"],
                dataset_version_id=first.get("version_id"),
                request=foreseen.request,
                created_at=resource.created_at,
            )
            tx.session.add(task)
            if body.create_version or not foreseen.template.makes_samples:
                await self._begin(tx, caller, resource, task, body, foreseen)
        return task

    async def create_version(
        self, caller: Caller, task_id: str, body: NewTaskVersion, foreseen: Foreseen
    ) -> ProcessorVersion:
        """Run a task (again), in the way `foreseen` says."""
        await caller.require(foreseen.needs)
        async with self._platform.database.transaction() as tx:
            resource, task = await self._locked(tx, caller.project_id, task_id)
            caller.about(resource=resource.urn, name=resource.name)
            return await self._begin(tx, caller, resource, task, body, foreseen)

    async def _begin(
        self,
        tx: Transaction,
        caller: Caller,
        resource: Resource,
        task: ProcessorTask,
        body: NewTaskVersion,
        foreseen: Foreseen,
    ) -> ProcessorVersion:
        platform, plan = self._platform, foreseen.plan
        version = ProcessorVersion(
            id=foreseen.version_id,
            task_id=task.id,
            project_id=task.project_id,
            user_id=caller.user_id,
            agency_id=current().principal.agency_id,
            name=f"V{task.next_version:04d}",
            description=body.description,
            request=foreseen.request,
            plan=plan,
            flavor=foreseen.flavor,
        )
        if foreseen.target is not None:
            target = await Datasets(platform).get(tx.session, task.project_id, foreseen.target.dataset.id)
            made = await versions.reserve(
                tx,
                target.dataset,
                name=foreseen.version_name,
                description=body.description,
                options={"processor_task_id": task.id, "processor_version_id": version.id},
            )
            version.output_dataset_id, version.output_version_id = made.dataset_id, made.id
            folder = versions.folder(target.dataset, target.resource.name, made.name)
            version.plan = plan | {"data_path": str(folder), "manifest": f"{made.name}.manifest"}
        task.next_version += 1
        task.latest_id, task.status, task.duration_s = version.id, INITIALIZED, 0
        tx.session.add_all([task, version])
        draft = Workload(
            project_id=task.project_id,
            workspace_id=resource.workspace_id,
            user_id=caller.user_id,
            kind="dataset",
            resource_urn=resource.urn,
            backend="",
            flavor=foreseen.flavor,
        )
        await platform.workloads.admit(tx.session, draft)
        for origin in foreseen.origins:
            await platform.resources.link(tx, origin, resource.urn, "processed by")
        asked = ProcessingRequested(task_id=task.id, task_version_id=version.id, template_id=task.template_id)
        tx.emit(asked, resource.urn)
        return version

    # -- finding ---------------------------------------------------------------------------------------------------

    async def get(self, session: AsyncSession, project_id: str, task_id: str) -> Asked:
        resource = await self._platform.resources.get(session, KIND, project_id, task_id)
        task = await session.get(ProcessorTask, task_id)
        assert task is not None  # written in the same transaction as its resource
        return (await self._with_versions(session, [(task, resource)]))[0]

    async def listing(
        self,
        session: AsyncSession,
        project_id: str,
        *,
        name: str | None = None,
        template_id: str | None = None,
        status: int | None = None,
        source_type: str | None = None,
        source: str | None = None,
        version_ids: Sequence[str] = (),
        workspace_id: str | None = None,
        only_current: bool = False,
        sort_by: str = "create_time",
        descending: bool = True,
        offset: int = 0,
        limit: int = 10,
    ) -> tuple[int, list[Asked]]:
        """The number of tasks that match, and a page of them."""
        found: list[ColumnElement[bool]] = [
            col(ProcessorTask.project_id) == project_id,
            col(Resource.deleted_at).is_(None),
            self._platform.resources.visible(Resource.workspace_id),
        ]
        for column, value in (
            (ProcessorTask.template_id, template_id),
            (ProcessorTask.status, status),
            (ProcessorTask.source_type, source_type),
            (ProcessorTask.source, source),
            (Resource.workspace_id, workspace_id),
        ):
            if value is not None:
                found.append(col(column) == value)
        if name:
            found.append(col(Resource.name).contains(name, autoescape=True))
        if version_ids:
            found.append(col(ProcessorTask.dataset_version_id).in_(version_ids))
        if only_current:
            found.append(~_newer_one())
        joined = select(ProcessorTask, Resource).join(Resource, col(Resource.id) == ProcessorTask.id).where(*found)
        total = (await session.exec(select(func.count()).select_from(joined.subquery()))).one()
        key = col(_SORT_TASKS[sort_by])
        order = (key.desc(), col(ProcessorTask.id).desc()) if descending else (key.asc(), col(ProcessorTask.id).asc())
        rows = (await session.exec(joined.order_by(*order).offset(offset).limit(limit))).all()
        return total, await self._with_versions(session, rows)

    async def _with_versions(
        self, session: AsyncSession, rows: Sequence[tuple[ProcessorTask, Resource]]
    ) -> list[Asked]:
        ids = [task.id for task, _ in rows]
        latest_ids = [task.latest_id for task, _ in rows if task.latest_id]
        query = select(ProcessorVersion).where(col(ProcessorVersion.id).in_(latest_ids))
        latest = {one.task_id: one for one in (await session.exec(query)).all()}
        counting = select(ProcessorVersion.task_id, func.count()).where(col(ProcessorVersion.task_id).in_(ids))
        counted = dict((await session.exec(counting.group_by(col(ProcessorVersion.task_id)))).all())
        outdated = set(
            (await session.exec(select(ProcessorTask.id).where(col(ProcessorTask.id).in_(ids), _newer_one()))).all()
        )
        return [
            Asked(task, resource, latest.get(task.id), counted.get(task.id, 0), task.id not in outdated)
            for task, resource in rows
        ]

    async def get_version(self, session: AsyncSession, project_id: str, task_id: str, id: str) -> ProcessorVersion:
        await self._platform.resources.get(session, KIND, project_id, task_id)
        version = await session.get(ProcessorVersion, id)
        if version is None or version.task_id != task_id:
            raise NotFound(f"the task has no version '{id}'")
        return version

    async def list_versions(
        self,
        session: AsyncSession,
        project_id: str,
        task_id: str,
        *,
        by_name: bool = False,
        descending: bool = True,
        offset: int = 0,
        limit: int = 100,
    ) -> tuple[int, Sequence[ProcessorVersion]]:
        await self._platform.resources.get(session, KIND, project_id, task_id)
        mine = col(ProcessorVersion.task_id) == task_id
        total = (await session.exec(select(func.count()).select_from(ProcessorVersion).where(mine))).one()
        key = col(ProcessorVersion.name) if by_name else col(ProcessorVersion.created_at)
        order = (key.desc(), col(ProcessorVersion.id).desc()) if descending else (key.asc(), col(ProcessorVersion.id))
        rows = await session.exec(select(ProcessorVersion).where(mine).order_by(*order).offset(offset).limit(limit))
        return total, rows.all()

    async def results(
        self, session: AsyncSession, version: ProcessorVersion, property: int | None, offset: int, limit: int
    ) -> tuple[int, Sequence[ProcessorResult]]:
        """What became of samples, the number of all and a page; nothing before the version is COMPLETED."""
        if version.status != COMPLETED:
            return 0, []
        chosen = [col(ProcessorResult.version_id) == version.id]
        if property is not None:
            chosen.append(col(ProcessorResult.property) == property)
        total = (await session.exec(select(func.count()).select_from(ProcessorResult).where(*chosen))).one()
        rows = select(ProcessorResult).where(*chosen).order_by(col(ProcessorResult.number))
        return total, (await session.exec(rows.offset(offset).limit(limit))).all()

    async def read_log(self, version: ProcessorVersion, offset: int, limit: int = 65536) -> LogChunk | None:
        """The worker's output from byte `offset` (negative: from the end); None where there is none (any more)."""
        if version.workload_id is None:
            return None
        async with self._platform.database.read() as session:
            workload = await self._platform.workloads.get(session, version.workload_id)
        try:
            return await self._platform.workloads.read_log(workload, offset, limit)
        except NotFound:
            return None

    # -- changing --------------------------------------------------------------------------------------------------

    async def describe(self, caller: Caller, task_id: str, description: str) -> None:
        async with self._platform.database.transaction() as tx:
            resource, _ = await self._locked(tx, caller.project_id, task_id)
            caller.about(resource=resource.urn, name=resource.name)
            resource.description, resource.updated_at = check_description(description), now_ms()
            tx.session.add(resource)

    async def stop(self, caller: Caller, task_id: str, version_id: str) -> None:
        """End a version that has not ended. Raises Conflict for one that has."""
        async with self._platform.database.transaction() as tx:
            resource, _ = await self._locked(tx, caller.project_id, task_id)
            caller.about(resource=resource.urn, name=resource.name)
            version = await self.get_version(tx.session, caller.project_id, task_id, version_id)
            await tx.session.refresh(version, with_for_update=True)
            if version.status not in OPEN:
                raise Conflict(
                    f"version '{version.name}' has ended ({STATES[version.status]}); "
                    "only one that is initialized or running can be stopped"
                )
            version.stop_requested = True
            tx.session.add(version)
            if version.workload_id is None:
                await self.settle(tx, version, STOPPED)
            else:
                await self._platform.workloads.stop(tx, version.workload_id)

    async def delete(self, caller: Caller, task_id: str) -> None:
        """Take a task with its versions away; what they made stays. Raises Conflict while one of them runs."""
        async with self._platform.database.transaction() as tx:
            resource, task = await self._locked(tx, caller.project_id, task_id)
            caller.about(resource=resource.urn, name=resource.name)
            mine = select(ProcessorVersion).where(ProcessorVersion.task_id == task_id)
            for version in (await tx.session.exec(mine)).all():
                await self._remove(tx, version)
            await tx.session.delete(task)
            await self._platform.resources.delete(tx, resource)

    async def delete_version(self, caller: Caller, task_id: str, version_id: str) -> None:
        """Raises Conflict while it runs."""
        async with self._platform.database.transaction() as tx:
            resource, task = await self._locked(tx, caller.project_id, task_id)
            caller.about(resource=resource.urn, name=resource.name)
            await self._remove(tx, await self.get_version(tx.session, caller.project_id, task_id, version_id))
            if task.latest_id == version_id:
                query = select(ProcessorVersion).where(
                    ProcessorVersion.task_id == task_id, ProcessorVersion.id != version_id
                )
                left = (await tx.session.exec(query.order_by(col(ProcessorVersion.created_at).desc()))).first()
                task.latest_id = left.id if left else None
                task.status = left.status if left else INITIALIZED
                task.duration_s = duration_s(left) if left else 0
                tx.session.add(task)

    async def _remove(self, tx: Transaction, version: ProcessorVersion) -> None:
        if version.status in OPEN:
            raise Conflict(f"version '{version.name}' has not ended; stop it first, then delete it")
        await tx.session.exec(delete(ProcessorResult).where(col(ProcessorResult.version_id) == version.id))
        await tx.session.delete(version)

    async def settle(self, tx: Transaction, version: ProcessorVersion, status: int, reason: str = "") -> None:
        """Say that a version ended; whatever else belongs to its end stands in the same transaction."""
        now = now_ms()
        version.status, version.error_msg, version.updated_at = status, reason, now
        version.ended_at = version.ended_at or now
        tx.session.add(version)
        task = await tx.session.get(ProcessorTask, version.task_id)
        assert task is not None  # it is deleted with its versions, and only when they have ended
        if task.latest_id == version.id:
            task.status, task.duration_s = status, duration_s(version)
            tx.session.add(task)
        if status != COMPLETED and version.output_version_id is not None:
            reserved = await tx.session.get(DatasetVersion, version.output_version_id)
            if reserved is not None:
                reserved.status, reserved.updated_at = versions.FAILED, now
                reserved.message = reason or "the processing task was stopped"
                tx.session.add(reserved)
        resource = await tx.session.get(Resource, version.task_id)
        assert resource is not None
        finished = ProcessingFinished(
            task_id=task.id,
            task_version_id=version.id,
            template_id=task.template_id,
            state=STATES[status],
            counts=version.counts,
            output_dataset_id=version.output_dataset_id if status == COMPLETED else None,
            output_version_id=version.output_version_id if status == COMPLETED else None,
            error_msg=reason or None,
        )
        tx.emit(finished, resource.urn)

    async def _locked(self, tx: Transaction, project_id: str, task_id: str) -> tuple[Resource, ProcessorTask]:
        resource = await self._platform.resources.get(tx.session, KIND, project_id, task_id)
        await tx.session.refresh(resource, with_for_update=True)
        task = await tx.session.get(ProcessorTask, task_id)
        assert task is not None  # written in the same transaction as its resource
        return resource, task


def _newer_one() -> ColumnElement[bool]:
    """That there is a newer task of the same template over the same source and version."""
    from sqlalchemy.orm import aliased

    other = aliased(ProcessorTask)
    same_version = col(other.dataset_version_id).is_not_distinct_from(col(ProcessorTask.dataset_version_id))
    return exists().where(
        col(other.project_id) == ProcessorTask.project_id,
        col(other.template_id) == ProcessorTask.template_id,
        col(other.source) == ProcessorTask.source,
        same_version,
        (col(other.created_at) > ProcessorTask.created_at)
        | ((col(other.created_at) == ProcessorTask.created_at) & (col(other.id) > ProcessorTask.id)),
    )


def duration_s(version: ProcessorVersion) -> int:
    """Seconds a version has run, or ran."""
    return ((version.ended_at or now_ms()) - version.started_at) // 1000 if version.started_at else 0
