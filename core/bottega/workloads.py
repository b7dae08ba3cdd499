"""Asking for workloads, and the reports of the backends that run them; each change commits with its event."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from sqlalchemy import update
from sqlmodel import col, select

from bottega.backends import (
    Backend,
    Flavor,
    LogChunk,
    UsageSample,
    WorkloadFinished,
    WorkloadRequested,
    WorkloadSpec,
    WorkloadStarted,
    WorkloadStopRequested,
)
from bottega.context import current, now_ms
from bottega.database import AsyncSession, Database, Transaction
from bottega.entities import DEFAULT_WORKSPACE, Workload
from bottega.errors import Invalid, NotFound, Unavailable
from bottega.urn import Urn

FINAL = ("succeeded", "failed", "stopped")

Admission = Callable[[AsyncSession, Workload], Awaitable[None]]
"""Looks at a workload that is asked for, in the transaction that asks; raises an ApiError to refuse it."""


def workload_urn(workload: Workload) -> str:
    return str(Urn("core", workload.project_id, "workload", workload.id))


class Workloads:
    """The registry of workloads. `backends` gives the backends of the installed plugins by name."""

    def __init__(self, database: Database, backends: Callable[[], dict[str, Backend]]) -> None:
        self._database = database.bind("core")
        self._backends = backends
        self.admissions: list[Admission] = []
        """Whom each workload needs to pass; a plugin adds its own when it starts (a budget that is spent refuses)."""

    def flavors(self, kind: str | None = None) -> list[Flavor]:
        """The flavors of all backends, or those offered for `kind` of workload."""
        every = [flavor for backend in self._backends().values() for flavor in backend.flavors()]
        return [flavor for flavor in every if kind is None or kind in flavor.kinds]

    def flavor(self, flavor_id: str, kind: str) -> Flavor:
        """Raises Invalid, naming the flavors there are, when none of that id is offered for `kind`."""
        offered = self.flavors(kind)
        for flavor in offered:
            if flavor.id == flavor_id:
                return flavor
        names = ", ".join(f.id for f in offered) or "none; no backend plugin is on"
        raise Invalid(f"flavor '{flavor_id}' is not offered for {kind}; there are: {names}")

    async def admit(self, session: AsyncSession, workload: Workload) -> None:
        """Raises what an admission raises. `request` asks by itself; who requests later may ask ahead, with a draft."""
        for admission in self.admissions:
            await admission(session, workload)

    async def request(
        self,
        tx: Transaction,
        spec: WorkloadSpec,
        *,
        kind: str,
        flavor_id: str,
        resource_urn: str,
        project_id: str,
        user_id: str,
        workspace_id: str = DEFAULT_WORKSPACE,
        node_count: int = 1,
    ) -> Workload:
        """Ask for a workload that serves `resource_urn`; it starts after the transaction commits.

        Raises Invalid for an unknown flavor, and what an admission raises.
        """
        flavor = self.flavor(flavor_id, kind)
        workload = Workload(
            project_id=project_id,
            workspace_id=workspace_id,
            user_id=user_id,
            kind=kind,
            resource_urn=resource_urn,
            backend=flavor.backend,
            flavor=flavor.id,
            node_count=node_count,
            spec=spec.model_dump(mode="json") | {"agency_id": current().principal.agency_id or spec.agency_id},
        )
        await self.admit(tx.session, workload)
        tx.session.add(workload)
        await tx.session.flush()
        self._as_core(tx).emit(
            WorkloadRequested(
                workload_id=workload.id,
                kind=kind,
                backend=flavor.backend,
                flavor=flavor.id,
                resource_urn=resource_urn,
            ),
            workload_urn(workload),
        )
        return workload

    async def stop(self, tx: Transaction, workload_id: str, reason: str = "") -> bool:
        """Ask a workload to end, and say why; False when it already has, or was already asked."""
        workload = await self._lock(tx, workload_id)
        if workload.state in FINAL or workload.stop_requested_at:
            return False
        workload.stop_requested_at, workload.reason = now_ms(), reason
        tx.session.add(workload)
        self._as_core(tx).emit(
            WorkloadStopRequested(workload_id=workload.id, backend=workload.backend), workload_urn(workload)
        )
        return True

    async def get(self, session: AsyncSession, workload_id: str) -> Workload:
        workload = await session.get(Workload, workload_id)
        if workload is None:
            raise NotFound(f"there is no workload '{workload_id}'")
        return workload

    async def of_resource(self, session: AsyncSession, resource_urn: str) -> Sequence[Workload]:
        """The workloads that serve or served a resource, newest first."""
        query = select(Workload).where(Workload.resource_urn == resource_urn)
        return (await session.exec(query.order_by(col(Workload.requested_at).desc()))).all()

    async def open_on(self, backend: str) -> Sequence[Workload]:
        """What a backend has to look after: everything of its own that has not finished."""
        async with self._database.read() as session:
            query = select(Workload).where(Workload.backend == backend, col(Workload.state).not_in(FINAL))
            return (await session.exec(query)).all()

    async def save_handle(self, workload_id: str, handle: dict[str, Any]) -> bool:
        """Keep what a backend needs to find the running workload again. False when it has finished meanwhile."""
        async with self._database.transaction() as tx:
            result = await tx.session.execute(
                update(Workload)
                .where(col(Workload.id) == workload_id, col(Workload.state).not_in(FINAL))
                .values(handle=handle)
            )
            return bool(result.rowcount)  # type: ignore[attr-defined]  # an UPDATE returns a CursorResult

    async def mark_started(self, workload_id: str, endpoints: dict[str, str], *, at: int | None = None) -> None:
        """Report that a workload runs and is ready, `at` (default: now); only the first report counts."""
        async with self._database.transaction() as tx:
            workload = await self._lock(tx, workload_id)
            if workload.state != "requested":
                return
            workload.state, workload.started_at, workload.endpoints = "started", at or now_ms(), endpoints
            tx.session.add(workload)
            tx.emit(
                WorkloadStarted(
                    workload_id=workload.id,
                    kind=workload.kind,
                    backend=workload.backend,
                    flavor=workload.flavor,
                    node_count=workload.node_count,
                    resource_urn=workload.resource_urn,
                    endpoints=endpoints,
                    started_at=workload.started_at,
                ),
                workload_urn(workload),
            )

    async def mark_finished(
        self,
        workload_id: str,
        state: str,
        *,
        reason: str = "",
        exit_code: int | None = None,
        at: int | None = None,
    ) -> None:
        """Report that a workload ended, `at` (default: now): `state` is one of FINAL; the first report counts."""
        async with self._database.transaction() as tx:
            workload = await self._lock(tx, workload_id)
            if workload.state in FINAL:
                return
            if state == "stopped" and workload.reason:
                reason = workload.reason  # who asked knows better than the backend
            workload.state, workload.reason, workload.exit_code = state, reason, exit_code
            workload.finished_at = at or now_ms()
            tx.session.add(workload)
            tx.emit(
                WorkloadFinished(
                    workload_id=workload.id,
                    kind=workload.kind,
                    backend=workload.backend,
                    flavor=workload.flavor,
                    node_count=workload.node_count,
                    resource_urn=workload.resource_urn,
                    state=state,
                    reason=reason,
                    exit_code=exit_code,
                    started_at=workload.started_at,
                    finished_at=workload.finished_at,
                ),
                workload_urn(workload),
            )

    async def read_log(self, workload: Workload, offset: int = 0, limit: int = 65536) -> LogChunk:
        """The workload's log from its backend. Raises NotFound when the backend holds none."""
        return await self.backend(workload.backend).read_log(workload.id, offset, limit)

    async def read_usage(self, workload: Workload) -> list[UsageSample]:
        return await self.backend(workload.backend).read_usage(workload.id)

    def backend(self, name: str) -> Backend:
        """Raises Unavailable when the plugin of that backend is not on."""
        backend = self._backends().get(name)
        if backend is None:
            raise Unavailable(f"the backend plugin '{name}' is not on")
        return backend

    def _as_core(self, tx: Transaction) -> Transaction:
        return tx.speaking_as("core")

    async def _lock(self, tx: Transaction, workload_id: str) -> Workload:
        workload = await tx.session.get(Workload, workload_id, with_for_update=True)
        if workload is None:
            raise NotFound(f"there is no workload '{workload_id}'")
        return workload
