"""The HTTP application: the core's routes and those of every plugin, checked that each names its IAM action."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, APIWebSocketRoute
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from bottega import routes
from bottega.errors import PluginError
from bottega.gateway import Edge, Public, Requirement, install_error_handlers
from bottega.plugins import Plugin

if TYPE_CHECKING:
    from bottega.runtime import Runtime


def build(runtime: Runtime) -> ASGIApp:
    """The application of a platform. A plugin whose routes break the rules is reported broken and brings none."""
    app = FastAPI(
        title="Bottega",
        redirect_slashes=False,  # the official client takes a redirect for success (sdk_spec §1.4)
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )
    app.state.platform = runtime.platform
    app.state.runtime = runtime
    install_error_handlers(app)
    for router in routes.routers(runtime):
        check_routes(router.routes, "core", {a.name for a in routes.ACTIONS})
        app.include_router(router)
    taken = {(method, route.path) for route in app.routes if isinstance(route, APIRoute) for method in route.methods or ()}
    for plugin in runtime.plugins.on():
        _mount(app, runtime, plugin, taken)
    return Edge(app, runtime.platform, runtime.settings.server.max_body_mb * 2**20)


def check_routes(found: Iterable[BaseRoute], plugin: str, declared: set[str]) -> None:
    """Raises PluginError for a route that names no IAM action, or one the plugin did not declare."""
    for route in found:
        if not isinstance(route, APIRoute | APIWebSocketRoute):
            raise PluginError(f"route {getattr(route, 'path', route)} is not a FastAPI route and cannot be checked")
        checks = list(_checks(route.dependant))
        if not checks:
            raise PluginError(
                f"route {route.path} names no IAM action; add "
                "'caller: Caller = requires(\"service:resource:operation\")'"
            )
        for check in checks:
            if isinstance(check, Requirement) and check.action not in declared:
                raise PluginError(
                    f"route {route.path} checks '{check.action}', which {plugin} does not declare in bottega_actions"
                )


def requirement_of(route: APIRoute | APIWebSocketRoute) -> Requirement | None:
    """The IAM check of a route; None for a public one."""
    return next((c for c in _checks(route.dependant) if isinstance(c, Requirement)), None)


def _checks(dependant: Dependant) -> Iterable[Any]:
    for inner in dependant.dependencies:
        if isinstance(inner.call, Requirement | Public):
            yield inner.call
        yield from _checks(inner)


def _mount(app: FastAPI, runtime: Runtime, plugin: Plugin, taken: set[tuple[str, str]]) -> None:
    view = runtime.platform.bind(plugin.name, plugin.settings)
    router: APIRouter | None = runtime.plugins.call(plugin, "bottega_routes", platform=view)
    if router is None:
        return
    with runtime.plugins.boundary(plugin, "bottega_routes"):
        check_routes(router.routes, plugin.name, {a.name for a in plugin.actions})
        mine = {(m, r.path) for r in router.routes if isinstance(r, APIRoute) for m in r.methods or ()}
        if mine & taken:
            method, path = min(mine & taken)
            raise PluginError(f"route {method} {path} exists already")
        app.include_router(router, tags=[plugin.name])
        taken |= mine
        plugin.router = router
