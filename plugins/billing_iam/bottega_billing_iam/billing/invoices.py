"""Invoices: each month of an account is closed once, numbered, and never changes.

What turns out about a closed month later stands on the next invoice, named as a correction of that month.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import exists, func, insert
from sqlalchemy import select as columns
from sqlmodel import col, select

from bottega.context import now_ms
from bottega.database import AsyncSession, Transaction
from bottega.errors import NotFound
from bottega.events import uuid7_at
from bottega.platform import Platform

from . import ledger, prices
from .asked import month_after, month_of
from .bill import cents, exact
from .entities import Invoice, InvoicedEntry, Order, UsageRecord
from .events import InvoiceClosed
from .ledger import REVENUE
from .ledger_entities import Entry, Payer, Posting
from .settlement import SETTLED

_AT_ONCE = 500
_OVERLAP_MS = 600_000
"""Entries of transactions that were open at the last look may be older than it, but not by more than this."""
CHARGES = (*SETTLED, "order")
"""The kinds of entries that stand on invoices."""


def month_text(at: int) -> str:
    """The name of a month: ``2026-11``."""
    return datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m")


class Invoices:
    """Closes months. All entries are looked through once a month; then those that are new, which their ids tell."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._month = 0
        self._looked_ms = 0
        self._waiting: set[str] = set()
        """Accounts with a month to close that is not settled yet."""

    async def close_due(self) -> int:
        """Close every month that ended long enough ago and is settled; how many there were."""
        before = now_ms() - int(self._platform.settings.invoice_after_h * 3_600_000)
        this_month, looked_ms = month_of(before), time.time_ns() // 1_000_000
        fresh = select(Entry.account_id).where(Entry.at < this_month, *_open())
        if this_month != self._month:
            fresh = fresh.distinct()
        else:  # a few at most, and DISTINCT would make SQLite go through all of them by account
            fresh = fresh.where(Entry.id >= uuid7_at(self._looked_ms - _OVERLAP_MS))
        closed = 0
        async with self._platform.database.read() as session:
            accounts = {*(await session.exec(fresh)).all(), *self._waiting}
        for account_id in sorted(accounts):
            while more := await self._close_next(account_id, this_month):
                closed += 1
            if more is None:
                self._waiting.add(account_id)
            else:
                self._waiting.discard(account_id)
        self._month, self._looked_ms = this_month, looked_ms
        return closed

    async def _close_next(self, account_id: str, before: int) -> bool | None:
        async with self._platform.database.transaction() as tx:
            return await close_next(tx, account_id, before)

    async def list(
        self, session: AsyncSession, account_id: str, offset: int, limit: int
    ) -> tuple[int, Sequence[Invoice]]:
        """One page, the newest month first, and the number of all."""
        mine = Invoice.account_id == account_id
        total = (await session.exec(select(func.count()).select_from(Invoice).where(mine))).one()
        newest = select(Invoice).where(mine).order_by(col(Invoice.month).desc())
        return total, (await session.exec(newest.offset(offset).limit(limit))).all()

    async def get(self, session: AsyncSession, account_id: str, number: str) -> Invoice:
        """Raises NotFound."""
        invoice = await session.get(Invoice, number)
        if invoice is None or invoice.account_id != account_id:
            raise NotFound(f"there is no invoice '{number}'")
        return invoice


async def close_next(tx: Transaction, account_id: str, before: int) -> bool | None:
    """Close the oldest open month of an account before `before`; False when there is none.

    None: there is one, and the usage of its last hours is not in the ledger yet.
    """
    payer: Payer = await ledger.lock(tx, account_id)
    session = tx.session
    first = await session.scalar(columns(func.min(Entry.at)).where(col(Entry.account_id) == account_id, *_open()))
    last = await session.scalar(columns(func.max(Invoice.month)).where(col(Invoice.account_id) == account_id))
    if first is None:
        return False
    month = month_of(first)
    if last is not None:
        month = max(month, month_after(int(datetime.fromisoformat(f"{last}-01T00:00:00+00:00").timestamp() * 1000)))
    end = month_after(month)
    if end > before:
        return False
    if payer.settled_until < end:
        return None
    price_list = await prices.load(session)
    rows = await _revenue(session, account_id, price_list.currency, end)
    due = columns(col(Entry.id)).where(col(Entry.account_id) == account_id, col(Entry.at) < end, *_open())
    entries = (await session.scalars(due)).all()
    named = await _named(session, {row[2] for row in rows})
    lines = _lines(rows, named, month)
    micro = sum(row[3] for row in rows)
    name = month_text(month)
    taken = (await session.exec(select(func.count()).select_from(Invoice).where(Invoice.month == name))).one()
    invoice = Invoice(
        number=f"{name}-{taken + 1:06d}",
        account_id=account_id,
        month=name,
        currency=price_list.currency,
        micro=micro,
        document={"from": month, "to": end, "exact_amount": exact(micro), "lines": lines},
    )
    session.add(invoice)
    await session.execute(insert(InvoicedEntry), [{"entry_id": e, "number": invoice.number} for e in entries])
    tx.emit(
        InvoiceClosed(account_id=account_id, number=invoice.number, month=name, amount=cents(micro)),
        f"bottega:billing:_:invoice/{invoice.number}",
    )
    return True


def describe(invoice: Invoice) -> dict[str, Any]:
    """An invoice as lists show it."""
    return {
        "invoice_no": invoice.number,
        "account_id": invoice.account_id,
        "month": invoice.month,
        "currency": invoice.currency,
        "amount": cents(invoice.micro),
        "exact_amount": exact(invoice.micro),
        "closed_at": invoice.closed_at,
    }


def _open() -> tuple[Any, ...]:
    """The conditions on entries that charge, if only packages, and stand on no invoice yet."""
    invoiced = exists().where(col(InvoicedEntry.entry_id) == col(Entry.id))
    return ~invoiced, col(Entry.kind).in_(CHARGES)


async def _revenue(
    session: AsyncSession, account_id: str, currency: str, end: int
) -> Sequence[tuple[str, int, str, int]]:
    """Entry, its time, source and amount of every charge before `end` that stands on no invoice yet."""
    query = (
        columns(col(Entry.id), col(Entry.at), col(Posting.source), col(Posting.amount))
        .join(Posting, col(Posting.entry_id) == col(Entry.id))
        .where(col(Entry.account_id) == account_id, col(Entry.at) < end, *_open())
        .where(col(Posting.book) == REVENUE, col(Posting.unit) == currency)
    )
    return [(entry, at, source, amount) for entry, at, source, amount in (await session.execute(query)).all()]


async def _named(session: AsyncSession, sources: Iterable[str]) -> dict[str, UsageRecord | Order]:
    """The facts and orders that charges were made from."""
    wanted = sorted(sources)
    found: dict[str, UsageRecord | Order] = {}
    for begin in range(0, len(wanted), _AT_ONCE):
        some = wanted[begin : begin + _AT_ONCE]
        for record in (await session.exec(select(UsageRecord).where(col(UsageRecord.id).in_(some)))).all():
            found[record.id] = record
        for order in (await session.exec(select(Order).where(col(Order.id).in_(some)))).all():
            found[order.id] = order
    return found


def _lines(
    rows: Iterable[tuple[str, int, str, int]], named: dict[str, UsageRecord | Order], month: int
) -> list[dict[str, Any]]:
    """One line for each resource, flavor, user and, of a correction, the month it corrects."""
    sums: dict[tuple[Any, ...], int] = {}
    for _, at, source, amount in rows:
        of = named.get(source)
        whose = (of.project_id, of.workspace_id, of.user_id, of.user_name) if of else ("", "", "", "")
        what = (of.resource_urn, of.resource_name, of.kind, of.flavor) if of else (source, "", "", "")
        key = (*whose, *what, month_text(at) if at < month else "")
        sums[key] = sums.get(key, 0) + amount
    names = ("project_id", "workspace_id", "user_id", "user_name", "resource", "name", "kind", "flavor", "corrects")
    return [
        dict(zip(names, key, strict=True)) | {"amount": exact(amount)} for key, amount in sorted(sums.items()) if amount
    ]
