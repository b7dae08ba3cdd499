"""Permanent access keys (AK/SK): at most two a user, the secret shown once (002 §10.1)."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import func
from sqlmodel import col, select

from bottega.context import Principal
from bottega.database import AsyncSession
from bottega.entities import Credential, User
from bottega.errors import Forbidden, NotFound, QuotaExceeded
from bottega.identity import Issued
from bottega.platform import Platform

from .events import CredentialChanged, CredentialCreated, CredentialDeleted
from .identities import iam_urn, owned


class Credentials:
    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._maximum: int = platform.settings.access_keys_per_user

    async def list(self, account_id: str, user_id: str) -> Sequence[Credential]:
        async with self._platform.database.read() as session:
            await owned(session, User, user_id, account_id)
            query = select(Credential).where(Credential.user_id == user_id)
            return (await session.exec(query.order_by(col(Credential.created_at)))).all()

    async def get(self, account_id: str, access_key: str) -> Credential:
        async with self._platform.database.read() as session:
            return (await _owned(session, access_key, account_id))[0]

    async def create(self, by: Principal, user_id: str, description: str) -> tuple[Credential, Issued]:
        """Raises QuotaExceeded when the user has as many as it may, Forbidden for another's account login."""
        async with self._platform.database.transaction() as tx:
            await owned(tx.session, User, user_id, by.account_id)
            # Locking the user's row makes this serial on PostgreSQL; SQLite has one writer anyway.
            user = await tx.session.get_one(User, user_id, with_for_update=True)
            _refuse_root(user, by)
            if user.access_mode == "console":
                raise Forbidden(f"user '{user.name}' has console access only (access_mode), thus no access keys")
            counted = select(func.count()).select_from(Credential).where(Credential.user_id == user_id)
            if (await tx.session.exec(counted)).one() >= self._maximum:
                raise QuotaExceeded(f"user '{user.name}' has {self._maximum} access keys, the most allowed; delete one")
            issued = await self._platform.identity.create_access_key(tx, user_id, description=description)
            row = await tx.session.get_one(Credential, issued.access_key)
            event = CredentialCreated(account_id=by.account_id, user_id=user_id, access_key=issued.access_key)
            tx.emit(event, iam_urn("credential", issued.access_key))
        return row, issued

    async def update(self, by: Principal, access_key: str, enabled: bool | None, description: str | None) -> Credential:
        async with self._platform.database.transaction() as tx:
            row, user = await _owned(tx.session, access_key, by.account_id)
            _refuse_root(user, by)
            row.enabled = row.enabled if enabled is None else enabled
            row.description = row.description if description is None else description
            tx.session.add(row)
            event = CredentialChanged(
                account_id=by.account_id, user_id=user.id, access_key=access_key, enabled=row.enabled
            )
            tx.emit(event, iam_urn("credential", access_key))
        return row

    async def delete(self, by: Principal, access_key: str) -> None:
        async with self._platform.database.transaction() as tx:
            row, user = await _owned(tx.session, access_key, by.account_id)
            _refuse_root(user, by)
            await tx.session.delete(row)
            event = CredentialDeleted(account_id=by.account_id, user_id=user.id, access_key=access_key)
            tx.emit(event, iam_urn("credential", access_key))


async def _owned(session: AsyncSession, access_key: str, account_id: str) -> tuple[Credential, User]:
    row = await session.get(Credential, access_key)
    user = await session.get(User, row.user_id) if row else None
    if row is None or user is None or user.account_id != account_id:
        raise NotFound(f"there is no access key '{access_key}' in this account")
    return row, user


def _refuse_root(user: User, by: Principal) -> None:
    if user.is_account_root and by.user_id != user.id:
        raise Forbidden("the access keys of the account's own login are managed by itself only")
