"""Messages of one JetStream consumer, pulled ahead of need and taken in batches as they arrive.

nats-py's own `fetch` either waits for a full batch or asks anew for each message, and its callbacks swallow
cancellation; here requests stay open on the server, so a message comes the moment it is stored.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque

import anyio
import nats.errors
import nats.js.errors
import orjson
import structlog
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js.api import ConsumerConfig

from bottega.nats_connection import NatsConnection, arriving

log = structlog.get_logger(__name__)

_AHEAD = 512
_EXPIRES_S = 30
_HEARTBEAT_S = 5


class PullLost(Exception):
    """The connection changed or the consumer vanished: attach again."""


class Pull:
    def __init__(self, connection: NatsConnection, stream: str, config: ConsumerConfig, batch: int) -> None:
        self.waiting: deque[Msg] = deque()
        """Arrived and not taken yet."""
        self._connection = connection
        self._stream = stream
        self._config = config
        self._batch = batch
        self._subscription: Subscription | None = None
        self._reader: asyncio.Task[None] | None = None
        self._requested = 0
        self._heard_at = 0.0
        self._lost = ""
        self._news = asyncio.Event()
        self._name = config.durable_name or config.name

    async def attach(self) -> int:
        """Create the consumer, or update it keeping its position, and start pulling; how many messages wait.

        What an earlier holder received and did not acknowledge is delivered again first, in the order of the
        stream, so nothing overtakes it.
        """
        await self.detach()
        nc, js, name = self._connection.nc, self._connection.js, str(self._name)
        self._lost = ""
        self._connection.on_change(self._on_connection)
        info = await js.add_consumer(self._stream, self._config)
        if info.num_ack_pending and not info.num_waiting:
            try:
                await js.reset_consumer(self._stream, name)
            except (nats.js.errors.APIError, nats.errors.TimeoutError) as error:
                # Servers before 2.14 cannot; they deliver it again when ack_wait has passed.
                log.info("pull.no_reset", consumer=name, reason=str(error))
        self._subscription = await nc.subscribe(nc.new_inbox())
        self._reader = asyncio.create_task(self._read(self._subscription), name=f"read {name}")
        self._requested = 0
        self._heard_at = time.monotonic()
        await self._request()
        return int(info.num_pending or 0) + int(info.num_ack_pending or 0)

    async def detach(self) -> None:
        self._connection.forget(self._on_connection)
        self.waiting.clear()
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.wait({self._reader})
            self._reader = None
        subscription, self._subscription = self._subscription, None
        if subscription is not None and subscription._conn is self._connection.nc and self._connection.connected:
            try:
                await subscription.unsubscribe()
            except nats.errors.Error as error:
                log.debug("pull.not_unsubscribed", reason=str(error))

    async def take(self) -> list[Msg]:
        """Wait for messages; what is there, up to a batch. Raises PullLost."""
        since = time.monotonic()
        while not self.waiting:
            if self._lost:
                raise PullLost(self._lost)
            if time.monotonic() - max(self._heard_at, since) > 3 * _HEARTBEAT_S:
                raise PullLost("the server sends no heartbeats")
            await self._request()
            self._news.clear()
            with anyio.move_on_after(_HEARTBEAT_S):
                await self._news.wait()
        taken = [self.waiting.popleft() for _ in range(min(self._batch, len(self.waiting)))]
        if not self._lost:
            await self._request()
        return taken

    async def _request(self) -> None:
        missing = _AHEAD - self._requested - len(self.waiting)
        if missing < _AHEAD // 2 or self._subscription is None or not self._connection.connected:
            return
        self._requested += missing
        request = {"batch": missing, "expires": _EXPIRES_S * 10**9, "idle_heartbeat": _HEARTBEAT_S * 10**9}
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._name}"
        await self._connection.nc.publish(subject, orjson.dumps(request), self._subscription.subject)

    async def _read(self, subscription: Subscription) -> None:
        async for messages in arriving(subscription):
            for message in messages:
                if message.reply:
                    self._requested -= 1
                    self.waiting.append(message)
                else:
                    self._note(message.headers or {})
            self._heard_at = time.monotonic()
            self._news.set()
        self._lose("the subscription ended")

    def _note(self, status: dict[str, str]) -> None:
        code, text = status.get("Status", ""), status.get("Description", "")
        if code == "100":
            return
        unserved = status.get("Nats-Pending-Messages")
        self._requested -= self._requested if unserved is None else min(int(unserved), self._requested)
        if code == "503" or (code == "409" and "deleted" in text.lower()):
            self._lose(f"{code} {text}")

    def _on_connection(self, connected: bool) -> None:
        self._lose("reconnected" if connected else "disconnected")

    def _lose(self, reason: str) -> None:
        self._lost = reason
        self._news.set()
