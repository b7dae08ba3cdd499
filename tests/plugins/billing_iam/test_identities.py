"""Users, groups, access keys, accounts and projects through the API."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from bottega.client import ApiFailure, Client
from bottega.testing import RunningPlatform, Tenant

KEYS = "/v3.0/OS-CREDENTIAL/credentials"
Member = Callable[..., dict[str, str]]


def refused(status: int, call: Callable[..., Any], *arguments: Any, **more: Any) -> str:
    with pytest.raises(ApiFailure) as failure:
        call(*arguments, **more)
    assert failure.value.status == status, failure.value
    return failure.value.message


def test_users_are_made_found_changed_and_deleted(tenant: Tenant) -> None:
    client = tenant.client
    user = client.post("/v3/users", {"user": {"name": "James", "password": "blue-Whale-7"}})["user"]
    assert (user["name"], user["domain_id"], user["enabled"], user["pwd_status"]) == (
        "James",
        tenant.account_id,
        True,
        False,
    )
    assert [u["name"] for u in client.get("/v3/users", {"name": "James"})["users"]] == ["James"]
    assert {u["name"] for u in client.get("/v3/users")["users"]} == {"James", tenant.name}
    changed = client.request("PATCH", f"/v3/users/{user['id']}", json={"user": {"name": "Jane"}}).json()["user"]
    assert changed["name"] == client.get(f"/v3/users/{user['id']}")["user"]["name"] == "Jane"
    assert client.delete(f"/v3/users/{user['id']}") is None
    refused(404, client.get, f"/v3/users/{user['id']}")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"name": "1abc"}, "beginning with a letter"),
        ({"name": "аdmin"}, "user name"),  # a Cyrillic а
        ({"name": "x" * 65}, "1 to 64"),
        ({"name": "eve", "password": "short1"}, "8 to 128"),
        ({"name": "eve", "password": "onlylowercase"}, "at least two"),
        ({"name": "eve", "password": "Evergreen-1"}, "user's name"),
        ({"name": "eve", "enabled": "maybe"}, "enabled"),
        ({"password": "blue-Whale-7"}, "name"),
    ],
)
def test_wrong_users_are_refused_with_the_reason(tenant: Tenant, body: dict[str, Any], said: str) -> None:
    assert said in refused(400, tenant.client.post, "/v3/users", {"user": body})
    assert len(tenant.client.get("/v3/users")["users"]) == 1


def test_a_name_is_given_once_even_when_twenty_ask_at_the_same_time(tenant: Tenant) -> None:
    def make(_: int) -> int:
        try:
            tenant.client.post("/v3/users", {"user": {"name": "Highlander"}})
        except ApiFailure as failure:
            return failure.status
        return 201

    with ThreadPoolExecutor(20) as pool:
        assert sorted(pool.map(make, range(20))) == [201] + [409] * 19


def test_membership_gives_and_takes_rights_at_once(tenant: Tenant) -> None:
    client, someone = tenant.client, tenant.user()
    group = client.post("/v3/groups", {"group": {"name": "开发人员组", "description": "developers"}})["group"]
    role = next(r for r in client.get("/v3/roles")["roles"] if r["display_name"] == "Security Administrator")
    client.put(f"/v3/domains/{tenant.account_id}/groups/{group['id']}/roles/{role['id']}")
    member = f"/v3/groups/{group['id']}/users/{someone.user_id}"
    refused(404, client.request, "HEAD", member)
    refused(403, someone.client.get, "/v3/users")
    client.put(member)
    client.put(member)
    assert client.request("HEAD", member).status_code == 204
    assert {u["id"] for u in client.get(f"/v3/groups/{group['id']}/users")["users"]} == {someone.user_id}
    assert group["id"] in {g["id"] for g in someone.client.get(f"/v3/users/{someone.user_id}/groups")["groups"]}
    assert someone.client.get("/v3/users")["users"]
    client.delete(member)
    refused(403, someone.client.get, "/v3/users")
    refused(404, client.delete, member)
    client.put(member)
    client.delete(f"/v3/groups/{group['id']}")
    refused(403, someone.client.get, "/v3/users")
    refused(404, client.get, f"/v3/groups/{group['id']}")


def test_two_access_keys_a_user_each_secret_shown_once(running: RunningPlatform, tenant: Tenant) -> None:
    user_id = tenant.client.post("/v3/users", {"user": {"name": "robot"}})["user"]["id"]
    body = {"credential": {"user_id": user_id, "description": "ci"}}

    def make(_: int) -> dict[str, Any] | int:
        try:
            made: dict[str, Any] = tenant.client.post(KEYS, body)["credential"]
        except ApiFailure as failure:
            return failure.status
        return made

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(make, range(8)))
    keys = [key for key in made if isinstance(key, dict)]
    assert len(keys) == 2
    assert made.count(403) == 6
    robot = Client(running.url, tenant.project_id, keys[0]["access"], keys[0]["secret"])
    assert robot.get("/v1/whoami")["user_name"] == "robot"
    listed = robot.get(KEYS)["credentials"]
    assert {key["access"] for key in listed} == {key["access"] for key in keys}
    assert not any("secret" in key for key in listed)
    assert robot.get(f"{KEYS}/{keys[1]['access']}")["credential"]["description"] == "ci"

    tenant.client.put(f"{KEYS}/{keys[0]['access']}", {"credential": {"status": "inactive"}})
    refused(401, robot.get, "/v1/whoami")
    tenant.client.put(f"{KEYS}/{keys[0]['access']}", {"credential": {"status": "active"}})
    robot.delete(f"{KEYS}/{keys[1]['access']}")
    robot.delete(f"{KEYS}/{keys[0]['access']}")
    refused(401, robot.get, "/v1/whoami")


def test_own_keys_are_ones_own_business_others_are_not(tenant: Tenant) -> None:
    alice, bob = tenant.user(), tenant.user()
    deny = {"Version": "1.1", "Statement": [{"Effect": "Deny", "Action": ["iam:credentials:*"]}]}
    held = tenant.user([deny])
    made = alice.client.post(KEYS, {"credential": {"user_id": alice.user_id}})["credential"]
    refused(403, bob.client.get, f"{KEYS}/{made['access']}")
    refused(403, bob.client.delete, f"{KEYS}/{made['access']}")
    refused(403, bob.client.post, KEYS, {"credential": {"user_id": alice.user_id}})
    refused(403, bob.client.get, KEYS, {"user_id": alice.user_id})
    assert "Deny" in refused(403, held.client.post, KEYS, {"credential": {"user_id": held.user_id}})


def test_an_administrator_cannot_become_the_account(tenant: Tenant) -> None:
    allow = {"Version": "1.1", "Statement": [{"Effect": "Allow", "Action": ["iam:*:*"]}]}
    admin = tenant.user([allow])
    root = tenant.account_id
    refused(403, admin.client.post, KEYS, {"credential": {"user_id": root}})
    refused(403, admin.client.delete, f"{KEYS}/{tenant.access_key}")
    refused(403, admin.client.put, f"{KEYS}/{tenant.access_key}", {"credential": {"status": "inactive"}})
    for change in ({"password": "blue-Whale-7"}, {"enabled": False}, {"name": "other"}):
        refused(403, admin.client.request, "PATCH", f"/v3/users/{root}", json={"user": change})
    refused(409, admin.client.delete, f"/v3/users/{root}")
    refused(403, admin.client.post, "/v3/domains", {"domain": {"name": "mine-too", "password": "blue-Whale-7"}})


def test_further_accounts_are_made_by_the_operator_and_start_with_an_admin_group(
    running: RunningPlatform, operator: Client, tenant: Tenant, login: Callable[..., httpx.Response]
) -> None:
    name = f"dept-{uuid.uuid4().hex[:8]}"
    body = {"domain": {"name": name, "password": "blue-Whale-7"}}
    refused(403, tenant.client.post, "/v3/domains", body)
    account = operator.post("/v3/domains", body)["domain"]
    refused(409, operator.post, "/v3/domains", body)
    assert account["id"] in {d["id"] for d in operator.get("/v3/domains")["domains"]}
    assert [d["id"] for d in tenant.client.get("/v3/domains")["domains"]] == [tenant.account_id]
    token = login(name, name, "blue-Whale-7").headers["X-Subject-Token"]
    root = Client(running.url, "-", token=token)
    [project] = root.get("/v3/projects")["projects"]
    [group] = root.get("/v3/groups")["groups"]
    assert group["name"] == "admin"
    granted = root.get(f"/v3/domains/{account['id']}/groups/{group['id']}/roles")["roles"]
    assert {r["display_name"] for r in granted} == {"Security Administrator", "Tenant Administrator"}
    refused(409, root.delete, f"/v3/groups/{group['id']}")
    user = root.post("/v3/users", {"user": {"name": "chief", "password": "green-Whale-8"}})["user"]
    root.put(f"/v3/groups/{group['id']}/users/{user['id']}")
    chief = Client(running.url, project["id"], token=login(name, "chief", "green-Whale-8").headers["X-Subject-Token"])
    assert chief.get("/v3/users")["users"]
    assert chief.get("/v1/{project_id}/workspaces")["total_count"] == 1
    refused(403, chief.get, f"/v1/{tenant.project_id}/workspaces")


def test_projects_isolate_and_are_listed_to_those_who_have_rights_there(
    running: RunningPlatform, tenant: Tenant, member: Member, login: Callable[..., httpx.Response]
) -> None:
    client = tenant.client
    project = client.post("/v3/projects", {"project": {"name": "research", "description": "r"}})["project"]
    child = client.post("/v3/projects", {"project": {"name": "research_a", "parent_id": project["id"]}})["project"]
    assert (project["parent_id"], child["parent_id"]) == (tenant.account_id, project["id"])
    assert len(client.get("/v3/projects", {"name": "research"})["projects"]) == 1
    assert {p["name"] for p in client.get("/v3/projects")["projects"]} == {"local-1", "research", "research_a"}
    refused(409, client.post, "/v3/projects", {"project": {"name": "research"}})
    refused(400, client.post, "/v3/projects", {"project": {"name": "x", "parent_id": child["id"]}})
    refused(400, client.post, "/v3/projects", {"project": {"name": "no/slash"}})

    someone = member(system=("ModelArts FullAccess",), project_id=project["id"])
    token = login(someone["account"], someone["user"], someone["password"]).headers["X-Subject-Token"]
    there = Client(running.url, project["id"], token=token)
    assert [p["name"] for p in there.get("/v3/projects")["projects"]] == ["research"]
    assert [p["name"] for p in there.get("/v3/auth/projects")["projects"]] == ["research"]
    assert [w["name"] for w in there.get("/v1/{project_id}/workspaces")["workspaces"]] == ["default"]
    refused(403, there.get, f"/v1/{tenant.project_id}/workspaces")
    nobody = tenant.user()
    assert nobody.client.get("/v3/projects")["projects"] == []

    refused(409, client.delete, f"/v3/projects/{project['id']}")
    client.delete(f"/v3/projects/{child['id']}")
    client.delete(f"/v3/projects/{project['id']}")
    refused(404, client.get, f"/v3/projects/{project['id']}")
    refused(403, there.get, "/v1/{project_id}/workspaces")


def test_the_vendors_client_finds_the_project_of_a_region(tenant: Tenant) -> None:
    # sdk_spec §1.1: exactly one element, asked for by the region's name.
    [project] = tenant.client.get("/v3/projects", {"name": "local-1"})["projects"]
    assert project["id"] == tenant.project_id


def test_strangers_find_nothing_and_change_nothing(tenant: Tenant, stranger: Tenant) -> None:
    client = tenant.client
    user = client.post("/v3/users", {"user": {"name": "James"}})["user"]["id"]
    group = client.post("/v3/groups", {"group": {"name": "team"}})["group"]["id"]
    project = client.post("/v3/projects", {"project": {"name": "research"}})["project"]["id"]
    document = {"Version": "1.1", "Statement": [{"Effect": "Allow", "Action": ["modelarts:*:*"]}]}
    role = client.post("/v3.0/OS-ROLE/roles", {"role": {"display_name": "mine", "policy": document}})["role"]["id"]
    other = stranger.client
    own_group = other.post("/v3/groups", {"group": {"name": "team"}})["group"]["id"]
    for path in (f"/v3/users/{user}", f"/v3/groups/{group}", f"/v3/projects/{project}", f"/v3/roles/{role}"):
        refused(404, other.get, path)
    for path in (f"/v3/users/{user}", f"/v3/groups/{group}", f"/v3/projects/{project}", f"/v3.0/OS-ROLE/roles/{role}"):
        refused(404, other.delete, path)
    refused(404, other.request, "PATCH", f"/v3/users/{user}", json={"user": {"enabled": False}})
    refused(404, other.put, f"/v3/groups/{own_group}/users/{user}")
    refused(404, other.put, f"/v3/groups/{group}/users/{stranger.user_id}")
    refused(404, other.put, f"/v3/projects/{project}/groups/{own_group}/roles/{role}")
    refused(403, other.put, f"/v3/domains/{tenant.account_id}/groups/{own_group}/roles/{role}")
    refused(404, other.put, f"/v3/domains/{stranger.account_id}/groups/{own_group}/roles/{role}")
    refused(404, other.get, KEYS, {"user_id": user})
    refused(404, other.post, KEYS, {"credential": {"user_id": user}})
    refused(404, other.delete, f"{KEYS}/{tenant.access_key}")
    refused(403, other.post, "/v3/users", {"user": {"name": "spy", "domain_id": tenant.account_id}})
    refused(403, other.get, "/v3/roles", {"domain_id": tenant.account_id})
    for path, key in (("/v3/users", "users"), ("/v3/projects", "projects"), ("/v3.0/OS-ROLE/roles", "roles")):
        assert not {user, project, role} & {row["id"] for row in other.get(path)[key]}
    assert client.get(f"/v3/users/{user}")["user"]["enabled"] is True
