"""Logging in, and the platform's own account."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from bottega.client import Client
from bottega.testing import RunningPlatform, Tenant

Login = Callable[..., httpx.Response]


@pytest.fixture
def login(running: RunningPlatform) -> Login:
    """Ask for a token: ``login(account, user, password, project_id=…)``; the HTTP response."""

    def ask(account: str, user: str, password: str, project_id: str | None = None) -> httpx.Response:
        who = {"name": user, "password": password, "domain": {"name": account}}
        auth: dict[str, Any] = {"identity": {"methods": ["password"], "password": {"user": who}}}
        if project_id:
            auth["scope"] = {"project": {"id": project_id}}
        return httpx.post(f"{running.url}/v3/auth/tokens", json={"auth": auth}, timeout=30)

    return ask


@pytest.fixture
def operator(running: RunningPlatform) -> Client:
    """The root of the platform's first account, with the access key of the first start."""
    return Client.from_file(running.data_dir / "credentials.json")


@pytest.fixture
def operator_login(running: RunningPlatform) -> dict[str, str]:
    known: dict[str, str] = json.loads((running.data_dir / "credentials.json").read_text())
    return known


@pytest.fixture
def member(tenant: Tenant) -> Callable[..., dict[str, str]]:
    """Make a user through the API: in a group of its own, with custom policies of these documents, and a password."""

    def make(*documents: dict[str, Any], system: tuple[str, ...] = (), project_id: str | None = None) -> dict[str, str]:
        client, name, password = tenant.client, f"m{uuid.uuid4().hex[:8]}", "correct-Horse-1"
        user = client.post("/v3/users", {"user": {"name": name, "password": password}})["user"]
        group = client.post("/v3/groups", {"group": {"name": f"group-{name}"}})["group"]
        client.put(f"/v3/groups/{group['id']}/users/{user['id']}")
        wanted = {r["display_name"]: r["id"] for r in client.get("/v3/roles")["roles"]}
        roles = [wanted[policy] for policy in system]
        for index, document in enumerate(documents):
            role = {"display_name": f"policy{index}-{name}", "type": "XA", "policy": document}
            roles.append(client.post("/v3.0/OS-ROLE/roles", {"role": role})["role"]["id"])
        place = f"projects/{project_id}" if project_id else f"domains/{tenant.account_id}"
        for role_id in roles:
            client.put(f"/v3/{place}/groups/{group['id']}/roles/{role_id}")
        return {
            "account": tenant.name,
            "user": name,
            "password": password,
            "user_id": user["id"],
            "group_id": group["id"],
        }

    return make
