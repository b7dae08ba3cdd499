"""Bounding wrong passwords: a lockout that outlives restarts, and a limit of tries from one address."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from weakref import WeakValueDictionary

import anyio
from limits import RateLimitItem
from limits import parse as parse_limit
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import MovingWindowRateLimiter
from sqlalchemy import BigInteger
from sqlmodel import Field, SQLModel, col, delete, select

from bottega.calls import current_call
from bottega.context import now_ms
from bottega.database import AsyncSession, Database
from bottega.errors import TooManyRequests, Unauthenticated

MINUTE_MS = 60_000
_EVERYWHERE = 10
"""So many times the failures that lock somebody out from one address lock it out from all."""
_KEPT_MS = 2 * 86_400_000


class LoginFailureColumns(SQLModel):
    """A wrong password: the columns of a plugin's table of them, which has an index over `who` and `at`.

    `who` is an id, or for a login that names nobody a digest of what it said.
    """

    id: str = Field(default_factory=lambda: uuid.uuid4().hex, primary_key=True)
    who: str
    address: str
    at: int = Field(default_factory=now_ms, sa_type=BigInteger, index=True)


@dataclass(frozen=True, slots=True)
class Lockout:
    """`times` failures within `period_ms` lock for `duration_ms`."""

    times: int = 5
    period_ms: int = 15 * MINUTE_MS
    duration_ms: int = 15 * MINUTE_MS


class Throttle:
    """Counts failures in `table`; `per_address` bounds logins, right or wrong, in the notation of ``limits``."""

    def __init__(self, database: Database, table: type[LoginFailureColumns], per_address: str) -> None:
        self._database = database
        self._table = table
        self._per_address: RateLimitItem = parse_limit(per_address)
        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        self._turns: WeakValueDictionary[str, anyio.Lock] = WeakValueDictionary()

    async def admit(self, address: str) -> None:
        """Count a login from an address, right or wrong. Raises TooManyRequests."""
        if not await self._limiter.hit(self._per_address, "address", address):
            raise TooManyRequests(f"more than {self._per_address} logins from your address; wait and try again")

    @asynccontextmanager
    async def turn(self, who: str) -> AsyncIterator[None]:
        """One try of somebody after the other, so that tries at the same time cannot slip through."""
        lock = self._turns.setdefault(who, anyio.Lock())
        async with lock:
            yield

    async def check(self, who: str, address: str, lockout: Lockout) -> None:
        """Raises TooManyRequests while `who` is locked out, from this address or from all."""
        table = self._table
        since = now_ms() - lockout.period_ms - lockout.duration_ms
        query = select(table).where(table.who == who, table.at > since)
        async with self._database.read() as session:
            failures = (await session.exec(query.order_by(col(table.at)))).all()
        here = [failure.at for failure in failures if failure.address == address]
        until = max(
            _locked_until(here, lockout.times, lockout),
            _locked_until([failure.at for failure in failures], lockout.times * _EVERYWHERE, lockout),
        )
        if until > now_ms():
            minutes = -((now_ms() - until) // MINUTE_MS)
            raise TooManyRequests(f"{lockout.times} failed logins of this user: locked for {minutes} more minutes")

    async def failed(self, who: str, address: str) -> None:
        table = self._table
        async with self._database.transaction() as tx:
            tx.session.add(table(who=who, address=address))
            await tx.session.exec(delete(table).where(col(table.at) < now_ms() - _KEPT_MS))

    async def forget(self, session: AsyncSession, who: str, address: str) -> None:
        """After the right password: the failures from this address do not count any more."""
        table = self._table
        await session.exec(delete(table).where(col(table.who) == who, col(table.address) == address))


def record_as(error: Unauthenticated) -> None:
    """Let the failure commit with the record of a refused call, not of one that went well so far."""
    call = current_call.get()
    if call is not None:
        call.status, call.code, call.reason = error.status, error.code, error.message


def _locked_until(failures: list[int], most: int, lockout: Lockout) -> int:
    """When the last lock ends that some failures, oldest first, bring; 0 for none."""
    ends = (
        last + lockout.duration_ms
        for first, last in zip(failures, failures[most - 1 :], strict=False)
        if last - first <= lockout.period_ms
    )
    return max(ends, default=0)
