"""The webhooks there are, read again whenever one of them changed, in this process or another."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import httpx
import structlog
from sqlalchemy import Insert, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import select

from bottega.database import AsyncSession, Database, Transaction
from bottega.errors import ConfigError
from bottega.event_rights import workspace_of
from bottega.events import Envelope
from bottega.platform import Platform
from bottega.sealing import Sealer

from .entities import ACTIVE, REVISION, Webhook
from .matching import Condition, field_of, matches

log = structlog.get_logger("bottega.notify.webhooks")


@dataclass(frozen=True, slots=True)
class Hook:
    """A webhook, ready to be compared with events."""

    row: Webhook
    url: httpx.URL
    conditions: tuple[Condition, ...]
    secrets: tuple[str, ...]
    """The present one first; none when they cannot be read. Kept open: the key they are sealed with may change."""

    @property
    def id(self) -> str:
        return self.row.id

    @property
    def active(self) -> bool:
        return self.row.status == ACTIVE

    async def wants(self, platform: Platform, envelope: Envelope) -> bool:
        """Whether an event of its project is one it asked for."""
        if not any(matches(pattern, envelope.type) for pattern in self.row.events):
            return False
        workspace = ""
        if self.row.workspace_id is not None or any(c.field == "workspace" for c in self.conditions):
            workspace = await workspace_of(platform, envelope)
        if self.row.workspace_id not in (None, workspace):
            return False
        return all(c.holds(field_of(c.field, envelope, workspace)) for c in self.conditions)


def hook_of(row: Webhook, sealer: Sealer) -> Hook:
    try:
        secrets = [sealer.read(row, "secret"), sealer.read(row, "previous_secret")]
    except ConfigError as e:
        log.error("webhooks.secret_unreadable", webhook=row.id, reason=e.message)
        secrets = []
    conditions = tuple(Condition.model_validate(c) for c in row.filter)
    return Hook(row, httpx.URL(row.url), conditions, tuple(secret for secret in secrets if secret is not None))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All webhooks at one moment."""

    number: int
    by_id: Mapping[str, Hook]
    by_project: Mapping[str, Sequence[Hook]]


class Registry:
    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer
        self._snapshot = Snapshot(-1, {}, {})

    def latest(self, webhook_id: str) -> Hook | None:
        """A webhook as it was read last."""
        return self._snapshot.by_id.get(webhook_id)

    async def current(self, session: AsyncSession) -> Snapshot:
        """The webhooks as this session sees them: one small query unless something changed."""
        number = (await session.execute(select(REVISION.c.number))).scalar() or 0
        if number != self._snapshot.number:
            by_id: dict[str, Hook] = {}
            by_project: dict[str, list[Hook]] = defaultdict(list)
            for row in (await session.exec(select(Webhook))).all():
                hook = by_id[row.id] = hook_of(row, self._sealer)
                by_project[row.project_id].append(hook)
            self._snapshot = Snapshot(number, by_id, by_project)
        return self._snapshot


async def changed(tx: Transaction, database: Database) -> None:
    """Note that a webhook changed. It holds the one row until the commit, so that changes have an order."""
    await tx.session.execute(revise(database))


def revise(database: Database) -> Insert:
    """The statement of `changed`."""
    return on_conflict(upsert(database, REVISION).values(id=1, number=1), ["id"], {"number": REVISION.c.number + 1})


def upsert(database: Database, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An insert that may say what happens when the row exists."""
    return sqlite.insert(table) if database.is_sqlite else postgresql.insert(table)


def on_conflict(
    statement: sqlite.Insert | postgresql.Insert, keys: list[str], values: Mapping[str, object] | None
) -> Insert:
    """The insert with the existing row updated, or left alone without `values`."""
    if values is None:
        return statement.on_conflict_do_nothing(index_elements=keys)
    return statement.on_conflict_do_update(index_elements=keys, set_=dict(values))
