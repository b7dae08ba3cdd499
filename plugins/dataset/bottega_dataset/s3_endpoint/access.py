"""Who calls: by a signature of AWS's version 4, with a permanent or a temporary access key of the platform."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote

from starlette.requests import HTTPConnection

from bottega.calls import current_call
from bottega.context import Principal
from bottega.gateway import Requirement
from bottega.tokens import InvalidToken

from . import signature
from .errors import S3Denied, S3Error

if TYPE_CHECKING:
    from bottega.platform import Platform

_STATE = "bottega.s3"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request whose signature is right. `headers` by lower-case name; `path` and `query` decoded."""

    signed: signature.Signed
    secret_key: str
    headers: dict[str, str]
    query: list[tuple[str, str]]

    @classmethod
    def of(cls, connection: HTTPConnection) -> Asked:
        found: Asked = connection.scope[_STATE]
        return found


@dataclass(frozen=True, slots=True)
class SignedForS3(Requirement):
    """The check of every route of the endpoint. Rights granted in one project count for that project's credentials."""

    async def identify(self, platform: Platform, connection: HTTPConnection) -> Principal:
        scope = connection.scope
        headers: dict[str, str] = {}
        for raw_name, raw_value in scope["headers"]:
            # As UTF-8: that is what clients sign.
            name, value = raw_name.decode("latin-1"), raw_value.decode("utf-8", "surrogateescape").strip()
            headers[name] = f"{headers[name]},{value}" if name in headers else value
        query = signature.decoded_query(scope["query_string"])
        path = unquote(scope["raw_path"].decode("latin-1"), errors="surrogateescape")
        try:
            path.encode()
            signed = signature.read(scope["method"], path, query, headers, time.time())
        except UnicodeEncodeError as e:
            raise S3Error("InvalidURI", "the path must be UTF-8") from e
        try:
            key = await platform.identity.access_key(signed.access_key, signed.security_token)
        except InvalidToken as e:
            raise S3Denied("ExpiredToken" if "expired" in e.message else "InvalidToken", e.message) from e
        signed.verify(key.secret)
        scope[_STATE] = Asked(signed, key.secret, headers, query)
        call = current_call.get()
        if call is not None and key.principal.scope is not None:
            call.project = await platform.identity.check_project(key.principal, key.principal.scope)
        return key.principal
