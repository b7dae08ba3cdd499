"""Limits over HTTP: the vendor's routes of quotas, and one for the operator (sdk_spec §3.6)."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, Field

from bottega.errors import Forbidden, Invalid, NotFound, NotSupported
from bottega.gateway import Caller, requires
from bottega.platform import Platform
from bottega.routing import Router
from bottega.workspaces import closed_to_caller

from .limits import UNLIMITED, Limit, Limits

CHANGE = "iam:quotas:updateQuotas"
JOBS, JOBS_KIND = "job-num", "training.job"
"""What the vendor calls the number of training jobs, and what it is called here."""
_OTHER_TRAINING_QUOTAS = ("visual-job-num", "job-retention-enabled", "job-num-quota-notify")
_Id = Annotated[str, Field(min_length=1, max_length=64)]
_Maximum = Annotated[int, Field(ge=UNLIMITED, le=2**31 - 1)]


class AccountLimit(BaseModel):
    """`quota` None brings the default back."""

    type: str = Field(max_length=128)
    quota: Annotated[int, Field(ge=0, le=2**31 - 1)] | None


class AccountLimits(BaseModel):
    quotas: list[AccountLimit] = Field(min_length=1, max_length=100)


class WorkspaceLimit(BaseModel):
    """`quota` -1 takes the workspace's own limit away."""

    resource: str = Field(max_length=128)
    quota: _Maximum


class WorkspaceLimits(BaseModel):
    quotas: list[WorkspaceLimit] = Field(min_length=1, max_length=100)


class TrainingLimit(BaseModel):
    resource: str = Field(max_length=64)
    quota: _Maximum


class TrainingLimits(BaseModel):
    user_id: _Id
    quotas: list[TrainingLimit] = Field(min_length=1, max_length=10)


def router(platform: Platform) -> APIRouter:
    routes = Router()
    limits = Limits(platform)
    _accounts(routes, limits)
    _workspaces(routes, limits)
    _training(routes, limits)
    return routes


def _accounts(routes: APIRouter, limits: Limits) -> None:
    @routes.get("/v1/{project_id}/quotas")
    async def own(caller: Caller = requires("modelarts:quota:get")) -> dict[str, Any]:
        """The limits of the caller's account and what is used of them, in all its projects."""
        return _shown(await limits.of_account(caller.principal.account_id))

    @routes.get("/v1/{project_id}/os-user-config")
    async def network_config(caller: Caller = requires("modelarts:quota:get")) -> dict[str, Any]:
        """What the vendor tells of networks and resource pools; there are none to make here."""
        return {"networkCidrs": [], "networkQuota": 0, "poolQuota": 0, "poolHighAvailable": False}

    @routes.get("/v1/accounts/{account_id}/quotas")
    async def show(
        account_id: Annotated[str, Path(max_length=64)], caller: Caller = requires("modelarts:quota:get")
    ) -> dict[str, Any]:
        """One's own account's, to the platform's first account anyone's."""
        if account_id != caller.principal.account_id:
            await caller.check_operator(NotFound(f"there is no account '{account_id}'"))
        return _shown(await limits.of_account(account_id))

    @routes.put("/v1/accounts/{account_id}/quotas")
    async def change(
        account_id: Annotated[str, Path(max_length=64)],
        body: AccountLimits,
        caller: Caller = requires(CHANGE),
    ) -> dict[str, Any]:
        """For the platform's first account only: who pays for the machines says how much of them an account gets."""
        await caller.check_operator(Forbidden("limits of accounts are changed by the platform's first account only"))
        await limits.set_account(account_id, {each.type: each.quota for each in body.quotas})
        return _shown(await limits.of_account(account_id))


def _workspaces(routes: APIRouter, limits: Limits) -> None:
    path, one = "/v1/{project_id}/workspaces/{workspace_id}/quotas", "workspace/{workspace_id}"

    @routes.get(path)
    async def show(workspace_id: str, caller: Caller = requires("modelarts:workspace:getQuotas", one)) -> Any:
        return {"quotas": [_of_workspace(each) for each in await limits.of_workspace(caller.project_id, workspace_id)]}

    @routes.put(path)
    async def change(
        workspace_id: str,
        body: WorkspaceLimits,
        caller: Caller = requires("modelarts:workspace:updateQuotas", one),
    ) -> dict[str, Any]:
        if workspace_id in closed_to_caller():
            raise Forbidden(f"workspace '{workspace_id}' is closed to you")
        changes = {each.resource: each.quota for each in body.quotas}
        await limits.set_workspace(caller.project_id, workspace_id, changes)
        found = await limits.of_workspace(caller.project_id, workspace_id)
        return {"quotas": [_of_workspace(each) for each in found if each.name in changes]}


def _training(routes: APIRouter, limits: Limits) -> None:
    path = "/v2/{project_id}/training-quotas"

    @routes.get(path)
    async def show(
        user_id: Annotated[str | None, Query(max_length=64)] = None,
        resource: Annotated[str, Query(max_length=64)] = JOBS,
        caller: Caller = requires("modelarts:quota:get"),
    ) -> dict[str, Any]:
        """How many training jobs a user, or the caller, may have, and has."""
        _check_training(resource)
        found = await limits.of_user(caller.principal.account_id, user_id or caller.user_id, JOBS_KIND)
        quota = found.ceiling if found.maximum == UNLIMITED else found.maximum
        return {"quotas": [{"resource": JOBS, "quota": quota, "used": found.used}]}

    @routes.put(path)
    async def change(body: TrainingLimits, caller: Caller = requires(CHANGE)) -> dict[str, Any]:
        """How many training jobs a user may have in all projects of the account."""
        account_id = await caller.check_account(CHANGE)
        for each in body.quotas:
            _check_training(each.resource)
        quota = body.quotas[-1].quota
        await limits.set_user(account_id, body.user_id, {JOBS_KIND: quota})
        return {"user_id": body.user_id, "quotas": [{"resource": JOBS, "quota": quota}]}


def _check_training(resource: str) -> None:
    if resource in _OTHER_TRAINING_QUOTAS:
        raise NotSupported(f"resource: '{resource}' is not offered here; {JOBS} is")
    if resource != JOBS:
        raise Invalid(f"resource: '{resource}' is no quota of training; write {JOBS}")


def _shown(found: list[Limit]) -> dict[str, Any]:
    rows = [
        {"type": each.name, "quota": str(each.maximum), "used": str(each.used), "name": each.label} for each in found
    ]
    return {"quotas": {"resources": rows}}


def _of_workspace(limit: Limit) -> dict[str, Any]:
    return {
        "resource": limit.name,
        "quota": limit.maximum,
        "min_quota": 1,
        "max_quota": limit.ceiling,
        "used_quota": None if limit.maximum == UNLIMITED else limit.used,
        "name_en": limit.label,
        "name_cn": limit.label,
        "unit_en": "",
        "unit_cn": "",
        "update_time": limit.updated_at,
    }
