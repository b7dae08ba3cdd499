"""``/v2/{project_id}/bills`` and the prices behind them."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from bottega.context import now_ms
from bottega.gateway import Caller, Page, paging, requires
from bottega.platform import Platform
from bottega.routing import Router

from .asked import VIEW, Asked, asking
from .bill import cents, check_group, exact, read_bill
from .prices import load


def router(platform: Platform) -> APIRouter:
    router = Router()

    @router.get("/v2/{project_id}/bills")
    async def show_bill(
        group_by: str = "resource",
        asked: Asked = asking(),
        page: Page = paging(100),
        caller: Caller = requires(VIEW),
    ) -> dict[str, Any]:
        """The bill of the project, or of the whole account, from the month's beginning to now unless told otherwise.

        ``group_by`` is ``resource``, ``account``, ``project``, ``workspace``, ``user``, ``flavor``, ``kind``, ``day``
        or ``tag:<key>``. ``from`` and ``to`` are epoch milliseconds or dates and times in ISO 8601 (UTC when they say
        nothing). The amounts of the records are exact to a millionth, the total is rounded to the cent once.
        ``tag=key:value``, ``user_id`` and ``workspace_id`` show a part of it.
        """
        now = now_ms()
        check_group(group_by)
        begin, until = asked.period(now)
        wanted = await asked.scope(caller)
        async with platform.database.read() as session:
            prices = await load(session)
            bill = await read_bill(session, wanted, prices, begin, until, now, group_by)
        return {
            "currency": prices.currency,
            "from": begin,
            "to": until,
            "group_by": group_by,
            "total_count": len(bill.lines),
            "total_amount": cents(bill.micro),
            "exact_amount": exact(bill.micro),
            "records": [
                {
                    group_by: line.key,
                    "name": line.name,
                    "tags": line.tags,
                    "seconds": line.seconds,
                    "node_seconds": line.node_seconds,
                    "amount": exact(line.micro),
                }
                for line in bill.lines[page.offset : page.offset + page.limit]
            ],
        }

    @router.get("/v2/{project_id}/prices")
    async def show_prices(caller: Caller = requires("bss:price:list", everyone=True)) -> dict[str, Any]:
        """Every version of the price list, per node and hour; the last one that has begun holds."""
        async with platform.database.read() as session:
            return (await load(session)).model_dump(mode="json")

    return router
