"""A service outlives the platform: predictions go on, and nothing of them is lost when it is back."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest

from bottega.client import SigningAuth
from bottega.testing import PlatformProcess, wait_until

MODELS = "/v1/{project_id}/models"
SERVICES = "/v1/{project_id}/services"


class Operator:
    """Someone who imports and deploys on a platform that is killed now and then."""

    def __init__(self, process: PlatformProcess, package: dict[str, bytes]) -> None:
        self.process = process
        known = process.credentials
        store = boto3.client(
            "s3",
            endpoint_url=known["s3_endpoint"],
            aws_access_key_id=known["s3_access_key"],
            aws_secret_access_key=known["s3_secret_key"],
            region_name="us-east-1",
        )
        store.create_bucket(Bucket="models")
        for name, content in package.items():
            store.put_object(Bucket="models", Key=f"linear/model/{name}", Body=content)
        self.http = httpx.Client(auth=SigningAuth(known["access_key"], known["secret_key"]), timeout=10)

    def submit(self) -> str:
        body = {"model_name": "linear", "source_location": "s3://models/linear/"}
        return str(self.process.client.post(MODELS, body)["model_id"])

    def create(self, model: str) -> str:
        client = self.process.client
        wait_until(lambda: client.get(f"{MODELS}/{model}")["model_status"] == "published")
        flavor = client.get(f"{SERVICES}/specifications")["specifications"][0]["specification"]
        config = [{"model_id": model, "weight": 100, "specification": flavor, "instance_count": 1}]
        body = {"service_name": "s", "infer_type": "real-time", "config": config}
        return str(client.post(SERVICES, body)["service_id"])

    def show(self, service: str) -> dict[str, Any]:
        return dict(self.process.client.get(f"{SERVICES}/{service}"))

    def reach(self, service: str, status: str) -> dict[str, Any]:
        wait_until(lambda: self.show(service)["status"] == status, 60)
        return self.show(service)


@pytest.fixture
def operator(tmp_path: Path, linear_package: dict[str, Any]) -> Iterator[Operator]:
    package = {n: json.dumps(c).encode() if isinstance(c, dict) else c for n, c in linear_package.items()}
    with PlatformProcess(tmp_path / "data") as process:
        made = Operator(process, package)
        yield made
        for row in process.client.get(SERVICES)["services"]:
            process.client.delete(f"{SERVICES}/{row['service_id']}")


def test_kill_9_of_the_platform_stops_no_prediction(operator: Operator) -> None:
    service = operator.create(operator.submit())
    address = operator.reach(service, "running")["access_address"]

    def call(number: int) -> Any:
        answer = operator.http.post(address, json={"input": [[number]]})
        assert answer.status_code == 200, answer.text
        return answer.json()["output"]

    operator.process.kill()
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(call, range(200))) == [[[2.0 * n]] for n in range(200)]
    until = time.monotonic() + 2
    wait_until(lambda: call(1) and time.monotonic() > until)
    operator.process.start()
    assert operator.show(service)["status"] == "running"
    assert operator.show(service)["access_address"] == address
    assert call(3) == [[6.0]]
    # Calls made while nobody counted are counted.
    wait_until(lambda: operator.show(service)["invocation_times"] >= 202)
    # And the data plane follows the platform again.
    for status in ("stopped", "running"):
        operator.process.client.put(f"{SERVICES}/{service}", {"status": status})
        operator.reach(service, status)


def test_kill_9_during_import_and_deployment_loses_neither(operator: Operator) -> None:
    model = operator.submit()
    operator.process.kill()
    operator.process.start()
    service = operator.create(model)
    operator.process.kill()
    operator.process.start()
    operator.reach(service, "running")
    client = operator.process.client
    assert (client.get(MODELS)["total_count"], client.get(SERVICES)["total_count"]) == (1, 1)
    runs = [e for e in client.get(f"{SERVICES}/{service}/events")["events"] if "runs at" in e["event_info"]]
    assert len(runs) == 1
