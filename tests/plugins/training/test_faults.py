"""Jobs through crashes: the launcher's, the platform's, at every step; and the engines of others."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from bottega.client import ApiFailure, Client
from bottega.launch.directory import WorkloadDirectory
from bottega.plugins import Plugins
from bottega.settings import Settings
from bottega.testing import PlatformProcess, RunningPlatform, Tenant, wait_until
from bottega.testing.running import RecordedEvents

SLOW = """
import json, os, sys, time
out = next(a for a in sys.argv if a.startswith("--train_url=")).partition("=")[2]
print("started", flush=True)
go = os.path.join(os.path.expanduser("~"), "go")
while not os.path.exists(go):
    time.sleep(0.05)
with open(out + "runs.txt", "a") as runs:
    runs.write("once\\n")
json.dump({"y_true": ["a", "b"], "y_pred": ["a", "b"]}, open(out + "evaluation.json", "w"))
print("finished", flush=True)
"""


def test_job_whose_launcher_is_killed_fails_with_its_reason(
    trainer: Any, tenant: Tenant, running: RunningPlatform, events: RecordedEvents
) -> None:
    trainer.upload("import time; print('busy', flush=True); time.sleep(600)")
    job_id = trainer.submit(trainer.request())
    trainer.reached(job_id, "Running")

    async def workload_id() -> str:
        platform = running.platform("training")
        async with platform.database.read() as session:
            urn = f"bottega:training:{tenant.project_id}:job/{job_id}"
            return (await platform.workloads.of_resource(session, urn))[0].id

    launch = WorkloadDirectory(running.data_dir / "workloads" / running.run(workload_id())).launch_pid()
    assert launch is not None
    os.kill(launch, signal.SIGKILL)
    job = trainer.ended(job_id)
    assert job["status"]["phase"] == "Failed"
    assert job["status"]["task_statuses"][0]["message"]
    assert events.wait("training.job.failed.v1", job_id=job_id).data["reason"]
    assert "busy" in trainer.log(job_id)


@pytest.fixture
def process(tmp_path: Path) -> Iterator[PlatformProcess]:
    with PlatformProcess(tmp_path / "data") as platform:
        yield platform


def prepare(process: PlatformProcess, script: str) -> dict[str, Any]:
    """Upload `script` and return a request that runs it."""
    known = process.credentials
    store = boto3.client(
        "s3",
        endpoint_url=known["s3_endpoint"],
        aws_access_key_id=known["s3_access_key"],
        aws_secret_access_key=known["s3_secret_key"],
        region_name="us-east-1",
        config=Config(request_checksum_calculation="when_required", response_checksum_validation="when_required"),
    )
    store.create_bucket(Bucket="work")
    store.put_object(Bucket="work", Key="code/train.py", Body=script.encode())
    return {
        "kind": "job",
        "metadata": {"name": "survivor"},
        "algorithm": {
            "engine": {"engine_name": "Scikit_Learn"},
            "code_dir": "/work/code/",
            "boot_file": "train.py",
            "outputs": [{"name": "train_url", "remote": {"obs": {"obs_url": "/work/out/"}}}],
        },
        "spec": {"resource": {"flavor_id": "local.small", "node_count": 1}},
    }


def phase(client: Client, job_id: str) -> str:
    return str(client.get(f"/v2/{{project_id}}/training-jobs/{job_id}")["status"]["phase"])


def told(process: PlatformProcess) -> list[str]:
    query = {"since": 0, "follow": False, "type": "training.job.>"}
    return [event["type"].split(".")[2] for event in process.client.lines("/v1/{project_id}/events", query)]


def test_running_job_goes_on_through_a_kill_of_the_platform(process: PlatformProcess) -> None:
    request = prepare(process, SLOW)
    job_id = process.client.post("/v2/{project_id}/training-jobs", request)["metadata"]["id"]
    wait_until(lambda: phase(process.client, job_id) == "Running", 60)
    process.kill()
    for go in (process.data_dir / "workloads").glob("*/work"):
        (go / "go").touch()
    process.start()
    wait_until(lambda: phase(process.client, job_id) in ("Completed", "Failed"), 120)
    job = process.client.get(f"/v2/{{project_id}}/training-jobs/{job_id}")
    assert job["status"]["phase"] == "Completed", job["status"]
    assert job["evaluation"]["accuracy"] == 1.0
    wait_until(lambda: "completed" in told(process), 30)
    assert told(process) == ["submitted", "started", "completed"]
    log = process.client.get(f"/v2/{{project_id}}/training-jobs/{job_id}/tasks/worker-0/logs/preview")["content"]
    assert log == "started\nfinished\n"


def test_job_accepted_just_before_a_kill_runs_once_after_it(process: PlatformProcess) -> None:
    script = SLOW.replace("while not os.path.exists(go):", "while False:")
    request = prepare(process, script)
    job_id = process.client.post("/v2/{project_id}/training-jobs", request)["metadata"]["id"]
    process.kill()
    process.start()
    wait_until(lambda: phase(process.client, job_id) in ("Completed", "Failed"), 120)
    assert phase(process.client, job_id) == "Completed"
    wait_until(lambda: "completed" in told(process), 30)
    assert told(process) == ["submitted", "started", "completed"]


ENGINES = """
from bottega.hookspecs import hookimpl
from bottega_training.engines import PythonEngine

class Broken(PythonEngine):
    def plan(self, script):
        raise RuntimeError("this engine cannot plan")

@hookimpl
def bottega_training_engines():
    return [PythonEngine("TensorFlow", "tensorflow-of-nobody", "tensorflow"), Broken("Broken", "pluggy", "broken")]
"""


@pytest.fixture
def with_engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningPlatform]:
    (tmp_path / "third_party_engines.py").write_text(ENGINES)
    monkeypatch.syspath_prepend(str(tmp_path))

    def plugins(settings: Settings) -> Plugins:
        names = ("training", "backend-local", "store-s3", "engine-scikit-learn")
        ours = [point for point in entry_points(group="bottega") if point.name in names]
        return Plugins(settings, [*ours, EntryPoint("engine-others", "third_party_engines", "bottega")])

    with RunningPlatform(tmp_path / "data", None, plugins) as running:
        yield running
    sys.modules.pop("third_party_engines", None)


def test_engines_of_another_plugin_appear_with_what_they_lack(with_engines: RunningPlatform) -> None:
    tenant = with_engines.tenant()
    bucket = tenant.create_bucket()
    tenant.objects.put(f"s3://{bucket}/code/train.py", b"print(1)")
    items = tenant.client.get("/v2/{project_id}/training-job-engines")["items"]
    offered = {e["engine_name"]: e for e in items}
    assert set(offered) == {"Broken", "Scikit_Learn", "TensorFlow"}
    assert not offered["TensorFlow"]["installed"]
    assert "pip install 'bottega[tensorflow]'" in offered["TensorFlow"]["reason"]

    def request(engine: str) -> dict[str, Any]:
        return {
            "kind": "job",
            "metadata": {"name": engine},
            "algorithm": {
                "engine": {"engine_name": engine},
                "code_dir": f"/{bucket}/code/",
                "boot_file": "train.py",
            },
            "spec": {"resource": {"flavor_id": "local.small"}},
        }

    with pytest.raises(ApiFailure, match="pip install"):
        tenant.client.post("/v2/{project_id}/training-jobs", request("TensorFlow"))
    job_id = tenant.client.post("/v2/{project_id}/training-jobs", request("Broken"))["metadata"]["id"]
    wait_until(lambda: phase(tenant.client, job_id) == "Failed")
    status = tenant.client.get(f"/v2/{{project_id}}/training-jobs/{job_id}")["status"]
    assert status["secondary_phase"] == "CreateFailed"
    assert "this engine cannot plan" in status["task_statuses"][0]["message"]
    told = tenant.events.wait("training.job.failed.v1", job_id=job_id)
    assert "this engine cannot plan" in told.data["reason"]
