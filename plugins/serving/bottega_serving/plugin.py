"""The plugin ``serving``: models and real-time services."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from bottega.hookspecs import hookimpl
from bottega.plugins import Action, Entities, Quota

if TYPE_CHECKING:
    import typer
    from fastapi import APIRouter
    from pydantic import BaseModel
    from sqlmodel import SQLModel

    from bottega.bus import Bus
    from bottega.events import Event
    from bottega.plans import Planner
    from bottega.platform import Platform


@hookimpl
def bottega_settings() -> type[BaseModel]:
    from bottega_serving.settings import ServingSettings

    return ServingSettings


@hookimpl
def bottega_extension_points() -> ModuleType:
    from bottega_serving import extension_points

    return extension_points


@hookimpl
def bottega_entities() -> Entities:
    from bottega_serving import entities

    tables: list[type[SQLModel]] = [
        entities.Model,
        entities.Service,
        entities.Deployment,
        entities.ServiceUpdate,
        entities.ServiceEvent,
        entities.Calls,
        entities.Denials,
    ]
    return Entities(tables, Path(__file__).parent / "migrations")


@hookimpl
def bottega_actions() -> Iterable[Action]:
    from bottega_serving.feed_keys import ACTION

    return (
        Action("modelarts:model:create", "importing a model", "model", "addModel"),
        Action("modelarts:model:list", "listing models and runtimes", "model"),
        Action("modelarts:model:get", "seeing a model", "model"),
        Action("modelarts:model:delete", "deleting a model", "model", "deleteModel"),
        Action("modelarts:service:create", "deploying a service", "service", "addService", spends=True),
        Action("modelarts:service:list", "listing services and their specifications", "service"),
        Action("modelarts:service:get", "seeing a service", "service"),
        Action("modelarts:service:update", "changing, starting and stopping a service", "service", "updateService"),
        Action("modelarts:service:delete", "deleting a service", "service", "deleteService"),
        Action("modelarts:service:getLogs", "reading what a service prints", "service"),
        Action(ACTION, "calling a service for a prediction", "service"),
    )


@hookimpl
def bottega_quotas(platform: Platform) -> Iterable[Quota]:
    # Batch and edge services are counted as soon as somebody makes them (002 §7).
    others = [Quota(f"{kind}-service", 1000, f"{kind} services") for kind in ("batch", "edge")]
    return [Quota("service", platform.settings.max_services, "real-time services"), *others]


@hookimpl
def bottega_events() -> Iterable[type[Event]]:
    from bottega_serving.events import EVENTS

    return EVENTS


@hookimpl
def bottega_subscribe(bus: Bus, platform: Platform) -> None:
    from bottega.backends import WorkloadFinished, WorkloadStarted
    from bottega_serving import events
    from bottega_serving.assembly import Assembly

    parts = Assembly.of(platform)
    bus.on_external(events.ModelSubmitted, parts.models.copy)
    bus.on_external(events.ModelDeleted, parts.models.remove_files)
    bus.on_external(events.ServiceChanged, parts.publisher.changed)
    bus.on_external(events.ServiceDeleted, parts.publisher.deleted)
    bus.on_external(WorkloadFinished, parts.publisher.ended)
    bus.on(WorkloadStarted, parts.lifecycle.started)
    bus.on(WorkloadFinished, parts.lifecycle.finished)


@hookimpl
def bottega_routes(platform: Platform) -> APIRouter:
    from bottega_serving.assembly import Assembly

    return Assembly.of(platform).router()


@hookimpl
def bottega_answers() -> Path:
    return Path(__file__).parent / "answers.json"


@hookimpl
def bottega_plans(platform: Platform) -> Iterable[Planner]:
    from bottega.plans import Planner
    from bottega_serving.assembly import Assembly
    from bottega_serving.model_routes import CreateModel
    from bottega_serving.planner import CREATE_MODEL, CREATE_SERVICE
    from bottega_serving.service_requests import CreateService

    planner = Assembly.of(platform).planner
    return (
        Planner("/v1/{project_id}/services", CREATE_SERVICE, CreateService, planner.service),
        Planner("/v1/{project_id}/models", CREATE_MODEL, CreateModel, planner.model),
    )


@hookimpl
def bottega_lifespan(platform: Platform) -> AbstractAsyncContextManager[Any]:
    from bottega_serving.assembly import Assembly

    return Assembly.of(platform).publisher.running()


@hookimpl
def bottega_commands(cli: typer.Typer) -> None:
    from bottega_serving import commands

    commands.add_to(cli)
