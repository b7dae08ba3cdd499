"""``/v1/{project_id}/buckets``: create and list buckets; list, read, write, delete and presign objects.

Rights are checked on the object's own resource name (``obs:*:*:object:bucket/key``), so every route is open to any
authenticated user up to that check.
"""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from bottega.context import now_ms
from bottega.errors import TooLarge
from bottega.gateway import Caller, requires
from bottega.objects import ObjectPath
from bottega.platform import Platform
from bottega.routing import Router
from bottega.urn import object_urn
from bottega_dataset import buckets
from bottega_dataset.object_events import ObjectEvents
from bottega_dataset.s3_endpoint.presigned import Presigned

_OBJECTS = "/v1/{project_id}/buckets/{bucket}/objects"
_READ_AT_ONCE = 32 * 2**20


class NewBucket(BaseModel):
    name: str


class PresignRequest(BaseModel):
    """Keys to presign, and what for. `expires_s` is in seconds."""

    keys: list[str] = Field(min_length=1, max_length=1000)
    method: Literal["GET", "PUT"] = "GET"
    expires_s: int = Field(900, ge=1, le=86400)


def router(platform: Platform, events: ObjectEvents, *, endpoint: bool) -> APIRouter:
    """`endpoint`: whether the platform speaks S3 itself, at ``/s3``."""
    routes = Router()

    @routes.post("/v1/{project_id}/buckets", status_code=201)
    async def create_bucket(
        body: NewBucket, caller: Caller = requires("obs:bucket:CreateBucket", everyone=True)
    ) -> Any:
        await caller.check("obs:bucket:CreateBucket", object_urn(body.name))
        caller.about(resource=object_urn(body.name), name=body.name)
        account = caller.principal.account_id
        made = await buckets.create(platform.database, platform.objects, body.name, account, caller.project_id)
        platform.identity.invalidate()
        return _bucket(made)

    @routes.get("/v1/{project_id}/buckets")
    async def list_buckets(caller: Caller = requires("obs:bucket:ListAllMyBuckets", everyone=True)) -> Any:
        await caller.check("obs:bucket:ListAllMyBuckets")
        found = await buckets.of_account(platform.database, caller.principal.account_id)
        return {"buckets": [_bucket(b) for b in found], "total_count": len(found)}

    @routes.get(_OBJECTS)
    async def list_objects(
        bucket: str,
        prefix: str = "",
        after: str = "",
        limit: int = Query(100, ge=1, le=1000),
        caller: Caller = requires("obs:bucket:ListBucket", everyone=True),
    ) -> Any:
        """Objects whose keys begin with `prefix`, in key order, from the one behind `after` on."""
        folder = _path(bucket, prefix) if prefix else ObjectPath(bucket)
        listed = {"obs:prefix": folder.key, "obs:delimiter": ""}
        await buckets.check(caller, "obs:bucket:ListBucket", bucket, context=listed)
        found = [o async for o in platform.objects.list(folder, start_after=after, limit=limit)]
        rows = [{"key": o.path.key, "size": o.size, "etag": o.etag, "modified_at": o.modified_at} for o in found]
        return {"objects": rows, "next_after": found[-1].path.key if len(found) == limit else None}

    @routes.put(_OBJECTS + "/{key:path}", status_code=201)
    async def put_object(
        bucket: str,
        key: str,
        request: Request,
        caller: Caller = requires("obs:object:PutObject", everyone=True, keep_body=False),
    ) -> Any:
        """Store the request's body; larger things go through a presigned URL."""
        path = _path(bucket, key)
        await buckets.check(caller, "obs:object:PutObject", bucket, key)
        caller.about(resource=path.urn, name=key)
        data = await request.body()
        kind = request.headers.get("content-type", "application/octet-stream")
        etag = await platform.objects.put(path, data, kind)
        await events.written(bucket, [key])
        return {"key": key, "size": len(data), "etag": etag}

    @routes.get(_OBJECTS + "/{key:path}")
    async def get_object(
        bucket: str, key: str, caller: Caller = requires("obs:object:GetObject", everyone=True)
    ) -> Response:
        path = _path(bucket, key)
        await buckets.check(caller, "obs:object:GetObject", bucket, key)
        size = (await platform.objects.head(path)).size
        if size > _READ_AT_ONCE:
            raise TooLarge(f"{path} has {size} bytes; get a presigned URL for more than {_READ_AT_ONCE // 2**20} MB")
        return Response(await platform.objects.get(path), media_type="application/octet-stream")

    @routes.delete(_OBJECTS + "/{key:path}", status_code=204, response_class=Response)
    async def delete_object(
        bucket: str, key: str, caller: Caller = requires("obs:object:DeleteObject", everyone=True)
    ) -> None:
        path = _path(bucket, key)
        await buckets.check(caller, "obs:object:DeleteObject", bucket, key)
        caller.about(resource=path.urn, name=key)
        await platform.objects.delete([path])
        await events.removed(bucket, [key])

    @routes.post("/v1/{project_id}/buckets/{bucket}/presigned-urls")
    async def presign(
        bucket: str, body: PresignRequest, caller: Caller = requires("obs:object:GetObject", everyone=True)
    ) -> Any:
        """URLs by which whoever holds them may read or write just these objects for a while.

        They are the store's own; of objects below a path that somebody watches, those for writing are the platform's,
        and end with the credential they were asked for with.
        """
        if body.method == "PUT":
            caller.about(trace="putObject")
        action = "obs:object:PutObject" if body.method == "PUT" else "obs:object:GetObject"
        for key in body.keys:
            await buckets.check(caller, action, bucket, key)
        paths = [_path(bucket, key) for key in body.keys]
        caller.about(resource=object_urn(bucket), name=bucket)
        own: Presigned | None = None
        urls = []
        for path in paths:
            if endpoint and body.method == "PUT" and await events.is_watched(path):
                own = own or Presigned(platform, caller.principal, body.expires_s)
                urls.append({"key": path.key, "url": own.put(path)})
            else:
                urls.append({"key": path.key, "url": platform.objects.presign(body.method, path, body.expires_s)})
        return {"urls": urls, "expires_at": now_ms() + body.expires_s * 1000}

    return routes


def _path(bucket: str, key: str) -> ObjectPath:
    return ObjectPath.parse(f"s3://{bucket}/{key}")


def _bucket(bucket: Any) -> dict[str, Any]:
    return {"name": bucket.name, "created_at": bucket.created_at}
