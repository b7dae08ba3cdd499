"""Users, grants, agencies and the lock of logins, on each database, over a restart, and with bad input."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bottega.client import ApiFailure, Client
from bottega.context import move_clock
from bottega.errors import Invalid
from bottega.testing import RunningPlatform, Tenant
from bottega_billing_iam.iam.names import check_name

PASSWORD = "correct-Horse-1"
LIST_USERS = {"Version": "1.1", "Statement": [{"Effect": "Allow", "Action": ["iam:users:listUsers"]}]}
ASSUME = {"Version": "1.1", "Statement": [{"Effect": "Allow", "Action": ["iam:agencies:assume"]}]}
AGENCIES = "/v3.0/OS-AGENCY"


@pytest.fixture(scope="module")
def house(each_database: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    with RunningPlatform(tmp_path_factory.mktemp("house"), each_database) as platform:
        yield platform


def ask(url: str, account: str, user: str, password: str) -> httpx.Response:
    who = {"name": user, "password": password, "domain": {"name": account}}
    identity = {"methods": ["password"], "password": {"user": who}}
    return httpx.post(f"{url}/v3/auth/tokens", json={"auth": {"identity": identity}}, timeout=60)


def refused(status: int, call: Callable[..., Any], *arguments: Any, **more: Any) -> str:
    with pytest.raises(ApiFailure) as failure:
        call(*arguments, **more)
    assert failure.value.status == status, failure.value
    return failure.value.message


def new_role(tenant: Tenant, document: dict[str, Any]) -> str:
    role = {"display_name": f"role-{tenant.user_id[:8]}", "policy": document}
    return str(tenant.client.post("/v3.0/OS-ROLE/roles", {"role": role})["role"]["id"])


def test_a_user_its_group_and_grants(house: RunningPlatform) -> None:
    tenant = house.tenant()
    client, someone = tenant.client, tenant.user()
    role, group = new_role(tenant, LIST_USERS), client.post("/v3/groups", {"group": {"name": "staff"}})["group"]["id"]
    client.put(f"/v3/groups/{group}/users/{someone.user_id}")
    for place in (f"domains/{tenant.account_id}", f"projects/{tenant.project_id}"):
        path = f"/v3/{place}/groups/{group}/roles/{role}"
        client.put(path)
        client.put(path)
        assert client.request("HEAD", path).status_code == 204
    assert someone.client.get("/v3/users")["users"]
    found = client.get("/v3.0/OS-PERMISSION/role-assignments", {"subject.group_id": group})
    assert found["total_num"] == 2
    assert client.get("/v3.0/OS-PERMISSION/role-assignments", {"page": 2, "per_page": 1})["total_num"] == 2
    roles = client.get("/v3/roles", {"permission_type": "role", "page": 1, "per_page": 1})
    assert roles["total_number"] == 2
    client.delete(f"/v3/groups/{group}")
    assert refused(403, someone.client.get, "/v3/users")
    client.delete(f"/v3.0/OS-ROLE/roles/{role}")


def test_personal_data_and_an_enterprise_project_of_a_deleted_user(house: RunningPlatform) -> None:
    tenant = house.tenant()
    client = tenant.client
    asked = {"name": "Ada", "email": "ada@example.org", "areacode": "0044", "phone": "207", "password": PASSWORD}
    user = client.post("/v3.0/OS-USER/users", {"user": asked})["user"]["id"]
    assert client.get(f"/v3.0/OS-USER/users/{user}")["user"]["email"] == "ada@example.org"
    place = client.post("/v1.0/enterprise-projects", {"name": "retail"})["enterprise_project"]["id"]
    role = new_role(tenant, LIST_USERS)
    grant = f"/v3.0/OS-PERMISSION/enterprise-projects/{place}/users/{user}/roles/{role}"
    client.put(grant)
    ask(house.url, tenant.name, "Ada", "wrong-Horse-1")
    client.request("PATCH", f"/v3/users/{user}", json={"user": {"password": "another-Horse-2"}})
    client.delete(f"/v3/users/{user}")
    assert refused(404, client.get, f"/v3.0/OS-USER/users/{user}")
    client.delete(f"/v3.0/OS-ROLE/roles/{role}")
    off = f"/v1.0/enterprise-projects/{place}"
    client.post(f"{off}/action", {"action": "disable"})
    assert client.get(off)["enterprise_project"]["status"] == 2
    someone, role = tenant.user(), new_role(tenant, LIST_USERS)
    assert "disabled" in refused(409, client.put, grant.replace(user, someone.user_id).rpartition("/")[0] + f"/{role}")
    listed = client.get("/v1.0/enterprise-projects")
    assert ([row["id"] for row in listed["enterprise_projects"]], listed["total_count"]) == (["0", place], 2)
    second = client.get("/v1.0/enterprise-projects", {"offset": 1, "limit": 1})
    assert ([row["id"] for row in second["enterprise_projects"]], second["total_count"]) == ([place], 2)
    assert refused(409, client.put, off.replace(place, "0"), {"name": "other"})
    assert refused(404, house.tenant().client.get, off)


def test_an_agency_ends_at_once_with_its_time_its_trust_and_itself(house: RunningPlatform) -> None:
    giver, taker = house.tenant(), house.tenant()
    helper = taker.user([ASSUME])
    body = {"name": "help", "trust_domain_name": taker.name, "duration": "ONEDAY"}
    agency = giver.client.post(f"{AGENCIES}/agencies", {"agency": body})["agency"]["id"]
    role = new_role(giver, LIST_USERS)
    giver.client.put(f"{AGENCIES}/domains/{giver.account_id}/agencies/{agency}/roles/{role}")
    claim = {"agency_name": "help", "domain_name": giver.name}
    asked = {"auth": {"identity": {"methods": ["assume_role"], "assume_role": claim}}}

    def token() -> Client:
        made = helper.client.request("POST", "/v3/auth/tokens", json=asked)
        return Client(house.url, giver.project_id, token=made.headers["X-Subject-Token"])

    acting = token()
    assert {u["id"] for u in acting.get("/v3/users")["users"]} == {giver.user_id}
    assert "another agency" in refused(403, acting.request, "POST", "/v3/auth/tokens", json=asked)
    key = {"credential": {"user_id": helper.user_id}}
    assert refused(404, acting.post, "/v3.0/OS-CREDENTIAL/credentials", key)
    # Each trusts the other: still no chain.
    back = {"name": "back", "trust_domain_name": giver.name}
    taker.client.post(f"{AGENCIES}/agencies", {"agency": back})
    circle = {"auth": {"identity": {"methods": ["assume_role"], "assume_role": {"agency_name": "back"}}}}
    circle["auth"]["identity"]["assume_role"]["domain_name"] = taker.name  # type: ignore[index]
    assert "another agency" in refused(403, acting.request, "POST", "/v3/auth/tokens", json=circle)
    move_clock(86_400_000)
    try:
        assert refused(401, acting.get, "/v3/users")
        assert refused(404, helper.client.request, "POST", "/v3/auth/tokens", json=asked)
    finally:
        move_clock(-86_400_000)
    acting = token()
    giver.client.put(f"{AGENCIES}/agencies/{agency}", {"agency": {"trust_domain_name": "op_svc_modelarts"}})
    assert refused(401, acting.get, "/v3/users")
    giver.client.delete(f"{AGENCIES}/agencies/{agency}")
    giver.client.delete(f"/v3.0/OS-ROLE/roles/{role}")


def test_guesses_at_the_same_time_lock_a_login(house: RunningPlatform) -> None:
    tenant = house.tenant()
    for name in ("Joan", "James"):
        tenant.client.post("/v3/users", {"user": {"name": name, "password": PASSWORD}})
    with ThreadPoolExecutor(8) as pool:
        tries = pool.map(lambda _: ask(house.url, tenant.name, "Joan", "wrong-Horse-1").status_code, range(8))
        assert sorted(tries) == [401] * 5 + [429] * 3
        logins = pool.map(lambda _: ask(house.url, tenant.name, "James", PASSWORD).status_code, range(8))
        assert set(logins) == {201}
    assert ask(house.url, tenant.name, "Joan", PASSWORD).status_code == 429


def test_a_quota_is_not_passed_by_creations_at_the_same_time(house: RunningPlatform) -> None:
    tenant = house.tenant()

    async def limit() -> None:
        from bottega.entities import QuotaLimit

        async with house.runtime.platform.database.transaction() as tx:
            tx.session.add(QuotaLimit(account_id=tenant.account_id, plugin="iam", kind="group", maximum=3))

    house.run(limit())

    def make(n: int) -> int:
        try:
            tenant.client.post("/v3/groups", {"group": {"name": f"g{n}"}})
        except ApiFailure as failure:
            return failure.status
        return 201

    with ThreadPoolExecutor(12) as pool:
        assert sorted(pool.map(make, range(12))) == [201] * 3 + [403] * 9


def test_a_lock_and_wrong_logins_outlive_a_restart(tmp_path: Any) -> None:
    with RunningPlatform(tmp_path) as first:
        tenant = first.tenant()
        tenant.client.post("/v3/users", {"user": {"name": "Joan", "password": PASSWORD}})
        for _ in range(4):
            assert ask(first.url, tenant.name, "Joan", "wrong-Horse-1").status_code == 401
    with RunningPlatform(tmp_path) as second:
        assert ask(second.url, tenant.name, "Joan", "wrong-Horse-1").status_code == 401
        assert ask(second.url, tenant.name, "Joan", PASSWORD).status_code == 429


# -- bad input ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("group", "p\u0430ypal"),  # a Cyrillic а among Latin letters
        ("group", "\u0440\u0430\u0443"),  # Cyrillic letters that all look Latin
        ("group", "\u03bf\u03bd"),  # Greek ones
        ("group", "ad\u200bmin"),  # a zero width space
        ("group", "admin\u202e"),  # a right-to-left override
        ("agency", "a\x00b"),
        ("policy", "line\nbreak"),
        ("enterprise project", "\ud800"),
        ("user", "\u0410dmin"),
    ],
)
def test_names_that_look_like_others_are_refused(kind: str, name: str) -> None:
    with pytest.raises(Invalid, match="name"):
        check_name(kind, name)


@pytest.mark.parametrize(
    "name", ["开发人员组", "ModelArts 管理员", "Отдел продаж", "Über-Gruppe", "データ team 7", "한국팀"]
)
def test_names_in_ones_own_script_are_taken(name: str) -> None:
    assert check_name("group", name) == name


def test_full_width_letters_become_the_plain_ones() -> None:
    assert check_name("group", "ａｄｍｉｎｓ") == "admins"


@given(st.text(min_size=1, max_size=40))
def test_a_name_that_is_taken_is_taken_again_as_it_is(name: str) -> None:
    try:
        taken = check_name("group", name)
    except Invalid:
        return
    assert check_name("group", taken) == taken


def test_a_policy_of_100_kb_is_refused_with_the_limit(tenant: Tenant) -> None:
    big = {"Version": "1.1", "Statement": [{"Effect": "Allow", "Action": [f"obs:bucket:Get{n}" for n in range(7000)]}]}
    assert len(json.dumps(big)) > 100_000
    path, role = "/v3.0/OS-ROLE/roles", {"display_name": "big", "policy": big}
    assert "at most 6144" in refused(400, tenant.client.post, path, {"role": role})
    assert tenant.client.get(path)["total_number"] == 0


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v3/auth/tokens", {"auth": {"identity": {"methods": ["password"]}}}),
        ("POST", "/v3/auth/tokens", {"auth": {"identity": {"methods": ["assume_role"], "assume_role": {}}}}),
        ("POST", "/v3/auth/tokens", {"auth": {"identity": {"methods": []}}}),
        ("POST", "/v3/auth/tokens", {"auth": {"identity": {"methods": ["sorcery"]}}}),
        ("PUT", "/v3.0/OS-PERMISSION/subjects/agency/scopes/enterprise-project/role-assignments", {}),
        ("POST", "/v3.0/OS-AGENCY/agencies", {"agency": {"name": "x", "duration": {"a": 1}}}),
        ("POST", "/v1.0/enterprise-projects", {"name": "default"}),
        ("POST", "/v1.0/enterprise-projects/0/action", {"action": "explode"}),
        ("GET", "/v3/users?limit=0", None),
        ("GET", "/v3/users?per_page=5", None),
        ("GET", "/v3/users?password_expires_at=soon", None),
        ("GET", "/v3/users?offset=-1", None),
    ],
)
def test_nonsense_is_refused_in_words(tenant: Tenant, method: str, path: str, body: Any) -> None:
    assert len(refused(400, tenant.client.request, method, path, json=body)) > 10


def test_tokens_and_keys_end_with_their_user(running: RunningPlatform, tenant: Tenant) -> None:
    user = tenant.client.post("/v3/users", {"user": {"name": "Joan", "password": PASSWORD}})["user"]["id"]
    token = ask(running.url, tenant.name, "Joan", PASSWORD).headers["X-Subject-Token"]
    joan = Client(running.url, tenant.project_id, token=token)
    made = joan.post("/v3.0/OS-CREDENTIAL/credentials", {"credential": {"user_id": user}})["credential"]
    by_key = Client(running.url, tenant.project_id, made["access"], made["secret"])
    header, claims, signature = token.split(".")
    other = "B" if signature[9] == "A" else "A"
    for forged in (
        f"{header}.{claims}.{signature[:9]}{other}{signature[10:]}",
        f"{header}.{claims[:-4]}AAAA.{signature}",
        f"{header}..",
    ):
        assert refused(401, Client(running.url, tenant.project_id, token=forged).get, "/v1/whoami")
    tenant.client.delete(f"/v3/users/{user}")
    for client in (joan, by_key):
        assert refused(401, client.get, "/v1/whoami")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/v3/users?name=%00", None),
        ("GET", "/v3/users/%00", None),
        ("POST", "/v3/groups", {"group": {"name": "zero", "description": "a\x00b"}}),
        ("POST", "/v3/groups", {"group": {"name": "half", "description": "\ud800"}}),
        ("GET", "/v3/users?marker=%F0%9F", None),
    ],
)
def test_what_no_database_can_hold_is_refused(house: RunningPlatform, method: str, path: str, body: Any) -> None:
    tenant = house.tenant()
    content = json.dumps(body).encode() if body is not None else None
    headers = {"Content-Type": "application/json"}
    try:
        status = tenant.client.request(method, path, content=content, headers=headers).status_code
    except ApiFailure as failure:
        status = failure.status
    assert status < 500
