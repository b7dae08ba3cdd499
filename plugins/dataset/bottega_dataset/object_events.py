"""Telling what happens to objects, where somebody wants to know: below the paths that things of the registry watch.

A thing asks by its property ``watches`` (a folder, ``s3://bucket/key/``). What is written through the platform is told
as it is written. URLs for writing, presigned below such a path, are of the platform's S3 endpoint and not of the store,
which does not tell of what it is given. What a workload has stored is told when it has ended.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from sqlmodel import col, select

from bottega.backends import WorkloadFinished, WorkloadSpec
from bottega.bus import Retry
from bottega.entities import Resource, Workload
from bottega.errors import Unavailable
from bottega.events import Event, Received
from bottega.objects import ObjectPath
from bottega.platform import Platform
from bottega.urn import PLATFORM, Urn

_KNOWN_S = 1.0
"""How long the watched paths are taken as known: what is written so soon after watching began may be missed."""

_TOLD_AT_ONCE = 500
_STORE_AWAY_S = 3.0


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

    async def is_watched(self, path: ObjectPath) -> bool:
        """Whether somebody wants to know what is written there."""
        return str(path).startswith(await self._paths() or ("\0",))

    async def on_finished(self, received: Received[WorkloadFinished]) -> None:
        """Tell of what a workload has stored below watched paths: it went to the store past the platform.

        Raises Retry while the object store is away.
        """
        event = received.event
        watched = await self._paths()
        if not watched or event.started_at is None:
            return
        async with self._platform.database.read() as session:
            workload = await session.get(Workload, event.workload_id)
        if workload is None:
            return
        spec = WorkloadSpec.model_validate(workload.spec)
        for text in [*(one.path for one in spec.outputs), *spec.may_write]:
            path = ObjectPath.parse(text)
            if not any(one.startswith(str(path)) or str(path).startswith(one) for one in watched):
                continue
            try:
                await self._tell_since(path, event.started_at)
            except Unavailable as e:
                raise Retry(_STORE_AWAY_S, e.message) from e

    async def _tell_since(self, path: ObjectPath, since: int) -> None:
        keys: list[str] = []
        async for info in self._platform.objects.list(path):
            if info.modified_at >= since // 1000 * 1000:  # stores tell whole seconds
                keys.append(info.path.key)
            if len(keys) == _TOLD_AT_ONCE:
                await self.written(path.bucket, keys)
                keys = []
        await self.written(path.bucket, keys)

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
