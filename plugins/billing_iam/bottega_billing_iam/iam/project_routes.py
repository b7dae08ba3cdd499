"""``/v3/domains`` and ``/v3/projects``: accounts and projects."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from bottega.errors import Invalid
from bottega.gateway import Caller, requires
from bottega.passwords import MAX_LENGTH
from bottega.platform import Platform

from .accounts import Accounts, Projects
from .identities import iam_urn
from .listing import Window, windowing
from .permission import about_own, account_wide, in_own
from .quotas import KINDS, Quotas
from .shapes import account_json, project_json


class _NewDomain(BaseModel):
    name: str
    password: str = Field(max_length=MAX_LENGTH)


class NewDomain(BaseModel):
    """A further account; `password` is that of its own login, which has the account's name."""

    domain: _NewDomain


class _NewProject(BaseModel):
    name: str
    domain_id: str | None = None
    parent_id: str | None = None
    description: str = Field("", max_length=255)


class NewProject(BaseModel):
    project: _NewProject


class _ProjectChanges(BaseModel):
    name: str | None = None
    description: str | None = Field(None, max_length=255)
    enabled: bool | None = None


class ProjectChanges(BaseModel):
    project: _ProjectChanges


class _ProjectStatus(BaseModel):
    status: Literal["normal", "suspended"]


class ProjectStatus(BaseModel):
    project: _ProjectStatus


def add_account_routes(router: APIRouter, platform: Platform, accounts: Accounts) -> None:

    @router.get("/v3/domains")
    async def list_domains(
        window: Window = windowing(), caller: Caller = requires("iam:domains:listDomains")
    ) -> dict[str, Any]:
        found = await accounts.list(caller.principal, window)
        rows = [account_json(platform, account) for account in found.rows]
        return {"domains": rows, "links": window.links(platform, found.more)}

    @router.post("/v3/domains", status_code=201)
    async def create_domain(body: NewDomain, caller: Caller = requires("iam:domains:createDomain")) -> dict[str, Any]:
        """For the platform's first account only; the new account starts with a project and its group ``admin``."""
        account_wide(caller)
        account = await accounts.create(caller.principal, body.domain.name, body.domain.password)
        caller.about(resource=iam_urn("account", account.id), name=account.name)
        return {"domain": account_json(platform, account)}


def add_project_routes(router: APIRouter, platform: Platform, projects: Projects) -> None:
    quotas = Quotas(platform)

    # The path parameter is not called project_id, which means "act inside it"; a disabled project refuses that.

    @router.get("/v3/projects")
    async def list_projects(
        domain_id: str | None = None,
        name: str | None = None,
        parent_id: str | None = None,
        enabled: bool | None = None,
        is_domain: bool = False,
        window: Window = windowing(),
        caller: Caller = requires("iam:projects:listProjects", everyone=True),
    ) -> dict[str, Any]:
        """All projects for those who may list them, else those the caller has any right in."""
        about_own(caller, domain_id)
        everything = (await caller.decide("iam:projects:listProjects")).allowed
        found = await projects.list(
            caller.principal,
            window,
            everything=everything,
            name=name,
            parent_id=parent_id,
            enabled=enabled,
        )
        # No project is an account (a Keystone domain) here.
        rows = [] if is_domain else [project_json(platform, project) for project in found.rows]
        return {"projects": rows, "links": window.links(platform, found.more)}

    @router.post("/v3/projects", status_code=201)
    async def create_project(
        body: NewProject, caller: Caller = requires("iam:projects:createProject")
    ) -> dict[str, Any]:
        asked = body.project
        account_id = in_own(caller, asked.domain_id)
        parent_id = None if asked.parent_id == account_id else asked.parent_id
        project = await projects.create(account_id, asked.name, asked.description, parent_id)
        caller.about(resource=iam_urn("project", project.id), name=project.name)
        return {"project": project_json(platform, project)}

    @router.get("/v3/projects/{project}")
    async def show_project(
        project: str, caller: Caller = requires("iam:projects:getProject", "project/{project}")
    ) -> dict[str, Any]:
        return {"project": project_json(platform, await projects.get(caller.principal.account_id, project))}

    @router.get("/v3-ext/projects/{project}")
    async def show_project_status(
        project: str, caller: Caller = requires("iam:projects:getProject", "project/{project}")
    ) -> dict[str, Any]:
        """With its ``status``, normal or suspended."""
        found = await projects.get(caller.principal.account_id, project)
        status = "normal" if found.enabled else "suspended"
        return {"project": project_json(platform, found) | {"status": status}}

    @router.put("/v3-ext/projects/{project}", status_code=204)
    async def set_project_status(
        project: str, body: ProjectStatus, caller: Caller = requires("iam:projects:updateProject", "project/{project}")
    ) -> None:
        """A suspended project refuses every call in it, as one that is not enabled."""
        enabled = body.project.status == "normal"
        found = await projects.update(account_wide(caller), project, None, None, enabled)
        caller.about(name=found.name)

    @router.get("/v3.0/OS-QUOTA/projects/{project}")
    async def project_quota(
        project: str, caller: Caller = requires("iam:quotas:listQuotasForProject", "project/{project}")
    ) -> dict[str, Any]:
        """How many sub-projects it may have, as part of all projects of the account."""
        account_id = caller.principal.account_id
        await projects.get(account_id, project)
        return {"quotas": {"resources": [await quotas.report(account_id, "project")]}}

    @router.get("/v3.0/OS-QUOTA/domains/{domain_id}")
    async def domain_quota(
        domain_id: str, type: str | None = None, caller: Caller = requires("iam:quotas:listQuotas")
    ) -> dict[str, Any]:
        """How many users, groups, agencies, policies … the account may have, and has."""
        account_id = about_own(caller, domain_id)
        if type not in (None, *KINDS):
            raise Invalid(f"type: '{type}' has no quota here; use one of {', '.join(KINDS)}")
        kinds = KINDS if type is None else (type,)
        return {"quotas": {"resources": [await quotas.report(account_id, kind) for kind in kinds]}}

    @router.patch("/v3/projects/{project}")
    async def update_project(
        project: str, body: ProjectChanges, caller: Caller = requires("iam:projects:updateProject", "project/{project}")
    ) -> dict[str, Any]:
        change = body.project
        found = await projects.update(account_wide(caller), project, change.name, change.description, change.enabled)
        caller.about(name=found.name)
        return {"project": project_json(platform, found)}

    @router.delete("/v3/projects/{project}", status_code=204)
    async def delete_project(
        project: str, caller: Caller = requires("iam:projects:deleteProject", "project/{project}")
    ) -> None:
        await projects.delete(account_wide(caller), project)
