"""Decisions about callers of a large account, and what the gateway adds to each request.

One account has 10,000 custom policies, 1,000 groups with ten of them each, and 1,000 users in ten groups each, so a
hundred policies reach a user. Policies have exact and wildcard actions, resources and conditions, as in ``bench_iam``.

first: a user whose grants were never read: two queries of the database, a hundred documents checked.
cold: nothing compiled for the user, as after any change of identity: another user joins a group (its event commits),
  and the next decision selects the grants that count, compiles them and evaluates. Grants are in memory by then;
  only what the event is about is read again, which is not the user measured.
warm: the same user asks about resources that never repeat, through all of `Identity.decide`.

The gateway's figures are taken inside the application, called as the server calls it: everything between a route's
request and its checked caller, which is authentication, address and rate limits, project, workspaces, and the decision
for a user of that account. Sending and receiving are not in it. Signing covers a body of 1 KiB.

Wall-clock time; beside it the processor time of the thread, which other work on the machine does not lengthen.

Run: ``python tests/benchmarks/bench_rights.py``; the exit status is 1 when a budget is missed.
"""

from __future__ import annotations

import functools
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
from starlette.requests import HTTPConnection

from bottega import gateway, signing
from bottega.context import Principal
from bottega.entities import Account, Group, GroupMember, Policy, PolicyGrant, Project, User
from bottega.events import Envelope
from bottega.gateway import Caller
from bottega.platform import Platform
from bottega.plugins import Plugins
from bottega.testing import RunningPlatform

POLICIES, GROUPS, USERS, GROUPS_OF_USER = 10_000, 1_000, 1_000, 10
FIRST, COLD, WARM, REQUESTS = 200, 2_000, 20_000, 1_500
COLD_BUDGET_MS, WARM_BUDGET_US, GATEWAY_BUDGET_MS = 1.0, 2.0, 0.3
KINDS = ("dataset", "notebook", "trainJob", "model", "service", "pool")
OPERATIONS = ("list", "get", "create", "update", "delete", "start", "stop")
BODY = b'{"action": "bottega:resource:list", "resource": "' + b"x" * 970 + b'"}'

Took = list[tuple[float, float]]
"""Seconds of wall-clock time and of the thread's processor time."""


def make_document(rng: random.Random) -> dict[str, Any]:
    def statement() -> dict[str, Any]:
        actions = [
            f"modelarts:{rng.choice(KINDS)}:{rng.choice((*OPERATIONS, '*', 'get*'))}" for _ in range(rng.randint(1, 4))
        ]
        made: dict[str, Any] = {"Effect": "Deny" if rng.random() < 0.1 else "Allow", "Action": actions}
        if rng.random() < 0.6:
            made["Resource"] = [f"bottega:*:*:{rng.choice(KINDS)}/{rng.randint(0, 99)}*"]
        if rng.random() < 0.3:
            made["Condition"] = {"StringEquals": {"g:UserName": [f"user-{rng.randint(0, USERS)}"]}}
        return made

    return {"Version": "1.1", "Statement": [statement() for _ in range(rng.randint(1, 3))]}


async def fill(platform: Platform, rng: random.Random) -> tuple[Account, Project, list[User]]:
    account = Account(name="large")
    project = Project(account_id=account.id, name="large-1")
    users = [User(account_id=account.id, name=f"user-{n}") for n in range(USERS)]
    groups = [Group(account_id=account.id, name=f"group-{n}") for n in range(GROUPS)]
    policies = [Policy(account_id=account.id, name=f"policy-{n}", document=make_document(rng)) for n in range(POLICIES)]
    listing = {"Effect": "Allow", "Action": ["bottega:resource:list"]}
    everybody = Policy(account_id=account.id, name="listing", document={"Version": "1.1", "Statement": [listing]})
    members = [GroupMember(group_id=g.id, user_id=u.id) for u in users for g in rng.sample(groups, GROUPS_OF_USER)]
    grants = [PolicyGrant(policy_id=p.id, group_id=groups[n % GROUPS].id) for n, p in enumerate(policies)]
    grants += [PolicyGrant(policy_id=everybody.id, group_id=group.id) for group in groups]
    async with platform.database.transaction() as tx:
        for rows in ([account], [project, *users, *groups, *policies, everybody], members, grants):
            tx.session.add_all(rows)
            await tx.session.flush()
    platform.identity.invalidate()
    return account, project, users


async def timed(ask: Callable[[], Awaitable[Any]], took: Took) -> None:
    wall, cpu = time.perf_counter(), time.thread_time()
    await ask()
    took.append((time.perf_counter() - wall, time.thread_time() - cpu))


async def decisions(platform: Platform, account: Account, project: Project, users: list[User]) -> dict[str, Took]:
    identity, rng = platform.identity, random.Random(7)
    took: dict[str, Took] = {"first": [], "cold": [], "warm": []}
    conditions = {"g:UserName": "user-5", "g:SourceIp": "192.0.2.7"}

    def question(user: User) -> Callable[[], Awaitable[Any]]:
        action = f"modelarts:{rng.choice(KINDS)}:{rng.choice(OPERATIONS)}"
        resource = f"bottega:training:{project.id}:{rng.choice(KINDS)}/{rng.randint(0, 10**9)}"
        principal = Principal(account.id, user.id, user.name)
        return lambda: identity.decide(principal, project.id, action, resource, conditions)

    await identity.account(account.id)
    for user in users[:FIRST]:
        await timed(question(user), took["first"])
    for user in users:
        await question(user)()
    for number in range(COLD):
        joined = {"account_id": account.id, "group_id": "g", "user_id": users[-1].id}
        identity.observe([Envelope("e", "iam.member.added.v1", "bottega:iam:_:group/g", "", joined, "iam", "u:u", "c")])
        await identity.account(account.id)
        await timed(question(users[number % (USERS - 1)]), took["cold"])
    for _ in range(2_000):
        await question(users[3])()
    for _ in range(WARM):
        await timed(question(users[3]), took["warm"])
    nothing: Took = []
    for _ in range(WARM):
        await timed(_nothing, nothing)
    empty = statistics.median(wall for wall, _ in nothing), statistics.median(cpu for _, cpu in nothing)
    took["warm"] = [(wall - empty[0], cpu - empty[1]) for wall, cpu in took["warm"]]
    return took


async def _nothing() -> None:
    """What calling and timing alone takes; it is subtracted where a decision takes as little."""


async def requests(running: RunningPlatform, account: Account, project: Project, user: User) -> dict[str, Took]:
    platform, took = running.runtime.platform, Took()
    check = gateway.Requirement.__call__

    @functools.wraps(check)
    async def watched(self: gateway.Requirement, connection: HTTPConnection) -> Caller:
        wall, cpu = time.perf_counter(), time.thread_time()
        caller = await check(self, connection)
        took.append((time.perf_counter() - wall, time.thread_time() - cpu))
        return caller

    async with platform.database.transaction() as tx:
        issued = await platform.identity.create_access_key(tx, user.id)
    token = platform.identity.issue_token(await platform.identity.principal(user.id), 3600)
    url = f"{platform.url}/v1/{project.id}/resources"
    found: dict[str, Took] = {}
    gateway.Requirement.__call__ = watched  # type: ignore[method-assign]  # the clock, for as long as it is measured
    try:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(running.runtime.app)) as client:
            for way in ("token", "signature"):
                took = found[way] = []
                for number in range(REQUESTS + 100):
                    headers = {"X-Auth-Token": token}
                    if way == "signature":
                        to = {"Content-Type": "application/json"}
                        headers = signing.sign("GET", url, to, BODY, issued.access_key, issued.secret_key)
                    content = BODY if way == "signature" else None
                    answer = await client.request("GET", url, headers=headers, content=content)
                    if answer.status_code != 200:
                        raise SystemExit(f"{way}: {answer.status_code} {answer.text}")
                    if number == 99:
                        took.clear()
    finally:
        gateway.Requirement.__call__ = check  # type: ignore[method-assign]  # as it was
    return found


def show(name: str, took: Took, factor: float, unit: str, budget: str) -> None:
    wall, cpu = [w * factor for w, _ in took], [c * factor for _, c in took]
    figures = [statistics.median(wall), statistics.quantiles(wall, n=100)[98]]
    figures += [statistics.median(cpu), statistics.quantiles(cpu, n=100)[98]]
    print(f"{name:<34}" + "".join(f"{figure:>9.3f}" for figure in figures) + f" {unit}   {budget}")


def main() -> int:
    rng = random.Random(20261120)
    with (
        tempfile.TemporaryDirectory() as directory,
        RunningPlatform(Path(directory) / "data", plugins=lambda settings: Plugins(settings, [])) as running,
    ):
        platform = running.runtime.platform
        account, project, users = running.run(fill(platform, rng))
        took = running.run(decisions(platform, account, project, users))
        asked = running.run(requests(running, account, project, users[0]))
    reaching = POLICIES // GROUPS * GROUPS_OF_USER
    print(f"{POLICIES} policies, {GROUPS} groups, a user in {GROUPS_OF_USER}: {reaching} policies reach it")
    print(f"{'':<34}{'median':>9}{'p99':>9}{'cpu med':>9}{'cpu p99':>9}")
    show("decision, first of a user", took["first"], 1e3, "ms", "")
    show("decision, cold", took["cold"], 1e3, "ms", f"p99 <= {COLD_BUDGET_MS:.0f} ms")
    show("decision, warm", took["warm"], 1e6, "us", f"median <= {WARM_BUDGET_US:.0f} us")
    for way, times in asked.items():
        show(f"authentication and decision, {way}", times, 1e3, "ms", f"median <= {GATEWAY_BUDGET_MS} ms")
    cold = statistics.quantiles([wall for wall, _ in took["cold"]], n=100)[98] * 1e3
    warm = statistics.median(wall for wall, _ in took["warm"]) * 1e6
    slowest = max(statistics.median(wall for wall, _ in times) for times in asked.values()) * 1e3
    return 0 if cold <= COLD_BUDGET_MS and warm <= WARM_BUDGET_US and slowest <= GATEWAY_BUDGET_MS else 1


if __name__ == "__main__":
    sys.exit(main())
