"""The HTTP application: the core's routes and those of every plugin, checked that each names its IAM action."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastapi import APIRouter, FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, APIWebSocketRoute, iter_route_contexts
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
    taken = {name for route in every_route(app.routes) for name in route.names}
    for plugin in runtime.plugins.on():
        _mount(app, runtime, plugin, taken)
    return Edge(app, runtime.platform, runtime.settings.server.max_body_mb * 2**20)


@dataclass(frozen=True, slots=True)
class GuardedRoute:
    """A route as it is served: its full path, its methods (empty for a websocket) and the check it names."""

    path: str
    methods: frozenset[str]
    checks: tuple[Requirement | Public, ...]

    @property
    def names(self) -> set[tuple[str, str]]:
        return {(method, self.path) for method in self.methods or {"WEBSOCKET"}}

    @property
    def requirement(self) -> Requirement | None:
        """The IAM check; None for a public route."""
        return next((c for c in self.checks if isinstance(c, Requirement)), None)


def every_route(found: Sequence[BaseRoute]) -> Iterator[GuardedRoute]:
    """The routes of an application or router, those of included routers too.

    Raises PluginError for one that FastAPI does not check, such as a mounted application.
    """
    for context in iter_route_contexts(found):
        if not isinstance(context.original_route, APIRoute | APIWebSocketRoute):
            raise PluginError(f"route {context.path} is not a FastAPI route and cannot be checked")
        yield GuardedRoute(context.path or "", frozenset(context.methods or ()), tuple(_checks(context.dependant)))


def check_routes(found: Sequence[BaseRoute], plugin: str, declared: set[str]) -> None:
    """Raises PluginError for a route that names no IAM action, or one the plugin did not declare."""
    for route in every_route(found):
        if not route.checks:
            raise PluginError(
                f"route {route.path} names no IAM action; add "
                "'caller: Caller = requires(\"service:resource:operation\")'"
            )
        requirement = route.requirement
        if requirement and requirement.action not in declared:
            raise PluginError(
                f"route {route.path} checks '{requirement.action}', which {plugin} does not declare in bottega_actions"
            )


def _checks(dependant: Dependant) -> Iterator[Requirement | Public]:
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
        mine = {name for route in every_route(router.routes) for name in route.names}
        if mine & taken:
            method, path = min(mine & taken)
            raise PluginError(f"route {method} {path} exists already")
        app.include_router(router, tags=[plugin.name])
        taken |= mine
        plugin.router = router
