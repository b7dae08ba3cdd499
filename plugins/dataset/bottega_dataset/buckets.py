"""Which account a bucket belongs to, and who may see what lies in it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from sqlmodel import col, select

from bottega.database import Database
from bottega.entities import Bucket
from bottega.errors import Conflict, Forbidden, Invalid, NotFound
from bottega.events import Event
from bottega.gateway import Caller
from bottega.objects import ObjectStore
from bottega.urn import Urn, object_urn

_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


class BucketCreated(Event, type="store-s3.bucket.created.v1"):
    """An account has a new bucket."""

    name: str
    account_id: str


async def create(database: Database, store: ObjectStore, name: str, account_id: str, project_id: str) -> Bucket:
    """Claim a bucket for an account and make it in the store.

    The claim comes first, so of several callers one wins; one that was interrupted in between succeeds when repeated.
    Raises Invalid for a name S3 does not take, Conflict when the name is taken.
    """
    if not _NAME.fullmatch(name) or ".." in name:
        raise Invalid(
            f"bucket name '{name}' must have 3-63 lower case letters, digits, '-' or '.', with no '-' or '.' outside"
        )
    taken = Conflict(f"bucket '{name}' exists already; bucket names are unique in this installation, choose another")
    exists = name in await store.list_buckets()
    async with database.transaction() as tx:
        bucket = await tx.session.get(Bucket, name)
        if exists or (bucket is not None and bucket.account_id != account_id):
            raise taken
        if bucket is None:
            bucket = Bucket(name=name, account_id=account_id)
            tx.session.add(bucket)
            await tx.session.flush()
            tx.emit(BucketCreated(name=name, account_id=account_id), Urn("store-s3", project_id, "bucket", name))
    await store.create_bucket(name)
    return bucket


async def of_account(database: Database, account_id: str) -> Sequence[Bucket]:
    async with database.read() as session:
        found = await session.exec(select(Bucket).where(Bucket.account_id == account_id).order_by(col(Bucket.name)))
        return found.all()


async def remove(database: Database, name: str) -> None:
    """Forget whose a bucket was, once the store has deleted it: its name may be taken by anybody."""
    async with database.transaction() as tx:
        bucket = await tx.session.get(Bucket, name)
        if bucket is not None:
            await tx.session.delete(bucket)


async def check(
    caller: Caller, action: str, bucket: str, key: str = "", context: Mapping[str, Any] | None = None
) -> None:
    """Raises NotFound when there is no such bucket.

    Raises Forbidden unless the bucket is of the caller's account and its policies allow `action` on it; `context`
    holds condition keys such as ``obs:prefix``.
    """
    if await caller.platform.identity.bucket_account(bucket) != caller.principal.account_id:
        if bucket not in await caller.platform.objects.list_buckets():
            raise NotFound(f"there is no bucket '{bucket}'")
        raise Forbidden(f"bucket '{bucket}' is not one of yours")
    await caller.check(action, object_urn(bucket, key), context)
