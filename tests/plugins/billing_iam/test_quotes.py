"""What creating something would cost an hour, for every request that a plugin foresees."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bottega.client import ApiFailure
from bottega.testing import RunningPlatform, Tenant

NOTEBOOKS = "/v1/{project_id}/notebooks"


def test_every_creating_request_that_is_foreseen_can_be_quoted(running: RunningPlatform, tenant: Tenant) -> None:
    offered = tenant.client.get("/v2/{project_id}/quotes")["quotes"]
    assert {q["path"] for q in offered} == {p.path for p in running.runtime.platform.shared.planners}
    for plain in ("/v2/{project_id}/training-jobs", NOTEBOOKS, "/v1/{project_id}/services"):
        assert plain in {q["path"] for q in offered}
    for path in (q["path"].replace("{dataset_id}", "any") for q in offered):
        with pytest.raises(ApiFailure) as wrong:
            tenant.client.post(f"{path}/quote", {})
        # A body of defaults only is right for some; what is wrong is said as the creation would.
        assert wrong.value.status == 400 or path == NOTEBOOKS


def test_a_quote_names_the_price_and_makes_nothing(tenant: Tenant) -> None:
    quote = tenant.client.post(f"{NOTEBOOKS}/quote", {"name": "n", "flavor": "local.medium"})
    assert quote["uses"] == [
        {
            "kind": "notebook",
            "flavor": "local.medium",
            "measure": "node",
            "count": 1,
            "price_per_hour": "0.400000",
            "amount_per_hour": "0.400000",
            "free": False,
            "from_packages": [],
        },
        {
            "kind": "disk",
            "flavor": "disk",
            "measure": "gb",
            "count": 5,
            "price_per_hour": "0.000000",
            "amount_per_hour": "0.000000",
            "free": True,
            "from_packages": [],
        },
    ]
    assert (quote["currency"], quote["price_version"]) == ("CNY", "1")
    assert (quote["amount_per_hour"], quote["first_hour"]) == ("0.400000", "0.400000")
    assert quote["free_allowances"]["notebook_disk_gb"] == 5
    assert tenant.client.get(NOTEBOOKS)["total"] == 0


def test_the_disk_of_a_notebook_costs_beyond_its_free_part(tmp_path: Path) -> None:
    prices = tmp_path / "prices.toml"
    head = 'currency = "CNY"\n[[versions]]\nversion = "1"\nvalid_from = 2020-01-01T00:00:00Z\ndefault = "0.20"\n'
    prices.write_text(head + '[versions.storage]\ngb_month = "0.72"\n')
    with RunningPlatform(tmp_path / "data", {"plugins": {"billing": {"price_list": str(prices)}}}) as running:
        client = running.tenant().client
        quotes = [
            client.post(f"{NOTEBOOKS}/quote", {"name": "n", "volume": {"capacity": size}}) for size in (5, 6, 105)
        ]
    assert [quote["amount_per_hour"] for quote in quotes] == ["0.200000", "0.201000", "0.300000"]
    assert [quote["uses"][1]["amount_per_hour"] for quote in quotes] == ["0.000000", "0.001000", "0.100000"]
    assert {quote["uses"][1]["price_per_hour"] for quote in quotes} == {"0.001000"}


def test_what_costs_nothing_is_quoted_so(tenant: Tenant, bucket: str) -> None:
    dataset = {"dataset_name": "d", "dataset_type": 0, "work_path": f"/{bucket}/work/"}
    quote = tenant.client.post("/v2/{project_id}/datasets/quote", dataset)
    assert (quote["uses"], quote["amount_per_hour"]) == ([], "0.000000")


def test_a_wrong_request_is_told_as_its_creation_would(tenant: Tenant) -> None:
    told = []
    for path in (NOTEBOOKS, f"{NOTEBOOKS}/quote"):
        with pytest.raises(ApiFailure) as wrong:
            tenant.client.post(path, {"name": "n", "flavor": "huge"})
        told.append((wrong.value.status, wrong.value.error_code, wrong.value.message))
    assert told[0] == told[1]
    assert told[0][0] == 400


def test_who_may_not_create_may_still_ask_the_price(tenant: Tenant, stranger: Tenant) -> None:
    assert tenant.user().client.post(f"{NOTEBOOKS}/quote", {"name": "n"})["amount_per_hour"] == "0.200000"
    with pytest.raises(ApiFailure) as refused:
        stranger.client.post(f"{NOTEBOOKS}/quote".replace("{project_id}", tenant.project_id), {"name": "n"})
    assert refused.value.status == 403


def test_on_the_command_line(bottega: Any, tmp_path: Path) -> None:
    body = tmp_path / "notebook.json"
    body.write_text(json.dumps({"name": "n"}))
    assert "training-jobs" in bottega("quote").output
    result = bottega("quote", "notebooks", str(body))
    assert result.exit_code == 0, result.output
    assert "0.200000 CNY an hour" in result.output
    assert bottega("quote", "nonsense", str(body)).exit_code == 2
    body.write_text("{")
    assert bottega("quote", "notebooks", str(body)).exit_code == 2


def test_creating_commands_tell_the_price_and_make_nothing(bottega: Any, tenant: Tenant, bucket: str) -> None:
    job = ("--engine", "pytorch", "--code", f"s3://{bucket}/code/", "--boot", "train.py", "--flavor", "local.medium")
    conversion = ("--template", "converter-pytorch-onnx", "--input", f"/{bucket}/in/", "--output", f"/{bucket}/out/")
    for command in (
        ("notebooks", "create", "mine", "--flavor", "local.medium"),
        ("jobs", "create", "--name", "mine", *job),
        ("conversions", "create", "mine", *conversion, "--flavor", "local.medium"),
    ):
        told = bottega(*command, "--quote")
        assert told.exit_code == 0, told.output
        assert "0.400000 CNY an hour, the first one 0.400000" in told.output, told.output
        answer = json.loads(bottega(*command, "--quote", as_json=True).output)
        assert answer["amount_per_hour"] == "0.400000"
    assert tenant.client.get("/v1/{project_id}/resources")["resources"] == []
