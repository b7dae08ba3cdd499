"""What happens to services by itself: workloads that start and end, reports of data planes, the time to stop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import structlog
from sqlmodel import col, select

from bottega.backends import WorkloadFinished, WorkloadStarted
from bottega.calls import ApiCalled
from bottega.context import now_ms
from bottega.database import Transaction
from bottega.errors import Conflict
from bottega.events import Received, uuid7
from bottega.platform import Platform
from bottega.urn import Urn
from bottega_serving.entities import Calls, Denials, Service, ServiceUpdate
from bottega_serving.events import CallsCounted, ServiceFailed, ServiceRunning, ServiceStopped
from bottega_serving.feed_keys import ACTION
from bottega_serving.services import LIVE, Services, note, service_urn

log = structlog.get_logger("bottega.serving.lifecycle")


def address(service: Service) -> str:
    """Where the service is called; empty while it is not."""
    return f"http://{service.endpoint}/v1/infers/{service.id}" if service.endpoint else ""


class Lifecycle:
    def __init__(self, platform: Platform, services: Services) -> None:
        self._platform = platform
        self._services = services

    async def started(self, received: Received[WorkloadStarted], tx: Transaction) -> None:
        service = await self._of_workload(received.event.kind, received.event.workload_id, tx)
        if service is None or service.status != "deploying":
            return
        service.endpoint = received.event.endpoints["http"]
        await self._services.set_status(tx, service, "running")
        note(tx, service, f"the service runs at {address(service)}")
        await self._settle_update(tx, service, service.revision, "SUCCESS")
        running = ServiceRunning(service_id=service.id, name=service.name, access_address=address(service))
        tx.emit(running, service_urn(service))

    async def finished(self, received: Received[WorkloadFinished], tx: Transaction) -> None:
        event = received.event
        service = await self._of_workload(event.kind, event.workload_id, tx)
        if service is None:
            return
        asked = service.status == "stopping" or event.state == "stopped"
        service.endpoint, service.workload_id = "", None
        if asked:
            await self._services.set_status(tx, service, "stopped")
            note(tx, service, "the service is stopped")
            tx.emit(ServiceStopped(service_id=service.id, name=service.name), service_urn(service))
            return
        service.error_msg = event.reason or "its process ended by itself"
        await self._services.set_status(tx, service, "failed")
        note(tx, service, service.error_msg, abnormal=True)
        await self._settle_update(tx, service, service.revision, "FAIL")
        failed = ServiceFailed(service_id=service.id, name=service.name, reason=service.error_msg)
        tx.emit(failed, service_urn(service))

    async def stop_due(self) -> None:
        """Stop every service whose time has come (002 §7.2.1, 自动停止)."""
        async with self._platform.database.read() as session:
            due = select(Service.id).where(col(Service.due_time) <= now_ms(), col(Service.status).in_(LIVE))
            ids = (await session.exec(due)).all()
        for id in ids:
            async with self._platform.database.transaction() as tx:
                service = await tx.session.get(Service, id, with_for_update=True)
                if service is None or service.due_time is None or service.due_time > now_ms():
                    continue
                note(tx, service, "the scheduled time to stop has come")
                try:
                    await self._services.stop(tx, service)
                except Conflict:
                    continue  # somebody stopped it meanwhile

    async def take_report(self, service_id: str, report: Mapping[str, Any]) -> None:
        """Count what a data plane reports beyond its last report, and follow its state."""
        async with self._platform.database.transaction() as tx:
            service = await tx.session.get(Service, service_id, with_for_update=True)
            if service is None:
                return
            for model_id, counts in report["counts"].items():
                await self._count(tx, service, report["epoch"], model_id, counts)
            await self._record_denials(tx, service, report)
            if service.status in ("running", "concerning") and report["versions"]:
                await self._follow(tx, service, report)

    async def _count(
        self, tx: Transaction, service: Service, epoch: str, model_id: str, counts: Mapping[str, Any]
    ) -> None:
        row = await tx.session.get(Calls, (service.id, model_id)) or Calls(service_id=service.id, model_id=model_id)
        if row.epoch != epoch:
            row.epoch, row.seen_calls, row.seen_failed, row.seen_seconds = epoch, 0, 0, 0.0
        calls, failed = counts["calls"] - row.seen_calls, counts["failed"] - row.seen_failed
        if calls <= 0:
            return
        row.count(calls, failed, now_ms())
        seconds = max(0.0, counts["seconds"] - row.seen_seconds)
        row.seen_calls, row.seen_failed, row.seen_seconds = counts["calls"], counts["failed"], counts["seconds"]
        tx.session.add(row)
        version = next((c["model_version"] for c in service.config if c["model_id"] == model_id), "")
        tx.emit(
            CallsCounted(
                service_id=service.id,
                model_id=model_id,
                model_version=version,
                calls=calls,
                failed=failed,
                seconds=seconds,
            ),
            service_urn(service),
        )

    async def _record_denials(self, tx: Transaction, service: Service, report: Mapping[str, Any]) -> None:
        """Give the audit trail what the data plane refused, as the gateway does for its own calls."""
        row = await tx.session.get(Denials, service.id) or Denials(service_id=service.id)
        seen = row.seen if row.epoch == report["epoch"] else 0
        fresh = [denial for denial in report["denials"] if denial["number"] > seen]
        if not fresh:
            return
        row.epoch, row.seen = report["epoch"], fresh[-1]["number"]
        tx.session.add(row)
        known = self._platform.action(ACTION)
        for denial in fresh:
            call = ApiCalled(
                request_id=uuid7(),
                method=denial["method"],
                path=denial["path"],
                status=denial["status"],
                action=ACTION,
                trace=known.trace if known else None,
                resource_type="service",
                resource=service_urn(service),
                resource_name=service.name,
                account_id=denial["account_id"] or service.account_id,
                user_id=denial["user_id"],
                user_name=denial["user_name"],
                source_ip=denial["source_ip"] or None,
                code=denial["code"],
                reason=denial["reason"],
                at=denial["at"],
            )
            tx.speaking_as("core").emit(call, Urn("core", service.project_id, "call", call.request_id))

    async def _follow(self, tx: Transaction, service: Service, report: Mapping[str, Any]) -> None:
        states = report["versions"]
        failures = [state["reason"] for state in states.values() if state["state"] == "failed"]
        if any(state["state"] == "loading" for state in states.values()):
            return
        await self._settle_update(tx, service, report["route_revision"], "FAIL" if failures else "SUCCESS")
        if report["route_revision"] != service.revision:
            return
        if failures and service.status == "running":
            service.error_msg = "; ".join(failures)
            await self._services.set_status(tx, service, "concerning")
            note(tx, service, service.error_msg, abnormal=True)
        elif not failures and service.status == "concerning":
            service.error_msg = ""
            await self._services.set_status(tx, service, "running")
            note(tx, service, "all versions of the service work")

    async def _settle_update(self, tx: Transaction, service: Service, revision: int, result: str) -> None:
        """Say how a configuration came out; those it overtook before they were reported share its fate."""
        here, waits = ServiceUpdate.service_id == service.id, ServiceUpdate.result == "RUNNING"
        overtaken = select(ServiceUpdate).where(here, waits, col(ServiceUpdate.revision) <= revision)
        for row in (await tx.session.exec(overtaken)).all():
            row.result = result
            tx.session.add(row)

    async def _of_workload(self, kind: str, workload_id: str, tx: Transaction) -> Service | None:
        if kind != "serving":
            return None
        query = select(Service).where(Service.workload_id == workload_id).with_for_update()
        return (await tx.session.exec(query)).first()
