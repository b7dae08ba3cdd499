"""The outbox relay: publishes committed events to JetStream at once, and again until they are acknowledged.

A commit hands its events over in memory (`Relay.deliver`), so they leave without a look at the database.
Whatever goes wrong there (NATS away, no acknowledgement, a crash, too much in memory) is found again in the
outbox table, which is published in the order of its rows. Publishing twice is harmless: JetStream drops the
second of two messages with one ``Nats-Msg-Id``, and consumers know the events they have processed.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from contextlib import aclosing
from typing import NamedTuple

import anyio
import nats.errors
import orjson
import structlog
from sqlalchemy import delete, func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import SQLModel

from bottega.database import Database
from bottega.events import Envelope
from bottega.nats_connection import NatsConnection, arriving

log = structlog.get_logger(__name__)

WINDOW = 1024
"""Events published before their acknowledgements are awaited."""
_OUTBOX = SQLModel.metadata.tables["core_outbox"]
_MEMORY = 20_000
_ACK_TIMEOUT_S = 5.0
_FORGET_AFTER_S = 0.25
_SWEEP_EVERY_S = 15.0
_TROUBLE = (nats.errors.Error, SQLAlchemyError, OSError)
"""What passes by itself: the server or the database is away for a while."""


class Outgoing(NamedTuple):
    event_id: str
    subject: str
    payload: bytes
    traceparent: str | None = None


class Relay:
    def __init__(self, database: Database, connection: NatsConnection) -> None:
        self.published = 0
        self._database = database
        self._connection = connection
        self._fresh: deque[Envelope] = deque()
        self._behind = True
        self._wake = asyncio.Event()
        self._stopping = False
        self._ended = asyncio.Event()
        self._ended.set()
        self._patience = anyio.CancelScope()
        self._settled: list[str] = []
        self._forget_at = 0.0
        connection.on_change(self._on_connection)

    def deliver(self, envelopes: Sequence[Envelope]) -> None:
        """Take the events of a transaction that has just been committed (`Database.on_commit`)."""
        if self._connection.connected and len(self._fresh) < _MEMORY:
            self._fresh.extend(envelopes)
            self._wake.set()
        else:
            self._behind = True

    def sweep_soon(self) -> None:
        """Look into the outbox now instead of at the next regular time."""
        self._behind = True
        self._wake.set()

    async def lag(self) -> int:
        """How many committed events JetStream has not acknowledged yet."""
        async with self._database.read() as session:
            rows = (await session.execute(select(func.count()).select_from(_OUTBOX))).scalar_one()
        return max(0, int(rows) - len(self._settled))

    async def run(self) -> None:
        """Relay until `drain`."""
        self._ended.clear()
        try:
            await self._run()
        finally:
            self._ended.set()

    async def _run(self) -> None:
        sweep_at = 0.0
        while not self._stopping:
            try:
                while (
                    self._connection.connected
                    and not self._stopping
                    and (self._behind or self._fresh or time.monotonic() >= sweep_at)
                ):
                    if self._behind or time.monotonic() >= sweep_at:
                        await self._sweep()
                        sweep_at = time.monotonic() + _SWEEP_EVERY_S
                    else:
                        await self._publish_fresh()
                if self._settled and time.monotonic() >= self._forget_at:
                    await self._forget()
            except _TROUBLE as error:
                self._behind = True
                log.warning("relay.retry", reason=str(error))
                await anyio.sleep(0.5)
            with anyio.move_on_after(_FORGET_AFTER_S if self._settled else _SWEEP_EVERY_S):
                await self._wake.wait()
            self._wake.clear()

    async def drain(self) -> None:
        """End `run` between two steps, publish what is waiting in memory and tidy the outbox."""
        self._stopping = True
        self._wake.set()
        await self._ended.wait()
        self._stopping = False
        try:
            while self._fresh and self._connection.connected and not self._behind:
                await self._publish_fresh()
            await self._forget()
        except _TROUBLE as error:
            log.warning("relay.not_drained", reason=str(error))

    async def publish(self, events: Sequence[Outgoing]) -> tuple[list[str], bool]:
        """Publish in order. Returns the ids that were acknowledged, and whether the rest can never be.

        What can never be published is larger than the server accepts; it is logged and stays in the outbox.
        """
        nc = self._connection.nc
        waiting = dict(enumerate(events))
        acknowledged: list[str] = []
        refused = ""
        inbox = nc.new_inbox()
        replies = await nc.subscribe(f"{inbox}.*")
        try:
            with anyio.move_on_after(_ACK_TIMEOUT_S) as self._patience:
                for index, event in enumerate(events):
                    try:
                        await nc.publish(event.subject, event.payload, f"{inbox}.{index}", _headers(event))
                    except nats.errors.MaxPayloadError:
                        del waiting[index]
                        log.error("relay.too_large", event_id=event.event_id, size=len(event.payload))
                async with aclosing(arriving(replies)) as batches:
                    while waiting and (batch := await anext(batches, None)):
                        for reply in batch:
                            event = waiting.pop(int(reply.subject.rpartition(".")[2]))
                            problem = orjson.loads(reply.data).get("error") if reply.data else reply.headers
                            if problem:
                                refused = f"{event.event_id}: {problem}"
                            else:
                                acknowledged.append(event.event_id)
        finally:
            if self._connection.connected and nc is self._connection.nc:
                await replies.unsubscribe()
        if refused or waiting:
            log.warning("relay.not_acknowledged", refused=refused, unanswered=len(waiting))
        self.published += len(acknowledged)
        return acknowledged, not refused and not waiting

    async def _publish_fresh(self) -> None:
        envelopes = [self._fresh.popleft() for _ in range(min(WINDOW, len(self._fresh)))]
        acknowledged, complete = await self.publish(
            [Outgoing(e.id, e.subject, e.encode(), e.traceparent) for e in envelopes]
        )
        if not self._settled:
            self._forget_at = time.monotonic() + _FORGET_AFTER_S
        self._settled += acknowledged
        if not complete or len(acknowledged) < len(envelopes):
            self._behind = True
        # Rows are removed many at a time and a little later, to leave the database to the handlers first.
        if len(self._settled) >= 2 * WINDOW or time.monotonic() >= self._forget_at:
            await self._forget()

    async def _sweep(self) -> None:
        """Publish the outbox from its first row on; then what was committed meanwhile is in memory."""
        await self._forget()
        last = 0
        while True:
            self._fresh.clear()
            self._behind = False
            async with self._database.read() as session:
                query = select(_OUTBOX).where(_OUTBOX.c.seq > last).order_by(_OUTBOX.c.seq).limit(WINDOW)
                rows = (await session.execute(query)).all()
            if not rows:
                return
            acknowledged, complete = await self.publish([Outgoing(r.event_id, r.subject, r.payload) for r in rows])
            self._settled += acknowledged
            await self._forget()
            if not complete:
                self._behind = True
                await anyio.sleep(0.5)
                return
            last = rows[-1].seq

    async def _forget(self) -> None:
        settled, self._settled = self._settled, []
        try:
            for start in range(0, len(settled), WINDOW):
                async with self._database.transaction() as tx:
                    these = _OUTBOX.c.event_id.in_(settled[start : start + WINDOW])
                    await tx.session.execute(delete(_OUTBOX).where(these))
        except BaseException:
            self._settled = settled + self._settled
            raise

    def _on_connection(self, connected: bool) -> None:
        self._behind = True
        if connected:
            self._wake.set()
        self._patience.cancel()


def _headers(event: Outgoing) -> dict[str, str]:
    content = "application/cloudevents+json" if event.subject.startswith("evt.") else "application/json"
    headers = {"Nats-Msg-Id": event.event_id, "Content-Type": content}
    if event.traceparent:
        headers["traceparent"] = event.traceparent
    return headers
