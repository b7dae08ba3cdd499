"""What the tests of serving share: packages in object storage, and a tenant that serves them."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from bottega.client import SigningAuth
from bottega.testing import Tenant, wait_until

MODELS = "/v1/{project_id}/models"
SERVICES = "/v1/{project_id}/services"


def config(model_type: str = "ONNX", **changes: Any) -> dict[str, Any]:
    """A ``config.json`` in order, with some of its fields replaced."""
    body = {"Content-type": "application/json", "data": {"type": "object"}}
    api = {"protocol": "http", "url": "/", "method": "post", "request": body, "response": body}
    return {"model_algorithm": "predict_analysis", "model_type": model_type, "apis": [api], **changes}


def linear(weights: list[list[float]], *, input_name: str = "input", output: str = "output") -> bytes:
    """An ONNX model that multiplies rows with `weights` (columns, outputs)."""
    matrix = np.asarray(weights, np.float32)
    rows, columns = matrix.shape
    graph = helper.make_graph(
        [helper.make_node("MatMul", [input_name, "weights"], [output])],
        "linear",
        [helper.make_tensor_value_info(input_name, TensorProto.FLOAT, ["n", rows])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["n", columns])],
        [numpy_helper.from_array(matrix, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def png(pixels: list[list[int]]) -> bytes:
    """A gray picture."""
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(out, "PNG")
    return out.getvalue()


class Server:
    """One tenant that imports and deploys models from one bucket."""

    config_json = staticmethod(config)
    linear_onnx = staticmethod(linear)
    png = staticmethod(png)

    def __init__(self, tenant: Tenant, bucket: str) -> None:
        self.tenant = tenant
        self.client = tenant.client
        self.bucket = bucket
        offered = self.client.get(f"{SERVICES}/specifications")["specifications"]
        self.specification: str = offered[0]["specification"]
        self._services: list[str] = []

    def put(self, folder: str, files: Mapping[str, bytes | str | dict[str, Any]]) -> str:
        """Store a package's ``model/`` files; returns its location."""
        location = f"s3://{self.bucket}/{folder}/"
        for name, content in files.items():
            data = json.dumps(content) if isinstance(content, dict) else content
            self.tenant.objects.put(f"{location}model/{name}", data.encode() if isinstance(data, str) else data)
        return location

    def submit(self, location: str, name: str = "linear", version: str = "1.0.0", **fields: Any) -> str:
        body = {"model_name": name, "model_version": version, "source_location": location, **fields}
        return str(self.client.post(MODELS, body)["model_id"])

    def published(self, model_id: str) -> dict[str, Any]:
        def settled() -> dict[str, Any] | None:
            shown: dict[str, Any] = self.client.get(f"{MODELS}/{model_id}")
            return shown if shown["model_status"] != "publishing" else None

        shown = wait_until(settled)
        assert shown is not None
        assert shown["model_status"] == "published", shown
        return shown

    def model(
        self, files: Mapping[str, bytes | str | dict[str, Any]], name: str = "linear", version: str = "1.0.0"
    ) -> str:
        """A published model of these files."""
        id = self.submit(self.put(f"{name}-{version}", files), name, version)
        self.published(id)
        return id

    def linear(self, factor: float, version: str) -> str:
        """A published model that multiplies one column with `factor`."""
        return self.model({"config.json": config(), "model.onnx": linear([[factor]])}, version=version)

    def config(self, *models: str | tuple[str, int], **fields: Any) -> list[dict[str, Any]]:
        entries = [(model, 100) if isinstance(model, str) else model for model in models]
        common = {"specification": self.specification, "instance_count": 1, **fields}
        return [{"model_id": id, "weight": weight, **common} for id, weight in entries]

    def create(self, *models: str | tuple[str, int], name: str = "service", **fields: Any) -> str:
        body = {"service_name": name, "infer_type": "real-time", "config": self.config(*models, **fields)}
        id = str(self.client.post(SERVICES, body)["service_id"])
        self._services.append(id)
        return id

    def show(self, service_id: str) -> dict[str, Any]:
        return dict(self.client.get(f"{SERVICES}/{service_id}"))

    def wait(self, service_id: str, status: str, timeout: float = 90) -> dict[str, Any]:
        def reached() -> dict[str, Any] | None:
            shown = self.show(service_id)
            assert shown["status"] in (status, "deploying", "stopping", "running", "concerning"), shown
            return shown if shown["status"] == status else None

        shown = wait_until(reached, timeout)
        assert shown is not None
        return shown

    def deploy(self, *models: str | tuple[str, int], **fields: Any) -> Caller:
        """A running service."""
        id = self.create(*models, **fields)
        return Caller(self.wait(id, "running")["access_address"], self.tenant)

    def call(self, service_id: str, tenant: Tenant | None = None) -> Caller:
        """Calls as this tenant, or another."""
        return Caller(self.show(service_id)["access_address"], tenant or self.tenant)

    def delete(self, service_id: str) -> None:
        self.client.delete(f"{SERVICES}/{service_id}")
        self._services.remove(service_id)

    def close(self) -> None:
        for id in list(self._services):
            self.delete(id)


class Caller:
    """Calls one service with a tenant's signature."""

    def __init__(self, address: str, tenant: Tenant) -> None:
        self.address = address
        self.service_id = address.rpartition("/")[2]
        self.http = httpx.Client(auth=SigningAuth(tenant.access_key, tenant.secret_key), timeout=60)

    def post(self, body: Any = None, path: str = "", **arguments: Any) -> httpx.Response:
        if body is not None:
            arguments["json"] = body
        return self.http.post(self.address + path, **arguments)

    def __call__(self, body: Any = None, **arguments: Any) -> Any:
        answer = self.post(body, **arguments)
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture
def server(tenant: Tenant, bucket: str) -> Iterator[Server]:
    made = Server(tenant, bucket)
    yield made
    made.close()


@pytest.fixture
def linear_package() -> dict[str, Any]:
    """The ``model/`` files of a model that doubles one column."""
    return {"config.json": config(), "model.onnx": linear([[2.0]])}
