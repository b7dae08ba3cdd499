"""Custom policies, and the system policies of all plugins (002 §10.2–10.5)."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import ColumnElement, false, func
from sqlmodel import col, select

from bottega.context import now_ms
from bottega.database import AsyncSession, Transaction
from bottega.entities import Agency, Group, Policy, PolicyGrant, User
from bottega.errors import Conflict, Forbidden, Invalid
from bottega.iam import parse_policy
from bottega.platform import Platform
from bottega.plugins import SystemPolicy

from .events import PolicyChanged
from .grants import visible
from .identities import flush_unique, iam_urn
from .listing import Part, Window, part_of
from .names import check_name
from .quotas import Quotas

MAX_LENGTH = 6144
"""Characters of a custom policy, as with the vendor."""


@dataclass(frozen=True, slots=True)
class RoleFilter:
    """Which policies are looked for, in the vendor's words; None: any."""

    name: str | None = None
    display_name: str | None = None
    permission_type: str | None = None
    type: str | None = None
    catalog: str | None = None

    @property
    def conditions(self) -> list[ColumnElement[bool]]:
        found: list[ColumnElement[bool]] = []
        if self.name is not None:
            found.append((col(Policy.name) == self.name) | (col(Policy.id) == self.name.rpartition("_")[2]))
        if self.display_name is not None:
            found.append(col(Policy.name).contains(self.display_name, autoescape=True))
        if self.permission_type is not None:
            version = "1.0" if self.permission_type == "role" else "1.1"
            found.append(col(Policy.document)["Version"].as_string() == version)
        if self.type not in (None, "domain", "project", "all", "AA"):
            found.append(false())
        if self.catalog is not None:
            custom = col(Policy.account_id).is_not(None)
            found.append(custom if self.catalog == "CUSTOMED" else ~custom if self.catalog == "BASE" else false())
        return found


class Policies:
    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._quotas = Quotas(platform)

    async def list(self, account_id: str | None, window: Window, wanted: RoleFilter | None = None) -> Part[Policy]:
        """The account's custom policies; without an account the system policies."""
        async with self._platform.database.read() as session:
            query = select(Policy).where(col(Policy.account_id).is_not_distinct_from(account_id)).order_by(Policy.name)
            return await part_of(session, query.where(*(wanted or RoleFilter()).conditions), window)

    async def references(self, policy_id: str) -> int:
        """How many grants there are of a policy."""
        async with self._platform.database.read() as session:
            counted = select(func.count()).select_from(PolicyGrant).where(PolicyGrant.policy_id == policy_id)
            return (await session.exec(counted)).one()

    async def get(self, account_id: str, policy_id: str) -> Policy:
        async with self._platform.database.read() as session:
            return await visible(session, account_id, policy_id)

    async def create(self, account_id: str, name: str, description: str, document: dict[str, Any]) -> Policy:
        """Raises Invalid, naming the position, when the document breaks the policy syntax."""
        name = check_name("policy", name)
        _check(document)
        async with self._platform.database.transaction() as tx:
            await self._quotas.admit(tx, account_id, "policy")
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
            holders = await _holders(tx.session, policy_id)
            if holders:
                raise Conflict(f"policy '{policy.name}' is granted to {', '.join(holders)}; revoke it there first")
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

    def _changed(self, tx: Transaction, policy: Policy, change: str) -> None:
        event = PolicyChanged(account_id=policy.account_id, policy_id=policy.id, name=policy.name, change=change)
        tx.emit(event, iam_urn("policy", policy.id))


def system_policy_id(name: str) -> str:
    """The id of a system policy, the same in every installation."""
    return uuid.uuid5(uuid.NAMESPACE_OID, f"bottega:policy:{name}").hex


def _check(document: dict[str, Any]) -> None:
    length = len(orjson.dumps(document).decode())
    if length > MAX_LENGTH:
        raise Invalid(f"the policy has {length} characters; write at most {MAX_LENGTH}, or split it into several")
    parse_policy(document)


async def _refuse_system_name(tx: Transaction, name: str) -> None:
    if await tx.session.get(Policy, system_policy_id(name)) is not None:
        raise Conflict(f"'{name}' is a system policy; choose another name")


async def _holders(session: AsyncSession, policy_id: str) -> list[str]:
    """The names of the first few that have a policy."""
    names: list[str] = []
    for table, id in ((Group, PolicyGrant.group_id), (Agency, PolicyGrant.agency_id), (User, PolicyGrant.user_id)):
        query = select(table.name).join(PolicyGrant, col(id) == table.id).where(PolicyGrant.policy_id == policy_id)
        names += (await session.exec(query.distinct().order_by(table.name).limit(5))).all()
    return names


async def _custom(session: AsyncSession, account_id: str, policy_id: str) -> Policy:
    policy = await visible(session, account_id, policy_id)
    if policy.account_id is None:
        raise Forbidden(f"'{policy.name}' is a system policy and read-only; make a custom one")
    return policy
