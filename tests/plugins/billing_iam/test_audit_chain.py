"""The chain of records, on both databases: what was sealed cannot be changed unseen, nor through the database."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError
from sqlmodel import col

from bottega.client import ApiFailure, Client
from bottega.context import move_clock
from bottega.testing import RunningPlatform, Tenant, wait_until
from bottega_billing_iam.audit import verify as proving
from bottega_billing_iam.audit.archive import DAY, archive_due
from bottega_billing_iam.audit.chain import BEGINNING, batch_hash, seal
from bottega_billing_iam.audit.entities import Batch, BatchAccount
from bottega_billing_iam.audit.verify import Report, verify

TRACES = "/v3/{project_id}/traces"
PROOF = "/v3/{project_id}/trail/verification"
QUIET = {"plugins": {"audit": {"seal_every_s": 3600, "archive_every_s": 3600}}}
"""Nothing is sealed but by the test."""


@pytest.fixture(scope="module")
def platform(each_database: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    with RunningPlatform(tmp_path_factory.mktemp("chain") / "data", {**each_database, **QUIET}) as running:
        yield running


@pytest.fixture
def operator(platform: RunningPlatform) -> Client:
    return Client.from_file(platform.data_dir / "credentials.json")


@pytest.fixture
def trail(platform: RunningPlatform) -> Callable[[int], Tenant]:
    """A tenant with so many sealed records of its own."""

    def make(count: int) -> Tenant:
        tenant = platform.tenant()
        for number in range(count):
            with pytest.raises(ApiFailure):
                tenant.client.delete(f"/v2/{{project_id}}/datasets/d{number}")
        wait_until(partial(recorded, tenant, count))
        platform.run(seal(platform.platform("audit").database, 0))
        return tenant

    return make


def recorded(tenant: Tenant, count: int) -> bool:
    return len(tenant.client.get(TRACES, {"limit": 200})["traces"]) == count


def proof(platform: RunningPlatform, **asked: Any) -> Report:
    return platform.run(verify(platform.platform("audit"), **asked))


def tamper(platform: RunningPlatform, *statements: str, **values: Any) -> None:
    """Change the database as whoever has its file or its superuser can: with the triggers off."""
    database = platform.platform("audit").database

    async def run() -> None:
        async with database.engine.begin() as connection:
            if not database.is_sqlite:
                await connection.execute(text("SET session_replication_role = replica"))
                for statement in statements:
                    await connection.execute(text(statement), values)
                await connection.execute(text("SET session_replication_role = DEFAULT"))
                return
            query = "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND name LIKE 'audit%'"
            triggers = (await connection.execute(text(query))).all()
            for name, _ in triggers:
                await connection.execute(text(f"DROP TRIGGER {name}"))
            for statement in statements:
                await connection.execute(text(statement), values)
            for _, sql in triggers:
                await connection.exec_driver_sql(sql)

    platform.run(run())


def seqs(platform: RunningPlatform, tenant: Tenant) -> list[int]:
    async def read() -> list[int]:
        async with platform.platform("audit").database.read() as session:
            query = text("SELECT seq FROM audit_trace WHERE account_id = :account ORDER BY seq")
            return list((await session.execute(query, {"account": tenant.account_id})).scalars())

    return platform.run(read())


def newest(platform: RunningPlatform) -> Batch:
    async def read() -> Batch:
        async with platform.platform("audit").database.read() as session:
            query = text("SELECT number FROM audit_batch ORDER BY number DESC LIMIT 1")
            return await session.get_one(Batch, (await session.execute(query)).scalar_one())

    return platform.run(read())


def test_what_is_sealed_is_proven_and_the_next_batch_follows(
    platform: RunningPlatform, trail: Callable[[int], Tenant], operator: Client
) -> None:
    tenant = trail(3)
    report = tenant.client.get(PROOF)
    assert (report["intact"], report["findings"], report["records"], report["next"]) == (True, [], 3, None)
    before = newest(platform)
    assert (report["head"], report["last_batch"]) == (before.hash, before.number)
    trail(2)
    after = newest(platform)
    assert (after.number, after.previous, after.first_seq) == (before.number + 1, before.hash, before.last_seq + 1)
    assert re.fullmatch(r"[0-9a-f]{64}", after.hash)
    whole = operator.get(PROOF, {"scope": "platform", "anchor": f"{before.number}:{before.hash}"})
    assert (whole["intact"], whole["batches"]) == (True, after.number)
    assert whole["records"] >= 5
    # Who holds the hash of a batch outside sees that it is another one.
    for anchor, kind in ((f"{before.number}:{'0' * 64}", "batch changed"), (f"9999:{before.hash}", "batch removed")):
        findings = operator.get(PROOF, {"scope": "platform", "anchor": anchor})["findings"]
        assert [finding["kind"] for finding in findings] == [kind]
    for wrong in ({"anchor": "7"}, {"after": -1}, {"from": "x"}):
        with pytest.raises(ApiFailure) as failure:
            operator.get(PROOF, wrong)
        assert failure.value.status == 400


def test_what_was_sealed_is_told_as_an_event(platform: RunningPlatform, trail: Callable[[int], Tenant]) -> None:
    trail(1)
    batch = newest(platform)

    async def read() -> list[dict[str, Any]]:
        subject = "evt._.audit.batch.sealed.v1"
        return [e.data async for e in platform.platform().bus.tail(subject, sequence=1, follow=False)]

    def told() -> dict[str, Any] | None:
        return next((data for data in platform.run(read()) if data["number"] == batch.number), None)

    said = wait_until(told)
    assert said is not None
    assert (said["hash"], said["previous"], said["count"]) == (batch.hash, batch.previous, batch.count)


def test_only_the_own_account_is_proven_and_only_with_the_right(
    platform: RunningPlatform, trail: Callable[[int], Tenant]
) -> None:
    tenant, stranger = trail(2), trail(1)
    assert stranger.client.get(PROOF)["records"] == 1
    for who, asked in ((stranger, {"scope": "platform"}), (tenant.user(), {})):
        with pytest.raises(ApiFailure) as failure:
            who.client.get(PROOF, asked)
        assert failure.value.status == 403
    auditor = {"Version": "1.1", "Statement": [{"Effect": "Allow", "Action": ["cts:trace:verify"]}]}
    assert tenant.user([auditor]).client.get(PROOF)["intact"]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_trace SET code = 'x' WHERE seq = :seq",
        "UPDATE audit_trace SET scope = 0 WHERE seq = :seq",
        "DELETE FROM audit_trace WHERE seq = :seq",
        "UPDATE audit_batch SET hash = ''",
        "DELETE FROM audit_batch",
        "UPDATE audit_batch_account SET members = ''",
        "DELETE FROM audit_batch_account",
        "DELETE FROM audit_scope",
        "UPDATE audit_scope SET account_id = 'x'",
    ],
)
def test_the_database_refuses_to_change_the_past(
    platform: RunningPlatform, trail: Callable[[int], Tenant], statement: str
) -> None:
    tenant = trail(1)
    [seq] = seqs(platform, tenant)

    async def run() -> None:
        async with platform.platform("audit").database.transaction() as tx:
            await tx.session.execute(text(statement), {"seq": seq} if ":seq" in statement else {})

    with pytest.raises(DBAPIError, match="cannot be"):
        platform.run(run())
    assert proof(platform).findings == []


CHANGED = {
    "UPDATE audit_trace SET status = 200 WHERE seq = :seq": "record changed",
    "UPDATE audit_trace SET user_name = 'somebody' WHERE seq = :seq": "record changed",
    "UPDATE audit_trace SET at = at + 1 WHERE seq = :seq": "record changed",
    "UPDATE audit_trace SET request = '{\"path\": {}}' WHERE seq = :seq": "record changed",
    "UPDATE audit_trace SET scope = 0 WHERE seq = :seq": "record changed",
    "DELETE FROM audit_trace WHERE seq = :seq": "record removed",
}


@pytest.mark.parametrize("statement", CHANGED)
def test_a_changed_or_removed_record_is_found(
    platform: RunningPlatform, trail: Callable[[int], Tenant], statement: str
) -> None:
    tenant = trail(3)
    seq = seqs(platform, tenant)[1]
    row = tenant.client.get(TRACES)["traces"][1]
    column = re.search(r"SET (\w+)", statement)
    keep = f"SELECT {column[1] if column else '*'} FROM audit_trace WHERE seq = :seq"

    async def read() -> Any:
        async with platform.platform("audit").database.read() as session:
            return dict((await session.execute(text(keep), {"seq": seq})).mappings().one())

    before = platform.run(read())
    tamper(platform, statement, seq=seq)
    findings = tenant.client.get(PROOF)["findings"]
    assert {finding["kind"] for finding in findings} == {CHANGED[statement]}
    assert {finding["account_id"] for finding in findings} == {tenant.account_id}
    if column:
        assert findings[0]["trace_id"] == row["trace_id"]
        tamper(platform, f"UPDATE audit_trace SET {column[1]} = :value WHERE seq = :seq", seq=seq, value=_sql(before))
    else:
        assert findings[0]["says"] == "record 2 of 3 of this account is gone"
        names = ", ".join(before)
        marks = ", ".join(f":{name}" for name in before)
        before["request"] = _sql({"request": before["request"]})
        tamper(platform, f"INSERT INTO audit_trace ({names}) VALUES ({marks})", **before)
    assert proof(platform).findings == []


def _sql(row: dict[str, Any]) -> Any:
    [value] = row.values()
    return json.dumps(value) if isinstance(value, dict) else value


def test_an_inserted_record_is_found(platform: RunningPlatform, trail: Callable[[int], Tenant]) -> None:
    tenant = trail(3)
    first, second, _ = seqs(platform, tenant)
    columns = "request_id, scope, account_id, project_id, method, path, service, name, rating, enterprise_project_id"
    columns += ", status, at, recorded_at, event_time"
    tamper(platform, "DELETE FROM audit_trace WHERE seq = :second", second=second)
    copy = f"INSERT INTO audit_trace (seq, id, {columns}) SELECT :second, 'forged', {columns} FROM audit_trace"
    tamper(platform, f"{copy} WHERE seq = :first", first=first, second=second)
    findings = tenant.client.get(PROOF)["findings"]
    assert [(f["kind"], f["trace_id"]) for f in findings] == [("record changed", "forged")]
    tamper(platform, f"{copy.replace('forged', 'more')} WHERE seq = :first", first=first, second=first - 10_000)
    assert len(tenant.client.get(PROOF)["findings"]) == 1  # before the first number nothing is proven
    tamper(platform, "DELETE FROM audit_trace WHERE id IN ('forged', 'more')")
    findings = tenant.client.get(PROOF)["findings"]
    assert [f["kind"] for f in findings] == ["record removed"]


def test_exchanged_records_and_batches_are_found(tmp_path: Path) -> None:
    with RunningPlatform(tmp_path / "data", QUIET) as running:
        tenants = []
        for _ in range(4):
            tenant = running.tenant()
            tenants.append(tenant)
            for _ in range(2):
                with pytest.raises(ApiFailure):
                    tenant.client.delete("/v2/{project_id}/datasets/none")
            wait_until(partial(recorded, tenant, 2))
            running.run(seal(running.platform("audit").database, 0))
        assert proof(running).findings == []
        first, second = seqs(running, tenants[0])
        swap = "UPDATE audit_trace SET seq = :to WHERE seq = :one"
        for one, to in ((first, -1), (second, first), (-1, second)):
            tamper(running, swap, one=one, to=to)
        found = proof(running).findings
        assert [(f.kind, f.batch) for f in found] == [("record changed", 1), ("record changed", 1)]
        for one, to in ((first, -1), (second, first), (-1, second)):
            tamper(running, swap, one=one, to=to)
        assert proof(running).findings == []

        tamper(running, "UPDATE audit_batch SET sealed_at = sealed_at + 1 WHERE number = 2")
        assert [(f.kind, f.batch) for f in proof(running).findings] == [("batch changed", 2)]
        tamper(running, "UPDATE audit_batch SET sealed_at = sealed_at - 1 WHERE number = 2")
        # Who forges a batch and its hash still breaks the one after it.
        tamper(running, "UPDATE audit_batch SET hash = :hash WHERE number = 2", hash="f" * 64)
        assert {(f.kind, f.batch) for f in proof(running).findings} == {("batch changed", 2), ("batch changed", 3)}
        assert proof(running, after=2).findings != []
        tamper(
            running,
            "UPDATE audit_batch SET hash = (SELECT previous FROM audit_batch WHERE number = 3) WHERE number = 2",
        )
        assert proof(running).findings == []
        tamper(running, "UPDATE audit_batch_account SET members = x'00' WHERE batch = 1")
        assert [(f.kind, f.batch) for f in proof(running).findings] == [("batch changed", 1)]
        tamper(running, "DELETE FROM audit_batch WHERE number = 3")
        assert ("batch removed", 3) in {(f.kind, f.batch) for f in proof(running).findings}
        exchange = "UPDATE audit_batch SET number = CASE number WHEN 1 THEN -2 ELSE -1 END WHERE number IN (1, 2)"
        tamper(running, exchange, "UPDATE audit_batch SET number = -number WHERE number < 0")
        assert {(f.kind, f.batch) for f in proof(running).findings} >= {("batch changed", 1), ("batch changed", 2)}


def remade(running: RunningPlatform) -> list[str]:
    """The whole chain made anew in itself, as if another time had been sealed: it proves itself."""

    async def make() -> list[str]:
        changes, previous = [], BEGINNING
        async with running.platform("audit").database.read() as session:
            for batch in (await session.execute(select(Batch).order_by(col(Batch.number)))).scalars():
                mine = select(BatchAccount).where(col(BatchAccount.batch) == batch.number)
                entries = (await session.execute(mine)).scalars()
                accounts = {entry.account_id: (entry.count, entry.digest) for entry in entries}
                at = batch.sealed_at + 1
                new = batch_hash(batch.number, previous, batch.first_seq, batch.last_seq, at, accounts)
                sealed = f"sealed_at = {at}, previous = '{previous}', hash = '{new}'"
                changes.append(f"{sealed} WHERE number = {batch.number}")
                previous = new
        return changes

    return running.run(make())


def test_a_chain_cut_off_before_archived_records_is_found(tmp_path: Path) -> None:
    with RunningPlatform(tmp_path / "data", QUIET) as running:
        audit = running.platform("audit")
        for _ in range(2):
            tenant = running.tenant()
            with pytest.raises(ApiFailure):
                tenant.client.delete("/v2/{project_id}/datasets/none")
            wait_until(partial(recorded, tenant, 1))
            running.run(seal(audit.database, 0))
        move_clock(9 * DAY)
        try:
            assert running.run(archive_due(audit))
        finally:
            move_clock(-9 * DAY)
        assert proof(running).findings == []
        forged = remade(running)
        tamper(running, *(f"UPDATE audit_batch SET {change}" for change in forged))
        told = proof(running).findings
        assert {(f.kind, f.batch) for f in told} == {("batch changed", 1), ("batch changed", 2)}
        assert all("archived records were proven by" in f.says and f.place for f in told)
        last = newest(running).number
        for table, number in (("audit_batch_account", "batch"), ("audit_batch", "number")):
            tamper(running, f"DELETE FROM {table} WHERE {number} = :last", last=last)
        assert {f.kind for f in proof(running).findings} == {"batch removed", "batch changed"}


def test_many_batches_are_proven_in_steps(
    platform: RunningPlatform, trail: Callable[[int], Tenant], monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        tenant = trail(1)
    after, seen, steps = 0, 0, 0
    monkeypatch.setattr(proving, "AT_ONCE", 2)
    while True:
        answer = tenant.client.get(PROOF, {"after": after})
        seen, steps = seen + answer["batches"], steps + 1
        if answer["next"] is None:
            break
        after = answer["next"]
    assert (seen, answer["intact"]) == (newest(platform).number, True)
    assert steps > 2
