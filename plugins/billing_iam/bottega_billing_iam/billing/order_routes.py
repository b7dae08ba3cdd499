"""``/v2/{project_id}/orders`` and ``/packages``: what is bought at once."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Response

from bottega.context import now_ms
from bottega.gateway import Caller, Page, paging, requires
from bottega.platform import Platform
from bottega.routing import Router

from . import prices
from .asked import Asked, asking
from .orders import OrderRequest, Orders, describe, offers, remaining

PAY = "bss:order:pay"
SEE = "bss:order:view"
Kind = Literal["package", "pool", "model_tuning"]


def router(platform: Platform) -> APIRouter:
    router = Router()
    orders = Orders(platform)

    @router.post("/v2/{project_id}/orders", status_code=201)
    async def place(
        body: Annotated[OrderRequest, Body()], response: Response, caller: Caller = requires(PAY)
    ) -> dict[str, Any]:
        """Buy a package, a pool by the month or a model tuning, paid from the balance at once.

        The same ``order_no`` again answers 200 with the order that stands.
        """
        order, new = await orders.place(caller, body)
        caller.about(resource=order.resource_urn, name=order.name)
        response.status_code = 201 if new else 200
        return describe(order, now_ms(), order.quantity if order.kind == "package" else None)

    @router.get("/v2/{project_id}/orders")
    async def show_orders(
        order_type: Kind | None = None,
        asked: Asked = asking(),
        page: Page = paging(100),
        caller: Caller = requires(SEE),
    ) -> dict[str, Any]:
        """Orders, the newest first."""
        return await _listed(caller, asked, order_type, page)

    @router.get("/v2/{project_id}/orders/{order_id}")
    async def show_order(order_id: str, caller: Caller = requires(SEE, "order/{order_id}")) -> dict[str, Any]:
        """One order. Of a pool it says whether it may be scaled or deleted."""
        async with platform.database.read() as session:
            order = await orders.get(session, caller.project_id, order_id)
            left = await remaining(session, order.account_id, [order], 2**62)
        return describe(order, now_ms(), left.get(order.id))

    @router.get("/v2/{project_id}/packages")
    async def show_packages(
        asked: Asked = asking(), page: Page = paging(100), caller: Caller = requires(SEE)
    ) -> dict[str, Any]:
        """The packages bought, with what is left of each as far as usage is settled."""
        return await _listed(caller, asked, "package", page)

    @router.get("/v2/{project_id}/package-offers")
    async def show_offers(caller: Caller = requires("bss:price:list", everyone=True)) -> dict[str, Any]:
        """The packages that can be bought now."""
        async with platform.database.read() as session:
            found = offers(await prices.load(session), now_ms())
        return {"total_count": len(found), "offers": found}

    async def _listed(caller: Caller, asked: Asked, kind: str | None, page: Page) -> dict[str, Any]:
        scope = await asked.scope(caller, SEE)
        async with platform.database.read() as session:
            total, found = await orders.list(session, scope, kind, page.offset, page.limit)
            left = await remaining(session, scope.account_id, found, 2**62)
        now = now_ms()
        return {"total_count": total, "orders": [describe(order, now, left.get(order.id)) for order in found]}

    return router
