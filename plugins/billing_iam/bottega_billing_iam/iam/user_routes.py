"""``/v3/users``, ``/v3/groups`` and ``/v3.0/OS-CREDENTIAL``: users, groups, members, access keys."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from bottega.errors import Forbidden, Invalid, NotFound
from bottega.gateway import Caller, requires
from bottega.platform import Platform

from .credentials import Credentials
from .groups import Groups
from .identities import iam_urn
from .login import Login
from .passwords import MAX_LENGTH
from .permission import account_wide, own_or_allowed
from .shapes import credential_json, group_json, links, user_json
from .users import Users


class _NewUser(BaseModel):
    name: str
    domain_id: str | None = None
    password: str | None = Field(None, max_length=MAX_LENGTH)
    enabled: bool = True


class NewUser(BaseModel):
    user: _NewUser


class _UserChanges(BaseModel):
    name: str | None = None
    password: str | None = Field(None, max_length=MAX_LENGTH)
    enabled: bool | None = None


class UserChanges(BaseModel):
    user: _UserChanges


class _NewPassword(BaseModel):
    password: str = Field(max_length=MAX_LENGTH)
    original_password: str = Field(max_length=MAX_LENGTH)


class NewPassword(BaseModel):
    user: _NewPassword


class _NewGroup(BaseModel):
    name: str
    domain_id: str | None = None
    description: str = Field("", max_length=255)


class NewGroup(BaseModel):
    group: _NewGroup


class _GroupChanges(BaseModel):
    name: str | None = None
    description: str | None = Field(None, max_length=255)


class GroupChanges(BaseModel):
    group: _GroupChanges


class _NewCredential(BaseModel):
    user_id: str
    description: str = Field("", max_length=255)


class NewCredential(BaseModel):
    credential: _NewCredential


class _CredentialChanges(BaseModel):
    status: Literal["active", "inactive"] | None = None
    description: str | None = Field(None, max_length=255)


class CredentialChanges(BaseModel):
    credential: _CredentialChanges


def in_own(caller: Caller, domain_id: str | None) -> str:
    """The caller's account. Raises Forbidden when a request names another one, or the credential is a limited one."""
    account_id = account_wide(caller)
    if domain_id not in (None, account_id):
        raise Forbidden(f"domain_id: account '{domain_id}' is not yours")
    return account_id


def add_user_routes(router: APIRouter, platform: Platform, users: Users, groups: Groups, login: Login) -> None:

    @router.get("/v3/users")
    async def list_users(
        name: str | None = None, enabled: bool | None = None, caller: Caller = requires("iam:users:listUsers")
    ) -> dict[str, Any]:
        found = await users.list(caller.principal.account_id, name, enabled)
        return {"users": [user_json(platform, u) for u in found], "links": links(platform, "/v3/users")}

    @router.post("/v3/users", status_code=201)
    async def create_user(body: NewUser, caller: Caller = requires("iam:users:createUser")) -> dict[str, Any]:
        """A new user has no rights until it is put into a group that has."""
        account_id = in_own(caller, body.user.domain_id)
        user = await users.create(account_id, body.user.name, body.user.password, body.user.enabled)
        caller.about(resource=iam_urn("user", user.id), name=user.name)
        return {"user": user_json(platform, user)}

    @router.get("/v3/users/{user_id}")
    async def show_user(
        user_id: str, caller: Caller = requires("iam:users:getUser", "user/{user_id}", everyone=True)
    ) -> dict[str, Any]:
        """Oneself is always shown."""
        await own_or_allowed(caller, user_id, "iam:users:getUser", "user", user_id)
        return {"user": user_json(platform, await users.get(caller.principal.account_id, user_id))}

    @router.patch("/v3/users/{user_id}")
    async def update_user(
        user_id: str, body: UserChanges, caller: Caller = requires("iam:users:updateUser", "user/{user_id}")
    ) -> dict[str, Any]:
        """A new password, or disabling, ends every token of the user at once."""
        account_wide(caller)
        change = body.user
        user = await users.update(
            caller.principal, user_id, name=change.name, password=change.password, enabled=change.enabled
        )
        caller.about(name=user.name)
        return {"user": user_json(platform, user)}

    @router.post("/v3/users/{user_id}/password", status_code=204)
    async def change_password(
        user_id: str,
        body: NewPassword,
        caller: Caller = requires("iam:users:setPassword", "user/{user_id}", everyone=True),
    ) -> None:
        """Change one's own password, knowing the present one; all earlier tokens end."""
        account_wide(caller)
        if user_id != caller.user_id:
            raise Forbidden("one's own password only; an administrator sets another's with PATCH /v3/users/{user_id}")
        if body.user.password == body.user.original_password:
            raise Invalid("password: is the present one; choose another")
        user = await users.get(caller.principal.account_id, user_id)
        await login.verify(user, user_id, body.user.original_password, caller.call.source_ip)
        await users.update(caller.principal, user_id, password=body.user.password)

    @router.delete("/v3/users/{user_id}", status_code=204)
    async def delete_user(user_id: str, caller: Caller = requires("iam:users:deleteUser", "user/{user_id}")) -> None:
        await users.delete(account_wide(caller), user_id)

    @router.get("/v3/users/{user_id}/groups")
    async def groups_of_user(
        user_id: str, caller: Caller = requires("iam:groups:listGroups", "user/{user_id}", everyone=True)
    ) -> dict[str, Any]:
        await own_or_allowed(caller, user_id, "iam:groups:listGroups", "user", user_id)
        found = await groups.list(caller.principal.account_id, user_id=user_id)
        path = f"/v3/users/{user_id}/groups"
        return {"groups": [group_json(platform, g) for g in found], "links": links(platform, path)}


def add_group_routes(router: APIRouter, platform: Platform, users: Users, groups: Groups) -> None:

    @router.get("/v3/groups")
    async def list_groups(
        name: str | None = None, caller: Caller = requires("iam:groups:listGroups")
    ) -> dict[str, Any]:
        found = await groups.list(caller.principal.account_id, name)
        return {"groups": [group_json(platform, g) for g in found], "links": links(platform, "/v3/groups")}

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
        group = await groups.update(account_wide(caller), group_id, body.group.name, body.group.description)
        caller.about(name=group.name)
        return {"group": group_json(platform, group)}

    @router.delete("/v3/groups/{group_id}", status_code=204)
    async def delete_group(
        group_id: str, caller: Caller = requires("iam:groups:deleteGroup", "group/{group_id}")
    ) -> None:
        await groups.delete(account_wide(caller), group_id)

    @router.get("/v3/groups/{group_id}/users")
    async def users_of_group(
        group_id: str, caller: Caller = requires("iam:users:listUsers", "group/{group_id}")
    ) -> dict[str, Any]:
        found = await users.list(caller.principal.account_id, group_id=group_id)
        path = f"/v3/groups/{group_id}/users"
        return {"users": [user_json(platform, u) for u in found], "links": links(platform, path)}

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


def add_credential_routes(router: APIRouter, credentials: Credentials) -> None:
    base = "/v3.0/OS-CREDENTIAL/credentials"

    @router.get(base)
    async def list_credentials(
        user_id: str | None = None, caller: Caller = requires("iam:credentials:listCredentials", everyone=True)
    ) -> dict[str, Any]:
        """The caller's own access keys, or with the right another user's."""
        user_id = user_id or caller.user_id
        await own_or_allowed(caller, user_id, "iam:credentials:listCredentials", "user", user_id)
        found = await credentials.list(caller.principal.account_id, user_id)
        return {"credentials": [credential_json(c) for c in found]}

    @router.post(base, status_code=201)
    async def create_credential(
        body: NewCredential, caller: Caller = requires("iam:credentials:createCredential", everyone=True)
    ) -> dict[str, Any]:
        """The secret is in this answer and never shown again."""
        account_wide(caller)
        user_id = body.credential.user_id
        await own_or_allowed(caller, user_id, "iam:credentials:createCredential", "user", user_id)
        row, issued = await credentials.create(caller.principal, user_id, body.credential.description)
        caller.about(resource=iam_urn("credential", row.access_key), name=row.access_key)
        return {"credential": credential_json(row) | {"secret": issued.secret_key}}

    @router.get(base + "/{access_key}")
    async def show_credential(
        access_key: str,
        caller: Caller = requires("iam:credentials:getCredential", "credential/{access_key}", everyone=True),
    ) -> dict[str, Any]:
        row = await credentials.get(caller.principal.account_id, access_key)
        await own_or_allowed(caller, row.user_id, "iam:credentials:getCredential", "credential", access_key)
        return {"credential": credential_json(row)}

    @router.put(base + "/{access_key}")
    async def update_credential(
        access_key: str,
        body: CredentialChanges,
        caller: Caller = requires("iam:credentials:updateCredential", "credential/{access_key}", everyone=True),
    ) -> dict[str, Any]:
        """``inactive`` makes the key useless at once."""
        row = await credentials.get(account_wide(caller), access_key)
        await own_or_allowed(caller, row.user_id, "iam:credentials:updateCredential", "credential", access_key)
        status = body.credential.status
        enabled = None if status is None else status == "active"
        row = await credentials.update(caller.principal, access_key, enabled, body.credential.description)
        return {"credential": credential_json(row)}

    @router.delete(base + "/{access_key}", status_code=204)
    async def delete_credential(
        access_key: str,
        caller: Caller = requires("iam:credentials:deleteCredential", "credential/{access_key}", everyone=True),
    ) -> None:
        row = await credentials.get(account_wide(caller), access_key)
        await own_or_allowed(caller, row.user_id, "iam:credentials:deleteCredential", "credential", access_key)
        await credentials.delete(caller.principal, access_key)
