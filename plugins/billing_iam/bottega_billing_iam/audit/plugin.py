"""The plugin `audit`: keeps who did what, allowed and denied, by listening. Nobody calls it."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bottega.hookspecs import hookimpl
from bottega.plugins import Action, Entities, SystemPolicy

if TYPE_CHECKING:
    import typer
    from fastapi import APIRouter
    from pydantic import BaseModel
    from sqlmodel import SQLModel

    from bottega.bus import Bus
    from bottega.events import Event
    from bottega.platform import Platform


@hookimpl
def bottega_settings() -> type[BaseModel]:
    from .settings import AuditSettings

    return AuditSettings


@hookimpl
def bottega_entities() -> Entities:
    from . import entities as e

    tables: list[type[SQLModel]] = [e.Trace, e.Scope, e.Batch, e.BatchAccount, e.Archive, e.Tracker, e.KeyOperation]
    return Entities(tables, Path(__file__).parent / "migrations")


@hookimpl
def bottega_actions() -> Iterable[Action]:
    from .actions import ACTIONS

    return ACTIONS


@hookimpl
def bottega_policies() -> Iterable[SystemPolicy]:
    from .actions import POLICIES

    return POLICIES


@hookimpl
def bottega_events() -> Iterable[type[Event]]:
    from .events import BatchSealed, DayArchived

    return (BatchSealed, DayArchived)


@hookimpl
def bottega_subscribe(bus: Bus) -> None:
    from .events import ApiCalled
    from .traces import on_called

    bus.on(ApiCalled, on_called)


@hookimpl
def bottega_lifespan(platform: Platform) -> AbstractAsyncContextManager[Any]:
    from .keeping import keeping

    return keeping(platform)


@hookimpl
def bottega_routes(platform: Platform) -> APIRouter:
    from bottega.routing import join

    from . import key_operation_routes, proof_routes, routes, tracker_routes

    others = (tracker_routes, key_operation_routes, proof_routes)
    return join(routes.router(platform), *(other.router(platform) for other in others))


@hookimpl
def bottega_answers() -> Path:
    return Path(__file__).parent / "answers.json"


@hookimpl
def bottega_commands(cli: typer.Typer) -> None:
    from . import commands

    commands.add_to(cli)
