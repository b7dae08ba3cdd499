"""Uploads through the S3 endpoint: large, in parts, framed, many at once; none that is not what was signed."""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from boto3.s3.transfer import TransferConfig
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from bottega.testing import RunningPlatform, Tenant

Refused = Callable[..., tuple[int, str]]
MB = 2**20


def test_big_objects_go_through_in_parts_with_bounded_memory(
    tmp_path: Path, bucket: str, mine: Any, running: RunningPlatform
) -> None:
    size = 160 * MB
    file, back = tmp_path / "big", tmp_path / "back"
    block = bytes(range(256)) * 4096
    with file.open("wb") as out:
        for i in range(size // MB):
            out.write(i.to_bytes(4, "big") + block[4:])
    before = psutil.Process().memory_info().rss
    transfer = TransferConfig(multipart_threshold=8 * MB, multipart_chunksize=16 * MB, max_concurrency=3)
    mine.upload_file(str(file), bucket, "big.bin", Config=transfer)
    mine.download_file(bucket, "big.bin", str(back), Config=transfer)
    grown = psutil.Process().memory_info().rss - before
    with file.open("rb") as a, back.open("rb") as b:
        assert hashlib.file_digest(a, "sha256").digest() == hashlib.file_digest(b, "sha256").digest()
    # The client is in this process too, and holds some parts.
    assert grown < 100 * MB, f"{grown / MB:.0f} MB"


def test_one_put_may_be_larger_than_the_limit_of_bodies(bucket: str, mine: Any, running: RunningPlatform) -> None:
    limit = running.settings.server.max_body_mb * MB
    mine.put_object(Bucket=bucket, Key="large.bin", Body=io.BytesIO(bytes(limit + MB)))
    assert mine.head_object(Bucket=bucket, Key="large.bin")["ContentLength"] == limit + MB


def test_multipart_uploads_are_listed_copied_into_and_given_up(bucket: str, mine: Any, refused: Refused) -> None:
    upload = mine.create_multipart_upload(Bucket=bucket, Key="m.bin")["UploadId"]
    first = mine.upload_part(Bucket=bucket, Key="m.bin", UploadId=upload, PartNumber=1, Body=b"a" * 5 * MB)
    second = mine.upload_part(Bucket=bucket, Key="m.bin", UploadId=upload, PartNumber=2, Body=b"b")
    parts = mine.list_parts(Bucket=bucket, Key="m.bin", UploadId=upload)["Parts"]
    assert [(p["PartNumber"], p["Size"]) for p in parts] == [(1, 5 * MB), (2, 1)]
    assert [u["UploadId"] for u in mine.list_multipart_uploads(Bucket=bucket)["Uploads"]] == [upload]
    done = {"Parts": [{"PartNumber": n + 1, "ETag": p["ETag"]} for n, p in enumerate((first, second))]}
    mine.complete_multipart_upload(Bucket=bucket, Key="m.bin", UploadId=upload, MultipartUpload=done)
    assert mine.head_object(Bucket=bucket, Key="m.bin")["ContentLength"] == 5 * MB + 1
    given_up = mine.create_multipart_upload(Bucket=bucket, Key="n.bin")["UploadId"]
    mine.abort_multipart_upload(Bucket=bucket, Key="n.bin", UploadId=given_up)
    late = refused(mine.upload_part, Bucket=bucket, Key="n.bin", UploadId=given_up, PartNumber=1, Body=b"x")
    assert late == (404, "NoSuchUpload")


class Framed:
    """An upload as ``aws-chunked``, signed by botocore."""

    def __init__(self, tenant: Tenant, bucket: str, payload: str, data: bytes, trailer: str | None) -> None:
        self.url = f"{tenant.running.url}/s3/{bucket}/framed.bin"
        self.data, self.trailer = data, trailer
        self.headers = {
            "X-Amz-Content-SHA256": payload,
            "Content-Encoding": "aws-chunked",
            "X-Amz-Decoded-Content-Length": str(len(data)),
            **({"X-Amz-Trailer": trailer.split(":")[0]} if trailer else {}),
        }
        request = AWSRequest("PUT", self.url, headers=self.headers)

        class Signer(S3SigV4Auth):
            def payload(self, request: Any) -> str:
                return payload

        Signer(Credentials(tenant.access_key, tenant.secret_key), "s3", "us-east-1").add_auth(request)
        self.headers = dict(request.headers.items())

    def put(self, size: int = 70_000) -> httpx.Response:
        def body() -> Iterator[bytes]:
            for at in range(0, len(self.data), size):
                part = self.data[at : at + size]
                yield f"{len(part):x}\r\n".encode() + part + b"\r\n"
            yield b"0\r\n" + (f"{self.trailer}\r\n" if self.trailer else "").encode() + b"\r\n"

        return httpx.put(self.url, headers=self.headers, content=b"".join(body()))


def crc(data: bytes) -> str:
    return base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()


@pytest.mark.parametrize(
    ("name", "right"),
    [("crc32c", "4waSgw=="), ("crc64nvme", "rosUhgp5mIg=")],  # of 123456789, as their definitions give it
)
def test_the_other_sums_of_s3_are_verified(tenant: Tenant, bucket: str, name: str, right: str) -> None:
    wrong = base64.b64encode(bytes(len(base64.b64decode(right)))).decode()
    for value, status in ((right, 200), (wrong, 400)):
        trailer = f"x-amz-checksum-{name}:{value}"
        answer = Framed(tenant, bucket, "STREAMING-UNSIGNED-PAYLOAD-TRAILER", b"123456789", trailer).put()
        assert (answer.status_code, "<Code>BadDigest</Code>" in answer.text) == (status, status == 400), answer.text


def test_framed_uploads_with_a_trailer_are_taken(tenant: Tenant, bucket: str, mine: Any) -> None:
    data = bytes(range(251)) * 2000
    trailer = f"x-amz-checksum-crc32:{crc(data)}"
    framed = Framed(tenant, bucket, "STREAMING-UNSIGNED-PAYLOAD-TRAILER", data, trailer)
    answer = framed.put()
    assert answer.status_code == 200, answer.text
    got = mine.get_object(Bucket=bucket, Key="framed.bin")
    assert got["Body"].read() == data
    assert "aws-chunked" not in got.get("ContentEncoding", "")


@pytest.mark.parametrize("size", [0, 1, 65536, 200_000])
def test_a_body_that_is_not_what_was_said_is_not_stored(
    tenant: Tenant, bucket: str, mine: Any, size: int, refused: Refused
) -> None:
    data = bytes(size)
    mine.put_object(Bucket=bucket, Key="framed.bin", Body=b"before")
    wrong = f"x-amz-checksum-crc32:{crc(b'other')}"
    framed = Framed(tenant, bucket, "STREAMING-UNSIGNED-PAYLOAD-TRAILER", data, wrong).put()
    assert (framed.status_code, "<Code>BadDigest</Code>" in framed.text) == (400, True), framed.text
    short = Framed(tenant, bucket, "STREAMING-UNSIGNED-PAYLOAD-TRAILER", data + b"x", None)
    short.data = data
    assert "<Code>IncompleteBody</Code>" in short.put().text
    summed = refused(
        mine.put_object, Bucket=bucket, Key="framed.bin", Body=data, ChecksumSHA256=base64.b64encode(bytes(32)).decode()
    )
    assert summed == (400, "BadDigest")
    md5 = refused(
        mine.put_object, Bucket=bucket, Key="framed.bin", Body=data, ContentMD5=base64.b64encode(bytes(16)).decode()
    )
    assert md5 == (400, "BadDigest")
    hashed = Framed(tenant, bucket, hashlib.sha256(b"other").hexdigest(), data, None)
    answer = httpx.put(hashed.url, headers=hashed.headers, content=data)
    assert "<Code>XAmzContentSHA256Mismatch</Code>" in answer.text
    assert mine.get_object(Bucket=bucket, Key="framed.bin")["Body"].read() == b"before"


def test_signed_chunks_are_verified(tenant: Tenant, bucket: str, mine: Any) -> None:
    data = b"0123456789" * 20_000
    framed = Framed(tenant, bucket, "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", data, None)
    authorization = framed.headers["Authorization"]
    seed = authorization.rpartition("Signature=")[2]
    scope = authorization.partition("Credential=")[2].partition(",")[0].partition("/")[2]
    key = b"AWS4" + tenant.secret_key.encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")

    def chunks(data: bytes) -> bytes:
        previous, out = seed, b""
        for part in (data[:65536], data[65536:131072], data[131072:], b""):
            lines = ("AWS4-HMAC-SHA256-PAYLOAD", framed.headers["X-Amz-Date"], scope, previous)
            hashes = (hashlib.sha256(b"").hexdigest(), hashlib.sha256(part).hexdigest())
            previous = hmac.digest(key, "\n".join(lines + hashes).encode(), "sha256").hex()
            out += f"{len(part):x};chunk-signature={previous}\r\n".encode() + part + b"\r\n"
        return out

    good = chunks(data)
    answer = httpx.put(framed.url, headers=framed.headers, content=good)
    assert answer.status_code == 200, answer.text
    assert mine.get_object(Bucket=bucket, Key="framed.bin")["Body"].read() == data
    bad = httpx.put(framed.url, headers=framed.headers, content=good.replace(b"0123456789\r\n", b"0123456780\r\n"))
    assert "<Code>SignatureDoesNotMatch</Code>" in bad.text


def test_many_clients_at_once(bucket: str, mine: Any) -> None:
    def one(i: int) -> bool:
        data = i.to_bytes(4, "big") * 20_000
        mine.put_object(Bucket=bucket, Key=f"many/{i}.bin", Body=data)
        return bool(mine.get_object(Bucket=bucket, Key=f"many/{i}.bin")["Body"].read() == data)

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(one, range(100)))
