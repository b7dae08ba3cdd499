"""Passes HTTP and websockets on to a JupyterLab, with the platform's key instead of the caller's credentials."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import httpx
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Scope
from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.typing import Subprotocol

from bottega.errors import ApiError, Unavailable
from bottega_notebook.jupyter import KEY_HEADER, USER_HEADER

if TYPE_CHECKING:
    from bottega.platform import Platform
    from bottega.plugins import Plugins

_HOP_BY_HOP = {
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}
_NOT_FORWARDED = _HOP_BY_HOP | {
    "authorization",
    "cookie",
    "host",
    "origin",
    "referer",
    "x-auth-token",
    "x-security-token",
    "x-sdk-date",
    "x-sdk-content-sha256",
    "x-project-id",
    KEY_HEADER.lower(),
    USER_HEADER.lower(),
}
# Jupyter's cookies would log a browser in to it directly, past the platform.
_NOT_RETURNED = _HOP_BY_HOP | {"set-cookie", "server"}
RECHECK_S = 30.0
"""How often an open websocket is checked again, so that a right taken away ends it."""
_CLOSED_BY_PLATFORM = 1008


@dataclass(frozen=True)
class Target:
    """A running JupyterLab: ``host:port`` and the key it knows the platform by."""

    address: str
    key: str

    def headers(self, user_name: str) -> list[tuple[str, str]]:
        return [(KEY_HEADER, self.key), (USER_HEADER, user_name.encode("ascii", "replace").decode())]


class Proxy:
    """One for each platform; `close` it when that stops."""

    def __init__(self) -> None:
        # JupyterLab loads a hundred files at once and keeps long polls open.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=50)
        self._http = httpx.AsyncClient(timeout=httpx.Timeout(None, connect=5), limits=limits, trust_env=False)

    @classmethod
    def of(cls, platform: Platform) -> Proxy:
        """The same one for every hook of this plugin."""
        plugins = platform.shared.plugins
        if plugins not in _PROXIES:
            _PROXIES[plugins] = cls()
        return _PROXIES[plugins]

    async def close(self) -> None:
        await self._http.aclose()

    async def http(self, request: Request, target: Target, user_name: str) -> Response:
        """The answer of `target`, streamed. Raises Unavailable when it does not answer."""
        sends_body = "content-length" in request.headers or "transfer-encoding" in request.headers
        outgoing = self._http.build_request(
            request.method,
            _url("http", target, request.scope),
            headers=[*_kept(request.headers.items(), _NOT_FORWARDED), *target.headers(user_name)],
            content=request.stream() if sends_body else None,
        )
        try:
            answer = await self._http.send(outgoing, stream=True)
        except httpx.TransportError as e:
            raise Unavailable("the notebook does not answer; it may be stopping") from e
        response = StreamingResponse(answer.aiter_raw(), answer.status_code, background=BackgroundTask(answer.aclose))
        response.raw_headers = [
            (name.lower(), value) for name, value in answer.headers.raw if name.lower().decode() not in _NOT_RETURNED
        ]
        return response

    async def websocket(
        self, websocket: WebSocket, target: Target, user_name: str, still_allowed: Callable[[], Awaitable[None]]
    ) -> None:
        """Connect both sides until one ends, or `still_allowed` raises an ApiError."""
        try:
            upstream = await connect(
                _url("ws", target, websocket.scope),
                additional_headers=target.headers(user_name),
                subprotocols=[Subprotocol(p) for p in websocket.scope.get("subprotocols", ())] or None,
                compression=None,
                max_size=None,
                proxy=None,
                open_timeout=10,
            )
        except (OSError, InvalidHandshake, TimeoutError) as e:
            raise Unavailable(f"the notebook does not take this connection: {e}") from e
        async with upstream:
            await websocket.accept(upstream.subprotocol)
            directions = [
                asyncio.create_task(_to_jupyter(websocket, upstream)),
                asyncio.create_task(_to_browser(websocket, upstream)),
                asyncio.create_task(_watch(still_allowed)),
            ]
            try:
                done, _ = await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in directions:
                    task.cancel()
                await asyncio.gather(*directions, return_exceptions=True)
            close = next(iter(done)).result()
            if close is not None:
                await websocket.close(*close)


_PROXIES: WeakKeyDictionary[Plugins, Proxy] = WeakKeyDictionary()
Close = tuple[int, str]


async def _to_jupyter(websocket: WebSocket, upstream: ClientConnection) -> Close | None:
    """None: the browser has closed."""
    while True:
        try:
            message = await websocket.receive()
            if message["type"] == "websocket.disconnect":
                return None
            data = message.get("bytes")
            await upstream.send(data if data is not None else message["text"])
        except WebSocketDisconnect:
            return None
        except ConnectionClosed:
            return _close_of(upstream)


async def _to_browser(websocket: WebSocket, upstream: ClientConnection) -> Close | None:
    try:
        async for message in upstream:
            await (websocket.send_text(message) if isinstance(message, str) else websocket.send_bytes(message))
    except ConnectionClosed:
        pass
    except (WebSocketDisconnect, RuntimeError):  # the browser left between two messages
        return None
    return _close_of(upstream)


async def _watch(still_allowed: Callable[[], Awaitable[None]]) -> Close:
    while True:
        await asyncio.sleep(RECHECK_S)
        try:
            await still_allowed()
        except ApiError as refused:
            return _CLOSED_BY_PLATFORM, refused.message[:100]


def _close_of(upstream: ClientConnection) -> Close:
    code = upstream.close_code or 1001
    # 1005 and 1006 say that no code was sent and must not be sent themselves.
    return (1001 if code in (1005, 1006) else code), (upstream.close_reason or "")


def _url(scheme: str, target: Target, scope: Scope) -> str:
    # As it came, escapes included: JupyterLab lives under the same path as here.
    path, query = scope["raw_path"].decode("ascii"), scope["query_string"].decode("ascii")
    return f"{scheme}://{target.address}{path}" + (f"?{query}" if query else "")


def _kept(headers: Iterable[tuple[str, str]], without: set[str]) -> list[tuple[str, str]]:
    return [(name, value) for name, value in headers if name.lower() not in without]
