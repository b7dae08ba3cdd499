"""All HTTP routes of the plugin `iam`."""

from __future__ import annotations

from fastapi import APIRouter

from bottega.platform import Platform
from bottega.routing import Router, join

from . import permission_routes, preflight
from .accounts import Accounts, Projects
from .agencies import Agencies
from .agency_routes import add_agency_routes
from .authorization_routes import add_authorization_routes
from .authorizations import Authorizations
from .catalog_routes import add_catalog_routes
from .credential_routes import add_credential_routes
from .credentials import Credentials
from .enterprise_project_routes import add_enterprise_project_routes
from .grant_routes import add_grant_routes
from .grants import Grants
from .group_routes import add_group_routes
from .groups import Groups
from .login import Login
from .os_user_routes import add_os_user_routes
from .passwords import Passwords
from .policies import Policies
from .policy_routes import add_policy_routes
from .project_routes import add_account_routes, add_project_routes
from .security_routes import add_security_routes
from .temporary_key_routes import add_temporary_key_routes
from .token_routes import add_token_routes
from .unsupported_routes import add_unsupported_routes
from .user_routes import add_user_routes
from .users import Users
from .workspace_routes import add_workspace_routes
from .workspaces import Workspaces


def router(platform: Platform) -> APIRouter:
    passwords = Passwords()
    login, users, groups = Login(platform, passwords), Users(platform, passwords), Groups(platform)
    accounts, projects, policies = Accounts(platform, passwords), Projects(platform), Policies(platform)
    router = Router()
    add_token_routes(router, platform, login, projects)
    add_catalog_routes(router, platform)
    add_user_routes(router, platform, users, login, projects)
    add_os_user_routes(router, platform, users, login)
    add_group_routes(router, platform, users, groups, login)
    add_credential_routes(router, Credentials(platform))
    add_temporary_key_routes(router, platform)
    add_policy_routes(router, platform, policies)
    add_grant_routes(router, platform, Grants(platform))
    add_agency_routes(router, platform, Agencies(platform))
    add_enterprise_project_routes(router, platform)
    add_security_routes(router, platform)
    add_account_routes(router, platform, accounts)
    add_project_routes(router, platform, projects)
    add_workspace_routes(router, platform, Workspaces(platform))
    add_authorization_routes(router, platform, Authorizations(platform))
    add_unsupported_routes(router)
    return join(router, permission_routes.router(platform), preflight.router(platform))
