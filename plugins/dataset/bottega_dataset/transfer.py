"""Moving files between a machine and object storage, through presigned URLs the platform gives out."""

from __future__ import annotations

import mimetypes
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import httpx

from bottega.client import ApiFailure, Client, Unreachable
from bottega.objects import ObjectPath
from bottega_dataset.s3_errors import is_full

_AT_ONCE = 8
_URLS_AT_ONCE = 200
_ATTEMPTS = 4

Progress = Callable[[int], None]
"""Called with the number of bytes moved since the last call."""


class Objects:
    """The objects of a project's buckets. Paths are written ``s3://bucket/key``."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._http = httpx.Client(timeout=300)

    def create_bucket(self, name: str) -> dict[str, Any]:
        answer: dict[str, Any] = self._client.post("/v1/{project_id}/buckets", {"name": name})
        return answer

    def buckets(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._client.get("/v1/{project_id}/buckets")["buckets"]
        return found

    def listing(self, folder: str) -> Iterator[dict[str, Any]]:
        """Every object under a folder: `key`, `size` in bytes, `etag`, `modified_at` in epoch milliseconds."""
        path = ObjectPath.parse(folder)
        after: str | None = ""
        while after is not None:
            page = self._client.get(
                f"/v1/{{project_id}}/buckets/{path.bucket}/objects", {"prefix": path.key, "after": after, "limit": 1000}
            )
            yield from page["objects"]
            after = page["next_after"]

    def read(self, path: str) -> bytes:
        with self._stream(ObjectPath.parse(path)) as chunks:
            return b"".join(chunks)

    def remove(self, path: str) -> int:
        """Delete an object, or the objects of a folder (closing ``/``). Returns how many; raises ApiFailure (404)."""
        given = ObjectPath.parse(path)
        is_folder = not given.key or given.key.endswith("/")
        keys = [o["key"] for o in self.listing(path) if is_folder or o["key"] == given.key]
        if not keys:
            raise ApiFailure(
                404, "ModelArts.0104", f"there is {'nothing under' if is_folder else 'no object'} {path}", ""
            )
        for key in keys:
            self._client.delete(f"/v1/{{project_id}}/buckets/{given.bucket}/objects/{quote(key)}")
        return len(keys)

    def write(self, path: str, data: bytes) -> None:
        to = ObjectPath.parse(path)
        self._send(self._urls("PUT", to.bucket, [to.key])[0], data)

    def put(self, source: Path, target: str, progress: Progress = lambda _: None) -> int:
        """Store a file at `target`, or a folder's files under it. Returns how many files were stored."""
        to = ObjectPath.parse(target)
        if source.is_dir():
            base = to.folder.key if to.key else ""
            files = [(f, base + f.relative_to(source).as_posix()) for f in sorted(source.rglob("*")) if f.is_file()]
        else:
            files = [(source, to.key + source.name if not to.key or to.key.endswith("/") else to.key)]

        def put(item: tuple[tuple[Path, str], str]) -> None:
            (file, _), url = item
            self._send(url, file)
            progress(file.stat().st_size)

        self._each("PUT", to.bucket, files, lambda entry: entry[1], put)
        return len(files)

    def get(self, source: str, target: Path, progress: Progress = lambda _: None) -> int:
        """Write an object to the file `target`, or the objects of a folder (closing ``/``) into that directory."""
        path = ObjectPath.parse(source)
        if path.key and not path.key.endswith("/"):
            file = target / path.name if target.is_dir() else target
            self._receive(self._urls("GET", path.bucket, [path.key])[0], file, progress)
            return 1
        keys = [o["key"] for o in self.listing(source) if not o["key"].endswith("/")]

        def get(item: tuple[str, str]) -> None:
            key, url = item
            self._receive(url, target / key.removeprefix(path.key), progress)

        self._each("GET", path.bucket, keys, lambda key: key, get)
        return len(keys)

    def stream(self, path: str) -> Iterator[bytes]:
        """The bytes of an object, in pieces."""
        with self._stream(ObjectPath.parse(path)) as chunks:
            yield from chunks

    def _stream(self, path: ObjectPath) -> _Stream:
        return _Stream(self._http, self._urls("GET", path.bucket, [path.key])[0])

    def _urls(self, method: str, bucket: str, keys: Sequence[str]) -> list[str]:
        answer = self._client.post(
            f"/v1/{{project_id}}/buckets/{bucket}/presigned-urls", {"keys": list(keys), "method": method}
        )
        return [entry["url"] for entry in answer["urls"]]

    def _each(
        self, method: str, bucket: str, items: Sequence[Any], key: Callable[[Any], str], move: Callable[[Any], None]
    ) -> None:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for at in range(0, len(items), _URLS_AT_ONCE):
                some = items[at : at + _URLS_AT_ONCE]
                urls = self._urls(method, bucket, [key(item) for item in some])
                for _ in pool.map(move, zip(some, urls, strict=True)):
                    pass

    def _send(self, url: str, data: bytes | Path) -> None:
        name = data.name if isinstance(data, Path) else ""
        headers = {"Content-Type": mimetypes.guess_type(name)[0] or "application/octet-stream"}
        for attempt in range(_ATTEMPTS):
            try:
                if isinstance(data, Path):
                    headers["Content-Length"] = str(data.stat().st_size)
                    with data.open("rb") as body:
                        response = self._http.put(url, content=body, headers=headers)
                else:
                    response = self._http.put(url, content=data, headers=headers)
            except httpx.TransportError as e:
                if attempt == _ATTEMPTS - 1:
                    raise Unreachable(f"cannot reach the object store: {e}") from e
                continue
            if response.status_code < 500 or attempt == _ATTEMPTS - 1:
                _check(response, url)
                return

    def _receive(self, url: str, file: Path, progress: Progress) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(dir=file.parent)
        try:
            with os.fdopen(handle, "wb") as out, _Stream(self._http, url) as chunks:
                for chunk in chunks:
                    out.write(chunk)
                    progress(len(chunk))
            os.replace(partial, file)
        except BaseException:
            os.unlink(partial)
            raise


class _Stream:
    """An object being read; a context manager giving its pieces."""

    def __init__(self, http: httpx.Client, url: str) -> None:
        self._context = http.stream("GET", url)
        self._url = url

    def __enter__(self) -> Iterable[bytes]:
        response = self._context.__enter__()
        _check(response, self._url)
        return response.iter_bytes(256 * 1024)

    def __exit__(self, *raised: Any) -> None:
        self._context.__exit__(*raised)


def _check(response: httpx.Response, url: str) -> None:
    """Raises ApiFailure, naming the object of the presigned `url`, when the store refused or failed."""
    if response.status_code < 400:
        return
    response.read()
    path = "s3:/" + unquote(urlsplit(url).path).removeprefix("/s3")  # the platform's own endpoint; no bucket's name
    found = re.search(r"<Code>([^<]*)</Code>", response.text)
    code, status = found[1] if found else "", response.status_code
    request = response.headers.get("x-amz-request-id", "")
    if code == "NoSuchBucket":
        raise ApiFailure(404, "ModelArts.0104", f"there is no bucket '{path[5:].partition('/')[0]}'", request)
    if status == 404:
        raise ApiFailure(404, "ModelArts.0104", f"there is no object {path}", request)
    if is_full(status, code, writing=response.request.method == "PUT"):
        raise ApiFailure(507, "ModelArts.0109", f"no space left in the object store for {path}", request)
    raise ApiFailure(status, "ObjectStore", f"the object store failed on {path}: {status} {code}".rstrip(), request)
