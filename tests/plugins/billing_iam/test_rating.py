"""Rating with packages, against a plain second-by-second account of it."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from bottega_billing_iam.billing.prices import GB, StoragePrice, Version
from bottega_billing_iam.billing.rating import HOUR, Meter, Package
from bottega_billing_iam.billing.settlement import rate_hours

T0 = 1_767_225_600_000
END = T0 + 4 * HOUR


@dataclass
class Fact:
    id: str
    started_at: int
    finished_at: int | None
    flavor: str = "f0"
    kind: str = "training"
    quantity: int = 1
    measure: str = "node"
    account_id: str = "a"
    project_id: str = "p"
    workspace_id: str = "0"
    user_id: str = "u"
    user_name: str = "alice"
    resource_urn: str = "bottega:training:p:job/1"
    resource_name: str = "job"
    tags: dict[str, Any] = field(default_factory=dict)


def version(name: str, begins: int, **prices: Any) -> Version:
    return Version(
        version=name,
        valid_from=datetime.fromtimestamp(begins / 1000, UTC),
        free_kinds=["dataset"],
        **({"default": "0.37", "flavors": {"f0": "0.111111"}} | prices),
    )


PRICES = [version("1", 0), version("2", T0 + HOUR + 90_500, default="1")]

facts = st.lists(
    st.builds(
        Fact,
        id=st.uuids().map(str),
        started_at=st.integers(T0, END),
        finished_at=st.none() | st.integers(T0, END),
        flavor=st.sampled_from(["f0", "f1"]),
        kind=st.sampled_from(["training", "notebook", "dataset", "batch"]),
        quantity=st.integers(1, 3),
    ),
    max_size=5,
    unique_by=lambda f: f.id,
)
packages = st.lists(
    st.builds(
        Package,
        id=st.uuids().map(str),
        node_seconds=st.integers(1, 20_000),
        begins=st.integers(T0, END),
        ends=st.integers(T0, END + HOUR),
        flavors=st.sampled_from([(), ("f0",), ("f0", "f1")]),
        kinds=st.sampled_from([(), ("training",)]),
    ),
    max_size=3,
    unique_by=lambda p: p.id,
)
Outcome = tuple[dict[str, int], dict[tuple[str, str], int]]


def rated(found: Sequence[Fact], owned: Sequence[Package]) -> Outcome:
    """Millionths by fact, and node-seconds by fact and package."""
    micro: defaultdict[str, int] = defaultdict(int)
    drawn: defaultdict[tuple[str, str], int] = defaultdict(int)
    left = {package.id: package.node_seconds for package in owned}
    for hour in rate_hours(found, PRICES, owned, left, T0, END):
        for ident, one in hour.rated.items():
            micro[ident] += one.micro
            for package, seconds in one.drawn.items():
                drawn[ident, package] += seconds
    assert all(seconds >= 0 for seconds in left.values())
    return {k: v for k, v in micro.items() if v}, dict(drawn)


def slowly(found: Sequence[Fact], owned: Sequence[Package]) -> tuple[dict[str, Fraction], dict[tuple[str, str], int]]:
    cost: defaultdict[str, Fraction] = defaultdict(Fraction)
    drawn: defaultdict[tuple[str, str], int] = defaultdict(int)
    left = {package.id: package.node_seconds for package in owned}
    seconds = sorted(
        (at, fact.id, fact)
        for fact in found
        for at in range(fact.started_at, min(END, END if fact.finished_at is None else fact.finished_at), 1000)
    )
    for at, ident, fact in seconds:
        price = [v for v in PRICES if v.begins <= at][-1].micro_per_hour(fact.flavor, fact.kind)
        for _ in range(fact.quantity if price else 0):
            fits = [
                p
                for p in owned
                if left[p.id]
                and p.begins <= at < p.ends
                and (not p.flavors or fact.flavor in p.flavors)
                and (not p.kinds or fact.kind in p.kinds)
            ]
            if fits:
                first = min(fits, key=lambda p: (p.ends, p.begins, p.id))
                left[first.id] -= 1
                drawn[ident, first.id] += 1
            else:
                cost[ident] += Fraction(price, 3600)
    return cost, dict(drawn)


@settings(max_examples=40, deadline=None)
@given(facts, packages, st.randoms(use_true_random=False))
def test_packages_are_used_to_the_second_whatever_the_order(
    found: list[Fact], owned: list[Package], shuffle: random.Random
) -> None:
    micro, drawn = rated(found, owned)
    cost, expected = slowly(found, owned)
    assert drawn == expected
    # A running total is rounded where an hour ends, and what a package pays of an hour in part.
    assert all(abs(micro.get(fact.id, 0) - cost[fact.id]) <= 4 for fact in found)
    mixed, others = found[:], owned[:]
    shuffle.shuffle(mixed)
    shuffle.shuffle(others)
    assert rated(mixed, others) == (micro, drawn)


def test_the_package_that_expires_first_is_used_first_and_the_overflow_is_paid() -> None:
    fact = Fact("w", T0, T0 + HOUR, quantity=2, flavor="f1")
    late = Package("a-late", 5000, T0, END)
    soon = Package("z-soon", 1001, T0, T0 + 2 * HOUR, flavors=("f1",))
    other = Package("other", 9999, T0, T0 + HOUR, kinds=("notebook",))
    micro, drawn = rated([fact], [late, soon, other])
    assert drawn == {("w", "z-soon"): 1001, ("w", "a-late"): 5000}
    assert micro == {"w": round(Fraction(7200 - 6001, 3600) * 370_000)}
    assert rated([fact], [Package("p", 7200, T0, END)]) == ({}, {("w", "p"): 7200})
    assert rated([Fact("b", T0, END, kind="batch")], [late]) == ({}, {})


def cost_of(fact: Fact, prices: Version, until: int = END) -> int:
    return Meter(fact, [prices], END).micro(until)


def test_disks_objects_and_calls() -> None:
    storage = StoragePrice(free_gb=5, gb_month="0.72", object_free_gb=1, object_gb_month="0.0072")
    prices = version("1", 0, storage=storage, calls={"modelarts:service:access": "0.000002"})
    disk = Fact("d", T0, None, measure="gb", quantity=15, flavor="disk", kind="disk")
    assert cost_of(disk, prices, T0 + HOUR) == 10_000
    assert cost_of(Fact("d", T0, None, measure="gb", quantity=5, kind="disk"), prices) == 0
    objects = Fact("o", T0, T0 + HOUR, measure="byte", quantity=11 * GB, kind="storage")
    assert cost_of(objects, prices) == 100
    calls = Fact("c", T0, T0, measure="call", quantity=7, flavor="modelarts:service:access", kind="call")
    assert cost_of(calls, prices) == 14
    assert cost_of(calls, prices, T0) == 0
    assert cost_of(Fact("c", T0, T0, measure="call", flavor="iam:user:create"), prices) == 0
