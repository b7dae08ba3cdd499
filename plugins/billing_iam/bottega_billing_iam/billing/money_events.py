"""Events of what money decides: arrears and their end, and budgets."""

from __future__ import annotations

from bottega.events import Event


class ArrearsBegun(Event, type="billing.arrears.begun.v1"):
    """An account could not pay an hour. What runs is stopped at `stops_at`, everything is kept until `ends_at`."""

    account_id: str
    balance: int
    currency: str
    stops_at: int
    ends_at: int


class ArrearsLifted(Event, type="billing.arrears.lifted.v1"):
    """The account has paid what it owed, the time since `began_at` included, and may begin what costs again."""

    account_id: str
    began_at: int
    balance: int
    currency: str


class RetentionBegun(Event, type="billing.retention.begun.v1"):
    """The work of an account in arrears is stopped; `workloads` were asked to end. All its data is kept."""

    account_id: str
    workloads: int
    ends_at: int


class RetentionEnded(Event, type="billing.retention.ended.v1"):
    """The retention period is over and nothing was paid. Nothing is deleted by this: the operator decides."""

    account_id: str
    began_at: int
    ended_at: int


class BudgetExceeded(Event, type="billing.budget.exceeded.v1"):
    """A budget passed a threshold (``80``, ``100``, ``forecast``) in a month (``2026-01``): once for each.

    `spent` and `amount` in millionths of `currency`. `stopped`: nothing new is begun in the scope this month.
    """

    budget_id: str
    name: str
    account_id: str
    scope: str
    scope_id: str
    period: str
    threshold: str
    spent: int
    amount: int
    currency: str
    stopped: bool


class PoolStateChanged(Event, type="billing.pool.state_changed.v1"):
    """A dedicated pool is ``active`` (ordered, or renewed), ``expired`` (its time ended unrenewed: it is kept until
    `kept_until` and can be renewed) or ``released`` (that has passed, too). `order_id` is its last order.
    """

    order_id: str
    account_id: str
    name: str
    flavor: str
    node_count: int
    state: str
    ends_at: int
    kept_until: int


EVENTS = (ArrearsBegun, ArrearsLifted, RetentionBegun, RetentionEnded, BudgetExceeded, PoolStateChanged)
