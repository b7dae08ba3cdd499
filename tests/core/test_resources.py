"""The registry of named things: names and quotas hold under contention, on SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from bottega.entities import QuotaLimit, UserQuota, Workspace, WorkspaceQuota
from bottega.errors import Conflict, Invalid, NotFound, QuotaExceeded
from bottega.plugins import Quota
from bottega.resources import Resources
from bottega.testing import RunningPlatform, Tenant


@pytest.fixture(scope="module")
def platform(each_database: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    with RunningPlatform(tmp_path_factory.mktemp("resources") / "data", each_database) as running:
        yield running


@pytest.fixture
def owner(platform: RunningPlatform) -> Tenant:
    return platform.tenant()


def things(limit: int | None = None) -> Resources:
    return Resources("core", {} if limit is None else {("core", "thing"): Quota("thing", limit, "things")})


async def create(tenant: Tenant, name: str, limit: int | None = None, workspace_id: str = "0") -> str:
    database = tenant.running.runtime.platform.database
    async with database.transaction() as tx:
        resource = await things(limit).create(
            tx,
            kind="thing",
            project_id=tenant.project_id,
            workspace_id=workspace_id,
            owner_id=tenant.user_id,
            name=name,
        )
    return resource.id


def attempt(tenant: Tenant, name: str, limit: int | None = None, workspace_id: str = "0") -> str:
    try:
        tenant.running.run(create(tenant, name, limit, workspace_id))
    except (Conflict, QuotaExceeded) as refused:
        return type(refused).__name__
    return "created"


def test_twenty_at_once_never_share_a_name(owner: Tenant) -> None:
    with ThreadPoolExecutor(20) as pool:
        results = list(pool.map(lambda _: attempt(owner, "same"), range(20)))
    assert sorted(results) == ["Conflict"] * 19 + ["created"]


def test_twenty_at_once_never_pass_a_quota(owner: Tenant) -> None:
    with ThreadPoolExecutor(20) as pool:
        results = list(pool.map(lambda n: attempt(owner, f"thing-{n}", 7), range(20)))
    assert sorted(results) == ["QuotaExceeded"] * 13 + ["created"] * 7


def test_an_administrators_limit_replaces_the_default(owner: Tenant) -> None:
    async def limit() -> None:
        async with owner.running.runtime.platform.database.transaction() as tx:
            tx.session.add(QuotaLimit(account_id=owner.account_id, plugin="core", kind="thing", maximum=1))

    owner.running.run(limit())
    assert [attempt(owner, name, 5) for name in ("a", "b")] == ["created", "QuotaExceeded"]


def test_limits_of_a_workspace_and_of_a_user_hold_beside_the_accounts(owner: Tenant) -> None:
    async def limit() -> str:
        async with owner.running.runtime.platform.database.transaction() as tx:
            workspace = Workspace(project_id=owner.project_id, name="small")
            tx.session.add(workspace)
            await tx.session.flush()
            tx.session.add(WorkspaceQuota(workspace_id=workspace.id, plugin="core", kind="thing", maximum=1))
            tx.session.add(UserQuota(user_id=owner.user_id, plugin="core", kind="thing", maximum=2))
        return workspace.id

    small = owner.running.run(limit())
    assert [attempt(owner, name, 5, small) for name in ("a", "b")] == ["created", "QuotaExceeded"]
    assert [attempt(owner, name, 5) for name in ("b", "c")] == ["created", "QuotaExceeded"]


def test_nothing_is_created_in_a_workspace_that_is_not_there(owner: Tenant, platform: RunningPlatform) -> None:
    with pytest.raises(Invalid, match="there is no workspace 'nowhere' in this project"):
        platform.run(create(owner, "lost", workspace_id="nowhere"))


def test_a_deleted_name_is_free_again_and_its_row_stays_for_lineage(owner: Tenant) -> None:
    first = owner.running.run(create(owner, "phoenix"))

    async def delete() -> None:
        async with owner.running.runtime.platform.database.transaction() as tx:
            await things().delete(tx, await things().get(tx.session, "thing", owner.project_id, first))

    owner.running.run(delete())
    second = owner.running.run(create(owner, "phoenix"))
    assert second != first
    listed = owner.client.get("/v1/{project_id}/resources", {"kind": "thing"})["resources"]
    assert [r["id"] for r in listed] == [second]
    graph = owner.client.get("/v1/{project_id}/lineage", {"urn": f"bottega:core:{owner.project_id}:thing/{first}"})
    assert graph["nodes"][0]["deleted"] is True


def test_a_thing_of_another_project_is_not_there(owner: Tenant, platform: RunningPlatform) -> None:
    other = platform.tenant()
    thing = other.running.run(create(other, "hidden"))

    async def get() -> None:
        async with platform.runtime.platform.database.read() as session:
            await things().get(session, "thing", owner.project_id, thing)

    with pytest.raises(NotFound):
        platform.run(get())
