"""The loop that samples, looks at the alarm rules and forgets old points."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import structlog

from bottega.context import now_ms
from bottega.platform import Platform

from . import points
from .alarms import Alarms
from .sampling import Watch

log = structlog.get_logger("bottega.monitor")
_DAY_MS = 86_400_000


@asynccontextmanager
async def watching(platform: Platform) -> AsyncIterator[None]:
    """Watch as long as the block lasts."""
    watch, alarms = Watch(platform), Alarms(platform)
    platform.metrics.registry.register(watch)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_watch, platform, watch, alarms)
            yield
            tasks.cancel_scope.cancel()
    finally:
        platform.metrics.registry.unregister(watch)


async def _watch(platform: Platform, watch: Watch, alarms: Alarms) -> None:
    settings = platform.settings
    while True:
        began = now_ms()  # what is forgotten was old when it was counted, however long the counting took
        try:
            await watch.take()
            await alarms.evaluate()
            async with platform.database.transaction() as tx:
                await points.forget(tx, began - settings.keep_days * _DAY_MS)
        except Exception:  # a database or backend that is away comes back; the next round measures again
            log.warning("not measured", exc_info=True)
        await anyio.sleep(settings.interval_s)
