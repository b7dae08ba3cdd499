"""Budgets: what a scope may spend in a calendar month, told when it passes a threshold, and stopped where asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby

from sqlmodel import col, delete, select

from bottega.context import now_ms
from bottega.database import AsyncSession, Transaction
from bottega.entities import Project, Resource, Workload
from bottega.errors import Forbidden, Invalid, NotFound
from bottega.events import Received
from bottega.notifications import notify
from bottega.platform import Platform
from bottega.urn import PLATFORM, Urn
from bottega.workloads import FINAL

from . import bill, prices
from .asked import month_after, month_of
from .bill import Scope, exact
from .entities import UsageRecord
from .events import EntryPosted
from .money_entities import Budget, BudgetAlarm
from .money_events import BudgetExceeded

FORECAST, STOP = "forecast", "stop"
"""Thresholds that are no percents; ``stop`` is remembered beside the others and not told again."""
_FORECAST_AFTER_MS = 86_400_000


class BudgetSpent(Forbidden):
    """The budget of this is spent, and what costs is refused for the rest of the month."""

    code = "ModelArts.0114"


@dataclass(frozen=True, slots=True)
class Month:
    """A calendar month, UTC. `name` is ``2026-01``; times in epoch ms."""

    name: str
    begins: int
    ends: int

    @classmethod
    def of(cls, at: int) -> Month:
        begins = month_of(at)
        return cls(datetime.fromtimestamp(begins / 1000, UTC).strftime("%Y-%m"), begins, month_after(begins))


class Budgets:
    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    async def get(self, session: AsyncSession, account_id: str, budget_id: str) -> Budget:
        """Raises NotFound."""
        budget = await session.get(Budget, budget_id)
        if budget is None or budget.account_id != account_id:
            raise NotFound(f"there is no budget '{budget_id}'")
        return budget

    async def listing(self, session: AsyncSession, account_id: str, project_id: str | None) -> Sequence[Budget]:
        """The budgets of an account, or those of one project and what is in it, by name."""
        query = select(Budget).where(Budget.account_id == account_id)
        if project_id is not None:
            query = query.where(Budget.project_id == project_id)
        return (await session.exec(query.order_by(Budget.name, col(Budget.id)))).all()

    async def alarms(self, session: AsyncSession, budget_id: str) -> Sequence[BudgetAlarm]:
        """What was told of a budget, the newest first."""
        query = select(BudgetAlarm).where(BudgetAlarm.budget_id == budget_id, BudgetAlarm.threshold != STOP)
        return (await session.exec(query.order_by(col(BudgetAlarm.at).desc()))).all()

    async def changed(self, tx: Transaction, budget: Budget) -> None:
        """A budget is new, or another one by now: what was told of it this month is to be judged again."""
        budget.updated_at = now_ms()
        tx.session.add(budget)
        await tx.session.flush()
        here = (col(BudgetAlarm.budget_id) == budget.id, col(BudgetAlarm.period) == Month.of(now_ms()).name)
        await tx.session.exec(delete(BudgetAlarm).where(*here))
        await self._review(tx, budget.id, Month.of(now_ms()))

    async def delete(self, tx: Transaction, budget: Budget) -> None:
        await tx.session.exec(delete(BudgetAlarm).where(col(BudgetAlarm.budget_id) == budget.id))
        await tx.session.delete(budget)

    async def spent(self, session: AsyncSession, budget: Budget) -> int:
        """What the scope of a budget cost this month, up to now, in millionths."""
        return (await _spent(session, [budget], Month.of(now_ms())))[0]

    async def on_entry(self, received: Received[EntryPosted], tx: Transaction) -> None:
        """An account was charged: look at its budgets, of the month it is about too, if that has ended meanwhile."""
        if received.event.moved < 0:
            budgets = await self.listing(tx.session, received.event.account_id, None)
            for month in {Month.of(now_ms()), Month.of(received.event.at)}:
                for budget in await self._due(tx.session, budgets, month):
                    await self._review(tx, budget.id, month)

    async def step(self) -> None:
        """Look at the budgets of accounts that use something now. Called regularly; charges come by `on_entry`."""
        using = select(UsageRecord.account_id).where(col(UsageRecord.finished_at).is_(None))
        month = Month.of(now_ms())
        async with self._platform.database.read() as session:
            query = select(Budget).where(col(Budget.account_id).in_(using))
            budgets = (await session.exec(query.order_by(Budget.account_id))).all()
            of_accounts = [list(budgets) for _, budgets in groupby(budgets, key=lambda budget: budget.account_id)]
            due = [budget for each in of_accounts for budget in await self._due(session, each, month)]
        for budget in due:
            async with self._platform.database.transaction() as tx:
                await self._review(tx, budget.id, month)

    async def admit(self, session: AsyncSession, workload: Workload) -> None:
        """Raises BudgetSpent for a workload that costs, in the scope of a budget that is spent and stops."""
        month = Month.of(now_ms())
        query = (
            select(Budget, BudgetAlarm)
            .join(Project, col(Project.account_id) == Budget.account_id)
            .join(BudgetAlarm, col(BudgetAlarm.budget_id) == Budget.id)
            .where(Project.id == workload.project_id, BudgetAlarm.period == month.name, BudgetAlarm.threshold == STOP)
        )
        for budget, alarm in (await session.exec(query)).all():
            if await self._concerns(session, budget, workload) and await self._costs(session, workload):
                until = datetime.fromtimestamp(month.ends / 1000, UTC).date()
                raise BudgetSpent(
                    f"budget '{budget.name}' of {budget.scope} '{budget.scope_id}' is spent "
                    f"({exact(alarm.spent)} of {exact(budget.amount)} in {month.name}): what costs is refused until "
                    f"{until} or a higher budget"
                )

    async def _due(self, session: AsyncSession, budgets: Sequence[Budget], month: Month) -> list[Budget]:
        """Those of an account's budgets that have something to tell or to stop, without locking any of them."""
        judged = [budget for budget in budgets if _judges(budget, month)]
        if not judged:
            return []
        here = col(BudgetAlarm.budget_id).in_([budget.id for budget in judged]), BudgetAlarm.period == month.name
        told = select(BudgetAlarm.budget_id, BudgetAlarm.threshold).where(*here)
        known = set((await session.exec(told)).all())
        sums = zip(judged, await _spent(session, judged, month), strict=True)
        return [
            budget
            for budget, spent in sums
            if any(passed == STOP or (budget.id, passed) not in known for passed in _passed(budget, month, spent))
        ]

    async def _review(self, tx: Transaction, budget_id: str, month: Month) -> None:
        """Tell of the thresholds that are newly passed; stop what runs when the budget says so."""
        locked = select(Budget).where(Budget.id == budget_id).with_for_update()
        budget = (await tx.session.exec(locked.execution_options(populate_existing=True))).first()
        if budget is None or not _judges(budget, month):
            return  # deleted or changed meanwhile
        price_list = await prices.load(tx.session)
        (spent,) = await _spent(tx.session, [budget], month)
        passed = _passed(budget, month, spent)
        stops = STOP in passed
        told = select(BudgetAlarm.threshold).where(BudgetAlarm.budget_id == budget.id)
        known = set((await tx.session.exec(told.where(BudgetAlarm.period == month.name))).all())
        for threshold in passed:
            if threshold not in known:
                tx.session.add(BudgetAlarm(budget_id=budget.id, period=month.name, threshold=threshold, spent=spent))
                if threshold != STOP:
                    self._tell(tx, budget, month, threshold, spent, price_list.currency, stops)
        if stops:
            await self._stop_work(tx, budget)

    def _tell(
        self, tx: Transaction, budget: Budget, month: Month, threshold: str, spent: int, currency: str, stopped: bool
    ) -> None:
        urn = str(budget_urn(budget))
        tx.emit(
            BudgetExceeded(
                budget_id=budget.id,
                name=budget.name,
                account_id=budget.account_id,
                scope=budget.scope,
                scope_id=budget.scope_id,
                period=month.name,
                threshold=threshold,
                spent=spent,
                amount=budget.amount,
                currency=currency,
                stopped=stopped,
            ),
            urn,
        )
        if budget.topic_urn:
            passed = "is expected to be exceeded" if threshold == FORECAST else f"has passed {threshold} %"
            text = (
                f"Budget '{budget.name}' of {budget.scope} '{budget.scope_id}' {passed}: {exact(spent)} of "
                f"{exact(budget.amount)} {currency} in {month.name}."
            )
            notify(tx, urn, budget.topic_urn, f"Budget '{budget.name}' {passed}", text)

    async def _stop_work(self, tx: Transaction, budget: Budget) -> None:
        query = (
            select(Workload)
            .join(Project, col(Project.id) == Workload.project_id)
            .where(Project.account_id == budget.account_id, col(Workload.state).not_in(FINAL))
            .where(col(Workload.stop_requested_at).is_(None))
        )
        for workload in (await tx.session.exec(query)).all():
            if await self._concerns(tx.session, budget, workload) and await self._costs(tx.session, workload):
                await self._platform.workloads.stop(tx, workload.id, f"budget '{budget.name}' is spent")

    async def _concerns(self, session: AsyncSession, budget: Budget, workload: Workload) -> bool:
        match budget.scope:
            case "account":
                return True
            case "project":
                return workload.project_id == budget.project_id
            case "workspace":
                here = (workload.project_id, workload.workspace_id)
                return here == (budget.project_id, budget.scope_id)
            case "user":
                return workload.user_id == budget.scope_id
        resource = await session.get(Resource, Urn.parse(workload.resource_urn).id)
        key, _, value = budget.scope_id.partition(":")
        return resource is not None and resource.tags.get(key) == value

    async def _costs(self, session: AsyncSession, workload: Workload) -> bool:
        return (await prices.load(session)).micro_per_hour(workload.flavor, workload.kind, now_ms()) > 0


def _judges(budget: Budget, month: Month) -> bool:
    """Whether a month is to be judged by a budget: the present one, or one in which it stood as it does now."""
    return month.ends > now_ms() or budget.updated_at < month.ends


def _passed(budget: Budget, month: Month, spent: int) -> list[str]:
    """The thresholds that `spent` millionths pass; a month that has ended is neither foreseen nor stopped."""
    now = now_ms()
    passed = [str(threshold) for threshold in sorted(budget.thresholds) if spent * 100 >= threshold * budget.amount]
    if now >= month.ends:
        return passed
    elapsed = now - month.begins
    if budget.forecast and elapsed >= _FORECAST_AFTER_MS:
        expected = spent * (month.ends - month.begins) // elapsed
        passed += [FORECAST] if expected > budget.amount else []
    return [*passed, STOP] if budget.stop and spent >= budget.amount else passed


async def _spent(session: AsyncSession, budgets: Sequence[Budget], month: Month) -> list[int]:
    """What the scopes of some budgets of one account cost in a month, up to now, in millionths."""
    scopes = [_scope(budget) for budget in budgets]
    price_list = await prices.load(session)
    return await bill.spent(session, budgets[0].account_id, scopes, price_list, month.begins, month.ends)


def budget_urn(budget: Budget) -> Urn:
    return Urn("billing", budget.project_id or PLATFORM, "budget", budget.id)


def check_tag(text: str) -> None:
    """Raises Invalid unless it is ``key:value``."""
    key, separator, _ = text.partition(":")
    if not key or not separator:
        raise Invalid(f"scope.id '{text[:80]}' is not a tag; write key:value")


def _scope(budget: Budget) -> Scope:
    key, _, value = budget.scope_id.partition(":")
    return Scope(
        budget.account_id,
        project_id=budget.project_id,
        workspace_id=budget.scope_id if budget.scope == "workspace" else None,
        user_id=budget.scope_id if budget.scope == "user" else None,
        tag=(key, value) if budget.scope == "tag" else None,
    )
