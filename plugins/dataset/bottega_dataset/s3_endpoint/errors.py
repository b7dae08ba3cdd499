"""Errors as S3 clients expect them: a code of S3, a status, and XML."""

from __future__ import annotations

from xml.sax.saxutils import escape

from fastapi.responses import Response

from bottega.errors import (
    ApiError,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    StorageFull,
    TooLarge,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
)

_STATUS = {
    "NotImplemented": 501,
    "MissingContentLength": 411,
    "EntityTooLarge": 413,
    "NoSuchBucket": 404,
    "ServiceUnavailable": 503,
}
# What the platform's own errors are called in S3, the first that fits.
_CODES: tuple[tuple[type[ApiError], str, int | None], ...] = (
    (NotFound, "NoSuchBucket", None),
    (Unauthenticated, "InvalidAccessKeyId", 403),
    (Forbidden, "AccessDenied", None),
    (Conflict, "BucketAlreadyExists", None),
    (TooLarge, "EntityTooLarge", None),
    (TooManyRequests, "SlowDown", 503),
    (StorageFull, "StorageFull", None),
    (Unavailable, "ServiceUnavailable", None),
    (Invalid, "InvalidArgument", None),
)


class S3Error(Invalid):
    """A request that this endpoint does not take."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.status = _STATUS.get(code, 400)


class S3Denied(Unauthenticated):
    """A signature or credential that is not good."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.status = _STATUS.get(code, 403)


class S3Unsigned(S3Denied):
    """A request without any signature."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.status = 401


def named(error: ApiError) -> tuple[str, int]:
    """The S3 code and status of an error."""
    if isinstance(error, S3Error | S3Denied):
        return error.code, error.status
    for kind, code, status in _CODES:
        if isinstance(error, kind):
            return code, status or error.status
    return ("AccessDenied" if error.status == 403 else "InternalError"), error.status


def answer(code: str, message: str, status: int, resource: str, request_id: str) -> Response:
    """An error as S3 writes it."""
    xml = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{escape(code)}</Code><Message>{text(message)}</Message>"
        f"<Resource>{text(resource)}</Resource><RequestId>{escape(request_id)}</RequestId></Error>"
    )
    return Response(xml, status, media_type="application/xml", headers={"x-amz-request-id": request_id})


def text(value: str) -> str:
    """`value` as XML text; characters that XML 1.0 cannot hold are replaced."""
    return escape("".join(c if c in "\t\n\r" or ord(c) >= 32 else "?" for c in value))
