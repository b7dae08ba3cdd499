"""The main job, as `make demo` runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from bottega.testing import PlatformProcess


def demo(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bottega", *arguments, "demo"],
        capture_output=True,
        text=True,
        timeout=900,
        env={**os.environ, "COLUMNS": "160", **environment},
    )


@pytest.mark.timeout(900)
def test_the_whole_job_runs_and_leaves_nothing_behind(tmp_path: Path) -> None:
    done = demo(TMPDIR=str(tmp_path))
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    for shown in (
        "1797 samples, 1597 labeled; version V001",
        "labels saved: 1",
        "an hour of it costs 0.40 CNY",
        "permissions are needed, none is missing",
        "confusion matrix",
        "ONNX int8",
        "answered by 180× 0.0.1, 20× 0.0.2",
        "1797 samples",
        "imported from",
        "CNY (exactly 0.0",
        "Someone who may not delete is refused",
        "createModelArtsTrainJob",
        "createAutoLabelingTask",
        "permissions are missing, such as",
        "obs:object:GetObject because the code is read from algorithm.code_dir",
        "Deny modelarts:*:*delete*",
    ):
        assert shown in done.stdout, f"{shown!r} is missing in:\n{done.stdout}"
    assert list(tmp_path.iterdir()) == []
    left = [p.info["cmdline"] for p in psutil.process_iter(["cmdline"]) if str(tmp_path) in str(p.info["cmdline"])]
    assert left == []


def test_a_failure_names_the_step_and_the_reason(tmp_path: Path) -> None:
    off = {"BOTTEGA__PLUGINS__DATASET__ENABLED": "false"}
    with PlatformProcess(tmp_path / "data", off) as platform:
        done = demo("--credentials", str(platform.data_dir / "credentials.json"))
    assert done.returncode == 1
    assert "step 3 failed (Make a dataset" in done.stderr
    assert "there is no such API" in done.stderr
    assert "Traceback" not in done.stderr
