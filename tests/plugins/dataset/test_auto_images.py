"""Automatic labeling and grouping of pictures: what cannot be read, hard examples, groups, models of the user's."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from bottega.client import ApiFailure, Client
from bottega.testing import Tenant, wait_until
from bottega_dataset.client import Datasets, TaskFailed
from bottega_dataset.manifest import parse_line


def stripes(down: bool, rng: np.random.Generator, light: float = 200) -> bytes:
    """A synthetic picture: stripes down or across."""
    pattern = np.zeros((24, 24)) + light * (np.arange(24) // rng.integers(3, 5) % 2)
    pixels = (pattern if down else pattern.T) + rng.normal(0, 10 * light / 200, (24, 24))
    file = io.BytesIO()
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def large_stripes(rng: np.random.Generator) -> bytes:
    """Stripes across, as noise that cannot be compressed."""
    light = np.repeat(180 * (np.arange(24) // 4 % 2), 125).astype(np.uint8)
    noise = np.frombuffer(rng.bytes(9_000_000), np.uint8).reshape(3000, 3000) // 4
    file = io.BytesIO()
    Image.fromarray(light[:, None] + noise).save(file, "PNG", compress_level=0)
    return file.getvalue()


@pytest.fixture
def pictures(tenant: Tenant, datasets: Datasets, bucket: str) -> str:
    """A dataset: 10 pictures across and 10 down labeled, 12 of each not, one of them dark, and one that is broken.

    Another one has more than 8 MB; such ones are not read ahead.
    """
    rng = np.random.default_rng(0)
    folder = f"s3://{bucket}/pictures"
    files = {f"{folder}/{name}/{n}.png": stripes(name == "down", rng) for name in ("across", "down") for n in range(10)}
    files |= {
        f"{folder}/{name}-{n}.png": stripes(name == "down", rng) for name in ("across", "down") for n in range(12)
    }
    files |= {f"{folder}/across-3.png": stripes(False, rng, 12), f"{folder}/broken.png": b"\x89PNG no more"}
    files[f"{folder}/across-5.png"] = large_stripes(rng)
    tenant.objects.put_many(files)
    made = datasets.create("stripes", f"s3://{bucket}/out/", data_path=f"{folder}/")
    datasets.wait_import("stripes", made["import_task_id"])
    return "stripes"


def truth(sample: dict[str, Any]) -> str:
    return str(sample["sample_name"].partition("-")[0])


def test_hard_examples_and_what_cannot_be_read(
    tenant: Tenant, client: Client, datasets: Datasets, pictures: str, bucket: str, one: Callable[[str], str]
) -> None:
    hard = f"s3://{bucket}/hard/"
    task = datasets.auto_label(pictures, collect_key_sample=True, key_sample_output=hard, confidence_scope="0.00-0.60")
    assert (task["annotated_sample_count"], task["problem_count"]) == (24, 1)
    (problem,) = client.get(f"{one(pictures)}/tasks/{task['task_id']}/problems")["problems"]
    assert problem["place"].endswith("broken.png")
    assert "is not a picture" in problem["reason"]
    assert "progress 1.000 done" in client.get(f"{one(pictures)}/tasks/{task['task_id']}/log")["text"]

    found = {sample["sample_name"]: sample for sample in datasets.suggestions(pictures)}
    assert sum(s["labels"][0]["name"] == truth(s) for s in found.values()) >= 22
    dark = found["across-3.png"]
    assert dark["metadata"]["@modelarts:hard"] == 1.0
    assert 7 in dark["metadata"]["@modelarts:hard_reasons"]
    assert "brightness" in dark["hard_details"]["7"]["reason"]
    others = [s["metadata"]["@modelarts:hard_coefficient"] for s in found.values()]
    assert dark["metadata"]["@modelarts:hard_coefficient"] > np.median(others)
    marked = {name for name, sample in found.items() if sample["metadata"]["@modelarts:hard"]}
    assert client.get(f"{one(pictures)}/auto-annotations/samples", {"search_conditions": '{"hard": "1"}'})[
        "sample_count"
    ] == len(marked)
    lines = tenant.objects.get(f"{hard}hard.manifest").splitlines()
    assert {record.name for record in map(parse_line, lines)} == marked
    assert task["result"]["hard_sample_count"] == len(marked)

    datasets.confirm(pictures, {dark["sample_id"]: None})
    labeled = client.get(f"{one(pictures)}/data-annotations/samples/{dark['sample_id']}")
    assert labeled["metadata"]["@modelarts:hard"] == 1.0
    assert "7" in labeled["labels"][0]["property"]["@modelarts:hard_reasons"].split("-")
    history = client.get(f"{one(pictures)}/data-annotations/samples/{dark['sample_id']}/history")
    assert history["history"][0]["cause"] == "confirm"


def test_groups_are_listed_and_labeled_whole(
    tenant: Tenant, client: Client, datasets: Datasets, pictures: str, bucket: str, one: Callable[[str], str]
) -> None:
    kept: Any = {"result_type": 1, "property": "kind", "log_url": f"/{bucket}/logs/", "inf_output": f"/{bucket}/found/"}
    task = datasets.auto_label(pictures, task_type="auto-grouping", n_clusters=2, **kept)
    assert (task["result"]["group_count"], task["export_type"]) == (2, 1)
    assert tenant.objects.list(f"s3://{bucket}/logs/") == [f"s3://{bucket}/logs/{task['task_id']}.txt"]
    assert client.get(f"{one(pictures)}/tasks/{task['task_id']}/log")["text"]
    assert task["result"]["manifest_path"].startswith(f"s3://{bucket}/found/{task['task_id']}/")
    path = f"{one(pictures)}/tasks/{task['task_id']}/groups"
    groups = datasets.groups(pictures, task["task_id"])
    assert sum(group["sample_count"] for group in groups) == 44
    first = groups[0]
    assert first["annotated_sample_count"] == sum(label["sample_count"] for label in first["label_stats"])
    members = client.get(f"{path}/0/samples", {"limit": 100})
    assert members["sample_count"] == first["sample_count"] == len(members["samples"])
    assert [s["sample_id"] for s in members["samples"][:5]] == first["typical_samples"]
    distances = [s["distance"] for s in members["samples"]]
    assert distances == sorted(distances)
    name = first["label_stats"][0]["name"]
    asked = json.dumps({"metadata": {"props": {"kind": ["0"]}}})
    of_first = client.get(f"{one(pictures)}/data-annotations/samples", {"search_conditions": asked, "limit": 100})
    assert of_first["sample_count"] == first["sample_count"], "what is saved to samples can be searched by"
    changed = client.get(f"{one(pictures)}/data-annotations/samples/{of_first['samples'][0]['sample_id']}/history")
    assert changed["history"][0]["cause"] == "auto-grouping"
    count = datasets.label_group(pictures, task["task_id"], 0, name)
    assert count == first["sample_count"] - first["annotated_sample_count"]
    assert datasets.groups(pictures, task["task_id"])[0]["annotated_sample_count"] == first["sample_count"]
    with pytest.raises(ApiFailure, match="has no group 7"):
        datasets.label_group(pictures, task["task_id"], 7, name)
    assert client.get(f"{one(pictures)}/tasks")["total_count"] == 0
    assert client.get(f"{one(pictures)}/tasks", {"type": "auto-grouping"})["total_count"] == 1


API: dict[str, Any] = {
    "protocol": "http",
    "url": "/",
    "method": "post",
    "request": {"Content-type": "multipart/form-data", "data": {"type": "object"}},
    "response": {"Content-type": "application/json", "data": {"type": "object"}},
}


def across_or_down() -> bytes:
    """A model: how much a picture changes from row to row, and from column to column."""
    nodes = [
        helper.make_node("Slice", ["x", "from1", "end", "rows"], ["lower"]),
        helper.make_node("Slice", ["x", "from0", "but1", "rows"], ["upper"]),
        helper.make_node("Sub", ["lower", "upper"], ["across_by_row"]),
        helper.make_node("Slice", ["x", "from1", "end", "columns"], ["right"]),
        helper.make_node("Slice", ["x", "from0", "but1", "columns"], ["left"]),
        helper.make_node("Sub", ["right", "left"], ["by_column"]),
        helper.make_node("ReduceL2", ["across_by_row"], ["a"], keepdims=0),
        helper.make_node("ReduceL2", ["by_column"], ["d"], keepdims=0),
        helper.make_node("Unsqueeze", ["a", "zero"], ["a1"]),
        helper.make_node("Unsqueeze", ["d", "zero"], ["d1"]),
        helper.make_node("Concat", ["a1", "d1"], ["y"], axis=0),
    ]
    numbers = {"from0": 0, "from1": 1, "but1": -1, "end": 10_000, "rows": 2, "columns": 3, "zero": 0}
    constants = [helper.make_tensor(name, TensorProto.INT64, [1], [value]) for name, value in numbers.items()]
    graph = helper.make_graph(
        nodes,
        "stripes",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 24, 24])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def test_a_model_of_ones_own_makes_the_suggestions(
    tenant: Tenant, client: Client, datasets: Datasets, pictures: str, bucket: str
) -> None:
    settings = {"labels": ["across", "down"], "images": {"image": {"mode": "L", "size": [24, 24]}}}
    config = {"model_type": "ONNX", "model_algorithm": "image_classification", "apis": [API], "bottega": settings}
    package = f"s3://{bucket}/package/model/"
    tenant.objects.put_many(
        {f"{package}stripes.onnx": across_or_down(), f"{package}config.json": json.dumps(config).encode()}
    )
    model = client.post(
        "/v1/{project_id}/models",
        {
            "model_name": "stripes",
            "model_version": "0.0.1",
            "source_location": f"/{bucket}/package/",
            "model_type": "ONNX",
        },
    )["model_id"]
    wait_until(lambda: client.get(f"/v1/{{project_id}}/models/{model}")["model_status"] == "published")
    task = datasets.auto_label(pictures, task_type="pre-label", model_id=model)
    assert (task["model_id"], task["model_name"], task["model_version"]) == (model, "stripes", "0.0.1")
    assert task["result"]["accuracy"] == 1.0
    found = list(datasets.suggestions(pictures))
    assert [s["labels"][0]["name"] for s in found] == [truth(s) for s in found]
    assert datasets.confirm(pictures)["confirmed_sample_count"] == 24
    by = {label["annotated_by"] for s in datasets.samples(pictures, labeled=True) for label in s["labels"]}
    assert by == {"human", "modelarts/pre-labeling"}

    tenant.objects.put(f"s3://{bucket}/bad/bad.onnx", b"not a model")
    with pytest.raises(TaskFailed, match=r"bad\.onnx is not an ONNX model that can run"):
        datasets.auto_label(pictures, task_type="pre-label", model_path=f"s3://{bucket}/bad/")
