"""The path of a prediction, as a plain ASGI application: no framework, no database, nothing awaited but the model."""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any

import orjson

from bottega.errors import ApiError, NotFound, TooLarge, Unauthenticated, Unavailable
from bottega_serving.dataplane.access import Access, Signature
from bottega_serving.dataplane.report import Report
from bottega_serving.dataplane.split import Split
from bottega_serving.dataplane.versions import Version

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

_JSON = (b"content-type", b"application/json")
_ID_CHARACTERS = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")


class MethodNotAllowed(NotFound):
    """The path has no such method."""

    status = 405
    code = "APIGW.0101"


class Application:
    """Answers ``/v1/infers/<service>`` and the paths below it that the models declare, and ``/healthz``.

    `access` and `split` are replaced whole when the platform publishes something new; until both are there the service
    is not ready.
    """

    def __init__(self, service_id: str, report: Report, max_body: int) -> None:
        self.access: Access | None = None
        self.split: Split[Version] | None = None
        self.report = report
        self._prefix = f"/v1/infers/{service_id}"
        self._max_body = max_body
        self._id_prefix = secrets.token_hex(8).encode() + b"-"
        self._served = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"this service speaks HTTP, not {scope['type']}")
        path: str = scope["path"]
        if path == "/healthz":
            await self._health(send)
            return
        token: bytes | None = None
        authorization = content_type = request_id = b""
        for name, value in scope["headers"]:
            if name == b"x-auth-token":
                token = value
            elif name == b"content-type":
                content_type = value
            elif name == b"authorization":
                authorization = value
            elif name == b"x-request-id":
                request_id = value
        if not request_id or len(request_id) > 64 or not _ID_CHARACTERS.issuperset(request_id):
            self._served += 1
            request_id = self._id_prefix + b"%x" % self._served
        try:
            version, body = await self._admit(scope, receive, path, token, authorization)
        except ApiError as refused:
            await _answer(send, refused.status, (_JSON,), _error(refused), request_id)
            return
        counts = version.counts
        counts.calls += 1
        version.active += 1
        began = time.perf_counter()
        try:
            answer = await version.model.predict(body, content_type.decode("latin-1"))
            status = 200
        except ApiError as failed:
            answer, status = _error(failed), failed.status
            if status >= 500:
                counts.failed += 1
        finally:
            version.active -= 1
            counts.seconds += time.perf_counter() - began
        await _answer(send, status, version.headers, answer, request_id)

    async def _admit(
        self, scope: Scope, receive: Receive, path: str, token: bytes | None, authorization: bytes
    ) -> tuple[Version, bytes]:
        """Authenticate, choose a version and read the body. Raises ApiError."""
        if not path.startswith(self._prefix):
            raise NotFound("there is no such service here")
        access, split = self.access, self.split
        if access is None or split is None:
            raise Unavailable("the service is being deployed; try again")
        client = scope.get("client")
        source_ip = client[0] if client else ""
        if token is None and authorization[:7].lower() == b"bearer ":
            token = authorization[7:].strip()
        signature: Signature | None = None
        try:
            if token is not None:
                access.check_token(token.decode("latin-1"), source_ip)
            elif authorization:
                signature = access.begin_signature(
                    scope["method"], scope["raw_path"], scope["query_string"], scope["headers"]
                )
            else:
                raise Unauthenticated("no credentials: send X-Auth-Token, or sign the request with an access key")
            body = await self._read(receive)
            if signature is not None:
                signature.finish(body, source_ip)
        except ApiError as refused:
            if refused.status in (401, 403):
                self._record(access, refused, scope, token, authorization, source_ip)
            raise
        version = split.choose()
        below = path[len(self._prefix) :] or "/"
        methods = version.methods.get(below)
        if methods is None:
            known = ", ".join(version.methods)
            raise NotFound(f"the model {version.name} has no path {below}; its config.json declares {known}")
        if scope["method"] not in methods:
            raise MethodNotAllowed(f"{below} takes {', '.join(sorted(methods))}")
        return version, body

    async def _read(self, receive: Receive) -> bytes:
        message = await receive()
        body: bytes = message.get("body", b"")
        if not message.get("more_body"):
            return body
        parts, size = [body], len(body)
        while message.get("more_body") and size <= self._max_body:
            message = await receive()
            parts.append(message.get("body", b""))
            size += len(parts[-1])
        if size > self._max_body:
            raise TooLarge(f"the request body is larger than {self._max_body >> 20} MB")
        return b"".join(parts)

    def _record(
        self, access: Access, refused: ApiError, scope: Scope, token: bytes | None, authorization: bytes, source_ip: str
    ) -> None:
        """Remember who was refused; a signature that is wrong names nobody, a key alone is no proof."""
        who = access.holder(token.decode("latin-1")) if token is not None else None
        if who is None and refused.status == 403:
            found = authorization.partition(b"Access=")[2].partition(b",")[0]
            user = access.user_of_key(found.decode("latin-1"))
            who = (user.id, user.name, user.account_id) if user else None
        user_id, user_name, account_id = who or (None, None, None)
        self.report.deny(
            status=refused.status,
            code=refused.code,
            reason=refused.message,
            method=scope["method"],
            path=scope["path"],
            source_ip=source_ip,
            user_id=user_id,
            user_name=user_name,
            account_id=account_id,
        )

    async def _health(self, send: Send) -> None:
        ready = self.access is not None and self.split is not None
        await _answer(
            send, 200 if ready else 503, (_JSON,), b'{"ready":%s}' % (b"true" if ready else b"false"), b"health"
        )


def _error(problem: ApiError) -> bytes:
    return orjson.dumps({"error_code": problem.code, "error_msg": problem.message})


async def _answer(
    send: Send, status: int, headers: tuple[tuple[bytes, bytes], ...], body: bytes, request_id: bytes
) -> None:
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [*headers, (b"x-request-id", request_id), (b"content-length", b"%d" % len(body))],
        }
    )
    await send({"type": "http.response.body", "body": body})
