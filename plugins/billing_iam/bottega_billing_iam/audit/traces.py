"""Recording calls, and finding them again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement
from sqlmodel import and_, col, or_, select

from bottega.context import now_ms
from bottega.database import AsyncSession, Transaction
from bottega.errors import Invalid
from bottega.events import Received

from .entities import Trace
from .events import ApiCalled
from .trace_names import fallback_name, trace_names


async def on_called(received: Received[ApiCalled], tx: Transaction) -> None:
    """Keep one record a request: the event that was made last, whatever order they come in and how often."""
    event, made = received.event, received.envelope.time
    before = await tx.session.get(Trace, event.request_id)
    if before is not None and before.event_time >= made:
        return
    known = trace_names().get(event.trace or "")
    await tx.session.merge(
        Trace(
            id=event.request_id,
            at=before.at if before else event.at,
            event_time=made,
            recorded_at=now_ms(),
            project_id=received.project_id,
            name=event.trace or fallback_name(event.action),
            resource_type=known.resource_type if known else event.resource_type,
            rating="normal" if event.status < 400 else "warning" if event.status < 500 else "incident",
            **event.model_dump(exclude={"request_id", "at", "trace", "resource_type"}),
        )
    )


@dataclass(frozen=True, slots=True)
class Filter:
    """What to look for; None: anything. `start` and `end` in epoch ms, `end` not included."""

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
    workloads: bool = True
    """Also what workloads ask the platform for their own objects."""


async def find(
    session: AsyncSession, visible: ColumnElement[bool], wanted: Filter, after: str | None, limit: int
) -> Sequence[Trace]:
    """The newest `limit` visible records that match, or those older than the record `after`. Raises Invalid."""
    conditions = [visible, *_conditions(wanted)]
    if after is not None:
        last = (await session.exec(select(Trace).where(visible, Trace.id == after))).first()
        if last is None:
            raise Invalid(f"next: there is no record '{after}'; give the marker of the page before")
        at, id = col(Trace.at), col(Trace.id)
        conditions.append(or_(at < last.at, and_(at == last.at, id < last.id)))
    query = select(Trace).where(*conditions).order_by(col(Trace.at).desc(), col(Trace.id).desc())
    return (await session.exec(query.limit(limit))).all()


def _conditions(wanted: Filter) -> list[ColumnElement[bool]]:
    equal = {
        Trace.resource_type: wanted.resource_type,
        Trace.name: wanted.trace_name,
        Trace.id: wanted.trace_id,
        Trace.rating: wanted.rating,
    }
    found = [col(column) == value for column, value in equal.items() if value is not None]
    if wanted.start is not None:
        found.append(col(Trace.at) >= wanted.start)
    if wanted.end is not None:
        found.append(col(Trace.at) < wanted.end)
    if wanted.user is not None:
        found.append(or_(col(Trace.user_name) == wanted.user, col(Trace.user_id) == wanted.user))
    if wanted.resource_id is not None:
        resource = col(Trace.resource)
        found.append(or_(resource == wanted.resource_id, resource.endswith(f"/{wanted.resource_id}", autoescape=True)))
    if wanted.resource_name is not None:
        found.append(col(Trace.resource_name).contains(wanted.resource_name, autoescape=True))
    if wanted.code is not None:
        matches = col(Trace.code) == wanted.code
        found.append(or_(matches, col(Trace.status) == int(wanted.code)) if wanted.code.isdecimal() else matches)
    if wanted.denied:
        found.append(col(Trace.status).in_((401, 403, 429)))
    if wanted.service_type is not None:
        found.append(col(Trace.action).startswith(f"{wanted.service_type.lower()}:", autoescape=True))
    if not wanted.workloads:
        action = col(Trace.action)
        found.append(or_(action.is_(None), action.not_like("bottega:workload:%")))
    return found
