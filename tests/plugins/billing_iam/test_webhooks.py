"""Webhooks, to a real receiver: signed, in order for each thing, until they are taken, within their owner's rights."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from bottega.client import ApiFailure
from bottega.context import move_clock, now_ms
from bottega.events import Envelope
from bottega.testing import Receiver, Request, RunningPlatform, Tenant, wait_until

HOUR = 3_600_000
PATH = "/v1/{project_id}/webhooks"


@pytest.fixture(scope="module")
def running(each_database: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    notify = {"allowed_networks": ["127.0.0.0/8"], "webhook_timeout_s": 3, "webhook_attempts": 12}
    with RunningPlatform(tmp_path_factory.mktemp("webhooks"), {**each_database, "plugins": {"notify": notify}}) as it:
        yield it


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver().listening() as receiver:
        yield receiver


@pytest.fixture
def clock() -> Iterator[Callable[[int], None]]:
    moved = 0

    def move(by_ms: int) -> None:
        nonlocal moved
        moved += by_ms
        move_clock(by_ms)

    yield move
    move_clock(-moved)


def say(tenant: Tenant, *things: tuple[str, int], kind: str = "training.job.completed.v1", **data: Any) -> list[str]:
    """Publish an event about each thing, as the plugin would, in one transaction; the ids."""
    envelopes = [
        Envelope(
            id=str(uuid.uuid4()),
            type=kind,
            urn=f"bottega:training:{tenant.project_id}:job/{thing}",
            time="2026-01-01T00:00:00Z",
            data={"number": number, "job_id": thing, **data},
            source="/plugins/training",
            actor="user:x",
            correlation_id="c",
        )
        for thing, number in things
    ]

    async def commit() -> None:
        async with tenant.running.platform("training").database.transaction() as tx:
            tx.envelopes += envelopes

    tenant.running.run(commit())
    return [e.id for e in envelopes]


def numbers(receiver: Receiver, urn: str = "") -> list[int]:
    """The numbers of the events that were taken, of one thing or all."""
    events = [r.event for r in receiver.taken if r.event["type"].startswith("training.")]
    return [event["data"]["number"] for event in events if event["subject"].endswith(urn)]


def hook(tenant: Tenant, receiver: Receiver, *events: str, **more: Any) -> dict[str, Any]:
    wanted = {
        "name": f"h{uuid.uuid4().hex[:8]}",
        "url": f"{receiver.url}/hook?x=1",
        "events": events or ("training.job.*",),
    }
    made: dict[str, Any] = tenant.client.post(PATH, {**wanted, **more})
    return made


def shown(tenant: Tenant, made: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = tenant.client.get(f"{PATH}/{made['id']}")
    return found


def log(tenant: Tenant, made: dict[str, Any], **params: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = tenant.client.get(f"{PATH}/{made['id']}/deliveries", params)["deliveries"]
    return found


def verify(request: Request, secret: str) -> bool:
    """The signature, computed as https://www.standardwebhooks.com says, without our code."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    message = f"{request.headers['webhook-id']}.{request.headers['webhook-timestamp']}.".encode() + request.body
    expected = "v1," + base64.b64encode(hmac.new(key, message, hashlib.sha256).digest()).decode()
    return expected in request.headers["webhook-signature"].split(" ")


def test_an_event_arrives_signed_as_it_is_on_the_bus(tenant: Tenant, receiver: Receiver) -> None:
    made = hook(tenant, receiver, "training.job.completed")
    assert "training.job.completed.v1" in made["event_types"]
    (event_id,) = say(tenant, ("a", 1), name="größe")
    wait_until(lambda: receiver.taken)
    (request,) = receiver.taken
    assert verify(request, made["secret"])
    assert not verify(replace(request, body=request.body + b" "), made["secret"])
    assert abs(int(request.headers["webhook-timestamp"]) - time.time()) < 60
    assert request.headers["webhook-id"] == event_id == request.event["id"]
    assert request.headers["content-type"].startswith("application/cloudevents+json")
    assert json.loads(tenant.events.wait("training.job.completed.v1").encode()) == request.event
    (entry,) = wait_until(lambda: log(tenant, made))
    assert (entry["outcome"], entry["status"], entry["attempt"]) == ("delivered", 204, 1)
    assert entry["latency_ms"] > 0
    assert shown(tenant, made)["waiting"] == 0


def test_a_receiver_that_was_down_for_an_hour_gets_everything_in_order(
    tenant: Tenant, clock: Callable[[int], None]
) -> None:
    receiver = Receiver()
    with receiver.listening():
        pass  # its port is free again, and nobody listens
    made = hook(tenant, receiver)
    things = [f"t{n}" for n in range(12)]
    say(tenant, *((thing, number) for number in range(8) for thing in things))
    wait_until(lambda: len(log(tenant, made, outcome="failed")) >= 5)
    assert "cannot connect" in log(tenant, made)[0]["answer"]
    clock(HOUR)
    wait_until(lambda: any(entry["attempt"] >= 2 for entry in log(tenant, made, outcome="failed")))

    refusals: dict[str, int] = defaultdict(int)
    lock = threading.Lock()

    def moody(request: Request) -> tuple[int, dict[str, str]]:
        with lock:
            refusals[request.headers["webhook-id"]] += 1
            times, number = refusals[request.headers["webhook-id"]], request.event["data"]["number"]
        if times == 1 and number % 3 == 0:
            return 500, {}
        if times <= 2 and number == 4:
            return 429, {"Retry-After": "120"}
        return 200, {}

    receiver.answer = moody
    with receiver.listening():
        for _ in range(200):
            clock(10 * 60_000)
            if shown(tenant, made)["waiting"] == 0:
                break
            time.sleep(0.15)
        wait_until(lambda: len(receiver.taken) == 96)
    for thing in things:
        assert numbers(receiver, f"/{thing}") == list(range(8))
    assert shown(tenant, made)["waiting"] == shown(tenant, made)["dead_letters"] == 0
    assert {e["status"] for e in log(tenant, made, outcome="failed", limit=1000)} == {None, 500, 429}


def test_one_thing_that_is_not_taken_holds_up_no_other(
    tenant: Tenant, receiver: Receiver, clock: Callable[[int], None]
) -> None:
    receiver.answer = lambda r: (500, {}) if r.event["data"]["job_id"] == "bad" else (200, {})
    made = hook(tenant, receiver)
    say(tenant, ("bad", 0), ("bad", 1), *((f"good{n}", n) for n in range(40)))
    wait_until(lambda: len(receiver.taken) == 40)
    wait_until(lambda: log(tenant, made, outcome="failed"))
    wait_until(lambda: shown(tenant, made)["waiting"] == 2)
    assert {r.event["data"]["number"] for r in receiver.requests if r.event["data"]["job_id"] == "bad"} == {0}
    receiver.answer = lambda _: (200, {})
    clock(HOUR)
    wait_until(lambda: numbers(receiver, "/bad") == [0, 1])


def test_after_the_last_attempt_an_event_is_a_dead_letter(
    tenant: Tenant, receiver: Receiver, clock: Callable[[int], None]
) -> None:
    receiver.answer = lambda _: (500, {})
    made = hook(tenant, receiver)
    dead_id, other_id, _ = say(tenant, ("a", 0), ("b", 1), ("a", 2))
    while shown(tenant, made)["dead_letters"] < 2:
        # Not faster than it is tried, or the last event would grow too old before its turn.
        tried = len(receiver.requests)
        clock(2 * HOUR)
        wait_until(lambda n=tried: len(receiver.requests) > n or shown(tenant, made)["dead_letters"] >= 2)  # type: ignore[misc]
    receiver.answer = lambda _: (200, {})
    clock(2 * HOUR)
    wait_until(lambda: numbers(receiver, "/a") == [2])
    letters = tenant.client.get(f"{PATH}/{made['id']}/dead-letters")["dead_letters"]
    assert {letter["event_id"] for letter in letters} == {dead_id, other_id}
    assert all(letter["reason"] == "500 said the receiver" and letter["attempts"] == 12 for letter in letters)
    assert json.loads(letters[0]["payload"])["id"] == letters[0]["event_id"]
    assert tenant.events.wait("notify.webhook.exhausted.v1").data["webhook_id"] == made["id"]
    again = f"{PATH}/{made['id']}/dead-letters"
    assert tenant.client.post(f"{again}/redeliver", {"event_ids": [dead_id]}) == {"redelivered": 1}
    wait_until(lambda: numbers(receiver, "/a") == [2, 0])
    tenant.client.delete(f"{again}/{other_id}")
    assert shown(tenant, made)["dead_letters"] == 0
    with pytest.raises(ApiFailure) as gone:
        tenant.client.post(f"{again}/redeliver", {"event_ids": [other_id]})
    assert gone.value.status == 404


def test_paused_it_waits_and_then_gets_everything(
    tenant: Tenant, receiver: Receiver, clock: Callable[[int], None]
) -> None:
    made = hook(tenant, receiver)
    assert tenant.client.post(f"{PATH}/{made['id']}/pause", {"reason": "moving"})["reason"] == "moving"
    say(tenant, ("a", 0), ("b", 1))
    say(tenant, ("a", 2))
    wait_until(lambda: shown(tenant, made)["waiting"] == 3)
    clock(100 * HOUR)
    time.sleep(1.2)
    assert receiver.requests == []
    tenant.client.post(f"{PATH}/{made['id']}/resume")
    wait_until(lambda: len(receiver.taken) == 3)
    assert numbers(receiver, "/a") == [0, 2]
    kinds = [e.type for e in tenant.events.all("notify.webhook.*.v1")]
    assert kinds == [f"notify.webhook.{verb}.v1" for verb in ("created", "paused", "resumed")]


def test_the_past_can_be_sent_again(tenant: Tenant, stranger: Tenant, receiver: Receiver) -> None:
    say(tenant, ("a", 0), ("b", 1))
    say(stranger, ("a", 100))
    made = hook(tenant, receiver)
    say(tenant, ("a", 2))
    wait_until(lambda: numbers(receiver) == [2])
    answer = tenant.client.post(f"{PATH}/{made['id']}/replay", {"since": now_ms() - HOUR})
    assert answer["replaying"]
    wait_until(lambda: len(receiver.taken) == 4)
    assert numbers(receiver, "/a") == [2, 0, 2]
    assert numbers(receiver, "/b") == [1]
    wait_until(lambda: shown(tenant, made)["replay"] is None)

    async def place_of(number: int) -> int:
        history = tenant.running.platform("core").bus.history(f"evt.{tenant.project_id}.training.>", 1)
        return {e.data["number"]: sequence async for sequence, e in history}[number]

    receiver.taken.clear()
    tenant.client.post(f"{PATH}/{made['id']}/replay", {"sequence": tenant.running.run(place_of(2))})
    wait_until(lambda: numbers(receiver) == [2])
    assert not tenant.client.post(f"{PATH}/{made['id']}/replay", {"sequence": 2**40})["replaying"]
    assert not tenant.client.post(f"{PATH}/{made['id']}/replay", {"since": now_ms() + HOUR})["replaying"]
    for wrong in ({}, {"since": 1, "sequence": 1}, {"since": -1}, {"sequence": 0}):
        with pytest.raises(ApiFailure) as refused:
            tenant.client.post(f"{PATH}/{made['id']}/replay", wrong)
        assert refused.value.status == 400


def test_a_deleted_webhook_hears_nothing_more(tenant: Tenant, receiver: Receiver) -> None:
    receiver.answer = lambda _: (500, {})
    made = hook(tenant, receiver)
    say(tenant, ("a", 0))
    wait_until(lambda: receiver.requests)
    tenant.client.delete(f"{PATH}/{made['id']}")
    again = hook(tenant, receiver, name=made["name"])
    receiver.answer = lambda _: (200, {})
    say(tenant, ("a", 1))
    wait_until(lambda: numbers(receiver) == [1])
    wait_until(lambda: log(tenant, again))
    with pytest.raises(ApiFailure) as gone:
        shown(tenant, made)
    assert gone.value.status == 404
