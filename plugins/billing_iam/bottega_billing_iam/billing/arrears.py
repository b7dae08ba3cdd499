"""Arrears (000 §7, 001 §7): an hour that cannot be paid, the retention period, and the way out by paying.

    normal ──hour not paid──▶ arrears ──grace_h──▶ retention ──retention days──▶ ended
       ▲                         │                     │                            │
       └──── the balance covers everything since the beginning (recharge) ──────────┘

From the first step on the gateway refuses the actions of table 7-2. "The business is not stopped at once": work goes
on for `grace_h`. Then the service ends: what runs and costs is asked to stop, and settles as if its user had stopped
it; all data is kept. Who pays owes the time since the beginning too, because it goes on being settled into the same
balance. Nothing is ever deleted here; when the period ends an event says so.

Every step looks at what is and may be taken again: a crash between two of them loses and doubles nothing.
"""

from __future__ import annotations

import structlog
from sqlmodel import col, or_, select

from bottega.context import now_ms
from bottega.database import AsyncSession, Transaction
from bottega.entities import Project, Workload
from bottega.errors import InArrears
from bottega.events import Received
from bottega.platform import Platform
from bottega.urn import PLATFORM, Urn
from bottega.workloads import FINAL

from . import ledger, prices
from .accounts import Accounts
from .bill import unsettled
from .events import EntryPosted
from .ledger_entities import Payer
from .money_entities import AccountTerms, Retention
from .money_events import ArrearsBegun, ArrearsLifted, RetentionBegun, RetentionEnded
from .settings import BillingSettings

log = structlog.get_logger("bottega.billing")
HOUR_MS = 3_600_000
_STOPPED = "the account is in arrears and its retention period has begun"


class Arrears:
    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._settings: BillingSettings = platform.settings
        self._accounts = Accounts(platform)

    async def on_entry(self, received: Received[EntryPosted], tx: Transaction) -> None:
        """The balance of an account moved."""
        await self.review(tx, received.event.account_id)

    async def review(self, tx: Transaction, account_id: str) -> None:
        """Bring an account's standing in line with its balance."""
        await ledger.lock(tx, account_id)
        terms = await self._accounts.terms(tx.session, account_id)
        present = await open_retention(tx.session, account_id)
        if terms.floor is None and present is None:
            return
        price_list = await prices.load(tx.session)
        currency = price_list.currency
        held = await ledger.balance(tx.session, account_id, currency)
        if present is None:
            if terms.floor is not None and held < terms.floor:
                await self._begin(tx, account_id, held, currency)
            return
        owed = await unsettled(tx.session, account_id, price_list, now_ms())
        if terms.floor is None or held - owed >= terms.floor:
            await self._lift(tx, present, held, currency)

    async def step(self) -> None:
        """Take every step whose time has come. Called regularly, and once at the start."""
        now = now_ms()
        waits = or_(
            col(Retention.stops_at) <= now,
            col(Retention.ended_at).is_(None) & (col(Retention.ends_at) <= now),
        )
        async with self._platform.database.read() as session:
            query = select(Retention.account_id).where(col(Retention.lifted_at).is_(None), waits)
            accounts = (await session.exec(query)).all()
        for account_id in accounts:
            async with self._platform.database.transaction() as tx:
                await ledger.lock(tx, account_id)
                present = await open_retention(tx.session, account_id)
                if present is not None:
                    await self._move_on(tx, present)

    async def review_all(self) -> None:
        """After a start: the settings may judge a balance otherwise than before."""
        queries = [
            select(AccountTerms.account_id),
            select(Retention.account_id).where(col(Retention.lifted_at).is_(None)),
        ]
        if self._settings.mode == "prepaid":
            queries.append(select(Payer.account_id))
        async with self._platform.database.read() as session:
            accounts = {ident for query in queries for ident in (await session.exec(query)).all()}
        for account_id in sorted(accounts):
            async with self._platform.database.transaction() as tx:
                await self.review(tx, account_id)

    async def admit(self, session: AsyncSession, workload: Workload) -> None:
        """Raises InArrears for a workload that costs, of an account whose retention period has begun."""
        query = (
            select(Retention)
            .join(Project, col(Project.account_id) == Retention.account_id)
            .where(Project.id == workload.project_id, col(Retention.lifted_at).is_(None))
        )
        present = (await session.exec(query)).first()
        if present is None or present.stopped_at is None:
            return
        if (await prices.load(session)).micro_per_hour(workload.flavor, workload.kind, now_ms()):
            raise InArrears(f"{_STOPPED}: nothing that costs runs until the account is recharged")

    async def _begin(self, tx: Transaction, account_id: str, held: int, currency: str) -> None:
        now = now_ms()
        stops_at = now + int(self._settings.grace_h * HOUR_MS)
        ends_at = stops_at + await self._accounts.retention_ms(tx.session, account_id)
        present = Retention(account_id=account_id, began_at=now, stops_at=stops_at, ends_at=ends_at)
        tx.session.add(present)
        await self._platform.identity.set_standing(tx, account_id, "arrears")
        tx.emit(
            ArrearsBegun(account_id=account_id, balance=held, currency=currency, stops_at=stops_at, ends_at=ends_at),
            account_urn(account_id),
        )
        log.info("account in arrears", account=account_id, stops_at=stops_at)
        await self._move_on(tx, present)

    async def _move_on(self, tx: Transaction, present: Retention) -> None:
        now = now_ms()
        if present.stops_at <= now:
            # Again at every step: a workload may have been admitted by a request that ran beside the first time.
            stopped = await self._stop_work(tx, present.account_id)
            if present.stopped_at is None:
                present.stopped_at = now
                begun = RetentionBegun(account_id=present.account_id, workloads=stopped, ends_at=present.ends_at)
                tx.emit(begun, account_urn(present.account_id))
        if present.ended_at is None and present.ends_at <= now:
            present.ended_at = now
            ended = RetentionEnded(account_id=present.account_id, began_at=present.began_at, ended_at=present.ends_at)
            tx.emit(ended, account_urn(present.account_id))
        tx.session.add(present)

    async def _lift(self, tx: Transaction, present: Retention, held: int, currency: str) -> None:
        present.lifted_at = now_ms()
        tx.session.add(present)
        await self._platform.identity.set_standing(tx, present.account_id, "normal")
        lifted = ArrearsLifted(
            account_id=present.account_id, began_at=present.began_at, balance=held, currency=currency
        )
        tx.emit(lifted, account_urn(present.account_id))
        log.info("account out of arrears", account=present.account_id)

    async def _stop_work(self, tx: Transaction, account_id: str) -> int:
        price_list, now, stopped = await prices.load(tx.session), now_ms(), 0
        query = (
            select(Workload)
            .join(Project, col(Project.id) == Workload.project_id)
            .where(Project.account_id == account_id, col(Workload.state).not_in(FINAL))
            .where(col(Workload.stop_requested_at).is_(None))
        )
        for workload in (await tx.session.exec(query)).all():
            if price_list.micro_per_hour(workload.flavor, workload.kind, now):
                stopped += await self._platform.workloads.stop(tx, workload.id, _STOPPED)
        return stopped


async def open_retention(session: AsyncSession, account_id: str) -> Retention | None:
    """The time in arrears that an account is in."""
    query = select(Retention).where(Retention.account_id == account_id, col(Retention.lifted_at).is_(None))
    return (await session.exec(query)).first()


def account_urn(account_id: str) -> Urn:
    return Urn("billing", PLATFORM, "account", account_id)
