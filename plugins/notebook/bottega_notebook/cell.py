"""Running code in a notebook from outside, through the platform's authenticated proxy.

::

    result = run_cell(Client.from_environment(), notebook_id, "6 * 7")
    print(result.text)  # 42
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from bottega.client import ApiFailure, Client, Unreachable

_ANSWER_S = 120.0


@dataclass(frozen=True)
class CellResult:
    """What a cell printed and returned, in order; `ok` is False when it raised, and `text` ends with the traceback."""

    ok: bool
    text: str


def run_cell(
    client: Client,
    notebook_id: str,
    code: str,
    *,
    on_output: Callable[[str], None] | None = None,
    timeout_s: float = _ANSWER_S,
) -> CellResult:
    """Run `code` in a fresh kernel of a running notebook; `on_output` gets each piece as it comes.

    Raises ApiFailure when the platform refuses, Unreachable when the kernel or the platform goes away, TimeoutError
    when the cell has not ended in time.
    """
    base = f"/notebooks/{client.project_id}/{notebook_id}"
    kernel = client.post(f"{base}/api/kernels", {"name": "python3", "path": ""})["id"]
    try:
        return _execute(client, f"{base}/api/kernels/{kernel}/channels", code, on_output, timeout_s)
    finally:
        client.delete(f"{base}/api/kernels/{kernel}")


def _execute(
    client: Client, path: str, code: str, on_output: Callable[[str], None] | None, timeout_s: float
) -> CellResult:
    url = client.url + path
    deadline = time.monotonic() + timeout_s
    request_id = uuid.uuid4().hex
    content = {"code": code, "silent": False, "store_history": False, "allow_stdin": False, "stop_on_error": True}
    pieces: list[str] = []
    ok = True
    try:
        with connect(
            "ws" + url.removeprefix("http"),
            additional_headers=_credentials(client, url),
            compression=None,
            max_size=None,
            proxy=None,
        ) as socket:
            socket.send(json.dumps(_message("execute_request", request_id, content)))
            while True:
                message = json.loads(socket.recv(timeout=deadline - time.monotonic(), decode=True))
                if message.get("parent_header", {}).get("msg_id") != request_id:
                    continue
                kind, body = message["msg_type"], message["content"]
                if kind == "status" and body["execution_state"] == "idle":
                    return CellResult(ok, "".join(pieces))
                ok = ok and kind != "error"
                piece = _text(kind, body)
                if piece:
                    pieces.append(piece)
                    if on_output:
                        on_output(piece)
    except InvalidStatus as e:
        answer = e.response
        try:
            told = json.loads(answer.body or b"")
        except ValueError:
            told = {}
        raise ApiFailure(
            answer.status_code,
            told.get("error_code", str(answer.status_code)),
            told.get("error_msg", "the connection to the kernel was refused"),
            answer.headers.get("X-Request-Id", ""),
        ) from e
    except (ConnectionClosed, OSError) as e:
        if isinstance(e, TimeoutError):
            raise TimeoutError(f"the cell has not ended within {timeout_s:g} s") from e
        raise Unreachable(f"the connection to the kernel broke: {e}") from e


def _credentials(client: Client, url: str) -> dict[str, str]:
    """The headers by which `client` authenticates a GET of `url`."""
    request = httpx.Request("GET", url, headers=client.http.headers)
    if client.http.auth is not None:
        request = next(client.http.auth.sync_auth_flow(request))
    wanted = ("x-auth-token", "authorization", "x-sdk-date")
    return {name: value for name, value in request.headers.items() if name.lower() in wanted}


def _message(kind: str, request_id: str, content: dict[str, Any]) -> dict[str, Any]:
    header = {
        "msg_id": request_id,
        "session": request_id,
        "username": "",
        "date": "",
        "msg_type": kind,
        "version": "5.3",
    }
    return {"channel": "shell", "header": header, "parent_header": {}, "metadata": {}, "content": content}


def _text(kind: str, body: dict[str, Any]) -> str:
    if kind == "stream":
        return str(body["text"])
    if kind in ("execute_result", "display_data"):
        return str(body["data"].get("text/plain", "")) + "\n"
    if kind == "error":
        return "\n".join(body["traceback"]) + "\n"
    return ""
