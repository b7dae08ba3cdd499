"""Notebooks for tests: each starts a real JupyterLab, so tests that only look share one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from bottega.testing import RunningPlatform, Tenant, wait_until

BASE = "/v1/{project_id}/notebooks"


@dataclass(frozen=True)
class Running:
    """A running notebook and who owns it. `path` is its place under the platform's URL."""

    tenant: Tenant
    id: str

    @property
    def path(self) -> str:
        return f"/notebooks/{self.tenant.project_id}/{self.id}"

    @property
    def url(self) -> str:
        return self.tenant.running.url + self.path

    @property
    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = self.tenant.client.get(f"{BASE}/{self.id}")
        return found


class Notebooks:
    """Creates notebooks for a tenant and follows them."""

    def __init__(self, tenant: Tenant) -> None:
        self.tenant = tenant

    def create(self, name: str = "lab", **fields: Any) -> Running:
        made = self.tenant.client.post(BASE, {"name": name, **fields})
        assert made["status"] == "CREATING"
        return Running(self.tenant, made["id"])

    def running(self, name: str = "lab", **fields: Any) -> Running:
        notebook = self.create(name, **fields)
        self.reach(notebook, "RUNNING")
        return notebook

    def reach(self, notebook: Running, status: str, timeout: float = 60) -> dict[str, Any]:
        """Wait for `status`, but not through a failure."""

        def settled() -> dict[str, Any] | None:
            state = notebook.state
            moving = state["status"] in ("CREATING", "STARTING", "STOPPING")
            return None if moving and state["status"] != status else state

        if status in ("ERROR", "STOPPED"):
            wait_until(lambda: notebook.state["status"] != "RUNNING", timeout)
        state = wait_until(settled, timeout)
        assert state is not None
        assert state["status"] == status, state["fail_reason"]
        return state

    def stop(self, notebook: Running) -> None:
        self.tenant.client.post(f"{BASE}/{notebook.id}/stop")
        self.reach(notebook, "STOPPED")


@pytest.fixture
def notebooks(tenant: Tenant) -> Iterator[Notebooks]:
    """Of the test's tenant; what still runs at the end is stopped."""
    made = Notebooks(tenant)
    yield made
    stop_all(tenant)


@pytest.fixture(scope="module")
def shared(running: RunningPlatform) -> Iterator[Running]:
    """One running notebook for the tests of a module that leave it as it is."""
    tenant = running.tenant()
    yield Notebooks(tenant).running()
    stop_all(tenant)


def stop_all(tenant: Tenant) -> None:
    def quiet() -> bool:
        moving = ("CREATING", "STARTING", "STOPPING")
        rows = tenant.client.get(BASE, {"limit": 50})["data"]
        for row in rows:
            if row["status"] == "RUNNING":
                tenant.client.post(f"{BASE}/{row['id']}/stop")
        return not any(row["status"] in ("RUNNING", *moving) for row in rows)

    wait_until(quiet, 60, 0.2)
