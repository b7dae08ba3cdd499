"""``/v3/auth``: tokens by password, what a token is worth, and what the caller can reach."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import jwt
from fastapi import APIRouter, Header, Response
from pydantic import BaseModel, Field, model_validator

from bottega.calls import Call
from bottega.context import Principal, now_ms
from bottega.entities import Account, Project
from bottega.errors import NotFound, Unauthenticated
from bottega.gateway import Caller, public, requires
from bottega.platform import Platform

from .accounts import Projects
from .login import Claim, Login
from .passwords import MAX_LENGTH
from .permission import own_or_allowed
from .shapes import account_json, iso, links, project_json


class _Named(BaseModel):
    id: str | None = Field(None, max_length=64)
    name: str | None = Field(None, max_length=64)


class _User(_Named):
    domain: _Named | None = None
    password: str = Field(max_length=MAX_LENGTH)

    @model_validator(mode="after")
    def _identified(self) -> _User:
        if self.id is None and (self.name is None or self.domain is None or not (self.domain.id or self.domain.name)):
            raise ValueError("give the user's id, or its name and the name or id of its domain (the account)")
        return self


class _Password(BaseModel):
    user: _User


class _Identity(BaseModel):
    methods: list[Literal["password"]] = Field(min_length=1)
    password: _Password


class _Scope(BaseModel):
    project: _Named | None = None
    domain: _Named | None = None


class _Auth(BaseModel):
    identity: _Identity
    scope: _Scope | None = None


class TokenRequest(BaseModel):
    """``KeystoneCreateUserTokenByPassword`` of the vendor's IAM v3."""

    auth: _Auth


def add_token_routes(router: APIRouter, platform: Platform, login: Login, projects: Projects) -> None:

    async def describe(principal: Principal, project: Project | None, issued: float, expires: float) -> dict[str, Any]:
        account = await platform.identity.account(principal.account_id)
        domain = {"id": account.id, "name": account.name}
        granted = await login.granted(principal.user_id, project.id if project else None)
        roles = [{"id": policy.id, "name": policy.name} for policy in granted]
        if principal.is_account_root:
            roles = [{"id": "0", "name": "te_admin"}, *roles]
        token: dict[str, Any] = {
            "methods": ["password"],
            "issued_at": _moment(issued),
            "expires_at": _moment(expires),
            "user": {
                "id": principal.user_id,
                "name": principal.user_name,
                "domain": domain,
                "password_expires_at": "",
            },
            "roles": roles,
            "catalog": catalog(platform, account, project),
        }
        if project is not None:
            return token | {"project": {"id": project.id, "name": project.name, "domain": domain}}
        return token | {"domain": domain}

    @router.post("/v3/auth/tokens", status_code=201)
    async def create_token(
        body: TokenRequest,
        response: Response,
        nocatalog: str | None = None,
        call: Call = public("this is where credentials become a token", "iam:tokens:create"),
    ) -> dict[str, Any]:
        """Log in as an account or as one of its users; the token comes in the header ``X-Subject-Token``."""
        asked = body.auth.identity.password.user
        domain = asked.domain or _Named()
        claim = Claim(asked.id, asked.name, domain.id, domain.name)
        found, call.principal = await login.find(claim)
        call.resource_name = claim.text
        user = await login.verify(found, claim.text, asked.password, call.source_ip)
        scope = body.auth.scope or _Scope()
        account, wanted = scope.domain or _Named(), scope.project or _Named()
        await login.check_domain(user, account.id, account.name)
        project = await login.scope(user, wanted.id, wanted.name)
        principal = await platform.identity.principal(user.id, scope=project.id if project else None)
        now, lifetime = now_ms() / 1000, platform.settings.token_lifetime_s
        response.headers["X-Subject-Token"] = platform.identity.issue_token(principal, lifetime)
        token = await describe(principal, project, now, now + lifetime)
        if nocatalog is not None:
            del token["catalog"]
        return {"token": token}

    @router.get("/v3/auth/tokens")
    async def validate_token(
        response: Response,
        subject: Annotated[str, Header(alias="X-Subject-Token")],
        nocatalog: str | None = None,
        caller: Caller = requires("iam:tokens:validate", everyone=True),
    ) -> dict[str, Any]:
        """What a token of the caller's account is worth; for another user's token a right is needed."""
        unknown = NotFound("the token in X-Subject-Token is not valid, or not of this account")
        try:
            principal = await platform.identity.authenticate_token(subject)
        except Unauthenticated as e:
            raise unknown from e
        if principal.account_id != caller.principal.account_id:
            raise unknown
        await own_or_allowed(caller, principal.user_id, "iam:tokens:validate", "user", principal.user_id)
        # Its signature was verified just now.
        claims = jwt.decode(subject, options={"verify_signature": False})
        project = await platform.identity.project(principal.scope) if principal.scope else None
        response.headers["X-Subject-Token"] = subject
        token = await describe(principal, project, claims["iat"], claims["exp"])
        if nocatalog is not None:
            del token["catalog"]
        return {"token": token}

    @router.delete("/v3/auth/tokens", status_code=204)
    async def revoke_token(
        subject: Annotated[str, Header(alias="X-Subject-Token")],
        caller: Caller = requires("iam:tokens:revoke", everyone=True),
    ) -> None:
        """End a token now; for another user's a right is needed. Security tokens of temporary keys end so, too."""
        unknown = NotFound("the token in X-Subject-Token is not valid, or not of this account")
        async with platform.database.transaction() as tx:
            try:
                principal = await platform.identity.revoke_token(tx, subject)
            except Unauthenticated as e:
                raise unknown from e
            if principal.account_id != caller.principal.account_id:
                raise unknown
            await own_or_allowed(caller, principal.user_id, "iam:tokens:revoke", "user", principal.user_id)

    @router.get("/v3/auth/projects")
    async def my_projects(caller: Caller = requires("iam:projects:listProjects", everyone=True)) -> dict[str, Any]:
        """The projects the caller has any right in."""
        decision = await caller.decide("iam:projects:listProjects")
        found = await projects.list(caller.principal, everything=decision.allowed, enabled=True)
        path = "/v3/auth/projects"
        return {"projects": [project_json(platform, p) for p in found], "links": links(platform, path)}

    @router.get("/v3/auth/domains")
    async def my_domain(caller: Caller = requires("iam:domains:listDomains", everyone=True)) -> dict[str, Any]:
        """The caller's own account."""
        account = await platform.identity.account(caller.principal.account_id)
        return {"domains": [account_json(platform, account)], "links": links(platform, "/v3/auth/domains")}


def catalog(platform: Platform, account: Account, project: Project | None) -> list[dict[str, Any]]:
    """The services of this installation and where they answer, for clients that discover them (Keystone catalog)."""
    base, region = platform.url, platform.settings.region
    place = f"/{project.id}" if project else ""
    urls = {
        "identity": f"{base}/v3",
        "iam": f"{base}/v3",
        "modelarts": f"{base}/v1{place}",
        "modelartsv1": f"{base}/v1{place}",
        "modelartsv2": f"{base}/v2{place}",
    }
    store = platform.shared.s3
    if store:
        urls["obs"] = store["endpoint"]
    return [
        {
            "id": name,
            "name": name,
            "type": name,
            "endpoints": [
                {
                    "id": f"{name}-{region}",
                    "interface": "public",
                    "region": region,
                    "region_id": region,
                    "url": url,
                }
            ],
        }
        for name, url in urls.items()
    ]


def _moment(seconds: float) -> str:
    return iso(datetime.fromtimestamp(seconds, UTC))
