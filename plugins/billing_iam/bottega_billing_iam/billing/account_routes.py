"""``/v2/{project_id}/balance`` for who pays, ``/v2/billing/accounts`` for the operator."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import func
from sqlmodel import select

from bottega.context import now_ms
from bottega.database import AsyncSession
from bottega.entities import Account
from bottega.errors import Forbidden
from bottega.gateway import Caller, Page, paging, requires
from bottega.platform import Platform
from bottega.routing import Router
from bottega.urn import new_id

from . import ledger, prices
from .accounts import Accounts, Terms
from .arrears import Arrears, open_retention
from .bill import exact, unsettled
from .money_entities import Retention
from .prices import MICRO, PriceList

VIEW, MANAGE, RECHARGE = "bss:balance:view", "bss:account:update", "bss:account:recharge"
LIST = "bss:account:list"
_ACCOUNT = "account/{account_id}"
_MOST = 10**9
_PLAIN = r"^[^\x00-\x1f]*$"

Amount = Annotated[prices.Price, Field(gt=0, le=_MOST)]
Credit = Annotated[prices.Price, Field(ge=0, le=_MOST)]


class Recharge(BaseModel):
    """`order_no` makes it happen once, however often it is sent; without one each request is another recharge."""

    model_config = ConfigDict(extra="forbid")
    amount: Amount
    order_no: str | None = Field(None, pattern=r"^[A-Za-z0-9._:-]{1,64}$")
    memo: str = Field("", max_length=256, pattern=_PLAIN)


class TermsChange(BaseModel):
    """What is null, the installation's settings say."""

    model_config = ConfigDict(extra="forbid")
    mode: Literal["postpaid", "prepaid"] | None = None
    credit: Credit | None = None
    level: str = Field("", max_length=64, pattern=_PLAIN)


def router(platform: Platform) -> APIRouter:
    routes = Router()
    accounts, arrears = Accounts(platform), Arrears(platform)

    async def shown(session: AsyncSession, account: Account, price_list: PriceList) -> dict[str, Any]:
        terms = await accounts.terms(session, account.id)
        held = await ledger.balance(session, account.id, price_list.currency)
        running = await unsettled(session, account.id, price_list, now_ms())
        return {
            "account_id": account.id,
            "account_name": account.name,
            "currency": price_list.currency,
            "balance": exact(held),
            "unsettled": exact(running),
            **_limits(terms, held - running),
            "standing": account.standing,
            "arrears": _arrears(await open_retention(session, account.id)),
        }

    @routes.get("/v2/{project_id}/balance")
    async def balance(caller: Caller = requires(VIEW)) -> dict[str, Any]:
        """What the account has, what of the running hour is not settled yet, and how far it may go."""
        account_id = await caller.check_account(VIEW)
        async with platform.database.read() as session:
            account = await accounts.check_exists(session, account_id)
            return await shown(session, account, await prices.load(session))

    @routes.get("/v2/billing/accounts")
    async def list_accounts(page: Page = paging(100), caller: Caller = requires(LIST)) -> dict[str, Any]:
        """All accounts with their balance and standing, by name; the operator's only."""
        await _operator(caller)
        async with platform.database.read() as session:
            total = (await session.exec(select(func.count()).select_from(Account))).one()
            query = select(Account).order_by(Account.name).offset(page.offset).limit(page.limit)
            price_list = await prices.load(session)
            rows = [await shown(session, account, price_list) for account in (await session.exec(query)).all()]
        return {"total_count": total, "accounts": rows}

    @routes.put("/v2/billing/accounts/{account_id}/terms")
    async def change_terms(
        account_id: str, body: TermsChange, caller: Caller = requires(MANAGE, _ACCOUNT)
    ) -> dict[str, Any]:
        """How the account pays; the operator's only."""
        await _operator(caller)
        credit = int(body.credit * MICRO) if body.credit is not None else None
        async with platform.database.transaction() as tx:
            await accounts.change_terms(tx, account_id, mode=body.mode, credit=credit, level=body.level)
            await arrears.review(tx, account_id)
            account = await accounts.check_exists(tx.session, account_id)
            return await shown(tx.session, account, await prices.load(tx.session))

    @routes.post("/v2/billing/accounts/{account_id}/recharges", status_code=201)
    async def recharge(
        account_id: str, body: Recharge, caller: Caller = requires(RECHARGE, _ACCOUNT)
    ) -> dict[str, Any]:
        """Add to the balance; what the account owes is paid by it, and it is out of arrears when all is covered."""
        await _operator(caller)
        order_no = body.order_no or new_id()
        async with platform.database.transaction() as tx:
            posted = await accounts.recharge(tx, account_id, int(body.amount * MICRO), order_no, body.memo)
            await arrears.review(tx, account_id)
            account = await accounts.check_exists(tx.session, account_id)
            now = await shown(tx.session, account, await prices.load(tx.session))
        return {"order_no": order_no, "entry_id": posted.id, "new": posted.new, "account": now}

    return routes


async def _operator(caller: Caller) -> None:
    await caller.check_operator(
        Forbidden("this is the operator's: only users of the platform's first account may do it")
    )


def _limits(terms: Terms, available: int) -> dict[str, Any]:
    prepaid = terms.floor is not None
    return {
        "mode": terms.mode,
        "level": terms.level,
        "credit": exact(terms.credit) if prepaid else None,
        "available": exact(available + terms.credit) if prepaid else None,
    }


def _arrears(present: Retention | None) -> dict[str, Any] | None:
    if present is None:
        return None
    state = "ended" if present.ended_at else "retention" if present.stopped_at else "grace"
    return {
        "state": state,
        "began_at": present.began_at,
        "stops_at": present.stops_at,
        "ends_at": present.ends_at,
    }
