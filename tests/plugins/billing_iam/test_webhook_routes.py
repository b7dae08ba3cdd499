"""What can be asked of webhooks: what they are told, with whose rights, where to, and what is said of mistakes."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bottega.client import ApiFailure
from bottega.context import move_clock
from bottega.entities import User
from bottega.events import Envelope
from bottega.testing import Receiver, Request, RunningPlatform, Tenant, wait_until

HOUR = 3_600_000
PATH = "/v1/{project_id}/webhooks"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    notify = {"allowed_networks": ["127.0.0.0/8"], "webhook_timeout_s": 3, "webhook_attempts": 12}
    with RunningPlatform(tmp_path_factory.mktemp("webhooks"), {"plugins": {"notify": notify}}) as it:
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
    assert sorted(numbers(receiver)) == [1, 8]


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
    wait_until(lambda: sorted(numbers(receiver)) == [0, 1])


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
    wait_until(lambda: numbers(receiver) == [1])
    wait_until(lambda: "training.job.failed.v1" in {entry["type"] for entry in log(user, made, outcome="withheld")})
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
    wait_until(lambda: numbers(receiver) == [1, 2])


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
    wait_until(lambda: numbers(receiver) == [0])


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
        ({"url": "http://10.1.2.3/"}, "allowed_networks"),
        ({"url": "http://169.254.169.254/latest"}, "allowed_networks"),
        ({"url": "http://[::1]/"}, "allowed_networks"),
        ({"url": "http://[::ffff:10.0.0.1]/"}, "allowed_networks"),
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


def test_from_the_command_line(bottega: Callable[..., Any], tenant: Tenant, receiver: Receiver) -> None:
    def answer(*words: str) -> Any:
        done = bottega("webhooks", *words, as_json=True)
        assert done.exit_code == 0, done.exception
        return json.loads(done.stdout) if done.stdout else None

    condition = ["--where", 'data.job_id=["a", "b"]', "--where", "data.name^=di", "--where", "data.number?"]
    made = answer("create", "mine", receiver.url, "training.job.completed", *condition)
    assert made["secret"].startswith("whsec_")
    assert made["filter"] == [
        {"field": "data.job_id", "in": ["a", "b"]},
        {"field": "data.name", "prefix": "di"},
        {"field": "data.number", "exists": True},
    ]
    assert [w["name"] for w in answer("list")] == ["mine"]
    assert answer("test", "mine")["delivered"]
    say(tenant, ("a", 1), name="digits")
    wait_until(lambda: numbers(receiver) == [1])
    wait_until(lambda: [d["outcome"] for d in answer("deliveries", "mine")] == ["delivered", "test"])
    answer("pause", "mine", "--reason", "lunch")
    assert answer("show", made["id"])["reason"] == "lunch"
    answer("resume", "mine")
    assert answer("rotate", "mine", "--keep-hours", "0")["secret"] != made["secret"]
    assert answer("replay", "mine", "--since", "1h")["replaying"]
    wait_until(lambda: numbers(receiver) == [1, 1])
    receiver.answer = lambda _: (500, {})
    assert bottega("webhooks", "test", "mine").exit_code == 1
    assert answer("dead", "mine") == []
    answer("redeliver", "mine")
    answer("delete", "mine")
    assert "there is no webhook" in str(bottega("webhooks", "show", "mine").exception)
