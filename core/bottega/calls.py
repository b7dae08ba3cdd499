"""What is known about the request being served, and the record of it that becomes an event."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bottega.context import Principal, now_ms
from bottega.database import Transaction
from bottega.entities import Project
from bottega.events import Event
from bottega.urn import PLATFORM, Urn

if TYPE_CHECKING:
    from bottega.plugins import Action

CHANGING = {"POST", "PUT", "PATCH", "DELETE"}


class ApiCalled(Event, type="core.api.called.v1"):
    """Someone called the API to change something, or was refused. Reads that were allowed are not recorded.

    When `status` turns out different from what committed with the change, a second event of the same `request_id`
    follows; the later one counts.
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


@dataclass
class Call:
    """What is known about the request being served."""

    request_id: str
    method: str
    path: str
    source_ip: str | None
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

    def describe(self, action: str, known: Action | None, route: object) -> None:
        """Say which action this is a call of, and what its route answers when all goes well."""
        self.action = action
        if known is not None:
            self.trace, self.resource_type = known.trace, known.resource_type
        self.status = getattr(route, "status_code", None) or 200

    def event(self, status: int) -> ApiCalled:
        principal = self.principal
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
            account_id=principal.account_id if principal else None,
            user_id=principal.user_id if principal else None,
            user_name=principal.user_name if principal else None,
            source_ip=self.source_ip,
            code=self.code,
            reason=self.reason,
            at=now_ms(),
        )

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
