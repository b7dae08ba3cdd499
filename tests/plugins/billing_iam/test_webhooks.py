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
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from bottega.client import ApiFailure
from bottega.context import move_clock, now_ms
from bottega.entities import User
from bottega.events import Envelope
from bottega.testing import RunningPlatform, Tenant, wait_until

HOUR = 3_600_000
PATH = "/v1/{project_id}/webhooks"


@dataclass
class Request:
    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found


@dataclass
class Receiver:
    """What was sent, and how the next requests are answered: `answer` gets each one."""

    requests: list[Request] = field(default_factory=list)
    taken: list[Request] = field(default_factory=list)
    answer: Callable[[Request], tuple[int, dict[str, str]]] = lambda _: (204, {})
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook?x=1"

    def numbers(self, urn: str = "") -> list[int]:
        """The numbers of the events that were taken, of one thing or all."""
        events = [r.event for r in self.taken if r.event["type"].startswith("training.")]
        return [event["data"]["number"] for event in events if event["subject"].endswith(urn)]

    @contextmanager
    def listening(self) -> Iterator[Receiver]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                request = Request({k.lower(): v for k, v in self.headers.items()}, body)
                receiver.requests.append(request)
                status, headers = receiver.answer(request)
                if 200 <= status < 300:
                    receiver.taken.append(request)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                text = b"" if status == 204 else b"said the receiver"
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()


@pytest.fixture(scope="module")
def running(each_database: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    notify = {"webhook_networks": ["127.0.0.0/8"], "webhook_timeout_s": 3, "webhook_attempts": 12}
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


def hook(tenant: Tenant, receiver: Receiver, *events: str, **more: Any) -> dict[str, Any]:
    wanted = {"name": f"h{uuid.uuid4().hex[:8]}", "url": receiver.url, "events": events or ("training.job.*",)}
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
    assert not verify(Request(request.headers, request.body + b" "), made["secret"])
    assert abs(int(request.headers["webhook-timestamp"]) - time.time()) < 60
    assert request.headers["webhook-id"] == event_id == request.event["id"]
    assert request.headers["content-type"].startswith("application/cloudevents+json")
    assert json.loads(tenant.events.wait("training.job.completed.v1").encode()) == request.event
    (entry,) = wait_until(lambda: log(tenant, made))
    assert (entry["outcome"], entry["status"], entry["attempt"]) == ("delivered", 204, 1)
    assert entry["latency_ms"] > 0
    assert shown(tenant, made)["waiting"] == 0


def test_only_what_was_asked_for_arrives(tenant: Tenant, stranger: Tenant, receiver: Receiver) -> None:
    condition = [
        {"field": "data.status", "in": ["ok", "good"]},
        {"field": "subject", "prefix": f"bottega:training:{tenant.project_id}:job/k"},
        {"field": "data.error", "exists": False},
        {"field": "data.final", "equals": True},
    ]
    made = hook(tenant, receiver, "training.job.completed.v1", filter=condition)
    assert made["filter"] == condition
    say(tenant, ("k1", 1), status="ok", final=True)
    say(tenant, ("k1", 2), status="bad", final=True)
    say(tenant, ("x1", 3), status="ok", final=True)
    say(tenant, ("k1", 4), status="ok", final=True, error="e")
    say(tenant, ("k1", 5), status="ok", final=1)
    say(tenant, ("k1", 6), kind="training.job.failed.v1", status="ok", final=True)
    say(stranger, ("k1", 7), status="ok", final=True)
    say(tenant, ("k2", 8), status="good", final=True)
    wait_until(lambda: len(receiver.taken) == 2)
    assert sorted(receiver.numbers()) == [1, 8]


def test_a_webhook_of_a_workspace_hears_of_its_things_only(tenant: Tenant, receiver: Receiver) -> None:
    room = tenant.client.post("/v1/{project_id}/workspaces", {"name": "laboratory"})
    mine = hook(tenant, receiver, "notify.webhook.paused", workspace_id=room["id"])
    inside = hook(tenant, Receiver(port=9), "training.job.*", workspace_id=room["id"])
    outside = hook(tenant, Receiver(port=9), "training.job.*")
    for each in (outside, inside):
        tenant.client.post(f"{PATH}/{each['id']}/pause", {})
    wait_until(lambda: receiver.taken)
    assert [r.event["data"]["webhook_id"] for r in receiver.taken] == [inside["id"]]
    ids = {w["id"] for w in tenant.client.get(PATH, {"workspace_id": room["id"]})["webhooks"]}
    assert ids == {mine["id"], inside["id"]}
    with pytest.raises(ApiFailure) as refused:
        hook(tenant, receiver, workspace_id="nowhere")
    assert refused.value.status == 400


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
        assert receiver.numbers(f"/{thing}") == list(range(8))
    assert shown(tenant, made)["waiting"] == shown(tenant, made)["dead_letters"] == 0
    assert {e["status"] for e in log(tenant, made, outcome="failed", limit=1000)} == {None, 500, 429}


def test_one_thing_that_is_not_taken_holds_up_no_other(
    tenant: Tenant, receiver: Receiver, clock: Callable[[int], None]
) -> None:
    receiver.answer = lambda r: (500, {}) if r.event["data"]["job_id"] == "bad" else (200, {})
    made = hook(tenant, receiver)
    say(tenant, ("bad", 0), ("bad", 1), *((f"good{n}", n) for n in range(40)))
    wait_until(lambda: len(receiver.taken) == 40)
    wait_until(lambda: shown(tenant, made)["waiting"] == 2)
    assert {r.event["data"]["number"] for r in receiver.requests if r.event["data"]["job_id"] == "bad"} == {0}
    receiver.answer = lambda _: (200, {})
    clock(HOUR)
    wait_until(lambda: receiver.numbers("/bad") == [0, 1])


def test_who_asks_for_time_is_left_alone(tenant: Tenant, receiver: Receiver, clock: Callable[[int], None]) -> None:
    receiver.answer = lambda _: (503, {"Retry-After": "600"})
    made = hook(tenant, receiver)
    say(tenant, ("a", 0))
    wait_until(lambda: log(tenant, made))
    say(tenant, ("b", 1))
    time.sleep(1.5)
    assert len(receiver.requests) == 1
    receiver.answer = lambda _: (200, {})
    clock(601_000)
    wait_until(lambda: sorted(receiver.numbers()) == [0, 1])


def test_after_the_last_attempt_an_event_is_a_dead_letter(
    tenant: Tenant, receiver: Receiver, clock: Callable[[int], None]
) -> None:
    receiver.answer = lambda _: (500, {})
    made = hook(tenant, receiver)
    dead_id, other_id, _ = say(tenant, ("a", 0), ("b", 1), ("a", 2))
    for _ in range(60):
        clock(2 * HOUR)
        if shown(tenant, made)["dead_letters"] >= 2:
            break
        time.sleep(0.3)
    receiver.answer = lambda _: (200, {})
    clock(2 * HOUR)
    wait_until(lambda: receiver.numbers("/a") == [2])
    letters = tenant.client.get(f"{PATH}/{made['id']}/dead-letters")["dead_letters"]
    assert {letter["event_id"] for letter in letters} == {dead_id, other_id}
    assert all(letter["reason"] == "500 said the receiver" and letter["attempts"] == 12 for letter in letters)
    assert json.loads(letters[0]["payload"])["id"] == letters[0]["event_id"]
    assert tenant.events.wait("notify.webhook.exhausted.v1").data["webhook_id"] == made["id"]
    again = f"{PATH}/{made['id']}/dead-letters"
    assert tenant.client.post(f"{again}/redeliver", {"event_ids": [dead_id]}) == {"redelivered": 1}
    wait_until(lambda: receiver.numbers("/a") == [2, 0])
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
    assert receiver.numbers("/a") == [0, 2]
    kinds = [e.type for e in tenant.events.all("notify.webhook.*.v1")]
    assert kinds == [f"notify.webhook.{verb}.v1" for verb in ("created", "paused", "resumed")]


def test_the_past_can_be_sent_again(tenant: Tenant, stranger: Tenant, receiver: Receiver) -> None:
    say(tenant, ("a", 0), ("b", 1))
    say(stranger, ("a", 100))
    made = hook(tenant, receiver)
    say(tenant, ("a", 2))
    wait_until(lambda: receiver.numbers() == [2])
    answer = tenant.client.post(f"{PATH}/{made['id']}/replay", {"since": now_ms() - HOUR})
    assert answer["replaying"]
    wait_until(lambda: len(receiver.taken) == 4)
    assert receiver.numbers("/a") == [2, 0, 2]
    assert receiver.numbers("/b") == [1]
    wait_until(lambda: shown(tenant, made)["replay"] is None)

    async def place_of(number: int) -> int:
        history = tenant.running.platform("core").bus.history(f"evt.{tenant.project_id}.training.>", 1)
        return {e.data["number"]: sequence async for sequence, e in history}[number]

    receiver.taken.clear()
    tenant.client.post(f"{PATH}/{made['id']}/replay", {"sequence": tenant.running.run(place_of(2))})
    wait_until(lambda: receiver.numbers() == [2])
    assert not tenant.client.post(f"{PATH}/{made['id']}/replay", {"sequence": 2**40})["replaying"]
    assert not tenant.client.post(f"{PATH}/{made['id']}/replay", {"since": now_ms() + HOUR})["replaying"]
    for wrong in ({}, {"since": 1, "sequence": 1}, {"since": -1}, {"sequence": 0}):
        with pytest.raises(ApiFailure) as refused:
            tenant.client.post(f"{PATH}/{made['id']}/replay", wrong)
        assert refused.value.status == 400


def test_a_test_is_sent_at_once_and_tells_how_it_went(tenant: Tenant, receiver: Receiver) -> None:
    made = hook(tenant, receiver)
    answer = tenant.client.post(f"{PATH}/{made['id']}/test")
    assert (answer["delivered"], answer["status"]) == (True, 204)
    (request,) = receiver.taken
    assert request.event["type"] == "notify.webhook.tested.v1"
    assert verify(request, made["secret"])
    receiver.answer = lambda _: (302, {"Location": receiver.url})
    answer = tenant.client.post(f"{PATH}/{made['id']}/test")
    assert (answer["delivered"], answer["status"], answer["answer"]) == (False, 302, "said the receiver")
    assert len(receiver.requests) == 2
    assert [entry["outcome"] for entry in log(tenant, made)] == ["test", "test"]


def test_a_rotated_secret_signs_beside_the_old_one_for_a_while(
    tenant: Tenant, receiver: Receiver, clock: Callable[[int], None]
) -> None:
    given = "whsec_" + base64.b64encode(b"k" * 24).decode()
    made = hook(tenant, receiver, secret=given)
    assert made["secret"] == given
    fresh = tenant.client.post(f"{PATH}/{made['id']}/rotate-secret", {"keep_previous_s": 600})["secret"]
    assert fresh != given
    say(tenant, ("a", 0))
    wait_until(lambda: len(receiver.taken) == 1)
    assert verify(receiver.taken[0], given)
    assert verify(receiver.taken[0], fresh)
    clock(601_000)
    say(tenant, ("a", 1))
    wait_until(lambda: len(receiver.taken) == 2)
    assert not verify(receiver.taken[1], given)
    assert verify(receiver.taken[1], fresh)
    assert "secret" not in shown(tenant, made)
    for wrong in ("secret", "whsec_", "whsec_!!!", "whsec_" + base64.b64encode(b"short").decode()):
        with pytest.raises(ApiFailure) as refused:
            tenant.client.post(f"{PATH}/{made['id']}/rotate-secret", {"secret": wrong})
        assert "24 to 64 random bytes" in refused.value.message


def test_a_deleted_webhook_hears_nothing_more(tenant: Tenant, receiver: Receiver) -> None:
    receiver.answer = lambda _: (500, {})
    made = hook(tenant, receiver)
    say(tenant, ("a", 0))
    wait_until(lambda: receiver.requests)
    tenant.client.delete(f"{PATH}/{made['id']}")
    again = hook(tenant, receiver, name=made["name"])
    receiver.answer = lambda _: (200, {})
    say(tenant, ("a", 1))
    wait_until(lambda: receiver.numbers() == [1])
    wait_until(lambda: log(tenant, again))
    with pytest.raises(ApiFailure) as gone:
        shown(tenant, made)
    assert gone.value.status == 404


def test_who_answers_gone_is_paused(tenant: Tenant, receiver: Receiver) -> None:
    receiver.answer = lambda _: (410, {})
    made = hook(tenant, receiver)
    say(tenant, ("a", 0))
    wait_until(lambda: shown(tenant, made)["status"] == "paused")
    assert "410" in shown(tenant, made)["reason"]
    assert shown(tenant, made)["waiting"] == 1


ALL_HOOKS = {"Effect": "Allow", "Action": ["modelarts:webhook:*"]}


def sees(*resources: str) -> dict[str, Any]:
    statement: dict[str, Any] = {"Effect": "Allow", "Action": ["bottega:event:subscribe"]}
    return {"Version": "1.1", "Statement": [ALL_HOOKS, {**statement, **({"Resource": resources} if resources else {})}]}


def test_a_webhook_has_the_rights_of_its_owner(tenant: Tenant, receiver: Receiver) -> None:
    user = tenant.user([sees("bottega:training:*:event/training.job.completed.v1")])
    made = hook(user, receiver, ">")
    assert made["event_types"] == ["training.job.completed.v1"]
    say(tenant, ("a", 0), kind="training.job.failed.v1")
    say(tenant, ("a", 1))
    wait_until(lambda: receiver.numbers() == [1])
    withheld = wait_until(lambda: log(user, made, outcome="withheld"))
    assert "training.job.failed.v1" in {entry["type"] for entry in withheld}
    nobody = tenant.user([{"Version": "1.1", "Statement": [ALL_HOOKS]}])
    with pytest.raises(ApiFailure) as refused:
        hook(nobody, receiver)
    assert (refused.value.status, "bottega:event:subscribe" in refused.value.message) == (403, True)
    with pytest.raises(ApiFailure) as refused:
        hook(user, receiver, "dataset.>")
    assert refused.value.status == 403
    taken_over = tenant.client.put(f"{PATH}/{made['id']}", {"events": ["training.job.failed"]})
    assert taken_over["owner_id"] == tenant.user_id
    say(tenant, ("b", 2), kind="training.job.failed.v1")
    wait_until(lambda: receiver.numbers() == [1, 2])


def test_the_webhook_of_a_disabled_user_is_paused(tenant: Tenant, receiver: Receiver) -> None:
    user = tenant.user([sees()])
    made = hook(user, receiver)

    async def disable() -> None:
        async with tenant.running.platform("core").database.transaction() as tx:
            row = await tx.session.get(User, user.user_id)
            assert row is not None
            row.enabled = False
            tx.session.add(row)
        tenant.running.platform("core").identity.invalidate()

    tenant.running.run(disable())
    say(tenant, ("a", 0))
    paused = wait_until(lambda: (found := shown(tenant, made))["status"] == "paused" and found)
    assert "disabled" in paused["reason"]
    assert (paused["waiting"], receiver.requests) == (1, [])
    tenant.client.put(f"{PATH}/{made['id']}", {"url": receiver.url})
    tenant.client.post(f"{PATH}/{made['id']}/resume")
    wait_until(lambda: receiver.numbers() == [0])


def test_strangers_see_nothing(tenant: Tenant, stranger: Tenant, receiver: Receiver) -> None:
    made = hook(tenant, receiver)
    stranger.client.project_id = tenant.project_id
    for path in ("", f"/{made['id']}", f"/{made['id']}/deliveries", f"/{made['id']}/dead-letters"):
        with pytest.raises(ApiFailure) as refused:
            stranger.client.get(PATH + path)
        assert refused.value.status == 403
    stranger.client.project_id = stranger.project_id
    with pytest.raises(ApiFailure) as refused:
        stranger.client.get(f"{PATH}/{made['id']}")
    assert refused.value.status == 404
    with pytest.raises(ApiFailure) as refused:
        tenant.user([sees()]).client.post(f"{PATH}/{made['id']}/test/")
    assert refused.value.status == 404


def test_temporary_credentials_make_no_webhook(tenant: Tenant, receiver: Receiver) -> None:
    async def token() -> str:
        identity = tenant.running.platform("core").identity
        principal = await identity.principal(tenant.user_id)
        return identity.issue_token(principal, 600, session_policy=json.dumps(sees()))

    headers = {"X-Auth-Token": tenant.running.run(token())}
    body = {"name": "x", "url": receiver.url, "events": [">"]}
    with pytest.raises(ApiFailure) as refused:
        tenant.client.request("POST", PATH, json=body, headers=headers)
    assert (refused.value.status, "temporary" in refused.value.message) == (403, True)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"url": "ftp://example.org"}, "whole address"),
        ({"url": "not a url"}, "whole address"),
        ({"url": "http://u:p@127.0.0.1/"}, "no user and password"),
        ({"url": "http://127.0.0.1/#x"}, "what follows #"),
        ({"url": "http://10.1.2.3/"}, "webhook_networks"),
        ({"url": "http://169.254.169.254/latest"}, "webhook_networks"),
        ({"url": "http://[::1]/"}, "webhook_networks"),
        ({"url": "http://[::ffff:10.0.0.1]/"}, "webhook_networks"),
        ({"url": "http://0x0a000001/"}, "url:"),
        ({"url": "http://nowhere.invalid/"}, "there is no host"),
        ({"events": []}, "events"),
        ({"events": ["training.jb.*"]}, "did you mean"),
        ({"events": ["Training.job"]}, "not a part of an event type"),
        ({"events": ["training.>.job"]}, "not a part of an event type"),
        ({"events": ["a..b"]}, "not a part of an event type"),
        ({"filter": [{"field": "data.x"}]}, "exactly one of equals, in, prefix, exists; this one has none"),
        ({"filter": [{"field": "data.x", "equals": 1, "prefix": "a"}]}, "has equals and prefix"),
        ({"filter": [{"field": "password", "equals": 1}]}, "field"),
        ({"filter": [{"field": "data.x", "equals": {}}]}, "filter.0"),
        ({"filter": [{"field": "data.x", "like": "a"}]}, "filter.0.like"),
        ({"name": "a b"}, "name"),
        ({"surplus": 1}, "surplus"),
    ],
)
def test_what_is_wrong_is_said(tenant: Tenant, receiver: Receiver, change: dict[str, Any], said: str) -> None:
    with pytest.raises(ApiFailure) as refused:
        hook(tenant, receiver, **{"name": "n", **change})
    assert refused.value.status == 400
    assert said in refused.value.message
    assert tenant.client.get(PATH)["total_count"] == 0
