"""Announce every finished training job."""

from collections.abc import Iterable

import typer
from fastapi import APIRouter

from bottega.bus import Bus
from bottega.cli_support import connect, show
from bottega.database import Transaction
from bottega.events import Event, Received
from bottega.gateway import Caller, requires
from bottega.hookspecs import hookimpl
from bottega.platform import Platform
from bottega.plugins import Action
from bottega.settings import Section


class Settings(Section):
    greeting: str = "well done"


class JobCompleted(Event, type="training.job.completed.v1"):
    """What this plugin reads of the training plugin's event."""

    name: str


class JobGreeted(Event, type="hello.job.greeted.v1"):
    """A finished job was announced."""

    text: str


@hookimpl
def bottega_settings() -> type[Settings]:
    return Settings


@hookimpl
def bottega_events() -> Iterable[type[Event]]:
    return [JobGreeted]


@hookimpl
def bottega_actions() -> Iterable[Action]:
    return [Action("hello:greeting:get", "Ask for the greeting of a job")]


@hookimpl
def bottega_subscribe(bus: Bus, platform: Platform) -> None:
    async def greet(received: Received[JobCompleted], tx: Transaction) -> None:
        text = f"{received.event.name}: {platform.settings.greeting}"
        tx.emit(JobGreeted(text=text), received.urn)

    bus.on(JobCompleted, greet)


@hookimpl
def bottega_routes(platform: Platform) -> APIRouter:
    router = APIRouter()

    @router.get("/v1/{project_id}/hello/{name}")
    async def hello(name: str, caller: Caller = requires("hello:greeting:get", "greeting/{name}")) -> dict[str, str]:
        return {"text": f"{name}: {platform.settings.greeting}"}

    return router


@hookimpl
def bottega_commands(cli: typer.Typer) -> None:
    @cli.command()
    def hello(name: str) -> None:
        """Show the greeting of a job."""
        show(connect().get(f"/v1/{{project_id}}/hello/{name}"))
