"""From events to usage facts: one for each thing that costs, whatever order the events come in and however often."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import case, update
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


async def on_started(received: Received[WorkloadStarted], tx: Transaction) -> None:
    event = received.event
    if await tx.session.get(UsageRecord, event.workload_id) is None:
        await add(tx, await _record(event, event.started_at, received.project_id, tx))


async def on_finished(received: Received[WorkloadFinished], tx: Transaction) -> None:
    event = received.event
    if event.started_at is None:
        return  # it never ran
    record = await tx.session.get(UsageRecord, event.workload_id)
    if record is None:
        record = await _record(event, event.started_at, received.project_id, tx)
        record.finished_at = event.finished_at
        await add(tx, record)
    else:
        await finish(tx, record, event.finished_at)


async def on_notebook_created(received: Received[NotebookCreated], tx: Transaction) -> None:
    """A disk is used from the notebook's creation to its deletion, whether or not the notebook runs (002 §4.1.2)."""
    event = received.event
    await _disk(received, tx, event.notebook_id, event.name, event.capacity_gb)


async def on_notebook_deleted(received: Received[NotebookDeleted], tx: Transaction) -> None:
    record = await tx.session.get(UsageRecord, _disk_id(received.event.notebook_id))
    if record is not None:  # events about one notebook come in order, so its creation was seen or is older than billing
        await finish(tx, record, _moment(received))


async def on_called(received: Received[ApiCalled], tx: Transaction) -> None:
    """A call costs once when it succeeded, where the price list names its action."""
    event = received.event
    if event.status < 400 and event.account_id and event.action:
        await _call(tx, f"call/{event.request_id}", event.action, 1, event.at, _of_call(received))


async def on_calls_counted(received: Received[CallsCounted], tx: Transaction) -> None:
    """Predictions that succeeded cost where the price list names them."""
    event = received.event
    resource = await tx.session.get(Resource, event.service_id)
    of = {"urn": received.urn, "project_id": received.project_id, "user_id": resource.owner_id if resource else ""}
    quantity = event.calls - event.failed
    await _call(tx, f"call/{received.envelope.id}", PREDICTION, quantity, _moment(received), of)


async def add(tx: Transaction, record: UsageRecord) -> None:
    """Keep a fact, and let the hours it touches be settled (again)."""
    tx.session.add(record)
    await _reopen(tx, record.account_id, record.started_at)


async def finish(tx: Transaction, record: UsageRecord, at: int) -> None:
    """Say when something ended; only the first report counts."""
    if record.finished_at is None:
        record.finished_at = at
        tx.session.add(record)
        await _reopen(tx, record.account_id, at)


async def _reopen(tx: Transaction, account_id: str, at: int) -> None:
    # Always written, also when nothing changes: on PostgreSQL the row's lock is what keeps a settlement that has not
    # seen this fact from passing it by.
    hour = at - at % HOUR
    until = col(Payer.settled_until)
    back = update(Payer).where(col(Payer.account_id) == account_id)
    changed = await tx.session.execute(back.values(settled_until=case((until > hour, hour), else_=until)))
    if not getattr(changed, "rowcount", 0):
        await lock(tx, account_id)


async def _record(
    event: WorkloadStarted | WorkloadFinished, started_at: int, project_id: str, tx: Transaction
) -> UsageRecord:
    workload = await tx.session.get(Workload, event.workload_id)
    return UsageRecord(
        id=event.workload_id,
        kind=event.kind,
        backend=event.backend,
        flavor=event.flavor,
        quantity=event.node_count,
        started_at=started_at,
        **await _whose(
            tx,
            urn=event.resource_urn,
            project_id=project_id,
            user_id=workload.user_id if workload else "",
            workspace_id=workload.workspace_id if workload else DEFAULT_WORKSPACE,
        ),
    )


async def _disk(received: Received[Any], tx: Transaction, notebook_id: str, name: str, capacity_gb: int) -> None:
    ident = _disk_id(notebook_id)
    if await tx.session.get(UsageRecord, ident) is not None:
        return
    resource = await tx.session.get(Resource, notebook_id)
    whose = await _whose(
        tx,
        urn=received.urn,
        project_id=received.project_id,
        user_id=resource.owner_id if resource else "",
        workspace_id=resource.workspace_id if resource else DEFAULT_WORKSPACE,
    )
    record = UsageRecord(
        id=ident,
        kind="disk",
        backend="",
        flavor="disk",
        measure="gb",
        quantity=capacity_gb,
        started_at=_moment(received),
        **(whose | {"resource_name": whose["resource_name"] or name}),
    )
    await add(tx, record)


async def _call(tx: Transaction, ident: str, action: str, quantity: int, at: int, of: dict[str, str]) -> None:
    """What costs nothing at its time leaves no fact: a price list that changes never changes the past."""
    version = (await prices.load(tx.session)).at(at)
    if quantity < 1 or version is None or not version.micro_per_call(action):
        return
    if await tx.session.get(UsageRecord, ident) is None:
        whose = await _whose(tx, **of)
        await add(
            tx,
            UsageRecord(
                id=ident,
                kind="call",
                backend="",
                flavor=action,
                measure="call",
                quantity=quantity,
                started_at=at,
                finished_at=at,
                **whose,
            ),
        )


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
    tx: Transaction,
    *,
    urn: str,
    project_id: str,
    user_id: str,
    workspace_id: str = "",
    account_id: str = "",
) -> dict[str, Any]:
    """Who pays for and who caused a usage, as it is now."""
    project = await tx.session.get(Project, project_id)
    user = await tx.session.get(User, user_id)
    resource = await tx.session.get(Resource, _resource_id(urn))
    return {
        "account_id": project.account_id if project else account_id,
        "project_id": project_id,
        "workspace_id": workspace_id or (resource.workspace_id if resource else DEFAULT_WORKSPACE),
        "user_id": user_id,
        "user_name": user.name if user else "",
        "resource_urn": urn,
        "resource_name": resource.name if resource else "",
        "tags": resource.tags if resource else {},
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
