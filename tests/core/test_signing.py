"""Request signing against the vendor's own SDK as the reference, and against tampering."""

from __future__ import annotations

import threading
import timeit
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.sdk_request import SdkRequest
from huaweicloudsdkmodelarts.v1 import (
    CreateTrainingJobRequest,
    DeleteImageRequest,
    DeleteImageRequestBody,
    Job,
    JobAlgorithm,
    JobMetadata,
    ListNotebooksRequest,
    ModelArtsClient,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from bottega.signing import SignatureError, begin, parse_authorization, sign, verify

ACCESS, SECRET, PROJECT = "AKIAEXAMPLE0123456789", "secret/key+with=signs", "0a1b2c3d4e5f"
NOW = datetime(2026, 11, 20, 11, 30, 20, tzinfo=UTC).timestamp()
DATE = "20261120T113020Z"


@dataclass(frozen=True)
class Sent:
    """A request as a server gets it."""

    method: str
    path: bytes
    query: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    def verify(self, secret: str = SECRET, now: float = NOW) -> str:
        request = verify(self.method, self.path, self.query, self.headers, self.body, secret, now)
        return request.access_key

    def header(self, name: bytes) -> bytes:
        return dict(self.headers)[name]

    def with_header(self, name: bytes, value: bytes | None) -> Sent:
        kept = tuple(pair for pair in self.headers if pair[0] != name)
        return replace(self, headers=kept if value is None else (*kept, (name, value)))


def vendor(
    method: str = "POST",
    path: str = "/v2/p/training-jobs",
    query: list[tuple[str, Any]] | None = None,
    body: str | bytes = b"",
    headers: dict[str, str] | None = None,
    token: str | None = None,
    derived: bool = False,
) -> Sent:
    """A request signed by the vendor's SDK."""
    credentials = BasicCredentials(ACCESS, SECRET, PROJECT)
    if token is not None:
        credentials.with_security_token(token)
    if derived:
        credentials.with_derived_predicate(lambda _: True)
        credentials._process_derived_auth_params("modelarts", "cn-north-4")
    given = {
        "Content-Type": "application/json",
        "X-Sdk-Date": DATE,
        "User-Agent": "sdk/1 (x; y)",
        **(headers or {}),
    }
    request = SdkRequest(
        method=method,
        schema="http",
        host="127.0.0.1:8080",
        resource_path=path,
        query_params=query or [],
        header_params=given,
        body=body,
    )
    signed = credentials.sign_request(request)
    raw_path, _, raw_query = signed.uri.partition("?")
    wire = tuple((name.lower().encode(), value.encode("latin-1")) for name, value in signed.header_params.items())
    return Sent(method, raw_path.encode(), raw_query.encode(), wire, signed.body)


def ours(method: str, url: str, body: bytes | str | None = None, **headers: str) -> Sent:
    """A request signed by our client."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    wire = sign(method, url, named, body, ACCESS, SECRET, now=NOW)
    target = url.partition("://")[2].partition("/")[2]
    path, _, query = target.partition("?")
    data = body.encode() if isinstance(body, str) else body or b""
    encoded = tuple((name.lower().encode(), value.encode()) for name, value in wire.items())
    return Sent(method, b"/" + path.encode(), query.encode(), encoded, data)


VENDOR_REQUESTS = {
    "get": vendor("GET"),
    "get the root": vendor("GET", "/"),
    "get with a query": vendor("GET", query=[("offset", 1), ("limit", 50), ("a-b", "x"), ("a", "y")]),
    "get with reserved characters": vendor("GET", query=[("q", "a b+c&d=e/f?#%'\"!*()~"), ("k[]", "")]),
    "get with unicode": vendor("GET", "/v1/p/服务", query=[("名", "数据集")]),
    "get with lists and truth values": vendor("GET", query=[("tag", ["b", "a", "é"]), ("all", True)]),
    "an encoded slash in an id": vendor("GET", "/v1/p/images/group%2Fname%3Atag"),
    "a trailing slash": vendor("GET", "/v1/p/models/"),
    "post": vendor("POST", body='{"name": "digits"}'),
    "post without a body": vendor("POST"),
    "patch with unicode": vendor("PATCH", body='{"description": "手写数字"}'),
    "delete with a body": vendor("DELETE", body=b'{"ids": [1]}'),
    "unicode in a header": vendor("GET", headers={"X-Language": " zh 中文 "}),
    "a header that is not signed": vendor("GET", headers={"X_Underscore": "1"}),
    "a security token": vendor("POST", body="{}", token="token/with+signs=="),
    "a form": vendor("POST", body=b"\x00\xff", headers={"Content-Type": "multipart/form-data; boundary=x"}),
    "an empty form": vendor("POST", headers={"Content-Type": "multipart/form-data; boundary=x"}),
    "derived": vendor("GET", query=[("limit", 1)], derived=True),
    "derived with a body and a token": vendor("PUT", body='{"a": "é"}', token="t", derived=True),
}


@pytest.mark.parametrize("name", VENDOR_REQUESTS)
def test_the_vendors_signatures_verify(name: str) -> None:
    sent = VENDOR_REQUESTS[name]
    assert sent.verify() == ACCESS
    with pytest.raises(SignatureError) as caught:
        sent.verify(secret=SECRET + "x")
    assert caught.value.reason == "bad signature"


TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8)


@settings(max_examples=400, deadline=None)
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE"]),
    segments=st.lists(TEXT.filter(lambda text: "%" not in text and "?" not in text), min_size=1, max_size=3),
    query=st.lists(st.tuples(TEXT, TEXT), max_size=4),
    body=st.binary(max_size=20),
    token=st.none() | st.just("token"),
    derived=st.booleans(),
)
def test_whatever_the_vendor_signs_verifies(
    method: str,
    segments: list[str],
    query: list[tuple[str, str]],
    body: bytes,
    token: str | None,
    derived: bool,
) -> None:
    sent = vendor(method, "/" + "/".join(segments), list(query), body, token=token, derived=derived)
    assert sent.verify() == ACCESS


class Capture(BaseHTTPRequestHandler):
    """Keeps what arrives, byte for byte."""

    received: list[Sent]

    def handle_any(self) -> None:
        path, _, query = self.requestline.split(" ")[1].partition("?")
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        wire = tuple((name.lower().encode(), value.encode("latin-1")) for name, value in self.headers.items())
        self.received.append(Sent(self.command, path.encode(), query.encode(), wire, body))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    do_GET = do_POST = do_DELETE = handle_any

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def listener() -> Iterator[tuple[str, list[Sent]]]:
    received: list[Sent] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Capture,), {"received": received}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", received
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_official_client_over_the_wire(listener: tuple[str, list[Sent]]) -> None:
    url, received = listener
    credentials = BasicCredentials(ACCESS, SECRET, PROJECT).with_security_token("token")
    client = ModelArtsClient.new_builder().with_credentials(credentials).with_endpoint(url).build()
    client.list_notebooks(ListNotebooksRequest(limit=10, name="手写 数字/+&", sort_key="name"))
    job = Job(kind="job", metadata=JobMetadata(name="数字"), algorithm=JobAlgorithm(id="a"))
    client.create_training_job(CreateTrainingJobRequest(body=job))
    client.delete_image(DeleteImageRequest(id="group/name", body=DeleteImageRequestBody(is_force=True)))
    assert [sent.method for sent in received] == ["GET", "POST", "DELETE"]
    assert all(sent.verify(now=datetime.now(UTC).timestamp()) == ACCESS for sent in received)
    assert "数字".encode() in received[1].body or b"\\u6570" in received[1].body
    assert received[2].body


def test_our_client_signs_as_the_vendor_does() -> None:
    query = "q=a%20b%2Bc&limit=5"
    reference = vendor("POST", "/v1/p/x%2Fy", [("q", "a b+c"), ("limit", 5)], '{"a": "é"}', token="t")
    wire = sign(
        "POST",
        f"http://user:password@127.0.0.1:8080/v1/p/x%2Fy?{query}",
        {"Content-Type": "application/json", "User-Agent": "sdk/1 (x; y)", "X-Project-Id": PROJECT},
        '{"a": "é"}',
        ACCESS,
        SECRET,
        security_token="t",
        now=NOW,
    )
    assert wire["Authorization"].encode() == reference.header(b"authorization")
    assert wire["Host"] == "127.0.0.1:8080"


@pytest.mark.parametrize(
    "sent",
    [
        ours("get", "http://h"),
        ours("GET", "https://h:8443/v1/a%20b/?x=1&x=0&y&z=%2b+"),
        ours("POST", "http://h/v1", "text é", Content_Type="text/plain", X_Language="é"),
        ours("PUT", "http://h/v1", b"\x00", connection="close", Content_Length="1"),
        ours("PUT", "http://h/v1", b"body", X_Sdk_Content_Sha256="UNSIGNED-PAYLOAD"),
        ours("GET", "http://h/v1?&a=1&&b=2=3"),
    ],
)
def test_what_our_client_signs_verifies(sent: Sent) -> None:
    assert sent.verify() == ACCESS
    assert sent.with_header(b"connection", b"keep-alive").verify() == ACCESS


def reason(sent: Sent, now: float = NOW) -> str:
    with pytest.raises(SignatureError) as caught:
        sent.verify(now=now)
    assert caught.value.message == str(caught.value)
    return caught.value.reason


TAMPERED = vendor("POST", "/v1/p/services/1", [("a", "1"), ("b", "2")], '{"weight": 10}', token="t")
DERIVED = vendor("POST", body="{}", derived=True)


@pytest.mark.parametrize(
    "sent",
    [
        replace(TAMPERED, method="PUT"),
        replace(TAMPERED, path=b"/v1/p/services/2"),
        replace(TAMPERED, path=b"/v1/p/services/%31%ff"),
        replace(TAMPERED, query=b"a=1&b=3"),
        replace(TAMPERED, query=b"a=1"),
        replace(TAMPERED, query=b""),
        replace(TAMPERED, query=b"a=1&b=2&c="),
        replace(TAMPERED, body=b'{"weight": 99}'),
        replace(TAMPERED, body=b""),
        TAMPERED.with_header(b"host", b"elsewhere"),
        TAMPERED.with_header(b"x-sdk-date", b"20261120T113021Z"),
        TAMPERED.with_header(b"x-project-id", b"another"),
        TAMPERED.with_header(b"x-security-token", b"another"),
        TAMPERED.with_header(b"content-type", b"text/plain"),
        replace(DERIVED, body=b"[]"),
        DERIVED.with_header(
            b"authorization", DERIVED.header(b"authorization").replace(b"/cn-north-4/", b"/cn-north-1/")
        ),
        ours("POST", "http://h/", b"a", X_Sdk_Content_Sha256="0" * 64),
        replace(VENDOR_REQUESTS["an empty form"], body=b"now there is one"),
    ],
)
def test_a_change_of_any_part_is_a_bad_signature(sent: Sent) -> None:
    assert reason(sent) == "bad signature"


def test_equal_spellings_of_a_request_verify() -> None:
    assert replace(TAMPERED, query=b"b=%32&a=1").verify() == ACCESS
    assert replace(TAMPERED, path=b"/v1/p/%73ervices/1").verify() == ACCESS
    assert TAMPERED.with_header(b"content-type", b" application/json ").verify() == ACCESS


def test_the_window() -> None:
    for now in (NOW - 900, NOW + 900):
        assert TAMPERED.verify(now=now) == ACCESS
    for now in (NOW - 901, NOW + 901):
        assert reason(TAMPERED, now) == "outside the window"


def authorization(old: bytes, new: bytes, sent: Sent = TAMPERED) -> Sent:
    header = sent.header(b"authorization")
    assert old in header
    return sent.with_header(b"authorization", header.replace(old, new))


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (TAMPERED.with_header(b"authorization", None), "malformed"),
        (TAMPERED.with_header(b"authorization", b""), "malformed"),
        (TAMPERED.with_header(b"authorization", b"Bearer abc"), "malformed"),
        (TAMPERED.with_header(b"authorization", b"\xff\x00"), "malformed"),
        (replace(TAMPERED, headers=(*TAMPERED.headers, (b"authorization", b"x"))), "malformed"),
        (authorization(b"Signature=", b"Signature=0"), "malformed"),
        (authorization(b"Access=", b"Credential="), "malformed"),
        (authorization(b"host;", b"Host;"), "malformed"),
        (authorization(b"host;", b"host;host;"), "malformed"),
        (authorization(b"host;", b"host;;"), "malformed"),
        (authorization(b"host;", b"host;x-absent;"), "malformed"),
        (authorization(b"/cn-north-4", b"", DERIVED), "malformed"),
        (authorization(b"/20261120/", b"/20261119/", DERIVED), "malformed"),
        (authorization(b"HMAC-SHA256", b"HMAC-SM3"), "unsupported"),
        (authorization(b"SDK-HMAC-SHA256", b"SDK-ECDSA-P256-SHA256"), "unsupported"),
        (authorization(b"host;", b""), "not signed"),
        (authorization(b";x-sdk-date", b""), "not signed"),
        (authorization(b";x-security-token", b""), "not signed"),
        (authorization(b";x-project-id", b""), "not signed"),
        (TAMPERED.with_header(b"x-sdk-content-sha256", b"UNSIGNED-PAYLOAD"), "not signed"),
        (TAMPERED.with_header(b"x-domain-id", b"d"), "not signed"),
        (TAMPERED.with_header(b"x-sdk-date", None), "malformed"),
        (TAMPERED.with_header(b"x-sdk-date", b"Fri, 20 Nov 2026 11:30:20 GMT"), "malformed"),
        (TAMPERED.with_header(b"x-sdk-date", b"20261320T113020Z"), "malformed"),
        (replace(TAMPERED, headers=(*TAMPERED.headers, (b"host", b"127.0.0.1:8080"))), "malformed"),
        (ours("POST", "http://h/", b"a", X_Sdk_Content_Sha256="none"), "malformed"),
    ],
)
def test_what_is_wrong_is_told_apart(sent: Sent, expected: str) -> None:
    assert reason(sent) == expected
    with pytest.raises(SignatureError) as caught:
        begin(sent.method, sent.path, sent.query, sent.headers, now=NOW)
    assert caught.value.reason == expected


@settings(max_examples=500, deadline=None)
@given(st.text() | st.from_regex(r"(SDK|V11)-HMAC-SHA256 (Access|Credential)=.*, SignedHeaders=.*, Signature=.*"))
def test_any_other_authorization_is_refused(header: str) -> None:
    with pytest.raises(SignatureError) as caught:
        parse_authorization(header)
    assert caught.value.reason in ("malformed", "unsupported")


def test_headers_are_checked_before_the_body_and_the_secret_are_there() -> None:
    pending = begin(TAMPERED.method, TAMPERED.path, TAMPERED.query, TAMPERED.headers, now=NOW)
    assert (pending.request.access_key, pending.security_token) == (ACCESS, "t")
    assert "t" not in repr(pending).split("signature=")[0].replace("PendingSignature", "").split("access_key")[0][:1]
    pending.finish(TAMPERED.body, SECRET)
    with pytest.raises(SignatureError):
        pending.finish(TAMPERED.body + b" ", SECRET)


def test_verifying_is_cheap() -> None:
    sent = VENDOR_REQUESTS["get with a query"]
    best = min(timeit.repeat(sent.verify, number=200, repeat=20)) / 200
    assert best < 60e-6, f"{best * 1e6:.0f} µs"
