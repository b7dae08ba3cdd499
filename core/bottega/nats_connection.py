"""The platform's one connection to NATS: opened once, kept for ever, its troubles logged in one line each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import structlog
from nats.aio.client import Client, RawCredentials
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js import JetStreamContext

from bottega.errors import Unavailable

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class NatsOptions:
    """How to reach NATS. `credentials` is the path of a ``.creds`` file or the text of one."""

    url: str = field(repr=False)
    credentials: str | Path | None = field(default=None, repr=False)
    inbox_prefix: str = "_INBOX"
    name: str = "bottega"
    open_timeout_s: float = 15.0


async def arriving(subscription: Subscription) -> AsyncGenerator[list[Msg], None]:
    """The messages of a subscription, all that are there at a time; ends with the subscription.

    nats-py's own iterator makes a task for each message, which is half of what a message costs. Here it waits for
    the first, and what came with that is taken from the queue as nats-py's own `fetch` does.
    """
    queue = subscription._pending_queue
    async for first in subscription.messages:
        messages = [first]
        while not queue.empty():
            message = queue.get_nowait()
            subscription._pending_size -= len(message.data)
            queue.task_done()
            messages.append(message)
        yield messages


class NatsConnection:
    """`nc` and `js` are the client in use; after the server closed a connection they are new objects."""

    def __init__(self, options: NatsOptions) -> None:
        self.nc = Client()
        self.js: JetStreamContext = self.nc.jetstream()
        self._options = options
        self._listeners: set[Callable[[bool], None]] = set()
        self._problems: dict[str, None] = {}
        self._closing = False
        self._reopening: asyncio.Task[None] | None = None

    @property
    def connected(self) -> bool:
        return bool(self.nc.is_connected)

    def on_change(self, listener: Callable[[bool], None]) -> None:
        """Call `listener` with True after each reconnection and with False when the connection is lost."""
        self._listeners.add(listener)

    def forget(self, listener: Callable[[bool], None]) -> None:
        """Call `listener` no more."""
        self._listeners.discard(listener)

    async def open(self) -> None:
        """Connect. Raises Unavailable when that does not succeed within `open_timeout_s`."""
        self._closing = False
        try:
            async with asyncio.timeout(self._options.open_timeout_s):
                await self._connect()
        except TimeoutError as late:
            self._closing = True
            await self.nc.close()
            where = urlsplit(self._options.url)
            why = "; ".join(self._problems) or "no answer"
            raise Unavailable(
                f"NATS at {where.hostname}:{where.port} is not usable after "
                f"{self._options.open_timeout_s:g} s: {why}; check [nats] url and credentials_file"
            ) from late

    async def close(self) -> None:
        self._closing = True
        if self._reopening is not None:
            self._reopening.cancel()
        await self.nc.close()

    async def _connect(self) -> None:
        credentials = self._options.credentials
        self.nc = Client()
        self.js = self.nc.jetstream()
        await self.nc.connect(
            self._options.url,
            name=self._options.name,
            inbox_prefix=self._options.inbox_prefix,
            user_credentials=RawCredentials(credentials) if isinstance(credentials, str) else credentials,
            max_reconnect_attempts=-1,
            reconnect_time_wait=0.25,  # type: ignore[arg-type]  # annotated int, used as seconds of any kind
            connect_timeout=3,
            error_cb=self._on_error,
            disconnected_cb=self._on_disconnected,
            reconnected_cb=self._on_reconnected,
            closed_cb=self._on_closed,
        )

    async def _on_error(self, error: Exception) -> None:
        # The client reports every attempt of a reconnection; one line for each new reason is enough.
        problem = str(error) or type(error).__name__
        if problem not in self._problems:
            self._problems[problem] = None
            log.warning("nats.error", reason=problem)

    async def _on_disconnected(self) -> None:
        if not self._closing:
            log.warning("nats.disconnected")
        self._tell(False)

    async def _on_reconnected(self) -> None:
        self._problems.clear()
        log.info("nats.reconnected")
        self._tell(True)

    async def _on_closed(self) -> None:
        # The client gives up for good when the server refuses it (revoked credentials, too many connections).
        if not self._closing:
            self._reopening = asyncio.create_task(self._reopen(), name="reopen NATS connection")

    async def _reopen(self) -> None:
        await asyncio.sleep(1)
        await self._connect()
        await self._on_reconnected()

    def _tell(self, connected: bool) -> None:
        for listener in tuple(self._listeners):
            listener(connected)
