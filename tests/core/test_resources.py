"""The registry of named things: names and quotas hold under contention, on SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from bottega.entities import QuotaLimit
from bottega.errors import Conflict, NotFound, QuotaExceeded
from bottega.resources import Resources
from bottega.testing import RunningPlatform, Tenant


@pytest.fixture(scope="module")
def platform(each_database: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    with RunningPlatform(tmp_path_factory.mktemp("resources") / "data", each_database) as running:
        yield running


@pytest.fixture
def owner(platform: RunningPlatform) -> Tenant:
    return platform.tenant()


async def create(tenant: Tenant, name: str, quota: int | None = None) -> str:
    database = tenant.running.runtime.platform.database
    async with database.transaction() as tx:
        resource = await Resources("core").create(
            tx, kind="thing", project_id=tenant.project_id, owner_id=tenant.user_id, name=name, quota=quota
        )
    return resource.id


def attempt(tenant: Tenant, name: str, quota: int | None = None) -> str:
    try:
        tenant.running.run(create(tenant, name, quota))
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


def test_a_deleted_name_is_free_again_and_its_row_stays_for_lineage(owner: Tenant) -> None:
    first = owner.running.run(create(owner, "phoenix"))

    async def delete() -> None:
        async with owner.running.runtime.platform.database.transaction() as tx:
            things = Resources("core")
            await things.delete(tx, await things.get(tx.session, "thing", owner.project_id, first))

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
            await Resources("core").get(session, "thing", owner.project_id, thing)

    with pytest.raises(NotFound):
        platform.run(get())
