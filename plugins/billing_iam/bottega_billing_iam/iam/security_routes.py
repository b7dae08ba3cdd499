"""``/v3.0/OS-SECURITYPOLICY`` and the password rules of ``/v3/domains/{id}/config``: an account's own rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, create_model

from bottega.gateway import Caller, requires
from bottega.passwords import MAX_LENGTH
from bottega.platform import Platform

from .passwords import pattern, requirements
from .permission import about_own, account_wide
from .security import (
    ApiAddresses,
    ConsoleAddresses,
    LoginPolicy,
    PasswordPolicy,
    ProtectPolicy,
    Security,
    SecurityPolicy,
)

_BASE = "/v3.0/OS-SECURITYPOLICY/domains/{domain_id}"
_SEE, _SET = "iam:securitypolicies:get", "iam:securitypolicies:update"


@dataclass(frozen=True, slots=True)
class _Part:
    """One policy: the last part of its path, its name in bodies, its model."""

    path: str
    key: str
    model: type[SecurityPolicy]


_PARTS = (
    _Part("password-policy", "password_policy", PasswordPolicy),
    _Part("login-policy", "login_policy", LoginPolicy),
    _Part("protect-policy", "protect_policy", ProtectPolicy),
    _Part("api-acl-policy", "api_acl_policy", ApiAddresses),
    _Part("console-acl-policy", "console_acl_policy", ConsoleAddresses),
)


def add_security_routes(router: APIRouter, platform: Platform) -> None:
    security = Security(platform)
    for part in _PARTS:
        _add(router, security, part)

    @router.get("/v3/domains/{domain_id}/config/security_compliance")
    async def security_compliance(
        domain_id: str, caller: Caller = requires("iam:securitypolicies:get", everyone=True)
    ) -> dict[str, Any]:
        """What passwords must be like; every user of the account may know."""
        rules = _compliance(await security.get(about_own(caller, domain_id), PasswordPolicy))
        return {"config": {"security_compliance": rules}}

    @router.get("/v3/domains/{domain_id}/config/security_compliance/{option}")
    async def security_compliance_option(
        domain_id: str,
        option: Literal["password_regex", "password_regex_description"],
        caller: Caller = requires("iam:securitypolicies:get", everyone=True),
    ) -> dict[str, Any]:
        rules = _compliance(await security.get(about_own(caller, domain_id), PasswordPolicy))
        return {"config": {option: rules[option]}}


def _add(router: APIRouter, security: Security, part: _Part) -> None:
    body_model: Any = create_model(f"{part.model.__name__}Body", **{part.key: (part.model, ...)})  # type: ignore[call-overload]  # a field name that is a variable

    @router.get(f"{_BASE}/{part.path}", name=f"show_{part.key}")
    async def show(domain_id: str, caller: Caller = requires(_SEE)) -> dict[str, Any]:
        return {part.key: _out(await security.get(about_own(caller, domain_id), part.model))}

    async def update(domain_id: str, body: BaseModel, caller: Caller = requires(_SET)) -> dict[str, Any]:
        """Only what is given changes, from the next request on."""
        about_own(caller, domain_id)
        return {part.key: _out(await security.set(account_wide(caller), getattr(body, part.key)))}

    update.__annotations__["body"] = body_model
    router.put(f"{_BASE}/{part.path}", name=f"update_{part.key}")(update)


def _out(policy: SecurityPolicy) -> dict[str, Any]:
    shown = policy.model_dump()
    if isinstance(policy, PasswordPolicy):
        shown |= {"maximum_password_length": MAX_LENGTH, "password_requirements": requirements(policy)}
    return shown


def _compliance(policy: PasswordPolicy) -> dict[str, str]:
    return {"password_regex": pattern(policy), "password_regex_description": requirements(policy)}
