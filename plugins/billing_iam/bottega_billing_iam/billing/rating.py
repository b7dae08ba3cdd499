"""Rating: what usage costs, as a pure function of the facts, the price list and the packages. Nothing is stored here.

A second is charged in the hour, and at the price, of the moment it begins; one that has begun counts whole. The
running total of every fact is rounded to a millionth, and a period's amount is the difference of two such totals, so
the amounts of adjoining periods add up to the amount of both together.

Packages are used first, the one that expires earliest before the others. The seconds of all facts that a package
fits draw from it in the order in which they begin, then by the fact's id, so the order of arrival plays no part.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from .prices import RATE, Version

HOUR = 3_600_000
SECOND = 1000


class Usage(Protocol):
    """A usage fact; times in epoch ms, `finished_at` None while it runs.

    `measure` says what `quantity` counts: ``node``, ``gb``, ``byte`` (each for the time from start to finish) or
    ``call`` (at `started_at`, which is `finished_at` too).
    """

    @property
    def id(self) -> str: ...
    @property
    def account_id(self) -> str: ...
    @property
    def project_id(self) -> str: ...
    @property
    def workspace_id(self) -> str: ...
    @property
    def user_id(self) -> str: ...
    @property
    def user_name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def flavor(self) -> str: ...
    @property
    def measure(self) -> str: ...
    @property
    def quantity(self) -> int: ...
    @property
    def resource_urn(self) -> str: ...
    @property
    def resource_name(self) -> str: ...
    @property
    def tags(self) -> dict[str, Any]: ...
    @property
    def started_at(self) -> int: ...
    @property
    def finished_at(self) -> int | None: ...


@dataclass(frozen=True, slots=True)
class Package:
    """Prepaid node-seconds that count from `begins` until `ends` (epoch ms), for some flavors and kinds or for all."""

    id: str
    node_seconds: int
    begins: int
    ends: int
    flavors: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()

    def fits(self, usage: Usage) -> bool:
        return (
            usage.measure == "node"
            and (not self.flavors or usage.flavor in self.flavors)
            and (not self.kinds or usage.kind in self.kinds)
        )


@dataclass(slots=True)
class Rated:
    """What a fact costs in a period, in millionths, and the node-seconds it drew from packages."""

    micro: int = 0
    drawn: dict[str, int] = field(default_factory=dict)


class Meter:
    """The running totals of one usage fact, without packages."""

    __slots__ = ("_charge", "_rates", "end", "start", "usage")

    def __init__(self, usage: Usage, versions: Sequence[Version], latest: int) -> None:
        """:param latest: the time up to which it is known whether the usage went on."""
        self.usage = usage
        self.start = usage.started_at
        self.end = latest if usage.finished_at is None else min(usage.finished_at, latest)
        measure, flavor, kind, quantity = usage.measure, usage.flavor, usage.kind, usage.quantity
        self._charge = 0
        self._rates: list[tuple[int, int]] = []
        if measure == "call":
            price = next((v.micro_per_call(flavor) for v in reversed(versions) if v.begins <= self.start), 0)
            self._charge = price * quantity
        else:
            self._rates = [(v.begins, v.rate(measure, flavor, kind, quantity)) for v in versions]

    def seconds(self, until: int) -> int:
        """The seconds begun before `until`."""
        return max(0, -((self.start - min(until, self.end)) // SECOND))

    def micro(self, until: int) -> int:
        """The cost of what began before `until`, in millionths."""
        if not self._rates:
            return self._charge if until > self.start else 0
        total, last = 0, len(self._rates) - 1
        for index, (begins, rate) in enumerate(self._rates):
            ends = until if index == last else min(until, self._rates[index + 1][0])
            if rate and ends > begins:
                total += rate * (self.seconds(ends) - self.seconds(begins))
        return divide(total, RATE)

    def node_rate(self, at: int) -> int:
        """The rate of one node at a time."""
        rate = next((rate for begins, rate in reversed(self._rates) if begins <= at), 0)
        return rate // self.usage.quantity if self.usage.quantity else 0

    def one_price(self, start: int, end: int) -> bool:
        """Whether the price does not change between `start` and `end`."""
        return not any(start < begins < end for begins, _ in self._rates)

    def beginnings(self, start: int, end: int) -> Iterator[tuple[int, str, Meter]]:
        """The moments in ``[start, end)`` at which a second begins."""
        first = self.start + self.seconds(start) * SECOND
        for at in range(first, min(end, self.end), SECOND):
            yield at, self.usage.id, self


def rate_hour(
    meters: Sequence[Meter], packages: Sequence[Package], left: dict[str, int], hour: int, end: int
) -> dict[str, Rated]:
    """What each usage costs from `hour` (on the hour) until `end`, at most an hour later; free ones are left out.

    :param left: the node-seconds left in each package at `hour`; what is drawn is taken off.
    """
    covered = _cover(meters, packages, left, hour, end)
    found: dict[str, Rated] = {}
    for meter in meters:
        rated = Rated(meter.micro(end) - meter.micro(hour))
        if (cover := covered.get(meter.usage.id)) is not None:
            rated.drawn = dict(cover.drawn)
            whole = (meter.seconds(end) - meter.seconds(hour)) * meter.usage.quantity
            credit = rated.micro if sum(cover.drawn.values()) == whole else divide(cover.worth, RATE)
            rated.micro = max(0, rated.micro - credit)
        if rated.micro or rated.drawn:
            found[meter.usage.id] = rated
    return found


def divide(value: int, by: int) -> int:
    """Rounded to the nearest, halves to even."""
    whole, rest = divmod(value, by)
    return whole + (2 * rest > by or (2 * rest == by and whole % 2))


class _Cover:
    """What packages pay of one usage in an hour: node-seconds by package, and what those would have cost."""

    __slots__ = ("drawn", "worth")

    def __init__(self) -> None:
        self.drawn: defaultdict[str, int] = defaultdict(int)
        self.worth = 0


def _cover(
    meters: Iterable[Meter], packages: Sequence[Package], left: dict[str, int], start: int, end: int
) -> Mapping[str, _Cover]:
    usable = sorted(
        (p for p in packages if left.get(p.id) and p.begins < end and p.ends > start),
        key=lambda p: (p.ends, p.begins, p.id),
    )
    fitting = [(meter, fits) for meter in meters if (fits := [p for p in usable if p.fits(meter.usage)])]
    if not fitting:
        return {}
    return _at_once(fitting, left, start, end) or _one_by_one(fitting, left, start, end)


def _at_once(
    fitting: Sequence[tuple[Meter, list[Package]]], left: dict[str, int], start: int, end: int
) -> dict[str, _Cover] | None:
    """The common hour: every usage is paid whole by its first package. None when this is not such an hour."""
    wanted: defaultdict[str, int] = defaultdict(int)
    covers: dict[str, _Cover] = {}
    for meter, fits in fitting:
        first = fits[0]
        if first.begins > start or first.ends < end or not meter.one_price(start, end):
            return None
        seconds = (meter.seconds(end) - meter.seconds(start)) * meter.usage.quantity
        if seconds and meter.node_rate(start):
            covers[meter.usage.id] = cover = _Cover()
            cover.drawn[first.id] = seconds
            wanted[first.id] += seconds
    if any(seconds > left[ident] for ident, seconds in wanted.items()):
        return None
    for ident, seconds in wanted.items():
        left[ident] -= seconds
    return covers


def _one_by_one(
    fitting: Sequence[tuple[Meter, list[Package]]], left: dict[str, int], start: int, end: int
) -> dict[str, _Cover]:
    """The hour in which a package begins, ends or runs out, or a price changes: second after second."""
    by_meter = {meter.usage.id: fits for meter, fits in fitting}
    covers: defaultdict[str, _Cover] = defaultdict(_Cover)
    seconds = heapq.merge(*(meter.beginnings(start, end) for meter, _ in fitting), key=lambda s: s[:2])
    for at, ident, meter in seconds:
        rate = meter.node_rate(at)
        if not rate:
            continue
        wanted = meter.usage.quantity
        for package in by_meter[ident]:
            if wanted and left[package.id] and package.begins <= at < package.ends:
                taken = min(wanted, left[package.id])
                left[package.id] -= taken
                wanted -= taken
                covers[ident].drawn[package.id] += taken
                covers[ident].worth += taken * rate
    return covers
