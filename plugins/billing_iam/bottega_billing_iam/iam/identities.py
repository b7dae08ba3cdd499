"""What all services of this plugin share: finding an account's own things and their URNs."""

from __future__ import annotations

import re
from typing import TypeVar

from sqlalchemy.exc import IntegrityError

from bottega.database import AsyncSession, Transaction
from bottega.entities import Agency, EnterpriseProject, Group, Project, User
from bottega.errors import Conflict, NotFound
from bottega.urn import PLATFORM, Urn

Owned = TypeVar("Owned", User, Group, Project, Agency, EnterpriseProject)


async def owned(session: AsyncSession, table: type[Owned], id: str, account_id: str) -> Owned:
    """The account's own user, group, project, agency …. Raises NotFound, also for another account's."""
    row = await session.get(table, id)
    if row is None or row.account_id != account_id:
        kind = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", table.__name__).lower()
        raise NotFound(f"there is no {kind} '{id}' in this account")
    return row


async def flush_unique(tx: Transaction, taken: str) -> None:
    """Write what is pending. Raises Conflict with the message `taken` when a unique name exists already."""
    try:
        await tx.session.flush()
    except IntegrityError as e:
        raise Conflict(taken) from e


def iam_urn(kind: str, id: str) -> str:
    return str(Urn("iam", PLATFORM, kind, id))
