"""``/v1/{project_id}/workspaces``, in the vendor's shape (sdk_spec §3.6)."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from bottega.entities import DEFAULT_WORKSPACE
from bottega.errors import Forbidden, Invalid, NotSupported
from bottega.gateway import Caller, Page, paging, requires
from bottega.iam import Decision
from bottega.platform import Platform
from bottega.rights import DEFAULT_ENTERPRISE_PROJECT
from bottega.urn import Urn
from bottega.workspaces import Room, closed_to_caller

from .workspaces import Fields, Guest, Shown, Workspaces

BASE = "/v1/{project_id}/workspaces"
_ONE = "workspace/{workspace_id}"
_ACTION = re.compile(r"[\w*-]+:[\w*-]+:[\w*-]+")
_AuthType = Literal["PUBLIC", "PRIVATE", "INTERNAL"]
_Description = Annotated[str, Field(max_length=256)]


class Grant(BaseModel):
    """A user that may enter an INTERNAL workspace, by id or name."""

    user_id: str | None = Field(None, max_length=64)
    user_name: str | None = Field(None, max_length=64)
    user_type: str = "IAM"

    @property
    def guest(self) -> Guest:
        if self.user_type.upper() != "IAM":
            raise NotSupported(f"grants: user_type {self.user_type!r} is not offered here; write IAM")
        return Guest(self.user_id, self.user_name)


class NewWorkspace(BaseModel):
    """`grants` count where `auth_type` is INTERNAL."""

    name: str
    description: _Description = ""
    auth_type: _AuthType = "PUBLIC"
    enterprise_project_id: str = Field(DEFAULT_ENTERPRISE_PROJECT, max_length=64)
    grants: list[Grant] | None = Field(None, max_length=1000)


class WorkspaceChanges(BaseModel):
    """What is left out stays as it is."""

    name: str | None = None
    description: _Description | None = None
    auth_type: _AuthType | None = None
    grants: list[Grant] | None = Field(None, max_length=1000)


class Question(BaseModel):
    action_id: str = Field(max_length=128)
    action: str = Field(max_length=256)
    resource: str | None = Field(None, max_length=2048)


class Questions(BaseModel):
    requests: list[Question] = Field(max_length=100)


def add_workspace_routes(router: APIRouter, platform: Platform, workspaces: Workspaces) -> None:

    async def accessible(caller: Caller, row: Shown) -> bool:
        rooms = await platform.workspaces.rooms(caller.project_id)
        room = rooms.get(row.row.id, Room(caller.project_id))
        return await platform.workspaces.may_enter(caller.principal, room, caller.call.source_ip)

    @router.get(BASE)
    async def list_workspaces(
        name: str | None = None,
        enterprise_project_id: str | None = None,
        filter_accessible: bool = False,
        sort_by: Literal["name", "update_time", "status"] = "name",
        order: Literal["asc", "desc"] = "desc",
        page: Page = paging(1000),
        caller: Caller = requires("modelarts:workspace:list"),
    ) -> dict[str, Any]:
        """All of the project, those closed to the caller too: who is let in is no secret among colleagues."""
        found = await workspaces.list(caller.project_id, name=name, enterprise_project_id=enterprise_project_id)
        if filter_accessible:
            found = [row for row in found if await accessible(caller, row)]
        rows = sorted(map(_view, found), key=lambda row: (row[sort_by], row["id"]), reverse=order == "desc")
        part = rows[page.offset : page.offset + page.limit]
        return {"total_count": len(rows), "count": len(part), "workspaces": part}

    @router.post(BASE)
    async def create_workspace(
        body: NewWorkspace, caller: Caller = requires("modelarts:workspace:create")
    ) -> dict[str, Any]:
        made = await workspaces.create(caller.project_id, caller.user_id, body.enterprise_project_id, _fields(body))
        caller.about(resource=str(Urn("iam", caller.project_id, "workspace", made.row.id)), name=made.row.name)
        return _view(made)

    @router.get(BASE + "/users/list")
    async def list_users(caller: Caller = requires("iam:users:listUsers")) -> dict[str, Any]:
        """The names of the users that could be let into an INTERNAL workspace."""
        found = await workspaces.possible_guests(caller.principal.account_id)
        return {"users": [{"userName": name} for name in found]}

    @router.get(BASE + "/{workspace_id}")
    async def show_workspace(
        workspace_id: str, caller: Caller = requires("modelarts:workspace:get", _ONE)
    ) -> dict[str, Any]:
        return _view(await workspaces.get(caller.project_id, workspace_id))

    @router.put(BASE + "/{workspace_id}")
    async def update_workspace(
        workspace_id: str, body: WorkspaceChanges, caller: Caller = requires("modelarts:workspace:update", _ONE)
    ) -> dict[str, Any]:
        _check_access(workspace_id)
        await workspaces.update(caller.project_id, workspace_id, _fields(body))
        return {"workspace_id": workspace_id}

    @router.delete(BASE + "/{workspace_id}")
    async def delete_workspace(
        workspace_id: str, caller: Caller = requires("modelarts:workspace:delete", _ONE)
    ) -> dict[str, Any]:
        _check_access(workspace_id)
        await workspaces.delete(caller.project_id, workspace_id)
        return {"workspace_id": workspace_id}

    @router.post(BASE + "/{workspace_id}/auth")
    async def validate_authorization(
        workspace_id: str, body: Questions, caller: Caller = requires("modelarts:workspace:auth", _ONE, everyone=True)
    ) -> dict[str, Any]:
        """May the caller do these things in this workspace? Both checks count: access to it, and the permissions."""
        row = await workspaces.get(caller.project_id, workspace_id)
        enters = await accessible(caller, row)
        results = []
        for question in body.requests:
            if not _ACTION.fullmatch(question.action):
                raise Invalid(f"action: '{question.action}' is none; write service:resource:operation")
            owner = platform.action_owner(question.action)
            resource = question.resource or f"bottega:{owner}:{caller.project_id}:*"
            decision = await caller.decide(question.action, resource)
            allowed = enters and decision.allowed
            results.append(
                {
                    "action_id": question.action_id,
                    "action": question.action,
                    "resource": question.resource or "",
                    "verdict": "allow" if allowed else "deny",
                    "cause": [] if allowed else [_cause(row, enters, decision)],
                }
            )
        return {"results": results}


def _check_access(workspace_id: str) -> None:
    """Raises Forbidden when the workspace is closed to the caller: changing it could open it."""
    if workspace_id in closed_to_caller():
        raise Forbidden(f"workspace '{workspace_id}' is closed to you")


def _cause(row: Shown, enters: bool, decision: Decision) -> dict[str, Any]:
    """Why not: the policy that decided, or in words what is missing."""
    name = (decision.policy or decision.explain()) if enters else f"workspace '{row.row.name}' is closed to you"
    return {"policy_name": name, "condition": []}


def _fields(body: NewWorkspace | WorkspaceChanges) -> Fields:
    guests = None if body.grants is None else [grant.guest for grant in body.grants]
    return Fields(body.name, body.description, body.auth_type, guests)


def _view(shown: Shown) -> dict[str, Any]:
    row = shown.row
    return {
        "id": row.id,
        "name": row.name,
        "description": row.description,
        "owner": shown.owner,
        "auth_type": row.auth_type,
        "enterprise_project_id": row.enterprise_project_id,
        "enterprise_project_name": shown.enterprise_project,
        "status": row.status,
        "status_info": "",
        "create_time": row.created_at,
        "update_time": row.updated_at or row.created_at,
        "is_default": row.id == DEFAULT_WORKSPACE,
        "grants": [{"user_id": id, "user_name": name, "user_type": "IAM"} for id, name in shown.guests.items()],
    }
