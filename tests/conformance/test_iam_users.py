"""The vendor's own client manages users, groups and access keys (huaweicloudsdkiam v3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bottega.client import Client
from bottega.entities import User
from bottega.testing import RunningPlatform, Tenant

GONE, FORBIDDEN, WRONG, TAKEN = "ModelArts.0104", "ModelArts.0103", "ModelArts.0101", "ModelArts.0105"


@pytest.fixture
def stranger_iam(iam_of: Callable[..., Any], stranger: Tenant) -> Any:
    return iam_of(stranger)


def test_a_user_in_keystones_form(iam: Any, stranger_iam: Any, tenant: Tenant) -> None:
    body = {"user": {"name": "James", "domain_id": tenant.account_id, "password": "blue-Whale-7", "description": "dev"}}
    user = iam.keystone_create_user(body=body).user
    assert (user.name, user.domain_id, user.enabled, user.description) == ("James", tenant.account_id, True, "dev")
    assert user.pwd_status is False
    assert iam.keystone_show_user(user_id=user.id).user.name == "James"
    assert user.links._self.endswith(f"/v3/users/{user.id}")
    assert iam.refused(409, TAKEN, "keystone_create_user", body=body)
    listed = iam.keystone_list_users(name="James", enabled=True, domain_id=tenant.account_id)
    assert [u.id for u in listed.users] == [user.id]
    assert iam.keystone_list_users(enabled=False).users == []
    changes = {"user": {"name": "Jane", "enabled": False, "description": "ops", "pwd_status": True}}
    changed = iam.keystone_update_user_by_admin(user_id=user.id, body=changes).user
    assert (changed.name, changed.enabled, changed.description, changed.pwd_status) == ("Jane", False, "ops", True)
    for operation, more in (
        ("keystone_show_user", {}),
        ("keystone_update_user_by_admin", {"body": changes}),
        ("keystone_delete_user", {}),
        ("show_user", {}),
    ):
        stranger_iam.refused(404, GONE, operation, user_id=user.id, **more)
    iam.keystone_delete_user(user_id=user.id)
    iam.refused(404, GONE, "keystone_show_user", user_id=user.id)
    assert user.id not in {u.id for u in iam.keystone_list_users().users}


def test_a_user_with_personal_data(
    running: RunningPlatform, iam: Any, iam_of: Callable[..., Any], tenant: Tenant
) -> None:
    asked = {
        "name": "Ada",
        "domain_id": tenant.account_id,
        "email": "ada@example.org",
        "areacode": "0044",
        "phone": "2071234567",
        "access_mode": "programmatic",
        "description": "analyst",
        "enabled": True,
    }
    made = iam.create_user(body={"user": asked}).user
    for shown in (made, iam.show_user(user_id=made.id).user):
        assert (shown.email, shown.areacode, shown.phone) == ("ada@example.org", "0044", "2071234567")
        assert (shown.access_mode, shown.is_domain_owner, shown.enabled) == ("programmatic", False, True)

    async def stored() -> User:
        async with running.runtime.platform.database.read() as session:
            return await session.get_one(User, made.id)

    row = running.run(stored())
    assert row.email is not None
    assert row.phone is not None
    assert b"ada" not in row.email
    assert b"207" not in row.phone

    change = {"user": {"email": "a.lovelace@example.org", "name": "Countess", "access_mode": "default"}}
    changed = iam.update_user(user_id=made.id, body=change).user
    assert (changed.email, changed.phone, changed.name) == ("a.lovelace@example.org", "2071234567", "Countess")
    own = tenant.user()
    mine = iam_of(own)
    mine.update_user_information(user_id=own.user_id, body={"user": {"email": "me@example.org", "mobile": "0049-151"}})
    shown = mine.show_user(user_id=own.user_id).user
    assert (shown.email, shown.areacode, shown.phone) == ("me@example.org", "0049", "151")
    mine.refused(403, FORBIDDEN, "show_user", user_id=made.id)
    body = {"user": {"email": "spy@example.org"}}
    mine.refused(403, FORBIDDEN, "update_user_information", user_id=made.id, body=body)
    for wrong in ({"email": "nobody"}, {"phone": "12ab", "areacode": "0049"}, {"phone": "123"}, {"access_mode": "x"}):
        iam.refused(400, WRONG, "update_user", user_id=made.id, body={"user": wrong})
    external = {
        "user": {"name": "Eve", "domain_id": tenant.account_id, "xuser_id": "eve@ad", "xuser_type": "TenantIdp"}
    }
    assert "federation" in iam.refused(400, "ModelArts.0112", "create_user", body=external)
    assert iam.show_user(user_id=made.id).user.email == "a.lovelace@example.org"


def test_the_own_password(running: RunningPlatform, iam: Any, iam_of: Callable[..., Any], tenant: Tenant) -> None:
    user = iam.keystone_create_user(body={"user": {"name": "Joan", "password": "blue-Whale-7"}}).user
    asked = {"user": {"name": "Joan", "password": "blue-Whale-7", "domain": {"name": tenant.name}}}
    auth = {"identity": {"methods": ["password"], "password": asked}}
    token = iam.keystone_create_user_token_by_password(body={"auth": auth}).x_subject_token
    joan = iam_of(token)
    new = {"user": {"password": "green-Whale-8", "original_password": "blue-Whale-7"}}
    wrong = {"user": {"password": "green-Whale-8", "original_password": "not-this-1"}}
    joan.refused(401, "APIGW.0301", "keystone_update_user_password", user_id=user.id, body=wrong)
    joan.keystone_update_user_password(user_id=user.id, body=new)
    joan.refused(401, "APIGW.0307", "keystone_show_user", user_id=user.id)
    iam.refused(401, "APIGW.0301", "keystone_create_user_token_by_password", body={"auth": auth})
    asked["user"]["password"] = "green-Whale-8"
    assert iam.keystone_create_user_token_by_password(body={"auth": auth}).token.user.name == "Joan"


def test_groups_and_members(iam: Any, stranger_iam: Any, iam_of: Callable[..., Any], tenant: Tenant) -> None:
    group = iam.keystone_create_group(body={"group": {"name": "开发组", "description": "developers"}}).group
    assert (group.name, group.domain_id) == ("开发组", tenant.account_id)
    assert group.create_time > 1_700_000_000_000
    assert [g.id for g in iam.keystone_list_groups(name="开发组", domain_id=tenant.account_id).groups] == [group.id]
    changed = iam.keystone_update_group(group_id=group.id, body={"group": {"name": "dev", "description": "d"}}).group
    assert (changed.name, iam.keystone_show_group(group_id=group.id).group.description) == ("dev", "d")
    member = tenant.user()
    pair = {"group_id": group.id, "user_id": member.user_id}
    iam.refused(404, GONE, "keystone_remove_user_from_group", **pair)
    iam.keystone_add_user_to_group(**pair)
    iam.keystone_check_user_in_group(**pair)
    assert [u.id for u in iam.keystone_list_users_for_group_by_admin(group_id=group.id).users] == [member.user_id]
    assert group.id in {g.id for g in iam_of(member).keystone_list_groups_for_user(user_id=member.user_id).groups}
    for operation in ("keystone_show_group", "keystone_delete_group", "keystone_list_users_for_group_by_admin"):
        stranger_iam.refused(404, GONE, operation, group_id=group.id)
    stranger_iam.refused(404, GONE, "keystone_add_user_to_group", group_id=group.id, user_id=tenant.account_id)
    iam_of(member).refused(403, FORBIDDEN, "keystone_create_group", body={"group": {"name": "mine"}})
    iam.keystone_remove_user_from_group(**pair)
    with pytest.raises(Exception, match="404"):  # a HEAD has no body, thus no error code
        iam.keystone_check_user_in_group(**pair)
    iam.keystone_delete_group(group_id=group.id)
    iam.refused(404, GONE, "keystone_show_group", group_id=group.id)


def test_permanent_access_keys(running: RunningPlatform, iam: Any, iam_of: Callable[..., Any], tenant: Tenant) -> None:
    someone, other = tenant.user(), tenant.user()
    body = {"credential": {"user_id": someone.user_id, "description": "ci"}}
    key = iam.create_permanent_access_key(body=body).credential
    assert (key.user_id, key.status, key.description) == (someone.user_id, "active", "ci")
    by_key = Client(running.url, tenant.project_id, key.access, key.secret)
    assert by_key.get("/v1/whoami")["user_id"] == someone.user_id
    assert iam.show_permanent_access_key(access_key=key.access).credential.description == "ci"
    assert key.access in {c.access for c in iam_of(someone).list_permanent_access_keys().credentials}
    iam_of(other).refused(403, FORBIDDEN, "show_permanent_access_key", access_key=key.access)
    iam.refused(403, "ModelArts.0110", "create_permanent_access_key", body=body)
    off = {"credential": {"status": "inactive", "description": "off"}}
    changed = iam.update_permanent_access_key(access_key=key.access, body=off).credential
    assert (changed.status, changed.description) == ("inactive", "off")
    iam_of(Tenant(running, tenant.account_id, "-", "-", "-", key.access, key.secret)).refused(
        401, "APIGW.0301", "keystone_list_users"
    )
    iam.delete_permanent_access_key(access_key=key.access)
    iam.refused(404, GONE, "show_permanent_access_key", access_key=key.access)


def test_the_projects_of_a_user_and_long_lists(iam: Any, iam_of: Callable[..., Any], tenant: Tenant) -> None:
    mine = tenant.user()
    assert iam_of(mine).keystone_list_projects_for_user(user_id=mine.user_id).projects == []
    assert {p.id for p in iam.keystone_list_projects_for_user(user_id=tenant.user_id).projects} == {tenant.project_id}
    names = [f"u{n:02}" for n in range(7)]
    for name in names:
        iam.keystone_create_user(body={"user": {"name": name}})
    seen: list[str] = []
    page = tenant.client.get("/v3/users", {"limit": 3})
    while True:
        seen += [user["name"] for user in page["users"]]
        if page["links"]["next"] is None:
            break
        marked = tenant.client.get("/v3/users", {"limit": 3, "marker": page["users"][-1]["id"]})
        page = tenant.client.get(page["links"]["next"].removeprefix(tenant.running.url))
        assert [u["id"] for u in marked["users"]] == [u["id"] for u in page["users"]]
    assert [name for name in seen if name in names] == names
    assert len(seen) == len(set(seen)) == 9
