"""The Python client: signed or token-authenticated HTTP to a platform, with its errors as exceptions.

::

    from bottega.client import Client
    client = Client.from_environment()
    for job in client.pages("/v2/{project_id}/training-jobs", "items"):
        print(job["metadata"]["name"])
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx

from bottega import signing
from bottega.errors import ConfigError

CREDENTIALS_VARIABLE = "BOTTEGA_CREDENTIALS"
DEFAULT_CREDENTIALS = Path("bottega-data/credentials.json")


class ApiFailure(Exception):
    """The platform refused or failed. `status`, `error_code`, `message` and `request_id` say how.

    `details` is what else the answer says, such as the ``conflicts`` of a change that was made from an old state.
    """

    def __init__(
        self,
        status: int,
        error_code: str,
        message: str,
        request_id: str,
        details: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        super().__init__(f"{message} ({error_code}, request {request_id})")
        self.status = status
        self.error_code = error_code
        self.message = message
        self.request_id = request_id
        self.details = details


class Unreachable(Exception):
    """Nothing answers at the platform's address."""


class SigningAuth(httpx.Auth):
    """Signs each request with an access key (SDK-HMAC-SHA256)."""

    requires_request_body = True

    def __init__(self, access_key: str, secret_key: str, security_token: str | None = None) -> None:
        self._keys = (access_key, secret_key)
        self._security_token = security_token

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        headers = {"Content-Type": request.headers["Content-Type"]} if "Content-Type" in request.headers else {}
        if headers and not headers["Content-Type"].startswith("application/json"):
            # Bodies that are not JSON (uploads) are not hashed, as the official client does (sdk_spec §1.2).
            headers["X-Sdk-Content-Sha256"] = "UNSIGNED-PAYLOAD"
        token = self._security_token
        url, body = str(request.url), request.content
        signed = signing.sign(request.method, url, headers, body, *self._keys, security_token=token)
        request.headers.update(signed)
        yield request


class RenewedToken(httpx.Auth):
    """The token of the workload this process runs in, read again whenever the platform has renewed its file."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._read_at = -1.0
        self._token = ""

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        changed = self._file.stat().st_mtime
        if changed != self._read_at:
            self._token, self._read_at = json.loads(self._file.read_text("utf-8"))["token"], changed
        request.headers["X-Auth-Token"] = self._token
        yield request


class Client:
    """Talks to one project of a platform. ``{project_id}`` in paths is filled in.

    Authenticates with an access key, or with `token`.
    """

    def __init__(
        self,
        url: str,
        project_id: str,
        access_key: str | None = None,
        secret_key: str | None = None,
        token: str | None = None,
        timeout_s: float = 60,
        auth: httpx.Auth | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self.project_id = project_id
        if access_key and secret_key and not token:
            auth = SigningAuth(access_key, secret_key)
        headers = {"X-Auth-Token": token} if token else {}
        self.http = httpx.Client(base_url=self.url, auth=auth, headers=headers, timeout=timeout_s)

    @classmethod
    def from_environment(cls) -> Client:
        """The platform of this process: inside a workload the platform's own, elsewhere that of the credentials file.

        Reads ``BOTTEGA_PROJECT_ID`` with ``BOTTEGA_ACCESS_FILE`` (address and renewed token) or with ``BOTTEGA_URL``
        and ``BOTTEGA_TOKEN``, else the file named by ``BOTTEGA_CREDENTIALS`` (default
        ``bottega-data/credentials.json``). Raises Unreachable when there is neither.
        """
        token, access = os.environ.get("BOTTEGA_TOKEN"), os.environ.get("BOTTEGA_ACCESS_FILE")
        if access:
            # The file's address, not BOTTEGA_URL: a platform that was restarted may listen elsewhere.
            url = json.loads(Path(access).read_text("utf-8"))["url"]
            return cls(url, os.environ["BOTTEGA_PROJECT_ID"], auth=RenewedToken(Path(access)))
        if token:
            return cls(os.environ["BOTTEGA_URL"], os.environ["BOTTEGA_PROJECT_ID"], token=token)
        return cls.from_file(Path(os.environ.get(CREDENTIALS_VARIABLE, DEFAULT_CREDENTIALS)))

    @classmethod
    def from_file(cls, path: Path) -> Client:
        """Reads a ``credentials.json``. Raises Unreachable when there is none, ConfigError when it is no such file."""
        try:
            known = json.loads(path.read_text("utf-8"))
        except OSError as e:
            raise Unreachable(
                f"no credentials at {path} ({e.strerror}); start a platform with `bottega up`, "
                f"or set {CREDENTIALS_VARIABLE} to the credentials.json of a running one"
            ) from e
        except ValueError as e:
            raise ConfigError(f"{path} is not a credentials file: it is not JSON ({e})") from e
        needed = ("url", "project_id", "access_key", "secret_key")
        missing = [key for key in needed if not (isinstance(known, dict) and isinstance(known.get(key), str))]
        if missing:
            raise ConfigError(f"{path} is not a credentials file: it holds no '{missing[0]}'")
        url, project_id, access_key, secret_key = (known[key] for key in needed)
        # A temporary key (`bottega keys temporary`) goes with its token.
        return cls(url, project_id, auth=SigningAuth(access_key, secret_key, known.get("security_token")))

    def request(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        """Send a request. Raises ApiFailure for an error answer, Unreachable when there is none."""
        try:
            response = self.http.request(method, path.replace("{project_id}", self.project_id), **arguments)
        except httpx.TransportError as e:
            raise Unreachable(f"cannot reach {self.url}: {e}") from e
        if response.status_code >= 400:
            raise failure(response)
        return response

    def get(self, path: str, params: Mapping[str, Any] | None = None) -> Any:
        present = {k: v for k, v in (params or {}).items() if v is not None}
        return _body(self.request("GET", path, params=present or None))

    def post(self, path: str, json: Any = None) -> Any:
        return _body(self.request("POST", path, json=json))

    def put(self, path: str, json: Any = None) -> Any:
        return _body(self.request("PUT", path, json=json))

    def delete(self, path: str, json: Any = None) -> Any:
        return _body(self.request("DELETE", path, json=json))

    def pages(
        self, path: str, key: str, params: Mapping[str, Any] | None = None, limit: int = 50
    ) -> Iterator[dict[str, Any]]:
        """Every row of a list whose answer holds its rows under `key`, fetched page by page by row offset."""
        offset = 0
        while True:
            rows = self.get(path, {**(params or {}), "offset": offset, "limit": limit}).get(key) or []
            yield from rows
            if len(rows) < limit:
                return
            offset += len(rows)

    def lines(self, path: str, params: Mapping[str, Any] | None = None) -> Iterator[Any]:
        """The objects of a JSON-lines answer, as they come; ends when the platform ends it."""
        try:
            with self.http.stream(
                "GET",
                path.replace("{project_id}", self.project_id),
                params=params,
                timeout=httpx.Timeout(60, read=None),
            ) as response:
                if response.status_code >= 400:
                    response.read()
                    raise failure(response)
                for line in response.iter_lines():
                    yield json.loads(line)
        except httpx.TransportError as e:
            raise Unreachable(f"the connection to {self.url} broke: {e}") from e

    def close(self) -> None:
        self.http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def failure(response: httpx.Response) -> ApiFailure:
    """The error an answer carries."""
    details: dict[str, Any] = {}
    try:
        body = response.json()
        code, message = str(body["error_code"]), str(body["error_msg"])
        details = {key: value for key, value in body.items() if key not in ("error_code", "error_msg")}
    except (ValueError, KeyError, TypeError):
        code, message = str(response.status_code), response.text[:500]
    return ApiFailure(response.status_code, code, message, response.headers.get("X-Request-Id", ""), details)


def _body(response: httpx.Response) -> Any:
    return response.json() if response.content else None
