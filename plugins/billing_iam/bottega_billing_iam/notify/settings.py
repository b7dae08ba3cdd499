"""What the operator can set for the plugin `notify`."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from bottega.settings import Section


class Smtp(BaseModel):
    """The mail server that takes what is sent by e-mail."""

    model_config = ConfigDict(extra="forbid")
    host: str
    port: int = Field(default=587, ge=1, le=65535)
    sender: str
    user: str | None = None
    password_file: Path | None = None
    """A file that holds the password and nothing else, so that no secret stands in the configuration."""
    security: str = Field(default="starttls", pattern="^(starttls|tls|none)$")


class NotifySettings(Section):
    """The section ``[plugins.notify]``."""

    region: str = "local-1"
    smtp: Smtp | None = None
    """Without one, e-mail subscriptions are refused."""
    topics: int = Field(default=100, ge=1)
    """Topics an account may have."""
    subscriptions_per_topic: int = Field(default=100, ge=1)
    message_attempts: int = Field(default=6, ge=1)
    """How often a message to a subscriber is tried, with growing pauses."""
