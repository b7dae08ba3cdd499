"""What every serving runtime must do. Subclass it in your tests::

class TestXGBoost(RuntimeContract):
    model_type = "XGBoost"
    rows, answers = [[0.0, 1.0], [1.0, 0.0]], [0.25, 0.75]

    def model(self) -> Mapping[str, bytes]:
        return {"model.ubj": ...}
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest

from bottega.client import ApiFailure, SigningAuth
from bottega.testing.running import RunningPlatform, Tenant, wait_until
from bottega_serving.inference.session import Field, LoadFailure, Session
from bottega_serving.runtimes import Runtime

_MODELS = "/v1/{project_id}/models"
_SERVICES = "/v1/{project_id}/services"
_FRESH = """
import sys
from importlib import import_module
import_module(sys.argv[1]).bottega_serving_runtimes()
print(sys.argv[2] in sys.modules)
"""


class RuntimeContract:
    """Tests of `Runtime` and of the sessions it loads, on the platform of ``running``, where its plugin must be on.

    The model of the test has one input, `input_name`, of float32 rows. For two or more `rows` its first output holds
    `answers`, an entry for each row (nested as the output is).
    """

    model_type: str
    input_name: str = "input"
    rows: ClassVar[Sequence[Sequence[float]]]
    answers: ClassVar[Sequence[Any]]
    tolerance: float = 1e-4
    timeout_s: float = 90

    def model(self) -> Mapping[str, bytes]:
        """The files of ``model/``, without ``config.json`` and user code."""
        raise NotImplementedError("a subclass gives a model")

    def config(self) -> dict[str, Any]:
        """``config.json`` of the package."""
        body = {"Content-type": "application/json", "data": {"type": "object"}}
        api = {"protocol": "http", "url": "/", "method": "post", "request": body, "response": body}
        return {"model_algorithm": "predict_analysis", "model_type": self.model_type, "apis": [api]}

    def runtime(self, running: RunningPlatform) -> Runtime:
        return self._brought(running)[1]

    def load(self, running: RunningPlatform, folder: Path, model: Mapping[str, bytes]) -> Session:
        module, _, function = self.runtime(running).loader.partition(":")
        for name, data in model.items():
            (folder / name).write_bytes(data)
        session: Session = getattr(import_module(module), function)(folder, self.config())
        return session

    def test_it_describes_itself(self, running: RunningPlatform, tenant: Tenant) -> None:
        runtime = self.runtime(running)
        assert re.fullmatch(r"[a-z0-9][a-z0-9._-]*", runtime.name), f"name '{runtime.name}'"
        assert self.model_type in runtime.model_types
        assert not isinstance(runtime.suffixes, str), "suffixes are several texts, not one"
        assert runtime.suffixes, "it takes no file"
        assert [s for s in runtime.suffixes if not s.startswith(".")] == [], "suffixes come with their dot"
        assert any(name.endswith(runtime.suffixes) for name in self.model()), "the test's model is no file it takes"
        assert re.fullmatch(r"[\w.]+:\w+", runtime.loader), f"loader '{runtime.loader}' is not module:function"
        listed = tenant.client.get(f"{_MODELS}/ai-engine-runtimes")["engine_runtimes"]
        shown = [row["runtimes"] for row in listed if row["ai_engine"] == self.model_type]
        assert shown == [list(runtime.versions)], "each model type has one runtime"

    def test_its_loader_is_imported_only_where_models_are_loaded(self, running: RunningPlatform) -> None:
        plugin, runtime = self._brought(running)
        ran = subprocess.run(
            [sys.executable, "-c", _FRESH, plugin, runtime.loader.partition(":")[0]],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout.strip() == "False", "the plugin imports its loader when it is only described"

    def test_a_session_gives_each_row_its_answer(self, running: RunningPlatform, tmp_path: Path) -> None:
        import numpy as np

        session = self.load(running, tmp_path, self.model())
        (field,) = session.inputs
        assert isinstance(field, Field)
        assert (field.name, field.dtype) == (self.input_name, "float32")
        rows = np.asarray(self.rows, np.float32)
        assert len(rows) >= 2
        assert field.shape is None or all(s in (None, n) for s, n in zip(field.shape, rows.shape, strict=True))

        def answers(part: Any) -> list[Any]:
            outputs = session.run({field.name: part})
            assert [name for name in outputs if not isinstance(name, str)] == []
            return list(next(iter(outputs.values())))

        def check(found: list[Any], wanted: Sequence[Any]) -> None:
            assert np.allclose(np.asarray(found), np.asarray(wanted), atol=self.tolerance), "the answers are others"

        before = rows.copy()
        check(answers(rows), self.answers)
        assert (rows == before).all(), "a run changed what it was given"
        if session.batches:
            for index in range(len(rows)):
                check(answers(rows[index : index + 1]), self.answers[index : index + 1])
            check(answers(np.concatenate([rows] * 5)), [*self.answers] * 5)
        with ThreadPoolExecutor(4) as threads:
            for found in threads.map(answers, [rows] * 40):
                check(found, self.answers)

    def test_what_cannot_be_loaded_is_said(self, running: RunningPlatform, tmp_path: Path) -> None:
        empty, broken = tmp_path / "empty", tmp_path / "broken"
        empty.mkdir()
        broken.mkdir()
        with pytest.raises(LoadFailure, match=r"\S"):
            self.load(running, empty, {})
        names = "|".join(map(re.escape, self.model()))
        with pytest.raises(LoadFailure, match=names):
            self.load(running, broken, dict.fromkeys(self.model(), b"no model at all"))

    def test_a_package_without_its_file_is_refused(self, tenant: Tenant, bucket: str) -> None:
        with pytest.raises(ApiFailure, match=re.escape(self.runtime(tenant.running).suffixes[0])) as refused:
            self._import(tenant, bucket, {"other.bin": b"x"})
        assert refused.value.status == 400

    def test_a_service_answers(self, tenant: Tenant, bucket: str) -> None:
        import numpy as np

        service = self._deployed(tenant, self._import(tenant, bucket, self.model()))
        assert service["status"] == "running", service["error_msg"]
        auth = SigningAuth(tenant.access_key, tenant.secret_key)
        body = {self.input_name: self.rows}
        answer = httpx.post(service["access_address"], json=body, auth=auth, timeout=60)
        tenant.client.delete(f"{_SERVICES}/{service['service_id']}")
        assert answer.status_code == 200, answer.text
        found = np.asarray(next(iter(answer.json().values())))
        assert np.allclose(found, np.asarray(self.answers), atol=self.tolerance), "the answers are others"

    def test_a_service_of_what_cannot_be_loaded_says_why(self, tenant: Tenant, bucket: str) -> None:
        broken = dict.fromkeys(self.model(), b"no model at all")
        service = self._deployed(tenant, self._import(tenant, bucket, broken))
        tenant.client.delete(f"{_SERVICES}/{service['service_id']}")
        assert service["status"] == "failed"
        assert any(name in service["error_msg"] for name in broken), f"'{service['error_msg']}' names no file"

    def _brought(self, running: RunningPlatform) -> tuple[str, Runtime]:
        """The module of the plugin that brings the runtime, and the runtime."""
        found = [
            (plugin.module.__name__, runtime)
            for plugin, runtime in running.runtime.plugins.collect("bottega_serving_runtimes", lambda _: {})
            if plugin.module and self.model_type in runtime.model_types
        ]
        assert len(found) == 1, f"{len(found)} plugins bring a runtime for {self.model_type}"
        return found[0]

    def _import(self, tenant: Tenant, bucket: str, model: Mapping[str, bytes]) -> str:
        """Import a package and return the id of the published model."""
        folder = f"s3://{bucket}/package/"
        config = json.dumps(self.config()).encode()
        tenant.objects.put_many({f"{folder}model/{n}": data for n, data in {**model, "config.json": config}.items()})
        body = {"model_name": "probe", "model_version": "1.0.0", "source_location": folder}
        id = str(tenant.client.post(_MODELS, body)["model_id"])
        shown = self._settled(tenant, f"{_MODELS}/{id}", "model_status", ("publishing",))
        assert shown["model_status"] == "published", shown["error_msg"]
        return id

    def _deployed(self, tenant: Tenant, model_id: str) -> dict[str, Any]:
        """Deploy a model and return the service when it runs or has failed."""
        offered = tenant.client.get(f"{_SERVICES}/specifications")["specifications"]
        one = {"model_id": model_id, "weight": 100, "specification": offered[0]["specification"], "instance_count": 1}
        body = {"service_name": "probe", "infer_type": "real-time", "config": [one]}
        id = tenant.client.post(_SERVICES, body)["service_id"]
        return self._settled(tenant, f"{_SERVICES}/{id}", "status", ("deploying",))

    def _settled(self, tenant: Tenant, path: str, field: str, meanwhile: Sequence[str]) -> dict[str, Any]:
        def found() -> dict[str, Any] | None:
            shown: dict[str, Any] = tenant.client.get(path)
            return None if shown[field] in meanwhile else shown

        shown = wait_until(found, self.timeout_s)
        assert shown is not None
        return shown
