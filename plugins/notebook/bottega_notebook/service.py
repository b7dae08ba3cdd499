"""Notebook instances: their states, their disk, their lease.

==============  ===================================  ==========================================
state           from                                 by
==============  ===================================  ==========================================
CREATING        —                                    create
STARTING        STOPPED, or one of the failed        start
RUNNING         CREATING, STARTING                   JupyterLab answers
STOPPING        RUNNING                              stop, or the end of the lease
STOPPED         any of the four above                JupyterLab has ended as asked, from within, or
                                                     because the platform stops
CREATE_FAILED   CREATING                             JupyterLab did not start
START_FAILED    STARTING                             JupyterLab did not start
ERROR           RUNNING                              JupyterLab died
==============  ===================================  ==========================================

Deleting takes STOPPED and the failed states, opening RUNNING (002 §4.1.2, §4.1.5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import anyio
import structlog
from sqlalchemy import String, cast
from sqlmodel import col, select

from bottega.addresses import allowed
from bottega.backends import Flavor, WorkloadFinished, WorkloadStarted
from bottega.context import now_ms
from bottega.database import Transaction
from bottega.entities import Resource, Workload
from bottega.errors import BottegaError, Conflict, Forbidden, Unavailable
from bottega.events import Event, Received
from bottega.platform import Platform
from bottega.urn import Urn, new_id
from bottega_notebook.entities import Notebook
from bottega_notebook.events import (
    NotebookCreated,
    NotebookDeleted,
    NotebookFailed,
    NotebookStarted,
    NotebookStopped,
)
from bottega_notebook.jupyter import KEY_VARIABLE, PORT, workload_spec
from bottega_notebook.key_pairs import KeyPairs
from bottega_notebook.proxy import Target
from bottega_notebook.settings import NotebookSettings
from bottega_notebook.ssh_door import SshDoor

log = structlog.get_logger(__name__)

KIND = "instance"
CREATING, STARTING, RUNNING, STOPPING, STOPPED = "CREATING", "STARTING", "RUNNING", "STOPPING", "STOPPED"
CREATE_FAILED, START_FAILED, ERROR, DELETED = "CREATE_FAILED", "START_FAILED", "ERROR", "DELETED"
AT_REST = (STOPPED, CREATE_FAILED, START_FAILED, ERROR)


@dataclass(frozen=True)
class Instance:
    """A notebook with its row in the registry."""

    resource: Resource
    notebook: Notebook


@dataclass(frozen=True)
class Order:
    """What a user asks for. `lease_ms` is how long it runs before it is stopped.

    `key_pairs` are the names of the user's own that open it over SSH; without any it is opened in the browser only.
    """

    name: str
    lease_ms: int
    description: str = ""
    flavor: str | None = None
    capacity_gb: int = 5
    workspace_id: str = "0"
    allowed_ips: tuple[str, ...] = ()
    key_pairs: tuple[str, ...] = ()


def check_address(notebook: Notebook, source_ip: str | None) -> None:
    """Raises Forbidden when a notebook is opened from other addresses only."""
    if not allowed({"allow_ip_ranges": [{"ip_range": text} for text in notebook.allowed_ips]}, source_ip):
        raise Forbidden(f"this notebook is not opened from your address {source_ip}")


class Notebooks:
    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._settings: NotebookSettings = platform.settings

    # -- what users do -------------------------------------------------------------------------------------------

    async def create(self, project_id: str, user_id: str, order: Order) -> Instance:
        """Register a notebook and ask for its first start.

        Raises Conflict for a taken name, QuotaExceeded, Invalid for an unknown flavor, NotFound for a key pair that
        the user has not, Unavailable without JupyterLab, or where SSH is not served.
        """
        _need_jupyter()
        flavor = self.flavor(order.flavor)
        await self._serve_ssh(order.key_pairs)
        async with self._platform.database.transaction() as tx:
            pairs = await KeyPairs.named(tx.session, project_id, user_id, order.key_pairs)
            resource = await self._platform.resources.create(
                tx,
                kind=KIND,
                project_id=project_id,
                owner_id=user_id,
                name=order.name,
                status=CREATING,
                workspace_id=order.workspace_id,
                description=order.description,
                id=new_id(),
            )
            notebook = Notebook(
                id=resource.id,
                project_id=project_id,
                flavor=flavor.id,
                capacity_gb=order.capacity_gb,
                lease_ms=order.lease_ms,
                allowed_ips=list(order.allowed_ips),
                key_pairs=[pair.key for pair in pairs if pair.key is not None],
                created_at=resource.created_at,
            )
            instance = Instance(resource, notebook)
            await self._request_workload(tx, instance)
            created = NotebookCreated(
                notebook_id=notebook.id, name=resource.name, flavor=flavor.id, capacity_gb=notebook.capacity_gb
            )
            tx.emit(created, resource.urn)
        return instance

    async def get(self, project_id: str, notebook_id: str) -> Instance:
        async with self._platform.database.read() as session:
            resource = await self._platform.resources.get(session, KIND, project_id, notebook_id)
            notebook = await session.get(Notebook, notebook_id)
        assert notebook is not None  # written in the same transaction as its resource
        return Instance(resource, notebook)

    async def list(self, project_id: str, **filters: Any) -> tuple[int, list[Instance]]:
        """One page and the number of all; `filters` are those of ``Resources.list``."""
        async with self._platform.database.read() as session:
            total, resources = await self._platform.resources.list(session, KIND, project_id, **filters)
            query = select(Notebook).where(col(Notebook.id).in_([r.id for r in resources]))
            rows = {row.id: row for row in (await session.exec(query)).all()}
        return total, [Instance(r, rows[r.id]) for r in resources]

    async def start(self, project_id: str, notebook_id: str, lease_ms: int) -> Instance:
        """Start a notebook at rest, on the disk it had. Raises Conflict in another state."""
        _need_jupyter()
        async with self._platform.database.transaction() as tx:
            instance = await self._locked(tx, project_id, notebook_id)
            self._demand(instance, AT_REST, "started")
            notebook = instance.notebook
            notebook.fail_reason, notebook.stop_reason = "", ""
            notebook.lease_from = notebook.lease_updated_at = now_ms()
            notebook.lease_ms = lease_ms
            await self._platform.resources.set_status(tx, instance.resource, STARTING)
            await self._request_workload(tx, instance)
        return instance

    async def stop(self, project_id: str, notebook_id: str) -> Instance:
        """Raises Conflict unless it is running."""
        async with self._platform.database.transaction() as tx:
            instance = await self._locked(tx, project_id, notebook_id)
            self._demand(instance, (RUNNING,), "stopped")
            await self._stop(tx, instance, "user")
        return instance

    async def update(
        self,
        project_id: str,
        notebook_id: str,
        *,
        name: str | None = None,
        description: str | None = None,
        flavor: str | None = None,
        allowed_ips: Sequence[str] | None = None,
        key_pairs: Sequence[str] | None = None,
        user_id: str = "",
    ) -> Instance:
        """Change what is given; `key_pairs` are those of `user_id`.

        Raises Conflict for a taken name, or a new flavor while it is not at rest; NotFound for an unknown key pair.
        """
        chosen = self.flavor(flavor) if flavor else None
        await self._serve_ssh(key_pairs or ())
        async with self._platform.database.transaction() as tx:
            instance = await self._locked(tx, project_id, notebook_id)
            if chosen and chosen.id != instance.notebook.flavor:
                self._demand(instance, AT_REST, "given another flavor")
                instance.notebook.flavor = chosen.id
                tx.session.add(instance.notebook)
            if allowed_ips is not None:
                instance.notebook.allowed_ips = [*allowed_ips]
                tx.session.add(instance.notebook)
            if key_pairs is not None:
                pairs = await KeyPairs.named(tx.session, project_id, user_id, key_pairs)
                instance.notebook.key_pairs = [pair.key for pair in pairs if pair.key is not None]
                tx.session.add(instance.notebook)
            if name is not None and name != instance.resource.name:
                await self._platform.resources.rename(tx, instance.resource, name)
            if description is not None:
                instance.resource.description, instance.resource.updated_at = description, now_ms()
                tx.session.add(instance.resource)
        return instance

    async def renew(self, project_id: str, notebook_id: str, lease_ms: int) -> Instance:
        """Let a running notebook run for `lease_ms` from now on."""
        async with self._platform.database.transaction() as tx:
            instance = await self._locked(tx, project_id, notebook_id)
            self._demand(instance, (RUNNING,), "given a longer lease")
            notebook = instance.notebook
            notebook.lease_from = notebook.lease_updated_at = now_ms()
            notebook.lease_ms = lease_ms
            tx.session.add(notebook)
        return instance

    async def delete(self, project_id: str, notebook_id: str) -> Instance:
        """Raises Conflict unless it is at rest. The files of its disk stay (002 §4.1.5)."""
        async with self._platform.database.transaction() as tx:
            instance = await self._locked(tx, project_id, notebook_id)
            self._demand(instance, AT_REST, "deleted")
            resource = instance.resource
            await self._platform.resources.set_status(tx, resource, DELETED)
            await self._platform.resources.delete(tx, resource)
            tx.emit(NotebookDeleted(notebook_id=resource.id, name=resource.name), resource.urn)
        return instance

    async def target(self, project_id: str, notebook_id: str, source_ip: str | None, port: str = PORT) -> Target:
        """Where the JupyterLab of a notebook is, or another `port` of it, for somebody at `source_ip`.

        Raises Conflict unless it is running and has that port, Forbidden when it is not opened from that address.
        """
        async with self._platform.database.read() as session:
            resource = await self._platform.resources.get(session, KIND, project_id, notebook_id)
            notebook = await session.get(Notebook, notebook_id)
            assert notebook is not None  # written in the same transaction as its resource
            check_address(notebook, source_ip)
            self._demand(Instance(resource, notebook), (RUNNING,), "opened")
            workload = await session.get(Workload, notebook.workload_id)
        assert workload is not None  # a notebook that runs has one
        if port not in workload.endpoints:
            raise Conflict(f"notebook '{resource.name}' was started without {port}; stop it and start it again")
        return Target(workload.endpoints[port], workload.spec["environment"][KEY_VARIABLE])

    def flavors(self) -> Sequence[Flavor]:
        return self._platform.workloads.flavors("notebook")

    def flavor(self, asked: str | None) -> Flavor:
        """The flavor asked for, or the one of those who ask for none. Raises Invalid for one that is not offered."""
        offered = self.flavors()
        wanted = asked or self._settings.default_flavor or (offered[0].id if offered else "")
        return self._platform.workloads.flavor(wanted, "notebook")

    # -- what the workload's life brings -------------------------------------------------------------------------

    async def on_started(self, received: Received[WorkloadStarted], tx: Transaction) -> None:
        instance = await self._of_workload(tx, received.event.resource_urn, received.event.workload_id)
        if instance is None or instance.resource.status not in (CREATING, STARTING):
            return
        resource, notebook = instance.resource, instance.notebook
        notebook.lease_from = received.event.started_at
        tx.session.add(notebook)
        await self._platform.resources.set_status(tx, resource, RUNNING)
        tx.emit(NotebookStarted(notebook_id=notebook.id, name=resource.name), resource.urn)

    async def on_finished(self, received: Received[WorkloadFinished], tx: Transaction) -> None:
        event = received.event
        instance = await self._of_workload(tx, event.resource_urn, event.workload_id)
        if instance is None or instance.resource.status in (*AT_REST, DELETED):
            return
        resource, notebook = instance.resource, instance.notebook
        before = resource.status
        happened: Event
        if before == STOPPING or event.state == "stopped" or (before == RUNNING and event.state == "succeeded"):
            outcome = STOPPED
            reason = notebook.stop_reason or ("platform" if event.state == "stopped" else "inside")
            happened = NotebookStopped(notebook_id=notebook.id, name=resource.name, reason=reason)
        else:
            outcome = {CREATING: CREATE_FAILED, STARTING: START_FAILED}.get(before, ERROR)
            notebook.fail_reason = event.reason or f"JupyterLab {event.state}"
            happened = NotebookFailed(notebook_id=notebook.id, name=resource.name, reason=notebook.fail_reason)
        tx.session.add(notebook)
        await self._platform.resources.set_status(tx, resource, outcome)
        tx.emit(happened, resource.urn)

    async def keep_leases(self) -> None:
        """Stop notebooks whose lease is over, until cancelled."""
        while True:
            await anyio.sleep(self._settings.lease_check_s)
            try:
                await self.stop_expired()
            except BottegaError as e:
                log.error("leases not checked", error=e.message)

    async def stop_expired(self) -> int:
        """Stop the running notebooks whose lease is over; how many there were."""
        over = col(Notebook.lease_from) + col(Notebook.lease_ms) < now_ms()
        query = select(Notebook.id, Notebook.project_id).join(Resource, col(Resource.id) == Notebook.id)
        async with self._platform.database.read() as session:
            found = (await session.exec(query.where(Resource.status == RUNNING, over))).all()
        for notebook_id, project_id in found:
            async with self._platform.database.transaction() as tx:
                instance = await self._locked(tx, project_id, notebook_id)
                notebook = instance.notebook
                if instance.resource.status == RUNNING and notebook.lease_from + notebook.lease_ms < now_ms():
                    await self._stop(tx, instance, "lease")
        return len(found)

    async def serve_ssh_again(self) -> None:
        """After a start: where a notebook is opened over SSH, that is served as before."""
        query = select(Notebook.id).join(Resource, col(Resource.id) == Notebook.id)
        query = query.where(col(Resource.status) != DELETED, cast(col(Notebook.key_pairs), String) != "[]").limit(1)
        async with self._platform.database.read() as session:
            found = (await session.exec(query)).first()
        if found is not None:
            try:
                await SshDoor.of(self._platform).open(self._platform)
            except Unavailable as e:
                log.error("notebooks are not opened over SSH", reason=e.message)

    # -- parts ---------------------------------------------------------------------------------------------------

    async def _serve_ssh(self, key_pairs: Sequence[str]) -> None:
        """Raises Unavailable where key pairs would open nothing."""
        if key_pairs:
            await SshDoor.of(self._platform).open(self._platform)

    async def _request_workload(self, tx: Transaction, instance: Instance) -> None:
        # Always for its owner: who starts the notebook of another must not lend it rights of their own.
        resource, notebook = instance.resource, instance.notebook
        workload = await self._platform.workloads.request(
            tx,
            workload_spec(
                resource.project_id, resource.id, self._settings.start_timeout_s, ssh=bool(notebook.key_pairs)
            ),
            kind="notebook",
            flavor_id=notebook.flavor,
            resource_urn=resource.urn,
            project_id=resource.project_id,
            user_id=resource.owner_id,
            workspace_id=resource.workspace_id,
        )
        notebook.workload_id = workload.id
        tx.session.add(notebook)

    async def _stop(self, tx: Transaction, instance: Instance, reason: str) -> None:
        notebook = instance.notebook
        assert notebook.workload_id is not None  # a notebook that runs has one
        notebook.stop_reason = reason
        tx.session.add(notebook)
        await self._platform.resources.set_status(tx, instance.resource, STOPPING)
        await self._platform.workloads.stop(tx, notebook.workload_id)

    async def _locked(self, tx: Transaction, project_id: str, notebook_id: str) -> Instance:
        resource = await self._platform.resources.get(tx.session, KIND, project_id, notebook_id)
        await tx.session.refresh(resource, with_for_update=True)
        notebook = await tx.session.get(Notebook, notebook_id)
        assert notebook is not None  # written in the same transaction as its resource
        return Instance(resource, notebook)

    async def _of_workload(self, tx: Transaction, resource_urn: str, workload_id: str) -> Instance | None:
        """The notebook whose present workload this is."""
        urn = Urn.parse(resource_urn)
        if (urn.plugin, urn.kind) != (self._platform.name, KIND):
            return None
        resource = await tx.session.get(Resource, urn.id, with_for_update=True)
        notebook = await tx.session.get(Notebook, urn.id)
        if resource is None or notebook is None or notebook.workload_id != workload_id:
            return None
        return Instance(resource, notebook)

    @staticmethod
    def _demand(instance: Instance, states: Sequence[str], doing: str) -> None:
        resource = instance.resource
        if resource.status not in states:
            raise Conflict(
                f"notebook '{resource.name}' is {resource.status}; only {' or '.join(states)} can be {doing}"
            )


def _need_jupyter() -> None:
    if find_spec("jupyterlab") is None:
        raise Unavailable("JupyterLab is not installed here (pip install 'bottega[notebook]')")
