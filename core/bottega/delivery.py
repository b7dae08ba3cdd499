"""Consumers: how events reach a plugin's handlers, once each in effect and in order for each entity.

The first attempt takes many events at once; one that fails is tried again in a lane of its own, where the
later events of its entity wait behind it while those of other entities go on. After the last attempt it
becomes a dead letter. The `ProcessedEvent` that marks it as done is committed with its effects, or the
letter.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import anyio
import anyio.abc
import nats.errors
import structlog
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from pydantic import ValidationError
from sqlalchemy import insert, select, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlmodel import SQLModel
from structlog.contextvars import bind_contextvars, reset_contextvars

from bottega.context import Context, Principal, acting, now_ms
from bottega.database import Database, Transaction
from bottega.dead_letters import DeadLetter
from bottega.entities import Outbox
from bottega.errors import BottegaError, Invalid, PluginError
from bottega.events import Envelope, Event, Received
from bottega.nats_connection import NatsConnection
from bottega.pull import Pull, PullLost
from bottega.relay import Relay
from bottega.urn import PLATFORM, Urn

log = structlog.get_logger(__name__)

STREAM = "EVENTS"

_PROCESSED = SQLModel.metadata.tables["core_processed_event"]


class Reject(BottegaError):
    """Raised by a handler: this event can never be handled, make it a dead letter now."""


class Retry(BottegaError):
    """Raised by a handler: not now, try again in `after_s` seconds. Does not count as a failed attempt."""

    def __init__(self, after_s: float, message: str = "") -> None:
        super().__init__(message or f"asked to be tried again in {after_s:g} s")
        self.after_s = after_s


class DeliveryExhausted(Event, type="core.delivery.exhausted.v1"):
    """A consumer gave up on an event; it lies in the dead letters."""

    consumer: str
    event_id: str
    event_type: str
    reason: str
    attempts: int


@dataclass(frozen=True, slots=True)
class DeliveryPolicy:
    backoff_s: Sequence[float] = (0.2, 1.0, 5.0, 15.0)
    """Waits between the attempts; there is one attempt more than waits."""
    retry_for_s: float = 3600.0
    """How long `Retry`, and a database that is away, may postpone an event before that counts as failures."""
    ack_wait_s: float = 30.0
    handler_timeout_s: float = 30.0
    """For handlers in a transaction, which hold the database."""
    batch: int = 256
    batch_time_s: float = 0.05
    """After this long in one transaction what is done is committed, so that others get at the database."""
    concurrency: int = 32
    """How many external handlers of a plugin run at once."""


@dataclass(slots=True)
class ConsumerStats:
    consumed: int = 0
    retried: int = 0
    dead: int = 0


Handler = Callable[..., Awaitable[None]]
Reading = tuple[Event, Handler]


@dataclass(slots=True)
class Delivery:
    """One event on its way through one consumer; without `envelope` it could not be read, see `fault`."""

    message: Msg
    sequence: int
    subject: str
    key: str
    entity: str
    attempt: int = 1
    envelope: Envelope | None = None
    readings: Sequence[Reading] = ()
    fault: Reject | None = None


class Consumer(ABC):
    """A durable consumer of one plugin: all its handlers of one kind, in the order of the stream."""

    def __init__(
        self, name: str, database: Database, connection: NatsConnection, relay: Relay, policy: DeliveryPolicy
    ) -> None:
        self.name = name
        self.stats = ConsumerStats()
        self._handlers: dict[str, list[tuple[type[Event], Handler]]] = {}
        self._database = database
        self._connection = connection
        self._relay = relay
        self._policy = policy
        self._pull: Pull | None = None
        self._held: dict[int, Delivery] = {}
        self._lanes: dict[str, deque[Delivery]] = {}
        self._performing = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._draining = False

    def add(self, event: type[Event], handler: Handler) -> None:
        self._handlers.setdefault(event.type, []).append((event, handler))

    @property
    def event_types(self) -> list[str]:
        return list(self._handlers)

    async def run(self) -> None:
        """Consume until cancelled."""
        self._held.clear()
        self._lanes.clear()
        self._draining = False
        config = ConsumerConfig(
            durable_name=self.name,
            filter_subjects=[f"replay.{self.name}.>", *(f"evt.*.{kind}" for kind in sorted(self._handlers))],
            deliver_policy=DeliverPolicy.ALL,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=self._policy.ack_wait_s,
            max_deliver=-1,
            max_ack_pending=4096,
        )
        if self._pull is None:
            self._pull = Pull(self._connection, STREAM, config, self._policy.batch)
        try:
            async with anyio.create_task_group() as self._tasks:
                self._tasks.start_soon(self._keep_alive, self._pull)
                while True:
                    try:
                        await self._pull.attach()
                        while True:
                            messages = await self._pull.take()
                            await self._unless_draining()
                            await self._accept(messages)
                    except (PullLost, nats.errors.Error, OSError) as reason:
                        log.info("consumer.reattach", consumer=self.name, reason=str(reason))
                        await anyio.sleep(0.1 if self._connection.connected else 0.5)
        finally:
            with anyio.CancelScope(shield=True):
                await self._pull.detach()

    async def drain(self) -> None:
        """Take nothing more, and wait for what is being performed."""
        self._draining = True
        await self._quiet.wait()

    async def _unless_draining(self) -> None:
        if self._draining:
            await anyio.sleep_forever()  # until `run` is cancelled; what is held is delivered again

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        self._performing += 1
        self._quiet.clear()
        try:
            yield
        finally:
            self._performing -= 1
            if not self._performing:
                self._quiet.set()

    @abstractmethod
    async def _dispatch(self, ready: list[Delivery]) -> None:
        """Perform deliveries whose entities have no lane, or open lanes for them."""

    @abstractmethod
    async def _perform(self, deliveries: Sequence[Delivery]) -> int:
        """Run the handlers and record it. Returns how many were done, from the first on."""

    async def _accept(self, messages: Sequence[Msg]) -> None:
        ready = []
        for message in messages:
            sequence = _stream_sequence(message.reply)
            if held := self._held.get(sequence):
                held.message = message
                continue
            delivery = self._held[sequence] = self._read(message, sequence)
            if lane := self._lanes.get(delivery.entity):
                lane.append(delivery)
            elif delivery.fault:
                self._open_lane(delivery, delivery.fault)
            else:
                ready.append(delivery)
        if ready:
            await self._dispatch(ready)

    def _read(self, message: Msg, sequence: int) -> Delivery:
        subject, key = message.subject, ""
        if subject.startswith("replay."):
            # Replays have ids of their own: the event itself counts as done since it became a dead letter.
            subject = subject.split(".", 2)[2]
            key = (message.headers or {}).get("Nats-Msg-Id", "")
        try:
            envelope = Envelope.decode(message.data)
            if not (isinstance(envelope.id, str) and envelope.id.isprintable() and 0 < len(envelope.id) <= 200):
                raise Reject("the event's id is not a line of 1 to 200 characters")
            if envelope.subject != subject:
                raise Reject(f"the envelope belongs on {envelope.subject}, but came on {subject}")
            readings = [(c.model_validate(envelope.data), h) for c, h in self._handlers.get(envelope.type, ())]
            if not readings:
                raise Reject(f"{self.name} has no handler for {envelope.type}")
            return Delivery(message, sequence, subject, key or envelope.id, envelope.urn, 1, envelope, readings)
        except Reject as reject:
            fault = reject
        except (ValidationError, ValueError, KeyError, TypeError, AttributeError, Invalid) as error:
            fault = Reject(f"not an event {self.name} can read: {error!r}")
        return Delivery(message, sequence, subject, key or f"sequence:{sequence}", f"sequence:{sequence}", fault=fault)

    async def _call(self, delivery: Delivery, *arguments: Any) -> None:
        envelope = delivery.envelope
        assert envelope is not None
        kind, _, ident = envelope.actor.partition(":")
        context = Context(
            principal=Principal(account_id=PLATFORM, user_id=ident, user_name=ident, kind=kind),
            correlation_id=envelope.correlation_id,
            causation_id=envelope.id,
            traceparent=envelope.traceparent,
        )
        with acting(context):
            bound = bind_contextvars(event_id=envelope.id, event_type=envelope.type, consumer=self.name)
            try:
                for event, handler in delivery.readings:
                    await handler(Received(event, envelope, delivery.sequence, delivery.attempt), *arguments)
            except asyncio.CancelledError as error:
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise
                raise PluginError(f"the handler of {envelope.type} in {self.name} cancelled itself") from error
            finally:
                reset_contextvars(**bound)

    def _open_lane(self, delivery: Delivery, error: Exception | None = None) -> None:
        lane = self._lanes[delivery.entity] = deque([delivery])
        self._tasks.start_soon(self._run_lane, delivery.entity, lane, error)

    async def _run_lane(self, entity: str, lane: deque[Delivery], error: Exception | None) -> None:
        while lane:
            await self._settle(lane[0], error)
            error = None
            lane.popleft()
        del self._lanes[entity]

    async def _settle(self, delivery: Delivery, error: Exception | None) -> None:
        """Attempt until it succeeds or is a dead letter; `error` is how a first attempt went already."""
        since = time.monotonic()
        waits = iter(self._policy.backoff_s)
        while True:
            if error is None:
                await self._unless_draining()
                try:
                    if delivery.fault:
                        raise delivery.fault
                    await self._perform([delivery])
                    return await self._finish([delivery])
                except Exception as raised:  # whatever a plugin's handler raises is a failed attempt
                    error = raised
            wait = await self._postponed(error) if time.monotonic() - since < self._policy.retry_for_s else None
            if wait is None:
                wait = None if isinstance(error, Reject) else next(waits, None)
            if wait is None:
                if await self._bury(delivery, error):
                    return await self._finish([delivery])
                await anyio.sleep(1)
                continue
            self.stats.retried += 1
            log.warning(
                "handler.failed",
                consumer=self.name,
                event_type=delivery.envelope.type if delivery.envelope else "",
                event_id=delivery.envelope.id if delivery.envelope else "",
                urn=delivery.entity,
                attempt=delivery.attempt,
                again_in_s=wait,
                exc_info=None if isinstance(error, Retry) else error,
            )
            await anyio.sleep(wait)
            delivery.attempt += 1
            error = None

    async def _postponed(self, error: Exception) -> float | None:
        """Seconds to wait when `error` is nobody's failure."""
        if isinstance(error, Retry):
            return max(0.0, error.after_s)
        if isinstance(error, DBAPIError):
            try:
                with anyio.fail_after(5):
                    async with self._database.read() as session:
                        await session.execute(text("SELECT 1"))
            except (SQLAlchemyError, OSError, TimeoutError):
                return 1.0
        return None

    async def _bury(self, delivery: Delivery, error: Exception) -> bool:
        """Make it a dead letter, in one transaction with the record and the event that says so."""
        envelope = delivery.envelope
        reason = error.message if isinstance(error, Reject) else f"{type(error).__name__}: {error}"
        letter = DeadLetter(
            consumer=self.name,
            subject=delivery.subject,
            reason=reason[:2000],
            attempts=delivery.attempt,
            time=datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            event_sequence=delivery.sequence,
            payload=delivery.message.data,
            event_id=envelope.id if envelope else "",
            event_type=envelope.type if envelope else "",
            urn=envelope.urn if envelope else "",
        )
        exhausted = DeliveryExhausted(
            consumer=self.name,
            event_id=letter.event_id,
            event_type=letter.event_type,
            reason=letter.reason,
            attempts=letter.attempts,
        )
        about = letter.urn or Urn("core", PLATFORM, "delivery", f"{self.name}-{delivery.sequence}")
        try:
            async with self._database.bind("core").transaction() as tx:
                if await self._done(tx, [delivery.key]):
                    return True
                await self._record(tx, [delivery.key])
                dead = {
                    "event_id": f"dead:{self.name}:{delivery.sequence}",
                    "subject": letter.dead_subject,
                    "payload": letter.encode(),
                }
                await tx.session.execute(insert(Outbox).values(**dead))
                if letter.event_type != DeliveryExhausted.type:
                    tx.emit(exhausted, about)
        except SQLAlchemyError as trouble:
            log.error("dead_letter.not_written", consumer=self.name, sequence=delivery.sequence, reason=str(trouble))
            return False
        self._relay.sweep_soon()
        self.stats.dead += 1
        log.error(
            "event.dead",
            consumer=self.name,
            event_type=letter.event_type,
            event_id=letter.event_id,
            urn=letter.urn,
            attempts=letter.attempts,
            reason=letter.reason,
            exc_info=None if isinstance(error, Reject) else error,
        )
        return True

    async def _finish(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            try:
                await delivery.message.ack()
            except nats.errors.Error as error:
                # It comes again, is found to be done, and is acknowledged then.
                log.debug("consumer.not_acknowledged", consumer=self.name, reason=str(error))
            self._held.pop(delivery.sequence, None)
        self.stats.consumed += len(deliveries)

    async def _done(self, tx: Transaction, keys: Sequence[str]) -> set[str]:
        query = select(_PROCESSED.c.event_id).where(_PROCESSED.c.consumer == self.name, _PROCESSED.c.event_id.in_(keys))
        return set((await tx.session.execute(query)).scalars())

    async def _record(self, tx: Transaction, keys: Sequence[str]) -> None:
        now = now_ms()
        rows = [{"consumer": self.name, "event_id": key, "processed_at": now} for key in keys]
        await tx.session.execute(_PROCESSED.insert(), rows)

    async def _keep_alive(self, pull: Pull) -> None:
        """Tell the server that what is held is being worked on, so that it does not deliver it again."""
        while True:
            await anyio.sleep(self._policy.ack_wait_s / 3)
            try:
                for message in [*(d.message for d in self._held.values()), *pull.waiting]:
                    await message.in_progress()
            except nats.errors.Error as error:
                log.debug("consumer.no_heartbeat", consumer=self.name, reason=str(error))


def _stream_sequence(reply: str) -> int:
    # $JS.ACK[.<domain>.<account>].<stream>.<consumer>.<delivered>.<stream sequence>.…, read once for every message.
    tokens = reply.split(".", 8)
    return int(tokens[7 if len(tokens[8].split(".")) > 1 else 5])
