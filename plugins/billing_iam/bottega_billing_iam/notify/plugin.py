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
    from sqlmodel import SQLModel

    from bottega.bus import Bus
    from bottega.events import Event
    from bottega.platform import Platform


@hookimpl
def bottega_settings() -> type[BaseModel]:
    from .settings import NotifySettings

    return NotifySettings


@hookimpl
def bottega_entities() -> Entities:
    from . import topic_entities as topics
    from .webhooks import entities as webhooks

    tables: list[type[SQLModel]] = [
        topics.Topic,
        topics.Subscription,
        topics.Template,
        topics.Dispatch,
        webhooks.Webhook,
        webhooks.WebhookRevision,
        webhooks.WebhookLane,
        webhooks.WebhookDelivery,
        webhooks.WebhookDeadLetter,
        webhooks.WebhookAttempt,
    ]
    return Entities(tables, Path(__file__).parent / "migrations")


@hookimpl
def bottega_events() -> Iterable[type[Event]]:
    from .webhooks.events import PUBLISHED

    return PUBLISHED


@hookimpl
def bottega_actions() -> Iterable[Action]:
    from . import topic_actions
    from .webhooks import actions

    return (*topic_actions.ACTIONS, *actions.ACTIONS)


@hookimpl
def bottega_quotas(platform: Platform) -> Iterable[Quota]:
    settings = platform.settings
    return [Quota("topic", settings.topics, "topics"), Quota("webhook", settings.webhooks, "webhooks")]


@hookimpl
def bottega_subscribe(bus: Bus, platform: Platform) -> None:
    from bottega.notifications import NotificationRequested

    from .messages import on_requested
    from .webhooks import running

    bus.on(NotificationRequested, on_requested(platform))
    running.subscribe(bus, platform)


@hookimpl
def bottega_routes(platform: Platform) -> APIRouter:
    from bottega.routing import join

    from . import subscription_routes, topic_routes
    from .webhooks import routes as webhook_routes

    others = (subscription_routes, webhook_routes)
    return join(topic_routes.router(platform), *(other.router(platform) for other in others))


@hookimpl
def bottega_answers() -> Path:
    return Path(__file__).parent / "answers.json"


@hookimpl
def bottega_lifespan(platform: Platform) -> AbstractAsyncContextManager[Any]:
    from .background import background

    return background(platform)


@hookimpl
def bottega_commands(cli: typer.Typer) -> None:
    from . import topic_commands
    from .webhooks import commands as webhook_commands

    topic_commands.add_to(cli)
    webhook_commands.add_to(cli)
