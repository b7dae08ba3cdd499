"""Secrets and signatures as Standard Webhooks has them (https://www.standardwebhooks.com)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Iterable

from bottega.errors import Invalid

PREFIX = "whsec_"
_LEAST, _MOST = 24, 64


def new_secret() -> str:
    return PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def check_secret(secret: str) -> str:
    """Raises Invalid unless it is ``whsec_`` and 24 to 64 bytes in base64."""
    try:
        size = len(_key(secret)) if secret.startswith(PREFIX) else 0
    except (binascii.Error, ValueError):
        size = 0
    if not _LEAST <= size <= _MOST:
        raise Invalid(f"secret: write '{PREFIX}' and {_LEAST} to {_MOST} random bytes in base64, or leave it out")
    return secret


def headers(event_id: str, at_s: int, body: bytes, keys: Iterable[str]) -> list[tuple[str, str]]:
    """The three headers by which a receiver knows the sender, the time and the message; a signature for each secret."""
    message = f"{event_id}.{at_s}.".encode() + body
    signatures = (base64.b64encode(hmac.digest(_key(key), message, hashlib.sha256)).decode() for key in keys)
    return [
        ("webhook-id", event_id),
        ("webhook-timestamp", str(at_s)),
        ("webhook-signature", " ".join(f"v1,{signature}" for signature in signatures)),
    ]


def _key(secret: str) -> bytes:
    return base64.b64decode(secret.removeprefix(PREFIX), validate=True)
