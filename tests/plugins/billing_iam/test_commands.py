"""The command line of the plugins, as a user runs it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from bottega.client import ApiFailure, Client
from bottega.errors import Invalid
from bottega.testing import Tenant, wait_until

Run = Callable[..., Result]


def answer(run: Run, *arguments: str) -> Any:
    done = run(*arguments, as_json=True)
    assert done.exit_code == 0, done.exception
    return json.loads(done.stdout) if done.stdout else None


def test_from_a_new_user_to_a_denial_and_its_trail(bottega: Run, tenant: Tenant, tmp_path: Path) -> None:
    answer(bottega, "users", "create", "alice")
    answer(bottega, "groups", "create", "readers")
    answer(bottega, "groups", "add", "readers", "alice")
    document = tmp_path / "policy.json"
    statement = {"Effect": "Deny", "Action": ["bss:bill:view"]}
    document.write_text(json.dumps({"Version": "1.1", "Statement": [statement]}))
    answer(bottega, "policies", "create", "no-bills", str(document))
    for policy in ("Tenant Guest", "no-bills"):
        answer(bottega, "policies", "grant", policy, "readers")
    shown = answer(bottega, "groups", "show", "readers")
    assert shown == {"name": "readers", "users": ["alice"], "policies": ["Tenant Guest", "no-bills"]}
    key = answer(bottega, "keys", "create", "--user", "alice")
    alice = Tenant(
        tenant.running, tenant.account_id, tenant.project_id, key["user_id"], "alice", key["access"], key["secret"]
    )
    denied = bottega("bill", who=alice)
    assert isinstance(denied.exception, ApiFailure)
    assert "no-bills" in str(denied.exception)
    wait_until(lambda: answer(bottega, "trail", "--user", "alice", "--denied", "--since", "1h"))
    [row] = answer(bottega, "trail", "--user", "alice", "--denied", "--since", "1h")
    assert row["code"] == "403"
    assert "no-bills" in row["message"]
    table = bottega("trail", "--user", "alice")
    assert table.exit_code == 0
    assert "alice" in table.stdout
    answer(bottega, "keys", "disable", key["access"])
    assert isinstance(bottega("trail", who=alice).exception, ApiFailure)
    answer(bottega, "policies", "revoke", "no-bills", "readers")
    answer(bottega, "policies", "delete", "no-bills")
    answer(bottega, "groups", "remove", "readers", "alice")
    answer(bottega, "users", "delete", "alice")
    assert [u["name"] for u in answer(bottega, "users", "list")] == [tenant.name]


def test_the_bill_and_the_prices(bottega: Run) -> None:
    assert answer(bottega, "bill", "--from", "2026-01-01", "--by", "day")["total_amount"] == "0.00"
    done = bottega("bill")
    assert (done.exit_code, "total 0.00 CNY (exactly 0.000000)" in done.stdout) == (0, True)
    assert answer(bottega, "prices")["currency"] == "CNY"
    assert "local.small" in bottega("prices").stdout


def test_projects_and_mistakes(bottega: Run, tmp_path: Path) -> None:
    answer(bottega, "projects", "create", "research")
    assert {p["name"] for p in answer(bottega, "projects", "list")} == {"local-1", "research"}
    answer(bottega, "projects", "delete", "research")
    missing = bottega("users", "delete", "nobody")
    assert "there is no user 'nobody'" in str(missing.exception)
    wrong = tmp_path / "wrong.json"
    wrong.write_text('{"Version": "1.1",\n "Statement": [}')
    refused = bottega("policies", "create", "wrong", str(wrong))
    assert isinstance(refused.exception, Invalid)
    assert "line 2" in str(refused.exception)
    assert bottega("trail", "--since", "whenever").exit_code == 2


def test_the_trail_fits_a_narrow_terminal_and_leaves_workloads_out(
    bottega: Run, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bottega.cli_support import console

    with pytest.raises(ApiFailure):
        tenant.client.post("/v1/{project_id}/workloads/none/objects", {"paths": ["s3://x/y"]})
    with pytest.raises(ApiFailure):
        tenant.client.delete(f"/v2/{{project_id}}/datasets/{'0' * 32}")
    wait_until(lambda: len(answer(bottega, "trail", "--all")) == 2)
    assert [row["operation_id"] for row in answer(bottega, "trail")] == ["modelarts:dataset:delete"]
    monkeypatch.setattr(console, "_width", 80)
    lines = bottega("trail").stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert "from" not in lines[0]
    assert "there is no dataset" in " ".join(lines)
    assert "from" in bottega("trail", "--wide").stdout.splitlines()[0]


def test_a_key_in_a_file_and_a_token(bottega: Run, tenant: Tenant, tmp_path: Path) -> None:
    tenant.client.post("/v3/users", {"user": {"name": "carol", "password": "correct-Horse-1"}})
    file = tmp_path / "carol.json"
    assert bottega("keys", "create", "--user", "carol", "--output", str(file)).exit_code == 0
    assert file.stat().st_mode & 0o777 == 0o600
    assert Client.from_file(file).get("/v1/whoami")["user_name"] == "carol"
    assert isinstance(bottega("keys", "create", "--output", str(file)).exception, Invalid)
    given = bottega("token", "--user", "carol", input="correct-Horse-1\n")
    with_token = Client(tenant.running.url, tenant.project_id, token=given.stdout.strip())
    assert with_token.get("/v1/whoami")["user_name"] == "carol"
    assert set(json.loads(bottega("token", "--user", "carol", input="correct-Horse-1\n", as_json=True).stdout)) == {
        "token",
        "expires_at",
    }
    refused = bottega("policies", "create", "p", str(tmp_path / "none.json"))
    assert "none.json: No such file" in str(refused.exception)
