"""Renewing a dedicated pool: before it ends, or in the retention period after that (000 §7).

A renewal takes effect from the original end, never from the day of paying, so the time since the end is paid too.
After the retention period the pool is gone and a new one is ordered.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlmodel import col, select

from bottega.context import now_ms
from bottega.database import AsyncSession
from bottega.errors import Conflict, Invalid
from bottega.gateway import Caller, requires
from bottega.platform import Platform
from bottega.routing import Router
from bottega.urn import new_id

from . import ledger, prices
from .accounts import Accounts
from .asked import month_after
from .bill import day_text
from .entities import Order
from .events import OrderPlaced
from .money_entities import Renewal
from .orders import YEAR, YEAR_PAID, Orders, Text, describe
from .pools import ACTIVE, Pools

RENEW = "bss:order:renew"
_OWN = {"id", "order_no", "user_id", "user_name", "months", "micro", "begins", "ends"}
"""What of an order is not that of the one it renews."""


class RenewalRequest(BaseModel):
    """`order_no` is the customer's own number: the same one never renews twice. Of 12 months 10 are paid."""

    model_config = ConfigDict(extra="forbid")
    period_num: Annotated[int, Field(ge=1, le=YEAR)]
    order_no: Text | None = None


class Renewals:
    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._orders = Orders(platform)
        self._accounts = Accounts(platform)
        self._pools = Pools(platform)

    async def renew(self, caller: Caller, order_id: str, request: RenewalRequest) -> tuple[Order, bool]:
        """Pay a pool on from the end of its last order; the further order, and whether it is new.

        Raises NotFound, Invalid for what is no pool, Conflict when the retention period is over or the number stands
        for another order, NotEnoughMoney.
        """
        async with self._platform.database.transaction() as tx:
            named = await self._orders.get(tx.session, caller.project_id, order_id)
            if named.kind != "pool":
                raise Invalid(f"order '{order_id}' is a {named.kind}; only a pool can be renewed")
            await ledger.lock(tx, named.account_id)
            if (stands := await self._standing(tx.session, named, request)) is not None:
                return stands, False
            last = await last_of(tx.session, named)
            gone = last.ends + await self._accounts.retention_ms(tx.session, named.account_id)
            now = now_ms()
            if now >= gone:
                raise Conflict(
                    f"pool '{last.name}' ended on {day_text(last.ends)} and was kept until {day_text(gone)}; order a "
                    "new one"
                )
            price_list = await prices.load(tx.session)
            version = price_list.at(now)
            paid = YEAR_PAID if request.period_num == YEAR else request.period_num
            micro = version.micro_per_pool_month(last.flavor) * last.quantity * paid if version else 0
            order = Order(
                **last.model_dump(
                    exclude={"id", "order_no", "user_id", "user_name", "months", "micro", "begins", "ends"}
                ),
                id=new_id(),
                order_no=request.order_no or new_id(),
                user_id=caller.user_id,
                user_name=caller.principal.user_name,
                months=request.period_num,
                micro=micro,
                begins=last.ends,
                ends=month_after(last.ends, request.period_num),
            )
            await self._accounts.check_funds(tx, order.account_id, micro)
            tx.session.add_all([order, Renewal(order_id=order.id, renews=last.id)])
            if micro:
                moves = [
                    ledger.Move(ledger.BALANCE, -micro, order.currency),
                    ledger.Move(ledger.REVENUE, micro, order.currency, order.id),
                ]
                draft = ledger.Draft(f"order/{order.id}", order.account_id, "order", order.begins, moves, order.name)
                await ledger.post(tx, draft)
            placed = {name: getattr(order, name) for name in OrderPlaced.model_fields if name != "order_id"}
            tx.emit(OrderPlaced(order_id=order.id, **placed), order.resource_urn)
            await self._pools.tell(tx, order, ACTIVE)
        return order, True

    async def _standing(self, session: AsyncSession, named: Order, request: RenewalRequest) -> Order | None:
        """The order of this number. Raises Conflict when it is not this renewal."""
        if request.order_no is None:
            return None
        query = select(Order).where(Order.account_id == named.account_id, Order.order_no == request.order_no)
        stands = (await session.exec(query)).first()
        if stands is None:
            return None
        renewal = await session.get(Renewal, stands.id)
        if renewal is None or stands.months != request.period_num or stands.name != named.name:
            raise Conflict(f"order_no '{request.order_no}' is another order already")
        return stands


async def last_of(session: AsyncSession, order: Order) -> Order:
    """The last order of a pool, whichever of them `order` is."""
    while True:
        query = select(Order).join(Renewal, col(Renewal.order_id) == Order.id).where(Renewal.renews == order.id)
        following = (await session.exec(query)).first()
        if following is None:
            return order
        order = following


def router(platform: Platform) -> APIRouter:
    routes = Router()
    renewals = Renewals(platform)

    @routes.post("/v2/{project_id}/orders/{order_id}/renewals", status_code=201)
    async def renew(
        order_id: str, body: RenewalRequest, response: Response, caller: Caller = requires(RENEW, "order/{order_id}")
    ) -> dict[str, Any]:
        """Renew a pool by the month, from the end of what is paid; in its retention period too."""
        order, new = await renewals.renew(caller, order_id, body)
        caller.about(resource=order.resource_urn, name=order.name)
        response.status_code = 201 if new else 200
        return describe(order, now_ms())

    return routes
