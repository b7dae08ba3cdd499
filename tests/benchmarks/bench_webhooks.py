"""Webhooks beside bare httpx posts, to one local receiver in a process of its own, with the same concurrency.

Both send the same 10,000 signed bodies. httpx does nothing else. The platform does all that a webhook is: it reads the
events from NATS, matches and queues them in SQLite, claims them in order for each of 1,000 things, checks that their
owner may see them, sends them, and writes the delivery log. Measured from the commit of the events until the last of
them is answered and nothing waits any more.

Run: ``python tests/benchmarks/bench_webhooks.py``; the exit status is 1 when a budget is missed.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path

import httpx
import uvloop

from bottega.events import Envelope
from bottega.plugins import GROUP, Plugins
from bottega.settings import Settings
from bottega.testing import RunningPlatform, Tenant, wait_until

EVENTS = 10_000
THINGS = 1_000
RUNS = 3
CONCURRENCY = 16
RATE_BUDGET = 500

RECEIVER = """
import sys, uvicorn

taken = 0

async def app(scope, receive, send):
    global taken
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    taken += scope["method"] == "POST"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"%d" % taken})

uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="error", access_log=False, lifespan="off")
"""


@contextmanager
def receiver() -> Iterator[str]:
    """The address of a receiver that takes everything and answers how many it has taken."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-c", RECEIVER, str(port)])
    url = f"http://127.0.0.1:{port}/"

    def up() -> bool:
        try:
            return httpx.get(url).is_success
        except httpx.TransportError:
            return False

    try:
        wait_until(up)
        yield url
    finally:
        process.terminate()
        process.wait(10)


def envelopes(tenant: Tenant) -> list[Envelope]:
    return [
        Envelope(
            id=str(uuid.uuid4()),
            type="core.workload.started.v1",
            urn=f"bottega:core:{tenant.project_id}:workload/{number % THINGS}",
            time="2026-01-01T00:00:00.000000Z",
            data={"workload_id": str(uuid.uuid4()), "kind": "training", "number": number, "text": "x" * 400},
            source="/plugins/core",
            actor="user:bench",
            correlation_id=str(uuid.uuid4()),
        )
        for number in range(EVENTS)
    ]


def bare(url: str, bodies: list[bytes]) -> float:
    """Posts a second by httpx alone."""

    async def post() -> float:
        waiting = iter(bodies)
        headers = {
            "content-type": "application/cloudevents+json",
            "webhook-id": str(uuid.uuid4()),
            "webhook-timestamp": "1700000000",
            "webhook-signature": "v1," + "x" * 44,
        }

        async def worker() -> None:
            for body in waiting:
                assert (await client.post(url, content=body, headers=headers)).is_success

        async with httpx.AsyncClient() as client:
            began = time.perf_counter()
            await asyncio.gather(*(worker() for _ in range(CONCURRENCY)))
            return len(bodies) / (time.perf_counter() - began)

    return asyncio.run(post())


def webhooks(tenant: Tenant, url: str, events: list[Envelope]) -> float:
    """Deliveries a second from the commit of the events on."""
    running, path = tenant.running, "/v1/{project_id}/webhooks"
    counter = httpx.Client()  # a new one each time would cost more than a delivery

    def taken() -> int:
        return int(counter.get(url).text)

    before = taken()
    wanted = {"name": f"w{uuid.uuid4().hex[:8]}", "url": url, "events": ["core.workload.>"]}
    made = tenant.client.post(path, wanted)

    async def say() -> None:
        for start in range(0, len(events), 500):
            async with running.platform("core").database.transaction() as tx:
                tx.envelopes += events[start : start + 500]

    began = time.perf_counter()
    running.run(say())
    wait_until(lambda: taken() - before >= len(events), timeout=300, every=0.1)
    wait_until(lambda: tenant.client.get(f"{path}/{made['id']}")["waiting"] == 0, timeout=60, every=0.1)
    rate = len(events) / (time.perf_counter() - began)
    counter.close()
    tenant.client.delete(f"{path}/{made['id']}")
    return rate


def spread(values: list[float]) -> str:
    ordered = sorted(values)
    return f"{statistics.median(ordered):,.0f} ({ordered[0]:,.0f}–{ordered[-1]:,.0f})"


def main() -> int:
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())  # as `bottega up`
    notify = {"allowed_networks": ["127.0.0.0/8"], "webhook_concurrency": CONCURRENCY}
    found = [point for point in entry_points(group=GROUP) if point.name in ("iam", "notify")]

    def plugins(settings: Settings) -> Plugins:
        return Plugins(settings, found)

    alone: list[float] = []
    ours: list[float] = []
    with (
        tempfile.TemporaryDirectory() as directory,
        receiver() as url,
        RunningPlatform(Path(directory), {"plugins": {"notify": notify}}, plugins) as running,
    ):
        for _ in range(RUNS):
            tenant = running.tenant()
            events = envelopes(tenant)
            alone.append(bare(url, [event.encode() for event in events]))
            ours.append(webhooks(tenant, url, events))
    ratio = statistics.median(o / a for o, a in zip(ours, alone, strict=True))
    print(
        f"{EVENTS} events about {THINGS} things, {CONCURRENCY} requests at a time, {RUNS} runs: median (lowest-highest)"
    )
    print(f"posts/s by httpx alone     {spread(alone)}")
    print(f"webhooks delivered/s       {spread(ours)}  (budget ≥ {RATE_BUDGET})")
    print(f"  ratio {ratio:.2f}")
    return 0 if statistics.median(ours) >= RATE_BUDGET else 1


if __name__ == "__main__":
    sys.exit(main())
