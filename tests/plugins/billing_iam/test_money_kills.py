"""The platform is killed while it meters and settles: no second of the month is lost, and none is charged twice."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import uuid
from pathlib import Path
from typing import Any

from bottega.backends import WorkloadFinished, WorkloadStarted
from bottega.database import Database
from bottega.events import Event
from bottega.testing import wait_until
from bottega.testing.process import PlatformProcess
from bottega_billing_iam.billing.bill import make_bill
from bottega_billing_iam.billing.entities import UsageRecord
from bottega_billing_iam.billing.prices import SHIPPED, PriceList
from bottega_billing_iam.billing.rating import HOUR

BEGIN = 1_767_225_600_000
WORKLOADS = 120
SETTINGS = {"BOTTEGA__PLUGINS__BILLING__SETTLE_EVERY_S": "0.2", "BOTTEGA__PLUGINS__BILLING__INVOICE_AFTER_H": "8760"}


def events(project_id: str, rng: random.Random) -> tuple[list[tuple[Event, str]], list[UsageRecord]]:
    """The events of a month's workloads in any order, and the facts they tell of."""
    every: list[tuple[Event, str]] = []
    facts = []
    for index in range(WORKLOADS):
        started = BEGIN + rng.randrange(20 * HOUR)
        finished = started + rng.randrange(1, 4 * HOUR)
        common: dict[str, Any] = {
            "workload_id": f"w{index}",
            "kind": "training",
            "backend": "local",
            "flavor": rng.choice(["local.small", "local.medium"]),
            "node_count": rng.randint(1, 3),
            "resource_urn": f"bottega:training:{project_id}:job/{index}",
            "started_at": started,
        }
        end = {"state": "succeeded", "reason": "", "exit_code": 0, "finished_at": finished}
        urn = f"bottega:core:{project_id}:workload/w{index}"
        every += [(WorkloadStarted(endpoints={}, **common), urn), (WorkloadFinished(**end, **common), urn)]
        facts.append(
            UsageRecord(
                id=f"w{index}",
                account_id="",
                project_id=project_id,
                workspace_id="0",
                user_id="",
                user_name="",
                kind="training",
                backend="local",
                flavor=common["flavor"],
                quantity=common["node_count"],
                resource_urn=common["resource_urn"],
                resource_name="",
                started_at=started,
                finished_at=finished,
            )
        )
    rng.shuffle(every)
    return every, facts


def put(file: Path, found: list[tuple[Event, str]]) -> None:
    """Commit events as a platform that was killed before it could publish them."""

    async def run() -> None:
        database = Database(f"sqlite+aiosqlite:///{file}").bind("core")
        async with database.transaction() as tx:
            for event, urn in found:
                tx.emit(event, urn)
        await database.close()

    asyncio.run(run())


def read(file: Path, query: str) -> Any:
    connection = sqlite3.connect(file, timeout=20)
    try:
        return connection.execute(query).fetchone()
    finally:
        connection.close()


def wait_for_more(file: Path, entries: int) -> None:
    """Wait until the ledger holds so many entries more."""
    count = "SELECT COUNT(*) FROM billing_entry"
    wanted = read(file, count)[0] + entries
    wait_until(lambda: read(file, count)[0] >= wanted, 60)


def test_killed_while_metering_and_settling(tmp_path: Path) -> None:
    rng = random.Random(uuid.uuid4().hex)
    platform = PlatformProcess(tmp_path / "data", SETTINGS)
    with platform:
        project_id = platform.credentials["project_id"]
    file = next((tmp_path / "data").glob("*.db"))
    every, facts = events(project_id, rng)
    expected = make_bill(facts, PriceList.read(SHIPPED).versions, BEGIN, BEGIN + 30 * HOUR, BEGIN + 30 * HOUR, "kind")
    part = len(every) // 2
    for number in range(2):
        put(file, every[number * part : (number + 1) * part])
        platform.start()
        wait_for_more(file, rng.randint(1, 10))
        platform.kill()
    platform.start()

    def charged() -> int:
        revenue = "SELECT COALESCE(SUM(amount), 0) FROM billing_posting WHERE book = 'revenue'"
        return int(read(file, revenue)[0])

    try:
        wait_until(lambda: charged() == expected.micro, 150)
        assert read(file, "SELECT COUNT(*) FROM billing_usage WHERE finished_at IS NOT NULL")[0] == WORKLOADS
        assert read(file, "SELECT SUM(amount) FROM billing_posting")[0] == 0
        orphans = "SELECT COUNT(*) FROM billing_posting WHERE entry_id NOT IN (SELECT id FROM billing_entry)"
        assert read(file, orphans)[0] == 0
        asked = {"from": BEGIN, "to": BEGIN + 30 * HOUR, "group_by": "kind"}
        [line] = platform.client.get("/v2/{project_id}/bills", asked)["records"]
        assert (line["amount"], line["node_seconds"]) == (
            f"{expected.micro / 1e6:.6f}",
            expected.lines[0].node_seconds,
        )
    finally:
        platform.stop()
