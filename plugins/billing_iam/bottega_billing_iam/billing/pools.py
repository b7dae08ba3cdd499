"""The states of dedicated pools, told as they change (002 §5.3: subscriptions to the states of pools).

active ──its time ends──▶ expired ──retention days──▶ released
   ▲                         │
   └────────── renewed ──────┘
"""

from __future__ import annotations

from sqlmodel import col, or_, select

from bottega.context import now_ms
from bottega.database import Transaction
from bottega.platform import Platform

from . import ledger
from .accounts import Accounts
from .entities import Order
from .money_entities import PoolEnd, Renewal
from .money_events import PoolStateChanged

ACTIVE, EXPIRED, RELEASED = "active", "expired", "released"


class Pools:
    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._accounts = Accounts(platform)

    async def tell(self, tx: Transaction, order: Order, state: str) -> None:
        """Emit that a pool, whose last order this is, is in a state now."""
        kept_until = order.ends + await self._accounts.retention_ms(tx.session, order.account_id)
        tx.emit(
            PoolStateChanged(
                order_id=order.id,
                account_id=order.account_id,
                name=order.name,
                flavor=order.flavor,
                node_count=order.quantity,
                state=state,
                ends_at=order.ends,
                kept_until=kept_until,
            ),
            order.resource_urn,
        )

    async def step(self) -> None:
        """Tell of the pools that have ended since. Called regularly; what was told is not told again."""
        now = now_ms()
        query = (
            select(Order.id, Order.account_id)
            .outerjoin(Renewal, col(Renewal.renews) == Order.id)
            .outerjoin(PoolEnd, col(PoolEnd.order_id) == Order.id)
            .where(Order.kind == "pool", Order.ends <= now, col(Renewal.order_id).is_(None))
            .where(or_(col(PoolEnd.state).is_(None), PoolEnd.state == EXPIRED))
        )
        async with self._platform.database.read() as session:
            ended = (await session.exec(query)).all()
        for order_id, account_id in ended:
            async with self._platform.database.transaction() as tx:
                await ledger.lock(tx, account_id)  # so that nobody renews it meanwhile
                await self._end(tx, await tx.session.get_one(Order, order_id), now)

    async def _end(self, tx: Transaction, order: Order, now: int) -> None:
        renewed = await tx.session.exec(select(Renewal.order_id).where(Renewal.renews == order.id))
        if renewed.first() is not None:
            return
        kept_until = order.ends + await self._accounts.retention_ms(tx.session, order.account_id)
        told = await tx.session.get(PoolEnd, order.id)
        if told is None:
            told = PoolEnd(order_id=order.id, state=EXPIRED)
            await self.tell(tx, order, EXPIRED)
        if now >= kept_until:
            told.state = RELEASED
            await self.tell(tx, order, RELEASED)
        tx.session.add(told)
