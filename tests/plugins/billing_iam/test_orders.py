"""Packages, pools by the month and model tuning, through the API, on SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from bottega.backends import WorkloadFinished
from bottega.client import ApiFailure
from bottega.context import move_clock
from bottega.events import Envelope, Received, uuid7
from bottega.testing import RunningPlatform, Tenant, wait_until
from bottega_billing_iam.billing import ledger, metering
from bottega_billing_iam.billing.rating import HOUR
from bottega_billing_iam.billing.settlement import Settlements

ORDERS = "/v2/{project_id}/orders"
PACKAGES = "/v2/{project_id}/packages"
PRICES = """
currency = "CNY"
[[versions]]
version = "1"
valid_from = 2020-01-01T00:00:00Z
default = "0.50"
[versions.flavors]
"local.small" = "0.36"
[versions.calls]
"iam:users:createUser" = "1.5"
"modelarts:trainJob:create" = "0.25"
[versions.pools]
"local.large" = "100.01"
[versions.packages.small-10]
hours = 10
months = 1
price = "3"
flavors = ["local.small"]
[versions.packages.any-2]
hours = 2
price = "1"
"""


@pytest.fixture(scope="module")
def platform(each_database: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    folder = tmp_path_factory.mktemp("orders")
    (folder / "prices.toml").write_text(PRICES)
    own = {"price_list": str(folder / "prices.toml"), "settle_every_s": 3600}
    with RunningPlatform(folder / "data", {**each_database, "plugins": {"billing": own}}) as running:
        yield running


@pytest.fixture
def buyer(platform: RunningPlatform) -> Tenant:
    return platform.tenant()


@contextmanager
def ahead(by_ms: int) -> Iterator[None]:
    move_clock(by_ms)
    try:
        yield
    finally:
        move_clock(-by_ms)


def balance(platform: RunningPlatform, tenant: Tenant) -> int:
    async def read() -> int:
        async with platform.platform("billing").database.read() as session:
            return await ledger.balance(session, tenant.account_id, "CNY")

    return platform.run(read())


def use(platform: RunningPlatform, tenant: Tenant, started_at: int, seconds: int, nodes: int = 1) -> None:
    """A workload that ran so long, and the hours of it settled."""
    ident = uuid.uuid4().hex
    event = WorkloadFinished(
        workload_id=ident,
        kind="training",
        backend="local",
        flavor="local.small",
        node_count=nodes,
        resource_urn="bottega:training:p:job/1",
        state="succeeded",
        reason="",
        exit_code=0,
        started_at=started_at,
        finished_at=started_at + seconds * 1000,
    )
    urn = f"bottega:core:{tenant.project_id}:workload/{ident}"
    envelope = Envelope(uuid7(), event.type, urn, "2026-01-01T00:00:00Z", {}, "/plugins/core", "system:x", ident)
    billing = platform.platform("billing")

    async def run() -> None:
        async with billing.database.transaction() as tx:
            await metering.on_finished(Received(event, envelope), tx)
        with ahead(30 * HOUR):
            await Settlements(billing).settle_all()

    platform.run(run())


def test_a_package_is_used_first_and_the_overflow_is_paid(platform: RunningPlatform, buyer: Tenant) -> None:
    offers = buyer.client.get("/v2/{project_id}/package-offers")["offers"]
    assert [(o["name"], o["price"], o["period_num"]) for o in offers] == [("any-2", "1", 12), ("small-10", "3", 1)]
    order = buyer.client.post(ORDERS, {"order_type": "package", "name": "small-10", "order_no": "my-1"})
    assert (order["amount"], order["node_seconds"], order["status"]) == ("3.000000", 36_000, "active")
    again = buyer.client.post(ORDERS, {"order_type": "package", "name": "small-10", "order_no": "my-1"})
    assert again["order_id"] == order["order_id"]
    assert balance(platform, buyer) == -3_000_000
    start = order["effective_time"] + 1000
    use(platform, buyer, start, 5 * 3600)
    [package] = buyer.client.get(PACKAGES)["orders"]
    assert package["remaining_node_seconds"] == 5 * 3600
    assert balance(platform, buyer) == -3_000_000
    use(platform, buyer, start + 6 * HOUR, 5 * 3600 + 1, nodes=2)
    [package] = buyer.client.get(PACKAGES)["orders"]
    assert (package["remaining_node_seconds"], package["status"]) == (0, "used_up")
    paid = (5 * 3600 + 2) * 360_000 // 3600
    assert balance(platform, buyer) == -3_000_000 - paid
    with ahead(30 * HOUR):
        asked = {"from": order["effective_time"], "group_by": "kind"}
        bill = buyer.client.get("/v2/{project_id}/bills", asked)
    amounts = {r["kind"]: (r["amount"], r["node_seconds"]) for r in bill["records"]}
    assert amounts == {"package": ("3.000000", 0), "training": (f"{paid / 1e6:.6f}", 3 * 5 * 3600 + 2)}


def test_twelve_months_of_a_pool_cost_ten_and_it_stays_as_it_is(platform: RunningPlatform, buyer: Tenant) -> None:
    pool = {"order_type": "pool", "name": "our-pool", "flavor": "local.large", "node_count": 3}
    assert buyer.client.post(ORDERS, {**pool, "period_num": 1})["amount"] == "300.030000"
    assert buyer.client.post(ORDERS, {**pool, "period_num": 11})["amount"] == "3300.330000"
    year = buyer.client.post(ORDERS, {**pool, "period_num": 12})
    assert year["amount"] == "3000.300000"
    assert (year["scalable"], year["deletable"], year["status"]) == (False, False, "active")
    days = (year["expire_time"] - year["effective_time"]) // (24 * HOUR)
    assert days in (365, 366)
    small = buyer.client.post(ORDERS, {**pool, "flavor": "local.small", "period_num": 1})
    assert small["amount"] == "777.600000"
    for method in ("PUT", "DELETE"):
        with pytest.raises(ApiFailure) as failure:
            buyer.client.request(method, f"{ORDERS}/{year['order_id']}", json={})
        assert failure.value.status == 405
    with ahead((days + 1) * 24 * HOUR):
        over = buyer.client.get(f"{ORDERS}/{year['order_id']}")
    assert (over["status"], over["deletable"]) == ("expired", True)
    listed = buyer.client.get(ORDERS, {"order_type": "pool"})
    assert listed["total_count"] == 4
    assert balance(platform, buyer) == -(300_030_000 + 3_300_330_000 + 3_000_300_000 + 777_600_000)


def test_a_tuning_is_paid_once_however_often_it_is_sent(platform: RunningPlatform, buyer: Tenant) -> None:
    tuning = {"order_type": "model_tuning", "amount": "100000", "agreed": True, "order_no": "t-1"}

    async def place() -> int:
        return await asyncio.to_thread(lambda: buyer.client.request("POST", ORDERS, json=tuning).status_code)

    async def at_once() -> list[int]:
        return await asyncio.gather(*(place() for _ in range(8)))

    assert sorted(asyncio.run(at_once())) == [200] * 7 + [201]
    assert balance(platform, buyer) == -100_000_000_000
    for other in ({**tuning, "amount": "200000"}, {"order_type": "package", "name": "any-2", "order_no": "t-1"}):
        with pytest.raises(ApiFailure) as failure:
            buyer.client.post(ORDERS, other)
        assert failure.value.status == 409
    assert balance(platform, buyer) == -100_000_000_000


@pytest.mark.parametrize(
    ("order", "said"),
    [
        ({"order_type": "package", "name": "nothing"}, "any-2, small-10"),
        ({"order_type": "pool", "name": "p", "flavor": "local.huge", "node_count": 1, "period_num": 1}, "local.small"),
        ({"order_type": "pool", "name": "p", "flavor": "local.small", "node_count": 1, "period_num": 13}, "period_num"),
        ({"order_type": "pool", "name": "P-", "flavor": "local.small", "node_count": 1, "period_num": 1}, "name"),
        ({"order_type": "model_tuning", "amount": "1500", "agreed": True}, "multiple of 1000"),
        ({"order_type": "model_tuning", "amount": "1000", "agreed": False}, "agreed"),
        ({"order_type": "model_tuning", "amount": 1000, "agreed": True}, "amount"),
        ({"order_type": "model_tuning", "amount": "1e999999", "agreed": True}, "amount"),
        ({"order_type": "yacht"}, "order_type"),
        ({}, "order_type"),
    ],
)
def test_what_cannot_be_ordered_is_refused_and_nothing_paid(
    platform: RunningPlatform, buyer: Tenant, order: dict[str, Any], said: str
) -> None:
    with pytest.raises(ApiFailure, match=said) as failure:
        buyer.client.post(ORDERS, order)
    assert failure.value.status == 400
    assert balance(platform, buyer) == 0


def test_orders_are_seen_and_placed_by_who_may(platform: RunningPlatform, buyer: Tenant) -> None:
    order = buyer.client.post(ORDERS, {"order_type": "package", "name": "any-2"})
    stranger = platform.tenant()
    with pytest.raises(ApiFailure) as failure:
        stranger.client.get(f"{ORDERS}/{order['order_id']}")
    assert failure.value.status == 404
    assert stranger.client.get(ORDERS)["orders"] == []
    for path in (ORDERS, PACKAGES, f"{ORDERS}/{order['order_id']}"):
        with pytest.raises(ApiFailure) as failure:
            buyer.user().client.get(path)
        assert failure.value.status == 403
    with pytest.raises(ApiFailure) as failure:
        buyer.user().client.post(ORDERS, {"order_type": "package", "name": "any-2"})
    assert failure.value.status == 403


def test_a_call_with_a_price_costs_once_when_it_succeeded(platform: RunningPlatform, buyer: Tenant) -> None:
    def make(name: str) -> None:
        body = {"user": {"name": name, "domain_id": buyer.account_id, "password": "Correct-Horse-7"}}
        buyer.client.post("/v3/users", body)

    make("bob")
    with pytest.raises(ApiFailure):
        make("bob")
    make("carol")
    whole = {"scope": "account", "group_by": "flavor"}
    wait_until(lambda: buyer.client.get("/v2/{project_id}/bills", whole)["total_amount"] == "3.00", 30)
    records = buyer.client.get("/v2/{project_id}/bills", whole)["records"]
    assert [r["flavor"] for r in records] == ["iam:users:createUser"]
    usage = buyer.client.get("/v2/{project_id}/usage-records", {"scope": "account"})["records"]
    assert [(u["measure"], u["quantity"], u["amount"], u["user"]) for u in usage] == [
        ("call", 1, "1.500000", buyer.user_id)
    ] * 2
