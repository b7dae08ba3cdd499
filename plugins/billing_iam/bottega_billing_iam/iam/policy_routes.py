"""``/v3/roles``, ``/v3.0/OS-ROLE/roles`` and the grants: policies and who has them."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from bottega.errors import Forbidden, NotFound
from bottega.gateway import Caller, requires
from bottega.platform import Platform

from .identities import iam_urn
from .permission import account_wide
from .policies import Policies
from .shapes import links, role_json

CUSTOM = "/v3.0/OS-ROLE/roles"
_PLACES = {
    "project": "/v3/projects/{project}/groups/{group_id}/roles",
    "domain": "/v3/domains/{domain_id}/groups/{group_id}/roles",
    "inherited": "/v3/OS-INHERIT/domains/{domain_id}/groups/{group_id}/roles",
}


class _NewRole(BaseModel):
    display_name: str
    type: str = "AA"
    description: str = Field("", max_length=255)
    policy: dict[str, Any]


class NewRole(BaseModel):
    """A custom policy. `type` (AX account, XA project) is accepted and not kept: a grant says where it holds."""

    role: _NewRole


class _RoleChanges(BaseModel):
    display_name: str | None = None
    description: str | None = Field(None, max_length=255)
    policy: dict[str, Any] | None = None


class RoleChanges(BaseModel):
    role: _RoleChanges


def add_policy_routes(router: APIRouter, platform: Platform, policies: Policies) -> None:

    @router.get("/v3/roles")
    async def list_roles(
        domain_id: str | None = None,
        display_name: str | None = None,
        caller: Caller = requires("iam:roles:listRoles"),
    ) -> dict[str, Any]:
        """The system policies; with the caller's ``domain_id`` its account's custom ones."""
        account_id = caller.principal.account_id
        if domain_id not in (None, account_id):
            raise Forbidden(f"domain_id: account '{domain_id}' is not yours")
        custom = domain_id is not None
        found = await policies.list(account_id, system=not custom, custom=custom, name=display_name)
        return _list("/v3/roles", found)

    @router.get("/v3/roles/{role_id}")
    async def show_role(
        role_id: str, caller: Caller = requires("iam:roles:getRole", "policy/{role_id}")
    ) -> dict[str, Any]:
        return {"role": role_json(platform, await policies.get(caller.principal.account_id, role_id))}

    @router.get(CUSTOM)
    async def list_custom(caller: Caller = requires("iam:roles:listRoles")) -> dict[str, Any]:
        return _list(CUSTOM, await policies.list(caller.principal.account_id, system=False, custom=True))

    @router.post(CUSTOM, status_code=201)
    async def create_custom(body: NewRole, caller: Caller = requires("iam:roles:createRole")) -> dict[str, Any]:
        """A mistake in the policy is answered with its position and what would be right."""
        role = body.role
        policy = await policies.create(account_wide(caller), role.display_name, role.description, role.policy)
        caller.about(resource=iam_urn("policy", policy.id), name=policy.name)
        return {"role": role_json(platform, policy)}

    @router.get(CUSTOM + "/{role_id}")
    async def show_custom(
        role_id: str, caller: Caller = requires("iam:roles:getRole", "policy/{role_id}")
    ) -> dict[str, Any]:
        return {"role": role_json(platform, await policies.get(caller.principal.account_id, role_id))}

    @router.patch(CUSTOM + "/{role_id}")
    async def update_custom(
        role_id: str, body: RoleChanges, caller: Caller = requires("iam:roles:updateRole", "policy/{role_id}")
    ) -> dict[str, Any]:
        role = body.role
        policy = await policies.update(account_wide(caller), role_id, role.display_name, role.description, role.policy)
        caller.about(name=policy.name)
        return {"role": role_json(platform, policy)}

    @router.delete(CUSTOM + "/{role_id}")
    async def delete_custom(
        role_id: str, caller: Caller = requires("iam:roles:deleteRole", "policy/{role_id}")
    ) -> dict[str, Any]:
        await policies.delete(account_wide(caller), role_id)
        return {}

    def _list(path: str, found: Any) -> dict[str, Any]:
        rows = [role_json(platform, policy) for policy in found]
        return {"roles": rows, "total_number": len(rows), "links": links(platform, path)}


def add_grant_routes(router: APIRouter, platform: Platform, policies: Policies) -> None:
    """Grants on one project, on the account, and (``OS-INHERIT``) on all its projects; the last two are one here."""

    def place(caller: Caller, project: str | None, domain_id: str | None) -> tuple[str, str | None]:
        account_id = caller.principal.account_id
        if domain_id not in (None, account_id):
            raise NotFound(f"there is no account '{domain_id}' of yours")
        return account_id, project

    for kind, base in _PLACES.items():
        end = "/inherited_to_projects" if kind == "inherited" else ""

        @router.get(base + end, name=f"list_grants_{kind}")
        async def list_grants(
            group_id: str,
            project: str | None = None,
            domain_id: str | None = None,
            caller: Caller = requires("iam:permissions:listRolesForGroup", "group/{group_id}"),
        ) -> dict[str, Any]:
            account_id, scope = place(caller, project, domain_id)
            found = await policies.granted(account_id, group_id, scope)
            path = f"/v3/groups/{group_id}"
            return {"roles": [role_json(platform, policy) for policy in found], "links": links(platform, path)}

        @router.head(base + "/{role_id}" + end, status_code=204, name=f"check_grant_{kind}")
        async def check_grant(
            group_id: str,
            role_id: str,
            project: str | None = None,
            domain_id: str | None = None,
            caller: Caller = requires("iam:permissions:listRolesForGroup", "group/{group_id}"),
        ) -> None:
            account_id, scope = place(caller, project, domain_id)
            if all(policy.id != role_id for policy in await policies.granted(account_id, group_id, scope)):
                raise NotFound(f"policy '{role_id}' is not granted to group '{group_id}' there")

        @router.put(base + "/{role_id}" + end, status_code=204, name=f"grant_{kind}")
        async def grant(
            group_id: str,
            role_id: str,
            project: str | None = None,
            domain_id: str | None = None,
            caller: Caller = requires("iam:permissions:grantRoleToGroup", "group/{group_id}"),
        ) -> None:
            account_wide(caller)
            account_id, scope = place(caller, project, domain_id)
            await policies.grant(account_id, group_id, role_id, scope)

        @router.delete(base + "/{role_id}" + end, status_code=204, name=f"revoke_{kind}")
        async def revoke(
            group_id: str,
            role_id: str,
            project: str | None = None,
            domain_id: str | None = None,
            caller: Caller = requires("iam:permissions:revokeRoleFromGroup", "group/{group_id}"),
        ) -> None:
            account_wide(caller)
            account_id, scope = place(caller, project, domain_id)
            await policies.revoke(account_id, group_id, role_id, scope)
