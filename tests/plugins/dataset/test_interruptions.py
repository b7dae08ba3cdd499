"""The platform, or its object store, is killed in the middle of work: nothing is lost, nothing is done twice."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from bottega.testing import wait_until
from bottega.testing.process import PlatformProcess
from bottega_dataset.client import Datasets
from bottega_dataset.processing.client import Processing

SIZE = 40_000


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[PlatformProcess]:
    with PlatformProcess(tmp_path / "data") as started:
        yield started


@pytest.fixture
def manifest(platform: PlatformProcess) -> str:
    """Texts with five labels; one line is none. It is long enough for a process of its own to read it."""
    lines = [
        json.dumps(
            {
                "source": f"content://text {n} {'x' * 330}",
                "annotation": [{"type": "text_classification", "name": f"l{n % 5}"}],
            }
        )
        for n in range(SIZE)
    ]
    lines[500] = "not a line"
    objects = Datasets(platform.client).objects
    objects.create_bucket("a-bucket")
    objects.write("s3://a-bucket/long.manifest", "\n".join(lines).encode())
    return "s3://a-bucket/long.manifest"


def ended(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_killed_while_importing_and_while_publishing(platform: PlatformProcess, manifest: str) -> None:
    datasets = Datasets(platform.client)
    ident = datasets.create("texts", "s3://a-bucket/out/", dataset_type=100)["dataset_id"]
    where = f"/v2/{{project_id}}/datasets/{ident}"
    request = {"import_path": manifest, "import_type": "manifest"}
    task = platform.client.post(f"{where}/import-tasks", request)["task_id"]
    for reached in (2000, 15_000):
        wait_until(lambda n=reached: platform.client.get(f"{where}/import-tasks/{task}")["imported_sample_count"] > n)  # type: ignore[misc]
        beside = [p for p in psutil.Process(platform.pid).children() if any("parsing" in word for word in p.cmdline())]
        platform.kill()
        wait_until(lambda some=beside: all(map(ended, some)))  # type: ignore[misc]
        platform.start()
    done = datasets.wait_import("texts", task)
    assert (done["imported_sample_count"], done["known_sample_count"], done["problem_count"]) == (SIZE - 1, 0, 1)
    stats = datasets.statistics("texts")
    assert stats["sample_stats"]["total"] == SIZE - 1
    assert sum(label["sample_count"] for label in stats["label_stats"]) == SIZE - 1

    version = platform.client.post(f"{where}/versions", {"train_evaluate_sample_ratio": 0.8})["version_id"]
    platform.kill()
    platform.start()
    wait_until(lambda: platform.client.get(f"{where}/versions/{version}")["status"] == 1)
    (published,) = datasets.versions("texts")
    assert sum(1 for _ in datasets.read_manifest(published["manifest_path"])) == SIZE - 1

    export = {"path": "s3://a-bucket/exports/", "annotation_format": "label-studio"}
    task = platform.client.post(f"{where}/export-tasks", export)["task_id"]
    wait_until(lambda: platform.client.get(f"{where}/export-tasks/{task}")["total_sample_count"])
    platform.kill()
    platform.start()
    whole = wait_until(lambda: _ended(platform.client.get(f"{where}/export-tasks/{task}")))
    assert whole is not None
    assert (whole["status"], whole["finished_sample_count"], whole["total_sample_count"]) == (
        "SUCCESSED",
        SIZE - 1,
        SIZE - 1,
    )
    assert len(json.loads(datasets.objects.read(f"s3:/{whole['export_path']}tasks.json"))) == SIZE - 1
    keys = [o["key"].rpartition("/")[2] for o in datasets.objects.listing("s3://a-bucket/exports/")]
    assert [key.rpartition("-v")[0] or key for key in keys] == ["texts", "labeling_config.xml", "tasks.json"]


def _ended(task: dict[str, Any]) -> dict[str, Any] | None:
    return task if task["status"] not in ("INIT", "RUNNING") else None


def test_the_object_store_being_killed_only_delays(platform: PlatformProcess, manifest: str) -> None:
    datasets = Datasets(platform.client)
    ident = datasets.create("texts", "s3://a-bucket/out/", dataset_type=100)["dataset_id"]
    where = f"/v2/{{project_id}}/datasets/{ident}"
    request = {"import_path": manifest, "import_type": "manifest"}
    task = platform.client.post(f"{where}/import-tasks", request)["task_id"]
    killed = platform.child("rclone")
    killed.kill()
    assert datasets.wait_import("texts", task)["imported_sample_count"] == SIZE - 1
    version = platform.client.post(f"{where}/versions", {})["version_id"]
    platform.child("rclone", other_than=killed.pid).kill()
    wait_until(lambda: platform.client.get(f"{where}/versions/{version}")["status"] == 1)


def test_killed_while_processing(platform: PlatformProcess, manifest: str) -> None:
    """While the worker runs and while its result is taken in: the new dataset appears once, and whole."""
    datasets, processing = Datasets(platform.client), Processing(platform.client)
    datasets.create("texts", "s3://a-bucket/out/", dataset_type=100)
    datasets.import_from("texts", manifest, import_type="manifest", included_labels=[{"name": "l0"}])
    started = processing.start(
        "texts", "sys_data_selection", {"RandomSelection": {}}, new_dataset=("half", "s3://a-bucket/half/")
    )
    where = f"/v2/{{project_id}}/processor-tasks/{started['task_id']}/versions/{started['version_id']}"
    wait_until(lambda: platform.client.get(where)["status"] == 1, 60)
    platform.kill()
    platform.start()
    with sqlite3.connect(f"file:{platform.data_dir}/bottega.db?mode=ro", uri=True) as database:
        query = "SELECT step FROM dataset_processor_version"
        wait_until(lambda: database.execute(query).fetchone()[0] > 5, 120)
    assert platform.client.get(where)["status"] == 1
    assert "half" not in {one["dataset_name"] for one in datasets.list()}
    platform.kill()
    platform.start()
    done = processing.wait(started["task_id"], started["version_id"])
    count = SIZE // 5 - 1
    assert (done["origin_sample_count"], done["deleted_sample_count"]) == (count, count - count // 2 - 1)
    assert datasets.get("half")["total_sample_count"] == count // 2 + 1
    assert platform.client.get(where + "/results")["count"] == count
