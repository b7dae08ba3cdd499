"""What is published about webhooks."""

from __future__ import annotations

from bottega.events import Event


class WebhookCreated(Event, type="notify.webhook.created.v1"):
    """A webhook was made."""

    webhook_id: str
    name: str
    owner_id: str


class WebhookChanged(Event, type="notify.webhook.changed.v1"):
    """What a webhook is told, where, or its secret was changed."""

    webhook_id: str
    owner_id: str


class WebhookPaused(Event, type="notify.webhook.paused.v1"):
    """Nothing is sent to a webhook for now; what happens meanwhile waits."""

    webhook_id: str
    reason: str


class WebhookResumed(Event, type="notify.webhook.resumed.v1"):
    """A webhook is sent what has waited."""

    webhook_id: str


class WebhookExhausted(Event, type="notify.webhook.exhausted.v1"):
    """A webhook's receiver did not take `count` events in all their time; they lie in its dead letters."""

    webhook_id: str
    name: str
    count: int
    reason: str


class WebhookDeleted(Event, type="notify.webhook.deleted.v1"):
    """A webhook is gone, with what waited for it."""

    webhook_id: str


class WebhookTested(Event, type="notify.webhook.tested.v1"):
    """What a test sends. It goes to the one webhook only and is never on the bus."""

    webhook_id: str
    message: str = "a test of this webhook"


PUBLISHED = (WebhookCreated, WebhookChanged, WebhookPaused, WebhookResumed, WebhookExhausted, WebhookDeleted)
