"""Which policies reach whom: memberships, grants and checked policies, read once and kept until an event touches them.

A change of identity drops what it is about and nothing else, so that a large account is not read again because one
user has joined one group. An event this module does not know drops everything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, CompoundSelect, Select, null, select, union_all
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


class Grant(NamedTuple):
    """A policy that reaches somebody, and where it counts (`PolicyGrant`). `source` says through what, in words."""

    policy_id: str
    source: str
    scope: str
    project_id: str | None
    enterprise_project_id: str | None
    document: PolicyDocument

    def counts_in(self, project_id: str | None, enterprise_project_id: str) -> bool:
        """Whether it counts for a thing of that project and enterprise project; no project: for the whole account."""
        if self.scope == "project":
            return project_id is not None and self.project_id == project_id
        if self.scope == "enterprise_project":
            return project_id is not None and self.enterprise_project_id == enterprise_project_id
        return True

    @property
    def where(self) -> str:
        """The scope in words."""
        if self.scope == "project":
            return f"project {self.project_id}"
        if self.scope == "enterprise_project":
            return f"enterprise project {self.enterprise_project_id}"
        return "the whole account"

    @property
    def attached(self) -> Attached:
        return Attached(self.document, self.source, self.where)


_Row = tuple[str, str, str, str | None, str | None]
"""A grant without its document, which may change by itself."""
_Among = Callable[[Any], ColumnElement[bool]]
"""Narrows a column of user ids to those asked for."""


class Grants:
    """All grants of an installation, as far as they have been asked for."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._members: dict[str, tuple[str, ...]] = {}
        self._granted: dict[Holder, tuple[_Row, ...]] = {}
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
            self._documents.pop(about["policy_id"], None)
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
        """What is granted to an agency, or to a user and its groups, in whatever scope, by the name of the policy."""
        held = self._known(holder)
        if held is None:
            members, granted, documents = await self._load(holder)
            held = _held(_parts(holder, members), granted, documents)
        return held

    async def read_account(self, account_id: str) -> None:
        """Read the grants of all users of an account at once, for a question about each of them."""
        generation = self.generation
        async with self._database.read() as session:
            ids = (await session.exec(select_rows(User.id).where(User.account_id == account_id))).all()
            of_account = select(col(User.id)).where(col(User.account_id) == account_id)
            members, granted = await self._read(session, ids, lambda user_id: user_id.in_(of_account))
            documents = await self._read_documents(session, granted)
        self._keep(members, granted, documents, generation)

    def _known(self, holder: Holder) -> list[Grant] | None:
        if holder.kind == "user" and holder.id not in self._members:
            return None
        try:
            return _held(_parts(holder, self._members), self._granted, self._documents)
        except KeyError:  # a part of it has been dropped
            return None

    async def _load(
        self, holder: Holder
    ) -> tuple[dict[str, tuple[str, ...]], dict[Holder, tuple[_Row, ...]], dict[str, PolicyDocument]]:
        generation = self.generation
        async with self._database.read() as session:
            if holder.kind == "user":
                members, granted = await self._read(session, [holder.id], lambda user_id: user_id == holder.id)
            else:
                rows = (await session.execute(_to_agency(holder.id))).all()
                members, granted = {}, {holder: tuple(_row("agency", row) for row in rows)}
            documents = await self._read_documents(session, granted)
        self._keep(members, granted, documents, generation)
        return members, granted, documents

    async def _read(
        self, session: AsyncSession, users: Sequence[str], among: _Among
    ) -> tuple[dict[str, tuple[str, ...]], dict[Holder, tuple[_Row, ...]]]:
        groups: dict[str, dict[str, None]] = {id: {} for id in users}
        granted: dict[Holder, dict[str, _Row]] = {Holder("user", id): {} for id in users}
        for row in (await session.execute(_to_users(among))).all():
            holder = Holder("group", row.group_id) if row.group_id else Holder("user", row.user_id)
            if row.group_id:
                groups.setdefault(row.user_id, {})[row.group_id] = None
            here = granted.setdefault(holder, {})
            if row.grant_id is not None:
                here[row.grant_id] = _row(holder.kind, row)
        return (
            {user: tuple(found) for user, found in groups.items()},
            {holder: tuple(found.values()) for holder, found in granted.items()},
        )

    async def _read_documents(
        self, session: AsyncSession, granted: dict[Holder, tuple[_Row, ...]]
    ) -> dict[str, PolicyDocument]:
        """The documents of the policies granted; grants of one that has just been deleted are taken out."""
        wanted = {row[0] for rows in granted.values() for row in rows}
        documents = {id: self._documents[id] for id in wanted if id in self._documents}
        missing = [id for id in wanted if id not in documents]
        for start in range(0, len(missing), _AT_ONCE):
            query = select_rows(Policy).where(col(Policy.id).in_(missing[start : start + _AT_ONCE]))
            for policy in (await session.exec(query)).all():
                documents[policy.id] = parse_policy(policy.document, policy.name)
        if len(documents) < len(wanted):
            for holder, rows in granted.items():
                granted[holder] = tuple(row for row in rows if row[0] in documents)
        return documents

    def _keep(
        self,
        members: Mapping[str, tuple[str, ...]],
        granted: Mapping[Holder, tuple[_Row, ...]],
        documents: Mapping[str, PolicyDocument],
        generation: int,
    ) -> None:
        """Keep what was read, unless something has changed since `generation`: then it may be of before the change."""
        if generation != self.generation:
            return
        if max(len(self._members), len(self._granted), len(self._documents)) > _KEPT:
            self.forget(())
        self._members.update(members)
        self._granted.update(granted)
        self._documents.update(documents)


def _parts(holder: Holder, members: Mapping[str, tuple[str, ...]]) -> list[Holder]:
    """A user counts with its groups."""
    return [holder, *(Holder("group", id) for id in members[holder.id])] if holder.kind == "user" else [holder]


def _held(
    parts: Sequence[Holder], granted: Mapping[Holder, tuple[_Row, ...]], documents: Mapping[str, PolicyDocument]
) -> list[Grant]:
    found = [Grant(*row, documents[row[0]]) for part in parts for row in granted[part]]
    found.sort(key=lambda grant: (grant.document.name, grant.source))
    return found


def _row(kind: str, row: Any) -> _Row:
    source = "the user" if kind == "user" else f"{kind} {row.holder}"
    return row.policy_id, source, row.scope, row.project_id, row.enterprise_project_id


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
        select(user_id, group_id, col(Group.name).label("holder"), *_granted_columns())
        .join(Group, col(Group.id) == group_id)
        .outerjoin(PolicyGrant, col(PolicyGrant.group_id) == group_id)
        .where(among(user_id))
    )
    own = col(PolicyGrant.user_id)
    direct = select(own, null().label("group_id"), null().label("holder"), *_granted_columns()).where(among(own))
    return union_all(by_group, direct)


def _to_agency(agency_id: str) -> Select[*tuple[Any, ...]]:
    found: Select[*tuple[Any, ...]] = (
        select(col(Agency.name).label("holder"), *_granted_columns())
        .join_from(PolicyGrant, Agency, col(Agency.id) == col(PolicyGrant.agency_id))
        .where(col(PolicyGrant.agency_id) == agency_id)
    )
    return found
