"""The archive: older days leave the database, are found like the rest, and survive a crash at any moment."""

from __future__ import annotations

import gzip
import json
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from bottega.client import ApiFailure, Client
from bottega.context import move_clock, now_ms
from bottega.objects import ObjectPath
from bottega.testing import RunningPlatform, Tenant, wait_until
from bottega.testing.process import PlatformProcess
from bottega_billing_iam.audit import archive as archiving
from bottega_billing_iam.audit import routes
from bottega_billing_iam.audit.archive import DAY, archive_due, start_of_day
from bottega_billing_iam.audit.chain import seal
from bottega_billing_iam.audit.search import in_database

TRACES = "/v3/{project_id}/traces"
ARCHIVES = "/v3/{project_id}/trail/archives"
QUIET = {"plugins": {"audit": {"seal_every_s": 3600, "archive_every_s": 3600, "settle_s": 0}}}


@pytest.fixture(scope="module")
def platform(each_database: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    with RunningPlatform(tmp_path_factory.mktemp("archive") / "data", {**each_database, **QUIET}) as running:
        yield running


@pytest.fixture
def clock() -> Iterator[Callable[[int], None]]:
    """Move the clock by so many days; it is moved back in the end."""
    moved = 0

    def move(days: int) -> None:
        nonlocal moved
        moved += days * DAY
        move_clock(days * DAY)

    yield move
    move_clock(-moved)


def refused(tenant: Tenant, *ids: str) -> None:
    """Calls that leave a record each."""
    for id in ids:
        with pytest.raises(ApiFailure):
            tenant.client.delete(f"/v2/{{project_id}}/datasets/{id}")


def found(client: Client, **asked: Any) -> list[dict[str, Any]]:
    """The records of all pages."""
    rows: list[dict[str, Any]] = []
    marker = None
    while True:
        page = client.get(TRACES, {"limit": 3, **asked, "next": marker})
        rows += page["traces"]
        marker = page["meta_data"]["marker"]
        if marker is None:
            return rows


def archive(running: RunningPlatform) -> int:
    platform = running.platform("audit")
    running.run(seal(platform.database, 0))
    return sum(part.count for part in running.run(archive_due(platform)))


def count(running: RunningPlatform, tenant: Tenant) -> int:
    async def read() -> int:
        async with running.platform("audit").database.read() as session:
            query = text("SELECT COUNT(*) FROM audit_trace WHERE account_id = :account")
            return int((await session.execute(query, {"account": tenant.account_id})).scalar_one())

    return running.run(read())


def ids(rows: list[dict[str, Any]]) -> list[str]:
    return [row["resource_id"] for row in rows]


def test_older_days_move_and_are_found_like_the_rest(
    platform: RunningPlatform, clock: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant, stranger = platform.tenant(), platform.tenant()
    begin = now_ms() - 1
    refused(tenant, "a1", "a2", "a3", "a4", "a5")
    refused(stranger, "s1")
    clock(2)
    refused(tenant, "b1", "b2")
    wait_until(lambda: len(found(tenant.client)) == 7)
    before = found(tenant.client)
    assert archive(platform) == 0  # they are of the hot days
    clock(8)
    refused(tenant, "c1")
    monkeypatch.setattr(archiving, "PART", 3)
    wait_until(lambda: len(found(tenant.client)) == 8)
    assert archive(platform) >= 8
    assert count(platform, tenant) == 1
    assert ids(found(tenant.client)) == ["c1"]  # without a period: the hot days
    everything = found(tenant.client, **{"from": begin})
    assert everything[1:] == before
    assert ids(everything) == ["c1", "b2", "b1", "a5", "a4", "a3", "a2", "a1"]
    for limit in (1, 2, 5, 8, 200):
        assert found(tenant.client, limit=limit, **{"from": begin}) == everything
    assert ids(found(tenant.client, scope="account", **{"from": begin})) == ids(everything)
    # The filters mean the same as in the database.
    since = {"from": begin}
    assert ids(found(tenant.client, resource_id="a3", **since)) == ["a3"]
    assert ids(found(tenant.client, user=tenant.name, trace_name="deleteDataset", code="404", **since)) == ids(
        everything
    )
    assert found(tenant.client, user="nobody", **since) == []
    assert found(tenant.client, trace_rating="incident", **since) == []
    assert found(tenant.client, denied=True, **since) == []
    assert ids(found(tenant.client, **{"from": begin, "to": before[2]["time"]})) == ["a4", "a3", "a2", "a1"]
    assert ids(found(tenant.client, trace_id=before[3]["trace_id"], **since)) == ["a4"]
    # Strangers find theirs only.
    assert ids(found(stranger.client, **since)) == ["s1"]
    listed = tenant.client.get(ARCHIVES)["archives"]
    assert sum(part["count"] for part in listed) == 7
    assert len({part["day"] for part in listed}) == 2
    assert [p["sha256"] for p in stranger.client.get(ARCHIVES)["archives"]] not in [p["sha256"] for p in listed]
    assert {"name": tenant.name} in tenant.client.get("/v3/{project_id}/user-resources")["users"]
    report = tenant.client.get("/v3/{project_id}/trail/verification")
    assert (report["intact"], report["records"], report["findings"]) == (True, 8, [])


def test_a_search_reads_only_so_many_objects_at_once(
    platform: RunningPlatform, clock: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = platform.tenant()
    begin = now_ms() - 1
    refused(tenant, *(f"a{number}" for number in range(12)))
    wait_until(lambda: len(found(tenant.client)) == 12)
    clock(9)
    monkeypatch.setattr(archiving, "PART", 3)
    monkeypatch.setattr(archiving, "LOOKED_THROUGH", 2)
    archive(platform)
    page = tenant.client.get(TRACES, {"from": begin, "resource_id": "a0"})
    assert (page["traces"], page["meta_data"]["marker"] is None) == ([], False)
    assert ids(found(tenant.client, resource_id="a0", **{"from": begin})) == ["a0"]
    everything = [f"a{number}" for number in range(11, -1, -1)]
    assert ids(found(tenant.client, **{"from": begin})) == everything
    monkeypatch.setattr(archiving, "LOOKED_THROUGH", 20)
    monkeypatch.setattr(archiving, "CONSIDERED", 2)
    assert ids(found(tenant.client, resource_id="a0", **{"from": begin})) == ["a0"]
    for limit in (1, 5, 6, 200):
        assert ids(found(tenant.client, limit=limit, **{"from": begin})) == everything


def test_what_is_archived_during_a_search_is_found_once(
    platform: RunningPlatform, clock: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = platform.tenant()
    begin = now_ms() - 1
    refused(tenant, "a1", "a2")
    wait_until(lambda: len(found(tenant.client)) == 2)
    clock(9)
    audit = platform.platform("audit")
    platform.run(seal(audit.database, 0))
    asked = in_database

    async def then_archived(*arguments: Any) -> Any:
        rows = await asked(*arguments)
        await archive_due(audit)
        return rows

    with monkeypatch.context() as patch:
        patch.setattr(routes, "in_database", then_archived)
        page = tenant.client.get(TRACES, {"from": begin})
    assert ids(page["traces"]) == ["a2", "a1"]
    assert count(platform, tenant) == 0


def test_late_records_of_an_archived_day_get_a_part_of_their_own(
    platform: RunningPlatform, clock: Callable[[int], None]
) -> None:
    tenant = platform.tenant()
    begin = now_ms() - 1
    refused(tenant, "a1", "a2")
    wait_until(lambda: len(found(tenant.client)) == 2)
    clock(9)
    archive(platform)
    clock(-9)
    refused(tenant, "a3")
    wait_until(lambda: ids(found(tenant.client)) == ["a3"])
    clock(9)
    assert archive(platform) == 1
    assert ids(found(tenant.client, **{"from": begin})) == ["a3", "a2", "a1"]
    assert {part["part"] for part in tenant.client.get(ARCHIVES)["archives"]} >= {1, 2}
    assert tenant.client.get("/v3/{project_id}/trail/verification")["intact"]


def test_a_changed_or_removed_object_is_found(platform: RunningPlatform, clock: Callable[[int], None]) -> None:
    tenant = platform.tenant()
    refused(tenant, "a1", "a2")
    wait_until(lambda: len(found(tenant.client)) == 2)
    clock(9)
    archive(platform)
    [part] = tenant.client.get(ARCHIVES)["archives"]
    path, store = ObjectPath(part["bucket"], part["key"]), platform.platform().objects
    whole = platform.run(store.get(path))
    header, *lines = gzip.decompress(whole).splitlines()
    assert json.loads(header)["batches"]
    forged = gzip.compress(b"\n".join([header, lines[0]]))

    def findings() -> list[tuple[str, str | None]]:
        report = tenant.client.get("/v3/{project_id}/trail/verification")
        return [(finding["kind"], finding["place"]) for finding in report["findings"]]

    place = f"s3://{path.bucket}/{path.key}"
    for data in (forged, b"no gzip at all", whole[:-10]):
        platform.run(store.put(path, data))
        assert findings()[0] == ("archive changed", place)
        assert [kind for kind, _ in findings()[1:]] == ["record removed", "record removed"]
    platform.run(store.delete([path]))
    assert findings()[0] == ("archive changed", place)
    platform.run(store.put(path, whole))
    assert findings() == []


def test_what_the_store_does_not_give_back_stays_in_the_database(
    platform: RunningPlatform, clock: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = platform.tenant()
    begin = now_ms() - 1
    refused(tenant, "a1", "a2")
    wait_until(lambda: len(found(tenant.client)) == 2)
    clock(9)
    store = platform.platform().objects
    kept = type(store).put

    async def lose(self: Any, path: ObjectPath, data: bytes, content_type: str = "") -> str:
        return await kept(self, path, data[:-1], content_type)

    with monkeypatch.context() as patch:
        patch.setattr(type(store), "put", lose)
        with pytest.raises(Exception, match="does not give back"):
            archive(platform)
    assert count(platform, tenant) == 2
    assert tenant.client.get(ARCHIVES)["archives"] == []
    archive(platform)
    assert count(platform, tenant) == 0
    assert ids(found(tenant.client, **{"from": begin})) == ["a2", "a1"]


def test_the_database_lets_no_record_go_that_is_not_archived(platform: RunningPlatform) -> None:
    tenant = platform.tenant()
    refused(tenant, "a1")
    wait_until(lambda: len(found(tenant.client)) == 1)

    async def remove() -> None:
        async with platform.platform("audit").database.transaction() as tx:
            values = {"account": tenant.account_id}
            await tx.session.execute(text("DELETE FROM audit_trace WHERE account_id = :account"), values)

    with pytest.raises(Exception, match="cannot be removed"):
        platform.run(remove())
    assert count(platform, tenant) == 1


def test_only_the_operator_archives(platform: RunningPlatform) -> None:
    tenant = platform.tenant()
    operator = Client.from_file(platform.data_dir / "credentials.json")
    assert isinstance(operator.post(ARCHIVES)["archives"], list)
    with pytest.raises(ApiFailure) as failure:
        tenant.client.post(ARCHIVES)
    assert failure.value.status == 403


def _old_records(database: Path, project_id: str, account_id: str, count: int) -> None:
    """Records of ten days ago, as if they had been made then."""
    connection = sqlite3.connect(database)
    connection.execute(
        "INSERT OR IGNORE INTO audit_scope (account_id, project_id) VALUES (?, ?)", (account_id, project_id)
    )
    [scope] = connection.execute(
        "SELECT id FROM audit_scope WHERE account_id = ? AND project_id = ?", (account_id, project_id)
    ).fetchone()
    begin = start_of_day(int(time.time() * 1000)) - 10 * DAY
    rows = [
        (f"old-{n}", f"old-{n}", scope, account_id, project_id, begin + n * 5_000, begin + n * 5_000 + 9)
        for n in range(count)
    ]
    connection.executemany(
        "INSERT INTO audit_trace (id, request_id, scope, account_id, project_id, method, path, service, name, rating,"
        " enterprise_project_id, status, at, recorded_at, event_time)"
        " VALUES (?, ?, ?, ?, ?, 'POST', '/v2/x', 'MODELARTS', 'createDataset', 'normal', '0', 201, ?, ?, '2026')",
        rows,
    )
    connection.commit()
    connection.close()


@pytest.mark.timeout(300)  # four starts of a whole platform
def test_a_kill_at_any_moment_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """SIGKILL twice while thousands of old records are sealed and archived; then all are there, once, and proven."""
    total = 12_000
    often = {f"BOTTEGA_PLUGINS__AUDIT__{name}_EVERY_S": "1" for name in ("SEAL", "ARCHIVE")}
    process = PlatformProcess(tmp_path / "data", often)
    with process:
        client = process.client
        known = client.get("/v1/whoami")
    _old_records(tmp_path / "data" / "bottega.db", client.project_id or "", known["account_id"], total)
    chance = random.Random(7)
    for _ in range(2):
        process.start()
        time.sleep(chance.uniform(0.2, 1.5))  # anywhere in the work; any moment is a good one
        process.kill()
    with process:
        since = {"from": start_of_day(int(time.time() * 1000)) - 11 * DAY, "limit": 200}
        archived = partial(process.client.get, ARCHIVES, {"limit": 1000})
        wait_until(lambda: sum(part["count"] for part in archived()["archives"]) == total, timeout=120)
        seen: list[str] = []
        marker = None
        while True:
            page = process.client.get(TRACES, {**since, "trace_name": "createDataset", "next": marker})
            seen += [row["trace_id"] for row in page["traces"]]
            marker = page["meta_data"]["marker"]
            if marker is None:
                break
        assert sorted(seen) == sorted(f"old-{n}" for n in range(total))
        report = process.client.get("/v3/{project_id}/trail/verification", {"scope": "platform"})
        assert (report["intact"], report["findings"]) == (True, [])
        assert report["records"] >= total
