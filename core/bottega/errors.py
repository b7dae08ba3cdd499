"""Errors that reach a user. Each class knows its HTTP status and its stable ``error_code``.

    BottegaError
    ├── ConfigError            the operator's configuration is wrong; the platform does not start
    ├── PluginError            a plugin broke its contract (wraps foreign code)
    └── ApiError               becomes ``{"error_code", "error_msg"}`` (official client, sdk_spec §1.4)
        ├── Invalid            400  the request is malformed or breaks a rule
        │   └── NotSupported   400  a call the vendor's clients know and this platform does not offer
        ├── Unauthenticated    401  no, unknown, expired or tampered credentials
        ├── Forbidden          403  authenticated, but no policy allows it
        ├── QuotaExceeded      403  a limit of the account is reached
        ├── InArrears          403  the account owes money
        ├── NotFound           404
        ├── Conflict           409  a name is taken, or the state does not permit it
        ├── TooLarge           413
        ├── TooManyRequests    429
        ├── Unavailable        503  a part the request needs is away; trying again helps
        └── StorageFull        507  no space is left on a disk

Plugins subclass the leaves to give their own ``code``; they never subclass the roots.
"""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any


class BottegaError(Exception):
    """Root of everything the platform raises on purpose."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message or (self.__doc__ or "").strip())

    @property
    def message(self) -> str:
        return str(self.args[0])


class ConfigError(BottegaError):
    """The configuration is wrong."""


class PluginError(BottegaError):
    """A plugin broke its contract."""


class ApiError(BottegaError):
    """An error with a place in the HTTP API."""

    status = 500
    code = "ModelArts.0100"
    details: Mapping[str, Any] = MappingProxyType({})
    """Further fields of the answer, beside ``error_code`` and ``error_msg``."""


class Invalid(ApiError):
    """The request breaks a rule."""

    status = 400
    code = "ModelArts.0101"


class NotSupported(Invalid):
    """The vendor's clients know this call; this platform does not offer it."""

    code = "ModelArts.0112"


class Unauthenticated(ApiError):
    """The request carries no valid credentials."""

    status = 401
    code = "APIGW.0301"


class Forbidden(ApiError):
    """No policy allows this."""

    status = 403
    code = "ModelArts.0103"


class QuotaExceeded(ApiError):
    """A limit of the account is reached."""

    status = 403
    code = "ModelArts.0110"


class InArrears(ApiError):
    """The account owes money; what costs more is refused until it is recharged (000 §7, table 7-2)."""

    status = 403
    code = "ModelArts.0111"


class NotFound(ApiError):
    """There is no such thing here."""

    status = 404
    code = "ModelArts.0104"


class Conflict(ApiError):
    """The name is taken or the state does not permit this."""

    status = 409
    code = "ModelArts.0105"


class TooLarge(ApiError):
    """The request body is larger than the limit."""

    status = 413
    code = "ModelArts.0106"


class TooManyRequests(ApiError):
    """Too many requests; try again later."""

    status = 429
    code = "ModelArts.0107"


class Unavailable(ApiError):
    """A part this request needs is away; try again."""

    status = 503
    code = "ModelArts.0108"


class StorageFull(ApiError):
    """No space is left on the disk of the platform."""

    status = 507
    code = "ModelArts.0109"


_POSTGRESQL_DISK_FULL = "53100"


def is_full_disk(error: BaseException | None) -> bool:
    """Whether `error`, or what it was raised from, says that a disk is full.

    ENOSPC, EDQUOT, SQLITE_FULL, and PostgreSQL's ``disk_full`` (53100).
    """
    while error is not None:
        # What the driver raised, of what SQLAlchemy made of it: raised again from something else, its cause is that.
        driver = getattr(error, "orig", None) or error
        if isinstance(driver, OSError) and driver.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if isinstance(driver, sqlite3.Error) and getattr(driver, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            return True
        if getattr(driver, "sqlstate", None) == _POSTGRESQL_DISK_FULL:
            return True
        error = error.__cause__ or error.__context__
    return False
