"""What the audit trail does by itself while the platform runs: seal, copy, archive."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
import structlog

from bottega.platform import Platform

from .archive import archive_due, own_bucket
from .chain import seal
from .transfer import send_copies

log = structlog.get_logger(__name__)


@asynccontextmanager
async def keeping(platform: Platform) -> AsyncIterator[None]:
    """Seal, copy and archive regularly. Raises ConfigError when the archive's bucket is somebody else's."""
    settings = platform.settings
    await own_bucket(platform)

    async def seal_and_copy() -> None:
        await seal(platform.database, int(settings.settle_s * 1000))
        await send_copies(platform)

    async def archive() -> None:
        await archive_due(platform)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_regularly, "seal", settings.seal_every_s, seal_and_copy)
        tasks.start_soon(_regularly, "archive", settings.archive_every_s, archive)
        yield
        tasks.cancel_scope.cancel()


async def _regularly(what: str, every_s: float, work: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await work()
        except Exception:  # the store or the database may be away; nothing is lost, the next round does it
            log.exception("audit.round_failed", round=what)
        await anyio.sleep(every_s)
