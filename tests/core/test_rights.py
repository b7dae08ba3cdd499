"""Whose policies count where: scopes, agencies, session policies, loose accounts, programs on storage."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest
from sqlmodel import col, delete, select

from bottega.context import Principal, move_clock, now_ms
from bottega.database import AsyncSession, Database
from bottega.entities import Account, Agency, Authorization, Group, GroupMember, Policy, PolicyGrant, Project
from bottega.events import Envelope
from bottega.iam import Decision
from bottega.identity import ALL_USERS, Identity
from bottega.plugins import Plugins
from bottega.settings import Settings
from bottega.testing import RunningPlatform, Tenant

CREATE, GET, PUT = "modelarts:trainJob:create", "obs:object:GetObject", "obs:object:PutObject"
OBJECT = "obs:::object:bucket/a/b.txt"


def document(effect: str, *actions: str, version: str = "1.1", **more: Any) -> dict[str, Any]:
    return {"Version": version, "Statement": [{"Effect": effect, "Action": list(actions), **more}]}


@dataclass
class Department:
    """An account whose grants a test makes."""

    running: RunningPlatform
    tenant: Tenant

    def add(self, *rows: Any) -> None:
        async def write() -> None:
            async with self.running.runtime.platform.database.transaction() as tx:
                for row in rows:
                    tx.session.add(row)
                    await tx.session.flush()
            self.running.runtime.platform.identity.invalidate()

        self.running.run(write())

    def project(self) -> str:
        project = Project(account_id=self.tenant.account_id, name=f"p{uuid.uuid4().hex[:6]}")
        self.add(project)
        return project.id

    def grant(self, policy: dict[str, Any], *, name: str | None = None, **to: Any) -> None:
        """To ``group_id`` or ``agency_id``, in a scope; a group of its own for ``user``."""
        row = Policy(account_id=self.tenant.account_id, name=name or f"policy-{uuid.uuid4().hex[:6]}", document=policy)
        rows: list[Any] = [row]
        if user := to.pop("user", None):
            group = Group(account_id=self.tenant.account_id, name=f"g{uuid.uuid4().hex[:6]}")
            rows += [group, GroupMember(group_id=group.id, user_id=user.user_id)]
            to["group_id"] = group.id
        self.add(*rows, PolicyGrant(policy_id=row.id, **to))

    def agency(self, **fields: Any) -> Agency:
        agency = Agency(**{"account_id": self.tenant.account_id, "name": f"a{uuid.uuid4().hex[:6]}", **fields})
        self.add(agency)
        return agency

    def set_mode(self, mode: str) -> None:
        async def write() -> None:
            async with self.running.runtime.platform.database.transaction() as tx:
                account = await tx.session.get_one(Account, self.tenant.account_id)
                account.auth_mode = mode
            self.running.runtime.platform.identity.invalidate()

        self.running.run(write())

    def principal(self, user: Tenant, **changes: Any) -> Principal:
        return replace(self.running.run(self.running.runtime.platform.identity.principal(user.user_id)), **changes)

    def decide(
        self, principal: Principal, action: str, project_id: str | None = "", resource: str = "*", ep: str = "0"
    ) -> Decision:
        where = self.tenant.project_id if project_id == "" else project_id
        identity = self.running.runtime.platform.identity
        return self.running.run(identity.decide(principal, where, action, resource, {}, ep))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    """The core alone: permissions are decided without any plugin."""
    with RunningPlatform(tmp_path_factory.mktemp("rights") / "data", plugins=core_alone) as platform:
        yield platform


def core_alone(settings: Settings) -> Plugins:
    return Plugins(settings, [])


@pytest.fixture
def department(running: RunningPlatform, tenant: Tenant) -> Department:
    return Department(running, tenant)


@contextmanager
def later(ms: int) -> Iterator[None]:
    move_clock(ms)
    try:
        yield
    finally:
        move_clock(-ms)


@pytest.mark.parametrize("scope", ["domain", "all_projects"])
def test_what_is_granted_on_the_account_counts_in_every_project(department: Department, scope: str) -> None:
    user = department.tenant.user()
    department.grant(document("Allow", CREATE), user=user, scope=scope)
    for project in (department.tenant.project_id, department.project(), None):
        decision = department.decide(department.principal(user), CREATE, project)
        assert decision.allowed
        assert decision.scope == "the whole account"


def test_what_is_granted_on_a_project_counts_only_there(department: Department) -> None:
    user, other = department.tenant.user(), department.project()
    department.grant(document("Allow", CREATE), user=user, scope="project", project_id=other)
    principal = department.principal(user)
    assert department.decide(principal, CREATE, other).scope == f"project {other}"
    for elsewhere in (department.tenant.project_id, None):
        assert not department.decide(principal, CREATE, elsewhere).allowed


def test_what_is_granted_on_an_enterprise_project_counts_in_workspaces_bound_to_it(department: Department) -> None:
    user, bound = department.tenant.user(), "0c0ffee0-0000-4000-8000-000000000000"
    department.grant(document("Allow", CREATE), user=user, scope="enterprise_project", enterprise_project_id=bound)
    department.grant(document("Allow", GET), user=user, scope="enterprise_project", enterprise_project_id="0")
    principal = department.principal(user)
    assert department.decide(principal, CREATE, ep=bound).scope == f"enterprise project {bound}"
    assert not department.decide(principal, CREATE).allowed
    assert not department.decide(principal, GET, ep=bound).allowed
    assert department.decide(principal, GET).allowed
    assert not department.decide(principal, GET, None).allowed


def test_a_deny_on_one_project_leaves_the_others(department: Department) -> None:
    user, closed = department.tenant.user([document("Allow", CREATE)]), department.project()
    department.grant(document("Deny", CREATE), user=user, scope="project", project_id=closed)
    assert department.decide(department.principal(user), CREATE).allowed
    assert department.decide(department.principal(user), CREATE, closed).reason == "explicit deny"


def test_what_a_role_depends_on_must_count_in_the_same_place(department: Department) -> None:
    user, other = department.tenant.user(), department.project()
    name = f"base-{uuid.uuid4().hex[:6]}"
    role = {**document("Allow", CREATE, version="1.0"), "Depends": [{"catalog": "BASE", "display_name": name}]}
    department.grant(role, user=user)
    department.grant(document("Allow", GET), name=name, user=user, scope="project", project_id=other)
    assert department.decide(department.principal(user), CREATE, other).allowed
    refused = department.decide(department.principal(user), CREATE)
    assert f'is without effect until "{name}" is attached too' in refused.explain()


def test_an_agency_gives_its_own_rights_and_no_others(department: Department) -> None:
    user, agency = department.tenant.user([document("Allow", CREATE)]), department.agency()
    department.grant(document("Allow", GET), agency_id=agency.id)
    root = department.principal(department.tenant, agency_id=agency.id)
    for principal in (department.principal(user, agency_id=agency.id), root):
        decision = department.decide(principal, GET)
        assert decision.allowed
        assert decision.source == f"agency {agency.name}"
        assert not department.decide(principal, CREATE).allowed
    assert not department.decide(department.principal(user), GET).allowed


def test_an_agencys_grants_have_scopes_too(department: Department) -> None:
    agency, other = department.agency(), department.project()
    department.grant(document("Allow", GET), agency_id=agency.id, scope="project", project_id=other)
    principal = department.principal(department.tenant, agency_id=agency.id)
    assert department.decide(principal, GET, other).allowed
    assert not department.decide(principal, GET).allowed


def test_an_agency_that_is_over_gone_or_anothers_gives_nothing(department: Department, stranger: Tenant) -> None:
    over = department.agency(expires_at=now_ms() + 60_000)
    department.grant(document("Allow", GET), agency_id=over.id)
    principal = department.principal(department.tenant, agency_id=over.id)
    assert department.decide(principal, GET).allowed
    with later(61_000):
        assert not department.decide(principal, GET).allowed
    foreign = department.agency(account_id=stranger.account_id)
    department.grant(document("Allow", GET), agency_id=foreign.id)
    for id in (foreign.id, "0" * 32):
        assert not department.decide(department.principal(department.tenant, agency_id=id), GET).allowed


def test_a_session_policy_limits_an_agency_and_the_account_itself(department: Department) -> None:
    agency = department.agency()
    department.grant(document("Allow", "obs:*:*"), agency_id=agency.id)
    limits = json.dumps(document("Allow", GET, Resource=["obs:*:*:object:bucket/a/*"]))
    for principal in (
        department.principal(department.tenant, session_policy=limits),
        department.principal(department.tenant, session_policy=limits, agency_id=agency.id),
    ):
        assert department.decide(principal, GET, resource=OBJECT).allowed
        for action, resource in ((GET, "obs:::object:bucket/b"), (PUT, OBJECT)):
            decision = department.decide(principal, action, resource=resource)
            assert not decision.allowed
    beyond = json.dumps(document("Allow", "*"))
    assert not department.decide(department.principal(department.tenant.user(), session_policy=beyond), GET).allowed


def test_a_program_acts_on_storage_by_the_authorized_agency(department: Department) -> None:
    user, agency = department.tenant.user([document("Allow", "obs:*:*", CREATE)]), department.agency()
    department.grant(document("Allow", GET), agency_id=agency.id)
    program = department.principal(user, kind="workload", workload_id="w")
    assert department.decide(program, PUT).allowed, "no agency is authorized: its user's rights"

    department.add(Authorization(account_id=department.tenant.account_id, user_id=ALL_USERS, agency_id=agency.id))
    assert department.decide(program, GET).source == f"agency {agency.name}"
    assert not department.decide(program, PUT).allowed
    assert department.decide(program, CREATE).allowed, "only storage is the agency's"
    assert department.decide(department.principal(user), PUT).allowed, "the user acts by itself"

    own = department.agency()
    department.grant(document("Allow", PUT), agency_id=own.id)
    department.add(Authorization(account_id=department.tenant.account_id, user_id=user.user_id, agency_id=own.id))
    assert department.decide(program, PUT).source == f"agency {own.name}"
    assert not department.decide(program, GET).allowed
    limited = replace(program, session_policy=json.dumps(document("Allow", GET)))
    assert not department.decide(limited, PUT).allowed


def test_a_loose_account_lets_its_users_do_of_modelarts_what_nothing_denies(department: Department) -> None:
    user = department.tenant.user([document("Deny", "modelarts:notebook:*")])
    principal = department.principal(user)
    assert not department.decide(principal, CREATE).allowed
    department.set_mode("loose")
    decision = department.decide(principal, CREATE)
    assert (decision.allowed, decision.reason) == (True, "loose authorization")
    assert "loose" in decision.explain()
    assert department.decide(principal, "modelarts:notebook:create").reason == "explicit deny"
    for strict in (GET, "iam:users:list", "modelarts:authorization:create", "modelarts:workspace:delete"):
        assert not department.decide(principal, strict).allowed
    assert department.decide(principal, "modelarts:workspace:list").allowed
    limited = replace(principal, session_policy=json.dumps(document("Allow", GET)))
    assert not department.decide(limited, CREATE).allowed
    agency = department.agency()
    assert not department.decide(replace(principal, agency_id=agency.id), CREATE).allowed
    department.set_mode("strict")
    assert not department.decide(principal, CREATE).allowed


def test_rights_are_the_same_on_every_database(tmp_path: Path, each_database: dict[str, Any]) -> None:
    with RunningPlatform(tmp_path / "data", each_database, core_alone) as platform:
        department = Department(platform, platform.tenant())
        user, agency = department.tenant.user([document("Allow", CREATE)]), department.agency()
        department.grant(
            document("Allow", GET), agency_id=agency.id, scope="enterprise_project", enterprise_project_id="e"
        )
        assert department.decide(department.principal(user), CREATE).allowed
        acting = department.principal(user, agency_id=agency.id)
        assert department.decide(acting, GET, ep="e").allowed
        assert not department.decide(acting, GET).allowed


class Gated:
    """A real database whose readers, once armed, wait between reading and going on."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.armed = False
        self.has_read, self.go_on = asyncio.Event(), asyncio.Event()

    def bind(self, _: str) -> Gated:
        return self

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        async with self._database.read() as session:
            yield session
        if self.armed:
            self.has_read.set()
            await self.go_on.wait()


def test_a_right_revoked_while_it_is_looked_up_is_not_remembered(
    running: RunningPlatform, tenant: Tenant, tmp_path: Path
) -> None:
    """The lookup has read the grants of before the revocation, which commits before the lookup ends."""
    user = tenant.user([document("Allow", CREATE)])
    platform = running.runtime.platform

    async def race() -> list[bool]:
        gated = Gated(platform.database)
        identity = Identity(cast(Database, gated), platform.sealer, tmp_path / "secrets")
        platform.database.on_commit(identity.observe)
        principal = await identity.principal(user.user_id)
        gated.armed = True
        lookup = asyncio.ensure_future(identity.decide(principal, tenant.project_id, CREATE, "*", {}))
        await gated.has_read.wait()
        async with platform.database.transaction() as tx:
            mine = select(GroupMember.group_id).where(GroupMember.user_id == user.user_id)
            await tx.session.execute(delete(PolicyGrant).where(col(PolicyGrant.group_id).in_(mine)))
            await identity.set_standing(tx, tenant.account_id, "arrears")  # any event of identity or accounts
        gated.armed = False
        gated.go_on.set()
        before = await lookup
        after = await identity.decide(principal, tenant.project_id, CREATE, "*", {})
        return [before.allowed, after.allowed]

    assert running.run(race()) == [True, False]


def told(type: str, **data: Any) -> Envelope:
    return Envelope("e", f"iam.{type}.v1", "bottega:iam:_:x/1", "", data, "iam", "user:x", "c")


def test_a_change_of_identity_counts_at_its_commit_and_drops_no_more_than_it_touches(department: Department) -> None:
    """Each kind of event is enough for what it says, told alone."""
    running, tenant = department.running, department.tenant
    identity = running.runtime.platform.identity
    user, other = tenant.user([document("Allow", GET)]), tenant.user([document("Allow", GET)])
    group, agency = Group(account_id=tenant.account_id, name="late"), department.agency()
    put = Policy(account_id=tenant.account_id, name="late put", document=document("Allow", PUT))
    department.add(group, put)

    def may(action: str, **changes: Any) -> bool:
        return department.decide(department.principal(user, **changes), action).allowed

    async def write(change: str, envelope: Envelope, *rows: Any) -> None:
        async with running.runtime.platform.database.transaction() as tx:
            for row in rows:
                kept = await tx.session.merge(row)
                if change == "-":
                    await tx.session.delete(kept)
        identity.observe([envelope])

    assert (may(PUT), may(PUT, agency_id=agency.id), may(GET)) == (False, False, True)
    member = GroupMember(group_id=group.id, user_id=user.user_id)
    running.run(write("+", told("member.added", group_id=group.id, user_id=user.user_id), member))
    assert not may(PUT)
    granted = PolicyGrant(policy_id=put.id, group_id=group.id)
    running.run(write("+", told("policy.granted", policy_id=put.id, group_id=group.id, agency_id=None), granted))
    assert may(PUT)
    to_agency = PolicyGrant(policy_id=put.id, agency_id=agency.id)
    running.run(write("+", told("policy.granted", policy_id=put.id, agency_id=agency.id, group_id=None), to_agency))
    assert may(PUT, agency_id=agency.id)
    put.document = document("Deny", PUT)
    running.run(write("+", told("policy.changed", policy_id=put.id, change="updated"), put))
    assert (may(PUT), may(PUT, agency_id=agency.id)) == (False, False)
    put.document = document("Allow", PUT)
    running.run(write("+", told("policy.changed", policy_id=put.id, change="updated"), put))
    assert may(PUT)
    group.name = "renamed"
    running.run(write("+", told("group.changed", group_id=group.id, name="renamed"), group))
    assert department.decide(department.principal(user), PUT).source == "group renamed"
    running.run(write("-", told("policy.revoked", policy_id=put.id, group_id=group.id, agency_id=None), granted))
    assert (may(PUT), may(PUT, agency_id=agency.id)) == (False, True)
    running.run(write("+", told("something.new"), PolicyGrant(policy_id=put.id, user_id=user.user_id)))
    assert may(PUT), "what an unknown event touched is not known, so everything is read again"
    running.run(write("-", told("agency.deleted", agency_id=agency.id), to_agency, agency))
    assert not may(PUT, agency_id=agency.id)

    async def hidden() -> None:  # no event tells it: who is not touched is not read again
        async with running.runtime.platform.database.transaction() as tx:
            mine = select(GroupMember.group_id).where(GroupMember.user_id == other.user_id)
            await tx.session.execute(delete(PolicyGrant).where(col(PolicyGrant.group_id).in_(mine)))

    assert department.decide(department.principal(other), GET).allowed
    running.run(hidden())
    running.run(write("-", told("member.removed", group_id=group.id, user_id=user.user_id), member))
    assert department.decide(department.principal(other), GET).allowed
    running.run(write("+", told("user.changed", user_id=other.user_id, changed=["name"])))
    assert not department.decide(department.principal(other), GET).allowed


def test_who_acts_by_an_agency_reaches_storage_by_that_one_only(department: Department) -> None:
    for_all, borrowed = department.agency(), department.agency()
    account_id = department.tenant.account_id
    department.add(Authorization(account_id=account_id, user_id=ALL_USERS, agency_id=for_all.id))
    user = department.tenant.user()
    delegate = department.running.runtime.platform.identity.delegate
    assert department.running.run(delegate(department.principal(user))).agency_id == for_all.id
    acting = department.principal(user, agency_id=borrowed.id)
    assert department.running.run(delegate(acting)).agency_id == borrowed.id
