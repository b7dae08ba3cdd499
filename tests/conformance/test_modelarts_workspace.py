"""The vendor's own client, unmodified, makes and manages workspaces here (huaweicloudsdkmodelarts 3.1.219)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException
from huaweicloudsdkmodelarts.v1 import (
    AuthRequests,
    CreateWorkspaceReq,
    CreateWorkspaceReqGrants,
    CreateWorkspaceRequest,
    DeleteWorkspaceRequest,
    ListUsersRequest,
    ListWorkspaceRequest,
    ModelArtsClient,
    ShowWorkspaceRequest,
    UpdateWorkspaceReq,
    UpdateWorkspaceRequest,
    ValidateAuthorizationRequest,
    ValidateAuthorizationRequestBody,
    ViewWorkspaceResponseGrants,
)

from bottega.entities import EnterpriseProject
from bottega.testing import Tenant

Official = Callable[[Tenant], Any]
DATASETS = "/v2/{project_id}/datasets"
USER = {
    "Version": "1.1",
    "Statement": [
        {"Effect": "Allow", "Action": ["modelarts:*:*", "obs:*:*"]},
        {"Effect": "Deny", "Action": ["modelarts:dataset:delete"]},
    ],
}


@pytest.fixture
def official(operations: Callable[[Any], Any]) -> Official:
    """The official client of a tenant."""

    def build(who: Tenant) -> Any:
        credentials = BasicCredentials(who.access_key, who.secret_key, who.project_id)
        built = ModelArtsClient.new_builder().with_credentials(credentials).with_endpoint(who.running.url).build()
        return operations(built)

    return build


def refused(status: int, code: str, call: Callable[[], Any]) -> str:
    with pytest.raises(ClientRequestException) as raised:
        call()
    assert (raised.value.status_code, raised.value.error_code) == (status, code)
    assert raised.value.request_id
    return str(raised.value.error_msg)


def create(client: Any, name: str, **fields: Any) -> Any:
    return client.create_workspace(CreateWorkspaceRequest(body=CreateWorkspaceReq(name=name, **fields)))


def show(client: Any, id: str) -> Any:
    return client.show_workspace(ShowWorkspaceRequest(workspace_id=id))


def names(client: Any, **query: Any) -> list[str]:
    found = client.list_workspace(ListWorkspaceRequest(**query))
    assert found.count == len(found.workspaces)
    return [row.name for row in found.workspaces]


def dataset(who: Tenant, bucket: str, name: str, workspace_id: str) -> str:
    body = {
        "dataset_name": name,
        "dataset_type": 0,
        "workspace_id": workspace_id,
        "work_path": f"/{bucket}/{name}/",
        "data_sources": [],
    }
    return str(who.client.post(DATASETS, body)["dataset_id"])


def test_a_workspace_from_creation_to_deletion(official: Official, tenant: Tenant, stranger: Tenant) -> None:
    client = official(tenant)
    made = create(client, "research-1", description="first")
    assert (made.name, made.description, made.auth_type, made.status) == ("research-1", "first", "PUBLIC", "NORMAL")
    assert (made.enterprise_project_id, made.enterprise_project_name) == ("0", "default")
    assert (made.owner, made.grants, made.status_info) == (tenant.name, [], "")
    assert len(made.id) == 32
    assert made.id.isalnum()
    assert made.update_time >= made.create_time > 1_700_000_000_000
    assert names(client) == ["research-1", "default"]
    assert show(client, "0").name == "default"

    changes = UpdateWorkspaceReq(name="research-2", description="second")
    changed = client.update_workspace(UpdateWorkspaceRequest(workspace_id=made.id, body=changes))
    assert changed.workspace_id == made.id
    shown = show(client, made.id)
    assert (shown.name, shown.description, shown.create_time) == ("research-2", "second", made.create_time)
    assert shown.update_time >= made.update_time

    nobody = official(tenant.user())
    refused(403, "ModelArts.0103", lambda: show(nobody, made.id))
    refused(403, "ModelArts.0103", lambda: names(nobody))
    refused(403, "ModelArts.0103", lambda: create(nobody, "mine"))
    assert names(official(stranger)) == ["default"]
    refused(404, "ModelArts.0104", lambda: show(official(stranger), made.id))
    gone = client.delete_workspace(DeleteWorkspaceRequest(workspace_id=made.id))
    assert gone.workspace_id == made.id
    refused(404, "ModelArts.0104", lambda: show(client, made.id))
    refused(404, "ModelArts.0104", lambda: client.delete_workspace(DeleteWorkspaceRequest(workspace_id=made.id)))
    assert names(client) == ["default"]


def test_lists_are_filtered_sorted_and_paged(official: Official, tenant: Tenant) -> None:
    client = official(tenant)
    for name in ("alpha", "beta", "gamma"):
        create(client, name, auth_type="PRIVATE" if name == "beta" else "PUBLIC")
    assert names(client, sort_by="name", order="asc") == ["alpha", "beta", "default", "gamma"]
    assert names(client, name="A", order="asc") == ["alpha", "beta", "default", "gamma"]
    assert names(client, name="GAM") == ["gamma"]
    assert names(client, sort_by="update_time", order="desc", limit=1) == ["gamma"]
    assert names(client, order="asc", limit=2, offset=1) == ["beta", "default"]
    assert names(client, enterprise_project_id="other") == []
    user = official(tenant.user([USER]))
    assert names(user, order="asc") == ["alpha", "beta", "default", "gamma"]
    assert names(user, order="asc", filter_accessible=True) == ["alpha", "default", "gamma"]
    refused(400, "ModelArts.0101", lambda: names(client, sort_by="size"))


def test_who_is_let_in(official: Official, tenant: Tenant, bucket: str) -> None:
    client = official(tenant)
    ann, bob = tenant.user([USER]), tenant.user([USER])
    listed = [user.user_name for user in client.list_users(ListUsersRequest()).users]
    assert sorted(listed) == sorted([tenant.name, ann.name, bob.name])
    refused(403, "ModelArts.0103", lambda: official(ann).list_users(ListUsersRequest()))

    grants = [CreateWorkspaceReqGrants(user_name=ann.name)]
    made = create(client, "closed", auth_type="INTERNAL", grants=grants)
    assert [(g.user_id, g.user_name) for g in made.grants] == [(ann.user_id, ann.name)]
    inside = dataset(ann, bucket, "inside", made.id)

    def visible(who: Tenant) -> bool:
        return [row["dataset_id"] for row in who.client.get(DATASETS)["datasets"]] == [inside]

    def update(**fields: Any) -> None:
        body = UpdateWorkspaceReq(**fields)
        client.update_workspace(UpdateWorkspaceRequest(workspace_id=made.id, body=body))

    assert (visible(ann), visible(bob), visible(tenant)) == (True, False, True)
    update(grants=[ViewWorkspaceResponseGrants(user_id=bob.user_id)])
    assert (visible(ann), visible(bob)) == (False, True)
    update(auth_type="PRIVATE")
    assert (visible(ann), visible(bob), visible(tenant)) == (False, False, True)
    assert show(client, made.id).grants == []
    opened = UpdateWorkspaceRequest(workspace_id=made.id, body=UpdateWorkspaceReq(auth_type="PUBLIC"))
    message = refused(403, "ModelArts.0103", lambda: official(bob).update_workspace(opened))
    assert "closed to you" in message
    refused(
        403,
        "ModelArts.0103",
        lambda: official(bob).delete_workspace(DeleteWorkspaceRequest(workspace_id=made.id)),
    )
    update(auth_type="PUBLIC")
    assert (visible(ann), visible(bob)) == (True, True)

    full = refused(409, "ModelArts.0105", lambda: client.delete_workspace(DeleteWorkspaceRequest(workspace_id=made.id)))
    assert "holds 1 things" in full
    tenant.client.delete(f"{DATASETS}/{inside}")
    client.delete_workspace(DeleteWorkspaceRequest(workspace_id=made.id))


def test_a_workspace_is_bound_to_an_enterprise_project(
    official: Official, tenant: Tenant, stranger: Tenant, bucket: str
) -> None:
    client = official(tenant)
    research = EnterpriseProject(account_id=tenant.account_id, name="research")
    foreign = EnterpriseProject(account_id=stranger.account_id, name="foreign")

    async def add() -> None:
        async with tenant.running.runtime.platform.database.transaction() as tx:
            tx.session.add_all([research, foreign])

    tenant.running.run(add())
    made = create(client, "lab-of-research", enterprise_project_id=research.id)
    assert (made.enterprise_project_id, made.enterprise_project_name) == (research.id, "research")
    assert names(client, enterprise_project_id=research.id) == ["lab-of-research"]
    for wrong in (foreign.id, "nothing"):
        message = refused(400, "ModelArts.0101", partial(create, client, "stray", enterprise_project_id=wrong))
        assert "enterprise_project_id" in message


def test_what_one_may_do_in_a_workspace(official: Official, tenant: Tenant) -> None:
    client = official(tenant)
    ann, bob = tenant.user([USER]), tenant.user([USER])
    made = create(client, "exam", auth_type="INTERNAL", grants=[CreateWorkspaceReqGrants(user_id=ann.user_id)])

    def asked(who: Tenant, workspace_id: str = made.id, action: str = "modelarts:dataset:create") -> Any:
        questions = [
            AuthRequests(action_id="1", action=action),
            AuthRequests(action_id="2", action="modelarts:dataset:delete", resource="bottega:dataset:*:dataset/1"),
        ]
        body = ValidateAuthorizationRequestBody(requests=questions)
        request = ValidateAuthorizationRequest(workspace_id=workspace_id, body=body)
        return official(who).validate_authorization(request).results

    def verdicts(who: Tenant) -> list[tuple[str, str, str]]:
        return [(r.action_id, r.action, r.verdict) for r in asked(who)]

    create_it, delete_it = "modelarts:dataset:create", "modelarts:dataset:delete"
    assert verdicts(tenant) == [("1", create_it, "allow"), ("2", delete_it, "allow")]
    assert verdicts(ann) == [("1", create_it, "allow"), ("2", delete_it, "deny")]
    assert verdicts(bob) == [("1", create_it, "deny"), ("2", delete_it, "deny")]
    assert asked(ann)[0].cause == []
    assert asked(ann)[1].cause[0].policy_name == f"policy 0 of {ann.name}"
    assert asked(ann)[1].resource == "bottega:dataset:*:dataset/1"
    assert asked(bob)[0].cause[0].policy_name == "workspace 'exam' is closed to you"
    refused(404, "ModelArts.0104", lambda: asked(ann, "f" * 32))
    refused(400, "ModelArts.0101", lambda: asked(ann, action="everything"))


def test_mistakes_come_back_as_the_clients_errors(official: Official, tenant: Tenant, stranger: Tenant) -> None:
    client = official(tenant)
    create(client, "taken-1")
    assert "taken-1" in refused(409, "ModelArts.0105", lambda: create(client, "taken-1"))
    for name in ("abc", "x" * 65, "default", "Default", "with space"):
        assert "name" in refused(400, "ModelArts.0101", partial(create, client, name))
    refused(400, "ModelArts.0101", lambda: create(client, "described", description="x" * 257))
    refused(400, "ModelArts.0101", lambda: create(client, "open-door", auth_type="OPEN"))
    for grant in ({"user_id": stranger.user_id}, {"user_name": "nobody"}, {}):
        grants = [CreateWorkspaceReqGrants(**grant)]
        message = refused(400, "ModelArts.0101", partial(create, client, "party", auth_type="INTERNAL", grants=grants))
        assert message.startswith("grants: ")
    federated = [CreateWorkspaceReqGrants(user_name="x", user_type="FEDERATE")]
    refused(400, "ModelArts.0112", lambda: create(client, "party", auth_type="INTERNAL", grants=federated))
    assert names(client, name="party") == []
    changes = UpdateWorkspaceReq(auth_type="PRIVATE")
    refused(
        409,
        "ModelArts.0105",
        lambda: client.update_workspace(UpdateWorkspaceRequest(workspace_id="0", body=changes)),
    )
    refused(409, "ModelArts.0105", lambda: client.delete_workspace(DeleteWorkspaceRequest(workspace_id="0")))
