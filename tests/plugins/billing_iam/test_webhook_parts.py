"""The parts of webhooks that promise something by themselves: matching, signatures, addresses, leases, retention."""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import re
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlmodel import select

from bottega.context import move_clock, now_ms
from bottega.events import Envelope
from bottega.testing import PlatformProcess, Receiver, RunningPlatform, Tenant, wait_until
from bottega_billing_iam.notify.addresses import Addresses
from bottega_billing_iam.notify.http import Client, NotSent
from bottega_billing_iam.notify.webhooks import retention, signing
from bottega_billing_iam.notify.webhooks.deliveries import DELIVERED, FAILED
from bottega_billing_iam.notify.webhooks.dispatcher import Dispatcher
from bottega_billing_iam.notify.webhooks.entities import WebhookDeadLetter, WebhookDelivery
from bottega_billing_iam.notify.webhooks.health import Health
from bottega_billing_iam.notify.webhooks.matching import Condition, matches
from bottega_billing_iam.notify.webhooks.registry import Registry
from bottega_billing_iam.notify.webhooks.running import parts

INSIDE = (
    *("127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "100.64.0.1", "224.0.0.1"),
    *("255.255.255.255", "::1", "::", "fe80::1", "fc00::1", "ff02::1", "2001:db8::1"),
    *("::ffff:127.0.0.1", "2002:7f00:1::", "64:ff9b::7f00:1"),
)
PATH = "/v1/{project_id}/webhooks"
words = st.text("abz0_-", min_size=1, max_size=3)
types = st.lists(words, min_size=3, max_size=3).map(lambda parts: ".".join([*parts, "v1"]))
patterns = st.lists(words | st.just("*"), min_size=1, max_size=5).map(".".join) | st.lists(
    words | st.just("*"), max_size=3
).map(lambda parts: ".".join([*parts, ">"]))


@given(patterns, types)
def test_patterns_match_as_their_regular_expression_does(pattern: str, type: str) -> None:
    parts = [{"*": "[^.]+", ">": ".+"}.get(p, re.escape(p)) for p in pattern.split(".")]
    if len(parts) == 3 and parts[-1] != ".+":
        parts.append("[^.]+")
    assert matches(pattern, type) == bool(re.fullmatch(r"\.".join(parts), type))


@given(st.one_of(st.booleans(), st.integers(), st.text(max_size=5)), st.one_of(st.booleans(), st.integers(), st.text()))
def test_equal_is_equal_also_in_kind(wanted: Any, value: Any) -> None:
    condition = Condition.model_validate({"field": "data.x", "equals": wanted})
    assert condition.holds(value) == (type(wanted) is type(value) and wanted == value)
    assert condition.holds(value) == Condition.model_validate({"field": "data.x", "in": [wanted]}).holds(value)


@given(st.binary(min_size=24, max_size=64), st.binary(max_size=200), st.integers(0, 2**33))
def test_signatures_are_those_of_the_standard(key: bytes, body: bytes, at: int) -> None:
    secret = "whsec_" + base64.b64encode(key).decode()
    (_, ident), (_, stamp), (_, signature) = signing.headers("id", at, body, [signing.check_secret(secret)])
    expected = hmac.new(key, f"{ident}.{stamp}.".encode() + body, hashlib.sha256).digest()
    assert signature == "v1," + base64.b64encode(expected).decode()


@pytest.mark.parametrize("address", INSIDE)
def test_addresses_inside_are_refused_unless_allowed(address: str) -> None:
    parsed = ipaddress.ip_address(address)
    assert not Addresses([]).permits(parsed)
    assert Addresses(["0.0.0.0/0", "::/0"]).permits(parsed)


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "64:ff9b::101:101"])
def test_public_addresses_are_permitted(address: str) -> None:
    assert Addresses([]).permits(ipaddress.ip_address(address))


def test_the_address_is_checked_again_when_it_is_connected_to() -> None:
    async def attempt(url: str, allowed: list[str]) -> int:
        client = Client(Addresses(allowed), 5)
        try:
            return (await client.post(httpx.URL(url), [], b"{}")).status
        finally:
            client.close()

    with Receiver().listening() as receiver:
        for host in ("127.0.0.1", "localhost"):
            with pytest.raises(NotSent, match="an address that nothing is sent to"):
                anyio.run(attempt, f"http://{host}:{receiver.port}/", [])
        assert receiver.requests == []
        assert anyio.run(attempt, f"http://127.0.0.1:{receiver.port}/", ["127.0.0.0/8"]) == 204


def test_connections_are_kept_and_renewed() -> None:
    async def attempt(receiver: Receiver) -> None:
        client = Client(Addresses(["127.0.0.0/8"]), 5)
        for _ in range(3):
            assert (await client.post(httpx.URL(receiver.url), [], b"{}")).status == 204
        client.close()

    receiver = Receiver()
    with receiver.listening():
        anyio.run(attempt, receiver)
    assert len(receiver.taken) == 3


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"", "without an answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", ""),
        (b"nonsense\r\n\r\n", "illegal"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 200_000, "limit|too long|exceed"),
        (None, "no answer within 0.5 s"),
    ],
)
def test_what_is_no_answer_is_told(sent: bytes | None, said: str) -> None:
    async def attempt() -> None:
        async def serve(stream: anyio.abc.SocketStream) -> None:
            async with stream:
                await stream.receive()
                if sent is None:
                    await anyio.sleep(2)
                elif sent:
                    await stream.send(sent)

        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        client = Client(Addresses(["127.0.0.0/8"]), 0.5)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, serve)
            with pytest.raises(NotSent, match=f"(?i){said}"):
                await client.post(httpx.URL(f"http://127.0.0.1:{port}/"), [], b"{}")
            tasks.cancel_scope.cancel()
        await listener.aclose()

    anyio.run(attempt)


def test_a_receiver_that_takes_nothing_is_asked_now_and_then() -> None:
    health = Health()
    for lane in "aaaaaaa":
        health.note("w", lane, FAILED, 0, 0)
    assert health.room("w", 16, 0) == 16  # one thing only
    for lane in "bcde":
        health.note("w", lane, FAILED, 0, 0)
    assert health.held("w", 999)
    assert health.room("w", 16, 1_000) == 1
    health.note("w", "f", FAILED, 0, 1_000)
    assert health.held("w", 2_999)
    health.note("w", "g", DELIVERED, 0, 3_000)
    assert health.room("w", 16, 3_000) == 16


# -- with a platform ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    notify = {"allowed_networks": ["127.0.0.0/8"], "webhook_log_entries": 5}
    with RunningPlatform(tmp_path_factory.mktemp("parts"), {"plugins": {"notify": notify}}) as running:
        yield running


def say(tenant: Tenant, count: int, things: int) -> None:
    envelopes = [
        Envelope(
            id=str(uuid.uuid4()),
            type="training.job.completed.v1",
            urn=f"bottega:training:{tenant.project_id}:job/{number % things}",
            time="2026-01-01T00:00:00Z",
            data={"number": number},
            source="/plugins/training",
            actor="user:x",
            correlation_id="c",
        )
        for number in range(count)
    ]

    async def commit() -> None:
        async with tenant.running.platform("training").database.transaction() as tx:
            tx.envelopes += envelopes

    tenant.running.run(commit())


def test_two_processes_share_the_work_and_double_nothing(tenant: Tenant) -> None:
    platform = tenant.running.platform("notify")

    async def work_beside(receiver: Receiver) -> None:
        mine = parts(platform)
        other = Dispatcher(platform, Registry(platform.sealer), mine.sender, "another installation")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(other.run)
            with anyio.fail_after(60):
                while len(receiver.taken) < 600:
                    other.wake()
                    await anyio.sleep(0.02)
            await anyio.sleep(0.2)
            tasks.cancel_scope.cancel()

    with Receiver().listening() as receiver:
        made = tenant.client.post(PATH, {"name": "n", "url": receiver.url, "events": ["training.job.*"]})
        tenant.client.post(f"{PATH}/{made['id']}/pause", {})
        say(tenant, 600, 60)
        wait_until(lambda: tenant.client.get(f"{PATH}/{made['id']}")["waiting"] == 600)
        tenant.client.post(f"{PATH}/{made['id']}/resume")
        tenant.running.run(work_beside(receiver))
        wait_until(lambda: tenant.client.get(f"{PATH}/{made['id']}")["waiting"] == 0)
    assert len(receiver.requests) == 600
    for thing in range(60):
        mine = [r.event["data"]["number"] for r in receiver.taken if r.event["subject"].endswith(f"/{thing}")]
        assert mine == list(range(thing, 600, 60))


def test_so_much_waits_and_the_rest_comes_from_the_stream_in_order(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tenant.running.platform("notify").settings, "webhook_waiting", 20)
    with Receiver().listening() as receiver:
        made = tenant.client.post(PATH, {"name": "n", "url": receiver.url, "events": ["training.job.*"]})
        path = f"{PATH}/{made['id']}"
        tenant.client.post(f"{path}/pause", {})
        say(tenant, 200, 7)
        wait_until(lambda: len(tenant.events.all("training.job.>")) == 200)
        beyond = wait_until(lambda: (shown := tenant.client.get(path))["overflows"] and shown)
        assert 20 <= beyond["waiting"] < 200
        tenant.client.post(f"{path}/resume")
        wait_until(lambda: len(receiver.taken) >= 100)
        say(tenant, 50, 7)  # while it catches up
        wait_until(lambda: len(receiver.taken) == 250)
        wait_until(lambda: not (shown := tenant.client.get(path))["overflows"] and shown["replay"] is None)
        say(tenant, 1, 7)
        wait_until(lambda: len(receiver.taken) == 251)
    published = [e.id for e in tenant.events.all("training.job.>")]
    assert len(receiver.requests) == len(published) == 251
    for thing in range(7):
        arrived = [r.event["id"] for r in receiver.taken if r.event["subject"].endswith(f"/{thing}")]
        assert arrived == [id for id in published if id in set(arrived)]  # in order


def test_the_log_is_kept_within_bounds_and_old_events_are_buried(tenant: Tenant) -> None:
    platform = tenant.running.platform("notify")
    with Receiver().listening() as receiver:
        made = tenant.client.post(PATH, {"name": "n", "url": receiver.url, "events": ["training.job.*"]})
        say(tenant, 8, 8)
        wait_until(lambda: len(receiver.taken) == 8)
    wait_until(lambda: tenant.client.get(f"{PATH}/{made['id']}")["waiting"] == 0)
    tenant.running.run(retention.tidy(platform))
    assert len(tenant.client.get(f"{PATH}/{made['id']}/deliveries")["deliveries"]) == 5
    say(tenant, 30, 30)
    wait_until(lambda: tenant.client.get(f"{PATH}/{made['id']}")["waiting"] == 30)

    async def died_elsewhere() -> None:
        """One of these events is a dead letter of another webhook already."""
        async with platform.database.transaction() as tx:
            waiting = select(WebhookDelivery).where(WebhookDelivery.webhook_id == made["id"])
            row = (await tx.session.exec(waiting)).first()
            assert row is not None
            kept = row.model_dump(include={"event_id", "sequence", "type", "urn", "payload"})
            tx.session.add(WebhookDeadLetter(**kept, webhook_id="another", attempts=9, reason="", died_at=now_ms()))

    async def kept_elsewhere() -> int:
        async with platform.database.read() as session:
            letters = select(WebhookDeadLetter).where(WebhookDeadLetter.webhook_id == "another")
            return len((await session.exec(letters)).all())

    tenant.running.run(died_elsewhere())
    move_clock(8 * 86_400_000)
    try:
        tenant.running.run(retention.tidy(platform))
        shown = tenant.client.get(f"{PATH}/{made['id']}")
        assert shown["waiting"] + shown["dead_letters"] == 30
        assert shown["dead_letters"] >= 20
        assert tenant.running.run(kept_elsewhere()) == 1
        old = tenant.client.get(f"{PATH}/{made['id']}/deliveries", {"outcome": "delivered"})
        assert old["deliveries"] == []
        move_clock(40 * 86_400_000)
        tenant.running.run(retention.tidy(platform))
        assert tenant.client.get(f"{PATH}/{made['id']}")["dead_letters"] == 0
        move_clock(-40 * 86_400_000)
    finally:
        move_clock(-8 * 86_400_000)


def test_a_crash_loses_nothing_and_keeps_the_order(tmp_path: Path) -> None:
    settings = {"BOTTEGA__PLUGINS__NOTIFY__ALLOWED_NETWORKS": '["127.0.0.0/8"]'}
    with Receiver().listening() as receiver, PlatformProcess(tmp_path / "data", settings) as process:

        def slowly(_: Any) -> tuple[int, dict[str, str]]:
            time.sleep(0.03)
            return 200, {}

        receiver.answer = slowly
        client = process.client
        client.post(PATH, {"name": "hears", "url": receiver.url, "events": ["notify.webhook.*"]})
        about = [
            client.post(PATH, {"name": f"n{n}", "url": receiver.url, "events": ["dataset.>"]})["id"] for n in range(3)
        ]

        def toggle(times: int) -> None:
            for _ in range(times):
                for verb in ("pause", "resume"):
                    for webhook in about:
                        process.client.post(f"{PATH}/{webhook}/{verb}", {})

        toggle(8)
        process.kill()
        process.start()
        params = {"type": "notify.>", "since": 0, "follow": "false"}
        published = list(client.lines("/v1/{project_id}/events", params))
        assert len(published) == 1 + 3 + 8 * 2 * 3
        wait_until(lambda: {r.event["id"] for r in receiver.taken} >= {e["id"] for e in published[1:]}, timeout=60)
    for webhook in about:
        expected = [e["id"] for e in published if e["subject"].endswith(webhook)]
        arrived = [r.event["id"] for r in receiver.taken if r.event["subject"].endswith(webhook)]
        assert list(dict.fromkeys(arrived)) == expected
