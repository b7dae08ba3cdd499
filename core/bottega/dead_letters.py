"""Dead letters: events a consumer gave up on, kept with the reason, to be looked at, run again or dropped.

A letter goes through the outbox like any event, so it exists exactly when the consumer has recorded that it
gave up. It lies in the stream ``DEAD`` under ``dlq.<consumer>.<subject of the event>``. Running it again
publishes the same bytes under ``replay.<consumer>.<subject>``, which that consumer alone listens to.
"""

from __future__ import annotations

import base64
from dataclasses import asdict, dataclass, field
from typing import Any

import orjson
import structlog
from nats.js.api import RawStreamMsg
from nats.js.errors import NotFoundError

from bottega.errors import NotFound
from bottega.events import Envelope
from bottega.nats_connection import NatsConnection

log = structlog.get_logger(__name__)

STREAM = "DEAD"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """`payload` is the event as it arrived; when it could not be read, id, type and URN are empty."""

    consumer: str
    subject: str
    reason: str
    attempts: int
    time: str
    event_sequence: int
    payload: bytes
    event_id: str = ""
    event_type: str = ""
    urn: str = ""
    sequence: int = field(default=0, compare=False)
    """Its own number in the stream of dead letters, by which it is replayed or purged."""

    @property
    def dead_subject(self) -> str:
        return f"dlq.{self.consumer}.{self.subject}"

    @property
    def envelope(self) -> Envelope | None:
        try:
            return Envelope.decode(self.payload)
        except (ValueError, KeyError, TypeError, AttributeError):
            return None

    def encode(self) -> bytes:
        return orjson.dumps({**asdict(self), "payload": base64.b64encode(self.payload).decode()})

    @classmethod
    def decode(cls, data: bytes, sequence: int) -> DeadLetter:
        """Raises ValueError, KeyError or TypeError for anything `encode` did not write."""
        values: dict[str, Any] = orjson.loads(data)
        return cls(**{**values, "payload": base64.b64decode(values["payload"]), "sequence": sequence})


class DeadLetters:
    def __init__(self, connection: NatsConnection) -> None:
        self._connection = connection

    async def list(self, limit: int, consumer: str | None, after: int) -> list[DeadLetter]:
        """Up to `limit` letters with a sequence above `after`, the oldest first."""
        found: list[DeadLetter] = []
        subject = f"dlq.{consumer or '*'}.>"
        while len(found) < limit:
            try:
                message = await self._connection.js.get_msg(STREAM, seq=after + 1, subject=subject, next=True)
            except NotFoundError:
                break
            after = message.seq or 0
            try:
                found.append(DeadLetter.decode(message.data or b"", after))
            except (ValueError, KeyError, TypeError) as error:
                log.error("dead_letter.unreadable", sequence=after, subject=message.subject, reason=repr(error))
        return found

    async def get(self, sequence: int) -> DeadLetter:
        """Raises NotFound."""
        return DeadLetter.decode((await self._stored(sequence)).data or b"", sequence)

    async def replay(self, sequence: int) -> DeadLetter:
        """Hand the event to its consumer again, and drop the letter. Raises NotFound."""
        letter = await self.get(sequence)
        # The id names the letter: asked twice, or cut off before the deletion, it still runs once.
        headers = {"Nats-Msg-Id": f"replay:{sequence}", "Content-Type": "application/cloudevents+json"}
        subject = f"replay.{letter.consumer}.{letter.subject}"
        await self._connection.js.publish(subject, letter.payload, headers=headers)
        await self.purge(sequence)
        return letter

    async def purge(self, sequence: int) -> None:
        """Drop a letter. Raises NotFound."""
        await self._stored(sequence)
        await self._connection.js.delete_msg(STREAM, sequence)

    async def _stored(self, sequence: int) -> RawStreamMsg:
        try:
            return await self._connection.js.get_msg(STREAM, seq=sequence)
        except NotFoundError as missing:
            raise NotFound(f"there is no dead letter with sequence {sequence}") from missing
