"""The vendor's own client, unmodified, reads and changes limits here (huaweicloudsdkmodelarts 3.1.219)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException
from huaweicloudsdkmodelarts.v1 import (
    ModelArtsClient,
    ModifyTrainingQuotaItem,
    ModifyTrainingQuotaRequest,
    ModifyTrainingQuotasRequest,
    ShowOsConfigRequest,
    ShowOsQuotaRequest,
    ShowTrainingQuotasRequest,
    ShowWorkspaceQuotasRequest,
    UpdateWorkspaceQuotasReq,
    UpdateWorkspaceQuotasReqQuotas,
    UpdateWorkspaceQuotasRequest,
)

from bottega.entities import Workspace
from bottega.testing import Tenant

Operations = Callable[[Any], Any]
Official = Callable[[Tenant], Any]


@pytest.fixture
def official(operations: Operations) -> Official:
    """The official client of a tenant."""

    def build(who: Tenant) -> Any:
        credentials = BasicCredentials(who.access_key, who.secret_key, who.project_id)
        built = ModelArtsClient.new_builder().with_credentials(credentials).with_endpoint(who.running.url).build()
        return operations(built)

    return build


@pytest.fixture
def room(tenant: Tenant) -> str:
    row = Workspace(project_id=tenant.project_id, name="quota-room")

    async def furnish() -> None:
        platform = tenant.running.runtime.platform
        async with platform.database.transaction() as tx:
            tx.session.add(row)
        platform.identity.invalidate()

    tenant.running.run(furnish())
    return row.id


def dataset(tenant: Tenant, name: str, workspace_id: str = "0") -> None:
    bucket = tenant.create_bucket()
    tenant.client.post(
        "/v2/{project_id}/datasets",
        {
            "dataset_name": name,
            "dataset_type": 0,
            "workspace_id": workspace_id,
            "work_path": f"/{bucket}/{name}/",
            "data_sources": [],
        },
    )


def refused(status: int, code: str, call: Callable[[], Any]) -> str:
    with pytest.raises(ClientRequestException) as raised:
        call()
    assert (raised.value.status_code, raised.value.error_code) == (status, code)
    assert raised.value.request_id
    return str(raised.value.error_msg)


def test_the_limits_of_the_account(official: Official, tenant: Tenant) -> None:
    client = official(tenant)
    dataset(tenant, "counted")
    rows = {r.type: (r.quota, r.used) for r in client.show_os_quota(ShowOsQuotaRequest()).quotas.resources}
    assert rows["dataset.dataset"] == ("100", "1")
    assert rows["notebook.instance"] == ("10", "0")
    config = client.show_os_config(ShowOsConfigRequest())
    assert (config.network_cidrs, config.network_quota, config.pool_quota, config.pool_high_available) == (
        [],
        0,
        0,
        False,
    )
    nobody = official(tenant.user())
    refused(403, "ModelArts.0103", lambda: nobody.show_os_quota(ShowOsQuotaRequest()))
    refused(403, "ModelArts.0103", lambda: nobody.show_os_config(ShowOsConfigRequest()))


def test_the_training_jobs_of_a_user(official: Official, tenant: Tenant, stranger: Tenant) -> None:
    client, user = official(tenant), tenant.user()

    def shown(user_id: str | None = None) -> tuple[str, int, int]:
        asked = ShowTrainingQuotasRequest(user_id=user_id, resource="job-num")
        [row] = client.show_training_quotas(asked).quotas
        return row.resource, row.quota, row.used

    def change(quota: int, resource: str = "job-num", user_id: str = user.user_id) -> Any:
        item = ModifyTrainingQuotaItem(resource=resource, quota=quota)
        body = ModifyTrainingQuotaRequest(user_id=user_id, quotas=[item])
        return client.modify_training_quotas(ModifyTrainingQuotasRequest(body=body))

    assert shown() == ("job-num", 10_000, 0)
    changed = change(3)
    assert (changed.user_id, changed.quotas[0].resource, changed.quotas[0].quota) == (user.user_id, "job-num", 3)
    assert shown(user.user_id) == ("job-num", 3, 0)
    assert shown() == ("job-num", 10_000, 0)
    change(-1)
    assert shown(user.user_id) == ("job-num", 10_000, 0)
    assert "job-retention-enabled" in refused(400, "ModelArts.0112", lambda: change(1, "job-retention-enabled"))
    refused(400, "ModelArts.0101", lambda: change(1, "moons"))
    refused(404, "ModelArts.0104", lambda: change(1, user_id=stranger.user_id))
    refused(404, "ModelArts.0104", lambda: shown(stranger.user_id))
    other = official(stranger)
    foreign = ModifyTrainingQuotaRequest(
        user_id=user.user_id, quotas=[ModifyTrainingQuotaItem(resource="job-num", quota=1)]
    )
    refused(
        404,
        "ModelArts.0104",
        lambda: other.modify_training_quotas(ModifyTrainingQuotasRequest(body=foreign)),
    )


def test_the_limits_of_a_workspace(official: Official, tenant: Tenant, stranger: Tenant, room: str) -> None:
    client = official(tenant)

    def shown(workspace_id: str = room) -> dict[str, Any]:
        found = client.show_workspace_quotas(ShowWorkspaceQuotasRequest(workspace_id=workspace_id))
        return {row.resource: row for row in found.quotas}

    def change(quota: int, resource: str = "dataset.dataset", workspace_id: str = room, by: Any = client) -> Any:
        body = UpdateWorkspaceQuotasReq(quotas=[UpdateWorkspaceQuotasReqQuotas(resource=resource, quota=quota)])
        return by.update_workspace_quotas(UpdateWorkspaceQuotasRequest(workspace_id=workspace_id, body=body))

    before = shown()["dataset.dataset"]
    assert (before.quota, before.min_quota, before.max_quota, before.used_quota) == (-1, 1, 100, None)
    assert (before.name_en, before.unit_en) == ("datasets", "")
    [changed] = change(7).quotas
    assert (changed.resource, changed.quota, changed.max_quota) == ("dataset.dataset", 7, 100)
    dataset(tenant, "inside", room)
    dataset(tenant, "outside")
    after = shown()["dataset.dataset"]
    assert (after.quota, after.used_quota) == (7, 1)
    assert after.update_time >= before.update_time > 1_700_000_000_000
    assert shown()["training.job"].quota == -1
    change(-1)
    assert shown()["dataset.dataset"].used_quota is None
    assert "from 1 to 100" in refused(400, "ModelArts.0101", lambda: change(101))
    refused(400, "ModelArts.0101", lambda: change(0))
    assert "there are: " in refused(400, "ModelArts.0101", lambda: change(1, "dataset.cats"))
    refused(404, "ModelArts.0104", lambda: shown("f" * 32))
    refused(409, "ModelArts.0105", lambda: change(1, workspace_id="0"))
    refused(403, "ModelArts.0103", lambda: change(1, by=official(tenant.user())))
    assert shown()["dataset.dataset"].quota == -1
    theirs = BasicCredentials(stranger.access_key, stranger.secret_key, tenant.project_id)
    spy = ModelArtsClient.new_builder().with_credentials(theirs).with_endpoint(tenant.running.url).build()
    refused(403, "ModelArts.0103", lambda: change(1, by=spy))
