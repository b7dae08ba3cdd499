"""Accounts, who own and pay, and the projects that divide what they own (002 §10.1)."""

from __future__ import annotations

from sqlalchemy import func
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, delete, select

from bottega import rights
from bottega.context import Principal, now_ms
from bottega.database import Transaction
from bottega.entities import (
    Account,
    Group,
    PolicyGrant,
    Project,
    Resource,
    User,
    Workload,
    Workspace,
    WorkspaceQuota,
    WorkspaceUser,
)
from bottega.errors import Conflict, Forbidden, Invalid
from bottega.platform import Platform

from .events import (
    AccountCreated,
    ProjectChanged,
    ProjectCreated,
    ProjectDeleted,
)
from .grants import DOMAIN, Holder, grant_in
from .groups import ADMIN
from .identities import flush_unique, iam_urn, owned
from .listing import Part, Window, part_of
from .names import check_name
from .passwords import Passwords, check_strength
from .policies import system_policy_id
from .quotas import Quotas
from .security import PasswordPolicy
from .system_policies import ADMIN_GROUP_POLICIES


class Accounts:
    def __init__(self, platform: Platform, passwords: Passwords) -> None:
        self._platform = platform
        self._passwords = passwords

    async def list(self, by: Principal, window: Window) -> Part[Account]:
        """The caller's own account; for the operator all of them."""
        query = select(Account).order_by(Account.name)
        if not await self._is_operator(by):
            query = query.where(Account.id == by.account_id)
        async with self._platform.database.read() as session:
            return await part_of(session, query, window)

    async def create(self, by: Principal, name: str, password: str) -> Account:
        """Make an account with its own login, `admin` group and first project.

        Raises Forbidden for anybody but the root of the platform's first account.
        """
        name = check_name("account", name)
        check_strength(password, name, PasswordPolicy())
        if not await self._is_operator(by):
            raise Forbidden("further accounts are made by the platform's first account only")
        hashed = await self._passwords.hash(password)
        async with self._platform.database.transaction() as tx:
            account = Account(name=name)
            tx.session.add(account)
            await flush_unique(tx, f"an account named '{name}' exists; choose another name")
            tx.session.add(
                User(
                    id=account.id,
                    account_id=account.id,
                    name=name,
                    is_account_root=True,
                    password_hash=hashed,
                    password_changed_at=now_ms(),
                )
            )
            tx.session.add(Project(account_id=account.id, name=self._platform.settings.region))
            await tx.session.flush()
            await _ensure_admin_group(tx, account.id)
            tx.emit(AccountCreated(account_id=account.id, name=name), iam_urn("account", account.id))
        return account

    async def ensure_admin_groups(self) -> None:
        """Give every account its preset group `admin`, with all rights."""
        async with self._platform.database.transaction() as tx:
            for account_id in (await tx.session.exec(select(Account.id))).all():
                await _ensure_admin_group(tx, account_id)

    async def _is_operator(self, by: Principal) -> bool:
        return by.is_account_root and by.account_id == await self._platform.identity.platform_account()


class Projects:
    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._quotas = Quotas(platform)

    async def list(
        self,
        by: Principal,
        window: Window,
        *,
        everything: bool,
        name: str | None = None,
        parent_id: str | None = None,
        enabled: bool | None = None,
    ) -> Part[Project]:
        """The account's projects; without the right to see `everything`, those in which the caller has any right.

        :param parent_id: that of the sub-projects wanted; the account's id for the projects that are none.
        """
        async with self._platform.database.read() as session:
            query = select(Project).where(Project.account_id == by.account_id)
            if by.scope is not None:
                query = query.where(Project.id == by.scope)
            elif not everything:
                grants = await self._platform.identity.rights.grants(rights.Holder.of(by))
                if all(grant.scope == "project" for grant in grants):
                    query = query.where(col(Project.id).in_({grant.project_id for grant in grants}))
            if name is not None:
                query = query.where(Project.name == name)
            if parent_id is not None:
                parent = None if parent_id == by.account_id else parent_id
                query = query.where(col(Project.parent_id).is_not_distinct_from(parent))
            if enabled is not None:
                query = query.where(Project.enabled == enabled)
            return await part_of(session, query.order_by(Project.name), window)

    async def get(self, account_id: str, project_id: str) -> Project:
        async with self._platform.database.read() as session:
            return await owned(session, Project, project_id, account_id)

    async def create(self, account_id: str, name: str, description: str, parent_id: str | None) -> Project:
        name = check_name("project", name)
        async with self._platform.database.transaction() as tx:
            await self._quotas.admit(tx, account_id, "project")
            if parent_id is not None and (await owned(tx.session, Project, parent_id, account_id)).parent_id:
                raise Invalid("parent_id: is itself a sub-project; sub-projects have no further ones")
            project = Project(account_id=account_id, name=name, description=description, parent_id=parent_id)
            tx.session.add(project)
            await flush_unique(tx, f"a project named '{name}' exists in this account; choose another name")
            event = ProjectCreated(account_id=account_id, project_id=project.id, name=name)
            tx.emit(event, iam_urn("project", project.id))
        return project

    async def update(
        self, account_id: str, project_id: str, name: str | None, description: str | None, enabled: bool | None
    ) -> Project:
        """A disabled project refuses every call in it; what runs there goes on until it ends."""
        name = None if name is None else check_name("project", name)
        async with self._platform.database.transaction() as tx:
            project = await owned(tx.session, Project, project_id, account_id)
            project.name = project.name if name is None else name
            project.description = project.description if description is None else description
            project.enabled = project.enabled if enabled is None else enabled
            tx.session.add(project)
            await flush_unique(tx, f"a project named '{name}' exists in this account; choose another name")
            event = ProjectChanged(
                account_id=account_id, project_id=project_id, name=project.name, enabled=project.enabled
            )
            tx.emit(event, iam_urn("project", project_id))
        return project

    async def delete(self, account_id: str, project_id: str) -> None:
        """Raises Conflict for a project that holds or held anything: bills, audit and lineage still name it."""
        async with self._platform.database.transaction() as tx:
            project = await owned(tx.session, Project, project_id, account_id)
            used = Conflict(f"project '{project.name}' has a history; disable it instead (enabled: false)")
            for table in (Resource, Workload):
                counted = select(func.count()).select_from(table).where(table.project_id == project_id)
                if (await tx.session.exec(counted)).one():
                    raise used
            if (await tx.session.exec(select(Project.id).where(Project.parent_id == project_id))).first():
                raise Conflict(f"project '{project.name}' has sub-projects; delete them first")
            await tx.session.exec(delete(PolicyGrant).where(col(PolicyGrant.project_id) == project_id))
            rooms = select(Workspace.id).where(Workspace.project_id == project_id)
            for table_of_room in (WorkspaceUser, WorkspaceQuota):
                await tx.session.exec(delete(table_of_room).where(col(table_of_room.workspace_id).in_(rooms)))
            await tx.session.exec(delete(Workspace).where(col(Workspace.project_id) == project_id))
            await tx.session.delete(project)
            try:
                await tx.session.flush()
            except IntegrityError as e:
                raise used from e
            event = ProjectDeleted(account_id=account_id, project_id=project_id, name=project.name)
            tx.emit(event, iam_urn("project", project_id))


async def _ensure_admin_group(tx: Transaction, account_id: str) -> None:
    query = select(Group).where(Group.account_id == account_id, Group.name == ADMIN)
    if (await tx.session.exec(query)).first() is None:
        group = Group(account_id=account_id, name=ADMIN, description="All rights", created_at=now_ms())
        tx.session.add(group)
        await tx.session.flush()
        for policy in ADMIN_GROUP_POLICIES:
            await grant_in(tx, account_id, Holder("group", group.id), system_policy_id(policy), DOMAIN)
