"""Events: a fact is a class, its wire form is CloudEvents 1.0 structured JSON.

An event class is named in the past tense and carries ids and small values only::

    class JobCompleted(Event, type="training.job.completed.v1"):
        job_id: str

Its subject on the bus is ``evt.<project>.training.job.completed.v1``. A reader in another plugin declares its
own class with the same type and only the fields it needs.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar, Generic, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict

from bottega.context import current
from bottega.errors import ConfigError
from bottega.urn import Urn

_TYPE = re.compile(r"[a-z0-9][a-z0-9-]*\.[a-z0-9_-]+\.[a-z0-9_-]+\.v[1-9][0-9]*")


class Event(BaseModel):
    """A fact that happened. Subclasses give their type: ``<plugin>.<entity>.<verb>.v<N>``."""

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)
    type: ClassVar[str] = ""

    def __init_subclass__(cls, type: str = "", **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if type:
            if not _TYPE.fullmatch(type):
                raise ConfigError(
                    f"event type '{type}' of {cls.__name__} is not <plugin>.<entity>.<verb>.v<N> in lower case"
                )
            cls.type = type
        elif not cls.type:
            raise ConfigError(f"event class {cls.__name__} names no type: class {cls.__name__}(Event, type=...)")

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        # `type` is a class keyword for us and must not reach pydantic's own configuration.
        return None


E_co = TypeVar("E_co", bound=Event, covariant=True)


@dataclass(frozen=True, slots=True)
class Envelope:
    """One event on its way: what travels, what lies in the outbox, what a webhook receives."""

    id: str
    type: str
    urn: str
    time: str
    data: dict[str, Any]
    source: str
    actor: str
    correlation_id: str
    causation_id: str | None = None
    traceparent: str | None = None

    @property
    def project_id(self) -> str:
        return Urn.parse(self.urn).project

    @property
    def subject(self) -> str:
        """The NATS subject, project second so that permissions cut by tenant."""
        return f"evt.{self.project_id}.{self.type}"

    def encode(self) -> bytes:
        """CloudEvents 1.0 structured JSON."""
        kind, _, ident = self.actor.partition(":")
        wire: dict[str, Any] = {
            "specversion": "1.0",
            "id": self.id,
            "type": self.type,
            "source": self.source,
            "subject": self.urn,
            "time": self.time,
            "datacontenttype": "application/json",
            "correlationid": self.correlation_id,
            "authtype": kind,
            "authid": ident,
            "data": self.data,
        }
        if self.causation_id:
            wire["causationid"] = self.causation_id
        if self.traceparent:
            wire["traceparent"] = self.traceparent
        return orjson.dumps(wire)

    @classmethod
    def decode(cls, payload: bytes) -> Envelope:
        """Read what `encode` wrote. Raises ValueError or KeyError for anything else."""
        wire = orjson.loads(payload)
        return cls(
            id=wire["id"],
            type=wire["type"],
            urn=wire["subject"],
            time=wire["time"],
            data=wire["data"],
            source=wire["source"],
            actor=f"{wire.get('authtype', 'system')}:{wire.get('authid', 'system')}",
            correlation_id=wire.get("correlationid", wire["id"]),
            causation_id=wire.get("causationid"),
            traceparent=wire.get("traceparent"),
        )


def envelop(event: Event, urn: str, source: str) -> Envelope:
    """Wrap `event` about the thing `urn`; actor, cause and correlation come from the context."""
    context = current()
    ident = uuid7()
    return Envelope(
        id=ident,
        type=event.type,
        urn=urn,
        time=datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        data=event.model_dump(mode="json"),
        source=f"/plugins/{source}",
        actor=context.principal.actor,
        correlation_id=context.correlation_id or context.request_id or ident,
        causation_id=context.causation_id,
        traceparent=context.traceparent,
    )


@dataclass(frozen=True, slots=True)
class Received(Generic[E_co]):
    """What a handler gets: its own reading of the event, and the envelope it came in."""

    event: E_co
    envelope: Envelope
    sequence: int = 0
    attempt: int = 1

    @property
    def urn(self) -> str:
        return self.envelope.urn

    @property
    def project_id(self) -> str:
        return self.envelope.project_id


def uuid7() -> str:
    """A time-ordered identifier (RFC 9562 §5.7), so that ids sort as they were made."""
    stamp = int(datetime.now(UTC).timestamp() * 1000).to_bytes(6, "big")
    random = bytearray(uuid.uuid4().bytes[6:])
    random[0] = 0x70 | (random[0] & 0x0F)
    random[2] = 0x80 | (random[2] & 0x3F)
    return str(uuid.UUID(bytes=stamp + bytes(random)))


def uuid7_at(at_ms: int) -> str:
    """Before every identifier that `uuid7` makes from this time (epoch ms) on, and after those of before."""
    return str(uuid.UUID(int=max(0, at_ms) << 80))
