"""What can be done to a webhook. A webhook carries the rights of its owner: whoever changes what it is told, or where,
becomes its owner."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete, func, insert, update
from sqlmodel import col, select

from bottega.context import now_ms
from bottega.database import AsyncSession, Database, Transaction
from bottega.entities import DEFAULT_WORKSPACE
from bottega.errors import Conflict, Forbidden, NotFound
from bottega.event_rights import EventRights, event_types
from bottega.gateway import Caller
from bottega.platform import Platform
from bottega_billing_iam.notify.addresses import Addresses

from . import queue, registry, signing
from .deliveries import lock, urn_of
from .entities import (
    ACTIVE,
    ATTEMPTS,
    DEAD_LETTERS,
    DELIVERIES,
    LANES,
    NEVER,
    PAUSED,
    Webhook,
    WebhookDeadLetter,
    WebhookDelivery,
)
from .events import WebhookChanged, WebhookCreated, WebhookDeleted, WebhookPaused, WebhookResumed
from .matching import check_patterns
from .requests import NewWebhook, Rotation, WebhookChange


class Webhooks:
    def __init__(self, platform: Platform, addresses: Addresses) -> None:
        self._platform = platform
        self._addresses = addresses

    async def create(self, caller: Caller, wanted: NewWebhook) -> tuple[Webhook, str]:
        """The webhook and its secret, which is shown this once.

        Raises Invalid for what is wrong with it, Forbidden when its owner could see none of the events, Conflict
        when the name is taken, QuotaExceeded.
        """
        await self._check(caller, wanted.events)
        url = await self._addresses.check(wanted.url)
        secret = signing.check_secret(wanted.secret) if wanted.secret else signing.new_secret()
        async with self._platform.database.transaction() as tx:
            resource = await self._platform.resources.create(
                tx,
                kind="webhook",
                project_id=caller.project_id,
                workspace_id=wanted.workspace_id or DEFAULT_WORKSPACE,
                owner_id=caller.user_id,
                name=wanted.name,
                description=wanted.description,
                status=ACTIVE,
            )
            row = Webhook(
                id=resource.id,
                project_id=caller.project_id,
                workspace_id=wanted.workspace_id,
                account_id=caller.principal.account_id,
                owner_id=caller.user_id,
                name=wanted.name,
                description=wanted.description,
                url=url,
                events=wanted.events,
                filter=[c.model_dump(exclude_none=True, by_alias=True) for c in wanted.filter],
                secret=b"",
            )
            self._platform.sealer.write(row, "secret", secret)
            tx.session.add(row)
            await registry.changed(tx, self._platform.database)
            tx.emit(WebhookCreated(webhook_id=row.id, name=row.name, owner_id=row.owner_id), _urn(row))
        return row, secret

    async def change(self, caller: Caller, webhook_id: str, wanted: WebhookChange) -> Webhook:
        """Raises NotFound, and as `create`."""
        values = wanted.model_dump(exclude_none=True, exclude={"filter"})
        if wanted.filter is not None:
            values["filter"] = [c.model_dump(exclude_none=True, by_alias=True) for c in wanted.filter]
        async with self._platform.database.read() as session:
            row = await self.get(session, caller.project_id, webhook_id)
        await self._check(caller, wanted.events or row.events)
        if wanted.url is not None:
            values["url"] = await self._addresses.check(wanted.url)
        async with self._platform.database.transaction() as tx:
            row = await self.get(tx.session, caller.project_id, webhook_id)
            resource = await self._platform.resources.get(tx.session, "webhook", caller.project_id, webhook_id)
            if wanted.name is not None:
                await self._platform.resources.rename(tx, resource, wanted.name)
            for key, value in {**values, "owner_id": caller.user_id, "updated_at": now_ms()}.items():
                setattr(row, key, value)
            resource.owner_id, resource.description = row.owner_id, row.description
            tx.session.add_all([row, resource])
            await self._changed(tx, row)
        return row

    async def rotate(self, caller: Caller, webhook_id: str, wanted: Rotation) -> tuple[Webhook, str]:
        """A new secret, shown this once; the old one signs beside it for a while. Raises NotFound, Invalid."""
        secret = signing.check_secret(wanted.secret) if wanted.secret else signing.new_secret()
        async with self._platform.database.transaction() as tx:
            row = await self.get(tx.session, caller.project_id, webhook_id)
            row.previous_secret, row.previous_until = row.secret, now_ms() + wanted.keep_previous_s * 1000
            self._platform.sealer.write(row, "secret", secret)
            row.updated_at = now_ms()
            tx.session.add(row)
            await self._changed(tx, row)
        return row, secret

    async def resume(self, project_id: str, webhook_id: str) -> Webhook:
        """Raises NotFound."""
        async with self._platform.database.transaction() as tx:
            row = await self.get(tx.session, project_id, webhook_id)
            if row.status == PAUSED:
                now = now_ms()
                row.status, row.reason, row.updated_at = ACTIVE, "", now
                tx.session.add(row)
                await lock(tx, self._platform.database, LANES.c.webhook_id == webhook_id)
                # The time it was paused is not held against what waited.
                waiting = update(DELIVERIES).where(DELIVERIES.c.webhook_id == webhook_id)
                await tx.session.execute(waiting.values(since=now))
                lanes = update(LANES).where(LANES.c.webhook_id == webhook_id)
                await tx.session.execute(lanes.where(LANES.c.due_at == NEVER).values(due_at=now))
                await registry.changed(tx, self._platform.database)
                tx.emit(WebhookResumed(webhook_id=row.id), _urn(row))
        return row

    async def delete(self, project_id: str, webhook_id: str) -> None:
        """With all that waits for it and its log. Raises NotFound."""
        async with self._platform.database.transaction() as tx:
            row = await self.get(tx.session, project_id, webhook_id)
            resource = await self._platform.resources.get(tx.session, "webhook", project_id, webhook_id)
            await lock(tx, self._platform.database, LANES.c.webhook_id == webhook_id)
            for table in (LANES, DELIVERIES, DEAD_LETTERS, ATTEMPTS):
                await tx.session.execute(delete(table).where(table.c.webhook_id == webhook_id))
            await tx.session.delete(row)
            await self._platform.resources.delete(tx, resource)
            await registry.changed(tx, self._platform.database)
            tx.emit(WebhookDeleted(webhook_id=webhook_id), _urn(row))

    async def replay(self, project_id: str, webhook_id: str, first: int, last: int) -> None:
        """Send the events of a range of the stream again. Raises NotFound, Conflict while another replay runs."""
        async with self._platform.database.transaction() as tx:
            row = await self.get(tx.session, project_id, webhook_id, lock=True)
            if row.replay_from is not None:
                raise Conflict(f"a replay of this webhook is at event {row.replay_from} of {row.replay_until}; wait")
            row.replay_from, row.replay_until = first, last
            tx.session.add(row)

    async def redeliver(self, project_id: str, webhook_id: str, event_ids: Sequence[str] | None) -> int:
        """Put dead letters back into their lanes; how many. Raises NotFound for one that is not there."""
        async with self._platform.database.transaction() as tx:
            row = await self.get(tx.session, project_id, webhook_id)
            chosen = [col(WebhookDeadLetter.webhook_id) == webhook_id]
            if event_ids is not None:
                chosen.append(col(WebhookDeadLetter.event_id).in_(event_ids))
            found = (await tx.session.exec(select(WebhookDeadLetter).where(*chosen).limit(10_000))).all()
            missing = set(event_ids or ()) - {letter.event_id for letter in found}
            if missing:
                raise NotFound(f"there is no dead letter of event '{min(missing)}' of this webhook")
            now = now_ms()
            lanes: dict[str, dict[str, Any]] = {}
            rows = []
            for letter in found:
                lane = queue.lane_id(webhook_id, letter.urn)
                lanes[lane] = {"id": lane, "webhook_id": webhook_id, "due_at": now if row.status == ACTIVE else NEVER}
                kept = letter.model_dump(include={"webhook_id", "event_id", "sequence", "type", "urn"})
                rows.append({**kept, "payload": letter.payload, "lane_id": lane, "attempts": 0, "since": now})
                await tx.session.delete(letter)
            if rows:
                session = await tx.session.connection()
                await session.run_sync(
                    lambda sync: queue.write(sync.execute, self._platform.database, lanes.values(), rows)
                )
        return len(rows)

    async def discard(self, project_id: str, webhook_id: str, event_id: str) -> None:
        """Drop a dead letter for good. Raises NotFound."""
        async with self._platform.database.transaction() as tx:
            await self.get(tx.session, project_id, webhook_id)
            letter = await tx.session.get(WebhookDeadLetter, (webhook_id, event_id))
            if letter is None:
                raise NotFound(f"there is no dead letter of event '{event_id}' of this webhook")
            await tx.session.delete(letter)

    async def get(self, session: AsyncSession, project_id: str, webhook_id: str, *, lock: bool = False) -> Webhook:
        """Raises NotFound when it is not there, or in a workspace that is closed to the caller."""
        await self._platform.resources.get(session, "webhook", project_id, webhook_id)
        row = await session.get(Webhook, webhook_id, with_for_update=lock or None)
        if row is None:
            raise NotFound(f"there is no webhook '{webhook_id}' in this project")
        return row

    async def counts(self, session: AsyncSession, webhook_id: str) -> tuple[int, int]:
        """How many events wait, and how many are dead letters."""
        waiting = select(func.count()).select_from(WebhookDelivery).where(WebhookDelivery.webhook_id == webhook_id)
        dead = select(func.count()).select_from(WebhookDeadLetter).where(WebhookDeadLetter.webhook_id == webhook_id)
        return (await session.exec(waiting)).one(), (await session.exec(dead)).one()

    async def types(self, caller: Caller, patterns: Sequence[str]) -> list[str]:
        """The types that match the patterns and that the caller may see now. Raises Invalid for a wrong pattern."""
        found = check_patterns(patterns, event_types(self._platform.shared.plugins))
        project = await self._platform.identity.project(caller.project_id)
        visible = set(await EventRights(self._platform, caller.principal, project).types())
        return [type for type in found if type in visible]

    async def _check(self, caller: Caller, patterns: Sequence[str]) -> None:
        principal = caller.principal
        if principal.session_policy is not None or principal.agency_id is not None or principal.workload_id is not None:
            raise Forbidden(
                "a webhook outlives these temporary credentials and would carry more rights than they do; "
                "use an access key or a token of your own"
            )
        if not await self.types(caller, patterns):
            project = await self._platform.identity.project(caller.project_id)
            await EventRights(self._platform, principal, project).require_any()
            raise Forbidden("you may see none of the events that these patterns match (bottega:event:subscribe)")

    async def _changed(self, tx: Transaction, row: Webhook) -> None:
        await registry.changed(tx, self._platform.database)
        tx.emit(WebhookChanged(webhook_id=row.id, owner_id=row.owner_id), _urn(row))


async def pause(tx: Transaction, database: Database, webhook_id: str, reason: str) -> None:
    """Send nothing more to a webhook; what happens meanwhile waits. Nothing when it is gone or paused already."""
    row = await tx.session.get(Webhook, webhook_id, with_for_update=True)
    if row is None or row.status == PAUSED:
        return
    row.status, row.reason, row.updated_at = PAUSED, reason[:500], now_ms()
    tx.session.add(row)
    await lock(tx, database, LANES.c.webhook_id == webhook_id)
    await tx.session.execute(update(LANES).where(LANES.c.webhook_id == webhook_id).values(due_at=NEVER))
    await registry.changed(tx, database)
    tx.emit(WebhookPaused(webhook_id=row.id, reason=row.reason), _urn(row))


async def log_test(tx: Transaction, values: dict[str, Any]) -> None:
    """Write a test into the delivery log."""
    await tx.session.execute(insert(ATTEMPTS), [values])


def _urn(row: Webhook) -> Any:
    return urn_of(row.project_id, row.id)
