"""Custom and system policies, grants, and decisions that name the statement (002 §10.2–10.5, 003 §9)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from bottega.client import ApiFailure, Client
from bottega.testing import RunningPlatform, Tenant

CUSTOM = "/v3.0/OS-ROLE/roles"
Login = Callable[..., httpx.Response]
Member = Callable[..., dict[str, str]]

# The documents of 002 §10.3–10.5; the print shows ":" as ">" in one of them.
NO_CREATE_OR_DELETE = {
    "Version": "1.1",
    "Statement": [{"Action": ["modelarts:*:*delete*", "modelarts:*:*create*"], "Effect": "Deny"}],
}
NO_PROJECT_DELETE = {"Version": "1.1", "Statement": [{"Effect": "Deny", "Action": ["modelarts:exmlProject:delete"]}]}
NOTEBOOKS_ONLY = {
    "Version": "1.1",
    "Statement": [
        {"Effect": "Allow", "Action": ["obs:bucket:ListAllMyBuckets", "obs:bucket:ListBucket", "obs:object:GetObject"]},
        {
            "Effect": "Allow",
            "Action": [
                f"modelarts:notebook:{verb}" for verb in ("list", "create", "get", "update", "delete", "action")
            ],
        },
    ],
}
SDRS_ADMINISTRATOR = {
    "Version": "1.0",
    "Statement": [{"Action": ["SDRS:*:*"], "Effect": "Allow"}],
    "Depends": [
        {"catalog": "BASE", "display_name": "Tenant Guest"},
        {"catalog": "BASE", "display_name": "Server Administrator"},
    ],
}


def make(client: Client, name: str, document: Any) -> dict[str, Any]:
    role: dict[str, Any] = client.post(CUSTOM, {"role": {"display_name": name, "type": "XA", "policy": document}})[
        "role"
    ]
    return role


def asks(
    running: RunningPlatform, tenant: Tenant, login: Login, who: dict[str, str]
) -> Callable[[str], dict[str, Any]]:
    """What a member answers to "may I"."""
    token = login(who["account"], who["user"], who["password"]).headers["X-Subject-Token"]
    client = Client(running.url, tenant.project_id, token=token)

    def ask(action: str) -> dict[str, Any]:
        answer: dict[str, Any] = client.post("/v1/{project_id}/permissions/check", {"action": action, "resource": "*"})
        return answer

    return ask


@pytest.mark.parametrize("document", [NO_CREATE_OR_DELETE, NO_PROJECT_DELETE, NOTEBOOKS_ONLY, SDRS_ADMINISTRATOR])
def test_the_guides_policies_are_taken_as_they_are(tenant: Tenant, document: dict[str, Any]) -> None:
    role = make(tenant.client, "modelarts_deny_delete_or_create", document)
    assert role["catalog"] == "CUSTOMED"
    assert tenant.client.get(f"{CUSTOM}/{role['id']}")["role"]["policy"] == document
    assert [r["id"] for r in tenant.client.get(CUSTOM)["roles"]] == [role["id"]]
    assert [r["id"] for r in tenant.client.get("/v3/roles", {"domain_id": tenant.account_id})["roles"]] == [role["id"]]


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"Version": "1.1", "Statement": []}, "/Statement is empty"),
        ({"Version": "2.0", "Statement": [{}]}, "/Version"),
        ({"Version": "1.1", "Statement": [{"Effect": "Allow"}]}, "/Statement/0 has no Action"),
        (
            {
                "Version": "1.1",
                "Statement": [{"Effect": "Deny", "Action": ["modelarts:notebook:get", "modelarts>x>y"]}],
            },
            "/Statement/0/Action/1",
        ),
        ({"Version": "1.1", "Statement": [{"Effect": "Maybe", "Action": ["a:b:c"]}]}, "/Statement/0/Effect"),
        ({"Version": "1.1", "Statement": [{"Effect": "Allow", "Action": [f"a:b:{'c' * 7000}"]}]}, "at most 6144"),
    ],
)
def test_a_mistake_in_a_policy_is_named_with_its_position(tenant: Tenant, document: dict[str, Any], said: str) -> None:
    with pytest.raises(ApiFailure) as failure:
        make(tenant.client, "wrong", document)
    assert failure.value.status == 400
    assert said in failure.value.message
    assert tenant.client.get(CUSTOM)["roles"] == []


def test_full_access_and_a_custom_deny_give_the_denial_that_names_the_statement(
    running: RunningPlatform, tenant: Tenant, login: Login, member: Member
) -> None:
    who = member(NO_CREATE_OR_DELETE, system=("ModelArts FullAccess",))
    ask = asks(running, tenant, login, who)
    assert ask("modelarts:notebook:list")["allowed"] is True
    denied = ask("modelarts:notebook:delete")
    assert denied["allowed"] is False
    assert denied["reason"] == "explicit deny"
    assert denied["policy"] == f"policy0-{who['user']}"
    assert denied["statement"] == 0
    token = login(who["account"], who["user"], who["password"]).headers["X-Subject-Token"]
    client = Client(running.url, tenant.project_id, token=token)
    assert client.get("/v1/{project_id}/workspaces")["total_count"] == 1
    with pytest.raises(ApiFailure) as failure:
        client.post("/v1/{project_id}/workspaces", {"name": "vision"})
    assert failure.value.status == 403
    for part in ("Deny", f"policy0-{who['user']}", f"group group-{who['user']}", "modelarts:*:*create*"):
        assert part in failure.value.message
    assert tenant.client.get("/v1/{project_id}/workspaces")["total_count"] == 1


def test_what_the_system_policies_allow(running: RunningPlatform, tenant: Tenant, login: Login, member: Member) -> None:
    allowed = {
        name: asks(running, tenant, login, member(system=(name,)))
        for name in (
            "ModelArts FullAccess",
            "ModelArts CommonOperations",
            "ModelArts Dependency Access",
            "ModelArts Admin",
            "ModelArts User",
            "ModelArts Viewer",
            "Tenant Administrator",
            "Tenant Guest",
            "Security Administrator",
            "IAM ReadOnlyAccess",
        )
    }

    def who_may(action: str) -> set[str]:
        return {name.removeprefix("ModelArts ") for name, ask in allowed.items() if ask(action)["allowed"]}

    full = {"FullAccess", "Admin", "Tenant Administrator"}
    common = {"CommonOperations", "User"}
    seeing = {"Viewer", "Tenant Guest"}
    # 000 §8 table 8-2: the operations of both policies, and dedicated pools of one.
    for kind in ("exemlProject", "dataset", "notebook", "model", "service", "aihub", "trainJob", "workspace"):
        assert who_may(f"modelarts:{kind}:create") == full | common
        assert who_may(f"modelarts:{kind}:list") == full | common | seeing
    assert who_may("modelarts:pool:create") == full
    assert who_may("modelarts:pool:delete") == full
    assert who_may("modelarts:pool:list") == full | common | seeing
    assert who_may("obs:object:GetObject") == {"Dependency Access", "Tenant Administrator", "Tenant Guest"}
    assert who_may("obs:object:PutObject") == {"Dependency Access", "Tenant Administrator"}
    assert who_may("iam:users:createUser") == {"Security Administrator"}
    for action in ("iam:users:listUsers", "iam:permissions:listRoleAssignments", "iam:permissions:explain"):
        assert who_may(action) == {"Security Administrator", "IAM ReadOnlyAccess"}


def test_every_kind_of_thing_a_plugin_declares_is_in_common_operations(
    running: RunningPlatform, tenant: Tenant
) -> None:
    roles = {r["display_name"]: r["policy"] for r in tenant.client.get("/v3/roles")["roles"]}
    allowed = set(roles["ModelArts CommonOperations"]["Statement"][0]["Action"])
    assert all(s["Effect"] == "Allow" for policy in roles.values() for s in policy["Statement"])
    declared = {a.name for p in running.runtime.plugins.on() for a in p.actions if a.name.startswith("modelarts:")}
    kinds = {action.split(":")[1] for action in declared} - {"pool", "cluster", "nodePool", "poolNode"}
    assert {f"modelarts:{kind}:*" for kind in kinds} <= allowed


def test_system_policies_are_read_only(tenant: Tenant) -> None:
    role = next(r for r in tenant.client.get("/v3/roles")["roles"] if r["display_name"] == "ModelArts Viewer")
    assert role["domain_id"] is None
    change = {"role": {"policy": NO_CREATE_OR_DELETE}}
    for call in (
        lambda: tenant.client.request("PATCH", f"{CUSTOM}/{role['id']}", json=change),
        lambda: tenant.client.delete(f"{CUSTOM}/{role['id']}"),
    ):
        with pytest.raises(ApiFailure, match="read-only") as failure:
            call()
        assert failure.value.status == 403
    with pytest.raises(ApiFailure) as failure:
        make(tenant.client, "ModelArts Viewer", NO_CREATE_OR_DELETE)
    assert failure.value.status == 409
    assert tenant.client.get(f"/v3/roles/{role['id']}")["role"]["policy"] == role["policy"]


def test_a_policy_is_changed_revoked_and_deleted_with_effect_at_once(
    running: RunningPlatform, tenant: Tenant, login: Login, member: Member
) -> None:
    who = member(NOTEBOOKS_ONLY)
    ask = asks(running, tenant, login, who)
    [role] = tenant.client.get(CUSTOM)["roles"]
    assert ask("modelarts:notebook:create")["allowed"]
    changed = {"Version": "1.1", "Statement": [{"Effect": "Allow", "Action": ["modelarts:notebook:list"]}]}
    tenant.client.request("PATCH", f"{CUSTOM}/{role['id']}", json={"role": {"policy": changed}})
    assert not ask("modelarts:notebook:create")["allowed"]
    assert ask("modelarts:notebook:list")["allowed"]
    with pytest.raises(ApiFailure, match=f"group-{who['user']}") as failure:
        tenant.client.delete(f"{CUSTOM}/{role['id']}")
    assert failure.value.status == 409
    grant = f"/v3/domains/{tenant.account_id}/groups/{who['group_id']}/roles/{role['id']}"
    assert tenant.client.request("HEAD", grant).status_code == 204
    tenant.client.delete(grant)
    assert not ask("modelarts:notebook:list")["allowed"]
    with pytest.raises(ApiFailure):
        tenant.client.request("HEAD", grant)
    assert tenant.client.delete(f"{CUSTOM}/{role['id']}")["message"]
    assert tenant.client.get(CUSTOM)["roles"] == []


def test_a_grant_holds_in_its_project_or_in_all(
    running: RunningPlatform, tenant: Tenant, login: Login, member: Member
) -> None:
    other = tenant.client.post("/v3/projects", {"project": {"name": "other"}})["project"]["id"]
    who = member(NOTEBOOKS_ONLY, project_id=other)
    [role] = tenant.client.get(CUSTOM)["roles"]
    token = login(who["account"], who["user"], who["password"]).headers["X-Subject-Token"]
    client = Client(running.url, tenant.project_id, token=token)

    def may(project: str) -> bool:
        question = {"action": "modelarts:notebook:create", "resource": "*"}
        return bool(client.post(f"/v1/{project}/permissions/check", question)["allowed"])

    assert (may(other), may(tenant.project_id)) == (True, False)
    inherited = (
        f"/v3/OS-INHERIT/domains/{tenant.account_id}/groups/{who['group_id']}/roles/{role['id']}/inherited_to_projects"
    )
    tenant.client.put(inherited)
    assert (may(other), may(tenant.project_id)) == (True, True)
    place = f"/v3/projects/{other}/groups/{who['group_id']}/roles"
    assert [r["id"] for r in tenant.client.get(place)["roles"]] == [role["id"]]
    tenant.client.delete(f"{place}/{role['id']}")
    tenant.client.delete(inherited)
    assert (may(other), may(tenant.project_id)) == (False, False)


def test_a_role_takes_effect_only_with_what_it_depends_on(
    running: RunningPlatform, tenant: Tenant, login: Login, member: Member
) -> None:
    depends = {
        "Version": "1.0",
        "Statement": [{"Action": ["SDRS:*:*"], "Effect": "Allow"}],
        "Depends": [{"catalog": "BASE", "display_name": "Tenant Guest"}],
    }
    alone = asks(running, tenant, login, member(depends))("SDRS:protectionGroup:create")
    assert not alone["allowed"]
    assert "Tenant Guest" in alone["explanation"]
    assert asks(running, tenant, login, member(depends, system=("Tenant Guest",)))("SDRS:protectionGroup:create")[
        "allowed"
    ]
