"""The command line of the three plugins, as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bottega.testing import RunningPlatform, Tenant, wait_until

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def bottega(running: RunningPlatform, tenant: Tenant, tmp_path: Path) -> Run:
    """Run ``bottega …`` with the credentials of a tenant (default: `tenant`)."""

    def run(*arguments: str, who: Tenant = tenant) -> subprocess.CompletedProcess[str]:
        file = tmp_path / f"{who.user_id}.json"
        known = {
            "url": running.url,
            "project_id": who.project_id,
            "access_key": who.access_key,
            "secret_key": who.secret_key,
        }
        file.write_text(json.dumps(known))
        command = [sys.executable, "-m", "bottega", "--credentials", str(file), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    return run


def answer(run: Run, *arguments: str) -> Any:
    done = run("--json", *arguments)
    assert done.returncode == 0, done.stderr
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
    assert denied.returncode == 1
    assert "no-bills" in denied.stderr
    wait_until(lambda: answer(bottega, "trail", "--user", "alice", "--denied", "--since", "1h"))
    [row] = answer(bottega, "trail", "--user", "alice", "--denied", "--since", "1h")
    assert row["code"] == "403"
    assert "no-bills" in row["message"]
    table = bottega("trail", "--user", "alice")
    assert table.returncode == 0
    assert "alice" in table.stdout
    answer(bottega, "keys", "disable", key["access"])
    assert bottega("trail", who=alice).returncode == 1
    answer(bottega, "policies", "revoke", "no-bills", "readers")
    answer(bottega, "policies", "delete", "no-bills")
    answer(bottega, "groups", "remove", "readers", "alice")
    answer(bottega, "users", "delete", "alice")
    assert [u["name"] for u in answer(bottega, "users", "list")] == [tenant.name]


def test_the_bill_and_the_prices(bottega: Run) -> None:
    assert answer(bottega, "bill", "--from", "2026-01-01", "--by", "day")["total_amount"] == "0.00"
    done = bottega("bill")
    assert (done.returncode, "total 0.00 CNY" in done.stdout) == (0, True)
    assert answer(bottega, "prices")["currency"] == "CNY"
    assert "local.small" in bottega("prices").stdout


def test_projects_and_mistakes(bottega: Run, tmp_path: Path) -> None:
    answer(bottega, "projects", "create", "research")
    assert {p["name"] for p in answer(bottega, "projects", "list")} == {"local-1", "research"}
    answer(bottega, "projects", "delete", "research")
    missing = bottega("users", "delete", "nobody")
    assert (missing.returncode, "there is no user 'nobody'" in missing.stderr) == (1, True)
    wrong = tmp_path / "wrong.json"
    wrong.write_text('{"Version": "1.1",\n "Statement": [}')
    refused = bottega("policies", "create", "wrong", str(wrong))
    assert refused.returncode != 0
    assert "line 2" in refused.stderr
    assert bottega("trail", "--since", "whenever").returncode == 2
