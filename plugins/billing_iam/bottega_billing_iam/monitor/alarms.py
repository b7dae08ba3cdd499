"""Alarm rules: kept by users, looked at after every sampling, told to topics."""

from __future__ import annotations

import operator
from collections.abc import Callable

from sqlalchemy import func
from sqlmodel import col, select

from bottega.context import now_ms
from bottega.database import AsyncSession, Transaction
from bottega.errors import NotFound, QuotaExceeded
from bottega.notifications import notify
from bottega.platform import Platform
from bottega.urn import PLATFORM, Urn

from . import points
from .entities import AlarmRule
from .events import AlarmCleared, AlarmRaised
from .points import MINUTE_MS
from .sampling import PLATFORM_NAMESPACE

COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "=": operator.eq,
    "<=": operator.le,
    "<": operator.lt,
}


def place_of(namespace: str, project_id: str) -> str:
    """Where points of a namespace are kept: those of the platform belong to no project."""
    return PLATFORM if namespace == PLATFORM_NAMESPACE else project_id


class Alarms:
    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    async def create(self, rule: AlarmRule) -> AlarmRule:
        """Raises QuotaExceeded when the account has as many as it may."""
        maximum = self._platform.settings.alarms_per_account
        async with self._platform.database.transaction() as tx:
            counted = select(func.count()).select_from(AlarmRule).where(AlarmRule.account_id == rule.account_id)
            used = (await tx.session.exec(counted)).one()
            if used >= maximum:
                raise QuotaExceeded(f"the account has {used} of {maximum} alarm rules; delete one")
            tx.session.add(rule)
        return rule

    async def get(self, session: AsyncSession, project_id: str, alarm_id: str) -> AlarmRule:
        """Raises NotFound when there is none in this project."""
        rule = await session.get(AlarmRule, alarm_id)
        if rule is None or rule.project_id != project_id:
            raise NotFound(f"there is no alarm rule '{alarm_id}' in this project")
        return rule

    async def evaluate(self) -> None:
        """Look at every rule that is switched on; each change of state commits with its event and messages."""
        async with self._platform.database.read() as session:
            ids = (await session.exec(select(AlarmRule.id).where(col(AlarmRule.enabled)))).all()
        for alarm_id in ids:
            async with self._platform.database.transaction() as tx:
                rule = await tx.session.get(AlarmRule, alarm_id, with_for_update=True)
                if rule is not None and rule.enabled:
                    await self._evaluate(tx, rule)

    async def _evaluate(self, tx: Transaction, rule: AlarmRule) -> None:
        now = now_ms()
        values = await self._recent(tx.session, rule, now)
        if not values:
            state = "insufficient_data"
        elif len(values) == rule.count and all(COMPARISONS[rule.comparison](v, rule.threshold) for v in values):
            state = "alarm"
        elif COMPARISONS[rule.comparison](values[-1], rule.threshold):
            return  # crossed, but not yet for as long as the rule asks
        else:
            state = "ok"
        changed = state != rule.state
        again = (
            state == "alarm"
            and rule.suppress_s > 0
            and rule.told_at is not None
            and now - rule.told_at >= rule.suppress_s * 1000
        )
        if not changed and not again:
            return
        before, rule.state = rule.state, state
        if changed:
            rule.state_at = now
        tx.session.add(rule)
        if state == "alarm":
            rule.told_at = now
            self._tell(tx, rule, rule.alarm_topics, "alarm", values[-1])
            if changed:
                tx.emit(
                    AlarmRaised(
                        alarm_id=rule.id,
                        name=rule.name,
                        metric=rule.metric,
                        dimensions=rule.dimensions,
                        value=values[-1],
                        comparison=rule.comparison,
                        threshold=rule.threshold,
                    ),
                    urn_of(rule),
                )
        elif before == "alarm" and state == "ok":
            self._tell(tx, rule, rule.ok_topics, "ok again", values[-1])
            tx.emit(
                AlarmCleared(
                    alarm_id=rule.id,
                    name=rule.name,
                    metric=rule.metric,
                    dimensions=rule.dimensions,
                    value=values[-1],
                ),
                urn_of(rule),
            )

    async def _recent(self, session: AsyncSession, rule: AlarmRule, now: int) -> list[float]:
        """The values of the last `count` periods that have data, the present minute belonging to the last."""
        period = max(rule.period_s * 1000, MINUTE_MS)
        end = now // MINUTE_MS * MINUTE_MS + MINUTE_MS
        span = range(end - period * rule.count, end)
        place = place_of(rule.namespace, rule.project_id)
        found = await points.series(session, place, rule.metric, rule.dimensions, rule.statistic, period, span)
        return [value for _, value in found]

    def _tell(self, tx: Transaction, rule: AlarmRule, topics: list[str], what: str, value: float) -> None:
        if not rule.tells:
            return
        subject = f"[{what}] {rule.name}"
        message = (
            f"{rule.name}: {rule.statistic} of {rule.metric} of {rule.dimensions or 'the platform'}"
            f" is {value:g}{rule.unit}"
            f" (rule: {rule.comparison} {rule.threshold:g}{rule.unit} for {rule.count} x {rule.period_s} s)"
        )
        for topic in topics:
            notify(tx, urn_of(rule), topic, subject, message)


def urn_of(rule: AlarmRule) -> str:
    return str(Urn("monitor", rule.project_id, "alarm", rule.id))
