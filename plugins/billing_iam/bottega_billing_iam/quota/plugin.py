"""The plugin `quota`: what the limits are, how much of them is used, and changing them. The core keeps to them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from bottega.hookspecs import hookimpl
from bottega.plugins import Action

if TYPE_CHECKING:
    import typer
    from fastapi import APIRouter

    from bottega.events import Event
    from bottega.platform import Platform


@hookimpl
def bottega_actions() -> Iterable[Action]:
    return (
        Action("modelarts:quota:get", "See the limits of the account and its users, and what is used", "quota"),
        Action("iam:quotas:updateQuotas", "Change the limits of users, as operator those of accounts", "quota"),
        Action("modelarts:workspace:getQuotas", "See the limits of a workspace", "workspace"),
        Action("modelarts:workspace:updateQuotas", "Change the limits of a workspace", "workspace"),
    )


@hookimpl
def bottega_events() -> Iterable[type[Event]]:
    from .events import LimitChanged

    return (LimitChanged,)


@hookimpl
def bottega_routes(platform: Platform) -> APIRouter:
    from . import routes

    return routes.router(platform)


@hookimpl
def bottega_answers() -> Path:
    return Path(__file__).parent / "answers.json"


@hookimpl
def bottega_commands(cli: typer.Typer) -> None:
    from . import commands

    cli.add_typer(commands.app, name="quotas")
