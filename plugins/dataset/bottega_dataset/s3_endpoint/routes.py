"""``/s3``: the buckets of an account for any S3 client, with the access keys of its users and path-style addresses.

Every operation needs the right of its own on its bucket or object; what is allowed goes to the object store as it
comes, signed with the operator's keys.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, unquote
from xml.sax.saxutils import escape

import httpx
from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response, StreamingResponse
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException

from bottega.calls import current_call
from bottega.errors import ApiError, Unavailable
from bottega.gateway import Caller
from bottega.objects import ObjectPath
from bottega.platform import Platform
from bottega.routing import LateRoute
from bottega.urn import object_urn
from bottega_dataset import buckets
from bottega_dataset.object_events import ObjectEvents
from bottega_dataset.s3 import S3Store

from . import body as data
from . import deletion, errors, operations
from .access import Asked, SignedForS3
from .operations import Operation
from .upstream import Upstream

_METHODS = ["GET", "HEAD", "PUT", "POST", "DELETE"]
_SMALL = 2 * 2**20
_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
_NOT_RETURNED = {"connection", "date", "keep-alive", "server", "transfer-encoding", "x-amz-request-id", "x-amz-id-2"}
# A checksum is of the whole object, whatever part of it is returned; which pages may call is not the store's to say.
_NOT_RETURNED_PREFIXES = (b"x-amz-checksum-", b"access-control-")
_BUCKETS = Depends(SignedForS3("obs:bucket:ListAllMyBuckets", everyone=True, keep_body=False))
_BUCKET = Depends(SignedForS3("obs:bucket:ListBucket", everyone=True, keep_body=False))
_OBJECT = Depends(SignedForS3("obs:object:GetObject", everyone=True, keep_body=False, limit_body=False))


class _Xml(LateRoute):
    """Answers refusals as S3 does."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        inner = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                return await inner(request)
            except ApiError as e:
                error = e
            except HTTPException as e:  # raised while the framework was reading the request
                if not isinstance(e.__cause__, ApiError):
                    raise
                error = e.__cause__
            code, status = errors.named(error)
            call = current_call.get()
            assert call is not None
            call.code, call.reason = code, error.message
            response = errors.answer(code, error.message, status, request.url.path, call.request_id)
            if request.method in ("PUT", "POST"):
                # What of the body has not been read would be taken for the next request on this connection.
                response.headers["connection"] = "close"
            return response

        return handle


def router(platform: Platform, store: S3Store, events: ObjectEvents) -> APIRouter:
    routes = APIRouter(route_class=_Xml)
    endpoint = Endpoint(platform, store, events)

    @routes.api_route("/s3", methods=_METHODS, include_in_schema=False)
    @routes.api_route("/s3/", methods=_METHODS, include_in_schema=False)
    async def service(request: Request, caller: Caller = _BUCKETS) -> Response:
        return await endpoint.service(request, caller)

    @routes.api_route("/s3/{bucket}", methods=_METHODS, include_in_schema=False)
    async def bucket_(bucket: str, request: Request, caller: Caller = _BUCKET) -> Response:
        return await endpoint.bucket(request, caller, bucket)

    @routes.api_route("/s3/{bucket}/{key:path}", methods=_METHODS, include_in_schema=False)
    async def object_(bucket: str, key: str, request: Request, caller: Caller = _OBJECT) -> Response:
        if not key:
            return await endpoint.bucket(request, caller, bucket)
        return await endpoint.object(request, caller, ObjectPath.parse(f"s3://{bucket}/{key}", "key"))

    return routes


class Endpoint:
    """Checks each operation and passes it on to the store."""

    def __init__(self, platform: Platform, store: S3Store, events: ObjectEvents) -> None:
        self._platform = platform
        self._events = events
        self._store = store
        self._upstream = Upstream.of(platform)

    async def service(self, request: Request, caller: Caller) -> Response:
        """The buckets of the account."""
        asked = Asked.of(request)
        if request.method != "GET" or any(name not in ("x-id", "max-buckets") for name, _ in _own(asked)):
            raise errors.S3Error("NotImplemented", "only the list of buckets is offered here")
        await caller.check("obs:bucket:ListAllMyBuckets")
        found = await buckets.of_account(self._platform.database, caller.principal.account_id)
        rows = "".join(
            f"<Bucket><Name>{escape(b.name)}</Name><CreationDate>{_moment(b.created_at)}</CreationDate></Bucket>"
            for b in found
        )
        owner = f"<Owner><ID>{escape(caller.principal.account_id)}</ID></Owner>"
        return _xml("ListAllMyBucketsResult", f"{owner}<Buckets>{rows}</Buckets>")

    async def bucket(self, request: Request, caller: Caller, bucket: str) -> Response:
        asked = Asked.of(request)
        bucket = ObjectPath.parse(f"s3://{bucket}/", "bucket").bucket
        operation = operations.find(request.method, False, _own(asked))
        caller.call.describe(operation.action, self._platform.action(operation.action), request.scope.get("route"))
        caller.about(resource=object_urn(bucket), name=bucket)
        if operation.name == "CreateBucket":
            return await self._create_bucket(request, caller, bucket)
        if operation.name == "DeleteObjects":
            document = await _small(request, asked)
            answer, gone = await deletion.delete(self._upstream, caller, bucket, document)
            await self._events.removed(bucket, gone)
            return _done(caller, answer)
        given = dict(_own(asked))
        listed = {"obs:prefix": given.get("prefix", ""), "obs:delimiter": given.get("delimiter", "")}
        await buckets.check(caller, operation.action, bucket, context=listed if request.method == "GET" else None)
        if operation.name == "GetBucketLocation":
            return _xml("LocationConstraint", "")
        answer = await self._pass_on(operation, f"/{bucket}", asked, None)
        if operation.name == "DeleteBucket" and answer.status_code < 300:
            await buckets.remove(self._platform.database, bucket)
            self._platform.identity.invalidate()
            return answer
        return _done(caller, answer)

    async def object(self, request: Request, caller: Caller, path: ObjectPath) -> Response:
        asked = Asked.of(request)
        operation = operations.find(request.method, True, _own(asked))
        caller.call.describe(operation.action, self._platform.action(operation.action), request.scope.get("route"))
        caller.about(resource=path.urn, name=path.key)
        await buckets.check(caller, operation.action, path.bucket, path.key)
        await self._platform.check_standing(caller.principal, operation.action)
        headers: dict[str, str] = {}
        source = asked.headers.get("x-amz-copy-source")
        if source is not None:
            headers["x-amz-copy-source"] = await self._copied(operation, caller, source)
        body: AsyncIterator[bytes] | bytes | None = None
        if operation.writes:
            await self._store.check_key(path)
            size = data.length(asked.signed, asked.headers)
            if source is None:
                body = data.checked(request.stream(), asked.signed, asked.secret_key, asked.headers)
                if size == 0:
                    # An empty object is stored as soon as it is announced, so it is checked before.
                    body = b"".join([part async for part in body])
                headers["content-length"] = str(size)
        elif request.method == "POST":
            body = await _small(request, asked)
        answer = await self._pass_on(operation, f"/{path.bucket}/{path.key}", asked, body, headers, path)
        if answer.status_code < 300 and operation.name in ("PutObject", "CompleteMultipartUpload"):
            await self._events.written(path.bucket, [path.key])
        elif answer.status_code < 300 and operation.name == "DeleteObject":
            await self._events.removed(path.bucket, [path.key])
        return _done(caller, answer)

    async def _create_bucket(self, request: Request, caller: Caller, bucket: str) -> Response:
        await caller.check("obs:bucket:CreateBucket", object_urn(bucket))
        await self._platform.check_standing(caller.principal, "obs:bucket:CreateBucket")
        await _small(request, Asked.of(request))
        platform, account = self._platform, caller.principal.account_id
        await buckets.create(platform.database, platform.objects, bucket, account, caller.project_id)
        platform.identity.invalidate()
        return Response(headers={"location": f"/{bucket}"})

    async def _copied(self, operation: Operation, caller: Caller, source: str) -> str:
        """The source of a copy, as the store is told it. Raises Forbidden unless the caller may read it."""
        if not operation.writes:
            raise errors.S3Error("InvalidArgument", "x-amz-copy-source goes with a PUT only")
        named, _, version = source.partition("?")
        if version:
            raise errors.S3Error("NotImplemented", "versions of objects are not offered here")
        path = ObjectPath.parse(f"s3://{unquote(named).removeprefix('/')}", "x-amz-copy-source")
        await buckets.check(caller, "obs:object:GetObject", path.bucket, path.key)
        return quote(f"/{path.bucket}/{path.key}", safe="/~")

    async def _pass_on(
        self,
        operation: Operation,
        path: str,
        asked: Asked,
        body: AsyncIterator[bytes] | bytes | None,
        headers: Mapping[str, str] | None = None,
        written: ObjectPath | None = None,
    ) -> Response:
        kept = operations.passed_on(operation, asked.headers) | dict(headers or {})
        query = [(name, value) for name, value in _own(asked) if name != "x-id"]
        answer = await self._upstream.send(operation.method, path, query, kept, body)
        if answer.status_code in (401, 403):
            await answer.aclose()
            raise Unavailable("the object store refuses the platform's own keys; the operator must set them")
        if answer.status_code >= 500:
            return await self._failed(answer, operation, written)
        if operation.method == "POST":
            return await self._whole(answer)
        # The embedded server answers a range with 200.
        status = 206 if "content-range" in answer.headers and answer.status_code == 200 else answer.status_code
        response = StreamingResponse(answer.aiter_raw(), status, background=BackgroundTask(answer.aclose))
        response.raw_headers = _returned(answer)
        return response

    async def _failed(self, answer: httpx.Response, operation: Operation, written: ObjectPath | None) -> Response:
        text = (await answer.aread()).decode("utf-8", "replace")
        code = text.partition("<Code>")[2].partition("</Code>")[0]
        if written is not None and operation.action == "obs:object:PutObject":
            why = await self._store.why_failed(written, answer.status_code, code)
            if why is not None:
                raise why
        raise Unavailable(f"the object store failed: {answer.status_code} {code}")

    async def _whole(self, answer: httpx.Response) -> Response:
        """A small answer, in which the store's own address is replaced by that of this endpoint."""
        content = await answer.aread()
        content = content.replace(self._upstream.endpoint.encode(), f"{self._platform.url}/s3".encode())
        response = Response(content, answer.status_code)
        length = [(b"content-length", str(len(content)).encode())]
        response.raw_headers = [h for h in _returned(answer) if h[0] != b"content-length"] + length
        return response


def _own(asked: Asked) -> list[tuple[str, str]]:
    """The parameters of the operation, without those of the signature."""
    return [(name, value) for name, value in asked.query if not name.startswith("X-Amz-")]


async def _small(request: Request, asked: Asked) -> bytes:
    """A body that is read as a whole, checked. Raises S3Error for one that is longer than such bodies are."""
    if data.length(asked.signed, asked.headers) > _SMALL:
        raise errors.S3Error("EntityTooLarge", f"such a body has at most {_SMALL} bytes")
    parts = data.checked(request.stream(), asked.signed, asked.secret_key, asked.headers)
    return b"".join([part async for part in parts])


def _done(caller: Caller, response: Response) -> Response:
    """Objects are no operations of the platform: the trail holds the refused ones only."""
    caller.call.recorded_status = response.status_code
    response.headers["x-amz-request-id"] = caller.call.request_id
    return response


def _returned(answer: httpx.Response) -> list[tuple[bytes, bytes]]:
    headers = ((name.lower(), value) for name, value in answer.headers.raw)
    return [
        (name, value)
        for name, value in headers
        if name.decode() not in _NOT_RETURNED and not name.startswith(_NOT_RETURNED_PREFIXES)
    ]


def _xml(root: str, inside: str) -> Response:
    xml = f'<?xml version="1.0" encoding="UTF-8"?>\n<{root} xmlns="{_NAMESPACE}">{inside}</{root}>'
    return Response(xml, media_type="application/xml")


def _moment(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
