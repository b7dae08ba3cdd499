"""Sending the past again: a range of the stream goes through the same patterns into the same lanes.

How far it is stands in the webhook's row and is committed with what was put in, so a crash loses and doubles nothing.
"""

from __future__ import annotations

from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

import anyio
import nats.errors
import structlog
from sqlalchemy import update
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import col, select

from bottega.database import Transaction
from bottega.events import Envelope
from bottega.platform import Platform

from .entities import ACTIVE, WEBHOOKS, Webhook
from .queue import Queue
from .registry import changed

log = structlog.get_logger("bottega.notify.webhooks")
_BATCH = 200
_LOOK_S = 1.0


async def first_sequence(platform: Platform, project_id: str, since: int | None, sequence: int | None) -> int | None:
    """The sequence of the project's first event from a time or a sequence on; None when there is none."""
    start = None if since is None else datetime.fromtimestamp(since / 1000, UTC)
    async with aclosing(platform.bus.history(f"evt.{project_id}.>", sequence, start)) as found:
        async for number, _ in found:
            return number
    return None


class Replayer:
    def __init__(self, platform: Platform, queue: Queue) -> None:
        self._platform = platform
        self._queue = queue
        self._wake = anyio.Event()

    def wake(self) -> None:
        """Look for replays now."""
        self._wake.set()

    async def run(self) -> None:
        """Replay until cancelled, one webhook after the other, each as far as there is room for it."""
        while True:
            self._wake = anyio.Event()
            try:
                async with self._platform.database.read() as session:
                    query = select(Webhook).where(col(Webhook.replay_from).is_not(None), Webhook.status == ACTIVE)
                    rows = (await session.exec(query)).all()
                for row in rows:
                    await self._replay(row)
            except (SQLAlchemyError, nats.errors.Error, OSError) as e:
                log.warning("webhooks.replay_waits", reason=str(e))
            with anyio.move_on_after(_LOOK_S):
                await self._wake.wait()

    async def _replay(self, row: Webhook) -> None:
        position, last = row.replay_from or 1, row.replay_until or 0
        batch: list[tuple[int, Envelope]] = []
        subject = f"evt.{row.project_id}.>"
        async with aclosing(self._platform.bus.history(subject, position)) as found:
            async for number, envelope in found:
                if number > last:
                    break
                batch.append((number, envelope))
                if len(batch) == _BATCH:
                    if not await self._put(row.id, position, number + 1, batch):
                        return
                    position, batch = number + 1, []
        # The end is no end when something was added to it meanwhile: then the next round goes on from there.
        if not await self._put(row.id, position, None, batch, last):
            await self._put(row.id, position, last + 1, batch)

    async def _put(
        self,
        webhook_id: str,
        position: int,
        then: int | None,
        events: list[tuple[int, Envelope]],
        last: int | None = None,
    ) -> bool:
        """Commit a step; False when the replay is another's by now, there is no room, or the webhook is paused or gone.

        :param then: where it goes on; None: it ends, if `last` still is where it was to end.
        """
        async with self._platform.database.transaction() as tx:
            batch = await self._queue.open(tx)
            hook = batch.snapshot.by_id.get(webhook_id)
            if hook is None or (events and not await self._queue.room(tx.session, webhook_id)):
                return False
            if not await self._advance(tx, webhook_id, position, then, last):
                return False
            for number, envelope in events:
                if envelope.project_id == hook.row.project_id and await hook.wants(self._platform, envelope):
                    batch.add(hook, envelope, number)
        return True

    async def _advance(
        self, tx: Transaction, webhook_id: str, position: int, then: int | None, last: int | None
    ) -> bool:
        mine = (WEBHOOKS.c.id == webhook_id, WEBHOOKS.c.replay_from == position, WEBHOOKS.c.status == ACTIVE)
        step = update(WEBHOOKS).where(*mine).values(replay_from=then)
        if then is None:
            step = step.where(WEBHOOKS.c.replay_until == last).values(replay_until=None, overflows=False)
        result: Any = await tx.session.execute(step)
        if then is None and result.rowcount:
            await changed(tx, self._platform.database)
        return bool(result.rowcount)
