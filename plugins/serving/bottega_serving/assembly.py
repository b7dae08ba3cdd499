"""How the parts of this plugin are put together."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import APIRouter

from bottega.platform import Platform
from bottega.routing import Router, join
from bottega.tags import tag_routes
from bottega_serving.lifecycle import Lifecycle
from bottega_serving.model_routes import model_router
from bottega_serving.models import Models
from bottega_serving.planner import ServingPlanner
from bottega_serving.publishing import Publisher
from bottega_serving.runtimes import Runtimes
from bottega_serving.service_routes import service_router
from bottega_serving.services import Services


@dataclass(frozen=True)
class Assembly:
    """The parts over one platform. They keep nothing between calls, so each hook may have its own."""

    platform: Platform
    runtimes: Runtimes
    models: Models
    services: Services
    planner: ServingPlanner
    lifecycle: Lifecycle
    publisher: Publisher

    @classmethod
    def of(cls, platform: Platform) -> Assembly:
        runtimes = Runtimes(platform.extensions("bottega_serving_runtimes"))
        models = Models(platform, runtimes)
        services = Services(platform, models, runtimes)
        planner = ServingPlanner(models, services)
        lifecycle = Lifecycle(platform, services)
        publisher = Publisher(platform, runtimes, lifecycle)
        return cls(platform, runtimes, models, services, planner, lifecycle, publisher)

    def router(self) -> APIRouter:
        return join(
            Router(),
            model_router(self.platform, self.models, self.runtimes, self.planner),
            service_router(self.platform, self.services, self.planner),
            tag_routes(
                self.platform,
                "/v2/{project_id}/modelarts-service-v2",
                "service",
                listing="modelarts:service:list",
                reading="modelarts:service:get",
                changing="modelarts:service:update",
            ),
        )
