"""The object store on any S3-compatible server, spoken to through boto3."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import anyio.to_thread

from bottega.errors import ApiError, Conflict, Invalid, NotFound, StorageFull, Unavailable
from bottega.objects import ObjectInfo, ObjectPath
from bottega_dataset.s3_errors import is_full

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_s3.client import S3Client

T = TypeVar("T")
CONNECTIONS = 24
_DELETE_AT_ONCE = 1000
_LIST_AT_ONCE = 1000
_PART_FROM = 64 * 2**20


class S3Store:
    """Implements ``bottega.objects.ObjectStore``. Calls of boto3 run in threads, `CONNECTIONS` of them at most.

    The client is made at its first use: importing boto3 takes longer than everything else in here together.
    """

    name = "store-s3"

    def __init__(
        self, *, endpoint: str, region: str, access_key: str, secret_key: str, keeps_files: bool = False
    ) -> None:
        """
        :param keeps_files: the server keeps objects as files, so a key cannot also be a folder (the embedded one).
        """
        self._endpoint = endpoint
        self._keeps_files = keeps_files
        self._region = region
        self._keys = (access_key, secret_key)
        self._limiter = anyio.CapacityLimiter(CONNECTIONS)
        self._connecting = threading.Lock()
        self._made: S3Client | None = None

    async def create_bucket(self, bucket: str) -> None:
        """Raises Conflict when it exists, whoever owns it."""

        def create(client: S3Client) -> None:
            # Not every server refuses to make a bucket of one's own a second time.
            if bucket in (b["Name"] for b in client.list_buckets().get("Buckets", [])):
                raise Conflict(f"bucket '{bucket}' exists already; choose another name")
            client.create_bucket(Bucket=bucket)

        await self._run(create, ObjectPath(bucket))

    async def list_buckets(self) -> list[str]:
        answer = await self._run(lambda client: client.list_buckets(), None)
        return [bucket["Name"] for bucket in answer.get("Buckets", [])]

    async def put(self, path: ObjectPath, data: bytes, content_type: str = "application/octet-stream") -> str:
        def put(client: S3Client) -> str:
            self._refuse_folder(client, path)
            try:
                answer = client.put_object(Bucket=path.bucket, Key=path.key, Body=data, ContentType=content_type)
            except _client_error() as e:
                raise _blocked(client, path) or _full(e, path) or e from e
            return answer["ETag"].strip('"')

        return await self._run(put, path)

    async def get(self, path: ObjectPath, start: int | None = None, end: int | None = None) -> bytes:
        span: dict[str, Any] = {}
        if start is not None or end is not None:
            span["Range"] = f"bytes={start or 0}-{'' if end is None else end}"

        def get(client: S3Client) -> bytes:
            return client.get_object(Bucket=path.bucket, Key=path.key, **span)["Body"].read()

        return await self._run(get, path)

    async def head(self, path: ObjectPath) -> ObjectInfo:
        answer = await self._run(lambda client: client.head_object(Bucket=path.bucket, Key=path.key), path)
        modified = int(answer["LastModified"].timestamp() * 1000)
        return ObjectInfo(path, answer["ContentLength"], answer["ETag"].strip('"'), modified)

    async def delete(self, paths: Sequence[ObjectPath]) -> None:
        by_bucket: dict[str, list[str]] = {}
        for path in paths:
            by_bucket.setdefault(path.bucket, []).append(path.key)
        for bucket, keys in by_bucket.items():
            for at in range(0, len(keys), _DELETE_AT_ONCE):
                await self._delete(bucket, keys[at : at + _DELETE_AT_ONCE])

    async def _delete(self, bucket: str, keys: Sequence[str]) -> None:
        answer = await self._run(
            lambda client: client.delete_objects(
                Bucket=bucket, Delete={"Objects": [{"Key": key} for key in keys], "Quiet": True}
            ),
            ObjectPath(bucket),
        )
        failed = [e for e in answer.get("Errors", []) if e.get("Code") not in ("NoSuchKey", "404")]
        if failed:
            first = failed[0]
            raise Unavailable(
                f"{len(failed)} of {len(keys)} objects of '{bucket}' were not deleted, the first is "
                f"'{first.get('Key')}': {first.get('Code')} {first.get('Message')}"
            )

    async def list(
        self, folder: ObjectPath, *, start_after: str = "", limit: int | None = None
    ) -> AsyncIterator[ObjectInfo]:
        after, left = start_after, limit
        while left is None or left > 0:
            size = _LIST_AT_ONCE if left is None else min(left, _LIST_AT_ONCE)
            answer = await self._page(folder, after, size)
            found = answer.get("Contents", [])
            for entry in found:
                path = ObjectPath(folder.bucket, entry["Key"])
                modified = int(entry["LastModified"].timestamp() * 1000)
                yield ObjectInfo(path, entry["Size"], entry["ETag"].strip('"'), modified)
            if not answer.get("IsTruncated") or not found:
                return
            after = found[-1]["Key"]
            left = None if left is None else left - len(found)

    async def _page(self, folder: ObjectPath, after: str, size: int) -> Any:
        # Always continued by key and not by token: an iteration taken up later is then the same as one that went on.
        return await self._run(
            lambda client: client.list_objects_v2(
                Bucket=folder.bucket, Prefix=folder.key, StartAfter=after, MaxKeys=size
            ),
            folder,
        )

    async def upload(self, file: Path, path: ObjectPath, content_type: str = "application/octet-stream") -> None:
        def upload(client: S3Client) -> None:
            import boto3.exceptions

            self._refuse_folder(client, path)
            try:
                client.upload_file(
                    str(file), path.bucket, path.key, ExtraArgs={"ContentType": content_type}, Config=_transfer()
                )
            except boto3.exceptions.S3UploadFailedError as e:
                cause = e.__context__
                if isinstance(cause, _client_error()):
                    raise _blocked(client, path) or _full(cause, path) or cause from e
                raise Unavailable(f"{path} was not stored: {e}") from e

        await self._run(upload, path)

    async def download(self, path: ObjectPath, file: Path) -> None:
        def download(client: S3Client) -> None:
            client.download_file(path.bucket, path.key, str(file), Config=_transfer())

        await self._run(download, path)

    def presign(self, method: str, path: ObjectPath, expires_s: int = 900) -> str:
        operation = {"GET": "get_object", "PUT": "put_object"}.get(method)
        if operation is None:
            raise Invalid(f"an object can be presigned for GET or PUT, not for '{method}'")
        return self._client().generate_presigned_url(
            operation, Params={"Bucket": path.bucket, "Key": path.key}, ExpiresIn=expires_s, HttpMethod=method
        )

    async def check_key(self, path: ObjectPath) -> None:
        """Raises Invalid for a put that cannot work because `path` is a folder."""
        if self._keeps_files and "." not in path.name:
            await self._run(lambda client: self._refuse_folder(client, path), path)

    async def why_failed(self, path: ObjectPath, status: int, code: str) -> ApiError | None:
        """What is behind a put that the store failed at: another object in the way, or no space left."""
        if not is_full(status, code, writing=True):
            return None
        blocked = await self._run(lambda client: _blocked(client, path), path)
        return blocked or StorageFull(f"no space left in the object store for {path}")

    def _refuse_folder(self, client: S3Client, path: ObjectPath) -> None:
        # The embedded server fails such a put, and then hides the folder until its cache expires: so ask before.
        # A name with a suffix is hardly ever a folder's, and the many small files have one.
        if self._keeps_files and "." not in path.name:
            below = path.folder.key
            if client.list_objects_v2(Bucket=path.bucket, Prefix=below, MaxKeys=1).get("Contents"):
                raise Invalid(f"{path} is a folder; this object store cannot also hold an object of that name")

    async def _run(self, call: Callable[[S3Client], T], path: ObjectPath | None) -> T:
        def run() -> T:
            with _translated(path):
                return call(self._client())

        return await anyio.to_thread.run_sync(run, limiter=self._limiter)

    def _client(self) -> S3Client:
        with self._connecting:
            if self._made is None:
                import boto3
                from botocore.config import Config

                self._made = boto3.session.Session().client(
                    "s3",
                    endpoint_url=self._endpoint,
                    region_name=self._region,
                    aws_access_key_id=self._keys[0],
                    aws_secret_access_key=self._keys[1],
                    config=Config(
                        signature_version="s3v4",
                        s3={"addressing_style": "path"},
                        request_checksum_calculation="when_required",
                        response_checksum_validation="when_required",
                        max_pool_connections=CONNECTIONS,
                        connect_timeout=5,
                        read_timeout=60,
                        retries={"mode": "standard", "total_max_attempts": 4},
                    ),
                )
            return self._made


def _transfer() -> Any:
    from boto3.s3.transfer import TransferConfig

    return TransferConfig(multipart_threshold=_PART_FROM, multipart_chunksize=16 * 2**20, max_concurrency=4)


def _client_error() -> type[Any]:
    from botocore.exceptions import ClientError

    return ClientError


@contextmanager
def _translated(path: ObjectPath | None) -> Iterator[None]:
    """Turn what botocore raises into the platform's errors, which say what about `path` was wrong."""
    from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, ParamValidationError

    try:
        yield
    except ClientError as e:
        raise _as_api_error(e.response, path) from e
    except ParamValidationError as e:
        raise Invalid(f"the object store takes no such path as {path}: {e}") from e
    except (HTTPClientError, BotoCoreError) as e:
        raise Unavailable(f"the object store does not answer: {e}") from e


def _as_api_error(answer: Any, path: ObjectPath | None) -> ApiError:
    code = str(answer.get("Error", {}).get("Code", ""))
    message = str(answer.get("Error", {}).get("Message", ""))
    status = int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    bucket = path.bucket if path else ""
    if code == "NoSuchBucket":
        return NotFound(f"there is no bucket '{bucket}'")
    if status == 404:
        return NotFound(f"there is no object {path}" if path and path.key else f"there is no bucket '{bucket}'")
    if code in ("BucketAlreadyExists", "BucketAlreadyOwnedByYou"):
        return Conflict(f"bucket '{bucket}' exists already; choose another name")
    if status == 416:
        return Invalid(f"{path} has no bytes in the range that was asked for")
    if status in (401, 403):
        return Unavailable(f"the object store refuses the platform's own keys: {code}; the operator must set them")
    if 400 <= status < 500:
        return Invalid(f"the object store refuses {path}: {code} {message}")
    if is_full(status, code, writing=False):
        return StorageFull(f"no space left in the object store for {path}")
    return Unavailable(f"the object store failed on {path}: {status} {code} {message}")


def _blocked(client: S3Client, path: ObjectPath) -> ApiError | None:
    """Why a put may have failed on a server that keeps objects as files: the key lies below another object."""
    parts = path.key.rstrip("/").split("/")
    for depth in range(1, len(parts)):
        key = "/".join(parts[:depth])
        try:
            client.head_object(Bucket=path.bucket, Key=key)
        except _client_error():
            continue
        above = ObjectPath(path.bucket, key)
        return Invalid(f"{above} is an object; this object store cannot hold {path} below it")
    return None


def _full(error: Any, path: ObjectPath) -> ApiError | None:
    """Whether a put failed for want of space."""
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    return StorageFull(f"no space left in the object store for {path}") if is_full(status, code, writing=True) else None
