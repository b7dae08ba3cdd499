"""``/v3/{project_id}/traces``: reading the audit trail, in the vendor's shape. Nothing writes it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from sqlmodel import col, or_

from bottega.gateway import Caller, requires
from bottega.platform import Platform
from bottega.urn import PLATFORM

from .entities import Trace
from .trace_names import trace_names
from .traces import Filter, find


def router(platform: Platform) -> APIRouter:
    router = APIRouter()

    @router.get("/v3/{project_id}/traces")
    async def list_traces(
        start: Annotated[int | None, Query(alias="from", ge=0, le=2**53, description="epoch ms")] = None,
        end: Annotated[int | None, Query(alias="to", ge=0, le=2**53, description="epoch ms, not included")] = None,
        user: str | None = None,
        service_type: str | None = None,
        resource_type: str | None = None,
        resource_id: str | None = None,
        resource_name: str | None = None,
        trace_id: str | None = None,
        trace_name: str | None = None,
        trace_rating: Literal["normal", "warning", "incident"] | None = None,
        trace_status: Literal["normal", "warning", "incident"] | None = None,
        code: str | None = None,
        denied: bool = False,
        workloads: bool = True,
        trace_type: Literal["system", "data"] = "system",
        scope: Literal["project", "account"] = "project",
        after: Annotated[str | None, Query(alias="next")] = None,
        limit: Annotated[int, Query(ge=1, le=200)] = 10,
        caller: Caller = requires("cts:trace:list"),
    ) -> dict[str, Any]:
        """The newest records of the project, or with ``scope=account`` of the whole account.

        The account's own login also sees, with ``scope=account``, its users' calls that concern no project; that of
        the platform's first account moreover those that never said who they were. ``meta_data.marker`` is the
        ``next`` of the following page. ``workloads=false`` leaves out what workloads ask for the objects of their own.
        """
        if scope == "account":
            account_id = await caller.check_account("cts:trace:list")
            visible = col(Trace.account_id) == account_id
            if caller.principal.is_account_root and account_id == await platform.identity.platform_account():
                visible = or_(visible, col(Trace.account_id).is_(None))
        else:
            visible = (col(Trace.project_id) == caller.project_id) & (col(Trace.project_id) != PLATFORM)
        wanted = Filter(
            start=start,
            end=end,
            user=user,
            resource_type=resource_type,
            resource_id=resource_id,
            resource_name=resource_name,
            trace_name=trace_name,
            trace_id=trace_id,
            rating=trace_rating or trace_status,
            code=code,
            denied=denied,
            service_type=service_type,
            workloads=workloads,
        )
        if trace_type == "data":
            return {"traces": [], "meta_data": {"count": 0, "marker": None}}
        async with platform.database.read() as session:
            found = await find(session, visible, wanted, after, limit)
        marker = found[-1].id if len(found) == limit else None
        return {"traces": [_json(trace) for trace in found], "meta_data": {"count": len(found), "marker": marker}}

    @router.get("/v3/{project_id}/trace-names")
    async def list_names(caller: Caller = requires("cts:trace:list")) -> dict[str, Any]:
        """The operations that the trail knows by name, by the tables of the guide."""
        rows = [
            {"trace_name": t.name, "resource_type": t.resource_type, "operation": t.operation, "table": t.table}
            for t in trace_names().values()
        ]
        return {"trace_names": rows, "total_count": len(rows)}

    return router


def _json(trace: Trace) -> dict[str, Any]:
    return {
        "trace_id": trace.id,
        "trace_name": trace.name,
        "trace_rating": trace.rating,
        "trace_status": trace.rating,
        "trace_type": "ApiCall",
        "service_type": (trace.action or "").partition(":")[0].upper(),
        "operation_id": trace.action,
        "resource_type": trace.resource_type,
        "resource_id": (trace.resource or "").rpartition("/")[2] if "/" in (trace.resource or "") else None,
        "resource_url": trace.resource,
        "resource_name": trace.resource_name,
        "resource_account_id": trace.account_id,
        "user": {
            "id": trace.user_id,
            "name": trace.user_name,
            "user_name": trace.user_name,
            "account_id": trace.account_id,
        },
        "source_ip": trace.source_ip,
        "request": f"{trace.method} {trace.path}",
        "code": str(trace.status),
        "error_code": trace.code,
        "message": trace.reason,
        "request_id": trace.id,
        "read_only": trace.method in ("GET", "HEAD"),
        "project_id": trace.project_id,
        "time": trace.at,
        "record_time": trace.recorded_at,
    }
