"""``/v3.0/OS-CREDENTIAL/securitytokens``: access keys that end by themselves, for oneself or by an agency.

Nothing of them is stored: the security token says whose they are, their limits and their end, and is signed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, Field, model_validator
from starlette.requests import HTTPConnection

from bottega.context import Principal, now_ms
from bottega.errors import Forbidden, Invalid
from bottega.gateway import Caller, Requirement, authenticate
from bottega.iam import parse_policy
from bottega.platform import Platform

from .assuming import AgencyClaim, assume
from .identities import iam_urn
from .shapes import iso

CREATE = "iam:credentials:createTemporaryAccessKey"
_POLICY_BYTES = 8192
"""A session policy travels in a header of every request."""

Seconds = Annotated[int, Field(ge=900, le=86400)]


class _Token(BaseModel):
    id: str | None = Field(None, max_length=32768)
    duration_seconds: Seconds = 900


class _SessionUser(BaseModel):
    name: str | None = Field(None, max_length=64)


class _AssumeRole(BaseModel):
    agency_name: str = Field(max_length=128)
    domain_id: str | None = Field(None, max_length=64)
    domain_name: str | None = Field(None, max_length=64)
    duration_seconds: Seconds = 900
    session_user: _SessionUser | None = None


class _Identity(BaseModel):
    methods: list[Literal["token", "assume_role"]] = Field(min_length=1, max_length=1)
    token: _Token = _Token()
    assume_role: _AssumeRole | None = None
    policy: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _complete(self) -> _Identity:
        if self.methods == ["assume_role"] and self.assume_role is None:
            raise ValueError("methods says assume_role; give assume_role, with agency_name and domain_name")
        return self


class _Auth(BaseModel):
    identity: _Identity


class TemporaryKeyRequest(BaseModel):
    """``CreateTemporaryAccessKeyByToken`` and ``…ByAgency`` of the vendor's IAM v3."""

    auth: _Auth


@dataclass(frozen=True, slots=True)
class ByTokenInBody(Requirement):
    """A token may stand in the body instead of in ``X-Auth-Token``."""

    async def identify(self, platform: Platform, connection: HTTPConnection) -> Principal:
        headers = connection.headers
        if "x-auth-token" not in headers and "authorization" not in headers and isinstance(connection, Request):
            try:
                token = json.loads(await connection.body())["auth"]["identity"]["token"]["id"]
            except (ValueError, KeyError, TypeError, RecursionError):
                token = None
            if isinstance(token, str):
                return await platform.identity.authenticate_token(token)
        return await authenticate(platform, connection)


def add_temporary_key_routes(router: APIRouter, platform: Platform) -> None:
    @router.post("/v3.0/OS-CREDENTIAL/securitytokens", status_code=201)
    async def create_temporary_key(
        body: TemporaryKeyRequest, caller: Caller = Depends(ByTokenInBody(CREATE, everyone=True, keep_body=False))
    ) -> dict[str, Any]:
        """An access key for 15 minutes to a day that may do what its maker may, or less: what `policy` allows, too.

        It ends with the credential it was made with, its user, or its agency; or when its security token is revoked.
        """
        asked = body.auth.identity
        limits = _session_policy(asked.policy)
        if asked.assume_role is not None and asked.methods == ["assume_role"]:
            wanted = asked.assume_role
            claim = AgencyClaim(wanted.agency_name, wanted.domain_id, wanted.domain_name)
            principal, agency = await assume(caller, claim)
            ends, seconds = [caller.principal.expires_at, agency.expires_at], wanted.duration_seconds
            caller.about(resource=iam_urn("agency", agency.id), name=agency.name)
        else:
            principal = caller.principal
            ends, seconds = [principal.expires_at], asked.token.duration_seconds
            decision = await caller.decide(CREATE)
            if decision.reason == "explicit deny" or principal.kind != "user":
                raise Forbidden(f"{CREATE}: {decision.explain() if principal.kind == 'user' else 'a workload may not'}")
        if limits is not None and principal.session_policy is not None:
            raise Invalid("policy: this credential has limits already, which the new one keeps; leave it out")
        principal = replace(principal, session_policy=limits or principal.session_policy)
        now = now_ms()
        until = min([now + seconds * 1000, *(end for end in ends if end is not None)])
        key = platform.identity.tokens.issue_temporary_key(principal, (until - now) / 1000)
        return {
            "credential": {
                "access": key.access_key,
                "secret": key.secret_key,
                "securitytoken": key.security_token,
                "expires_at": iso(datetime.fromtimestamp(key.expires_at / 1000, UTC)),
            }
        }


def _session_policy(document: dict[str, Any] | None) -> str | None:
    """Raises Invalid, with the place of the mistake, for a policy that is none or too long."""
    if document is None:
        return None
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False)
    try:
        size = len(text.encode())
    except UnicodeEncodeError as e:
        raise Invalid("policy: holds half of a surrogate pair, which is no text; write the whole character") from e
    if size > _POLICY_BYTES:
        raise Invalid(f"policy: has {size} bytes, {_POLICY_BYTES} at most")
    parse_policy(document, "policy")
    return text
