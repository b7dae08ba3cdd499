"""``/v1/{project_id}/services``. Predictions do not come here: they go to a service's ``access_address``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from fastapi import APIRouter
from sqlmodel import col, select

from bottega.database import AsyncSession
from bottega.errors import BottegaError, NotFound
from bottega.gateway import Caller, Page, paging, requires
from bottega.platform import Platform
from bottega.routing import Router
from bottega_serving import shapes
from bottega_serving.entities import Calls, Service, ServiceEvent, ServiceUpdate
from bottega_serving.planner import CREATE_SERVICE, ServingPlanner, served_models
from bottega_serving.service_requests import CreateService, UpdateService
from bottega_serving.services import Services, service_urn

_ONE = "service/{service_id}"


def service_router(platform: Platform, services: Services, planner: ServingPlanner) -> APIRouter:
    router = Router(prefix="/v1/{project_id}/services", tags=["services"])

    @router.post("")
    async def create(body: CreateService, caller: Caller = requires(CREATE_SERVICE)) -> dict[str, Any]:
        await caller.require((await planner.service(caller, body)).needs)
        service = await services.create(body, caller.project_id, caller.principal.account_id, caller.user_id)
        caller.about(resource=service_urn(service), name=service.name)
        return {"service_id": service.id, "resource_ids": [service.workload_id]}

    @router.get("")
    async def list_services(
        service_id: str | None = None,
        service_name: str | None = None,
        model_id: str | None = None,
        workspace_id: str | None = None,
        status: str | None = None,
        infer_type: Literal["real-time", "batch"] = "real-time",
        sort_by: Literal["publish_at", "service_name", "transition_at"] = "publish_at",
        order: Literal["asc", "desc"] = "desc",
        page: Page = paging(1000),
        caller: Caller = requires("modelarts:service:list"),
    ) -> dict[str, Any]:
        if infer_type == "batch":
            return {"total_count": 0, "count": 0, "services": []}
        async with platform.database.read() as session:
            total, rows = await services.page(
                session,
                caller.project_id,
                service_id=service_id,
                name=service_name,
                model_id=model_id,
                workspace_id=workspace_id,
                status=status,
                sort_by=sort_by,
                ascending=order == "asc",
                offset=page.offset,
                limit=page.limit,
            )
            calls = await _calls(session, [row.id for row in rows])
        shown = [shapes.service_row(row, calls.get(row.id, [])) for row in rows]
        return {"total_count": total, "count": len(rows), "services": shown}

    @router.get("/specifications")
    async def specifications(
        infer_type: Literal["real-time", "batch"] = "real-time",
        is_personal_cluster: bool = False,
        page: Page = paging(1000),
        caller: Caller = requires("modelarts:service:list"),
    ) -> dict[str, Any]:
        flavors = platform.workloads.flavors("serving") if infer_type == "real-time" and not is_personal_cluster else []
        shown = [shapes.specification(flavor) for flavor in flavors[page.offset : page.offset + page.limit]]
        return {"total_count": len(flavors), "count": len(shown), "specifications": shown}

    @router.get("/{service_id}")
    async def show(service_id: str, caller: Caller = requires("modelarts:service:get", _ONE)) -> dict[str, Any]:
        async with platform.database.read() as session:
            service = await services.get(session, caller.project_id, service_id)
            calls = await _calls(session, [service_id])
        return shapes.service_detail(service, calls.get(service_id, []))

    @router.put("/{service_id}")
    async def update(
        service_id: str, body: UpdateService, caller: Caller = requires("modelarts:service:update", _ONE)
    ) -> dict[str, Any]:
        if body.status is not None:
            caller.about(trace="startOrStopService")
        if body.status == "running":
            await caller.check_standing()
        if body.config is not None:
            await caller.require(served_models(caller.project_id, body.config))
        service = await services.update(caller.project_id, service_id, body)
        caller.about(name=service.name)
        return {}

    @router.delete("/{service_id}")
    async def delete(service_id: str, caller: Caller = requires("modelarts:service:delete", _ONE)) -> dict[str, Any]:
        await services.delete(caller.project_id, service_id)
        return {}

    @router.get("/{service_id}/events")
    async def events(
        service_id: str,
        event_type: Literal["normal", "abnormal"] | None = None,
        event_info: str | None = None,
        start_time: int | None = None,
        end_time: int | None = None,
        order: Literal["asc", "desc"] = "desc",
        page: Page = paging(1000),
        caller: Caller = requires("modelarts:service:get", _ONE),
    ) -> dict[str, Any]:
        async with platform.database.read() as session:
            service = await services.get(session, caller.project_id, service_id)
            found: list[Any] = [ServiceEvent.service_id == service.id]
            if event_type:
                found.append(ServiceEvent.event_type == event_type)
            if event_info:
                found.append(col(ServiceEvent.event_info).contains(event_info, autoescape=True))
            if start_time is not None:
                found.append(col(ServiceEvent.occur_time) >= start_time)
            if end_time is not None:
                found.append(col(ServiceEvent.occur_time) <= end_time)
            rows = (await session.exec(select(ServiceEvent).where(*found))).all()
        rows = sorted(rows, key=lambda row: (row.occur_time, row.id or 0), reverse=order == "desc")
        shown = shapes.event_rows(rows[page.offset : page.offset + page.limit])
        about = {"service_id": service.id, "service_name": service.name}
        return {**about, "total_count": len(rows), "count": len(shown), "events": shown}

    @router.get("/{service_id}/logs")
    async def updates(
        service_id: str,
        update_time: int | None = None,
        caller: Caller = requires("modelarts:service:get", _ONE),
    ) -> dict[str, Any]:
        async with platform.database.read() as session:
            service = await services.get(session, caller.project_id, service_id)
            query = select(ServiceUpdate).where(ServiceUpdate.service_id == service.id)
            if update_time is not None:
                query = query.where(ServiceUpdate.update_time == update_time)
            rows = (await session.exec(query.order_by(col(ServiceUpdate.revision).desc()))).all()
        return {"service_id": service.id, "service_name": service.name, "logs": shapes.update_rows(rows)}

    @router.get("/{service_id}/logs/preview")
    async def log_text(
        service_id: str,
        offset: int = 0,
        limit: int = 65536,
        caller: Caller = requires("modelarts:service:getLogs", _ONE),
    ) -> dict[str, Any]:
        """What the service's processes have printed; a negative offset counts from the end."""
        async with platform.database.read() as session:
            service = await services.get(session, caller.project_id, service_id)
            runs = await platform.workloads.of_resource(session, service_urn(service))
        if not runs:
            raise NotFound(f"service '{service.name}' has never been deployed")
        chunk = await platform.workloads.read_log(runs[0], offset, min(limit, 1 << 20))
        return {
            "content": chunk.text,
            "start_byte": chunk.offset,
            "end_byte": chunk.next_offset,
            "current_size": chunk.size,
            "complete": chunk.complete,
        }

    @router.get("/{service_id}/monitor")
    async def monitor(service_id: str, caller: Caller = requires("modelarts:service:get", _ONE)) -> dict[str, Any]:
        async with platform.database.read() as session:
            service = await services.get(session, caller.project_id, service_id)
            calls = (await _calls(session, [service_id])).get(service_id, [])
        usage = await _usage(platform, service)
        offered = {flavor.id: flavor for flavor in platform.workloads.flavors("serving")}
        flavor = offered.get(service.config[0]["specification"])
        return shapes.monitor(service, calls, usage, flavor)

    return router


async def _calls(session: AsyncSession, service_ids: Sequence[str]) -> dict[str, list[Calls]]:
    rows = (await session.exec(select(Calls).where(col(Calls.service_id).in_(service_ids)))).all()
    found: dict[str, list[Calls]] = {}
    for row in rows:
        found.setdefault(row.service_id, []).append(row)
    return found


async def _usage(platform: Platform, service: Service) -> dict[str, float]:
    if service.workload_id is None:
        return {}
    async with platform.database.read() as session:
        workload = await platform.workloads.get(session, service.workload_id)
    try:
        samples = await platform.workloads.read_usage(workload)
    except BottegaError:
        return {}  # a backend that is away, or has not measured yet, is no reason to show nothing else
    return {"cpu_percent": samples[-1].cpu_percent, "memory_mb": samples[-1].memory_mb} if samples else {}
