"""Request signing with access keys, as the official client does it (pure).

    canonical      = METHOD \\n PATH \\n QUERY \\n HEADERS \\n SIGNED \\n HASH
    string to sign = SDK-HMAC-SHA256 \\n X-Sdk-Date \\n hex sha256(canonical)
    signature      = hex hmac_sha256(secret key, string to sign)

The derived form, ``V11-HMAC-SHA256``, has one more line, ``date/region/service``, after the date and signs
with a key that HKDF derives from the access key, the secret key and that line.

A server reads the access key of a request, looks up its secret key and verifies:

    pending = begin(method, raw_path, query_string, headers, now=time.time())
    pending.finish(body, secret_key_of(pending.request.access_key))

``begin`` needs no body and no secret: it refuses malformed, old and incompletely signed requests before
anything is read. ``verify`` is both in one. Signed requests may be repeated inside the time window (equal
requests within a second have equal signatures), so what must happen once needs a guard of its own.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal
from urllib.parse import quote_from_bytes, unquote_to_bytes, urlsplit

Reason = Literal["malformed", "unsupported", "not signed", "outside the window", "bad signature"]

SDK = "SDK-HMAC-SHA256"
DERIVED = "V11-HMAC-SHA256"
UNSIGNED_PAYLOAD = b"UNSIGNED-PAYLOAD"
FOR_SIGNING = "signing"
"""The audience of security tokens: they go beside signatures and are good for nothing else."""

_AUTHORIZATION = re.compile(
    r"(SDK-HMAC-SHA256 +Access=|V11-HMAC-SHA256 +Credential=)([^\s,]+), *"
    r"SignedHeaders=([^\s,A-Z]+), *Signature=([0-9a-f]{64})"
)
_PLAIN_PATH = re.compile(rb"[A-Za-z0-9_.~/-]*")
_PLAIN = re.compile(rb"[A-Za-z0-9_.~-]*")
_DATE = re.compile(rb"[0-9]{8}T[0-9]{6}Z")
_SHA256 = re.compile(rb"[0-9a-f]{64}")
_HEADER = re.compile(r"[!#$%&'*+.^`|~0-9a-z-]+")
_EMPTY_HASH = hashlib.sha256(b"").hexdigest().encode()
_REQUIRED = (b"host", b"x-sdk-date")
# Present, they must be covered by the signature: else a stranger could add them.
_SIGNED_IF_PRESENT = frozenset({b"x-sdk-content-sha256", b"x-security-token", b"x-project-id", b"x-domain-id"})
# Proxies and HTTP libraries change or drop these on the way, so a client does not sign them.
_NEVER_SIGNED = frozenset(
    {
        "authorization",
        "connection",
        "content-length",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


class SignatureError(Exception):
    """A request's signature cannot be accepted; ``reason`` is for programs, ``message`` for people."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """An ``Authorization`` header. ``scope`` is ``date/region/service`` of the derived form, else empty."""

    algorithm: str
    access_key: str
    signed_headers: tuple[str, ...]
    signature: str
    scope: str = ""


@dataclass(frozen=True, slots=True)
class PendingSignature:
    """A request whose headers are in order; its signature awaits the body and the secret key.

    ``security_token`` is the token of temporary credentials (empty without): the caller of ``finish``
    checks that it belongs to the access key and is still valid.
    """

    request: SignedRequest
    security_token: str = field(repr=False)
    _date: bytes = field(repr=False)
    _canonical: bytes = field(repr=False)
    _content_hash: bytes | None = field(repr=False)

    def finish(self, body: bytes, secret_key: str) -> None:
        """Raise SignatureError("bad signature") unless ``secret_key`` made this signature for ``body``."""
        if not body:
            digest = _EMPTY_HASH
        elif self._content_hash == UNSIGNED_PAYLOAD:
            digest = UNSIGNED_PAYLOAD
        else:
            digest = hashlib.sha256(body).hexdigest().encode()
            if self._content_hash is not None and self._content_hash != digest:
                raise SignatureError("bad signature", "the body is not the one X-Sdk-Content-Sha256 was made of")
        expected = _signature(self.request, self._date, self._canonical + digest, secret_key)
        if not hmac.compare_digest(expected, self.request.signature):
            raise SignatureError(
                "bad signature",
                "the signature does not match: the secret key is another, or the request changed on its way",
            )


def parse_authorization(header: str) -> SignedRequest:
    """Read an ``Authorization`` header.

    Raises:
        SignatureError: "unsupported" for another algorithm, "malformed" for anything else that is wrong.
    """
    match = _AUTHORIZATION.fullmatch(header)
    if match is None:
        algorithm = header.partition(" ")[0]
        if algorithm not in (SDK, DERIVED) and re.fullmatch(r"(SDK|V11)-[A-Z0-9-]{1,40}", algorithm):
            raise SignatureError("unsupported", f"{algorithm} is not supported: sign with {SDK} or {DERIVED}")
        raise _malformed(f'Authorization must read "{SDK} Access=..., SignedHeaders=a;b, Signature=<64 hex digits>"')
    scheme, credential, names, signature = match.groups()
    signed = tuple(names.split(";"))
    if len(set(signed)) < len(signed) or not all(map(_HEADER.fullmatch, signed)):
        raise _malformed("SignedHeaders must be header names in lower case, each once, joined by semicolons")
    if scheme.startswith(SDK):
        return SignedRequest(SDK, credential, signed, signature)
    access_key, *scope = credential.split("/")
    if len(scope) != 3 or not all((access_key, *scope)):
        raise _malformed(f'{DERIVED} must have "Credential=<access key>/<yyyymmdd>/<region>/<service>"')
    return SignedRequest(DERIVED, access_key, signed, signature, "/".join(scope))


def begin(
    method: str,
    raw_path: bytes,
    query_string: bytes,
    headers: Iterable[tuple[bytes, bytes]],
    *,
    now: float,
    window_s: float = 900,
) -> PendingSignature:
    """Check everything about a signed request that needs neither its body nor the secret key.

    ``raw_path`` is the path as it was sent, before decoding; names in ``headers`` are lower case, values the
    bytes that arrived (as in ASGI); ``now`` is in seconds since 1970.

    Raises:
        SignatureError: "malformed", "unsupported", "not signed" (though it must be), "outside the window".
    """
    given: dict[bytes, bytes] = {}
    repeated: set[bytes] = set()
    for name, value in headers:
        if name in given:
            repeated.add(name)
        given[name] = value
    authorization = given.get(b"authorization")
    if authorization is None or b"authorization" in repeated:
        raise _malformed("the request needs exactly one Authorization header")
    request = parse_authorization(authorization.decode("latin-1"))

    signed = [name.encode() for name in request.signed_headers]
    for name in (*_REQUIRED, *(_SIGNED_IF_PRESENT & given.keys())):
        if name not in signed:
            raise SignatureError("not signed", f"the header {name.decode()} must be in SignedHeaders")
    lines = []
    for name in signed:
        if name not in given or name in repeated:
            raise _malformed(f"the signed header {name.decode()} must be in the request exactly once")
        lines.append(name + b":" + given[name].strip() + b"\n")

    date = given[b"x-sdk-date"].strip()
    age = now - _seconds(date)
    if abs(age) > window_s:
        when = "old" if age > 0 else "in the future"
        limit = f"at most {window_s:.0f} seconds are allowed: check the clock"
        raise SignatureError("outside the window", f"the request is {abs(age):.0f} seconds {when}, {limit}")
    if request.scope and not request.scope.startswith(date[:8].decode() + "/"):
        raise _malformed("the date in Credential must be that of X-Sdk-Date")
    content_hash = given.get(b"x-sdk-content-sha256")
    if content_hash is not None and content_hash != UNSIGNED_PAYLOAD and not _SHA256.fullmatch(content_hash):
        raise _malformed("X-Sdk-Content-Sha256 must be the body's SHA-256 in hex or UNSIGNED-PAYLOAD")
    canonical = _canonical(method, raw_path, query_string, lines, signed)
    token = given.get(b"x-security-token", b"").strip().decode("latin-1")
    return PendingSignature(request, token, date, canonical, content_hash)


def verify(
    method: str,
    raw_path: bytes,
    query_string: bytes,
    headers: Iterable[tuple[bytes, bytes]],
    body: bytes,
    secret_key: str,
    now: float,
    window_s: float = 900,
) -> SignedRequest:
    """Check a signed request as a whole: ``begin`` and then ``finish``, which see.

    Raises:
        SignatureError: with the reason.
    """
    pending = begin(method, raw_path, query_string, headers, now=now, window_s=window_s)
    pending.finish(body, secret_key)
    return pending.request


def sign(
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes | str | None,
    access_key: str,
    secret_key: str,
    *,
    security_token: str | None = None,
    now: float | None = None,
) -> dict[str, str]:
    """The headers to send a request with: those given, ``Host``, ``X-Sdk-Date`` and ``Authorization``.

    ``url`` is complete and percent-encoded, as it will be sent. All headers are signed but those that
    change on the way. ``now`` is in seconds since 1970, by default the present. Values are text; send them
    as UTF-8.
    """
    parts = urlsplit(url)
    ours = {"x-sdk-date", "x-security-token", "authorization"}
    out = {name: value for name, value in headers.items() if name.lower() not in ours}
    if not any(name.lower() == "host" for name in out):
        out["Host"] = parts.netloc.rpartition("@")[2]
    moment = datetime.fromtimestamp(time.time() if now is None else now, UTC)
    out["X-Sdk-Date"] = date = moment.strftime("%Y%m%dT%H%M%SZ")
    if security_token is not None:
        out["X-Security-Token"] = security_token

    values = {name.lower(): value.strip().encode() for name, value in out.items()}
    names = sorted(name for name in values if "_" not in name and name not in _NEVER_SIGNED)
    lines = [name.encode() + b":" + values[name] + b"\n" for name in names]
    signed = [name.encode() for name in names]
    canonical = _canonical(method, parts.path.encode(), parts.query.encode(), lines, signed)
    digest = hashlib.sha256(body.encode() if isinstance(body, str) else body or b"").hexdigest().encode()
    if body and values.get("x-sdk-content-sha256") == UNSIGNED_PAYLOAD:
        digest = UNSIGNED_PAYLOAD
    request = SignedRequest(SDK, access_key, tuple(names), "")
    signature = _signature(request, date.encode(), canonical + digest, secret_key)
    out["Authorization"] = f"{SDK} Access={access_key}, SignedHeaders={';'.join(names)}, Signature={signature}"
    return out


def temporary_access_key(token_id: str) -> str:
    """The access key that goes with a security token of this id: twenty characters, as those of permanent keys."""
    return f"TK{token_id.upper()}"


def temporary_secret(account_secret: bytes, token_id: str) -> str:
    """The secret key of a temporary access key (`bottega.tokens`: ``account_secrets``)."""
    return base64.urlsafe_b64encode(hmac.digest(account_secret, token_id.encode(), "sha256")).decode()[:40]


def _canonical(method: str, path: bytes, query: bytes, lines: list[bytes], signed: list[bytes]) -> bytes:
    """The canonical request up to the hash of the body."""
    if not _PLAIN_PATH.fullmatch(path):
        path = quote_from_bytes(unquote_to_bytes(path), safe="/~").encode()
    if not path.endswith(b"/"):
        path += b"/"
    parts = (method.upper().encode(), path, _canonical_query(query), b"".join(lines), b";".join(signed), b"")
    return b"\n".join(parts)


def _canonical_query(query: bytes) -> bytes:
    pairs = [pair.partition(b"=") for pair in query.split(b"&") if pair]
    decoded = sorted((_decoded(key), _decoded(value)) for key, _, value in pairs)
    return b"&".join(_quoted(key) + b"=" + _quoted(value) for key, value in decoded)


def _decoded(part: bytes) -> bytes:
    # Not as in a form: a plus sign stays one.
    return part if _PLAIN.fullmatch(part) else unquote_to_bytes(part)


def _quoted(part: bytes) -> bytes:
    return part if _PLAIN.fullmatch(part) else quote_from_bytes(part, safe="~").encode()


def _signature(request: SignedRequest, date: bytes, canonical: bytes, secret_key: str) -> str:
    key = secret_key.encode()
    lines = [request.algorithm.encode(), date]
    if request.scope:
        scope = request.scope.encode("latin-1")
        lines.append(scope)
        # HKDF (RFC 5869) for 32 bytes is one block; its hex text is the key.
        extracted = hmac.digest(request.access_key.encode("latin-1"), key, "sha256")
        key = hmac.digest(extracted, scope + b"\x01", "sha256").hex().encode()
    lines.append(hashlib.sha256(canonical).hexdigest().encode())
    return hmac.digest(key, b"\n".join(lines), "sha256").hex()


def _seconds(date: bytes) -> float:
    """Seconds since 1970 of an ``X-Sdk-Date``."""
    if _DATE.fullmatch(date):
        parts = (date[:4], date[4:6], date[6:8], date[9:11], date[11:13], date[13:15])
        year, month, day, hour, minute, second = map(int, parts)
        try:
            return datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp()
        except ValueError:
            pass
    raise _malformed("X-Sdk-Date must be a UTC time written as 20260131T235959Z")


def _malformed(message: str) -> SignatureError:
    return SignatureError("malformed", message)
