"""What is kept for how long: the delivery log, dead letters, and events that no attempt reached in time."""

from __future__ import annotations

import anyio
import structlog
from sqlalchemy import delete, func, insert, literal, select
from sqlalchemy.exc import SQLAlchemyError

from bottega.context import now_ms
from bottega.platform import Platform

from .entities import ACTIVE, ATTEMPTS, DEAD_LETTERS, DELIVERIES, WEBHOOKS

log = structlog.get_logger("bottega.notify.webhooks")
_EVERY_S = 600.0
_DAY_MS = 86_400_000
_TOO_OLD = "it waited longer than webhook_max_age_h while the receiver took nothing"


async def keep_tidy(platform: Platform) -> None:
    """Tidy now and every ten minutes, until cancelled."""
    while True:
        try:
            await tidy(platform)
        except SQLAlchemyError as e:
            log.warning("webhooks.not_tidied", reason=str(e))
        await anyio.sleep(_EVERY_S)


async def tidy(platform: Platform) -> None:
    """Drop old entries of the log, all but the newest of each webhook, and old dead letters; bury what is too old."""
    settings, now = platform.settings, now_ms()
    async with platform.database.transaction() as tx:
        await tx.session.execute(delete(ATTEMPTS).where(ATTEMPTS.c.at < now - settings.webhook_log_days * _DAY_MS))
        await tx.session.execute(
            delete(DEAD_LETTERS).where(DEAD_LETTERS.c.died_at < now - settings.webhook_dead_letter_days * _DAY_MS)
        )
        numbered = select(
            ATTEMPTS.c.id.label("id"),
            func.row_number().over(partition_by=ATTEMPTS.c.webhook_id, order_by=ATTEMPTS.c.id.desc()).label("place"),
        ).subquery()
        surplus = select(numbered.c.id).where(numbered.c.place > settings.webhook_log_entries)
        await tx.session.execute(delete(ATTEMPTS).where(ATTEMPTS.c.id.in_(surplus)))
    await _bury_old(platform, now)


async def _bury_old(platform: Platform, now: int) -> None:
    settings = platform.settings
    active = select(WEBHOOKS.c.id).where(WEBHOOKS.c.status == ACTIVE)
    # Twice the age: what is being attempted becomes a dead letter by its attempts, which say more.
    old = (
        DELIVERIES.c.since < now - 2 * settings.webhook_max_age_h * 3_600_000,
        DELIVERIES.c.webhook_id.in_(active),
    )
    names = ["webhook_id", "event_id", "sequence", "type", "urn", "payload", "attempts", "reason", "died_at"]
    kept = [DELIVERIES.c[name] for name in names[:-2]]
    async with platform.database.transaction() as tx:
        buried = select(*kept, literal(_TOO_OLD), literal(now)).where(*old)
        same = (DELIVERIES.c.webhook_id == DEAD_LETTERS.c.webhook_id, DELIVERIES.c.event_id == DEAD_LETTERS.c.event_id)
        again = select(DELIVERIES.c.event_id).where(*same, *old).exists()
        await tx.session.execute(delete(DEAD_LETTERS).where(again))
        await tx.session.execute(insert(DEAD_LETTERS).from_select(names, buried))
        await tx.session.execute(delete(DELIVERIES).where(*old))
