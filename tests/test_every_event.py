"""No event of any type reaches who may not see it: generated from the types there are, so new ones are covered.

Over NATS, by webhooks and by the HTTP stream. The platform has all plugins, but none of their handlers: what is
published here is read by nobody but those who follow it.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import entry_points
from typing import Any

import anyio
import nats
import pytest
from nats.aio.client import Client as NatsClient
from nats.aio.client import RawCredentials
from nats.js.api import AckPolicy, ConsumerConfig
from nats.js.errors import NotFoundError

from bottega.client import ApiFailure
from bottega.context import move_clock
from bottega.event_rights import event_types
from bottega.events import Envelope
from bottega.plugins import GROUP, Plugin, Plugins
from bottega.settings import Settings
from bottega.testing import RunningPlatform, Tenant, wait_until
from bottega.testing.examples import example

KNOWN = event_types(Plugins(Settings()))
TYPES = sorted(KNOWN)
SUBSCRIBE = "bottega:event:subscribe"
HEARS = "notify"


class Deaf(Plugins):
    """Plugins whose handlers and work are left out, but for webhooks: the events of this test are of nothing real."""

    def call(self, plugin: Plugin, hook: str, **arguments: Any) -> Any:
        if hook in ("bottega_subscribe", "bottega_lifespan") and plugin.name not in (HEARS, "store-s3"):
            return None
        return super().call(plugin, hook, **arguments)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    overrides = {"plugins": {HEARS: {"allowed_networks": ["127.0.0.0/8"]}}}
    found = list(entry_points(group=GROUP))
    with RunningPlatform(tmp_path_factory.mktemp("events"), overrides, lambda s: Deaf(s, found)) as running:
        yield running


@pytest.fixture(scope="module")
def owner(running: RunningPlatform) -> Tenant:
    return running.tenant()


@pytest.fixture(scope="module")
def received() -> Iterator[dict[str, Any]]:
    """What each path of one receiver was sent, and its address."""
    sent: dict[str, Any] = {}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            event = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            sent.setdefault(self.path, set()).add(event["type"])
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    sent["url"] = f"http://127.0.0.1:{server.server_port}"
    yield sent
    server.shutdown()
    server.server_close()


def data_of(type: str) -> dict[str, Any]:
    schema = KNOWN[type].model_json_schema(mode="serialization")
    found: dict[str, Any] = example(schema, schema.get("$defs", {}))
    KNOWN[type].model_validate(found)
    return found


def publish(owner: Tenant) -> None:
    """Commit one event of every type, about things of the owner's project."""
    envelopes = [
        Envelope(
            id=str(uuid.uuid4()),
            type=type,
            urn=f"bottega:{type.partition('.')[0]}:{owner.project_id}:thing/{uuid.uuid4()}",
            time="2026-01-01T00:00:00.000000Z",
            data=data_of(type),
            source=f"/plugins/{type.partition('.')[0]}",
            actor="user:x",
            correlation_id="c",
        )
        for type in TYPES
    ]

    async def commit() -> None:
        async with owner.running.platform("core").database.transaction() as tx:
            tx.envelopes += envelopes

    owner.running.run(commit())
    relay = owner.running.platform("core").bus.relay
    wait_until(lambda: owner.running.run(relay.lag()) == 0)


def sees(*resources: str, effect: str = "Allow") -> dict[str, Any]:
    statement: dict[str, Any] = {"Effect": effect, "Action": [SUBSCRIBE]}
    return {"Version": "1.1", "Statement": [{**statement, **({"Resource": list(resources)} if resources else {})}]}


HOOKS = {"Version": "1.1", "Statement": [{"Effect": "Allow", "Action": ["modelarts:webhook:*"]}]}


async def connect(given: dict[str, Any], refusals: list[str]) -> NatsClient:
    async def note(error: Exception) -> None:
        refusals.append(str(error).lower())

    return await nats.connect(
        given["nats_url"],
        user_credentials=RawCredentials(given["credentials"]),
        inbox_prefix=given["inbox_prefix"],
        error_cb=note,
        max_reconnect_attempts=0,
    )


async def heard_by(given: dict[str, Any], project_id: str, owner: Tenant, expected: int) -> tuple[set[str], int]:
    """What credentials hear when they try every subject there is, and how many subjects they were refused."""
    refusals: list[str] = []
    heard: set[str] = set()
    connection = await connect(given, refusals)

    async def hear(message: Any) -> None:
        heard.add(json.loads(message.data)["type"])

    tries = [f"evt.{project_id}.{type}" for type in TYPES] + [f"evt.{project_id}.>", "evt.>", f"log.{project_id}.>"]
    for subject in tries:
        await connection.subscribe(subject, cb=hear)
    await connection.flush()
    await anyio.to_thread.run_sync(publish, owner)
    with anyio.move_on_after(20):
        while len(heard) < expected:
            await anyio.sleep(0.02)
    await connection.flush()
    await anyio.sleep(0.3)
    await connection.close()
    return heard, len([r for r in refusals if "permissions violation" in r])


def stream(who: Tenant, project_id: str) -> set[str]:
    path = f"/v1/{project_id}/events"
    return {e["type"] for e in who.client.lines(path, {"since": 0, "follow": "false"})}


def test_there_are_types() -> None:
    assert len(TYPES) > 50
    assert "core.api.called.v1" in TYPES


def test_the_owner_receives_every_type_everywhere(owner: Tenant, received: dict[str, Any]) -> None:
    path = "/v1/{project_id}/webhooks"
    owner.client.post(path, {"name": "all", "url": received["url"] + "/all", "events": [">"]})
    given = owner.client.post("/v1/{project_id}/nats-credentials", {})
    assert given["subjects"][:2] == [f"evt.{owner.project_id}.>", f"log.{owner.project_id}.>"]
    heard, _ = anyio.run(heard_by, given, owner.project_id, owner, len(TYPES))
    assert heard >= set(TYPES)
    assert stream(owner, owner.project_id) >= set(TYPES)
    wait_until(lambda: received.get("/all", set()) >= set(TYPES))


def test_a_stranger_receives_none_anywhere(owner: Tenant, received: dict[str, Any]) -> None:
    stranger = owner.running.tenant()
    path = "/v1/{project_id}/webhooks"
    stranger.client.post(path, {"name": "spy", "url": received["url"] + "/spy", "events": [">"]})
    given = stranger.client.post("/v1/{project_id}/nats-credentials", {})
    heard, refused = anyio.run(heard_by, given, owner.project_id, owner, 0)
    assert heard == set()
    assert refused == len(TYPES) + 3
    for call in (
        lambda: stream(stranger, owner.project_id),
        lambda: stranger.client.post(f"/v1/{owner.project_id}/nats-credentials", {}),
        lambda: stranger.client.post(f"/v1/{owner.project_id}/webhooks", {"name": "x", "url": "x", "events": [">"]}),
    ):
        with pytest.raises(ApiFailure) as refusal:
            call()
        assert refusal.value.status == 403
    wait_until(lambda: received.get("/all", set()) >= set(TYPES))  # the owner's was sent the same events
    assert received.get("/spy", set()) & (set(TYPES) - {"core.api.called.v1", "notify.webhook.created.v1"}) == set()


def test_a_user_without_the_right_receives_none(owner: Tenant, received: dict[str, Any]) -> None:
    user = owner.user([HOOKS])
    for call in (
        lambda: stream(user, owner.project_id),
        lambda: user.client.post("/v1/{project_id}/nats-credentials", {}),
        lambda: user.client.post(
            "/v1/{project_id}/webhooks", {"name": "n", "url": received["url"] + "/none", "events": [">"]}
        ),
    ):
        with pytest.raises(ApiFailure) as refusal:
            call()
        assert refusal.value.status == 403
        assert SUBSCRIBE in refusal.value.message


def limited(owner: Tenant, policy: dict[str, Any], expires_s: int = 600) -> dict[str, str]:
    """The header of a temporary credential of the owner's that a policy limits."""

    async def token() -> str:
        identity = owner.running.platform("core").identity
        principal = await identity.principal(owner.user_id)
        return identity.issue_token(principal, expires_s, session_policy=json.dumps(policy))

    return {"X-Auth-Token": owner.running.run(token())}


@pytest.mark.parametrize("type", TYPES)
def test_who_may_see_one_type_gets_credentials_for_it_alone(owner: Tenant, type: str) -> None:
    headers = limited(owner, sees(f"bottega:*:*:event/{type}"))
    given = owner.client.request("POST", "/v1/{project_id}/nats-credentials", json={}, headers=headers).json()
    subjects = [s for s in given["subjects"] if not s.startswith("_INBOX.")]
    assert subjects == [f"evt.{owner.project_id}.{type}"]
    assert given["consumer"]


def test_who_may_see_some_types_receives_those_alone(owner: Tenant, received: dict[str, Any]) -> None:
    policy = sees("bottega:training:*:event/*", "bottega:*:*:event/dataset.version.*")
    allowed = {t for t in TYPES if t.startswith(("training.", "dataset.version."))}
    user = owner.user([HOOKS, policy])
    path = "/v1/{project_id}/webhooks"
    made = user.client.post(path, {"name": "some", "url": received["url"] + "/some", "events": [">"]})
    assert set(made["event_types"]) == allowed
    given = user.client.post("/v1/{project_id}/nats-credentials", {})
    assert f"evt.{owner.project_id}.training.>" in given["subjects"]
    assert given["consumer"] is None
    assert "webhook" in given["note"]
    heard, refused = anyio.run(heard_by, given, owner.project_id, owner, len(allowed))
    assert heard == allowed
    assert refused == len(TYPES) - len(allowed) + 3
    assert stream(user, owner.project_id) == allowed
    wait_until(lambda: received.get("/some", set()) == allowed)


def test_a_denied_type_is_left_out(owner: Tenant) -> None:
    user = owner.user([sees(), sees("bottega:core:*:event/core.api.called.v1", effect="Deny")])
    given = user.client.post("/v1/{project_id}/nats-credentials", {})
    assert f"evt.{owner.project_id}.>" not in given["subjects"]
    assert f"evt.{owner.project_id}.core.>" not in given["subjects"]
    assert f"evt.{owner.project_id}.core.api.called.v1" not in given["subjects"]
    assert f"evt.{owner.project_id}.training.>" in given["subjects"]
    assert "core.api.called.v1" not in stream(user, owner.project_id)


def test_logs_are_a_right_of_their_own(owner: Tenant) -> None:
    logs = {"Version": "1.1", "Statement": [{"Effect": "Allow", "Action": ["bottega:log:subscribe"]}]}
    for policies, expected in (([sees()], False), ([sees(), logs], True)):
        given = owner.user(policies).client.post("/v1/{project_id}/nats-credentials", {})
        assert (f"log.{owner.project_id}.>" in given["subjects"]) is expected


def test_a_consumer_is_confined_to_the_one_subject_by_the_server(owner: Tenant) -> None:
    wide = owner.client.post("/v1/{project_id}/nats-credentials", {"name": "same"})
    narrow = owner.user([sees("bottega:training:*:event/training.job.completed.v1")])
    given = narrow.client.post("/v1/{project_id}/nats-credentials", {"name": "same"})
    own = f"evt.{owner.project_id}.training.job.completed.v1"
    foreign = f"evt.{owner.project_id}.core.api.called.v1"
    assert given["subjects"][0] == own
    assert given["consumer"] != wide["consumer"]

    def config(name: str, **filters: Any) -> ConsumerConfig:
        return ConsumerConfig(name=name, durable_name=name, ack_policy=AckPolicy.EXPLICIT, **filters)

    async def attempt() -> None:
        refusals: list[str] = []
        connection = await connect(given, refusals)
        js = connection.jetstream(timeout=0.5)
        name = given["consumer"]
        api = f"$JS.API.CONSUMER.CREATE.EVENTS.{name}"
        for subject, filters in (
            (api, {"filter_subjects": [own, foreign]}),
            (f"{api}.{foreign}", {"filter_subject": foreign}),
            (f"$JS.API.CONSUMER.DURABLE.CREATE.EVENTS.{name}", {"filter_subject": foreign}),
        ):
            request = json.dumps({"stream_name": "EVENTS", "config": config(name, **filters).as_dict()}).encode()
            with pytest.raises(nats.errors.TimeoutError):
                await connection.request(subject, request, timeout=0.3)
        # The subject that is allowed, with other filters inside: the server compares.
        for filters in ({"filter_subject": foreign}, {"filter_subjects": [own, foreign]}):
            request = json.dumps({"stream_name": "EVENTS", "config": config(name, **filters).as_dict()}).encode()
            answer = json.loads((await connection.request(f"{api}.{own}", request, timeout=5)).data)
            assert "error" in answer, filters
        with pytest.raises((nats.errors.TimeoutError, NotFoundError)):
            await js.consumer_info("EVENTS", wide["consumer"])
        await js.add_consumer("EVENTS", config(name, filter_subject=own))
        await js.delete_consumer("EVENTS", name)
        assert len([r for r in refusals if "permissions violation" in r]) >= 3
        await connection.close()

    anyio.run(attempt)


def test_they_end_with_the_credentials_they_were_asked_with(owner: Tenant) -> None:
    headers = limited(owner, sees("bottega:training:*:event/*"), expires_s=120)
    path = "/v1/{project_id}/nats-credentials"
    given = owner.client.request("POST", path, json={"expires_s": 86400}, headers=headers).json()
    assert 60 < given["expires_s"] <= 120
    assert [s for s in given["subjects"] if not s.startswith("_INBOX.")] == [f"evt.{owner.project_id}.training.>"]
    move_clock(100_000)
    try:
        given = owner.client.request("POST", path, json={"expires_s": 86400}, headers=headers).json()
    finally:
        move_clock(-100_000)
    assert given["expires_s"] <= 20
