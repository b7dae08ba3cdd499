"""What the audit trail reads and says."""

from __future__ import annotations

from typing import Any

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
    request: dict[str, Any] | None = None
    user_agent: str | None = None
    access_key_id: str | None = None
    duration_us: int | None = None


class BatchSealed(Event, type="audit.batch.sealed.v1"):
    """Records joined the chain. Whoever keeps `number` and `hash` outside can prove later what was there."""

    number: int
    hash: str
    previous: str
    count: int
    sealed_at: int


class DayArchived(Event, type="audit.day.archived.v1"):
    """Records of an account and day went to the archive: `key` in `bucket`, `sha256` of the object."""

    account_id: str
    day: str
    part: int
    bucket: str
    key: str
    sha256: str
    count: int
