"""``/v3/auth``: tokens by password, agency or token, what a token is worth, and what the caller can reach."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated, Any

import jwt
from fastapi import APIRouter, Header, Request, Response
from starlette.requests import HTTPConnection

from bottega.calls import Call
from bottega.context import Principal, now_ms
from bottega.entities import Account, Project, User
from bottega.errors import Forbidden, NotFound, Unauthenticated
from bottega.gateway import Caller, Requirement, authenticate, public, requires
from bottega.platform import Platform
from bottega.rights import DEFAULT_ENTERPRISE_PROJECT, Holder

from .accounts import Projects
from .assuming import AgencyClaim, assume
from .catalog import catalog
from .identities import iam_urn
from .listing import Window, windowing
from .login import Claim, Login
from .permission import own_or_allowed
from .shapes import account_json, iso, own_links, project_json
from .token_requests import Named, PasswordUser, TokenRequest

CREATE = "iam:tokens:create"


@dataclass(frozen=True, slots=True)
class GivenToken(Requirement):
    """Who asks is who holds `token`, where there is one; else the one who sends the request."""

    token: str | None = None

    async def identify(self, platform: Platform, connection: HTTPConnection) -> Principal:
        if self.token is not None:
            return await platform.identity.authenticate_token(self.token)
        return await authenticate(platform, connection)


def add_token_routes(router: APIRouter, platform: Platform, login: Login, projects: Projects) -> None:

    @router.post("/v3/auth/tokens", status_code=201)
    async def create_token(
        body: TokenRequest,
        request: Request,
        response: Response,
        nocatalog: str | None = None,
        call: Call = public("this is where credentials become a token", CREATE),
    ) -> dict[str, Any]:
        """A token, in the header ``X-Subject-Token``: for an account or a user by password, for another scope of what
        a token or access key can reach (``token``), or to act by an agency (``assume_role``).

        With a password that has to be changed the token is good for that only.
        """
        call.keep_body = False
        identity = body.auth.identity
        if identity.password is not None and identity.method == "password":
            principal, project, lifetime = await by_password(body, identity.password.user, call)
        else:
            given = identity.token.id if identity.method == "token" else None
            caller = await GivenToken(CREATE, everyone=True, keep_body=False, token=given)(request)
            principal, project, lifetime = await by_credential(body, caller)
        now = now_ms() / 1000
        made = platform.identity.issue_token(principal, lifetime)
        response.headers["X-Subject-Token"] = made
        until = (await platform.identity.authenticate_token(made)).expires_at or 0
        token = await describe(principal, project, identity.method, now, until / 1000)
        if body.auth.scope == "unscoped":
            del token["domain"]
        return {"token": _without(token, nocatalog)}

    async def by_password(body: TokenRequest, asked: PasswordUser, call: Call) -> Way:
        domain = asked.domain or Named()
        claim = Claim(asked.id, asked.name, domain.id, domain.name)
        found, call.principal = await login.find(claim)
        call.resource_name = claim.text
        user = await login.verify(found, claim, asked.password, call.source_ip)
        session = await login.enter(user, call.source_ip)
        project = await scope(body, user.account_id)
        principal = await platform.identity.principal(user.id, scope=project.id if project else None)
        return replace(principal, session_policy=session.session_policy), project, session.lifetime_s

    async def by_credential(body: TokenRequest, caller: Caller) -> Way:
        role, principal = body.auth.identity.assume_role, caller.principal
        if role is not None and body.auth.identity.method == "assume_role":
            claim = AgencyClaim(role.agency_name, role.domain_id, role.domain_name)
            principal, agency = await assume(caller, claim)
            caller.about(resource=iam_urn("agency", agency.id), name=agency.name)
        if principal.kind != "user":
            raise Forbidden("a workload's credential makes no tokens; they would outlive it")
        project = await scope(body, principal.account_id)
        if principal.scope is not None and (project is None or project.id != principal.scope):
            raise Forbidden(f"this credential is limited to project '{principal.scope}'; use one of the whole account")
        scoped = replace(principal, scope=project.id if project else None)
        return scoped, project, float(platform.settings.token_lifetime_s)

    async def scope(body: TokenRequest, account_id: str) -> Project | None:
        domain = (body.domain.id, body.domain.name)
        return await login.scope(account_id, body.project.id, body.project.name, domain)

    async def describe(
        principal: Principal, project: Project | None, method: str, issued: float, expires: float
    ) -> dict[str, Any]:
        account = await platform.identity.account(principal.account_id)
        domain = _named(account)
        place = project.id if project else None
        granted = await platform.identity.rights.grants(Holder.of(principal))
        roles = {g.policy_id: g.document.name for g in granted if g.counts_in(place, DEFAULT_ENTERPRISE_PROJECT)}
        token: dict[str, Any] = {
            "methods": [method],
            "issued_at": _moment(issued),
            "expires_at": _moment(expires),
            "user": {"id": principal.user_id, "name": principal.user_name, "domain": domain},
            "roles": [{"id": id, "name": name} for id, name in roles.items()],
            "catalog": catalog(platform, place),
        }
        user = await platform.identity.user(principal.user_id)
        until = await login.password_ends(user)
        token["user"]["password_expires_at"] = "" if until is None else _moment(until / 1000)
        if principal.is_account_root:
            token["roles"].insert(0, {"id": "0", "name": "te_admin"})
        if principal.agency_id is not None:
            await show_agency(token, principal, user, account)
        if project is not None:
            return token | {"project": {"id": project.id, "name": project.name, "domain": domain}}
        return token | {"domain": domain}

    async def show_agency(token: dict[str, Any], principal: Principal, user: User, account: Account) -> None:
        """Say that the token is an agency's, and who assumed it."""
        agency = await platform.identity.rights.agency(principal.agency_id or "")
        name = f"{account.name}/{agency.name if agency else ''}"
        home = _named(await platform.identity.account(user.account_id))
        token["assumed_by"] = {"user": token["user"] | {"domain": home}}
        token["user"] = {"id": principal.agency_id, "name": name, "domain": _named(account)}

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
        method = "assume_role" if principal.agency_id else "password"
        response.headers["X-Subject-Token"] = subject
        token = await describe(principal, project, method, claims["iat"], (principal.expires_at or 0) / 1000)
        return {"token": _without(token, nocatalog)}

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
    async def my_projects(
        window: Window = windowing(), caller: Caller = requires("iam:projects:listProjects", everyone=True)
    ) -> dict[str, Any]:
        """The projects the caller has any right in."""
        decision = await caller.decide("iam:projects:listProjects")
        found = await projects.list(caller.principal, window, everything=decision.allowed, enabled=True)
        rows = [project_json(platform, p) for p in found.rows]
        return {"projects": rows, "links": window.links(platform, found.more)}

    @router.get("/v3/auth/domains")
    async def my_domain(caller: Caller = requires("iam:domains:listDomains", everyone=True)) -> dict[str, Any]:
        """The caller's own account."""
        account = await platform.identity.account(caller.principal.account_id)
        return {"domains": [account_json(platform, account)], "links": own_links(platform, "/v3/auth/domains")}


Way = tuple[Principal, Project | None, float]
"""Whom a token is for, in which project, and how many seconds it may live."""


def _named(account: Account) -> dict[str, str]:
    return {"id": account.id, "name": account.name}


def _without(token: dict[str, Any], nocatalog: str | None) -> dict[str, Any]:
    return token if nocatalog is None else {key: value for key, value in token.items() if key != "catalog"}


def _moment(seconds: float) -> str:
    return iso(datetime.fromtimestamp(seconds, UTC))
