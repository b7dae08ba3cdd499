"""Logging in, and the platform's own account."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer
from typer.testing import CliRunner, Result

from bottega.backends import WorkloadSpec
from bottega.cli_support import OPTIONS
from bottega.client import Client
from bottega.context import move_clock, now_ms
from bottega.entities import Workload
from bottega.plugins import Plugins
from bottega.settings import load_settings
from bottega.testing import RunningPlatform, Tenant, wait_until
from bottega.testing.running import RecordedEvents
from bottega_billing_iam.billing.entities import Order
from bottega_billing_iam.billing.ledger import BALANCE, REVENUE, Draft, transfer
from bottega_billing_iam.billing.ledger import post as ledger_post

Login = Callable[..., httpx.Response]
Run = Callable[..., Result]


@pytest.fixture(scope="session")
def cli() -> typer.Typer:
    """The commands of all plugins."""
    cli = typer.Typer()
    plugins = Plugins(load_settings(environ={}), commands_only=True)
    for plugin in plugins.on():
        plugins.call(plugin, "bottega_commands", cli=cli)
    return cli


@pytest.fixture
def bottega(
    cli: typer.Typer, running: RunningPlatform, tenant: Tenant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Run:
    """Run commands with the credentials of a tenant (default: `tenant`)."""

    def run(*arguments: str, who: Tenant = tenant, as_json: bool = False, input: str | None = None) -> Result:
        file = tmp_path / f"{who.user_id}.json"
        known = {
            "url": running.url,
            "project_id": who.project_id,
            "access_key": who.access_key,
            "secret_key": who.secret_key,
        }
        file.write_text(json.dumps(known))
        monkeypatch.setattr(OPTIONS, "credentials", file)
        monkeypatch.setattr(OPTIONS, "as_json", as_json)
        return CliRunner().invoke(cli, arguments, input=input, env={"COLUMNS": "200"})

    return run


@pytest.fixture
def login(running: RunningPlatform) -> Login:
    """Ask for a token: ``login(account, user, password, project_id=…)``; the HTTP response."""

    def ask(account: str, user: str, password: str, project_id: str | None = None) -> httpx.Response:
        who = {"name": user, "password": password, "domain": {"name": account}}
        auth: dict[str, Any] = {"identity": {"methods": ["password"], "password": {"user": who}}}
        if project_id:
            auth["scope"] = {"project": {"id": project_id}}
        return httpx.post(f"{running.url}/v3/auth/tokens", json={"auth": auth}, timeout=30)

    return ask


@pytest.fixture
def operator(running: RunningPlatform) -> Client:
    """The root of the platform's first account, with the access key of the first start."""
    return Client.from_file(running.data_dir / "credentials.json")


@pytest.fixture
def operator_login(running: RunningPlatform) -> dict[str, str]:
    known: dict[str, str] = json.loads((running.data_dir / "credentials.json").read_text())
    return known


@pytest.fixture
def member(tenant: Tenant) -> Callable[..., dict[str, str]]:
    """Make a user through the API: in a group of its own, with custom policies of these documents, and a password."""

    def make(*documents: dict[str, Any], system: tuple[str, ...] = (), project_id: str | None = None) -> dict[str, str]:
        client, name, password = tenant.client, f"m{uuid.uuid4().hex[:8]}", "correct-Horse-1"
        user = client.post("/v3/users", {"user": {"name": name, "password": password}})["user"]
        group = client.post("/v3/groups", {"group": {"name": f"group-{name}"}})["group"]
        client.put(f"/v3/groups/{group['id']}/users/{user['id']}")
        wanted = {r["display_name"]: r["id"] for r in client.get("/v3/roles")["roles"]}
        roles = [wanted[policy] for policy in system]
        for index, document in enumerate(documents):
            role = {"display_name": f"policy{index}-{name}", "type": "XA", "policy": document}
            roles.append(client.post("/v3.0/OS-ROLE/roles", {"role": role})["role"]["id"])
        place = f"projects/{project_id}" if project_id else f"domains/{tenant.account_id}"
        for role_id in roles:
            client.put(f"/v3/{place}/groups/{group['id']}/roles/{role_id}")
        return {
            "account": tenant.name,
            "user": name,
            "password": password,
            "user_id": user["id"],
            "group_id": group["id"],
        }

    return make


@pytest.fixture(scope="module")
def paying(each_database: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    """A platform that settles and looks at arrears and budgets all the time, on each database."""
    quick = {"money_check_s": 0.1, "settle_every_s": 0.1, "settle_after_s": 0}
    with RunningPlatform(
        tmp_path_factory.mktemp("paying"), {**each_database, "plugins": {"billing": quick}}
    ) as platform:
        yield platform


@pytest.fixture
def later() -> Iterator[Callable[[float], None]]:
    """Let so many hours pass; the clock is put back afterwards."""
    moved: list[int] = []

    def pass_by(hours: float) -> None:
        moved.append(int(hours * 3_600_000))
        move_clock(moved[-1])

    yield pass_by
    move_clock(-sum(moved))


class Account:
    """An account whose money a test moves. Amounts are texts such as "1.50"."""

    def __init__(self, running: RunningPlatform) -> None:
        self.tenant = running.tenant()
        self.started: list[str] = []
        self.move_to(running)

    def move_to(self, running: RunningPlatform) -> None:
        """The same account on a platform that was started again."""
        self.running = running
        self.tenant = replace(self.tenant, running=running)
        self.operator = Client.from_file(running.data_dir / "credentials.json")
        self.path = f"/v2/billing/accounts/{self.tenant.account_id}"

    def pays(self, mode: str | None, **terms: Any) -> Any:
        return self.operator.put(f"{self.path}/terms", {"mode": mode, **terms})

    def recharge(self, amount: str, **more: Any) -> Any:
        return self.operator.post(f"{self.path}/recharges", {"amount": amount, **more})

    def balance(self) -> Any:
        return self.tenant.client.get("/v2/{project_id}/balance")

    def charge(self, amount: str, at: int | None = None) -> None:
        """Charge the account for something bought at once, now or at another time (epoch ms)."""
        platform, tenant = self.running.platform("billing"), self.tenant
        micro, number, now = int(Decimal(amount) * 1_000_000), str(uuid.uuid4()), at or now_ms()
        bought = Order(
            id=number,
            order_no=number,
            account_id=tenant.account_id,
            project_id=tenant.project_id,
            user_id=tenant.user_id,
            user_name=tenant.name,
            kind="test",
            name="something",
            micro=micro,
            currency="CNY",
            begins=now,
            ends=now,
        )

        async def post() -> None:
            async with platform.database.transaction() as tx:
                tx.session.add(bought)
                moves = transfer(BALANCE, REVENUE, micro, "CNY")
                await ledger_post(tx, Draft(f"test/{number}", tenant.account_id, "order", now, moves))

        self.running.run(post())

    def start(self, *, flavor: str = "local.small", kind: str = "training", **more: Any) -> str:
        """Run a program that waits, as a workload of a resource; its id. It ends when it is asked to."""
        platform, tenant = self.running.platform("training"), self.tenant
        tags = more.pop("tags", {})

        async def request() -> str:
            async with platform.database.transaction() as tx:
                resource = await platform.resources.create(
                    tx,
                    kind="job",
                    project_id=tenant.project_id,
                    owner_id=tenant.user_id,
                    name=f"job-{uuid.uuid4().hex[:6]}",
                    tags=tags,
                )
                asked = {"project_id": tenant.project_id, "user_id": tenant.user_id, **more}
                workload = await platform.workloads.request(
                    tx,
                    WorkloadSpec(command=["{python}", "-c", "import time; time.sleep(600)"]),
                    kind=kind,
                    flavor_id=flavor,
                    resource_urn=resource.urn,
                    **asked,
                )
                return workload.id

        self.started.append(self.running.run(request()))
        return self.started[-1]

    def stop_all(self) -> None:
        """End what was started, so that others have the machine."""
        platform = self.running.runtime.platform

        async def stop() -> None:
            for workload_id in self.started:
                async with platform.database.transaction() as tx:
                    await platform.workloads.stop(tx, workload_id)

        self.running.run(stop())

    def workload(self, workload_id: str) -> Workload:
        async def get() -> Workload:
            async with self.running.runtime.platform.database.read() as session:
                return await session.get_one(Workload, workload_id)

        return self.running.run(get())

    def reached(self, workload_id: str, state: str) -> Workload:
        wait_until(lambda: self.workload(workload_id).state == state, 60)
        return self.workload(workload_id)

    def told(self, type: str) -> list[dict[str, Any]]:
        """What the platform said of this account, in order."""
        spaces = ("_", self.tenant.project_id)
        found = (e.data for space in spaces for e in RecordedEvents(self.running, space).all(type))
        return [data for data in found if data["account_id"] == self.tenant.account_id]


@pytest.fixture
def account(paying: RunningPlatform) -> Iterator[Account]:
    account = Account(paying)
    yield account
    account.stop_all()


@pytest.fixture
def account_of() -> type[Account]:
    """A fresh account of a platform of the test's own."""
    return Account


@pytest.fixture
def moved() -> Iterator[Callable[[int], None]]:
    """Move the platform's clock by some milliseconds; it goes back at the end."""
    steps: list[int] = []

    def move(by_ms: int) -> None:
        move_clock(by_ms)
        steps.append(by_ms)

    yield move
    move_clock(-sum(steps))
