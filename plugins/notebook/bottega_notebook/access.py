"""Who may reach a JupyterLab through the platform: by the API's credentials, or a browser's cookie for one notebook.

A browser comes with a one-time code (`Sessions.issue_code`), which becomes a cookie: a token of the platform limited
to opening that one notebook. It is revoked with its user's rights like any other token.
"""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from bottega.context import Principal
from bottega.errors import Forbidden, Unauthenticated
from bottega.gateway import Requirement, authenticate
from bottega.urn import Urn

if TYPE_CHECKING:
    from bottega.platform import Platform

ACTION = "modelarts:notebook:access"
COOKIE = "bottega-notebook"
_CODE_S = 60
_HARMLESS = ("GET", "HEAD", "OPTIONS")


class Sessions:
    """Codes live in memory only: they last a minute, and a restart of the platform costs a click."""

    def __init__(self, platform: Platform, session_s: float) -> None:
        self._platform = platform
        self._session_s = session_s
        self._codes: dict[str, tuple[Principal, str, float]] = {}

    def issue_code(self, principal: Principal, notebook_id: str) -> str:
        """A code that opens one notebook, once, within a minute."""
        now = time.monotonic()
        self._codes = {code: kept for code, kept in self._codes.items() if kept[2] > now}
        code = secrets.token_urlsafe(24)
        self._codes[code] = principal, notebook_id, now + _CODE_S
        return code

    def redeem(self, code: str, notebook_id: str) -> Principal:
        """Raises Unauthenticated for a code that is unknown, used, too old, or of another notebook."""
        principal, opened, until = self._codes.pop(code, (None, "", 0.0))
        if principal is None or opened != notebook_id or until < time.monotonic():
            raise Unauthenticated("this link has been used or is older than a minute; open the notebook again")
        return principal

    def cookie(self, principal: Principal, project_id: str, notebook_id: str) -> tuple[str, int]:
        """The value of the cookie and how many seconds it is good for."""
        urn = str(Urn(self._platform.name, project_id, "instance", notebook_id))
        limits = {"Version": "1.1", "Statement": [{"Effect": "Allow", "Action": [ACTION], "Resource": [urn]}]}
        scoped = replace(principal, scope=project_id)
        token = self._platform.identity.issue_token(scoped, self._session_s, session_policy=json.dumps(limits))
        return token, int(self._session_s)


@dataclass(frozen=True, slots=True)
class ByCode(Requirement):
    """The check of the link that a browser opens."""

    sessions: Sessions = field(kw_only=True)

    async def identify(self, platform: Platform, connection: HTTPConnection) -> Principal:
        principal = self.sessions.redeem(connection.query_params.get("code", ""), connection.path_params["notebook_id"])
        await platform.identity.user(principal.user_id)  # may have been disabled in this minute
        return principal


@dataclass(frozen=True, slots=True)
class ByCredentialsOrCookie(Requirement):
    """The check of everything behind the proxy."""

    async def identify(self, platform: Platform, connection: HTTPConnection) -> Principal:
        headers = connection.headers
        cookie = connection.cookies.get(COOKIE)
        if cookie is None or "x-auth-token" in headers or "authorization" in headers:
            return await authenticate(platform, connection)
        # A browser sends the cookie for foreign pages, too: of other ports of this host, and to open a websocket.
        if connection.scope["type"] == "websocket" or connection.scope["method"] not in _HARMLESS:
            origin = urlsplit(headers.get("origin", "")).netloc
            if origin not in (headers.get("host"), urlsplit(platform.url).netloc):
                raise Forbidden(f"a page of '{headers.get('origin', 'no origin')}' may not use this notebook")
        return await platform.identity.authenticate_token(cookie)
