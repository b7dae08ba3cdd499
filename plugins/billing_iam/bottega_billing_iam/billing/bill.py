"""The bill: what the ledger says of the hours that are settled, and the rating of those that are not yet."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from sqlalchemy import func
from sqlmodel import col, select

from bottega.context import now_ms
from bottega.database import AsyncSession
from bottega.errors import Invalid

from . import settlement
from .entities import Order
from .ledger import REVENUE
from .ledger_entities import Entry, Payer, Posting
from .prices import MICRO, PriceList, Version
from .rating import HOUR, Meter, Usage

DAY = 86_400_000
GROUPS = ("resource", "account", "project", "workspace", "user", "flavor", "kind", "day")
"""What a bill can be grouped by, besides ``tag:<key>``."""
Amounts = dict[tuple[str, int], int]
"""Millionths by fact and by the time (epoch ms) from which they count."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose usage: an account's, or what of it is of one project, workspace, user or tag."""

    account_id: str
    project_id: str | None = None
    workspace_id: str | None = None
    user_id: str | None = None
    tag: tuple[str, str] | None = None

    def holds(self, usage: Usage | Order) -> bool:
        return (
            self.project_id in (None, usage.project_id)
            and self.workspace_id in (None, usage.workspace_id)
            and self.user_id in (None, usage.user_id)
            and (self.tag is None or usage.tags.get(self.tag[0]) == self.tag[1])
        )


@dataclass
class Line:
    """What one group costs. `seconds` times the nodes of each workload is `node_seconds`."""

    key: str
    name: str = ""
    tags: dict[str, Any] = field(default_factory=dict)
    seconds: int = 0
    node_seconds: int = 0
    micro: int = 0


@dataclass(frozen=True)
class Bill:
    lines: list[Line]

    @property
    def micro(self) -> int:
        return sum(line.micro for line in self.lines)


def check_group(group_by: str) -> str:
    """Raises Invalid for what a bill cannot be grouped by."""
    if group_by in GROUPS or (group_by.startswith("tag:") and 4 < len(group_by) <= 132):
        return group_by
    raise Invalid(f"group_by: '{group_by[:80]}' is none of {', '.join(GROUPS)}, tag:<key>")


def make_bill(
    usages: Iterable[Usage],
    versions: Sequence[Version],
    start: int,
    end: int,
    now: int,
    group_by: str,
    amounts: Amounts | None = None,
) -> Bill:
    """What `usages` cost from `start` to `end` (epoch ms); a workload that still runs is billed up to `now`.

    :param versions: the price list, by time; time before the first costs nothing.
    :param amounts: what they cost, where packages are to be counted; None: what the price list says.
    """
    lines: dict[str, Line] = {}
    by_day = group_by == "day"
    known: defaultdict[tuple[str, int], int] = defaultdict(int)
    for (ident, at), micro in (amounts or {}).items():
        known[ident, at - at % DAY if by_day else 0] += micro
    for usage in usages:
        meter = Meter(usage, versions, min(end, now))
        for a, b in _days(meter, start, end) if by_day else [(start, end)]:
            if amounts is None:
                micro = meter.micro(b) - meter.micro(a)
            else:
                micro = known.get((usage.id, a - a % DAY if by_day else 0), 0)
            seconds = meter.seconds(b) - meter.seconds(a) if usage.measure == "node" else 0
            if seconds or micro:
                line = _line(lines, usage, group_by, a)
                line.seconds += seconds
                line.node_seconds += seconds * usage.quantity
                line.micro += micro
    return _sorted(lines, group_by)


async def read_bill(
    session: AsyncSession, scope: Scope, price_list: PriceList, start: int, end: int, now: int, group_by: str
) -> Bill:
    """The bill of `scope`, what it ordered included. It equals the sum of the ledger as far as that is settled."""
    found = [u for u in await settlement.facts(session, scope.account_id, start, end) if scope.holds(u)]
    amounts = await read_amounts(session, scope.account_id, price_list, start, min(end, now))
    bill = make_bill(found, price_list.versions, start, end, now, group_by, amounts)
    lines = {line.key: line for line in bill.lines}
    for order in await orders(session, scope, start, end):
        line = _line(lines, order, group_by, order.begins)
        line.micro += order.micro
    return _sorted(lines, group_by)


async def orders(session: AsyncSession, scope: Scope, start: int, end: int) -> list[Order]:
    """What `scope` ordered from `start` to `end`, oldest first."""
    query = select(Order).where(Order.account_id == scope.account_id, Order.begins >= start, Order.begins < end)
    found = (await session.exec(query.order_by(col(Order.begins), col(Order.id)))).all()
    return [order for order in found if scope.holds(order)]


async def spent(
    session: AsyncSession, account_id: str, scopes: Sequence[Scope], price_list: PriceList, start: int, end: int
) -> list[int]:
    """What each of some scopes of an account cost from `start` to `end`, in millionths: settled, running, ordered."""
    found = await settlement.facts(session, account_id, start, end)
    known: defaultdict[str, int] = defaultdict(int)
    for (ident, _), micro in (await read_amounts(session, account_id, price_list, start, min(end, now_ms()))).items():
        known[ident] += micro
    bought = await orders(session, Scope(account_id), start, end)
    return [
        sum(known[usage.id] for usage in found if usage.id in known and scope.holds(usage))
        + sum(order.micro for order in bought if scope.holds(order))
        for scope in scopes
    ]


async def unsettled(session: AsyncSession, account_id: str, price_list: PriceList, now: int) -> int:
    """The usage of an account up to `now` that is not in the ledger yet, in millionths."""
    payer = await session.get(Payer, account_id)
    start = payer.settled_until if payer else 0
    return sum((await _rate(session, account_id, price_list, start, now, start)).values())


async def read_amounts(session: AsyncSession, account_id: str, price_list: PriceList, start: int, end: int) -> Amounts:
    """What each usage fact of an account costs from `start` to `end`: by the ledger where it is settled."""
    payer = await session.get(Payer, account_id)
    settled = payer.settled_until if payer else 0
    first, last = _down(start + HOUR - 1), min(_down(end), settled)
    if first >= last:
        return await _rate(session, account_id, price_list, start, end, settled)
    amounts = await _booked(session, account_id, price_list.currency, first, last)
    for a, b in ((start, first), (last, end)):
        if a < b:
            for key, micro in (await _rate(session, account_id, price_list, a, b, settled)).items():
                amounts[key] = amounts.get(key, 0) + micro
    return amounts


async def _booked(session: AsyncSession, account_id: str, currency: str, start: int, end: int) -> Amounts:
    query = (
        select(Posting.source, Entry.at, func.sum(Posting.amount))
        .join(Entry, col(Entry.id) == Posting.entry_id)
        .where(Entry.account_id == account_id, Entry.at >= start, Entry.at < end)
        .where(col(Entry.kind).in_(settlement.SETTLED), Posting.book == REVENUE, Posting.unit == currency)
        .group_by(Posting.source, col(Entry.at))
    )
    return {(source, at): int(micro) for source, at, micro in (await session.execute(query)).all()}


async def _rate(
    session: AsyncSession, account_id: str, price_list: PriceList, start: int, end: int, settled: int
) -> Amounts:
    """Rate `start` to `end` from the facts; what packages had left is known at `settled` and before."""
    hour = _down(start)
    begin = min(hour, settled)
    owned = await settlement.packages(session, account_id, begin, end)
    if not owned:
        return _list_price(await settlement.facts(session, account_id, start, end), price_list.versions, start, end)
    begin = min(hour, max(begin, _down(min(package.begins for package in owned))))
    found = await settlement.facts(session, account_id, begin, end)
    left = await settlement.left_in(session, account_id, owned, begin)

    def costs(until: int) -> Amounts:
        hours = settlement.rate_hours(found, price_list.versions, owned, dict(left), begin, until)
        return {(ident, one.at): rated.micro for one in hours if one.at >= hour for ident, rated in one.rated.items()}

    amounts = costs(end)
    if start > hour:
        for key, micro in costs(start).items():
            amounts[key] = amounts.get(key, 0) - micro
    return amounts


def _list_price(usages: Iterable[Usage], versions: Sequence[Version], start: int, end: int) -> Amounts:
    """What `usages` cost without packages, day by day."""
    amounts: Amounts = {}
    for usage in usages:
        meter = Meter(usage, versions, end)
        for a, b in _days(meter, start, end):
            if micro := meter.micro(b) - meter.micro(a):
                amounts[usage.id, a] = micro
    return amounts


def exact(micro: int) -> str:
    """An amount to the millionth, as text."""
    return f"{Decimal(micro).scaleb(-6):f}"


def cents(micro: int) -> str:
    """An amount to the cent, half a cent up, as text."""
    return str((Decimal(micro) / MICRO).quantize(Decimal("0.01"), ROUND_HALF_UP))


def day_text(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).date().isoformat()


def _down(at: int) -> int:
    return at - at % HOUR


def _days(meter: Meter, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The days, or parts of them, in which the usage may cost something from `start` to `end`."""
    start, end = max(start, meter.start), min(end, max(meter.end, meter.start + 1))
    day = start - start % DAY
    while day < end:
        yield max(day, start), min(day + DAY, end)
        day += DAY


def _line(lines: dict[str, Line], usage: Usage | Order, group_by: str, at: int) -> Line:
    key, name = _group(usage, group_by, at)
    if key not in lines:
        lines[key] = Line(key, name, usage.tags if group_by == "resource" else {})
    return lines[key]


def _sorted(lines: Mapping[str, Line], group_by: str) -> Bill:
    order: Callable[[Line], Any] = (lambda x: x.key) if group_by == "day" else (lambda x: (-x.micro, x.key))
    return Bill(sorted(lines.values(), key=order))


def _group(usage: Usage | Order, group_by: str, at: int) -> tuple[str, str]:
    match group_by:
        case "resource":
            return usage.resource_urn, usage.resource_name
        case "user":
            return usage.user_id, usage.user_name
        case "day":
            return day_text(at), ""
        case "account":
            return usage.account_id, ""
        case "project":
            return usage.project_id, ""
        case "workspace":
            return usage.workspace_id, ""
        case "flavor":
            return usage.flavor, ""
        case "kind":
            return usage.kind, ""
    return str(usage.tags.get(group_by.removeprefix("tag:"), "")), ""
