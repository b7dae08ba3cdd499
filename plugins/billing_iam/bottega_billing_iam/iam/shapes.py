"""How the vendor's IAM v3 writes users, groups, projects, access keys and policies."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from bottega.entities import Account, Credential, Group, Policy, Project, User, Workspace
from bottega.platform import Platform


def iso(moment: datetime) -> str:
    """``2026-01-31T08:09:10.123000Z``."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def links(platform: Platform, path: str) -> dict[str, str | None]:
    return {"self": f"{platform.url}{path}", "previous": None, "next": None}


def account_json(platform: Platform, account: Account) -> dict[str, Any]:
    return {
        "id": account.id,
        "name": account.name,
        "enabled": True,
        "description": "",
        "links": links(platform, f"/v3/domains/{account.id}"),
    }


def user_json(platform: Platform, user: User) -> dict[str, Any]:
    return {
        "id": user.id,
        "name": user.name,
        "domain_id": user.account_id,
        "enabled": user.enabled,
        "description": "",
        "password_expires_at": None,
        "pwd_status": user.password_hash is not None,
        "is_domain_owner": user.is_account_root,
        "create_time": user.created_at,
        "links": links(platform, f"/v3/users/{user.id}"),
    }


def group_json(platform: Platform, group: Group) -> dict[str, Any]:
    return {
        "id": group.id,
        "name": group.name,
        "domain_id": group.account_id,
        "description": group.description,
        "create_time": group.created_at,
        "links": links(platform, f"/v3/groups/{group.id}"),
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
        "links": links(platform, f"/v3/projects/{project.id}"),
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
        "links": links(platform, f"/v3/roles/{policy.id}"),
    }


def workspace_json(workspace: Workspace, owner: str) -> dict[str, Any]:
    return {
        "id": workspace.id,
        "name": workspace.name,
        "description": "",
        "owner": owner,
        "auth_type": "PUBLIC",
        "enterprise_project_id": "0",
        "enterprise_project_name": "default",
        "status": "NORMAL",
        "status_info": "",
        "create_time": workspace.created_at,
        "update_time": workspace.created_at,
        "grants": [],
    }
