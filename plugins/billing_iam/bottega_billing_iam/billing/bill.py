"""The bill: whole seconds × nodes × the price of their time, in exact arithmetic. Pure; nothing is read or stored.

A second is billed in the period, and at the price, of the moment it begins; one that has begun counts whole. Every
record's running total is rounded to a millionth of the currency's unit, and a period's amount is the difference of
two such totals, so the amounts of adjoining periods always add up to the amount of both together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Literal, Protocol

from .prices import MICRO, Version

DAY = 86_400_000
GroupBy = Literal["resource", "flavor", "kind", "user", "project", "day"]


class Usage(Protocol):
    """What the bill needs to know of a usage record; times in epoch ms, `finished_at` None while it runs."""

    project_id: str
    user_id: str
    user_name: str
    kind: str
    flavor: str
    node_count: int
    resource_urn: str
    resource_name: str
    tags: dict[str, Any]
    started_at: int
    finished_at: int | None


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


def make_bill(
    usages: Iterable[Usage], versions: Sequence[Version], start: int, end: int, now: int, group_by: GroupBy
) -> Bill:
    """What `usages` cost from `start` to `end` (epoch ms); a workload that still runs is billed up to `now`.

    :param versions: the price list, by time; time before the first costs nothing.
    """
    lines: dict[str, Line] = {}
    for usage in usages:
        meter = _Meter(usage, versions, min(end, now))
        for a, b in _days(max(start, usage.started_at), min(end, meter.end)) if group_by == "day" else [(start, end)]:
            seconds = meter.seconds(b) - meter.seconds(a)
            if not seconds:
                continue
            key, name = _group(usage, group_by, a)
            line = lines.setdefault(key, Line(key, name, usage.tags if group_by == "resource" else {}))
            line.seconds += seconds
            line.node_seconds += seconds * usage.node_count
            line.micro += meter.micro(b) - meter.micro(a)
    order: Callable[[Line], Any] = (lambda x: x.key) if group_by == "day" else (lambda x: (-x.micro, x.key))
    return Bill(sorted(lines.values(), key=order))


def exact(micro: int) -> str:
    """An amount to the millionth, as text."""
    return f"{Decimal(micro).scaleb(-6):f}"


def cents(micro: int) -> str:
    """An amount to the cent, half a cent up, as text."""
    return str((Decimal(micro) / MICRO).quantize(Decimal("0.01"), ROUND_HALF_UP))


class _Meter:
    """The running totals of one usage record."""

    def __init__(self, usage: Usage, versions: Sequence[Version], latest: int) -> None:
        self.start = usage.started_at
        self.end = latest if usage.finished_at is None else min(usage.finished_at, latest)
        self._nodes = usage.node_count
        self._rates = [(v.begins, v.micro_per_hour(usage.flavor, usage.kind)) for v in versions]

    def seconds(self, until: int) -> int:
        """The seconds begun before `until`."""
        return max(0, -((self.start - min(until, self.end)) // 1000))

    def micro(self, until: int) -> int:
        """The cost of the seconds begun before `until`, in millionths."""
        total = 0
        for index, (begins, rate) in enumerate(self._rates):
            ends = self._rates[index + 1][0] if index + 1 < len(self._rates) else until
            total += rate * (self.seconds(min(until, ends)) - self.seconds(min(until, begins)))
        return _divide(total * self._nodes, 3600)


def _divide(value: int, by: int) -> int:
    """Rounded to the nearest, halves to even."""
    whole, rest = divmod(value, by)
    return whole + (2 * rest > by or (2 * rest == by and whole % 2))


def _days(start: int, end: int) -> Iterator[tuple[int, int]]:
    day = start - start % DAY
    while day < end:
        yield max(day, start), min(day + DAY, end)
        day += DAY


def _group(usage: Usage, group_by: GroupBy, at: int) -> tuple[str, str]:
    match group_by:
        case "resource":
            return usage.resource_urn, usage.resource_name
        case "user":
            return usage.user_id, usage.user_name
        case "day":
            return day_text(at), ""
        case "project":
            return usage.project_id, ""
        case "flavor":
            return usage.flavor, ""
        case "kind":
            return usage.kind, ""


def day_text(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).date().isoformat()
