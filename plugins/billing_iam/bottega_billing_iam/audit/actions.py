"""The IAM actions of the audit trail, and ready-made policies of them."""

from __future__ import annotations

from bottega.plugins import Action, SystemPolicy

ACTIONS = (
    Action("cts:trace:list", "reading the audit trail", "trace"),
    Action("cts:trace:verify", "proving that the audit trail is unchanged", "trace"),
    Action("cts:trace:archive", "archiving old records now", "trace", "archiveTraces"),
    Action("cts:operation:list", "listing the operations the trail knows by name", "trace"),
    Action("cts:tracker:list", "seeing trackers", "tracker"),
    Action("cts:tracker:create", "creating a tracker", "tracker", "createTracker"),
    Action("cts:tracker:update", "changing a tracker", "tracker", "updateTracker"),
    Action("cts:tracker:delete", "deleting trackers", "tracker", "deleteTracker"),
    Action("cts:tracker:checkBucket", "trying whether a bucket takes copies", "tracker", "checkBucket"),
    Action("cts:quota:get", "seeing how many trackers there may be", "quota"),
    Action("cts:tag:create", "tagging a tracker", "tracker", "createResourceTags"),
    Action("cts:tag:delete", "removing tags of a tracker", "tracker", "deleteResourceTags"),
    Action("cts:notification:list", "seeing which operations are told to topics", "notification"),
    Action("cts:notification:create", "telling operations to a topic", "notification", "createNotification"),
    Action("cts:notification:update", "changing which operations are told", "notification", "updateNotification"),
    Action("cts:notification:delete", "telling operations no more", "notification", "deleteNotification"),
)


def _allow(*actions: str) -> dict[str, object]:
    return {"Version": "1.1", "Statement": [{"Effect": "Allow", "Action": list(actions)}]}


POLICIES = (
    SystemPolicy("CTS FullAccess", "Everything of the audit trail but changing it", _allow("cts:*:*")),
    SystemPolicy(
        "CTS ReadOnlyAccess",
        "Reading and proving the audit trail",
        _allow("cts:*:list", "cts:*:get", "cts:trace:verify"),
    ),
)
