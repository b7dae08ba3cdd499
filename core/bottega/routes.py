"""The core's own routes: health, plugins, resources and lineage, events and their credentials."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import anyio
from fastapi import APIRouter, FastAPI, Query, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from sqlmodel import col, select

from bottega import event_routes, secret_routes, workload_routes
from bottega.bus import DeadLetter
from bottega.database import AsyncSession
from bottega.entities import Group, GroupMember, LineageEdge, Resource
from bottega.errors import NotFound
from bottega.gateway import Caller, Page, paging, public, requires
from bottega.plugins import Action
from bottega.routing import Router
from bottega.urn import Urn
from bottega.workspaces import closed_to_caller

if TYPE_CHECKING:
    from bottega.runtime import Runtime

ACTIONS = (
    Action("bottega:plugin:list", "See which plugins there are and how they are"),
    Action("bottega:metrics:get", "Read the platform's own metrics"),
    Action("bottega:self:get", "See who one is"),
    Action("bottega:resource:list", "List the things of a project and follow their lineage"),
    Action("bottega:flavor:list", "See the sizes of machine that are offered"),
    Action("bottega:deadLetter:list", "See events a handler could not process"),
    Action("bottega:deadLetter:replay", "Give an event to its handler again, or drop it"),
    *event_routes.ACTIONS,
    *workload_routes.ACTIONS,
    *secret_routes.ACTIONS,
)
_LINEAGE_DEPTH = 20
_LEAST_FREE = 20 * 2**20
"""Bytes the disk of the data directory needs for the platform to be called ready."""


def routers(runtime: Runtime) -> list[APIRouter]:
    return [
        _health(runtime),
        _platform(runtime),
        _project(runtime),
        _dead_letters(runtime),
        event_routes.router(runtime.platform),
        workload_routes.router(runtime.platform),
        secret_routes.router(runtime.platform),
    ]


def _health(runtime: Runtime) -> APIRouter:
    router = Router(tags=["health"])

    @router.get("/healthz", dependencies=[public("says only that the process answers")])
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @router.get("/readyz", dependencies=[public("says only whether requests can be served")])
    async def readyz(response: Response) -> dict[str, Any]:
        """200 once everything is started and the credentials file is complete, and while the disk has room.

        NATS away does not make it 503.
        """
        status = "ready" if runtime.ready else "starting"
        if runtime.ready and shutil.disk_usage(runtime.data_dir).free < _LEAST_FREE:
            status = f"less than {_LEAST_FREE // 2**20} MB are free on the disk of the data directory"
        if status != "ready":
            response.status_code = 503
        return {"status": status, "nats": runtime.platform.bus.connected}

    @router.get("/openapi.json", dependencies=[public("documentation")], include_in_schema=False)
    async def openapi(request: Request) -> JSONResponse:
        app: FastAPI = request.app
        # Describing hundreds of routes takes a second or more the first time; others are served meanwhile.
        return JSONResponse(await anyio.to_thread.run_sync(app.openapi))

    return router


def _platform(runtime: Runtime) -> APIRouter:
    router = Router(tags=["core"])
    platform = runtime.platform

    @router.get("/metrics")
    async def metrics(caller: Caller = requires("bottega:metrics:get")) -> PlainTextResponse:
        platform.metrics.outbox.set(await platform.bus.relay.lag())
        return PlainTextResponse(platform.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @router.get("/v1/plugins")
    async def plugins(caller: Caller = requires("bottega:plugin:list", everyone=True)) -> dict[str, Any]:
        return {"plugins": [p.report() for p in runtime.plugins.all.values()]}

    @router.get("/v1/whoami")
    async def whoami(caller: Caller = requires("bottega:self:get", everyone=True)) -> dict[str, Any]:
        principal = caller.principal
        account = await platform.identity.account(principal.account_id)
        async with platform.database.read() as session:
            query = select(Group.name).join(GroupMember, col(GroupMember.group_id) == Group.id)
            groups = (await session.exec(query.where(GroupMember.user_id == principal.user_id))).all()
        return {
            "user_id": principal.user_id,
            "user_name": principal.user_name,
            "account_id": principal.account_id,
            "account_name": account.name,
            "kind": principal.kind,
            "is_account_root": principal.is_account_root,
            "scope": principal.scope,
            "groups": list(groups),
        }

    return router


def _project(runtime: Runtime) -> APIRouter:
    router = Router(tags=["core"])
    platform = runtime.platform

    @router.get("/v1/{project_id}/resources")
    async def resources(
        plugin: str | None = None,
        kind: str | None = None,
        name: str | None = None,
        page: Page = paging(50),
        caller: Caller = requires("bottega:resource:list"),
    ) -> dict[str, Any]:
        conditions: list[Any] = [Resource.project_id == caller.project_id, col(Resource.deleted_at).is_(None)]
        conditions.append(platform.resources.visible(Resource.workspace_id))
        conditions += [Resource.plugin == plugin] if plugin else []
        conditions += [Resource.kind == kind] if kind else []
        conditions += [col(Resource.name).contains(name, autoescape=True)] if name else []
        async with platform.database.read() as session:
            query = select(Resource).where(*conditions).order_by(col(Resource.created_at).desc(), Resource.id)
            rows = (await session.exec(query.offset(page.offset).limit(page.limit))).all()
        return {
            "resources": [{**row.model_dump(exclude={"claimed_name", "deleted_at"}), "urn": row.urn} for row in rows]
        }

    @router.get("/v1/{project_id}/lineage")
    async def lineage(
        urn: str = Query(max_length=2048),
        direction: str = Query("up", pattern="^(up|down)$"),
        caller: Caller = requires("bottega:resource:list"),
    ) -> dict[str, Any]:
        """What a thing came from (`up`) or led to (`down`): nodes with names, and edges, 20 steps at most.

        What lies in a workspace that is closed to the caller is not there, nor what only that leads to.
        """
        near, far = (LineageEdge.target, "source") if direction == "up" else (LineageEdge.source, "target")
        edges: list[dict[str, str]] = []
        async with platform.database.read() as session:
            seen, named = await _open(session, {urn})
            if Urn.parse(urn).project != caller.project_id or not seen:
                raise NotFound(f"there is no '{urn}' in this project")
            frontier = seen
            for _ in range(_LINEAGE_DEPTH):
                if not frontier:
                    break
                found = (await session.exec(select(LineageEdge).where(col(near).in_(frontier)))).all()
                frontier, rows = await _open(session, {getattr(e, far) for e in found} - seen)
                seen, named = seen | frontier, named | rows
                edges += [
                    {"source": e.source, "target": e.target, "relation": e.relation}
                    for e in found
                    if getattr(e, far) in seen
                ]
            named = {u: row for u, row in named.items() if row.project_id == caller.project_id}
        nodes = [
            {
                "urn": u,
                "kind": named[u].kind if u in named else "object",
                "name": named[u].name if u in named else u,
                "deleted": u in named and named[u].deleted_at is not None,
            }
            for u in sorted(seen)
        ]
        return {"urn": urn, "nodes": nodes, "edges": edges}

    @router.get("/v1/{project_id}/flavors")
    async def flavors(
        kind: str | None = None, caller: Caller = requires("bottega:flavor:list", everyone=True)
    ) -> dict[str, Any]:
        return {"flavors": [f.model_dump() for f in platform.workloads.flavors(kind)]}

    return router


async def _open(session: AsyncSession, urns: set[str]) -> tuple[set[str], dict[str, Resource]]:
    """Those of `urns` that are not in a workspace closed to the caller, and their rows in the registry."""
    ids = [Urn.parse(urn).id for urn in urns if urn.startswith("bottega:")]
    rows = (await session.exec(select(Resource).where(col(Resource.id).in_(ids)))).all()
    closed = {row.urn for row in rows if row.workspace_id in closed_to_caller()}
    return urns - closed, {row.urn: row for row in rows if row.urn not in closed}


def _dead_letters(runtime: Runtime) -> APIRouter:
    router = Router(tags=["core"])
    bus = runtime.platform.bus

    async def operator(caller: Caller) -> None:
        # Dead letters are of all tenants: only the account the installation was made with sees them.
        await caller.check_operator(NotFound("dead letters are the operator's business"))

    @router.get("/v1/dead-letters")
    async def dead(
        consumer: str | None = None,
        limit: int = Query(100, ge=1, le=1000),
        caller: Caller = requires("bottega:deadLetter:list"),
    ) -> dict[str, Any]:
        await operator(caller)
        return {"dead_letters": [_letter(letter) for letter in await bus.dead_letters(limit, consumer)]}

    @router.post("/v1/dead-letters/{sequence}/replay")
    async def replay(sequence: int, caller: Caller = requires("bottega:deadLetter:replay")) -> dict[str, Any]:
        """Give the event to the one handler that failed on it again."""
        await operator(caller)
        await bus.replay(sequence)
        return {"sequence": sequence, "replayed": True}

    @router.delete("/v1/dead-letters/{sequence}", status_code=204)
    async def purge(sequence: int, caller: Caller = requires("bottega:deadLetter:replay")) -> None:
        await operator(caller)
        await bus.purge(sequence)

    return router


def _letter(letter: DeadLetter) -> dict[str, Any]:
    return {
        "sequence": letter.sequence,
        "consumer": letter.consumer,
        "event_id": letter.event_id,
        "type": letter.event_type,
        "urn": letter.urn,
        "attempts": letter.attempts,
        "reason": letter.reason,
        "time": letter.time,
        "payload": letter.payload.decode("utf-8", "replace"),
    }
