"""Recording calls: an event becomes a record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import insert, text
from sqlmodel import col, select

from bottega.context import now_ms
from bottega.database import AsyncSession, Transaction
from bottega.entities import Resource, Workspace
from bottega.events import Received

from .entities import Batch, KeyOperation, Scope, Trace
from .events import ApiCalled
from .key_operations import rules_of, tell
from .trace_names import fallback_name, trace_names

_LOCK = 0x626F_7461_7564_6974
"""Of PostgreSQL: whoever numbers records waits for the others, so that a number is visible before the next one."""
_LONGEST = {"path": 2048, "reason": 4096, "resource": 1024, "resource_name": 256}


@dataclass(slots=True)
class _Known:
    """What the calls recorded in one transaction need to know, asked once: events come by the hundred."""

    scopes: dict[tuple[str, str], int] = field(default_factory=dict)
    rules: dict[str, Sequence[KeyOperation]] = field(default_factory=dict)
    recorded: dict[str, Trace] = field(default_factory=dict)
    """Records of this transaction by their ids; they are written when it ends."""


async def on_called(received: Received[ApiCalled], tx: Transaction) -> None:
    """Keep one record a request: the event that was made last, whatever order they come in and how often.

    A later word about a record that is sealed becomes a record of its own: what is sealed never changes.
    """
    event, made, session = received.event, received.envelope.time, tx.session
    known: _Known | None = session.info.get(_Known)
    if known is None:
        await take_turn(session)
        known = session.info[_Known] = _Known()
    with session.no_autoflush:
        id = event.request_id
        before = known.recorded.get(id)
        if before is None:
            before = (await session.exec(select(Trace).where(Trace.id == id))).first()
        if before is not None:
            if before.event_time >= made:
                return
            if before.seq is not None and await last_sealed(session) >= before.seq:
                before, id = None, received.envelope.id
        values = await _values(received, session, known)
        if before is not None:
            for name, value in values.items():
                setattr(before, name, value)
            return
        trace = known.recorded[id] = Trace(id=id, at=event.at, **values)
        session.add(trace)
        if event.account_id and event.account_id not in known.rules:
            known.rules[event.account_id] = await rules_of(session, event.account_id)
        await tell(tx, trace, known.rules.get(event.account_id or "", ()))


async def take_turn(session: AsyncSession) -> None:
    """Wait until no other transaction is numbering records. SQLite has one writer anyway."""
    if session.get_bind().dialect.name == "postgresql":
        await session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})


async def last_sealed(session: AsyncSession) -> int:
    """The number of the last record in the chain, 0 before the first."""
    newest = select(Batch.last_seq).order_by(col(Batch.number).desc()).limit(1)
    return (await session.exec(newest)).first() or 0


async def _values(received: Received[ApiCalled], session: AsyncSession, known: _Known) -> dict[str, Any]:
    event, project_id = received.event, received.project_id
    account_id = event.account_id or ""
    named = trace_names().get(event.trace or "")
    values: dict[str, Any] = {
        **event.model_dump(exclude={"at", "trace", "resource_type", "request"}),
        "account_id": account_id,
        "project_id": project_id,
        "scope": await _scope(session, known, account_id, project_id),
        "service": (event.action or "").partition(":")[0].upper(),
        "name": event.trace or fallback_name(event.action),
        "resource_type": named.resource_type if named else event.resource_type,
        "resource_id": _last(event.resource),
        "rating": "normal" if event.status < 400 else "warning" if event.status < 500 else "incident",
        "recorded_at": now_ms(),
        "event_time": received.envelope.time,
    }
    values["enterprise_project_id"] = await _enterprise_project(session, project_id, values["resource_id"])
    for name, value in values.items():
        if isinstance(value, str):  # PostgreSQL takes no NUL, and whoever is refused may have sent any text
            values[name] = value.replace("\0", "\ufffd")[: _LONGEST.get(name, 512)]
    return values | {"request": event.request}


async def _scope(session: AsyncSession, known: _Known, account_id: str, project_id: str) -> int:
    found = known.scopes.get((account_id, project_id))
    if found is None:
        query = select(col(Scope.id)).where(Scope.account_id == account_id, Scope.project_id == project_id)
        found = (await session.exec(query)).first()
    if found is None:
        added = insert(Scope).values(account_id=account_id, project_id=project_id).returning(col(Scope.id))
        found = (await session.execute(added)).scalar_one()
    assert found is not None
    known.scopes[account_id, project_id] = found
    return found


async def _enterprise_project(session: AsyncSession, project_id: str, resource_id: str | None) -> str:
    """That of the workspace the thing is in; ``0``, the default one, for what is in none."""
    resource = await session.get(Resource, resource_id) if resource_id else None
    if resource is None or resource.project_id != project_id:
        return "0"
    workspace = await session.get(Workspace, resource.workspace_id)
    return workspace.enterprise_project_id if workspace else "0"


def _last(resource: str | None) -> str | None:
    """The id of a thing: what follows the last ``/`` of its URN."""
    return resource.rpartition("/")[2] or None if resource and "/" in resource else None
