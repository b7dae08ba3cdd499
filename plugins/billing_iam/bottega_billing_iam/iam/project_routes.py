"""``/v3/domains``, ``/v3/projects`` and ``/v1/{project_id}/workspaces``: accounts, projects, workspaces."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from bottega.gateway import Caller, requires
from bottega.platform import Platform
from bottega.urn import Urn

from .accounts import Accounts, Projects, Workspaces
from .identities import iam_urn
from .passwords import MAX_LENGTH
from .permission import account_wide
from .shapes import account_json, links, project_json, workspace_json
from .user_routes import in_own


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


class NewWorkspace(BaseModel):
    """Restricted workspaces (PRIVATE, INTERNAL) are refused rather than made open."""

    model_config = ConfigDict(extra="forbid")
    name: str
    auth_type: Literal["PUBLIC"] = "PUBLIC"


class WorkspaceName(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str


def add_account_routes(router: APIRouter, platform: Platform, accounts: Accounts) -> None:

    @router.get("/v3/domains")
    async def list_domains(caller: Caller = requires("iam:domains:listDomains")) -> dict[str, Any]:
        found = await accounts.list(caller.principal)
        return {"domains": [account_json(platform, a) for a in found], "links": links(platform, "/v3/domains")}

    @router.post("/v3/domains", status_code=201)
    async def create_domain(body: NewDomain, caller: Caller = requires("iam:domains:createDomain")) -> dict[str, Any]:
        """For the platform's first account only; the new account starts with a project and its group ``admin``."""
        account_wide(caller)
        account = await accounts.create(caller.principal, body.domain.name, body.domain.password)
        caller.about(resource=iam_urn("account", account.id), name=account.name)
        return {"domain": account_json(platform, account)}


def add_project_routes(router: APIRouter, platform: Platform, projects: Projects) -> None:
    # The path parameter is not called project_id, which means "act inside it"; a disabled project refuses that.

    @router.get("/v3/projects")
    async def list_projects(
        name: str | None = None,
        parent_id: str | None = None,
        enabled: bool | None = None,
        page: int | None = None,
        per_page: int | None = None,
        caller: Caller = requires("iam:projects:listProjects", everyone=True),
    ) -> dict[str, Any]:
        """All projects for those who may list them, else those the caller has any right in."""
        everything = (await caller.decide("iam:projects:listProjects")).allowed
        top = None if parent_id == caller.principal.account_id else parent_id
        found = await projects.list(caller.principal, everything=everything, name=name, parent_id=top, enabled=enabled)
        if parent_id is not None and top is None:
            found = [project for project in found if project.parent_id is None]
        if page and per_page:
            found = found[(page - 1) * per_page : page * per_page]
        return {"projects": [project_json(platform, p) for p in found], "links": links(platform, "/v3/projects")}

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


def add_workspace_routes(router: APIRouter, platform: Platform, workspaces: Workspaces) -> None:
    base = "/v1/{project_id}/workspaces"

    async def owner(caller: Caller) -> str:
        return (await platform.identity.account(caller.principal.account_id)).name

    @router.get(base)
    async def list_workspaces(
        name: str | None = None, caller: Caller = requires("modelarts:workspace:list")
    ) -> dict[str, Any]:
        name_of_owner = await owner(caller)
        rows = [workspace_json(w, name_of_owner) for w in await workspaces.list(caller.project_id, name)]
        return {"total_count": len(rows), "count": len(rows), "workspaces": rows}

    @router.post(base)
    async def create_workspace(
        body: NewWorkspace, caller: Caller = requires("modelarts:workspace:create")
    ) -> dict[str, Any]:
        workspace = await workspaces.create(caller.project_id, body.name)
        urn = str(Urn("iam", caller.project_id, "workspace", workspace.id))
        caller.about(resource=urn, name=workspace.name)
        return workspace_json(workspace, await owner(caller))

    @router.get(base + "/{workspace_id}")
    async def show_workspace(
        workspace_id: str, caller: Caller = requires("modelarts:workspace:get", "workspace/{workspace_id}")
    ) -> dict[str, Any]:
        workspace = await workspaces.get(caller.project_id, workspace_id)
        return workspace_json(workspace, await owner(caller))

    @router.put(base + "/{workspace_id}")
    async def rename_workspace(
        workspace_id: str,
        body: WorkspaceName,
        caller: Caller = requires("modelarts:workspace:update", "workspace/{workspace_id}"),
    ) -> dict[str, Any]:
        await workspaces.rename(caller.project_id, workspace_id, body.name)
        return {"workspace_id": workspace_id}

    @router.delete(base + "/{workspace_id}")
    async def delete_workspace(
        workspace_id: str, caller: Caller = requires("modelarts:workspace:delete", "workspace/{workspace_id}")
    ) -> dict[str, Any]:
        await workspaces.delete(caller.project_id, workspace_id)
        return {"workspace_id": workspace_id}
