"""From events to usage facts: one for each thing that costs, whatever order the events come in and however often."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, case, func, inspect, update
from sqlalchemy import select as columns
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import col

from bottega.backends import WorkloadFinished, WorkloadStarted
from bottega.database import Transaction
from bottega.entities import DEFAULT_WORKSPACE, Project, Resource, User, Workload
from bottega.errors import Invalid
from bottega.events import Received
from bottega.urn import PLATFORM, Urn

from . import prices
from .entities import UsageRecord
from .events import ApiCalled, CallsCounted, NotebookCreated, NotebookDeleted
from .ledger import lock
from .ledger_entities import Payer
from .rating import HOUR

PREDICTION = "modelarts:service:access"
"""The action of a prediction. Services count these themselves; the core tells of all other calls."""

_USAGE: Any = inspect(UsageRecord).local_table
_INSERT = {
    "sqlite": sqlite.insert(_USAGE).on_conflict_do_nothing(),
    "postgresql": postgresql.insert(_USAGE).on_conflict_do_nothing(),
}
_FINISH = (
    update(_USAGE)
    .where(_USAGE.c.id == bindparam("ident"), _USAGE.c.finished_at.is_(None))
    .values(finished_at=bindparam("ended"))
    .returning(_USAGE.c.account_id)
)


def _of(column: Any, ident: Any, parameter: str) -> Any:
    return columns(column).where(ident == bindparam(parameter)).scalar_subquery()


_WHO = func.coalesce(
    _of(col(Workload.user_id), col(Workload.id), "workload"),
    func.nullif(bindparam("given"), ""),
    _of(col(Resource.owner_id), col(Resource.id), "resource"),
)
_WHOSE = columns(
    _of(col(Project.account_id), col(Project.id), "project"),
    _WHO,
    columns(col(User.name)).where(col(User.id) == _WHO).scalar_subquery(),
    _of(col(Workload.workspace_id), col(Workload.id), "workload"),
    _of(col(Resource.workspace_id), col(Resource.id), "resource"),
    _of(col(Resource.name), col(Resource.id), "resource"),
    _of(col(Resource.tags), col(Resource.id), "resource"),
)
"""Made once: it is asked for every event, and making it takes longer than answering it."""


async def on_started(received: Received[WorkloadStarted], tx: Transaction) -> None:
    await add(tx, await _record(received.event, received.event.started_at, received.project_id, tx))


async def on_finished(received: Received[WorkloadFinished], tx: Transaction) -> None:
    event = received.event
    if event.started_at is None:
        return  # it never ran
    if not await finish(tx, event.workload_id, event.finished_at):
        record = await _record(event, event.started_at, received.project_id, tx)
        record.finished_at = event.finished_at
        await add(tx, record)


async def on_notebook_created(received: Received[NotebookCreated], tx: Transaction) -> None:
    """A disk is used from the notebook's creation to its deletion, whether or not the notebook runs (002 §4.1.2)."""
    event = received.event
    whose = await _whose(tx, urn=received.urn, project_id=received.project_id)
    record = UsageRecord(
        id=_disk_id(event.notebook_id),
        kind="disk",
        backend="",
        flavor="disk",
        measure="gb",
        quantity=event.capacity_gb,
        started_at=_moment(received),
        **(whose | {"resource_name": whose["resource_name"] or event.name}),
    )
    await add(tx, record)


async def on_notebook_deleted(received: Received[NotebookDeleted], tx: Transaction) -> None:
    # Events about one notebook come in order, so its creation was seen, or is older than what the bus keeps.
    await finish(tx, _disk_id(received.event.notebook_id), _moment(received))


async def on_called(received: Received[ApiCalled], tx: Transaction) -> None:
    """A call costs once when it succeeded, where the price list names its action."""
    event = received.event
    if event.status < 400 and event.account_id and event.action:
        await _call(tx, f"call/{event.request_id}", event.action, 1, event.at, _of_call(received))


async def on_calls_counted(received: Received[CallsCounted], tx: Transaction) -> None:
    """Predictions that succeeded cost where the price list names them."""
    event = received.event
    of = {"urn": received.urn, "project_id": received.project_id}
    quantity = event.calls - event.failed
    await _call(tx, f"call/{received.envelope.id}", PREDICTION, quantity, _moment(received), of)


async def add(tx: Transaction, record: UsageRecord) -> bool:
    """Keep a fact, and let the hours it touches be settled (again); False when it is known already."""
    new = _INSERT[tx.session.get_bind().dialect.name]
    if not getattr(await tx.session.execute(new, record.model_dump()), "rowcount", 0):
        return False
    await _reopen(tx, record.account_id, record.started_at)
    return True


async def finish(tx: Transaction, ident: str, at: int) -> bool:
    """Say when something ended; only the first report counts. False when it is not known that it began or runs."""
    ended = await tx.session.execute(_FINISH, {"ident": ident, "ended": at})
    account_id = ended.scalar_one_or_none()
    if account_id is None:
        return False
    await _reopen(tx, account_id, at)
    return True


async def _reopen(tx: Transaction, account_id: str, at: int) -> None:
    hour = at - at % HOUR
    reopened: dict[str, int] = tx.session.info.setdefault("billing reopened", {})
    if reopened.get(account_id, hour + 1) <= hour:
        return  # this transaction did, and holds the row
    # Written also when nothing changes: on PostgreSQL the row's lock is what keeps a settlement that has not seen
    # this fact from passing it by.
    until = col(Payer.settled_until)
    back = update(Payer).where(col(Payer.account_id) == account_id)
    changed = await tx.session.execute(back.values(settled_until=case((until > hour, hour), else_=until)))
    if not getattr(changed, "rowcount", 0):
        await lock(tx, account_id)
    reopened[account_id] = hour


async def _record(
    event: WorkloadStarted | WorkloadFinished, started_at: int, project_id: str, tx: Transaction
) -> UsageRecord:
    whose = await _whose(tx, urn=event.resource_urn, project_id=project_id, workload_id=event.workload_id)
    return UsageRecord(
        id=event.workload_id,
        kind=event.kind,
        backend=event.backend,
        flavor=event.flavor,
        quantity=event.node_count,
        started_at=started_at,
        **whose,
    )


async def _call(tx: Transaction, ident: str, action: str, quantity: int, at: int, of: dict[str, str]) -> None:
    """What costs nothing at its time leaves no fact: a price list that changes never changes the past."""
    version = (await prices.load(tx.session)).at(at)
    if quantity < 1 or version is None or not version.micro_per_call(action):
        return
    whose = await _whose(tx, **of)
    record = UsageRecord(
        id=ident,
        kind="call",
        backend="",
        flavor=action,
        measure="call",
        quantity=quantity,
        started_at=at,
        finished_at=at,
        **whose,
    )
    await add(tx, record)


def _of_call(received: Received[ApiCalled]) -> dict[str, str]:
    event = received.event
    project_id = received.project_id if received.project_id != PLATFORM else ""
    return {
        "urn": event.resource or "",
        "project_id": project_id,
        "user_id": event.user_id or "",
        "account_id": event.account_id or "",
    }


async def _whose(
    tx: Transaction, *, urn: str, project_id: str, workload_id: str = "", user_id: str = "", account_id: str = ""
) -> dict[str, Any]:
    """Who pays for and who caused a usage, as it is now: in one question, as it is asked for every event.

    The user is that of the workload, else the one given, else the resource's owner.
    """
    asked = {"project": project_id, "workload": workload_id, "resource": _resource_id(urn), "given": user_id}
    found = (await tx.session.execute(_WHOSE, asked)).one()
    payer, who, user_name, workload_room, room, name, tags = found
    return {
        "account_id": payer or account_id,
        "project_id": project_id,
        "workspace_id": workload_room or room or DEFAULT_WORKSPACE,
        "user_id": who or "",
        "user_name": user_name or "",
        "resource_urn": urn,
        "resource_name": name or "",
        "tags": tags or {},
    }


def _disk_id(notebook_id: str) -> str:
    return f"disk/{notebook_id}"


def _moment(received: Received[Any]) -> int:
    return int(datetime.fromisoformat(received.envelope.time).timestamp() * 1000)


def _resource_id(urn: str) -> str:
    try:
        return Urn.parse(urn).id
    except Invalid:
        return ""
