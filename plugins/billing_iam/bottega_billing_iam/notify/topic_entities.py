"""Tables of topics: who subscribed, what was published, and what is still to be delivered. Times are epoch ms."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Index, UniqueConstraint
from sqlmodel import Field, SQLModel

from bottega.context import now_ms
from bottega.sealing import sealed
from bottega.urn import new_id

UNCONFIRMED, CONFIRMED, CANCELLED = 0, 1, 3
"""The vendor's numbers for the state of a subscription."""


def _time(**kwargs: Any) -> Any:
    return Field(sa_type=BigInteger, **kwargs)


class Topic(SQLModel, table=True):
    """Where messages are published. Its name and tags are in the registry of resources under the same id."""

    __tablename__ = "notify_topic"
    id: str = Field(primary_key=True, foreign_key="core_resource.id")
    urn: str = Field(unique=True)
    account_id: str
    project_id: str = Field(index=True)
    name: str
    display_name: str = ""
    enterprise_project_id: str = "0"
    access_policy: str = ""
    introduction: str = ""
    created_at: int = _time(default_factory=now_ms)
    updated_at: int = _time(default_factory=now_ms)


class Subscription(SQLModel, table=True):
    """An address that hears a topic once it has agreed. `endpoint` is encrypted at rest; `digest` finds it again."""

    __tablename__ = "notify_subscription"
    __table_args__ = (UniqueConstraint("topic_id", "protocol", "digest"),)
    id: str = Field(default_factory=lambda: new_id().replace("-", ""), primary_key=True)
    topic_id: str = Field(foreign_key="notify_topic.id", index=True)
    project_id: str = Field(index=True)
    owner_id: str
    protocol: str
    endpoint: bytes = sealed("subscription:{id}")
    digest: str
    remark: str = ""
    headers: dict[str, str] = Field(default_factory=dict, sa_type=JSON)
    filters: list[dict[str, Any]] = Field(default_factory=list, sa_type=JSON)
    status: int = UNCONFIRMED
    token_digest: str = ""
    asked_at: int = _time(default_factory=now_ms)
    created_at: int = _time(default_factory=now_ms)


class Template(SQLModel, table=True):
    """The text of messages for one protocol; ``{name}`` is replaced by a tag of the request that publishes."""

    __tablename__ = "notify_template"
    __table_args__ = (UniqueConstraint("project_id", "name", "protocol"),)
    id: str = Field(default_factory=lambda: new_id().replace("-", ""), primary_key=True)
    project_id: str = Field(index=True)
    name: str
    protocol: str
    content: str
    created_at: int = _time(default_factory=now_ms)
    updated_at: int = _time(default_factory=now_ms)


class Dispatch(SQLModel, table=True):
    """One message to one subscriber, until it arrived or was given up; then the row goes.

    `kind` is ``Notification`` or ``SubscriptionConfirmation``. `text` is what this protocol shows.
    """

    __tablename__ = "notify_dispatch"
    __table_args__ = (Index("ix_notify_dispatch_due", "failed", "due_at"),)
    id: str = Field(default_factory=new_id, primary_key=True)
    subscription_id: str = Field(index=True)
    message_id: str
    kind: str = "Notification"
    subject: str = ""
    text: bytes = sealed("dispatch:{message_id}")
    attempts: int = 0
    due_at: int = _time(default_factory=now_ms)
    expires_at: int | None = _time(default=None)
    failed: bool = False
    error: str = ""
    created_at: int = _time(default_factory=now_ms)
