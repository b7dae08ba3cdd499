"""Authentication and the permission check that every route names.

A plugin's route says what it needs and gets a `Caller` that has been checked::

    @router.get("/v2/{project_id}/training-jobs/{id}")
    async def show(id: str, caller: Caller = requires("modelarts:trainJob:get", "job/{id}")) -> Job:
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fastapi import Depends, Query, Request
from fastapi.dependencies.models import Dependant
from limits import parse as parse_limit
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import FixedWindowRateLimiter
from starlette.requests import HTTPConnection

from bottega import signing
from bottega.calls import Call, current_call
from bottega.context import Principal, act_as
from bottega.entities import DEFAULT_WORKSPACE
from bottega.errors import (
    ApiError,
    Forbidden,
    NotFound,
    TooManyRequests,
    Unauthenticated,
)
from bottega.iam import Decision
from bottega.objects import ObjectPath
from bottega.plans import Need
from bottega.urn import PLATFORM

if TYPE_CHECKING:
    from bottega.platform import Platform


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated caller that passed its route's check."""

    principal: Principal
    project_id: str
    platform: Platform
    call: Call = field(repr=False)

    @property
    def user_id(self) -> str:
        return self.principal.user_id

    @property
    def request_id(self) -> str:
        return self.call.request_id

    async def decide(self, action: str, resource: str = "*", context: Mapping[str, Any] | None = None) -> Decision:
        """A further question about the same caller; it does not raise.

        :param context: condition keys of the service, such as ``obs:prefix``, beside the global ones.
        """
        return await _decide(self.platform, self.call, self.principal, action, resource, context)

    async def check(self, action: str, resource: str = "*", context: Mapping[str, Any] | None = None) -> None:
        """Raises Forbidden, with the deciding statement, unless the caller may do `action` on `resource`."""
        _refuse_unless(await self.decide(action, resource, context), action, resource)

    async def check_path(self, path: ObjectPath, *, write: bool = False) -> None:
        """Raises Forbidden unless the path is in a bucket of the caller's account and its policies allow its use."""
        if not await self._owns(path.bucket):
            raise Forbidden(f"bucket '{path.bucket}' is not one of yours")
        await self.check("obs:object:PutObject" if write else "obs:object:GetObject", path.urn)

    async def _owns(self, bucket: str) -> bool:
        return await self.platform.identity.bucket_account(bucket) == self.principal.account_id

    async def check_account(self, action: str) -> str:
        """The caller's account, for a question about all of it, not one project.

        Raises Forbidden unless a policy granted account-wide allows `action` and the credential is not limited
        to a project.
        """
        principal = self.principal
        if principal.scope is not None:
            raise Forbidden(f"this token is scoped to project '{principal.scope}'; use one of the whole account")
        context = await self.platform.identity.conditions(principal, None, self.call.source_ip)
        resource = f"bottega:{self.platform.action_owner(action)}:{PLATFORM}:*"
        decision = await self.platform.identity.decide(principal, None, action, resource, context)
        _refuse_unless(decision, action, resource)
        return principal.account_id

    async def check_operator(self, refusal: ApiError) -> None:
        """Raises `refusal` unless the caller is of the platform's first account.

        Raises Forbidden when its credential is limited to a project: the whole installation is not in one.
        """
        if self.principal.account_id != await self.platform.identity.platform_account():
            raise refusal
        if self.principal.scope is not None:
            raise Forbidden(f"this token is scoped to project '{self.principal.scope}'; use one of the whole account")

    async def enter(self, workspace_id: str) -> None:
        """Say in which workspace a thing will be created, before its other permissions are checked.

        Raises Invalid when there is none such that the caller may enter, Forbidden without the permission there.
        """
        await self.platform.workspaces.enter(self.call, self.project_id, workspace_id)

    async def require(self, needs: Iterable[Need]) -> None:
        """Check everything a creation will need over its whole life. Raises Forbidden naming all that is missing."""
        delegated = await self.platform.identity.delegate(self.principal) != self.principal
        missing = [
            f"{need.why}: {decision.explain()} on {need.resource}{' (agency)' if need.by == 'agency' else ''}"
            for need in needs
            if (need.by == "caller" or delegated) and not (decision := await self.has(need)).allowed
        ]
        if missing:
            raise Forbidden("this needs permissions that are missing: " + "; ".join(missing))

    async def has(self, need: Need) -> Decision:
        """Whether one need is met: by the caller's own rights, or by those of the agency that acts for the caller."""
        foreign = await self._foreign(need)
        if foreign:  # what policies of this account say about a thing of another one does not matter
            return Decision(False, "no statement allows it", need.action, notes=(foreign,))
        if need.by == "caller":
            return await self.decide(need.action, need.resource)
        acting = await self.platform.identity.delegate(self.principal)
        return await _decide(self.platform, self.call, acting, need.action, need.resource)

    async def _foreign(self, need: Need) -> str | None:
        """Why what is needed is another account's."""
        if need.bucket is not None and not await self._owns(need.bucket):
            return f"bucket '{need.bucket}' is not one of yours"
        if need.topic_project is not None:
            try:
                owner = (await self.platform.identity.project(need.topic_project)).account_id
            except NotFound:
                owner = ""
            if owner != self.principal.account_id:
                return f"topic '{need.resource}' is not one of yours"
        return None

    async def check_standing(self) -> None:
        """For a request that begins to cost by what its body says. Raises InArrears when the account owes money."""
        await self.platform.check_standing(self.principal, self.call.action or "", spends=True)

    def about(self, *, resource: str | None = None, name: str | None = None, trace: str | None = None) -> None:
        """Say more precisely what this call is about, for the audit trail."""
        call = self.call
        known = (call.resource, call.resource_name, call.trace)
        call.resource, call.resource_name, call.trace = resource or known[0], name or known[1], trace or known[2]
        if known != (call.resource, call.resource_name, call.trace):
            call.recorded_status = None  # what a transaction has recorded of it already is out of date


@dataclass(frozen=True, slots=True)
class Requirement:
    """The check a route names. `resource` is ``kind/{path_parameter}`` of the plugin's own things, or ``*``.

    `limit_body` is off for a route that passes a body on as it comes: it then may be larger than
    ``server.max_body_mb``, once its caller is known.
    """

    action: str
    resource: str = "*"
    everyone: bool = False
    trace: str | None = None
    spends: bool = False
    keep_body: bool = True
    limit_body: bool = True

    async def __call__(self, connection: HTTPConnection) -> Caller:
        platform: Platform = connection.app.state.platform
        call = current_call.get()
        assert call is not None
        call.describe(self.action, platform.action(self.action), connection.scope.get("route"))
        call.trace = self.trace or call.trace
        call.keep_body = self.keep_body
        try:
            principal = call.principal = await self.identify(platform, connection)
        except Unauthenticated:
            # Each refusal is recorded, so whoever guesses is held back before the records fill the disk.
            await platform.shared.limiter.hit(f"address {call.source_ip}")
            raise
        call.limit_body = self.limit_body
        return await self.admit(platform, call, principal, connection.path_params)

    async def admit(
        self, platform: Platform, call: Call, principal: Principal, parameters: Mapping[str, Any]
    ) -> Caller:
        """Everything that is checked of a caller once it is known who it is.

        :param parameters: those of the route's path, or what takes their place where there is no route.
        """
        act_as(principal)
        await platform.identity.check_address(principal, call.source_ip)
        await platform.limit_rate(principal)
        platform.check_owner(self.action)
        project_id = parameters.get("project_id")
        if project_id is not None:
            call.project = await platform.identity.check_project(principal, project_id)
        owner = platform.action_owner(self.action)
        named = self.resource.format_map(parameters)
        resource = f"bottega:{owner}:{project_id or PLATFORM}:{named}"
        call.resource = resource
        if project_id is not None:
            await platform.workspaces.admit(call, principal, project_id, named, guarded=not self.everyone)
        if not self.everyone:
            _refuse_unless(await _decide(platform, call, principal, self.action, resource), self.action, resource)
        await platform.check_standing(principal, self.action, spends=self.spends)
        return Caller(principal, project_id or principal.scope or PLATFORM, platform, call)

    async def identify(self, platform: Platform, connection: HTTPConnection) -> Principal:
        """Who calls. A subclass may accept other credentials (a cookie, say); the permission check stays this one."""
        return await authenticate(platform, connection)


@dataclass(frozen=True, slots=True)
class Public:
    """Marks a route that needs no credentials, with the reason why; one with an action is recorded as a call of it.

    With a project in its path, it is recorded in the trail of that project's account, whatever becomes of it.
    """

    reason: str
    action: str | None = None
    keep_body: bool = True

    async def __call__(self, connection: HTTPConnection) -> Call:
        call = current_call.get()
        assert call is not None
        if self.action is not None:
            platform: Platform = connection.app.state.platform
            call.describe(self.action, platform.action(self.action), connection.scope.get("route"))
            call.keep_body = self.keep_body
            await platform.shared.limiter.hit(f"address {call.source_ip}")
            if (project_id := connection.path_params.get("project_id")) is not None:
                with suppress(NotFound):
                    call.project = await platform.identity.project(project_id)
        return call


def checks_of(dependant: Dependant) -> Iterator[Requirement | Public]:
    """The checks a route names."""
    for inner in dependant.dependencies:
        if isinstance(inner.call, Requirement | Public):
            yield inner.call
        yield from checks_of(inner)


async def check_unread(connection: HTTPConnection) -> None:
    """The check of a route whose body cannot be read, which the framework finds out before it asks who calls.

    Raises what the check does, so that strangers are refused as such and the record says who called.
    """
    call = current_call.get()
    dependant = getattr(connection.scope.get("route"), "dependant", None)
    if call is not None and call.action is None and dependant is not None:
        for check in checks_of(dependant):
            await check(connection)


def requires(
    action: str,
    resource: str = "*",
    *,
    everyone: bool = False,
    trace: str | None = None,
    spends: bool = False,
    keep_body: bool = True,
) -> Any:
    """The dependency by which a route names its IAM action.

    :param resource: the thing acted on, ``kind/{path_parameter}``; policies see it as
        ``bottega:<plugin>:<project>:kind/id``. ``*`` for lists and creation.
    :param everyone: any authenticated user may (the route itself limits what is shown to what is theirs).
    :param trace: overrides the audit trace name of the action, where one action has several.
    :param spends: an account in arrears cannot do it, although it may do other things of the same action.
    :param keep_body: whether the audit trail may show the request's body; not for data, such as an upload.
    """
    return Depends(Requirement(action, resource, everyone, trace, spends, keep_body))


def public(reason: str, action: str | None = None, *, keep_body: bool = True) -> Any:
    """The dependency of a route that is open to all, such as a login.

    :param action: what the audit trail calls it; without one only refused calls are recorded. Its value in the
        route is the `Call`, whose `principal` the route sets once it knows who it is.
    :param keep_body: whether the audit trail may show the request's body; not where it is a secret, however it is
        spelled.
    """
    return Depends(Public(reason, action, keep_body))


@dataclass(frozen=True, slots=True)
class Page:
    offset: int
    limit: int


def paging(default: int = 10, maximum: int = 1000) -> Any:
    """The `offset` (rows to skip) and `limit` query parameters of a list."""

    def read(offset: int = Query(0, ge=0, le=2**31), limit: int = Query(default, ge=1, le=maximum)) -> Page:
        return Page(offset, limit)

    return Depends(read)


def workspace_of(value: str | None) -> str:
    return value or DEFAULT_WORKSPACE


async def authenticate(platform: Platform, connection: HTTPConnection) -> Principal:
    """The caller by ``X-Auth-Token``, a bearer token, or a signature.

    The token goes first and a signature beside it is ignored, as the vendor's client expects (sdk_spec §1.3).
    """
    headers = connection.headers
    token = headers.get("x-auth-token")
    authorization = headers.get("authorization", "")
    if token is None and authorization[:7].lower() == "bearer ":
        token = authorization[7:].strip()
    if token is not None:
        return await platform.identity.authenticate_token(token)
    if not authorization:
        raise Unauthenticated("no credentials: send X-Auth-Token, or sign the request with an access key")
    try:
        pending = signing.begin(
            connection.scope.get("method", "GET"),
            connection.scope["raw_path"],
            connection.scope["query_string"],
            connection.scope["headers"],
            now=time.time(),
        )
        key = await platform.identity.access_key(pending.request.access_key, pending.security_token)
        body = await connection.body() if isinstance(connection, Request) else b""
        pending.finish(body, key.secret)
    except signing.SignatureError as e:
        raise Unauthenticated(str(e)) from e
    return key.principal


async def _decide(
    platform: Platform,
    call: Call,
    principal: Principal,
    action: str,
    resource: str,
    further: Mapping[str, Any] | None = None,
) -> Decision:
    """Allowed where any of the enterprise projects in question allows it; `bottega.workspaces` narrows these down."""
    project = call.project
    context = await platform.identity.conditions(principal, project, call.source_ip)
    context.update(further or {})
    for scope in call.enterprise_projects:
        decision = await platform.identity.decide(
            principal, project.id if project else None, action, resource, context, scope
        )
        if decision.allowed:
            break
    return decision


def _refuse_unless(decision: Decision, action: str, resource: str) -> None:
    if not decision.allowed:
        raise Forbidden(f"{action} on {resource}: {decision.explain()}")


class Limiter:
    """Requests per caller in a window."""

    def __init__(self, rate: str) -> None:
        self._rate = parse_limit(rate)
        self._limiter = FixedWindowRateLimiter(MemoryStorage())

    async def admits(self, key: str) -> bool:
        """Count one more of `key`: whether that is not too many."""
        return await self._limiter.hit(self._rate, key)

    async def hit(self, key: str) -> None:
        """Count one more of `key`. Raises TooManyRequests."""
        if not await self.admits(key):
            raise TooManyRequests(f"more than {self._rate} requests; wait and try again")
