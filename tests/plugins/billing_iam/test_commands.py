"""The command line of the plugins, as a user runs it."""

from __future__ import annotations

import json
import uuid
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


def test_a_policy_is_checked_and_changed(bottega: Run, tmp_path: Path) -> None:
    right, wrong = tmp_path / "right.json", tmp_path / "wrong.json"
    right.write_text(json.dumps({"Version": "1.1", "Statement": [{"Effect": "Allow", "Action": ["a:b:c"]}]}))
    wrong.write_text(json.dumps({"Version": "1.1", "Statement": [{"Effect": "allow", "Action": ["a:b"]}]}))
    assert bottega("policies", "check", str(right)).exit_code == 0
    told = bottega("policies", "check", str(wrong), as_json=True)
    assert told.exit_code == 1
    assert [row["position"] for row in json.loads(told.stdout)] == ["/Statement/0/Effect", "/Statement/0/Action/0"]
    assert "cannot read" in str(bottega("policies", "check", str(tmp_path / "none.json")).exception)
    answer(bottega, "policies", "create", "mine", str(right))
    assert isinstance(bottega("policies", "update", "mine", str(wrong)).exception, Invalid)
    right.write_text(right.read_text().replace("a:b:c", "d:e:f"))
    assert bottega("policies", "update", "mine", str(right)).exit_code == 0
    assert "d:e:f" in bottega("policies", "show", "mine").stdout


def test_passwords(bottega: Run, tenant: Tenant, login: Callable[..., Any]) -> None:
    ann, first, second = tenant.user(name="ann"), "correct-Horse-1", "battery-Staple-2"
    assert bottega("users", "password", "ann", input=f"{first}\n{first}\n").exit_code == 0
    assert login(tenant.name, "ann", first).status_code == 201
    assert bottega("users", "password", "--must-change", who=ann).exit_code == 2
    refused = bottega("users", "password", who=ann, input=f"wrong\n{second}\n{second}\n")
    assert isinstance(refused.exception, ApiFailure)
    assert bottega("users", "password", who=ann, input=f"{first}\n{second}\n{second}\n").exit_code == 0
    assert login(tenant.name, "ann", first).status_code == 401
    assert login(tenant.name, "ann", second).status_code == 201
    assert bottega("users", "password", "ann", "--must-change", input=f"{first}\n{first}\n").exit_code == 0
    [shown] = tenant.client.get("/v3/users", {"name": "ann"})["users"]
    assert shown["pwd_status"] is True


def test_the_operator_makes_accounts(bottega: Run, tenant: Tenant, login: Callable[..., Any]) -> None:
    operator, name, password = tenant.running.operator(), f"a{uuid.uuid4().hex[:8]}", "correct-Horse-1"
    made = bottega("accounts", "create", name, who=operator, input=f"{password}\n{password}\n")
    assert made.exit_code == 0, made.exception
    assert name in bottega("accounts", "list", who=operator).stdout
    assert login(name, name, password).status_code == 201
    assert name not in bottega("accounts", "list").stdout
    refused = bottega("accounts", "create", "mine", input=f"{password}\n{password}\n")
    assert isinstance(refused.exception, ApiFailure)


def test_the_bill_and_the_prices(bottega: Run) -> None:
    assert answer(bottega, "bill", "--from", "2026-01-01", "--by", "day")["total_amount"] == "0.00"
    done = bottega("bill")
    assert (done.exit_code, "total 0.00 CNY (exactly 0.000000)" in done.stdout) == (0, True)
    assert answer(bottega, "prices")["currency"] == "CNY"
    assert "local.small" in bottega("prices").stdout


def test_projects_and_mistakes(bottega: Run, tmp_path: Path) -> None:
    whole = answer(bottega, "projects", "create", "research")
    part = answer(bottega, "projects", "create", "research-a", "--parent", "research")
    assert part["parent_id"] == whole["id"]
    answer(bottega, "projects", "delete", "research-a")
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


def test_agencies_enterprise_projects_and_grants_in_every_scope(bottega: Run, tenant: Tenant, stranger: Tenant) -> None:
    made = answer(bottega, "agencies", "create", "auditors", "--trust", stranger.name, "--days", "2")
    assert (made["trust_domain_name"], made["duration"]) == (stranger.name, "48")
    answer(bottega, "groups", "create", "staff")
    answer(bottega, "users", "create", "alice")
    answer(bottega, "enterprise-projects", "create", "retail")
    grants = (
        ("Tenant Guest", "auditors", "--to", "agency"),
        ("Tenant Guest", "auditors", "--to", "agency", "--project", "local-1"),
        ("ModelArts User", "auditors", "--to", "agency", "--all-projects"),
        ("ModelArts Viewer", "auditors", "--to", "agency", "--enterprise-project", "retail"),
        ("ModelArts User", "staff", "--all-projects"),
        ("ModelArts Viewer", "staff", "--enterprise-project", "retail"),
        ("ModelArts Viewer", "alice", "--to", "user", "--enterprise-project", "retail"),
    )
    for grant in grants:
        answer(bottega, "policies", "grant", *grant)
    rows = answer(bottega, "policies", "grants")
    assert len(rows) == 7
    assert {(row["holder"], row["scope"]) for row in rows} >= {
        ("agency auditors", "domain"),
        ("agency auditors", "project"),
        ("group staff", "all projects"),
        ("user alice", "enterprise project"),
    }
    assert len(answer(bottega, "policies", "grants", "auditors", "--to", "agency")) == 4
    assert isinstance(bottega("policies", "grant", "Tenant Guest", "alice", "--to", "user").exception, Invalid)
    token = bottega("agencies", "assume", tenant.name, "auditors", who=stranger).stdout.strip()
    acting = Client(tenant.running.url, tenant.project_id, token=token)
    assert acting.get("/v1/whoami")["account_id"] == tenant.account_id
    assert answer(bottega, "agencies", "update", "auditors", "--forever")["duration"] == "FOREVER"
    for grant in grants:
        answer(bottega, "policies", "revoke", *grant)
    assert answer(bottega, "policies", "grants") == []
    answer(bottega, "agencies", "delete", "auditors")
    assert answer(bottega, "agencies", "list") == []
    assert answer(bottega, "enterprise-projects", "rename", "retail", "shops")["name"] == "shops"
    answer(bottega, "enterprise-projects", "disable", "shops")
    assert [(p["name"], p["status"]) for p in answer(bottega, "enterprise-projects", "list")] == [
        ("default", 1),
        ("shops", 2),
    ]
    answer(bottega, "enterprise-projects", "enable", "shops")


def test_the_rules_of_the_account(bottega: Run, tenant: Tenant) -> None:
    changed = answer(bottega, "security", "set", "password", "minimum_password_length=16")
    assert changed["minimum_password_length"] == 16
    rules = {row["rule"]: row["value"] for row in answer(bottega, "security", "show")}
    assert rules["password-policy.minimum_password_length"] == 16
    assert rules["login-policy.login_failed_times"] == 5
    for wrong in ("minimum_password_length", "minimum_length=3", "minimum_password_length=x"):
        assert isinstance(bottega("security", "set", "password", wrong).exception, Invalid)
    assert "minimum_password_length" in str(
        bottega("security", "set", "password", "minimum_password_length=1").exception
    )
    allow = {"Version": "1.1", "Statement": [{"Effect": "Allow", "Action": ["iam:*:*"]}]}
    someone = tenant.user([allow])
    answer(bottega, "security", "allow", "api", "10.0.0.0/8", "192.168.0.1-192.168.0.9")
    assert isinstance(bottega("users", "list", who=someone).exception, ApiFailure)
    answer(bottega, "security", "allow", "api")
    assert bottega("users", "list", who=someone).exit_code == 0
