"""Hearing what other processes of an installation change about identity, so that nobody's revoked right lives on there.

A process forgets at the commit what it changes itself (`Identity.observe`). What others commit on the same database it
hears over NATS, a moment later. Events that a process could not publish any more are published by the others, which
look into the outbox every 15 seconds. A process that is cut off from NATS hears nothing, so it keeps next to nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import nats.errors
import structlog

from bottega.events import Envelope
from bottega.identity import Identity
from bottega.nats_connection import NatsConnection, arriving

log = structlog.get_logger(__name__)

CUT_OFF_S = 5.0
"""How long at most, in seconds, something is believed while NATS is away."""
AT_MOST_S = 300.0
"""How long at most, in seconds, something is believed at all: whatever else goes wrong, and whatever no event tells."""
SUBJECTS = ("evt.*.iam.>", "evt.*.core.account.>")
"""Where every event comes by that `Identity.observe` heeds."""
_PATIENCE_S = 5


class Hearing:
    """Tells `identity` what others change, for as long as it runs."""

    def __init__(
        self,
        connection: NatsConnection,
        identity: Identity,
        *,
        cut_off_s: float = CUT_OFF_S,
        at_most_s: float = AT_MOST_S,
    ) -> None:
        self._connection = connection
        self._identity = identity
        self._cut_off_s = cut_off_s
        self._at_most_s = at_most_s
        self._changed = asyncio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Listen until the block is left."""

        def changed(_: bool) -> None:
            self._changed.set()

        self._connection.on_change(changed)
        try:
            async with anyio.create_task_group() as tasks:
                for subject in SUBJECTS:
                    tasks.start_soon(self._listen, subject)
                tasks.start_soon(self._grow_old)
                yield
                tasks.cancel_scope.cancel()
        finally:
            self._connection.forget(changed)

    async def _listen(self, subject: str) -> None:
        """Each turn is one client: it ends when the server closes the connection for good and a new one is opened."""
        while True:
            try:
                if self._connection.connected:  # a client that is not opened yet takes no subscription
                    subscription = await self._connection.nc.subscribe(subject)
                    self._changed.set()  # what was said before it listened is not known
                    async for messages in arriving(subscription):
                        for message in messages:
                            self._hear(message.data)
            except nats.errors.Error as reason:
                log.info("hearing.again", subject=subject, reason=str(reason))
            await anyio.sleep(0.25)

    def _hear(self, payload: bytes) -> None:
        try:
            envelope = Envelope.decode(payload)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("hearing.unreadable", reason=repr(error))
            self._identity.invalidate()
            return
        self._identity.hear(envelope)

    async def _grow_old(self) -> None:
        """Forget everything when the connection changed, and at the latest when it is too old."""
        while True:
            with anyio.move_on_after(self._at_most_s if self._connection.connected else self._cut_off_s):
                await self._changed.wait()
            self._changed.clear()
            if self._connection.connected:
                # First the server knows that we listen, then we forget: what commits in between is heard.
                try:
                    await self._connection.nc.flush(_PATIENCE_S)
                except (nats.errors.Error, TimeoutError):
                    self._changed.set()
            self._identity.invalidate()
            if self._changed.is_set():
                await anyio.sleep(min(1.0, self._cut_off_s))
