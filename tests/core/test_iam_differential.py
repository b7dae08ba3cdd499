"""Random policies, decided by the platform and by a brute-force evaluator that was written from the rules alone.

``BOTTEGA_IAM_CASES`` sets how many cases are tried (12000).
"""

from __future__ import annotations

import fnmatch
import json
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from bottega.context import Principal
from bottega.entities import Account, Agency, Group, GroupMember, Policy, PolicyGrant, Project, User
from bottega.grants import Grant
from bottega.iam import Attached, Decision, compile_policies, parse_policy
from bottega.iam_conditions import GLOBAL_KEYS
from bottega.plugins import Plugins
from bottega.testing import RunningPlatform

CASES = int(os.environ.get("BOTTEGA_IAM_CASES", "12000"))
BATCH, QUESTIONS = 100, 4

WORDS = ("a", "b", "ab", "ba", "list", "listAll", "A")
STARRED = ("*", "a*", "*b", "a*b", "*a*", "list*", "ab", "a", "LIST", "b")
NAMES = ("ann", "Ann", "bob", "annbob", "")
PATTERNS = (*NAMES, "a*", "*bob", "*")
TIMES = ("2026-01-01T00:00:00Z", "2026-01-01T01:00:00+01:00", "2026-01-02", "2027-01-01T00:00:00Z")
NETWORKS, ADDRESSES = ("10.0.0.0/8", "10.1.0.0/16", "192.0.2.1"), ("10.1.2.3", "10.2.3.4", "192.0.2.1", "192.0.2.2")
PLACES: tuple[str | None, ...] = ("p1", "p2", None)
ENTERPRISE = ("0", "e1")
SCOPES = ("domain", "all_projects", "project", "enterprise_project")
OPERATORS = {
    "g:UserName": [
        f"String{negated}{kind}{suffix}"
        for kind in ("Equals", "Like", "StartWith", "EndWith")
        for negated in ("", "Not")
        for suffix in ("", "IgnoreCase")
    ],
    "modelarts:nodes": [
        f"Number{kind}"
        for kind in ("Equals", "NotEquals", "LessThan", "LessThanEquals", "GreaterThan", "GreaterThanEquals")
    ],
    "g:CurrentTime": [
        f"Date{kind}"
        for kind in ("Equals", "NotEquals", "LessThan", "LessThanEquals", "GreaterThan", "GreaterThanEquals")
    ],
    "g:MFAPresent": ["Bool"],
    "g:SourceIp": ["IpAddress", "NotIpAddress"],
    "obs:names": ["StringEquals", "StringNotEquals", "StringLike", "StringNotLikeIgnoreCase"],
}
VALUES: dict[str, Sequence[Any]] = {
    "g:UserName": PATTERNS,
    "modelarts:nodes": (-2, -1, 0, 1, 2),
    "g:CurrentTime": TIMES,
    "g:MFAPresent": (True, False),
    "g:SourceIp": NETWORKS,
    "obs:names": PATTERNS,
}


# --- what is tried ---------------------------------------------------------------------------------------------------


def some(rng: random.Random, values: Sequence[Any], most: int) -> list[Any]:
    return [rng.choice(values) for _ in range(rng.randint(1, most))]


def text(rng: random.Random, letters: str, least: int, most: int) -> str:
    return "".join(rng.choice(letters) for _ in range(rng.randint(least, most)))


def action_pattern(rng: random.Random) -> str:
    words = STARRED if rng.random() < 0.6 else WORDS
    return "*" if rng.random() < 0.05 else ":".join(rng.choice(words) for _ in range(3))


def condition(rng: random.Random) -> tuple[str, str, list[Any]]:
    if rng.random() < 0.1:
        return rng.choice(["IsNull", "Null"]), rng.choice(GLOBAL_KEYS), [rng.choice([True, False])]
    key = rng.choice(list(OPERATORS))
    before = rng.choice(["", "", "ForAnyValue:", "ForAllValues:"])
    after = rng.choice(["", "", "IfExists"])
    return f"{before}{rng.choice(OPERATORS[key])}{after}", key, some(rng, VALUES[key], 2)


def statement(rng: random.Random, version: str) -> dict[str, Any]:
    made: dict[str, Any] = {"Effect": rng.choice(["Allow", "Allow", "Deny"])}
    key = "NotAction" if version == "1.1" and rng.random() < 0.2 else "Action"
    made[key] = [action_pattern(rng) for _ in range(rng.randint(1, 3))]
    if version == "1.1" and rng.random() < 0.5:
        made["Resource"] = [text(rng, "ab/:*.[?", 1, 5) for _ in range(rng.randint(1, 3))]
    if version == "1.1" and rng.random() < 0.5:
        conditions: dict[str, dict[str, Any]] = {}
        for operator, name, values in [condition(rng) for _ in range(rng.randint(1, 2))]:
            conditions.setdefault(operator, {})[name] = values
        made["Condition"] = conditions
    return made


def document(rng: random.Random) -> dict[str, Any]:
    version = rng.choice(["1.1", "1.1", "1.0"])
    made: dict[str, Any] = {
        "Version": version,
        "Statement": [statement(rng, version) for _ in range(rng.randint(1, 3))],
    }
    if version == "1.0" and rng.random() < 0.7:
        names = some(rng, ("policy0", "policy1", "policy2", "policy9"), 2)
        made["Depends"] = [{"catalog": "BASE", "display_name": name} for name in names]
    return made


def context(rng: random.Random) -> dict[str, Any]:
    known = {
        "g:UserName": rng.choice(NAMES),
        "modelarts:nodes": rng.choice([rng.randint(-2, 2), str(rng.randint(-2, 2))]),
        "g:CurrentTime": rng.choice([rng.choice(TIMES), datetime.fromisoformat(rng.choice(TIMES))]),
        "g:MFAPresent": rng.random() < 0.5,
        "g:SourceIp": rng.choice(ADDRESSES),
        "obs:names": some(rng, NAMES, 3) if rng.random() < 0.8 else [],
    }
    return {key: value for key, value in known.items() if rng.random() < 0.7}


@dataclass(frozen=True)
class Given:
    """A policy somebody was given, and where."""

    name: str
    document: dict[str, Any]
    scope: str
    project_id: str | None
    enterprise_project_id: str | None


def given_to_somebody(rng: random.Random, number: int) -> Given:
    scope = rng.choice(SCOPES)
    return Given(
        f"policy{number}",
        document(rng),
        scope,
        rng.choice(["p1", "p2"]) if scope == "project" else None,
        rng.choice(ENTERPRISE) if scope == "enterprise_project" else None,
    )


# --- brute force -----------------------------------------------------------------------------------------------------


def matches(pattern: str, given: str) -> bool:
    return fnmatch.fnmatchcase(given, pattern.replace("[", "[[]").replace("?", "[?]"))


def moment(value: Any) -> datetime:
    date = datetime.fromisoformat(value) if isinstance(value, str) else value
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def number_of(address: str) -> int:
    a, b, c, d = (int(part) for part in address.split("."))
    return ((a * 256 + b) * 256 + c) * 256 + d


def passes(name: str, wanted: Any, value: Any) -> bool:
    """One operator without Not, one wanted value, one value."""
    if name.startswith("String"):
        given, wanted = (value.lower(), wanted.lower()) if name.endswith("IgnoreCase") else (value, wanted)
        compare = name.removeprefix("String").removesuffix("IgnoreCase")
        return bool(
            {
                "Equals": given == wanted,
                "Like": matches(wanted, given),
                "StartWith": given[: len(wanted)] == wanted,
                "EndWith": wanted == "" or given[-len(wanted) :] == wanted,
            }[compare]
        )
    if name == "IpAddress":
        network, _, bits = wanted.partition("/")
        shift = 32 - int(bits or "32")
        return number_of(value) >> shift == number_of(network) >> shift
    if name == "Bool":
        return bool(value) == bool(wanted)
    kind = "Number" if name.startswith("Number") else "Date"
    read: Any = float if kind == "Number" else moment
    left, right = read(value), read(wanted)
    return bool(
        {
            "Equals": left == right,
            "LessThan": left < right,
            "LessThanEquals": left <= right,
            "GreaterThan": left > right,
            "GreaterThanEquals": left >= right,
        }[name.removeprefix(kind)]
    )


def holds(operator: str, key: str, values: list[Any], known: dict[str, Any]) -> bool:
    if operator in ("IsNull", "Null"):
        return (key not in known) in values
    asks_any, asks_all = operator.startswith("ForAnyValue:"), operator.startswith("ForAllValues:")
    name = operator.partition(":")[2] or operator
    negated = "Not" in name
    if known.get(key) in (None, []):
        return name.endswith("IfExists") or asks_all or (negated and not asks_any)
    base = name.removesuffix("IfExists").replace("Not", "")
    given = known[key] if isinstance(known[key], list) else [known[key]]
    each = [any(passes(base, wanted, value) for wanted in values) != negated for value in given]
    if asks_any:
        return any(each)
    return all(each) if asks_all or negated else any(each)


def counts(policy: Given, project_id: str | None, enterprise_project_id: str) -> bool:
    if policy.scope == "project":
        return policy.project_id == project_id
    if policy.scope == "enterprise_project":
        return project_id is not None and policy.enterprise_project_id == enterprise_project_id
    return True


def brute_force(
    policies: Sequence[Given], action: str, resource: str, known: dict[str, Any]
) -> set[tuple[str, str, int]]:
    """Of the policies that count: effect, policy and index of each statement that could decide; none: nothing does."""
    names = {policy.name for policy in policies}
    found: dict[str, set[tuple[str, str, int]]] = {"Deny": set(), "Allow": set()}
    for policy in policies:
        missing = any(need["display_name"] not in names for need in policy.document.get("Depends", []))
        for index, one in enumerate(policy.document["Statement"]):
            listed = one.get("Action") or one["NotAction"]
            named = any(matches(pattern.lower(), action.lower()) for pattern in listed)
            if named != ("Action" in one) or (missing and one["Effect"] == "Allow"):
                continue
            if not any(matches(pattern, resource) for pattern in one.get("Resource", ["*"])):
                continue
            conditions = one.get("Condition", {})
            if all(holds(o, key, values, known) for o, keys in conditions.items() for key, values in keys.items()):
                found[one["Effect"]].add((one["Effect"], policy.name, index))
    return found["Deny"] or found["Allow"]


def agrees(decision: Decision, expected: set[tuple[str, str, int]]) -> bool:
    if not expected:
        return (decision.allowed, decision.reason) == (False, "no statement allows it")
    effect = "Allow" if decision.allowed else "Deny"
    return (
        effect,
        decision.policy or "",
        decision.statement or 0,
    ) in expected and decision.reason == f"explicit {effect.lower()}"


# --- the tests -------------------------------------------------------------------------------------------------------


@settings(max_examples=max(1, CASES // (BATCH * QUESTIONS)), deadline=None)
@given(st.integers(0, 2**63))
def test_the_evaluator_equals_brute_force(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(BATCH):
        policies = [given_to_somebody(rng, number) for number in range(rng.randint(0, 5))]
        grants = [
            Grant(
                p.name, p.scope, p.project_id, p.enterprise_project_id, Attached(parse_policy(p.document, p.name), "g")
            )
            for p in policies
        ]
        project, enterprise = rng.choice(PLACES), rng.choice(ENTERPRISE)
        counting = [policy for policy in policies if counts(policy, project, enterprise)]
        caller = compile_policies(grant.attached for grant in grants if grant.counts_in(project, enterprise))
        for _ in range(QUESTIONS):
            action = ":".join(rng.choice(WORDS) for _ in range(3))
            resource = "*" if rng.random() < 0.2 else text(rng, "ab/:.[?", 0, 6)
            known = context(rng)
            expected = brute_force(counting, action, resource, known)
            decision = caller.decide(action, resource, known)
            told = (json.dumps([p.document for p in counting]), action, resource, known, decision, expected)
            assert agrees(decision, expected), told
            examined = [one for one in caller.examine(action, resource, known) if one.applies]
            effects = {("Deny", "Allow")[one.effect == "Allow"] for one in examined}
            assert ("Deny" in effects) == (decision.reason == "explicit deny"), told
            assert not expected or {(e.effect, e.attached.document.name, e.statement) for e in examined} >= expected


def test_rights_read_from_the_database_equal_brute_force(tmp_path: Path, each_database: dict[str, Any]) -> None:
    """Users in groups, agencies, scopes, session policies and a loose account, through everything that decides."""
    rng = random.Random(20261120)
    account, projects = Account(name="differential", auth_mode="loose"), {}
    groups = [Group(account_id=account.id, name=f"g{n}") for n in range(12)]
    users = [User(account_id=account.id, name=f"u{n}") for n in range(15)]
    agencies = [Agency(account_id=account.id, name=f"a{n}") for n in range(4)]
    holders: list[Group | Agency | User] = [*groups, *agencies, *users]
    members = {user.id: rng.sample(groups, rng.randint(0, 4)) for user in users}
    for name in ("p1", "p2"):
        projects[name] = Project(account_id=account.id, name=name)
    policies = [given_to_somebody(rng, number) for number in range(40)]
    rows = [Policy(account_id=account.id, name=p.name, document=p.document) for p in policies]
    held: dict[str, list[Given]] = {}
    grants = []
    for policy, row in zip(policies, rows, strict=True):
        project = projects[policy.project_id].id if policy.project_id else None
        for holder in rng.sample(holders, 3):
            kind = type(holder).__name__.lower()
            held.setdefault(holder.id, []).append(replace(policy, project_id=project))
            grant = PolicyGrant(policy_id=row.id, scope=policy.scope, project_id=project)
            grant.enterprise_project_id = policy.enterprise_project_id
            setattr(grant, f"{kind}_id", holder.id)
            grants.append(grant)

    with RunningPlatform(tmp_path / "data", each_database, lambda settings: Plugins(settings, [])) as running:
        identity = running.runtime.platform.identity

        async def fill() -> None:
            async with running.runtime.platform.database.transaction() as tx:
                joined = [GroupMember(group_id=g.id, user_id=u.id) for u in users for g in members[u.id]]
                for some_rows in ([account], [*projects.values(), *groups, *users, *agencies, *rows], joined, grants):
                    tx.session.add_all(some_rows)
                    await tx.session.flush()
            identity.invalidate()

        running.run(fill())

        async def compare(count: int) -> int:
            allowed = 0
            for _ in range(count):
                user, by_agency = rng.choice(users), rng.random() < 0.25
                principal = Principal(account.id, user.id, user.name)
                reaching = held.get(user.id, []) + [p for g in members[user.id] for p in held.get(g.id, [])]
                if by_agency:
                    agency = rng.choice(agencies)
                    principal = replace(principal, agency_id=agency.id)
                    reaching = held.get(agency.id, [])
                limits = document(rng) if rng.random() < 0.2 else None
                if limits:
                    limits.pop("Depends", None)
                    principal = replace(principal, session_policy=json.dumps(limits))
                place = rng.choice([projects["p1"].id, projects["p2"].id, None])
                enterprise = rng.choice(ENTERPRISE)
                service = rng.choice(["modelarts", *WORDS])
                action = f"{service}:{rng.choice(WORDS)}:{rng.choice(WORDS)}"
                resource, known = text(rng, "ab/:.[?", 0, 6), context(rng)
                decision = await identity.decide(principal, place, action, resource, known, enterprise)
                expected = brute_force([p for p in reaching if counts(p, place, enterprise)], action, resource, known)
                may = any(effect == "Allow" for effect, *_ in expected)
                may = may or (not expected and service == "modelarts" and not by_agency)
                if limits:
                    limited = brute_force([Given("session", limits, "domain", None, None)], action, resource, known)
                    may = may and any(effect == "Allow" for effect, *_ in limited)
                assert decision.allowed == may, (principal, place, enterprise, action, resource, known, decision)
                allowed += may
            return allowed

        assert 100 < running.run(compare(1500)) < 1400
