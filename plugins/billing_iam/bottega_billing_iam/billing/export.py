"""Usage with its amounts as a table: pages of rows for lists, CSV and Parquet files written in constant memory."""

from __future__ import annotations

import csv
import importlib
import json
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, Protocol

import anyio
from sqlmodel import col, select, tuple_

from bottega.database import AsyncSession
from bottega.errors import Unavailable

from . import prices
from .bill import Amounts, Bill, Scope, exact, orders, read_amounts, read_bill
from .entities import Order, UsageRecord
from .prices import PriceList
from .rating import Meter
from .settlement import overlapping

Format = Literal["csv", "parquet"]
PAGE = 2000
Row = dict[str, Any]
COLUMNS = {
    "id": "text",
    "account": "text",
    "project": "text",
    "workspace": "text",
    "user": "text",
    "user_name": "text",
    "kind": "text",
    "flavor": "text",
    "measure": "text",
    "quantity": "number",
    "resource": "text",
    "name": "text",
    "tags": "json",
    "started_at": "time",
    "finished_at": "time",
    "seconds": "number",
    "node_seconds": "number",
    "amount": "money",
    "currency": "text",
}
"""The columns of a usage row and what they hold: times are epoch ms, money decimal text to the millionth."""


class UsageTable:
    """The usage of a scope from `start` to `end`, what still runs up to `now`; what was ordered comes last."""

    def __init__(self, session: AsyncSession, scope: Scope, start: int, end: int, now: int) -> None:
        self._session = session
        self._scope = scope
        self._start, self._end, self._now = start, end, now

    async def rows(self, offset: int = 0, limit: int | None = None) -> AsyncIterator[Row]:
        """By the time they began, oldest first."""
        session, scope = self._session, self._scope
        price_list = await prices.load(session)
        until = min(self._end, self._now)
        amounts = _by_fact(await read_amounts(session, scope.account_id, price_list, self._start, until))
        skipped = given = 0
        async for record in self._records():
            if not scope.holds(record):
                continue
            if skipped < offset:
                skipped += 1
            elif limit is None or given < limit:
                given += 1
                yield self._row(record, price_list, amounts.get(record.id, 0))
            else:
                return
        for order in await orders(session, scope, self._start, self._end):
            if skipped < offset:
                skipped += 1
            elif limit is None or given < limit:
                given += 1
                yield _ordered(order)

    async def _records(self) -> AsyncIterator[UsageRecord]:
        after: tuple[int, str] = (-1, "")
        while True:
            query = (
                select(UsageRecord)
                .where(UsageRecord.account_id == self._scope.account_id, *overlapping(self._start, self._end))
                .where(tuple_(col(UsageRecord.started_at), col(UsageRecord.id)) > after)
                .order_by(col(UsageRecord.started_at), col(UsageRecord.id))
                .limit(PAGE)
            )
            found = (await self._session.exec(query)).all()
            for record in found:
                yield record
            self._session.expunge_all()
            if len(found) < PAGE:
                return
            after = (found[-1].started_at, found[-1].id)

    def _row(self, record: UsageRecord, price_list: PriceList, micro: int) -> Row:
        meter = Meter(record, price_list.versions, min(self._end, self._now))
        timed = record.measure == "node"
        seconds = meter.seconds(self._end) - meter.seconds(self._start) if timed else 0
        return {
            "id": record.id,
            "account": record.account_id,
            "project": record.project_id,
            "workspace": record.workspace_id,
            "user": record.user_id,
            "user_name": record.user_name,
            "kind": record.kind,
            "flavor": record.flavor,
            "measure": record.measure,
            "quantity": record.quantity,
            "resource": record.resource_urn,
            "name": record.resource_name,
            "tags": record.tags,
            "started_at": record.started_at,
            "finished_at": record.finished_at,
            "seconds": seconds,
            "node_seconds": seconds * record.quantity,
            "amount": exact(micro),
            "currency": price_list.currency,
        }


def bill_columns(group_by: str) -> dict[str, str]:
    """The columns of a bill's line."""
    return {
        group_by: "text",
        "name": "text",
        "tags": "json",
        "seconds": "number",
        "node_seconds": "number",
        "amount": "money",
        "currency": "text",
    }


async def bill_rows(
    session: AsyncSession, scope: Scope, start: int, end: int, now: int, group_by: str
) -> AsyncIterator[Row]:
    price_list = await prices.load(session)
    bill: Bill = await read_bill(session, scope, price_list, start, end, now, group_by)
    for line in bill.lines:
        yield {
            group_by: line.key,
            "name": line.name,
            "tags": line.tags,
            "seconds": line.seconds,
            "node_seconds": line.node_seconds,
            "amount": exact(line.micro),
            "currency": price_list.currency,
        }


class Writer(Protocol):
    def write(self, rows: Sequence[Row]) -> None: ...
    def close(self) -> None: ...


async def write(rows: AsyncIterator[Row], columns: dict[str, str], file: Path, format: Format) -> int:
    """Write rows to a file; how many. Raises Unavailable for Parquet without the optional package."""
    writer: Writer = CsvWriter(file, columns) if format == "csv" else ParquetWriter(file, columns)
    count, page = 0, list[Row]()
    try:
        async for row in rows:
            page.append(row)
            if len(page) == PAGE:
                await anyio.to_thread.run_sync(writer.write, page)
                count, page = count + len(page), []
        await anyio.to_thread.run_sync(writer.write, page)
    finally:
        writer.close()
    return count + len(page)


class CsvWriter:
    """RFC 4180 with a line of names; times in ISO 8601 (UTC)."""

    def __init__(self, file: Path, columns: dict[str, str]) -> None:
        self._file = file.open("w", encoding="utf-8", newline="")
        self._columns = columns
        self._csv = csv.DictWriter(self._file, list(columns))
        self._csv.writeheader()

    def write(self, rows: Sequence[Row]) -> None:
        for row in rows:
            self._csv.writerow({name: _text(row[name], what) for name, what in self._columns.items()})

    def close(self) -> None:
        self._file.close()


class ParquetWriter:
    """Amounts as decimal(38, 6), times as UTC timestamps, tags as JSON text. A row group for every page."""

    def __init__(self, file: Path, columns: dict[str, str]) -> None:
        check_parquet()
        self._arrow: Any = importlib.import_module("pyarrow")
        types = {
            "text": self._arrow.string(),
            "json": self._arrow.string(),
            "number": self._arrow.int64(),
            "time": self._arrow.timestamp("ms", tz="UTC"),
            "money": self._arrow.decimal128(38, 6),
        }
        self._columns = columns
        self._schema = self._arrow.schema([(name, types[what]) for name, what in columns.items()])
        self._file = importlib.import_module("pyarrow.parquet").ParquetWriter(file, self._schema)

    def write(self, rows: Sequence[Row]) -> None:
        table = {name: [_typed(row[name], what) for row in rows] for name, what in self._columns.items()}
        self._file.write_table(self._arrow.table(table, schema=self._schema))

    def close(self) -> None:
        self._file.close()


def check_parquet() -> None:
    """Raises Unavailable when the package that writes Parquet is not installed."""
    try:
        importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise Unavailable("Parquet needs the package pyarrow; install bottega[billing], or take format=csv") from None


def suggested_name(start: int, end: int, format: Format) -> str:
    """A file's name that tells what it holds."""
    days = [datetime.fromtimestamp(at / 1000, UTC).strftime("%Y%m%d") for at in (start, end)]
    return f"usage-{days[0]}-{days[1]}.{format}"


def _by_fact(amounts: Amounts) -> dict[str, int]:
    sums: dict[str, int] = {}
    for (ident, _), micro in amounts.items():
        sums[ident] = sums.get(ident, 0) + micro
    return sums


def _ordered(order: Order) -> Row:
    return {
        "id": order.id,
        "account": order.account_id,
        "project": order.project_id,
        "workspace": order.workspace_id,
        "user": order.user_id,
        "user_name": order.user_name,
        "kind": order.kind,
        "flavor": order.flavor,
        "measure": "order",
        "quantity": order.quantity,
        "resource": order.resource_urn,
        "name": order.name,
        "tags": order.tags,
        "started_at": order.begins,
        "finished_at": order.ends,
        "seconds": 0,
        "node_seconds": 0,
        "amount": exact(order.micro),
        "currency": order.currency,
    }


def _text(value: Any, what: str) -> str:
    if value is None:
        return ""
    match what:
        case "json":
            return json.dumps(value, ensure_ascii=False, sort_keys=True)
        case "time":
            return datetime.fromtimestamp(value / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return str(value)


def _typed(value: Any, what: str) -> Any:
    match what:
        case "money":
            return Decimal(value)
        case "json":
            return json.dumps(value, ensure_ascii=False, sort_keys=True)
    return value
