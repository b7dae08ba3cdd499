"""``/v1/{project_id}/notebooks…`` in the official client's shapes (sdk_spec §3.4), and the way into JupyterLab."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response, WebSocket
from fastapi.responses import RedirectResponse

from bottega.errors import Conflict
from bottega.gateway import Caller, requires
from bottega.platform import Platform
from bottega.routing import Router, join
from bottega.tags import tag_routes
from bottega_notebook import key_pair_routes
from bottega_notebook.access import ACTION, COOKIE, ByCode, ByCredentialsOrCookie, Sessions
from bottega_notebook.jupyter import base_path
from bottega_notebook.planner import CREATE, NotebookPlanner
from bottega_notebook.proxy import Proxy
from bottega_notebook.requests import CreateRequest, LeaseRequest, UpdateRequest
from bottega_notebook.service import RUNNING, Notebooks, Order, check_address
from bottega_notebook.settings import HOUR_MS
from bottega_notebook.views import Views, page_of

_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


def router(platform: Platform, notebooks: Notebooks, proxy: Proxy) -> APIRouter:
    routes = Router()
    sessions = Sessions(platform, platform.settings.session_s)
    views = Views(platform)
    _management(routes, notebooks, views, NotebookPlanner(notebooks))
    join(
        routes,
        tag_routes(
            platform,
            "/v1/{project_id}/notebooks",
            "instance",
            listing="modelarts:notebook:list",
            reading="modelarts:notebook:get",
            changing="modelarts:notebook:update",
        ),
    )
    _instance(routes, notebooks, views)
    _browser(routes, platform, notebooks, sessions)
    _passing_on(routes, platform, notebooks, proxy)
    routes.include_router(key_pair_routes.router(platform))
    return routes


def _management(routes: APIRouter, notebooks: Notebooks, views: Views, planner: NotebookPlanner) -> None:
    base = "/v1/{project_id}/notebooks"

    @routes.post(base, status_code=201)
    async def create(body: CreateRequest, caller: Caller = requires(CREATE)) -> dict[str, Any]:
        await caller.require((await planner.plan(caller, body)).needs)
        instance = await notebooks.create(
            caller.project_id,
            caller.user_id,
            Order(
                name=body.name,
                description=body.description,
                flavor=body.flavor,
                capacity_gb=body.volume.capacity,
                lease_ms=body.duration or body.lease.duration,
                workspace_id=body.workspace_id,
                allowed_ips=tuple(body.allowed_ips() or ()),
                key_pairs=tuple(body.key_pairs() or ()),
            ),
        )
        return await views.told(caller, instance)

    @routes.get(base)
    @routes.get(f"{base}/all")
    async def list_notebooks(
        name: str | None = None,
        status: str | None = None,
        workspace_id: str | None = None,
        sort_dir: Literal["ASC", "DESC"] = "DESC",
        sort_key: Literal["create_at", "name", "update_at"] = "create_at",
        offset: int = Query(0, ge=0, le=2**31),
        limit: int = Query(10, ge=1, le=1000),
        caller: Caller = requires("modelarts:notebook:list"),
    ) -> dict[str, Any]:
        total, found = await notebooks.list(
            caller.project_id,
            offset=offset,
            limit=limit,
            name_contains=name,
            status=[status] if status else [],
            workspace_id=workspace_id,
            sort_by={"create_at": "create_time", "update_at": "update_time"}.get(sort_key, sort_key),
            descending=sort_dir == "DESC",
        )
        return page_of([await views.shown(instance) for instance in found], total, offset, limit)

    @routes.get(f"{base}/flavors")
    async def flavors(
        category: Literal["CPU", "GPU", "ASCEND"] | None = None,
        offset: int = Query(0, ge=0, le=2**31),
        limit: int = Query(1000, ge=1, le=1000),
        caller: Caller = requires("modelarts:notebook:list"),
    ) -> dict[str, Any]:
        every = [f for f in map(views.flavor, notebooks.flavors()) if category in (None, f["category"])]
        rows = every[offset : offset + limit]
        return {**page_of(rows, len(every), offset, limit), "flavors": rows}


def _instance(routes: APIRouter, notebooks: Notebooks, views: Views) -> None:
    base = "/v1/{project_id}/notebooks/{notebook_id}"
    mine = "instance/{notebook_id}"

    @routes.get(base)
    async def show(notebook_id: str, caller: Caller = requires("modelarts:notebook:get", mine)) -> dict[str, Any]:
        return await views.shown(await notebooks.get(caller.project_id, notebook_id))

    @routes.put(base)
    async def update(
        notebook_id: str, body: UpdateRequest, caller: Caller = requires("modelarts:notebook:update", mine)
    ) -> dict[str, Any]:
        body.check_image()
        changes: dict[str, Any] = {"name": body.name, "description": body.description, "flavor": body.flavor}
        changes |= {"allowed_ips": body.allowed_ips(), "key_pairs": body.key_pairs(), "user_id": caller.user_id}
        return await views.told(caller, await notebooks.update(caller.project_id, notebook_id, **changes))

    @routes.delete(base)
    async def delete(notebook_id: str, caller: Caller = requires("modelarts:notebook:delete", mine)) -> dict[str, Any]:
        return await views.told(caller, await notebooks.delete(caller.project_id, notebook_id))

    @routes.post(f"{base}/start")
    async def start(
        notebook_id: str,
        duration: Annotated[int, Query(ge=HOUR_MS, le=72 * HOUR_MS)] = HOUR_MS,
        type: Literal["TIMING"] = "TIMING",
        caller: Caller = requires("modelarts:notebook:action", mine, trace="startNotebook", spends=True),
    ) -> dict[str, Any]:
        return await views.told(caller, await notebooks.start(caller.project_id, notebook_id, duration))

    @routes.post(f"{base}/stop")
    async def stop(
        notebook_id: str,
        caller: Caller = requires("modelarts:notebook:action", mine, trace="stopNotebook"),
    ) -> dict[str, Any]:
        return await views.told(caller, await notebooks.stop(caller.project_id, notebook_id))

    @routes.get(f"{base}/lease")
    async def show_lease(notebook_id: str, caller: Caller = requires("modelarts:notebook:get", mine)) -> dict[str, Any]:
        return views.lease((await notebooks.get(caller.project_id, notebook_id)).notebook)

    @routes.patch(f"{base}/lease")
    async def renew_lease(
        notebook_id: str,
        body: LeaseRequest | None = None,
        duration: Annotated[int | None, Query(ge=HOUR_MS, le=72 * HOUR_MS)] = None,
        caller: Caller = requires("modelarts:notebook:update", mine),
    ) -> dict[str, Any]:
        """The query's `duration` wins over the body's (sdk_spec §3.4)."""
        lease_ms = duration or (body or LeaseRequest()).duration
        return views.lease((await notebooks.renew(caller.project_id, notebook_id, lease_ms)).notebook)

    @routes.get(f"{base}/flavors")
    async def switchable_flavors(
        notebook_id: str, caller: Caller = requires("modelarts:notebook:get", mine)
    ) -> dict[str, Any]:
        present = (await notebooks.get(caller.project_id, notebook_id)).notebook.flavor
        rows = [views.flavor(f) for f in notebooks.flavors() if f.id != present]
        return page_of(rows, len(rows), 0, max(1, len(rows)))


def _browser(routes: APIRouter, platform: Platform, notebooks: Notebooks, sessions: Sessions) -> None:
    @routes.post("/v1/{project_id}/notebooks/{notebook_id}/open")
    async def open_notebook(
        notebook_id: str, caller: Caller = requires(ACTION, "instance/{notebook_id}", trace="openNotebook")
    ) -> dict[str, Any]:
        """A link that opens the notebook in a browser, once, within a minute."""
        instance = await notebooks.get(caller.project_id, notebook_id)
        check_address(instance.notebook, caller.call.source_ip)
        if instance.resource.status != RUNNING:
            name, status = instance.resource.name, instance.resource.status
            raise Conflict(f"notebook '{name}' is {status}; only RUNNING can be opened")
        caller.about(name=instance.resource.name)
        code = sessions.issue_code(caller.principal, notebook_id)
        return {"url": f"{platform.url}{base_path(caller.project_id, notebook_id)}_open?code={code}"}

    @routes.get("/notebooks/{project_id}/{notebook_id}/_open", include_in_schema=False)
    async def enter(
        notebook_id: str,
        caller: Caller = Depends(ByCode(ACTION, "instance/{notebook_id}", sessions=sessions)),
    ) -> Response:
        token, max_age = sessions.cookie(caller.principal, caller.project_id, notebook_id)
        path = base_path(caller.project_id, notebook_id)
        answer = RedirectResponse(f"{path}lab", 303, headers={"Referrer-Policy": "no-referrer"})
        answer.set_cookie(
            COOKIE,
            token,
            max_age=max_age,
            path=path,
            httponly=True,
            samesite="lax",
            secure=platform.url.startswith("https://"),
        )
        return answer


def _passing_on(routes: APIRouter, platform: Platform, notebooks: Notebooks, proxy: Proxy) -> None:
    inside = "/notebooks/{project_id}/{notebook_id}/{path:path}"
    allowed = Depends(ByCredentialsOrCookie(ACTION, "instance/{notebook_id}", keep_body=False))

    @routes.api_route(inside, methods=_METHODS, include_in_schema=False)
    async def http(request: Request, notebook_id: str, caller: Caller = allowed) -> Response:
        target = await notebooks.target(caller.project_id, notebook_id, caller.call.source_ip)
        answer = await proxy.http(request, target, caller.principal.user_name)
        # What happens inside JupyterLab is no operation of this platform: the trail holds the opening.
        caller.call.recorded_status = answer.status_code
        return answer

    @routes.websocket(inside)
    async def websocket(websocket: WebSocket, notebook_id: str, caller: Caller = allowed) -> None:
        target = await notebooks.target(caller.project_id, notebook_id, caller.call.source_ip)

        async def still_allowed() -> None:
            check_address((await notebooks.get(caller.project_id, notebook_id)).notebook, caller.call.source_ip)
            await platform.identity.user(caller.user_id)
            await caller.check(ACTION, caller.call.resource or "*")

        await proxy.websocket(websocket, target, caller.principal.user_name, still_allowed)
