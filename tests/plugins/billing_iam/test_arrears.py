"""Arrears (000 §7): table 7-2, the retention period, recharge, and every step again after a restart."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from bottega.application import every_route
from bottega.backends import WorkloadStarted
from bottega.client import ApiFailure, SigningAuth
from bottega.context import now_ms
from bottega.gateway import Requirement
from bottega.testing import PlatformProcess, RunningPlatform, Tenant, wait_until
from bottega.urn import Urn, new_id

NOTEBOOKS = "/v1/{project_id}/notebooks"
TABLE_7_2 = {
    "modelarts:trainJob:create",
    "modelarts:notebook:create",
    "modelarts:notebook:action",
    "modelarts:service:create",
}
"""What of the table exists here; starting a notebook is one use of ``notebook:action``, stopping it another."""


def routes(running: RunningPlatform) -> Iterator[tuple[str, str, Requirement]]:
    application: Any = running.runtime.app
    for route in every_route(application.app.routes):
        for method in sorted(route.methods - {"HEAD"}):
            if route.requirement is not None and "{project_id}" in route.path:
                yield method, route.path, route.requirement


def answer(running: RunningPlatform, method: str, path: str, who: Tenant, json: Any = None) -> tuple[int, str]:
    """Status and error code; the rest of an endless answer is not waited for."""
    filled = re.sub(r"{([^}:]+)(:[^}]*)?}", new_id(), path.replace("{project_id}", who.project_id))
    auth = SigningAuth(who.access_key, who.secret_key)
    body = ({} if json is None else json) if method in ("POST", "PUT", "PATCH") else None
    with httpx.stream(method, running.url + filled, auth=auth, timeout=30, json=body) as response:
        if response.status_code != 403:
            return response.status_code, ""
        response.read()
        return response.status_code, str(response.json()["error_code"])


def in_arrears(account: Any) -> None:
    account.pays("prepaid")
    account.charge("1")
    wait_until(lambda: account.balance()["standing"] == "arrears")


def test_table_7_2_is_refused_and_nothing_else(running: RunningPlatform, account_of: Any) -> None:
    account = account_of(running)
    in_arrears(account)
    platform = account.running.runtime.platform
    refused, spending = set(), set()
    for method, path, requirement in routes(account.running):
        action = platform.action(requirement.action)
        costs = requirement.spends or (action is not None and action.spends)
        status, code = answer(account.running, method, path, account.tenant)
        assert (code == "ModelArts.0111") == costs, f"{method} {path}: {status} {code}"
        if costs:
            spending.add(requirement.action)
        if code == "ModelArts.0111":
            refused.add(requirement.action)
    assert refused == spending
    assert refused >= TABLE_7_2


def test_starting_a_service_costs_and_stopping_it_does_not(account: Any) -> None:
    in_arrears(account)
    service = "/v1/{project_id}/services/{service_id}"
    start = answer(account.running, "PUT", service, account.tenant, {"status": "running"})
    stop = answer(account.running, "PUT", service, account.tenant, {"status": "stopped"})
    assert (start, stop) == ((403, "ModelArts.0111"), (404, ""))


def test_the_whole_way_down_and_up(account: Any, later: Any) -> None:
    account.pays("prepaid", credit="0.50")
    account.recharge("1")
    works = account.start()
    account.reached(works, "started")
    account.charge("1.50")
    assert account.balance()["standing"] == "normal"  # exactly as far as its credit goes
    account.charge("0.000001")
    wait_until(lambda: account.balance()["standing"] == "arrears")
    with pytest.raises(ApiFailure) as refused:
        account.tenant.client.post(NOTEBOOKS, {"name": "n"})
    assert (refused.value.status, refused.value.error_code) == (403, "ModelArts.0111")

    # Not at once: for an hour of grace it works on.
    assert account.balance()["arrears"]["state"] == "grace"
    assert account.workload(works).stop_requested_at is None
    account.start(flavor="local.small", kind="dataset")  # what costs nothing is begun at all times
    later(1)
    ended = account.reached(works, "stopped")
    assert "arrears" in ended.reason
    wait_until(lambda: account.balance()["arrears"]["state"] == "retention")
    (begun,) = wait_until(lambda: account.told("billing.retention.begun.v1"))
    assert begun["workloads"] == 1
    with pytest.raises(Exception, match="in arrears") as nothing:
        account.start()
    assert getattr(nothing.value, "code", "") == "ModelArts.0111"

    later(15 * 24)
    wait_until(lambda: account.balance()["arrears"]["state"] == "ended")
    shown = account.balance()["arrears"]
    assert shown["ends_at"] - shown["stops_at"] == 15 * 24 * 3_600_000
    wait_until(lambda: len(account.told("billing.retention.ended.v1")) == 1)

    # What it still owes keeps it there, to the last millionth: the seconds that the work has cost are in it. The clock
    # of what ran was not moved; until the event of its end has come it counts as running, for days.
    def owed() -> Decimal:
        return -Decimal(account.balance()["available"])

    def settled() -> bool:
        before = owed()
        time.sleep(0.5)
        return Decimal("0.000001") < before < 1 and owed() == before

    wait_until(settled)
    account.recharge(str(owed() - Decimal("0.000001")))
    assert account.balance()["standing"] == "arrears"
    account.recharge("0.000001")
    wait_until(lambda: account.balance()["standing"] == "normal")
    assert account.balance()["arrears"] is None
    account.recharge("1")  # for what is begun now: an hour may end at any time
    account.reached(account.start(), "started")
    wait_until(lambda: len(account.told("billing.arrears.lifted.v1")) == 1)
    assert [data["standing"] for data in account.told("core.account.standing_changed.v1")] == ["arrears", "normal"]


def test_hours_are_settled_from_the_balance_and_the_time_in_arrears_is_owed(account: Any, later: Any) -> None:
    """000 §7: by the hour from the balance; who pays in the retention period pays for it from its beginning on."""
    account.pays("prepaid")
    account.recharge("0.10")
    begin = now_ms() - now_ms() % 3_600_000
    account.running.run(used_since(account, begin))  # local.small: 0.20 an hour
    later(1)
    wait_until(lambda: account.balance()["balance"] == "-0.100000")
    wait_until(lambda: account.balance()["standing"] == "arrears")
    later(2)
    wait_until(lambda: account.balance()["balance"] == "-0.500000")
    account.recharge("0.45")
    assert account.balance()["standing"] == "arrears"
    wait_until(lambda: account.balance()["arrears"]["state"] == "retention")
    owed = Decimal("0.05") + Decimal(account.balance()["unsettled"])
    assert account.recharge("0.05")["account"]["standing"] == "arrears"  # the running hour is owed as well
    answer = account.recharge(str(owed))
    assert answer["account"]["standing"] == "normal"


async def used_since(account: Any, begin: int) -> None:
    """A workload of another backend that the platform hears of."""
    tenant = account.tenant
    started = WorkloadStarted(
        workload_id=new_id(),
        kind="training",
        backend="other",
        flavor="local.small",
        node_count=1,
        resource_urn=str(Urn("training", tenant.project_id, "job", new_id())),
        endpoints={},
        started_at=begin,
    )
    async with account.running.runtime.platform.database.bind("core").transaction() as tx:
        tx.emit(started, Urn("core", tenant.project_id, "workload", started.workload_id))


def test_a_level_has_a_retention_period_of_its_own(tmp_path: Path, account_of: Any, later: Any) -> None:
    money = {"mode": "prepaid", "grace_h": 0, "retention_days_by_level": {"gold": 30}, "money_check_s": 0.1}
    with RunningPlatform(tmp_path / "platform", {"plugins": {"billing": money}}) as running:
        account = account_of(running)
        account.pays(None, level="gold")
        works = account.start()
        account.reached(works, "started")
        account.charge("1")
        account.reached(works, "stopped")  # without grace at once
        shown = account.balance()["arrears"]
        assert shown["ends_at"] - shown["stops_at"] == 30 * 24 * 3_600_000
        later(29 * 24)
        assert account.balance()["arrears"]["state"] == "retention"
        account.pays("postpaid")
        assert account.balance()["standing"] == "normal"


def reached(account: Any, state: str) -> dict[str, Any]:
    wait_until(lambda: account.balance()["arrears"]["state"] == state)
    shown: dict[str, Any] = account.balance()
    return shown


def told_once(account: Any, type: str) -> bool:
    return wait_until(lambda: len(account.told(type)) == 1)


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_every_step_survives_a_restart(
    database: str, request: pytest.FixtureRequest, tmp_path: Path, account_of: Any, later: Any
) -> None:
    """Stopped and started again between the steps, and the steps happen once."""
    settings: dict[str, Any] = {"plugins": {"billing": {"money_check_s": 0.1, "settle_every_s": 0.1}}}
    if database == "postgresql":
        settings["database"] = {"url": request.getfixturevalue("postgres").database()}
    folder = tmp_path / "platform"
    with RunningPlatform(folder, settings) as running:
        account = account_of(running)
        account.recharge("1", order_no="first")
        account.pays("prepaid")
        account.charge("2")
        wait_until(lambda: account.balance()["standing"] == "arrears")
    began = None
    for hours, state in ((0, "grace"), (1, "retention"), (0, "retention"), (15 * 24, "ended"), (1, "ended")):
        later(hours)
        with RunningPlatform(folder, settings) as running:
            account.move_to(running)
            shown = reached(account, state)
            assert (shown["standing"], shown["balance"]) == ("arrears", "-1.000000")
            began = began or shown["arrears"]["began_at"]
            assert shown["arrears"]["began_at"] == began
    with RunningPlatform(folder, settings) as running:
        account.move_to(running)
        assert account.recharge("1", order_no="first")["new"] is False
        account.recharge("1", order_no="second")
        assert account.balance()["standing"] == "normal"
    with RunningPlatform(folder, settings) as running:
        account.move_to(running)
        assert account.balance()["standing"] == "normal"
        for happened in ("arrears.begun", "retention.begun", "retention.ended", "arrears.lifted"):
            assert told_once(account, f"billing.{happened}.v1")


def test_a_pool_is_renewed_from_its_original_end(account: Any, later: Any) -> None:
    """000 §7: a renewal in the retention period takes effect from the original end, and that time is paid."""
    orders = "/v2/{project_id}/orders"
    tenant = account.tenant.client
    bought = {"order_type": "pool", "name": "pool-1", "flavor": "local.small", "node_count": 2, "period_num": 1}
    pool = tenant.post(orders, bought)
    month = Decimal(pool["amount"])
    later(31 * 24 + 10 * 24)
    assert tenant.get(f"{orders}/{pool['order_id']}")["status"] == "expired"
    wait_until(lambda: len(account.told("billing.pool.state_changed.v1")) == 2)
    path = f"{orders}/{pool['order_id']}/renewals"
    renewed = tenant.post(path, {"period_num": 1, "order_no": "r1"})
    assert renewed["effective_time"] == pool["expire_time"]
    assert (renewed["name"], renewed["node_count"], Decimal(renewed["amount"])) == ("pool-1", 2, month)
    assert tenant.post(path, {"period_num": 1, "order_no": "r1"})["order_id"] == renewed["order_id"]
    assert Decimal(account.balance()["balance"]) == -2 * month
    with pytest.raises(ApiFailure) as other:
        tenant.post(path, {"period_num": 2, "order_no": "r1"})
    assert other.value.status == 409
    year = tenant.post(path, {"period_num": 12})  # whichever order is named, the pool goes on from its last end
    assert (year["effective_time"], Decimal(year["amount"])) == (renewed["expire_time"], 10 * month)
    later(14 * 31 * 24 + 15 * 24)
    with pytest.raises(ApiFailure, match="order a new one") as gone:
        tenant.post(path, {"period_num": 1})
    assert gone.value.status == 409
    wait_until(lambda: len(account.told("billing.pool.state_changed.v1")) == 6)
    told = account.told("billing.pool.state_changed.v1")
    assert [data["state"] for data in told] == ["active", "expired", "active", "active", "expired", "released"]
    assert [told[n]["order_id"] for n in (0, 1, 2, 5)] == [
        pool["order_id"],
        pool["order_id"],
        renewed["order_id"],
        year["order_id"],
    ]
    assert (told[5]["node_count"], told[5]["kept_until"] - told[5]["ends_at"]) == (2, 15 * 24 * 3_600_000)


def test_only_a_pool_is_renewed_and_only_by_its_own(account: Any, paying: Any) -> None:
    orders = "/v2/{project_id}/orders"
    bought = {"order_type": "pool", "name": "pool-2", "flavor": "local.small", "node_count": 1, "period_num": 1}
    pool = account.tenant.client.post(orders, bought)
    tuned = account.tenant.client.post(orders, {"order_type": "model_tuning", "amount": "1000", "agreed": True})
    for who, order, status in (
        (paying.tenant(), pool, 404),
        (account.tenant.user(), pool, 403),
        (account.tenant, tuned, 400),
    ):
        with pytest.raises(ApiFailure) as refused:
            who.client.post(f"{orders}/{order['order_id']}/renewals", {"period_num": 1})
        assert refused.value.status == status
    account.pays("prepaid", credit="2000")
    with pytest.raises(ApiFailure) as poor:
        account.tenant.client.post(f"{orders}/{pool['order_id']}/renewals", {"period_num": 12})
    assert (poor.value.status, poor.value.error_code) == (403, "ModelArts.0113")


def test_a_kill_between_the_steps_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """SIGKILL as soon as a step is asked for, in steps of seconds; what is due is done after the next start."""
    second = 1 / 3600
    quick = {"GRACE_H": 2 * second, "RETENTION_DAYS": 2 * second / 24, "MONEY_CHECK_S": 0.2}
    platform = PlatformProcess(
        tmp_path / "platform", {f"BOTTEGA__PLUGINS__BILLING__{name}": str(value) for name, value in quick.items()}
    )

    def state() -> str:
        shown = platform.client.get("/v2/{project_id}/balance")
        return str(shown["arrears"]["state"]) if shown["arrears"] else str(shown["standing"])

    try:
        client = platform.start().client
        bought = {"order_type": "pool", "name": "pool-1", "flavor": "local.small", "node_count": 1, "period_num": 1}
        price = Decimal(client.post("/v2/{project_id}/orders", bought)["amount"])
        account = f"/v2/billing/accounts/{client.get('/v2/{project_id}/balance')['account_id']}"
        client.put(f"{account}/terms", {"mode": "prepaid"})
        platform.kill()
        platform.start()
        wait_until(lambda: state() == "ended", 60)
        paid = {"amount": str(price), "order_no": "one"}
        platform.client.post(f"{account}/recharges", paid)
        platform.kill()
        platform.start()
        assert platform.client.post(f"{account}/recharges", paid)["new"] is False
        shown = platform.client.get("/v2/{project_id}/balance")
        assert (shown["balance"], shown["standing"], shown["arrears"]) == ("0.000000", "normal", None)
    finally:
        platform.stop()
