"""The outermost layer of the HTTP API: request ids, body limit, metrics, vendor-shaped errors, records of calls."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bottega.calls import CHANGING, Call, current_call
from bottega.context import acting
from bottega.errors import ApiError, Conflict, Invalid, NotFound, StorageFull, TooLarge, Unavailable, is_full_disk
from bottega.events import uuid7
from bottega.gateway import Limiter, check_unread
from bottega.malformed import explain
from bottega.settings import ServerSettings

if TYPE_CHECKING:
    from bottega.platform import Platform

log = structlog.get_logger("bottega.gateway")
_HEALTH = ("/healthz", "/readyz")


class Edge:
    """Outermost layer: request ids, context, body limit, metrics, and the record of refused and failed calls."""

    def __init__(self, app: ASGIApp, platform: Platform, settings: ServerSettings) -> None:
        self.app = app
        self.platform = platform
        self.max_body = settings.max_body_mb * 2**20
        self._unknown = Limiter(settings.records_of_unknown)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        client = scope.get("client")
        if not self.platform.shared.serving and not scope["path"].startswith(_HEALTH):
            await _not_yet(scope, receive, send)
            return
        call = Call(uuid7(), scope.get("method", "GET"), scope["path"], client[0] if client else None, scope)
        token = current_call.set(call)

        async def limited_receive() -> Message:
            message = await receive()
            if part := message.get("body"):
                call.received(part)
            if call.limit_body and call.body_bytes > self.max_body:
                raise TooLarge(f"the request body is larger than {self.max_body // 2**20} MB")
            return message

        async def stamped_send(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                call.status = message["status"]
                await self._settle(call)  # before the caller hears of it, so no record is lost by a crash
                message.setdefault("headers", []).append((b"x-request-id", call.request_id.encode()))
            await send(message)

        try:
            with (
                acting(request_id=call.request_id, source_ip=call.source_ip),
                structlog.contextvars.bound_contextvars(request_id=call.request_id),
            ):
                try:
                    await self.app(scope, limited_receive, stamped_send)
                except Exception:
                    # The framework raises again what its last handler has answered and logged.
                    if call.status < 500:
                        raise
        finally:
            current_call.reset(token)
            route = scope.get("route")
            template = getattr(route, "path", "unrouted")
            self.platform.metrics.request(call.method, template, call.status, time.perf_counter() - call.began)

    async def _settle(self, call: Call) -> None:
        refused = call.status in (401, 403, 429)
        changing = call.method in CHANGING and call.action is not None
        if not (refused or changing) or call.recorded_status == call.status:
            return
        call.recorded_status = call.status
        # Whoever floods, without credentials or held back already, floods neither the trail nor the disk.
        flooding = call.principal is None or call.status == 429
        if flooding and not await self._unknown.admits(f"address {call.source_ip}"):
            return
        try:
            async with self.platform.database.transaction() as tx:
                tx.speaking_as("core").emit(call.event(call.status), call.urn)
        except SQLAlchemyError as e:
            # Nothing was changed by this call (a change commits with its record); its answer still goes out.
            log.error("call not recorded", path=call.path, status=call.status, error=str(e))


async def _not_yet(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1013})
        return
    early = Unavailable("the platform is starting; try again in a moment")
    await JSONResponse(error_body(early), early.status)(scope, receive, send)


def error_body(error: ApiError) -> dict[str, Any]:
    return {**error.details, "error_code": error.code, "error_msg": error.message}


def install_error_handlers(app: FastAPI) -> None:
    """Give every failure the vendor's shape (sdk_spec §1.4)."""

    def answer(error: ApiError) -> JSONResponse:
        call = current_call.get()
        if call:
            call.code, call.reason = error.code, error.message
        return JSONResponse(error_body(error), error.status)

    def unfit(error: object) -> JSONResponse:
        log.info("value refused by the database", error=str(error))
        return answer(Invalid("a value holds what the database cannot: a NUL character, or a number out of range"))

    async def unread(request: Request, wrong: ApiError) -> ApiError:
        """What to answer to a body that is `wrong`: first of all that its sender may not do this."""
        try:
            await check_unread(request)
        except ApiError as refused:
            return refused
        return wrong

    @app.exception_handler(ApiError)
    async def api_error(_: Request, error: ApiError) -> JSONResponse:
        return answer(error)

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> JSONResponse:
        wrong = Invalid(explain(error, request.headers.get("content-type", "")))
        return answer(await unread(request, wrong))

    @app.exception_handler(IntegrityError)
    async def clash(_: Request, error: IntegrityError) -> JSONResponse:
        log.warning("constraint violated", error=str(error.orig))
        return answer(Conflict("something with this name or identity exists already"))

    @app.exception_handler(DataError)
    async def refused(_: Request, error: DataError) -> JSONResponse:
        return unfit(error.orig)

    @app.exception_handler(OverflowError)
    async def overflow(request: Request, error: OverflowError) -> JSONResponse:
        # What PostgreSQL refuses, the driver of SQLite does not even try.
        return unfit(error) if "SQLite" in str(error) else await unexpected(request, error)

    @app.exception_handler(HTTPException)
    async def framework(request: Request, error: HTTPException) -> JSONResponse:
        if isinstance(error.__cause__, ApiError):  # raised while the framework was reading the body
            return answer(error.__cause__)
        if error.status_code in (404, 405):
            wrong: ApiError = NotFound("there is no such API; see /openapi.json for those there are")
            wrong.code, wrong.status = "APIGW.0101", error.status_code
        else:
            wrong = Invalid(str(error.detail))
            wrong.status = error.status_code
            wrong = await unread(request, wrong)
        return answer(wrong)

    @app.exception_handler(ClientDisconnect)
    async def gone(_: Request, error: ClientDisconnect) -> JSONResponse:
        return answer(Invalid("the request ended before its body was complete"))

    @app.exception_handler(Exception)
    async def unexpected(_: Request, error: Exception) -> JSONResponse:
        if is_full_disk(error):
            log.error("the disk is full", error=str(error))
            return answer(StorageFull("no space is left on the disk of the platform; free some, then try again"))
        log.error("unhandled error", exc_info=error)
        return answer(ApiError("an error inside the platform; its log has the details under this request id"))
