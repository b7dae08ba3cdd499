"""What billing does by itself from time to time: settle hours, sample buckets, close months."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
import structlog

from bottega.platform import Platform

from .invoices import Invoices
from .sampling import Sampler
from .settlement import Settlements

log = structlog.get_logger("bottega.billing")


@asynccontextmanager
async def running(platform: Platform) -> AsyncIterator[None]:
    """Do them regularly inside the block; what is in the middle of a transaction when it ends is undone."""
    settings = platform.settings
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_repeat, Settlements(platform).settle_all, settings.settle_every_s)
        tasks.start_soon(_repeat, Sampler(platform).sample, settings.sample_every_s)
        tasks.start_soon(_repeat, Invoices(platform).close_due, settings.settle_every_s)
        yield
        tasks.cancel_scope.cancel()


async def _repeat(job: Callable[[], Awaitable[int]], every_s: float) -> None:
    while True:
        try:
            await job()
        except Exception:  # a database or store that is away for a while must not end the job for good
            log.warning("billing job failed and is tried again", job=job.__qualname__, exc_info=True)
        await anyio.sleep(every_s)
