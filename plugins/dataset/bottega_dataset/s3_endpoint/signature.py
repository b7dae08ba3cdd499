"""AWS Signature Version 4, as S3 has it: reading and verifying a request's, and signing one's own (pure).

    canonical      = METHOD \\n PATH \\n QUERY \\n HEADERS \\n SIGNED \\n PAYLOAD HASH
    string to sign = AWS4-HMAC-SHA256 \\n date \\n day/region/s3/aws4_request \\n hex sha256(canonical)
    signature      = hex hmac(key of secret, day, region, s3, string to sign)

A signature stands in ``Authorization``, or in the query of a presigned URL.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import quote, unquote, urlsplit

from .errors import S3Denied, S3Error, S3Unsigned

ALGORITHM = "AWS4-HMAC-SHA256"
UNSIGNED = "UNSIGNED-PAYLOAD"
WINDOW_S = 900
_LONGEST_S = 7 * 86_400
_HEADER = re.compile(
    r"AWS4-HMAC-SHA256 +Credential=([^\s,]+), *SignedHeaders=([a-z0-9;!#$%&'*+.^_`|~-]+), *Signature=([0-9a-f]{64})"
)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PRESIGNED = ("X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders")
Query = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Signed:
    """A signature read from a request, to be verified once the secret key is known."""

    access_key: str
    security_token: str
    date: str
    scope: str
    payload: str
    """What ``X-Amz-Content-Sha256`` says: a SHA-256 in hex, UNSIGNED-PAYLOAD or STREAMING-…"""
    signature: str
    _canonical: str = field(repr=False)

    def verify(self, secret_key: str) -> None:
        """Raises S3Denied unless `secret_key` made this signature."""
        made = _sign(signing_key(secret_key, self.scope), self.date, self.scope, self._canonical)
        if not hmac.compare_digest(made, self.signature):
            raise S3Denied("SignatureDoesNotMatch", "the secret key is another, or the request was changed on its way")


def read(method: str, path: str, query: Query, headers: Mapping[str, str], now: float) -> Signed:
    """Read a request's signature.

    :param path: decoded; `query` decoded too, in the order it came; `headers` by lower-case name, repeated ones
        joined by commas.
    :param now: seconds since 1970.

    Raises S3Denied for one that is missing, malformed, too old or incomplete.
    """
    if "authorization" in headers:
        match = _HEADER.fullmatch(headers["authorization"])
        if match is None:
            raise S3Denied("AccessDenied", f"Authorization must be that of {ALGORITHM}")
        credential, names, signature = match.groups()
        date = headers.get("x-amz-date", "")
        token = headers.get("x-amz-security-token", "")
        payload = headers.get("x-amz-content-sha256", "")
        age = now - _seconds(date)
        if abs(age) > WINDOW_S:
            raise S3Denied("RequestTimeTooSkewed", f"X-Amz-Date is {abs(age):.0f} s off; check the clock")
        if not (_SHA256.fullmatch(payload) or payload == UNSIGNED or payload.startswith("STREAMING-")):
            raise S3Denied("AccessDenied", "X-Amz-Content-Sha256 must be the body's SHA-256, or say how it is signed")
        covered: Query = query
    elif any(name == "X-Amz-Signature" for name, _ in query):
        given = dict(query)
        missing = [name for name in _PRESIGNED if not given.get(name)]
        if missing or given["X-Amz-Algorithm"] != ALGORITHM:
            raise S3Denied("AuthorizationQueryParametersError", f"{missing[0] if missing else _PRESIGNED[0]} is wrong")
        credential, names, signature = (
            given[name] for name in ("X-Amz-Credential", "X-Amz-SignedHeaders", "X-Amz-Signature")
        )
        date, token, payload = given["X-Amz-Date"], given.get("X-Amz-Security-Token", ""), UNSIGNED
        _check_expiry(now - _seconds(date), given["X-Amz-Expires"])
        covered = [(name, value) for name, value in query if name != "X-Amz-Signature"]
    else:
        raise S3Unsigned("AccessDenied", "sign the request with an access key (AWS Signature Version 4)")
    access_key, _, scope = credential.partition("/")
    parts = scope.split("/")
    if len(parts) != 4 or parts[2:] != ["s3", "aws4_request"] or parts[0] != date[:8]:
        raise S3Denied("AccessDenied", "Credential must read <access key>/<yyyymmdd>/<region>/s3/aws4_request")
    signed = names.split(";")
    # Of a presigned URL too: whoever has it could make another request of it, such as a copy of another object.
    needed = {"host", *(name for name in headers if name.startswith("x-amz-"))}
    for name in sorted(needed - set(signed)):
        raise S3Denied("AccessDenied", f"the header {name} must be signed")
    absent = [name for name in signed if name not in headers]
    if absent:
        raise S3Denied("AccessDenied", f"the signed header {absent[0]} is not in the request")
    lines = {name: headers[name] for name in signed}
    return Signed(access_key, token, date, scope, payload, signature, canonical(method, path, covered, lines, payload))


def sign(
    method: str,
    path: str,
    query: Query,
    headers: Mapping[str, str],
    payload: str,
    *,
    access_key: str,
    secret_key: str,
    region: str,
    now: float,
) -> dict[str, str]:
    """`headers` (lower-case names, ``host`` among them) with what makes them a signed request."""
    date = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
    out = {**headers, "x-amz-date": date, "x-amz-content-sha256": payload}
    scope = f"{date[:8]}/{region}/s3/aws4_request"
    lines = {name: value for name, value in sorted(out.items()) if name == "host" or name.startswith("x-amz-")}
    signature = _sign(signing_key(secret_key, scope), date, scope, canonical(method, path, query, lines, payload))
    names = ";".join(lines)
    out["authorization"] = f"{ALGORITHM} Credential={access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
    return out


def presign(
    method: str,
    url: str,
    path: str,
    *,
    access_key: str,
    secret_key: str,
    security_token: str,
    expires_s: int,
    now: float,
) -> str:
    """A URL at which whoever has it may make one kind of request, for so long.

    :param url: of the endpoint's host, such as ``https://host:port``; `path` decoded, from the host on.
    """
    date = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
    scope = f"{date[:8]}/us-east-1/s3/aws4_request"
    query = [
        ("X-Amz-Algorithm", ALGORITHM),
        ("X-Amz-Credential", f"{access_key}/{scope}"),
        ("X-Amz-Date", date),
        ("X-Amz-Expires", str(expires_s)),
        ("X-Amz-Security-Token", security_token),
        ("X-Amz-SignedHeaders", "host"),
    ]
    text = canonical(method, path, query, {"host": urlsplit(url).netloc}, UNSIGNED)
    query.append(("X-Amz-Signature", _sign(signing_key(secret_key, scope), date, scope, text)))
    pairs = "&".join(f"{name}={quote(value, safe='~')}" for name, value in query)
    return f"{url}{encoded_path(path)}?{pairs}"


def canonical(method: str, path: str, query: Query, headers: Mapping[str, str], payload: str) -> str:
    """The canonical request; `path` and `query` decoded, `headers` those that are signed, in their order."""
    pairs = sorted((quote(name, safe="~"), quote(value, safe="~")) for name, value in query)
    lines = "".join(f"{name}:{' '.join(value.split())}\n" for name, value in headers.items())
    query_text = "&".join(f"{name}={value}" for name, value in pairs)
    return "\n".join((method, encoded_path(path), query_text, lines, ";".join(headers), payload))


def encoded_path(path: str) -> str:
    return quote(path, safe="/~")


def decoded_query(raw: bytes) -> list[tuple[str, str]]:
    """The parameters of a query; unlike in a form, a plus sign stays one."""
    pairs = (pair.partition("=") for pair in raw.decode("latin-1").split("&") if pair)
    return [(unquote(name), unquote(value)) for name, _, value in pairs]


def signing_key(secret_key: str, scope: str) -> bytes:
    key = b"AWS4" + secret_key.encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def _sign(key: bytes, date: str, scope: str, text: str) -> str:
    hashed = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
    return hmac.digest(key, f"{ALGORITHM}\n{date}\n{scope}\n{hashed}".encode(), "sha256").hex()


def _check_expiry(age: float, expires: str) -> None:
    if not expires.isascii() or not expires.isdigit() or not 1 <= int(expires[:9]) <= _LONGEST_S:
        raise S3Denied("AuthorizationQueryParametersError", f"X-Amz-Expires must be 1 to {_LONGEST_S} seconds")
    if age > int(expires):
        raise S3Denied("AccessDenied", "the presigned URL has expired")
    if age < -WINDOW_S:
        raise S3Denied("RequestTimeTooSkewed", f"the presigned URL is of {-age:.0f} s in the future; check the clock")


def _seconds(date: str) -> float:
    try:
        if re.fullmatch(r"[0-9]{8}T[0-9]{6}Z", date):
            return datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError as e:
        raise S3Error("InvalidArgument", f"X-Amz-Date: there is no time {date}") from e
    raise S3Denied("AccessDenied", "X-Amz-Date must be a UTC time written as 20260131T235959Z")
