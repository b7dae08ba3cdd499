"""``/v1/{project_id}/webhooks``."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Query
from sqlmodel import col, select

from bottega.context import now_ms
from bottega.event_rights import EventRights
from bottega.events import envelop
from bottega.gateway import Caller, Page, paging, requires
from bottega.platform import Platform
from bottega.routing import Router

from .deliveries import urn_of
from .entities import Webhook, WebhookAttempt, WebhookDeadLetter
from .events import WebhookTested
from .registry import hook_of
from .replay import first_sequence
from .requests import NewWebhook, Pause, Redelivery, Replay, Rotation, WebhookChange
from .running import parts
from .service import log_test, pause

_ONE = "webhook/{webhook_id}"


def router(platform: Platform) -> APIRouter:
    router = Router()
    mine = parts(platform)
    webhooks = mine.webhooks

    @router.post("/v1/{project_id}/webhooks", status_code=201)
    async def create(body: NewWebhook, caller: Caller = requires("modelarts:webhook:create")) -> dict[str, Any]:
        """The answer holds the secret, which is shown this once, and the types of events it is told of now."""
        row, secret = await webhooks.create(caller, body)
        caller.about(resource=str(urn_of(row.project_id, row.id)), name=row.name)
        return {**_json(row), "secret": secret, "event_types": await webhooks.types(caller, row.events)}

    @router.get("/v1/{project_id}/webhooks")
    async def list_all(
        workspace_id: str | None = None,
        page: Page = paging(50),
        caller: Caller = requires("modelarts:webhook:list"),
    ) -> dict[str, Any]:
        async with platform.database.read() as session:
            total, found = await platform.resources.list(
                session,
                "webhook",
                caller.project_id,
                offset=page.offset,
                limit=page.limit,
                workspace_id=workspace_id,
            )
            rows = await session.exec(select(Webhook).where(col(Webhook.id).in_([r.id for r in found])))
            by_id = {row.id: row for row in rows.all()}
        return {"total_count": total, "webhooks": [_json(by_id[r.id]) for r in found if r.id in by_id]}

    @router.get("/v1/{project_id}/webhooks/{webhook_id}")
    async def show(webhook_id: str, caller: Caller = requires("modelarts:webhook:get", _ONE)) -> dict[str, Any]:
        async with platform.database.read() as session:
            row = await webhooks.get(session, caller.project_id, webhook_id)
            waiting, dead = await webhooks.counts(session, webhook_id)
        return {**_json(row), "waiting": waiting, "dead_letters": dead}

    @router.put("/v1/{project_id}/webhooks/{webhook_id}")
    async def change(
        webhook_id: str, body: WebhookChange, caller: Caller = requires("modelarts:webhook:update", _ONE)
    ) -> dict[str, Any]:
        """Whoever changes a webhook becomes its owner: it carries that user's rights from then on."""
        row = await webhooks.change(caller, webhook_id, body)
        return {**_json(row), "event_types": await webhooks.types(caller, row.events)}

    @router.delete("/v1/{project_id}/webhooks/{webhook_id}", status_code=204)
    async def delete(webhook_id: str, caller: Caller = requires("modelarts:webhook:delete", _ONE)) -> None:
        await webhooks.delete(caller.project_id, webhook_id)

    @router.post("/v1/{project_id}/webhooks/{webhook_id}/rotate-secret")
    async def rotate(
        webhook_id: str, body: Rotation, caller: Caller = requires("modelarts:webhook:update", _ONE)
    ) -> dict[str, Any]:
        """A new secret, shown this once. Until `previous_secret_until` what is sent bears the signatures of both."""
        row, secret = await webhooks.rotate(caller, webhook_id, body)
        return {**_json(row), "secret": secret}

    @router.post("/v1/{project_id}/webhooks/{webhook_id}/pause")
    async def pause_it(
        webhook_id: str, body: Pause, caller: Caller = requires("modelarts:webhook:update", _ONE)
    ) -> dict[str, Any]:
        """Send nothing until it is resumed; what happens meanwhile waits."""
        async with platform.database.transaction() as tx:
            row = await webhooks.get(tx.session, caller.project_id, webhook_id)
            await pause(tx, platform.database, webhook_id, body.reason)
        mine.dispatcher.wake()
        return _json(row)

    @router.post("/v1/{project_id}/webhooks/{webhook_id}/resume")
    async def resume(webhook_id: str, caller: Caller = requires("modelarts:webhook:update", _ONE)) -> dict[str, Any]:
        row = await webhooks.resume(caller.project_id, webhook_id)
        mine.dispatcher.wake()
        return _json(row)

    @router.post("/v1/{project_id}/webhooks/{webhook_id}/test")
    async def test(webhook_id: str, caller: Caller = requires("modelarts:webhook:test", _ONE)) -> dict[str, Any]:
        """Send `notify.webhook.tested.v1` now, also when it is paused, and tell how that went."""
        async with platform.database.read() as session:
            row = await webhooks.get(session, caller.project_id, webhook_id)
        envelope = envelop(WebhookTested(webhook_id=row.id), str(urn_of(row.project_id, row.id)), "notify")
        outcome = await mine.sender.test(hook_of(row, platform.sealer), envelope)
        async with platform.database.transaction() as tx:
            await log_test(tx, outcome.logged())
        logged = outcome.logged()
        taken = outcome.status is not None and 200 <= outcome.status < 300
        return {**{k: logged[k] for k in ("event_id", "status", "latency_ms", "answer", "at")}, "delivered": taken}

    @router.post("/v1/{project_id}/webhooks/{webhook_id}/replay", status_code=202)
    async def replay(
        webhook_id: str, body: Replay, caller: Caller = requires("modelarts:webhook:replay", _ONE)
    ) -> dict[str, Any]:
        """Send the events it wants, from a time or a place in the stream up to now, once more."""
        async with platform.database.read() as session:
            await webhooks.get(session, caller.project_id, webhook_id)
        last = await platform.bus.last_sequence()
        first = None
        if (body.since is None or body.since <= now_ms()) and (body.sequence or 0) <= last:
            first = await first_sequence(platform, caller.project_id, body.since, body.sequence)
        if first is None or first > last:
            return {"replaying": False, "from_sequence": None, "to_sequence": None}
        await webhooks.replay(caller.project_id, webhook_id, first, last)
        mine.replayer.wake()
        return {"replaying": True, "from_sequence": first, "to_sequence": last}

    @router.get("/v1/{project_id}/webhooks/{webhook_id}/deliveries")
    async def deliveries(
        webhook_id: str,
        outcome: Literal["delivered", "failed", "dead", "withheld", "test"] | None = None,
        event_id: str | None = Query(None, max_length=200),
        page: Page = paging(50),
        caller: Caller = requires("modelarts:webhook:get", _ONE),
    ) -> dict[str, Any]:
        """The delivery log, the newest attempt first."""
        wanted = [col(WebhookAttempt.webhook_id) == webhook_id]
        wanted += [col(WebhookAttempt.outcome) == outcome] if outcome else []
        wanted += [col(WebhookAttempt.event_id) == event_id] if event_id else []
        async with platform.database.read() as session:
            await webhooks.get(session, caller.project_id, webhook_id)
            query = select(WebhookAttempt).where(*wanted).order_by(col(WebhookAttempt.id).desc())
            rows = (await session.exec(query.offset(page.offset).limit(page.limit))).all()
        return {"deliveries": [row.model_dump(exclude={"webhook_id"}) for row in rows]}

    @router.get("/v1/{project_id}/webhooks/{webhook_id}/dead-letters")
    async def dead_letters(
        webhook_id: str, page: Page = paging(50), caller: Caller = requires("modelarts:webhook:get", _ONE)
    ) -> dict[str, Any]:
        """What the receiver did not take in all its time, in the order of the stream.

        `payload` is null where the caller may not follow such events.
        """
        async with platform.database.read() as session:
            await webhooks.get(session, caller.project_id, webhook_id)
            query = select(WebhookDeadLetter).where(WebhookDeadLetter.webhook_id == webhook_id)
            ordered = query.order_by(col(WebhookDeadLetter.sequence), col(WebhookDeadLetter.event_id))
            rows = (await session.exec(ordered.offset(page.offset).limit(page.limit))).all()
        project = await platform.identity.project(caller.project_id)
        rights = EventRights(platform, caller.principal, project, caller.call.source_ip)
        letters = []
        for row in rows:
            shown = row.payload.decode("utf-8", "replace") if await rights.sees_type(row.type) else None
            letters.append({**row.model_dump(exclude={"webhook_id", "payload"}), "payload": shown})
        return {"dead_letters": letters}

    @router.post("/v1/{project_id}/webhooks/{webhook_id}/dead-letters/redeliver")
    async def redeliver(
        webhook_id: str, body: Redelivery, caller: Caller = requires("modelarts:webhook:replay", _ONE)
    ) -> dict[str, Any]:
        """Put dead letters back into the queue, as if they had just happened."""
        count = await webhooks.redeliver(caller.project_id, webhook_id, body.event_ids)
        mine.dispatcher.wake()
        return {"redelivered": count}

    @router.delete("/v1/{project_id}/webhooks/{webhook_id}/dead-letters/{event_id}", status_code=204)
    async def discard(
        webhook_id: str, event_id: str, caller: Caller = requires("modelarts:webhook:replay", _ONE)
    ) -> None:
        await webhooks.discard(caller.project_id, webhook_id, event_id)

    return router


def _json(row: Webhook) -> dict[str, Any]:
    shown = row.model_dump(exclude={"secret", "previous_secret", "previous_until", "replay_from", "replay_until"})
    rotating = row.previous_secret is not None and row.previous_until > now_ms()
    replay = (
        {"from_sequence": row.replay_from, "to_sequence": row.replay_until} if row.replay_from is not None else None
    )
    return {**shown, "previous_secret_until": row.previous_until if rotating else None, "replay": replay}
