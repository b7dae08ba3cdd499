"""What is known about the request being served, and the record of it that becomes an event."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from starlette.types import Scope

from bottega import redaction
from bottega.context import Principal, now_ms
from bottega.database import Transaction
from bottega.entities import Project
from bottega.errors import ApiError
from bottega.events import Event
from bottega.urn import PLATFORM, Urn

if TYPE_CHECKING:
    from bottega.plugins import Action

CHANGING = {"POST", "PUT", "PATCH", "DELETE"}
LARGEST_BODY = 256 * 1024
"""Bytes of a body that are looked at for the record; of a larger one only its size is kept."""
_ACCESS_KEY = re.compile(rb"\bAccess=([A-Za-z0-9]{1,64})\b")


class ApiCalled(Event, type="core.api.called.v1"):
    """Someone called the API to change something, or was refused. Reads that were allowed are not recorded.

    When `status` turns out different from what committed with the change, a second event of the same `request_id`
    follows; the later one counts. `request` holds the path, query and body parameters without secrets (see
    `bottega.redaction`); `duration_us` is the time from the request's arrival to its record, in microseconds.
    """

    request_id: str
    method: str
    path: str
    status: int
    action: str | None
    trace: str | None
    resource_type: str | None
    resource: str | None
    resource_name: str | None
    account_id: str | None
    user_id: str | None
    user_name: str | None
    source_ip: str | None
    code: str | None
    reason: str | None
    at: int
    request: dict[str, Any] | None = None
    user_agent: str | None = None
    access_key_id: str | None = None
    duration_us: int | None = None


@dataclass
class Call:
    """What is known about the request being served."""

    request_id: str
    method: str
    path: str
    source_ip: str | None
    scope: Scope = field(default_factory=dict, repr=False)
    principal: Principal | None = None
    project: Project | None = None
    action: str | None = None
    trace: str | None = None
    resource_type: str | None = None
    resource: str | None = None
    resource_name: str | None = None
    status: int = 200
    code: str | None = None
    reason: str | None = None
    recorded_status: int | None = None
    enterprise_projects: tuple[str, ...] = ("0",)
    """Those whose grants may count: of the one workspace it is about, or while that is unknown of all in question."""
    closed: dict[str, ApiError] = field(default_factory=dict)
    """The workspaces it may not look into, with what it is told when it tries (`bottega.workspaces`)."""
    keep_body: bool = True
    """Whether the record may show the body: not one that is data, such as an upload."""
    limit_body: bool = True
    """Whether the body may be no larger than ``server.max_body_mb``."""
    body: list[bytes] = field(default_factory=list, repr=False)
    body_bytes: int = 0
    began: float = field(default_factory=time.perf_counter)

    def received(self, part: bytes) -> None:
        """Remember a part of the body, while it is small enough to be shown."""
        self.body_bytes += len(part)
        if self.body_bytes <= LARGEST_BODY:
            self.body.append(part)
        else:
            self.body.clear()

    def describe(self, action: str, known: Action | None, route: object) -> None:
        """Say which action this is a call of, and what its route answers when all goes well."""
        self.action = action
        if known is not None:
            self.trace, self.resource_type = known.trace, known.resource_type
        self.status = getattr(route, "status_code", None) or 200

    def event(self, status: int) -> ApiCalled:
        """The record of the call: of its caller's account, else of the account of the project it is in."""
        principal = self.principal
        owner = principal or self.project
        return ApiCalled(
            request_id=self.request_id,
            method=self.method,
            path=self.path,
            status=status,
            action=self.action,
            trace=self.trace,
            resource_type=self.resource_type,
            resource=self.resource,
            resource_name=self.resource_name,
            account_id=owner.account_id if owner else None,
            user_id=principal.user_id if principal else None,
            user_name=principal.user_name if principal else None,
            source_ip=self.source_ip,
            code=self.code,
            reason=self.reason,
            at=now_ms(),
            request=self._request(),
            user_agent=self._header(b"user-agent"),
            access_key_id=self._access_key() if principal else None,
            duration_us=round((time.perf_counter() - self.began) * 1e6),
        )

    def _request(self) -> dict[str, Any] | None:
        content_type = self._header(b"content-type") or ""
        omitted = None
        if self.body_bytes:
            if not self.keep_body:
                omitted = f"{self.body_bytes} bytes of data"
            elif "json" not in content_type.lower():
                omitted = f"{self.body_bytes} bytes of '{content_type}'"
            elif self.body_bytes > LARGEST_BODY:
                omitted = f"{self.body_bytes} bytes"
        return redaction.describe(
            self.scope.get("path_params", {}), self.scope.get("query_string", b""), b"".join(self.body), omitted
        )

    def _header(self, name: bytes) -> str | None:
        headers: Iterable[tuple[bytes, bytes]] = self.scope.get("headers", ())
        return next((value.decode("latin-1")[:512] for key, value in headers if key == name), None)

    def _access_key(self) -> str | None:
        """The key a request was signed with; a token beside a signature goes first (see `gateway.authenticate`)."""
        if self._header(b"x-auth-token") is not None:
            return None
        found = _ACCESS_KEY.search((self._header(b"authorization") or "").encode("latin-1"))
        return found[1].decode() if found else None

    @property
    def urn(self) -> Urn:
        return Urn("core", self.project.id if self.project else PLATFORM, "call", self.request_id)


current_call: ContextVar[Call | None] = ContextVar("bottega_call", default=None)


def record_call(tx: Transaction) -> None:
    """Commit the record of the call together with the first change it makes."""
    call = current_call.get()
    if call and call.method in CHANGING and call.action and call.recorded_status is None:
        call.recorded_status = call.status
        tx.speaking_as("core").emit(call.event(call.status), call.urn)
