"""``/v3/groups``: groups and their members."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from bottega.errors import NotFound
from bottega.gateway import Caller, requires
from bottega.platform import Platform

from .groups import Groups
from .identities import iam_urn
from .listing import Window, windowing
from .login import Login
from .permission import about_own, account_wide, in_own, own_or_allowed
from .shapes import group_json, user_json
from .users import Users


class _NewGroup(BaseModel):
    name: str
    domain_id: str | None = None
    description: str = Field("", max_length=255)


class NewGroup(BaseModel):
    group: _NewGroup


class _GroupChanges(BaseModel):
    domain_id: str | None = None
    name: str | None = None
    description: str | None = Field(None, max_length=255)


class GroupChanges(BaseModel):
    group: _GroupChanges


def add_group_routes(router: APIRouter, platform: Platform, users: Users, groups: Groups, login: Login) -> None:

    @router.get("/v3/groups")
    async def list_groups(
        name: str | None = None,
        domain_id: str | None = None,
        window: Window = windowing(),
        caller: Caller = requires("iam:groups:listGroups"),
    ) -> dict[str, Any]:
        found = await groups.list(about_own(caller, domain_id), window, name)
        rows = [group_json(platform, g) for g in found.rows]
        return {"groups": rows, "links": window.links(platform, found.more)}

    @router.post("/v3/groups", status_code=201)
    async def create_group(body: NewGroup, caller: Caller = requires("iam:groups:createGroup")) -> dict[str, Any]:
        account_id = in_own(caller, body.group.domain_id)
        group = await groups.create(account_id, body.group.name, body.group.description)
        caller.about(resource=iam_urn("group", group.id), name=group.name)
        return {"group": group_json(platform, group)}

    @router.get("/v3/groups/{group_id}")
    async def show_group(
        group_id: str, caller: Caller = requires("iam:groups:getGroup", "group/{group_id}")
    ) -> dict[str, Any]:
        return {"group": group_json(platform, await groups.get(caller.principal.account_id, group_id))}

    @router.patch("/v3/groups/{group_id}")
    async def update_group(
        group_id: str, body: GroupChanges, caller: Caller = requires("iam:groups:updateGroup", "group/{group_id}")
    ) -> dict[str, Any]:
        account_id = in_own(caller, body.group.domain_id)
        group = await groups.update(account_id, group_id, body.group.name, body.group.description)
        caller.about(name=group.name)
        return {"group": group_json(platform, group)}

    @router.delete("/v3/groups/{group_id}", status_code=204)
    async def delete_group(
        group_id: str, caller: Caller = requires("iam:groups:deleteGroup", "group/{group_id}")
    ) -> None:
        await groups.delete(account_wide(caller), group_id)

    @router.get("/v3/users/{user_id}/groups")
    async def groups_of_user(
        user_id: str,
        window: Window = windowing(),
        caller: Caller = requires("iam:groups:listGroups", "user/{user_id}", everyone=True),
    ) -> dict[str, Any]:
        await own_or_allowed(caller, user_id, "iam:groups:listGroups", "user", user_id)
        found = await groups.list(caller.principal.account_id, window, user_id=user_id)
        rows = [group_json(platform, g) for g in found.rows]
        return {"groups": rows, "links": window.links(platform, found.more)}

    @router.get("/v3/groups/{group_id}/users")
    async def users_of_group(
        group_id: str,
        window: Window = windowing(),
        caller: Caller = requires("iam:users:listUsers", "group/{group_id}"),
    ) -> dict[str, Any]:
        found = await users.list(caller.principal.account_id, window, group_id=group_id)
        rows = [user_json(platform, u, await login.password_ends(u)) for u in found.rows]
        return {"users": rows, "links": window.links(platform, found.more)}

    @router.head("/v3/groups/{group_id}/users/{user_id}", status_code=204)
    async def check_member(
        group_id: str, user_id: str, caller: Caller = requires("iam:permissions:checkUserInGroup", "group/{group_id}")
    ) -> None:
        if not await groups.is_member(caller.principal.account_id, group_id, user_id):
            raise NotFound(f"user '{user_id}' is not in group '{group_id}'")

    @router.put("/v3/groups/{group_id}/users/{user_id}", status_code=204)
    async def add_member(
        group_id: str, user_id: str, caller: Caller = requires("iam:permissions:addUserToGroup", "group/{group_id}")
    ) -> None:
        await groups.add(account_wide(caller), group_id, user_id)

    @router.delete("/v3/groups/{group_id}/users/{user_id}", status_code=204)
    async def remove_member(
        group_id: str,
        user_id: str,
        caller: Caller = requires("iam:permissions:removeUserFromGroup", "group/{group_id}"),
    ) -> None:
        await groups.remove(account_wide(caller), group_id, user_id)
