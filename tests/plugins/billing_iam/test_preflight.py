"""A preflight tells everything a creation will need and lacks, at once, and creates nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from bottega.client import ApiFailure
from bottega.entities import Account, Agency, Authorization, Policy, PolicyGrant, Workspace
from bottega.identity import ALL_USERS
from bottega.testing import RunningPlatform, Tenant

JOBS = "/v2/{project_id}/training-jobs"
CREATE = "modelarts:trainJob:create"


def document(*actions: str, **more: Any) -> dict[str, Any]:
    return {"Version": "1.1", "Statement": [{"Effect": "Allow", "Action": list(actions), **more}]}


def write(running: RunningPlatform, *rows: Any) -> None:
    async def add() -> None:
        async with running.runtime.platform.database.transaction() as tx:
            for row in rows:
                await tx.session.merge(row)
                await tx.session.flush()
        running.runtime.platform.identity.invalidate()

    running.run(add())


@pytest.fixture
def job(tenant: Tenant, bucket: str) -> dict[str, Any]:
    """A request for a job; its code is not there, which a preflight does not look at."""
    engines = tenant.client.get("/v2/{project_id}/training-job-engines")["items"]
    flavors = tenant.client.get("/v1/{project_id}/flavors", {"kind": "training"})["flavors"]
    return {
        "kind": "job",
        "metadata": {"name": "foreseen"},
        "algorithm": {
            "engine": {"engine_id": engines[0]["engine_id"]},
            "code_dir": f"/{bucket}/code/",
            "boot_file": f"/{bucket}/code/train.py",
            "outputs": [{"name": "train_url", "remote": {"obs": {"obs_url": f"/{bucket}/out/"}}}],
        },
        "spec": {
            "resource": {"flavor_id": flavors[0]["id"], "node_count": 1},
            "log_export_path": {"obs_url": f"/{bucket}/log/"},
        },
    }


def ask(who: Tenant, body: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = who.client.post(f"{JOBS}/preflight", body)
    return answer


def test_every_planner_of_the_installation_has_a_preflight(running: RunningPlatform) -> None:
    paths = httpx.get(f"{running.url}/openapi.json", timeout=60).json()["paths"]
    planners = running.runtime.platform.shared.planners
    assert planners
    for planner in planners:
        assert "post" in paths[f"{planner.path}/preflight"]


def test_the_account_itself_lacks_nothing(tenant: Tenant, job: dict[str, Any]) -> None:
    answer = ask(tenant, job)
    assert (answer["allowed"], answer["missing"], answer["agency"]) == (True, [], None)
    assert all(need["met"] and need["why"] for need in answer["needs"])
    assert {CREATE, "obs:object:GetObject", "obs:object:PutObject"} <= {need["action"] for need in answer["needs"]}
    assert tenant.client.get("/v1/{project_id}/resources")["resources"] == []


def test_a_user_without_rights_hears_of_all_that_is_missing_at_once(tenant: Tenant, job: dict[str, Any]) -> None:
    nobody = ask(tenant.user(), job)
    assert not nobody["allowed"]
    assert len(nobody["missing"]) == len(nobody["needs"])
    half = ask(tenant.user([document("modelarts:*:*")]), job)
    assert {need["action"].split(":")[0] for need in half["missing"]} == {"obs"}
    one = half["missing"][0]
    assert one["by"] == "caller"
    assert one["reason"].startswith(f"denied because no statement allows {one['action']}")
    enough = tenant.user([document(*{need["action"] for need in nobody["needs"]})])
    assert ask(enough, job)["allowed"], "what it names is enough"


def test_the_request_itself_is_refused_for_the_same_reasons(tenant: Tenant, job: dict[str, Any]) -> None:
    user = tenant.user([document("modelarts:*:*")])
    missing = ask(user, job)["missing"]
    with pytest.raises(ApiFailure) as refused:
        user.client.post(JOBS, job)
    assert refused.value.status == 403
    for need in missing:
        assert need["reason"] in refused.value.message


def test_what_the_agency_lacks_is_told_too(running: RunningPlatform, tenant: Tenant, job: dict[str, Any]) -> None:
    agency = Agency(account_id=tenant.account_id, name="acting")
    policy = Policy(account_id=tenant.account_id, name="reads", document=document("obs:object:GetObject"))
    write(running, agency, policy, PolicyGrant(policy_id=policy.id, agency_id=agency.id))
    write(running, Authorization(account_id=tenant.account_id, user_id=ALL_USERS, agency_id=agency.id))
    answer = ask(tenant, job)
    assert answer["agency"] == {"id": agency.id, "name": "acting"}
    assert {(need["by"], need["action"]) for need in answer["missing"]} == {("agency", "obs:object:PutObject")}
    topic = tenant.client.post("/v2/{project_id}/notifications/topics", {"name": "news"})["topic_urn"]
    job["spec"]["notification"] = {"topic_urn": topic, "events": ["OnJobFailed"]}
    missing = {(need["by"], need["action"], need["resource"]) for need in ask(tenant, job)["missing"]}
    assert ("agency", "smn:topic:publish", topic) in missing


def test_arrears_and_a_closed_workspace_are_among_what_is_missing(
    running: RunningPlatform, tenant: Tenant, job: dict[str, Any]
) -> None:
    user = tenant.user([document("modelarts:trainJob:*", "obs:*:*")])

    async def owe() -> None:
        async with running.runtime.platform.database.transaction() as tx:
            (await tx.session.get_one(Account, tenant.account_id)).standing = "arrears"
        running.runtime.platform.identity.invalidate()

    running.run(owe())
    answer = ask(user, job)
    assert [need["by"] for need in answer["missing"]] == ["account"]
    assert "arrears" in answer["missing"][0]["reason"]

    theirs = Workspace(project_id=tenant.project_id, name="theirs", auth_type="PRIVATE", owner_id=tenant.user_id)
    write(running, theirs)
    job["metadata"]["workspace_id"] = theirs.id
    with pytest.raises(ApiFailure) as refused:
        ask(user, job)
    assert (refused.value.status, f"no workspace '{theirs.id}'" in refused.value.message) == (400, True)


def test_a_malformed_request_is_told_as_the_creation_tells_it(tenant: Tenant, job: dict[str, Any]) -> None:
    for broken in ({**job, "algorithm": {}}, {}, {**job, "spec": {"resource": {"flavor_id": "none"}}}):
        messages = set()
        for path in (JOBS, f"{JOBS}/preflight"):
            with pytest.raises(ApiFailure) as refused:
                tenant.client.post(path, broken)
            assert refused.value.status == 400
            messages.add(refused.value.message)
        assert len(messages) == 1


def test_another_accounts_bucket_is_missing(tenant: Tenant, stranger: Tenant, job: dict[str, Any]) -> None:
    theirs = stranger.create_bucket()
    job["spec"]["log_export_path"] = {"obs_url": f"/{theirs}/log/"}
    answer = ask(tenant, job)
    reasons = {need["reason"].rpartition("; ")[2] for need in answer["missing"]}
    assert reasons == {f"bucket '{theirs}' is not one of yours"}


def test_the_commands(tmp_path: Path, running: RunningPlatform, tenant: Tenant, job: dict[str, Any]) -> None:
    user = tenant.user([document("modelarts:*:*", "bottega:*:*", "iam:*:*")])
    (tmp_path / "job.json").write_text(json.dumps(job))
    credentials = {
        "url": running.url,
        "project_id": user.project_id,
        "access_key": user.access_key,
        "secret_key": user.secret_key,
    }
    (tmp_path / "credentials.json").write_text(json.dumps(credentials))

    def bottega(*arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "bottega", *arguments],
            env={**os.environ, "BOTTEGA_CREDENTIALS": str(tmp_path / "credentials.json"), "COLUMNS": "200"},
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done.returncode, done.stdout + done.stderr

    code, said = bottega("preflight", JOBS, str(tmp_path / "job.json"))
    assert (code, "missing for caller: denied because no statement allows obs:object:PutObject" in said) == (1, True)
    code, said = bottega("--json", "preflight", JOBS, str(tmp_path / "job.json"))
    assert json.loads(said)["allowed"] is False
    code, said = bottega("why", CREATE)
    assert (code, "decides" in said, "strict authorization" in said) == (0, True, True)
    code, said = bottega("who-can", CREATE)
    assert (code, user.name in said, tenant.name in said) == (0, True, True)
    assert bottega("can-i", CREATE)[0] == 0
    assert bottega("can-i", "obs:object:GetObject")[0] == 1
    (tmp_path / "job.json").write_text("{")
    assert "not valid JSON" in bottega("preflight", JOBS, str(tmp_path / "job.json"))[1]
