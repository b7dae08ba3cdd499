"""Finding records again: those of the hot days in the database, older ones in the archive, newest first.

A page ends with a marker, which the next one begins behind: the id of its last record, with the time where that is
not in the database any more.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import ColumnElement, literal_column, select
from sqlmodel import and_, col, or_

from bottega.database import AsyncSession
from bottega.errors import Invalid

from .entities import Scope, Trace
from .records import COLUMNS, Record

OBJECT_CHANGES = ("putObject", "deleteObject")
_MARKER = re.compile(r"(\d{1,16})~(.{1,64})")
_REFUSED = (401, 403, 429)
_SELECTIVE = {"user_name", "user_id", "resource_id", "resource_name", "name"}

Position = tuple[int, str]
"""The time (epoch ms) and id of a record: what pages are ordered by, downwards."""


@dataclass(frozen=True, slots=True)
class Filter:
    """What to look for; None: anything. `start` and `end` in epoch ms, `end` not included.

    `user` is a name, or an id (32 hexadecimal digits). `resource_name` may hold ``*`` for any characters.
    """

    start: int | None = None
    end: int | None = None
    user: str | None = None
    resource_type: str | None = None
    resource_id: str | None = None
    resource_name: str | None = None
    trace_name: str | None = None
    trace_id: str | None = None
    rating: str | None = None
    code: str | None = None
    denied: bool = False
    service_type: str | None = None
    access_key_id: str | None = None
    enterprise_project_id: str | None = None
    workloads: bool = True
    """Also what workloads ask the platform for their own objects."""
    buckets: Sequence[str] | None = None
    """Only changes of objects in these buckets (data traces)."""
    exactly: dict[str, str] = field(init=False, repr=False)
    """The columns that must have one value each."""

    def __post_init__(self) -> None:
        by_id = self.user is not None and re.fullmatch(r"[0-9a-f]{32}", self.user) is not None
        wanted = {
            "user_id": self.user if by_id else None,
            "user_name": None if by_id else self.user,
            "resource_type": self.resource_type,
            "resource_id": self.resource_id,
            "resource_name": self.resource_name if "*" not in (self.resource_name or "") else None,
            "name": self.trace_name,
            "id": self.trace_id,
            "rating": self.rating,
            "service": self.service_type.upper() if self.service_type else None,
            "access_key_id": self.access_key_id,
            "enterprise_project_id": self.enterprise_project_id,
            "code": self.code if self.code and not self.code.isdecimal() else None,
        }
        object.__setattr__(self, "exactly", {name: value for name, value in wanted.items() if value is not None})

    @property
    def statuses(self) -> tuple[int, ...] | None:
        """The HTTP statuses that are looked for."""
        asked = (int(self.code),) if self.code and self.code.isdecimal() else None
        if not self.denied:
            return asked
        return tuple(status for status in _REFUSED if asked is None or status in asked)

    @property
    def name_pattern(self) -> str | None:
        return self.resource_name if "*" in (self.resource_name or "") else None

    def matches(self, record: Record) -> bool:
        """The same question as `conditions`, of a record of the archive."""
        action = record["action"] or ""
        return (
            all(record[name] == value for name, value in self.exactly.items())
            and (self.start is None or record["at"] >= self.start)
            and (self.end is None or record["at"] < self.end)
            and (self.statuses is None or record["status"] in self.statuses)
            and (self.name_pattern is None or _like(record["resource_name"], self.name_pattern))
            and (self.workloads or not action.startswith("bottega:workload:"))
            and (
                self.buckets is None
                or (
                    record["name"] in OBJECT_CHANGES
                    and any((record["resource"] or "").startswith(f"obs:::object:{b}/") for b in self.buckets)
                )
            )
        )

    def conditions(self) -> list[ColumnElement[bool]]:
        """What SQL is asked for. Written so that one of the indexes of `Trace` fits, the partial ones too."""
        found = [col(getattr(Trace, name)) == value for name, value in self.exactly.items()]
        at, action = col(Trace.at), col(Trace.action)
        if self.start is not None:
            found.append(at >= self.start)
        if self.end is not None:
            found.append(at < self.end)
        failed = False
        if self.statuses is not None:
            found.append(col(Trace.status).in_(self.statuses))
            ratings = {"normal" if s < 400 else "warning" if s < 500 else "incident" for s in self.statuses}
            if len(ratings) == 1 and self.rating is None:
                found.append(col(Trace.rating) == next(iter(ratings)))
                failed = ratings != {"normal"}
        if (failed or self.rating in ("warning", "incident")) and not _SELECTIVE & self.exactly.keys():
            # Only with these words is the partial index taken, which is worse than that of a user or a thing.
            found.append(literal_column("rating <> 'normal'"))
        if self.name_pattern is not None:
            escaped = re.sub(r"([\\%_])", r"\\\1", self.name_pattern).replace("*", "%")
            found.append(col(Trace.resource_name).ilike(escaped, escape="\\"))
        if not self.workloads:
            found.append(or_(action.is_(None), action.not_like("bottega:workload:%")))
        if self.buckets is not None:
            resource = col(Trace.resource)
            inside = [resource.startswith(f"obs:::object:{bucket}/", autoescape=True) for bucket in self.buckets]
            found += [col(Trace.name).in_(OBJECT_CHANGES), or_(*inside)]
        return found


def _like(name: str | None, pattern: str) -> bool:
    plain = re.sub(r"([\[?])", r"[\1]", pattern.lower())
    return name is not None and fnmatch.fnmatchcase(name.lower(), plain)


async def scopes_of(session: AsyncSession, *conditions: ColumnElement[bool]) -> list[int]:
    """The places in which the records of an account, or of a project, are."""
    found = await session.execute(select(col(Scope.id)).where(*conditions))
    return [id for id in found.scalars() if id is not None]


async def in_database(
    session: AsyncSession, scopes: Sequence[int], wanted: Filter, after: Position | None, limit: int
) -> list[Record]:
    """The newest `limit` records that match and come behind `after`."""
    conditions = wanted.conditions()
    at, id = col(Trace.at), col(Trace.id)
    if after is not None:
        conditions.append(and_(at <= after[0], or_(at < after[0], id < after[1])))
    found: list[Record] = []
    for scope in scopes:
        query = select(*COLUMNS).where(col(Trace.scope) == scope, *conditions)
        rows = await session.execute(query.order_by(at.desc(), id.desc()).limit(limit))
        found += (dict(row) for row in rows.mappings())
    found.sort(key=position, reverse=True)
    return found[:limit]


def position(record: Record) -> Position:
    return record["at"], record["id"]


async def read_marker(session: AsyncSession, scopes: Sequence[int], marker: str) -> Position:
    """Where a page begins. Raises Invalid for what is no marker, or one of somebody else's."""
    if parts := _MARKER.fullmatch(marker):
        return int(parts[1]), parts[2]
    place = select(col(Trace.at), col(Trace.scope)).where(col(Trace.id) == marker)
    last = (await session.execute(place)).first()
    if last is None or last[1] not in scopes:
        raise Invalid(f"next: there is no record '{marker[:64]}'; give the marker of the page before")
    return last[0], marker
