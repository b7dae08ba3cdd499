"""Training jobs: a script, data and an engine in; a model and its evaluation out."""

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
    from bottega_training.settings import TrainingSettings

    return TrainingSettings


@hookimpl
def bottega_extension_points() -> ModuleType:
    from bottega_training import extension_points

    return extension_points


@hookimpl
def bottega_entities() -> Entities:
    from bottega_training.entities import TrainingEvaluation, TrainingJob, TrainingNote

    return Entities([TrainingJob, TrainingNote, TrainingEvaluation], Path(__file__).parent / "migrations")


@hookimpl
def bottega_actions() -> Iterable[Action]:
    from bottega_training.routes import ACTIONS

    return ACTIONS


@hookimpl
def bottega_quotas(platform: Platform) -> Iterable[Quota]:
    return [Quota("job", platform.settings.max_jobs, "training jobs")]


@hookimpl
def bottega_events() -> Iterable[type[Event]]:
    from bottega_training.events import EVENTS

    return EVENTS


@hookimpl
def bottega_subscribe(bus: Bus, platform: Platform) -> None:
    from bottega_training.engines import Engines
    from bottega_training.lifecycle import Lifecycle

    Lifecycle(platform, Engines.of(platform)).subscribe(bus)


@hookimpl
def bottega_routes(platform: Platform) -> APIRouter:
    from bottega_training import routes
    from bottega_training.engines import Engines

    return routes.router(platform, Engines.of(platform))


@hookimpl
def bottega_answers() -> Path:
    return Path(__file__).parent / "answers.json"


@hookimpl
def bottega_plans(platform: Platform) -> Iterable[Planner]:
    from bottega.plans import Planner
    from bottega_training.engines import Engines
    from bottega_training.planner import CREATE, JobPlanner
    from bottega_training.requests import JobRequest

    planner = JobPlanner(platform, Engines.of(platform))
    return [Planner("/v2/{project_id}/training-jobs", CREATE, JobRequest, planner.plan)]


@hookimpl
def bottega_commands(cli: typer.Typer) -> None:
    from bottega_training import commands

    cli.add_typer(commands.app, name="jobs")
