"""URLs of the platform's own S3 endpoint."""

from __future__ import annotations

import time

from bottega.context import Principal
from bottega.objects import ObjectPath
from bottega.platform import Platform

from .signature import presign


class Presigned:
    """URLs that somebody asked for at one time: signed with a temporary key of theirs, which nobody gets to see."""

    def __init__(self, platform: Platform, principal: Principal, expires_s: int) -> None:
        self._url = platform.url
        self._expires_s = expires_s
        self._key = platform.identity.tokens.issue_temporary_key(principal, expires_s)

    def put(self, path: ObjectPath) -> str:
        return presign(
            "PUT",
            self._url,
            f"/s3/{path.bucket}/{path.key}",
            access_key=self._key.access_key,
            secret_key=self._key.secret_key,
            security_token=self._key.security_token,
            expires_s=self._expires_s,
            now=time.time(),
        )
