"""Questions about permissions: may I, why, and who may."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from pydantic import BaseModel, Field, IPvAnyAddress

from bottega.context import Principal
from bottega.errors import Invalid
from bottega.gateway import Caller, requires
from bottega.routing import Router

from . import explain

if TYPE_CHECKING:
    from bottega.platform import Platform

CHECK, EXPLAIN = "bottega:permission:check", "iam:permissions:explain"
_ACTION = re.compile(r"[\w*-]+:[\w*-]+:[\w*-]+")


class ActionQuestion(BaseModel):
    action: str = Field(min_length=1, max_length=256)
    resource: str = Field("*", max_length=2048)
    workspace_id: str | None = Field(None, max_length=64)
    """Where a thing would be made; absent: the workspace of the resource, or the default one."""
    source_ip: IPvAnyAddress | None = None
    """The address the request would come from; absent: the caller's own for itself, none for others."""


class PermissionQuestion(ActionQuestion):
    user: str | None = Field(None, max_length=256)
    """Name of another user of the account; that needs a permission of its own. Absent: the caller."""


def router(platform: Platform) -> APIRouter:
    router = Router()

    async def put(body: ActionQuestion, caller: Caller, own: bool) -> explain.Question:
        if not _ACTION.fullmatch(body.action):
            raise Invalid(
                f"'{body.action}' is not an action; write service:resource:operation, as modelarts:trainJob:get"
            )
        project = await platform.identity.project(caller.project_id)
        address = str(body.source_ip) if body.source_ip else caller.call.source_ip if own else None
        return await explain.Question.ask(platform, project, body.action, body.resource, body.workspace_id, address)

    async def asked_about(body: PermissionQuestion, caller: Caller, action: str) -> Principal:
        if body.user is None or body.user == caller.principal.user_name:
            return caller.principal
        await caller.check(action)
        return await explain.user_named(platform, caller.principal.account_id, body.user)

    @router.post("/v1/{project_id}/permissions/check")
    async def check(body: PermissionQuestion, caller: Caller = requires(CHECK, everyone=True)) -> dict[str, Any]:
        """May the caller, or with ``user`` another user of the account, do `action` on `resource`? With the reason."""
        principal = await asked_about(body, caller, CHECK)
        return await explain.answer(await put(body, caller, principal is caller.principal), principal)

    @router.post("/v1/{project_id}/permissions/why")
    async def why(body: PermissionQuestion, caller: Caller = requires(EXPLAIN, everyone=True)) -> dict[str, Any]:
        """Every statement, workspace, agency and account rule that counts, and what each comes to."""
        principal = await asked_about(body, caller, EXPLAIN)
        return await explain.why(await put(body, caller, principal is caller.principal), principal)

    @router.post("/v1/{project_id}/permissions/who-can")
    async def who_can(body: ActionQuestion, caller: Caller = requires(EXPLAIN)) -> dict[str, Any]:
        """The users and agencies of the account that may do `action` on `resource`, each with what decides."""
        return await explain.who_can(await put(body, caller, own=False), caller.principal.account_id)

    return router
