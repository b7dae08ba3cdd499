"""Custom policies, the system policies of all plugins, and granting either to groups (002 §10.2–10.5)."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from typing import Any

import orjson
from sqlalchemy import ColumnElement
from sqlmodel import col, delete, or_, select

from bottega.context import now_ms
from bottega.database import AsyncSession, Transaction
from bottega.entities import Group, Policy, PolicyGrant, Project
from bottega.errors import Conflict, Forbidden, Invalid, NotFound
from bottega.iam import parse_policy
from bottega.platform import Platform
from bottega.plugins import SystemPolicy

from .events import PolicyChanged, PolicyGranted, PolicyRevoked
from .identities import check_name, flush_unique, iam_urn, owned

MAX_LENGTH = 6144
"""Characters of a custom policy, as with the vendor."""


class Policies:
    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    async def list(self, account_id: str, *, system: bool, custom: bool, name: str | None = None) -> Sequence[Policy]:
        async with self._platform.database.read() as session:
            wanted: list[ColumnElement[bool]] = [col(Policy.account_id).is_(None)] if system else []
            wanted += [col(Policy.account_id) == account_id] if custom else []
            query = select(Policy).where(or_(*wanted)).order_by(Policy.name)
            if name is not None:
                query = query.where(col(Policy.name).contains(name, autoescape=True))
            return (await session.exec(query)).all()

    async def get(self, account_id: str, policy_id: str) -> Policy:
        async with self._platform.database.read() as session:
            return await _visible(session, account_id, policy_id)

    async def create(self, account_id: str, name: str, description: str, document: dict[str, Any]) -> Policy:
        """Raises Invalid, naming the position, when the document breaks the policy syntax."""
        name = check_name("policy", name)
        _check(document)
        async with self._platform.database.transaction() as tx:
            await _refuse_system_name(tx, name)
            policy = Policy(account_id=account_id, name=name, description=description, document=document)
            tx.session.add(policy)
            await flush_unique(tx, f"a policy named '{name}' exists in this account; choose another name")
            self._changed(tx, policy, "created")
        return policy

    async def update(
        self,
        account_id: str,
        policy_id: str,
        name: str | None,
        description: str | None,
        document: dict[str, Any] | None,
    ) -> Policy:
        name = None if name is None else check_name("policy", name)
        if document is not None:
            _check(document)
        async with self._platform.database.transaction() as tx:
            policy = await _custom(tx.session, account_id, policy_id)
            if name is not None and name != policy.name:
                await _refuse_system_name(tx, name)
            policy.name = policy.name if name is None else name
            policy.description = policy.description if description is None else description
            policy.document = policy.document if document is None else document
            policy.updated_at = now_ms()
            tx.session.add(policy)
            await flush_unique(tx, f"a policy named '{name}' exists in this account; choose another name")
            self._changed(tx, policy, "updated")
        return policy

    async def delete(self, account_id: str, policy_id: str) -> None:
        """Raises Conflict while it is granted: taking away a policy that denies would widen rights unseen."""
        async with self._platform.database.transaction() as tx:
            policy = await _custom(tx.session, account_id, policy_id)
            holders = select(Group.name).join(PolicyGrant, col(PolicyGrant.group_id) == Group.id).distinct()
            groups = (await tx.session.exec(holders.where(PolicyGrant.policy_id == policy_id))).all()
            if groups:
                raise Conflict(
                    f"policy '{policy.name}' is granted to {', '.join(sorted(groups))}; revoke it there first"
                )
            await tx.session.delete(policy)
            self._changed(tx, policy, "deleted")

    async def sync_system(self, offered: Iterable[SystemPolicy]) -> None:
        """Bring the stored system policies to what this installation offers; those no plugin offers any more stay."""
        async with self._platform.database.transaction() as tx:
            for policy in offered:
                parse_policy(policy.document, policy.name)
                id = system_policy_id(policy.name)
                row = await tx.session.get(Policy, id)
                if row is not None and (row.document, row.description) == (policy.document, policy.description):
                    continue
                change = "updated" if row else "created"
                row = row or Policy(id=id, name=policy.name)
                row.document, row.description, row.updated_at = policy.document, policy.description, now_ms()
                tx.session.add(row)
                self._changed(tx, row, change)

    async def grant(self, account_id: str, group_id: str, policy_id: str, project_id: str | None) -> None:
        """Give a policy to a group, in one project or (None) in all of the account; twice is once."""
        async with self._platform.database.transaction() as tx:
            await _check_parties(tx.session, account_id, group_id, project_id)
            await _visible(tx.session, account_id, policy_id)
            await grant_in(tx, account_id, group_id, policy_id, project_id)

    async def revoke(self, account_id: str, group_id: str, policy_id: str, project_id: str | None) -> None:
        async with self._platform.database.transaction() as tx:
            await _check_parties(tx.session, account_id, group_id, project_id)
            removed = await tx.session.exec(
                delete(PolicyGrant).where(
                    col(PolicyGrant.policy_id) == policy_id,
                    col(PolicyGrant.group_id) == group_id,
                    _in_scope(project_id),
                )
            )
            if not removed.rowcount:
                raise NotFound(f"policy '{policy_id}' is not granted to group '{group_id}' there")
            event = PolicyRevoked(account_id=account_id, policy_id=policy_id, group_id=group_id, project_id=project_id)
            tx.emit(event, iam_urn("policy", policy_id))

    async def granted(self, account_id: str, group_id: str, project_id: str | None) -> Sequence[Policy]:
        """What a group was given in exactly this scope."""
        async with self._platform.database.read() as session:
            await _check_parties(session, account_id, group_id, project_id)
            query = select(Policy).join(PolicyGrant, col(PolicyGrant.policy_id) == Policy.id)
            query = query.where(PolicyGrant.group_id == group_id, _in_scope(project_id)).order_by(Policy.name)
            return (await session.exec(query)).all()

    def _changed(self, tx: Transaction, policy: Policy, change: str) -> None:
        event = PolicyChanged(account_id=policy.account_id, policy_id=policy.id, name=policy.name, change=change)
        tx.emit(event, iam_urn("policy", policy.id))


def system_policy_id(name: str) -> str:
    """The id of a system policy, the same in every installation."""
    return uuid.uuid5(uuid.NAMESPACE_OID, f"bottega:policy:{name}").hex


async def grant_in(tx: Transaction, account_id: str, group_id: str, policy_id: str, project_id: str | None) -> None:
    """Grant in an open transaction; the caller has checked that all of them belong together."""
    id = _grant_id(group_id, policy_id, project_id)
    if await tx.session.get(PolicyGrant, id) is not None:
        return
    scope = "project" if project_id else "all_projects"
    tx.session.add(PolicyGrant(id=id, policy_id=policy_id, group_id=group_id, scope=scope, project_id=project_id))
    event = PolicyGranted(account_id=account_id, policy_id=policy_id, group_id=group_id, project_id=project_id)
    tx.emit(event, iam_urn("policy", policy_id))


def _grant_id(group_id: str, policy_id: str, project_id: str | None) -> str:
    # Derived from what it joins, so the primary key keeps a grant from standing twice.
    return uuid.uuid5(uuid.NAMESPACE_OID, f"{group_id}/{policy_id}/{project_id or '*'}").hex


def _in_scope(project_id: str | None) -> ColumnElement[bool]:
    scope = col(PolicyGrant.project_id)
    return scope.is_(None) if project_id is None else scope == project_id


def _check(document: dict[str, Any]) -> None:
    parse_policy(document)
    length = len(orjson.dumps(document).decode())
    if length > MAX_LENGTH:
        raise Invalid(f"the policy has {length} characters; write at most {MAX_LENGTH}, or split it into several")


async def _refuse_system_name(tx: Transaction, name: str) -> None:
    if await tx.session.get(Policy, system_policy_id(name)) is not None:
        raise Conflict(f"'{name}' is a system policy; choose another name")


async def _visible(session: AsyncSession, account_id: str, policy_id: str) -> Policy:
    policy = await session.get(Policy, policy_id)
    if policy is None or policy.account_id not in (None, account_id):
        raise NotFound(f"there is no policy '{policy_id}' in this account")
    return policy


async def _custom(session: AsyncSession, account_id: str, policy_id: str) -> Policy:
    policy = await _visible(session, account_id, policy_id)
    if policy.account_id is None:
        raise Forbidden(f"'{policy.name}' is a system policy and read-only; make a custom one")
    return policy


async def _check_parties(session: AsyncSession, account_id: str, group_id: str, project_id: str | None) -> None:
    await owned(session, Group, group_id, account_id)
    if project_id is not None:
        await owned(session, Project, project_id, account_id)
