"""The plugin in a running platform; the fixtures come with bottega."""

import pytest
from bottega_hello import JobCompleted

from bottega.client import ApiFailure
from bottega.testing import RunningPlatform, Tenant


def test_a_finished_job_is_greeted(running: RunningPlatform, tenant: Tenant) -> None:
    async def finish() -> str:
        async with running.platform("training").database.transaction() as tx:
            return tx.emit(JobCompleted(name="digits"), f"bottega:training:{tenant.project_id}:job/1").id

    cause = running.run(finish())
    greeted = tenant.events.wait("hello.job.greeted.v1")
    assert greeted.data == {"text": "digits: well done"}
    assert greeted.causation_id == cause


def test_the_route_needs_the_right(tenant: Tenant) -> None:
    assert tenant.client.get("/v1/{project_id}/hello/digits") == {"text": "digits: well done"}
    with pytest.raises(ApiFailure, match="no statement allows hello:greeting:get"):
        tenant.user().client.get("/v1/{project_id}/hello/digits")


def test_strangers_are_refused(tenant: Tenant, stranger: Tenant) -> None:
    with pytest.raises(ApiFailure) as refused:
        stranger.client.get(f"/v1/{tenant.project_id}/hello/digits")
    assert refused.value.status == 403
