"""What somebody has is nobody else's: every route of every plugin is tried with the ids of real things.

Generated from the routes there are and from the rows there are, so that new ones are covered.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from importlib.metadata import entry_points
from typing import Any

import httpx
import pytest

from bottega.application import GuardedRoute, every_route
from bottega.plugins import GROUP, Plugin, Plugins
from bottega.testing import RunningPlatform, Tenant
from bottega.testing.examples import example

MARK = "qzx-owner"
"""In the name of everything the owner has: an answer to somebody else that holds it tells too much."""
SPOKEN_OF = re.compile(
    r"(core_outbox|core_processed|audit_|billing_usage|billing_price|billing_payer|billing_budget_alarm|alembic|sqlite_|iam_login)"
)
"""Tables of what happened, which go on by themselves."""
ENDLESS = "/v1/{project_id}/events"
REFUSED_TO_ALL = "iam:unsupported:use"


def own(owner: Tenant) -> None:
    """Let the owner have one of nearly everything that is made without a program running for it."""
    client, project = owner.client, owner.project_id
    user = client.post("/v3/users", {"user": {"name": f"{MARK}-user"}})["user"]["id"]
    client.post("/v3.0/OS-CREDENTIAL/credentials", {"credential": {"user_id": user, "description": MARK}})
    group = client.post("/v3/groups", {"group": {"name": f"{MARK}-group"}})["group"]["id"]
    client.put(f"/v3/groups/{group}/users/{user}")
    allowed = {"Version": "1.1", "Statement": [{"Effect": "Allow", "Action": ["smn:topic:list"]}]}
    role = client.post("/v3.0/OS-ROLE/roles", {"role": {"display_name": f"{MARK}-policy", "policy": allowed}})["role"]
    client.put(f"/v3/domains/{owner.account_id}/groups/{group}/roles/{role['id']}")
    agency = {"name": f"{MARK}-agency", "domain_id": owner.account_id, "trust_domain_name": "op_svc_modelarts"}
    client.post("/v3.0/OS-AGENCY/agencies", {"agency": agency})
    gathered = client.post("/v1.0/enterprise-projects", {"name": f"{MARK}-gathered"})["enterprise_project"]["id"]
    client.post("/v1/{project_id}/workspaces", {"name": f"{MARK}-room", "enterprise_project_id": gathered})
    bucket = owner.create_bucket(f"{MARK}-{project[:12]}")
    owner.objects.put(f"s3://{bucket}/{MARK}.txt", b"mine")
    client.post(
        "/v2/{project_id}/datasets",
        {"dataset_name": f"{MARK}-dataset", "dataset_type": 100, "work_path": f"/{bucket}/work/"},
    )
    client.post("/v2/{project_id}/workforces", {"workforce_name": f"{MARK}-team"})
    topic = client.post("/v2/{project_id}/notifications/topics", {"name": f"{MARK}-topic"})["topic_urn"]
    template = {"message_template_name": f"{MARK}-template", "protocol": "default", "content": MARK}
    client.post("/v2/{project_id}/notifications/message_template", template)
    hook = {"name": f"{MARK}-hook", "url": "https://1.1.1.1/", "events": ["training.>"]}
    client.post("/v1/{project_id}/webhooks", hook)
    condition = {"comparison_operator": ">", "value": 1}
    alarm = {"alarm_name": f"{MARK}-alarm", "metric": {"metric_name": "cpu_usage"}, "condition": condition}
    client.post("/V1.0/{project_id}/alarms", alarm)
    client.post("/v2/{project_id}/budgets", {"name": f"{MARK}-budget", "amount": "5", "scope": {"type": "project"}})
    pool = {"order_type": "pool", "name": f"{MARK}-pool", "flavor": "local.small", "node_count": 1, "period_num": 1}
    client.post("/v2/{project_id}/orders", pool)
    client.post("/v3/{project_id}/keypairs", {"keypair": {"name": f"{MARK}-pair"}})
    rule = {"notification_name": f"{MARK}-rule", "operation_type": "complete", "topic_id": topic}
    client.post("/v3/{project_id}/notifications", rule)
    owner.running.run(_resources(owner))


async def _resources(owner: Tenant) -> None:
    """What only programs make, as far as it can be found by its id: jobs, notebooks, models, services, conversions."""
    for plugin, kind in (
        ("training", "job"),
        ("notebook", "instance"),
        ("serving", "model"),
        ("serving", "service"),
        ("conversion", "task"),
    ):
        platform = owner.running.platform(plugin)
        async with platform.database.transaction() as tx:
            await platform.resources.create(
                tx, kind=kind, project_id=owner.project_id, owner_id=owner.user_id, name=f"{MARK}-{kind}"
            )


def rows(running: RunningPlatform, known: set[str]) -> dict[str, list[tuple[Any, ...]]]:
    """The rows, by table, that hold one of `known`."""
    found: dict[str, list[tuple[Any, ...]]] = {}
    with sqlite3.connect(f"file:{running.data_dir / 'bottega.db'}?mode=ro", uri=True) as connection:
        for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            if not SPOKEN_OF.match(table):
                every = connection.execute(f'SELECT * FROM "{table}" ORDER BY 1, 2').fetchall()
                found[table] = [row for row in every if known & {value for value in row if isinstance(value, str)}]
    return found


def ids(running: RunningPlatform, owner: Tenant) -> list[str]:
    """What the owner's things are found by: what stands first in the rows that name the owner, or one of these."""
    known = {owner.account_id, owner.project_id}
    while True:
        more = {row[0] for table in rows(running, known).values() for row in table if isinstance(row[0], str)}
        if more <= known:
            return sorted(known)
        known |= more


class Deaf(Plugins):
    """Plugins that hear no events: each refusal is one, and nothing here depends on what follows from it."""

    def call(self, plugin: Plugin, hook: str, **arguments: Any) -> Any:
        return None if hook == "bottega_subscribe" else super().call(plugin, hook, **arguments)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    found = list(entry_points(group=GROUP))
    with RunningPlatform(tmp_path_factory.mktemp("things"), None, lambda s: Deaf(s, found)) as running:
        yield running


@pytest.fixture(scope="module")
def owner(running: RunningPlatform) -> Tenant:
    owner = running.tenant()
    own(owner)
    return owner


@pytest.fixture(scope="module")
def theirs(running: RunningPlatform, owner: Tenant) -> list[str]:
    return ids(running, owner)


def _parameters(route: GuardedRoute) -> list[str]:
    """What a route's path takes beside the project."""
    return re.findall(r"{(?!project_id})([^}:]+)", route.path)


class Trial:
    """Calls routes as somebody with the ids of somebody else's things, and keeps what was told."""

    def __init__(self, running: RunningPlatform, who: Tenant, theirs: list[str]) -> None:
        self.running, self.who, self.theirs = running, who, theirs
        identity = running.runtime.platform.identity
        token = identity.issue_token(running.run(identity.principal(who.user_id)), 3600)
        self._http = httpx.Client(base_url=running.url, headers={"X-Auth-Token": token}, timeout=60)
        self.told: list[str] = []
        self.calls = 0
        described = who.client.get("/openapi.json")
        self._paths, self._models = described["paths"], described["components"]["schemas"]

    def routes(self) -> list[tuple[str, GuardedRoute]]:
        """Lists first: the trail of one's own calls names what they were tried with."""
        application: Any = self.running.runtime.app
        found = [
            route
            for route in every_route(application.app.routes)
            if route.requirement and route.requirement.action != REFUSED_TO_ALL and route.path != ENDLESS
        ]
        found.sort(key=lambda route: len(_parameters(route)))
        return [(method, route) for route in found for method in sorted(route.methods)]

    def run(self, method: str, route: GuardedRoute) -> None:
        """Call a route, once for each of their ids when its path takes any."""
        path = route.path.replace("{project_id}", self.who.project_id)
        for one in self.theirs if _parameters(route) else [""]:
            self._call(method, route, re.sub(r"{[^}]+}", one, path), one)

    def _call(self, method: str, route: GuardedRoute, path: str, one: str) -> None:
        body = self._body(method, route.path) if method in ("POST", "PUT", "PATCH") else None
        answer = self._http.request(method, path, json=body)
        self.calls += 1
        # A deletion of what is not there may well succeed; what it left is looked at afterwards.
        found = method == "HEAD" and answer.is_success and bool(one)
        text = answer.text.replace(one, "") if one else answer.text
        if found or answer.status_code >= 500 or any(word in text for word in (MARK, *self.theirs)):
            self.told.append(f"{method} {route.path} of {one}: {answer.status_code} {answer.text[:300]}")

    def _body(self, method: str, path: str) -> Any:
        described = self._paths.get(path, {}).get(method.lower(), {}).get("requestBody", {})
        schema = described.get("content", {}).get("application/json", {}).get("schema")
        return example(schema, self._models) if schema else {}


def test_the_owner_finds_them(running: RunningPlatform, owner: Tenant, theirs: list[str]) -> None:
    """So it would be noticed if somebody else did."""
    trial = Trial(running, owner, theirs)
    for method, route in trial.routes():
        if method == "GET" and not _parameters(route):
            trial.run(method, route)
    assert len([told for told in trial.told if MARK in told]) > 10


@pytest.mark.timeout(600)
def test_a_stranger_neither_finds_nor_changes_what_others_have(
    running: RunningPlatform, owner: Tenant, theirs: list[str]
) -> None:
    assert len(theirs) > 20
    before = rows(running, set(theirs))
    trial = Trial(running, running.tenant(), theirs)
    for method, route in trial.routes():
        trial.run(method, route)
    assert trial.told == []
    assert trial.calls > 2000
    after = rows(running, set(theirs))
    assert {table: (before[table], found) for table, found in after.items() if found != before[table]} == {}


def test_a_user_without_rights_finds_nothing_by_the_routes_that_are_open_to_all(
    running: RunningPlatform, owner: Tenant, theirs: list[str]
) -> None:
    public = {owner.account_id, owner.project_id, owner.user_id}
    trial = Trial(running, owner.user(), [id for id in theirs if id not in public])
    before = rows(running, set(theirs))
    for method, route in trial.routes():
        if route.requirement is not None and route.requirement.everyone:
            trial.run(method, route)
    assert trial.told == []
    assert trial.calls > 100
    after = rows(running, set(theirs))
    assert {table: (before[table], found) for table, found in after.items() if found != before[table]} == {}
