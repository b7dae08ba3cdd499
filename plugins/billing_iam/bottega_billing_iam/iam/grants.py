"""Who has which policy where: grants to groups and agencies in each scope (002 §10.1, 003 §9)."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, func, or_
from sqlmodel import col, delete, select
from sqlmodel.sql.expression import SelectOfScalar

from bottega.database import AsyncSession, Transaction
from bottega.entities import Agency, EnterpriseProject, Group, GroupMember, Policy, PolicyGrant, Project, User
from bottega.errors import Conflict, NotFound
from bottega.platform import Platform
from bottega.rights import DEFAULT_ENTERPRISE_PROJECT

from .events import PolicyGranted, PolicyRevoked
from .identities import iam_urn, owned
from .listing import Part, Window, part_of


@dataclass(frozen=True, slots=True)
class Scope:
    """Where a grant counts: ``domain`` and ``all_projects`` (both: all of the account), or one place by its id."""

    kind: str
    id: str | None = None

    @property
    def columns(self) -> dict[str, Any]:
        """The scope as columns of `PolicyGrant`."""
        return {
            "scope": self.kind,
            "project_id": self.id if self.kind == "project" else None,
            "enterprise_project_id": self.id if self.kind == "enterprise_project" else None,
        }

    @property
    def condition(self) -> list[ColumnElement[bool]]:
        return [col(getattr(PolicyGrant, name)).is_not_distinct_from(value) for name, value in self.columns.items()]


DOMAIN, ALL_PROJECTS = Scope("domain"), Scope("all_projects")


@dataclass(frozen=True, slots=True)
class Holder:
    """Who a policy is granted to: ``group``, ``agency`` or (on enterprise projects only) ``user``, by its id."""

    kind: str
    id: str

    @property
    def columns(self) -> dict[str, str]:
        return {f"{self.kind}_id": self.id}

    @property
    def condition(self) -> ColumnElement[bool]:
        return col(getattr(PolicyGrant, f"{self.kind}_id")) == self.id


@dataclass(frozen=True, slots=True)
class GrantFilter:
    """Which grants of an account are looked for; None: any. `user_id` means those of its groups, too."""

    policy_id: str | None = None
    holder: str | None = None
    group_id: str | None = None
    agency_id: str | None = None
    user_id: str | None = None
    include_groups: bool = True
    scope: str | None = None
    project_id: str | None = None
    enterprise_project_id: str | None = None
    inherited: bool | None = None

    @property
    def conditions(self) -> list[ColumnElement[bool]]:
        found: list[ColumnElement[bool]] = []
        for name in ("policy_id", "group_id", "agency_id", "project_id", "enterprise_project_id"):
            value = getattr(self, name)
            if value is not None:
                found.append(col(getattr(PolicyGrant, name)) == value)
        if self.holder is not None:
            found.append(col(getattr(PolicyGrant, f"{self.holder}_id")).is_not(None))
        if self.user_id is not None:
            groups = select(GroupMember.group_id).where(GroupMember.user_id == self.user_id)
            direct = col(PolicyGrant.user_id) == self.user_id
            found.append(or_(direct, col(PolicyGrant.group_id).in_(groups)) if self.include_groups else direct)
        if self.scope is not None:
            kinds = ("domain", "all_projects") if self.scope == "domain" else (self.scope,)
            found.append(col(PolicyGrant.scope).in_(kinds))
        if self.inherited is not None:
            inherited = col(PolicyGrant.scope) == "all_projects"
            found.append(inherited if self.inherited else ~inherited)
        return found


class Grants:
    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    async def grant(self, account_id: str, holder: Holder, policy_id: str, scope: Scope) -> None:
        """Give a policy; twice is once."""
        await self.grant_all(account_id, [(holder, policy_id, scope)])

    async def grant_all(self, account_id: str, wanted: Sequence[tuple[Holder, str, Scope]]) -> None:
        """Give several policies, all or none."""
        async with self._platform.database.transaction() as tx:
            for holder, policy_id, scope in wanted:
                await _check_parties(tx.session, account_id, holder, scope)
                await visible(tx.session, account_id, policy_id)
                await _refuse_disabled(tx.session, scope)
                await grant_in(tx, account_id, holder, policy_id, scope)

    async def revoke(self, account_id: str, holder: Holder, policy_id: str, scope: Scope) -> None:
        await self.revoke_all(account_id, [(holder, policy_id, scope)])

    async def revoke_all(self, account_id: str, wanted: Sequence[tuple[Holder, str, Scope]]) -> None:
        """Take several policies away, all or none. Raises NotFound for one that is not granted there."""
        async with self._platform.database.transaction() as tx:
            for holder, policy_id, scope in wanted:
                await _check_parties(tx.session, account_id, holder, scope)
                where = [col(PolicyGrant.policy_id) == policy_id, holder.condition, *scope.condition]
                if not (await tx.session.exec(delete(PolicyGrant).where(*where))).rowcount:
                    raise NotFound(f"policy '{policy_id}' is not granted to {holder.kind} '{holder.id}' there")
                event = PolicyRevoked(account_id=account_id, policy_id=policy_id, **holder.columns, **scope.columns)
                tx.emit(event, iam_urn("policy", policy_id))

    async def granted(self, account_id: str, holder: Holder, scope: Scope, window: Window) -> Part[Policy]:
        """What a group or agency was given in exactly this scope."""
        async with self._platform.database.read() as session:
            await _check_parties(session, account_id, holder, scope)
            query = select(Policy).join(PolicyGrant, col(PolicyGrant.policy_id) == Policy.id)
            query = query.where(holder.condition, *scope.condition).order_by(Policy.name)
            return await part_of(session, query, window)

    async def is_granted(self, account_id: str, holder: Holder, policy_id: str, scope: Scope) -> bool:
        async with self._platform.database.read() as session:
            await _check_parties(session, account_id, holder, scope)
            query = select(PolicyGrant.id).where(
                col(PolicyGrant.policy_id) == policy_id, holder.condition, *scope.condition
            )
            return (await session.exec(query)).first() is not None

    async def search(self, account_id: str, wanted: GrantFilter, window: Window) -> Part[PolicyGrant]:
        """All grants of an account, to whomever and wherever."""
        async with self._platform.database.read() as session:
            own = [
                col(id).in_(select(table.id).where(table.account_id == account_id))
                for id, table in (
                    (PolicyGrant.group_id, Group),
                    (PolicyGrant.agency_id, Agency),
                    (PolicyGrant.user_id, User),
                )
            ]
            query = select(PolicyGrant).where(or_(*own), *wanted.conditions).order_by(PolicyGrant.id)
            return await part_of(session, query, window)

    async def groups(self, account_id: str, scope: Scope, window: Window) -> Part[Group]:
        """The groups that were given anything in exactly this scope."""
        async with self._platform.database.read() as session:
            await _check_scope(session, account_id, scope)
            having = select(PolicyGrant.group_id).where(*scope.condition)
            query = select(Group).where(Group.account_id == account_id, col(Group.id).in_(having))
            return await part_of(session, query.order_by(Group.name), window)

    async def users(self, account_id: str, scope: Scope, window: Window) -> tuple[Part[User], dict[str, int]]:
        """The users that were given anything themselves in exactly this scope, and how many policies by their id."""
        async with self._platform.database.read() as session:
            await _check_scope(session, account_id, scope)
            having = select(PolicyGrant.user_id).where(*scope.condition)
            query = select(User).where(User.account_id == account_id, col(User.id).in_(having))
            found = await part_of(session, query.order_by(User.name), window)
            counted = select(PolicyGrant.user_id, func.count()).where(*scope.condition)
            counted = counted.where(col(PolicyGrant.user_id).in_([user.id for user in found.rows]))
            rows = (await session.exec(counted.group_by(col(PolicyGrant.user_id)))).all()
            return found, {str(id): count for id, count in rows}

    async def enterprise_projects(self, account_id: str, holder: Holder, window: Window) -> Part[str]:
        """The ids of the enterprise projects a group or agency was given anything in."""
        async with self._platform.database.read() as session:
            await _check_holder(session, account_id, holder)
            id: Any = col(PolicyGrant.enterprise_project_id)
            query: SelectOfScalar[str] = select(id).where(holder.condition, id.is_not(None))
            return await part_of(session, query.distinct().order_by(id), window)


def _grant_id(holder: Holder, policy_id: str, scope: Scope) -> str:
    # Derived from what it joins, so the primary key keeps a grant from standing twice.
    place = f"{holder.kind}/{holder.id}/{policy_id}/{scope.kind}/{scope.id or '*'}"
    return uuid.uuid5(uuid.NAMESPACE_OID, place).hex


async def grant_in(tx: Transaction, account_id: str, holder: Holder, policy_id: str, scope: Scope) -> None:
    """Grant in an open transaction; the caller has checked that all of them belong together."""
    query = select(PolicyGrant.id).where(PolicyGrant.policy_id == policy_id, holder.condition, *scope.condition)
    if (await tx.session.exec(query)).first() is not None:
        return
    id = _grant_id(holder, policy_id, scope)
    tx.session.add(PolicyGrant(id=id, policy_id=policy_id, **holder.columns, **scope.columns))
    await tx.session.flush()
    event = PolicyGranted(account_id=account_id, policy_id=policy_id, **holder.columns, **scope.columns)
    tx.emit(event, iam_urn("policy", policy_id))


async def visible(session: AsyncSession, account_id: str, policy_id: str) -> Policy:
    """A system policy or one of the account. Raises NotFound."""
    policy = await session.get(Policy, policy_id)
    if policy is None or policy.account_id not in (None, account_id):
        raise NotFound(f"there is no policy '{policy_id}' in this account")
    return policy


async def _refuse_disabled(session: AsyncSession, scope: Scope) -> None:
    row = await session.get(EnterpriseProject, scope.id) if scope.kind == "enterprise_project" else None
    if row is not None and not row.enabled:
        raise Conflict(f"enterprise project '{row.name}' is disabled; enable it before granting anything in it")


async def _check_parties(session: AsyncSession, account_id: str, holder: Holder, scope: Scope) -> None:
    await _check_holder(session, account_id, holder)
    await _check_scope(session, account_id, scope)


async def _check_holder(session: AsyncSession, account_id: str, holder: Holder) -> None:
    if holder.kind == "agency":
        await owned(session, Agency, holder.id, account_id)
    elif holder.kind == "user":
        await owned(session, User, holder.id, account_id)
    else:
        await owned(session, Group, holder.id, account_id)


async def _check_scope(session: AsyncSession, account_id: str, scope: Scope) -> None:
    if scope.kind == "project":
        await owned(session, Project, scope.id or "", account_id)
    if scope.kind == "enterprise_project" and scope.id != DEFAULT_ENTERPRISE_PROJECT:
        await owned(session, EnterpriseProject, scope.id or "", account_id)
