"""All HTTP routes of the plugin `iam`."""

from __future__ import annotations

from fastapi import APIRouter

from bottega.platform import Platform

from .accounts import Accounts, Projects, Workspaces
from .credentials import Credentials
from .groups import Groups
from .login import Login
from .passwords import Passwords
from .policies import Policies
from .policy_routes import add_grant_routes, add_policy_routes
from .project_routes import add_account_routes, add_project_routes, add_workspace_routes
from .temporary_key_routes import add_temporary_key_routes
from .token_routes import add_token_routes
from .user_routes import add_credential_routes, add_group_routes, add_user_routes
from .users import Users


def router(platform: Platform) -> APIRouter:
    passwords = Passwords()
    login, users, groups = Login(platform, passwords), Users(platform, passwords), Groups(platform)
    accounts, projects, policies = Accounts(platform, passwords), Projects(platform), Policies(platform)
    router = APIRouter()
    add_token_routes(router, platform, login, projects)
    add_user_routes(router, platform, users, groups, login)
    add_group_routes(router, platform, users, groups)
    add_credential_routes(router, Credentials(platform))
    add_temporary_key_routes(router, platform)
    add_policy_routes(router, platform, policies)
    add_grant_routes(router, platform, policies)
    add_account_routes(router, platform, accounts)
    add_project_routes(router, platform, projects)
    add_workspace_routes(router, platform, Workspaces(platform))
    return router
