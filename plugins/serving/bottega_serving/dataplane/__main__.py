"""``python -m bottega_serving.dataplane``: the workload of one service.

Environment: ``BOTTEGA_SERVING_SERVICE``, ``BOTTEGA_SERVING_PORT``, ``BOTTEGA_SERVING_MAX_BODY`` (bytes),
``BOTTEGA_SERVING_TRUSTED_PROXIES`` (addresses and networks, with spaces between), and what every workload has
(``BOTTEGA_NATS_URL``, ``BOTTEGA_NATS_CREDENTIALS``). Files are kept below the working directory.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import structlog
import uvicorn
import uvloop

from bottega_serving.dataplane.access import Access
from bottega_serving.dataplane.app import Application
from bottega_serving.dataplane.feed import Feed
from bottega_serving.dataplane.report import Report
from bottega_serving.dataplane.split import Split
from bottega_serving.dataplane.versions import Version, load, settings_of
from bottega_serving.feed_keys import ROUTE
from bottega_serving.inference.session import LoadFailure

log = structlog.get_logger("bottega.serving.dataplane")


class DataPlane:
    """Applies what the platform publishes. A new version takes traffic only once it is loaded."""

    def __init__(self, service_id: str, root: Path, max_body: int) -> None:
        self.report = Report()
        self.application = Application(service_id, self.report, max_body)
        self.failure: str | None = None
        self._root = root
        self._route: dict[str, Any] | None = None
        self._callers: dict[str, Any] | None = None
        self._route_is_new = asyncio.Event()
        self._versions: dict[str, Version] = {}
        self._retiring: set[asyncio.Task[None]] = set()

    async def changed(self, name: str, content: bytes) -> None:
        """Take what was published. Who may call counts at once; a route as soon as its models are loaded (`run`)."""
        document = orjson.loads(content)
        if name == ROUTE:
            self._route = document
            self._route_is_new.set()
        else:
            self._callers = document
        if self._route and self._callers:
            self.application.access = Access(self._route, self._callers)

    async def run(self) -> None:
        """Load one route after the other, the newest only, until none of a first route's versions can be loaded."""
        while self.failure is None:
            await self._route_is_new.wait()
            self._route_is_new.clear()
            assert self._route is not None
            await self._load(self._route)

    async def _load(self, route: dict[str, Any]) -> None:
        entries = {entry["model_id"]: entry for entry in route["versions"]}
        kept = {id: v for id, v in self._versions.items() if id in entries and v.settings == settings_of(entries[id])}
        fresh = [entry for id, entry in entries.items() if id not in kept]
        self.report.versions |= {entry["model_id"]: {"state": "loading"} for entry in fresh}
        loaded = await asyncio.gather(*(self._load_one(entry) for entry in fresh))
        wanted = {**kept, **{v.model_id: v for v in loaded if isinstance(v, Version)}}
        failures = {e["model_id"]: v for e, v in zip(fresh, loaded, strict=True) if isinstance(v, str)}
        self._take_over(route, wanted, failures)

    async def _load_one(self, entry: dict[str, Any]) -> Version | str:
        """A version, or why it cannot be loaded."""
        try:
            return await load(entry, self._root, self.report.counts_of(entry["model_id"]))
        except LoadFailure as problem:
            log.error("version.failed", model=entry["model_name"], version=entry["model_version"], reason=str(problem))
            return str(problem)

    def _take_over(self, route: dict[str, Any], wanted: dict[str, Version], failures: dict[str, str]) -> None:
        """Traffic follows the new route when all of it is loaded. Else a service that runs keeps what it had; one that
        starts takes what there is."""
        self.report.route_revision = route["revision"]
        states = {id: {"state": "ready"} for id in wanted}
        states |= {id: {"state": "failed", "reason": reason} for id, reason in failures.items()}
        self.report.versions = states
        choices = [(wanted[e["model_id"]], e["weight"]) for e in route["versions"] if e["model_id"] in wanted]
        if failures and self.application.split is not None:
            self._retire([v for v in wanted.values() if v is not self._versions.get(v.model_id)])
            return
        if not any(weight for _, weight in choices):
            self.failure = "; ".join(failures.values()) or "no version takes traffic"
            return
        self.application.split = Split(choices)
        self._retire([v for v in self._versions.values() if wanted.get(v.model_id) is not v])
        self._versions = wanted

    def _retire(self, versions: list[Version]) -> None:
        for version in versions:
            task = asyncio.create_task(version.retire())
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)

    async def close(self) -> None:
        self._retire(list(self._versions.values()))
        if self._retiring:
            await asyncio.wait(self._retiring, timeout=5)


class _Server(uvicorn.Server):
    """Ends by returning: uvicorn's own way raises the signal again, and the last calls would go uncounted."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve() -> str | None:
    """Run until asked to end. Returns why the service cannot run, or None."""
    environ = os.environ
    service_id = environ["BOTTEGA_SERVING_SERVICE"]
    plane = DataPlane(service_id, Path.cwd(), int(environ.get("BOTTEGA_SERVING_MAX_BODY", str(64 << 20))))
    credentials = Path(environ["BOTTEGA_NATS_CREDENTIALS"])
    proxies = environ.get("BOTTEGA_SERVING_TRUSTED_PROXIES", "").split()
    feed = Feed(service_id, environ["BOTTEGA_NATS_URL"], credentials, plane.changed, plane.report)
    config = uvicorn.Config(
        plane.application,
        host="127.0.0.1",
        port=int(environ["BOTTEGA_SERVING_PORT"]),
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        log_level="warning",
        server_header=False,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=proxies,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=8,
        backlog=4096,
    )
    server = _Server(config)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, server.handle_exit, number, None)

    def end(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception():
            log.error("dataplane.broken", exc_info=task.exception())
        server.should_exit = True

    background = [asyncio.create_task(feed.run()), asyncio.create_task(plane.run())]
    for task in background:
        task.add_done_callback(end)
    try:
        await server.serve()
    finally:
        for task in background:
            task.cancel()
        await feed.close()
        await plane.close()
    return plane.failure


if __name__ == "__main__":
    reason = uvloop.run(serve())
    if reason:
        sys.exit(reason)
