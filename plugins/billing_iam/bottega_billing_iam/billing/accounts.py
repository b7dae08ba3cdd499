"""How accounts pay: after use (postpaid) or from a balance they filled before (prepaid), and recharging it."""

from __future__ import annotations

from dataclasses import dataclass

from sqlmodel import select

from bottega.context import now_ms
from bottega.database import AsyncSession, Transaction
from bottega.entities import Account
from bottega.errors import Forbidden, NotFound
from bottega.platform import Platform

from . import ledger, prices
from .bill import DAY, exact
from .ledger_entities import Entry
from .money_entities import AccountTerms
from .settings import BillingSettings


class NotEnoughMoney(Forbidden):
    """The balance of the account does not cover this."""

    code = "ModelArts.0113"


@dataclass(frozen=True, slots=True)
class Terms:
    """How an account pays, its own terms before the installation's. `credit` in millionths."""

    mode: str
    credit: int
    level: str

    @property
    def floor(self) -> int | None:
        """The least the balance may be, in millionths; None for an account that pays after use."""
        return -self.credit if self.mode == "prepaid" else None


class Accounts:
    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._settings: BillingSettings = platform.settings

    async def check_exists(self, session: AsyncSession, account_id: str) -> Account:
        """Raises NotFound."""
        account = await session.get(Account, account_id)
        if account is None:
            raise NotFound(f"there is no account '{account_id}'")
        return account

    async def terms(self, session: AsyncSession, account_id: str) -> Terms:
        own = await session.get(AccountTerms, account_id)
        settings = self._settings
        credit = own.credit if own is not None and own.credit is not None else int(settings.credit * prices.MICRO)
        return Terms((own and own.mode) or settings.mode, credit, own.level if own else "")

    async def retention_ms(self, session: AsyncSession, account_id: str) -> int:
        """How long what an account no longer pays for is kept."""
        settings, level = self._settings, (await self.terms(session, account_id)).level
        return int(settings.retention_days_by_level.get(level, settings.retention_days) * DAY)

    async def change_terms(
        self, tx: Transaction, account_id: str, *, mode: str | None, credit: int | None, level: str
    ) -> Terms:
        """Give an account terms of its own; None takes the installation's again. Raises NotFound."""
        await self.check_exists(tx.session, account_id)
        own = await tx.session.get(AccountTerms, account_id) or AccountTerms(account_id=account_id)
        own.mode, own.credit, own.level, own.updated_at = mode, credit, level, now_ms()
        tx.session.add(own)
        await tx.session.flush()
        return await self.terms(tx.session, account_id)

    async def recharge(self, tx: Transaction, account_id: str, amount: int, order_no: str, memo: str) -> ledger.Posted:
        """Add `amount` millionths to a balance, once for each `order_no` of the account.

        Raises NotFound for the account, Conflict when the order number stands for another amount.
        """
        await self.check_exists(tx.session, account_id)
        await ledger.lock(tx, account_id)
        currency = (await prices.load(tx.session)).currency
        key = f"recharge/{account_id}/{order_no}"
        earlier = (await tx.session.exec(select(Entry).where(Entry.key == key))).first()
        return await ledger.post(
            tx,
            ledger.Draft(
                key,
                account_id,
                "recharge",
                earlier.at if earlier else now_ms(),
                ledger.transfer(ledger.CASH, ledger.BALANCE, amount, currency),
                memo,
            ),
        )

    async def check_funds(self, tx: Transaction, account_id: str, micro: int) -> None:
        """Raises NotEnoughMoney when a prepaid account may not spend so many millionths at once."""
        floor = (await self.terms(tx.session, account_id)).floor
        if floor is None:
            return
        await ledger.lock(tx, account_id)
        currency = (await prices.load(tx.session)).currency
        left = await ledger.balance(tx.session, account_id, currency) - floor
        if micro > left:
            raise NotEnoughMoney(
                f"this costs {exact(micro)} {currency} and the account has {exact(left)} left; recharge it first"
            )
