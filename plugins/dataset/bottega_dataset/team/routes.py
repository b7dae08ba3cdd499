"""The routes of team labeling: the owners', with IAM actions, and the labelers' own."""

from __future__ import annotations

from fastapi import APIRouter

from bottega.platform import Platform
from bottega.routing import Router, join
from bottega_dataset.kinds import Kinds
from bottega_dataset.team import console_routes, item_routes, login_routes, task_routes, workforce_routes
from bottega_dataset.team.assembly import Teams

ACTIONS = (
    *workforce_routes.ACTIONS,
    *task_routes.ACTIONS,
    *item_routes.ACTIONS,
    *login_routes.ACTIONS,
    *console_routes.ACTIONS,
)


def router(platform: Platform, kinds: Kinds) -> APIRouter:
    teams = Teams.of(platform)
    routes = Router()
    # The list of worker tasks comes before teams: its last word is no team's id.
    for part in (task_routes, item_routes, console_routes):
        join(routes, part.router(platform, teams, kinds))
    for alone in (workforce_routes, login_routes):
        join(routes, alone.router(platform, teams))
    return routes
