"""``/v2/{project_id}/budgets``: those of the project and its workspaces, and with ``scope=account`` all."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from bottega.database import AsyncSession
from bottega.entities import DEFAULT_WORKSPACE, User, Workspace
from bottega.errors import Invalid
from bottega.gateway import Caller, requires
from bottega.plans import Need
from bottega.platform import Platform
from bottega.routing import Router
from bottega.workspaces import closed_to_caller

from . import prices
from .account_routes import Amount
from .bill import exact
from .budgets import Budgets, check_tag
from .money_entities import Budget
from .prices import MICRO

CREATE, LIST, GET = "bss:budget:create", "bss:budget:list", "bss:budget:get"
UPDATE, DELETE = "bss:budget:update", "bss:budget:delete"
_ONE = "budget/{budget_id}"

Threshold = Annotated[int, Field(ge=1, le=1000)]


class BudgetScope(BaseModel):
    """`id` of a project or workspace is in this project unless said; of an account it is not needed."""

    model_config = ConfigDict(extra="forbid")
    type: Literal["account", "project", "workspace", "user", "tag"]
    id: str = Field("", max_length=256, pattern=r"^[^\x00-\x1f]*$")


class BudgetFields(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str = Field(pattern=r"^[^\x00-\x1f<>]{1,64}$")
    amount: Amount
    thresholds: list[Threshold] = Field([80, 100], max_length=10)
    forecast: bool = False
    stop: bool = False
    topic_urn: str | None = Field(None, pattern=r"^urn:smn:[^:]+:[^:]+:[^:]+$", max_length=256)


class NewBudget(BudgetFields):
    scope: BudgetScope


def router(platform: Platform) -> APIRouter:
    routes = Router()
    budgets = Budgets(platform)
    base = "/v2/{project_id}/budgets"

    async def found(session: AsyncSession, caller: Caller, budget_id: str, action: str) -> Budget:
        """Raises NotFound; Forbidden for one beyond this project, unless the caller may do it in all the account."""
        budget = await budgets.get(session, caller.principal.account_id, budget_id)
        if budget.project_id != caller.project_id:
            await caller.check_account(action)
        caller.about(name=budget.name)
        return budget

    async def shown(session: AsyncSession, budget: Budget) -> dict[str, Any]:
        spent = await budgets.spent(session, budget)
        return {
            "budget_id": budget.id,
            "name": budget.name,
            "scope": {"type": budget.scope, "id": budget.scope_id},
            "amount": exact(budget.amount),
            "currency": (await prices.load(session)).currency,
            "spent": exact(spent),
            "used_percent": round(100 * spent / budget.amount, 2),
            "thresholds": budget.thresholds,
            "forecast": budget.forecast,
            "stop": budget.stop,
            "topic_urn": budget.topic_urn,
            "create_time": budget.created_at,
            "update_time": budget.updated_at,
            "alarms": [
                {"period": a.period, "threshold": a.threshold, "spent": exact(a.spent), "time": a.at}
                for a in await budgets.alarms(session, budget.id)
            ],
        }

    @routes.post(base, status_code=201)
    async def create(body: NewBudget, caller: Caller = requires(CREATE)) -> dict[str, Any]:
        """A budget for each calendar month (UTC) from this one on."""
        async with platform.database.read() as session:
            budget = await _placed(session, caller, body.scope)
        if budget.project_id != caller.project_id:
            await caller.check_account(CREATE)
        await _fill(caller, budget, body)
        async with platform.database.transaction() as tx:
            await budgets.changed(tx, budget)
            answer = await shown(tx.session, budget)
        caller.about(resource=f"bottega:billing:{caller.project_id}:budget/{budget.id}", name=budget.name)
        return answer

    @routes.get(base)
    async def listing(
        scope: Literal["project", "account"] = "project", caller: Caller = requires(LIST)
    ) -> dict[str, Any]:
        project_id = caller.project_id if scope == "project" else None
        if project_id is None:
            await caller.check_account(LIST)
        async with platform.database.read() as session:
            rows = await budgets.listing(session, caller.principal.account_id, project_id)
            return {"total_count": len(rows), "budgets": [await shown(session, row) for row in rows]}

    @routes.get(base + "/{budget_id}")
    async def show(budget_id: str, caller: Caller = requires(GET, _ONE)) -> dict[str, Any]:
        async with platform.database.read() as session:
            return await shown(session, await found(session, caller, budget_id, GET))

    @routes.put(base + "/{budget_id}")
    async def update(budget_id: str, body: BudgetFields, caller: Caller = requires(UPDATE, _ONE)) -> dict[str, Any]:
        """The whole budget but its scope. What was told of it this month is judged anew."""
        async with platform.database.transaction() as tx:
            budget = await found(tx.session, caller, budget_id, UPDATE)
            await _fill(caller, budget, body)
            await budgets.changed(tx, budget)
            return await shown(tx.session, budget)

    @routes.delete(base + "/{budget_id}", status_code=204)
    async def delete(budget_id: str, caller: Caller = requires(DELETE, _ONE)) -> None:
        async with platform.database.transaction() as tx:
            await budgets.delete(tx, await found(tx.session, caller, budget_id, DELETE))

    return routes


async def _placed(session: AsyncSession, caller: Caller, scope: BudgetScope) -> Budget:
    """A budget with its scope and nothing else. Raises Invalid for a scope that is not of the caller's account."""
    account_id, project_id, ident = caller.principal.account_id, None, scope.id
    match scope.type:
        case "account":
            ident = account_id
        case "project":
            ident = project_id = scope.id or caller.project_id
            if ident != caller.project_id:
                await caller.platform.identity.check_project(caller.principal, ident)
        case "workspace":
            project_id = caller.project_id
            workspace = await session.get(Workspace, ident)
            there = workspace is not None and workspace.project_id == project_id
            if (ident != DEFAULT_WORKSPACE and not there) or ident in closed_to_caller():
                raise Invalid(f"scope.id: there is no workspace '{ident}' in this project")
        case "user":
            user = await session.get(User, ident)
            if user is None or user.account_id != account_id:
                raise Invalid(f"scope.id: there is no user '{ident}' in this account")
        case "tag":
            check_tag(ident)
    return Budget(
        account_id=account_id,
        name="",
        scope=scope.type,
        scope_id=ident,
        project_id=project_id,
        amount=0,
        created_by=caller.user_id,
    )


async def _fill(caller: Caller, budget: Budget, body: BudgetFields) -> None:
    if body.topic_urn:
        await caller.require([Need("smn:topic:publish", body.topic_urn, "the budget's alarms are sent to topic_urn")])
    budget.name, budget.amount = body.name, int(body.amount * MICRO)
    budget.thresholds = sorted(set(body.thresholds))
    budget.forecast, budget.stop, budget.topic_urn = body.forecast, body.stop, body.topic_urn
