"""The limits of accounts, workspaces and users, and how much of them is used (row B8; sdk_spec §3.6).

Plugins declare the kinds that are counted, with a default limit an account (`bottega_quotas`); the core refuses what
would pass a limit, in the transaction that creates it. A kind is called ``<plugin>.<kind>`` here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, func
from sqlmodel import col, select

from bottega.context import now_ms
from bottega.database import AsyncSession, Transaction
from bottega.entities import (
    DEFAULT_WORKSPACE,
    Account,
    Project,
    QuotaLimit,
    Resource,
    User,
    UserQuota,
    Workspace,
    WorkspaceQuota,
)
from bottega.errors import Conflict, Invalid, NotFound
from bottega.platform import Platform
from bottega.plugins import Quota
from bottega.urn import PLATFORM, Urn

from .events import LimitChanged

UNLIMITED = -1
"""No limit of its own: that of the account holds alone."""
LARGEST = 1_000_000
_Kind = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Limit:
    """One kind of a holder. `maximum` is UNLIMITED where only the account's limit, `ceiling`, holds."""

    name: str
    label: str
    maximum: int
    ceiling: int
    used: int
    updated_at: int = 0


class Limits:
    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    @property
    def _declared(self) -> Mapping[_Kind, Quota]:
        return dict(sorted(self._platform.shared.quotas.items()))

    def kind(self, name: str) -> _Kind:
        """Raises Invalid, naming those there are, for a kind that is not counted."""
        kind = tuple(name.split(".", 1))
        if len(kind) != 2 or kind not in self._declared:
            there = ", ".join(".".join(k) for k in self._declared)
            raise Invalid(f"'{name}' is not counted here; there are: {there or 'none'}")
        return kind[0], kind[1]

    async def of_account(self, account_id: str) -> list[Limit]:
        """Raises NotFound when there is no such account."""
        async with self._platform.database.read() as session:
            if await session.get(Account, account_id) is None:
                raise NotFound(f"there is no account '{account_id}'")
            ceilings = await self._ceilings(session, account_id)
            used = await _used(session, _of_account(account_id))
        return [
            Limit(".".join(kind), quota.label, ceilings[kind], ceilings[kind], used.get(kind, 0))
            for kind, quota in self._declared.items()
        ]

    async def of_workspace(self, project_id: str, workspace_id: str) -> list[Limit]:
        """Raises NotFound when the project has no such workspace."""
        async with self._platform.database.read() as session:
            created_at = await _created_at(session, project_id, workspace_id)
            rows = (await session.exec(select(WorkspaceQuota).where(WorkspaceQuota.workspace_id == workspace_id))).all()
            ceilings = await self._ceilings(session, await _account_of(session, project_id))
            inside = (col(Resource.project_id) == project_id) & (col(Resource.workspace_id) == workspace_id)
            used = await _used(session, inside)
        own = {(row.plugin, row.kind): row for row in rows}
        return [
            Limit(
                ".".join(kind),
                quota.label,
                own[kind].maximum if kind in own else UNLIMITED,
                ceilings[kind],
                used.get(kind, 0),
                own[kind].updated_at if kind in own else created_at,
            )
            for kind, quota in self._declared.items()
        ]

    async def of_user(self, account_id: str, user_id: str, name: str) -> Limit:
        """One kind of a user of the account. Raises NotFound when there is no such user."""
        kind = self.kind(name)
        async with self._platform.database.read() as session:
            await _check_user(session, account_id, user_id)
            own = await session.get(UserQuota, (user_id, *kind))
            ceilings = await self._ceilings(session, account_id)
            used = await _used(session, _of_account(account_id) & (col(Resource.owner_id) == user_id))
        maximum = own.maximum if own else UNLIMITED
        return Limit(name, self._declared[kind].label, maximum, ceilings[kind], used.get(kind, 0))

    async def set_account(self, account_id: str, changes: Mapping[str, int | None]) -> None:
        """Give an account limits of its own; None brings the default back. What is there already stays."""
        kinds = {name: self.kind(name) for name in changes}
        for name, maximum in changes.items():
            _check(name, maximum, 0, LARGEST)
        async with self._platform.database.transaction() as tx:
            if await tx.session.get(Account, account_id, with_for_update=True) is None:
                raise NotFound(f"there is no account '{account_id}'")
            for name, maximum in changes.items():
                await _put(tx, QuotaLimit, {"account_id": account_id}, kinds[name], maximum)
                _tell(tx, "account", account_id, PLATFORM, name, maximum)

    async def set_workspace(self, project_id: str, workspace_id: str, changes: Mapping[str, int]) -> None:
        """Give a workspace limits of its own, within those of its account; UNLIMITED takes one away.

        Raises Invalid for one that is higher, Conflict for the default workspace, NotFound.
        """
        kinds = {name: self.kind(name) for name in changes}
        async with self._platform.database.transaction() as tx:
            await _created_at(tx.session, project_id, workspace_id)
            if workspace_id == DEFAULT_WORKSPACE:
                raise Conflict("the default workspace has no limits of its own: those of the account hold")
            ceilings = await self._ceilings(tx.session, await _account_of(tx.session, project_id))
            for name, maximum in changes.items():
                kept = None if maximum == UNLIMITED else maximum
                _check(name, kept, 1, ceilings[kinds[name]])
                row = await _put(tx, WorkspaceQuota, {"workspace_id": workspace_id}, kinds[name], kept)
                if row is not None:
                    row.updated_at = now_ms()
                _tell(tx, "workspace", workspace_id, project_id, name, kept)

    async def set_user(self, account_id: str, user_id: str, changes: Mapping[str, int]) -> None:
        """Give a user of the account limits of its own; UNLIMITED takes one away. Raises Invalid, NotFound."""
        kinds = {name: self.kind(name) for name in changes}
        async with self._platform.database.transaction() as tx:
            await _check_user(tx.session, account_id, user_id)
            for name, maximum in changes.items():
                kept = None if maximum == UNLIMITED else maximum
                _check(name, kept, 0, LARGEST)
                await _put(tx, UserQuota, {"user_id": user_id}, kinds[name], kept)
                _tell(tx, "user", user_id, PLATFORM, name, kept)

    async def _ceilings(self, session: AsyncSession, account_id: str) -> dict[_Kind, int]:
        rows = (await session.exec(select(QuotaLimit).where(QuotaLimit.account_id == account_id))).all()
        own = {(row.plugin, row.kind): row.maximum for row in rows}
        return {kind: own.get(kind, quota.maximum) for kind, quota in self._declared.items()}


async def _put(
    tx: Transaction, table: type[Any], holder: Mapping[str, str], kind: _Kind, maximum: int | None
) -> Any | None:
    """Write, change or (None) delete a row of one of the three tables of limits; returns it when it stays."""
    row = await tx.session.get(table, {**holder, "plugin": kind[0], "kind": kind[1]})
    if maximum is None:
        if row is not None:
            await tx.session.delete(row)
        return None
    if row is None:
        row = table(**holder, plugin=kind[0], kind=kind[1], maximum=maximum)
    row.maximum = maximum
    tx.session.add(row)
    return row


def _tell(tx: Transaction, holder: str, holder_id: str, project_id: str, name: str, maximum: int | None) -> None:
    event = LimitChanged(holder=holder, holder_id=holder_id, resource=name, maximum=maximum)
    tx.emit(event, Urn("quota", project_id, holder, holder_id))


def _check(name: str, maximum: int | None, least: int, most: int) -> None:
    if maximum is not None and not least <= maximum <= most:
        raise Invalid(f"{name}: a limit of {maximum} is not possible; give one from {least} to {most}")


def _of_account(account_id: str) -> ColumnElement[bool]:
    return col(Resource.project_id).in_(select(Project.id).where(Project.account_id == account_id))


async def _used(session: AsyncSession, held: ColumnElement[bool]) -> dict[_Kind, int]:
    """How many resources there are of each kind, as the core counts them when it admits one."""
    query = select(Resource.plugin, Resource.kind, func.count())
    query = query.where(held, col(Resource.deleted_at).is_(None)).group_by(Resource.plugin, Resource.kind)
    return {(plugin, kind): used for plugin, kind, used in (await session.exec(query)).all()}


async def _account_of(session: AsyncSession, project_id: str) -> str:
    return (await session.exec(select(Project.account_id).where(Project.id == project_id))).one()


async def _created_at(session: AsyncSession, project_id: str, workspace_id: str) -> int:
    if workspace_id == DEFAULT_WORKSPACE:
        return (await session.exec(select(Project.created_at).where(Project.id == project_id))).one()
    workspace = await session.get(Workspace, workspace_id) if workspace_id.isprintable() else None
    if workspace is None or workspace.project_id != project_id:
        raise NotFound(f"there is no workspace '{workspace_id}' in this project")
    return workspace.created_at


async def _check_user(session: AsyncSession, account_id: str, user_id: str) -> None:
    user = await session.get(User, user_id) if user_id.isprintable() else None
    if user is None or user.account_id != account_id:
        raise NotFound(f"there is no user '{user_id}' in this account")
