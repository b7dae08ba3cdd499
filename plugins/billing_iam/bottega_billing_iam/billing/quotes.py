"""``POST <path of a creating route>/quote``: what the request would cost an hour, told before anything is made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter

from bottega.context import now_ms
from bottega.database import AsyncSession
from bottega.gateway import Caller, requires
from bottega.plans import Plan, Planner, Use
from bottega.platform import Platform
from bottega.routing import Router

from . import prices, settlement
from .bill import exact
from .prices import MICRO, RATE, Version
from .rating import HOUR, Package

QUOTE = "bss:quote:create"


def router(platform: Platform) -> APIRouter:
    """A route for each creating request that a plugin of this installation foresees, and the list of them."""
    routes = Router()

    @routes.get("/v2/{project_id}/quotes")
    async def quotable(caller: Caller = requires(QUOTE, everyone=True)) -> dict[str, Any]:
        """The creating requests whose cost can be asked for."""
        found = [{"path": p.path, "action": p.action} for p in platform.shared.planners]
        return {"total_count": len(found), "quotes": sorted(found, key=lambda q: q["path"])}

    for planner in platform.shared.planners:
        routes.add_api_route(f"{planner.path}/quote", _route(platform, planner), methods=["POST"])
    return routes


def _route(platform: Platform, planner: Planner) -> Callable[..., Awaitable[dict[str, Any]]]:
    async def quote(body: Any, caller: Caller = requires(QUOTE, everyone=True)) -> dict[str, Any]:
        """What creating this would cost an hour; nothing is created. Amounts are exact, as texts."""
        plan = await planner.plan(caller, body)
        async with platform.database.read() as session:
            return await price(session, caller.principal.account_id, plan)

    quote.__annotations__["body"] = planner.body
    return quote


async def price(session: AsyncSession, account_id: str, plan: Plan) -> dict[str, Any]:
    """The price of an hour of each use, what packages are left for it, and what the first hour costs after them."""
    now = now_ms()
    price_list = await prices.load(session)
    version = price_list.at(now)
    owned = await settlement.packages(session, account_id, now, now + 1)
    left = await settlement.left_in(session, account_id, owned, now - now % HOUR)
    shown, total, first_hour = [], 0, 0
    for use in plan.uses:
        each, amount = _hourly(version, use)
        covered = _take(owned, left, use) if each and use.measure == "node" else {}
        paid = amount - each * sum(covered.values()) // 3600
        total, first_hour = total + amount, first_hour + paid
        shown.append(
            {
                "kind": use.kind,
                "flavor": use.flavor,
                "measure": use.measure,
                "count": use.count,
                "price_per_hour": exact(each),
                "amount_per_hour": exact(amount),
                "free": not amount,
                "from_packages": [{"package_id": k, "node_seconds": v} for k, v in covered.items()],
            }
        )
    return {
        "currency": price_list.currency,
        "price_version": version.version if version else "",
        "at": now,
        "uses": shown,
        "amount_per_hour": exact(total),
        "first_hour": exact(first_hour),
        "packages": [{"package_id": p.id, "node_seconds_left": left[p.id], "ends": p.ends} for p in owned],
        "free_allowances": _allowances(version),
    }


def _hourly(version: Version | None, use: Use) -> tuple[int, int]:
    """What an hour of one costs, and of all, in millionths; of a disk, beyond its free part."""
    if version is None:
        return 0, 0
    if use.measure == "node":
        each = version.micro_per_hour(use.flavor, use.kind)
        return each, each * use.count
    free = version.storage.free_gb
    rates = (version.rate(use.measure, use.flavor, use.kind, count) for count in (free + 1, use.count))
    each, amount = ((rate * 3600 + RATE // 2) // RATE for rate in rates)
    return each, amount


def _take(owned: list[Package], left: dict[str, int], use: Use) -> dict[str, int]:
    """The node-seconds that packages give to the first hour of a use, the one that ends first before the others."""
    wanted, taken = use.count * 3600, {}
    for package in sorted(owned, key=lambda p: (p.ends, p.id)):
        fits = (not package.flavors or use.flavor in package.flavors) and (
            not package.kinds or use.kind in package.kinds
        )
        given = min(wanted, left[package.id]) if fits else 0
        if given:
            taken[package.id] = given
            left[package.id] -= given
            wanted -= given
    return taken


def _allowances(version: Version | None) -> dict[str, Any]:
    """What is not counted, beside what has no price."""
    if version is None:
        return {}
    storage = version.storage
    return {
        "notebook_disk_gb": storage.free_gb,
        "bucket_gb": storage.object_free_gb,
        "kinds": sorted({*version.free_kinds, *version.free_services}),
        "notebook_disk_gb_month": exact(int(storage.gb_month * MICRO)),
    }
