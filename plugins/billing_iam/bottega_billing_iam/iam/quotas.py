"""How many users, groups, agencies … an account may have (002 §10.1); an administrator's own limits go first."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func
from sqlmodel import col, select

from bottega.database import AsyncSession, Transaction
from bottega.entities import Account, Agency, EnterpriseProject, Group, Policy, Project, QuotaLimit, User
from bottega.errors import QuotaExceeded
from bottega.platform import Platform

_TABLES: dict[str, Any] = {
    "user": User,
    "group": Group,
    "agency": Agency,
    "policy": Policy,
    "project": Project,
    "enterprise_project": EnterpriseProject,
}
KINDS = tuple(_TABLES)


class Quotas:
    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    async def limit(self, session: AsyncSession, account_id: str, kind: str) -> int:
        own = await session.get(QuotaLimit, (account_id, "iam", kind))
        return own.maximum if own else int(getattr(self._platform.settings.quotas, kind))

    async def used(self, session: AsyncSession, account_id: str, kind: str) -> int:
        table = _TABLES[kind]
        counted = select(func.count()).select_from(table).where(col(table.account_id) == account_id)
        return (await session.exec(counted)).one()

    async def report(self, account_id: str, kind: str) -> dict[str, Any]:
        """One line of the vendor's quota list."""
        async with self._platform.database.read() as session:
            limit, used = await self.limit(session, account_id, kind), await self.used(session, account_id, kind)
        return {"type": kind, "quota": limit, "max": limit, "min": 0, "used": used}

    async def admit(self, tx: Transaction, account_id: str, kind: str) -> None:
        """Raises QuotaExceeded when the account has as many as it may; one creation after the other."""
        # The lock makes creations of one account serial on PostgreSQL; SQLite has one writer anyway.
        await tx.session.get(Account, account_id, with_for_update=True)
        limit = await self.limit(tx.session, account_id, kind)
        if await self.used(tx.session, account_id, kind) >= limit:
            raise QuotaExceeded(f"the account has {limit} of '{kind}', the most allowed; delete one or ask for more")
