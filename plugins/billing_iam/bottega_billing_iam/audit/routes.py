"""``/v3/{project_id}/traces`` and what may be looked for: reading the audit trail, in the vendor's shape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from sqlmodel import col, or_

from bottega.errors import Forbidden, Invalid
from bottega.gateway import Caller, requires
from bottega.platform import Platform
from bottega.routing import Router
from bottega.urn import PLATFORM

from . import occurring
from .archive import in_archive
from .entities import Scope
from .records import Record, shown
from .search import Filter, in_database, position, read_marker, scopes_of
from .trace_names import fallback_name, trace_names


def router(platform: Platform) -> APIRouter:
    router = Router()

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
        access_key_id: str | None = None,
        enterprise_project_id: str | None = None,
        code: Annotated[str | None, Query(max_length=64)] = None,
        denied: bool = False,
        workloads: bool = True,
        trace_type: Literal["system", "data"] = "system",
        tracker_name: str | None = None,
        scope: Literal["project", "account"] = "project",
        after: Annotated[str | None, Query(alias="next")] = None,
        limit: Annotated[int, Query(ge=1, le=200)] = 10,
        caller: Caller = requires("cts:trace:list"),
    ) -> dict[str, Any]:
        """The newest records of the project, or with ``scope=account`` of the whole account.

        That takes the right in all of the account, and shows calls that concern no project, too; to the login of the
        platform's first account moreover those that never said who they were. ``meta_data.marker`` is the
        ``next`` of the following page; it is given as long as there may be more. Days that are archived are looked
        through when ``from`` reaches back to them. ``workloads=false`` leaves out what workloads ask for the objects
        of their own; ``trace_type=data`` shows changes of objects in the buckets that data trackers watch.
        """
        if code is not None and code.isdecimal() and len(code) > 3:
            raise Invalid(f"code: '{code}' is neither an HTTP status nor an error code")
        where, visible, accounts = await _visible(platform, caller, scope)
        buckets = None
        async with platform.database.read() as session:
            if trace_type == "data":
                buckets = await occurring.watched_buckets(session, caller.project_id, tracker_name)
            elif tracker_name not in (None, "system"):
                raise Invalid(
                    f"tracker_name: there is no system tracker '{tracker_name}'; data trackers go with trace_type=data"
                )
            scopes = await scopes_of(session, *where)
            begin = await read_marker(session, scopes, after) if after is not None else None
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
            access_key_id=access_key_id,
            enterprise_project_id=enterprise_project_id,
            workloads=workloads,
            buckets=buckets,
        )
        if buckets == []:
            return {"traces": [], "meta_data": {"count": 0, "marker": None}}
        async with platform.database.read() as session:
            hot = await in_database(session, scopes, wanted, begin, limit)
        old: list[Record] = []
        stopped = None
        if start is not None:
            old, stopped = await in_archive(platform, accounts, visible, wanted, begin, limit)
        return _page(hot, old, stopped, limit)

    @router.get("/v3/{project_id}/trace-names")
    async def list_names(caller: Caller = requires("cts:operation:list")) -> dict[str, Any]:
        """The operations that the trail knows by name, by the tables of the guide."""
        rows = [
            {"trace_name": t.name, "resource_type": t.resource_type, "operation": t.operation, "table": t.table}
            for t in trace_names().values()
        ]
        return {"trace_names": rows, "total_count": len(rows)}

    @router.get("/v3/{project_id}/operations")
    async def list_operations(
        service_type: str | None = None,
        resource_type: str | None = None,
        caller: Caller = requires("cts:operation:list"),
    ) -> dict[str, Any]:
        """What can occur in the trail, for rules of key operations: the names, by service and type of resource."""
        if resource_type is not None and service_type is None:
            raise Invalid("resource_type: give service_type, too")
        known: dict[tuple[str, str], set[str]] = {}
        for _, action in platform.shared.plugins.guards.values():
            service, kind = action.name.partition(":")[0].upper(), action.resource_type or ""
            known.setdefault((service, kind), set()).add(action.trace or fallback_name(action.name))
        for trace in trace_names().values():
            known.setdefault(("MODELARTS", trace.resource_type), set()).add(trace.name)
        rows = [
            {"service_type": service, "resource_type": kind, "operation_list": sorted(names)}
            for (service, kind), names in sorted(known.items())
            if service_type in (None, service) and resource_type in (None, kind)
        ]
        return {"operations": rows}

    @router.get("/v3/{domain_id}/resources")
    async def list_resources(domain_id: str, caller: Caller = requires("cts:trace:list")) -> dict[str, Any]:
        """The services and types of resources that occur in the account's records of 30 days."""
        if domain_id != await caller.check_account("cts:trace:list"):
            raise Forbidden(f"account '{domain_id}' is not yours")
        kinds: dict[str, list[str]] = {}
        for service, kind in await occurring.resources(platform, domain_id):
            kinds.setdefault(service, []).append(kind)
        return {"resources": [{"service_type": service, "resource": types} for service, types in kinds.items()]}

    @router.get("/v3/{project_id}/user-resources")
    async def list_users(caller: Caller = requires("cts:trace:list")) -> dict[str, Any]:
        """Who occurs in the project's records of 30 days, at most 1000."""
        names = await occurring.users(platform, caller.principal.account_id, caller.project_id)
        return {"users": [{"name": name} for name in names]}

    return router


async def _visible(
    platform: Platform, caller: Caller, scope: str
) -> tuple[list[Any], Callable[[Record], bool], list[str]]:
    """Which records the caller may see: as places, as a test, and the accounts in whose archive they are."""
    project_id, own = caller.project_id, caller.principal.account_id
    if scope == "project":
        where = [col(Scope.project_id) == project_id, col(Scope.project_id) != PLATFORM]
        return where, lambda record: bool(record["project_id"] == project_id), [own]
    account_id = await caller.check_account("cts:trace:list")
    if not caller.principal.is_account_root or account_id != await platform.identity.platform_account():
        return [col(Scope.account_id) == account_id], lambda _: True, [account_id]
    return [or_(col(Scope.account_id) == account_id, col(Scope.account_id) == "")], lambda _: True, [account_id, ""]


def _page(hot: list[Record], old: list[Record], stopped: tuple[int, str] | None, limit: int) -> dict[str, Any]:
    """What both found, in one order, and where the next page begins."""
    # What was archived between the two questions was found by both.
    once = {record["id"]: record for record in (*old, *hot)}
    found = sorted(once.values(), key=position, reverse=True)
    if stopped is not None:  # what lies behind has not been looked for in the archive yet
        found = [record for record in found if position(record) >= stopped]
    found, marker = found[:limit], None
    if len(found) == limit:
        at, id = position(found[-1])
        marker = id if found[-1] in hot else f"{at}~{id}"
    elif stopped is not None:
        marker = f"{stopped[0]}~{stopped[1] or '-'}"
    return {"traces": [shown(record) for record in found], "meta_data": {"count": len(found), "marker": marker}}
