"""Keeps the data plane at what the platform published last, and sends its reports; survives NATS being away."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import nats.errors
import orjson
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from bottega_serving.dataplane.report import Report
from bottega_serving.feed_keys import CALLERS, REPORT, ROUTE, permissions, read_subject, subject

log = structlog.get_logger("bottega.serving.feed")
_REPORT_EVERY_S = 1.0
_READ_EVERY_S = 30.0
"""Everything is read anew this often, should an announcement have been lost."""


class Feed:
    """`changed(name, content)` is awaited for each new value of the service's route and callers, in order."""

    def __init__(
        self,
        service_id: str,
        url: str,
        credentials: Path,
        changed: Callable[[str, bytes], Awaitable[None]],
        report: Report,
    ) -> None:
        self._service_id = service_id
        self._url = url
        self._credentials = credentials
        self._changed = changed
        self._report = report
        self._client = Client()
        self._last: dict[str, bytes] = {}
        self._read_now = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled. Whatever happens to NATS, the data plane goes on with what it has."""
        while True:
            closed = await self._connect()
            for name in (ROUTE, CALLERS):
                await self._client.subscribe(subject(self._service_id, name), cb=self._announced)
            tasks = [asyncio.create_task(work()) for work in (self._keep_reading, self._keep_reporting, closed.wait)]
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
            finally:
                for task in tasks:
                    task.cancel()
            # The client gives up for good when the server refuses it, as with credentials that have just expired.
            await asyncio.sleep(1)

    async def close(self) -> None:
        """Send the last report, so that no call goes uncounted, and disconnect."""
        if self._client.is_connected:
            try:
                await self._send_report()
                await self._client.flush(timeout=2)
            except nats.errors.Error as problem:
                log.warning("feed.not_flushed", reason=str(problem))
        await self._client.close()

    async def _connect(self) -> asyncio.Event:
        """Connect, however long it takes. The event is set when the client will not connect again by itself."""
        closed = asyncio.Event()

        async def reconnected() -> None:
            self._read_now.set()

        async def ended() -> None:
            closed.set()

        async def ignored(problem: Exception) -> None:
            log.debug("feed.error", reason=str(problem))

        self._client = Client()
        await self._client.connect(
            self._url,
            name=f"serving {self._service_id}",
            # A path, not the text: the file is renewed, and read again for each connection.
            user_credentials=self._credentials,
            inbox_prefix=permissions(self._service_id).inbox_prefix,
            max_reconnect_attempts=-1,
            reconnect_time_wait=1,
            connect_timeout=3,
            allow_reconnect=True,
            error_cb=ignored,
            reconnected_cb=reconnected,
            closed_cb=ended,
        )
        return closed

    async def _announced(self, message: Msg) -> None:
        # The value itself comes by reading: one way in, and in order.
        self._read_now.set()

    async def _keep_reading(self) -> None:
        while True:
            self._read_now.clear()
            try:
                for name in (ROUTE, CALLERS):
                    await self._read(name)
            except nats.errors.Error as problem:
                log.debug("feed.not_read", reason=str(problem) or type(problem).__name__)
            try:
                async with asyncio.timeout(_READ_EVERY_S):
                    await self._read_now.wait()
            except TimeoutError:
                continue

    async def _read(self, name: str) -> None:
        answer = await self._client.request(read_subject(self._service_id, name), b"", timeout=5)
        if (answer.headers or {}).get("Status") or not answer.data or answer.data == self._last.get(name):
            return
        await self._changed(name, answer.data)
        self._last[name] = answer.data

    async def _keep_reporting(self) -> None:
        while True:
            await self._send_report()
            await asyncio.sleep(_REPORT_EVERY_S)

    async def _send_report(self) -> None:
        try:
            await self._client.publish(subject(self._service_id, REPORT), orjson.dumps(self._report.content()))
        except nats.errors.Error as problem:
            log.debug("feed.not_reported", reason=str(problem) or type(problem).__name__)
