"""Real-time services: deployed as workloads, updated while they run (002 §7.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import structlog
from sqlmodel import col, delete, select

from bottega.backends import WorkloadSpec
from bottega.context import now_ms
from bottega.database import AsyncSession, Transaction
from bottega.entities import Resource
from bottega.errors import Conflict, Invalid, NotFound
from bottega.platform import Platform
from bottega.urn import Urn, new_id
from bottega_serving import feed_keys
from bottega_serving.entities import Calls, Denials, Deployment, Model, Service, ServiceEvent, ServiceUpdate
from bottega_serving.events import ServiceChanged, ServiceDeleted
from bottega_serving.models import Models, model_urn
from bottega_serving.runtimes import Runtimes
from bottega_serving.service_requests import (
    CreateService,
    ServiceConfig,
    UpdateService,
    as_rows,
    check_description,
    check_service_name,
    check_versions,
    due_time,
)

log = structlog.get_logger("bottega.serving.services")

LIVE = ("deploying", "running", "concerning")
"""The states in which a data plane runs, or is about to."""


def service_urn(service: Service) -> str:
    return str(Urn("serving", service.project_id, "service", service.id))


class Services:
    def __init__(self, platform: Platform, models: Models, runtimes: Runtimes) -> None:
        self._platform = platform
        self._models = models
        self._runtimes = runtimes

    async def create(self, request: CreateService, project_id: str, account_id: str, owner_id: str) -> Service:
        """Register a service and ask for its data plane.

        Raises Invalid, NotFound for a model, Conflict for a taken name or a model that is not ready, QuotaExceeded.
        """
        self.check(request)
        service = Service(
            id=new_id(),
            project_id=project_id,
            workspace_id=request.workspace_id,
            account_id=account_id,
            owner_id=owner_id,
            name=request.service_name,
            description=request.description,
            status="deploying",
            schedule=[entry.model_dump() for entry in request.schedule],
            due_time=due_time(request.schedule),
        )
        async with self._platform.database.transaction() as tx:
            models = await self._deployable(tx.session, project_id, request.config)
            await self._platform.resources.create(
                tx,
                kind="service",
                project_id=project_id,
                owner_id=owner_id,
                name=service.name,
                status=service.status,
                workspace_id=request.workspace_id,
                description=request.description,
                id=service.id,
            )
            tx.session.add(service)
            await tx.session.flush()
            await self._configure(tx, service, request.config, models)
            await self._deploy(tx, service)
        return service

    def check(self, request: CreateService) -> None:
        """Raises Invalid for a request that no state of the platform makes right."""
        check_service_name(request.service_name)
        check_description(request.description)
        if request.infer_type != "real-time":
            raise Invalid(f"infer_type '{request.infer_type}' is not offered here; write real-time")
        self._check(request.config)

    async def update(self, project_id: str, service_id: str, request: UpdateService) -> Service:
        """Change a service; with `status` only that, as the vendor's API says. Raises Invalid, NotFound, Conflict."""
        if request.description is not None:
            check_description(request.description)
        if request.config is not None:
            self._check(request.config)
        async with self._platform.database.transaction() as tx:
            service = await self.get(tx.session, project_id, service_id, lock=True)
            if request.description is not None:
                service.description = request.description
            if request.schedule is not None:
                service.due_time = due_time(request.schedule)
                service.schedule = [entry.model_dump() for entry in request.schedule]
            if request.status == "stopped":
                await self.stop(tx, service)
            elif request.status == "running":
                await self._start(tx, service)
            elif request.config is not None:
                models = await self._deployable(tx.session, project_id, request.config)
                if service.status not in ("stopped", "failed", *LIVE):
                    raise Conflict(f"service '{service.name}' is {service.status}; wait until it is stopped")
                live = service.status in LIVE
                if live and request.config[0].specification != service.config[0]["specification"]:
                    raise Conflict("a running service keeps its specification; stop it to change that")
                await self._configure(tx, service, request.config, models)
            tx.session.add(service)
        return service

    async def stop(self, tx: Transaction, service: Service) -> None:
        """Raises Conflict for a service that is stopped or stopping."""
        if service.status not in LIVE:
            raise Conflict(f"service '{service.name}' is {service.status}; there is nothing to stop")
        assert service.workload_id is not None
        await self.set_status(tx, service, "stopping")
        service.due_time = None
        note(tx, service, "the service is asked to stop")
        await self._platform.workloads.stop(tx, service.workload_id)

    async def _start(self, tx: Transaction, service: Service) -> None:
        if service.status not in ("stopped", "failed"):
            raise Conflict(f"service '{service.name}' is {service.status}; only a stopped or failed one can be started")
        service.revision += 1
        service.error_msg = ""
        await self.set_status(tx, service, "deploying")
        tx.session.add(ServiceUpdate(service_id=service.id, revision=service.revision, config=service.config))
        tx.emit(ServiceChanged(service_id=service.id, revision=service.revision), service_urn(service))
        await self._deploy(tx, service)

    async def delete(self, project_id: str, service_id: str) -> None:
        """Stop and forget a service. Raises NotFound."""
        async with self._platform.database.transaction() as tx:
            service = await self.get(tx.session, project_id, service_id, lock=True)
            if service.workload_id:
                await self._platform.workloads.stop(tx, service.workload_id)
            for table in (Deployment, ServiceUpdate, ServiceEvent, Calls, Denials):
                await tx.session.exec(delete(table).where(col(table.service_id) == service.id))
            await tx.session.delete(service)
            await self._platform.resources.delete(tx, await self._resource(tx.session, service))
            tx.emit(ServiceDeleted(service_id=service.id), service_urn(service))

    async def get(self, session: AsyncSession, project_id: str, service_id: str, *, lock: bool = False) -> Service:
        """Raises NotFound when it is not there or belongs to another project."""
        service = await session.get(Service, service_id, with_for_update=lock or None)
        if service is None or service.project_id != project_id:
            raise NotFound(f"there is no service '{service_id}' in this project")
        return service

    async def page(
        self,
        session: AsyncSession,
        project_id: str,
        *,
        service_id: str | None = None,
        name: str | None = None,
        model_id: str | None = None,
        workspace_id: str | None = None,
        status: str | None = None,
        sort_by: str = "publish_at",
        ascending: bool = False,
        offset: int = 0,
        limit: int = 1000,
    ) -> tuple[int, Sequence[Service]]:
        """One page and the number of all matches."""
        found: list[Any] = [
            Service.project_id == project_id,
            self._platform.resources.visible(Service.workspace_id),
        ]
        for column, wanted in (
            (Service.id, service_id),
            (Service.status, status),
            (Service.workspace_id, workspace_id),
        ):
            if wanted:
                found.append(col(column) == wanted)
        if name:
            found.append(col(Service.name).contains(name, autoescape=True))
        if model_id:
            found.append(col(Service.id).in_(select(Deployment.service_id).where(Deployment.model_id == model_id)))
        keys: dict[str, Any] = {
            "publish_at": Service.published_at,
            "service_name": Service.name,
            "transition_at": Service.transition_at,
        }
        key = col(keys.get(sort_by, Service.published_at))
        order = (key.asc(), col(Service.id).asc()) if ascending else (key.desc(), col(Service.id).desc())
        ids = (await session.exec(select(Service.id).where(*found))).all()
        rows = await session.exec(select(Service).where(*found).order_by(*order).offset(offset).limit(limit))
        return len(ids), rows.all()

    async def set_status(self, tx: Transaction, service: Service, status: str) -> None:
        service.status, service.transition_at = status, now_ms()
        tx.session.add(service)
        await self._platform.resources.set_status(tx, await self._resource(tx.session, service), status)

    async def _resource(self, session: AsyncSession, service: Service) -> Resource:
        return await self._platform.resources.get(session, "service", service.project_id, service.id)

    def _check(self, config: list[ServiceConfig]) -> None:
        check_versions(config, self._platform.settings.max_versions)
        self._platform.workloads.flavor(config[0].specification, "serving")

    async def _deployable(
        self, session: AsyncSession, project_id: str, config: list[ServiceConfig]
    ) -> dict[str, Model]:
        """Raises NotFound, Conflict for a model that is not published, Invalid for one no runtime is there for."""
        models = {}
        for entry in config:
            model = await self._models.get(session, project_id, entry.model_id)
            if model.status != "published":
                raise Conflict(
                    f"model {model.name} {model.version} is {model.status}; only a published one can be deployed"
                )
            self._runtimes.of(model.model_type)
            models[model.id] = model
        return models

    async def _configure(
        self, tx: Transaction, service: Service, config: list[ServiceConfig], models: dict[str, Model]
    ) -> None:
        service.revision += 1
        service.updated_at = now_ms()
        service.config = [
            {**row, "model_name": models[row["model_id"]].name, "model_version": models[row["model_id"]].version}
            for row in as_rows(config)
        ]
        tx.session.add(service)
        tx.session.add(ServiceUpdate(service_id=service.id, revision=service.revision, config=service.config))
        await tx.session.exec(delete(Deployment).where(col(Deployment.service_id) == service.id))
        for model in models.values():
            tx.session.add(Deployment(service_id=service.id, model_id=model.id))
            await self._platform.resources.link(tx, model_urn(model), service_urn(service), "serves")
        shares = ", ".join(f"{row['model_name']} {row['model_version']} {row['weight']} %" for row in service.config)
        note(tx, service, f"configured: {shares}")
        tx.emit(ServiceChanged(service_id=service.id, revision=service.revision), service_urn(service))

    async def _deploy(self, tx: Transaction, service: Service) -> None:
        settings = self._platform.settings
        proxies = self._platform.shared.plugins.settings.server.trusted_proxies
        rights = feed_keys.permissions(service.id)
        spec = WorkloadSpec(
            command=["{python}", "-P", "-m", "bottega_serving.dataplane"],
            environment={
                "BOTTEGA_SERVING_SERVICE": service.id,
                "BOTTEGA_SERVING_PORT": "{port:http}",
                "BOTTEGA_SERVING_MAX_BODY": str(settings.max_body_mb << 20),
                "BOTTEGA_SERVING_TRUSTED_PROXIES": " ".join(proxies),
            },
            ports=["http"],
            readiness="http:/healthz",
            readiness_timeout_s=60 + settings.load_timeout_s * len(service.config),
            nats_publish=list(rights.publish),
            nats_subscribe=list(rights.subscribe),
        )
        workload = await self._platform.workloads.request(
            tx,
            spec,
            kind="serving",
            flavor_id=service.config[0]["specification"],
            resource_urn=service_urn(service),
            project_id=service.project_id,
            user_id=service.owner_id,
            workspace_id=service.workspace_id,
        )
        service.workload_id, service.endpoint = workload.id, ""
        service.published_at = now_ms()
        tx.session.add(service)
        note(tx, service, "the service is being deployed")


def note(tx: Transaction, service: Service, text: str, *, abnormal: bool = False) -> None:
    """Add to what the owner reads under the service's events."""
    kind = "abnormal" if abnormal else "normal"
    tx.session.add(ServiceEvent(service_id=service.id, event_type=kind, event_info=text))
