"""The vendor's own client manages projects, quotas and the account's rules of security (huaweicloudsdkiam v3)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest

from bottega.context import move_clock
from bottega.testing import Tenant

GONE, FORBIDDEN, WRONG, TAKEN = "ModelArts.0104", "ModelArts.0103", "ModelArts.0101", "ModelArts.0105"
UNSUPPORTED, DAY_MS = "ModelArts.0112", 86_400_000
EVERYTHING = {"Version": "1.1", "Statement": [{"Effect": "Allow", "Action": ["iam:*:*"]}]}


@pytest.fixture
def stranger_iam(iam_of: Callable[..., Any], stranger: Tenant) -> Any:
    return iam_of(stranger)


@pytest.fixture
def later() -> Iterator[Callable[[int], None]]:
    """Let so many milliseconds pass; they are taken back after the test."""
    moved = 0

    def pass_by(ms: int) -> None:
        nonlocal moved
        moved += ms
        move_clock(ms)

    yield pass_by
    move_clock(-moved)


class Person:
    """A user with a password, and its logins."""

    def __init__(self, iam: Any, tenant: Tenant, name: str, password: str) -> None:
        self.iam, self.tenant, self.name, self.password = iam, tenant, name, password
        self.id = iam.keystone_create_user(body={"user": {"name": name, "password": password}}).user.id

    def body(self, password: str | None = None) -> dict[str, Any]:
        who = {"name": self.name, "password": password or self.password, "domain": {"name": self.tenant.name}}
        return {"auth": {"identity": {"methods": ["password"], "password": {"user": who}}}}

    def login(self) -> Any:
        return self.iam.keystone_create_user_token_by_password(body=self.body())

    def cannot(self, status: int, code: str, password: str | None = None) -> str:
        body = self.body(password)
        return str(self.iam.refused(status, code, "keystone_create_user_token_by_password", body=body))


@pytest.fixture
def person(iam: Any, tenant: Tenant) -> Person:
    return Person(iam, tenant, "Joan", "blue-Whale-7")


def test_projects_and_sub_projects(iam: Any, stranger_iam: Any, tenant: Tenant) -> None:
    body = {"project": {"name": "local-1_research", "description": "r", "parent_id": tenant.project_id}}
    project = iam.keystone_create_project(body=body).project
    assert (project.parent_id, project.domain_id, project.enabled) == (tenant.project_id, tenant.account_id, True)
    iam.refused(409, TAKEN, "keystone_create_project", body=body)
    below = {"project": {"name": "deeper", "parent_id": project.id}}
    iam.refused(400, WRONG, "keystone_create_project", body=below)
    assert {p.id for p in iam.keystone_list_projects().projects} == {tenant.project_id, project.id}
    assert [p.id for p in iam.keystone_list_projects(parent_id=tenant.project_id).projects] == [project.id]
    assert [p.id for p in iam.keystone_list_projects(name="local-1_research", enabled=True).projects] == [project.id]
    assert [p.id for p in iam.keystone_list_projects(page=2, per_page=1).projects] == [project.id]
    assert iam.keystone_list_projects(is_domain=True).projects == []
    change = {"project": {"name": "local-1_lab", "description": "lab"}}
    assert iam.keystone_update_project(project_id=project.id, body=change).project.description == "lab"
    assert iam.keystone_show_project(project_id=project.id).project.name == "local-1_lab"
    assert iam.show_project_details_and_status(project_id=project.id).project.status == "normal"
    suspend = {"project": {"status": "suspended"}}
    for operation, more in (
        ("keystone_show_project", {}),
        ("keystone_update_project", {"body": change}),
        ("show_project_details_and_status", {}),
        ("update_project_status", {"body": suspend}),
        ("show_project_quota", {}),
    ):
        stranger_iam.refused(404, GONE, operation, project_id=project.id, **more)
    iam.update_project_status(project_id=project.id, body=suspend)
    assert iam.show_project_details_and_status(project_id=project.id).project.status == "suspended"
    assert iam.keystone_show_project(project_id=project.id).project.enabled is False


def test_quotas(iam: Any, iam_of: Callable[..., Any], tenant: Tenant) -> None:
    def used(kind: str) -> int:
        [row] = iam.show_domain_quota(domain_id=tenant.account_id, type=kind).quotas.resources
        assert row.type == kind
        assert row.max == row.quota > row.used
        return int(row.used)

    kinds = {row.type for row in iam.show_domain_quota(domain_id=tenant.account_id).quotas.resources}
    assert {"user", "group", "agency", "policy", "project"} <= kinds
    before = used("user"), used("agency")
    iam.keystone_create_user(body={"user": {"name": "one"}})
    iam.create_agency(body={"agency": {"name": "one", "trust_domain_name": "op_svc_modelarts"}})
    assert (used("user"), used("agency")) == (before[0] + 1, before[1] + 1)
    [row] = iam.show_project_quota(project_id=tenant.project_id).quotas.resources
    assert (row.type, row.used) == ("project", 1)
    iam.refused(400, WRONG, "show_domain_quota", domain_id=tenant.account_id, type="idp")
    iam_of(tenant.user()).refused(403, FORBIDDEN, "show_domain_quota", domain_id=tenant.account_id)


def test_the_password_policy_holds_for_every_new_password(
    iam: Any, iam_of: Callable[..., Any], stranger_iam: Any, tenant: Tenant
) -> None:
    at = {"domain_id": tenant.account_id}
    policy = iam.show_domain_password_policy(**at).password_policy
    assert (policy.minimum_password_length, policy.password_char_combination) == (8, 2)
    rules = {
        "minimum_password_length": 12,
        "password_char_combination": 3,
        "maximum_consecutive_identical_chars": 2,
        "number_of_recent_passwords_disallowed": 3,
        "password_not_username_or_invert": True,
    }
    changed = iam.update_domain_password_policy(**at, body={"password_policy": rules}).password_policy
    assert (changed.minimum_password_length, changed.maximum_password_length) == (12, 128)
    assert "12 to 128" in changed.password_requirements
    compliance = iam.keystone_show_security_compliance(**at).config.security_compliance
    assert compliance.password_regex_description == changed.password_requirements
    option = iam.keystone_show_security_compliance_by_option(**at, option="password_regex").config
    assert option.password_regex == compliance.password_regex
    assert re.match(option.password_regex, "Aa1aaaaaaaaa")
    assert not re.match(option.password_regex, "aaaaaaaaaaaa")
    for password, said in (
        ("short-Aa1", "12 to 128"),
        ("only-lower-case-here", "at least three"),
        ("aaa-Whale-0000", "more than 2"),
        ("xx-James-0-xx", "name"),
        ("xx-semaJ-0-xx", "name"),
    ):
        body = {"user": {"name": "James", "password": password}}
        assert said in iam.refused(400, WRONG, "keystone_create_user", body=body)
    person = Person(iam, tenant, "James", "first-Whale-17")
    used = ["first-Whale-17", "second-Whale-2", "third-Whale-34"]
    for new in used[1:]:
        iam.keystone_update_user_by_admin(user_id=person.id, body={"user": {"password": new}})
    for old in used:
        again = {"user": {"password": old}}
        assert "last 3" in iam.refused(400, WRONG, "keystone_update_user_by_admin", user_id=person.id, body=again)
    iam.keystone_update_user_by_admin(user_id=person.id, body={"user": {"password": "fourth-Whale-4"}})
    iam.keystone_update_user_by_admin(user_id=person.id, body={"user": {"password": used[0]}})
    too_weak = {"password_policy": {"minimum_password_length": 2}}
    iam.refused(400, WRONG, "update_domain_password_policy", **at, body=too_weak)
    stranger_iam.refused(403, FORBIDDEN, "show_domain_password_policy", domain_id=tenant.account_id)
    nobody = iam_of(tenant.user())
    nobody.refused(403, FORBIDDEN, "update_domain_password_policy", **at, body={"password_policy": rules})


def test_a_password_ages(
    iam: Any, iam_of: Callable[..., Any], tenant: Tenant, person: Person, later: Callable[[int], None]
) -> None:
    at = {"domain_id": tenant.account_id}
    rules = {"password_validity_period": 30, "minimum_password_age": 60}
    iam.update_domain_password_policy(**at, body={"password_policy": rules})
    made = person.login()
    assert made.token.user.password_expires_at > made.token.issued_at
    mine = iam_of(made.x_subject_token)
    soon = {"user": {"password": "green-Whale-8", "original_password": person.password}}
    assert "60 minutes" in mine.refused(400, WRONG, "keystone_update_user_password", user_id=person.id, body=soon)
    expiring = "lt:" + made.token.user.password_expires_at
    assert iam.keystone_list_users(password_expires_at=expiring).users == []
    assert person.id in {u.id for u in iam.keystone_list_users(password_expires_at=expiring.replace("lt", "lte")).users}
    later(31 * DAY_MS)
    # An old password is good for one thing: to set a new one.
    mine = iam_of(person.login().x_subject_token)
    mine.refused(403, FORBIDDEN, "keystone_create_group", body={"group": {"name": "g"}})
    mine.keystone_update_user_password(user_id=person.id, body=soon)
    person.password = "green-Whale-8"
    mine = iam_of(person.login().x_subject_token)
    assert mine.keystone_show_user(user_id=person.id).user.pwd_status is False
    iam.keystone_update_user_by_admin(user_id=person.id, body={"user": {"pwd_status": True}})
    forced = iam_of(person.login().x_subject_token)
    new = {"user": {"password": "white-Whale-9", "original_password": person.password}}
    forced.refused(403, FORBIDDEN, "create_permanent_access_key", body={"credential": {"user_id": person.id}})
    forced.keystone_update_user_password(user_id=person.id, body=new)
    assert iam.keystone_show_user(user_id=person.id).user.pwd_status is False


def test_wrong_passwords_lock_a_login_for_as_long_as_the_policy_says(
    iam: Any, tenant: Tenant, person: Person, later: Callable[[int], None]
) -> None:
    at = {"domain_id": tenant.account_id}
    policy = iam.show_domain_login_policy(**at).login_policy
    assert (policy.login_failed_times, policy.lockout_duration, policy.period_with_login_failures) == (5, 15, 15)
    rules = {"login_failed_times": 3, "lockout_duration": 30, "session_timeout": 90, "account_validity_period": 10}
    changed = iam.update_domain_login_policy(**at, body={"login_policy": rules}).login_policy
    assert (changed.login_failed_times, changed.session_timeout, changed.custom_info_for_login) == (3, 90, "")
    for _ in range(3):
        person.cannot(401, "APIGW.0301", "wrong-Whale-1")
    assert "30 more minutes" in person.cannot(429, "ModelArts.0107")
    later(29 * 60_000)
    person.cannot(429, "ModelArts.0107")
    later(2 * 60_000)
    token = person.login().token
    lives = datetime.fromisoformat(token.expires_at) - datetime.fromisoformat(token.issued_at)
    assert round(lives.total_seconds()) == 90 * 60
    assert iam.show_user(user_id=person.id).user.last_login_time
    later(11 * DAY_MS)
    assert "10 days" in person.cannot(403, FORBIDDEN)
    iam.keystone_update_user_by_admin(user_id=person.id, body={"user": {"password": "green-Whale-8"}})
    person.password = "green-Whale-8"
    person.login()
    iam.refused(400, WRONG, "update_domain_login_policy", **at, body={"login_policy": {"lockout_duration": 1}})


def test_addresses_for_the_api_and_for_logins(
    iam: Any, iam_of: Callable[..., Any], tenant: Tenant, person: Person
) -> None:
    at = {"domain_id": tenant.account_id}
    token = person.login().x_subject_token
    mine = iam_of(token)
    assert iam.show_domain_api_acl_policy(**at).api_acl_policy.allow_ip_ranges == []
    elsewhere = {"allow_ip_ranges": [{"ip_range": "10.0.0.1-10.0.0.9", "description": "office"}]}
    changed = iam.update_domain_api_acl_policy(**at, body={"api_acl_policy": elsewhere}).api_acl_policy
    assert changed.allow_ip_ranges[0].description == "office"
    assert "127.0.0.1" in mine.refused(403, FORBIDDEN, "keystone_show_user", user_id=person.id)
    by_key = iam_of(tenant.user([EVERYTHING]))
    by_key.refused(403, FORBIDDEN, "keystone_list_users")
    here = elsewhere | {"allow_address_netmasks": [{"address_netmask": "127.0.0.0/8", "description": "here"}]}
    iam.update_domain_api_acl_policy(**at, body={"api_acl_policy": here})
    assert mine.keystone_show_user(user_id=person.id).user.id == person.id
    assert by_key.keystone_list_users().users

    person.login()
    iam.update_domain_console_acl_policy(**at, body={"console_acl_policy": elsewhere})
    assert iam.show_domain_console_acl_policy(**at).console_acl_policy.allow_ip_ranges[0].ip_range
    assert "127.0.0.1" in person.cannot(403, FORBIDDEN)
    person.cannot(401, "APIGW.0301", "wrong-Whale-1")
    nowhere: dict[str, Any] = {"allow_ip_ranges": [], "allow_address_netmasks": []}
    iam.update_domain_console_acl_policy(**at, body={"console_acl_policy": nowhere})
    person.login()
    for wrong in ("10.0.0.9-10.0.0.1", "300.0.0.1", "10.0.0.1-fe80::1", "x"):
        body = {"api_acl_policy": {"allow_ip_ranges": [{"ip_range": wrong, "description": ""}]}}
        iam.refused(400, WRONG, "update_domain_api_acl_policy", **at, body=body)
    body = {"api_acl_policy": {"allow_vpc_endpoints": [{"vpc_endpoint_id": "x", "description": ""}]}}
    iam.refused(400, UNSUPPORTED, "update_domain_api_acl_policy", **at, body=body)


def test_what_users_may_change_themselves(iam: Any, iam_of: Callable[..., Any], tenant: Tenant, person: Person) -> None:
    at = {"domain_id": tenant.account_id}
    assert iam.show_domain_protect_policy(**at).protect_policy.allow_user.manage_password is True
    allow = {"manage_accesskey": False, "manage_email": False, "manage_mobile": True, "manage_password": False}
    policy = {"operation_protection": False, "allow_user": allow}
    changed = iam.update_domain_protect_policy(**at, body={"protect_policy": policy}).protect_policy
    assert changed.allow_user.manage_accesskey is False
    mine = iam_of(person.login().x_subject_token)
    key = {"credential": {"user_id": person.id, "description": ""}}
    assert "manage_accesskey" in mine.refused(403, FORBIDDEN, "create_permanent_access_key", body=key)
    new = {"user": {"password": "green-Whale-8", "original_password": person.password}}
    assert "manage_password" in mine.refused(
        403, FORBIDDEN, "keystone_update_user_password", user_id=person.id, body=new
    )
    mail = {"user": {"email": "joan@example.org"}}
    mine.refused(403, FORBIDDEN, "update_user_information", user_id=person.id, body=mail)
    mine.update_user_information(user_id=person.id, body={"user": {"mobile": "0049-151"}})
    assert mine.show_user(user_id=person.id).user.phone == "151"
    assert iam.create_permanent_access_key(body=key).credential.access
    protected = {"protect_policy": {"operation_protection": True}}
    iam.refused(400, UNSUPPORTED, "update_domain_protect_policy", **at, body=protected)


def test_login_protection_is_off_and_cannot_be_pretended(
    iam: Any, stranger_iam: Any, iam_of: Callable[..., Any], tenant: Tenant, person: Person
) -> None:
    listed = {row.user_id: row.enabled for row in iam.list_user_login_protects().login_protects}
    assert listed == {tenant.account_id: False, person.id: False}
    assert iam.show_user_login_protect(user_id=person.id).login_protect.enabled is False
    off = {"login_protect": {"enabled": False, "verification_method": "email"}}
    assert iam.update_login_protect(user_id=person.id, body=off).login_protect.user_id == person.id
    on = {"login_protect": {"enabled": True, "verification_method": "vmfa"}}
    iam.refused(400, UNSUPPORTED, "update_login_protect", user_id=person.id, body=on)
    stranger_iam.refused(404, GONE, "show_user_login_protect", user_id=person.id)
    iam_of(tenant.user()).refused(403, FORBIDDEN, "list_user_login_protects")
