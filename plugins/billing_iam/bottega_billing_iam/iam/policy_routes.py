"""``/v3/roles`` and ``/v3.0/OS-ROLE/roles``: system and custom policies."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from bottega.entities import Policy
from bottega.gateway import Caller, requires
from bottega.platform import Platform

from .identities import iam_urn
from .listing import Part, Window, windowing
from .permission import about_own, account_wide
from .policies import Policies, RoleFilter
from .shapes import role_json

CUSTOM = "/v3.0/OS-ROLE/roles"


class _NewRole(BaseModel):
    display_name: str
    type: str = "AA"
    description: str = Field("", max_length=255)
    policy: dict[str, Any]


class NewRole(BaseModel):
    """A custom policy, for services or (``iam:agencies:assume`` on ``{"uri": [...]}``) for assuming agencies.

    ``type`` (AX account, XA project) is accepted and not kept: a grant says where it holds.
    """

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
        name: str | None = None,
        display_name: str | None = None,
        permission_type: Literal["role", "policy"] | None = None,
        type: str | None = None,
        catalog: str | None = None,
        window: Window = windowing(),
        caller: Caller = requires("iam:roles:listRoles"),
    ) -> dict[str, Any]:
        """The system policies; with the caller's ``domain_id`` its account's custom ones.

        ``permission_type`` role: those of version 1.0; policy: those of 1.1.
        """
        account_id = None if domain_id is None else about_own(caller, domain_id)
        wanted = RoleFilter(name, display_name, permission_type, type, catalog)
        return _list(await policies.list(account_id, window, wanted), window)

    @router.get("/v3/roles/{role_id}")
    async def show_role(
        role_id: str, caller: Caller = requires("iam:roles:getRole", "policy/{role_id}")
    ) -> dict[str, Any]:
        return {"role": role_json(platform, await policies.get(caller.principal.account_id, role_id))}

    @router.get(CUSTOM)
    async def list_custom(
        window: Window = windowing(), caller: Caller = requires("iam:roles:listRoles")
    ) -> dict[str, Any]:
        return _list(await policies.list(caller.principal.account_id, window), window)

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
        policy = await policies.get(caller.principal.account_id, role_id)
        return {"role": role_json(platform, policy) | {"references": await policies.references(policy.id)}}

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
        return {"message": "Delete success."}

    def _list(found: Part[Policy], window: Window) -> dict[str, Any]:
        rows = [role_json(platform, policy) for policy in found.rows]
        return {"roles": rows, "total_number": found.total, "links": window.links(platform, found.more)}
