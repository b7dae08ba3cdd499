"""What of a request its record may keep: the parameters without secrets and personal data, cut to a size."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

import orjson

KEPT = 8 * 1024
"""Bytes of a body's JSON that are kept; of a longer one the beginning."""
HIDDEN = "***"

_SECRET = re.compile(
    r"passw(or)?d|passphrase|pwd|secret|token|credential|privatekey|apikey|accesskey|signature|authorization|cookie"
    r"|sessionkey|mfacode|verificationcode|email|phone|mobile"
)
_EXACTLY = {"access", "ak", "sk", "otp", "pin", "code"}
_HARMLESS = re.compile(r"(.*_)?id|name|.*_name|methods|.*_enabled|.*_type|.*_mode|duration_seconds|description")
_PERSONAL = re.compile(r"[^@\s/:]+@[^@\s/:]+\.[^@\s/:]+|\+[0-9][0-9 -]{6,20}")
_LOGIN_IN_URL = re.compile(r"(?<=://)[^/@\s]+(?=@)")


def describe(
    path: Mapping[str, Any], query: bytes, body: bytes | None, omitted: str | None = None
) -> dict[str, Any] | None:
    """The parameters of a request as ``{"path", "query", "body"}``, each only if there are any; None without any.

    Values of fields that by their name hold a secret (``password``, ``…token``, ``secret…``, at any depth), and
    what looks like an e-mail address or a telephone number, are replaced by ``***``. Of a body that is longer than
    `KEPT` its beginning is kept as text, and ``body_bytes`` says how long it was.

    :param omitted: why the body is not kept, said in its place.
    """
    asked = parse_qsl(query.decode("utf-8", "replace"), keep_blank_values=True)[:100] if query else []
    found: dict[str, Any] = {}
    if path:
        found["path"] = {name: _cut(str(value)) for name, value in _redact(dict(path)).items()}
    if asked:
        found["query"] = {_cut(name): _cut(value) for name, value in _redact(dict(asked)).items()}
    if omitted:
        found["body"] = f"[not kept: {omitted}]"
    elif body:
        found |= _body(body)
    return found or None


def _body(body: bytes) -> dict[str, Any]:
    try:
        text = orjson.dumps(_redact(orjson.loads(body)))
    except (orjson.JSONDecodeError, orjson.JSONEncodeError, RecursionError):
        return {"body": "[not kept: no JSON]"}
    if len(text) <= KEPT:
        return {"body": orjson.loads(text)}
    return {"body": text[:KEPT].decode("utf-8", "ignore"), "body_bytes": len(text)}


def _redact(value: Any, hidden: bool = False) -> Any:
    if isinstance(value, Mapping):
        return _redact_fields(value, hidden)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_redact(item, hidden) for item in value]
    if hidden and value is not None and not isinstance(value, bool):
        return HIDDEN
    if isinstance(value, str):
        return HIDDEN if _PERSONAL.fullmatch(value) else _LOGIN_IN_URL.sub(HIDDEN, value)
    return value


def _redact_fields(fields: Mapping[str, Any], hidden: bool) -> dict[str, Any]:
    # A pair such as {"name": "DB_PASSWORD", "value": …} says in a value what its other value is.
    named = any(isinstance(fields.get(key), str) and _is_secret(fields[key]) for key in ("name", "key"))
    redacted = {}
    for name, value in fields.items():
        secret = _is_secret(name) or (named and name in ("value", "default"))
        if hidden and not secret and _HARMLESS.fullmatch(name) and isinstance(value, str):
            redacted[name] = _redact(value)
        else:
            redacted[name] = _redact(value, hidden or secret)
    return redacted


def _is_secret(name: str) -> bool:
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    return plain in _EXACTLY or _SECRET.search(plain) is not None


def _cut(text: str) -> str:
    return text if len(text) <= 256 else f"{text[:256]}…"
