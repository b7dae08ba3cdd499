"""The audit trail: what is kept, who sees it, and that nothing changes it (003 §10.5)."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from bottega.client import ApiFailure, Client
from bottega.events import Envelope, Received, uuid7
from bottega.testing import RunningPlatform, Tenant, wait_until
from bottega_billing_iam.audit.chain import seal
from bottega_billing_iam.audit.events import ApiCalled
from bottega_billing_iam.audit.traces import on_called

TRACES = "/v3/{project_id}/traces"
EVERYTHING = {"Version": "1.1", "Statement": [{"Effect": "Allow", "Action": ["*:*:*"]}]}


def find(client: Client, **asked: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = client.get(TRACES, {"limit": 200, **asked})["traces"]
    return rows


def wait_for(client: Client, count: int, **asked: Any) -> list[dict[str, Any]]:
    """The records, once there are `count` and every one that succeeded says what it was about."""

    def complete() -> list[dict[str, Any]]:
        rows = find(client, **asked)
        told = all(row["resource_name"] for row in rows if row["trace_status"] == "normal")
        return rows if len(rows) >= count and told else []

    return wait_until(complete)


def test_the_registry_holds_the_91_names_of_the_guides_tables(tenant: Tenant) -> None:
    answer = tenant.client.get("/v3/{project_id}/trace-names")
    assert answer["total_count"] == 91
    per_table = Counter(row["table"] for row in answer["trace_names"])
    assert per_table == {"10-1": 42, "10-2": 8, "10-3": 14, "10-4": 6, "10-5": 11, "10-6": 10}
    known = {row["trace_name"]: row for row in answer["trace_names"]}
    assert known["startWorkforceSamplingTask"]["resource_type"] == "dataset"
    assert known["createModelArtsTrainJob"]["operation"] == "Creating a training job"
    assert known["startOrStopService"]["resource_type"] == "service"
    assert known["restartModelArtsTensorboardJob"]["resource_type"] == "ModelArtsTensorboardJob"
    assert not any("-" in name for name in known)


def test_a_change_is_kept_with_who_when_where_and_result(tenant: Tenant) -> None:
    made = tenant.client.post("/v1/{project_id}/workspaces", {"name": "vision"})
    [row] = wait_for(tenant.client, 1, trace_name="createWorkspace", resource_name="visio*")
    assert row["user"] == {
        "id": tenant.user_id,
        "name": tenant.name,
        "user_name": tenant.name,
        "account_id": tenant.account_id,
        "access_key_id": tenant.access_key,
    }
    assert (row["method"], row["path"]) == ("POST", f"/v1/{tenant.project_id}/workspaces")
    asked = {"path": {"project_id": tenant.project_id}, "body": {"name": "vision"}}
    assert json.loads(row["request"]) == asked
    assert (row["api_version"], row["read_only"]) == ("v1", False)
    assert row["user_agent"].startswith("python-httpx/")
    assert 0 < row["duration_ms"] < 60_000
    assert (row["source_ip"], row["code"], row["trace_status"]) == ("127.0.0.1", "200", "normal")
    assert (row["resource_type"], row["resource_name"], row["resource_id"]) == ("workspace", "vision", made["id"])
    assert row["project_id"] == tenant.project_id
    assert abs(row["time"] - made["create_time"]) < 60_000


def test_denied_and_failed_calls_are_kept_reads_too(tenant: Tenant) -> None:
    nobody = tenant.user()
    path = "/v1/{project_id}/workspaces"
    for who, method, body in (
        (nobody, "GET", None),
        (nobody, "POST", {"name": "vision"}),
        (tenant, "POST", {"name": "no"}),
    ):
        with pytest.raises(ApiFailure):
            who.client.request(method, path, json=body)
    tenant.client.get("/v1/{project_id}/workspaces")  # an allowed read leaves no trace
    rows = wait_for(tenant.client, 3)
    assert sorted((r["trace_name"], r["code"], r["user"]["name"]) for r in rows) == sorted(
        [
            ("createWorkspace", "400", tenant.name),
            ("createWorkspace", "403", nobody.name),
            ("listWorkspace", "403", nobody.name),
        ]
    )
    assert {r["trace_status"] for r in rows} == {"warning"}
    denied = find(tenant.client, denied=True)
    assert len(denied) == 2
    assert all("no statement allows" in row["message"] for row in denied)
    assert all(row["error_code"] == "ModelArts.0103" for row in denied)


def test_who_never_said_who_it_was_is_seen_by_the_operator_only(
    running: RunningPlatform, tenant: Tenant, operator: Client
) -> None:
    path = f"/v1/{tenant.project_id}/workspaces"
    response = httpx.get(running.url + path, headers={"X-Auth-Token": "forged"})
    assert response.status_code == 401
    request_id = response.headers["X-Request-Id"]
    [row] = wait_for(operator, 1, scope="account", trace_id=request_id)
    assert (row["code"], row["user"]["id"], row["method"], row["path"]) == ("401", None, "GET", path)
    assert row["user"]["access_key_id"] is None
    assert find(tenant.client, trace_id=request_id) == []
    assert find(tenant.client, trace_id=request_id, scope="account") == []


def test_whoever_floods_fills_neither_the_trail_nor_the_disk(tmp_path: Path) -> None:
    """Calls without credentials and those held back are answered as ever; a bounded number is recorded."""
    server = {"rate_limit": "40/hour", "records_of_unknown": "5/hour"}
    with RunningPlatform(tmp_path / "data", {"server": server}) as platform:
        tenant = platform.tenant()
        url = f"{platform.url}/v2/{tenant.project_id}/labeling/login"
        answers = [httpx.post(url, json={"email": 1}) for _ in range(50)]
        assert Counter(answer.status_code for answer in answers) == {400: 40, 429: 10}
        sent = {answer.headers["X-Request-Id"] for answer in answers}

        def kept() -> set[str]:
            rows = find(tenant.client, scope="account", trace_name="workerLoginLabelConsole")
            return {row["request_id"] for row in rows}

        first = {answer.headers["X-Request-Id"] for answer in answers[:5]}
        wait_until(lambda: first <= kept(), every=0.5)
        assert kept() & sent == first


def test_filters_and_pages(tenant: Tenant) -> None:
    someone = tenant.user([EVERYTHING])
    for index in range(7):
        who = tenant if index % 2 else someone
        who.client.post("/v1/{project_id}/workspaces", {"name": f"room-{index}"})
    rows = wait_for(tenant.client, 7)
    assert [r["resource_name"] for r in rows] == [f"room-{i}" for i in (6, 5, 4, 3, 2, 1, 0)]
    assert [r["resource_name"] for r in find(tenant.client, user=someone.name)] == [f"room-{i}" for i in (6, 4, 2, 0)]
    assert len(find(tenant.client, user=someone.user_id)) == 4
    middle = rows[3]
    assert [r["resource_name"] for r in find(tenant.client, resource_id=middle["resource_id"])] == ["room-3"]
    since = find(tenant.client, **{"from": middle["time"]})
    assert {r["trace_id"] for r in rows[:4]} <= {r["trace_id"] for r in since}
    until = find(tenant.client, **{"to": middle["time"]})
    assert not {r["trace_id"] for r in rows[:4]} & {r["trace_id"] for r in until}
    assert find(tenant.client, resource_type="dataset") == []
    assert find(tenant.client, trace_rating="incident") == []
    assert find(tenant.client, trace_type="data") == []
    assert len(find(tenant.client, service_type="ModelArts", code="200")) == 7

    seen: list[str] = []
    marker = None
    for _ in range(4):
        page = tenant.client.get(TRACES, {"limit": 2, "next": marker})
        seen += [row["trace_id"] for row in page["traces"]]
        marker = page["meta_data"]["marker"]
    assert marker is None
    assert seen == [row["trace_id"] for row in rows]
    for wrong in ({"limit": 0}, {"limit": 1000}, {"next": "no-such-record"}, {"from": "yesterday"}):
        with pytest.raises(ApiFailure) as failure:
            tenant.client.get(TRACES, wrong)
        assert failure.value.status == 400


def test_records_are_seen_by_their_account_only(tenant: Tenant, stranger: Tenant) -> None:
    tenant.client.post("/v1/{project_id}/workspaces", {"name": "vision"})
    tenant.client.post("/v3/users", {"user": {"name": "James"}})
    with pytest.raises(ApiFailure):
        stranger.client.get(f"/v1/{tenant.project_id}/workspaces")
    account = wait_for(tenant.client, 2, scope="account")
    assert {row["trace_name"] for row in account} == {"createWorkspace", "createUser"}
    assert {row["trace_name"] for row in find(tenant.client)} == {"createWorkspace"}
    [own] = wait_for(stranger.client, 1, scope="account")
    assert (own["trace_name"], own["code"]) == ("listWorkspace", "403")
    with pytest.raises(ApiFailure) as failure:
        stranger.client.get(f"/v3/{tenant.project_id}/traces")
    assert failure.value.status == 403
    [row] = find(tenant.client)
    assert stranger.client.get(TRACES, {"trace_id": row["trace_id"]})["traces"] == []
    with pytest.raises(ApiFailure):
        stranger.client.get(TRACES, {"next": row["trace_id"]})
    reader = {"Version": "1.1", "Statement": [{"Effect": "Allow", "Action": ["cts:trace:list"]}]}
    assert tenant.user([reader]).client.get(TRACES)["traces"]
    with pytest.raises(ApiFailure):
        tenant.user().client.get(TRACES)


def test_nothing_in_the_api_writes_the_trail(running: RunningPlatform, tenant: Tenant, operator: Client) -> None:
    tenant.client.post("/v1/{project_id}/workspaces", {"name": "vision"})
    [row] = wait_for(tenant.client, 1)
    for who in (tenant.client, operator):
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            for path in (TRACES, f"{TRACES}/{row['trace_id']}", "/v3/{project_id}/trail/verification"):
                with pytest.raises(ApiFailure) as failure:
                    who.request(method, path, json={"code": "200"})
                assert failure.value.status in (404, 405)
    # The archive's bucket belongs to nobody, not even to the operator.
    for method, path, body in (
        ("GET", "/objects", None),
        ("DELETE", "/objects/x", None),
        ("POST", "/presigned-urls", {"keys": ["x"], "method": "PUT"}),
    ):
        with pytest.raises(ApiFailure) as failure:
            operator.request(method, f"/v1/{{project_id}}/buckets/bottega-audit{path}", json=body)
        assert failure.value.status in (403, 404), (method, path)
    with pytest.raises(ApiFailure) as failure:
        operator.post("/v1/{project_id}/buckets", {"name": "bottega-audit"})
    assert failure.value.status in (403, 409)
    assert find(tenant.client) == [row]


def test_of_one_request_the_later_event_counts_in_any_order(running: RunningPlatform, tenant: Tenant) -> None:
    platform = running.platform("audit")
    request_id = uuid7()
    events = [
        Envelope(
            id=uuid7(),
            type="core.api.called.v1",
            urn=f"bottega:core:{tenant.project_id}:call/{request_id}",
            time=f"2026-01-01T00:00:00.00000{step}Z",
            data={
                "request_id": request_id,
                "method": "POST",
                "path": "/v2/x",
                "status": status,
                "action": "modelarts:dataset:create",
                "trace": "createDataset",
                "account_id": tenant.account_id,
                "at": 1_767_225_600_000 + step,
            },
            source="/plugins/core",
            actor="user:x",
            correlation_id=request_id,
        )
        for step, status in enumerate((200, 500, 503))
    ]

    async def deliver(envelope: Envelope) -> None:
        async with platform.database.transaction() as tx:
            await on_called(Received(ApiCalled.model_validate(envelope.data), envelope), tx)

    shuffled = events * 3
    random.Random(7).shuffle(shuffled)
    for envelope in shuffled:
        running.run(deliver(envelope))
    [row] = find(tenant.client, trace_id=request_id)
    assert (row["code"], row["trace_status"], row["resource_type"]) == ("503", "incident", "dataset")


def test_a_word_about_a_sealed_record_becomes_a_record_of_its_own(running: RunningPlatform, tenant: Tenant) -> None:
    platform = running.platform("audit")
    tenant.client.post("/v1/{project_id}/workspaces", {"name": "vision"})
    [first] = wait_for(tenant.client, 1)
    running.run(seal(platform.database, 0))

    async def say(status: int, time: str) -> None:
        data = {"request_id": first["trace_id"], "method": "POST", "path": "/v1/x", "status": status, "at": 1}
        data |= {"account_id": tenant.account_id}
        urn = f"bottega:core:{tenant.project_id}:call/{first['trace_id']}"
        envelope = Envelope(uuid7(), "core.api.called.v1", urn, time, data, "/plugins/core", "user:x", uuid7())
        async with platform.database.transaction() as tx:
            await on_called(Received(ApiCalled.model_validate(data), envelope), tx)

    running.run(say(503, "2001-01-01T00:00:00.000000Z"))  # older than what is known
    assert find(tenant.client) == [first]
    running.run(say(503, "2999-01-01T00:00:00.000000Z"))
    again = find(tenant.client, **{"from": 0})
    assert [row["code"] for row in again] == ["200", "503"]
    assert {row["request_id"] for row in again} == {first["request_id"]}
    assert again[0] == first


def test_what_was_asked_is_kept_without_its_secrets(running: RunningPlatform, tenant: Tenant, bucket: str) -> None:
    secret = "correct-Horse-1"
    made = tenant.client.post("/v3/users", {"user": {"name": "ann", "password": secret, "email": "a@example.com"}})
    body = {"auth": {"identity": {"methods": ["password"], "password": {"user": {"name": "ann", "password": secret}}}}}
    httpx.post(f"{running.url}/v3/auth/tokens", json=body)
    headers = {"content-type": "application/json"}
    path = f"/v1/{tenant.project_id}/buckets/{bucket}/objects/big.json"
    answer = tenant.client.http.put(path, content=b'{"data": "of a user"}', headers=headers)
    assert answer.status_code == 201
    with pytest.raises(ApiFailure):
        tenant.client.get(TRACES, {"next": "x", "token": secret, "limit": 3})
    rows = wait_for(tenant.client, 1, scope="account", trace_name="createUser")
    assert json.loads(rows[0]["request"])["body"]["user"] == {"name": "ann", "password": "***", "email": "***"}
    [put] = wait_for(tenant.client, 1, trace_name="putObject")
    assert json.loads(put["request"])["body"] == "[not kept: 21 bytes of data]"
    everything = json.dumps(find(tenant.client, scope="account"))
    assert secret not in everything
    assert "of a user" not in everything
    assert made["user"]["id"] in everything


def test_a_huge_body_and_odd_text_are_kept_in_bounds(tenant: Tenant) -> None:
    with pytest.raises(ApiFailure):
        tenant.client.post("/v1/{project_id}/workspaces", {"name": "x" * 40_000})
    with pytest.raises(ApiFailure):
        tenant.client.post("/v1/{project_id}/workspaces", {"name": "y" * 400_000})
    with pytest.raises(ApiFailure):
        tenant.client.delete("/v2/{project_id}/datasets/%00%ff" + "z" * 5000)
    rows = wait_for(tenant.client, 3)
    sizes = [len(row["request"]) for row in rows]
    assert max(sizes) < 10_000
    [cut] = [json.loads(row["request"]) for row in rows if "body_bytes" in row["request"]]
    assert cut["body_bytes"] > 40_000
    assert "[not kept: 40" in rows[1]["request"]
