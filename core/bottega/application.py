"""The HTTP application: the core's routes and those of every plugin, checked that each names its IAM action."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute, APIWebSocketRoute, iter_route_contexts
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from bottega import answers, routes
from bottega.edge import Edge, install_error_handlers
from bottega.errors import PluginError
from bottega.gateway import Public, Requirement, checks_of
from bottega.plugins import Plugin, Quota
from bottega.routing import LateRoute, join

if TYPE_CHECKING:
    from bottega.runtime import Runtime

_SECURITY = {
    "token": {"type": "apiKey", "in": "header", "name": "X-Auth-Token", "description": "From POST /v3/auth/tokens."},
    "bearer": {"type": "http", "scheme": "bearer", "description": "The same token."},
    "signature": {
        "type": "apiKey",
        "in": "header",
        "name": "Authorization",
        "description": "SDK-HMAC-SHA256 with an access key, as `bottega.client` and the official client sign.",
    },
}
_CONVERTER = re.compile(r":\w+}")
_ERROR = {
    "type": "object",
    "required": ["error_code", "error_msg"],
    "properties": {"error_code": {"type": "string"}, "error_msg": {"type": "string"}},
}


def build(runtime: Runtime) -> ASGIApp:
    """The application of a platform. A plugin whose routes break the rules is reported broken and brings none."""
    app = _Api(
        title="Bottega",
        version="1",
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
        join(app.router, router)
    runtime.platform.shared.quotas.update(_quotas(runtime))
    runtime.platform.shared.planners = [
        planner for planners in runtime.platform.extensions("bottega_plans") for planner in planners
    ]
    app.state.answers = answers.read(runtime.plugins)
    taken = {name for route in every_route(app.routes) for name in route.names}
    for plugin in runtime.plugins.on():
        _mount(app, runtime, plugin, taken)
    return Edge(app, runtime.platform, runtime.settings.server)


class _Api(FastAPI):
    """Describes itself as it is: how to authenticate, and the shape of its refusals."""

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is not None:
            return self.openapi_schema
        schema = super().openapi()
        components = schema.setdefault("components", {})
        components["securitySchemes"] = _SECURITY
        components.setdefault("schemas", {})["Error"] = _ERROR
        for framework in ("HTTPValidationError", "ValidationError"):
            components["schemas"].pop(framework, None)
        answers.describe(schema, self.state.answers)
        refused = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}}
        for route in every_route(self.routes):
            for method in route.methods:
                operation = schema["paths"].get(_CONVERTER.sub("}", route.path), {}).get(method.lower())
                if operation is None:
                    continue
                responses = operation["responses"]
                if responses.pop("422", None):
                    responses["400"] = {"description": "The request is malformed or breaks a rule", **refused}
                if route.requirement:
                    operation["security"] = [{name: []} for name in _SECURITY]
                    responses["401"] = {"description": "No valid credentials", **refused}
                    responses["403"] = {"description": "No policy allows this", **refused}
        return schema


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
        checks: list[Requirement | Public] = []
        if isinstance(context.original_route, LateRoute):
            named = context.original_route.own_dependencies()
            checks = [check for check in named if isinstance(check, Requirement | Public)]
        checks = checks or list(checks_of(context.dependant))
        yield GuardedRoute(context.path or "", frozenset(context.methods or ()), tuple(checks))


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


def _quotas(runtime: Runtime) -> Iterator[tuple[tuple[str, str], Quota]]:
    declared = runtime.plugins.collect(
        "bottega_quotas", lambda plugin: {"platform": runtime.platform.bind(plugin.name, plugin.settings)}
    )
    for plugin, quotas in declared:
        for quota in quotas:
            yield (plugin.name, quota.kind), quota


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
        _add(app, router, plugin.name)
        taken |= mine
        plugin.router = router


def _add(app: FastAPI, router: APIRouter, tag: str) -> None:
    if not all(isinstance(route, APIRoute | APIWebSocketRoute) for route in router.routes):
        app.include_router(router, tags=[tag])  # it includes others, with settings that only FastAPI applies
        return
    for route in router.routes:
        if isinstance(route, APIRoute):
            route.tags = [tag, *route.tags]
    join(app.router, router)
