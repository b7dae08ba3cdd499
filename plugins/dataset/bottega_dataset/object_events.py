"""Telling what happens to objects, where somebody wants to know: below the paths that things of the registry watch.

A thing asks by its property ``watches`` (a folder, ``s3://bucket/key/``). What is written through presigned URLs goes
past the platform and is not told.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from sqlmodel import col, select

from bottega.entities import Resource
from bottega.events import Event
from bottega.platform import Platform
from bottega.urn import PLATFORM, Urn

_KNOWN_S = 1.0
"""How long the watched paths are taken as known: what is written so soon after watching began may be missed."""


class ObjectsWritten(Event, type="store-s3.objects.written.v1"):
    """Objects of one bucket were stored, for the first time or again."""

    bucket: str
    keys: Sequence[str]


class ObjectsRemoved(Event, type="store-s3.objects.removed.v1"):
    """Objects of one bucket were deleted."""

    bucket: str
    keys: Sequence[str]


class ObjectEvents:
    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._watched: tuple[float, tuple[str, ...]] = (0.0, ())

    async def written(self, bucket: str, keys: Iterable[str]) -> None:
        await self._tell(ObjectsWritten, bucket, keys)

    async def removed(self, bucket: str, keys: Iterable[str]) -> None:
        await self._tell(ObjectsRemoved, bucket, keys)

    async def _tell(self, event: type[ObjectsWritten | ObjectsRemoved], bucket: str, keys: Iterable[str]) -> None:
        watched = await self._paths()
        told = [key for key in keys if watched and f"s3://{bucket}/{key}".startswith(watched)]
        if told:
            async with self._platform.database.transaction() as tx:
                tx.emit(event(bucket=bucket, keys=told), Urn("store-s3", PLATFORM, "bucket", bucket))

    async def _paths(self) -> tuple[str, ...]:
        known_at, paths = self._watched
        now = time.monotonic()
        if now - known_at > _KNOWN_S:
            watches = col(Resource.properties)["watches"].as_string()
            query = select(watches).where(col(Resource.deleted_at).is_(None), watches.is_not(None))
            async with self._platform.database.read() as session:
                paths = tuple((await session.exec(query)).all())
            self._watched = now, paths
        return paths
