"""The plugin ``dataset``: datasets, labels, import, versions, export."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
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
    from bottega_dataset.extension_points import Importer


@hookimpl
def bottega_settings() -> type[BaseModel]:
    from bottega_dataset.settings import DatasetSettings

    return DatasetSettings


@hookimpl
def bottega_extension_points() -> ModuleType:
    from bottega_dataset import extension_points

    return extension_points


@hookimpl
def bottega_dataset_importers() -> Iterable[Importer]:
    from bottega_dataset.import_manifest import ManifestImporter
    from bottega_dataset.import_objects import ObjectFolderImporter

    return [ObjectFolderImporter(), ManifestImporter()]


@hookimpl
def bottega_entities() -> Entities:
    from bottega_dataset.entities import TABLES
    from bottega_dataset.processing import entities as processing
    from bottega_dataset.team import entities as team

    return Entities([*TABLES, *processing.TABLES, *team.TABLES], Path(__file__).parent / "migrations")


@hookimpl
def bottega_actions() -> Iterable[Action]:
    from bottega_dataset.routes import ACTIONS

    return ACTIONS


@hookimpl
def bottega_quotas(platform: Platform) -> Iterable[Quota]:
    settings = platform.settings
    return [
        Quota("dataset", settings.max_datasets, "datasets"),
        Quota("processor-task", settings.max_processor_tasks, "processing tasks"),
    ]


@hookimpl
def bottega_events() -> Iterable[type[Event]]:
    from bottega_dataset.events import EVENTS
    from bottega_dataset.team.events import TEAM_EVENTS

    return (*EVENTS, *TEAM_EVENTS)


@hookimpl
def bottega_subscribe(bus: Bus, platform: Platform) -> None:
    from bottega.backends import WorkloadFinished, WorkloadStarted
    from bottega_dataset.assembly import Assembly
    from bottega_dataset.events import DatasetDeleted, ProcessingRequested, SamplesUploaded, TaskFinished, TaskRequested
    from bottega_dataset.sync import ObjectsRemoved, ObjectsWritten
    from bottega_dataset.team.assembly import Teams
    from bottega_dataset.team.events import TeamMailRequested

    parts = Assembly.of(platform)
    bus.on_external(ProcessingRequested, parts.preparation.on_requested)
    bus.on(WorkloadStarted, parts.settlement.on_started)
    bus.on_external(WorkloadFinished, parts.settlement.on_finished)
    bus.on_external(TeamMailRequested, Teams.of(platform).mails.send)
    bus.on_external(TaskRequested, parts.tasks.handle)
    bus.on_external(ObjectsWritten, parts.watch.on_written)
    bus.on_external(ObjectsRemoved, parts.watch.on_removed)
    bus.on(TaskFinished, parts.publishing.on_finished)
    bus.on(TaskFinished, parts.allocating.on_finished)
    bus.on(TaskFinished, parts.watch.on_finished)
    bus.on(SamplesUploaded, parts.allocating.on_uploaded)
    bus.on_external(TaskFinished, parts.exports.on_finished)
    bus.on(WorkloadFinished, parts.intelligent.on_finished)
    bus.on(DatasetDeleted, parts.intelligent.on_dataset_deleted)


@hookimpl
def bottega_routes(platform: Platform) -> APIRouter:
    from bottega_dataset import routes

    return routes.router(platform)


@hookimpl
def bottega_plans(platform: Platform) -> Iterable[Planner]:
    from bottega_dataset.planner import planners

    return planners(platform)


@hookimpl
def bottega_lifespan(platform: Platform) -> AbstractAsyncContextManager[None]:
    from bottega_dataset.assembly import Assembly

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        parts = Assembly.of(platform)
        await parts.tasks.resume()
        await parts.preparation.resume()
        yield

    return lifespan()


@hookimpl
def bottega_commands(cli: typer.Typer) -> None:
    from bottega_dataset import commands
    from bottega_dataset.intelligent.commands import add_to
    from bottega_dataset.processing import commands as processing
    from bottega_dataset.team import commands as team

    add_to(commands.datasets)
    processing.add_to(commands.datasets)
    cli.add_typer(commands.datasets, name="datasets")
    cli.add_typer(team.teams, name="teams")
