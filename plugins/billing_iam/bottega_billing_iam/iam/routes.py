"""All HTTP routes of the plugin `iam`."""

from __future__ import annotations

from fastapi import APIRouter

from bottega.platform import Platform

from . import policy_routes, project_routes, token_routes, user_routes
from .accounts import Accounts, Projects, Workspaces
from .credentials import Credentials
from .groups import Groups
from .login import Login
from .passwords import Passwords
from .policies import Policies
from .users import Users


def router(platform: Platform) -> APIRouter:
    passwords = Passwords()
    login, users, groups = Login(platform, passwords), Users(platform, passwords), Groups(platform)
    accounts, projects, policies = Accounts(platform, passwords), Projects(platform), Policies(platform)
    every = APIRouter()
    for part in (
        token_routes.router(platform, login, projects),
        user_routes.user_router(platform, users, groups, login),
        user_routes.group_router(platform, users, groups),
        user_routes.credential_router(platform, Credentials(platform)),
        policy_routes.policy_router(platform, policies),
        policy_routes.grant_router(platform, policies),
        project_routes.account_router(platform, accounts),
        project_routes.project_router(platform, projects),
        project_routes.workspace_router(platform, Workspaces(platform)),
    ):
        every.include_router(part)
    return every
