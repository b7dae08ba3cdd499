"""The ledger on SQLite and PostgreSQL: it balances, it happens once, and the database keeps it as it was written."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError

from bottega.errors import Conflict, Invalid
from bottega.platform import Platform
from bottega.testing import RunningPlatform
from bottega_billing_iam.billing import ledger
from bottega_billing_iam.billing.ledger import BALANCE, CASH, REVENUE, Draft, Move, Posted, transfer


@pytest.fixture(scope="module")
def platform(each_database: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    with RunningPlatform(tmp_path_factory.mktemp("ledger") / "data", each_database) as running:
        yield running


@pytest.fixture
def billing(platform: RunningPlatform) -> Platform:
    return platform.platform("billing")


@pytest.fixture
def account() -> str:
    return uuid.uuid4().hex


def recharge(account: str, amount: int, key: str | None = None) -> Draft:
    return Draft(key or uuid.uuid4().hex, account, "recharge", 1000, transfer(CASH, BALANCE, amount, "CNY"))


def put(platform: RunningPlatform, draft: Draft) -> Posted:
    async def run() -> Posted:
        async with platform.platform("billing").database.transaction() as tx:
            return await ledger.post(tx, draft)

    return platform.run(run())


def held(platform: RunningPlatform, account: str) -> dict[tuple[str, str], int]:
    async def run() -> dict[tuple[str, str], int]:
        async with platform.platform("billing").database.read() as session:
            return await ledger.books(session, account)

    return platform.run(run())


def test_what_is_posted_is_held_and_balances(platform: RunningPlatform, billing: Platform, account: str) -> None:
    put(platform, recharge(account, 100_000_000))
    charge = [Move(BALANCE, -7, "CNY"), Move(REVENUE, 5, "CNY", "w1"), Move(REVENUE, 2, "CNY", "w2")]
    hours = [*transfer("used", "package/p", 3600, "node_second"), *charge]
    put(platform, Draft("usage/" + account, account, "usage", 3_600_000, hours))
    assert held(platform, account) == {
        (CASH, "CNY"): -100_000_000,
        (BALANCE, "CNY"): 99_999_993,
        (REVENUE, "CNY"): 7,
        ("package/p", "node_second"): 3600,
        ("used", "node_second"): -3600,
    }

    async def read() -> tuple[int, int, list[tuple[str, int]]]:
        async with billing.database.read() as session:
            now = await ledger.balance(session, account, "CNY")
            before = await ledger.balance(session, account, "CNY", before=3_600_000)
            rows = await ledger.statement(session, account, "CNY", limit=10)
            return now, before, [(entry.kind, moved) for entry, moved in rows]

    assert platform.run(read()) == (99_999_993, 100_000_000, [("recharge", 100_000_000), ("usage", -7)])
    assert held(platform, uuid.uuid4().hex) == {}


def test_a_key_happens_once_however_many_post_it_at_once(platform: RunningPlatform, account: str) -> None:
    draft = recharge(account, 5, f"r/{account}")

    async def one() -> Posted:
        async with platform.platform("billing").database.transaction() as tx:
            return await ledger.post(tx, draft)

    async def many() -> list[Posted]:
        return await asyncio.gather(*(one() for _ in range(20)))

    posted = platform.run(many())
    assert sorted(p.new for p in posted) == [False] * 19 + [True]
    assert len({p.id for p in posted}) == 1
    assert held(platform, account)[BALANCE, "CNY"] == 5
    with pytest.raises(Conflict, match="says something else"):
        put(platform, recharge(account, 6, draft.key))


def test_what_does_not_balance_is_refused_whole(platform: RunningPlatform, account: str) -> None:
    uneven = [Move(CASH, -5, "CNY"), Move(BALANCE, 4, "CNY")]
    two_units = [Move(CASH, -5, "CNY"), Move(BALANCE, 5, "USD")]
    for moves in (uneven, two_units, []):
        with pytest.raises(Invalid, match="does not balance"):
            put(platform, Draft(uuid.uuid4().hex, account, "recharge", 0, moves))
    assert held(platform, account) == {}


INSERT = "INSERT INTO billing_posting (entry_id, line, account_id, book, unit, amount, source) VALUES "
CLOSE = "INSERT INTO billing_entry (id, key, account_id, kind, at, posted_at, memo, details) VALUES "


@pytest.mark.parametrize(
    ("statements", "said"),
    [
        (["UPDATE billing_entry SET at = 5 WHERE id = :id"], "append-only"),
        (["DELETE FROM billing_entry WHERE id = :id"], "append-only"),
        (["UPDATE billing_posting SET amount = 1 WHERE entry_id = :id"], "append-only"),
        (["DELETE FROM billing_posting WHERE entry_id = :id"], "append-only"),
        ([INSERT + "(:id, 9, :account, 'balance', 'CNY', 1, '')"], "closed"),
        ([INSERT + "('x', 0, :account, 'balance', 'CNY', 1, '')"], "FOREIGN KEY|foreign key"),
        ([CLOSE + "('y', 'y', :account, 'k', 0, 0, '', '{}')"], "does not balance"),
        (
            [
                INSERT + "('z', 0, :account, 'balance', 'CNY', 1, '')",
                INSERT + "('z', 1, :account, 'cash', 'USD', -1, '')",
                CLOSE + "('z', 'z', :account, 'k', 0, 0, '', '{}')",
            ],
            "does not balance",
        ),
        (
            [
                INSERT + "('q', 0, :account, 'balance', 'CNY', 1, '')",
                INSERT + "('q', 1, 'another', 'cash', 'CNY', -1, '')",
                CLOSE + "('q', 'q', :account, 'k', 0, 0, '', '{}')",
            ],
            "does not balance",
        ),
    ],
)
def test_the_database_itself_refuses(
    platform: RunningPlatform, billing: Platform, account: str, statements: list[str], said: str
) -> None:
    posted = put(platform, recharge(account, 5))
    before = held(platform, account)

    async def run() -> None:
        async with billing.database.transaction() as tx:
            for statement in statements:
                await tx.session.execute(text(statement).bindparams(**parameters(statement)))

    def parameters(statement: str) -> dict[str, str]:
        return {k: v for k, v in (("id", posted.id), ("account", account)) if f":{k}" in statement}

    with pytest.raises(DatabaseError, match=said):
        platform.run(run())
    assert held(platform, account) == before


def test_replacing_a_row_of_sqlite_is_refused_too(platform: RunningPlatform, billing: Platform, account: str) -> None:
    if not billing.database.is_sqlite:
        return
    posted = put(platform, recharge(account, 5))
    for statement in (
        INSERT.replace("INSERT", "INSERT OR REPLACE") + "(:id, 0, :account, 'balance', 'CNY', 1, '')",
        CLOSE.replace("INSERT", "INSERT OR REPLACE") + "(:id, 'n', :account, 'k', 0, 0, '', '{}')",
    ):

        async def run(statement: str = statement) -> None:
            async with billing.database.transaction() as tx:
                await tx.session.execute(text(statement).bindparams(id=posted.id, account=account))

        with pytest.raises(DatabaseError):
            platform.run(run())
    assert held(platform, account)[BALANCE, "CNY"] == 5
