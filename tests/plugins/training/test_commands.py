"""``bottega jobs …`` as a script uses it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bottega.entities import Resource
from bottega.testing import RunningPlatform, Tenant

Run = Callable[..., subprocess.CompletedProcess[str]]

SCRIPT = """
import json, sys, time
arguments = dict(a.lstrip("-").split("=", 1) for a in sys.argv[1:])
for i in range(3):
    print("line", i, flush=True)
    time.sleep(0.2)
out = arguments["train_url"]
open(out + "metrics.jsonl", "w").write(json.dumps({"step": 1, "loss": 0.5}) + chr(10))
json.dump({"y_true": ["a", "b"], "y_pred": ["a", "a"]}, open(out + "evaluation.json", "w"))
sys.exit(int(arguments.get("code", 0)))
"""


@pytest.fixture
def bottega(tenant: Tenant, tmp_path: Path) -> Run:
    known = {
        "url": tenant.running.url,
        "project_id": tenant.project_id,
        "access_key": tenant.access_key,
        "secret_key": tenant.secret_key,
    }
    file = tmp_path / "credentials.json"
    file.write_text(json.dumps(known))

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "BOTTEGA_CREDENTIALS": str(file), "COLUMNS": "80"}
        return subprocess.run(
            [sys.executable, "-m", "bottega", *arguments], capture_output=True, text=True, timeout=120, env=environment
        )

    return run


def create(trainer: Any, bottega: Run, name: str, *more: str) -> subprocess.CompletedProcess[str]:
    options = {
        "--name": name,
        "--engine": trainer.scikit_learn,
        "--code": f"s3://{trainer.bucket}/code/",
        "--boot": "train.py",
        "--flavor": trainer.flavor,
        "--output": f"train_url=s3://{trainer.bucket}/out/",
    }
    return bottega("jobs", "create", *(part for pair in options.items() for part in pair), *more)


def test_create_follow_and_look_at_a_job(trainer: Any, bottega: Run, tenant: Tenant) -> None:
    trainer.upload(SCRIPT)
    topic = ("--notify", f"urn:smn:local-1:{tenant.project_id}:ops")
    misspelled = create(trainer, bottega, "never", *topic, "--notify-on", "OnJobDone")
    assert (misspelled.returncode, "spec.notification.events" in misspelled.stderr) == (1, True), misspelled.stderr
    done = create(trainer, bottega, "by-hand", "--follow", *topic, "--notify-on", "OnJobSucceeded")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "line 0\n" in done.stdout
    assert "line 2\n" in done.stdout
    assert "Completed" in done.stdout

    shown = bottega("--json", "jobs", "show", "by-hand")
    assert json.loads(shown.stdout)["status"]["phase"] == "Completed"
    fields = bottega("jobs", "show", "by-hand").stdout
    assert f"s3://{trainer.bucket}/out/" in fields
    assert "{" not in fields
    assert "by-hand" in bottega("jobs", "list", "--phase", "Completed").stdout
    assert bottega("jobs", "logs", "by-hand").stdout == "line 0\nline 1\nline 2\n"
    assert "0.5" in bottega("jobs", "evaluation", "by-hand").stdout
    measured = json.loads(bottega("--json", "jobs", "metrics", "by-hand").stdout)
    assert measured["scalars"] == [{"name": "loss", "points": [[1, 0.5]]}]
    assert "0.5" in bottega("jobs", "metrics", "by-hand").stdout
    (told,) = tenant.events.all("core.notification.requested.v1")
    assert (told.data["topic_urn"], told.data["subject"]) == (topic[1], "JobCompleted: by-hand")
    assert bottega("jobs", "delete", "by-hand").returncode == 0
    assert bottega("jobs", "show", "by-hand").returncode == 1


def test_exit_codes_tell_how_a_job_went(trainer: Any, bottega: Run) -> None:
    trainer.upload(SCRIPT)
    failed = create(trainer, bottega, "fails", "--follow", "--param", "code=3")
    assert failed.returncode == 1
    assert "exit code 3" in failed.stdout
    refused = create(trainer, bottega, "not a name")
    assert refused.returncode == 1
    assert "metadata.name" in refused.stderr
    assert bottega("jobs", "create", "--name", "x").returncode == 2
    assert bottega("jobs", "stop", "fails").returncode == 1


def test_names_stand_for_ids(
    trainer: Any, bottega: Run, running: RunningPlatform, tenant: Tenant, tmp_path: Path
) -> None:
    tenant.objects.put(f"s3://{trainer.bucket}/v1/V001.manifest", b"")

    async def register() -> Resource:
        platform = running.platform("dataset")
        async with platform.database.transaction() as tx:
            return await platform.resources.create(
                tx,
                kind="version",
                project_id=tenant.project_id,
                owner_id="nobody",
                name="pets/V001",
                unique_name=False,
                properties={"manifest_path": f"s3://{trainer.bucket}/v1/V001.manifest", "dataset_id": "d1"},
            )

    version = running.run(register())
    trainer.upload("")
    made = create(trainer, bottega, "by-names", "--engine", "scikit-learn", "--data", "data_url=pets/V001")
    assert made.returncode == 0, made.stderr
    job = json.loads(bottega("--json", "jobs", "show", "by-names").stdout)
    assert job["algorithm"]["engine"]["engine_id"] == trainer.scikit_learn
    dataset = job["algorithm"]["inputs"][0]["remote"]["dataset"]
    assert (dataset["id"], dataset["version_id"]) == ("d1", version.id)
    assert create(trainer, bottega, "no-version", "--data", "data_url=pets").returncode == 2


def test_files_that_cannot_be_used_are_named(bottega: Run, tmp_path: Path) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text("{")
    for arguments, told in (
        (("jobs", "create", "--file", str(tmp_path / "missing.json")), "cannot read"),
        (("jobs", "create", "--file", str(bad)), "is not JSON"),
        (("jobs", "example", "iris_sklearn", str(bad)), "name a folder"),
    ):
        done = bottega(*arguments)
        assert done.returncode == 2
        assert told in " ".join(done.stderr.replace("│", " ").split())
        assert "Traceback" not in done.stderr


def test_engines_and_flavors_are_listed(bottega: Run, trainer: Any) -> None:
    assert trainer.pytorch in bottega("jobs", "engines").stdout
    assert trainer.flavor in bottega("jobs", "flavors").stdout
