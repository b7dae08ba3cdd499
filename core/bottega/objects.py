"""Object storage as the platform uses it: only what every S3 server does right.

Content types, hashes, tags and locks live in SQL. Paths keep the users' own names, so every S3 tool sees them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bottega.errors import Invalid
from bottega.urn import object_urn


@dataclass(frozen=True, slots=True)
class ObjectPath:
    """A bucket and a key; the key of a folder ends with ``/`` or is empty."""

    bucket: str
    key: str = ""

    @classmethod
    def parse(cls, text: str, what: str = "path") -> ObjectPath:
        """Read ``s3://bucket/key``, ``obs://bucket/key`` or the vendor's ``/bucket/key``.

        Raises Invalid for anything else and for keys that climb (``..``) or hold empty or control characters.
        """
        for prefix in ("s3://", "obs://", "/"):
            if text.startswith(prefix):
                bucket, _, key = text[len(prefix) :].partition("/")
                break
        else:
            raise Invalid(f"{what} '{text}' is not an object path; write s3://bucket/folder/ or /bucket/folder/")
        if not 3 <= len(bucket) <= 63 or not all(c.isascii() and (c.isalnum() or c in "-.") for c in bucket):
            raise Invalid(f"{what} '{text}' names no valid bucket (3-63 letters, digits, '-' and '.')")
        segments = key.split("/")
        if any(s in (".", "..") for s in segments) or "" in segments[:-1] or any(ord(c) < 32 for c in key):
            raise Invalid(f"{what} '{text}' must not hold '.', '..', empty segments or control characters")
        return cls(bucket, key)

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"

    def __truediv__(self, name: str) -> ObjectPath:
        base = self.key if not self.key or self.key.endswith("/") else self.key + "/"
        return ObjectPath(self.bucket, base + name)

    @property
    def folder(self) -> ObjectPath:
        """The same path with a closing slash."""
        return self if not self.key or self.key.endswith("/") else ObjectPath(self.bucket, self.key + "/")

    @property
    def name(self) -> str:
        return self.key.rstrip("/").rpartition("/")[2]

    def contains(self, other: ObjectPath) -> bool:
        return self.bucket == other.bucket and (self == other or other.key.startswith(self.folder.key))

    @property
    def urn(self) -> str:
        return object_urn(self.bucket, self.key)


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One object of a listing. `modified_at` is epoch milliseconds."""

    path: ObjectPath
    size: int
    etag: str
    modified_at: int


class ObjectStore(Protocol):
    """An S3-compatible store. Methods raise NotFound for what is not there, Unavailable when the store is away."""

    name: str

    async def create_bucket(self, bucket: str) -> None: ...
    async def list_buckets(self) -> list[str]: ...
    async def put(self, path: ObjectPath, data: bytes, content_type: str = "application/octet-stream") -> str:
        """Store `data` whole and return its ETag."""
        ...

    async def get(self, path: ObjectPath, start: int | None = None, end: int | None = None) -> bytes:
        """Read an object, or its bytes `start`..`end` inclusive."""
        ...

    async def head(self, path: ObjectPath) -> ObjectInfo: ...
    async def delete(self, paths: Sequence[ObjectPath]) -> None:
        """Delete objects; those already gone are no error."""
        ...

    def list(self, folder: ObjectPath, *, start_after: str = "", limit: int | None = None) -> AsyncIterator[ObjectInfo]:
        """Objects under a prefix, in key order, in constant memory."""
        ...

    async def upload(self, file: Path, path: ObjectPath, content_type: str = "application/octet-stream") -> None:
        """Store a local file, in parts when it is large."""
        ...

    async def download(self, path: ObjectPath, file: Path) -> None:
        """Write an object to a local file, which appears only when it is complete."""
        ...

    def presign(self, method: str, path: ObjectPath, expires_s: int = 900) -> str:
        """A URL by which whoever holds it may GET or PUT just this object."""
        ...
