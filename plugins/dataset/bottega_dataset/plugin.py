"""The plugin ``dataset``: datasets, labels, import, versions, export."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from types import ModuleType

import typer
from fastapi import APIRouter

from bottega.bus import Bus
from bottega.events import Event
from bottega.hookspecs import hookimpl
from bottega.platform import Platform
from bottega.plugins import Action, Entities
from bottega_dataset import extension_points, routes
from bottega_dataset.entities import TABLES
from bottega_dataset.events import EVENTS, TaskFinished, TaskRequested
from bottega_dataset.exports import Exports
from bottega_dataset.extension_points import DatasetType, Importer
from bottega_dataset.import_folder import ImageFolderImporter, TextFolderImporter
from bottega_dataset.import_manifest import ManifestImporter
from bottega_dataset.imports import Imports
from bottega_dataset.kinds import Kinds
from bottega_dataset.settings import DatasetSettings
from bottega_dataset.tasks import Tasks
from bottega_dataset.types import ImageClassification, TextClassification
from bottega_dataset.versions import Publishing


@hookimpl
def bottega_settings() -> type[DatasetSettings]:
    return DatasetSettings


@hookimpl
def bottega_extension_points() -> ModuleType:
    return extension_points


@hookimpl
def bottega_dataset_types() -> Iterable[DatasetType]:
    return [ImageClassification(), TextClassification()]


@hookimpl
def bottega_dataset_importers() -> Iterable[Importer]:
    return [ImageFolderImporter(), TextFolderImporter(), ManifestImporter()]


@hookimpl
def bottega_entities() -> Entities:
    return Entities(TABLES, Path(__file__).parent / "migrations")


@hookimpl
def bottega_actions() -> Iterable[Action]:
    return routes.ACTIONS


@hookimpl
def bottega_events() -> Iterable[type[Event]]:
    return EVENTS


@hookimpl
def bottega_subscribe(bus: Bus, platform: Platform) -> None:
    kinds = Kinds.of_platform(platform)
    publishing = Publishing(platform, kinds)
    bus.on_external(TaskRequested, _tasks(platform, kinds, publishing).handle)
    bus.on(TaskFinished, publishing.on_finished)


@hookimpl
def bottega_routes(platform: Platform) -> APIRouter:
    return routes.router(platform)


@hookimpl
def bottega_lifespan(platform: Platform) -> AbstractAsyncContextManager[None]:
    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        kinds = Kinds.of_platform(platform)
        await _tasks(platform, kinds, Publishing(platform, kinds)).resume()
        yield

    return lifespan()


@hookimpl
def bottega_commands(cli: typer.Typer) -> None:
    from bottega_dataset.commands import datasets

    cli.add_typer(datasets, name="datasets")


def _tasks(platform: Platform, kinds: Kinds, publishing: Publishing) -> Tasks:
    performers = {
        "import": Imports(platform, kinds).perform,
        "export": Exports(platform, kinds).perform,
        "publish": publishing.perform,
    }
    return Tasks(platform.database, performers, platform.settings.problems_kept)
