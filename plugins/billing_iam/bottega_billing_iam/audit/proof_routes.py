"""Proving the trail, and its archive. Nothing here changes a record."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from sqlalchemy import select
from sqlmodel import col

from bottega.errors import Forbidden, Invalid
from bottega.gateway import Caller, Page, paging, requires
from bottega.platform import Platform
from bottega.routing import Router

from .archive import archive_due
from .chain import seal
from .entities import Archive, Batch
from .verify import Finding, as_json, verify


def router(platform: Platform) -> APIRouter:
    router = Router()

    @router.get("/v3/{project_id}/trail/verification")
    async def prove(
        start: Annotated[int | None, Query(alias="from", ge=0, le=2**53, description="epoch ms of sealing")] = None,
        end: Annotated[int | None, Query(alias="to", ge=0, le=2**53, description="epoch ms, not included")] = None,
        after: Annotated[int, Query(ge=0, le=2**53, description="the batch to go on after")] = 0,
        anchor: Annotated[str | None, Query(description="<number>:<hash> of a batch that was kept outside")] = None,
        scope: Literal["account", "platform"] = "account",
        caller: Caller = requires("cts:trace:verify"),
    ) -> dict[str, Any]:
        """Prove that the records of the account, or of all, are those that were sealed, in database and archive.

        A call proves 200 batches; ``next`` is the ``after`` of the following one. ``scope=platform`` is for the
        platform's first account.
        """
        account_id: str | None = await caller.check_account("cts:trace:verify")
        if scope == "platform":
            await _operator(caller)
            account_id = None
        report = await verify(platform, start=start, end=end, after=after, account_id=account_id)
        if anchor is not None and (finding := await _differs(platform, anchor)) is not None:
            report.add(finding)
        return as_json(report)

    @router.get("/v3/{project_id}/trail/archives")
    async def list_archives(page: Page = paging(), caller: Caller = requires("cts:trace:list")) -> dict[str, Any]:
        """The objects in which the account's older records are, with their SHA-256, newest first."""
        account_id = await caller.check_account("cts:trace:list")
        query = select(Archive).where(col(Archive.account_id) == account_id)
        query = query.order_by(col(Archive.last_at).desc(), col(Archive.id).desc())
        async with platform.database.read() as session:
            rows = (await session.execute(query.offset(page.offset).limit(page.limit))).scalars().all()
        return {"archives": [_json(row) for row in rows]}

    @router.post("/v3/{project_id}/trail/archives")
    async def archive_now(caller: Caller = requires("cts:trace:archive")) -> dict[str, Any]:
        """Seal what is new and archive what is due, which happens by itself, too. For the platform's first account."""
        await caller.check_account("cts:trace:archive")
        await _operator(caller)
        await seal(platform.database, int(platform.settings.settle_s * 1000))
        return {"archives": [_json(row) for row in await archive_due(platform)]}

    return router


async def _operator(caller: Caller) -> None:
    await caller.check_operator(Forbidden("this is for the platform's first account"))


async def _differs(platform: Platform, anchor: str) -> Finding | None:
    """What is wrong with the chain if the batch of an anchor is not what it was. Raises Invalid."""
    parts = re.fullmatch(r"(\d{1,16}):([0-9a-f]{64})", anchor)
    if parts is None:
        raise Invalid(f"anchor: '{anchor[:100]}' is not <number>:<hash>, as said by audit.batch.sealed.v1")
    async with platform.database.read() as session:
        batch = (await session.execute(select(Batch).where(col(Batch.number) == int(parts[1])))).scalar()
    if batch is not None and batch.hash == parts[2]:
        return None
    says = "it is not the one that was kept outside" if batch else "it was kept outside, and is not there"
    return Finding("batch changed" if batch else "batch removed", says, int(parts[1]))


def _json(row: Archive) -> dict[str, Any]:
    names = ("day", "part", "bucket", "key", "sha256", "size", "count", "first_at", "last_at", "stored_at")
    return {name: getattr(row, name) for name in names}
