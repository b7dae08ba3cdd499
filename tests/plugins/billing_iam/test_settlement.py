"""From events to invoices on SQLite and PostgreSQL: shuffled, repeated, interrupted and late, it comes to the same."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError

from bottega.backends import WorkloadFinished, WorkloadStarted
from bottega.client import ApiFailure
from bottega.context import move_clock, now_ms
from bottega.database import Transaction
from bottega.events import Envelope, Event, Received, uuid7
from bottega.testing import RunningPlatform, Tenant
from bottega_billing_iam.billing import invoices, ledger, metering, prices, settlement
from bottega_billing_iam.billing.asked import month_after
from bottega_billing_iam.billing.entities import Invoice, Order
from bottega_billing_iam.billing.ledger import BALANCE, REVENUE
from bottega_billing_iam.billing.rating import HOUR

MONTH = 1_767_225_600_000  # 2026-01-01
NEXT = month_after(MONTH)
Life = tuple[int, int, int]
"""Offset of the start, length, nodes."""
lives = st.lists(
    st.tuples(st.integers(0, 3 * HOUR), st.integers(1, 3 * HOUR), st.integers(1, 3)), min_size=1, max_size=5
)


@pytest.fixture(scope="module")
def platform(each_database: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    # The jobs stand still: each test settles by itself, at the worst of times.
    still = {"settle_every_s": 3600, "invoice_after_h": 24}
    with RunningPlatform(
        tmp_path_factory.mktemp("money") / "data", {**each_database, "plugins": {"billing": still}}
    ) as running:
        yield running


def received(event: Event, project_id: str, ident: str) -> Received[Any]:
    urn = f"bottega:core:{project_id}:workload/{ident}"
    envelope = Envelope(uuid7(), event.type, urn, "2026-01-01T00:00:00.000000Z", {}, "/plugins/core", "system:x", ident)
    return Received(event, envelope)


def events_of(tag: str, found: list[Life], begin: int = MONTH) -> list[tuple[str, Event]]:
    every: list[tuple[str, Event]] = []
    for index, (start, length, nodes) in enumerate(found):
        ident = f"{tag}-{index}"
        common: dict[str, Any] = {
            "workload_id": ident,
            "kind": "training",
            "backend": "local",
            "flavor": f"f{index % 2}",
            "node_count": nodes,
            "resource_urn": f"bottega:training:p:job/{index}",
            "started_at": begin + start,
        }
        every.append((ident, WorkloadStarted(endpoints={}, **common)))
        end = {"state": "succeeded", "reason": "", "exit_code": 0, "finished_at": begin + start + length}
        every.append((ident, WorkloadFinished(**end, **common)))
    return every


async def handle(tx: Transaction, project_id: str, ident: str, event: Event) -> None:
    if isinstance(event, WorkloadStarted):
        await metering.on_started(received(event, project_id, ident), tx)
    else:
        await metering.on_finished(received(event, project_id, ident), tx)


async def settle(tx: Transaction, account_id: str, until: int) -> None:
    price_list = await prices.load(tx.session)
    while await settlement.settle(tx, account_id, until, price_list):
        pass


class Interrupted(Exception):
    """Stands for a crash: the transaction it leaves is rolled back."""


def month(
    running: RunningPlatform,
    tenant: Tenant,
    order: list[tuple[str, Event]],
    steps: random.Random | None,
    package: int = 0,
) -> tuple[list[Any], dict[tuple[str, str], int]]:
    """Deliver, settling and crashing in between when `steps` say so; the lines of the invoice and all books."""
    billing = running.platform("billing")

    async def run() -> tuple[list[Any], dict[tuple[str, str], int]]:
        if package:
            async with billing.database.transaction() as tx:
                await own(tx, tenant, package)
        for ident, event in order:
            while steps and steps.random() < 0.25:
                try:
                    async with billing.database.transaction() as tx:
                        await settle(tx, tenant.account_id, MONTH + steps.randint(0, 7) * HOUR)
                        if steps.random() < 0.5:
                            raise Interrupted
                except Interrupted:
                    pass
            async with billing.database.transaction() as tx:
                await handle(tx, tenant.project_id, ident, event)
        async with billing.database.transaction() as tx:
            await settle(tx, tenant.account_id, NEXT)
            assert await invoices.close_next(tx, tenant.account_id, NEXT)
            assert not await invoices.close_next(tx, tenant.account_id, NEXT)
        async with billing.database.read() as session:
            [invoice] = (await invoices.Invoices(billing).list(session, tenant.account_id, 0, 9))[1]
            lines = sorted((ln["resource"], ln["flavor"], ln["amount"]) for ln in invoice.document["lines"])
            return [invoice.document["exact_amount"], *lines], await ledger.books(session, tenant.account_id)

    return running.run(run())


async def own(tx: Transaction, tenant: Tenant, node_seconds: int) -> None:
    order = Order(
        id=f"package-of-{tenant.account_id}",
        order_no=uuid.uuid4().hex,
        account_id=tenant.account_id,
        project_id=tenant.project_id,
        user_id=tenant.user_id,
        user_name=tenant.name,
        kind="package",
        name="hours",
        quantity=node_seconds,
        flavors=["f0"],
        micro=0,
        currency="CNY",
        begins=MONTH,
        ends=NEXT,
    )
    tx.session.add(order)


@settings(max_examples=8, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(lives, st.integers(0, 2**32).map(random.Random), st.sampled_from([0, 0, 3000]))
def test_the_invoice_is_the_same_shuffled_repeated_and_interrupted(
    platform: RunningPlatform, found: list[Life], steps: random.Random, package: int
) -> None:
    # Ties between workloads are broken by their ids, so these have to sort alike.
    plain, wild = platform.tenant(), platform.tenant()
    expected, books = month(platform, plain, events_of(uuid.uuid4().hex, found), None, package)
    mixed = events_of(uuid.uuid4().hex, found) * 2
    steps.shuffle(mixed)
    again, other_books = month(platform, wild, mixed, steps, package)
    assert again == expected

    def anonymous(held: dict[tuple[str, str], int], tenant: Tenant) -> dict[tuple[str, str], int]:
        return {(book.replace(tenant.account_id, ""), unit): held for (book, unit), held in held.items() if held}

    assert anonymous(other_books, wild) == anonymous(books, plain)
    for held in (books, other_books):
        assert sum(v for (_, unit), v in held.items() if unit == "CNY") == 0
        assert held.get((BALANCE, "CNY"), 0) == -held.get((REVENUE, "CNY"), 0)
    shown = wild.client.get("/v2/{project_id}/bills", {"from": MONTH, "to": NEXT})
    assert shown["exact_amount"] == expected[0]


def test_what_arrives_after_the_month_is_closed_stands_on_the_next_invoice(platform: RunningPlatform) -> None:
    tenant = platform.tenant()
    billing = platform.platform("billing")
    tag = uuid.uuid4().hex
    first, late = (
        events_of(tag, [(0, HOUR, 1), (0, 2 * HOUR, 1)])[:2],
        events_of(tag, [(0, 1, 1), (0, 2 * HOUR, 1)])[2:],
    )
    month(platform, tenant, first, None)

    async def go_on() -> tuple[list[Invoice], int]:
        async with billing.database.transaction() as tx:
            for ident, event in late:
                await handle(tx, tenant.project_id, ident, event)
        for _ in range(2):
            async with billing.database.transaction() as tx:
                await settle(tx, tenant.account_id, month_after(NEXT))
                await invoices.close_next(tx, tenant.account_id, month_after(NEXT))
        async with billing.database.read() as session:
            held = await ledger.balance(session, tenant.account_id, "CNY")
            return list((await invoices.Invoices(billing).list(session, tenant.account_id, 0, 9))[1]), held

    found, held = platform.run(go_on())
    assert [(i.month, i.micro) for i in found] == [("2026-02", 400_000), ("2026-01", 200_000)]
    assert [line["corrects"] for line in found[0].document["lines"]] == ["2026-01"]
    assert held == -600_000
    listed = tenant.client.get("/v2/{project_id}/invoices")
    assert [i["amount"] for i in listed["invoices"]] == ["0.40", "0.20"]
    shown = tenant.client.get(f"/v2/{{project_id}}/invoices/{found[1].number}")
    assert [line["amount"] for line in shown["lines"]] == ["0.200000"]
    with pytest.raises(ApiFailure) as failure:
        platform.tenant().client.get(f"/v2/{{project_id}}/invoices/{found[1].number}")
    assert failure.value.status == 404


def test_a_workload_that_ended_before_it_was_known_is_corrected(platform: RunningPlatform) -> None:
    tenant = platform.tenant()
    billing = platform.platform("billing")
    started, finished = events_of(uuid.uuid4().hex, [(1000, HOUR - 1000, 2)])

    async def run() -> list[tuple[str, int]]:
        for one, until in ((started, 3), (finished, 3), (finished, 3)):
            async with billing.database.transaction() as tx:
                await handle(tx, tenant.project_id, *one)
                await settle(tx, tenant.account_id, MONTH + until * HOUR)
        async with billing.database.read() as session:
            rows = await ledger.statement(session, tenant.account_id, "CNY", limit=20)
            return [(entry.kind, moved) for entry, moved in rows]

    first = -round(400_000 * 3599 / 3600)
    assert platform.run(run()) == [
        ("usage", first),
        ("usage", -400_000),
        ("correction", 400_000),
        ("usage", -400_000),
        ("correction", 400_000),
    ]
    assert tenant.client.get("/v2/{project_id}/bills", {"from": MONTH, "to": NEXT})["exact_amount"] == "0.399889"


def test_the_database_keeps_facts_orders_and_invoices(platform: RunningPlatform) -> None:
    tenant = platform.tenant()
    billing = platform.platform("billing")
    month(platform, tenant, events_of(uuid.uuid4().hex, [(0, HOUR, 1)]), None, 100)
    for statement in (
        "UPDATE billing_usage SET quantity = 9 WHERE account_id = :a",
        "UPDATE billing_usage SET finished_at = 9 WHERE account_id = :a",
        "DELETE FROM billing_usage WHERE account_id = :a",
        "UPDATE billing_order SET micro = 9 WHERE account_id = :a",
        "DELETE FROM billing_order WHERE account_id = :a",
        "UPDATE billing_invoice SET micro = 0 WHERE account_id = :a",
        "DELETE FROM billing_invoice WHERE account_id = :a",
    ):

        async def run(statement: str = statement) -> None:
            async with billing.database.transaction() as tx:
                await tx.session.execute(text(statement).bindparams(a=tenant.account_id))

        with pytest.raises(DatabaseError):
            platform.run(run())


def test_the_jobs_settle_and_close_by_themselves(platform: RunningPlatform) -> None:
    tenant = platform.tenant()
    billing = platform.platform("billing")
    now = now_ms()
    begin = now - now % HOUR - 2 * HOUR
    ahead = 40 * 24 * HOUR

    async def run() -> tuple[int, int]:
        for ident, event in events_of(uuid.uuid4().hex, [(0, HOUR, 1)], begin):
            async with billing.database.transaction() as tx:
                await handle(tx, tenant.project_id, ident, event)
        jobs = settlement.Settlements(billing), invoices.Invoices(billing)
        await jobs[0].settle_all()
        async with billing.database.read() as session:
            held = await ledger.balance(session, tenant.account_id, "CNY")
        move_clock(ahead)
        try:
            await jobs[0].settle_all()
            await jobs[1].close_due()
        finally:
            move_clock(-ahead)
        async with billing.database.read() as session:
            return held, (await jobs[1].list(session, tenant.account_id, 0, 9))[0]

    assert platform.run(run()) == (-200_000, 1)
