"""Orders: what is bought at once and paid from the balance. Packages, dedicated pools by the month, model tuning.

An order never changes: a pool bought by the month can be neither scaled nor deleted before it ends (002 §9).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field
from sqlalchemy import func
from sqlmodel import col, select

from bottega.context import now_ms
from bottega.database import AsyncSession, Transaction
from bottega.entities import DEFAULT_WORKSPACE
from bottega.errors import Conflict, Invalid, NotFound
from bottega.gateway import Caller
from bottega.platform import Platform
from bottega.urn import new_id

from . import ledger, prices
from .accounts import Accounts
from .asked import month_after
from .bill import Scope, exact
from .entities import Order
from .events import OrderPlaced
from .pools import ACTIVE, Pools
from .prices import MICRO, Price, PriceList, Version
from .rating import Package
from .settlement import NODE_SECOND, USED, left_in

YEAR = 12
YEAR_PAID = 10
"""Ten months paid are twelve (002 §9, table 9-1)."""
TUNING_STEP = 1000
"""A tuning is paid in tenths of ten thousand (002 §6.2)."""
Text = Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9._-]+$")]


class _Request(BaseModel):
    order_no: Text | None = None
    """The customer's own number: the same one never orders twice."""
    workspace_id: str = DEFAULT_WORKSPACE
    tags: dict[Annotated[str, Field(max_length=128)], Annotated[str, Field(max_length=255)]] = Field({}, max_length=20)


class PackageRequest(_Request):
    order_type: Literal["package"]
    name: str = Field(max_length=128)
    count: int = Field(1, ge=1, le=1000)


class PoolRequest(_Request):
    order_type: Literal["pool"]
    name: str = Field(max_length=64, pattern=r"^[a-z]([a-z0-9_-]*[a-z0-9])?$")
    flavor: str = Field(max_length=128)
    node_count: int = Field(ge=1, le=1000)
    period_num: int = Field(ge=1, le=YEAR)
    """Months."""


class TuningRequest(_Request):
    order_type: Literal["model_tuning"]
    amount: Price = Field(gt=0, le=1_000_000_000)
    agreed: Literal[True]
    """The customer has read the payment statement."""


OrderRequest = Annotated[PackageRequest | PoolRequest | TuningRequest, Field(discriminator="order_type")]


@dataclass(frozen=True, slots=True)
class Offer:
    """What a request comes to: everything of the order that is not of its buyer."""

    name: str
    quantity: int
    months: int
    flavors: list[str]
    kinds: list[str]
    micro: int


class Orders:
    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._accounts = Accounts(platform)
        self._pools = Pools(platform)

    async def place(self, caller: Caller, request: OrderRequest) -> tuple[Order, bool]:
        """Order and pay, once for each `order_no` of the account; whether it is new.

        Raises Invalid for what is not offered, Conflict for a number that stands for another order, NotEnoughMoney.
        """
        project = caller.call.project
        account_id = project.account_id if project else caller.principal.account_id
        async with self._platform.database.transaction() as tx:
            await ledger.lock(tx, account_id)
            price_list = await prices.load(tx.session)
            now = now_ms()
            version = price_list.at(now)
            if version is None:
                raise Invalid("there is no price of today: the price list begins later")
            offer = self._offer(request, version)
            order = Order(
                id=new_id(),
                order_no=request.order_no or new_id(),
                account_id=account_id,
                project_id=caller.project_id,
                workspace_id=request.workspace_id,
                user_id=caller.user_id,
                user_name=caller.principal.user_name,
                kind=request.order_type,
                name=offer.name,
                quantity=offer.quantity,
                months=offer.months,
                flavors=offer.flavors,
                kinds=offer.kinds,
                micro=offer.micro,
                currency=price_list.currency,
                begins=now,
                ends=month_after(now, offer.months),
                tags=dict(request.tags),
            )
            if (earlier := await _earlier(tx.session, order)) is not None:
                return earlier, False
            await self._accounts.check_funds(tx, account_id, order.micro)
            tx.session.add(order)
            await self._pay(tx, order)
            tx.emit(
                OrderPlaced(
                    order_id=order.id,
                    account_id=account_id,
                    kind=order.kind,
                    name=order.name,
                    flavors=order.flavors,
                    quantity=order.quantity,
                    begins=order.begins,
                    ends=order.ends,
                ),
                order.resource_urn,
            )
            if order.kind == "pool":
                await self._pools.tell(tx, order, ACTIVE)
        return order, True

    async def get(self, session: AsyncSession, project_id: str, order_id: str) -> Order:
        """Raises NotFound."""
        order = await session.get(Order, order_id)
        if order is None or order.project_id != project_id:
            raise NotFound(f"there is no order '{order_id}'")
        return order

    async def list(
        self, session: AsyncSession, scope: Scope, kind: str | None, offset: int, limit: int
    ) -> tuple[int, list[Order]]:
        """One page, the newest first, and the number of all."""
        conditions = [Order.account_id == scope.account_id]
        for column, wanted in ((Order.project_id, scope.project_id), (Order.kind, kind)):
            if wanted is not None:
                conditions.append(column == wanted)
        total = (await session.exec(select(func.count()).select_from(Order).where(*conditions))).one()
        newest = select(Order).where(*conditions).order_by(col(Order.begins).desc(), col(Order.id))
        return total, list((await session.exec(newest.offset(offset).limit(limit))).all())

    def _offer(self, request: OrderRequest, version: Version) -> Offer:
        match request:
            case PackageRequest():
                return _package(request, version)
            case PoolRequest():
                flavors = {flavor.id for flavor in self._platform.workloads.flavors()}
                if request.flavor not in flavors:
                    raise Invalid(f"flavor: there is no '{request.flavor}'; there are: {', '.join(sorted(flavors))}")
                paid = YEAR_PAID if request.period_num == YEAR else request.period_num
                micro = version.micro_per_pool_month(request.flavor) * request.node_count * paid
                return Offer(request.name, request.node_count, request.period_num, [request.flavor], [], micro)
            case TuningRequest():
                if request.amount % TUNING_STEP:
                    raise Invalid(f"amount: {request.amount} is not a multiple of {TUNING_STEP}")
                return Offer("model tuning", 1, 0, [], [], int(request.amount * MICRO))

    async def _pay(self, tx: Transaction, order: Order) -> None:
        moves = []
        if order.micro:
            moves += [
                ledger.Move(ledger.BALANCE, -order.micro, order.currency),
                ledger.Move(ledger.REVENUE, order.micro, order.currency, order.id),
            ]
        if order.kind == "package":
            moves += ledger.transfer(USED, f"package/{order.id}", order.quantity, NODE_SECOND)
        if moves:
            draft = ledger.Draft(f"order/{order.id}", order.account_id, "order", order.begins, moves, order.name)
            await ledger.post(tx, draft)


def describe(order: Order, now: int, left: int | None = None) -> dict[str, Any]:
    """An order as the API shows it.

    :param left: of a package: the node-seconds that are not used as far as the ledger is settled.
    """
    shown: dict[str, Any] = {
        "order_id": order.id,
        "order_no": order.order_no,
        "order_type": order.kind,
        "name": order.name,
        "project_id": order.project_id,
        "workspace_id": order.workspace_id,
        "user_id": order.user_id,
        "user_name": order.user_name,
        "amount": exact(order.micro),
        "currency": order.currency,
        "period_num": order.months,
        "effective_time": order.begins,
        "expire_time": order.ends,
        "tags": order.tags,
    }
    if order.kind == "pool":
        shown |= {"flavor": order.flavor, "node_count": order.quantity}
        # What whoever runs the pools asks before it changes one (002 §9).
        shown |= {
            "status": "active" if now < order.ends else "expired",
            "scalable": False,
            "deletable": now >= order.ends,
        }
    elif order.kind == "package":
        shown |= {"flavors": order.flavors, "kinds": order.kinds, "node_seconds": order.quantity}
        if left is not None:
            used_up = "used_up" if not left else "active"
            shown |= {"remaining_node_seconds": left, "status": used_up if now < order.ends else "expired"}
    else:
        shown["status"] = "completed"
    return shown


async def remaining(session: AsyncSession, account_id: str, found: list[Order], before: int) -> dict[str, int]:
    """The node-seconds left in the packages among `found`, by order."""
    owned = [Package(order.id, order.quantity, order.begins, order.ends) for order in found if order.kind == "package"]
    return await left_in(session, account_id, owned, before)


def offers(price_list: PriceList, now: int) -> list[dict[str, Any]]:
    """The packages that can be bought now."""
    version = price_list.at(now)
    return [
        {
            "name": name,
            "hours": offer.hours,
            "period_num": offer.months,
            "price": f"{offer.price:f}",
            "currency": price_list.currency,
            "flavors": offer.flavors,
            "kinds": offer.kinds,
        }
        for name, offer in sorted(version.packages.items() if version else ())
    ]


def _package(request: PackageRequest, version: Version) -> Offer:
    offer = version.packages.get(request.name)
    if offer is None:
        known = ", ".join(sorted(version.packages)) or "none; the operator's price list names them"
        raise Invalid(f"name: there is no package '{request.name}'; there are: {known}")
    micro = int(offer.price * MICRO) * request.count
    return Offer(request.name, offer.hours * 3600 * request.count, offer.months, offer.flavors, offer.kinds, micro)


async def _earlier(session: AsyncSession, order: Order) -> Order | None:
    """The order of the same number. Raises Conflict when it is another one."""
    query = select(Order).where(Order.account_id == order.account_id, Order.order_no == order.order_no)
    earlier = (await session.exec(query)).first()
    if earlier is not None:
        same: tuple[str, ...] = ("project_id", "kind", "name", "quantity", "months", "flavors")
        # The amount of a tuning is what is ordered; of the others it is their price, which may be another by now.
        same += ("micro",) if order.kind == "model_tuning" else ()
        if any(getattr(earlier, name) != getattr(order, name) for name in same):
            raise Conflict(f"order_no '{order.order_no}' is another order already")
    return earlier
