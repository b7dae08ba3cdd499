"""Sending one request quickly and safely: HTTP/1.1 over connections that are kept, to checked addresses only.

httpx costs several times more a request than all else that a delivery does, and resolves names by itself: between
its look-up and a check of ours the name could lead elsewhere. Here the checked address is the one connected to.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import defaultdict
from dataclasses import dataclass, field
from functools import cached_property

import h11
import httpx

from .addresses import Addresses, Refused, port_of

_IDLE_S = 15.0
_IDLE_PER_ORIGIN = 32
_EXCERPT = 1024
_MOST_READ = 65_536

Origin = tuple[str, str, int]


class NotSent(Exception):
    """There was no answer; why."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    excerpt: str
    retry_after: str | None


@dataclass
class _Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    state: h11.Connection = field(default_factory=lambda: h11.Connection(h11.CLIENT))
    idle_since: float = 0.0

    @property
    def usable(self) -> bool:
        return (
            not self.reader.at_eof() and not self.writer.is_closing() and time.monotonic() - self.idle_since < _IDLE_S
        )


class Client:
    def __init__(self, addresses: Addresses, timeout_s: float) -> None:
        self._addresses = addresses
        self._timeout_s = timeout_s
        self._idle: dict[Origin, list[_Connection]] = defaultdict(list)

    async def post(self, url: httpx.URL, headers: list[tuple[str, str]], body: bytes) -> Answer:
        """Raises NotSent when no answer came in time, or the address is not one to be sent to."""
        origin = (url.scheme, url.raw_host.decode("ascii"), port_of(url))
        wire = [("Host", url.netloc.decode("ascii")), ("Content-Length", str(len(body))), *headers]
        request = h11.Request(method="POST", target=url.raw_path, headers=wire)
        try:
            async with asyncio.timeout(self._timeout_s):
                while (kept := self._take(origin)) is not None:
                    try:
                        return await self._exchange(origin, kept, request, body)
                    except (OSError, h11.RemoteProtocolError, EOFError):
                        continue  # it was closed at the other end meanwhile
                return await self._exchange(origin, await self._connect(origin), request, body)
        except TimeoutError as e:
            raise NotSent(f"no answer within {self._timeout_s:g} s") from e
        except (Refused, h11.ProtocolError) as e:
            raise NotSent(str(e)) from e
        except EOFError as e:
            raise NotSent("the receiver closed the connection without an answer") from e
        except (OSError, UnicodeError) as e:
            raise NotSent(f"cannot connect: {e}") from e

    def close(self) -> None:
        for connections in self._idle.values():
            for connection in connections:
                connection.writer.close()
        self._idle.clear()

    def _take(self, origin: Origin) -> _Connection | None:
        idle = self._idle[origin]
        while idle:
            connection = idle.pop()
            if connection.usable:
                return connection
            connection.writer.close()
        return None

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return httpx.create_ssl_context()  # reads all authorities there are, which whoever sends to none needs not

    async def _connect(self, origin: Origin) -> _Connection:
        scheme, host, port = origin
        failure: OSError | None = None
        for address in await self._addresses.resolve(host, port):
            try:
                if scheme == "https":
                    pair = await asyncio.open_connection(address, port, ssl=self._tls, server_hostname=host)
                else:
                    pair = await asyncio.open_connection(address, port)
                return _Connection(*pair)
            except ssl.SSLError as e:
                failure = OSError(f"TLS: {e.reason or e}")
            except OSError as e:
                failure = e
        raise failure or OSError(f"'{host}' has no address")

    async def _exchange(self, origin: Origin, connection: _Connection, request: h11.Request, body: bytes) -> Answer:
        state, kept = connection.state, False
        try:
            events = (request, h11.Data(data=body), h11.EndOfMessage())
            connection.writer.write(b"".join(state.send(event) or b"" for event in events))  # in one packet
            await connection.writer.drain()
            answer = await self._answer(connection)
            if state.our_state is h11.DONE and state.their_state is h11.DONE:
                state.start_next_cycle()
                self._keep(origin, connection)
                kept = True
            return answer
        finally:
            if not kept:
                connection.writer.close()

    async def _answer(self, connection: _Connection) -> Answer:
        response: h11.Response | None = None
        excerpt, read = b"", 0
        while read <= _MOST_READ:
            event = connection.state.next_event()
            if event is h11.NEED_DATA:
                data = await connection.reader.read(16_384)
                if not data and response is None:
                    raise EOFError
                connection.state.receive_data(data)
            elif isinstance(event, h11.Response):
                response = event
            elif isinstance(event, h11.Data):
                read += len(event.data)
                excerpt = (excerpt + bytes(event.data))[:_EXCERPT]
            elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
                break
        assert response is not None
        found = dict(response.headers)
        retry_after = found.get(b"retry-after")
        text = excerpt.decode("utf-8", "replace").replace("\0", "")
        return Answer(response.status_code, text, retry_after.decode("latin-1") if retry_after else None)

    def _keep(self, origin: Origin, connection: _Connection) -> None:
        idle = self._idle[origin]
        if len(idle) >= _IDLE_PER_ORIGIN:
            connection.writer.close()
            return
        connection.idle_since = time.monotonic()
        idle.append(connection)
