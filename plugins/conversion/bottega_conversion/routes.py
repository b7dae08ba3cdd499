"""``/v2/{project_id}/conversions`` and ``/v2/{project_id}/conversion-templates``."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Query

from bottega.entities import Resource
from bottega.gateway import Caller, Page, paging, requires
from bottega.routing import Router
from bottega_conversion.entities import ConversionTask
from bottega_conversion.planner import CREATE, GET, STOP, ConversionPlanner
from bottega_conversion.requests import ConversionRequest
from bottega_conversion.service import Conversions, shown_now


def router(conversions: Conversions, planner: ConversionPlanner) -> APIRouter:
    routes = Router(prefix="/v2/{project_id}")

    @routes.get("/conversion-templates")
    async def templates(caller: Caller = requires("modelarts:convertTemplate:list")) -> dict[str, Any]:
        found = [converter.describe() for converter in planner.templates]
        return {"total_count": len(found), "templates": found}

    @routes.post("/conversions", status_code=201)
    async def create(body: ConversionRequest, caller: Caller = requires(CREATE)) -> dict[str, Any]:
        resource, task = await conversions.create(caller, body, await planner.foresee(caller, body))
        return _shown(conversions, resource, task)

    @routes.get("/conversions")
    async def list_tasks(
        name: str | None = None,
        status: list[Literal["INIT", "RUNNING", "SUCCESS", "FAILED", "STOPPED"]] = Query([]),
        workspace_id: str | None = None,
        sort_by: Literal["create_time", "name", "update_time"] = "create_time",
        order: Literal["asc", "desc"] = "desc",
        page: Page = paging(),
        caller: Caller = requires("modelarts:convert:list"),
    ) -> dict[str, Any]:
        total, rows = await conversions.list(
            caller.project_id,
            offset=page.offset,
            limit=page.limit,
            name_contains=name,
            status=status,
            workspace_id=workspace_id,
            sort_by=sort_by,
            descending=order == "desc",
        )
        found = [_shown(conversions, resource, task) for resource, task in rows]
        return {
            "total_count": total,
            "count": len(found),
            "offset": page.offset,
            "limit": page.limit,
            "conversions": found,
        }

    @routes.get("/conversions/{conversion_id}")
    async def show(conversion_id: str, caller: Caller = requires(GET, "task/{conversion_id}")) -> dict[str, Any]:
        return _shown(conversions, *await conversions.get(caller.project_id, conversion_id))

    @routes.post("/conversions/{conversion_id}/stop", status_code=202)
    async def stop(conversion_id: str, caller: Caller = requires(STOP, "task/{conversion_id}")) -> dict[str, Any]:
        resource, task = await conversions.stop(caller.project_id, conversion_id)
        caller.about(name=resource.name)
        return _shown(conversions, resource, task)

    @routes.delete("/conversions/{conversion_id}", status_code=204)
    async def delete(
        conversion_id: str, caller: Caller = requires("modelarts:convert:delete", "task/{conversion_id}")
    ) -> None:
        resource = await conversions.delete(caller.project_id, conversion_id)
        caller.about(name=resource.name)

    @routes.get("/conversions/{conversion_id}/log")
    async def log(
        conversion_id: str,
        offset: int = Query(0, ge=-(2**31), le=2**31),
        limit: int = Query(65536, ge=1, le=1 << 20),
        caller: Caller = requires(GET, "task/{conversion_id}"),
    ) -> dict[str, Any]:
        """The worker's output from byte `offset` (negative: from the end); ask again from `next_offset`."""
        return (await conversions.read_log(caller.project_id, conversion_id, offset, limit)).model_dump()

    return routes


def _shown(conversions: Conversions, resource: Resource, task: ConversionTask) -> dict[str, Any]:
    return {
        "id": task.id,
        "name": resource.name,
        "description": resource.description,
        "status": resource.status,
        "fail_reason": task.fail_reason,
        "template_id": task.template_id,
        "input_path": task.input_path,
        "output_path": task.output_path,
        "model_path": task.model_path,
        "options": task.options,
        "data": task.data,
        "max_accuracy_loss": task.max_accuracy_loss,
        "flavor": task.flavor,
        "workspace_id": resource.workspace_id,
        "user_id": resource.owner_id,
        "create_time": task.created_at,
        "start_time": task.started_at,
        "end_time": task.ended_at,
        "duration": shown_now(task),
        "report": task.report or None,
        "urn": resource.urn,
    }
