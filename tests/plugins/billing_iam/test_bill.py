"""The arithmetic of the bill, against a plain second-by-second one."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bottega.errors import ConfigError
from bottega_billing_iam.billing.bill import GROUPS, cents, exact, make_bill
from bottega_billing_iam.billing.prices import SHIPPED, PriceList, Version
from bottega_billing_iam.billing.rating import Usage

HOUR = 3_600_000
T0 = 1_767_225_600_000 - HOUR  # an hour before a UTC midnight, so that days are crossed


@dataclass
class Piece:
    id: str
    started_at: int
    finished_at: int | None
    flavor: str = "local.small"
    kind: str = "training"
    quantity: int = 1
    measure: str = "node"
    account_id: str = "a"
    workspace_id: str = "0"
    project_id: str = "p"
    user_id: str = "u"
    user_name: str = "alice"
    resource_urn: str = "bottega:training:p:job/1"
    resource_name: str = "job"
    tags: dict[str, Any] = field(default_factory=dict)


def version(name: str, begins: int, default: str, **flavors: str) -> Version:
    return Version(
        version=name,
        valid_from=datetime.fromtimestamp(begins / 1000, UTC),
        default=default,
        flavors={flavor.replace("_", "."): price for flavor, price in flavors.items()},
        free_kinds=["dataset"],
    )


PRICES = [version("1", 0, "0.20", local_small="0.37"), version("2", T0 + HOUR + 500, "1", local_small="0.111111")]

pieces = st.builds(
    Piece,
    id=st.uuids().map(str),
    started_at=st.integers(T0, T0 + 3 * HOUR),
    finished_at=st.none() | st.integers(T0, T0 + 4 * HOUR),
    flavor=st.sampled_from(["local.small", "local.large"]),
    kind=st.sampled_from(["training", "dataset", "serving"]),
    quantity=st.integers(1, 4),
    user_id=st.sampled_from(["u1", "u2"]),
    resource_urn=st.sampled_from(["bottega:a:p:job/1", "bottega:a:p:job/2"]),
)
moments = st.integers(T0 - HOUR, T0 + 5 * HOUR)


def total(usages: Sequence[Usage], start: int, end: int, now: int, by: str = "resource") -> int:
    return make_bill(usages, PRICES, start, end, now, by).micro


def slowly(piece: Piece, start: int, end: int, now: int) -> Fraction:
    """What a piece costs, one second after the other."""
    cost = Fraction(0)
    last = min(now, now if piece.finished_at is None else piece.finished_at)
    for at in range(piece.started_at, last, 1000):
        if start <= at < end:
            rate = [v for v in PRICES if v.begins <= at][-1].micro_per_hour(piece.flavor, piece.kind)
            cost += Fraction(rate * piece.quantity, 3600)
    return cost


@given(pieces, moments, moments, moments)
def test_it_is_the_sum_of_its_seconds(piece: Piece, one: int, other: int, now: int) -> None:
    start, end = sorted((one, other))
    assert abs(total([piece], start, end, now) - slowly(piece, start, end, now)) <= 1


@given(st.lists(pieces, max_size=8), moments, moments, moments, st.randoms(use_true_random=False))
def test_order_and_grouping_change_nothing_and_periods_add_up(
    found: list[Piece], one: int, other: int, now: int, shuffle: random.Random
) -> None:
    start, end = sorted((one, other))
    whole = total(found, start, end, now)
    mixed = found[:]
    shuffle.shuffle(mixed)
    assert total(mixed, start, end, now) == whole
    for by in GROUPS:
        assert total(found, start, end, now, by) == whole
    middle = (start + end) // 2
    assert total(found, start, middle, now) + total(found, middle, end, now) == whole


def test_to_the_cent() -> None:
    an_hour = [Piece("w", T0, T0 + HOUR, quantity=3)]
    assert exact(total(an_hour, T0, T0 + HOUR, T0 + 9 * HOUR)) == "1.110000"
    assert exact(total([Piece("w", T0, T0 + 1)], T0, T0 + HOUR, T0 + HOUR)) == exact(103) == "0.000103"
    assert total([Piece("w", T0, T0)], T0, T0 + HOUR, T0 + HOUR) == 0
    assert total([Piece("w", T0, T0 + HOUR, kind="dataset")], T0, T0 + HOUR, T0 + HOUR) == 0
    assert (cents(5_000), cents(4_999), cents(1_234_567)) == ("0.01", "0.00", "1.23")
    running = [Piece("w", T0, None)]
    assert total(running, T0, T0 + 9 * HOUR, T0 + 1800_000) == 185_000


def test_the_shipped_price_list_and_what_is_wrong_with_others(tmp_path: Path) -> None:
    shipped = PriceList.read(SHIPPED)
    assert shipped.versions[0].storage.free_gb == 5
    assert shipped.versions[0].flavors["local.small"] == Decimal("0.20")
    file = tmp_path / "prices.toml"
    head = 'currency = "CNY"\n[[versions]]\nversion = "1"\nvalid_from = 2026-01-01T00:00:00Z\n'
    for text, said in (
        (head + "default = 0.2\n", "write it as a text"),
        (head + 'default = "-1"\n', "zero or more"),
        (head + 'default = "0.0000001"\n', "six places"),
        (head + 'default = "NaN"\n', "is not a price"),
        (head + 'default = "1"\nflavours = 3\n', "flavours"),
        (head + 'default = "1"\n' + head.split("\n", 1)[1] + 'default = "1"\n', "same version"),
        ('currency = "CNY"', "versions"),
        ("currency = ", "not valid TOML"),
    ):
        file.write_text(text)
        with pytest.raises(ConfigError, match=said):
            PriceList.read(file)
