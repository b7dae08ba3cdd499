"""The plugin ``store-s3``: object storage on S3, the buckets of an account, and objects over the API."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING

from bottega.hookspecs import hookimpl
from bottega.plugins import Action

if TYPE_CHECKING:
    import typer
    from fastapi import APIRouter

    from bottega.bus import Bus
    from bottega.events import Event
    from bottega.objects import ObjectStore
    from bottega.platform import Platform

_ACTIONS = (
    Action("obs:bucket:CreateBucket", "Create buckets", "bucket", "createBucket"),
    Action("obs:bucket:ListAllMyBuckets", "List the account's buckets", "bucket", "listBuckets"),
    Action("obs:bucket:ListBucket", "List the objects of a bucket", "bucket", "listObjects"),
    Action("obs:bucket:HeadBucket", "See whether a bucket is there", "bucket"),
    Action("obs:bucket:GetBucketLocation", "See where a bucket is", "bucket"),
    Action("obs:bucket:ListBucketMultipartUploads", "List uploads that are not complete", "bucket"),
    Action("obs:bucket:DeleteBucket", "Delete empty buckets", "bucket", "deleteBucket"),
    Action("obs:object:GetObject", "Read objects", "object", "getObject"),
    Action("obs:object:PutObject", "Write objects", "object", "putObject"),
    Action("obs:object:DeleteObject", "Delete objects", "object", "deleteObject"),
    Action("obs:object:ListMultipartUploadParts", "List the parts of an upload", "object"),
    Action("obs:object:AbortMultipartUpload", "Give up an upload", "object", "abortMultipartUpload"),
)


@hookimpl
def bottega_object_stores(platform: Platform) -> ObjectStore:
    from bottega_dataset.s3 import S3Store

    shared = platform.shared
    assert shared.s3 is not None, "the runtime knows the object store's address before it asks for stores"
    embedded = shared.plugins.settings.objects.endpoint is None
    return S3Store(**shared.s3, keeps_files=embedded)


@hookimpl
def bottega_actions() -> Iterable[Action]:
    return _ACTIONS


@hookimpl
def bottega_events() -> Iterable[type[Event]]:
    from bottega_dataset.buckets import BucketCreated
    from bottega_dataset.object_events import ObjectsRemoved, ObjectsWritten

    return [BucketCreated, ObjectsWritten, ObjectsRemoved]


@hookimpl
def bottega_subscribe(bus: Bus, platform: Platform) -> None:
    from bottega.backends import WorkloadFinished
    from bottega_dataset.object_events import ObjectEvents

    bus.on_external(WorkloadFinished, ObjectEvents(platform).on_finished)


@hookimpl
def bottega_routes(platform: Platform) -> APIRouter:
    from bottega.routing import join
    from bottega_dataset import bucket_routes
    from bottega_dataset.object_events import ObjectEvents
    from bottega_dataset.s3 import S3Store
    from bottega_dataset.s3_endpoint import routes

    events = ObjectEvents(platform)
    store = platform.shared.objects
    router = bucket_routes.router(platform, events, endpoint=isinstance(store, S3Store))
    return join(router, routes.router(platform, store, events)) if isinstance(store, S3Store) else router


@hookimpl
def bottega_lifespan(platform: Platform) -> AbstractAsyncContextManager[None]:
    from bottega_dataset.s3_endpoint.upstream import Upstream

    @asynccontextmanager
    async def running() -> AsyncIterator[None]:
        upstream = Upstream.of(platform)
        try:
            yield
        finally:
            await upstream.close()

    return running()


@hookimpl
def bottega_commands(cli: typer.Typer) -> None:
    from bottega_dataset import bucket_commands

    cli.add_typer(bucket_commands.objects, name="objects")
