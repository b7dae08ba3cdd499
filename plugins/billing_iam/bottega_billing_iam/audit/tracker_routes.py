"""Trackers, as the vendor's CTS client knows them: where copies of records go, and whose objects are watched.

Recording never stops: a tracker that is disabled or gone only ends the copies.
"""

from __future__ import annotations

import uuid
from typing import Any, Literal

from fastapi import APIRouter, Query, Response
from sqlalchemy import func, select
from sqlmodel import col

from bottega.database import AsyncSession, Transaction
from bottega.entities import Bucket
from bottega.errors import ApiError, Conflict, Forbidden, Invalid, NotFound, QuotaExceeded
from bottega.gateway import Caller, requires
from bottega.objects import ObjectPath
from bottega.platform import Platform
from bottega.routing import Router
from bottega.urn import Urn

from .entities import Batch, Tracker
from .tracker_requests import NAME, BucketsToCheck, BucketToCheck, Tags, TrackerRequest

QUOTAS = {"system": 1, "data": 100}
_TAGS = 20


def router(platform: Platform) -> APIRouter:
    router = Router()

    @router.post("/v3/{project_id}/tracker", status_code=201)
    async def create_tracker(body: TrackerRequest, caller: Caller = requires("cts:tracker:create")) -> dict[str, Any]:
        """The one system tracker of the project, or a data tracker of a bucket."""
        name, options = body.name, body.options
        if body.tracker_type == "data" and body.data_bucket is None:
            raise Invalid("data_bucket: say which bucket a data tracker watches")
        tracker = Tracker(
            account_id=caller.principal.account_id,
            project_id=caller.project_id,
            kind=body.tracker_type,
            name=name,
            options=options,
        )
        made = await _prepare_buckets(platform, caller, tracker, body)
        async with platform.database.transaction() as tx:
            await _reserve(tx, tracker)
            tracker.sent = (await tx.session.execute(select(func.max(Batch.number)))).scalar() or 0
            _set_bucket(tracker, body)
            tx.session.add_all([tracker, *([Bucket(name=made, account_id=tracker.account_id)] if made else [])])
        platform.identity.invalidate()
        caller.about(resource=_urn(tracker), name=name)
        return _json(tracker)

    @router.put("/v3/{project_id}/tracker")
    async def update_tracker(body: TrackerRequest, caller: Caller = requires("cts:tracker:update")) -> dict[str, Any]:
        """Change where copies go, or stop and start them."""
        name, options = body.name, body.options
        async with platform.database.read() as session:
            tracker = await _find(session, caller.project_id, body.tracker_type, name)
        if body.data_bucket and body.data_bucket.data_bucket_name != tracker.data_bucket:
            raise Invalid("data_bucket.data_bucket_name: the bucket a tracker watches cannot be changed")
        made = await _prepare_buckets(platform, caller, tracker, body)
        async with platform.database.transaction() as tx:
            tracker = await _find(tx.session, caller.project_id, body.tracker_type, name)
            tracker.options = {**tracker.options, **options}
            if body.status is not None:
                tracker.status = body.status
            _set_bucket(tracker, body)
            tx.session.add_all([tracker, *([Bucket(name=made, account_id=tracker.account_id)] if made else [])])
        platform.identity.invalidate()
        caller.about(resource=_urn(tracker), name=name)
        return {}

    @router.get("/v3/{project_id}/trackers")
    async def list_trackers(
        tracker_name: str | None = None,
        tracker_type: Literal["system", "data"] | None = None,
        caller: Caller = requires("cts:tracker:list"),
    ) -> dict[str, Any]:
        query = select(Tracker).where(col(Tracker.project_id) == caller.project_id)
        if tracker_name is not None:
            query = query.where(col(Tracker.name) == tracker_name)
        if tracker_type is not None:
            query = query.where(col(Tracker.kind) == tracker_type)
        async with platform.database.read() as session:
            found = (await session.execute(query.order_by(col(Tracker.created_at), col(Tracker.id)))).scalars().all()
        return {"trackers": [_json(tracker) for tracker in found]}

    @router.delete("/v3/{project_id}/trackers", status_code=204, response_class=Response)
    async def delete_tracker(
        tracker_name: str | None = Query(None, pattern=NAME),
        tracker_type: Literal["system", "data"] = "data",
        caller: Caller = requires("cts:tracker:delete"),
    ) -> None:
        """One tracker, or without a name all data trackers. What was recorded stays."""
        if tracker_type == "system" and tracker_name != "system":
            raise Invalid("tracker_name: say 'system' to delete the system tracker")
        query = select(Tracker).where(col(Tracker.project_id) == caller.project_id, col(Tracker.kind) == tracker_type)
        if tracker_name is not None:
            query = query.where(col(Tracker.name) == tracker_name)
        async with platform.database.transaction() as tx:
            found = (await tx.session.execute(query)).scalars().all()
            if tracker_name is not None and not found:
                raise NotFound(f"there is no {tracker_type} tracker '{tracker_name}' in this project")
            for tracker in found:
                await tx.session.delete(tracker)
        caller.about(name=tracker_name or "all data trackers")

    @router.get("/v3/{project_id}/quotas")
    async def list_quotas(caller: Caller = requires("cts:quota:get")) -> dict[str, Any]:
        """How many trackers of each kind there are and may be."""
        async with platform.database.read() as session:
            used = {kind: await _count(session, caller.project_id, kind) for kind in QUOTAS}
        rows = [{"type": f"{kind}_tracker", "used": used[kind], "quota": quota} for kind, quota in QUOTAS.items()]
        return {"resources": rows}

    @router.post("/v3/{domain_id}/checkbucket")
    async def check_buckets(
        domain_id: str, body: BucketsToCheck, caller: Caller = requires("cts:tracker:checkBucket")
    ) -> dict[str, Any]:
        """Try whether copies could be written to buckets: an object is written and removed again."""
        if domain_id != await caller.check_account("cts:tracker:checkBucket"):
            raise Forbidden(f"account '{domain_id}' is not yours")
        return {"buckets": [await _try(platform, caller, bucket) for bucket in body.buckets]}

    @router.post("/v3/{project_id}/{resource_type}/{resource_id}/tags/create", status_code=204, response_class=Response)
    async def create_tags(
        resource_type: str,
        resource_id: str,
        body: Tags,
        caller: Caller = requires("cts:tag:create", "tracker/{resource_id}"),
    ) -> None:
        """Tag a tracker (resource type ``cts-tracker``); a key that is there gets the new value."""
        async with platform.database.transaction() as tx:
            tracker = await _tagged(tx.session, caller.project_id, resource_type, resource_id)
            tags = {**tracker.tags, **{tag.key: tag.value or "" for tag in body.tags}}
            if len(tags) > _TAGS:
                raise QuotaExceeded(f"a tracker has at most {_TAGS} tags; this would make {len(tags)}")
            tracker.tags = tags
            tx.session.add(tracker)
        caller.about(name=tracker.name)

    @router.delete(
        "/v3/{project_id}/{resource_type}/{resource_id}/tags/delete", status_code=204, response_class=Response
    )
    async def delete_tags(
        resource_type: str,
        resource_id: str,
        body: Tags,
        caller: Caller = requires("cts:tag:delete", "tracker/{resource_id}"),
    ) -> None:
        """Remove tags by their keys, where a value is given only with that value; what is not there is no error."""
        async with platform.database.transaction() as tx:
            tracker = await _tagged(tx.session, caller.project_id, resource_type, resource_id)
            gone = {tag.key for tag in body.tags if tag.value in (None, "", tracker.tags.get(tag.key))}
            tracker.tags = {key: value for key, value in tracker.tags.items() if key not in gone}
            tx.session.add(tracker)
        caller.about(name=tracker.name)

    return router


async def _find(session: AsyncSession, project_id: str, kind: str, name: str) -> Tracker:
    query = select(Tracker).where(
        col(Tracker.project_id) == project_id, col(Tracker.kind) == kind, col(Tracker.name) == name
    )
    tracker = (await session.execute(query)).scalar()
    if tracker is None:
        raise NotFound(f"there is no {kind} tracker '{name}' in this project")
    return tracker


async def _tagged(session: AsyncSession, project_id: str, resource_type: str, id: str) -> Tracker:
    if resource_type != "cts-tracker":
        raise Invalid(f"resource_type: only 'cts-tracker' has tags here, not '{resource_type}'")
    tracker = await session.get(Tracker, id)
    if tracker is None or tracker.project_id != project_id:
        raise NotFound(f"there is no tracker '{id}' in this project")
    return tracker


async def _count(session: AsyncSession, project_id: str, kind: str) -> int:
    query = select(func.count()).where(col(Tracker.project_id) == project_id, col(Tracker.kind) == kind)
    return (await session.execute(query)).scalar_one()


async def _reserve(tx: Transaction, tracker: Tracker) -> None:
    query = select(col(Tracker.id)).where(
        col(Tracker.project_id) == tracker.project_id,
        col(Tracker.kind) == tracker.kind,
        col(Tracker.name) == tracker.name,
    )
    if (await tx.session.execute(query)).scalar() is not None:
        raise Conflict(f"there is a {tracker.kind} tracker '{tracker.name}' in this project; change it with PUT")
    if await _count(tx.session, tracker.project_id, tracker.kind) >= QUOTAS[tracker.kind]:
        raise QuotaExceeded(f"the project has {QUOTAS[tracker.kind]} {tracker.kind} trackers; delete one")


async def _prepare_buckets(platform: Platform, caller: Caller, tracker: Tracker, body: TrackerRequest) -> str | None:
    """Check the caller's rights on the buckets, and make the one for the copies where that is asked.

    Returns the name of the bucket that was made. Raises Forbidden, and Conflict when its name is taken.
    """
    info, made = body.obs_info, None
    if info and info.bucket_name and info.is_obs_created and info.bucket_name != tracker.bucket:
        await caller.check("obs:bucket:CreateBucket", f"obs:::bucket:{info.bucket_name}")
        async with platform.database.read() as session:
            taken = await session.get(Bucket, info.bucket_name) is not None
        if taken or info.bucket_name in await platform.objects.list_buckets():
            raise Conflict(f"there is a bucket '{info.bucket_name}'; name another, or say is_obs_created=false")
        await platform.objects.create_bucket(info.bucket_name)
        made = info.bucket_name
    elif info and info.bucket_name:
        await caller.check_path(ObjectPath(info.bucket_name, info.file_prefix_name or ""), write=True)
    if body.data_bucket and not tracker.data_bucket:
        await caller.check_path(ObjectPath(body.data_bucket.data_bucket_name))
    return made


def _set_bucket(tracker: Tracker, body: TrackerRequest) -> None:
    if body.data_bucket:
        tracker.data_bucket = body.data_bucket.data_bucket_name
    if (info := body.obs_info) is not None:
        if info.bucket_name != tracker.bucket:
            tracker.detail, tracker.status = "", "disabled" if tracker.status == "disabled" else "enabled"
        tracker.bucket, tracker.prefix = info.bucket_name or "", info.file_prefix_name or ""


async def _try(platform: Platform, caller: Caller, bucket: BucketToCheck) -> dict[str, Any]:
    path = ObjectPath(bucket.bucket_name, f"cts-check-{uuid.uuid4().hex}")
    answer: dict[str, Any] = {"error_code": None, "error_message": None, "response_code": 200, "success": True}
    try:
        await caller.check_path(path, write=True)
        await platform.objects.put(path, b"")
        await platform.objects.delete([path])
    except ApiError as e:
        answer = {"error_code": e.code, "error_message": e.message, "response_code": e.status, "success": False}
    return {**bucket.model_dump(), "check_bucket_response": answer}


def _urn(tracker: Tracker) -> str:
    return str(Urn("audit", tracker.project_id, "tracker", tracker.id))


def _json(tracker: Tracker) -> dict[str, Any]:
    info = {"is_obs_created": False, "bucket_lifecycle": None, **tracker.options.get("obs_info", {})}
    watched = tracker.options.get("data_bucket")
    return {
        "id": tracker.id,
        "tracker_type": tracker.kind,
        "tracker_name": tracker.name,
        "domain_id": tracker.account_id,
        "project_id": tracker.project_id,
        "status": tracker.status,
        "detail": tracker.detail,
        "agency_name": tracker.options.get("agency_name"),
        "create_time": tracker.created_at,
        "is_organization_tracker": False,
        "is_support_validate": tracker.options.get("is_support_validate", False),
        "is_support_trace_files_encryption": False,
        "kms_id": None,
        "management_event_selector": tracker.options.get("management_event_selector", {"exclude_service": []}),
        "lts": {"is_lts_enabled": False, "log_group_name": None, "log_topic_name": None},
        "obs_info": {**info, "bucket_name": tracker.bucket, "file_prefix_name": tracker.prefix}
        | {"is_authorized_bucket": bool(tracker.bucket)},
        "data_bucket": {**watched, "search_enabled": True} if watched else None,
        "tags": [{"key": key, "value": value} for key, value in tracker.tags.items()],
    }
