"""``/v1.0/enterprise-projects``, as the vendor's enterprise project service (EPS) has them."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from bottega.gateway import Caller, requires
from bottega.platform import Platform

from .enterprise_projects import DEFAULT_NAME, EnterpriseProjects, default_of
from .identities import iam_urn
from .listing import MOST, Window
from .permission import account_wide
from .quotas import Quotas
from .shapes import enterprise_project_json

BASE = "/v1.0/enterprise-projects"
_ONE = "enterprise-project/{enterprise_project_id}"


class NewEnterpriseProject(BaseModel):
    name: str
    description: str = Field("", max_length=512)
    type: Literal["prod", "poc"] = "prod"


class EnterpriseProjectChanges(BaseModel):
    name: str | None = None
    description: str | None = Field(None, max_length=512)


class EnterpriseProjectAction(BaseModel):
    action: Literal["enable", "disable"]


def add_enterprise_project_routes(router: APIRouter, platform: Platform) -> None:
    projects, quotas = EnterpriseProjects(platform), Quotas(platform)

    @router.get(BASE)
    async def list_enterprise_projects(
        name: str | None = None,
        status: Literal[1, 2] | None = None,
        offset: int = Query(0, ge=0, le=2**31),
        limit: int = Query(MOST, ge=1, le=MOST),
        caller: Caller = requires("eps:enterpriseProjects:list"),
    ) -> dict[str, Any]:
        """``status`` 1: enabled, 2: disabled. The default one comes first."""
        account_id = caller.principal.account_id
        enabled = None if status is None else status == 1
        first = [default_of(account_id)] if enabled is not False and (name or "") in DEFAULT_NAME else []
        shown = first[offset:]
        window = Window(max(0, offset - len(first)), limit, None, BASE, ())
        found = await projects.list(account_id, window, name, enabled)
        rows = [*shown, *found.rows][:limit]
        return {
            "enterprise_projects": [enterprise_project_json(row) for row in rows],
            "total_count": found.total + len(first),
        }

    @router.post(BASE, status_code=201)
    async def create_enterprise_project(
        body: NewEnterpriseProject, caller: Caller = requires("eps:enterpriseProjects:create")
    ) -> dict[str, Any]:
        row = await projects.create(account_wide(caller), body.name, body.description)
        caller.about(resource=iam_urn("enterprise-project", row.id), name=row.name)
        return {"enterprise_project": enterprise_project_json(row)}

    @router.get(BASE + "/quotas")
    async def enterprise_project_quotas(
        caller: Caller = requires("eps:enterpriseProjects:list"),
    ) -> dict[str, Any]:
        row = await quotas.report(caller.principal.account_id, "enterprise_project")
        return {"quotas": {"resources": [row]}}

    @router.get(BASE + "/{enterprise_project_id}")
    async def show_enterprise_project(
        enterprise_project_id: str, caller: Caller = requires("eps:enterpriseProjects:get", _ONE)
    ) -> dict[str, Any]:
        row = await projects.get(caller.principal.account_id, enterprise_project_id)
        return {"enterprise_project": enterprise_project_json(row)}

    @router.put(BASE + "/{enterprise_project_id}")
    async def update_enterprise_project(
        enterprise_project_id: str,
        body: EnterpriseProjectChanges,
        caller: Caller = requires("eps:enterpriseProjects:update", _ONE),
    ) -> dict[str, Any]:
        row = await projects.update(account_wide(caller), enterprise_project_id, body.name, body.description)
        caller.about(name=row.name)
        return {"enterprise_project": enterprise_project_json(row)}

    @router.post(BASE + "/{enterprise_project_id}/action", status_code=204)
    async def switch_enterprise_project(
        enterprise_project_id: str,
        body: EnterpriseProjectAction,
        caller: Caller = requires("eps:enterpriseProjects:switch", _ONE),
    ) -> None:
        """Enable or disable it. A disabled one keeps what is bound to it and takes nothing new."""
        enabled = body.action == "enable"
        row = await projects.update(account_wide(caller), enterprise_project_id, enabled=enabled)
        caller.about(name=row.name)
