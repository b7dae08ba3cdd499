"""What the routes of topics take, in the shapes of the vendor's Simple Message Notification."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

TOPIC_NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,254}$"


class NewTopic(BaseModel):
    name: str = Field(pattern=TOPIC_NAME)
    display_name: str = Field(default="", max_length=192)
    enterprise_project_id: str = Field(default="0", max_length=64)


class ChangedTopic(BaseModel):
    display_name: str = Field(max_length=192)


class Attribute(BaseModel):
    value: str = Field(max_length=30 * 1024)


class Extension(BaseModel):
    """Headers that go with every message to an HTTP endpoint, such as one that lets it in."""

    header: dict[str, str] = Field(default={}, max_length=10)


class OneSubscription(BaseModel):
    protocol: str
    endpoint: str = Field(min_length=1, max_length=2048)
    remark: str = Field(default="", max_length=128)
    extension: Extension | None = None


class NewSubscription(BaseModel):
    protocol: str | None = None
    endpoint: str | None = Field(default=None, max_length=2048)
    remark: str = Field(default="", max_length=128)
    extension: Extension | None = None
    subscriptions: list[OneSubscription] | None = Field(default=None, min_length=1, max_length=50)


class ChangedSubscription(BaseModel):
    remark: str = Field(max_length=128)


class SubscriptionUrn(BaseModel):
    subscription_urn: str


class SubscriptionUrns(BaseModel):
    subscription_urns: list[SubscriptionUrn] = Field(min_length=1, max_length=100)


class Filter(BaseModel):
    name: str = Field(min_length=1, max_length=32, pattern=r"^[a-z0-9][a-z0-9_]*$")
    string_equals: list[str] = Field(min_length=1, max_length=10)


class SubscriptionFilters(BaseModel):
    subscription_urn: str
    filter_polices: list[Filter] = Field(min_length=1, max_length=1)


class Filters(BaseModel):
    polices: list[SubscriptionFilters] = Field(min_length=1, max_length=100)


class WithoutFilters(BaseModel):
    subscription_urns: list[str] = Field(min_length=1, max_length=100)


class MessageAttribute(BaseModel):
    name: str = Field(min_length=1, max_length=32)
    type: str = Field(pattern="^(STRING|STRING_ARRAY|PROTOCOL)$")
    value: str | list[str]


class Publication(BaseModel):
    subject: str = Field(default="", max_length=512)
    message: str | None = None
    message_structure: str | None = None
    message_template_name: str | None = None
    tags: dict[str, str] = Field(default={}, max_length=50)
    time_to_live: str | None = Field(default=None, pattern="^[0-9]{1,6}$")
    message_attributes: list[MessageAttribute] = Field(default=[], max_length=20)

    def attributes(self) -> dict[str, Any]:
        return {attribute.name: attribute.value for attribute in self.message_attributes}


class NewTemplate(BaseModel):
    message_template_name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")
    protocol: str
    content: str = Field(min_length=1, max_length=256 * 1024)


class ChangedTemplate(BaseModel):
    content: str = Field(min_length=1, max_length=256 * 1024)
