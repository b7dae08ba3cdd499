"""Which policies reach whom: memberships, grants and checked policies, read once and kept until an event touches them.

A change of identity drops what it is about and nothing else, so that a large account is not read again because one
user has joined one group. An event this module does not know drops everything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, CompoundSelect, Select, literal, null, select, union_all
from sqlmodel import col
from sqlmodel import select as select_rows

from bottega.context import Principal
from bottega.database import AsyncSession, Database
from bottega.entities import Agency, Group, GroupMember, Policy, PolicyGrant, User
from bottega.events import Envelope
from bottega.iam import Attached, PolicyDocument, parse_policy

_KEPT = 100_000
_AT_ONCE = 500  # databases bound the number of parameters of a query
_NOT_ABOUT_GRANTS = (
    "core.account.",
    "iam.account.",
    "iam.credential.",
    "iam.security.",
    "iam.token.",
    "iam.workspace.",
)


@dataclass(frozen=True, slots=True)
class Holder:
    """To whom a policy is granted: ``user``, ``group`` or ``agency``."""

    kind: str
    id: str

    @classmethod
    def of(cls, principal: Principal) -> Holder:
        """Whose grants count for `principal`; a user's are those of its groups too."""
        return cls("agency", principal.agency_id) if principal.agency_id else cls("user", principal.user_id)


@dataclass(frozen=True, slots=True)
class Grant:
    """A policy that reaches somebody, and where it counts (`PolicyGrant`)."""

    policy_id: str
    scope: str
    project_id: str | None
    enterprise_project_id: str | None
    attached: Attached

    @property
    def document(self) -> PolicyDocument:
        return self.attached.document

    @property
    def source(self) -> str:
        """Through what it reaches, in words."""
        return self.attached.source

    def counts_in(self, project_id: str | None, enterprise_project_id: str) -> bool:
        """Whether it counts for a thing of that project and enterprise project; no project: for the whole account."""
        if self.scope == "project":
            return project_id is not None and self.project_id == project_id
        if self.scope == "enterprise_project":
            return project_id is not None and self.enterprise_project_id == enterprise_project_id
        return True


@dataclass(frozen=True, slots=True)
class _Granted:
    """What one holder was granted. `everywhere`: the policies, if each counts in the whole account."""

    grants: tuple[Grant, ...]
    everywhere: tuple[Attached, ...] | None

    @classmethod
    def of(cls, grants: Iterable[Grant]) -> _Granted:
        found = tuple(sorted(grants, key=lambda grant: grant.document.name))
        limited = any(grant.scope in ("project", "enterprise_project") for grant in found)
        return cls(found, None if limited else tuple(grant.attached for grant in found))


_Among = Callable[[Any], ColumnElement[bool]]
"""Narrows a column of user ids to those asked for."""
_Read = tuple[dict[str, tuple[str, ...]], dict[Holder, _Granted]]
"""The groups of users, and what each holder was granted."""


class Grants:
    """All grants of an installation, as far as they have been asked for."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._members: dict[str, tuple[str, ...]] = {}
        self._granted: dict[Holder, _Granted] = {}
        self._documents: dict[str, PolicyDocument] = {}
        self.generation = 0

    def forget(self, envelopes: Sequence[Envelope]) -> None:
        """Drop what `envelopes` are about; everything when there are none."""
        self.generation += 1
        understood = [self._drop(envelope.type, envelope.data) for envelope in envelopes]
        if not understood or not all(understood):
            self._members.clear()
            self._granted.clear()
            self._documents.clear()

    def _drop(self, type: str, about: Mapping[str, Any]) -> bool:
        """Whether it is known what an event of this type touches, and that has been dropped."""
        if type.startswith(_NOT_ABOUT_GRANTS) or not type.startswith(("core.", "iam.")):
            return True
        if type.startswith("iam.policy.changed."):
            changed = about["policy_id"]
            self._documents.pop(changed, None)
            for holder, granted in list(self._granted.items()):
                if any(grant.policy_id == changed for grant in granted.grants):
                    del self._granted[holder]
            return True
        if type.startswith(("iam.member.", "iam.user.")):
            self._members.pop(about["user_id"], None)
            self._granted.pop(Holder("user", about["user_id"]), None)
            return True
        if type.startswith("iam.group.changed."):
            self._granted.pop(Holder("group", about["group_id"]), None)
            return True
        if type.startswith(("iam.policy.granted.", "iam.policy.revoked.")):
            holders = [
                Holder(kind, about[f"{kind}_id"]) for kind in ("user", "group", "agency") if about.get(f"{kind}_id")
            ]
            for holder in holders:
                self._granted.pop(holder, None)
            return bool(holders)
        return False

    async def of(self, holder: Holder) -> list[Grant]:
        """What is granted to an agency, or to a user and its groups, in whatever scope; by group and policy name."""
        return [grant for granted in await self._of(holder) for grant in granted.grants]

    async def attached(self, holder: Holder, project_id: str | None, enterprise_project_id: str) -> list[Attached]:
        """The policies of `of` that count there."""
        found: list[Attached] = []
        for granted in await self._of(holder):
            if granted.everywhere is not None:
                found += granted.everywhere
            else:
                found += [g.attached for g in granted.grants if g.counts_in(project_id, enterprise_project_id)]
        return found

    async def _of(self, holder: Holder) -> list[_Granted]:
        """The holder's own, and those of its groups."""
        found = _collect(holder, self._members, self._granted)
        if found is None:
            generation = self.generation
            async with self._database.read() as session:
                if holder.kind == "user":
                    read = await self._read_users(session, [holder.id], lambda user_id: user_id == holder.id)
                else:
                    read = await self._read_agency(session, holder)
            self._keep(*read, generation)
            found = _collect(holder, *read)
        return found or []

    async def read_account(self, account_id: str) -> None:
        """Read the grants of all users of an account at once, for a question about each of them."""
        generation = self.generation
        async with self._database.read() as session:
            ids = (await session.exec(select_rows(User.id).where(User.account_id == account_id))).all()
            of_account = select(col(User.id)).where(col(User.account_id) == account_id)
            read = await self._read_users(session, ids, lambda user_id: user_id.in_(of_account))
        self._keep(*read, generation)

    async def _read_users(self, session: AsyncSession, users: Sequence[str], among: _Among) -> _Read:
        rows = (await session.execute(_to_users(among))).all()
        groups: dict[str, dict[str, None]] = {id: {} for id in users}
        for row in rows:
            if row.group_id is not None:
                groups.setdefault(row.user_id, {})[row.group_id] = None
        holders = [Holder("user", id) for id in groups]
        holders += [Holder("group", id) for id in dict.fromkeys(id for found in groups.values() for id in found)]
        granted = await self._grants(session, holders, rows)
        return {user: tuple(found) for user, found in groups.items()}, granted

    async def _read_agency(self, session: AsyncSession, holder: Holder) -> _Read:
        rows = (await session.execute(_to_agency(holder.id))).all()
        return {}, await self._grants(session, [holder], rows)

    async def _grants(
        self, session: AsyncSession, holders: Sequence[Holder], rows: Sequence[Any]
    ) -> dict[Holder, _Granted]:
        """The grants of each holder, from rows of which several may tell the same one."""
        documents = await self._read_documents(session, {row.policy_id for row in rows if row.policy_id is not None})
        granted: dict[Holder, dict[str, Grant]] = {holder: {} for holder in holders}
        for row in rows:
            document = documents.get(row.policy_id)
            if document is None:  # none is granted, or the policy has just been deleted
                continue
            holder = Holder(row.kind, getattr(row, f"{row.kind}_id"))
            if row.grant_id not in granted[holder]:
                place = row.scope, row.project_id, row.enterprise_project_id
                source = "the user" if row.kind == "user" else f"{row.kind} {row.holder}"
                attached = Attached(document, source, _in_words(*place))
                granted[holder][row.grant_id] = Grant(row.policy_id, *place, attached)
        return {holder: _Granted.of(found.values()) for holder, found in granted.items()}

    async def _read_documents(self, session: AsyncSession, wanted: set[str]) -> dict[str, PolicyDocument]:
        generation = self.generation
        documents = {id: self._documents[id] for id in wanted if id in self._documents}
        missing = [id for id in wanted if id not in documents]
        for start in range(0, len(missing), _AT_ONCE):
            query = select_rows(Policy).where(col(Policy.id).in_(missing[start : start + _AT_ONCE]))
            for policy in (await session.exec(query)).all():
                documents[policy.id] = parse_policy(policy.document, policy.name)
        if generation == self.generation:
            self._documents.update(documents)
        return documents

    def _keep(
        self, members: Mapping[str, tuple[str, ...]], granted: Mapping[Holder, _Granted], generation: int
    ) -> None:
        """Keep what was read, unless something has changed since `generation`: then it may be of before the change."""
        if generation != self.generation:
            return
        if max(len(self._members), len(self._granted), len(self._documents)) > _KEPT:
            self.forget(())
        self._members.update(members)
        self._granted.update(granted)


def _collect(
    holder: Holder, members: Mapping[str, tuple[str, ...]], granted: Mapping[Holder, _Granted]
) -> list[_Granted] | None:
    """The grants of an agency, or of a user with its groups; None when a part of them is not known."""
    own = granted.get(holder)
    groups = members.get(holder.id) if holder.kind == "user" else ()
    if own is None or groups is None:
        return None
    found = [own]
    for id in groups:
        through = granted.get(Holder("group", id))
        if through is None:
            return None
        found.append(through)
    return found


def _in_words(scope: str, project_id: str | None, enterprise_project_id: str | None) -> str:
    if scope == "project":
        return f"project {project_id}"
    return f"enterprise project {enterprise_project_id}" if scope == "enterprise_project" else "the whole account"


def _granted_columns() -> tuple[Any, ...]:
    return (
        col(PolicyGrant.id).label("grant_id"),
        col(PolicyGrant.policy_id),
        col(PolicyGrant.scope),
        col(PolicyGrant.project_id),
        col(PolicyGrant.enterprise_project_id),
    )


def _to_users(among: _Among) -> CompoundSelect[*tuple[Any, ...]]:
    """A row for each grant that reaches one of the users; for a group without grants, one without any."""
    user_id, group_id = col(GroupMember.user_id), col(GroupMember.group_id)
    by_group = (
        select(literal("group").label("kind"), user_id, group_id, col(Group.name).label("holder"), *_granted_columns())
        .join(Group, col(Group.id) == group_id)
        .outerjoin(PolicyGrant, col(PolicyGrant.group_id) == group_id)
        .where(among(user_id))
    )
    own = col(PolicyGrant.user_id)
    of_user = literal("user").label("kind"), own, null().label("group_id"), null().label("holder")
    return union_all(by_group, select(*of_user, *_granted_columns()).where(among(own))).order_by("holder", "group_id")


def _to_agency(agency_id: str) -> Select[*tuple[Any, ...]]:
    through: tuple[Any, ...] = (
        literal("agency").label("kind"),
        col(Agency.id).label("agency_id"),
        col(Agency.name).label("holder"),
    )
    found: Select[*tuple[Any, ...]] = (
        select(*through, *_granted_columns())
        .join_from(PolicyGrant, Agency, col(Agency.id) == col(PolicyGrant.agency_id))
        .where(col(PolicyGrant.agency_id) == agency_id)
    )
    return found
