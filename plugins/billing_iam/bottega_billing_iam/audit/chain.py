"""The chain: records join it in batches, each of which hashes the one before, so that no change goes unseen.

The SHA-256 of a record is over its canonical JSON (`records.fingerprint`). A batch covers all records of a range of
numbers; for each account in it there is the SHA-256 over the hashes of its records, and the batch's own hash is over
the batch before, the range, the time and these. The ranges adjoin, so nothing fits between two batches.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping
from typing import Any

from sqlalchemy import insert, select
from sqlmodel import col

from bottega.context import now_ms
from bottega.database import Database, Transaction
from bottega.urn import PLATFORM, Urn

from .entities import Batch, BatchAccount, Trace
from .events import BatchSealed
from .records import COLUMNS, canonical, fingerprint
from .traces import take_turn

BATCH = 1000
"""Records in a batch at most."""
BEGINNING = "0" * 64
"""What the first batch has as the one before it."""


def batch_hash(
    number: int, previous: str, first_seq: int, last_seq: int, sealed_at: int, accounts: Mapping[str, tuple[int, str]]
) -> str:
    """The hash of a batch; `accounts` gives how many records each account has in it and their digest."""
    content = {
        "number": number,
        "previous": previous,
        "first_seq": first_seq,
        "last_seq": last_seq,
        "sealed_at": sealed_at,
        "accounts": {account: list(entry) for account, entry in accounts.items()},
    }
    return hashlib.sha256(canonical(content)).hexdigest()


async def seal(database: Database, settle_ms: int) -> int:
    """Let every record that is older than `settle_ms` join the chain. Returns how many did."""
    total = 0
    while True:
        async with database.transaction() as tx:
            sealed = await _seal_some(tx, settle_ms)
        total += sealed
        if sealed < BATCH:
            return total


async def _seal_some(tx: Transaction, settle_ms: int) -> int:
    session, now = tx.session, now_ms()
    await take_turn(session)
    newest = (await session.execute(select(Batch).order_by(col(Batch.number).desc()).limit(1))).scalar()
    number, previous, last = (newest.number, newest.hash, newest.last_seq) if newest else (0, BEGINNING, 0)
    query = select(*COLUMNS).where(col(Trace.seq) > last).order_by(col(Trace.seq)).limit(BATCH)
    found = [dict(row) for row in (await session.execute(query)).mappings()]
    # A record from the future was made before the clock was set back: it is settled.
    rows = list(itertools.takewhile(lambda row: not now - settle_ms < row["recorded_at"] <= now, found))
    if not rows:
        return 0
    members: dict[str, bytearray] = {}
    for row in rows:
        members.setdefault(row["account_id"], bytearray()).extend(fingerprint(row))
    first_seq, last_seq = last + 1, int(rows[-1]["seq"])
    entries = {account: (len(all) // 32, hashlib.sha256(all).hexdigest()) for account, all in members.items()}
    batch = Batch(
        number=number + 1,
        previous=previous,
        hash=batch_hash(number + 1, previous, first_seq, last_seq, now, entries),
        first_seq=first_seq,
        last_seq=last_seq,
        count=len(rows),
        sealed_at=now,
    )
    accounts: list[dict[str, Any]] = [
        {
            "batch": batch.number,
            "account_id": account,
            "count": count,
            "digest": digest,
            "members": bytes(members[account]),
        }
        for account, (count, digest) in entries.items()
    ]
    session.add(batch)
    await session.execute(insert(BatchAccount), accounts)
    said = batch.model_dump(include={"number", "hash", "previous", "count", "sealed_at"})
    tx.emit(BatchSealed(**said), Urn("audit", PLATFORM, "batch", str(batch.number)))
    return len(rows)
