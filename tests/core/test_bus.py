"""The bus on a real NATS server, over SQLite and PostgreSQL: once in effect, in order, through failures."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest
import structlog
from mypy import api as mypy
from nats.aio.client import Client, RawCredentials
from sqlalchemy import insert
from sqlmodel import Field, SQLModel, func, select

from bottega.bus import Bus, BusOptions, DeliveryExhausted, DeliveryPolicy, NatsOptions, Reject, Retry
from bottega.context import Context, Principal, acting, current, now_ms
from bottega.database import Database, Transaction
from bottega.embedded import EmbeddedNats
from bottega.entities import Outbox, ProcessedEvent
from bottega.errors import NotFound, PluginError, Unavailable
from bottega.events import Envelope, Event, Received, envelop
from bottega.nats_auth import NatsAuthority

pytestmark = pytest.mark.anyio


class Made(Event, type="maker.thing.made.v1"):
    number: int


class Painted(Event, type="maker.thing.painted.v1"):
    number: int
    color: str = ""


class Noticed(Event, type="watcher.thing.noticed.v1"):
    number: int


class BusEffect(SQLModel, table=True):
    """What handlers of these tests leave behind."""

    __tablename__ = "test_bus_effect"
    id: int | None = Field(default=None, primary_key=True)
    who: str
    urn: str
    number: int


FAST = DeliveryPolicy(backoff_s=(0.05, 0.1), ack_wait_s=5.0)


class World:
    """One NATS server and one database, and buses on them that come and go."""

    def __init__(self, nats: EmbeddedNats, authority: NatsAuthority, database_url: str) -> None:
        self.nats = nats
        self.database_url = database_url
        self.database = Database(database_url)
        self.credentials = authority.issue_user("platform", publish=[">"], subscribe=[">"], expires_in_s=None)

    def bus(self, policy: DeliveryPolicy = FAST, **options: Any) -> Bus:
        return Bus(self.database, NatsOptions(self.nats.url, self.credentials), BusOptions(delivery=policy, **options))

    @asynccontextmanager
    async def running(
        self, subscribe: Callable[[Bus], None] = lambda _: None, policy: DeliveryPolicy = FAST, **options: Any
    ) -> AsyncIterator[Bus]:
        bus = self.bus(policy, **options)
        subscribe(bus)
        await bus.start()
        try:
            yield bus
        finally:
            await bus.stop()

    async def emit(self, *events: Event, thing: str = "a", source: str = "maker") -> list[Envelope]:
        async with self.database.bind(source).transaction() as tx:
            return [tx.emit(event, f"bottega:maker:p1:thing/{thing}") for event in events]

    async def effects(self, who: str | None = None, thing: str | None = None) -> list[int]:
        query = select(BusEffect).order_by(BusEffect.id)  # type: ignore[arg-type]  # a column
        async with self.database.read() as session:
            rows = (await session.exec(query)).all()
        return [r.number for r in rows if who in (None, r.who) and (thing is None or r.urn.endswith(f"/{thing}"))]

    @asynccontextmanager
    async def wire(self) -> AsyncIterator[Client]:
        """A client of its own, to see and say what is on the wire."""
        client = Client()
        await client.connect(self.nats.url, user_credentials=RawCredentials(self.credentials))
        try:
            yield client
        finally:
            await client.close()


def record(who: str) -> Callable[[Received[Any], Transaction], Awaitable[None]]:
    async def handler(received: Received[Any], tx: Transaction) -> None:
        tx.session.add(BusEffect(who=who, urn=received.urn, number=received.event.number))

    return handler


def listening(plugin: str, *events: type[Event]) -> Callable[[Bus], None]:
    def subscribe(bus: Bus) -> None:
        for event in events:
            bus.bind(plugin).on(event, record(plugin))

    return subscribe


async def eventually(check: Callable[[], Awaitable[Any]], expected: Any, timeout: float = 20) -> None:
    seen: Any = None
    with anyio.move_on_after(timeout):
        while (seen := await check()) != expected:
            await anyio.sleep(0.02)
    assert seen == expected


@pytest.fixture(params=["sqlite", "postgresql"])
async def world(request: pytest.FixtureRequest, tmp_path: Path, anyio_backend: str) -> AsyncIterator[World]:
    if request.param == "sqlite":
        url = f"sqlite+aiosqlite:///{tmp_path}/bottega.db"
    else:
        url = request.getfixturevalue("postgres").database()
    authority = NatsAuthority.create()
    nats = EmbeddedNats(tmp_path / "nats", authority)
    await nats.start()
    world = World(nats, authority, url)
    tables = [SQLModel.metadata.tables[t] for t in ("core_outbox", "core_processed_event", "test_bus_effect")]
    async with world.database.engine.begin() as connection:
        await connection.run_sync(lambda c: SQLModel.metadata.drop_all(c, tables))
        await connection.run_sync(lambda c: SQLModel.metadata.create_all(c, tables))
    yield world
    await world.database.close()
    await nats.stop()


async def test_a_plugin_hears_its_events_in_the_order_of_the_stream_whatever_their_types(world: World) -> None:
    async with world.running(listening("watcher", Made, Painted)):
        for n in range(0, 40, 2):
            await world.emit(Made(number=n), Painted(number=n + 1, color="red"))
        await eventually(world.effects, list(range(40)))


async def test_an_event_published_many_times_has_its_effects_once(world: World) -> None:
    async with world.running(listening("watcher", Made)) as bus, world.wire() as client:
        (envelope,) = await world.emit(Made(number=1))
        await eventually(world.effects, [1])
        for _ in range(5):  # no Nats-Msg-Id: JetStream itself cannot know them
            await client.jetstream().publish(envelope.subject, envelope.encode())
        await world.emit(Made(number=2))
        await eventually(world.effects, [1, 2])
        await eventually(lambda: _value(bus.stats().consumers["watcher__events"].consumed), 7)
        assert await world.effects() == [1, 2]


async def test_duplicates_within_one_batch_have_their_effects_once(world: World) -> None:
    envelopes = [envelop(Made(number=n), "bottega:maker:p1:thing/a", "maker") for n in range(50)]
    async with world.running():  # makes the stream
        pass
    async with world.wire() as client:
        for envelope in [*envelopes, *envelopes[10:30]]:
            await client.jetstream().publish(envelope.subject, envelope.encode())
    async with world.running(listening("watcher", Made)) as bus:
        await eventually(lambda: _value(bus.stats().consumers["watcher__events"].consumed), 70)
    assert await world.effects() == list(range(50))


DIES_AFTER_COMMIT = """
import os, signal, sys, anyio
from sqlmodel import Field, SQLModel
from bottega.bus import Bus, NatsOptions
from bottega.database import Database
from bottega.events import Event

class Made(Event, type="maker.thing.made.v1"):
    number: int

class Noticed(Event, type="watcher.thing.noticed.v1"):
    number: int

class BusEffect(SQLModel, table=True):
    __tablename__ = "test_bus_effect"
    id: int | None = Field(default=None, primary_key=True)
    who: str
    urn: str
    number: int

async def handler(received, tx):
    tx.session.add(BusEffect(who="watcher", urn=received.urn, number=received.event.number))
    tx.emit(Noticed(number=received.event.number), received.urn)

async def main():
    url, nats_url = sys.argv[1:]
    database = Database(url)
    bus = Bus(database, NatsOptions(nats_url, sys.stdin.read()))
    bus.bind("watcher").on(Made, handler)
    # The first thing after the commit, before the acknowledgement and before the relay:
    database.on_commit(lambda envelopes: os.kill(os.getpid(), signal.SIGKILL))
    await bus.start()
    await anyio.sleep(60)

anyio.run(main)
"""


async def test_killed_between_commit_and_acknowledgement_nothing_is_lost_or_done_twice(world: World) -> None:
    async with world.running(listening("watcher")):
        await world.emit(*(Made(number=n) for n in range(3)))
        await world.emit(Made(number=3), thing="b")
        await eventually(lambda: _outbox(world), 0)
    died = await anyio.run_process(
        [sys.executable, "-c", DIES_AFTER_COMMIT, world.database_url, world.nats.url],
        input=world.credentials.encode(),
        check=False,
        stderr=subprocess.STDOUT,
    )
    assert died.returncode == -signal.SIGKILL, died.stdout.decode()
    committed = await world.effects()
    assert committed  # it died after a commit, with follow-up events in the outbox
    assert await _outbox(world) == len(committed)

    def subscribe(bus: Bus) -> None:
        bus.bind("watcher").on(Made, record("watcher"))
        bus.bind("third").on(Noticed, record("third"))

    began = time.monotonic()
    async with world.running(subscribe):
        await eventually(lambda: _sorted(world.effects("watcher")), [0, 1, 2, 3])
        await eventually(lambda: _sorted(world.effects("third")), sorted(committed))
        assert await world.effects("watcher", "a") == [0, 1, 2]
    assert time.monotonic() - began < FAST.ack_wait_s, "what the dead process held was waited for"


async def test_what_a_killed_process_held_comes_before_what_is_newer(world: World) -> None:
    """An external handler dies at work on the first of three; the next process begins with it, at once."""
    script = DIES_AFTER_COMMIT.replace(
        'bus.bind("watcher").on(Made, handler)',
        'bus.bind("watcher").on_external(Made, dies)',
    ).replace(
        "async def main():", "async def dies(received):\n    os.kill(os.getpid(), signal.SIGKILL)\n\nasync def main():"
    )
    async with world.running():
        await world.emit(*(Made(number=n) for n in range(3)))
        await eventually(lambda: _outbox(world), 0)
    died = await anyio.run_process(
        [sys.executable, "-c", script, world.database_url, world.nats.url],
        input=world.credentials.encode(),
        check=False,
    )
    assert died.returncode == -signal.SIGKILL
    seen: list[int] = []

    async def external(received: Received[Made]) -> None:
        seen.append(received.event.number)

    async with world.running(lambda bus: bus.bind("watcher").on_external(Made, external)):
        await world.emit(Made(number=3))
        await eventually(lambda: _value(seen), [0, 1, 2, 3], timeout=FAST.ack_wait_s - 1)


async def test_a_failing_event_holds_up_its_own_entity_only(world: World) -> None:
    tries: list[tuple[int, int]] = []
    order: list[tuple[str, int]] = []

    async def handler(received: Received[Made], tx: Transaction) -> None:
        number = received.event.number
        if received.urn.endswith("/a") and number == 2:
            tries.append((number, received.attempt))
            if received.attempt < 3:
                raise ValueError("not yet")
        await record("watcher")(received, tx)
        order.append((received.urn[-1], number))

    async with world.running(lambda bus: bus.bind("watcher").on(Made, handler)) as bus:
        await world.emit(*(Made(number=n) for n in range(6)), thing="a")
        await world.emit(*(Made(number=n) for n in range(6)), thing="b")
        await eventually(lambda: world.effects(thing="a"), list(range(6)))
        await eventually(lambda: world.effects(thing="b"), list(range(6)))
        assert bus.stats().consumers["watcher__events"].retried == 2
        assert await bus.dead_letters() == []
    assert max(attempt for _, attempt in tries) == 3
    assert len(order) - 1 - order[::-1].index(("b", 5)) < order.index(("a", 3)), "b did not wait for a"


async def test_nats_killed_during_commits_every_event_arrives_once_and_in_order(world: World) -> None:
    things = "abcd"
    async with world.running(listening("watcher", Made)):
        for n in range(120):
            if n == 40:
                os.kill(world.nats.pid, signal.SIGKILL)
            await world.emit(Made(number=n), thing=things[n % 4])
        for i, thing in enumerate(things):
            expected = list(range(i, 120, 4))
            await eventually(lambda thing=thing: world.effects(thing=thing), expected, timeout=40)  # type: ignore[misc]
        await eventually(lambda: _outbox(world), 0)
    async with world.running() as bus:
        assert len([e async for e in bus.tail("evt.p1.maker.>", sequence=1, follow=False)]) == 120


async def test_while_nats_is_away_state_changes_go_on_and_events_follow(world: World) -> None:
    async with world.running(listening("watcher", Made)) as bus:
        await world.emit(Made(number=0))
        await eventually(world.effects, [0])
        await world.nats.stop()
        await eventually(lambda: _value(bus.connected), False)
        for n in range(1, 30):
            with anyio.fail_after(2):
                await world.emit(Made(number=n))
        assert await bus.relay.lag() == 29
        await world.nats.start()
        await eventually(world.effects, list(range(30)))
        await eventually(bus.relay.lag, 0)


async def test_events_committed_before_the_bus_ever_started_are_published(world: World) -> None:
    await world.emit(*(Made(number=n) for n in range(1200)))  # more than two windows
    async with world.running(listening("watcher", Made)) as bus:
        await eventually(world.effects, list(range(1200)))
        assert bus.stats().published == 1200


async def test_an_event_too_large_for_the_server_does_not_hold_up_the_others(world: World) -> None:
    async with world.running(listening("watcher", Made, Painted)) as bus:
        await world.emit(Painted(number=1, color="x" * 2_000_000), Made(number=2))
        await world.emit(Made(number=3))
        await eventually(world.effects, [2, 3])
        await eventually(bus.relay.lag, 1)


async def test_publishing_again_after_a_crash_before_the_outbox_was_tidied_adds_nothing(world: World) -> None:
    (envelope,) = await world.emit(Made(number=1))
    row = {"event_id": envelope.id, "subject": envelope.subject, "payload": envelope.encode()}
    async with world.running(listening("watcher", Made)):
        await eventually(world.effects, [1])
        await eventually(lambda: _outbox(world), 0)
    async with world.database.transaction() as tx:
        await tx.session.execute(insert(Outbox).values(**row))
    async with world.running(listening("watcher", Made)) as bus:
        await eventually(lambda: _outbox(world), 0)
        assert [e.id async for e in bus.tail(sequence=1, follow=False)] == [envelope.id]
    assert await world.effects() == [1]


async def test_the_outbox_row_is_what_travels(world: World) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with acting(traceparent=trace):
        (envelope,) = await world.emit(Made(number=1))
    async with world.database.read() as session:
        stored = (await session.exec(select(Outbox))).one()
    async with world.running(), world.wire() as client:
        await eventually(lambda: _outbox(world), 0)
        before = await client.jetstream().get_msg("EVENTS", seq=1)
        with acting(traceparent=trace):
            await world.emit(Made(number=2))
        await eventually(lambda: _outbox(world), 0)
        after = await client.jetstream().get_msg("EVENTS", seq=2)
    assert before.data == stored.payload == envelope.encode()
    assert before.subject == "evt.p1.maker.thing.made.v1"
    assert before.headers == {"Nats-Msg-Id": envelope.id, "Content-Type": "application/cloudevents+json"}
    assert after.headers is not None
    assert after.headers["traceparent"] == trace


async def test_a_dead_letter_is_shown_and_replayed_to_its_consumer_alone_after_the_fix(world: World) -> None:
    async def broken(received: Received[Made], tx: Transaction) -> None:
        tx.session.add(BusEffect(who="broken", urn=received.urn, number=-1))
        raise RuntimeError("the printer is on fire")

    exhausted: list[Received[DeliveryExhausted]] = []

    async def notice(received: Received[DeliveryExhausted], tx: Transaction) -> None:
        exhausted.append(received)

    def subscribe(bus: Bus) -> None:
        bus.bind("fragile").on(Made, broken)
        bus.bind("watcher").on(Made, record("watcher"))
        bus.bind("operator").on(DeliveryExhausted, notice)

    async with world.running(subscribe) as bus:
        (envelope,) = await world.emit(Made(number=7))
        await eventually(lambda: _length(bus.dead_letters()), 1)
        (letter,) = await bus.dead_letters(consumer="fragile__events")
        assert await bus.dead_letters(consumer="watcher__events") == []
        assert (letter.event_id, letter.event_type, letter.urn) == (envelope.id, envelope.type, envelope.urn)
        assert letter.reason == "RuntimeError: the printer is on fire"
        assert (letter.consumer, letter.attempts, letter.event_sequence) == ("fragile__events", 3, 1)
        assert letter.payload == envelope.encode()
        assert letter.time <= datetime.now(UTC).isoformat()
        assert await bus.dead_letter(letter.sequence) == letter
        await eventually(lambda: _value([e.event.event_id for e in exhausted]), [envelope.id])
        assert exhausted[0].urn == envelope.urn
        assert bus.stats().consumers["fragile__events"].dead == 1
        with pytest.raises(NotFound, match="999"):
            await bus.replay(999)

    def repaired(bus: Bus) -> None:
        bus.bind("fragile").on(Made, record("fragile"))
        bus.bind("watcher").on(Made, record("watcher"))

    async with world.running(repaired) as bus:
        await world.emit(Made(number=8), thing="b")
        await eventually(lambda: world.effects("fragile"), [8])  # a restart alone does not bring it back
        assert (await bus.replay(letter.sequence)).event_id == envelope.id
        await eventually(lambda: world.effects("fragile"), [8, 7])
        assert await bus.dead_letters() == []
        with pytest.raises(NotFound):
            await bus.replay(letter.sequence)
        await world.emit(Made(number=9), thing="b")
        await eventually(lambda: world.effects("fragile"), [8, 7, 9])
        await eventually(lambda: world.effects("watcher"), [7, 8, 9])
    assert await world.effects("broken") == []


async def test_a_replay_that_fails_again_is_a_new_dead_letter_which_can_be_purged(world: World) -> None:
    async def broken(received: Received[Made], tx: Transaction) -> None:
        raise Reject("never")

    async with world.running(lambda bus: bus.bind("fragile").on(Made, broken)) as bus:
        await world.emit(Made(number=1))
        await eventually(lambda: _length(bus.dead_letters()), 1)
        (first,) = await bus.dead_letters()
        await bus.replay(first.sequence)
        await eventually(lambda: _value_of(bus.dead_letters(), lambda found: [f.sequence for f in found]), [2])
        (second,) = await bus.dead_letters()
        assert (second.subject, second.reason, second.attempts) == (first.subject, "never", 1)
        await bus.purge(second.sequence)
        assert await bus.dead_letters() == []
        with pytest.raises(NotFound):
            await bus.purge(second.sequence)


async def test_reject_is_final_at_once_and_retry_does_not_count(world: World) -> None:
    asked: list[int] = []

    async def handler(received: Received[Made], tx: Transaction) -> None:
        if received.event.number == 1:
            raise Reject("no such color")
        asked.append(received.attempt)
        if len(asked) < 8:  # more often than failures are allowed
            raise Retry(0.01)
        await record("watcher")(received, tx)

    async with world.running(lambda bus: bus.bind("watcher").on(Made, handler)) as bus:
        await world.emit(Made(number=1), Made(number=2))
        await eventually(world.effects, [2])
        (letter,) = await bus.dead_letters()
        assert (letter.reason, letter.attempts) == ("no such color", 1)


async def test_retry_ends_when_it_has_been_asked_for_too_long(world: World) -> None:
    async def handler(received: Received[Made], tx: Transaction) -> None:
        raise Retry(0.02, "still not there")

    policy = DeliveryPolicy(backoff_s=(0.02,), retry_for_s=0.3)
    async with world.running(lambda bus: bus.bind("watcher").on(Made, handler), policy) as bus:
        await world.emit(Made(number=1))
        await eventually(lambda: _length(bus.dead_letters()), 1)
        assert "still not there" in (await bus.dead_letters())[0].reason


async def test_a_handler_that_hangs_is_cut_off_and_does_not_keep_the_database(world: World) -> None:
    async def handler(received: Received[Made], tx: Transaction) -> None:
        await tx.session.execute(insert(BusEffect).values(who="hung", urn=received.urn, number=0))
        await anyio.sleep(30)

    policy = DeliveryPolicy(backoff_s=(), handler_timeout_s=0.3)
    async with world.running(lambda bus: bus.bind("watcher").on(Made, handler), policy) as bus:
        await world.emit(Made(number=1))
        await eventually(lambda: _length(bus.dead_letters()), 1)
        with anyio.fail_after(5):
            await world.emit(Made(number=2), thing="b")
    assert await world.effects() == []


async def test_messages_nobody_can_read_become_dead_letters_and_the_others_go_on(world: World) -> None:
    good = envelop(Made(number=1), "bottega:maker:p1:thing/a", "maker")
    foreign = envelop(Made(number=2), "bottega:maker:p2:thing/a", "maker")
    nameless = envelop(Made(number=3), "bottega:maker:p1:thing/a", "maker").encode().replace(b"bottega:maker:p1", b"x")
    wrong = envelop(Made(number=4), "bottega:maker:p1:thing/a", "maker").encode().replace(b":4}", b':"many"}')
    numbered = good.encode().replace(b'"' + good.id.encode() + b'"', b"5", 1)
    null = good.encode().replace(good.id.encode(), b"\\u0000", 1)
    bad = (b"", b"\xff\x00", b"[]", b"{}", b'{"id": 1}', nameless, wrong, foreign.encode(), numbered, null)
    async with world.running(listening("watcher", Made)) as bus, world.wire() as client:
        for payload in (*bad, good.encode()):
            await client.jetstream().publish(good.subject, payload)
        await eventually(world.effects, [1])
        await eventually(lambda: _length(bus.dead_letters()), len(bad))
        letters = {letter.payload: letter for letter in await bus.dead_letters()}
        assert "evt.p2" in letters[foreign.encode()].reason
        assert "number" in letters[wrong].reason
        assert letters[b"\xff\x00"].event_id == ""
        assert {letter.attempts for letter in letters.values()} == {1}


async def test_a_handler_runs_as_the_actor_and_what_it_emits_names_its_cause(world: World) -> None:
    logged: list[dict[str, Any]] = []

    async def handler(received: Received[Made], tx: Transaction) -> None:
        logged.append(structlog.contextvars.get_contextvars())
        tx.emit(Noticed(number=received.event.number), received.urn)

    ann = Principal(account_id="acme", user_id="u1", user_name="ann")
    with acting(Context(principal=ann, request_id="request-1", traceparent="00-11-22-01")):
        (cause,) = await world.emit(Made(number=1))
    async with world.running(lambda bus: bus.bind("watcher").on(Made, handler)) as bus:
        await eventually(lambda: _length(_collect(bus.tail(sequence=1, follow=False))), 2)
        _, effect = await _collect(bus.tail(sequence=1, follow=False))
    assert effect.type == Noticed.type
    assert effect.source == "/plugins/watcher"
    assert effect.causation_id == cause.id
    assert effect.correlation_id == cause.correlation_id == "request-1"
    assert effect.actor == cause.actor == "user:u1"
    assert effect.traceparent == "00-11-22-01"
    assert logged == [{"event_id": cause.id, "event_type": Made.type, "consumer": "watcher__events"}]
    assert current().causation_id is None


async def test_external_handlers_outlast_ack_wait_and_keep_the_order_of_each_entity(world: World) -> None:
    running: set[str] = set()
    together: set[frozenset[str]] = set()
    seen: list[tuple[str, int]] = []

    async def slow(received: Received[Made]) -> None:
        running.add(received.urn[-1])
        together.add(frozenset(running))
        seen.append((received.urn[-1], received.event.number))
        await anyio.sleep(1.6 if received.event.number == 0 else 0)
        running.discard(received.urn[-1])

    policy = DeliveryPolicy(ack_wait_s=0.6)
    async with world.running(lambda bus: bus.bind("runner").on_external(Made, slow), policy) as bus:
        for n in range(2):
            await world.emit(Made(number=n), thing="a")
            await world.emit(Made(number=n), thing="b")
        await eventually(lambda: _value(bus.stats().consumers["runner__external"].consumed), 4)
        await anyio.sleep(0.7)  # a redelivery would come within ack_wait
        assert sorted(seen) == [("a", 0), ("a", 1), ("b", 0), ("b", 1)]
        assert frozenset("ab") in together
        assert bus.stats().consumers["runner__external"].retried == 0


async def test_external_handlers_are_retried_then_dead_and_leave_others_alone(world: World) -> None:
    seen: list[tuple[str, int]] = []

    async def flaky(received: Received[Made]) -> None:
        seen.append((received.urn[-1], received.attempt))
        if received.urn.endswith("/a"):
            raise OSError("no route")

    async with world.running(lambda bus: bus.bind("runner").on_external(Made, flaky)) as bus:
        await world.emit(Made(number=0), thing="a")
        await world.emit(Made(number=0), thing="b")
        await eventually(lambda: _length(bus.dead_letters(consumer="runner__external")), 1)
    assert [s for s in seen if s[0] == "a"] == [("a", 1), ("a", 2), ("a", 3)]
    assert [s for s in seen if s[0] == "b"] == [("b", 1)]


async def test_a_plugin_that_was_away_catches_up_and_a_new_one_begins_at_the_start(world: World) -> None:
    async with world.running(listening("billing", Made)):
        await world.emit(Made(number=0))
        await eventually(lambda: world.effects("billing"), [0])
    async with world.running():
        await world.emit(Made(number=1), Made(number=2))
        await eventually(lambda: _outbox(world), 0)

    def both(bus: Bus) -> None:
        listening("billing", Made)(bus)
        listening("late", Made)(bus)

    async with world.running(both):
        await eventually(lambda: world.effects("billing"), [0, 1, 2])
        await eventually(lambda: world.effects("late"), [0, 1, 2])


async def test_a_plugin_may_change_what_it_listens_to_and_keeps_its_place(world: World) -> None:
    async with world.running(listening("watcher", Made)):
        await world.emit(Made(number=0))
        await eventually(world.effects, [0])
    async with world.running(listening("watcher", Made, Painted)):
        await world.emit(Painted(number=1), Made(number=2))
        await eventually(world.effects, [0, 1, 2])
    async with world.running(listening("watcher", Painted)):
        await world.emit(Made(number=3), Painted(number=4))
        await eventually(world.effects, [0, 1, 2, 4])


async def test_handlers_of_one_event_share_a_transaction_and_plugins_do_not(world: World) -> None:
    async def fails(received: Received[Made], tx: Transaction) -> None:
        raise Reject("no")

    def subscribe(bus: Bus) -> None:
        bus.bind("one").on(Made, record("one"))
        bus.bind("one").on(Made, fails)
        bus.bind("two").on(Made, record("two"))

    async with world.running(subscribe) as bus:
        await world.emit(Made(number=1))
        await eventually(lambda: world.effects("two"), [1])
        await eventually(lambda: _length(bus.dead_letters()), 1)
    assert await world.effects("one") == []


async def test_records_of_processed_events_are_pruned_when_the_stream_has_dropped_the_events(world: World) -> None:
    day_ms = 86_400_000
    rows = [
        {"consumer": "watcher__events", "event_id": str(age), "processed_at": now_ms() - age * day_ms}
        for age in (1, 29, 31, 400)
    ]
    async with world.database.transaction() as tx:
        await tx.session.execute(insert(ProcessedEvent), rows)
    async with world.running():
        await eventually(lambda: _count(world, ProcessedEvent), 2)


async def test_tail_follows_from_now_on_across_a_restart_of_nats(world: World) -> None:
    seen: list[int] = []
    async with world.running() as bus, anyio.create_task_group() as tasks:
        await world.emit(Made(number=0))
        await eventually(lambda: _outbox(world), 0)

        async def follow() -> None:
            async for envelope in bus.tail("evt.p1.maker.thing.made.v1"):
                seen.append(int(envelope.data["number"]))  # noqa: PERF401 - it never ends

        tasks.start_soon(follow)
        await eventually(lambda: _tails(world), 1)
        await world.emit(Made(number=1), Painted(number=2), Made(number=3))
        await eventually(lambda: _value(seen), [1, 3])
        os.kill(world.nats.pid, signal.SIGKILL)
        await world.emit(Made(number=4))
        await eventually(lambda: _value(seen), [1, 3, 4])
        tasks.cancel_scope.cancel()


async def test_tail_reads_what_there_is_from_a_sequence_or_a_time(world: World) -> None:
    async with world.running() as bus:
        assert await _collect(bus.tail(sequence=1, follow=False)) == []
        await world.emit(*(Made(number=n) for n in range(5)))
        await eventually(lambda: _outbox(world), 0)
        await anyio.sleep(0.05)
        since = datetime.now(UTC)
        await world.emit(Made(number=5), Painted(number=6))
        await eventually(lambda: _outbox(world), 0)
        assert [e.data["number"] for e in await _collect(bus.tail(sequence=4, follow=False))] == [3, 4, 5, 6]
        assert [e.data["number"] for e in await _collect(bus.tail(since=since, follow=False))] == [5, 6]
        painted = await _collect(bus.tail("evt.*.maker.thing.painted.v1", sequence=1, follow=False))
        assert [e.data["number"] for e in painted] == [6]


async def test_logs_are_a_firehose_and_kv_feeds_data_planes(world: World) -> None:
    async with world.running() as bus, world.wire() as client:
        subscription = await client.subscribe("log.p1.>")
        await client.jetstream().account_info()  # answered after the subscription is known; `flush` may overtake it
        await bus.publish_log("p1", "job", "j-1", "stdout", b"epoch 1")
        message = await subscription.next_msg(timeout=5)
        assert (message.subject, message.data) == ("log.p1.job.j-1.stdout", b"epoch 1")
        with pytest.raises(Exception, match="log subject"):
            await bus.publish_log("p1", "job", "j.*", "stdout", b"")
        await (await bus.kv("routes")).put("service.s1", b"v1")
        assert (await (await bus.kv("routes")).get("service.s1")).value == b"v1"


async def test_wrong_registrations_and_an_unreachable_server_are_refused_with_the_reason(world: World) -> None:
    def not_async(received: Received[Made], tx: Transaction) -> None:
        return None

    bus = world.bus()
    with pytest.raises(PluginError, match="async"):
        bus.bind("watcher").on(Made, not_async)  # type: ignore[arg-type]  # what is tested
    with pytest.raises(PluginError, match="lower case"):
        bus.bind("a.b")
    await bus.start()
    with pytest.raises(PluginError, match="after the bus has started"):
        bus.bind("watcher").on(Made, record("watcher"))
    await bus.stop()
    await bus.stop()
    stranger = NatsAuthority.create().issue_user("x", publish=[">"], subscribe=[">"], expires_in_s=None)
    refused = Bus(world.database, NatsOptions(world.nats.url, stranger, open_timeout_s=1))
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:\d+ is not usable after 1 s: .*[Aa]uthorization"):
        await refused.start()


async def test_stopping_lets_a_handler_at_work_finish(world: World) -> None:
    entered = anyio.Event()

    async def handler(received: Received[Made], tx: Transaction) -> None:
        entered.set()
        await anyio.sleep(0.3)
        await record("watcher")(received, tx)

    async with world.running(lambda bus: bus.bind("watcher").on(Made, handler)):
        await world.emit(Made(number=1))
        await entered.wait()
    assert await world.effects() == [1]


def test_the_type_checker_refuses_a_handler_of_another_event(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("""
from bottega.bus import Bus
from bottega.database import Transaction
from bottega.events import Event, Received

class A(Event, type="p.a.made.v1"):
    x: int

class B(Event, type="p.b.made.v1"):
    y: int

async def state_a(received: Received[A], tx: Transaction) -> None: ...
async def external_a(received: Received[A]) -> None: ...

def subscribe(bus: Bus) -> None:
    bus.on(A, state_a)
    bus.on_external(A, external_a)
    bus.on(B, state_a)  # wrong
    bus.on_external(B, external_a)  # wrong
    bus.on(A, external_a)  # wrong
    bus.on_external(A, state_a)  # wrong
""")
    output, _, status = mypy.run(["--strict", "--cache-dir", str(tmp_path / "cache"), str(program)])
    wrong = [n for n, line in enumerate(program.read_text().splitlines(), 1) if line.endswith("# wrong")]
    assert status == 1
    assert sorted({int(line.split(":")[1]) for line in output.splitlines() if ": error:" in line}) == wrong


async def _value(value: Any) -> Any:
    return value


async def _value_of(awaitable: Awaitable[Any], of: Callable[[Any], Any]) -> Any:
    return of(await awaitable)


async def _sorted(numbers: Awaitable[list[int]]) -> list[int]:
    return sorted(await numbers)


async def _length(items: Awaitable[list[Any]]) -> int:
    return len(await items)


async def _collect(envelopes: AsyncIterator[Envelope]) -> list[Envelope]:
    return [envelope async for envelope in envelopes]


async def _count(world: World, table: type[SQLModel]) -> int:
    async with world.database.read() as session:
        return (await session.exec(select(func.count()).select_from(table))).one()


async def _outbox(world: World) -> int:
    return await _count(world, Outbox)


async def _tails(world: World) -> int:
    async with world.wire() as client:
        return len(await client.jetstream().consumers_info("EVENTS"))
