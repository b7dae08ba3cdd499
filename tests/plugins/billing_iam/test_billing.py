"""Metering and the bill on a running platform: real workloads, replays, strangers, price versions."""

from __future__ import annotations

import random
import time
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine
from sqlalchemy.event import listen, remove

from bottega.backends import WorkloadFinished, WorkloadSpec, WorkloadStarted
from bottega.client import ApiFailure
from bottega.entities import Workload
from bottega.events import Envelope, Event, Received, uuid7
from bottega.testing import RunningPlatform, Tenant, wait_until
from bottega_billing_iam.billing.budgets import Budgets
from bottega_billing_iam.billing.invoices import Invoices
from bottega_billing_iam.billing.metering import on_finished, on_started

BILLS = "/v2/{project_id}/bills"
SMALL = 200_000  # millionths an hour, as shipped


def start_workload(running: RunningPlatform, tenant: Tenant, code: str, **more: Any) -> tuple[str, str]:
    """Run Python `code` as a training workload of a named resource; its id and the resource's URN."""
    platform = running.platform("training")

    async def request() -> tuple[str, str]:
        async with platform.database.transaction() as tx:
            resource = await platform.resources.create(
                tx,
                kind="job",
                project_id=tenant.project_id,
                owner_id=tenant.user_id,
                name=f"job-{uuid.uuid4().hex[:6]}",
                tags={"team": "vision"},
            )
            workload = await platform.workloads.request(
                tx,
                WorkloadSpec(command=["{python}", "-c", code]),
                kind="training",
                flavor_id="local.small",
                resource_urn=resource.urn,
                project_id=tenant.project_id,
                user_id=tenant.user_id,
                **more,
            )
            return workload.id, resource.urn

    return running.run(request())


def read(running: RunningPlatform, workload_id: str) -> Workload:
    async def get() -> Workload:
        async with running.runtime.platform.database.read() as session:
            return await session.get_one(Workload, workload_id)

    return running.run(get())


def finished(running: RunningPlatform, workload_id: str) -> Workload:
    wait_until(lambda: read(running, workload_id).finished_at, 60)
    return read(running, workload_id)


def bill(tenant: Tenant, **asked: Any) -> dict[str, Any]:
    answer: dict[str, Any] = tenant.client.get(BILLS, asked)
    return answer


def test_a_workload_costs_its_seconds_exactly(running: RunningPlatform, tenant: Tenant) -> None:
    workload_id, urn = start_workload(running, tenant, "import time; time.sleep(1.2)")
    workload = finished(running, workload_id)
    assert workload.started_at
    assert workload.finished_at
    seconds = -((workload.started_at - workload.finished_at) // 1000)
    answer = wait_until(lambda: (b := bill(tenant))["records"] and b["records"][0]["seconds"] == seconds and b)
    [record] = answer["records"]
    assert record["resource"] == urn
    assert record["tags"] == {"team": "vision"}
    assert record["amount"] == f"{round(SMALL * seconds / 3600) / 1e6:.6f}"
    assert answer["exact_amount"] == record["amount"]
    assert answer["currency"] == "CNY"
    for by, key in (("flavor", "local.small"), ("kind", "training"), ("user", tenant.user_id)):
        grouped = bill(tenant, group_by=by)
        assert [r[by] for r in grouped["records"]] == [key]
        assert grouped["exact_amount"] == answer["exact_amount"]
    assert bill(tenant, group_by="user")["records"][0]["name"] == tenant.name
    assert bill(tenant, group_by="project", scope="account")["records"][0]["project"] == tenant.project_id
    assert bill(tenant, **{"from": "2020-01-01", "to": "2020-02-01"})["records"] == []


def test_a_running_workload_is_billed_up_to_now_and_stopping_ends_it(running: RunningPlatform, tenant: Tenant) -> None:
    workload_id, _ = start_workload(running, tenant, "import time; time.sleep(600)")
    first = wait_until(lambda: (b := bill(tenant))["records"] and b)["records"][0]["seconds"]
    wait_until(lambda: bill(tenant)["records"][0]["seconds"] > first)
    platform = running.platform("training")

    async def stop() -> None:
        async with platform.database.transaction() as tx:
            await platform.workloads.stop(tx, workload_id)

    running.run(stop())
    workload = finished(running, workload_id)
    assert workload.started_at
    assert workload.finished_at
    last = -((workload.started_at - workload.finished_at) // 1000)
    # A run of answers well after the end, all of them its length: the meter stands still.
    wait_until(lambda: bill(tenant)["records"][0]["seconds"] == last)
    deadline = time.monotonic() + 1.5
    while time.monotonic() < deadline:
        assert bill(tenant)["records"][0]["seconds"] == last


def received(event: Event, project_id: str, ident: str) -> Received[Any]:
    urn = f"bottega:core:{project_id}:workload/{ident}"
    envelope = Envelope(uuid7(), event.type, urn, "2026-01-01T00:00:00.000000Z", {}, "/plugins/core", "system:x", ident)
    return Received(event, envelope)


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 10**8), st.none() | st.integers(0, 10**7)), min_size=1, max_size=6),
    st.randoms(use_true_random=False),
)
def test_events_shuffled_and_repeated_give_the_identical_bill(
    running: RunningPlatform, lives: list[tuple[int, int | None]], shuffle: random.Random
) -> None:
    begin = 1_767_225_600_000
    platform = running.platform("billing")
    asked = {"from": begin, "to": begin + 2 * 10**8}

    def meter(order: list[tuple[str, Event]], tenant: Tenant) -> dict[str, Any]:
        async def deliver() -> None:
            for ident, event in order:
                async with platform.database.transaction() as tx:
                    handle: Any = on_started if isinstance(event, WorkloadStarted) else on_finished
                    await handle(received(event, tenant.project_id, ident), tx)

        running.run(deliver())
        answer = tenant.client.get(BILLS, {**asked, "group_by": "flavor"})
        return {"records": answer["records"], "total": answer["total_amount"], "exact": answer["exact_amount"]}

    def events(tag: str) -> list[tuple[str, Event]]:
        every: list[tuple[str, Event]] = []
        for index, (start, length) in enumerate(lives):
            ident = f"{tag}-{index}"
            common: dict[str, Any] = {
                "workload_id": ident,
                "kind": "training",
                "backend": "local",
                "flavor": f"f{index % 2}",
                "node_count": 1 + index % 3,
                "resource_urn": f"bottega:training:p:job/{index}",
                "started_at": begin + start,
            }
            every.append((ident, WorkloadStarted(endpoints={}, **common)))
            end = begin + start + (length or 1)
            every.append(
                (ident, WorkloadFinished(state="succeeded", reason="", exit_code=0, finished_at=end, **common))
            )
        return every

    in_order = meter(events(uuid.uuid4().hex), running.tenant())
    mixed = events(uuid.uuid4().hex) * 3
    shuffle.shuffle(mixed)
    again = running.tenant()
    assert meter(mixed, again) == in_order
    assert meter(mixed, again) == in_order


def test_what_never_ran_costs_nothing(running: RunningPlatform, tenant: Tenant) -> None:
    workload_id, _ = start_workload(running, tenant, "pass", node_count=1)
    finished(running, workload_id)
    platform = running.platform("billing")
    event = WorkloadFinished(
        workload_id="never",
        kind="training",
        backend="local",
        flavor="local.small",
        node_count=1,
        resource_urn="bottega:training:p:job/1",
        state="failed",
        reason="no room",
        exit_code=None,
        started_at=None,
        finished_at=1,
    )

    async def deliver() -> None:
        async with platform.database.transaction() as tx:
            await on_finished(received(event, tenant.project_id, "never"), tx)

    running.run(deliver())
    assert wait_until(lambda: bill(tenant)["records"])
    assert len(bill(tenant)["records"]) == 1


def test_bills_are_shown_to_who_may_see_them(tenant: Tenant, stranger: Tenant) -> None:
    viewer = {"Version": "1.1", "Statement": [{"Effect": "Allow", "Action": ["bss:bill:view"]}]}
    assert tenant.user([viewer]).client.get(BILLS)["total_amount"] == "0.00"
    for who, path in ((tenant.user(), BILLS), (stranger, f"/v2/{tenant.project_id}/bills")):
        with pytest.raises(ApiFailure) as failure:
            who.client.get(path)
        assert failure.value.status == 403
    for wrong in ({"group_by": "mood"}, {"from": "soon"}, {"from": "2026-02-01", "to": "2026-01-01"}, {"scope": "all"}):
        with pytest.raises(ApiFailure) as failure:
            tenant.client.get(BILLS, wrong)
        assert failure.value.status == 400
    assert tenant.user().client.get("/v2/{project_id}/prices")["versions"][0]["storage"]["free_gb"] == 5


def test_a_price_change_never_changes_the_past(tmp_path: Path) -> None:
    file, data = tmp_path / "prices.toml", tmp_path / "data"
    head = 'currency = "CNY"\n'

    def priced(name: str, begins: str, price: str) -> str:
        return f'[[versions]]\nversion = "{name}"\nvalid_from = {begins}\ndefault = "{price}"\n'

    first = priced("1", "2020-01-01T00:00:00Z", "0.36")
    begin = 1_767_225_600_000
    event = WorkloadStarted(
        workload_id="w",
        kind="training",
        backend="local",
        flavor="f",
        node_count=1,
        resource_urn="bottega:training:p:job/1",
        endpoints={},
        started_at=begin,
    )

    def start(text: str) -> RunningPlatform:
        file.write_text(head + text)
        return RunningPlatform(data, {"plugins": {"billing": {"price_list": str(file)}}})

    with start(first) as running:
        tenant = running.tenant()
        platform = running.platform("billing")

        async def deliver() -> None:
            async with platform.database.transaction() as tx:
                await on_started(received(event, tenant.project_id, "w"), tx)

        running.run(deliver())
        asked = {"from": begin, "to": begin + 3_600_000}
        assert bill(tenant, **asked)["total_amount"] == "0.36"
    for wrong in (priced("1", "2020-01-01T00:00:00Z", "9"), first + priced("2", "2025-01-01T00:00:00Z", "9")):
        with start(wrong) as running:
            plugins = {p["name"]: p for p in replace(tenant, running=running).client.get("/v1/plugins")["plugins"]}
            assert plugins["billing"]["state"] == "broken"
            assert "price version" in plugins["billing"]["reason"]
            assert plugins["audit"]["state"] == "on"
    with start(first + priced("2", "2999-01-01T00:00:00Z", "9")) as running:
        again = replace(tenant, running=running)
        assert bill(again, **asked)["total_amount"] == "0.36"
        assert [v["version"] for v in again.client.get("/v2/{project_id}/prices")["versions"]] == ["1", "2"]
    # A version to come that has another name by now would stand beside the one that was adopted.
    with start(first + priced("two", "2999-01-01T00:00:00Z", "9")) as running:
        plugins = {p["name"]: p for p in replace(tenant, running=running).client.get("/v1/plugins")["plugins"]}
        assert "'two' begins when '2' does" in plugins["billing"]["reason"]
    later = priced("2", "2998-01-01T00:00:00Z", "9") + priced("3", "2999-01-01T00:00:00Z", "9")
    with start(first + later) as running:
        again = replace(tenant, running=running)
        assert bill(again, **asked)["total_amount"] == "0.36"


def test_what_is_looked_at_every_half_minute_does_not_read_all_there_ever_was(running: RunningPlatform) -> None:
    billing = running.platform("billing")
    months, budgets = Invoices(billing), Budgets(billing)
    asked: list[tuple[str, Any]] = []

    def note(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
        if statement.startswith("SELECT") and "billing_" in statement:
            asked.append((statement, parameters))

    async def look() -> str:
        await months.close_due()
        listen(Engine, "before_cursor_execute", note)
        await months.close_due()
        await budgets.step()
        remove(Engine, "before_cursor_execute", note)
        async with billing.database.read() as session:
            connection = await session.connection()
            explained = [await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {s}", p) for s, p in asked]
            found: list[Any] = [result.all() for result in explained]
        return "\n".join(row[3] for rows in found for row in rows)

    plan = running.run(look())
    assert "billing_entry" in plan
    assert "ix_billing_usage_running" in plan
    whole = [line for line in plan.splitlines() if "SCAN billing_" in line and "ix_billing_usage_running" not in line]
    assert not [line for line in whole if "entry" in line or "posting" in line or "usage" in line], plan
