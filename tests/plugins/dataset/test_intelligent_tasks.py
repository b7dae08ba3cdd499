"""The life of intelligent tasks: what is refused before they begin, stopping, crashes, the command line."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from bottega.cli_support import OPTIONS
from bottega.client import ApiFailure, Client
from bottega.testing import RecordedEvents, Tenant, wait_until
from bottega.testing.process import PlatformProcess
from bottega_dataset import commands
from bottega_dataset.client import Datasets
from bottega_dataset.intelligent.commands import add_to

FRUIT, TOOLS = ("apple", "pear", "plum", "fig"), ("hammer", "saw", "drill", "file")


def manifest(labeled: int, unlabeled: int) -> bytes:
    """Texts of two labels, `labeled` and `unlabeled` of each."""
    lines = []
    for number in range(labeled + unlabeled):
        for name, words in (("fruit", FRUIT), ("tool", TOOLS)):
            said: dict[str, Any] = {"source": f"content://{words[number % 4]} {words[number % 3]} {number}"}
            if number < labeled:
                said["annotation"] = [{"type": "text_classification", "name": name}]
            lines.append(json.dumps(said))
    return "\n".join(lines).encode()


@pytest.fixture
def texts(tenant: Tenant, datasets: Datasets, bucket: str) -> Callable[[str, int, int], str]:
    """Makes a dataset of so many labeled and unlabeled texts of each label, and gives its path in the API."""

    def make(name: str, labeled: int, unlabeled: int) -> str:
        tenant.objects.put(f"s3://{bucket}/{name}.manifest", manifest(labeled, unlabeled))
        ident = datasets.create(name, f"/{bucket}/{name}/", dataset_type=100)["dataset_id"]
        datasets.import_from(name, f"s3://{bucket}/{name}.manifest", import_type="manifest")
        return f"/v2/{{project_id}}/datasets/{ident}"

    return make


def refused(client: Client, path: str, body: Mapping[str, Any]) -> tuple[int, str]:
    with pytest.raises(ApiFailure) as failure:
        client.post(f"{path}/tasks", body)
    return failure.value.status, failure.value.message


def test_what_cannot_begin_says_why(
    tenant: Tenant, client: Client, stranger: Tenant, texts: Callable[..., str], datasets: Datasets, bucket: str
) -> None:
    few, done, ready = texts("few", 4, 3), texts("done", 5, 0), texts("ready", 5, 3)
    learn = {"task_type": "auto-label"}
    assert refused(client, few, learn) == (
        409,
        "learning needs at least 2 labels with 5 labeled samples each; the dataset has: fruit 4, tool 4",
    )
    assert refused(client, done, learn)[1] == "the dataset has no unlabeled samples; there is nothing to label"
    for body, words in (
        ({"task_type": "auto-label", "model_id": "m"}, "auto-label takes no model"),
        ({"task_type": "pre-label"}, "pre-label takes one model"),
        ({"task_type": "pre-label", "model_id": "m"}, "there is no model 'm' in this project"),
        ({"task_type": "pre-label", "config": {"model_name": "m", "model_version": "1"}}, "there is no model 'm 1'"),
        ({"task_type": "pre-label", "config": {"model_path": "nothing"}}, "config.model_path"),
        ({**learn, "config": {"confidence_scope": "0.9-0.1"}}, "confidence_scope '0.9-0.1'"),
        ({**learn, "config": {"flavor": {"code": "none.such"}}}, "flavor 'none.such'"),
        ({"task_type": "guess"}, "task_type"),
    ):
        status, message = refused(client, ready, body)
        assert status == 400, message
        assert words in message
    tenant.objects.put(f"s3://{bucket}/sounds/1.wav", b"RIFF")
    sounds = datasets.create("sounds", f"/{bucket}/heard/", dataset_type=201, data_path=f"s3://{bucket}/sounds/")
    datasets.wait_import("sounds", sounds["import_task_id"])
    assert refused(client, f"/v2/{{project_id}}/datasets/{sounds['dataset_id']}", learn) == (
        409,
        "learning needs at least 5 labeled samples; the dataset has 0",
    )
    free = datasets.create("free", f"/{bucket}/free/", dataset_type=900)["dataset_id"]
    path = f"/v2/{{project_id}}/datasets/{free}"
    assert "there is no learner for free" in refused(client, path, learn)[1]
    assert refused(client, path, {"task_type": "auto-grouping"})[0] in (400, 409)
    assert refused(stranger.client, ready.replace("{project_id}", tenant.project_id), learn)[0] == 403
    allowed = {"Version": "1.1", "Statement": [{"Effect": "Allow", "Action": ["modelarts:dataset:list*"]}]}
    assert refused(tenant.user([allowed]).client, ready, learn)[0] == 403
    assert client.get(f"{ready}/tasks") == {"total_count": 0, "tasks": [], "exist_running_deploy_task": False}


def test_one_at_a_time_stopped_and_gone_with_the_dataset(
    tenant: Tenant, client: Client, texts: Callable[..., str], datasets: Datasets, events: RecordedEvents
) -> None:
    path = texts("things", 5, 20)
    task = client.post(f"{path}/tasks", {"task_type": "auto-label", "config": {"name": "first"}})["task_id"]
    assert task in refused(client, path, {"task_type": "auto-grouping"})[1]
    assert client.get(path)["exist_running_task"]
    client.post(f"{path}/tasks/{task}/stop")
    wait_until(lambda: client.get(f"{path}/tasks/{task}")["status"] == 5)
    assert events.wait("dataset.task.finished.v1", task_id=task).data["state"] == "stopped"
    with pytest.raises(ApiFailure, match="has ended"):
        client.post(f"{path}/tasks/{task}/stop")
    assert client.get(f"{path}/auto-annotations/samples")["sample_count"] == 0
    assert client.get(f"{path}/tasks", {"task_name": "irs"})["total_count"] == 1

    def recorded() -> bool:
        rows = client.get("/v3/{project_id}/traces", {"limit": 200})["traces"]
        # A refused call is recorded, too: the grouping of above.
        return {"createAutoLabelingTask", "createAutoGroupingTask", "stopTask"} <= {row["trace_name"] for row in rows}

    wait_until(recorded)

    task = client.post(f"{path}/tasks", {"task_type": "auto-label"})["task_id"]
    wait_until(lambda: client.get(f"{path}/tasks/{task}")["status"] == 1)
    datasets.delete("things")
    finished = events.wait("dataset.task.finished.v1", task_id=task)
    assert (finished.data["state"], finished.data["error_msg"]) == ("failed", "the dataset was deleted")
    events.wait("core.workload.finished.v1", state="stopped")


@pytest.mark.timeout(180)
def test_a_killed_platform_finds_its_task_again(tmp_path: Path) -> None:
    with PlatformProcess(tmp_path / "data") as platform:
        datasets = Datasets(platform.client)
        datasets.objects.create_bucket("a-bucket")
        datasets.objects.write("s3://a-bucket/texts.manifest", manifest(6, 300))
        ident = datasets.create("texts", "s3://a-bucket/out/", dataset_type=100)["dataset_id"]
        datasets.import_from("texts", "s3://a-bucket/texts.manifest", import_type="manifest")
        path = f"/v2/{{project_id}}/datasets/{ident}"
        task = platform.client.post(f"{path}/tasks", {"task_type": "auto-label"})["task_id"]
        wait_until(lambda: platform.client.get(f"{path}/tasks/{task}")["status"] == 1)
        platform.kill()
        platform.start()
        assert datasets.wait_intelligent("texts", task)["annotated_sample_count"] == 600
        assert sum(1 for _ in datasets.suggestions("texts")) == 600


def test_from_the_command_line(tenant: Tenant, tmp_path: Path, texts: Callable[..., str], datasets: Datasets) -> None:
    texts("things", 5, 10)
    app = typer.Typer()
    add_to(commands.datasets)
    app.add_typer(commands.datasets, name="datasets")
    file = tmp_path / "credentials.json"
    keys = {"access_key": tenant.access_key, "secret_key": tenant.secret_key}
    file.write_text(json.dumps({"url": tenant.running.url, "project_id": tenant.project_id, **keys}))

    def run(*words: str) -> str:
        done = CliRunner().invoke(app, ["datasets", *words])
        assert done.exit_code == 0, done.output
        return done.output

    OPTIONS.credentials = file
    try:
        assert "20 samples have suggestions" in run("auto-label", "things", "--fast")
        OPTIONS.as_json = True
        shown = json.loads(run("suggestions", "things", "--sort", "learning", "-n", "3"))
        assert [one["learning_rank"] for one in shown] == [1, 2, 3]
        corrected = shown[0]["sample_id"]
        answer = json.loads(run("confirm", "things", corrected, "--label", "toy"))
        assert answer["corrected_sample_count"] == 1
        assert json.loads(run("confirm", "things", "--above", "0.99999"))["confirmed_sample_count"] == 0
        OPTIONS.as_json = False
        assert "1 suggestions discarded" in run("discard", "things", shown[1]["sample_id"])
        assert "18 samples are labeled now" in run("confirm", "things", "--all")
        assert "auto-label" in run("tasks", "things")
    finally:
        OPTIONS.credentials, OPTIONS.as_json = None, False
    assert datasets.statistics("things")["sample_stats"]["un_annotation"] == 1
