"""The body of an upload, checked while it passes: never held as a whole, never passed on complete when it is wrong.

The last part is held back until everything before it has been checked against what the client said of it. Of a wrong
body the store therefore receives less than it was promised, and drops it.

``aws-chunked`` (``Content-Encoding``; ``X-Amz-Content-Sha256: STREAMING-…``) frames the data::

    <size in hex>[;chunk-signature=<64 hex digits>] CRLF <data> CRLF
    0[;chunk-signature=<64 hex digits>] CRLF [<trailer>:<value> CRLF] CRLF
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Protocol

from .errors import S3Error
from .signature import ALGORITHM, Signed, signing_key

_STREAMING = re.compile(r"STREAMING-(AWS4-HMAC-SHA256|UNSIGNED)-PAYLOAD(-TRAILER)?")
_LARGEST_SIGNED_CHUNK = 16 * 2**20
_LONGEST_LINE = 4096
_EMPTY = hashlib.sha256(b"").hexdigest()


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...
    def digest(self) -> bytes: ...


class _Crc:
    """`add` continues a sum, `size` is that of the sum in bytes."""

    def __init__(self, add: Callable[[bytes, int], int], size: int) -> None:
        self._add, self._size, self._value = add, size, 0

    def update(self, data: bytes, /) -> None:
        self._value = self._add(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._size, "big")


def _aws(name: str, size: int) -> _Hash:
    from awscrt import checksums  # large, and most clients use none of these

    return _Crc(getattr(checksums, name), size)


def _md5() -> _Hash:
    return hashlib.md5(usedforsecurity=False)


_HASHES: dict[str, Callable[[], _Hash]] = {
    "content-md5": _md5,
    "x-amz-checksum-crc32": lambda: _Crc(zlib.crc32, 4),
    "x-amz-checksum-crc32c": lambda: _aws("crc32c", 4),
    "x-amz-checksum-crc64nvme": lambda: _aws("crc64nvme", 8),
    "x-amz-checksum-sha1": lambda: hashlib.sha1(usedforsecurity=False),
    "x-amz-checksum-sha256": hashlib.sha256,
}
"""What is verified."""


def is_framed(signed: Signed) -> bool:
    return signed.payload.startswith("STREAMING-")


def length(signed: Signed, headers: Mapping[str, str]) -> int:
    """How many bytes of data follow. Raises S3Error when the request does not say."""
    name = "x-amz-decoded-content-length" if is_framed(signed) else "content-length"
    value = headers.get(name)
    if value is None and "transfer-encoding" not in headers:
        return 0
    if value is None or not re.fullmatch(r"[0-9]{1,18}", value):
        raise S3Error("MissingContentLength", f"{name} must say how many bytes of data follow")
    return int(value)


async def checked(
    source: AsyncIterator[bytes], signed: Signed, secret_key: str, headers: Mapping[str, str]
) -> AsyncIterator[bytes]:
    """The data of a body. Raises S3Error, before the last part, when it is not what the client signed or summed."""
    expected = {name: headers[name] for name in _HASHES if name in headers}
    hashes: dict[str, _Hash] = {name: _HASHES[name]() for name in expected}
    frames = None
    if is_framed(signed):
        announced = headers.get("x-amz-trailer", "").strip().lower()
        if announced in _HASHES:
            hashes[announced] = _HASHES[announced]()
        frames = _Frames(signed, secret_key)
    whole = hashlib.sha256() if frames is None and signed.payload != "UNSIGNED-PAYLOAD" else None
    left, held = length(signed, headers), b""
    async for part in source if frames is None else frames.data(source):
        if not part:
            continue
        left -= len(part)
        if left < 0:
            raise S3Error("IncompleteBody", "the body is longer than the request says")
        if whole is not None:
            whole.update(part)
        for known in hashes.values():
            known.update(part)
        if held:
            yield held
        held = part
    if left > 0:
        raise S3Error("IncompleteBody", f"the body ends {left} bytes too early")
    if whole is not None and whole.hexdigest() != signed.payload:
        raise S3Error("XAmzContentSHA256Mismatch", "the body is not the one X-Amz-Content-Sha256 was made of")
    for name, value in {**expected, **(frames.trailer if frames else {})}.items():
        if name in hashes and base64.b64encode(hashes[name].digest()).decode() != value.strip():
            raise S3Error("BadDigest", f"the body is not the one {name} was made of")
    if held:
        yield held


class _Frames:
    """Takes the framing of ``aws-chunked`` off, verifying the chunks' signatures where they have them."""

    def __init__(self, signed: Signed, secret_key: str) -> None:
        match = _STREAMING.fullmatch(signed.payload)
        if match is None or (match[1] == "UNSIGNED" and match[2] is None):
            raise S3Error("NotImplemented", f"X-Amz-Content-Sha256: {signed.payload} is not known here")
        self._signs, self._trails = match[1] != "UNSIGNED", match[2] is not None
        self._key = signing_key(secret_key, signed.scope)
        self._signed = signed
        self._previous = signed.signature
        self._buffer = bytearray()
        self._source: AsyncIterator[bytes]
        self.trailer: dict[str, str] = {}

    async def data(self, source: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        self._source = source
        while True:
            size, signature = self._head(await self._line())
            if self._signs:
                if size > _LARGEST_SIGNED_CHUNK:
                    raise S3Error("InvalidRequest", f"a signed chunk has at most {_LARGEST_SIGNED_CHUNK} bytes")
                chunk = await self._take(size)
                self._verify("AWS4-HMAC-SHA256-PAYLOAD", f"{_EMPTY}\n{hashlib.sha256(chunk).hexdigest()}", signature)
                yield chunk
            else:
                left = size
                while left:
                    part = await self._some(left)
                    left -= len(part)
                    yield part
            if size == 0:
                break
            if await self._line():
                raise S3Error("InvalidRequest", "aws-chunked: a chunk is longer than it says")
        await self._read_trailer()
        while not self._buffer and await self._more():
            pass
        if self._buffer:
            raise S3Error("InvalidRequest", "aws-chunked: something follows the last chunk")

    async def _read_trailer(self) -> None:
        lines = ""
        while line := await self._line(at_end=True):
            name, _, value = line.partition(":")
            if name == "x-amz-trailer-signature":
                hashed = hashlib.sha256(lines.encode()).hexdigest()
                self._verify("AWS4-HMAC-SHA256-TRAILER", hashed, value)
                self._signs = False
            elif len(self.trailer) < 16:
                self.trailer[name.lower()] = value.strip()
                lines += f"{name.lower()}:{value.strip()}\n"
        if self._trails and self._signs:
            raise S3Error("AccessDenied", "aws-chunked: the trailer is not signed")

    def _head(self, line: str) -> tuple[int, str]:
        match = re.fullmatch(r"([0-9a-fA-F]{1,16})(?:;chunk-signature=([0-9a-f]{64}))?", line)
        if match is None or (self._signs and match[2] is None):
            raise S3Error("InvalidRequest", "aws-chunked: a chunk must begin with its size in hex (and its signature)")
        return int(match[1], 16), match[2] or ""

    def _verify(self, kind: str, hashed: str, signature: str) -> None:
        text = "\n".join((kind, self._signed.date, self._signed.scope, self._previous, hashed))
        made = hmac.digest(self._key, text.encode(), "sha256").hex()
        if not hmac.compare_digest(made, signature):
            raise S3Error("SignatureDoesNotMatch", f"{ALGORITHM}: a chunk's signature does not match")
        self._previous = made

    async def _more(self) -> bool:
        part = await anext(self._source, None)
        self._buffer += part or b""
        return part is not None

    async def _line(self, at_end: bool = False) -> str:
        while (end := self._buffer.find(b"\r\n")) < 0:
            if len(self._buffer) > _LONGEST_LINE or not await self._more():
                if at_end and not self._buffer:
                    return ""
                raise S3Error("IncompleteBody", "aws-chunked: a line does not end")
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return line.decode("latin-1")

    async def _some(self, most: int) -> bytes:
        while not self._buffer:
            if not await self._more():
                raise S3Error("IncompleteBody", "aws-chunked: the body ends within a chunk")
        part = bytes(self._buffer[:most])
        del self._buffer[:most]
        return part

    async def _take(self, size: int) -> bytes:
        while len(self._buffer) < size:
            if not await self._more():
                raise S3Error("IncompleteBody", "aws-chunked: the body ends within a chunk")
        return await self._some(size) if size else b""
