"""What the audit trail reads."""

from __future__ import annotations

from bottega.events import Event


class ApiCalled(Event, type="core.api.called.v1"):
    """A call that changed something, failed to, or was refused; of one request the later event counts."""

    request_id: str
    method: str
    path: str
    status: int
    action: str | None = None
    trace: str | None = None
    resource_type: str | None = None
    resource: str | None = None
    resource_name: str | None = None
    account_id: str | None = None
    user_id: str | None = None
    user_name: str | None = None
    source_ip: str | None = None
    code: str | None = None
    reason: str | None = None
    at: int
