"""Plugin ``conversion``: model conversion tasks, each checked against its source (002 §6.8)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from bottega.hookspecs import hookimpl
from bottega.plugins import Action, Entities, Quota

if TYPE_CHECKING:
    import typer
    from fastapi import APIRouter
    from pydantic import BaseModel

    from bottega.bus import Bus
    from bottega.events import Event
    from bottega.plans import Planner
    from bottega.platform import Platform


@hookimpl
def bottega_settings() -> type[BaseModel]:
    from bottega_conversion.settings import ConversionSettings

    return ConversionSettings


@hookimpl
def bottega_extension_points() -> ModuleType:
    from bottega_conversion import hookspecs

    return hookspecs


@hookimpl
def bottega_entities() -> Entities:
    from bottega_conversion.entities import ConversionTask

    return Entities([ConversionTask], Path(__file__).parent / "migrations")


@hookimpl
def bottega_actions() -> Iterable[Action]:
    return (
        Action("modelarts:convertTemplate:list", "See the conversion templates"),
        Action("modelarts:convert:create", "Create a model conversion task", "convert", "addConvert"),
        Action("modelarts:convert:list", "List conversion tasks"),
        Action("modelarts:convert:get", "See a conversion task, its report and its log"),
        Action("modelarts:convert:stop", "Stop a conversion task", "convert", "updateConvert"),
        Action("modelarts:convert:delete", "Delete a conversion task", "convert", "deleteConvert"),
    )


@hookimpl
def bottega_quotas(platform: Platform) -> Iterable[Quota]:
    return [Quota("task", platform.settings.max_tasks, "conversion tasks")]


@hookimpl
def bottega_events() -> Iterable[type[Event]]:
    from bottega_conversion.events import TaskCompleted, TaskFailed, TaskStopped, TaskSubmitted

    return (TaskSubmitted, TaskCompleted, TaskFailed, TaskStopped)


@hookimpl
def bottega_subscribe(bus: Bus, platform: Platform) -> None:
    from bottega.backends import WorkloadFinished, WorkloadStarted
    from bottega_conversion.service import Conversions

    conversions = Conversions(platform)
    bus.on(WorkloadStarted, conversions.on_started)
    bus.on_external(WorkloadFinished, conversions.on_finished)


@hookimpl
def bottega_routes(platform: Platform) -> APIRouter:
    from bottega_conversion import routes
    from bottega_conversion.planner import ConversionPlanner
    from bottega_conversion.service import Conversions

    converters = platform.extensions("bottega_conversion_converters")
    return routes.router(Conversions(platform), ConversionPlanner(platform, converters))


@hookimpl
def bottega_plans(platform: Platform) -> Iterable[Planner]:
    from bottega.plans import Planner
    from bottega_conversion.planner import CREATE, ConversionPlanner
    from bottega_conversion.requests import ConversionRequest

    planner = ConversionPlanner(platform, platform.extensions("bottega_conversion_converters"))
    return [Planner("/v2/{project_id}/conversions", CREATE, ConversionRequest, planner.plan)]


@hookimpl
def bottega_commands(cli: typer.Typer) -> None:
    from bottega_conversion import commands

    cli.add_typer(commands.app, name="conversions")
