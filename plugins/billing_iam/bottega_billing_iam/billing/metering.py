"""From the life of workloads to usage records: one a workload, whatever order the events come in."""

from __future__ import annotations

from bottega.backends import WorkloadFinished, WorkloadStarted
from bottega.database import Transaction
from bottega.entities import DEFAULT_WORKSPACE, Project, Resource, User, Workload
from bottega.errors import Invalid
from bottega.events import Received
from bottega.urn import Urn

from .entities import UsageRecord


async def on_started(received: Received[WorkloadStarted], tx: Transaction) -> None:
    event = received.event
    if await tx.session.get(UsageRecord, event.workload_id) is None:
        tx.session.add(await _record(event, event.started_at, received.project_id, tx))


async def on_finished(received: Received[WorkloadFinished], tx: Transaction) -> None:
    event = received.event
    if event.started_at is None:
        return  # it never ran
    record = await tx.session.get(UsageRecord, event.workload_id)
    record = record or await _record(event, event.started_at, received.project_id, tx)
    record.finished_at = event.finished_at
    tx.session.add(record)


async def _record(
    event: WorkloadStarted | WorkloadFinished, started_at: int, project_id: str, tx: Transaction
) -> UsageRecord:
    workload = await tx.session.get(Workload, event.workload_id)
    project = await tx.session.get(Project, project_id)
    user = await tx.session.get(User, workload.user_id) if workload else None
    resource = await tx.session.get(Resource, _resource_id(event.resource_urn))
    return UsageRecord(
        workload_id=event.workload_id,
        account_id=project.account_id if project else "",
        project_id=project_id,
        workspace_id=workload.workspace_id if workload else DEFAULT_WORKSPACE,
        user_id=workload.user_id if workload else "",
        user_name=user.name if user else "",
        kind=event.kind,
        backend=event.backend,
        flavor=event.flavor,
        node_count=event.node_count,
        resource_urn=event.resource_urn,
        resource_name=resource.name if resource else "",
        tags=resource.tags if resource else {},
        started_at=started_at,
    )


def _resource_id(urn: str) -> str:
    try:
        return Urn.parse(urn).id
    except Invalid:
        return ""
