"""``bottega models`` and ``bottega services`` as a person runs them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import typer
from typer.testing import CliRunner

from bottega.cli import options
from bottega.client import ApiFailure
from bottega.testing import Tenant
from bottega_serving import commands


def test_import_deploy_predict_stop_delete(server: Any, tenant: Tenant, tmp_path: Path) -> None:
    credentials = tmp_path / "credentials.json"
    known = {"url": tenant.running.url, "project_id": tenant.project_id}
    credentials.write_text(json.dumps({**known, "access_key": tenant.access_key, "secret_key": tenant.secret_key}))
    app = typer.Typer()
    app.callback()(options)
    commands.add_to(app)

    def bottega(*arguments: str) -> Any:
        done = CliRunner().invoke(app, ["--credentials", str(credentials), "--json", *arguments])
        if isinstance(done.exception, ApiFailure):
            return done.exception.message
        assert done.exit_code == ("does not run" in done.output), done.output
        return json.loads(done.stdout) if done.stdout.startswith(("{", "[")) else done.output

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
