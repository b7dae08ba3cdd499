"""What an authenticated principal may do: the policies that reach it, in which scope, and what decides (003 §9).

The effective right is what the credential's session policy allows and, of that, what the principal's own policies
allow: those of the agency it acts by, if there is one, else those of its user's groups. What the platform does on
storage for a user's program is done by the agency that the account has authorized for that (003 §9, Agency
Authorization). In an account with loose authorization a user may do of ModelArts what no statement decides.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from bottega.context import Principal, now_ms
from bottega.database import Database
from bottega.entities import Account, Agency, Resource
from bottega.errors import Invalid
from bottega.events import Envelope
from bottega.grants import Grant, Grants, Holder
from bottega.iam import Decision, PolicySet, compile_policies, parse_policy
from bottega.iam_conditions import ENTERPRISE_PROJECT, RESOURCE_TAG
from bottega.urn import Urn

__all__ = ["DEFAULT_ENTERPRISE_PROJECT", "Grant", "Holder", "Rights"]

DEFAULT_ENTERPRISE_PROJECT = "0"
_CACHE = 10_000
_LOOSE_SERVICE = "modelarts:"
_ADMINISTRATION = frozenset({"authmode", "authorization", "quota", "workspace"})
_LOOKING = ("get", "list", "show")


class Rights:
    """Decides for all principals. Compiled policies are kept until `forget`."""

    def __init__(
        self,
        database: Database,
        account: Callable[[str], Awaitable[Account]],
        delegate: Callable[[Principal], Awaitable[Principal]],
    ) -> None:
        self._database = database
        self._account = account
        self._delegate = delegate
        self._grants = Grants(database)
        self._sets: dict[tuple[str | None, str, str | None, str], PolicySet] = {}
        self._agencies: dict[str, Agency | None] = {}
        self._session_policies: dict[str, PolicySet] = {}

    def forget(self, envelopes: Sequence[Envelope] = ()) -> None:
        """Forget what `envelopes` may have changed; everything when there are none."""
        self._sets.clear()
        self._agencies.clear()
        self._grants.forget(envelopes)

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
            limits = self.session_policy(principal.session_policy)
            told = await self.told(limits, context, resource, enterprise_project_id)
            limit = limits.decide(action, resource, told)
            if not limit.allowed:
                return limit
        if principal.kind == "workload" and action[:4].lower() == "obs:":
            principal = await self._delegate(principal)
        if principal.is_account_root and principal.agency_id is None:
            return Decision(True, "explicit allow", action, "account root", 0, "the account itself", "*:*:*")
        held = self._sets.get((principal.agency_id, principal.user_id, project_id, enterprise_project_id))
        if held is None or principal.agency_id is not None:
            held = await self.held(principal, project_id, enterprise_project_id)
        if held.asks_about_resource:
            context = await self.told(held, context, resource, enterprise_project_id)
        decision = held.decide(action, resource, context)
        if decision.reason != "no statement allows it" or not await self.is_loose(principal, action):
            return decision
        return Decision(True, "loose authorization", action)

    async def told(
        self, held: PolicySet, context: Mapping[str, Any], resource: str, enterprise_project_id: str
    ) -> Mapping[str, Any]:
        """The condition keys of a request with those about its resource, if `held` asks for any."""
        if not held.asks_about_resource:
            return context
        tags = {f"{RESOURCE_TAG}{key}": value for key, value in (await self._tags(resource)).items()}
        return {**context, ENTERPRISE_PROJECT: enterprise_project_id, **tags}

    async def _tags(self, resource: str) -> Mapping[str, Any]:
        try:
            urn = Urn.parse(resource)
        except Invalid:  # a pattern, or something outside the registry
            return {}
        if not urn.id.isprintable():
            return {}
        async with self._database.read() as session:
            row = await session.get(Resource, urn.id)
        return row.tags if row is not None and row.project_id == urn.project else {}

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
        if principal.agency_id is not None:
            agency = await self.agency(principal.agency_id)
            if agency is None or agency.account_id != principal.account_id or _is_over(agency):
                return compile_policies([])
        generation = self._grants.generation
        key = (principal.agency_id, principal.user_id, project_id, enterprise_project_id)
        found = self._sets.get(key)
        if found is None:
            counting = await self._grants.attached(Holder.of(principal), project_id, enterprise_project_id)
            found = PolicySet(counting)
            self._keep(self._sets, key, found, generation)
        return found

    async def grants(self, holder: Holder) -> Sequence[Grant]:
        """What is granted to an agency, or to a user and its groups, in whatever scope, by the name of the policy."""
        return await self._grants.of(holder)

    async def read_account(self, account_id: str) -> None:
        """Have the grants of all users of an account at hand, before asking about each of them."""
        await self._grants.read_account(account_id)

    async def agency(self, agency_id: str) -> Agency | None:
        generation = self._grants.generation
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

    def _keep(self, cache: dict[Any, Any], key: Any, value: Any, generation: int) -> None:
        """Cache what was read, unless something has changed since `generation`: then it may be of before the change."""
        if generation == self._grants.generation:
            _remember(cache, key, value)


def _is_over(agency: Agency) -> bool:
    return agency.expires_at is not None and agency.expires_at <= now_ms()


def _remember(cache: dict[Any, Any], key: Any, value: Any) -> None:
    if len(cache) >= _CACHE:
        cache.clear()
    cache[key] = value
