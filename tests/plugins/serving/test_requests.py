"""The forms of a prediction's request and answer (002 §6.7.3, §7.2.4)."""

from __future__ import annotations

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper


def rows_api(request: dict[str, Any], response: dict[str, Any], url: str = "/") -> dict[str, Any]:
    def schema(key: str, properties: dict[str, Any]) -> dict[str, Any]:
        items = [{"type": "object", "properties": properties}]
        data = {"type": "object", "properties": {key: {"type": "array", "items": items}}}
        return {"type": "object", "properties": {"data": data}}

    return {
        "protocol": "http",
        "url": url,
        "method": "post",
        "request": {"Content-type": "application/json", "data": schema("req_data", request)},
        "response": {"Content-type": "application/json", "data": schema("resp_data", response)},
    }


def identity_onnx() -> bytes:
    """Passes a (n, 1, 2, 2) picture on as four scores."""
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["picture"], ["flat"]), helper.make_node("MatMul", ["flat", "eye"], ["scores"])],
        "flat",
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, ["n", 1, 2, 2])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 4])],
        [numpy_helper.from_array(np.eye(4, dtype=np.float32), "eye")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def test_json_by_name(server: Any) -> None:
    model = server.model({"config.json": server.config_json(), "m.onnx": server.linear_onnx([[1.0], [10.0]])})
    call = server.deploy(model)
    assert call({"input": [[1, 2], [3, 4.5]]}) == {"output": [[21.0], [48.0]]}
    assert call({"meta": {"uuid": "u-1"}, "input": [[1, 2]]}) == {"output": [[21.0]], "meta": {"uuid": "u-1"}}
    for body, status, told in (
        (b"{", 400, "not JSON"),
        (b"[1]", 400, "must be a JSON object"),
        (b"", 400, "not JSON"),
        (b'{"inputs": [[1, 2]]}', 400, "input 'input' is missing; the model takes input: float32[N, 2]"),
        (b'{"input": [[1, 2, 3]]}', 400, "has shape [1, 3]; the model takes [N, 2]"),
        (b'{"input": [1, 2]}', 400, "has shape [2]"),
        (b'{"input": [[1, 2], [3]]}', 400, "ragged"),
        (b'{"input": [["a", "b"]]}', 400, "not of type float32"),
        (b'{"input": [[null, 2]]}', 400, "not of type float32"),
        (b'{"input": []}', 400, "shape [0]"),
    ):
        answer = call.post(content=body, headers={"Content-Type": "application/json"})
        assert (answer.status_code, told in answer.json()["error_msg"]) == (status, True), answer.text
        assert answer.json()["error_code"]
    assert call.post({"input": [[1, 2]]}, path="/other").status_code == 404
    assert call.http.get(call.address).status_code == 405
    foreign = call.address[:-3] + "abc"
    assert call.http.post(foreign, json={}).status_code == 404
    # Calls that meet share a run; one that is wrong spoils only itself.
    with ThreadPoolExecutor(16) as pool:
        bodies = [{"input": [[n, 0]] * (n % 3 + 1)} if n % 7 else {"input": "x"} for n in range(64)]
        answers = list(pool.map(call.post, bodies))
    for n, answer in enumerate(answers):
        assert answer.status_code == (200 if n % 7 else 400)
        if n % 7:
            assert answer.json() == {"output": [[float(n)]] * (n % 3 + 1)}


def test_rows_and_paths_as_config_json_declares_them(server: Any) -> None:
    fields = {"sepal_length": {"type": "number"}, "petal_width": {"type": "number"}}
    api = rows_api(fields, {**fields, "species": {"type": "string"}}, "/iris")
    weights = [[1.0, 0.0], [0.0, 1.0]]
    files = {
        "config.json": server.config_json(apis=[api], bottega={"labels": ["setosa", "virginica"]}),
        "m.onnx": server.linear_onnx(weights),
    }
    call = server.deploy(server.model(files))
    rows: list[dict[str, Any]] = [{"sepal_length": 3, "petal_width": 1}, {"petal_width": 4.5, "sepal_length": 2}]
    answer = call({"meta": {"uuid": "10eb0091"}, "data": {"req_data": rows}}, path="/iris")
    assert answer["meta"] == {"uuid": "10eb0091"}
    assert answer["data"]["resp_data"] == [{**rows[0], "species": "setosa"}, {**rows[1], "species": "virginica"}]
    assert call({"data": {"req_data": rows}}, path="/iris")["meta"] == {"uuid": ""}
    wrong: list[tuple[list[dict[str, Any]], str]] = [
        ([], "at least one object"),
        ([{"sepal_length": 3}], "lacks 'petal_width'"),
        ([{"sepal_length": "long", "petal_width": 1}], "not of type float32"),
    ]
    for data, told in wrong:
        answer = call.post({"data": {"req_data": data}}, path="/iris")
        assert (answer.status_code, told in answer.text) == (400, True), answer.text
    assert call.post({"data": {"req_data": rows}}).status_code == 404


@pytest.mark.parametrize("labels", [["a", "b", "c", "d"], []])
def test_pictures(server: Any, labels: list[str]) -> None:
    declared = {"images": {"mode": "L", "size": [2, 2], "scale": 1 / 255}}
    config = server.config_json(bottega={"labels": labels, "images": declared})
    call = server.deploy(server.model({"config.json": config, "m.onnx": identity_onnx()}))
    picture = server.png([[0, 0], [255, 0]])
    answer = call(files={"images": ("test.png", picture, "image/png")})
    if labels:
        assert answer["predicted_label"] == "c"
        assert answer["scores"][0] == ["c", 1.0]
    else:
        assert answer == {"scores": [[0, 0, 1.0, 0]]}
    encoded = {"images": base64.b64encode(picture).decode(), "meta": {"uuid": "u"}}
    assert call(encoded) == {**answer, "meta": {"uuid": "u"}}
    assert call({"picture": [[[[0, 0], [1, 0]]]]}) == {"scores": [[0, 0, 1.0, 0]]}
    for arguments, told in (
        ({"files": {"images": ("x.png", b"no picture", "image/png")}}, "not a picture"),
        ({"files": {"other": ("x.png", picture, "image/png")}}, "'other' is none of the model's"),
        ({"json": {"images": "%%%"}}, "not base64"),
        ({"json": {"images": "猫"}}, "not base64"),
        ({"content": b"--x", "headers": {"Content-Type": "multipart/form-data; boundary=x"}}, "closing boundary"),
        ({"content": b"--x", "headers": {"Content-Type": "multipart/form-data"}}, "needs a boundary"),
    ):
        answer = call.post(**arguments)
        assert (answer.status_code, told in answer.json()["error_msg"]) == (400, True), answer.text


def test_a_body_that_is_too_large_is_refused(server: Any) -> None:
    call = server.deploy(server.linear(1.0, "1.0.0"))
    answer = call.post(content=b" " * (65 << 20), headers={"Content-Type": "application/json"})
    assert answer.status_code == 413
    assert call({"input": [[1]]}) == {"output": [[1.0]]}
    assert json.loads(call.http.get(call.address.split("/v1/")[0] + "/healthz").text) == {"ready": True}
