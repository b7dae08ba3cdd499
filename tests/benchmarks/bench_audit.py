"""Searching an audit trail of 5,000,000 records of seven days on SQLite, as the route does, and recording more.

The table is made by the plugin's own migrations and filled below the ORM in one statement; its indexes are made
afterwards. Records are spread over 12 projects, one of which has 40 of 100; all questions are asked there, page size
10, with values that change with every question. Five of 100 calls are refused or wrong, one of 1,000 is an incident.

Run: ``python tests/benchmarks/bench_audit.py [records]``; the exit status is 1 when a budget is missed.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bottega.context import now_ms
from bottega.database import Database
from bottega.events import Envelope, Received, uuid7
from bottega.plugins import Plugins
from bottega.schema import upgrade
from bottega.settings import Settings
from bottega_billing_iam.audit.chain import seal
from bottega_billing_iam.audit.events import ApiCalled
from bottega_billing_iam.audit.search import Filter, Position, in_database, position
from bottega_billing_iam.audit.traces import on_called

RECORDS = 5_000_000
QUESTIONS = 100
BUDGET_MS = 200.0
SECONDS = 7 * 86_400
RECORDED = 2_000

# Of the number n of a record: a number that looks random below a bound, different for each column.
MIX = "((n * {factor} + {shift}) % 2147483647) % {bound}"
NAMES = ("createNotebook", "createDataset", "createModelArtsTrainJob", "putObject", "addService", "updateUser")
FILL = """
INSERT INTO audit_trace (seq, id, request_id, scope, account_id, project_id, user_id, user_name, access_key_id,
  user_agent, source_ip, method, path, action, service, name, rating, resource_type, resource, resource_id,
  resource_name, enterprise_project_id, status, code, reason, request, duration_us, at, recorded_at, event_time)
WITH RECURSIVE
  count(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM count WHERE n < :records),
  mixed AS (SELECT n, {place} AS place, {user} AS user, {name} AS name, {thing} AS thing, {luck} AS luck FROM count),
  row AS (
    SELECT *, CASE WHEN place < 40 THEN 1 ELSE 2 + place % 11 END AS scope,
      CASE WHEN luck = 0 THEN 500 WHEN luck < 30 THEN 403 WHEN luck < 50 THEN 404 ELSE 200 END AS status,
      :start + n * :step / 1000 AS at
    FROM mixed
  )
SELECT n, printf('01a10000-0000-7000-8000-%012x', n), printf('01a10000-0000-7000-8000-%012x', n), scope,
  printf('%032x', scope % 4), printf('%032x', scope), printf('%032x', user), 'user-' || user, 'AK' || user,
  'python-httpx/0.28', '10.0.' || user % 256 || '.7', 'POST', printf('/v2/%032x/things', scope),
  'modelarts:thing:create', CASE name % 5 WHEN 0 THEN 'IAM' ELSE 'MODELARTS' END, 'operation-' || name,
  CASE status WHEN 200 THEN 'normal' WHEN 500 THEN 'incident' ELSE 'warning' END, 'type-' || name % 20,
  printf('bottega:thing:%032x:thing/%08x', scope, thing), printf('%08x', thing), 'thing-' || thing, '0', status,
  CASE status WHEN 200 THEN NULL ELSE 'ModelArts.0' || (100 + status % 7) END,
  CASE status WHEN 200 THEN NULL ELSE 'no statement allows this' END,
  printf('{{"body": {{"name": "thing-%d", "description": "made for the benchmark", "flavor": "local.small"}}}}', thing),
  12000, at, at + 30, '2026-01-01T00:00:00.000000Z'
FROM row
"""


def fill(file: Path, records: int, start: int) -> None:
    columns = {
        "place": MIX.format(factor=7919, shift=11, bound=100),
        "user": MIX.format(factor=104_729, shift=3, bound=400),
        "name": MIX.format(factor=1_299_709, shift=5, bound=120),
        "thing": MIX.format(factor=15_485_863, shift=7, bound=200_000),
        "luck": MIX.format(factor=32_452_843, shift=13, bound=1000),
    }
    connection = sqlite3.connect(file, isolation_level=None)
    for pragma in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-400000", "temp_store=FILE"):
        connection.execute(f"PRAGMA {pragma}")
    query = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'audit_trace' AND sql IS NOT NULL"
    indexes = connection.execute(query).fetchall()
    connection.execute("BEGIN")
    for name, _ in indexes:
        connection.execute(f"DROP INDEX {name}")
    for scope in range(1, 13):
        values = (scope, f"{scope % 4:032x}", f"{scope:032x}")
        connection.execute("INSERT INTO audit_scope (id, account_id, project_id) VALUES (?, ?, ?)", values)
    step = SECONDS * 1_000_000 // records
    connection.execute(FILL.format(**columns), {"records": records, "start": start, "step": step})
    for _, sql in indexes:
        connection.execute(sql)
    connection.execute("COMMIT")
    connection.close()


def questions(start: int) -> dict[str, Callable[[random.Random], Filter]]:
    """What is asked, by name; each time with other values."""

    def window(rng: random.Random, hours: int) -> dict[str, Any]:
        begin = start + rng.randrange(SECONDS - hours * 3600) * 1000
        return {"start": begin, "end": begin + hours * 3_600_000}

    return {
        "newest": lambda _: Filter(),
        "one hour": lambda r: Filter(**window(r, 1)),
        "user": lambda r: Filter(user=f"user-{r.randrange(400)}"),
        "user by id": lambda r: Filter(user=f"{r.randrange(400):032x}"),
        "user, one day": lambda r: Filter(user=f"user-{r.randrange(400)}", **window(r, 24)),
        "nobody": lambda r: Filter(user=f"nobody-{r.random()}"),
        "trace name": lambda r: Filter(trace_name=f"operation-{r.randrange(120)}"),
        "trace name, user": lambda r: Filter(
            trace_name=f"operation-{r.randrange(120)}", user=f"user-{r.randrange(400)}"
        ),
        "resource type": lambda r: Filter(resource_type=f"type-{r.randrange(20)}"),
        "resource id": lambda r: Filter(resource_id=f"{r.randrange(200_000):08x}"),
        "resource name": lambda r: Filter(resource_name=f"thing-{r.randrange(200_000)}"),
        "service, one day": lambda r: Filter(service_type="IAM", **window(r, 24)),
        "rating warning": lambda r: Filter(rating="warning", **window(r, 24)),
        "rating incident": lambda _: Filter(rating="incident"),
        "denied": lambda _: Filter(denied=True),
        "denied, user": lambda r: Filter(denied=True, user=f"user-{r.randrange(400)}"),
        "error code": lambda r: Filter(code=f"ModelArts.0{100 + r.choice((404, 403, 500)) % 7}"),
        "trace id": lambda r: Filter(trace_id=f"01a10000-0000-7000-8000-{r.randrange(1, RECORDS):012x}"),
    }


async def ask(database: Database, wanted: Filter, after: Position | None = None) -> tuple[float, list[dict[str, Any]]]:
    """How many milliseconds the answer took, and what it is."""
    began = time.perf_counter()
    async with database.read() as session:
        found = await in_database(session, [1], wanted, after, 10)
    return (time.perf_counter() - began) * 1000, found


async def pages(database: Database, rng: random.Random, start: int) -> list[float]:
    """Ten pages in a row, from somewhere."""
    took, after = [], (start + rng.randrange(SECONDS) * 1000, "z")
    for _ in range(10):
        ms, found = await ask(database, Filter(), after)
        took.append(ms)
        after = position(found[-1]) if found else after
    return took


def calls() -> Iterator[Received[ApiCalled]]:
    while True:
        data = {"request_id": uuid7(), "method": "POST", "path": "/v2/x", "status": 200, "at": now_ms()}
        data |= {"action": "modelarts:dataset:create", "trace": "createDataset", "user_name": "ann", "user_id": "a"}
        data |= {"account_id": f"{1:032x}", "resource_name": data["request_id"], "request": {"body": {"name": "x"}}}
        urn = f"bottega:core:{1:032x}:call/{data['request_id']}"
        envelope = Envelope(uuid7(), "core.api.called.v1", urn, "2026-01-01", data, "/plugins/core", "user:a", "c")
        yield Received(ApiCalled.model_validate(data), envelope)


async def record(database: Database) -> float:
    """Events recorded a second, 200 in a transaction."""
    source = calls()
    began = time.perf_counter()
    for _ in range(RECORDED // 200):
        async with database.transaction() as tx:
            for _ in range(200):
                await on_called(next(source), tx)
    return RECORDED / (time.perf_counter() - began)


async def run(folder: Path, records: int) -> bool:
    file = folder / "audit.db"
    database = Database(f"sqlite+aiosqlite:///{file}")
    await upgrade(database, Plugins(Settings()))
    start = now_ms() - SECONDS * 1000
    empty = await record(database)
    await database.close()
    connection = sqlite3.connect(file)
    connection.executescript("DELETE FROM sqlite_sequence; DROP TRIGGER audit_trace_delete; DELETE FROM audit_trace;")
    connection.executescript("DROP TRIGGER audit_scope_delete; DELETE FROM audit_scope;")
    connection.close()
    began = time.perf_counter()
    fill(file, records, start)
    built, size = time.perf_counter() - began, file.stat().st_size / 2**30
    print(f"audit: {records:,} records, built in {built:.0f} s, {size:.1f} GiB; a page of 10, ms")
    print(f"{'filter':<22}{'p50':>9}{'p95':>9}   budget")
    database = Database(f"sqlite+aiosqlite:///{file}")
    rng = random.Random(20261120)
    took: dict[str, list[float]] = {}
    for name, make in questions(start).items():
        took[name] = [(await ask(database, make(rng)))[0] for _ in range(QUESTIONS)]
    took["next pages"] = [ms for _ in range(QUESTIONS // 10) for ms in await pages(database, rng, start)]
    worst = 0.0
    for name, all in took.items():
        p95 = statistics.quantiles(all, n=20)[18]
        worst = max(worst, p95)
        print(f"{name:<22}{statistics.median(all):>9.2f}{p95:>9.2f}   <= {BUDGET_MS:.0f}")
    full = await record(database)
    print(f"recording: {empty:,.0f} calls a second in an empty trail, {full:,.0f} in this one")
    async with database.read() as session:
        last = (await in_database(session, [1], Filter(), None, 1))[0]["seq"]
    began = time.perf_counter()
    sealed = await seal(database, 0) if records <= 200_000 else 0
    if sealed:
        print(f"sealing: {sealed / (time.perf_counter() - began):,.0f} records a second (of {last:,})")
    await database.close()
    return worst <= BUDGET_MS


def main() -> int:
    records = int(sys.argv[1]) if len(sys.argv) > 1 else RECORDS
    with tempfile.TemporaryDirectory() as folder:
        return 0 if asyncio.run(run(Path(folder), records)) else 1


if __name__ == "__main__":
    sys.exit(main())
