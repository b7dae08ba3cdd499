"""What a model or a service will use and need over its whole life, told before there is one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bottega.errors import Invalid
from bottega.gateway import Caller
from bottega.objects import ObjectPath
from bottega.plans import Need, Plan, Use
from bottega.urn import Urn
from bottega_serving.models import Models
from bottega_serving.service_requests import CreateService, ServiceConfig
from bottega_serving.services import Services

if TYPE_CHECKING:
    from bottega_serving.model_routes import CreateModel

CREATE_MODEL, CREATE_SERVICE = "modelarts:model:create", "modelarts:service:create"


class ServingPlanner:
    def __init__(self, models: Models, services: Services) -> None:
        self._models = models
        self._services = services

    async def service(self, caller: Caller, body: CreateService) -> Plan:
        """Raises Invalid as the creation would. All versions of a service share one machine."""
        self._services.check(body)
        mine = str(Urn("serving", caller.project_id, "service", "*"))
        needs = (
            Need(CREATE_SERVICE, f"bottega:serving:{caller.project_id}:*", "the service is deployed"),
            Need("modelarts:service:get", mine, "the service is found again"),
            Need("modelarts:service:update", mine, "the service is stopped when it shall cost no more"),
            *served_models(caller.project_id, body.config),
        )
        return Plan((Use("serving", body.config[0].specification),), needs, body.workspace_id)

    async def model(self, caller: Caller, body: CreateModel) -> Plan:
        """Raises Invalid, or NotFound for a training job that is not there."""
        source = await self.source(caller, body)
        needs = (
            Need(CREATE_MODEL, f"bottega:serving:{caller.project_id}:*", "the model is imported"),
            Need("modelarts:model:get", str(Urn("serving", caller.project_id, "model", "*")), "the model is used"),
            *Need.path(source.folder, "the package of the model is read"),
        )
        return Plan(needs=needs, workspace_id=body.workspace_id)

    async def source(self, caller: Caller, body: CreateModel) -> ObjectPath:
        """Where the package of a model is. Raises Invalid, or NotFound for a training job that is not there."""
        if (body.source_location is None) == (body.source_job_id is None):
            raise Invalid("give source_location (a folder) or source_job_id (a training job), and not both")
        if body.source_job_id is not None:
            return await self._models.source_of_job(caller.project_id, body.source_job_id)
        return ObjectPath.parse(body.source_location or "", "source_location")


def served_models(project_id: str, config: Sequence[ServiceConfig]) -> list[Need]:
    """A model's right to be served. Its files are the platform's own copy, so no right on storage is asked for."""
    urns = [str(Urn("serving", project_id, "model", entry.model_id)) for entry in config]
    return [Need("modelarts:model:get", urn, "the model is served") for urn in urns]
