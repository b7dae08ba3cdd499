"""Users of an account (002 §10.1): a new one has no rights; the account's own login is administered by itself."""

from __future__ import annotations

import operator
from dataclasses import dataclass

from sqlalchemy import false, func
from sqlmodel import col, delete, select

from bottega.context import Principal, now_ms
from bottega.database import Transaction
from bottega.entities import (
    Authorization,
    Credential,
    Group,
    GroupMember,
    PolicyGrant,
    User,
    UserQuota,
    WorkspaceUser,
)
from bottega.errors import Conflict, Forbidden, Invalid
from bottega.platform import Platform

from .entities import LoginFailure, PastPassword
from .events import UserChanged, UserCreated, UserDeleted
from .identities import flush_unique, iam_urn, owned
from .listing import Part, Window, part_of
from .names import check_name
from .passwords import Passwords, check_strength, remember
from .personal import Personal, check_email, check_phone
from .quotas import Quotas
from .security import DAY_MS, PasswordPolicy, policy_of

Changed = list[str]
ACCESS_MODES = ("default", "programmatic", "console")
"""With passwords and access keys, with access keys only, with passwords only."""


@dataclass(frozen=True, slots=True)
class UserFields:
    """What is to be set of a user; None leaves a field as it is. Empty personal data removes them."""

    name: str | None = None
    password: str | None = None
    enabled: bool | None = None
    description: str | None = None
    email: str | None = None
    areacode: str | None = None
    phone: str | None = None
    must_change_password: bool | None = None
    access_mode: str | None = None


class Users:
    def __init__(self, platform: Platform, passwords: Passwords) -> None:
        self._platform = platform
        self._passwords = passwords
        self._quotas = Quotas(platform)
        self.personal = Personal(platform.sealer)

    async def list(
        self,
        account_id: str,
        window: Window,
        name: str | None = None,
        enabled: bool | None = None,
        group_id: str | None = None,
        expiring: tuple[str, int] | None = None,
    ) -> Part[User]:
        """Users by name.

        :param expiring: only those whose password ends before (``lt``), at or after … (as in `operator`) a time in
            epoch milliseconds.
        """
        policy = await self._policy(account_id)
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
            if expiring is not None:
                compare, at = expiring
                changed = func.coalesce(User.password_changed_at, User.created_at)
                ends = getattr(operator, compare)(changed, at - policy.password_validity_period * DAY_MS)
                query = query.where(ends, col(User.password_hash).is_not(None))
                query = query if policy.password_validity_period else query.where(false())
            return await part_of(session, query, window)

    async def get(self, account_id: str, user_id: str) -> User:
        async with self._platform.database.read() as session:
            return await owned(session, User, user_id, account_id)

    async def create(self, account_id: str, fields: UserFields) -> User:
        """Make a user without rights; without a password it works with access keys only."""
        name = check_name("user", fields.name or "")
        _check(fields)
        hashed = None
        if fields.password is not None:
            check_strength(fields.password, name, await self._policy(account_id))
            hashed = await self._passwords.hash(fields.password)
        async with self._platform.database.transaction() as tx:
            await self._quotas.admit(tx, account_id, "user")
            user = User(account_id=account_id, name=name)
            if hashed is not None:
                user.password_hash, user.password_changed_at = hashed, now_ms()
            self._apply(user, fields)
            tx.session.add(user)
            await flush_unique(tx, f"a user named '{name}' exists in this account; choose another name")
            tx.emit(UserCreated(account_id=account_id, user_id=user.id, name=name), iam_urn("user", user.id))
        return user

    async def update(self, by: Principal, user_id: str, fields: UserFields) -> User:
        """Change a user; a new password or disabling ends all tokens issued before."""
        current = await self.get(by.account_id, user_id)
        own = by.user_id == user_id
        if current.is_account_root and (not own or fields.name is not None or fields.enabled is False):
            raise Forbidden("the account's own login is changed by itself only, and keeps its name and stays enabled")
        name = None if fields.name is None else check_name("user", fields.name)
        _check(fields)
        hashed = None
        if fields.password is not None:
            policy = await self._policy(by.account_id)
            check_strength(fields.password, name or current.name, policy)
            async with self._platform.database.read() as session:
                await self._passwords.check_unused(session, current, fields.password, policy)
            hashed = await self._passwords.hash(fields.password)
        async with self._platform.database.transaction() as tx:
            user = await owned(tx.session, User, user_id, by.account_id)
            if fields.access_mode == "console":
                await _refuse_keys(tx, user)
            changed = self._apply(user, fields)
            if name is not None and name != user.name:
                user.name = name
                changed.append("name")
            if hashed is not None:
                await remember(tx, user)
                user.password_hash, user.password_changed_at = hashed, now_ms()
                if fields.must_change_password is None and own:
                    user.must_change_password = False
                changed.append("password")
            if hashed is not None or not user.enabled:
                user.tokens_valid_from = now_ms() + 1
            if changed:
                tx.session.add(user)
                await flush_unique(tx, f"a user named '{name}' exists in this account; choose another name")
                event = UserChanged(account_id=by.account_id, user_id=user_id, changed=changed)
                tx.emit(event, iam_urn("user", user_id))
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

    async def _policy(self, account_id: str) -> PasswordPolicy:
        return policy_of(await self._platform.identity.account(account_id), PasswordPolicy)

    def _apply(self, user: User, fields: UserFields) -> Changed:
        """Set what needs no further check; the names of what changed."""
        changed = []
        for field in ("enabled", "description", "must_change_password", "access_mode"):
            value = getattr(fields, field)
            if value is not None and value != getattr(user, field):
                setattr(user, field, value)
                changed.append(field)
        if fields.email is not None:
            self.personal.set_email(user, fields.email)
            changed.append("email")
        if fields.phone is not None:
            self.personal.set_phone(user, fields.areacode or "", fields.phone)
            changed.append("phone")
        return changed


def _check(fields: UserFields) -> None:
    if fields.email is not None:
        check_email(fields.email)
    if fields.phone is not None or fields.areacode is not None:
        check_phone(fields.areacode or "", fields.phone or "")
    if fields.access_mode is not None and fields.access_mode not in ACCESS_MODES:
        raise Invalid(f"access_mode: '{fields.access_mode}' is not known; use one of {', '.join(ACCESS_MODES)}")


async def _refuse_keys(tx: Transaction, user: User) -> None:
    if (await tx.session.exec(select(Credential.access_key).where(Credential.user_id == user.id))).first():
        raise Conflict(f"user '{user.name}' has access keys, which access_mode 'console' excludes; delete them first")


async def _forget(tx: Transaction, user_id: str) -> None:
    for table in (GroupMember, Credential, PolicyGrant, WorkspaceUser, UserQuota, Authorization, PastPassword):
        await tx.session.exec(delete(table).where(col(table.user_id) == user_id))
    await tx.session.exec(delete(LoginFailure).where(col(LoginFailure.who) == user_id))
