"""Balances: recharged by the operator, once for each order number; what an account sees of its own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from bottega.client import ApiFailure


def test_a_laptop_never_falls_into_arrears(account: Any) -> None:
    account.charge("1000")
    shown = account.balance()
    assert (shown["mode"], shown["balance"], shown["standing"]) == ("postpaid", "-1000.000000", "normal")
    assert (shown["credit"], shown["available"], shown["arrears"]) == (None, None, None)


def test_a_recharge_happens_once_for_its_order_number(account: Any) -> None:
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda _: account.recharge("12.345678", order_no="2026-7"), range(8)))
    assert sorted(answer["new"] for answer in answers) == [False] * 7 + [True]
    assert len({answer["entry_id"] for answer in answers}) == 1
    assert account.balance()["balance"] == "12.345678"
    with pytest.raises(ApiFailure) as other:
        account.recharge("99", order_no="2026-7")
    assert other.value.status == 409
    account.recharge("1")
    account.recharge("1")
    assert account.balance()["balance"] == "14.345678"


def test_order_numbers_are_an_accounts_own(account: Any, paying: Any) -> None:
    account.recharge("1", order_no="1")
    other = paying.tenant()
    account.operator.post(f"/v2/billing/accounts/{other.account_id}/recharges", {"amount": "2", "order_no": "1"})
    assert account.balance()["balance"] == "1.000000"
    assert other.client.get("/v2/{project_id}/balance")["balance"] == "2.000000"


@pytest.mark.parametrize("amount", ["0", "-1", "1.0000001", "1e99", "NaN", "Infinity", 5, None, "ten", ""])
def test_what_is_no_amount_is_refused(account: Any, amount: Any) -> None:
    with pytest.raises(ApiFailure) as refused:
        account.operator.post(f"{account.path}/recharges", {"amount": amount})
    assert (refused.value.status, "amount" in refused.value.message) == (400, True)
    assert account.balance()["balance"] == "0.000000"


def test_money_of_others_is_nobodys_business(account: Any, paying: Any) -> None:
    own = account.tenant
    allowed = {"Version": "1.1", "Statement": [{"Effect": "Allow", "Action": ["bss:*:*"]}]}
    user = own.user([allowed])
    for who in (own, user, paying.tenant()):
        for method, path, body in (
            ("POST", f"{account.path}/recharges", {"amount": "1000"}),
            ("PUT", f"{account.path}/terms", {"credit": "1000"}),
            ("GET", "/v2/billing/accounts", None),
        ):
            with pytest.raises(ApiFailure) as refused:
                who.client.request(method, path, json=body)
            assert refused.value.status == 403
    assert user.client.get("/v2/{project_id}/balance")["balance"] == "0.000000"
    with pytest.raises(ApiFailure) as denied:
        own.user().client.get("/v2/{project_id}/balance")
    assert denied.value.status == 403
    with pytest.raises(ApiFailure) as missing:
        account.operator.post("/v2/billing/accounts/nobody/recharges", {"amount": "1"})
    assert missing.value.status == 404


def test_the_operator_sees_who_pays_and_how(account: Any) -> None:
    account.pays("prepaid", credit="5.50", level="gold")
    account.recharge("2")
    found: list[dict[str, Any]] = list(account.operator.pages("/v2/billing/accounts", "accounts"))
    (mine,) = (row for row in found if row["account_id"] == account.tenant.account_id)
    assert (mine["mode"], mine["level"], mine["credit"]) == ("prepaid", "gold", "5.500000")
    assert (mine["balance"], mine["available"]) == ("2.000000", "7.500000")
    assert account.pays(None)["mode"] == "postpaid"
