"""Users of an account (002 §10.1): a new one has no rights; the account's own login is administered by itself."""

from __future__ import annotations

from collections.abc import Sequence

from sqlmodel import col, delete, select

from bottega.context import Principal, now_ms
from bottega.database import Transaction
from bottega.entities import Credential, Group, GroupMember, User
from bottega.errors import Conflict, Forbidden
from bottega.platform import Platform

from .events import UserChanged, UserCreated, UserDeleted
from .identities import check_name, flush_unique, iam_urn, owned
from .passwords import Passwords, check_strength


class Users:
    def __init__(self, platform: Platform, passwords: Passwords) -> None:
        self._platform = platform
        self._passwords = passwords

    async def list(
        self, account_id: str, name: str | None = None, enabled: bool | None = None, group_id: str | None = None
    ) -> Sequence[User]:
        async with self._platform.database.read() as session:
            query = select(User).where(User.account_id == account_id).order_by(User.name)
            if name is not None:
                query = query.where(User.name == name)
            if enabled is not None:
                query = query.where(User.enabled == enabled)
            if group_id is not None:
                await owned(session, Group, group_id, account_id)
                query = query.join(GroupMember, col(GroupMember.user_id) == User.id).where(
                    GroupMember.group_id == group_id
                )
            return (await session.exec(query)).all()

    async def get(self, account_id: str, user_id: str) -> User:
        async with self._platform.database.read() as session:
            return await owned(session, User, user_id, account_id)

    async def create(self, account_id: str, name: str, password: str | None, enabled: bool = True) -> User:
        """Make a user without rights; without a password it works with access keys only."""
        name = check_name("user", name)
        hashed = None
        if password is not None:
            check_strength(password, name)
            hashed = await self._passwords.hash(password)
        async with self._platform.database.transaction() as tx:
            user = User(account_id=account_id, name=name, password_hash=hashed, enabled=enabled)
            tx.session.add(user)
            await flush_unique(tx, f"a user named '{name}' exists in this account; choose another name")
            tx.emit(UserCreated(account_id=account_id, user_id=user.id, name=name), iam_urn("user", user.id))
        return user

    async def update(
        self,
        by: Principal,
        user_id: str,
        *,
        name: str | None = None,
        password: str | None = None,
        enabled: bool | None = None,
    ) -> User:
        """Change a user; a new password or disabling ends all tokens issued before."""
        current = await self.get(by.account_id, user_id)
        if current.is_account_root and (by.user_id != user_id or name is not None or enabled is False):
            raise Forbidden("the account's own login is changed by itself only, and keeps its name and stays enabled")
        name = None if name is None else check_name("user", name)
        hashed = None
        if password is not None:
            check_strength(password, name or current.name)
            hashed = await self._passwords.hash(password)
        async with self._platform.database.transaction() as tx:
            user = await owned(tx.session, User, user_id, by.account_id)
            changed = []
            if name is not None and name != user.name:
                user.name = name
                changed.append("name")
            if hashed is not None:
                user.password_hash = hashed
                changed.append("password")
            if enabled is not None and enabled != user.enabled:
                user.enabled = enabled
                changed.append("enabled")
            if hashed is not None or not user.enabled:
                user.tokens_valid_from = now_ms() + 1
            if changed:
                tx.session.add(user)
                await flush_unique(tx, f"a user named '{name}' exists in this account; choose another name")
                tx.emit(
                    UserChanged(account_id=by.account_id, user_id=user_id, changed=changed), iam_urn("user", user_id)
                )
        return user

    async def delete(self, account_id: str, user_id: str) -> None:
        """Delete a user with its keys and memberships; what it made belongs to the account and stays."""
        async with self._platform.database.transaction() as tx:
            user = await owned(tx.session, User, user_id, account_id)
            if user.is_account_root:
                raise Conflict("the account's own login cannot be deleted")
            await _forget(tx, user_id)
            await tx.session.delete(user)
            tx.emit(UserDeleted(account_id=account_id, user_id=user_id, name=user.name), iam_urn("user", user_id))


async def _forget(tx: Transaction, user_id: str) -> None:
    await tx.session.exec(delete(GroupMember).where(col(GroupMember.user_id) == user_id))
    await tx.session.exec(delete(Credential).where(col(Credential.user_id) == user_id))
