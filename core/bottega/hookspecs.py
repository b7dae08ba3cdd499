"""The hooks by which a plugin describes itself, called once at start.

A plugin is a module named by an entry point of the group ``bottega``. It implements any subset of these hooks with
``@hookimpl``; every implementation takes any subset of the arguments. Hooks describe, events drive: none is called
per request or per event. All are synchronous and collect from all plugins, and no order between plugins is promised.
A plugin may own extension points of its own: a module of further hookspecs named by ``bottega_extension_points``.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from pathlib import Path

    import typer
    from fastapi import APIRouter
    from pydantic import BaseModel

    from bottega.backends import Backend
    from bottega.bus import Bus
    from bottega.events import Event
    from bottega.objects import ObjectStore
    from bottega.plans import Planner
    from bottega.platform import Platform
    from bottega.plugins import Action, ConsolePage, Entities, Quota, SystemPolicy

hookspec = pluggy.HookspecMarker("bottega")
hookimpl = pluggy.HookimplMarker("bottega")


@hookspec
def bottega_settings() -> type[BaseModel]:
    """Return the model that validates this plugin's section ``[plugins.<name>]`` of ``bottega.toml``.

    Called first. Unknown keys are errors whatever the model says.
    """


@hookspec
def bottega_extension_points() -> ModuleType:
    """Return a module of hookspecs that this plugin owns and others fill."""


@hookspec
def bottega_entities() -> Entities:
    """Return this plugin's tables (names prefixed ``<plugin>_``) and the folder of its Alembic migrations."""


@hookspec
def bottega_actions() -> Iterable[Action]:
    """Return the IAM actions this plugin's routes check, with what each guards and its audit trace name."""


@hookspec
def bottega_policies() -> Iterable[SystemPolicy]:
    """Return ready-made policies the installation offers as read-only system policies."""


@hookspec
def bottega_quotas(platform: Platform) -> Iterable[Quota]:
    """Return how many of its kinds of resources an account may have by default; other kinds are not counted."""


@hookspec
def bottega_events() -> Iterable[type[Event]]:
    """Return the event classes this plugin publishes; publishing another one fails."""


@hookspec
def bottega_subscribe(bus: Bus, platform: Platform) -> None:
    """Register this plugin's event handlers with ``bus.on``.

    :param bus: the bus bound to this plugin; not connected yet.
    """


@hookspec
def bottega_routes(platform: Platform) -> APIRouter:
    """Return this plugin's HTTP routes; each names its IAM action with ``bottega.gateway.requires``."""


@hookspec
def bottega_answers() -> Path:
    """Return the file that describes what this plugin's routes answer, as `bottega.answers.Answers` has it.

    For ``/openapi.json``; routes whose annotations say what they answer need none.
    """


@hookspec
def bottega_commands(cli: typer.Typer) -> None:
    """Add this plugin's commands to the command line."""


@hookspec
def bottega_console() -> Iterable[ConsolePage]:
    """Return this plugin's pages for a web console. This version has none and serves no pages yet."""


@hookspec
def bottega_plans(platform: Platform) -> Iterable[Planner]:
    """Return how this plugin foresees what its creating requests need and use, for preflight and quotes."""


@hookspec
def bottega_lifespan(platform: Platform) -> AbstractAsyncContextManager[Any]:
    """Return a context manager entered when the platform is connected and left, in reverse order, when it stops."""


@hookspec
def bottega_object_stores(platform: Platform) -> ObjectStore:
    """Return an object store; the one named by ``[objects] store`` is used."""


@hookspec
def bottega_backends(platform: Platform) -> Backend:
    """Return a hardware backend: its flavors, and how to read the logs and metrics of what runs on it.

    Starting and stopping is driven by ``core.workload.requested.v1`` and ``core.workload.stop_requested.v1``.
    """
