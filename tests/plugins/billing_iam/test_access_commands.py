"""``bottega workspaces`` and ``bottega authorizations``, as an administrator uses them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bottega.client import ApiFailure
from bottega.testing import Tenant

ALL = {"Version": "1.1", "Statement": [{"Effect": "Allow", "Action": ["modelarts:*:*"]}]}


@pytest.fixture
def answer(bottega: Any, tenant: Tenant) -> Any:
    def run(*arguments: str, who: Tenant = tenant) -> Any:
        done = bottega(*arguments, who=who, as_json=True)
        assert done.exit_code == 0, done.exception
        return json.loads(done.stdout) if done.stdout else None

    return run


def test_workspaces(answer: Any, bottega: Any, tenant: Tenant) -> None:
    ann, bob = tenant.user([ALL], "ann"), tenant.user([ALL], "bob")
    made = answer("workspaces", "create", "vision", "--access", "internal", "--user", "ann", "--description", "cats")
    assert (made["name"], made["auth_type"], made["description"]) == ("vision", "INTERNAL", "cats")
    assert answer("workspaces", "show", "vision")["users"] == ["ann"]
    assert [row["name"] for row in answer("workspaces", "list")] == ["default", "vision"]
    for who, expected in ((ann, ["default", "vision"]), (bob, ["default"])):
        assert [row["name"] for row in answer("workspaces", "list", "--mine", who=who)] == expected
    answer("workspaces", "access", "vision", "private")
    assert [row["name"] for row in answer("workspaces", "list", "--mine", who=ann)] == ["default"]
    assert "vision" in bottega("workspaces", "list").stdout
    assert bottega("workspaces", "access", "vision", "secret").exit_code == 2
    answer("workspaces", "delete", made["id"])
    assert [row["name"] for row in answer("workspaces", "list")] == ["default"]
    refused = bottega("workspaces", "delete", "vision")
    assert isinstance(refused.exception, ApiFailure)
    assert refused.exception.status == 404


def test_authorizations_and_the_mode(answer: Any, tenant: Tenant) -> None:
    tenant.user(name="ann")
    answer("authorizations", "create", "ann")
    answer("authorizations", "create", "all-users", "--agency", "ma_agency_ann")
    rows = answer("authorizations", "list")
    assert [(row["user_name"], row["content"]) for row in rows] == [
        ("all-users", "ma_agency_ann"),
        ("ann", "ma_agency_ann"),
    ]
    answer("authorizations", "delete", "ann")
    assert [row["user_name"] for row in answer("authorizations", "list")] == ["all-users"]
    answer("authorizations", "delete", "all")
    assert answer("authorizations", "list") == []
    assert answer("authorizations", "mode")["mode"] == "strict"
    assert answer("authorizations", "mode", "loose")["mode"] == "loose"
    assert answer("authorizations", "mode")["mode"] == "loose"
