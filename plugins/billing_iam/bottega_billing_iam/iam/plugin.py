"""The plugin `iam`: administration of accounts, users, groups, access keys, policies, projects and workspaces."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import typer
from fastapi import APIRouter

from bottega.events import Event
from bottega.hookspecs import hookimpl
from bottega.platform import Platform
from bottega.plugins import Action

from . import commands, routes
from .accounts import Accounts
from .actions import ACTIONS
from .events import EVENTS
from .passwords import Passwords
from .policies import Policies
from .settings import IamSettings
from .system_policies import system_policies


@hookimpl
def bottega_settings() -> type[IamSettings]:
    return IamSettings


@hookimpl
def bottega_actions() -> Iterable[Action]:
    return ACTIONS


@hookimpl
def bottega_events() -> Iterable[type[Event]]:
    return EVENTS


@hookimpl
def bottega_routes(platform: Platform) -> APIRouter:
    return routes.router(platform)


@hookimpl
def bottega_lifespan(platform: Platform) -> AbstractAsyncContextManager[None]:
    """Bring the system policies of all plugins, and the preset groups, to what this installation offers."""

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
    commands.add_to(cli)
