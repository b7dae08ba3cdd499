"""``/v2/{project_id}/bills`` and the prices behind them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from sqlmodel import col, or_, select

from bottega.context import now_ms
from bottega.errors import Invalid
from bottega.gateway import Caller, Page, paging, requires
from bottega.platform import Platform

from .bill import GroupBy, cents, exact, make_bill
from .entities import UsageRecord
from .prices import load


def router(platform: Platform) -> APIRouter:
    router = APIRouter()

    @router.get("/v2/{project_id}/bills")
    async def show_bill(
        start: Annotated[str | None, Query(alias="from")] = None,
        end: Annotated[str | None, Query(alias="to")] = None,
        group_by: GroupBy = "resource",
        scope: Literal["project", "account"] = "project",
        page: Page = paging(100),
        caller: Caller = requires("bss:bill:view"),
    ) -> dict[str, Any]:
        """The bill of the project, or of the whole account, from the month's beginning to now unless told otherwise.

        ``from`` and ``to`` are epoch milliseconds or dates and times in ISO 8601 (UTC when they say nothing). The
        amounts of the records are exact to a millionth, the total is rounded to the cent once.
        """
        now = now_ms()
        begin = _moment("from", start) if start else _month(now)
        until = _moment("to", end) if end else now
        if until < begin:
            raise Invalid("to: lies before from")
        if scope == "account":
            wanted = UsageRecord.account_id == await caller.check_account("bss:bill:view")
        else:
            wanted = UsageRecord.project_id == caller.project_id
        overlapping = (
            wanted,
            UsageRecord.started_at < until,
            or_(col(UsageRecord.finished_at).is_(None), col(UsageRecord.finished_at) > begin),
        )
        async with platform.database.read() as session:
            usages = (await session.exec(select(UsageRecord).where(*overlapping))).all()
            prices = await load(session)
        bill = make_bill(usages, prices.versions, begin, until, now, group_by)
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


def _moment(what: str, text: str) -> int:
    """Epoch ms. Raises Invalid."""
    if text.isdecimal() and len(text) <= 15:
        return int(text)
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        raise Invalid(f"{what}: {text!r} is neither epoch milliseconds nor a date such as 2026-01-31") from None
    return int((parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp() * 1000)


def _month(now: int) -> int:
    today = datetime.fromtimestamp(now / 1000, UTC)
    return int(datetime(today.year, today.month, 1, tzinfo=UTC).timestamp() * 1000)
