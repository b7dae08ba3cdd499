"""What an authenticated principal may do: the policies that reach it, in which scope, and what decides (003 §9).

The effective right is what the credential's session policy allows and, of that, what the principal's own policies
allow: those of the agency it acts by, if there is one, else those of its user's groups. What the platform does on
storage for a user's program is done by the agency that the account has authorized for that (003 §9, Agency
Authorization). In an account with loose authorization a user may do of ModelArts what no statement decides.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import CompoundSelect, Select, null, select, union_all
from sqlmodel import col
from sqlmodel import select as select_rows

from bottega.context import Principal, now_ms
from bottega.database import AsyncSession, Database
from bottega.entities import Account, Agency, Group, GroupMember, Policy, PolicyGrant
from bottega.events import Envelope
from bottega.iam import Attached, Decision, PolicyDocument, PolicySet, compile_policies, parse_policy

DEFAULT_ENTERPRISE_PROJECT = "0"
_CACHE = 10_000
_POLICY_EVENTS = "iam.policy."
_LOOSE_SERVICE = "modelarts:"
_ADMINISTRATION = frozenset({"authmode", "authorization", "quota", "workspace"})
_LOOKING = ("get", "list", "show")
_THROUGH = {"agency": "agency", "user": "group"}


@dataclass(frozen=True, slots=True)
class Grant:
    """A policy that reaches somebody: through which group or agency, and where it counts (`PolicyGrant`)."""

    policy_id: str
    document: PolicyDocument
    source: str
    scope: str
    project_id: str | None
    enterprise_project_id: str | None

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


@dataclass(frozen=True, slots=True)
class Holder:
    """Whose grants count: a user (through its groups) or an agency."""

    kind: str
    id: str

    @classmethod
    def of(cls, principal: Principal) -> Holder:
        return cls("agency", principal.agency_id) if principal.agency_id else cls("user", principal.user_id)


class Rights:
    """Decides for all principals. Grants and compiled policies are cached until `forget`."""

    def __init__(
        self,
        database: Database,
        account: Callable[[str], Awaitable[Account]],
        delegate: Callable[[Principal], Awaitable[Principal]],
    ) -> None:
        self._database = database
        self._account = account
        self._delegate = delegate
        self._grants: dict[Holder, tuple[Grant, ...]] = {}
        self._sets: dict[tuple[Holder, str | None, str], PolicySet] = {}
        self._agencies: dict[str, Agency | None] = {}
        self._documents: dict[str, tuple[int, PolicyDocument]] = {}
        self._session_policies: dict[str, PolicySet] = {}
        self._generation = 0

    def forget(self, envelopes: Sequence[Envelope] = ()) -> None:
        """Forget who has what. Checked documents stay, except those of policies that `envelopes` say have changed."""
        self._generation += 1
        self._grants.clear()
        self._sets.clear()
        self._agencies.clear()
        for envelope in envelopes:
            if envelope.type.startswith(_POLICY_EVENTS):
                self._documents.pop(str(envelope.data.get("policy_id")), None)

    async def decide(
        self,
        principal: Principal,
        project_id: str | None,
        action: str,
        resource: str,
        context: Mapping[str, Any],
        enterprise_project_id: str = DEFAULT_ENTERPRISE_PROJECT,
    ) -> Decision:
        """May `principal` do `action` on `resource` there? Account roots may do everything in their account."""
        if principal.kind == "system":
            return Decision(True, "explicit allow", action, "platform", 0, "the platform itself", "*:*:*")
        if principal.session_policy is not None:
            limit = self.session_policy(principal.session_policy).decide(action, resource, context)
            if not limit.allowed:
                return limit
        if principal.kind == "workload" and action.startswith("obs:"):
            principal = await self._delegate(principal)
        if principal.is_account_root and principal.agency_id is None:
            return Decision(True, "explicit allow", action, "account root", 0, "the account itself", "*:*:*")
        held = self._sets.get((Holder.of(principal), project_id, enterprise_project_id))
        if held is None or principal.agency_id is not None:
            held = await self.held(principal, project_id, enterprise_project_id)
        decision = held.decide(action, resource, context)
        if decision.reason != "no statement allows it" or not await self.is_loose(principal, action):
            return decision
        return Decision(True, "loose authorization", action)

    async def is_loose(self, principal: Principal, action: str) -> bool:
        """Whether `action` needs no statement: the account is in loose mode and it is a user's use of ModelArts.

        Changing who may do what (the mode itself, authorizations, workspaces, quotas) stays the administrators'.
        """
        name = action.lower()
        if not name.startswith(_LOOSE_SERVICE) or principal.agency_id is not None:
            return False
        kind, _, operation = name.removeprefix(_LOOSE_SERVICE).partition(":")
        if kind in _ADMINISTRATION and not operation.startswith(_LOOKING):
            return False
        return (await self._account(principal.account_id)).auth_mode == "loose"

    async def held(self, principal: Principal, project_id: str | None, enterprise_project_id: str) -> PolicySet:
        """The policies that count for `principal` there, compiled; none for an agency that is over or not its own."""
        holder = Holder.of(principal)
        if principal.agency_id is not None:
            agency = await self.agency(principal.agency_id)
            if agency is None or agency.account_id != principal.account_id or _is_over(agency):
                return compile_policies([])
        generation = self._generation
        key = (holder, project_id, enterprise_project_id)
        found = self._sets.get(key)
        if found is None:
            grants = await self.grants(holder)
            found = compile_policies(
                Attached(grant.document, grant.source, grant.where)
                for grant in grants
                if grant.counts_in(project_id, enterprise_project_id)
            )
            self._keep(self._sets, key, found, generation)
        return found

    async def grants(self, holder: Holder) -> tuple[Grant, ...]:
        """Everything granted to a user's groups or an agency, in whatever scope, by the name of the policy."""
        generation = self._generation
        found = self._grants.get(holder)
        if found is None:
            async with self._database.read() as session:
                rows = (await session.execute(_granted_to(holder))).all()
                documents = await self._checked(session, {row.id: row.updated_at for row in rows})
            found = tuple(
                Grant(
                    row.id,
                    documents[row.id],
                    "the user" if row.holder is None else f"{_THROUGH[holder.kind]} {row.holder}",
                    row.scope,
                    row.project_id,
                    row.enterprise_project_id,
                )
                for row in rows
                if row.id in documents
            )
            self._keep(self._grants, holder, found, generation)
        return found

    async def agency(self, agency_id: str) -> Agency | None:
        generation = self._generation
        if agency_id in self._agencies:
            return self._agencies[agency_id]
        async with self._database.read() as session:
            agency = await session.get(Agency, agency_id)
        self._keep(self._agencies, agency_id, agency, generation)
        return agency

    def session_policy(self, text: str) -> PolicySet:
        """The limits a credential carries, compiled."""
        found = self._session_policies.get(text)
        if found is None:
            found = compile_policies([(parse_policy(text, "session"), "limits of this credential")])
            _remember(self._session_policies, text, found)
        return found

    async def _checked(self, session: AsyncSession, wanted: Mapping[str, int]) -> dict[str, PolicyDocument]:
        """The documents of policies by id, `wanted` with the time of their last change; read only where unknown."""
        generation = self._generation
        known = {
            id: kept[1] for id, at in wanted.items() if (kept := self._documents.get(id)) is not None and kept[0] == at
        }
        missing = [id for id in wanted if id not in known]
        for start in range(0, len(missing), 500):  # databases bound the number of parameters
            query = select_rows(Policy).where(col(Policy.id).in_(missing[start : start + 500]))
            for policy in (await session.exec(query)).all():
                document = known[policy.id] = parse_policy(policy.document, policy.name)
                self._keep(self._documents, policy.id, (policy.updated_at, document), generation)
        return known

    def _keep(self, cache: dict[Any, Any], key: Any, value: Any, generation: int) -> None:
        """Cache what was read, unless something has changed since `generation`: then it may be of before the change."""
        if generation == self._generation:
            _remember(cache, key, value)


def _granted_to(holder: Holder) -> Select[*tuple[Any, ...]] | CompoundSelect[*tuple[Any, ...]]:
    """The grants of an agency, or of a user: those of its groups, and its own in enterprise projects."""
    if holder.kind == "agency":
        query = _grants(col(Agency.name)).join(Agency, col(Agency.id) == col(PolicyGrant.agency_id))
        return query.where(col(Agency.id) == holder.id).order_by("name")
    of_groups = (
        _grants(col(Group.name))
        .join(Group, col(Group.id) == col(PolicyGrant.group_id))
        .join(GroupMember, col(GroupMember.group_id) == col(Group.id))
        .where(col(GroupMember.user_id) == holder.id)
    )
    own = _grants(null()).where(col(PolicyGrant.user_id) == holder.id)
    return union_all(of_groups, own).order_by("name", "holder")


def _grants(holder: Any) -> Select[*tuple[Any, ...]]:
    return select(
        col(Policy.id),
        col(Policy.name).label("name"),
        col(Policy.updated_at),
        holder.label("holder"),
        col(PolicyGrant.scope),
        col(PolicyGrant.project_id),
        col(PolicyGrant.enterprise_project_id),
    ).join_from(PolicyGrant, Policy, col(PolicyGrant.policy_id) == col(Policy.id))


def _is_over(agency: Agency) -> bool:
    return agency.expires_at is not None and agency.expires_at <= now_ms()


def _remember(cache: dict[Any, Any], key: Any, value: Any) -> None:
    if len(cache) >= _CACHE:
        cache.clear()
    cache[key] = value
