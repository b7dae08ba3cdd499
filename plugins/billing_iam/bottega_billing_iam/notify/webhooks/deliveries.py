"""What came of sending: written many at a time, and what is done leaves the lanes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, bindparam, delete, insert, select, update

from bottega.context import now_ms
from bottega.database import Database, Transaction
from bottega.platform import Platform
from bottega.urn import Urn

from .entities import ATTEMPTS, DEAD_LETTERS, DELIVERIES, LANES, NEVER, WebhookDelivery
from .events import WebhookExhausted
from .registry import Registry, Snapshot

DELIVERED, FAILED, DEAD, WITHHELD, TEST = "delivered", "failed", "dead", "withheld", "test"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one attempt went; `outcome` as `WebhookAttempt` has it."""

    row: WebhookDelivery
    outcome: str
    at: int
    attempt: int
    status: int | None = None
    latency_ms: float | None = None
    answer: str = ""

    def logged(self) -> dict[str, Any]:
        return {
            "webhook_id": self.row.webhook_id,
            "event_id": self.row.event_id,
            "type": self.row.type,
            "urn": self.row.urn,
            "attempt": self.attempt,
            "outcome": self.outcome,
            "status": self.status,
            "latency_ms": self.latency_ms,
            "answer": self.answer,
            "at": self.at,
        }


@dataclass(frozen=True, slots=True)
class Ended:
    """A lane this process is done with for now; what is left in it may be sent from `due_at` on."""

    lane_id: str
    webhook_id: str
    due_at: int


async def record(
    tx: Transaction, platform: Platform, registry: Registry, outcomes: Sequence[Outcome], ended: Sequence[Ended]
) -> None:
    """Log the attempts, take what is settled out of the lanes, and give the lanes back."""
    snapshot = await registry.current(tx.session)
    if ended:
        await lock(tx, platform.database, LANES.c.id.in_({e.lane_id for e in ended}))
    known = [o for o in outcomes if o.row.webhook_id in snapshot.by_id]
    if known:
        await tx.session.execute(insert(ATTEMPTS), [o.logged() for o in known])
    await _bury(tx, snapshot, [o for o in known if o.outcome == DEAD])
    here = (DELIVERIES.c.webhook_id == bindparam("w"), DELIVERIES.c.event_id == bindparam("e"))
    settled = [{"w": o.row.webhook_id, "e": o.row.event_id} for o in known if o.outcome != FAILED]
    if settled:
        await tx.session.execute(delete(DELIVERIES).where(*here), settled)
    failed = [{"w": o.row.webhook_id, "e": o.row.event_id, "n": o.attempt} for o in known if o.outcome == FAILED]
    if failed:
        await tx.session.execute(update(DELIVERIES).where(*here).values(attempts=bindparam("n")), failed)
    await _give_back(tx, snapshot, ended)


async def lock(tx: Transaction, database: Database, lanes: ColumnElement[bool]) -> None:
    """Lock lanes, in one order everywhere: two transactions never wait for each other. SQLite has one writer anyway."""
    if not database.is_sqlite:
        await tx.session.execute(select(LANES.c.id).where(lanes).order_by(LANES.c.id).with_for_update())


async def _give_back(tx: Transaction, snapshot: Snapshot, ended: Iterable[Ended]) -> None:
    """Let lanes be sent again when they are due, and take away those that are empty."""
    lanes = {e.lane_id: e for e in ended}
    if not lanes:
        return
    query = select(DELIVERIES.c.lane_id).where(DELIVERIES.c.lane_id.in_(lanes)).distinct()
    filled = set((await tx.session.execute(query)).scalars())
    if empty := [lane for lane in lanes if lane not in filled]:
        await tx.session.execute(delete(LANES).where(LANES.c.id.in_(empty)))
    again = []
    for lane in filled:
        hook = snapshot.by_id.get(lanes[lane].webhook_id)
        again.append({"l": lane, "at": lanes[lane].due_at if hook and hook.active else NEVER})
    if again:
        values = update(LANES).where(LANES.c.id == bindparam("l")).values(due_at=bindparam("at"), holder=None)
        await tx.session.execute(values, again)


async def _bury(tx: Transaction, snapshot: Snapshot, dead: Sequence[Outcome]) -> None:
    """Make dead letters, and say so once a webhook. What is said of that dies quietly, or there would be no end."""
    if not dead:
        return
    letters = [
        {
            **o.row.model_dump(include={"webhook_id", "event_id", "sequence", "type", "urn"}),
            "payload": o.row.payload,
            "attempts": o.attempt,
            "reason": o.answer if o.status is None else f"{o.status} {o.answer}".strip(),
            "died_at": now_ms(),
        }
        for o in dead
    ]
    ids = [{"w": letter["webhook_id"], "e": letter["event_id"]} for letter in letters]
    here = (DEAD_LETTERS.c.webhook_id == bindparam("w"), DEAD_LETTERS.c.event_id == bindparam("e"))
    await tx.session.execute(delete(DEAD_LETTERS).where(*here), ids)  # of an earlier time, before a replay
    await tx.session.execute(insert(DEAD_LETTERS), letters)
    told: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for letter in letters:
        if letter["type"] != WebhookExhausted.type:
            told[letter["webhook_id"]].append(letter)
    for webhook_id, gone in told.items():
        row = snapshot.by_id[webhook_id].row
        tx.emit(
            WebhookExhausted(webhook_id=row.id, name=row.name, count=len(gone), reason=gone[-1]["reason"][:500]),
            urn_of(row.project_id, row.id),
        )


def urn_of(project_id: str, webhook_id: str) -> Urn:
    return Urn("notify", project_id, "webhook", webhook_id)
