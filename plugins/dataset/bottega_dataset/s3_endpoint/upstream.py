"""The object store behind the endpoint: requests go to it signed with the operator's keys, bodies as they come."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit
from weakref import WeakKeyDictionary

import httpx

from bottega.errors import Unavailable

from .signature import UNSIGNED, encoded_path, sign

if TYPE_CHECKING:
    from bottega.platform import Platform
    from bottega.plugins import Plugins

if importlib.util.find_spec("sniffio") is None:
    # httpcore looks for this package of trio's several times a request; each time not finding it costs a millisecond.
    sys.modules["sniffio"] = None  # type: ignore[assignment]  # how Python marks what cannot be imported
_CONNECTIONS = 64
# The store may take a while to put the parts of a large object together.
_TIMEOUT = httpx.Timeout(None, connect=5, read=300, pool=60)


class Upstream:
    """One for each platform; `close` it when that stops."""

    def __init__(self, endpoint: str, region: str, access_key: str, secret_key: str) -> None:
        parts = urlsplit(endpoint)
        self.endpoint = endpoint.rstrip("/")
        self._host, self._base = parts.netloc, parts.path.rstrip("/")
        self._keys = {"access_key": access_key, "secret_key": secret_key, "region": region}
        limits = httpx.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=_CONNECTIONS)
        self._http = httpx.AsyncClient(timeout=_TIMEOUT, limits=limits, trust_env=False)

    @classmethod
    def of(cls, platform: Platform) -> Upstream:
        """The same one for every hook of this plugin."""
        plugins = platform.shared.plugins
        if plugins not in _UPSTREAMS:
            assert platform.shared.s3 is not None, "the runtime knows the object store's address before it asks"
            _UPSTREAMS[plugins] = cls(**platform.shared.s3)
        return _UPSTREAMS[plugins]

    async def close(self) -> None:
        await self._http.aclose()

    async def send(
        self,
        method: str,
        path: str,
        query: Sequence[tuple[str, str]],
        headers: Mapping[str, str],
        body: AsyncIterator[bytes] | bytes | None = None,
    ) -> httpx.Response:
        """The store's answer, its body still to be read or closed. `headers` holds the length of a streamed body.

        Raises Unavailable when the store does not answer, and what reading `body` raises.
        """
        path = self._base + path
        signed = sign(method, path, query, {**headers, "host": self._host}, UNSIGNED, now=time.time(), **self._keys)
        pairs = "&".join(f"{quote(name, safe='~')}={quote(value, safe='~')}" for name, value in query)
        target = encoded_path(path) + (f"?{pairs}" if pairs else "")
        wire = [(name.encode(), value.encode("utf-8", "surrogateescape")) for name, value in signed.items()]
        request = self._http.build_request(
            method,
            self.endpoint,
            headers=[*wire, (b"accept-encoding", b"identity")],
            content=body,
            # As it was signed: a URL would be put into a normal form of its own.
            extensions={"target": target.encode("ascii")},
        )
        try:
            return await self._http.send(request, stream=True)
        except httpx.TransportError as e:
            raise Unavailable(f"the object store does not answer: {type(e).__name__}") from e


_UPSTREAMS: WeakKeyDictionary[Plugins, Upstream] = WeakKeyDictionary()
