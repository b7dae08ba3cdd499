"""``POST <path of a creating route>/preflight``: every permission that what it creates will need over its whole life.

The body is that of the creating request. Nothing is created, and all that is missing is told at once: the right to the
request itself, what the caller's own policies lack, and what the agency lacks that will act for the caller's program.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter

from bottega.entities import DEFAULT_WORKSPACE
from bottega.errors import Forbidden, InArrears
from bottega.gateway import Caller, requires
from bottega.iam import Decision
from bottega.plans import Need, Plan, Planner
from bottega.platform import Platform
from bottega.routing import Router

from .permission_routes import CHECK


def router(platform: Platform) -> APIRouter:
    """A route for each creating request that a plugin of this installation foresees."""
    routes = Router()
    for planner in platform.shared.planners:
        routes.add_api_route(f"{planner.path}/preflight", _route(planner), methods=["POST"])
    return routes


def _route(planner: Planner) -> Callable[..., Awaitable[dict[str, Any]]]:
    # The action is that of asking: the audit trail must not show a creation, nor arrears refuse the question.
    async def preflight(body: Any, caller: Caller = requires(CHECK, everyone=True)) -> dict[str, Any]:
        """Whether creating this would be allowed now, and all permissions it needs; nothing is created."""
        return await examine(planner, caller, body)

    preflight.__annotations__["body"] = planner.body
    return preflight


async def examine(planner: Planner, caller: Caller, body: Any) -> dict[str, Any]:
    """Check a request of `planner`'s route. Raises what the creation itself would raise for a malformed one."""
    platform = caller.platform
    refusals = []
    plan = Plan()
    try:
        plan = await planner.plan(caller, body)
        await caller.enter(plan.workspace_id or DEFAULT_WORKSPACE)
    except Forbidden as refused:
        refusals.append(_refusal("caller", planner.action, "*", "the workspace it is created in", refused.message))
    delegated = await platform.identity.delegate(caller.principal) != caller.principal
    needs = [need for need in plan.needs if need.by == "caller" or delegated]
    if all((need.by, need.action) != ("caller", planner.action) for need in needs):
        itself = f"bottega:{platform.action_owner(planner.action)}:{caller.project_id}:*"
        needs.insert(0, Need(planner.action, itself, "the request itself"))
    decisions = [await caller.has(need) for need in needs]
    try:
        await platform.check_standing(caller.principal, planner.action, spends=bool(plan.uses))
    except InArrears as owing:
        refusals.append(_refusal("account", planner.action, "*", "an account in good standing", owing.message))
    missing = [
        _missing(need, decision) for need, decision in zip(needs, decisions, strict=True) if not decision.allowed
    ]
    return {
        "allowed": not (missing or refusals),
        "missing": refusals + missing,
        "needs": [_needed(need, decision) for need, decision in zip(needs, decisions, strict=True)],
        "agency": await _agency(caller) if delegated else None,
    }


def _missing(need: Need, decision: Decision) -> dict[str, str]:
    return _refusal(need.by, need.action, need.resource, need.why, decision.explain())


def _refusal(by: str, action: str, resource: str, why: str, reason: str) -> dict[str, str]:
    return {"action": action, "resource": resource, "by": by, "why": why, "reason": reason}


def _needed(need: Need, decision: Decision) -> dict[str, Any]:
    return {
        "action": need.action,
        "resource": need.resource,
        "by": need.by,
        "why": need.why,
        "met": decision.allowed,
        "explanation": decision.explain(),
    }


async def _agency(caller: Caller) -> dict[str, str]:
    """Who acts on storage for what will be created."""
    acting = await caller.platform.identity.delegate(caller.principal)
    agency = await caller.platform.identity.rights.agency(acting.agency_id or "")
    return {"id": acting.agency_id or "", "name": agency.name if agency else ""}
