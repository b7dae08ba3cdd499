"""What lies in buckets, sampled once an hour: one usage fact for each bucket and hour.

A bucket's sample is kept as soon as it is taken, so a run that was interrupted goes on with the buckets that are left.
An hour in which the platform did not run is not charged. Nothing is listed while objects cost nothing.
"""

from __future__ import annotations

import structlog

from bottega.context import now_ms
from bottega.errors import ApiError
from bottega.objects import ObjectPath
from bottega.platform import Platform
from bottega.urn import object_urn

from . import metering, prices
from .entities import UsageRecord
from .rating import HOUR

log = structlog.get_logger("bottega.billing")


class Sampler:
    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    async def sample(self) -> int:
        """Sample the buckets that have no sample of this hour yet; how many there were."""
        now = now_ms()
        hour = now - now % HOUR
        async with self._platform.database.read() as session:
            version = (await prices.load(session)).at(now)
        if version is None or not version.storage.object_gb_month:
            return 0
        taken = 0
        for bucket in await self._platform.objects.list_buckets():
            try:
                taken += await self._sample(bucket, hour)
            except ApiError as e:
                log.warning("bucket not sampled", bucket=bucket, reason=e.message)
        return taken

    async def _sample(self, bucket: str, hour: int) -> bool:
        ident = f"storage/{bucket}/{hour}"
        async with self._platform.database.read() as session:
            if await session.get(UsageRecord, ident) is not None:
                return False
        size = 0
        async for info in self._platform.objects.list(ObjectPath(bucket)):
            size += info.size
        account_id = await self._platform.identity.bucket_account(bucket)
        async with self._platform.database.transaction() as tx:
            if await tx.session.get(UsageRecord, ident) is not None:
                return False
            record = UsageRecord(
                id=ident,
                account_id=account_id,
                project_id="",
                workspace_id="",
                user_id="",
                user_name="",
                kind="storage",
                backend="",
                flavor="object",
                measure="byte",
                quantity=size,
                resource_urn=object_urn(bucket),
                resource_name=bucket,
                started_at=hour,
                finished_at=hour + HOUR,
            )
            await metering.add(tx, record)
        return True
