"""``bottega models`` and ``bottega services`` as a person runs them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from bottega.cli import options
from bottega.client import ApiFailure
from bottega.testing import Tenant, wait_until
from bottega_serving import commands


@pytest.fixture
def run(tenant: Tenant, tmp_path: Path) -> Callable[..., Result]:
    """Runs a command line as the tenant, on a terminal of 80 columns."""
    credentials = tmp_path / "credentials.json"
    known = {"url": tenant.running.url, "project_id": tenant.project_id}
    credentials.write_text(json.dumps({**known, "access_key": tenant.access_key, "secret_key": tenant.secret_key}))
    app = typer.Typer()
    app.callback()(options)
    commands.add_to(app)
    runner = CliRunner(env={"COLUMNS": "80"})
    return lambda *arguments: runner.invoke(app, ["--credentials", str(credentials), *arguments])


@pytest.fixture
def bottega(run: Callable[..., Result]) -> Callable[..., Any]:
    """What a command prints with ``--json``, or the platform's refusal."""

    def ask(*arguments: str) -> Any:
        done = run("--json", *arguments)
        if isinstance(done.exception, ApiFailure):
            return done.exception.message
        assert done.exit_code == ("does not run" in done.output), done.output
        return json.loads(done.stdout) if done.stdout.startswith(("{", "[")) else done.output

    return ask


def test_import_deploy_predict_stop_delete(server: Any, bottega: Callable[..., Any], tmp_path: Path) -> None:
    location = server.put("package", {"config.json": server.config_json(), "m.onnx": server.linear_onnx([[2.0]])})
    model = bottega("models", "import", "linear", location, "--version", "1.0.0")
    assert model["model_status"] == "published"
    assert bottega("models", "list")[0]["model_id"] == model["model_id"]
    assert "no folder 'model'" in bottega("models", "import", "other", location + "nothing/")

    service = bottega("services", "create", "doubler", "--model", model["model_id"])
    id = service["service_id"]
    assert service["status"] == "running"
    assert bottega("services", "predict", id, "--data", '{"input": [[4]]}') == {"output": [[8.0]]}
    request = tmp_path / "request.json"
    request.write_text('{"input": [[5]]}')
    assert bottega("services", "predict", id, "--data", f"@{request}") == {"output": [[10.0]]}
    assert "missing" in bottega("services", "predict", id, "--data", "{}")
    shown = bottega("services", "list", "--status", "running")
    assert [row["service_name"] for row in shown] == ["doubler"]
    assert "version.loaded" in bottega("services", "logs", id)
    assert bottega("services", "stop", id)["status"] == "stopped"
    assert "does not run" in bottega("services", "predict", id)
    assert bottega("services", "start", id)["status"] == "running"
    bottega("services", "delete", id)
    gone = bottega("models", "delete", model["model_id"])
    assert gone["delete_success_list"] == [model["model_id"]]


def test_names_stand_for_ids(server: Any, run: Callable[..., Result]) -> None:
    first, second = server.linear(2.0, "1.0.0"), server.linear(3.0, "2.0.0")
    ambiguous = run("models", "show", "linear")
    assert ambiguous.exit_code == 2
    assert "1.0.0, 2.0.0" in ambiguous.output
    assert "has no version 3.0.0" in run("models", "show", "linear:3.0.0").output
    assert second in run("models", "show", "linear:2.0.0").stdout
    assert first in run("models", "list").stdout  # whole, at 80 columns

    done = run("services", "create", "tripler", "--model", "linear:2.0.0")
    assert done.exit_code == 0, done.output
    assert "/v1/infers/" in done.stdout
    shown = run("services", "show", "tripler").stdout
    assert "tripler" in shown
    assert "2.0.0" in shown
    assert "{" not in shown
    assert "12.0" in run("services", "predict", "tripler", "--data", '{"input": [[4]]}').stdout
    for option in (("--data", "@no-such-file"), ("--file", "images=@no-such-file")):
        missing = run("services", "predict", "tripler", *option)
        assert missing.exit_code == 2
        assert "no-such-file" in missing.output
    assert run("services", "delete", "tripler").exit_code == 0
    run("models", "delete", "linear:1.0.0")
    assert second in run("models", "show", "linear").stdout


def test_import_of_a_job_by_name_says_when_nothing_serves_it(server: Any, run: Callable[..., Result]) -> None:
    config = json.dumps(server.config_json("Scikit_Learn"))
    script = f"""
import pathlib, sys
folder = pathlib.Path(sys.argv[1].partition("=")[2]) / "model"
folder.mkdir()
(folder / "config.json").write_text({config!r})
(folder / "model.joblib").write_bytes(b"a model")
"""
    server.tenant.objects.put(f"s3://{server.bucket}/code/train.py", script.encode())
    jobs = "/v2/{project_id}/training-jobs"
    job = {
        "kind": "job",
        "metadata": {"name": "iris"},
        "algorithm": {
            "engine": {"engine_name": "Scikit_Learn"},
            "code_dir": f"s3://{server.bucket}/code/",
            "boot_file": "train.py",
            "outputs": [{"name": "train_url", "remote": {"obs": {"obs_url": f"s3://{server.bucket}/out/"}}}],
        },
        "spec": {"resource": {"flavor_id": server.specification, "node_count": 1}},
    }
    id = server.client.post(jobs, job)["metadata"]["id"]
    wait_until(lambda: server.client.get(f"{jobs}/{id}")["status"]["phase"] == "Completed", 60)
    done = run("models", "import", "iris", "--job", "iris")
    assert done.exit_code == 0, done.output
    assert "no runtime that is on serves Scikit_Learn" in done.stdout
