"""Settlement: each whole hour of an account's usage goes into the ledger once, and what turns out later corrects it.

The usage of an hour is rated from the facts alone, and the difference from what the ledger holds of that hour is
posted, the first time as ``usage``, later as ``correction``. A fact that arrives late moves the account's
`Payer.settled_until` back in its own transaction, so the hours it touches are settled again. Everything of an hour
is one transaction: a crash leaves it whole or undone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, inspect
from sqlalchemy import select as columns
from sqlmodel import col, or_, select

from bottega.context import now_ms
from bottega.database import AsyncSession, Transaction
from bottega.platform import Platform

from . import prices
from .entities import Order, UsageRecord
from .ledger import BALANCE, REVENUE, Draft, Move, lock, post_all
from .ledger_entities import Entry, Payer, Posting
from .prices import PriceList, Version
from .rating import HOUR, Meter, Package, Rated, Usage, rate_hour

NODE_SECOND = "node_second"
USED = "used"
SETTLED = ("usage", "correction")
HOURS_AT_ONCE = 24

FACT = tuple(column for column in inspect(UsageRecord).columns if column.name != "backend")
"""Read as plain rows: an object of the model for each of a month's facts would take longer than rating it."""
SIDE = (col(Posting.book), col(Posting.unit), col(Posting.source))


def overlapping(start: int, end: int) -> tuple[Any, ...]:
    """The conditions on facts that may cost something from `start` to `end`."""
    finished = col(UsageRecord.finished_at)
    return (
        col(UsageRecord.started_at) < end,
        or_(finished.is_(None), finished > start, col(UsageRecord.started_at) >= start),
    )


async def facts(session: AsyncSession, account_id: str, start: int, end: int, *more: Any) -> Sequence[Usage]:
    """The usage facts of an account that may cost something from `start` to `end`."""
    conditions = (UsageRecord.account_id == account_id, *overlapping(start, end), *more)
    return list((await session.execute(columns(*FACT).where(*conditions))).all())


async def packages(session: AsyncSession, account_id: str, start: int, end: int) -> list[Package]:
    """The packages of an account that hold at some time from `start` to `end`."""
    query = select(Order).where(
        Order.account_id == account_id, Order.kind == "package", Order.begins < end, Order.ends > start
    )
    return [
        Package(order.id, order.quantity, order.begins, order.ends, tuple(order.flavors), tuple(order.kinds))
        for order in (await session.exec(query)).all()
    ]


async def left_in(session: AsyncSession, account_id: str, found: Iterable[Package], before: int) -> dict[str, int]:
    """The node-seconds left in packages when the hours before `before` are settled and used."""
    left = {package.id: package.node_seconds for package in found}
    if left:
        query = (
            select(Posting.book, func.sum(Posting.amount))
            .join(Entry, col(Entry.id) == Posting.entry_id)
            .where(Posting.account_id == account_id, Posting.unit == NODE_SECOND)
            .where(col(Posting.book).in_([_book(ident) for ident in left]))
            .where(col(Entry.kind).in_(SETTLED), Entry.at < before)
            .group_by(Posting.book)
        )
        for book, drawn in (await session.exec(query)).all():
            left[book.removeprefix("package/")] += int(drawn)
    return left


@dataclass(frozen=True, slots=True)
class Hour:
    """What every fact costs in the hour that begins at `at`."""

    at: int
    rated: dict[str, Rated]


def rate_hours(
    usages: Iterable[Usage],
    versions: Sequence[Version],
    owned: Sequence[Package],
    left: dict[str, int],
    start: int,
    end: int,
) -> Iterable[Hour]:
    """Rate hour after hour from `start` (on the hour) until `end`; hours in which nothing costs are left out."""
    by_hour: defaultdict[int, list[Meter]] = defaultdict(list)
    for usage in usages:
        meter = Meter(usage, versions, end)
        first = max(start, usage.started_at)
        last = max(meter.end - 1, usage.started_at)
        for hour in range(first - first % HOUR, min(last, end - 1) + 1, HOUR):
            by_hour[hour].append(meter)
    for hour in sorted(by_hour):
        if rated := rate_hour(by_hour[hour], owned, left, hour, min(hour + HOUR, end)):
            yield Hour(hour, rated)


async def settle(tx: Transaction, account_id: str, until: int, price_list: PriceList) -> bool:
    """Settle some of the account's hours before `until` (on the hour); False when none is left to settle."""
    payer = await lock(tx, account_id)
    session = tx.session
    start = payer.settled_until
    first = await _first(session, account_id, start, until) if start < until else None
    if first is None:
        payer.settled_until = max(start, until)
        session.add(payer)
        return False
    start = max(start, first - first % HOUR)
    end = min(until, start + HOURS_AT_ONCE * HOUR)
    owned = await packages(session, account_id, start, end)
    left = await left_in(session, account_id, owned, start)
    usages = await facts(session, account_id, start, end)
    hours = rate_hours(usages, price_list.versions, owned, left, start, end)
    wanted = {hour.at: _sides(hour.rated, price_list.currency) for hour in hours}
    held, counts = await _settled(session, account_id, start, end)
    drafts = [
        draft
        for at in sorted(wanted.keys() | held.keys())
        if (draft := _difference(account_id, at, wanted.get(at, {}), held.get(at, {}), counts.get(at, [])))
    ]
    await post_all(tx, drafts)
    payer.settled_until = end
    session.add(payer)
    return end < until


async def _first(session: AsyncSession, account_id: str, start: int, end: int) -> int | None:
    """The first time from `start` to `end` of which there is a fact, or an entry that may be wrong by now."""
    fact = select(func.min(UsageRecord.started_at)).where(UsageRecord.account_id == account_id)
    entry = select(func.min(Entry.at)).where(Entry.account_id == account_id, col(Entry.kind).in_(SETTLED))
    found = (
        await session.scalar(fact.where(*overlapping(start, end))),
        await session.scalar(entry.where(Entry.at >= start, Entry.at < end)),
    )
    return min((at for at in found if at is not None), default=None)


Side = tuple[str, str, str]
"""Book, unit and source of a posting."""


def _sides(rated: Mapping[str, Rated], currency: str) -> dict[Side, int]:
    sides: dict[Side, int] = {}
    for ident, one in rated.items():
        if one.micro:
            sides[REVENUE, currency, ident] = one.micro
        for package, seconds in one.drawn.items():
            sides[_book(package), NODE_SECOND, ident] = -seconds
    return sides


async def _settled(
    session: AsyncSession, account_id: str, start: int, end: int
) -> tuple[dict[int, dict[Side, int]], dict[int, list[str]]]:
    """What the ledger holds of each hour, and the ids of the entries that say so, the first one first."""
    entries = select(Entry.id, Entry.at).where(
        Entry.account_id == account_id, Entry.at >= start, Entry.at < end, col(Entry.kind).in_(SETTLED)
    )
    hours = dict((await session.exec(entries.order_by(col(Entry.id)))).all())
    held: defaultdict[int, dict[Side, int]] = defaultdict(dict)
    counts: defaultdict[int, list[str]] = defaultdict(list)
    for ident, at in hours.items():
        counts[at].append(ident)
    if hours:
        query = (
            columns(col(Entry.at), *SIDE, func.sum(Posting.amount))
            .join(Entry, col(Entry.id) == Posting.entry_id)
            .where(col(Entry.account_id) == account_id, col(Entry.at) >= start, col(Entry.at) < end)
            .where(col(Entry.kind).in_(SETTLED), col(Posting.source) != "")
            .group_by(col(Entry.at), *SIDE)
        )
        for at, book, unit, source, amount in (await session.execute(query)).all():
            if amount:
                held[at][book, unit, source] = int(amount)
    return held, counts


def _difference(
    account_id: str, at: int, wanted: Mapping[Side, int], held: Mapping[Side, int], before: Sequence[str]
) -> Draft | None:
    """The entry that brings the ledger from `held` to `wanted`; None when they are the same."""
    sides = wanted.keys() if not held else wanted.keys() | held.keys()
    moves = [
        Move(book, amount, unit, source)
        for book, unit, source in sorted(sides)
        if (amount := wanted.get((book, unit, source), 0) - held.get((book, unit, source), 0))
    ]
    if not moves:
        return None
    sums: defaultdict[str, int] = defaultdict(int)
    for move in moves:
        sums[move.unit] += move.amount
    moves += [Move(USED if unit == NODE_SECOND else BALANCE, -amount, unit) for unit, amount in sums.items() if amount]
    if not before:
        return Draft(f"usage/{account_id}/{at}", account_id, "usage", at, moves)
    key = f"usage/{account_id}/{at}/{len(before)}"
    return Draft(key, account_id, "correction", at, moves, corrects=before[0])


def _book(package: str) -> str:
    return f"package/{package}"


class Settlements:
    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    async def settle_all(self) -> int:
        """Settle every account up to the last hour that ended long enough ago for its events to have arrived.

        Returns how many accounts there were.
        """
        now = now_ms() - self._platform.settings.settle_after_s * 1000
        until = now - now % HOUR
        async with self._platform.database.read() as session:
            price_list = await prices.load(session)
            behind = (await session.exec(select(Payer.account_id).where(Payer.settled_until < until))).all()
        for account_id in behind:
            more = True
            while more:
                async with self._platform.database.transaction() as tx:
                    more = await settle(tx, account_id, until, price_list)
        return len(behind)
