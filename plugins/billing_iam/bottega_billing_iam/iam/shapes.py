"""How the vendor's IAM v3 writes users, groups, projects, access keys and policies."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from bottega.entities import Account, Agency, Credential, EnterpriseProject, Group, Policy, Project, User
from bottega.platform import Platform

from .agencies import SERVICE, duration_text
from .personal import Personal


def iso(moment: datetime) -> str:
    """``2026-01-31T08:09:10.123000Z``."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def links(platform: Platform, path: str) -> dict[str, str | None]:
    return {"self": f"{platform.url}{path}", "previous": None, "next": None}


def own_links(platform: Platform, path: str) -> dict[str, str]:
    return {"self": f"{platform.url}{path}"}


def moment(at: int | None) -> str | None:
    """A time in epoch milliseconds as the vendor's text."""
    return None if at is None else iso(datetime.fromtimestamp(at / 1000, UTC))


def account_json(platform: Platform, account: Account) -> dict[str, Any]:
    return {
        "id": account.id,
        "name": account.name,
        "enabled": True,
        "description": "",
        "links": own_links(platform, f"/v3/domains/{account.id}"),
    }


def user_json(platform: Platform, user: User, password_expires_at: int | None) -> dict[str, Any]:
    """A user without personal data; ``pwd_status``: the password has to be changed."""
    return {
        "id": user.id,
        "name": user.name,
        "domain_id": user.account_id,
        "enabled": user.enabled,
        "description": user.description,
        "password_expires_at": moment(password_expires_at),
        "pwd_status": user.must_change_password,
        "access_mode": user.access_mode,
        "is_domain_owner": user.is_account_root,
        "create_time": user.created_at,
        "links": own_links(platform, f"/v3/users/{user.id}"),
    }


def personal_user_json(user: User, personal: Personal) -> dict[str, Any]:
    """A user with its personal data, as ``OS-USER`` writes it."""
    areacode, phone = personal.phone(user)
    return {
        "id": user.id,
        "name": user.name,
        "domain_id": user.account_id,
        "enabled": user.enabled,
        "description": user.description,
        "access_mode": user.access_mode,
        "pwd_status": user.must_change_password,
        "is_domain_owner": user.is_account_root,
        "email": personal.email(user),
        "areacode": areacode,
        "phone": phone,
        "create_time": moment(user.created_at),
        "last_login_time": moment(user.last_login_at),
        "pwd_create_time": moment(user.password_changed_at),
        "modify_pwd_time": moment(user.password_changed_at),
        "xuser_id": "",
        "xuser_type": "",
    }


def group_json(platform: Platform, group: Group) -> dict[str, Any]:
    return {
        "id": group.id,
        "name": group.name,
        "domain_id": group.account_id,
        "description": group.description,
        "create_time": group.created_at,
        "links": own_links(platform, f"/v3/groups/{group.id}"),
    }


def project_json(platform: Platform, project: Project) -> dict[str, Any]:
    return {
        "id": project.id,
        "name": project.name,
        "domain_id": project.account_id,
        "parent_id": project.parent_id or project.account_id,
        "is_domain": False,
        "enabled": project.enabled,
        "description": project.description,
        "links": own_links(platform, f"/v3/projects/{project.id}"),
    }


def credential_json(credential: Credential) -> dict[str, Any]:
    return {
        "access": credential.access_key,
        "user_id": credential.user_id,
        "status": "active" if credential.enabled else "inactive",
        "create_time": iso(datetime.fromtimestamp(credential.created_at / 1000, UTC)),
        "description": credential.description,
    }


def role_json(platform: Platform, policy: Policy) -> dict[str, Any]:
    """A policy; ``type`` AA: it may be granted on the account as well as on projects."""
    custom = policy.account_id is not None
    return {
        "id": policy.id,
        "name": f"custom_{policy.account_id}_{policy.id}" if custom else policy.name,
        "display_name": policy.name,
        "domain_id": policy.account_id,
        "catalog": "CUSTOMED" if custom else "BASE",
        "type": "AA",
        "description": policy.description,
        "description_cn": "",
        "policy": policy.document,
        "created_time": str(policy.created_at),
        "updated_time": str(policy.updated_at),
        "links": own_links(platform, f"/v3/roles/{policy.id}"),
    }


def agency_json(agency: Agency, trusted: str) -> dict[str, Any]:
    """An agency; `trusted` is the name of the account it trusts."""
    return {
        "id": agency.id,
        "name": agency.name,
        "domain_id": agency.account_id,
        "description": agency.description,
        "duration": duration_text(agency),
        "create_time": moment(agency.created_at),
        "expire_time": moment(agency.expires_at),
        "trust_domain_id": agency.trusted_account_id or SERVICE,
        "trust_domain_name": trusted,
        "agency_urn": f"iam::{agency.account_id}:agency:{agency.name}",
    }


def enterprise_project_json(row: EnterpriseProject) -> dict[str, Any]:
    """``status`` 1 is enabled, 2 disabled."""
    return {
        "id": row.id,
        "name": row.name,
        "description": row.description,
        "status": 1 if row.enabled else 2,
        "type": "prod",
        "created_at": moment(row.created_at),
        "updated_at": moment(row.updated_at),
        "delete_flag": False,
    }
