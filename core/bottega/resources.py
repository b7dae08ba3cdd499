"""The registry of named things, uniform for every plugin: unique names, quotas, workspaces, paging, tags, lineage.

What lies in a workspace that is closed to the request being served is not there (`bottega.workspaces`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, func, true
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select

from bottega.context import now_ms
from bottega.database import AsyncSession, Transaction
from bottega.entities import (
    DEFAULT_WORKSPACE,
    Account,
    LineageEdge,
    Project,
    QuotaLimit,
    Resource,
    UserQuota,
    Workspace,
    WorkspaceQuota,
)
from bottega.errors import Conflict, NotFound, QuotaExceeded
from bottega.plugins import Quota
from bottega.workspaces import check_open, closed_to_caller, no_such

_SORTABLE = {"create_time": Resource.created_at, "name": Resource.name, "update_time": Resource.updated_at}


def _article(kind: str) -> str:
    return "an" if kind[:1].lower() in "aeio" else "a"


class Resources:
    """The resources of one plugin. `quotas` are the defaults that all plugins declare, by plugin and kind."""

    def __init__(self, plugin: str, quotas: Mapping[tuple[str, str], Quota]) -> None:
        self.plugin = plugin
        self._quotas = quotas

    async def create(
        self,
        tx: Transaction,
        *,
        kind: str,
        project_id: str,
        owner_id: str,
        name: str,
        status: str = "",
        workspace_id: str = DEFAULT_WORKSPACE,
        description: str = "",
        tags: Mapping[str, str] | None = None,
        properties: Mapping[str, str] | None = None,
        unique_name: bool = True,
        id: str | None = None,
    ) -> Resource:
        """Register a thing.

        Raises Conflict when the name is taken, QuotaExceeded when the account, its user or the workspace has as many
        as it may, Invalid when there is no such workspace that the caller may enter, Forbidden when the caller's
        permission does not reach into it.
        """
        await _hold(tx, project_id, workspace_id)
        quota = self._quotas.get((self.plugin, kind))
        if quota is not None:
            await self._reserve(tx, quota, project_id, workspace_id, owner_id)
        resource = Resource(
            plugin=self.plugin,
            kind=kind,
            project_id=project_id,
            workspace_id=workspace_id,
            owner_id=owner_id,
            name=name,
            claimed_name=name if unique_name else None,
            description=description,
            status=status,
            tags=dict(tags or {}),
            properties=dict(properties or {}),
        )
        if id is not None:
            resource.id = id
        tx.session.add(resource)
        try:
            await tx.session.flush()
        except IntegrityError as e:
            raise Conflict(f"{_article(kind)} {kind} named '{name}' exists in this project; choose another name") from e
        return resource

    async def get(
        self, session: AsyncSession, kind: str, project_id: str, id: str, *, plugin: str | None = None
    ) -> Resource:
        """A thing of this plugin, or of `plugin`.

        Raises NotFound when it is not there, was deleted, or belongs to another project or a closed workspace.
        """
        resource = await session.get(Resource, id)
        if (
            resource is None
            or resource.deleted_at is not None
            or (resource.plugin, resource.kind, resource.project_id) != (plugin or self.plugin, kind, project_id)
            or resource.workspace_id in closed_to_caller()
        ):
            raise NotFound(f"there is no {kind} '{id}' in this project")
        return resource

    async def list(
        self,
        session: AsyncSession,
        kind: str,
        project_id: str,
        *,
        offset: int = 0,
        limit: int = 10,
        name_contains: str | None = None,
        status: Sequence[str] = (),
        workspace_id: str | None = None,
        sort_by: str = "create_time",
        descending: bool = True,
    ) -> tuple[int, Sequence[Resource]]:
        """One page and the total number of matches."""
        found: list[Any] = [
            Resource.plugin == self.plugin,
            Resource.kind == kind,
            Resource.project_id == project_id,
            col(Resource.deleted_at).is_(None),
            self.visible(Resource.workspace_id),
        ]
        if name_contains:
            found.append(col(Resource.name).contains(name_contains, autoescape=True))
        if status:
            found.append(col(Resource.status).in_(status))
        if workspace_id:
            found.append(Resource.workspace_id == workspace_id)
        total = (await session.exec(select(func.count()).select_from(Resource).where(*found))).one()
        key = col(_SORTABLE.get(sort_by, Resource.created_at))
        order = (key.desc(), col(Resource.id).desc()) if descending else (key.asc(), col(Resource.id).asc())
        rows = await session.exec(select(Resource).where(*found).order_by(*order).offset(offset).limit(limit))
        return total, rows.all()

    def visible(self, workspace_id: Any) -> ColumnElement[bool]:
        """The condition that a plugin's own lists need: the column `workspace_id` names none closed to the caller."""
        closed = closed_to_caller()
        return col(workspace_id).not_in(closed) if closed else true()

    async def set_status(self, tx: Transaction, resource: Resource, status: str) -> None:
        resource.status, resource.updated_at = status, now_ms()
        tx.session.add(resource)

    async def set_tags(self, tx: Transaction, resource: Resource, tags: Mapping[str, str]) -> None:
        """Replace what its users have labelled a thing with."""
        resource.tags, resource.updated_at = dict(tags), now_ms()
        tx.session.add(resource)

    async def rename(self, tx: Transaction, resource: Resource, name: str) -> None:
        """Raises Conflict when the new name is taken."""
        kind = resource.kind  # not to be read any more once the transaction has failed
        if resource.claimed_name is not None:
            resource.claimed_name = name
        resource.name, resource.updated_at = name, now_ms()
        tx.session.add(resource)
        try:
            await tx.session.flush()
        except IntegrityError as e:
            raise Conflict(f"{_article(kind)} {kind} named '{name}' exists in this project; choose another name") from e

    async def delete(self, tx: Transaction, resource: Resource) -> None:
        """Take a thing out of the registry; its row stays for lineage, audit and bills, its name is free again."""
        resource.deleted_at = resource.updated_at = now_ms()
        resource.claimed_name = None
        tx.session.add(resource)

    async def link(self, tx: Transaction, source: str, target: str, relation: str) -> None:
        """Record that `target` came from `source`; twice is once."""
        if await tx.session.get(LineageEdge, (source, target, relation)) is None:
            tx.session.add(LineageEdge(source=source, target=target, relation=relation))

    async def _reserve(self, tx: Transaction, quota: Quota, project_id: str, workspace_id: str, owner_id: str) -> None:
        """Raises QuotaExceeded unless one more fits into the limits of the account, the workspace and the user."""
        # Locking the account's row makes admission serial on PostgreSQL; SQLite has one writer anyway.
        query = select(Account).join(Project, col(Project.account_id) == Account.id)
        account = (await tx.session.exec(query.where(Project.id == project_id).with_for_update(of=Account))).first()
        if account is None:
            raise NotFound(f"there is no project '{project_id}'")
        own = await tx.session.get(QuotaLimit, (account.id, self.plugin, quota.kind))
        in_account = col(Resource.project_id).in_(select(Project.id).where(Project.account_id == account.id))
        limits: list[tuple[str, int, Any]] = [("account", own.maximum if own else quota.maximum, in_account)]
        room = await tx.session.get(WorkspaceQuota, (workspace_id, self.plugin, quota.kind))
        if room is not None:
            limits.append((f"workspace '{workspace_id}'", room.maximum, col(Resource.workspace_id) == workspace_id))
        user = await tx.session.get(UserQuota, (owner_id, self.plugin, quota.kind))
        if user is not None:
            limits.append(("user", user.maximum, in_account & (col(Resource.owner_id) == owner_id)))
        for holder, maximum, held in limits:
            used = await count(tx.session, self.plugin, quota.kind, held)
            if used >= maximum:
                raise QuotaExceeded(
                    f"the {holder} has {used} of {maximum} {quota.label}; "
                    "delete one or ask the administrator for a higher quota"
                )


async def count(session: AsyncSession, plugin: str, kind: str, *held: ColumnElement[bool]) -> int:
    """How many things of a kind there are that meet these conditions on `Resource`."""
    counted = (
        select(func.count())
        .select_from(Resource)
        .where(Resource.plugin == plugin, Resource.kind == kind, col(Resource.deleted_at).is_(None), *held)
    )
    return (await session.exec(counted)).one()


async def _hold(tx: Transaction, project_id: str, workspace_id: str) -> None:
    """Keep a workspace from being deleted until the transaction ends; the default one never is."""
    check_open(workspace_id)
    if workspace_id == DEFAULT_WORKSPACE:
        return
    workspace = await tx.session.get(Workspace, workspace_id, with_for_update={"read": True})
    if workspace is None or workspace.project_id != project_id:
        raise no_such(workspace_id)
