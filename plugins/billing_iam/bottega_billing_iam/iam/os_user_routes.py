"""``/v3.0/OS-USER``: users with their personal data, and the second factors they do not have."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field, field_validator

from bottega.entities import User
from bottega.errors import Invalid, NotSupported
from bottega.gateway import Caller, requires
from bottega.passwords import MAX_LENGTH
from bottega.platform import Platform

from .identities import iam_urn
from .listing import Window, windowing
from .login import Login
from .permission import account_wide, in_own, own_or_allowed
from .shapes import moment, own_links, personal_user_json
from .users import UserFields, Users

BASE = "/v3.0/OS-USER"
_INFORM = "iam:users:setInformation"


class _Fields(BaseModel):
    domain_id: str | None = None
    password: str | None = Field(None, max_length=MAX_LENGTH)
    email: str | None = Field(None, max_length=255)
    areacode: str | None = Field(None, max_length=8)
    phone: str | None = Field(None, max_length=32)
    enabled: bool | None = None
    pwd_status: bool | None = None
    access_mode: str | None = None
    description: str | None = Field(None, max_length=255)
    xuser_type: str | None = None
    xuser_id: str | None = None

    @field_validator("xuser_type", "xuser_id")
    @classmethod
    def _no_external(cls, value: str | None) -> str | None:
        if value:
            raise NotSupported("xuser_id: users of an external identity provider need federation, which is not offered")
        return value


class _NewUser(_Fields):
    name: str


class _UserChanges(_Fields):
    name: str | None = None


class NewUser(BaseModel):
    """``pwd_status`` (false when left out): the user must change its password at the first login."""

    user: _NewUser


class UserChanges(BaseModel):
    user: _UserChanges


class _Information(BaseModel):
    email: str | None = Field(None, max_length=255)
    mobile: str | None = Field(None, max_length=40)


class Information(BaseModel):
    """``mobile`` is area code and number, joined by ``-``: 0049-15112345678."""

    user: _Information


class _LoginProtect(BaseModel):
    enabled: bool
    verification_method: str = Field("none", max_length=16)


class LoginProtect(BaseModel):
    login_protect: _LoginProtect


def add_os_user_routes(router: APIRouter, platform: Platform, users: Users, login: Login) -> None:

    async def out(user: User) -> dict[str, Any]:
        until = moment(await login.password_ends(user))
        links = own_links(platform, f"{BASE}/users/{user.id}")
        return personal_user_json(user, users.personal) | {"password_expires_at": until, "links": links}

    @router.post(BASE + "/users", status_code=201)
    async def create_personal_user(body: NewUser, caller: Caller = requires("iam:users:createUser")) -> dict[str, Any]:
        """A new user has no rights until it is put into a group that has."""
        account_id = in_own(caller, body.user.domain_id)
        user = await users.create(account_id, _fields(body.user, body.user.name))
        caller.about(resource=iam_urn("user", user.id), name=user.name)
        return {"user": await out(user)}

    @router.get(BASE + "/users/{user_id}")
    async def show_personal_user(
        user_id: str, caller: Caller = requires("iam:users:getUser", "user/{user_id}", everyone=True)
    ) -> dict[str, Any]:
        """With e-mail and phone, for the user itself and for who may see users."""
        await own_or_allowed(caller, user_id, "iam:users:getUser", "user", user_id)
        return {"user": await out(await users.get(caller.principal.account_id, user_id))}

    @router.put(BASE + "/users/{user_id}")
    async def update_personal_user(
        user_id: str, body: UserChanges, caller: Caller = requires("iam:users:updateUser", "user/{user_id}")
    ) -> dict[str, Any]:
        """A new password, or disabling, ends every token of the user at once."""
        in_own(caller, body.user.domain_id)
        user = await users.update(caller.principal, user_id, _fields(body.user, body.user.name))
        caller.about(name=user.name)
        return {"user": await out(user)}

    @router.put(BASE + "/users/{user_id}/info", status_code=204)
    async def update_information(
        user_id: str,
        body: Information,
        caller: Caller = requires(_INFORM, "user/{user_id}", everyone=True),
    ) -> None:
        """Change one's own e-mail and mobile number; an administrator anybody's."""
        account_wide(caller)
        given = {"manage_email": body.user.email, "manage_mobile": body.user.mobile}
        await own_or_allowed(caller, user_id, _INFORM, "user", user_id)
        for managing in (name for name, value in given.items() if value is not None):
            await own_or_allowed(caller, user_id, _INFORM, "user", user_id, managing)
        areacode, phone = _mobile(body.user.mobile)
        fields = UserFields(email=body.user.email, areacode=areacode, phone=phone)
        await users.update(caller.principal, user_id, fields)

    @router.get(BASE + "/login-protects")
    async def list_login_protects(
        window: Window = windowing(), caller: Caller = requires("iam:users:listLoginProtects")
    ) -> dict[str, Any]:
        """Of each user whether a second factor protects its login: there are none here yet."""
        found = await users.list(caller.principal.account_id, window)
        return {"login_protects": [_protect_json(user.id) for user in found.rows]}

    @router.get(BASE + "/users/{user_id}/login-protect")
    async def show_login_protect(
        user_id: str, caller: Caller = requires("iam:users:getLoginProtect", "user/{user_id}", everyone=True)
    ) -> dict[str, Any]:
        await own_or_allowed(caller, user_id, "iam:users:getLoginProtect", "user", user_id)
        user = await users.get(caller.principal.account_id, user_id)
        return {"login_protect": _protect_json(user.id)}

    @router.put(BASE + "/users/{user_id}/login-protect")
    async def update_login_protect(
        user_id: str,
        body: LoginProtect,
        caller: Caller = requires("iam:users:updateLoginProtect", "user/{user_id}"),
    ) -> dict[str, Any]:
        """Only switching it off is possible: a login that seems protected and is not would be worse than none."""
        user = await users.get(account_wide(caller), user_id)
        if body.login_protect.enabled:
            raise NotSupported("login_protect: there are no second factors here; leave enabled false")
        return {"login_protect": _protect_json(user.id)}


def _fields(asked: _Fields, name: str | None) -> UserFields:
    return UserFields(
        name,
        asked.password,
        asked.enabled,
        asked.description,
        asked.email,
        asked.areacode,
        asked.phone,
        asked.pwd_status,
        asked.access_mode,
    )


def _mobile(text: str | None) -> tuple[str | None, str | None]:
    if text is None:
        return None, None
    areacode, dash, number = text.partition("-")
    if text and not dash:
        raise Invalid("mobile: write area code and number joined by '-', such as 0049-15112345678")
    return areacode, number


def _protect_json(user_id: str) -> dict[str, Any]:
    return {"user_id": user_id, "enabled": False, "verification_method": "none"}
