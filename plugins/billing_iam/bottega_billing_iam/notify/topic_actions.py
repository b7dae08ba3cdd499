"""The IAM actions of topics, in the vendor's names."""

from __future__ import annotations

from bottega.plugins import Action

ACTIONS = (
    Action("smn:topic:create", "Make a topic", "topic"),
    Action("smn:topic:list", "List topics", "topic"),
    Action("smn:topic:get", "See a topic", "topic"),
    Action("smn:topic:update", "Change a topic or its attributes", "topic"),
    Action("smn:topic:delete", "Delete a topic", "topic"),
    Action("smn:topic:subscribe", "Subscribe an address to a topic", "topic"),
    Action("smn:topic:publish", "Publish a message to a topic", "topic"),
    Action("smn:subscription:list", "List subscriptions with their addresses", "subscription"),
    Action("smn:subscription:update", "Change the remark or the filters of a subscription", "subscription"),
    Action("smn:subscription:cancel", "Cancel a subscription", "subscription"),
    Action("smn:subscription:confirm", "Agree to a subscription", "subscription"),
    Action("smn:template:create", "Make a message template", "template"),
    Action("smn:template:list", "List message templates", "template"),
    Action("smn:template:get", "See a message template", "template"),
    Action("smn:template:update", "Change a message template", "template"),
    Action("smn:template:delete", "Delete a message template", "template"),
    Action("smn:protocol:list", "See what messages can be sent by", "protocol"),
)
