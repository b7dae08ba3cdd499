"""Proving the trail: every batch follows from the one before, and every record is in its batch, as it was."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio
from sqlalchemy import func, select
from sqlmodel import col

from bottega.database import AsyncSession
from bottega.platform import Platform

from .archive import ArchiveDamaged, contents_of, read_whole
from .chain import BEGINNING, batch_hash
from .entities import Archive, Batch, BatchAccount, Scope, Trace
from .records import COLUMNS, Record, fingerprint

AT_ONCE = 200
"""Batches a call proves; what is more says how to go on."""
_TOLD = 100
_TABLE = "table audit_trace"


@dataclass(slots=True)
class Finding:
    """What is wrong, and where: in which batch, account, record, and in which table or object it was seen."""

    kind: str
    says: str
    batch: int | None = None
    account_id: str | None = None
    trace_id: str | None = None
    place: str | None = None


@dataclass(slots=True)
class Report:
    batches: int = 0
    records: int = 0
    archives: int = 0
    first_batch: int | None = None
    last_batch: int | None = None
    head: str | None = None
    """The hash of the last batch: to be compared with one that was kept outside."""
    next: int | None = None
    """The batch after which to go on; None when all is proven."""
    findings: list[Finding] = field(default_factory=list)

    def add(self, finding: Finding) -> None:
        if len(self.findings) < _TOLD:
            self.findings.append(finding)


@dataclass(slots=True)
class _Found:
    """A record as it lies somewhere now."""

    seq: int
    account_id: str
    hash: bytes
    trace_id: str
    place: str


async def verify(
    platform: Platform,
    *,
    start: int | None = None,
    end: int | None = None,
    after: int = 0,
    account_id: str | None = None,
) -> Report:
    """Prove the batches sealed from `start` to before `end` (epoch ms), up to `AT_ONCE` after the batch `after`.

    :param account_id: whose records to prove; None for all. The chain itself is always proven.
    """
    report = Report()
    async with platform.database.read() as session:
        batches = await _chosen(session, start, end, after)
        if len(batches) < AT_ONCE and end is None:
            await _check_end(session, report)
        if not batches:
            return report
        first, last = batches[0], batches[-1]
        before = (await session.execute(select(Batch).where(col(Batch.number) == first.number - 1))).scalar()
        entries = await _entries(session, first.number, last.number)
        low, high = min(b.first_seq for b in batches), max(b.last_seq for b in batches)
        found = await _hot(session, report, low, high, account_id)
        query = select(Archive).where(col(Archive.last_seq) >= low, col(Archive.first_seq) <= high)
        if account_id is not None:
            query = query.where(col(Archive.account_id) == account_id)
        parts = (await session.execute(query)).scalars().all()
    report.first_batch, report.last_batch, report.head = first.number, last.number, last.hash
    report.next = last.number if len(batches) == AT_ONCE else None
    _check_chain(report, batches, before, entries)
    for part in parts:
        found += await _archived(platform, report, part, batches)
    report.records = len(found)
    _check_records(report, batches, entries, found, account_id)
    return report


async def _chosen(session: AsyncSession, start: int | None, end: int | None, after: int) -> Sequence[Batch]:
    query = select(Batch).where(col(Batch.number) > after)
    if start is not None:
        query = query.where(col(Batch.sealed_at) >= start)
    if end is not None:
        query = query.where(col(Batch.sealed_at) < end)
    return (await session.execute(query.order_by(col(Batch.number)).limit(AT_ONCE))).scalars().all()


async def _check_end(session: AsyncSession, report: Report) -> None:
    """Only what is sealed is archived: archived records behind the last batch tell of a chain that was cut off."""
    archived = (await session.execute(select(func.max(Archive.last_seq)))).scalar() or 0
    sealed = (await session.execute(select(func.max(Batch.last_seq)))).scalar() or 0
    if archived > sealed:
        report.add(Finding("batch removed", "there are archived records, but no batch that proves them"))


async def _entries(session: AsyncSession, first: int, last: int) -> dict[int, list[BatchAccount]]:
    query = select(BatchAccount).where(col(BatchAccount.batch).between(first, last))
    entries: dict[int, list[BatchAccount]] = {}
    for entry in (await session.execute(query)).scalars():
        entries.setdefault(entry.batch, []).append(entry)
    return entries


async def _hot(session: AsyncSession, report: Report, low: int, high: int, account_id: str | None) -> list[_Found]:
    found: list[_Found] = []
    scopes = {s.id: (s.account_id, s.project_id) for s in (await session.execute(select(Scope))).scalars()}
    query = select(*COLUMNS, col(Trace.scope)).where(col(Trace.seq).between(low, high)).order_by(col(Trace.seq))
    if account_id is not None:
        query = query.where(col(Trace.account_id) == account_id)
    async for rows in (await session.stream(query)).mappings().partitions(2000):
        records = [dict(row) for row in rows]
        for record in records:
            if scopes.get(record.pop("scope")) != (record["account_id"], record["project_id"]):
                says = "it is filed where it is not found"
                report.add(Finding("record changed", says, None, record["account_id"], record["id"], _TABLE))
        found += await anyio.to_thread.run_sync(_hashed, records, _TABLE)
    return found


async def _archived(platform: Platform, report: Report, part: Archive, batches: Sequence[Batch]) -> list[_Found]:
    """The records of an object, as far as they are in `batches`; what its header says of these is compared, too.

    Whoever made the chain in the database anew after a change would have to change every object of the archive.
    """
    place = f"s3://{part.bucket}/{part.key}"
    report.archives += 1
    try:
        header, records = await read_whole(platform, part)
    except ArchiveDamaged as e:
        report.add(Finding("archive changed", str(e), account_id=part.account_id, place=place))
        return []
    hashes = {batch.number: batch.hash for batch in batches}
    for noted_batch in header["batches"]:
        if hashes.get(noted_batch["number"], noted_batch["hash"]) != noted_batch["hash"]:
            says = "it is not the one that its archived records were proven by"
            report.add(Finding("batch changed", says, noted_batch["number"], part.account_id, place=place))
    low, high = min(b.first_seq for b in batches), max(b.last_seq for b in batches)
    times, seqs = [r["at"] for r in records], [r["seq"] for r in records]
    noted = (part.count, part.first_at, part.last_at, part.first_seq, part.last_seq, part.contents)
    there = (len(records), min(times), max(times), min(seqs), max(seqs), contents_of(records))
    if noted != there or {r["account_id"] for r in records} != {part.account_id}:
        says = "what is noted of the object is not what is in it"
        report.add(Finding("archive changed", says, account_id=part.account_id, place=place))
    inside = [record for record in records if low <= record["seq"] <= high]
    return await anyio.to_thread.run_sync(_hashed, inside, place)


def _hashed(records: Sequence[Record], place: str) -> list[_Found]:
    return [_Found(r["seq"], r["account_id"], fingerprint(r), r["id"], place) for r in records]


def _check_chain(
    report: Report, batches: Sequence[Batch], before: Batch | None, entries: dict[int, list[BatchAccount]]
) -> None:
    """Each batch has the number, the range and the hash that follow from the one before it."""
    expected = (before.number, before.hash, before.last_seq) if before else (0, BEGINNING, 0)
    if before is None and batches[0].number > 1:
        expected = (batches[0].number - 1, "", 0)
        report.add(Finding("batch removed", f"batch {batches[0].number - 1} is missing", batches[0].number - 1))
    for batch in batches:
        number, previous, last_seq = expected
        report.batches += 1
        for missing in range(number + 1, min(batch.number, number + 1 + _TOLD)):
            report.add(Finding("batch removed", f"batch {missing} is missing", missing))
        mine = {entry.account_id: (entry.count, entry.digest) for entry in entries.get(batch.number, [])}
        computed = batch_hash(batch.number, batch.previous, batch.first_seq, batch.last_seq, batch.sealed_at, mine)
        if computed != batch.hash or batch.count != sum(count for count, _ in mine.values()):
            report.add(Finding("batch changed", "its hash is not that of what it says", batch.number))
        follows = batch.previous == previous and batch.first_seq == last_seq + 1
        if batch.number == number + 1 and previous and not follows:
            report.add(Finding("batch changed", f"it does not follow from batch {number}", batch.number))
        expected = (batch.number, batch.hash, batch.last_seq)


def _check_records(
    report: Report,
    batches: Sequence[Batch],
    entries: dict[int, list[BatchAccount]],
    found: list[_Found],
    account_id: str | None,
) -> None:
    """Each batch has for each account just the records it was sealed with, as they were, in their order."""
    found.sort(key=lambda record: record.seq)
    rest = iter(found)
    record = next(rest, None)
    for batch in batches:
        there: dict[str, list[_Found]] = {}
        while record is not None and record.seq <= batch.last_seq:
            if record.seq >= batch.first_seq:
                there.setdefault(record.account_id, []).append(record)
            record = next(rest, None)
        sealed = {entry.account_id: entry for entry in entries.get(batch.number, [])}
        for account in sorted({*there, *sealed}):
            if account_id in (None, account):
                for finding in _compare(batch.number, sealed.get(account), there.get(account, [])):
                    finding.account_id = account
                    report.add(finding)


def _compare(batch: int, sealed: BatchAccount | None, there: Sequence[_Found]) -> Iterator[Finding]:
    members = sealed.members if sealed else b""
    if sealed and hashlib.sha256(members).hexdigest() != sealed.digest:
        yield Finding("batch changed", "the hashes of its records are not those it was sealed with", batch)
        return
    expected = [members[start : start + 32] for start in range(0, len(members), 32)]
    present = [record.hash for record in there]
    if present == expected:
        return
    missing = [number for number, hash in enumerate(expected) if hash not in set(present)]
    strange = [record for record in there if record.hash not in set(expected)]
    for record in strange[: len(missing)]:
        yield Finding("record changed", "it is not what was sealed", batch, None, record.trace_id, record.place)
    for record in strange[len(missing) :]:
        yield Finding("record inserted", "it was not there when sealed", batch, None, record.trace_id, record.place)
    for number in missing[len(strange) :]:
        yield Finding("record removed", f"record {number + 1} of {len(expected)} of this account is gone", batch)
    if not missing and not strange:
        twice = len(present) > len(expected)
        says = "a record is there twice" if twice else "its records are in another order than they were sealed in"
        yield Finding("record inserted" if twice else "records reordered", says, batch)


def as_json(report: Report) -> dict[str, Any]:
    """The answer of the route."""
    findings = [
        {name: getattr(f, name) for name in ("kind", "says", "batch", "account_id", "trace_id", "place")}
        for f in report.findings
    ]
    names = ("batches", "records", "archives", "first_batch", "last_batch", "head", "next")
    return {"intact": not findings} | {name: getattr(report, name) for name in names} | {"findings": findings}
