"""Following a project's events: NATS credentials of one's own, and JSON lines over HTTP, both within one's rights."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from bottega.context import now_ms
from bottega.errors import Forbidden, Unauthenticated
from bottega.event_rights import FOLLOW_LOGS, SUBSCRIBE, EventRights
from bottega.gateway import Caller, requires
from bottega.nats_auth import consumer_name, project_subscriber_permissions
from bottega.platform import Platform
from bottega.plugins import Action
from bottega.routing import Router

ACTIONS = (
    Action(SUBSCRIBE, "Follow a project's events (of the types event/<type>) and get NATS credentials for them"),
    Action(FOLLOW_LOGS, "Follow the lines, metrics and progress of a project's workloads with NATS credentials"),
)
_SUBJECT = r"^(>|([a-z0-9_-]+|\*)(\.([a-z0-9_-]+|\*))*(\.>)?)$"
_NOT_CONFINED = (
    "no durable consumer: your rights need several subjects, and the server can confine a consumer to one only; "
    "listen while connected, or use a webhook (POST /v1/{project_id}/webhooks), which misses nothing"
)


class SubscriberRequest(BaseModel):
    name: str = Field("integrator", pattern=r"^[A-Za-z0-9_-]{1,32}$")
    expires_s: int = Field(86400, ge=60, le=31536000)
    durable: bool = True
    """Also allow one JetStream consumer of its own, so that nothing is missed while away."""


def router(platform: Platform) -> APIRouter:
    router = Router(tags=["core"])

    @router.post("/v1/{project_id}/nats-credentials", status_code=201)
    async def nats_credentials(
        body: SubscriberRequest, caller: Caller = requires(SUBSCRIBE, everyone=True)
    ) -> dict[str, Any]:
        """Credentials that see those events and logs of this project which the caller may see, and nothing else.

        They end when the caller's own credentials do, at the latest.
        """
        rights = await _rights(caller)
        await rights.require_any()
        subjects = await rights.subjects()
        if not subjects:
            raise Forbidden(
                f"{SUBSCRIBE}: what you may see is in some workspaces only, and NATS subjects cannot be cut by "
                "workspace; use a webhook or GET /v1/{project_id}/events"
            )
        name = f"{body.name}-{caller.user_id[:8]}"
        durable = body.durable and len(subjects) == 1
        allowed = project_subscriber_permissions(
            caller.project_id, name, events=subjects, logs=await rights.follows_logs(), consumer=durable
        )
        expires_s: float = body.expires_s
        if caller.principal.expires_at is not None:
            expires_s = max(1, min(expires_s, (caller.principal.expires_at - now_ms()) // 1000))
        return {
            "nats_url": platform.shared.nats_url,
            "credentials": platform.nats_credentials(name, allowed.publish, allowed.subscribe, expires_s),
            "inbox_prefix": allowed.inbox_prefix,
            "consumer": consumer_name(caller.project_id, name, subjects[0]) if durable else None,
            "subjects": list(allowed.subscribe),
            "expires_s": expires_s,
            **({"note": _NOT_CONFINED} if body.durable and not durable else {}),
        }

    @router.get("/v1/{project_id}/events")
    async def events(
        type: str = Query(">", pattern=_SUBJECT, max_length=200),
        since: int | None = Query(None, ge=0, le=253_402_300_799_999),
        follow: bool = True,
        caller: Caller = requires(SUBSCRIBE, everyone=True),
    ) -> StreamingResponse:
        """The project's events that the caller may see, as JSON lines, from now on or from the epoch ms `since`.

        Without `follow`, those there are.
        """
        rights = await _rights(caller)
        await rights.require_any()

        async def lines() -> AsyncIterator[bytes]:
            start = None if since is None else datetime.fromtimestamp(since / 1000, UTC)
            async for envelope in platform.bus.tail(f"evt.{caller.project_id}.{type}", since=start, follow=follow):
                try:
                    await platform.identity.check_credential(caller.principal)
                except Unauthenticated:
                    return
                if envelope.project_id == caller.project_id and await rights.sees(envelope):
                    yield envelope.encode() + b"\n"

        return StreamingResponse(lines(), media_type="application/jsonl")

    return router


async def _rights(caller: Caller) -> EventRights:
    project = await caller.platform.identity.project(caller.project_id)
    return EventRights(caller.platform, caller.principal, project, caller.call.source_ip)
