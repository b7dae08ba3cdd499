"""Which S3 operation a request is, what right it needs, and what of it is passed on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .errors import S3Error

_PAGE = frozenset({"prefix", "delimiter", "marker", "max-keys", "encoding-type"})
_PAGE_2 = _PAGE | {"list-type", "continuation-token", "start-after", "fetch-owner"}
_ANSWER = frozenset(
    {
        "response-content-type",
        "response-content-language",
        "response-expires",
        "response-cache-control",
        "response-content-disposition",
        "response-content-encoding",
    }
)


@dataclass(frozen=True, slots=True)
class Operation:
    """`marks` are the parameters that tell it from others of its method, `takes` those it may have beside them.

    `writes` says that its body is data to be stored.
    """

    name: str
    method: str
    of_object: bool
    action: str
    marks: frozenset[str] = frozenset()
    takes: frozenset[str] = frozenset()
    writes: bool = False


def _bucket(name: str, method: str, action: str, *marks: str, takes: frozenset[str] = frozenset()) -> Operation:
    return Operation(name, method, False, f"obs:bucket:{action}", frozenset(marks), takes)


def _object(
    name: str, method: str, action: str, *marks: str, takes: frozenset[str] = frozenset(), writes: bool = False
) -> Operation:
    return Operation(name, method, True, f"obs:object:{action}", frozenset(marks), takes, writes)


OPERATIONS = (
    _bucket("ListMultipartUploads", "GET", "ListBucketMultipartUploads", "uploads", takes=_PAGE),
    _bucket("GetBucketLocation", "GET", "GetBucketLocation", "location"),
    _bucket("ListObjects", "GET", "ListBucket", takes=_PAGE_2),
    _bucket("HeadBucket", "HEAD", "HeadBucket"),
    _bucket("CreateBucket", "PUT", "CreateBucket"),
    _bucket("DeleteBucket", "DELETE", "DeleteBucket"),
    # Each of its keys is checked by itself.
    Operation("DeleteObjects", "POST", False, "obs:object:DeleteObject", frozenset({"delete"})),
    _object(
        "ListParts", "GET", "ListMultipartUploadParts", "uploadId", takes=frozenset({"max-parts", "part-number-marker"})
    ),
    _object("GetObject", "GET", "GetObject", takes=_ANSWER),
    _object("HeadObject", "HEAD", "GetObject", takes=_ANSWER),
    _object("UploadPart", "PUT", "PutObject", "partNumber", "uploadId", writes=True),
    _object("PutObject", "PUT", "PutObject", writes=True),
    _object("CreateMultipartUpload", "POST", "PutObject", "uploads"),
    _object("CompleteMultipartUpload", "POST", "PutObject", "uploadId"),
    _object("AbortMultipartUpload", "DELETE", "AbortMultipartUpload", "uploadId"),
    _object("DeleteObject", "DELETE", "DeleteObject"),
)
_IGNORED = frozenset({"x-id"})
_PASSED_ON = frozenset(
    {
        "cache-control",
        "content-disposition",
        "content-encoding",
        "content-language",
        "content-md5",
        "content-type",
        "expires",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-unmodified-since",
        "range",
        "x-amz-metadata-directive",
    }
)
_PASSED_ON_PREFIXES = ("x-amz-meta-", "x-amz-copy-source-")
_REFUSED_PREFIXES = (
    "x-amz-server-side-encryption",
    "x-amz-tagging",
    "x-amz-object-lock",
    "x-amz-grant-",
    "x-amz-website",
    "x-amz-bypass-governance",
    "x-amz-mfa",
)


def find(method: str, of_object: bool, query: Sequence[tuple[str, str]]) -> Operation:
    """Raises S3Error("NotImplemented") for what this endpoint does not offer: acl, policy, versioning …"""
    names = [name for name, _ in query if not name.startswith("X-Amz-")]
    if len(set(names)) < len(names):
        # The store might take another one of them than the check of rights.
        raise S3Error("InvalidArgument", "each parameter may be given once only")
    given = set(names) - _IGNORED
    for operation in OPERATIONS:
        same = operation.method == method and operation.of_object == of_object
        if same and operation.marks <= given and given - operation.marks <= operation.takes:
            return operation
    what = ", ".join(sorted(given)) or "this"
    raise S3Error("NotImplemented", f"{method} with {what} is not offered on {'objects' if of_object else 'buckets'}")


def passed_on(operation: Operation, headers: Mapping[str, str]) -> dict[str, str]:
    """The headers that go to the store. Raises S3Error for one that asks for what is not offered."""
    for name, value in headers.items():
        if name.startswith(_REFUSED_PREFIXES) or (name == "x-amz-acl" and value != "private"):
            raise S3Error("NotImplemented", f"the header {name} asks for what is not offered here")
    if operation.writes and ("if-match" in headers or "if-none-match" in headers):
        raise S3Error("NotImplemented", "conditional writes are not offered here")
    kept = {n: v for n, v in headers.items() if n in _PASSED_ON or n.startswith(_PASSED_ON_PREFIXES)}
    encodings = [e.strip() for e in kept.pop("content-encoding", "").split(",")]
    encodings = [e for e in encodings if e not in ("", "aws-chunked")]
    return kept | ({"content-encoding": ",".join(encodings)} if encodings else {})
