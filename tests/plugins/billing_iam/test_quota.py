"""Limits of accounts, workspaces and users: who changes them, that they hold, and that nothing ever passes one."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import httpx
import pytest

from bottega.client import ApiFailure, SigningAuth
from bottega.entities import Workspace
from bottega.testing import RunningPlatform, Tenant

QUOTAS, DATASETS = "/v1/{project_id}/quotas", "/v2/{project_id}/datasets"
CALLS, LIMIT = 200, 9


def dataset(bucket: str, name: str, **fields: Any) -> dict[str, Any]:
    return {
        "dataset_name": name,
        "dataset_type": 0,
        "work_path": f"/{bucket}/{name}/",
        "data_sources": [],
        **fields,
    }


def limits(tenant: Tenant, path: str = QUOTAS) -> dict[str, tuple[str, str]]:
    return {row["type"]: (row["quota"], row["used"]) for row in tenant.client.get(path)["quotas"]["resources"]}


def workspace(tenant: Tenant) -> str:
    row = Workspace(project_id=tenant.project_id, name="small-room")

    async def furnish() -> None:
        platform = tenant.running.runtime.platform
        async with platform.database.transaction() as tx:
            tx.session.add(row)
        platform.identity.invalidate()

    tenant.running.run(furnish())
    return row.id


@pytest.fixture(scope="module")
def platform(each_database: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    with RunningPlatform(tmp_path_factory.mktemp("quota") / "data", each_database) as running:
        yield running


def test_200_parallel_creations_never_pass_a_limit(platform: RunningPlatform) -> None:
    tenant = platform.tenant()
    bucket = tenant.create_bucket()
    change = {"quotas": [{"type": "dataset.dataset", "quota": LIMIT}]}
    platform.operator().client.put(f"/v1/accounts/{tenant.account_id}/quotas", change)
    url = platform.url + DATASETS.format(project_id=tenant.project_id)
    auth = SigningAuth(tenant.access_key, tenant.secret_key)
    with (
        httpx.Client(auth=auth, timeout=120, limits=httpx.Limits(max_connections=CALLS)) as client,
        ThreadPoolExecutor(CALLS) as pool,
    ):
        answers = list(pool.map(lambda n: client.post(url, json=dataset(bucket, f"d{n}")), range(CALLS)))
    assert Counter(a.status_code for a in answers) == {201: LIMIT, 403: CALLS - LIMIT}
    refused = [a.json() for a in answers if a.status_code == 403]
    assert {r["error_code"] for r in refused} == {"ModelArts.0110"}
    assert {r["error_msg"] for r in refused} == {
        f"the account has {LIMIT} of {LIMIT} datasets; delete one or ask the administrator for a higher quota"
    }
    assert limits(tenant)["dataset.dataset"] == (str(LIMIT), str(LIMIT))
    assert len(tenant.client.get(DATASETS)["datasets"]) == LIMIT


def test_nothing_is_left_behind_in_a_workspace_that_goes(platform: RunningPlatform) -> None:
    tenant = platform.tenant()
    bucket = tenant.create_bucket()

    def status(call: Callable[[], Any]) -> int:
        try:
            call()
        except ApiFailure as refused:
            return refused.status
        return 200

    outcomes = set()
    with ThreadPoolExecutor(2) as pool:
        for number in range(12):
            room = tenant.client.post("/v1/{project_id}/workspaces", {"name": f"room-{number}"})["id"]
            path, body = f"/v1/{{project_id}}/workspaces/{room}", dataset(bucket, f"d{number}", workspace_id=room)
            calls = (partial(tenant.client.post, DATASETS, body), partial(tenant.client.delete, path))
            outcomes.add(tuple(pool.map(status, calls)))
    # Either the thing was first and the workspace stays, or the workspace went and the thing finds none.
    assert outcomes <= {(200, 409), (400, 200)}
    there = {w["id"] for w in tenant.client.get("/v1/{project_id}/workspaces")["workspaces"]}
    assert {d["workspace_id"] for d in tenant.client.get(DATASETS, {"limit": 100})["datasets"]} <= there


def test_the_defaults(tenant: Tenant) -> None:
    found = limits(tenant)
    assert found["notebook.instance"] == ("10", "0")
    assert found["serving.service"] == ("20", "0")
    assert found["serving.batch-service"] == found["serving.edge-service"] == ("1000", "0")


def test_only_the_operator_changes_limits_of_accounts(running: RunningPlatform, tenant: Tenant, bucket: str) -> None:
    path = f"/v1/accounts/{tenant.account_id}/quotas"
    one = {"quotas": [{"type": "dataset.dataset", "quota": 1}]}
    with pytest.raises(ApiFailure) as refused:
        tenant.client.put(path, one)
    assert (refused.value.status, refused.value.error_code) == (403, "ModelArts.0103")
    operator = running.operator()
    with pytest.raises(ApiFailure) as absent:
        operator.client.put("/v1/accounts/nobody/quotas", one)
    assert absent.value.status == 404
    for wrong in ("dataset", "dataset.cat", "nothing.dataset"):
        with pytest.raises(ApiFailure) as unknown:
            operator.client.put(path, {"quotas": [{"type": wrong, "quota": 1}]})
        assert (unknown.value.status, unknown.value.error_code) == (400, "ModelArts.0101")
        assert "notebook.instance" in unknown.value.message
    operator.client.put(path, one)
    assert limits(tenant, path)["dataset.dataset"] == ("1", "0")
    tenant.client.post(DATASETS, dataset(bucket, "first"))
    with pytest.raises(ApiFailure) as full:
        tenant.client.post(DATASETS, dataset(bucket, "second"))
    assert (full.value.status, full.value.error_code) == (403, "ModelArts.0110")
    assert "1 of 1 datasets" in full.value.message
    operator.client.put(path, {"quotas": [{"type": "dataset.dataset", "quota": None}]})
    tenant.client.post(DATASETS, dataset(bucket, "second"))
    assert limits(tenant)["dataset.dataset"] == ("100", "2")


def test_strangers_see_nothing(tenant: Tenant, stranger: Tenant) -> None:
    for path in (QUOTAS.format(project_id=tenant.project_id), f"/v1/accounts/{tenant.account_id}/quotas"):
        with pytest.raises(ApiFailure) as refused:
            stranger.client.get(path)
        assert refused.value.status in (403, 404)


def test_a_workspace_s_limit_counts_what_is_in_it(tenant: Tenant, bucket: str) -> None:
    room = workspace(tenant)
    path = f"/v1/{{project_id}}/workspaces/{room}/quotas"
    tenant.client.put(path, {"quotas": [{"resource": "dataset.dataset", "quota": 1}]})
    tenant.client.post(DATASETS, dataset(bucket, "outside"))
    tenant.client.post(DATASETS, dataset(bucket, "inside", workspace_id=room))
    with pytest.raises(ApiFailure) as full:
        tenant.client.post(DATASETS, dataset(bucket, "more", workspace_id=room))
    assert (full.value.status, full.value.error_code) == (403, "ModelArts.0110")
    assert f"workspace '{room}' has 1 of 1 datasets" in full.value.message
    tenant.client.post(DATASETS, dataset(bucket, "more"))
    with pytest.raises(ApiFailure) as high:
        tenant.client.put(path, {"quotas": [{"resource": "dataset.dataset", "quota": 101}]})
    assert (high.value.status, "from 1 to 100" in high.value.message) == (400, True)


def test_a_change_is_told(tenant: Tenant, running: RunningPlatform) -> None:
    room = workspace(tenant)
    tenant.client.put(
        f"/v1/{{project_id}}/workspaces/{room}/quotas", {"quotas": [{"resource": "training.job", "quota": 5}]}
    )
    told = tenant.events.wait("quota.limit.changed.v1", holder_id=room)
    assert told.data == {"holder": "workspace", "holder_id": room, "resource": "training.job", "maximum": 5}


def test_limits_on_the_command_line(bottega: Any, running: RunningPlatform, tenant: Tenant) -> None:
    def answer(*arguments: str, who: Tenant = tenant) -> Any:
        done = bottega("quotas", *arguments, who=who, as_json=True)
        assert done.exit_code == 0, done.exception
        return json.loads(done.stdout)

    room, user = workspace(tenant), tenant.user()
    operator = running.operator()
    changed = answer("set", "dataset.dataset", "7", "--account", tenant.account_id, who=operator)
    assert [(row["type"], row["quota"]) for row in changed] == [("dataset.dataset", "7")]
    assert {row["type"]: row["quota"] for row in answer("list")}["dataset.dataset"] == "7"
    assert "dataset.dataset" in bottega("quotas", "list").stdout
    answer("set", "dataset.dataset", "3", "--workspace", room)
    inside = {row["resource"]: row["quota"] for row in answer("list", "--workspace", room)}
    assert (inside["dataset.dataset"], inside["training.job"]) == (3, -1)
    assert answer("set", "training.job", "2", "--user", user.user_id) == [{"resource": "job-num", "quota": 2}]
    answer("set", "dataset.dataset", "default", "--account", tenant.account_id, who=operator)
    found = answer("list", "--account", tenant.account_id, who=operator)
    assert {row["type"]: row["quota"] for row in found}["dataset.dataset"] == "100"
    assert bottega("quotas", "set", "dataset.dataset", "many", "--workspace", room).exit_code == 2
    assert bottega("quotas", "set", "dataset.dataset", "3").exit_code == 2
