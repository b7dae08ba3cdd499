"""The vendor's own client makes policies and grants them to groups, agencies and users (huaweicloudsdkiam v3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bottega.testing import Tenant

GONE, FORBIDDEN, WRONG, TAKEN = "ModelArts.0104", "ModelArts.0103", "ModelArts.0101", "ModelArts.0105"
LIST_USERS = {"Version": "1.1", "Statement": [{"Effect": "Allow", "Action": ["iam:users:listUsers"]}]}


@pytest.fixture
def stranger_iam(iam_of: Callable[..., Any], stranger: Tenant) -> Any:
    return iam_of(stranger)


@pytest.fixture
def role(iam: Any) -> Any:
    """A policy that lets list users."""
    asked = {"display_name": "listers", "type": "AX", "description": "list users", "policy": LIST_USERS}
    return iam.create_cloud_service_custom_policy(body={"role": asked}).role


@pytest.fixture
def enterprise_project(tenant: Tenant) -> str:
    row = tenant.client.post("/v1.0/enterprise-projects", {"name": "retail", "description": "shops"})
    return str(row["enterprise_project"]["id"])


def group_of(iam: Any, user: Tenant) -> str:
    [group] = iam.keystone_list_groups_for_user(user_id=user.user_id).groups
    return str(group.id)


def missing(call: Callable[..., Any], **fields: Any) -> None:
    """A HEAD that finds nothing: 404 without a body."""
    with pytest.raises(Exception, match="404"):
        call(**fields)


def test_system_policies_in_parts(iam: Any) -> None:
    every = iam.keystone_list_permissions()
    assert every.total_number == len(every.roles) > 8
    first = iam.keystone_list_permissions(page=1, per_page=3)
    second = iam.keystone_list_permissions(page=2, per_page=3)
    assert [r.id for r in [*first.roles, *second.roles]] == [r.id for r in every.roles[:6]]
    assert first.total_number == every.total_number
    full = next(r for r in every.roles if r.display_name == "ModelArts FullAccess")
    assert (full.catalog, full.policy.version) == ("BASE", "1.1")
    assert full.policy.statement[0].action == ["modelarts:*:*"]
    assert iam.keystone_show_permission(role_id=full.id).role.name == "ModelArts FullAccess"
    assert {r.policy.version for r in iam.keystone_list_permissions(permission_type="role").roles} == {"1.0"}
    [named] = iam.keystone_list_permissions(display_name="CommonOper").roles
    assert [r.id for r in iam.keystone_list_permissions(name=named.name).roles] == [named.id]
    iam.refused(403, FORBIDDEN, "delete_custom_policy", role_id=full.id)
    iam.refused(400, WRONG, "keystone_list_permissions", page=1)


def test_a_custom_policy(iam: Any, stranger_iam: Any, tenant: Tenant, role: Any) -> None:
    assert (role.display_name, role.catalog, role.domain_id) == ("listers", "CUSTOMED", tenant.account_id)
    shown = iam.show_custom_policy(role_id=role.id).role
    assert (shown.policy.statement[0].action, shown.references) == (["iam:users:listUsers"], 0)
    listed = iam.list_custom_policies(page=1, per_page=10)
    assert ([r.id for r in listed.roles], listed.total_number) == ([role.id], 1)
    assert [r.id for r in iam.keystone_list_permissions(domain_id=tenant.account_id).roles] == [role.id]
    policy = {
        "Version": "1.1",
        "Statement": [{"Effect": "Deny", "Action": ["obs:*:*"], "Resource": ["obs:*:*:bucket:b"]}],
    }
    asked = {"role": {"display_name": "no storage", "type": "XA", "description": "changed", "policy": policy}}
    changed = iam.update_cloud_service_custom_policy(role_id=role.id, body=asked).role
    assert (changed.display_name, changed.policy.statement[0].effect) == ("no storage", "Deny")
    assert iam.show_custom_policy(role_id=role.id).role.policy.statement[0].resource == ["obs:*:*:bucket:b"]
    wrong = {"display_name": "x", "type": "AX", "description": "", "policy": {"Version": "1.1", "Statement": [{}]}}
    assert "Statement" in iam.refused(400, WRONG, "create_cloud_service_custom_policy", body={"role": wrong})
    twice = {"role": {"display_name": "no storage", "type": "AX", "description": "", "policy": LIST_USERS}}
    iam.refused(409, TAKEN, "create_cloud_service_custom_policy", body=twice)
    for operation in ("show_custom_policy", "delete_custom_policy", "keystone_show_permission"):
        stranger_iam.refused(404, GONE, operation, role_id=role.id)
    assert iam.delete_custom_policy(role_id=role.id).message
    iam.refused(404, GONE, "show_custom_policy", role_id=role.id)


@pytest.mark.parametrize(
    ("grant", "check", "listed", "revoke", "place"),
    [
        (
            "keystone_associate_group_with_domain_permission",
            "keystone_check_domain_permission_for_group",
            "keystone_list_domain_permissions_for_group",
            "keystone_remove_domain_permission_from_group",
            "domain",
        ),
        (
            "keystone_associate_group_with_project_permission",
            "keystone_check_project_permission_for_group",
            "keystone_list_project_permissions_for_group",
            "keystone_remove_project_permission_from_group",
            "project",
        ),
        (
            "update_domain_group_inherit_role",
            "keystone_checkrole_for_group",
            "keystone_list_all_project_permissions_for_group",
            "delete_domain_group_inherited_role",
            "domain",
        ),
    ],
)
def test_a_grant_to_a_group(
    iam: Any,
    iam_of: Callable[..., Any],
    stranger_iam: Any,
    tenant: Tenant,
    stranger: Tenant,
    role: Any,
    grant: str,
    check: str,
    listed: str,
    revoke: str,
    place: str,
) -> None:
    someone = tenant.user()
    at = {"group_id": group_of(iam, someone)}
    at |= {"domain_id": tenant.account_id} if place == "domain" else {"project_id": tenant.project_id}
    one = at | {"role_id": role.id}
    missing(getattr(iam, check), **one)
    getattr(iam, grant)(**one)
    getattr(iam, grant)(**one)
    getattr(iam, check)(**one)
    assert [r.id for r in getattr(iam, listed)(**at).roles] == [role.id]
    if place == "domain":
        assert iam_of(someone).keystone_list_users().users
    else:
        # It counts inside the project; users belong to the account.
        iam_of(someone).refused(403, FORBIDDEN, "keystone_list_users")
    iam.refused(409, TAKEN, "delete_custom_policy", role_id=role.id)
    theirs = {"domain_id": stranger.account_id} if place == "domain" else {"project_id": stranger.project_id}
    stranger_iam.refused(404, GONE, grant, **(one | theirs))
    getattr(iam, revoke)(**one)
    iam.refused(404, GONE, revoke, **one)
    iam_of(someone).refused(403, FORBIDDEN, "keystone_list_users")
    assert getattr(iam, listed)(**at).roles == []


def test_grants_on_an_enterprise_project(
    iam: Any, stranger_iam: Any, tenant: Tenant, role: Any, enterprise_project: str
) -> None:
    someone, at = tenant.user(), {"enterprise_project_id": enterprise_project}
    group = group_of(iam, someone)
    to_group, to_user = {"group_id": group, "role_id": role.id}, {"user_id": someone.user_id, "role_id": role.id}
    iam.associate_role_to_group_on_enterprise_project(**at, **to_group)
    iam.associate_role_to_user_on_enterprise_project(**at, **to_user)
    on_group = iam.list_roles_for_group_on_enterprise_project(**at, group_id=group)
    on_user = iam.list_roles_for_user_on_enterprise_project(**at, user_id=someone.user_id)
    assert [r.id for r in on_group.roles] == [r.id for r in on_user.roles] == [role.id]
    [found] = iam.list_groups_for_enterprise_project(**at).groups
    assert (found.id, found.domain_id) == (group, tenant.account_id)
    [user] = iam.list_users_for_enterprise_project(**at).users
    assert (user.id, user.policy_num) == (someone.user_id, 1)
    for places in (
        iam.list_enterprise_projects_for_group(group_id=group).enterprise_projects,
        iam.list_enterprise_projects_for_user(user_id=someone.user_id).enterprise_projects,
    ):
        assert [place.project_id for place in places] == [enterprise_project]
    stranger_iam.refused(404, GONE, "associate_role_to_group_on_enterprise_project", **at, **to_group)
    stranger_iam.refused(404, GONE, "list_groups_for_enterprise_project", **at)
    iam.revoke_role_from_group_on_enterprise_project(**at, **to_group)
    iam.revoke_role_from_user_on_enterprise_project(**at, **to_user)
    iam.refused(404, GONE, "revoke_role_from_user_on_enterprise_project", **at, **to_user)
    assert iam.list_users_for_enterprise_project(**at).users == []
    assert iam.list_groups_for_enterprise_project(**at).groups == []


def test_an_agency_from_creation_to_deletion(iam: Any, stranger_iam: Any, tenant: Tenant, stranger: Tenant) -> None:
    asked = {
        "name": "auditors",
        "domain_id": tenant.account_id,
        "trust_domain_name": stranger.name,
        "description": "for audits",
        "duration": "ONEDAY",
    }
    agency = iam.create_agency(body={"agency": asked}).agency
    assert (agency.name, agency.trust_domain_id, agency.duration) == ("auditors", stranger.account_id, "24")
    iam.refused(409, TAKEN, "create_agency", body={"agency": asked})
    for_platform = {"name": "platform", "trust_domain_name": "op_svc_modelarts", "duration": "FOREVER"}
    service = iam.create_agency(body={"agency": for_platform}).agency
    assert (service.duration, service.expire_time) == ("FOREVER", None)
    shown = iam.show_agency(agency_id=service.id).agency
    assert (shown.trust_domain_name, shown.trust_domain_id) == ("op_svc_modelarts", "op_svc_modelarts")
    everything = iam.list_agencies(domain_id=tenant.account_id).agencies
    assert [a.name for a in everything] == ["auditors", "platform"]
    assert [a.id for a in iam.list_agencies(trust_domain_id=stranger.account_id).agencies] == [agency.id]
    assert [a.id for a in iam.list_agencies(name="platform", page=1, per_page=5).agencies] == [service.id]
    changes = {"agency": {"description": "changed", "duration": 20, "trust_domain_name": "op_svc_modelarts"}}
    changed = iam.update_agency(agency_id=agency.id, body=changes).agency
    assert (changed.description, changed.duration) == ("changed", str(20 * 24))
    wrong: list[dict[str, Any]] = [
        {"name": "a", "trust_domain_name": "no-such-account"},
        {"name": "a", "trust_domain_name": tenant.name},
        {"name": "a", "trust_domain_name": stranger.name, "duration": "-3"},
        {"name": "a"},
        {"name": "p\u0430ypal", "trust_domain_name": stranger.name},
    ]
    for body in wrong:
        iam.refused(400, WRONG, "create_agency", body={"agency": body})
    for operation, more in (("show_agency", {}), ("update_agency", {"body": changes}), ("delete_agency", {})):
        stranger_iam.refused(404, GONE, operation, agency_id=agency.id, **more)
    iam.delete_agency(agency_id=agency.id)
    iam.refused(404, GONE, "show_agency", agency_id=agency.id)


def test_grants_to_an_agency(iam: Any, stranger_iam: Any, tenant: Tenant, role: Any, enterprise_project: str) -> None:
    agency = iam.create_agency(body={"agency": {"name": "ops", "trust_domain_name": "op_svc_modelarts"}}).agency
    on = {"agency_id": agency.id}
    places = {
        "domain": ({"domain_id": tenant.account_id}, "{}_domain_permission{}", "list_domain_permissions_for_agency"),
        "project": (
            {"project_id": tenant.project_id},
            "{}_project_permission{}",
            "list_project_permissions_for_agency",
        ),
        "all": (
            {"domain_id": tenant.account_id},
            "{}_all_projects_permission{}",
            "list_all_projects_permissions_for_agency",
        ),
    }
    for place, words, listed in places.values():
        at = on | place | {"role_id": role.id}
        associate = words.format("associate_agency_with", "")
        check, remove = words.format("check", "_for_agency"), words.format("remove", "_from_agency")
        missing(getattr(iam, check), **at)
        getattr(iam, associate)(**at)
        getattr(iam, check)(**at)
        assert [r.id for r in getattr(iam, listed)(**on, **place).roles] == [role.id]
        with pytest.raises(Exception, match=r"40[34]"):
            getattr(stranger_iam, associate)(**at)
        getattr(iam, remove)(**at)
        iam.refused(404, GONE, remove, **at)
        assert getattr(iam, listed)(**on, **place).roles == []
    row = {"agency_id": agency.id, "enterprise_project_id": enterprise_project, "role_id": role.id}
    body = {"role_assignments": [row]}
    iam.associate_role_to_agency_on_enterprise_project(body=body)
    found = iam.show_domain_role_assignments(subject_agency_id=agency.id).role_assignments
    assert [a.scope.enterprise_project.id for a in found] == [enterprise_project]
    half = {"role_assignments": [row, row | {"role_id": "none"}]}
    iam.refused(404, GONE, "revoke_role_from_agency_on_enterprise_project", body=half)
    assert iam.show_domain_role_assignments(subject_agency_id=agency.id).total_num == 1
    iam.revoke_role_from_agency_on_enterprise_project(body=body)
    assert iam.show_domain_role_assignments(subject_agency_id=agency.id).total_num == 0


def test_every_grant_of_the_account(iam: Any, stranger_iam: Any, tenant: Tenant, role: Any) -> None:
    someone = tenant.user()
    group = group_of(iam, someone)
    agency = iam.create_agency(body={"agency": {"name": "ops", "trust_domain_name": "op_svc_modelarts"}}).agency
    at_home = {"domain_id": tenant.account_id, "role_id": role.id}
    iam.keystone_associate_group_with_domain_permission(**at_home, group_id=group)
    iam.update_domain_group_inherit_role(**at_home, group_id=group)
    iam.associate_agency_with_project_permission(project_id=tenant.project_id, agency_id=agency.id, role_id=role.id)
    found = iam.show_domain_role_assignments(domain_id=tenant.account_id)
    assert found.total_num == len(found.role_assignments) == 3
    assert {a.role.id for a in found.role_assignments} == {role.id}
    [by_agency] = iam.show_domain_role_assignments(subject="agency").role_assignments
    assert (by_agency.agency.id, by_agency.scope.project.id) == (agency.id, tenant.project_id)
    [inherited] = iam.show_domain_role_assignments(is_inherited=True).role_assignments
    assert (inherited.group.id, inherited.scope.domain.id) == (group, tenant.account_id)
    through_groups = iam.show_domain_role_assignments(
        subject="user", subject_user_id=someone.user_id, include_group=True
    )
    assert through_groups.total_num == 2
    alone = iam.show_domain_role_assignments(subject="user", subject_user_id=someone.user_id, include_group=False)
    assert alone.total_num == 0
    page = iam.show_domain_role_assignments(page=2, per_page=2)
    assert (page.total_num, len(page.role_assignments)) == (3, 1)
    assert iam.show_domain_role_assignments(scope="project").total_num == 1
    assert iam.show_domain_role_assignments(role_id="none").total_num == 0
    assert stranger_iam.show_domain_role_assignments().total_num == 0
    iam.refused(400, WRONG, "show_domain_role_assignments", subject="robot")
