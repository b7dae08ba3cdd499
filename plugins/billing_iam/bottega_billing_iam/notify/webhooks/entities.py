"""Tables of webhooks: who is told what, what is still to be sent, and how sending went. Times are epoch ms."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Column, Index, Integer, LargeBinary
from sqlmodel import Field, SQLModel

from bottega.context import now_ms
from bottega.sealing import sealed

ACTIVE, PAUSED = "active", "paused"
NEVER = 2**62
"""When a lane of a paused webhook is due."""


def _time(**kwargs: Any) -> Any:
    return Field(sa_type=BigInteger, **kwargs)


class Webhook(SQLModel, table=True):
    """An address that is told of events. Its name is in the registry of resources under the same id.

    `workspace_id` None means all of the project. Secrets are encrypted; the previous one is good until
    `previous_until`. `reason` says why it is paused. While a replay runs, it goes on with the stream sequence
    `replay_from` and ends with `replay_until`. `overflows`: too much waits already, so the replay goes on with what
    happens now, too, and catches up when there is room again.
    """

    __tablename__ = "notify_webhook"
    id: str = Field(primary_key=True, foreign_key="core_resource.id")
    project_id: str = Field(index=True)
    workspace_id: str | None = None
    account_id: str
    owner_id: str
    name: str
    description: str = ""
    url: str
    events: list[str] = Field(default_factory=list, sa_type=JSON)
    filter: list[dict[str, Any]] = Field(default_factory=list, sa_type=JSON)
    status: str = ACTIVE
    reason: str = ""
    secret: bytes = sealed("webhook:{id}")
    previous_secret: bytes | None = sealed("webhook:{id}", nullable=True)
    previous_until: int = _time(default=0)
    replay_from: int | None = _time(default=None)
    replay_until: int | None = _time(default=None)
    overflows: bool = False
    created_at: int = _time(default_factory=now_ms)
    updated_at: int = _time(default_factory=now_ms)


class WebhookRevision(SQLModel, table=True):
    """One row, counted up by every change of a webhook, by which each process knows that what it has read is old."""

    __tablename__ = "notify_webhook_revision"
    id: int = Field(primary_key=True)
    number: int = Field(sa_type=BigInteger)


class WebhookLane(SQLModel, table=True):
    """The events about one thing that wait for one webhook: they are sent one after the other.

    `due_at` is when its first event may be sent; whoever sends them moves it ahead (a lease) and is the `holder`.
    """

    __tablename__ = "notify_webhook_lane"
    __table_args__ = (Index("ix_notify_webhook_lane_due", "due_at", "webhook_id"),)
    id: str = Field(primary_key=True)
    webhook_id: str = Field(index=True)
    due_at: int = _time()
    holder: str | None = Field(default=None, index=True)


class WebhookDelivery(SQLModel, table=True):
    """An event that is to be sent to a webhook. `sequence` is its place in the stream; `since` when its age began."""

    __tablename__ = "notify_webhook_delivery"
    __table_args__ = (Index("ix_notify_webhook_delivery_lane", "lane_id", "sequence"),)
    webhook_id: str = Field(primary_key=True)
    event_id: str = Field(primary_key=True)
    lane_id: str
    sequence: int = _time()
    type: str
    urn: str
    payload: bytes = Field(sa_type=LargeBinary)
    attempts: int = 0
    since: int = _time()


class WebhookDeadLetter(SQLModel, table=True):
    """An event that a webhook's receiver did not take in all its time."""

    __tablename__ = "notify_webhook_dead_letter"
    webhook_id: str = Field(primary_key=True)
    event_id: str = Field(primary_key=True)
    sequence: int = _time()
    type: str
    urn: str
    payload: bytes = Field(sa_type=LargeBinary)
    attempts: int
    reason: str
    died_at: int = _time(index=True)


class WebhookAttempt(SQLModel, table=True):
    """The delivery log: one attempt at sending an event.

    `outcome` is ``delivered``, ``failed``, ``dead`` (failed for the last time), ``withheld`` (the owner may not see
    it) or ``test``. `answer` is the beginning of what the receiver said, or why there was no answer.
    """

    __tablename__ = "notify_webhook_attempt"
    __table_args__ = (Index("ix_notify_webhook_attempt_log", "webhook_id", "id"),)
    id: int | None = Field(
        default=None,
        sa_column=Column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    )
    webhook_id: str
    event_id: str
    type: str
    urn: str
    attempt: int
    outcome: str
    status: int | None = None
    latency_ms: float | None = None
    answer: str = ""
    at: int = _time(index=True)


WEBHOOKS = SQLModel.metadata.tables["notify_webhook"]
REVISION = SQLModel.metadata.tables["notify_webhook_revision"]
LANES = SQLModel.metadata.tables["notify_webhook_lane"]
DELIVERIES = SQLModel.metadata.tables["notify_webhook_delivery"]
DEAD_LETTERS = SQLModel.metadata.tables["notify_webhook_dead_letter"]
ATTEMPTS = SQLModel.metadata.tables["notify_webhook_attempt"]
