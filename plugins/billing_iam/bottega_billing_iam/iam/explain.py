"""Why somebody may or may not do something, and who may: the same checks a request passes, told one by one.

What only the moment of a request knows (the address it comes from, a second factor, the age of its token) is not
known of others; conditions on it are told as unmet, unless the question gives an address.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio.lowlevel
from sqlmodel import col, select

from bottega.context import Principal
from bottega.entities import DEFAULT_WORKSPACE, Agency, Project, User
from bottega.errors import Invalid, NotFound
from bottega.grants import Grant, Holder
from bottega.iam import Decision, Examined, compile_policies
from bottega.plans import Need
from bottega.urn import Urn
from bottega.workspaces import Room

if TYPE_CHECKING:
    from bottega.platform import Platform


@dataclass(frozen=True, slots=True)
class Question:
    """May somebody do `action` on `resource`? `source_ip` is where the request would come from, if that is known."""

    platform: Platform
    project: Project
    action: str
    resource: str
    room: Room
    source_ip: str | None

    @classmethod
    async def ask(
        cls,
        platform: Platform,
        project: Project,
        action: str,
        resource: str,
        workspace_id: str | None,
        source_ip: str | None,
    ) -> Question:
        """Find the workspace: the one named, else that of the resource. Raises Invalid when there is none such."""
        rooms = await platform.workspaces.rooms(project.id)
        where = workspace_id or await _workspace_of(platform, project.id, resource)
        if where != DEFAULT_WORKSPACE and where not in rooms:
            raise Invalid(f"workspace_id: there is no workspace '{where}' in this project; '0' is the default one")
        return cls(platform, project, action, resource, rooms.get(where, Room(project.id)), source_ip)

    async def decide(self, principal: Principal) -> Decision:
        """What the policies say, before any other check."""
        identity = self.platform.identity
        context = await identity.conditions(principal, self.project, self.source_ip)
        return await identity.decide(
            principal, self.project.id, self.action, self.resource, context, self.room.enterprise_project_id
        )

    async def obstacles(self, principal: Principal) -> list[tuple[str, str]]:
        """What else keeps `principal` from it, whatever the policies say: which check, and what it says."""
        found = []
        project, platform = self.project, self.platform
        if principal.scope not in (None, project.id):
            found.append(("token", f"the token is scoped to project '{principal.scope}', not '{project.id}'"))
        if not project.enabled:
            found.append(("project", f"project '{project.id}' is disabled"))
        bucket = Need(self.action, self.resource, "").bucket
        if bucket is not None and await platform.identity.bucket_account(bucket) != principal.account_id:
            found.append(("bucket", f"bucket '{bucket}' is not one of the account"))
        if not await platform.workspaces.may_enter(principal, self.room, self.source_ip):
            found.append(
                ("workspace", f"workspace '{self.room.id}' is {self.room.auth_type} and not open to this user")
            )
        declared = platform.action(self.action)
        if declared is not None and declared.spends and await self._in_arrears(principal):
            found.append(("standing", "the account is in arrears, and this spends money"))
        return found

    async def _in_arrears(self, principal: Principal) -> bool:
        return (await self.platform.identity.account(principal.account_id)).standing == "arrears"


async def answer(question: Question, principal: Principal) -> dict[str, Any]:
    """Whether `principal` may, what decides, and why in one sentence."""
    decision = await question.decide(principal)
    obstacles = await question.obstacles(principal)
    refusals = [] if decision.allowed else [decision.explain()]
    return {
        "allowed": decision.allowed and not obstacles,
        "reason": decision.reason if not obstacles or not decision.allowed else "another check refuses",
        "policy": decision.policy,
        "statement": decision.statement,
        "source": decision.source,
        "scope": decision.scope,
        "explanation": "; ".join([*refusals, *(text for _, text in obstacles)]) or decision.explain(),
    }


async def why(question: Question, principal: Principal) -> dict[str, Any]:
    """As `answer`, with every statement about the action, and everything else that counts."""
    identity, room = question.platform.identity, question.room
    account = await identity.account(principal.account_id)
    decision = await question.decide(principal)
    delegate = await identity.delegate(principal)
    by_agency = None
    if question.action[:4].lower() == "obs:" and delegate.agency_id is not None:
        by_agency = await question.decide(delegate)
    return {
        **await answer(question, principal),
        "user_id": principal.user_id,
        "user_name": principal.user_name,
        "is_account_root": principal.is_account_root,
        "limited_by_credential": principal.session_policy is not None,
        "statements": await _statements(question, principal, decision),
        "obstacles": [{"check": check, "explanation": text} for check, text in await question.obstacles(principal)],
        "workspace": {
            "id": room.id,
            "auth_type": room.auth_type,
            "enterprise_project_id": room.enterprise_project_id,
            "may_enter": await question.platform.workspaces.may_enter(principal, room, question.source_ip),
        },
        "account": {"auth_mode": account.auth_mode, "standing": account.standing},
        "agency": await _agency(question, delegate, by_agency),
    }


async def who_can(question: Question, account_id: str) -> dict[str, Any]:
    """The enabled users and the agencies of an account that may, each with what decides."""
    identity = question.platform.identity
    await identity.rights.read_account(account_id)
    async with question.platform.database.read() as session:
        query = select(User).where(User.account_id == account_id, col(User.enabled)).order_by(User.name)
        users = (await session.exec(query)).all()
        agencies = (await session.exec(select(Agency).where(Agency.account_id == account_id))).all()
    found = []
    for user in users:
        await anyio.lowlevel.checkpoint()  # an account may have thousands, and others are waiting
        principal = Principal(account_id, user.id, user.name, is_account_root=user.is_account_root)
        given = await answer(question, principal)
        if given.pop("allowed"):
            found.append({"user_id": user.id, "user_name": user.name, **given})
    acting = []
    for agency in agencies:
        given = await answer(question, Principal(account_id, account_id, agency.name, agency_id=agency.id))
        if given.pop("allowed"):
            acting.append({"agency_id": agency.id, "agency_name": agency.name, **given})
    return {"users": found, "agencies": acting}


async def user_named(platform: Platform, account_id: str, name: str) -> Principal:
    """Raises NotFound."""
    if not name.isprintable():
        raise NotFound("there is no such user in this account")
    async with platform.database.read() as session:
        user = (await session.exec(select(User).where(User.account_id == account_id, User.name == name))).first()
    if user is None:
        raise NotFound(f"there is no user '{name}' in this account")
    return await platform.identity.principal(user.id)


async def _statements(question: Question, principal: Principal, decision: Decision) -> list[dict[str, Any]]:
    """Those about the action in what reaches the user: first the ones that count here, then those granted elsewhere."""
    identity = question.platform.identity
    context = await identity.conditions(principal, question.project, question.source_ip)
    grants = await identity.rights.grants(Holder.of(principal))
    here, elsewhere = _split(grants, question)
    held = compile_policies(grant.attached for grant in here)
    told = await identity.rights.told(held, context, question.resource, question.room.enterprise_project_id)
    others = compile_policies(grant.attached for grant in elsewhere)
    return [
        *(_row(one, one.obstacle, decision) for one in held.examine(question.action, question.resource, told)),
        *(
            _row(one, f"it is granted in {one.attached.scope} only", decision)
            for one in others.examine(question.action, question.resource)
        ),
    ]


def _split(grants: Sequence[Grant], question: Question) -> tuple[list[Grant], list[Grant]]:
    here: list[Grant] = []
    elsewhere: list[Grant] = []
    for grant in grants:
        counts = grant.counts_in(question.project.id, question.room.enterprise_project_id)
        (here if counts else elsewhere).append(grant)
    return here, elsewhere


def _row(examined: Examined, obstacle: str | None, decision: Decision) -> dict[str, Any]:
    document, source, scope = examined.attached
    named = (document.name, examined.statement, source, scope)
    decided = (decision.policy, decision.statement, decision.source, decision.scope)
    return {
        "policy": document.name,
        "statement": examined.statement,
        "effect": examined.effect,
        "action": examined.pattern,
        "source": source,
        "scope": scope,
        "applies": obstacle is None,
        "decides": obstacle is None and named == decided,
        "obstacle": obstacle,
    }


async def _agency(question: Question, delegate: Principal, decision: Decision | None) -> dict[str, Any] | None:
    """The agency by which the platform acts for the user on storage; what it may, when that is what is asked."""
    if delegate.agency_id is None:
        return None
    agency = await question.platform.identity.rights.agency(delegate.agency_id)
    return {
        "id": delegate.agency_id,
        "name": agency.name if agency else None,
        "allowed": None if decision is None else decision.allowed,
        "explanation": None if decision is None else decision.explain(),
    }


async def _workspace_of(platform: Platform, project_id: str, resource: str) -> str:
    if not resource.startswith("bottega:") or resource.endswith(":*"):
        return DEFAULT_WORKSPACE
    try:
        urn = Urn.parse(resource)
    except Invalid:
        return DEFAULT_WORKSPACE
    return await platform.workspaces.of(project_id, urn.id) if urn.project == project_id else DEFAULT_WORKSPACE
