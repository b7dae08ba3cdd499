"""``/v2/{project_id}/processor-tasks``: the vendor's thirteen operations, and what it lacks."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Query, Response

from bottega.errors import NotFound
from bottega.gateway import Caller, Page, paging, requires
from bottega.objects import ObjectPath
from bottega.platform import Platform
from bottega.plugins import Action
from bottega.routing import Router
from bottega_dataset.previews import Resize
from bottega_dataset.processing import views
from bottega_dataset.processing.planner import CREATE, GET, STOP, TASKS, ProcessingPlanner
from bottega_dataset.processing.processors import TEMPLATES, Processors
from bottega_dataset.processing.requests import NewTask, NewTaskVersion, TaskChange
from bottega_dataset.processing.service import Processing

LIST, UPDATE, DELETE = "modelarts:processTask:list", "modelarts:processTask:update", "modelarts:processTask:delete"
ACTIONS = (
    Action(CREATE, "Create processing tasks and run them", "dataset", "createProcessorTask"),
    Action(LIST, "List processing tasks and what they can do"),
    Action(GET, "See a processing task, its versions and their results"),
    Action(UPDATE, "Change the description of a processing task", "dataset", "updateProcessorTask"),
    Action(STOP, "Stop a version of a processing task", "dataset", "stopProcessorTask"),
    Action(DELETE, "Delete processing tasks and versions of them", "dataset", "deleteProcessorTask"),
)
_TASK = "processor-task/{task_id}"
_ONE = TASKS + "/{task_id}"
_VERSIONS = _ONE + "/versions"
_VERSION = _VERSIONS + "/{version_id}"


def router(platform: Platform, planner: ProcessingPlanner, processors: Processors) -> APIRouter:
    routes = Router()
    service = Processing(platform)

    @routes.get(TASKS + "/items")
    async def templates(page: Page = paging(default=1000), caller: Caller = requires(LIST)) -> Any:
        """The task types, each with its operators and their parameters."""
        shown = [
            {
                "template_id": one.id,
                "label_en": one.label_en,
                "label_zh": one.label_zh,
                "operators": [operator.describe() for operator in processors.of_template(one.id)],
            }
            for one in TEMPLATES.values()
        ]
        return {"total": len(shown), "items": shown[page.offset : page.offset + page.limit]}

    @routes.post(TASKS, status_code=201)
    async def create(body: NewTask, caller: Caller = requires(CREATE)) -> Any:
        """Create a task; a feature analysis, and any with ``create_version``, begins at once."""
        task = await service.create(caller, body, await planner.foresee(caller, body))
        return {"task_id": task.id, "version_id": task.latest_id}

    @routes.get(TASKS)
    async def list_tasks(
        task_name: str | None = None,
        task_type: str | None = None,
        status: int | None = Query(None, ge=0, le=4),
        source_type: Literal["OBS", "TASK", "DATASET", "CUSTOM"] | None = None,
        source: str | None = None,
        version_id: list[str] = Query([]),
        workspace_id: str | None = None,
        query_current: bool = False,
        return_result: bool = True,
        sort_by: Literal["create_time", "name", "duration_seconds"] = "create_time",
        order: Literal["asc", "desc"] = "desc",
        page: Page = paging(maximum=100),
        caller: Caller = requires(LIST),
    ) -> Any:
        async with platform.database.read() as session:
            total, found = await service.listing(
                session,
                caller.project_id,
                name=task_name,
                template_id=task_type,
                status=status,
                source_type=source_type,
                source=_source(source),
                version_ids=version_id,
                workspace_id=workspace_id,
                only_current=query_current,
                sort_by=sort_by,
                descending=order == "desc",
                offset=page.offset,
                limit=page.limit,
            )
        return {"count": total, "tasks": [views.task(platform, one, with_result=return_result) for one in found]}

    @routes.get(_ONE)
    async def show(task_id: str, caller: Caller = requires(GET, _TASK)) -> Any:
        async with platform.database.read() as session:
            found = await service.get(session, caller.project_id, task_id)
        progress = await views.progress(service, found.latest) if found.latest else 0
        return {**views.task(platform, found), "progress": progress}

    @routes.put(_ONE)
    async def update(task_id: str, body: TaskChange, caller: Caller = requires(UPDATE, _TASK)) -> Any:
        await service.describe(caller, task_id, body.description)
        return {}

    @routes.delete(_ONE, status_code=204, response_class=Response)
    async def delete(task_id: str, caller: Caller = requires(DELETE, _TASK)) -> None:
        """Delete a task with its versions; what they made stays."""
        await service.delete(caller, task_id)

    @routes.post(_VERSIONS, status_code=201)
    async def create_version(task_id: str, body: NewTaskVersion, caller: Caller = requires(CREATE, _TASK)) -> Any:
        """Run the task; what the request leaves out is as the task has it."""
        async with platform.database.read() as session:
            found = await service.get(session, caller.project_id, task_id)
        foreseen = await planner.foresee(caller, body, found.task, found.resource.name)
        version = await service.create_version(caller, task_id, body, foreseen)
        return {"version_id": version.id, "version_name": version.name}

    @routes.get(_VERSIONS)
    async def list_versions(
        task_id: str,
        sort_by: Literal["create_time", "version_name"] = "create_time",
        order: Literal["asc", "desc"] = "desc",
        page: Page = paging(default=100, maximum=100),
        caller: Caller = requires(GET, _TASK),
    ) -> Any:
        async with platform.database.read() as session:
            total, rows = await service.list_versions(
                session,
                caller.project_id,
                task_id,
                by_name=sort_by == "version_name",
                descending=order == "desc",
                offset=page.offset,
                limit=page.limit,
            )
        return {"count": total, "versions": [views.version(row) for row in rows]}

    @routes.get(_VERSION)
    async def show_version(task_id: str, version_id: str, caller: Caller = requires(GET, _TASK)) -> Any:
        async with platform.database.read() as session:
            row = await service.get_version(session, caller.project_id, task_id, version_id)
        shown = views.version(row) | {"progress": await views.progress(service, row)}
        return shown | {"result": views.findings(platform, row), "problems": row.problems}

    @routes.delete(_VERSION, status_code=204, response_class=Response)
    async def delete_version(task_id: str, version_id: str, caller: Caller = requires(DELETE, _TASK)) -> None:
        await service.delete_version(caller, task_id, version_id)

    @routes.post(_VERSION + "/stop", status_code=202)
    async def stop(task_id: str, version_id: str, caller: Caller = requires(STOP, _TASK)) -> Any:
        await service.stop(caller, task_id, version_id)
        return {}

    @routes.get(_VERSION + "/results")
    async def results(
        task_id: str,
        version_id: str,
        result_property: int | None = Query(None, ge=-1, le=3),
        process_parameter: str | None = None,
        page: Page = paging(maximum=100),
        caller: Caller = requires(GET, _TASK),
    ) -> Any:
        """What became of each sample, and why.

        `process_parameter` (``image/resize,m_lfit,h_200``) makes small pictures of what ``signed_…_source`` lead to.
        """
        resize = Resize.of(process_parameter)
        wanted = None if result_property == -1 else result_property
        async with platform.database.read() as session:
            row = await service.get_version(session, caller.project_id, task_id, version_id)
            total, rows = await service.results(session, row, wanted, page.offset, page.limit)
        return {
            "count": total,
            "has_more": page.offset + len(rows) < total,
            "results": await views.results(platform, rows, resize),
        }

    @routes.get(_VERSION + "/log")
    async def log(
        task_id: str,
        version_id: str,
        offset: int = Query(0, ge=-(2**31), le=2**31),
        limit: int = Query(65536, ge=1, le=1 << 20),
        caller: Caller = requires(GET, _TASK),
    ) -> Any:
        """The worker's output from byte `offset` (negative: from the end); ask again from `next_offset`."""
        async with platform.database.read() as session:
            row = await service.get_version(session, caller.project_id, task_id, version_id)
        chunk = await service.read_log(row, offset, limit)
        if chunk is None:
            raise NotFound(f"version '{row.name}' has no log here (any more); it is kept in {row.plan['report_path']}")
        return chunk.model_dump()

    return routes


def _source(text: str | None) -> str | None:
    """A source to look for, as tasks keep it: an id, or ``s3://bucket/folder/``."""
    is_path = text is not None and text.startswith(("/", "s3://", "obs://"))
    return str(ObjectPath.parse(text or "", "source").folder) if is_path else text
