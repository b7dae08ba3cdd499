"""Conversion tasks: creating them, following their worker, judging what it found.

States in the vendor's words (002 §6.8.1): INIT → RUNNING → SUCCESS | FAILED | STOPPED.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from sqlmodel import col, select

from bottega.backends import LogChunk, WorkloadFinished, WorkloadSpec, WorkloadStarted
from bottega.backends import Transfer as WorkloadTransfer
from bottega.context import now_ms
from bottega.database import Transaction
from bottega.entities import LineageEdge, Resource
from bottega.errors import Conflict, Invalid, NotFound
from bottega.events import Event, Received
from bottega.gateway import Caller
from bottega.objects import ObjectPath
from bottega.platform import Platform
from bottega.urn import Urn, new_id
from bottega.workspaces import closed_to_caller
from bottega_conversion import folders
from bottega_conversion.converters import Converter
from bottega_conversion.entities import ConversionTask
from bottega_conversion.events import TaskCompleted, TaskFailed, TaskStopped, TaskSubmitted
from bottega_conversion.planner import KIND, Foreseen
from bottega_conversion.requests import ConversionRequest
from bottega_conversion.settings import ConversionSettings

INIT, RUNNING, SUCCESS, FAILED, STOPPED = "INIT", "RUNNING", "SUCCESS", "FAILED", "STOPPED"
OPEN = (INIT, RUNNING)
REPORT, LOG = "report.json", "job_log.txt"
_REASON = "exit code 1: conversion failed: "


class Conversions:
    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._settings: ConversionSettings = platform.settings

    # -- what users do -------------------------------------------------------------------------------------------

    async def create(
        self, caller: Caller, order: ConversionRequest, foreseen: Foreseen
    ) -> tuple[Resource, ConversionTask]:
        """Check everything about `order`, then register the task and ask for its worker."""
        await caller.require(foreseen.needs)
        platform, store = self._platform, self._platform.objects
        converter, options, output, data = foreseen.converter, foreseen.options, foreseen.output, foreseen.data
        source = await folders.find_model(store, foreseen.input, converter)
        await folders.check_output(store, output)
        files = [source, *await folders.companions(store, source)]
        if data:
            await folders.check_there(store, data)
        async with platform.database.transaction() as tx:
            await self._check_unused(tx, caller.project_id, output)
            origin = await self._origin(tx, caller.project_id, order.source_urn, source)
            resource = await platform.resources.create(
                tx,
                kind=KIND,
                project_id=caller.project_id,
                owner_id=caller.user_id,
                name=order.name,
                status=INIT,
                workspace_id=order.workspace_id,
                description=order.description,
                id=new_id(),
            )
            workload = await platform.workloads.request(
                tx,
                _spec(converter, options.model_dump(mode="json"), files, output, data, order, self._settings.timeout_s),
                kind="conversion",
                flavor_id=foreseen.flavor,
                resource_urn=resource.urn,
                project_id=caller.project_id,
                user_id=caller.user_id,
                workspace_id=order.workspace_id,
            )
            task = ConversionTask(
                id=resource.id,
                project_id=caller.project_id,
                template_id=converter.id,
                input_path=str(foreseen.input),
                output_path=str(output),
                options=options.model_dump(mode="json"),
                data=_data_shown(data, order),
                max_accuracy_loss=order.max_accuracy_loss,
                flavor=foreseen.flavor,
                workload_id=workload.id,
                created_at=resource.created_at,
            )
            tx.session.add(task)
            await platform.resources.link(tx, origin, resource.urn, "converted from")
            if data and data.urn:
                await platform.resources.link(tx, data.urn, resource.urn, "checked with")
            tx.emit(
                TaskSubmitted(
                    task_id=task.id,
                    name=resource.name,
                    template_id=task.template_id,
                    input_path=task.input_path,
                    output_path=task.output_path,
                ),
                resource.urn,
            )
        caller.about(resource=resource.urn, name=resource.name)
        return resource, task

    async def get(self, project_id: str, task_id: str) -> tuple[Resource, ConversionTask]:
        async with self._platform.database.read() as session:
            resource = await self._platform.resources.get(session, KIND, project_id, task_id)
            task = await session.get(ConversionTask, task_id)
        assert task is not None  # written in the same transaction as its resource
        return resource, task

    async def list(self, project_id: str, **filters: Any) -> tuple[int, list[tuple[Resource, ConversionTask]]]:
        """One page of tasks and the number of all; `filters` are those of ``Resources.list``."""
        async with self._platform.database.read() as session:
            total, resources = await self._platform.resources.list(session, KIND, project_id, **filters)
            query = select(ConversionTask).where(col(ConversionTask.id).in_([r.id for r in resources]))
            tasks = {task.id: task for task in (await session.exec(query)).all()}
        return total, [(r, tasks[r.id]) for r in resources]

    async def stop(self, project_id: str, task_id: str) -> tuple[Resource, ConversionTask]:
        """Ask the worker to end; the task is STOPPED when it has. Raises Conflict for one that has ended."""
        async with self._platform.database.transaction() as tx:
            resource, task = await self._locked(tx, project_id, task_id)
            if resource.status not in OPEN:
                raise Conflict(
                    f"task '{resource.name}' has ended ({resource.status}); only INIT and RUNNING can be stopped"
                )
            task.stop_requested = True
            tx.session.add(task)
            await self._platform.workloads.stop(tx, task.workload_id)
        return resource, task

    async def delete(self, project_id: str, task_id: str) -> Resource:
        """Take an ended task out of the list (002 §6.8.1); what it wrote stays. Raises Conflict while it runs."""
        async with self._platform.database.transaction() as tx:
            resource, _ = await self._locked(tx, project_id, task_id)
            if resource.status in OPEN:
                raise Conflict(f"task '{resource.name}' is {resource.status}; stop it first, then delete it")
            await self._platform.resources.delete(tx, resource)
        return resource

    async def read_log(self, project_id: str, task_id: str, offset: int, limit: int) -> LogChunk:
        """From the backend, or, when it holds none any more, from the output folder. `offset` is in bytes."""
        resource, task = await self.get(project_id, task_id)
        async with self._platform.database.read() as session:
            workload = await self._platform.workloads.get(session, task.workload_id)
        try:
            return await self._platform.workloads.read_log(workload, offset, limit)
        except NotFound:
            ended = resource.status not in OPEN
        try:
            kept = await self._platform.objects.get(ObjectPath.parse(task.output_path) / LOG) if ended else b""
        except NotFound:
            kept = b""
        start = max(0, len(kept) + offset) if offset < 0 else min(offset, len(kept))
        piece = kept[start : start + limit]
        return LogChunk(
            text=piece.decode("utf-8", "replace"),
            offset=start,
            next_offset=start + len(piece),
            size=len(kept),
            complete=ended and start + len(piece) >= len(kept),
        )

    # -- what the worker's life brings ---------------------------------------------------------------------------

    async def on_started(self, received: Received[WorkloadStarted], tx: Transaction) -> None:
        """The worker runs."""
        urn = self._mine(received.event.resource_urn)
        if urn is None:
            return
        task = await tx.session.get(ConversionTask, urn.id)
        resource = await tx.session.get(Resource, urn.id, with_for_update=True)
        if task is None or resource is None or resource.status != INIT:
            return  # its end may have been handled first: nothing orders the two kinds of handler
        task.started_at = received.event.started_at
        tx.session.add(task)
        await self._platform.resources.set_status(tx, resource, RUNNING)

    async def on_finished(self, received: Received[WorkloadFinished]) -> None:
        """The worker ended: read its report from the output folder and settle the task. Twice is once."""
        event = received.event
        urn = self._mine(event.resource_urn)
        if urn is None:
            return
        _, task = await self._row(urn.id)
        report: dict[str, Any] = {}
        if task is not None and event.state == "succeeded":
            try:
                report = orjson.loads(await self._platform.objects.get(ObjectPath.parse(task.output_path) / REPORT))
            except (NotFound, ValueError):
                report = {}
        async with self._platform.database.transaction() as tx:
            task = await tx.session.get(ConversionTask, urn.id)
            resource = await tx.session.get(Resource, urn.id, with_for_update=True)
            if task is None or resource is None or resource.status not in OPEN:
                return
            await self._settle(tx, resource, task, event, report)

    async def _settle(
        self, tx: Transaction, resource: Resource, task: ConversionTask, event: WorkloadFinished, report: dict[str, Any]
    ) -> None:
        task.started_at, task.ended_at, task.report = event.started_at, event.finished_at, report
        outcome: Event
        if event.state == "stopped" and task.stop_requested:
            status, outcome = STOPPED, TaskStopped(task_id=task.id, name=resource.name)
        elif report.get("accepted"):
            model = str(ObjectPath.parse(task.output_path) / str(report["model"]))
            accuracy = report["comparison"]["accuracy"] or {}
            task.model_path = model
            status = SUCCESS
            outcome = TaskCompleted(
                task_id=task.id,
                name=resource.name,
                template_id=task.template_id,
                model_path=model,
                size_before=report["size_bytes"]["before"],
                size_after=report["size_bytes"]["after"],
                accuracy_before=accuracy.get("before"),
                accuracy_after=accuracy.get("after"),
            )
            await self._platform.resources.link(tx, resource.urn, task.output_path, "written by")
        else:
            status = FAILED
            if report:
                task.fail_reason = f"not accepted: {report.get('reason', '')}"
            else:
                task.fail_reason = event.reason.removeprefix(_REASON) or "the worker ended without a report"
            outcome = TaskFailed(
                task_id=task.id,
                name=resource.name,
                template_id=task.template_id,
                reason=task.fail_reason,
                not_accepted=bool(report),
            )
        tx.session.add(task)
        await self._platform.resources.set_status(tx, resource, status)
        tx.emit(outcome, resource.urn)

    # -- parts ---------------------------------------------------------------------------------------------------

    async def _check_unused(self, tx: Transaction, project_id: str, output: ObjectPath) -> None:
        query = select(ConversionTask.output_path, Resource.name).join(Resource, col(Resource.id) == ConversionTask.id)
        running = await tx.session.exec(
            query.where(
                Resource.project_id == project_id, col(Resource.status).in_(OPEN), col(Resource.deleted_at).is_(None)
            )
        )
        for text, name in running.all():
            other = ObjectPath.parse(text)
            if other.contains(output) or output.contains(other):
                raise Conflict(f"output_path {output} is being written by task '{name}'; choose another folder")

    async def _origin(self, tx: Transaction, project_id: str, source_urn: str | None, source: ObjectPath) -> str:
        """What the model came from: the thing the user names, or the nearest folder something wrote, or the file."""
        if source_urn:
            urn = Urn.parse(source_urn)
            named = await tx.session.get(Resource, urn.id)
            hidden = named is None or named.deleted_at is not None or named.workspace_id in closed_to_caller()
            if named is None or hidden or urn.project != project_id or named.urn != source_urn:
                raise Invalid(f"source_urn: there is no '{source_urn}' in this project")
            return source_urn
        parts = source.key.split("/")
        above = [str(ObjectPath(source.bucket, "/".join(parts[:n]) + "/")) for n in range(len(parts) - 1, 0, -1)]
        query = select(LineageEdge.target).where(col(LineageEdge.target).in_([str(source), *above]))
        written = set((await tx.session.exec(query)).all())
        return next((path for path in (str(source), *above) if path in written), str(source))

    async def _locked(self, tx: Transaction, project_id: str, task_id: str) -> tuple[Resource, ConversionTask]:
        resource = await self._platform.resources.get(tx.session, KIND, project_id, task_id)
        await tx.session.refresh(resource, with_for_update=True)
        task = await tx.session.get(ConversionTask, task_id)
        assert task is not None  # written in the same transaction as its resource
        return resource, task

    async def _row(self, task_id: str) -> tuple[Resource | None, ConversionTask | None]:
        async with self._platform.database.read() as session:
            return await session.get(Resource, task_id), await session.get(ConversionTask, task_id)

    def _mine(self, resource_urn: str) -> Urn | None:
        urn = Urn.parse(resource_urn)
        return urn if (urn.plugin, urn.kind) == (self._platform.name, KIND) else None


def _spec(
    converter: Converter,
    options: dict[str, Any],
    files: Sequence[ObjectPath],
    output: ObjectPath,
    data: folders.Data | None,
    order: ConversionRequest,
    timeout_s: float,
) -> WorkloadSpec:
    kind = type(converter)
    local_data = {"npz": "data.npz", "manifest": "data.manifest"}[data.kind] if data else ""
    task = {
        "converter": f"{kind.__module__}:{kind.__qualname__}",
        "options": options,
        "source": f"source/{files[0].name}",
        "target_name": f"model{converter.target_suffix}",
        "output": "output",
        "data_kind": data.kind if data else "none",
        "data": local_data,
        "max_accuracy_loss": order.max_accuracy_loss,
    }
    inputs = [WorkloadTransfer(path=str(file), local=f"source/{file.name}") for file in files]
    if data:
        inputs.append(WorkloadTransfer(path=str(data.path), local=local_data))
    return WorkloadSpec(
        command=["{python}", "-m", "bottega_conversion.worker", "task.json"],
        files={"task.json": orjson.dumps(task).decode()},
        inputs=inputs,
        outputs=[WorkloadTransfer(path=str(output), local="output/")],
        log_path=str(output / LOG),
        may_read=[str(folder) for folder in data.folders] if data else [],
        timeout_s=timeout_s,
    )


def _data_shown(data: folders.Data | None, order: ConversionRequest) -> dict[str, Any]:
    if data is None:
        return {}
    if order.data.dataset_version_id:
        return {"dataset_version_id": order.data.dataset_version_id, "manifest_path": str(data.path)}
    return {"path": str(data.path)}


def shown_now(task: ConversionTask) -> int:
    """Milliseconds the task has run, or ran."""
    return (task.ended_at or now_ms()) - task.started_at if task.started_at else 0
