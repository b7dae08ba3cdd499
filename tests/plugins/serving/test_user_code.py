"""Packages with user code and PyTorch models: in processes of their own, as the guide's examples are (002 §12.3)."""

from __future__ import annotations

import io
import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from bottega.client import ApiFailure
from bottega.testing import wait_until

SERVICES = "/v1/{project_id}/services"

MNIST_SERVICE = """
from PIL import Image
import numpy as np
from model_service.tfserving_model_service import TfServingBaseService

class mnist_service(TfServingBaseService):

    def _preprocess(self, data):
        preprocessed_data = {}

        for k, v in data.items():
            for file_name, file_content in v.items():
                image1 = Image.open(file_content)
                image1 = np.array(image1, dtype=np.float32)
                image1.resize((1, 784))
                preprocessed_data[k] = image1

        return preprocessed_data

    def _postprocess(self, data):
        infer_output = {}
        for output_name, result in data.items():
            infer_output["mnist_result"] = result[0].index(max(result[0]))
        return infer_output
"""
"""The guide's example of 002 §12.3, its indentation as it must have been before it was printed."""

TORCH_SERVICE = """
from PIL import Image
import json
import os
import numpy as np
import torch
import torch.nn as nn
from network import Net
from model_service.pytorch_model_service import PTServingBaseService

class PTVisionService(PTServingBaseService):

    def __init__(self, model_name, model_path):
        super(PTVisionService, self).__init__(model_name, model_path)
        self.model = Net()
        self.model.load_state_dict(torch.load(model_path, map_location="cpu"))
        self.model.eval()
        with open(os.path.join(self.model_path, "labels.json")) as file:
            self.label = json.load(file)

    def _preprocess(self, data):
        preprocessed_data = {}
        for k, v in data.items():
            input_batch = []
            for file_name, file_content in v.items():
                with Image.open(file_content) as image1:
                    image1 = torch.tensor(np.asarray(image1, np.float32))
                    input_batch.append(image1.reshape(-1))
            preprocessed_data[k] = torch.stack(input_batch, dim=0)
        return preprocessed_data

    def _inference(self, data):
        result = {}
        for k, v in data.items():
            result[k] = self.model(v)
        return result

    def _postprocess(self, data):
        results = []
        for k, v in data.items():
            results.append({k: self.label[torch.argmax(v[0])], "scores": v[0]})
        return results
"""

NETWORK = """
import torch.nn as nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4, bias=False)

    def forward(self, x):
        return self.layer(x)
"""

RAISES = """
from model_service.pytorch_model_service import PTServingBaseService

class Service(PTServingBaseService):
    def __init__(self, model_name, model_path):
        raise RuntimeError("no weights")
"""

PROBE = """
import json, os, subprocess, time
from pathlib import Path
from model_service.pytorch_model_service import PTServingBaseService

class Probe(PTServingBaseService):
    def _inference(self, data):
        return data

    def _postprocess(self, data):
        what = data["do"]
        if what == "environment":
            return dict(os.environ)
        if what == "pid":
            return {"pid": os.getpid()}
        if what == "die":
            if data["only_once"] and Path("died").exists():
                return {"survived": True}
            Path("died").write_text("")
            os._exit(3)
        if what == "sleep":
            time.sleep(data["seconds"])
            return {}
        if what == "raise":
            raise ValueError("this is wrong")
        if what == "read":
            try:
                return {"content": Path(data["path"]).read_bytes().decode("latin-1")}
            except OSError as e:
                return {"refused": type(e).__name__}
        if what == "write":
            Path("note").write_text("mine")
            return {"content": Path("note").read_text()}
"""


def saved(module: torch.nn.Module, kind: str) -> bytes:
    out = io.BytesIO()
    if kind == "state":
        torch.save(module.state_dict(), out)
    elif kind == "script":
        torch.jit.save(torch.jit.script(module), out)
    else:
        rows = torch.export.Dim("rows")
        program = torch.export.export(module, (torch.ones(2, 4),), dynamic_shapes=({0: rows},))
        torch.export.save(program, out)
    return out.getvalue()


def diagonal(values: list[float]) -> torch.nn.Linear:
    layer = torch.nn.Linear(4, 4, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.diag(torch.tensor(values)))
    return layer


def files(picture: bytes) -> dict[str, Any]:
    return {"images": ("test.jpg", picture, "image/png")}


def test_the_guide_s_mnist_service_runs_as_printed(server: Any) -> None:
    identity = [[1.0 if column == row else 0.0 for column in range(10)] for row in range(784)]
    config = server.config_json()
    config["apis"][0]["request"] = {
        "Content-type": "multipart/form-data",
        "data": {"type": "object", "properties": {"images": {"type": "file"}}},
    }
    model = {"config.json": config, "mnist.onnx": server.linear_onnx(identity), "customize_service.py": MNIST_SERVICE}
    call = server.deploy(server.model(model))
    pixels = [[0] * 28 for _ in range(28)]
    pixels[0][7] = 255
    assert call(files=files(server.png(pixels))) == {"mnist_result": 7}


def test_a_state_dict_with_the_user_s_own_network(server: Any) -> None:
    weights = {"layer.weight": torch.diag(torch.tensor([1.0, 2.0, 3.0, 4.0]))}
    out = io.BytesIO()
    torch.save(weights, out)
    package = {
        "config.json": server.config_json("PyTorch"),
        "resnet50.pth": out.getvalue(),
        "customize_service.py": TORCH_SERVICE,
        "network.py": NETWORK,
        "labels.json": '["a", "b", "c", "d"]',
    }
    call = server.deploy(server.model(package))
    assert call(files=files(server.png([[1, 1], [1, 1]]))) == [{"images": "d", "scores": [1.0, 2.0, 3.0, 4.0]}]


def test_torch_models_without_code(server: Any) -> None:
    script = {"config.json": server.config_json("PyTorch"), "model.pt": saved(diagonal([1, 2, 3, 4]), "script")}
    export = {"config.json": server.config_json("PyTorch"), "model.pt2": saved(diagonal([1, 2, 3, 4]), "export")}
    call = server.deploy((server.model(script), 50), (server.model(export, version="2.0.0"), 50))
    answers = [call.post({"input": [[1, 1, 1, 1]] * rows}) for rows in (1, 1, 2, 2)]
    assert {a.headers["x-model-version"] for a in answers} == {"1.0.0", "2.0.0"}
    for answer, rows in zip(answers, (1, 1, 2, 2), strict=True):
        assert answer.json() == {"output": [[1.0, 2.0, 3.0, 4.0]] * rows}
    assert {call.post({"input": "x"}).status_code for _ in range(2)} == {400}
    # TorchScript does not say which shapes it takes; it fails on them by itself, the exported program is known.
    assert {call.post({"input": [[1, 1]]}).status_code for _ in range(2)} == {400, 500}
    assert call({"input": [[1, 1, 1, 1]]}) == {"output": [[1.0, 2.0, 3.0, 4.0]]}


def test_user_code_is_on_its_own(server: Any, tenant: Any) -> None:
    package = {"config.json": server.config_json(), "w.bin": b"1", "customize_service.py": PROBE}
    call = server.deploy(server.model(package), envs={"MODE": "fast"})
    environment = call({"do": "environment"})
    assert environment["MODE"] == "fast"
    assert not [name for name in environment if name.startswith("BOTTEGA")]
    pid = call({"do": "pid"})["pid"]
    plane = psutil.Process(pid).parent()
    assert plane is not None
    credentials = plane.environ()["BOTTEGA_NATS_CREDENTIALS"]
    assert Path(credentials).exists()
    others = [f"/proc/{plane.pid}/{name}" for name in ("environ", "mem", "cmdline")]
    for path in (credentials, str(Path(credentials).parent / "job.json"), *others):
        assert call({"do": "read", "path": path}) == {"refused": "PermissionError"}, path
    assert call({"do": "write"}) == {"content": "mine"}
    assert call({"do": "read", "path": "/etc/hostname"})["content"]

    failed = call.post({"do": "raise"})
    assert (failed.status_code, "ValueError: this is wrong" in failed.json()["error_msg"]) == (500, True)
    # A worker that dies takes no other request with it, and a request that kills it once is asked again.
    os.kill(pid, signal.SIGKILL)
    assert call({"do": "pid"})["pid"] != pid
    assert call({"do": "die", "only_once": True}) == {"survived": True}
    died = call.post({"do": "die", "only_once": False})
    assert (died.status_code, "died" in died.json()["error_msg"]) == (503, True)
    assert call({"do": "pid"})["pid"]
    wait_until(lambda: server.show(call.service_id)["failed_times"] == 2)


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("import nothing_of_this_name", "No module named 'nothing_of_this_name'"),
        ("class Service: pass", "must define one class"),
        (RAISES, "RuntimeError: no weights"),
    ],
)
def test_what_keeps_user_code_from_starting_is_told(server: Any, code: str, told: str) -> None:
    package = {"config.json": server.config_json(), "w.bin": b"1", "customize_service.py": code}
    id = server.create(server.model(package))
    wait_until(lambda: server.show(id)["status"] == "failed", 90)
    assert told in server.show(id)["error_msg"]


def test_dependencies_that_are_missing_are_named(server: Any) -> None:
    packages = [
        {"package_name": "numpy", "package_version": "1.15.0", "restraint": "ATLEAST"},
        {"package_name": "no-such-package", "restraint": "", "package_version": ""},
        {"package_name": "Pillow", "package_version": "0.1", "restraint": "EXACT"},
    ]
    config = server.config_json(dependencies=[{"installer": "pip", "packages": packages}])
    id = server.create(server.model({"config.json": config, "w.bin": b"1", "customize_service.py": PROBE}))
    wait_until(lambda: server.show(id)["status"] == "failed", 90)
    reason = server.show(id)["error_msg"]
    assert "no-such-package (not installed)" in reason
    assert "Pillow==0.1 (installed: " in reason
    assert "numpy" not in reason


def test_a_stranger_learns_nothing_of_the_log(server: Any, stranger: Any, tenant: Any) -> None:
    id = server.create(server.linear(1.0, "1.0.0"))
    path = f"{SERVICES}/{id}/logs/preview".replace("{project_id}", tenant.project_id)
    with pytest.raises(ApiFailure) as failure:
        stranger.client.get(path)
    assert failure.value.status == 403
