"""``/v2/{project_id}/authorizations`` and ``agency``, ``/v1/auth-mode``: the vendor's page of settings (003 §9)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from bottega.errors import Invalid, NotSupported
from bottega.gateway import Caller, requires
from bottega.identity import ALL_USERS
from bottega.platform import Platform

from .authorizations import EVERYBODY, Authorizations
from .identities import iam_urn
from .permission import account_wide

_BASE, _MODE = "/v2/{project_id}/authorizations", "/v1/auth-mode"
_UserId = Annotated[str, Field(min_length=1, max_length=64)]


class NewAgency(BaseModel):
    """The agency is called ``ma_agency_<suffix>``; without a suffix ``modelarts_agency``."""

    agency_name_suffix: str = Field("", max_length=50)


class NewAuthorization(BaseModel):
    """`content` names the agency. `user_id` ``all`` replaces all authorizations there are."""

    user_id: _UserId | None = None
    type: Literal["agency", "credential"] = "agency"
    content: str = Field(max_length=64)
    user_type: str = "iam"


class AuthMode(BaseModel):
    mode: Literal["strict", "loose"]


def add_authorization_routes(router: APIRouter, platform: Platform, authorizations: Authorizations) -> None:

    @router.post("/v2/{project_id}/agency")
    async def create_agency(
        body: NewAgency | None = None, caller: Caller = requires("iam:agencies:createAgency", trace="createAgency")
    ) -> dict[str, Any]:
        """An agency with the least the platform needs to work for users."""
        suffix = body.agency_name_suffix if body else ""
        agency = await authorizations.create_agency(account_wide(caller), suffix)
        caller.about(resource=iam_urn("agency", agency.id), name=agency.name)
        return {"agency_name": agency.name}

    @router.get(_BASE)
    async def list_authorizations(
        sort_by: Literal["user_name", "create_time"] = "user_name",
        order: Literal["ASC", "DESC", "asc", "desc"] = "ASC",
        limit: Annotated[int, Query(ge=1, le=1000)] = 1000,
        offset: Annotated[int, Query(ge=0, le=2**31)] = 0,
        caller: Caller = requires("modelarts:authorization:list"),
    ) -> dict[str, Any]:
        total, found = await authorizations.list(
            caller.principal.account_id,
            by_time=sort_by == "create_time",
            descending=order.upper() == "DESC",
            offset=offset,
            limit=limit,
        )
        rows = [
            {
                "user_id": one.user_id,
                "user_name": one.user_name,
                "user_type": ALL_USERS if one.user_id == ALL_USERS else "iam",
                "type": "agency",
                "content": one.agency,
                "create_time": one.created_at,
            }
            for one in found
        ]
        return {"auth": rows, "total_count": total}

    @router.post(_BASE)
    async def authorize(
        body: NewAuthorization, caller: Caller = requires("iam:authorizations:create")
    ) -> dict[str, Any]:
        """Whoever gives a user an agency hands on its rights, so this takes the right to pass that agency too."""
        account_id = account_wide(caller)
        if body.type == "credential":
            raise NotSupported("type: access keys are not kept for others here; authorize by an agency")
        if body.user_type not in ("iam", ALL_USERS):
            raise NotSupported(f"user_type: '{body.user_type}' is not offered here; write iam, or {ALL_USERS}")
        user_id = body.user_id or (ALL_USERS if body.user_type == ALL_USERS else None)
        if user_id is None:
            raise Invalid(f"user_id: name the user, or write {EVERYBODY}, or {ALL_USERS}")
        agency = await authorizations.agency_named(account_id, body.content)
        await caller.check("iam:agencies:pass", iam_urn("agency", agency.id))
        await authorizations.authorize(account_id, user_id, agency)
        caller.about(resource=iam_urn("authorization", user_id), name=agency.name)
        return {}

    @router.delete(_BASE)
    async def revoke(
        user_id: Annotated[str, Query(max_length=64)] = EVERYBODY,
        caller: Caller = requires("iam:authorizations:delete"),
    ) -> dict[str, Any]:
        """Without a user, all of them."""
        await authorizations.delete(account_wide(caller), user_id)
        caller.about(resource=iam_urn("authorization", user_id))
        return {}

    @router.get(_MODE)
    async def show_mode(caller: Caller = requires("modelarts:authMode:get")) -> dict[str, Any]:
        account = await platform.identity.account(caller.principal.account_id)
        return {"domain_id": account.id, "mode": account.auth_mode}

    @router.put(_MODE)
    async def set_mode(body: AuthMode, caller: Caller = requires("iam:authMode:update")) -> dict[str, Any]:
        account_id = account_wide(caller)
        await authorizations.set_mode(account_id, body.mode)
        caller.about(resource=iam_urn("account", account_id))
        return {"domain_id": account_id, "mode": body.mode}
