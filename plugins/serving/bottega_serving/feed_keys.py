"""The key-value bucket by which the platform feeds its data planes, and what each data plane may touch of it.

=================== ============== ==========================================================================
key                 writer         content
=================== ============== ==========================================================================
``<service>.route``   platform     versions with weights and the URLs of their files, the tokens' public key
``<service>.callers`` platform     who may call: users with their policies, and the secrets of their access keys
``<service>.report``  data plane   counts since its start, state of each version, calls it refused
=================== ============== ==========================================================================
"""

from __future__ import annotations

from bottega.nats_auth import Permissions, inbox_prefix

BUCKET = "serving"
ACTION = "modelarts:service:access"
"""What calling a service is, to a policy."""
ROUTE, CALLERS, REPORT = "route", "callers", "report"


def key(service_id: str, name: str) -> str:
    return f"{service_id}.{name}"


def subject(service_id: str, name: str) -> str:
    """Where JetStream stores, and announces, a key of the bucket."""
    return f"$KV.{BUCKET}.{service_id}.{name}"


def read_subject(service_id: str, name: str) -> str:
    """Asked with an empty request, JetStream answers with the newest value of the key."""
    return f"$JS.API.DIRECT.GET.KV_{BUCKET}.{subject(service_id, name)}"


def permissions(service_id: str) -> Permissions:
    """Read the own service's route and callers, write its report; nothing else."""
    inbox = inbox_prefix(BUCKET, service_id)
    return Permissions(
        publish=(
            read_subject(service_id, ROUTE),
            read_subject(service_id, CALLERS),
            read_subject(service_id, REPORT),
            subject(service_id, REPORT),
        ),
        subscribe=(subject(service_id, ROUTE), subject(service_id, CALLERS), f"{inbox}.>"),
        inbox_prefix=inbox,
    )
