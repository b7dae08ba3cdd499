"""The bus: typed events on NATS JetStream, published through the outbox, handled once in effect.

A plugin registers its handlers before the start, with the bus bound to its name::

    async def on_completed(received: Received[JobCompleted], tx: Transaction) -> None:
        tx.session.add(Charge(job_id=received.event.job_id))

    bus.on(JobCompleted, on_completed)

What is promised. Delivery is at least once. A handler given to `on` has its effects exactly once, as long
as they go through `tx`; it must be quick and may run again after a rollback. One given to `on_external`
works outside the database, takes as long as it needs, and must be idempotent. Each plugin has one durable
consumer for either kind (``<plugin>__events``, ``<plugin>__external``) and sees the events about one entity
(one URN) in the order of the stream, whatever their types; between its two kinds, and between plugins,
there is no order. A consumer that is new begins with the oldest event kept; a type that is added to one
later begins with what has not been delivered yet. A consumer of a plugin that is gone stays, so the plugin
catches up when it is back.
"""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

import anyio
import nats.errors
import structlog
from nats.js.api import StreamConfig
from nats.js.errors import BadRequestError, BucketNotFoundError
from nats.js.kv import KeyValue
from sqlalchemy import delete
from sqlmodel import SQLModel

from bottega import dead_letters, delivery
from bottega.consumers import ExternalConsumer, TransactionalConsumer
from bottega.context import now_ms
from bottega.database import Database, Transaction
from bottega.dead_letters import DeadLetter, DeadLetters
from bottega.delivery import (
    Consumer,
    ConsumerStats,
    DeliveryExhausted,
    DeliveryPolicy,
    Handler,
    Reject,
    Retry,
)
from bottega.errors import Invalid, PluginError, Unavailable
from bottega.events import Envelope, Event, Received
from bottega.nats_connection import NatsConnection, NatsOptions
from bottega.relay import Relay
from bottega.tail import tail

__all__ = [
    "Bus",
    "BusOptions",
    "BusStats",
    "DeadLetter",
    "DeliveryExhausted",
    "DeliveryPolicy",
    "NatsOptions",
    "Reject",
    "Retry",
]

log = structlog.get_logger(__name__)
E = TypeVar("E", bound=Event)

_PLUGIN = re.compile(r"[a-z0-9][a-z0-9-]*")
_TOKEN = re.compile(r"[A-Za-z0-9_-]+")
_PROCESSED = SQLModel.metadata.tables["core_processed_event"]


@dataclass(frozen=True, slots=True)
class BusOptions:
    keep_events_s: float = 30 * 86400.0
    keep_dead_letters_s: float = 90 * 86400.0
    duplicate_window_s: float = 300.0
    prune_every_s: float = 3600.0
    stop_grace_s: float = 5.0
    """How long `stop` waits for handlers before it cancels them; what is cancelled is delivered again."""
    delivery: DeliveryPolicy = field(default_factory=DeliveryPolicy)


@dataclass(frozen=True, slots=True)
class BusStats:
    published: int
    consumers: dict[str, ConsumerStats]


class _Shared:
    """What all bound views of one bus have in common."""

    def __init__(self, database: Database, connection: NatsConnection, options: BusOptions) -> None:
        self.connection = connection
        self.options = options
        self.relay = Relay(database, connection)
        self.letters = DeadLetters(connection)
        self.consumers: dict[str, Consumer] = {}
        self.running: asyncio.Task[None] | None = None
        self.reconnected = asyncio.Event()
        self.consuming = asyncio.Event()


class Bus:
    def __init__(self, database: Database, nats_options: NatsOptions, options: BusOptions | None = None) -> None:
        self.plugin = "core"
        self._database = database
        self._shared = _Shared(database, NatsConnection(nats_options), options or BusOptions())
        database.on_commit(self._shared.relay.deliver)
        self._shared.connection.on_change(self._on_connection)

    def bind(self, plugin: str) -> Bus:
        """The same bus, registering handlers for `plugin`."""
        if not _PLUGIN.fullmatch(plugin):
            raise PluginError(f"'{plugin}' is not a plugin name: lower case letters, digits and '-'")
        bound = object.__new__(Bus)
        bound.__dict__ = {**self.__dict__, "plugin": plugin}
        return bound

    def on(self, event: type[E], handler: Callable[[Received[E], Transaction], Awaitable[None]]) -> None:
        """Call `handler` for each event of the class, in a transaction; its effects happen exactly once.

        Several handlers of one event run in one transaction, in the order of their registration.
        """
        self._register("events", TransactionalConsumer, event, handler)

    def on_external(self, event: type[E], handler: Callable[[Received[E]], Awaitable[None]]) -> None:
        """Call `handler` for each event of the class, to do what no transaction holds: start a process, say.

        It runs at least once, so it must be idempotent; it may take long, and as many entities as
        `DeliveryPolicy.concurrency` says are handled at a time, the events of each in order.
        """
        self._register("external", ExternalConsumer, event, handler)

    def _register(self, kind: str, consumer_class: type[Consumer], event: type[Event], handler: Handler) -> None:
        shared = self._shared
        if shared.running is not None:
            raise PluginError(f"plugin '{self.plugin}' registers a handler of {event.type} after the bus has started")
        if not inspect.iscoroutinefunction(handler):
            raise PluginError(f"plugin '{self.plugin}': the handler of {event.type} must be an async function")
        name = f"{self.plugin}__{kind}"
        consumer = shared.consumers.get(name)
        if consumer is None:
            database = self._database.bind(self.plugin)
            consumer = consumer_class(name, database, shared.connection, shared.relay, shared.options.delivery)
            shared.consumers[name] = consumer
        consumer.add(event, handler)

    @property
    def event_types(self) -> list[str]:
        """The types this plugin has registered handlers for."""
        consumers = (self._shared.consumers.get(f"{self.plugin}__{kind}") for kind in ("events", "external"))
        return sorted({kind for consumer in consumers if consumer for kind in consumer.event_types})

    @property
    def connected(self) -> bool:
        return self._shared.connection.connected

    @property
    def relay(self) -> Relay:
        return self._shared.relay

    @property
    def connection(self) -> NatsConnection:
        return self._shared.connection

    def forget(self, plugin: str) -> None:
        """Drop the handlers of a plugin that turned out broken; its events wait in the stream until it is well."""
        for kind in ("events", "external"):
            self._shared.consumers.pop(f"{plugin}__{kind}", None)

    async def start(self, *, consume: bool = True) -> None:
        """Connect, make the streams, and run the relay and the consumers until `stop`. Raises Unavailable.

        Without `consume`, no handler is called before `consume()`.
        """
        shared = self._shared
        await shared.connection.open()
        try:
            await self._make_streams()
        except nats.errors.Error as error:
            await shared.connection.close()
            raise Unavailable(f"NATS answers, but its JetStream is not usable: {error}") from error
        shared.running = asyncio.create_task(self._run(), name="bus")
        if consume:
            self.consume()

    def consume(self) -> None:
        """Begin to call the handlers."""
        self._shared.consuming.set()

    async def stop(self) -> None:
        """Let the handlers at work end, publish what is waiting, and disconnect."""
        shared = self._shared
        running, shared.running = shared.running, None
        if running is None:
            return
        shared.consuming.clear()
        try:
            with anyio.move_on_after(shared.options.stop_grace_s):
                async with anyio.create_task_group() as draining:
                    for consumer in shared.consumers.values():
                        draining.start_soon(consumer.drain)
            with anyio.move_on_after(shared.options.stop_grace_s):
                await shared.relay.drain()
        finally:
            running.cancel()
            with anyio.CancelScope(shield=True):
                await asyncio.wait({running})
                await shared.connection.close()

    async def _run(self) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._keep_running, "relay", self._shared.relay.run)
            tasks.start_soon(self._keep_running, "streams", self._keep_streams)
            tasks.start_soon(self._keep_running, "pruning", self._prune_regularly)
            await self._shared.consuming.wait()
            for name, consumer in self._shared.consumers.items():
                tasks.start_soon(self._keep_running, name, consumer.run)

    async def _keep_running(self, what: str, function: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                return await function()
            except Exception:  # a mistake in one part must not end the others
                log.exception("bus.part_failed", part=what)
            await anyio.sleep(1)

    async def _make_streams(self) -> None:
        options = self._shared.options
        js = self._shared.connection.js
        for config in (
            StreamConfig(
                name=delivery.STREAM,
                subjects=["evt.>", "replay.>"],
                max_age=options.keep_events_s,
                duplicate_window=options.duplicate_window_s,
            ),
            StreamConfig(name=dead_letters.STREAM, subjects=["dlq.>"], max_age=options.keep_dead_letters_s),
        ):
            try:
                await js.add_stream(config)
            except BadRequestError:  # it exists with other settings
                await js.update_stream(config)

    async def _keep_streams(self) -> None:
        # A server that came back may have lost its data, and consumers attach to streams that exist only.
        while True:
            await self._shared.reconnected.wait()
            self._shared.reconnected.clear()
            await self._make_streams()

    def _on_connection(self, connected: bool) -> None:
        if connected:
            self._shared.reconnected.set()

    async def _prune_regularly(self) -> None:
        while True:
            with anyio.CancelScope(shield=True):
                await self.prune()
            await anyio.sleep(self._shared.options.prune_every_s)

    async def prune(self) -> int:
        """Drop the records of processed events that the stream no longer holds. Returns how many."""
        before = now_ms() - int(self._shared.options.keep_events_s * 1000)
        async with self._database.transaction() as tx:
            result = await tx.session.execute(delete(_PROCESSED).where(_PROCESSED.c.processed_at < before))
        return int(getattr(result, "rowcount", 0))

    async def dead_letters(self, limit: int = 100, consumer: str | None = None, after: int = 0) -> list[DeadLetter]:
        """The oldest dead letters with a sequence above `after`, of all consumers or one."""
        return await self._shared.letters.list(limit, consumer, after)

    async def dead_letter(self, sequence: int) -> DeadLetter:
        """Raises NotFound."""
        return await self._shared.letters.get(sequence)

    async def replay(self, sequence: int) -> DeadLetter:
        """Give a dead letter to its consumer, and to no other, once more. Raises NotFound."""
        return await self._shared.letters.replay(sequence)

    async def purge(self, sequence: int) -> None:
        """Drop a dead letter for good. Raises NotFound."""
        await self._shared.letters.purge(sequence)

    async def publish_log(self, project_id: str, kind: str, ident: str, channel: str, payload: bytes) -> None:
        """Send a line, a metric or a progress mark to whoever listens now; it is not kept."""
        tokens = ("log", project_id, kind, ident, channel)
        if not all(_TOKEN.fullmatch(token) for token in tokens):
            raise Invalid(f"'{'.'.join(tokens)}' is not a log subject; each part is letters, digits, '_' or '-'")
        await self._shared.connection.nc.publish(".".join(tokens), payload)

    async def tail(
        self,
        subject: str = "evt.>",
        sequence: int | None = None,
        since: datetime | None = None,
        follow: bool = True,
    ) -> AsyncIterator[Envelope]:
        """The events on `subject` from a stream sequence or a time on, else from now on.

        Without `follow` it ends with the last event there is.
        """
        async with aclosing(self.history(subject, sequence, since, follow)) as found:
            async for _, envelope in found:
                yield envelope

    def history(
        self,
        subject: str = "evt.>",
        sequence: int | None = None,
        since: datetime | None = None,
        follow: bool = False,
    ) -> AsyncGenerator[tuple[int, Envelope], None]:
        """As `tail`, each event with its sequence in the stream, from which one can go on later."""
        return tail(self._shared.connection, delivery.STREAM, subject, sequence, since, follow)

    async def last_sequence(self) -> int:
        """The sequence of the newest event in the stream."""
        return int((await self._shared.connection.js.stream_info(delivery.STREAM)).state.last_seq)

    async def kv(self, bucket: str) -> KeyValue:
        """A JetStream key-value bucket, made when it is missing, by which a plugin feeds its data plane.

        It allows direct reads, so that credentials can be limited to single keys: to read one is to publish to
        ``$JS.API.DIRECT.GET.KV_<bucket>.$KV.<bucket>.<key>``.
        """
        js = self._shared.connection.js
        try:
            return await js.key_value(bucket)
        except BucketNotFoundError:
            return await js.create_key_value(bucket=bucket, direct=True)

    def stats(self) -> BusStats:
        return BusStats(self._shared.relay.published, {n: c.stats for n, c in self._shared.consumers.items()})
