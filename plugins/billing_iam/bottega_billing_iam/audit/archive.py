"""The archive: records older than the hot days, an object or several for each account and day.

An object is gzipped JSON lines: first what it holds and the batches that prove it, then its records as canonical
JSON, newest first. It is stored whole, read back and compared; only then, in the transaction that notes it, do the
records leave the database. Whatever is interrupted begins again with the same object, under the same key.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import anyio
import orjson
import structlog
from sqlalchemy import delete, func, select
from sqlmodel import col

from bottega.context import now_ms
from bottega.database import AsyncSession
from bottega.entities import Account, Bucket
from bottega.errors import BottegaError, ConfigError, NotFound, Unavailable
from bottega.objects import ObjectPath
from bottega.platform import Platform
from bottega.urn import PLATFORM, Urn

from .entities import Archive, Batch, Scope, Trace
from .events import DayArchived
from .records import COLUMNS, Record, canonical
from .search import Filter, Position, position
from .traces import last_sealed

log = structlog.get_logger(__name__)
DAY = 86_400_000
PART = 5000
"""Records in an object at most: so many are in memory at once, and leave the database in one transaction."""
LOOKED_THROUGH = 20
"""Objects a search reads at most before it answers with what it has found, and a marker to go on from."""
CONSIDERED = 1000
"""Objects a search considers at most, by what is noted of them, before it answers likewise."""
KEEPER = "op_svc_cts"
"""The account that the bucket of the archive belongs to. It has no users, so nobody can act for it."""


class ArchiveDamaged(BottegaError):
    """An object of the archive is not what was stored. The text says what is wrong with it."""


async def own_bucket(platform: Platform) -> None:
    """Make the bucket of the archive one that nobody can touch through the platform. Raises ConfigError if taken."""
    name = platform.settings.archive_bucket
    async with platform.database.transaction() as tx:
        keeper = (await tx.session.execute(select(Account).where(col(Account.name) == KEEPER))).scalar()
        if keeper is None:
            keeper = Account(name=KEEPER)
            tx.session.add(keeper)
            await tx.session.flush()
        bucket = await tx.session.get(Bucket, name)
        if bucket is None:
            tx.session.add(Bucket(name=name, account_id=keeper.id))
        elif bucket.account_id != keeper.id:
            raise ConfigError(f"plugins.audit.archive_bucket: the bucket '{name}' belongs to an account; name another")
    platform.identity.invalidate()


async def archive_due(platform: Platform) -> list[Archive]:
    """Archive every sealed record of the days before the hot ones. Returns the objects that were made."""
    before = start_of_day(now_ms()) - platform.settings.hot_days * DAY
    made: list[Archive] = []
    async with platform.database.read() as session:
        scopes: dict[str, list[int]] = {}
        for scope in (await session.execute(select(Scope))).scalars():
            scopes.setdefault(scope.account_id, []).append(scope.id or 0)
    for account_id, places in scopes.items():
        while (archived := await _archive_next(platform, account_id, places, before)) is not None:
            made.append(archived)
    return made


async def _archive_next(platform: Platform, account_id: str, scopes: Sequence[int], before: int) -> Archive | None:
    """The oldest day of an account that is due, or a part of it; None when nothing is."""
    async with platform.database.read() as session:
        sealed = await last_sealed(session)
        due = [col(Trace.scope).in_(scopes), col(Trace.at) < before, col(Trace.seq) <= sealed]
        oldest = (await session.execute(select(func.min(Trace.at)).where(*due))).scalar()
        if oldest is None:
            return None
        day = start_of_day(oldest)
        query = select(*COLUMNS).where(*due, col(Trace.at) < day + DAY).order_by(col(Trace.at), col(Trace.seq))
        rows = _whole([dict(row) for row in (await session.execute(query.limit(PART))).mappings()])
        name = datetime.fromtimestamp(day / 1000, UTC).strftime("%Y-%m-%d")
        known = select(func.count()).where(col(Archive.account_id) == account_id, col(Archive.day) == name)
        part = (await session.execute(known)).scalar_one() + 1
        batches = await _batches(session, rows)
    rows.sort(key=position, reverse=True)
    seqs = [row["seq"] for row in rows]
    header = {"account_id": account_id, "day": name, "part": part, "count": len(rows), "batches": batches}
    data = await anyio.to_thread.run_sync(_pack, header, rows)
    archive = Archive(
        account_id=account_id,
        day=name,
        part=part,
        bucket=platform.settings.archive_bucket,
        key=f"{account_id or 'nobody'}/{name.replace('-', '/')}/{part:04d}.jsonl.gz",
        sha256=hashlib.sha256(data).hexdigest(),
        size=len(data),
        count=len(rows),
        first_at=rows[-1]["at"],
        last_at=rows[0]["at"],
        first_seq=min(seqs),
        last_seq=max(seqs),
        contents=contents_of(rows),
        stored_at=now_ms(),
    )
    await _store(platform, archive, data)
    async with platform.database.transaction() as tx:
        tx.session.add(archive)
        await tx.session.flush()
        for start in range(0, len(seqs), 500):
            await tx.session.execute(delete(Trace).where(col(Trace.seq).in_(seqs[start : start + 500])))
        said = archive.model_dump(include=set(DayArchived.model_fields))
        tx.emit(DayArchived(**said), Urn("audit", PLATFORM, "archive", str(archive.id)))
    log.info("audit.archived", key=archive.key, count=archive.count)
    return archive


def _whole(rows: list[Record]) -> list[Record]:
    """Without the records of a last millisecond that may have more: objects of a day do not overlap."""
    if len(rows) < PART or rows[0]["at"] == rows[-1]["at"]:
        return rows
    return [row for row in rows if row["at"] < rows[-1]["at"]]


async def _batches(session: AsyncSession, rows: Sequence[Record]) -> list[dict[str, Any]]:
    """The batches that the records are in, so that the archive anchors the chain, too."""
    first, last = min(row["seq"] for row in rows), max(row["seq"] for row in rows)
    query = select(col(Batch.number), col(Batch.hash)).where(col(Batch.last_seq) >= first, col(Batch.first_seq) <= last)
    found = (await session.execute(query.order_by(col(Batch.number)))).mappings()
    return [dict(row) for row in found]


def contents_of(rows: Sequence[Record]) -> dict[str, Any]:
    """Who and what occurs in an object, so that a search need not read those in which it finds nothing."""
    operations = {(row["service"], row["resource_type"] or "", row["name"]) for row in rows}
    return {
        "users": sorted({row["user_name"] for row in rows if row["user_name"] is not None}),
        "operations": [list(operation) for operation in sorted(operations)],
    }


def _may_hold(archive: Archive, wanted: Filter) -> bool:
    user, name = wanted.exactly.get("user_name"), wanted.exactly.get("name")
    names = {operation[2] for operation in archive.contents["operations"]}
    return (user is None or user in archive.contents["users"]) and (name is None or name in names)


def _pack(header: dict[str, Any], rows: Sequence[Record]) -> bytes:
    lines = b"".join(canonical(line) + b"\n" for line in (header, *rows))
    return gzip.compress(lines, 6, mtime=0)


async def _store(platform: Platform, archive: Archive, data: bytes) -> None:
    """Put the object and read it back. Raises Unavailable when the store does not give back what it was given."""
    path = ObjectPath(archive.bucket, archive.key)
    try:
        await platform.objects.put(path, data, "application/gzip")
    except NotFound:
        await platform.objects.create_bucket(archive.bucket)
        await platform.objects.put(path, data, "application/gzip")
    if await platform.objects.get(path) != data:
        raise Unavailable(f"the object store does not give back what was stored at {path}")


async def read_object(
    platform: Platform, archive: Archive, keep: Callable[[Record], bool] = lambda _: True
) -> list[Record]:
    """Those records of an object that `keep` says to, newest first.

    Raises ArchiveDamaged, and Unavailable when the store is away.
    """
    return (await read_whole(platform, archive, keep))[1]


async def read_whole(
    platform: Platform, archive: Archive, keep: Callable[[Record], bool] = lambda _: True
) -> tuple[dict[str, Any], list[Record]]:
    """The header of an object (``account_id``, ``day``, ``part``, ``count``, ``batches``), and `read_object`."""
    try:
        data = await platform.objects.get(ObjectPath(archive.bucket, archive.key))
    except NotFound:
        raise ArchiveDamaged("the object is gone") from None
    return await anyio.to_thread.run_sync(_unpack, archive, data, keep)


def _unpack(archive: Archive, data: bytes, keep: Callable[[Record], bool]) -> tuple[dict[str, Any], list[Record]]:
    if hashlib.sha256(data).hexdigest() != archive.sha256:
        raise ArchiveDamaged("the object is not the one that was stored: its SHA-256 differs")
    try:
        header, *lines = gzip.decompress(data).splitlines()
        return orjson.loads(header), [record for line in lines if keep(record := orjson.loads(line))]
    except (OSError, EOFError, zlib.error, ValueError) as e:
        raise ArchiveDamaged(f"the object cannot be read: {e}") from None


async def in_archive(
    platform: Platform,
    accounts: Sequence[str],
    visible: Callable[[Record], bool],
    wanted: Filter,
    after: Position | None,
    limit: int,
) -> tuple[list[Record], Position | None]:
    """The newest `limit` archived records that match and come behind `after`.

    With them comes, when there is more to look through than one request should, the position up to which it was.
    An object that is damaged is left out: `verify` says so.
    """

    def keep(record: Record) -> bool:
        return (after is None or position(record) < after) and visible(record) and wanted.matches(record)

    found: list[Record] = []
    parts, looked_to = await _parts(platform, accounts, wanted, after)
    for number, part in enumerate(parts):
        # Objects come by their newest record: what is newer than that is complete.
        if sum(record["at"] > part.last_at for record in found) >= limit:
            break
        if number >= LOOKED_THROUGH and (after is None or part.last_at + 1 < after[0]):
            complete = [record for record in found if record["at"] > part.last_at]
            return sorted(complete, key=position, reverse=True), (part.last_at + 1, "")
        try:
            found += await read_object(platform, part, keep)
        except ArchiveDamaged as e:
            log.error("audit.archive_damaged", key=part.key, reason=str(e))
    found.sort(key=position, reverse=True)
    if looked_to is None:
        return found[:limit], None
    complete = [record for record in found if record["at"] >= looked_to]
    return complete[:limit], None if len(complete) >= limit else (looked_to, "")


async def _parts(
    platform: Platform, accounts: Sequence[str], wanted: Filter, after: Position | None
) -> tuple[Sequence[Archive], int | None]:
    """The objects that may hold what is looked for, by their newest record, downwards.

    With them comes, when there are more than are considered at once, the time (epoch ms) down to which these are all.
    """
    query = select(Archive).where(col(Archive.account_id).in_(accounts))
    if wanted.start is not None:
        query = query.where(col(Archive.last_at) >= wanted.start)
    if wanted.end is not None:
        query = query.where(col(Archive.first_at) < wanted.end)
    if after is not None:
        query = query.where(col(Archive.first_at) <= after[0])
    async with platform.database.read() as session:
        ordered = query.order_by(col(Archive.last_at).desc(), col(Archive.id).desc())
        found = (await session.execute(ordered.limit(CONSIDERED))).scalars().all()
    more = found[-1].last_at + 1 if len(found) == CONSIDERED else None
    return [archive for archive in found if _may_hold(archive, wanted)], more


def start_of_day(at: int) -> int:
    """Midnight (UTC) before a time, both in epoch ms."""
    return at - at % DAY
