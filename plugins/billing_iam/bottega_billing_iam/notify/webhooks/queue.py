"""What is to be sent: put into lanes, one for each thing and webhook, in the transaction that hears of it.

A webhook for which too much waits, because it is paused or its receiver is away, gets no more rows: that it has to go
on from here is noted in its own row, and `replay` fetches the rest from the stream when there is room again.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from sqlalchemy import CursorResult, func, select, update
from sqlalchemy import event as sa_event
from sqlalchemy.orm import Session

from bottega.context import now_ms
from bottega.database import AsyncSession, Database, Transaction
from bottega.events import Envelope, Event, Received
from bottega.platform import Platform

from .entities import DELIVERIES, LANES, NEVER, WEBHOOKS
from .registry import Hook, Registry, Snapshot, on_conflict, revise, upsert

_KEY = "notify.webhooks"


def lane_id(webhook_id: str, urn: str) -> str:
    return hashlib.sha256(f"{webhook_id} {urn}".encode()).hexdigest()[:32]


class Queue:
    """`woken` is called after each commit that put something in."""

    def __init__(self, platform: Platform, registry: Registry, woken: Callable[[], None]) -> None:
        self._platform = platform
        self._registry = registry
        self._woken = woken
        self._counted: dict[str, int] = {}
        """At most so many wait for each webhook: what did once, and all that was put in since."""

    async def on_event(self, received: Received[Event], tx: Transaction) -> None:
        """Put an event into the lanes of all webhooks that want it."""
        batch = tx.session.info.get(_KEY)
        if batch is None:
            batch = await self.open(tx)
        for hook in batch.snapshot.by_project.get(received.project_id, ()):
            if await hook.wants(self._platform, received.envelope):
                beyond = hook.row.overflows or hook.id in batch.beyond
                beyond = beyond or not await self.room(tx.session, hook.id, batch.added[hook.id])
                batch.add(hook, received.envelope, received.sequence, beyond=beyond)

    async def room(self, session: AsyncSession, webhook_id: str, added: int = 0) -> int:
        """How many more events may wait for a webhook, when so many are added but not written yet."""
        most: int = self._platform.settings.webhook_waiting
        if self._counted.get(webhook_id, most) >= most:
            waiting = select(DELIVERIES.c.event_id).where(DELIVERIES.c.webhook_id == webhook_id).limit(most)
            counted = select(func.count()).select_from(waiting.subquery())
            self._counted[webhook_id] = int((await session.execute(counted)).scalar_one()) + added
        return max(0, most - self._counted[webhook_id])

    def put(self, webhook_id: str) -> None:
        """One more waits for a webhook, or will when a transaction commits."""
        self._counted[webhook_id] = self._counted.get(webhook_id, self._platform.settings.webhook_waiting) + 1

    async def open(self, tx: Transaction) -> Batch:
        """What a transaction puts in; written just before its commit, in two statements whatever its size."""
        batch = Batch(self._platform.database, await self._registry.current(tx.session), self.put)
        session = tx.session.sync_session
        tx.session.info[_KEY] = batch
        sa_event.listen(session, "before_commit", batch.write, once=True)
        sa_event.listen(session, "after_commit", lambda _: self._woken() if batch.rows else None, once=True)
        return batch


class Batch:
    def __init__(self, database: Database, snapshot: Snapshot, put: Callable[[str], None]) -> None:
        self.snapshot = snapshot
        self.rows: list[dict[str, Any]] = []
        self.added: Counter[str] = Counter()
        self.beyond: dict[str, list[dict[str, Any]]] = {}
        """What is to be fetched from the stream later, by webhook."""
        self._database = database
        self._put = put

    def add(self, hook: Hook, envelope: Envelope, sequence: int, *, beyond: bool = False) -> None:
        """:param beyond: too much waits for it already."""
        now = now_ms()
        if not beyond:
            self._put(hook.id)
            self.added[hook.id] += 1
        (self.beyond.setdefault(hook.id, []) if beyond else self.rows).append(
            {
                "webhook_id": hook.id,
                "event_id": envelope.id,
                "lane_id": lane_id(hook.id, envelope.urn),
                "sequence": sequence,
                "type": envelope.type,
                "urn": envelope.urn,
                "payload": envelope.encode(),
                "attempts": 0,
                "since": now,
            }
        )

    def write(self, session: Session) -> None:
        for webhook_id, rows in self.beyond.items():
            if not self._leave(session, webhook_id, rows):
                self.rows += rows
        now, hooks = now_ms(), self.snapshot.by_id
        lanes = {
            row["lane_id"]: {
                "id": row["lane_id"],
                "webhook_id": row["webhook_id"],
                "due_at": now if hooks[row["webhook_id"]].active else NEVER,
            }
            for row in self.rows
        }
        if self.rows:
            write(session.execute, self._database, lanes.values(), self.rows)

    def _leave(self, session: Session, webhook_id: str, rows: list[dict[str, Any]]) -> bool:
        """Have events fetched from the stream later; False when a replay has just caught up: they are to be put in."""
        first, last = rows[0]["sequence"], rows[-1]["sequence"]
        this = update(WEBHOOKS).where(WEBHOOKS.c.id == webhook_id)
        if self.snapshot.by_id[webhook_id].row.overflows:
            longer: CursorResult[Any] = session.execute(  # type: ignore[assignment]  # an update has a cursor
                this.where(WEBHOOKS.c.overflows).values(replay_until=last)
            )
            return bool(longer.rowcount)
        begun = func.coalesce(WEBHOOKS.c.replay_from, first)
        session.execute(this.values(overflows=True, replay_from=begun, replay_until=last))
        session.execute(revise(self._database))
        return True


def write(
    execute: Callable[..., Any], database: Database, lanes: Iterable[dict[str, Any]], rows: list[dict[str, Any]]
) -> None:
    """Insert deliveries, each once, and the lanes they need.

    A lane that exists is locked by an update that changes nothing: who takes away an empty one (`deliveries`) then
    sees what was put in meanwhile.
    """
    lane = upsert(database, LANES)
    ordered = sorted(lanes, key=lambda values: str(values["id"]))  # two processes lock in one order
    execute(on_conflict(lane, ["id"], {"webhook_id": lane.excluded.webhook_id}), ordered)
    execute(on_conflict(upsert(database, DELIVERIES), ["webhook_id", "event_id"], None), rows)
