"""Sending what is due: lanes are claimed, many are worked on at a time, and each is sent one event after the other.

Whoever claims a lane moves its due time ahead and renews that as long as it is at work (a lease), so two processes
share the work. A process that dies leaves its lanes to be claimed again; at its next start it gives them back at once.
An event is sent again when its outcome was not committed: at least once, in order for each thing.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

import anyio
import anyio.abc
import structlog
from sqlalchemy import and_, func, select, update
from sqlalchemy.exc import SQLAlchemyError

from bottega.context import now_ms
from bottega.errors import Forbidden, NotFound, Unauthenticated
from bottega.platform import Platform

from .deliveries import FAILED, Ended, Outcome, lock, record
from .entities import DELIVERIES, LANES, WebhookDelivery
from .health import Health
from .registry import Hook, Registry
from .sending import Sender
from .service import pause

log = structlog.get_logger("bottega.notify.webhooks")

LEASE_MS = 30_000
_LANES = 128
"""Claimed at a time for one webhook; what is beyond waits in the database."""
_RUN = 16
"""Events of one lane that are sent before its turn is over."""
_TURN_S = 10.0
_GATHER_S = 0.02
"""Outcomes are collected for so long, and committed together."""
_LOOK_S = 1.0


class Dispatcher:
    """`holder` names the installation, also after a restart."""

    def __init__(self, platform: Platform, registry: Registry, sender: Sender, holder: str) -> None:
        self._platform = platform
        self._registry = registry
        self._sender = sender
        self._health = Health()
        self._holder = holder
        self._mine: dict[str, str] = {}
        """Lanes at work or not yet given back, with their webhooks."""
        self._slots: dict[str, anyio.CapacityLimiter] = {}
        self._outcomes: list[Outcome] = []
        self._ended: list[Ended] = []
        self._wake, self._written = anyio.Event(), anyio.Event()

    def wake(self) -> None:
        """Look for work now."""
        self._wake.set()

    async def run(self) -> None:
        """Send until cancelled."""
        await self._give_back_all()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._record_regularly)
            tasks.start_soon(self._renew_regularly)
            while True:
                self._wake = anyio.Event()
                try:
                    claimed = await self._claim()
                except SQLAlchemyError as e:
                    # A database that is away comes back; what is due stays due.
                    log.warning("webhooks.not_claimed", reason=str(e))
                    claimed = []
                for hook, lane, rows in claimed:
                    tasks.start_soon(self._work, hook, lane, rows)
                if not claimed:
                    # Not longer: the clock may be moved, and another process may have put something in.
                    with anyio.move_on_after(_LOOK_S):
                        await self._wake.wait()

    async def _claim(self) -> list[tuple[Hook, str, list[WebhookDelivery]]]:
        now = now_ms()
        held = Counter(self._mine.values())
        async with self._platform.database.read() as session:
            snapshot = await self._registry.current(session)
            room = {
                h.id: self._health.room(h.id, _LANES, now) - held[h.id] for h in snapshot.by_id.values() if h.active
            }
            full = [id for id, free in room.items() if free <= 0]
            query = (
                select(LANES.c.id, LANES.c.webhook_id)
                .where(LANES.c.due_at <= now, LANES.c.webhook_id.not_in(full))
                .order_by(LANES.c.due_at)
                .limit(2 * _LANES)
            )
            due = (await session.execute(query)).all()
        chosen = []
        for lane, webhook_id in due:
            if lane not in self._mine and room.get(webhook_id, 0) > 0:
                room[webhook_id] -= 1
                chosen.append(lane)
        if not chosen:
            return []
        async with self._platform.database.transaction() as tx:
            # Another process may be claiming the same ones.
            free = select(LANES.c.id).where(LANES.c.id.in_(chosen), LANES.c.due_at <= now).order_by(LANES.c.id)
            chosen = list((await tx.session.execute(free.with_for_update(skip_locked=True))).scalars())
            result = await tx.session.execute(
                update(LANES)
                .where(LANES.c.id.in_(chosen))
                .values(due_at=now + LEASE_MS, holder=self._holder)
                .returning(LANES.c.id, LANES.c.webhook_id)
            )
            claimed: dict[str, str] = {row.id: row.webhook_id for row in result}
        self._mine |= claimed
        rows = await self._first_of(list(claimed))
        work = []
        for lane, webhook_id in claimed.items():
            hook = snapshot.by_id.get(webhook_id)
            if hook is None or lane not in rows:
                self._end(Ended(lane, webhook_id, now))
            else:
                work.append((hook, lane, rows[lane]))
        return work

    async def _first_of(self, lanes: Sequence[str]) -> dict[str, list[WebhookDelivery]]:
        """The first events of each lane, as many as one turn sends."""
        place = DELIVERIES.alias()
        later = select(place.c.sequence).where(place.c.lane_id == LANES.c.id).order_by(place.c.sequence)
        last = later.offset(_RUN - 1).limit(1).scalar_subquery()
        query = (
            select(WebhookDelivery)
            .join(LANES, LANES.c.id == DELIVERIES.c.lane_id)
            .where(LANES.c.id.in_(lanes), DELIVERIES.c.sequence <= func.coalesce(last, 2**62))
            .order_by(DELIVERIES.c.lane_id, DELIVERIES.c.sequence)
        )
        found: dict[str, list[WebhookDelivery]] = {}
        async with self._platform.database.read() as session:
            for row in (await session.execute(query)).scalars():
                found.setdefault(row.lane_id, []).append(row)
        return found

    async def _work(self, hook: Hook, lane: str, rows: Sequence[WebhookDelivery]) -> None:
        slots = self._slots.get(hook.id)
        if slots is None:
            slots = self._slots[hook.id] = anyio.CapacityLimiter(self._platform.settings.webhook_concurrency)
        due_at = None
        async with slots:
            until = time.monotonic() + _TURN_S
            for row in rows:
                now_hook = self._registry.latest(hook.id)
                if now_hook is None or not now_hook.active or self._health.held(hook.id, now_ms()):
                    break
                try:
                    sent = await self._sender.send(now_hook, row)
                except (Unauthenticated, Forbidden, NotFound) as refusal:
                    await self._pause(hook, refusal.message)
                    break
                except Exception as e:  # whatever it is, this event is tried again later and the others go on
                    log.exception("webhooks.not_sent", webhook=hook.id, event_id=row.event_id)
                    sent = self._sender.failed(row, f"{type(e).__name__}: {e}")
                self._outcomes.append(sent.outcome)
                self._written.set()
                self._health.note(hook.id, lane, sent.outcome.outcome, sent.hold_ms, now_ms())
                if sent.outcome.status == 410:
                    await self._pause(hook, "the receiver answered 410 Gone: it wants no more")
                if sent.outcome.outcome == FAILED:
                    due_at = now_ms() + sent.again_ms
                    break
                if time.monotonic() > until:
                    break
        self._end(Ended(lane, hook.id, due_at or now_ms()))

    async def _pause(self, hook: Hook, reason: str) -> None:
        try:
            async with self._platform.database.transaction() as tx:
                await pause(tx, self._platform.database, hook.id, reason)
        except SQLAlchemyError as e:
            log.warning("webhooks.not_paused", webhook=hook.id, reason=str(e))

    def _end(self, ended: Ended) -> None:
        self._ended.append(ended)
        self._written.set()

    async def _record_regularly(self) -> None:
        while True:
            await self._written.wait()
            await anyio.sleep(_GATHER_S)
            self._written = anyio.Event()
            outcomes, self._outcomes = self._outcomes, []
            ended, self._ended = self._ended, []
            while True:
                try:
                    with anyio.CancelScope(shield=True):
                        async with self._platform.database.transaction() as tx:
                            await record(tx, self._platform, self._registry, outcomes, ended)
                    break
                except SQLAlchemyError as e:
                    log.warning("webhooks.not_recorded", reason=str(e))
                    await anyio.sleep(1)
            for each in ended:
                self._mine.pop(each.lane_id, None)
            if ended:
                self.wake()

    async def _renew_regularly(self) -> None:
        while True:
            await anyio.sleep(LEASE_MS / 3000)
            ending = {e.lane_id for e in self._ended}
            lanes = [lane for lane in self._mine if lane not in ending]
            if not lanes:
                continue
            try:
                async with self._platform.database.transaction() as tx:
                    mine = and_(LANES.c.id.in_(lanes), LANES.c.holder == self._holder)
                    await lock(tx, self._platform.database, mine)
                    await tx.session.execute(update(LANES).where(mine).values(due_at=now_ms() + LEASE_MS))
            except SQLAlchemyError as e:
                log.warning("webhooks.not_renewed", reason=str(e))

    async def _give_back_all(self) -> None:
        """What this installation held when it was killed is free again: nobody else runs on its data directory."""
        async with self._platform.database.transaction() as tx:
            mine = LANES.c.holder == self._holder
            await lock(tx, self._platform.database, mine)
            await tx.session.execute(update(LANES).where(mine).values(due_at=now_ms(), holder=None))
