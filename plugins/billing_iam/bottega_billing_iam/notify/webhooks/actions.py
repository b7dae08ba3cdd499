"""The IAM actions of webhooks."""

from __future__ import annotations

from bottega.plugins import Action

ACTIONS = (
    Action("modelarts:webhook:create", "Make a webhook", "webhook", "createWebhook"),
    Action("modelarts:webhook:list", "List webhooks", "webhook"),
    Action("modelarts:webhook:get", "See a webhook, its delivery log and its dead letters", "webhook"),
    Action(
        "modelarts:webhook:update", "Change, pause and resume a webhook, rotate its secret", "webhook", "updateWebhook"
    ),
    Action("modelarts:webhook:delete", "Delete a webhook", "webhook", "deleteWebhook"),
    Action("modelarts:webhook:test", "Send a test to a webhook", "webhook", "testWebhook"),
    Action(
        "modelarts:webhook:replay",
        "Send past events and dead letters again, or drop the latter",
        "webhook",
        "replayWebhook",
    ),
)
