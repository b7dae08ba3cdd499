"""Every route of every plugin refuses strangers: generated from the routes there are, so new ones are covered."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from bottega.application import GuardedRoute, every_route
from bottega.client import SigningAuth
from bottega.testing import RunningPlatform, Tenant

REFUSED = (401, 403)
"""401 where a route takes credentials of its own, such as a one-time link."""

OPEN = [
    "GET /",
    "GET /healthz",
    "GET /openapi.json",
    "GET /readyz",
    "GET /rest/v2/notifications/subscription/confirm",
    "GET /rest/v2/notifications/subscription/unsubscribe",
    "GET /v2/notifications/subscriptions/subscribe",
    "GET /v2/notifications/subscriptions/unsubscribe",
    "GET /v3",
    "POST /v2/{project_id}/labeling/login",
    "POST /v2/{project_id}/labeling/password/forgotten",
    "POST /v2/{project_id}/labeling/password/reset",
    "POST /v3/auth/tokens",
]
"""What nobody needs credentials for: discovery, logging in, and the links that messages carry."""


def routes(running: RunningPlatform) -> Iterator[tuple[str, GuardedRoute]]:
    application: Any = running.runtime.app
    for route in every_route(application.app.routes):
        for method in sorted(route.methods):
            yield method, route


def call(
    running: RunningPlatform, method: str, route: GuardedRoute, project: str, who: Tenant | None
) -> httpx.Response:
    path = route.path.replace("{project_id}", project)
    path = re.sub(r"{([^}:]+)(:[^}]*)?}", "00000000-0000-4000-8000-000000000000", path)
    auth = SigningAuth(who.access_key, who.secret_key) if who else None
    json: dict[str, str] | None = {} if method in ("POST", "PUT", "PATCH") else None
    return httpx.request(method, running.url + path, json=json, auth=auth, timeout=30)


@pytest.fixture(scope="module")
def owner(running: RunningPlatform) -> Tenant:
    return running.tenant()


def test_the_platform_is_whole(running: RunningPlatform) -> None:
    assert {p.name: p.reason for p in running.runtime.plugins.all.values() if p.state != "on"} == {}
    assert len(list(routes(running))) > 80


def test_every_route_refuses_who_has_no_credentials(running: RunningPlatform, owner: Tenant) -> None:
    open_to_all = []
    for method, route in routes(running):
        if route.requirement is None:
            open_to_all.append(f"{method} {route.path}")
            continue
        response = call(running, method, route, owner.project_id, None)
        assert response.status_code == 401, f"{method} {route.path}: {response.status_code} {response.text[:200]}"
    assert sorted(open_to_all) == OPEN


def test_every_route_refuses_another_account(running: RunningPlatform, owner: Tenant) -> None:
    stranger = running.tenant()
    for method, route in routes(running):
        if "{project_id}" not in route.path or route.requirement is None:
            continue
        response = call(running, method, route, owner.project_id, stranger)
        assert response.status_code in REFUSED, f"{method} {route.path}: {response.status_code} {response.text[:200]}"
        if method != "HEAD":
            assert set(response.json()) == {"error_code", "error_msg"}


def test_every_route_refuses_a_user_without_rights(running: RunningPlatform, owner: Tenant) -> None:
    nobody = owner.user()
    for method, route in routes(running):
        requirement = route.requirement
        if requirement is None or requirement.everyone:
            continue
        response = call(running, method, route, owner.project_id, nobody)
        assert response.status_code in REFUSED, f"{method} {route.path}: {response.status_code} {response.text[:200]}"


def test_every_action_a_route_checks_is_declared_with_what_it_guards(running: RunningPlatform) -> None:
    platform = running.runtime.platform
    for _, route in routes(running):
        requirement = route.requirement
        if requirement is not None and platform.action_owner(requirement.action) != "core":
            action = platform.action(requirement.action)
            assert action is not None, requirement.action
            assert action.guards, requirement.action
