"""What a job will need is known before it is made, and said all at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from bottega.client import ApiFailure
from bottega.database import AsyncSession
from bottega.entities import Workload
from bottega.errors import InArrears
from bottega.testing import RunningPlatform, Tenant

JOBS = "/v2/{project_id}/training-jobs"


def allowing(*actions: str, resource: str | None = None) -> dict[str, Any]:
    statement = {"Effect": "Allow", "Action": list(actions), **({"Resource": [resource]} if resource else {})}
    return {"Version": "1.1", "Statement": [statement]}


def test_all_that_is_missing_is_named_at_once(trainer: Any, tenant: Tenant) -> None:
    trainer.upload("print(1)")
    topic = f"urn:smn:local-1:{tenant.project_id}:news"
    request = trainer.request(inputs=[{"name": "data", "remote": {"obs": {"obs_url": f"/{trainer.bucket}/data/"}}}])
    request["spec"]["notification"] = {"topic_urn": topic, "events": ["JobFailed"]}
    creator = tenant.user([allowing("modelarts:trainJob:create")])
    with pytest.raises(ApiFailure) as refused:
        creator.client.post(JOBS, request)
    assert (refused.value.status, refused.value.error_code) == (403, "ModelArts.0103")
    missing = refused.value.message
    for action, resource in (
        ("modelarts:trainJob:get", f"bottega:training:{tenant.project_id}:job/*"),
        ("modelarts:trainJob:stop", f"bottega:training:{tenant.project_id}:job/*"),
        ("obs:object:GetObject", f"{trainer.bucket}/code/"),
        ("obs:object:GetObject", f"{trainer.bucket}/data/"),
        ("obs:object:PutObject", f"{trainer.bucket}/out/"),
        ("smn:topic:publish", topic),
    ):
        assert any(action in part and resource in part for part in missing.split("; ")), (action, resource, missing)
    assert "modelarts:trainJob:create" not in missing
    assert tenant.client.get(JOBS)["total"] == 0


def test_who_has_it_all_may_create(trainer: Any, tenant: Tenant) -> None:
    trainer.upload("print(1)")
    whole_life = allowing("modelarts:trainJob:create", "modelarts:trainJob:get", "modelarts:trainJob:stop")
    stored = allowing("obs:object:GetObject", "obs:object:PutObject", resource=f"obs:*:*:object:{trainer.bucket}/*")
    job = tenant.user([whole_life, stored]).client.post(JOBS, trainer.request())
    assert trainer.ended(job["metadata"]["id"])["status"]["phase"] == "Completed"


def test_the_topic_of_the_request_is_told(trainer: Any, tenant: Tenant) -> None:
    trainer.upload("print(1)")
    topic = f"urn:smn:local-1:{tenant.project_id}:news"
    request = trainer.request()
    request["spec"]["notification"] = {"topic_urn": topic, "events": ["JobCompleted"]}
    job_id = trainer.submit(request)
    trainer.ended(job_id)
    told = tenant.events.wait("core.notification.requested.v1", topic_urn=topic)
    assert told.data["subject"].startswith("JobCompleted: ")
    assert len(tenant.events.all("core.notification.requested.v1")) == 1


@pytest.fixture
def admissions(running: RunningPlatform) -> Iterator[list[Any]]:
    """Whom workloads pass, put back afterwards."""
    found = running.runtime.platform.workloads.admissions
    before = list(found)
    yield found
    found[:] = before


def test_what_is_not_admitted_is_refused_before_it_exists(trainer: Any, tenant: Tenant, admissions: list[Any]) -> None:
    async def refuse(_: AsyncSession, workload: Workload) -> None:
        if workload.project_id == tenant.project_id:
            raise InArrears(f"no {workload.kind} on {workload.flavor}")

    trainer.upload("print(1)")
    admissions.append(refuse)
    with pytest.raises(ApiFailure, match=f"no training on {trainer.flavor}") as refused:
        trainer.submit(trainer.request())
    assert (refused.value.status, refused.value.error_code) == (403, "ModelArts.0111")
    assert tenant.client.get(JOBS)["total"] == 0


def test_what_is_not_admitted_any_more_when_planned_fails(trainer: Any, tenant: Tenant, admissions: list[Any]) -> None:
    async def refuse_later(_: AsyncSession, workload: Workload) -> None:
        if workload.project_id == tenant.project_id and workload.backend:  # asked for in earnest
            raise InArrears("the budget is spent")

    trainer.upload("print(1)")
    admissions.append(refuse_later)
    job = trainer.ended(trainer.submit(trainer.request()))
    assert (job["status"]["phase"], job["status"]["secondary_phase"]) == ("Failed", "CreateFailed")
    assert "the budget is spent" in str(trainer.get(job["metadata"]["id"], "/events"))
