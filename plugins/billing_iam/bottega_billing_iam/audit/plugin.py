"""The plugin `audit`: keeps who did what, allowed and denied, by listening. Nobody calls it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import typer
from fastapi import APIRouter

from bottega.bus import Bus
from bottega.hookspecs import hookimpl
from bottega.platform import Platform
from bottega.plugins import Action, Entities

from . import commands, routes
from .entities import Trace
from .events import ApiCalled
from .traces import on_called


@hookimpl
def bottega_entities() -> Entities:
    return Entities([Trace], Path(__file__).parent / "migrations")


@hookimpl
def bottega_actions() -> Iterable[Action]:
    return (Action("cts:trace:list", "Read the audit trail", "trace"),)


@hookimpl
def bottega_subscribe(bus: Bus) -> None:
    bus.on(ApiCalled, on_called)


@hookimpl
def bottega_routes(platform: Platform) -> APIRouter:
    return routes.router(platform)


@hookimpl
def bottega_commands(cli: typer.Typer) -> None:
    commands.add_to(cli)
