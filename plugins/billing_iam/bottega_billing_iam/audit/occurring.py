"""What occurs in the records: users, resources, and the buckets whose objects are watched."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select, text
from sqlmodel import col

from bottega.context import now_ms
from bottega.database import AsyncSession
from bottega.platform import Platform
from bottega.urn import PLATFORM

from .archive import DAY
from .entities import Archive, Scope, Tracker
from .search import scopes_of

LISTED = 1000
_DAYS = 30
# Neither database finds the different values of an indexed column by itself: step from one to the next.
_USERS = """
WITH RECURSIVE step(name) AS (
    SELECT (SELECT MIN(user_name) FROM audit_trace WHERE scope = :scope)
    UNION ALL
    SELECT (SELECT MIN(user_name) FROM audit_trace WHERE scope = :scope AND user_name > step.name)
    FROM step WHERE step.name IS NOT NULL
)
SELECT name FROM step WHERE name IS NOT NULL LIMIT :most
"""
_KINDS = """
WITH RECURSIVE step(kind) AS (
    SELECT (SELECT MIN(resource_type) FROM audit_trace WHERE scope = :scope)
    UNION ALL
    SELECT (SELECT MIN(resource_type) FROM audit_trace WHERE scope = :scope AND resource_type > step.kind)
    FROM step WHERE step.kind IS NOT NULL
)
SELECT (
    SELECT service FROM audit_trace WHERE scope = :scope AND resource_type = step.kind ORDER BY at DESC LIMIT 1
), kind
FROM step WHERE kind IS NOT NULL LIMIT :most
"""


async def users(platform: Platform, account_id: str, project_id: str) -> list[str]:
    """The names of who acted in a project within 30 days, in order, at most `LISTED`."""
    found: set[str] = set()
    async with platform.database.read() as session:
        scopes = await scopes_of(session, col(Scope.project_id) == project_id, col(Scope.project_id) != PLATFORM)
        for scope in scopes:
            found |= set((await session.execute(text(_USERS), {"scope": scope, "most": LISTED})).scalars())
        for archive in await _archived(session, account_id):
            found |= set(archive.contents["users"])
    return sorted(found)[:LISTED]


async def resources(platform: Platform, account_id: str) -> list[tuple[str, str]]:
    """The services with their types of resources that occur in an account's records within 30 days, in order."""
    found: set[tuple[str, str]] = set()
    async with platform.database.read() as session:
        for scope in await scopes_of(session, col(Scope.account_id) == account_id):
            rows = await session.execute(text(_KINDS), {"scope": scope, "most": LISTED})
            found |= {(service, kind) for service, kind in rows}
        for archive in await _archived(session, account_id):
            found |= {(service, kind) for service, kind, _ in archive.contents["operations"] if kind}
    return sorted(found)


async def watched_buckets(session: AsyncSession, project_id: str, tracker_name: str | None) -> list[str]:
    """The buckets that the project's enabled data trackers watch, or the one of that name."""
    query = select(col(Tracker.data_bucket)).where(
        col(Tracker.project_id) == project_id, col(Tracker.kind) == "data", col(Tracker.status) != "disabled"
    )
    if tracker_name is not None:
        query = query.where(col(Tracker.name) == tracker_name)
    return list((await session.execute(query)).scalars())


async def _archived(session: AsyncSession, account_id: str) -> Sequence[Archive]:
    since = now_ms() - _DAYS * DAY
    query = select(Archive).where(col(Archive.account_id) == account_id, col(Archive.last_at) >= since)
    return (await session.execute(query.order_by(col(Archive.last_at).desc()).limit(LISTED))).scalars().all()
