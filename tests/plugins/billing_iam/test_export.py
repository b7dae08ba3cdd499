"""Bills by every group, usage record by record, and files of them; and how they are asked for on the command line."""

from __future__ import annotations

import csv
import io
import json
import sys
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from typer.testing import Result

from bottega.client import ApiFailure
from bottega.context import move_clock, now_ms
from bottega.testing import RunningPlatform, Tenant
from bottega_billing_iam.billing import metering
from bottega_billing_iam.billing.entities import UsageRecord
from bottega_billing_iam.billing.rating import HOUR
from bottega_billing_iam.billing.sampling import Sampler
from bottega_billing_iam.billing.settlement import Settlements

BILLS = "/v2/{project_id}/bills"
USAGE = "/v2/{project_id}/usage-records"
EXPORT = "/v2/{project_id}/bills/export"
BEGIN = 1_767_225_600_000
JANUARY = {"from": "2026-01-01", "to": "2026-02-01"}


@pytest.fixture
def used(running: RunningPlatform, tenant: Tenant) -> Tenant:
    """Three workloads of two teams, two users and two workspaces, and a big disk."""
    kinds = (("training", "node", 2), ("notebook", "node", 1), ("training", "node", 1), ("disk", "gb", 6))
    records = [
        UsageRecord(
            id=uuid.uuid4().hex,
            account_id=tenant.account_id,
            project_id=tenant.project_id,
            workspace_id=str(index % 2),
            user_id=f"user-{index % 2}",
            user_name=f"name {index % 2}",
            kind=kind,
            backend="local",
            flavor="local.small" if measure == "node" else "disk",
            measure=measure,
            quantity=quantity,
            resource_urn=f"bottega:training:{tenant.project_id}:job/{index}",
            resource_name=f'job, "{index}"',
            tags={"team": "vision" if index else "语音"},
            started_at=BEGIN + index * HOUR,
            finished_at=BEGIN + (index + 1) * HOUR,
        )
        for index, (kind, measure, quantity) in enumerate(kinds)
    ]

    async def run() -> None:
        async with running.platform("billing").database.transaction() as tx:
            for record in records:
                await metering.add(tx, record)

    running.run(run())
    return tenant


@pytest.mark.parametrize("settled", [False, True])
def test_a_bill_by_every_group_comes_to_the_same(running: RunningPlatform, used: Tenant, settled: bool) -> None:
    if settled:
        running.run(Settlements(running.platform("billing")).settle_all())

    def by(group: str, **more: Any) -> dict[str, str]:
        answer = used.client.get(BILLS, {**JANUARY, "group_by": group, **more})
        assert answer["exact_amount"] == f"{sum(Decimal(r['amount']) for r in answer['records']):f}"
        return {r[group]: r["amount"] for r in answer["records"]}

    assert by("account") == {used.account_id: "0.800000"}
    assert by("project") == {used.project_id: "0.800000"}
    assert by("workspace") == {"0": "0.600000", "1": "0.200000"}
    assert by("user") == {"user-0": "0.600000", "user-1": "0.200000"}
    assert by("kind") == {"training": "0.600000", "notebook": "0.200000"}
    assert by("flavor") == {"local.small": "0.800000"}
    assert by("day") == {"2026-01-01": "0.800000"}
    assert by("tag:team") == {"语音": "0.400000", "vision": "0.400000"}
    assert by("tag:none") == {"": "0.800000"}
    assert by("kind", tag="team:vision") == {"notebook": "0.200000", "training": "0.200000"}
    assert by("kind", user_id="user-1") == {"notebook": "0.200000"}
    assert by("kind", workspace_id="0") == {"training": "0.600000"}
    half = {"from": BEGIN + HOUR // 2, "to": BEGIN + HOUR + HOUR // 2}
    assert used.client.get(BILLS, half)["exact_amount"] == "0.300000"


def test_usage_is_listed_in_pages(used: Tenant) -> None:
    answer = used.client.get(USAGE, {**JANUARY, "limit": 3})
    assert (len(answer["records"]), answer["more"]) == (3, True)
    rest = used.client.get(USAGE, {**JANUARY, "limit": 3, "offset": 3})
    assert (len(rest["records"]), rest["more"]) == (1, False)
    assert [r["amount"] for r in answer["records"] + rest["records"]] == [
        "0.400000",
        "0.200000",
        "0.200000",
        "0.000000",
    ]
    assert answer["records"][0]["node_seconds"] == 7200


def test_csv_and_parquet_say_the_same(used: Tenant, tmp_path: Path) -> None:
    text = used.client.request("GET", EXPORT, params=JANUARY)
    assert text.headers["content-type"] == "text/csv; charset=utf-8"
    assert "usage-20260101-20260201.csv" in text.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(text.content.decode())))
    assert [r["name"] for r in rows] == [f'job, "{n}"' for n in range(4)]
    assert rows[0]["started_at"] == "2026-01-01T00:00:00.000Z"
    assert json.loads(rows[0]["tags"]) == {"team": "语音"}
    file = tmp_path / "usage.parquet"
    file.write_bytes(used.client.request("GET", EXPORT, params={**JANUARY, "format": "parquet"}).content)
    table = pyarrow.parquet.read_table(file).to_pylist()
    assert [r["amount"] for r in table] == [Decimal(r["amount"]) for r in rows]
    assert sum(r["amount"] for r in table) == Decimal("0.8")
    assert table[0]["started_at"] == datetime(2026, 1, 1, tzinfo=UTC)
    lines = used.client.request("GET", EXPORT, params={**JANUARY, "group_by": "kind"}).content.decode()
    assert [r["kind"] for r in csv.DictReader(io.StringIO(lines))] == ["training", "notebook"]


def test_an_export_goes_to_a_bucket_of_ones_own(used: Tenant, stranger: Tenant) -> None:
    bucket = used.create_bucket()
    written = used.client.post(f"{BILLS}/exports", {**JANUARY, "path": f"s3://{bucket}/bills/"})
    assert written["path"] == f"s3://{bucket}/bills/usage-20260101-20260201.csv"
    assert written["rows"] == 4
    stored = used.objects.get(written["path"])
    assert stored == used.client.request("GET", EXPORT, params=JANUARY).content
    part = {"user_id": "user-1", "workspace_id": "1", "tag": "team:vision", "path": f"s3://{bucket}/part.csv"}
    assert used.client.post(f"{BILLS}/exports", {**JANUARY, **part})["rows"] == 2
    for body, status in (
        ({"path": f"s3://{bucket}/x.csv", "tag": "team"}, 400),
        ({"path": f"s3://{stranger.create_bucket()}/x.csv"}, 403),
        ({"path": "nowhere"}, 400),
        ({"path": f"s3://{bucket}/x", "format": "xlsx"}, 400),
        ({"path": f"s3://{bucket}/x", "group_by": "mood"}, 400),
        ({"path": f"s3://{bucket}/x", "scope": "all"}, 400),
    ):
        with pytest.raises(ApiFailure) as failure:
            used.client.post(f"{BILLS}/exports", {**JANUARY, **body})
        assert failure.value.status == status
    viewer = {"Version": "1.1", "Statement": [{"Effect": "Allow", "Action": ["bss:bill:*"]}]}
    with pytest.raises(ApiFailure) as failure:
        used.user([viewer]).client.post(f"{BILLS}/exports", {**JANUARY, "path": f"s3://{bucket}/y.csv"})
    assert failure.value.status == 403
    assert used.user([viewer]).client.request("GET", EXPORT, params=JANUARY).content == stored


def test_without_its_package_parquet_is_refused_clearly(used: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ApiFailure, match=r"bottega\[billing\]") as failure:
        used.client.request("GET", EXPORT, params={"format": "parquet"})
    assert failure.value.status == 503


@pytest.mark.parametrize(
    "wrong",
    [
        {"group_by": "tag:"},
        {"group_by": "mood"},
        {"tag": "team"},
        {"from": "99999-01-01"},
        {"from": "9" * 15},
        {"from": "-5"},
        {"to": "0001-01-01"},
        {"from": "²"},
    ],
)
def test_wrong_questions_are_refused(tenant: Tenant, wrong: dict[str, str]) -> None:
    with pytest.raises(ApiFailure) as failure:
        tenant.client.get(BILLS, wrong)
    assert failure.value.status == 400


PRICES = """
currency = "CNY"
[[versions]]
version = "1"
valid_from = 2020-01-01T00:00:00Z
default = "0.20"
[versions.storage]
object_gb_month = "720000"
"""


@pytest.fixture(scope="module")
def storing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    folder = tmp_path_factory.mktemp("storing")
    (folder / "prices.toml").write_text(PRICES)
    own = {"price_list": str(folder / "prices.toml"), "settle_every_s": 3600, "sample_every_s": 3600}
    with RunningPlatform(folder / "data", {"plugins": {"billing": own}}) as platform:
        yield platform


def test_buckets_are_sampled_once_an_hour_and_settled(storing: RunningPlatform) -> None:
    tenant = storing.tenant()
    billing = storing.platform("billing")
    bucket = tenant.create_bucket()
    tenant.objects.put(f"s3://{bucket}/a/b", b"x" * 2**20)
    tenant.objects.put(f"s3://{bucket}/c", b"x" * 2**20)
    assert storing.run(Sampler(billing).sample()) >= 1
    assert storing.run(Sampler(billing).sample()) == 0
    rest = HOUR - now_ms() % HOUR
    move_clock(rest + 200_000)
    try:
        storing.run(Settlements(billing).settle_all())
        bill = tenant.client.get(BILLS, {"scope": "account", "group_by": "resource", "from": now_ms() - 2 * HOUR})
        assert storing.run(Sampler(billing).sample()) >= 1
    finally:
        move_clock(-rest - 200_000)
    [record] = bill["records"]
    # 2 MiB at 1000 a GB and hour.
    assert (record["name"], record["amount"]) == (bucket, "1.953125")


def test_the_command_line(bottega: Callable[..., Result], used: Tenant, tmp_path: Path) -> None:
    january = ("--from", "2026-01-01", "--to", "2026-02-01")

    def told(*arguments: str) -> Any:
        done = bottega(*arguments, as_json=True)
        assert done.exit_code == 0, done.exception
        return json.loads(done.stdout)

    assert told("bill", *january, "--by", "tag:team")["exact_amount"] == "0.800000"
    assert "0.400000" in bottega("bill", *january, "--by", "tag:team").stdout
    assert len(told("usage", *january)["records"]) == 4
    assert [r["name"] for r in told("usage", *january, "--user", "user-1")["records"]] == ['job, "1"', 'job, "3"']
    assert len(told("usage", *january, "--workspace", "0", "--tag", "team:vision")["records"]) == 1
    assert told("bill", *january, "--user", "user-1", "--workspace", "1")["exact_amount"] == "0.200000"
    some = f"s3://{used.create_bucket()}/some.csv"
    assert bottega("usage", *january, "--tag", "team:vision", "--export", some).exit_code == 0
    assert used.objects.get(some).count(b"vision") == 3
    assert "notebook" in bottega("usage", *january).stdout
    file = tmp_path / "bill.csv"
    assert bottega("bill", *january, "--by", "kind", "--export", str(file)).exit_code == 0
    assert [r["kind"] for r in csv.DictReader(file.open())] == ["training", "notebook"]
    path = f"s3://{used.create_bucket()}/usage.parquet"
    assert bottega("usage", *january, "--export", path, "--format", "parquet").exit_code == 0
    assert used.objects.get(path)[:4] == b"PAR1"
    assert bottega("orders", "tuning", "2000", "--agreed", "--order-no", "t").exit_code == 0
    assert [o["amount"] for o in told("orders", "list")["orders"]] == ["2000.000000"]
    pool = told("orders", "pool", "ours", "--flavor", "local.small", "--months", "12", "--nodes", "2")
    assert pool["amount"] == f"{Decimal('0.20') * 720 * 2 * 10:.6f}"
    assert told("orders", "show", pool["order_id"])["deletable"] is False
    assert told("packages", "offers")["offers"] == []
    assert told("packages", "list")["orders"] == []
    assert "none" in str(bottega("packages", "buy", "nothing").exception)
    assert told("invoices", "list")["invoices"] == []
    assert bottega("invoices", "show", "2026-01-000000").exit_code != 0
