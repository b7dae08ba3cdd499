"""What money decides by the clock, while the platform runs: retention periods, budgets, the ends of pools."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import structlog

from bottega.platform import Platform

from .arrears import Arrears
from .budgets import Budgets
from .pools import Pools

log = structlog.get_logger("bottega.billing")


class Watch:
    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._arrears = Arrears(platform)
        self._budgets = Budgets(platform)
        self._pools = Pools(platform)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """From here on workloads pass the budgets and the retention periods, and those move on by themselves."""
        admissions = self._platform.workloads.admissions
        mine = (self._arrears.admit, self._budgets.admit)
        admissions.extend(mine)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._run)
                yield
                tasks.cancel_scope.cancel()
        finally:
            for admission in mine:
                admissions.remove(admission)

    async def look(self) -> None:
        """Take every step that is due now."""
        await self._arrears.step()
        await self._budgets.step()
        await self._pools.step()

    async def _run(self) -> None:
        reviewed = False
        while True:
            with anyio.CancelScope(shield=True):
                try:
                    if not reviewed:
                        await self._arrears.review_all()
                        reviewed = True
                    await self.look()
                except Exception:  # a database that is away for a while must not end the watch for good
                    log.warning("budgets, pools and retention periods are looked at again later", exc_info=True)
            await anyio.sleep(self._platform.settings.money_check_s)
