"""Copies for those who want their own: sealed records go to the bucket of a project's tracker soon after."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime

import orjson
import structlog
from sqlalchemy import select
from sqlmodel import col

from bottega.errors import ApiError, NotFound
from bottega.objects import ObjectPath
from bottega.platform import Platform
from bottega.urn import PLATFORM

from .entities import Batch, Scope, Trace, Tracker
from .records import COLUMNS, Record, shown
from .search import Filter

log = structlog.get_logger(__name__)
_BATCHES = 10
"""Batches in one copy at most."""


async def send_copies(platform: Platform) -> int:
    """Copy what was sealed since the last time for every enabled tracker. Returns how many objects were written."""
    async with platform.database.read() as session:
        wanted = (col(Tracker.bucket) != "", col(Tracker.status) != "disabled")
        trackers = (await session.execute(select(Tracker).where(*wanted))).scalars().all()
    written = 0
    for tracker in trackers:
        written += await _send(platform, tracker)
    return written


async def _send(platform: Platform, tracker: Tracker) -> int:
    written = 0
    while True:
        batches, records = await _next(platform, tracker)
        if not batches:
            return written
        try:
            if await platform.identity.bucket_account(tracker.bucket) != tracker.account_id:
                raise NotFound(f"the bucket '{tracker.bucket}' is not one of this account any more")
            for path, data in _files(tracker, batches, records):
                await platform.objects.put(path, data)
                written += 1
        except ApiError as e:
            log.warning("audit.copy_failed", tracker=tracker.id, bucket=tracker.bucket, reason=e.message)
            await _note(platform, tracker, "error", e.message, tracker.sent)
            return written
        tracker.sent = batches[-1].number
        await _note(platform, tracker, "enabled", "", tracker.sent)


async def _next(platform: Platform, tracker: Tracker) -> tuple[Sequence[Batch], list[Record]]:
    """The batches to copy next, and what the tracker's project and the account as a whole have in them."""
    async with platform.database.read() as session:
        query = select(Batch).where(col(Batch.number) > tracker.sent).order_by(col(Batch.number)).limit(_BATCHES)
        batches = (await session.execute(query)).scalars().all()
        if not batches:
            return [], []
        places = select(col(Scope.id)).where(
            col(Scope.account_id) == tracker.account_id, col(Scope.project_id).in_((tracker.project_id, PLATFORM))
        )
        rows = select(*COLUMNS).where(
            col(Trace.seq).between(batches[0].first_seq, batches[-1].last_seq), col(Trace.scope).in_(places)
        )
        found = (await session.execute(rows.order_by(col(Trace.seq)))).mappings()
        left_out = (tracker.options.get("management_event_selector") or {}).get("exclude_service") or []
        chosen = Filter(buckets=(tracker.data_bucket,) if tracker.kind == "data" else None)
        records = [record for row in found if chosen.matches(record := dict(row))]
        return batches, [record for record in records if record["service"] not in left_out]


def _files(tracker: Tracker, batches: Sequence[Batch], records: Sequence[Record]) -> list[tuple[ObjectPath, bytes]]:
    """The objects of a copy: its records, by service where asked, and where asked the hashes that prove them."""
    info = tracker.options.get("obs_info") or {}
    by_service: dict[str, list[Record]] = {}
    for record in records:
        by_service.setdefault(record["service"] if info.get("is_sort_by_service") else "", []).append(record)
    plain = info.get("compress_type") == "json"
    files = []
    for service, some in sorted(by_service.items()):
        day = datetime.fromtimestamp(batches[0].sealed_at / 1000, UTC).strftime("%Y/%m/%d")
        name = f"batches-{batches[0].number:08d}-{batches[-1].number:08d}"
        folder = "/".join(part for part in (tracker.prefix, "CloudTraces", day, tracker.name, service) if part)
        data = orjson.dumps([shown(record) for record in some])
        data = data if plain else gzip.compress(data, mtime=0)
        path = ObjectPath(tracker.bucket, f"{folder}/{name}.{'json' if plain else 'json.gz'}")
        files.append((path, data))
        if tracker.options.get("is_support_validate"):
            proof = {
                "object": path.key,
                "sha256": hashlib.sha256(data).hexdigest(),
                "batches": [{"number": b.number, "previous": b.previous, "hash": b.hash} for b in batches],
            }
            files.append((ObjectPath(tracker.bucket, f"{folder}/Digest/{name}.json"), orjson.dumps(proof)))
    return files


async def _note(platform: Platform, tracker: Tracker, status: str, detail: str, sent: int) -> None:
    async with platform.database.transaction() as tx:
        row = await tx.session.get(Tracker, tracker.id)
        if row is not None and row.status != "disabled" and row.bucket == tracker.bucket:
            row.status, row.detail, row.sent = status, detail, sent
            tx.session.add(row)
