"""The bus beside raw nats-py with JSON, on one embedded NATS server and SQLite.

The same CloudEvents travel in both. Publishing, in a window, acknowledged by JetStream: raw is ``publish_async`` and
``json.dumps``; the bus's is what its relay does, with the ids that make publishing twice harmless. Consuming: raw
fetches, parses and acknowledges; the bus does that and commits a row of the handler's, with the record that the event
is done. Latency: from the return of the commit to the first line of the handler, one event at a time.

The outbox path is state change, event, relay and tidying up, one transaction after the other, with one event in each
and with 100; beside it the same transactions without events and without the bus.

Run: ``python tests/benchmarks/bench_bus.py``; the exit status is 1 when a budget is missed.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import anyio
from nats.js.api import StreamConfig
from sqlmodel import Field, SQLModel

from bottega.bus import Bus, NatsOptions
from bottega.database import Database, Transaction
from bottega.embedded import EmbeddedNats
from bottega.events import Envelope, Event, Received, envelop
from bottega.nats_auth import NatsAuthority
from bottega.nats_connection import NatsConnection
from bottega.relay import WINDOW, Outgoing, Relay
from bottega.urn import new_id

EVENTS = 20_000
RUNS = 5
LATENCY_EVENTS = 400
OUTBOX_EVENTS = 2_000
PUBLISH_BUDGET = 0.7
CONSUME_BUDGET = 0.3
LATENCY_BUDGET_MS = 5.0


class Measured(Event, type="bench.job.completed.v1"):
    job_id: str
    duration_s: float


class BenchEffect(SQLModel, table=True):
    __tablename__ = "bench_effect"
    event_id: str = Field(primary_key=True)
    job_id: str


class Bench:
    def __init__(self, directory: Path, server: EmbeddedNats, credentials: str) -> None:
        self.database = Database(f"sqlite+aiosqlite:///{directory}/bench.db")
        self.options = NatsOptions(server.url, credentials)
        self.latencies: list[float] = []
        self.committed_at = 0.0
        self._consumers = 0

    async def create_tables(self) -> None:
        async with self.database.engine.begin() as connection:
            await connection.run_sync(SQLModel.metadata.create_all)

    async def raw(self, envelopes: list[Envelope]) -> tuple[float, float]:
        """Events per second published, and consumed, by nats-py alone."""
        bodies: list[dict[str, Any]] = [json.loads(envelope.encode()) for envelope in envelopes]
        connection = NatsConnection(self.options)
        await connection.open()
        js = connection.js
        await js.add_stream(StreamConfig(name="RAW", subjects=["raw.>"]))
        began = time.perf_counter()
        for body in bodies:
            await js.publish_async(f"raw.p1.{body['type']}", json.dumps(body).encode())
        await js.publish_async_completed()
        published = len(bodies) / (time.perf_counter() - began)
        subscription = await js.pull_subscribe("raw.>", "raw")
        consumed = 0
        began = time.perf_counter()
        while consumed < len(bodies):
            for message in await subscription.fetch(256):
                json.loads(message.data)
                await message.ack()
                consumed += 1
        taken = time.perf_counter() - began
        await js.delete_stream("RAW")
        await connection.close()
        return published, consumed / taken

    async def publish(self, envelopes: list[Envelope]) -> float:
        """Events per second through the relay's window."""
        connection = NatsConnection(self.options)
        await connection.open()
        relay = Relay(self.database, connection)
        began = time.perf_counter()
        for start in range(0, len(envelopes), WINDOW):
            window = [Outgoing(e.id, e.subject, e.encode()) for e in envelopes[start : start + WINDOW]]
            acknowledged, complete = await relay.publish(window)
            assert complete
            assert len(acknowledged) == len(window)
        taken = time.perf_counter() - began
        await connection.close()
        return len(envelopes) / taken

    async def consume(self, total: int) -> float:
        """Events per second of a new plugin that catches up with all `total` events of the stream."""
        self._consumers += 1
        bus = Bus(self.database, self.options)
        name = f"consumer-{self._consumers}"
        bus.bind(name).on(Measured, self._effect)
        began = time.perf_counter()
        await bus.start()
        while bus.stats().consumers[f"{name}__events"].consumed < total:
            await anyio.sleep(0.005)
        taken = time.perf_counter() - began
        await bus.stop()
        return total / taken

    async def latency(self) -> None:
        """Fill `latencies` with the milliseconds between commit and handler."""
        bus = Bus(self.database, self.options)
        bus.bind("latency").on(Measured, self._clock)
        await bus.start()
        consumed = bus.stats().consumers["latency__events"]
        while True:  # until it has caught up with what other measurements published
            before = consumed.consumed
            await anyio.sleep(0.5)
            if consumed.consumed == before:
                break
        self.latencies.clear()
        for n in range(LATENCY_EVENTS):
            await self.commit(n, 1)
            self.committed_at = time.perf_counter()
            await anyio.sleep(0.01)
        await bus.stop()

    async def outbox(self, events_per_transaction: int) -> float:
        """Events per second from state change to an empty outbox."""
        bus = Bus(self.database, self.options)
        await bus.start()
        began = time.perf_counter()
        for n in range(0, OUTBOX_EVENTS, events_per_transaction):
            await self.commit(n, events_per_transaction)
        while await bus.relay.lag():
            await anyio.sleep(0.005)
        taken = time.perf_counter() - began
        await bus.stop()
        return OUTBOX_EVENTS / taken

    async def state_only(self, rows_per_transaction: int) -> float:
        """Rows per second of the same transactions without events."""
        began = time.perf_counter()
        for n in range(0, OUTBOX_EVENTS, rows_per_transaction):
            async with self.database.transaction() as tx:
                for _ in range(rows_per_transaction):
                    tx.session.add(BenchEffect(event_id=new_id(), job_id=f"job-{n}"))
        return OUTBOX_EVENTS / (time.perf_counter() - began)

    async def commit(self, first: int, count: int) -> None:
        async with self.database.bind("bench").transaction() as tx:
            for n in range(first, first + count):
                envelope = tx.emit(Measured(job_id=f"job-{n}", duration_s=1.5), f"bottega:bench:p1:job/{n % 100}")
                tx.session.add(BenchEffect(event_id=envelope.id, job_id=f"job-{n}"))

    async def _effect(self, received: Received[Measured], tx: Transaction) -> None:
        tx.session.add(BenchEffect(event_id=f"{received.envelope.id}-{self._consumers}", job_id=received.event.job_id))

    async def _clock(self, received: Received[Measured], tx: Transaction) -> None:
        self.latencies.append((time.perf_counter() - self.committed_at) * 1000)


def make_envelopes() -> list[Envelope]:
    return [
        envelop(Measured(job_id=f"job-{n}", duration_s=n / 7), f"bottega:bench:p1:job/{n % 100}", "bench")
        for n in range(EVENTS)
    ]


def spread(values: Iterable[float], digits: int = 0) -> str:
    ordered = sorted(values)
    return f"{statistics.median(ordered):,.{digits}f} ({ordered[0]:,.{digits}f}–{ordered[-1]:,.{digits}f})"


async def measure(directory: Path) -> bool:
    authority = NatsAuthority.create()
    server = EmbeddedNats(directory / "nats", authority)
    await server.start()
    bench = Bench(directory, server, authority.issue_user("bench", publish=[">"], subscribe=[">"], expires_in_s=None))
    await bench.create_tables()
    bus = Bus(bench.database, bench.options)
    await bus.start()  # makes the streams
    await bus.stop()
    raw_published, raw_consumed, published, consumed = [], [], [], []
    for run in range(RUNS):
        envelopes = make_envelopes()
        raw = await bench.raw(envelopes)
        raw_published.append(raw[0])
        raw_consumed.append(raw[1])
        published.append(await bench.publish(envelopes))
        consumed.append(await bench.consume((run + 1) * EVENTS))
    publish_ratio = statistics.median(b / r for b, r in zip(published, raw_published, strict=True))
    consume_ratio = statistics.median(b / r for b, r in zip(consumed, raw_consumed, strict=True))
    print(f"{EVENTS} events of {len(envelopes[0].encode())} bytes, {RUNS} runs: median (lowest-highest)")
    print(f"publish in a window, events/s   raw {spread(raw_published)}  bus {spread(published)}")
    print(f"  ratio {publish_ratio:.2f} (budget ≥ {PUBLISH_BUDGET})")
    print(f"consume, events/s               raw {spread(raw_consumed)}  bus, effects once {spread(consumed)}")
    print(f"  ratio {consume_ratio:.2f} (budget ≥ {CONSUME_BUDGET})")
    medians, tails = [], []
    for _ in range(3):
        await bench.latency()
        ordered = sorted(bench.latencies)
        medians.append(statistics.median(ordered))
        tails.append(ordered[int(len(ordered) * 0.99)])
    print(f"commit to handler, ms           p50 {spread(medians, 2)}  p99 {spread(tails, 2)}")
    print(f"  p50 budget ≤ {LATENCY_BUDGET_MS:g}")
    for size in (1, 100):
        alone = [await bench.state_only(size) for _ in range(3)]
        rates = [await bench.outbox(size) for _ in range(3)]
        print(f"transactions of {size:<3}, rows/s    alone {spread(alone)}  with events, relayed {spread(rates)}")
    await bench.database.close()
    await server.stop()
    return (
        publish_ratio >= PUBLISH_BUDGET
        and consume_ratio >= CONSUME_BUDGET
        and statistics.median(medians) <= LATENCY_BUDGET_MS
    )


def main() -> int:
    with tempfile.TemporaryDirectory() as directory:
        return 0 if anyio.run(measure, Path(directory)) else 1


if __name__ == "__main__":
    sys.exit(main())
