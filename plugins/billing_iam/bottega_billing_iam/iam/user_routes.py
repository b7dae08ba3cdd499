"""``/v3/users``: users as Keystone writes them, without personal data."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from bottega.context import Principal
from bottega.entities import User
from bottega.errors import Forbidden, Invalid
from bottega.gateway import Caller, requires
from bottega.passwords import MAX_LENGTH
from bottega.platform import Platform

from .accounts import Projects
from .identities import iam_urn
from .listing import Window, windowing
from .login import Claim, Login
from .passwords import check_age
from .permission import about_own, account_wide, in_own, own_or_allowed, within_limits
from .security import PasswordPolicy, Security
from .shapes import project_json, user_json
from .users import UserFields, Users

_CHANGE = "iam:users:setPassword"
_COMPARISONS = {"lt": "lt", "lte": "le", "gt": "gt", "gte": "ge", "eq": "eq", "neq": "ne"}


class _NewUser(BaseModel):
    name: str
    domain_id: str | None = None
    password: str | None = Field(None, max_length=MAX_LENGTH)
    enabled: bool = True
    description: str = Field("", max_length=255)


class NewUser(BaseModel):
    user: _NewUser


class _UserChanges(BaseModel):
    name: str | None = None
    domain_id: str | None = None
    password: str | None = Field(None, max_length=MAX_LENGTH)
    enabled: bool | None = None
    description: str | None = Field(None, max_length=255)
    pwd_status: bool | None = None


class UserChanges(BaseModel):
    """``pwd_status``: the user has to change its password before it can do anything else."""

    user: _UserChanges


class _NewPassword(BaseModel):
    password: str = Field(max_length=MAX_LENGTH)
    original_password: str = Field(max_length=MAX_LENGTH)


class NewPassword(BaseModel):
    user: _NewPassword


def add_user_routes(router: APIRouter, platform: Platform, users: Users, login: Login, projects: Projects) -> None:
    security = Security(platform)

    async def out(user: User) -> dict[str, Any]:
        return user_json(platform, user, await login.password_ends(user))

    @router.get("/v3/users")
    async def list_users(
        name: str | None = None,
        enabled: bool | None = None,
        domain_id: str | None = None,
        password_expires_at: str | None = None,
        window: Window = windowing(),
        caller: Caller = requires("iam:users:listUsers"),
    ) -> dict[str, Any]:
        """``password_expires_at`` is ``lt:2026-12-31T00:00:00Z``, likewise with lte, gt, gte, eq, neq."""
        expiring = None if password_expires_at is None else _comparison(password_expires_at)
        account_id = about_own(caller, domain_id)
        found = await users.list(account_id, window, name, enabled, expiring=expiring)
        return {"users": [await out(user) for user in found.rows], "links": window.links(platform, found.more)}

    @router.post("/v3/users", status_code=201)
    async def create_user(body: NewUser, caller: Caller = requires("iam:users:createUser")) -> dict[str, Any]:
        """A new user has no rights until it is put into a group that has."""
        account_id, asked = in_own(caller, body.user.domain_id), body.user
        fields = UserFields(asked.name, asked.password, asked.enabled, asked.description)
        user = await users.create(account_id, fields)
        caller.about(resource=iam_urn("user", user.id), name=user.name)
        return {"user": await out(user)}

    @router.get("/v3/users/{user_id}")
    async def show_user(
        user_id: str, caller: Caller = requires("iam:users:getUser", "user/{user_id}", everyone=True)
    ) -> dict[str, Any]:
        """Oneself is always shown."""
        await own_or_allowed(caller, user_id, "iam:users:getUser", "user", user_id)
        return {"user": await out(await users.get(caller.principal.account_id, user_id))}

    @router.patch("/v3/users/{user_id}")
    async def update_user(
        user_id: str, body: UserChanges, caller: Caller = requires("iam:users:updateUser", "user/{user_id}")
    ) -> dict[str, Any]:
        """A new password, or disabling, ends every token of the user at once."""
        in_own(caller, body.user.domain_id)
        change = body.user
        fields = UserFields(
            change.name,
            change.password,
            change.enabled,
            change.description,
            must_change_password=change.pwd_status,
        )
        user = await users.update(caller.principal, user_id, fields)
        caller.about(name=user.name)
        return {"user": await out(user)}

    @router.post("/v3/users/{user_id}/password", status_code=204)
    async def change_password(
        user_id: str, body: NewPassword, caller: Caller = requires(_CHANGE, "user/{user_id}", everyone=True)
    ) -> None:
        """Change one's own password, knowing the present one; all earlier tokens end."""
        if user_id != caller.user_id:
            raise Forbidden("one's own password only; an administrator sets another's with PATCH /v3/users/{user_id}")
        if caller.principal.scope is not None:
            account_wide(caller)
        within_limits(caller, _CHANGE, user_id)
        user = await users.get(caller.principal.account_id, user_id)
        if not user.must_change_password:
            await own_or_allowed(caller, user_id, _CHANGE, "user", user_id, "manage_password")
        if body.user.password == body.user.original_password:
            raise Invalid("password: is the present one; choose another")
        await login.verify(user, Claim(user_id), body.user.original_password, caller.call.source_ip)
        if not user.must_change_password:
            check_age(user, await security.get(user.account_id, PasswordPolicy))
        await users.update(caller.principal, user_id, UserFields(password=body.user.password))

    @router.delete("/v3/users/{user_id}", status_code=204)
    async def delete_user(user_id: str, caller: Caller = requires("iam:users:deleteUser", "user/{user_id}")) -> None:
        await users.delete(account_wide(caller), user_id)

    @router.get("/v3/users/{user_id}/projects")
    async def projects_of_user(
        user_id: str,
        window: Window = windowing(),
        caller: Caller = requires("iam:projects:listProjectsForUser", "user/{user_id}", everyone=True),
    ) -> dict[str, Any]:
        """The projects a user has any right in."""
        await own_or_allowed(caller, user_id, "iam:projects:listProjectsForUser", "user", user_id)
        user = await users.get(caller.principal.account_id, user_id)
        whose = Principal(user.account_id, user.id, user.name, is_account_root=user.is_account_root)
        found = await projects.list(whose, window, everything=user.is_account_root)
        rows = [project_json(platform, project) for project in found.rows]
        return {"projects": rows, "links": window.links(platform, found.more)}


def _comparison(text: str) -> tuple[str, int]:
    found = re.fullmatch(r"(lt|lte|gt|gte|eq|neq):(.+)", text)
    try:
        if found is None:
            raise ValueError
        at = datetime.fromisoformat(found[2])
        return _COMPARISONS[found[1]], int(at.timestamp() * 1000)
    except (ValueError, OverflowError, OSError) as e:
        raise Invalid("password_expires_at: write an operator and a time, such as lt:2026-12-31T00:00:00Z") from e
