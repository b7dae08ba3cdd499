"""What is to be sent: put into lanes, one for each thing and webhook, in the transaction that hears of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

from sqlalchemy import event as sa_event
from sqlalchemy.orm import Session

from bottega.context import now_ms
from bottega.database import Database, Transaction
from bottega.events import Envelope, Event, Received
from bottega.platform import Platform

from .entities import DELIVERIES, LANES, NEVER
from .registry import Hook, Registry, Snapshot, on_conflict, upsert

_KEY = "notify.webhooks"


def lane_id(webhook_id: str, urn: str) -> str:
    return hashlib.sha256(f"{webhook_id} {urn}".encode()).hexdigest()[:32]


class Queue:
    """`woken` is called after each commit that put something in."""

    def __init__(self, platform: Platform, registry: Registry, woken: Callable[[], None]) -> None:
        self._platform = platform
        self._registry = registry
        self._woken = woken

    async def on_event(self, received: Received[Event], tx: Transaction) -> None:
        """Put an event into the lanes of all webhooks that want it."""
        batch = tx.session.info.get(_KEY)
        if batch is None:
            batch = await self.open(tx)
        for hook in batch.snapshot.by_project.get(received.project_id, ()):
            if await hook.wants(self._platform, received.envelope):
                batch.add(hook, received.envelope, received.sequence)

    async def open(self, tx: Transaction) -> Batch:
        """What a transaction puts in; written just before its commit, in two statements whatever its size."""
        batch = Batch(self._platform.database, await self._registry.current(tx.session))
        session = tx.session.sync_session
        tx.session.info[_KEY] = batch
        sa_event.listen(session, "before_commit", batch.write, once=True)
        sa_event.listen(session, "after_commit", lambda _: self._woken() if batch.rows else None, once=True)
        return batch


class Batch:
    def __init__(self, database: Database, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.rows: list[dict[str, Any]] = []
        self._lanes: dict[str, dict[str, Any]] = {}
        self._database = database

    def add(self, hook: Hook, envelope: Envelope, sequence: int) -> None:
        now = now_ms()
        lane = lane_id(hook.id, envelope.urn)
        self._lanes[lane] = {"id": lane, "webhook_id": hook.id, "due_at": now if hook.active else NEVER}
        self.rows.append(
            {
                "webhook_id": hook.id,
                "event_id": envelope.id,
                "lane_id": lane,
                "sequence": sequence,
                "type": envelope.type,
                "urn": envelope.urn,
                "payload": envelope.encode(),
                "attempts": 0,
                "since": now,
            }
        )

    def write(self, session: Session) -> None:
        if self.rows:
            write(session.execute, self._database, self._lanes.values(), self.rows)


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
