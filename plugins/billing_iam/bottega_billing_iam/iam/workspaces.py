"""Workspaces: rooms inside a project, each bound to one enterprise project (003 §9). The core keeps them closed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import func
from sqlmodel import col, delete, select

from bottega.context import now_ms
from bottega.database import AsyncSession, Transaction
from bottega.entities import (
    DEFAULT_WORKSPACE,
    EnterpriseProject,
    Project,
    Resource,
    User,
    Workspace,
    WorkspaceQuota,
    WorkspaceUser,
)
from bottega.errors import Conflict, Invalid, NotFound
from bottega.platform import Platform
from bottega.rights import DEFAULT_ENTERPRISE_PROJECT
from bottega.urn import Urn
from bottega.workspaces import INTERNAL

from .events import WorkspaceChanged, WorkspaceCreated, WorkspaceDeleted
from .identities import flush_unique
from .names import check_name

DEFAULT_NAME = "default"


@dataclass(frozen=True, slots=True)
class Guest:
    """A user as a request names it; the id goes before the name."""

    user_id: str | None
    user_name: str | None


@dataclass(frozen=True, slots=True)
class Fields:
    """What a workspace is to be; None leaves it as it is. `guests` count for an INTERNAL one only."""

    name: str | None = None
    description: str | None = None
    auth_type: str | None = None
    guests: Sequence[Guest] | None = None


@dataclass(frozen=True, slots=True)
class Shown:
    """A workspace with the names of what it refers to. `guests` are the names of its users by id."""

    row: Workspace
    owner: str
    enterprise_project: str
    guests: Mapping[str, str]


class Workspaces:
    """Those of all projects; the default one, id ``0``, is always there and has no row."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    async def list(
        self, project_id: str, *, name: str | None = None, enterprise_project_id: str | None = None
    ) -> list[Shown]:
        """All of a project that match, the default one among them; `name` is a part of it."""
        async with self._platform.database.read() as session:
            rows = [await self._default(session, project_id)]
            rows += (await session.exec(select(Workspace).where(Workspace.project_id == project_id))).all()
            found = [
                row
                for row in rows
                if (name or "").lower() in row.name.lower()
                and enterprise_project_id in (None, row.enterprise_project_id)
            ]
            return await _shown(session, found)

    async def get(self, project_id: str, workspace_id: str) -> Shown:
        async with self._platform.database.read() as session:
            if workspace_id == DEFAULT_WORKSPACE:
                row = await self._default(session, project_id)
            else:
                row = await _workspace(session, project_id, workspace_id)
            return (await _shown(session, [row]))[0]

    async def create(self, project_id: str, owner_id: str, enterprise_project_id: str, wanted: Fields) -> Shown:
        """Raises Invalid for an enterprise project or guest that the account does not have, Conflict for a name."""
        async with self._platform.database.transaction() as tx:
            await _check_enterprise_project(tx.session, project_id, enterprise_project_id)
            workspace = Workspace(
                project_id=project_id,
                name="",
                owner_id=owner_id,
                enterprise_project_id=enterprise_project_id,
            )
            await self._put(tx, workspace, wanted)
            event = WorkspaceCreated(project_id=project_id, workspace_id=workspace.id, name=workspace.name)
            tx.emit(event, _urn(workspace))
            return (await _shown(tx.session, [workspace]))[0]

    async def update(self, project_id: str, workspace_id: str, wanted: Fields) -> None:
        """Who loses access finds nothing of it from then on; what runs there goes on. Raises as `create`."""
        async with self._platform.database.transaction() as tx:
            workspace = await _changeable(tx, project_id, workspace_id)
            await self._put(tx, workspace, wanted)
            event = WorkspaceChanged(project_id=project_id, workspace_id=workspace_id, name=workspace.name)
            tx.emit(event, _urn(workspace))

    async def delete(self, project_id: str, workspace_id: str) -> None:
        """Raises Conflict while things are in it: they would be left behind where nobody looks."""
        async with self._platform.database.transaction() as tx:
            workspace = await _changeable(tx, project_id, workspace_id)
            inside = select(func.count()).select_from(Resource)
            inside = inside.where(Resource.workspace_id == workspace_id, col(Resource.deleted_at).is_(None))
            count = (await tx.session.exec(inside)).one()
            if count:
                raise Conflict(f"workspace '{workspace.name}' holds {count} things; delete these first")
            for table in (WorkspaceUser, WorkspaceQuota):
                await tx.session.exec(delete(table).where(col(table.workspace_id) == workspace_id))
            await tx.session.delete(workspace)
            event = WorkspaceDeleted(project_id=project_id, workspace_id=workspace_id, name=workspace.name)
            tx.emit(event, _urn(workspace))

    async def possible_guests(self, account_id: str) -> Sequence[str]:
        """The names of all users of the account."""
        async with self._platform.database.read() as session:
            return (
                await session.exec(select(User.name).where(User.account_id == account_id).order_by(User.name))
            ).all()

    async def _put(self, tx: Transaction, workspace: Workspace, wanted: Fields) -> None:
        if wanted.name is not None:
            workspace.name = _checked(wanted.name)
        if wanted.description is not None:
            workspace.description = wanted.description
        if wanted.auth_type is not None:
            workspace.auth_type = wanted.auth_type
        workspace.updated_at = now_ms()
        guests = None
        if wanted.guests is not None and workspace.auth_type == INTERNAL:
            guests = await _users(tx.session, workspace.project_id, wanted.guests)
        tx.session.add(workspace)
        await flush_unique(tx, f"a workspace named '{workspace.name}' exists in this project; choose another name")
        if guests is not None or workspace.auth_type != INTERNAL:
            await tx.session.exec(delete(WorkspaceUser).where(col(WorkspaceUser.workspace_id) == workspace.id))
        for user_id in guests or ():
            tx.session.add(WorkspaceUser(workspace_id=workspace.id, user_id=user_id))
        await tx.session.flush()

    async def _default(self, session: AsyncSession, project_id: str) -> Workspace:
        project = await session.get_one(Project, project_id)
        return Workspace(
            id=DEFAULT_WORKSPACE,
            project_id=project_id,
            name=DEFAULT_NAME,
            owner_id=project.account_id,
            created_at=project.created_at,
            updated_at=project.created_at,
        )


def _urn(workspace: Workspace) -> Urn:
    return Urn("iam", workspace.project_id, "workspace", workspace.id)


def _checked(name: str) -> str:
    name = check_name("workspace", name)
    if name.lower() == DEFAULT_NAME:
        raise Invalid("name: 'default' is the workspace that is always there; choose another")
    return name


async def _workspace(session: AsyncSession, project_id: str, workspace_id: str, *, lock: bool = False) -> Workspace:
    workspace = None
    if workspace_id.isprintable():
        workspace = await session.get(Workspace, workspace_id, with_for_update=lock or None)
    if workspace is None or workspace.project_id != project_id:
        raise NotFound(f"there is no workspace '{workspace_id}' in this project")
    return workspace


async def _changeable(tx: Transaction, project_id: str, workspace_id: str) -> Workspace:
    if workspace_id == DEFAULT_WORKSPACE:
        raise Conflict("the default workspace is open to the whole project and stays as it is; make another one")
    # Creations inside it hold the row too, so none slips in while it goes.
    return await _workspace(tx.session, project_id, workspace_id, lock=True)


async def _check_enterprise_project(session: AsyncSession, project_id: str, id: str) -> None:
    if id == DEFAULT_ENTERPRISE_PROJECT:
        return
    project = await session.get_one(Project, project_id)
    found = await session.get(EnterpriseProject, id) if id.isprintable() else None
    if found is None or found.account_id != project.account_id or not found.enabled:
        raise Invalid(
            f"enterprise_project_id: the account has no enabled enterprise project '{id}'; '0' is the default"
        )


async def _users(session: AsyncSession, project_id: str, guests: Sequence[Guest]) -> list[str]:
    """The ids of the users a request names, each once. Raises Invalid for one the account does not have."""
    account_id = (await session.get_one(Project, project_id)).account_id
    found: dict[str, None] = {}
    for guest in guests:
        if not guest.user_id and not guest.user_name:
            raise Invalid("grants: each names a user by user_id or user_name")
        named = User.id == guest.user_id if guest.user_id else User.name == guest.user_name
        user_id = (await session.exec(select(User.id).where(User.account_id == account_id, named))).first()
        if user_id is None:
            raise Invalid(f"grants: there is no user '{guest.user_id or guest.user_name}' in this account")
        found[user_id] = None
    return list(found)


async def _shown(session: AsyncSession, rows: Sequence[Workspace]) -> list[Shown]:
    ids = [row.id for row in rows]
    guests: dict[str, dict[str, str]] = {id: {} for id in ids}
    query = select(WorkspaceUser.workspace_id, User.id, User.name).join(User, col(User.id) == WorkspaceUser.user_id)
    query = query.where(col(WorkspaceUser.workspace_id).in_(ids)).order_by(User.name)
    for workspace_id, user_id, name in (await session.exec(query)).all():
        guests[workspace_id][user_id] = name
    owners = select(User.id, User.name).where(col(User.id).in_({row.owner_id for row in rows}))
    names = dict((await session.exec(owners)).all())
    bound = select(EnterpriseProject.id, EnterpriseProject.name)
    bound = bound.where(col(EnterpriseProject.id).in_({row.enterprise_project_id for row in rows}))
    projects = {DEFAULT_ENTERPRISE_PROJECT: DEFAULT_NAME}
    projects |= dict((await session.exec(bound)).all())
    return [
        Shown(row, names.get(row.owner_id, ""), projects.get(row.enterprise_project_id, ""), guests[row.id])
        for row in rows
    ]
