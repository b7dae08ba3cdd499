"""Fetching inputs and storing outputs, by presigned URLs the platform gives a workload for its own paths."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice, repeat
from pathlib import Path
from typing import Any, TypeVar

import httpx

from bottega.launch import manifests
from bottega.launch.directory import TransferItem, WorkloadDirectory, inside
from bottega.launch.failure import Cancelled, LaunchFailure

_PARALLEL = 8
_BATCH = 500
_CHUNK = 1 << 20
_FIRST_WAIT_S, _LAST_WAIT_S = 0.2, 5.0
T = TypeVar("T")


class Away(Exception):
    """The platform or the object store did not answer as it should; trying again helps."""


class Transfers:
    """Moves files between `work` and object storage.

    What fails because the other side is away is tried again for `patience_s`, so a restart of the platform
    costs time, not the workload. Setting the `cancelled` event given to a call breaks it off with Cancelled.
    """

    def __init__(self, directory: WorkloadDirectory, project_id: str, workload_id: str, work: Path) -> None:
        self._directory = directory
        self._base = f"/v1/{project_id}/workloads/{workload_id}/objects"
        self._work = work
        self._stored: dict[Path, tuple[int, int]] = {}
        # Everything goes to addresses the platform names; no proxy of the environment comes between.
        self._http = httpx.Client(
            timeout=httpx.Timeout(60, connect=5),
            limits=httpx.Limits(max_connections=_PARALLEL + 1),
            trust_env=False,
        )

    def fetch(self, items: Sequence[TransferItem], patience_s: float, cancelled: threading.Event) -> None:
        """Download `items`. Raises LaunchFailure for what is not there, forbidden, or leads outside."""
        patience = _Patience(patience_s, cancelled)
        with ThreadPoolExecutor(_PARALLEL) as pool:
            for item in items:
                if item.get("manifest"):
                    self._fetch_manifest(item, pool, patience)
                    continue
                empty = True
                for page in self._pages(item["path"], patience):
                    empty = False
                    entries = [entry for entry in page if not entry["path"].endswith("/")]
                    targets = [self._target(item, entry["name"]) for entry in entries]
                    list(pool.map(self._download, entries, targets, repeat(patience)))
                if empty:
                    raise LaunchFailure(f"input {item['path']} does not exist")

    def store(
        self,
        outputs: Sequence[TransferItem],
        log: tuple[Path, str] | None,
        patience_s: float,
        cancelled: threading.Event,
    ) -> None:
        """Upload what changed since the last call. `log` is a file and its object path."""
        patience = _Patience(patience_s, cancelled)
        changed = [
            (file, path, stamp)
            for file, path in self._outgoing(outputs, log)
            if (stamp := _stamp(file)) is not None and self._stored.get(file) != stamp
        ]
        with ThreadPoolExecutor(_PARALLEL) as pool:
            for start in range(0, len(changed), _BATCH):
                files, paths, stamps = zip(*changed[start : start + _BATCH], strict=True)
                urls = self._urls("", paths, patience)
                list(pool.map(self._upload, files, paths, stamps, map(urls.get, paths), repeat(patience)))

    def _fetch_manifest(self, item: TransferItem, pool: ThreadPoolExecutor, patience: _Patience) -> None:
        entry = next((e for page in self._pages(item["path"], patience) for e in page), None)
        if entry is None:
            raise LaunchFailure(f"input {item['path']} does not exist")
        manifest = inside(self._work, f"{item['local']}/{entry['name']}")
        self._download(entry, manifest, patience)
        named = manifests.sources(manifest)
        while batch := list(islice(named, _BATCH)):
            urls = self._urls("/reads", batch, patience)
            entries = [{"path": source, "url": urls[source]} for source in batch]
            targets = [inside(self._work, f"{item['local']}/{manifests.place(source)}") for source in batch]
            list(pool.map(self._download, entries, targets, repeat(patience)))
        manifests.write_local(manifest)

    def _pages(self, path: str, patience: _Patience) -> Iterator[list[dict[str, Any]]]:
        start_after: str | None = ""
        while start_after is not None:
            query = {"path": path, "start_after": start_after}
            answer = patience.insist(partial(self._ask, "GET", params=query))
            if answer["objects"]:
                yield answer["objects"]
            start_after = answer["next"]

    def _urls(self, route: str, paths: Sequence[str], patience: _Patience) -> dict[str, str]:
        asking = partial(self._ask, "POST", route, json={"paths": paths})
        urls: dict[str, str] = patience.insist(asking)["urls"]
        return urls

    def _ask(self, method: str, route: str = "", **arguments: Any) -> dict[str, Any]:
        access = self._directory.access()
        try:
            answer = self._http.request(
                method, access["url"] + self._base + route, headers={"X-Auth-Token": access["token"]}, **arguments
            )
        except httpx.TransportError as problem:
            raise Away(f"the platform is away ({problem})") from problem
        if answer.status_code in (401, 429) or answer.status_code >= 500:
            # 401: the token ran out while the platform, which renews it, was away.
            raise Away(f"the platform answered {answer.status_code}")
        if answer.status_code != 200:
            raise LaunchFailure(_message(answer))
        found: dict[str, Any] = answer.json()
        return found

    def _target(self, item: TransferItem, name: str) -> Path:
        if not item["path"].endswith("/"):
            return inside(self._work, item["local"])
        return inside(self._work, f"{item['local']}/{name}" if item["local"] else name)

    def _download(self, entry: dict[str, Any], target: Path, patience: _Patience) -> None:
        urls = iter([entry["url"]])

        def once() -> None:
            url = next(urls, None)
            if url is None:  # the first one may have run out meanwhile
                fresh = self._ask("GET", params={"path": entry["path"], "start_after": ""})["objects"]
                if not fresh:
                    raise LaunchFailure(f"input {entry['path']} does not exist any more")
                url = fresh[0]["url"]
            self._get(url, target)

        target.parent.mkdir(parents=True, exist_ok=True)
        patience.insist(once)

    def _get(self, url: str, target: Path) -> None:
        draft = target.with_name(f".{target.name}.part")
        try:
            with self._http.stream("GET", url) as answer:
                if answer.status_code != 200:
                    raise Away(f"the object store answered {answer.status_code} for {target.name}")
                with draft.open("wb") as file:
                    for chunk in answer.iter_raw(_CHUNK):
                        file.write(chunk)
        except httpx.HTTPError as problem:
            draft.unlink(missing_ok=True)
            raise Away(f"the object store is away ({problem})") from problem
        draft.replace(target)

    def _outgoing(self, outputs: Sequence[TransferItem], log: tuple[Path, str] | None) -> Iterator[tuple[Path, str]]:
        for item in outputs:
            source = inside(self._work, item["local"])
            if not item["path"].endswith("/"):
                yield source, item["path"]
                continue
            for folder, _, names in os.walk(source):
                for name in names:
                    file = Path(folder, name)
                    if self._is_own(file):
                        yield file, item["path"] + file.relative_to(source).as_posix()
        if log is not None:
            yield log

    def _is_own(self, file: Path) -> bool:
        """A link that leads out of the workload's directory is not an output."""
        return not file.is_symlink() or file.resolve().is_relative_to(self._work.resolve())

    def _upload(self, file: Path, path: str, stamp: tuple[int, int], url: str | None, patience: _Patience) -> None:
        given = iter([url])

        def once() -> None:
            # The first URL may have run out, or been issued before the object store moved.
            self._put(file, path, next(given, None) or self._ask("POST", json={"paths": [path]})["urls"][path])

        try:
            patience.insist(once)
        except FileNotFoundError:
            return  # the process took it away again
        self._stored[file] = stamp

    def _put(self, file: Path, path: str, url: str) -> None:
        with file.open("rb") as source:
            size = os.fstat(source.fileno()).st_size
            try:
                answer = self._http.put(url, content=_exactly(source.read, size), headers={"Content-Length": str(size)})
            except httpx.TransportError as problem:
                raise Away(f"the object store is away ({problem})") from problem
        if answer.status_code == 404:
            raise LaunchFailure(f"the bucket of {path} does not exist")
        if answer.status_code not in (200, 201):
            raise Away(f"the object store answered {answer.status_code} for {file.name}")


class _Patience:
    """Tries again, with growing and jittered waits, what failed because the other side is away."""

    def __init__(self, seconds: float, cancelled: threading.Event) -> None:
        self._seconds = seconds
        self._cancelled = cancelled

    def insist(self, action: Callable[[], T]) -> T:
        deadline = time.monotonic() + self._seconds
        wait = _FIRST_WAIT_S
        while True:
            if self._cancelled.is_set():
                raise Cancelled
            try:
                return action()
            except Away as problem:
                if time.monotonic() + wait > deadline:
                    raise LaunchFailure(str(problem)) from problem
            self._cancelled.wait(wait * random.uniform(0.5, 1))  # noqa: S311  # jitter
            wait = min(wait * 2, _LAST_WAIT_S)


def _exactly(read: Callable[[int], bytes], size: int) -> Iterator[bytes]:
    # A file that is written while it is read must not send more than was announced; its next version follows.
    while size > 0:
        chunk = read(min(_CHUNK, size))
        if not chunk:
            raise Away("the file became shorter while it was stored")
        size -= len(chunk)
        yield chunk


def _stamp(file: Path) -> tuple[int, int] | None:
    try:
        info = file.stat()
    except FileNotFoundError:
        return None
    return info.st_mtime_ns, info.st_size


def _message(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["error_msg"])
    except (ValueError, KeyError):
        return f"the platform answered {answer.status_code}"
