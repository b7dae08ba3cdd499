"""The vendor's own client, unmodified, labels jobs, notebooks and services here (huaweicloudsdkmodelarts 3.1.219)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException
from huaweicloudsdkmodelarts.v1 import (
    CombineInferTmsTags,
    CountInferServicesByTagsRequest,
    CountResourceInstancesReq,
    CountResourceInstancesReqTags,
    CountTrainingJobsByTagsRequest,
    CreateInferServiceTagRequest,
    CreateNotebookTagsRequest,
    CreateTmsTagsRequest,
    CreateTrainJobTagsRequest,
    DeleteInferServiceTagRequest,
    DeleteInferTmsTagsRequest,
    DeleteNotebookTagsRequest,
    DeleteTmsTagsRequest,
    DeleteTrainJobTagsRequest,
    ListInferServicesByTagsRequest,
    ListInferServiceTagsRequest,
    ListTrainingJobsByTagsRequest,
    ListTrainingJobTagsRequest,
    Match,
    ModelArtsClient,
    MutiValueTag,
    QueryTmsResourceCountRequest,
    QueryTmsResourceRequest,
    ResourceInstancesFilterReq,
    ShowInferServiceTagsRequest,
    ShowNotebookTagsRequest,
    ShowTrainJobTagsRequest,
    TmsTag,
    TmsTagForDeletion,
)

from bottega.testing import Tenant

ABSENT = "00000000-0000-4000-8000-000000000000"
Official = Callable[[Tenant], Any]


@pytest.fixture
def official(operations: Callable[[Any], Any]) -> Official:
    """The official client of a tenant."""

    def build(who: Tenant) -> Any:
        credentials = BasicCredentials(who.access_key, who.secret_key, who.project_id)
        built = ModelArtsClient.new_builder().with_credentials(credentials).with_endpoint(who.running.url).build()
        return operations(built)

    return build


def register(tenant: Tenant, plugin: str, kind: str, name: str) -> str:
    """A thing in the registry: what it is made of does not matter to its tags."""
    platform = tenant.running.platform(plugin)

    async def create() -> str:
        async with platform.database.transaction() as tx:
            made = await platform.resources.create(
                tx, kind=kind, project_id=tenant.project_id, owner_id=tenant.user_id, name=name
            )
        return made.id

    return tenant.running.run(create())


def refused(status: int, code: str, call: Callable[[], Any]) -> str:
    with pytest.raises(ClientRequestException) as raised:
        call()
    assert (raised.value.status_code, raised.value.error_code) == (status, code)
    assert raised.value.request_id
    return str(raised.value.error_msg)


def pairs(tags: Any) -> dict[str, str]:
    return {tag.key: tag.value for tag in tags}


def test_tags_of_training_jobs(official: Official, tenant: Tenant) -> None:
    client = official(tenant)
    cats, dogs = (register(tenant, "training", "job", name) for name in ("cats-1", "dogs-1"))

    def create(job: str, by: Any = client, **tags: str) -> Any:
        body = CreateTmsTagsRequest(tags=[TmsTag(key=key, value=value) for key, value in tags.items()])
        return by.create_train_job_tags(CreateTrainJobTagsRequest(training_job_id=job, body=body))

    def shown(job: str) -> dict[str, str]:
        return pairs(client.show_train_job_tags(ShowTrainJobTagsRequest(training_job_id=job)).tags)

    def delete(job: str, key: str, value: str | None = None) -> None:
        body = DeleteTmsTagsRequest(tags=[TmsTag(key=key, value=value)])
        client.delete_train_job_tags(DeleteTrainJobTagsRequest(training_job_id=job, body=body))

    def found(**search: Any) -> list[str]:
        request = ListTrainingJobsByTagsRequest(limit=10, offset=0, body=ResourceInstancesFilterReq(**search))
        answer = client.list_training_jobs_by_tags(request)
        counted = [CountResourceInstancesReqTags(key=t.key, values=t.values) for t in search.get("tags", ())]
        body = CountResourceInstancesReq(**{**search, "tags": counted})
        total = client.count_training_jobs_by_tags(CountTrainingJobsByTagsRequest(body=body)).total_count
        assert answer.total_count == total == len(answer.resources)
        return sorted(resource.resource_name for resource in answer.resources)

    assert pairs(create(cats, team="vision", stage="test").tags) == {"team": "vision", "stage": "test"}
    create(cats, stage="live")
    create(dogs, team="sound")
    assert shown(cats) == {"team": "vision", "stage": "live"}
    listed = client.list_training_job_tags(ListTrainingJobTagsRequest()).tags
    assert {row.key: row.values for row in listed} == {"stage": ["live"], "team": ["sound", "vision"]}
    assert [row.key for row in client.list_training_job_tags(ListTrainingJobTagsRequest(limit=1, offset=1)).tags] == [
        "team"
    ]
    assert found(tags=[MutiValueTag(key="team", values=["vision", "sound"])]) == ["cats-1", "dogs-1"]
    assert found(tags=[MutiValueTag(key="team", values=["vision"]), MutiValueTag(key="stage", values=["live"])]) == [
        "cats-1"
    ]
    assert found(tags=[MutiValueTag(key="stage", values=[])]) == ["cats-1"]
    assert found(matches=[Match(key="resource_name", value="DOGS")]) == ["dogs-1"]
    assert found(without_any_tag=True) == []
    delete(cats, "stage", "test")
    assert shown(cats) == {"team": "vision", "stage": "live"}
    delete(cats, "stage")
    delete(dogs, "team", "sound")
    assert (shown(cats), shown(dogs)) == ({"team": "vision"}, {})
    assert found(without_any_tag=True) == ["dogs-1"]

    assert "_sys_" in refused(400, "ModelArts.0101", lambda: create(cats, _sys_enterprise="x"))
    assert "a value" in refused(400, "ModelArts.0101", lambda: create(cats, team="a<b"))
    refused(404, "ModelArts.0104", lambda: create(ABSENT, team="x"))
    refused(403, "ModelArts.0103", lambda: create(cats, official(tenant.user()), team="x"))
    create(cats, **{f"k{n}": "" for n in range(10)})
    more = {f"k{n}": "" for n in range(10, 20)}
    assert "20 are possible" in refused(409, "ModelArts.0105", lambda: create(cats, **more))
    assert len(shown(cats)) == 11


def test_tags_of_notebooks(official: Official, tenant: Tenant, stranger: Tenant) -> None:
    client = official(tenant)
    notebook = register(tenant, "notebook", "instance", "lab")

    def create(by: Any = client) -> None:
        body = CreateTmsTagsRequest(tags=[TmsTag(key="owner", value="ann"), TmsTag(key="cost", value="a/b")])
        by.create_notebook_tags(CreateNotebookTagsRequest(resource_id=notebook, body=body))

    def listed() -> dict[str, list[str]]:
        return {row.key: row.values for row in client.show_notebook_tags(ShowNotebookTagsRequest()).tags or []}

    create()
    assert listed() == {"cost": ["a/b"], "owner": ["ann"]}
    body = DeleteTmsTagsRequest(tags=[TmsTag(key="cost")])
    client.delete_notebook_tags(DeleteNotebookTagsRequest(resource_id=notebook, body=body))
    assert listed() == {"owner": ["ann"]}
    refused(404, "ModelArts.0104", lambda: create(official(stranger)))
    refused(403, "ModelArts.0103", lambda: create(official(tenant.user())))
    assert listed() == {"owner": ["ann"]}


def test_tags_of_services(official: Official, tenant: Tenant) -> None:
    client = official(tenant)
    service = register(tenant, "serving", "service", "flowers")

    def shown() -> dict[str, str]:
        return pairs(client.show_infer_service_tags(ShowInferServiceTagsRequest(resource_id=service)).tags)

    # The client sends no body with this call, so it can only learn what is missing.
    refused(
        400,
        "ModelArts.0101",
        lambda: client.create_infer_service_tag(CreateInferServiceTagRequest(resource_id=service)),
    )
    path = f"/v2/{{project_id}}/modelarts-service-v2/{service}/tags/create"
    tenant.client.post(path, {"tags": [{"key": "team", "value": "garden"}, {"key": "tier", "value": "1"}]})
    assert shown() == {"team": "garden", "tier": "1"}
    listed = client.list_infer_service_tags(ListInferServiceTagsRequest()).tags
    assert {row.key: row.values for row in listed} == {"team": ["garden"], "tier": ["1"]}
    wanted = [CombineInferTmsTags(key="team", values=["garden"])]
    search = QueryTmsResourceRequest(tags=wanted, limit=5, offset=0)
    [found] = client.list_infer_services_by_tags(ListInferServicesByTagsRequest(body=search)).resources
    assert (found.resource_id, found.resource_name, pairs(found.tags)) == (
        service,
        "flowers",
        {"team": "garden", "tier": "1"},
    )
    counted = CountInferServicesByTagsRequest(body=QueryTmsResourceCountRequest(tags=wanted))
    assert client.count_infer_services_by_tags(counted).total_count == 1
    body = DeleteInferTmsTagsRequest(tags=[TmsTagForDeletion(key="team")])
    client.delete_infer_service_tag(DeleteInferServiceTagRequest(resource_id=service, body=body))
    assert shown() == {"tier": "1"}
    assert client.count_infer_services_by_tags(counted).total_count == 0
