"""The vendor's notification client, unmodified, against topics, subscriptions and templates (huaweicloudsdksmn)."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException
from huaweicloudsdksmn import v2 as smn
from sqlmodel import select

from bottega.notifications import notify
from bottega.testing import RunningPlatform, Tenant, wait_until
from bottega.testing.mailbox import Mailbox
from bottega_billing_iam.notify.topic_entities import Dispatch


class Receiver:
    """A real HTTP endpoint; `answers` are the statuses of its next answers, then 200."""

    def __init__(self) -> None:
        self.requests: list[tuple[dict[str, str], dict[str, Any]]] = []
        self.answers: list[int] = []
        self.before: Callable[[], Any] = lambda: None
        """What happens before it reads a request; `asked` counts them."""
        self.asked = 0
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver.asked += 1
                receiver.before()
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.requests.append((dict(self.headers), json.loads(body)))
                self.send_response(receiver.answers.pop(0) if receiver.answers else 200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Nothing on the terminal."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def wait(self, kind: str, subject: str = "") -> tuple[dict[str, str], dict[str, Any]]:
        def found() -> tuple[dict[str, str], dict[str, Any]] | None:
            matching = (r for r in self.requests if r[1]["type"] == kind and subject in r[1]["subject"])
            return next(matching, None)

        request = wait_until(found, 20)
        assert request is not None
        return request


@pytest.fixture(scope="module")
def mailbox() -> Iterator[Mailbox]:
    with Mailbox() as mailbox:
        yield mailbox


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, mailbox: Mailbox) -> Iterator[RunningPlatform]:
    """A platform with a mail server."""
    overrides = {
        "smtp": mailbox.settings,
        "plugins": {"notify": {"topics": 4, "allowed_networks": ["127.0.0.0/8"]}},
    }
    with RunningPlatform(tmp_path_factory.mktemp("platform"), overrides) as platform:
        yield platform


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.server.shutdown()
    receiver.server.server_close()


def client_of(tenant: Tenant) -> Any:
    credentials = BasicCredentials(tenant.access_key, tenant.secret_key, tenant.project_id)
    return smn.SmnClient.new_builder().with_credentials(credentials).with_endpoint(tenant.running.url).build()


@pytest.fixture
def official(tenant: Tenant, operations: Callable[[Any], Any]) -> Any:
    return operations(client_of(tenant))


@pytest.fixture
def topic(official: Any) -> str:
    body = smn.CreateTopicRequestBody(name="ops", display_name="Operations")
    return str(official.create_topic(smn.CreateTopicRequest(body=body)).topic_urn)


def subscribed(official: Any, topic: str, protocol: str, endpoint: str, **fields: Any) -> str:
    body = smn.AddSubscriptionRequestBody(protocol=protocol, endpoint=endpoint, **fields)
    return str(official.add_subscription(smn.AddSubscriptionRequest(topic_urn=topic, body=body)).subscription_urn)


def publish(official: Any, topic: str, **fields: Any) -> str:
    body = smn.PublishMessageRequestBody(**fields)
    return str(official.publish_message(smn.PublishMessageRequest(topic_urn=topic, body=body)).message_id)


def link_in(text: str) -> str:
    found = re.search(r"http://\S+", text)
    assert found is not None
    return found[0]


def refused(call: Callable[[], Any], status: int) -> ClientRequestException:
    with pytest.raises(ClientRequestException) as e:
        call()
    assert e.value.status_code == status
    assert e.value.error_code
    assert e.value.request_id
    return e.value


def hears(receiver: Receiver, official: Any, topic: str, **fields: Any) -> str:
    """Subscribe the receiver and agree to it by the address it was sent."""
    urn = subscribed(official, topic, "http", receiver.url, **fields)
    _, asked = receiver.wait("SubscriptionConfirmation")
    assert httpx.get(asked["subscribe_url"]).json()["subscription_urn"] == urn
    return urn


def test_a_topic_is_made_found_changed_and_deleted(official: Any, topic: str, tenant: Tenant, stranger: Tenant) -> None:
    assert topic == f"urn:smn:local-1:{tenant.project_id}:ops"
    shown = official.list_topic_details(smn.ListTopicDetailsRequest(topic_urn=topic))
    assert (shown.name, shown.display_name, shown.push_policy) == ("ops", "Operations", 0)
    listed = official.list_topics(smn.ListTopicsRequest(fuzzy_name="op"))
    assert (listed.topic_count, [t.topic_urn for t in listed.topics]) == (1, [topic])
    again = smn.CreateTopicRequestBody(name="ops", display_name="Another")
    assert official.create_topic(smn.CreateTopicRequest(body=again)).topic_urn == topic
    change = smn.UpdateTopicRequestBody(display_name="Ops team")
    assert official.update_topic(smn.UpdateTopicRequest(topic_urn=topic, body=change)).request_id
    assert official.list_topic_details(smn.ListTopicDetailsRequest(topic_urn=topic)).display_name == "Ops team"
    other = client_of(stranger)
    refused(lambda: other.list_topic_details(smn.ListTopicDetailsRequest(topic_urn=topic)), 404)
    refused(lambda: other.delete_topic(smn.DeleteTopicRequest(topic_urn=topic)), 404)
    body = smn.PublishMessageRequestBody(message="let me in")
    refused(lambda: other.publish_message(smn.PublishMessageRequest(topic_urn=topic, body=body)), 404)
    assert other.list_topics(smn.ListTopicsRequest()).topics == []
    official.delete_topic(smn.DeleteTopicRequest(topic_urn=topic))
    refused(lambda: official.list_topic_details(smn.ListTopicDetailsRequest(topic_urn=topic)), 404)


def test_a_topic_has_attributes(official: Any, topic: str) -> None:
    policy = json.dumps({"Version": "2016-09-07", "Id": "__default", "Statement": []})
    for name, value in (("access_policy", policy), ("introduction", "what operators hear")):
        body = smn.UpdateTopicAttributeRequestBody(value=value)
        official.update_topic_attribute(smn.UpdateTopicAttributeRequest(topic_urn=topic, name=name, body=body))
    every = smn.ListTopicAttributesRequest(topic_urn=topic)
    found = official.list_topic_attributes(every).attributes
    assert (found.access_policy, found.introduction) == (policy, "what operators hear")
    one = smn.DeleteTopicAttributeByNameRequest(topic_urn=topic, name="introduction")
    official.delete_topic_attribute_by_name(one)
    assert official.list_topic_attributes(every).attributes.introduction == ""
    official.delete_topic_attributes(smn.DeleteTopicAttributesRequest(topic_urn=topic))
    assert official.list_topic_attributes(every).attributes.access_policy == ""
    bad = smn.UpdateTopicAttributeRequestBody(value="everybody")
    wrong = smn.UpdateTopicAttributeRequest(topic_urn=topic, name="access_policy", body=bad)
    assert "not a JSON object" in refused(lambda: official.update_topic_attribute(wrong), 400).error_msg


def test_an_address_hears_nothing_until_it_agrees(official: Any, topic: str, mailbox: Mailbox) -> None:
    urn = subscribed(official, topic, "email", "Anna@example.com", remark="on call")
    asked = mailbox.wait("Anna@example.com", "Subscribe to Operations?")
    publish(official, topic, subject="too early", message="nobody hears this")
    mine = smn.ListSubscriptionsByTopicRequest(topic_urn=topic)
    assert [s.status for s in official.list_subscriptions_by_topic(mine).subscriptions] == [0]
    assert httpx.get(link_in(asked)).json()["subscription_urn"] == urn
    found = official.list_subscriptions(smn.ListSubscriptionsRequest(protocol="email", status=1))
    (one,) = found.subscriptions
    assert (one.subscription_urn, one.endpoint, one.remark, one.status) == (urn, "Anna@example.com", "on call", 1)
    publish(official, topic, subject="disk full", message="on node 7 — füllt sich")
    text = mailbox.wait("Anna@example.com", "disk full")
    assert text.startswith("on node 7 — füllt sich")
    assert not any("too early" in m["Subject"] for m in mailbox.messages)
    assert httpx.get(link_in(text)).status_code == 200
    publish(official, topic, subject="after leaving", message="nobody hears this")
    body = smn.UpdateSubscriptionRequestBody(remark="left us")
    change = smn.UpdateSubscriptionRequest(topic_urn=topic, subscription_urn=urn, body=body)
    official.update_subscription(change)
    (one,) = official.list_subscriptions_by_topic(mine).subscriptions
    assert (one.status, one.remark) == (3, "left us")
    official.cancel_subscription(smn.CancelSubscriptionRequest(subscription_urn=urn))
    assert official.list_subscriptions_by_topic(mine).subscription_count == 0
    refused(lambda: official.cancel_subscription(smn.CancelSubscriptionRequest(subscription_urn=urn)), 404)


def test_an_address_agrees_and_leaves_through_the_client(
    official: Any, topic: str, receiver: Receiver, operations: Callable[[Any], Any], tenant: Tenant
) -> None:
    urn = subscribed(official, topic, "http", receiver.url)
    headers, asked = receiver.wait("SubscriptionConfirmation")
    assert headers["X-SMN-MESSAGE-TYPE"] == "SubscriptionConfirmation"
    token = httpx.URL(asked["subscribe_url"]).params["token"]
    forged = smn.ConfirmSubscriptionRequest(topic_urn=topic, endpoint=receiver.url, token="x" * 43)
    refused(lambda: official.confirm_subscription(forged), 403)
    right = smn.ConfirmSubscriptionRequest(topic_urn=topic, endpoint=receiver.url, token=token)
    assert official.confirm_subscription(right).subscription_urn == urn
    again = smn.SubscribeTopicRequest(topic_urn=topic, endpoint=receiver.url, token=token)
    assert official.subscribe_topic(again).subscription_urn == urn
    message_id = publish(official, topic, subject="s1", message="m1")
    headers, heard = receiver.wait("Notification", "s1")
    assert (heard["message"], heard["message_id"], heard["topic_urn"]) == ("m1", message_id, topic)
    assert headers["X-SMN-SUBSCRIPTION-URN"] == urn
    official.unsubscribe_subscription(smn.UnsubscribeSubscriptionRequest(subscription_urn=urn))
    official.unsubscribe_topic(smn.UnsubscribeTopicRequest(subscription_urn=urn))
    assert official.list_subscriptions(smn.ListSubscriptionsRequest(status=3)).subscription_count == 1


def test_a_receiver_that_fails_is_tried_again(official: Any, topic: str, receiver: Receiver, tenant: Tenant) -> None:
    hears(receiver, official, topic)
    receiver.answers = [500]
    message_id = publish(official, topic, subject="twice", message="m")
    wait_until(lambda: sum(b["message_id"] == message_id for _, b in receiver.requests) == 2, 30)


def test_each_protocol_hears_its_own_text(official: Any, topic: str, receiver: Receiver, mailbox: Mailbox) -> None:
    hears(receiver, official, topic)
    subscribed(official, topic, "email", "ben@example.com")
    httpx.get(link_in(mailbox.wait("ben@example.com", "Subscribe")))
    texts = json.dumps({"default": "for all", "email": "for people"})
    publish(official, topic, subject="structure", message_structure=texts)
    assert receiver.wait("Notification", "structure")[1]["message"] == "for all"
    assert mailbox.wait("ben@example.com", "structure").startswith("for people")


def test_templates_are_kept_and_filled(official: Any, topic: str, receiver: Receiver) -> None:
    hears(receiver, official, topic)

    def create(protocol: str, content: str) -> str:
        body = smn.CreateMessageTemplateRequestBody(message_template_name="alarm", protocol=protocol, content=content)
        made = official.create_message_template(smn.CreateMessageTemplateRequest(body=body))
        return str(made.message_template_id)

    assert "'default'" in refused(lambda: create("http", "x"), 400).error_msg
    default = create("default", "{who}: {what} {who}")
    refused(lambda: create("default", "again"), 409)
    for_http = create("http", "{what}!")
    listed = official.list_message_templates(smn.ListMessageTemplatesRequest(message_template_name="ala"))
    assert (listed.message_template_count, listed.message_templates[0].tag_names) == (2, ["who", "what"])
    body = smn.UpdateMessageTemplateRequestBody(content="{what}?")
    official.update_message_template(smn.UpdateMessageTemplateRequest(message_template_id=for_http, body=body))
    one = smn.ListMessageTemplateDetailsRequest(message_template_id=for_http)
    assert official.list_message_template_details(one).content == "{what}?"
    publish(official, topic, subject="t", message_template_name="alarm", tags={"what": "fire"})
    assert receiver.wait("Notification", "t")[1]["message"] == "fire?"
    for template in (default, for_http):
        official.delete_message_template(smn.DeleteMessageTemplateRequest(message_template_id=template))
    refused(lambda: official.list_message_template_details(one), 404)


def test_a_filter_lets_through_what_it_names(official: Any, topic: str, receiver: Receiver) -> None:
    urn = hears(receiver, official, topic)
    policy = smn.SubscriptionsFilterPolicy(name="level", string_equals=["high"])
    of = smn.BatchSubscriptionsFilterPolicesRequestBodyPolices(subscription_urn=urn, filter_polices=[policy])
    body = smn.BatchSubscriptionsFilterPolicesRequestBody(polices=[of])
    made = official.batch_create_subscriptions_filter_polices(
        smn.BatchCreateSubscriptionsFilterPolicesRequest(body=body)
    )
    assert [r.code for r in made.batch_result] == ["SMN.0000"]
    level = smn.MessageAttribute(name="level", type="STRING", value="low")
    publish(official, topic, subject="low", message="m", message_attributes=[level])
    level.value = "high"
    publish(official, topic, subject="high", message="m", message_attributes=[level])
    receiver.wait("Notification", "high")
    assert not any(b["subject"] == "low" for _, b in receiver.requests)
    change = smn.BatchUpdateSubscriptionsFilterPolicesRequest(body=body)
    assert official.batch_update_subscriptions_filter_polices(change).batch_result[0].code == "SMN.0000"
    gone = smn.BatchDeleteSubscriptionsFilterPolicesRequestBody(subscription_urns=[urn])
    official.batch_delete_subscriptions_filter_polices(smn.BatchDeleteSubscriptionsFilterPolicesRequest(body=gone))
    publish(official, topic, subject="whatever", message="m")
    receiver.wait("Notification", "whatever")


def test_subscriptions_are_cancelled_many_at_once(official: Any, topic: str) -> None:
    urns = [subscribed(official, topic, "http", f"http://127.0.0.1:9/{n}") for n in range(4)]
    official.delete_subscriptions_by_topic(
        smn.DeleteSubscriptionsByTopicRequest(topic_urn=topic, subscription_urn=urns[0])
    )
    item = smn.BatchDeleteSubscriptionsRequestItemInfo
    body = smn.BatchDeleteSubscriptionsRequestBody(subscription_urns=[item(urns[0]), item(urns[1])])
    answer = official.batch_delete_subscriptions(smn.BatchDeleteSubscriptionsRequest(body=body))
    assert [r.http_code for r in answer.subscriptions_result] == [404, 200]
    body = smn.BatchDeleteSubscriptionsRequestBody(subscription_urns=[item(urns[2]), item(urns[3])])
    by_topic = smn.BatchDeleteSubscriptionsByTopicRequest(topic_urn=topic, body=body)
    assert [r.http_code for r in official.batch_delete_subscriptions_by_topic(by_topic).subscriptions_result] == [
        200,
        200,
    ]
    assert official.list_subscriptions(smn.ListSubscriptionsRequest()).subscription_count == 0


def test_what_cannot_be_is_refused_before_anything_changes(official: Any, topic: str, tenant: Tenant) -> None:
    for protocol, endpoint, says in (
        ("sms", "+491234", "protocol 'sms' is not served here"),
        ("email", "nobody", "not an e-mail address"),
        ("email", "a@b\r\nBcc: c@d", "not an e-mail address"),
        ("https", "http://example.com", "begins with https://"),
        ("http", "http://169.254.169.254/latest", "an address that nothing is sent to"),
    ):
        error = refused(lambda p=protocol, e=endpoint: subscribed(official, topic, p, e), 400)  # type: ignore[misc]
        assert says in error.error_msg
    refused(lambda: publish(official, topic, message="a", message_template_name="b"), 400)
    refused(lambda: publish(official, topic, message_structure='{"email": "no default"}'), 400)
    refused(lambda: publish(official, topic, message_template_name="missing"), 404)
    assert official.list_subscriptions(smn.ListSubscriptionsRequest()).subscription_count == 0
    assert "email" in official.list_protocols(smn.ListProtocolsRequest()).protocols
    for n in range(3):
        tenant.client.post("/v2/{project_id}/notifications/topics", {"name": f"more-{n}"})
    one_more = smn.CreateTopicRequest(body=smn.CreateTopicRequestBody(name="one-too-many"))
    refused(lambda: official.create_topic(one_more), 403)
    listing = tenant.user([{"Version": "1.1", "Statement": [{"Effect": "Allow", "Action": ["smn:topic:list"]}]}])
    limited = client_of(listing)
    assert limited.list_topics(smn.ListTopicsRequest()).topic_count == 4
    refused(lambda: publish(limited, topic, message="x"), 403)


def test_the_platform_tells_topics_of_the_same_account_only(
    running: RunningPlatform, official: Any, topic: str, receiver: Receiver, tenant: Tenant, stranger: Tenant
) -> None:
    hears(receiver, official, topic)

    async def tell(project_id: str, subject: str) -> None:
        async with running.platform("training").database.transaction() as tx:
            notify(tx, f"bottega:training:{project_id}:job/j1", topic, subject, "it ended")

    running.run(tell(stranger.project_id, "from a stranger"))
    running.run(tell(tenant.project_id, "from my job"))
    _, heard = receiver.wait("Notification", "from my job")
    assert heard["message"] == "it ended"
    assert not any(b["subject"] == "from a stranger" for _, b in receiver.requests)


def test_a_message_that_cannot_be_read_holds_up_no_other(
    running: RunningPlatform, official: Any, topic: str, receiver: Receiver
) -> None:
    subscription = hears(receiver, official, topic).rpartition(":")[2]
    database = running.platform("notify").database

    async def damage() -> None:
        async with database.transaction() as tx:
            tx.session.add(Dispatch(subscription_id=subscription, message_id="damaged", text=b"no sealed text"))

    async def damaged() -> Dispatch:
        async with database.read() as session:
            return (await session.exec(select(Dispatch).where(Dispatch.message_id == "damaged"))).one()

    running.run(damage())
    wait_until(lambda: running.run(damaged()).error)
    publish(official, topic, subject="after it", message="whole")
    assert receiver.wait("Notification", "after it")[1]["message"] == "whole"


def test_a_slow_subscriber_holds_up_nobody_else(official: Any, topic: str, receiver: Receiver) -> None:
    slow, go = Receiver(), threading.Event()
    hears(slow, official, topic)
    slow.before = lambda: go.wait(30)
    try:
        for number in range(40):
            publish(official, topic, subject=f"n{number}", message="x")
        wait_until(lambda: slow.asked >= 4)
        hears(receiver, official, topic)
        publish(official, topic, subject="news", message="quickly")
        began = time.monotonic()
        receiver.wait("Notification", "news")
        assert time.monotonic() - began < 10
        assert slow.asked < 10
    finally:
        go.set()
        slow.server.shutdown()
        slow.server.server_close()
