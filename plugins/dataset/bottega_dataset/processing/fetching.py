"""Reading objects as a workload: by the URLs the platform gives it for the paths it may read."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import httpx

from bottega.objects import ObjectPath
from bottega_dataset.processing.processors import ProcessingFailure
from bottega_dataset.processing.work import Unreadable

T = TypeVar("T")
_PARALLEL = 8
_PATIENCE_S = 600.0
"""How long a platform or store that is away is waited for: a restart costs time, not the task."""


class _Away(Exception):
    pass


class Fetcher:
    """Gives contents by path. What is not there is Unreadable; what may not be read ends the task."""

    def __init__(self, largest: int) -> None:
        project, workload = os.environ["BOTTEGA_PROJECT_ID"], os.environ["BOTTEGA_WORKLOAD_ID"]
        self._reads = f"/v1/{project}/workloads/{workload}/objects/reads"
        self._access = Path(os.environ["BOTTEGA_ACCESS_FILE"])
        self._largest = largest
        limits = httpx.Limits(max_connections=_PARALLEL + 1)
        self._http = httpx.Client(timeout=httpx.Timeout(60, connect=5), limits=limits, trust_env=False)
        self._pool = ThreadPoolExecutor(_PARALLEL)

    def __call__(self, paths: Sequence[str]) -> Sequence[bytes | Unreadable]:
        if not paths:
            return []
        inside = [path for path in paths if path.startswith("s3://")]
        urls = _insist(lambda: self._urls(inside)) if inside else {}
        return list(self._pool.map(lambda path: self._one(path, urls.get(path)), paths))

    def _urls(self, paths: list[str]) -> dict[str, str]:
        access = json.loads(self._access.read_text("utf-8"))
        try:
            answer = self._http.post(
                access["url"] + self._reads,
                json={"paths": sorted(set(paths))},
                headers={"X-Auth-Token": access["token"]},
            )
        except httpx.TransportError as e:
            raise _Away(f"the platform is away ({e})") from e
        if answer.status_code in (401, 429) or answer.status_code >= 500:
            raise _Away(f"the platform answered {answer.status_code}")
        if answer.status_code != 200:
            raise ProcessingFailure(f"the platform refused to read samples: {answer.text[:300]}")
        urls: dict[str, str] = answer.json()["urls"]
        return urls

    def _one(self, path: str, url: str | None) -> bytes | Unreadable:
        if url is None:
            return Unreadable("it lies outside of the platform's object storage and is not read")
        urls = iter([url])
        return _insist(lambda: self._get(path, next(urls, None) or self._urls([path])[path]))

    def _get(self, path: str, url: str) -> bytes | Unreadable:
        try:
            with self._http.stream("GET", url) as answer:
                if answer.status_code == 404:
                    return Unreadable(f"there is no object {ObjectPath.parse(path)}")
                if answer.status_code != 200:
                    raise _Away(f"the object store answered {answer.status_code} for {path}")
                if int(answer.headers.get("content-length", 0)) > self._largest:
                    return Unreadable(f"it is larger than {self._largest >> 20} MB")
                return answer.read()
        except httpx.TransportError as e:
            raise _Away(f"the object store is away ({e})") from e


def _insist(once: Callable[[], T]) -> T:
    deadline, wait = time.monotonic() + _PATIENCE_S, 0.2
    while True:
        try:
            return once()
        except _Away as e:
            if time.monotonic() + wait > deadline:
                raise ProcessingFailure(str(e)) from e
        time.sleep(wait)
        wait = min(wait * 2, 5.0)
