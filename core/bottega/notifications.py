"""Asking for a message to a topic; the plugin that keeps topics delivers it, and without one nobody hears it."""

from __future__ import annotations

from bottega.database import Transaction
from bottega.events import Event


class NotificationRequested(Event, type="core.notification.requested.v1"):
    """Something happened that a topic's subscribers asked to be told. `topic_urn` is the vendor's SMN form."""

    topic_urn: str
    subject: str
    message: str


def notify(tx: Transaction, about: str, topic_urn: str, subject: str, message: str) -> None:
    """Send `message` to the subscribers of a topic when `tx` commits. `about` is the URN of what it concerns."""
    tx.speaking_as("core").emit(NotificationRequested(topic_urn=topic_urn, subject=subject, message=message), about)
