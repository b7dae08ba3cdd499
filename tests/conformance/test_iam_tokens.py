"""The vendor's own client gets tokens by password, token and agency, and finds its way (huaweicloudsdkiam v3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from bottega.testing import RunningPlatform, Tenant

GONE, FORBIDDEN, WRONG, UNSUPPORTED = "ModelArts.0104", "ModelArts.0103", "ModelArts.0101", "ModelArts.0112"
ASSUME = {"Version": "1.1", "Statement": [{"Effect": "Allow", "Action": ["iam:agencies:assume"]}]}
LOOK = {"Version": "1.1", "Statement": [{"Effect": "Allow", "Action": ["iam:*:list*", "iam:*:get*"]}]}


@pytest.fixture
def joan(iam: Any, tenant: Tenant) -> dict[str, Any]:
    """A user with a password, as a login names it."""
    user = iam.keystone_create_user(body={"user": {"name": "Joan", "password": "blue-Whale-7"}}).user
    return {"id": user.id, "name": "Joan", "password": "blue-Whale-7", "domain": {"name": tenant.name}}


def by_password(user: dict[str, Any], **scope: Any) -> dict[str, Any]:
    who = {key: value for key, value in user.items() if key != "id"}
    identity = {"methods": ["password"], "password": {"user": who}}
    return {"auth": {"identity": identity, **({"scope": scope} if scope else {})}}


def by_token(token: str | None, **scope: Any) -> dict[str, Any]:
    identity = {"methods": ["token"], **({"token": {"id": token}} if token else {})}
    return {"auth": {"identity": identity, "scope": scope}}


def by_agency(account: str, agency: str, **scope: Any) -> dict[str, Any]:
    identity = {"methods": ["assume_role"], "assume_role": {"domain_name": account, "agency_name": agency}}
    return {"auth": {"identity": identity, **({"scope": scope} if scope else {})}}


def test_by_password_with_every_scope(
    iam: Any, iam_of: Callable[..., Any], tenant: Tenant, joan: dict[str, Any]
) -> None:
    ask = iam.keystone_create_user_token_by_password
    plain = ask(body=by_password(joan))
    assert (plain.token.user.id, plain.token.domain.id, plain.token.project) == (joan["id"], tenant.account_id, None)
    assert plain.token.methods == ["password"]
    seconds = datetime.fromisoformat(plain.token.expires_at) - datetime.fromisoformat(plain.token.issued_at)
    assert round(seconds.total_seconds()) == 86400
    in_domain = ask(body=by_password(joan, domain={"name": tenant.name})).token
    assert in_domain.domain.name == tenant.name
    for place in ({"id": tenant.project_id}, {"name": "local-1", "domain": {"name": tenant.name}}):
        scoped = ask(body=by_password(joan, project=place), nocatalog="true").token
        assert (scoped.project.id, scoped.project.domain.id) == (tenant.project_id, tenant.account_id)
        assert scoped.catalog is None
    unscoped = by_password(joan)
    unscoped["auth"]["scope"] = "unscoped"
    token = ask(body=unscoped).token
    assert (token.domain, token.project) == (None, None)
    iam.refused(403, FORBIDDEN, "keystone_create_user_token_by_password", body=by_password(joan, domain={"name": "x"}))
    iam.refused(403, FORBIDDEN, "keystone_create_user_token_by_password", body=by_password(joan, project={"id": "x"}))
    mfa = by_password(joan)
    mfa["auth"]["identity"] |= {"methods": ["password", "totp"], "totp": {"user": {"id": "x", "passcode": "1"}}}
    assert "MFA" in iam.refused(400, UNSUPPORTED, "keystone_create_user_token_by_password_and_mfa", body=mfa)
    assert iam_of(plain.x_subject_token).keystone_show_user(user_id=joan["id"]).user.name == "Joan"


def test_another_scope_for_a_token(iam: Any, iam_of: Callable[..., Any], tenant: Tenant, joan: dict[str, Any]) -> None:
    plain = iam.keystone_create_user_token_by_password(body=by_password(joan))
    mine = iam_of(plain.x_subject_token)
    scoped = mine.keystone_create_scoped_token(body=by_token(plain.x_subject_token, project={"id": tenant.project_id}))
    assert (scoped.token.project.id, scoped.token.user.id) == (tenant.project_id, joan["id"])
    assert datetime.fromisoformat(scoped.token.expires_at) <= datetime.fromisoformat(plain.token.expires_at)
    body = by_token(None, project={"id": tenant.project_id})
    assert mine.keystone_create_scoped_token(body=body).token.project.id == tenant.project_id
    wider = by_token(scoped.x_subject_token, domain={"id": tenant.account_id})
    assert "limited" in mine.refused(403, FORBIDDEN, "keystone_create_scoped_token", body=wider)
    mine.refused(401, "APIGW.0307", "keystone_create_scoped_token", body=by_token("forged", project={"id": "x"}))
    validated = mine.keystone_validate_token(x_subject_token=scoped.x_subject_token)
    assert (validated.token.project.id, validated.x_subject_token) == (tenant.project_id, scoped.x_subject_token)
    mine.refused(404, GONE, "keystone_validate_token", x_subject_token=scoped.x_subject_token[:-6] + "AAAAAA")


def test_acting_by_an_agency(
    iam: Any, iam_of: Callable[..., Any], tenant: Tenant, stranger: Tenant, running: RunningPlatform
) -> None:
    body = {"agency": {"name": "auditors", "domain_id": tenant.account_id, "trust_domain_name": stranger.name}}
    agency = iam.create_agency(body=body).agency
    role = iam.create_cloud_service_custom_policy(
        body={"role": {"display_name": "look", "type": "AX", "description": "look", "policy": LOOK}}
    ).role
    where = {"domain_id": tenant.account_id, "agency_id": agency.id, "role_id": role.id}
    iam.associate_agency_with_domain_permission(**where)
    helper, nobody = stranger.user([ASSUME]), stranger.user()
    asked = by_agency(tenant.name, "auditors")
    iam_of(nobody).refused(403, FORBIDDEN, "keystone_create_agency_token", body=asked)
    iam.refused(404, GONE, "keystone_create_agency_token", body=asked)
    made = iam_of(helper).keystone_create_agency_token(body=asked)
    token = made.token
    assert token.assumed_by.user.id == helper.user_id
    assert token.assumed_by.user.domain.id == stranger.account_id
    assert (token.domain.id, token.user.name) == (tenant.account_id, f"{tenant.name}/auditors")
    assert [r.name for r in token.roles] == ["look"]
    acting = iam_of(made.x_subject_token)
    assert tenant.account_id in {u.id for u in acting.keystone_list_users().users}
    acting.refused(403, FORBIDDEN, "keystone_create_user", body={"user": {"name": "spy"}})
    assert "another agency" in acting.refused(403, FORBIDDEN, "keystone_create_agency_token", body=asked)
    scoped = by_agency(tenant.name, "auditors", project={"id": tenant.project_id})
    assert iam_of(helper).keystone_create_agency_token(body=scoped).token.project.id == tenant.project_id
    iam.remove_domain_permission_from_agency(**where)
    acting.refused(403, FORBIDDEN, "keystone_list_users")
    iam.delete_agency(agency_id=agency.id)
    acting.refused(401, "APIGW.0307", "keystone_list_users")


def test_an_agency_policy_allows_one_agency_only(
    iam: Any, iam_of: Callable[..., Any], tenant: Tenant, stranger: Tenant
) -> None:
    theirs = iam_of(stranger)
    made = {
        name: iam.create_agency(body={"agency": {"name": name, "trust_domain_name": stranger.name}}).agency
        for name in ("first", "second")
    }
    policy = {
        "Version": "1.1",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": ["iam:agencies:assume"],
                "Resource": {"uri": [f"/iam/agencies/{made['first'].id}"]},
            }
        ],
    }
    asked = {"role": {"display_name": "assume first", "type": "AX", "description": "d", "policy": policy}}
    role = theirs.create_agency_custom_policy(body=asked).role
    assert role.policy.statement[0].resource.uri == [f"/iam/agencies/{made['first'].id}"]
    helper = stranger.user()
    [group] = theirs.keystone_list_groups_for_user(user_id=helper.user_id).groups
    theirs.keystone_associate_group_with_domain_permission(
        domain_id=stranger.account_id, group_id=group.id, role_id=role.id
    )
    first = iam_of(helper).keystone_create_agency_token(body=by_agency(tenant.name, "first"))
    assert first.token.user.id == made["first"].id
    iam_of(helper).refused(403, FORBIDDEN, "keystone_create_agency_token", body=by_agency(tenant.name, "second"))
    policy["Statement"][0]["Resource"] = {"uri": [f"/iam/agencies/{made['second'].id}"]}  # type: ignore[index]
    theirs.update_agency_custom_policy(role_id=role.id, body=asked)
    assert iam_of(helper).keystone_create_agency_token(body=by_agency(tenant.name, "second")).token
    iam_of(helper).refused(403, FORBIDDEN, "keystone_create_agency_token", body=by_agency(tenant.name, "first"))


def test_temporary_keys_by_token_and_by_agency(
    iam: Any, iam_of: Callable[..., Any], tenant: Tenant, stranger: Tenant
) -> None:
    by_self = {"auth": {"identity": {"methods": ["token"], "token": {"duration_seconds": 900}}}}
    key = iam.create_temporary_access_key_by_token(body=by_self).credential
    temporary = replace(tenant, access_key=key.access, secret_key=key.secret)
    assert tenant.account_id in {u.id for u in iam_of(temporary, key.securitytoken).keystone_list_users().users}
    iam_of(temporary).refused(401, "APIGW.0301", "keystone_list_users")
    agency = iam.create_agency(body={"agency": {"name": "helpers", "trust_domain_name": stranger.name}}).agency
    role = {"agency_name": "helpers", "domain_name": tenant.name, "duration_seconds": 900}
    asked = {"auth": {"identity": {"methods": ["assume_role"], "assume_role": role}}}
    theirs = iam_of(stranger).create_temporary_access_key_by_agency(body=asked).credential
    acting = iam_of(replace(tenant, access_key=theirs.access, secret_key=theirs.secret), theirs.securitytoken)
    assert [d.id for d in acting.keystone_list_auth_domains().domains] == [tenant.account_id]
    acting.refused(403, FORBIDDEN, "keystone_list_users")
    iam.refused(404, GONE, "create_temporary_access_key_by_agency", body=asked)
    iam.delete_agency(agency_id=agency.id)
    acting.refused(401, "APIGW.0307", "keystone_list_auth_domains")


def test_what_the_caller_reaches(iam: Any, iam_of: Callable[..., Any], tenant: Tenant, joan: dict[str, Any]) -> None:
    assert [d.id for d in iam.keystone_list_auth_domains().domains] == [tenant.account_id]
    assert [p.id for p in iam.keystone_list_auth_projects().projects] == [tenant.project_id]
    scoped = iam.keystone_create_user_token_by_password(body=by_password(joan, project={"id": tenant.project_id}))
    mine = iam_of(scoped.x_subject_token)
    services = {service.type: service.endpoints[0].url for service in mine.keystone_show_catalog().catalog}
    url = tenant.running.url
    assert services["modelartsv1"] == f"{url}/v1/{tenant.project_id}"
    assert services["modelartsv2"] == f"{url}/v2/{tenant.project_id}"
    assert services["identity"] == services["iam"] == f"{url}/v3"
    assert {"obs", "smn", "cts", "eps", "modelarts"} <= set(services)
    assert {s.type: s.endpoints[0].url for s in scoped.token.catalog} == services
    assert [p.id for p in mine.keystone_list_auth_projects().projects] == [tenant.project_id]


def test_versions_services_endpoints_regions(iam: Any, running: RunningPlatform) -> None:
    [version] = iam.keystone_list_versions().versions.values
    assert (version.id, version.status) == ("v3.14", "stable")
    assert iam.keystone_show_version().version.links[0].href == f"{running.url}/v3/"
    services = iam.keystone_list_services().services
    assert {"iam", "modelartsv1", "modelartsv2"} <= {s.type for s in services}
    [only] = iam.keystone_list_services(type="iam").services
    assert iam.keystone_show_service(service_id=only.id).service.type == "iam"
    iam.refused(404, GONE, "keystone_show_service", service_id="nova")
    [endpoint] = iam.keystone_list_endpoints(service_id=only.id, interface="public").endpoints
    assert endpoint.url == f"{running.url}/v3"
    assert iam.keystone_show_endpoint(endpoint_id=endpoint.id).endpoint.service_id == only.id
    assert iam.keystone_list_endpoints(interface="admin").endpoints == []
    iam.refused(404, GONE, "keystone_show_endpoint", endpoint_id="x")
    [region] = iam.keystone_list_regions().regions
    assert iam.keystone_show_region(region_id=region.id).region.id == region.id == endpoint.region
    iam.refused(404, GONE, "keystone_show_region", region_id="mars-1")


@pytest.mark.parametrize(
    ("operation", "fields"),
    [
        ("keystone_list_identity_providers", {}),
        ("keystone_show_identity_provider", {"id": "x"}),
        ("keystone_create_identity_provider", {"id": "x", "body": {"identity_provider": {}}}),
        ("keystone_update_identity_provider", {"id": "x", "body": {"identity_provider": {}}}),
        ("keystone_delete_identity_provider", {"id": "x"}),
        ("keystone_list_mappings", {}),
        ("keystone_show_mapping", {"id": "x"}),
        ("keystone_create_mapping", {"id": "x", "body": {"mapping": {}}}),
        ("keystone_update_mapping", {"id": "x", "body": {"mapping": {}}}),
        ("keystone_delete_mapping", {"id": "x"}),
        ("keystone_list_protocols", {"idp_id": "x"}),
        ("keystone_show_protocol", {"idp_id": "x", "protocol_id": "saml"}),
        ("keystone_create_protocol", {"idp_id": "x", "protocol_id": "saml", "body": {"protocol": {}}}),
        ("keystone_update_protocol", {"idp_id": "x", "protocol_id": "saml", "body": {"protocol": {}}}),
        ("keystone_delete_protocol", {"idp_id": "x", "protocol_id": "saml"}),
        ("keystone_list_federation_domains", {}),
        ("keystone_list_federation_projects", {}),
        ("show_metadata", {"idp_id": "x", "protocol_id": "saml"}),
        ("create_metadata", {"idp_id": "x", "protocol_id": "saml", "body": {}}),
        ("show_open_id_connect_config", {"idp_id": "x"}),
        ("create_open_id_connect_config", {"idp_id": "x", "body": {}}),
        ("update_open_id_connect_config", {"idp_id": "x", "body": {}}),
        ("create_token_with_id_token", {"x_idp_id": "x", "body": {}}),
        ("create_unscope_token_by_idp_initiated", {"x_idp_id": "x", "body": {}}),
        ("create_unscoped_token_with_id_token", {"idp_id": "x", "protocol_id": "oidc"}),
        ("create_login_token", {"body": {"auth": {}}}),
        ("list_user_mfa_devices", {}),
        ("show_user_mfa_device", {"user_id": "x"}),
        ("create_mfa_device", {"body": {"virtual_mfa_device": {}}}),
        ("delete_mfa_device", {"user_id": "x", "serial_number": "y"}),
        ("create_binding_device", {"body": {}}),
        ("delete_binding_device", {"body": {}}),
    ],
)
def test_what_is_not_offered_says_so(iam: Any, operation: str, fields: dict[str, Any]) -> None:
    assert "not offered" in iam.refused(400, UNSUPPORTED, operation, **fields)
