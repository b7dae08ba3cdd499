"""``bottega conversions`` as a person runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from bottega.testing import Tenant


def bottega(credentials: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from bottega.cli import main; main()", "--credentials", str(credentials), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_create_show_logs_list_delete(tenant: Tenant, bucket: str, digits: Any, tmp_path: Path) -> None:
    credentials = tmp_path / "credentials.json"
    known = {"url": tenant.running.url, "project_id": tenant.project_id}
    credentials.write_text(json.dumps({**known, "access_key": tenant.access_key, "secret_key": tenant.secret_key}))
    tenant.objects.put(f"s3://{bucket}/job/model/model.pt", digits.script)
    paths = ("--input", f"s3://{bucket}/job/", "--output", f"s3://{bucket}/onnx/")
    create = ("conversions", "create", "digits", "--template", "converter-pytorch-onnx", *paths)
    made = bottega(credentials, "--json", *create, "-o", "input_shape=[1,8,8]", "-o", "opset=18", "--wait")
    assert made.returncode == 0, made.stderr
    task = json.loads(made.stdout)
    assert task["status"] == "SUCCESS"
    assert task["options"] == {"input_shape": [1, 8, 8], "opset": 18}

    shown = bottega(credentials, "conversions", "show", "digits")
    assert "latency p95" in shown.stdout
    assert "accepted" in bottega(credentials, "conversions", "logs", "-f", "digits").stdout
    listed = json.loads(bottega(credentials, "--json", "conversions", "list", "--status", "SUCCESS").stdout)
    assert [row["id"] for row in listed] == [task["id"]]
    assert task["id"] in bottega(credentials, "conversions", "list").stdout
    assert "no dataset version" in bottega(credentials, *create, "--dataset-version", "pets/V9").stderr
    again = bottega(credentials, *create)
    assert again.returncode == 1
    assert "not empty" in again.stderr
    assert bottega(credentials, "conversions", "delete", "digits").returncode == 0
    assert json.loads(bottega(credentials, "--json", "conversions", "list").stdout) == []
