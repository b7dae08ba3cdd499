"""Rating usage into the ledger on SQLite, beside a bare ``executemany`` of the very same rows.

A usage event is a workload that ran and ended in an hour. Three figures, each over all events:

- from facts to the ledger: the hour is settled: facts are read, rated, and entries and postings written, balanced and
  protected by the database's triggers. This is the figure with a budget.
- the bare peer: the same rows into the same tables without triggers or indexes, by ``executemany`` of ``sqlite3``.
- from events to facts: the plugin's own handler, in transactions of 256 as the bus makes them; without NATS.

Run: ``python tests/benchmarks/bench_billing.py``; the exit status is 1 when the budget is missed or a sum is wrong.
"""

from __future__ import annotations

import asyncio
import sqlite3
import statistics
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

from sqlalchemy import func, insert
from sqlmodel import select

from bottega import schema
from bottega.backends import WorkloadFinished
from bottega.database import Database
from bottega.entities import Account, Project
from bottega.events import Envelope, Received, uuid7
from bottega.plugins import Plugins
from bottega.settings import Settings
from bottega_billing_iam.billing import metering, prices
from bottega_billing_iam.billing.entities import UsageRecord
from bottega_billing_iam.billing.ledger import REVENUE
from bottega_billing_iam.billing.ledger_entities import Entry, Payer, Posting
from bottega_billing_iam.billing.rating import HOUR
from bottega_billing_iam.billing.settlement import settle

ACCOUNTS = 20
EVENTS = 20_000
HANDLED = 3000
BATCH = 256
ROUNDS = 3
BUDGET = 5000
BEGIN = 1_767_225_600_000
FLAVORS = ("local.small", "local.medium", "local.large", "other")


def facts(accounts: list[str]) -> list[dict[str, Any]]:
    return [
        {
            "id": str(uuid.uuid4()),
            "account_id": accounts[index % ACCOUNTS],
            "project_id": "p",
            "workspace_id": "0",
            "user_id": f"u{index % 7}",
            "user_name": "someone",
            "kind": "training",
            "backend": "local",
            "flavor": FLAVORS[index % len(FLAVORS)],
            "measure": "node",
            "quantity": 1 + index % 3,
            "resource_urn": f"bottega:training:p:job/{index}",
            "resource_name": f"job-{index}",
            "tags": {"team": "vision"},
            "started_at": BEGIN + index % 1_800_000,
            "finished_at": BEGIN + index % 1_800_000 + 1_000 * (1 + index % 1700),
        }
        for index in range(EVENTS)
    ]


async def prepared(folder: Path) -> tuple[Database, list[str]]:
    database = Database(f"sqlite+aiosqlite:///{folder}/{uuid.uuid4().hex}.db").bind("billing")
    await schema.upgrade(database, Plugins(Settings()))
    accounts = [uuid.uuid4().hex for _ in range(ACCOUNTS)]
    async with database.transaction() as tx:
        await prices.adopt(tx, prices.PriceList.read(prices.SHIPPED))
        tx.session.add_all([Account(id=account, name=account) for account in accounts])
        await tx.session.flush()
        tx.session.add_all([Project(id=f"p{n}", account_id=account, name="p") for n, account in enumerate(accounts)])
    return database, accounts


async def settled(folder: Path) -> tuple[float, float, int]:
    """Events a second from facts to the ledger, the same rows bare, and what they came to."""
    database, accounts = await prepared(folder)
    rows = facts(accounts)
    async with database.transaction() as tx:
        await tx.session.execute(insert(UsageRecord), rows)
        tx.session.add_all([Payer(account_id=account) for account in accounts])
    async with database.read() as session:
        price_list = await prices.load(session)
    began = time.perf_counter()
    for account in accounts:
        more = True
        while more:
            async with database.transaction() as tx:
                more = await settle(tx, account, BEGIN + 2 * HOUR, price_list)
    took = time.perf_counter() - began
    async with database.read() as session:
        charged = (await session.exec(select(func.sum(Posting.amount)).where(Posting.book == REVENUE))).one()
        total = (await session.exec(select(func.sum(Posting.amount)))).one()
        postings: dict[str, list[tuple[Any, ...]]] = {}
        for p in (await session.exec(select(Posting))).all():
            row = (p.entry_id, p.line, p.account_id, p.book, p.unit, p.amount, p.source)
            postings.setdefault(p.entry_id, []).append(row)
        entries = [(e.id, e.key, e.account_id, e.at) for e in (await session.exec(select(Entry))).all()]
    await database.close()
    count = sum(map(len, postings.values()))
    if total != 0 or count < EVENTS:
        raise SystemExit(f"the ledger holds {count} postings that come to {total}")
    return EVENTS / took, EVENTS / bare(folder, postings, entries), int(charged)


def bare(folder: Path, postings: dict[str, list[tuple[Any, ...]]], entries: list[tuple[Any, ...]]) -> float:
    """The seconds that writing the rows takes at the least, in as many transactions."""
    connection = sqlite3.connect(folder / f"{uuid.uuid4().hex}.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    columns = "entry_id, line, account_id, book, unit, amount, source"
    connection.execute(f"CREATE TABLE posting ({columns}, PRIMARY KEY (entry_id, line))")
    connection.execute("CREATE TABLE entry (id PRIMARY KEY, key, account_id, at)")
    began = time.perf_counter()
    for entry in entries:
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO posting VALUES (?, ?, ?, ?, ?, ?, ?)", postings[entry[0]])
        connection.execute("INSERT INTO entry VALUES (?, ?, ?, ?)", entry)
        connection.execute("COMMIT")
    took = time.perf_counter() - began
    connection.close()
    return took


async def handled(folder: Path) -> float:
    """Events a second through the handler, each with its own workload and resource."""
    database, _ = await prepared(folder)
    every = []
    for index in range(HANDLED):
        ident = str(uuid.uuid4())
        event = WorkloadFinished(
            workload_id=ident,
            kind="training",
            backend="local",
            flavor=FLAVORS[index % len(FLAVORS)],
            node_count=1,
            resource_urn=f"bottega:training:p:job/{index}",
            state="succeeded",
            reason="",
            exit_code=0,
            started_at=BEGIN + index,
            finished_at=BEGIN + index + 60_000,
        )
        urn = f"bottega:core:p{index % ACCOUNTS}:workload/{ident}"
        envelope = Envelope(uuid7(), event.type, urn, "2026-01-01T00:00:00Z", {}, "/plugins/core", "system:x", ident)
        every.append(Received(event, envelope))
    began = time.perf_counter()
    for at in range(0, HANDLED, BATCH):
        async with database.transaction() as tx:
            for received in every[at : at + BATCH]:
                await metering.on_finished(received, tx)
    took = time.perf_counter() - began
    await database.close()
    return HANDLED / took


def main() -> int:
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        rounds = [asyncio.run(settled(folder)) for _ in range(ROUNDS)]
        events = asyncio.run(handled(folder))
    if len({charged for _, _, charged in rounds}) > 1:
        raise SystemExit("two rounds came to different amounts")
    ours, peer = (statistics.median(r[n] for r in rounds) for n in (0, 1))
    print(f"Billing: {EVENTS} usage events of {ACCOUNTS} accounts in an hour; medians of {ROUNDS} rounds")
    print(f"{'figure':<34}{'bottega':>14}{'bare executemany':>20}{'ratio':>8}   budget")
    print(f"{'facts into the ledger':<34}{ours:>12,.0f}/s{peer:>18,.0f}/s{ours / peer:>8.2f}   >= {BUDGET:,}/s")
    print(f"{'events into facts':<34}{events:>12,.0f}/s")
    both = 1 / (1 / ours + 1 / events)
    print(f"{'events into the ledger, one by one':<34}{both:>12,.0f}/s")
    return 0 if ours >= BUDGET else 1


if __name__ == "__main__":
    sys.exit(main())
