"""What is sent to the routes of webhooks."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from .matching import Condition

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Url = Annotated[str, StringConstraints(min_length=1, max_length=2000)]
Patterns = Annotated[
    list[Annotated[str, StringConstraints(min_length=1, max_length=200)]], Field(min_length=1, max_length=50)
]
Conditions = Annotated[list[Condition], Field(max_length=20)]
Description = Annotated[str, StringConstraints(max_length=256)]
Secret = Annotated[str, StringConstraints(max_length=200)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewWebhook(_Strict):
    """`workspace_id` limits it to events about things of that workspace; without one it is told of all the project."""

    name: Name
    url: Url
    events: Patterns
    filter: Conditions = []
    workspace_id: str | None = Field(None, max_length=64)
    description: Description = ""
    secret: Secret | None = None


class WebhookChange(_Strict):
    """What is left out stays as it is."""

    name: Name | None = None
    url: Url | None = None
    events: Patterns | None = None
    filter: Conditions | None = None
    description: Description | None = None


class Rotation(_Strict):
    """`keep_previous_s` is how long the old secret signs beside the new one."""

    secret: Secret | None = None
    keep_previous_s: int = Field(86_400, ge=0, le=30 * 86_400)


class Pause(_Strict):
    reason: str = Field("paused by hand", min_length=1, max_length=256)


class Replay(_Strict):
    """From an epoch millisecond `since`, or from a `sequence` of the stream, on."""

    since: int | None = Field(None, ge=0, le=253_402_300_799_999)
    sequence: int | None = Field(None, ge=1, le=2**53)

    @model_validator(mode="after")
    def _one(self) -> Replay:
        if (self.since is None) == (self.sequence is None):
            raise ValueError("give either 'since' (epoch milliseconds) or 'sequence' (of the stream)")
        return self


class Redelivery(_Strict):
    """The dead letters to send again, by the ids of their events; all without."""

    event_ids: list[Annotated[str, StringConstraints(max_length=200)]] | None = Field(
        None, min_length=1, max_length=500
    )
