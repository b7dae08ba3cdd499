"""The plugin `notify`: tells people and systems outside what happened, through topics they subscribe to."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bottega.hookspecs import hookimpl
from bottega.plugins import Action, Entities, Quota

if TYPE_CHECKING:
    import typer
    from fastapi import APIRouter
    from pydantic import BaseModel

    from bottega.bus import Bus
    from bottega.platform import Platform


@hookimpl
def bottega_settings() -> type[BaseModel]:
    from .settings import NotifySettings

    return NotifySettings


@hookimpl
def bottega_entities() -> Entities:
    from .topic_entities import Dispatch, Subscription, Template, Topic

    return Entities([Topic, Subscription, Template, Dispatch], Path(__file__).parent / "migrations")


@hookimpl
def bottega_actions() -> Iterable[Action]:
    from .topic_actions import ACTIONS

    return ACTIONS


@hookimpl
def bottega_quotas(platform: Platform) -> Iterable[Quota]:
    return [Quota("topic", platform.settings.topics, "topics")]


@hookimpl
def bottega_subscribe(bus: Bus, platform: Platform) -> None:
    from bottega.notifications import NotificationRequested

    from .messages import on_requested

    bus.on(NotificationRequested, on_requested(platform))


@hookimpl
def bottega_routes(platform: Platform) -> APIRouter:
    from fastapi import APIRouter

    from . import subscription_routes, topic_routes

    router = APIRouter()
    router.include_router(topic_routes.router(platform))
    router.include_router(subscription_routes.router(platform))
    return router


@hookimpl
def bottega_lifespan(platform: Platform) -> AbstractAsyncContextManager[Any]:
    from .dispatching import dispatching

    return dispatching(platform)


@hookimpl
def bottega_commands(cli: typer.Typer) -> None:
    from . import topic_commands

    topic_commands.add_to(cli)
