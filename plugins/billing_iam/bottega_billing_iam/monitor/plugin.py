"""The plugin `monitor`: measures what runs, keeps alarm rules, and tells topics when a threshold is crossed."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bottega.hookspecs import hookimpl
from bottega.plugins import Action, Entities

if TYPE_CHECKING:
    import typer
    from fastapi import APIRouter
    from pydantic import BaseModel

    from bottega.bus import Bus
    from bottega.events import Event
    from bottega.platform import Platform


@hookimpl
def bottega_settings() -> type[BaseModel]:
    from .settings import MonitorSettings

    return MonitorSettings


@hookimpl
def bottega_entities() -> Entities:
    from .entities import AlarmRule, Point

    return Entities([Point, AlarmRule], Path(__file__).parent / "migrations")


@hookimpl
def bottega_events() -> Iterable[type[Event]]:
    from .events import AlarmCleared, AlarmRaised

    return (AlarmRaised, AlarmCleared)


@hookimpl
def bottega_actions() -> Iterable[Action]:
    return (
        Action("ces:alarms:create", "Make an alarm rule", "alarm"),
        Action("ces:alarms:list", "List alarm rules", "alarm"),
        Action("ces:alarms:get", "See an alarm rule", "alarm"),
        Action("ces:alarms:put", "Change an alarm rule", "alarm"),
        Action("ces:alarmsOnOff:put", "Switch an alarm rule on or off", "alarm"),
        Action("ces:alarms:delete", "Delete an alarm rule", "alarm"),
        Action("ces:metrics:list", "See what is measured", "metric"),
        Action("ces:metricData:list", "See what was measured", "metric"),
    )


@hookimpl
def bottega_subscribe(bus: Bus, platform: Platform) -> None:
    from .events import CallsCounted
    from .sampling import on_calls

    bus.on(CallsCounted, on_calls)


@hookimpl
def bottega_routes(platform: Platform) -> APIRouter:
    from .routes import router

    return router(platform)


@hookimpl
def bottega_lifespan(platform: Platform) -> AbstractAsyncContextManager[Any]:
    from .watching import watching

    return watching(platform)


@hookimpl
def bottega_commands(cli: typer.Typer) -> None:
    from . import commands

    commands.add_to(cli)
