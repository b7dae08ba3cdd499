"""What the operator can set for the plugin `notify`."""

from __future__ import annotations

from ipaddress import ip_network

from pydantic import Field, field_validator

from bottega.settings import Section


class NotifySettings(Section):
    """The section ``[plugins.notify]``."""

    region: str = "local-1"
    topics: int = Field(default=100, ge=1)
    """Topics an account may have."""
    subscriptions_per_topic: int = Field(default=100, ge=1)
    message_attempts: int = Field(default=6, ge=1)
    """How often a message to a subscriber is tried, with growing pauses."""
    webhooks: int = Field(default=100, ge=1)
    """Webhooks an account may have."""
    allowed_networks: list[str] = Field(default=[])
    """Networks, such as ``10.0.0.0/8``, that webhooks and HTTP subscriptions may reach although they are not public."""
    webhook_timeout_s: float = Field(default=15, gt=0, le=60)
    """How long a receiver may take to answer."""
    webhook_concurrency: int = Field(default=16, ge=1, le=256)
    """Requests to one webhook at a time."""
    webhook_attempts: int = Field(default=30, ge=1)
    """How often an event is tried, with pauses from seconds to an hour, until it becomes a dead letter."""
    webhook_max_age_h: int = Field(default=72, ge=1)
    """How long an event is tried."""
    webhook_waiting: int = Field(default=10_000, ge=1)
    """Events that wait for one webhook in the database; later ones wait in the stream, as long as it holds them."""
    webhook_log_days: int = Field(default=7, ge=1)
    """How long an attempt stays in the delivery log."""
    webhook_log_entries: int = Field(default=10_000, ge=1)
    """How many attempts of one webhook the delivery log keeps."""
    webhook_dead_letter_days: int = Field(default=30, ge=1)
    """How long a dead letter can be sent again."""

    @field_validator("allowed_networks")
    @classmethod
    def _networks(cls, networks: list[str]) -> list[str]:
        for network in networks:
            ip_network(network)
        return networks
