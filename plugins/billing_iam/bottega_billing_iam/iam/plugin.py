"""The plugin `iam`: administration of accounts, users, groups, access keys, policies, projects and workspaces."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bottega.hookspecs import hookimpl
from bottega.plugins import Action

if TYPE_CHECKING:
    import typer
    from fastapi import APIRouter
    from pydantic import BaseModel

    from bottega.events import Event
    from bottega.platform import Platform
    from bottega.plugins import Entities


@hookimpl
def bottega_settings() -> type[BaseModel]:
    from .settings import IamSettings

    return IamSettings


@hookimpl
def bottega_entities() -> Entities:
    from bottega.plugins import Entities

    from .entities import LoginFailure, PastPassword

    return Entities([LoginFailure, PastPassword], Path(__file__).parent / "migrations")


@hookimpl
def bottega_actions() -> Iterable[Action]:
    from .actions import ACTIONS

    return ACTIONS


@hookimpl
def bottega_events() -> Iterable[type[Event]]:
    from .events import EVENTS

    return EVENTS


@hookimpl
def bottega_routes(platform: Platform) -> APIRouter:
    from . import routes

    return routes.router(platform)


@hookimpl
def bottega_answers() -> Path:
    return Path(__file__).parent / "answers.json"


@hookimpl
def bottega_lifespan(platform: Platform) -> AbstractAsyncContextManager[None]:
    """Bring the system policies of all plugins, and the preset groups, to what this installation offers."""
    from .accounts import Accounts
    from .passwords import Passwords
    from .policies import Policies
    from .system_policies import system_policies

    @asynccontextmanager
    async def running() -> AsyncIterator[None]:
        declared = (action.name for plugin in platform.shared.plugins.on() for action in plugin.actions)
        offered = system_policies(declared)
        for policies in platform.extensions("bottega_policies"):
            offered.extend(policies)
        await Policies(platform).sync_system(offered)
        await Accounts(platform, Passwords()).ensure_admin_groups()
        yield

    return running()


@hookimpl
def bottega_commands(cli: typer.Typer) -> None:
    from . import commands, permission_commands, workspace_commands

    commands.add_to(cli)
    permission_commands.add_to(cli)
    workspace_commands.add_to(cli)
