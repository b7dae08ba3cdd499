"""Training jobs: a script, data and an engine in; a model and its evaluation out."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

import typer
from fastapi import APIRouter
from pydantic import BaseModel

from bottega.bus import Bus
from bottega.events import Event
from bottega.hookspecs import hookimpl
from bottega.platform import Platform
from bottega.plugins import Action, Entities
from bottega_training import commands, extension_points, routes
from bottega_training.engines import Engines
from bottega_training.entities import TrainingEvaluation, TrainingJob, TrainingNote
from bottega_training.events import EVENTS
from bottega_training.lifecycle import Lifecycle
from bottega_training.settings import TrainingSettings


@hookimpl
def bottega_settings() -> type[BaseModel]:
    return TrainingSettings


@hookimpl
def bottega_extension_points() -> ModuleType:
    return extension_points


@hookimpl
def bottega_entities() -> Entities:
    return Entities([TrainingJob, TrainingNote, TrainingEvaluation], Path(__file__).parent / "migrations")


@hookimpl
def bottega_actions() -> Iterable[Action]:
    return routes.ACTIONS


@hookimpl
def bottega_events() -> Iterable[type[Event]]:
    return EVENTS


@hookimpl
def bottega_subscribe(bus: Bus, platform: Platform) -> None:
    Lifecycle(platform, _engines(platform)).subscribe(bus)


@hookimpl
def bottega_routes(platform: Platform) -> APIRouter:
    return routes.router(platform, _engines(platform))


@hookimpl
def bottega_commands(cli: typer.Typer) -> None:
    cli.add_typer(commands.app, name="jobs")


def _engines(platform: Platform) -> Engines:
    return Engines(platform.extensions("bottega_training_engines"))
