"""Budgets: told once a threshold and month, and stopped where asked."""

from __future__ import annotations

from typing import Any

import pytest

from bottega.client import ApiFailure
from bottega.context import now_ms
from bottega.testing import Tenant, wait_until
from bottega_billing_iam.billing.budgets import Month
from bottega_billing_iam.billing.money_events import BudgetExceeded

BUDGETS = "/v2/{project_id}/budgets"
EXCEEDED = BudgetExceeded.type


def make(tenant: Tenant, scope: str = "account", id: str = "", **fields: Any) -> dict[str, Any]:
    body = {"name": "b", "amount": "1.00", "scope": {"type": scope, "id": id}, **fields}
    made: dict[str, Any] = tenant.client.post(BUDGETS, body)
    return made


def thresholds(account: Any) -> list[str]:
    return [data["threshold"] for data in account.told(EXCEEDED)]


def test_each_threshold_is_told_once_a_month(account: Any, later: Any) -> None:
    budget = make(account.tenant, thresholds=[50, 80, 100])
    assert (budget["spent"], budget["alarms"]) == ("0.000000", [])
    account.charge("0.79")
    wait_until(lambda: thresholds(account) == ["50"])
    account.charge("0.01")
    account.charge("0.05")
    wait_until(lambda: thresholds(account) == ["50", "80"])
    account.charge("10")
    wait_until(lambda: thresholds(account) == ["50", "80", "100"])
    shown = account.tenant.client.get(f"{BUDGETS}/{budget['budget_id']}")
    assert (shown["spent"], shown["used_percent"]) == ("10.850000", 1085.0)
    assert {alarm["threshold"] for alarm in shown["alarms"]} == {"50", "80", "100"}
    later(31 * 24)
    account.charge("0.60")
    wait_until(lambda: thresholds(account) == ["50", "80", "100", "50"])
    assert len({data["period"] for data in account.told(EXCEEDED)}) == 2


def test_what_is_settled_after_a_month_is_told_of_that_month(account: Any, later: Any) -> None:
    """Its last hour is settled in the next one; a budget that was changed since does not judge it."""
    make(account.tenant, thresholds=[50, 80, 100], forecast=True, stop=True)
    last = now_ms()
    later(31 * 24)
    make(account.tenant, thresholds=[10], name="made later")
    account.charge("0.85", at=last)
    wait_until(lambda: thresholds(account) == ["50", "80"])
    account.charge("10", at=last)
    wait_until(lambda: thresholds(account) == ["50", "80", "100"])
    assert {(data["period"], data["stopped"]) for data in account.told(EXCEEDED)} == {(Month.of(last).name, False)}


def test_the_topic_is_told(account: Any) -> None:
    topic = f"urn:smn:local-1:{account.tenant.project_id}:money"
    make(account.tenant, "project", topic_urn=topic)
    account.charge("0.90")
    (told,) = wait_until(lambda: account.tenant.events.all("core.notification.requested.v1"))
    assert told.data["topic_urn"] == topic
    assert "has passed 80 %" in told.data["subject"]
    assert "0.900000 of 1.000000 CNY" in told.data["message"]


def test_a_spent_budget_stops_what_runs_and_refuses_what_is_new(account: Any) -> None:
    user = account.tenant.user()
    mine, other = account.start(user_id=user.user_id), account.start()
    account.reached(mine, "started")
    account.reached(other, "started")
    budget = make(account.tenant, "user", user.user_id, amount="0.000001", stop=True)
    assert "budget 'b' is spent" in account.reached(mine, "stopped").reason
    assert account.workload(other).stop_requested_at is None
    with pytest.raises(Exception, match=r"budget 'b' of user .* is spent") as refused:
        account.start(user_id=user.user_id)
    assert getattr(refused.value, "code", "") == "ModelArts.0114"
    account.start(user_id=user.user_id, kind="dataset")  # what is free is not refused
    raised = {"name": "b", "amount": "100", "stop": True}
    account.tenant.client.put(f"{BUDGETS}/{budget['budget_id']}", raised)
    assert account.start(user_id=user.user_id)


@pytest.mark.parametrize("scope", ["account", "project", "workspace", "tag"])
def test_a_budget_concerns_its_scope_only(account: Any, scope: str) -> None:
    ident = {"workspace": "0", "tag": "team:vision"}.get(scope, "")
    works = account.start(tags={"team": "vision"})
    account.reached(works, "started")
    make(account.tenant, scope, ident, amount="0.000001", stop=True)
    account.reached(works, "stopped")
    with pytest.raises(Exception, match="is spent"):
        account.start(tags={"team": "vision"})
    if scope == "tag":
        assert account.start(tags={"team": "sound"})


def test_a_month_that_will_end_above_it_is_foreseen(account: Any, later: Any) -> None:
    make(account.tenant, amount="31", thresholds=[100], forecast=True)
    later(31 * 24)
    account.charge("30.99")
    told = wait_until(lambda: [d["threshold"] for d in account.told(EXCEEDED)])
    assert told == ["forecast"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"amount": "0"},
        {"amount": "-1"},
        {"amount": 5},
        {"thresholds": [0]},
        {"name": ""},
        {"scope": {"type": "moon", "id": ""}},
        {"scope": {"type": "user", "id": "nobody"}},
        {"scope": {"type": "workspace", "id": "nowhere"}},
        {"scope": {"type": "tag", "id": "team"}},
        {"topic_urn": "news"},
        {"colour": "red"},
    ],
)
def test_a_wrong_budget_is_refused(account: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(ApiFailure) as refused:
        make(account.tenant, **wrong)
    assert refused.value.status == 400
    assert account.tenant.client.get(BUDGETS, {"scope": "account"})["total_count"] == 0


def test_who_may_do_what_with_budgets(account: Any, paying: Any) -> None:
    tenant, stranger = account.tenant, paying.tenant()
    budget = make(tenant, "project", name="ours")
    whole = make(tenant, "account", name="all")
    one = f"{BUDGETS}/{budget['budget_id']}"
    with pytest.raises(ApiFailure) as foreign:
        make(tenant, "project", stranger.project_id)
    assert foreign.value.status == 403
    with pytest.raises(ApiFailure) as topic:
        make(tenant, topic_urn=f"urn:smn:local-1:{stranger.project_id}:news")
    assert (topic.value.status, "smn:topic:publish" in topic.value.message) == (403, True)
    for method, body in (("GET", None), ("DELETE", None), ("PUT", {"name": "x", "amount": "1"})):
        with pytest.raises(ApiFailure) as refused:
            stranger.client.request(method, one, json=body)
        assert refused.value.status == 404
    assert [b["name"] for b in tenant.client.get(BUDGETS)["budgets"]] == ["ours"]
    assert {b["name"] for b in tenant.client.get(BUDGETS, {"scope": "account"})["budgets"]} == {"ours", "all"}
    for budget_id in (budget["budget_id"], whole["budget_id"]):
        tenant.client.delete(f"{BUDGETS}/{budget_id}")
    with pytest.raises(ApiFailure) as gone:
        tenant.client.get(one)
    assert gone.value.status == 404
