"""Groups and their members: the only way rights reach a user (002 §10.1)."""

from __future__ import annotations

from sqlmodel import col, delete, select

from bottega.entities import Group, GroupMember, PolicyGrant, User
from bottega.errors import Conflict, NotFound
from bottega.platform import Platform

from .events import GroupChanged, GroupCreated, GroupDeleted, MemberAdded, MemberRemoved
from .identities import flush_unique, iam_urn, owned
from .listing import Part, Window, part_of
from .names import check_name
from .quotas import Quotas

ADMIN = "admin"
"""The preset group of every account, with all rights."""


class Groups:
    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._quotas = Quotas(platform)

    async def list(
        self, account_id: str, window: Window, name: str | None = None, user_id: str | None = None
    ) -> Part[Group]:
        async with self._platform.database.read() as session:
            query = select(Group).where(Group.account_id == account_id).order_by(Group.name)
            if name is not None:
                query = query.where(Group.name == name)
            if user_id is not None:
                await owned(session, User, user_id, account_id)
                query = query.join(GroupMember, col(GroupMember.group_id) == Group.id).where(
                    GroupMember.user_id == user_id
                )
            return await part_of(session, query, window)

    async def get(self, account_id: str, group_id: str) -> Group:
        async with self._platform.database.read() as session:
            return await owned(session, Group, group_id, account_id)

    async def create(self, account_id: str, name: str, description: str) -> Group:
        name = check_name("group", name)
        async with self._platform.database.transaction() as tx:
            await self._quotas.admit(tx, account_id, "group")
            group = Group(account_id=account_id, name=name, description=description)
            tx.session.add(group)
            await flush_unique(tx, f"a group named '{name}' exists in this account; choose another name")
            tx.emit(GroupCreated(account_id=account_id, group_id=group.id, name=name), iam_urn("group", group.id))
        return group

    async def update(self, account_id: str, group_id: str, name: str | None, description: str | None) -> Group:
        name = None if name is None else check_name("group", name)
        async with self._platform.database.transaction() as tx:
            group = await owned(tx.session, Group, group_id, account_id)
            if name is not None and name != group.name:
                _refuse_preset(group)
                group.name = name
            if description is not None:
                group.description = description
            tx.session.add(group)
            await flush_unique(tx, f"a group named '{name}' exists in this account; choose another name")
            tx.emit(GroupChanged(account_id=account_id, group_id=group_id, name=group.name), iam_urn("group", group_id))
        return group

    async def delete(self, account_id: str, group_id: str) -> None:
        """Delete a group; its members lose what it gave them at once."""
        async with self._platform.database.transaction() as tx:
            group = await owned(tx.session, Group, group_id, account_id)
            _refuse_preset(group)
            await tx.session.exec(delete(GroupMember).where(col(GroupMember.group_id) == group_id))
            await tx.session.exec(delete(PolicyGrant).where(col(PolicyGrant.group_id) == group_id))
            await tx.session.delete(group)
            tx.emit(GroupDeleted(account_id=account_id, group_id=group_id, name=group.name), iam_urn("group", group_id))

    async def is_member(self, account_id: str, group_id: str, user_id: str) -> bool:
        async with self._platform.database.read() as session:
            await owned(session, Group, group_id, account_id)
            await owned(session, User, user_id, account_id)
            return await session.get(GroupMember, (group_id, user_id)) is not None

    async def add(self, account_id: str, group_id: str, user_id: str) -> None:
        """Put a user into a group; twice is once."""
        async with self._platform.database.transaction() as tx:
            await owned(tx.session, Group, group_id, account_id)
            await owned(tx.session, User, user_id, account_id)
            if await tx.session.get(GroupMember, (group_id, user_id)) is None:
                tx.session.add(GroupMember(group_id=group_id, user_id=user_id))
                event = MemberAdded(account_id=account_id, group_id=group_id, user_id=user_id)
                tx.emit(event, iam_urn("group", group_id))

    async def remove(self, account_id: str, group_id: str, user_id: str) -> None:
        async with self._platform.database.transaction() as tx:
            await owned(tx.session, Group, group_id, account_id)
            await owned(tx.session, User, user_id, account_id)
            member = await tx.session.get(GroupMember, (group_id, user_id))
            if member is None:
                raise NotFound(f"user '{user_id}' is not in group '{group_id}'")
            await tx.session.delete(member)
            event = MemberRemoved(account_id=account_id, group_id=group_id, user_id=user_id)
            tx.emit(event, iam_urn("group", group_id))


def _refuse_preset(group: Group) -> None:
    if group.name == ADMIN:
        raise Conflict(f"the group '{ADMIN}' is preset; it cannot be renamed or deleted")
