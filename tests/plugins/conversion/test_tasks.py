"""Conversion tasks through the API, with a real network, real workers and real object storage."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from bottega.client import ApiFailure
from bottega.entities import Resource
from bottega.testing import RecordedEvents, RunningPlatform, Tenant, wait_until

BASE = "/v2/{project_id}/conversions"
ENDED = ("SUCCESS", "FAILED", "STOPPED")
ONNX, INT8 = "converter-pytorch-onnx", "converter-onnx-int8"


def script_of(network: torch.nn.Module) -> bytes:
    file = io.BytesIO()
    scripted: Any = torch.jit.script(network)
    torch.jit.save(scripted, file)
    return file.getvalue()


def order(bucket: str, **changes: Any) -> dict[str, Any]:
    body = {
        "name": "digits",
        "template_id": ONNX,
        "input_path": f"s3://{bucket}/job/",
        "output_path": f"s3://{bucket}/onnx/",
    }
    return {**body, **changes}


def finish(tenant: Tenant, task_id: str, timeout: float = 120) -> dict[str, Any]:
    def ended() -> dict[str, Any] | None:
        task: dict[str, Any] = tenant.client.get(f"{BASE}/{task_id}")
        return task if task["status"] in ENDED else None

    task = wait_until(ended, timeout)
    assert task is not None
    return task


def refused(call: Callable[[], Any], status: int, *words: str) -> None:
    with pytest.raises(ApiFailure) as failure:
        call()
    assert failure.value.status == status, failure.value
    for word in words:
        assert word in failure.value.message


@pytest.fixture
def job(tenant: Tenant, bucket: str, digits: Any) -> str:
    """The bucket, with a trained model as training writes it, and held-out rows."""
    tenant.objects.put_many(
        {
            f"s3://{bucket}/job/model/model.pt": digits.script,
            f"s3://{bucket}/job/model/config.json": digits.config,
            f"s3://{bucket}/data/held-out.npz": digits.npz(),
        }
    )
    return bucket


def test_to_onnx_and_on_to_int8(tenant: Tenant, events: RecordedEvents, job: str, digits: Any) -> None:
    data = {"path": f"s3://{job}/data/held-out.npz"}
    task = tenant.client.post(BASE, order(job, data=data))
    assert task["status"] == "INIT"
    task = finish(tenant, task["id"])
    assert task["status"] == "SUCCESS", task["fail_reason"]
    assert task["model_path"] == f"s3://{job}/onnx/model/model.onnx"
    report = task["report"]
    assert report["comparison"]["rows"] == 397
    assert report["comparison"]["outputs"][0]["max_abs"] < 1e-3
    assert report["comparison"]["accuracy"]["before"] > 0.9
    assert abs(report["comparison"]["accuracy"]["loss"]) < 0.003
    for stage in ("before", "after"):
        assert 0 < report["latency_ms"][stage]["p50"] <= report["latency_ms"][stage]["p95"]
        assert report["size_bytes"][stage] > 1000
    assert task["duration"] == task["end_time"] - task["start_time"] > 0

    written = tenant.objects.list(f"s3://{job}/onnx/")
    names = {path.removeprefix(f"s3://{job}/onnx/") for path in written}
    assert names == {"job_log.txt", "report.json", "model/config.json", "model/model.onnx"}
    assert json.loads(tenant.objects.get(f"s3://{job}/onnx/report.json")) == report
    config = json.loads(tenant.objects.get(f"s3://{job}/onnx/model/config.json"))
    assert config["model_type"] == "ONNX"
    assert config["bottega"] == json.loads(digits.config)["bottega"]
    assert config["apis"] == json.loads(digits.config)["apis"]
    log = tenant.client.get(f"{BASE}/{task['id']}/log")
    assert "accepted" in log["text"]
    assert log["complete"]

    eight = tenant.client.post(
        BASE,
        order(
            job,
            name="digits-int8",
            template_id=INT8,
            input_path=f"s3://{job}/onnx/",
            output_path=f"s3://{job}/int8",
            options={"calibration_rows": 200},
            data=data,
        ),
    )
    eight = finish(tenant, eight["id"])
    assert eight["status"] == "SUCCESS", eight["fail_reason"]
    assert eight["report"]["comparison"]["accuracy"]["loss"] <= 0.01
    assert eight["report"]["size_bytes"]["after"] < 0.6 * eight["report"]["size_bytes"]["before"]
    model = onnx.load_from_string(tenant.objects.get(eight["model_path"]))
    assert {"QuantizeLinear", "DequantizeLinear"} <= {node.op_type for node in model.graph.node}
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for count in (1, 7, 397):
        answer = session.run(None, {session.get_inputs()[0].name: digits.rows[-count:]})[0]
        assert answer.shape == (count, 10)
    measured = float((answer.argmax(1) == digits.classes[-397:]).mean())
    assert measured == pytest.approx(eight["report"]["comparison"]["accuracy"]["after"])

    done = events.wait("conversion.task.completed.v1", task_id=eight["id"])
    assert done.data["size_after"] == eight["report"]["size_bytes"]["after"]
    assert done.data["accuracy_after"] == pytest.approx(measured)
    graph = tenant.client.get("/v1/{project_id}/lineage", {"urn": eight["urn"]})
    read = {(e["target"], e["relation"], e["source"]) for e in graph["edges"]}
    assert (eight["urn"], "converted from", f"s3://{job}/onnx/") in read
    assert (f"s3://{job}/onnx/", "written by", task["urn"]) in read
    seen = {node["urn"] for node in graph["nodes"]}
    assert {eight["urn"], f"s3://{job}/onnx/", task["urn"], f"s3://{job}/job/model/model.pt"} <= seen

    rows = tenant.client.get(BASE, {"status": "SUCCESS", "sort_by": "name", "order": "asc"})
    assert [row["name"] for row in rows["conversions"]] == ["digits", "digits-int8"]
    assert rows["total_count"] == 2
    assert tenant.client.get(BASE, {"name": "int8"})["total_count"] == 1
    tenant.client.delete(f"{BASE}/{task['id']}")
    refused(lambda: tenant.client.get(f"{BASE}/{task['id']}"), 404)
    assert tenant.objects.get(task["model_path"])


def test_pictures_of_a_dataset_version(running: RunningPlatform, tenant: Tenant, job: str, digits: Any) -> None:
    pictures = {f"s3://{job}/images/{n}.png": digits.png(n) for n in range(1250, 1550)}
    tenant.objects.put_many(pictures)
    lines = [
        json.dumps(
            {
                "source": f"s3://{job}/images/{n}.png",
                "usage": "TRAIN" if n < 1400 else "EVAL",
                "annotation": [{"type": "modelarts/image_classification", "name": str(digits.classes[n])}],
            }
        )
        for n in range(1250, 1550)
    ]
    manifest = f"s3://{job}/published/annotation/V001/V001.manifest"
    tenant.objects.put(manifest, "\n".join(lines).encode())
    version = running.run(_register_version(running, tenant, manifest))
    onnx_task = finish(tenant, tenant.client.post(BASE, order(job))["id"])
    body = order(
        job,
        name="from-pictures",
        template_id=INT8,
        input_path=onnx_task["model_path"],
        output_path=f"s3://{job}/int8/",
        data={"dataset_version_id": version.id},
    )
    task = finish(tenant, tenant.client.post(BASE, body)["id"])
    assert task["status"] == "SUCCESS", task["fail_reason"]
    comparison = task["report"]["comparison"]
    assert comparison["rows"] == 150
    assert comparison["accuracy"]["before"] > 0.9
    assert task["report"]["data"] == "held-out rows of the dataset version"
    graph = tenant.client.get("/v1/{project_id}/lineage", {"urn": task["urn"]})
    assert {"source": version.urn, "target": task["urn"], "relation": "checked with"} in graph["edges"]


async def _register_version(running: RunningPlatform, tenant: Tenant, manifest: str) -> Resource:
    """As the dataset plugin registers a version."""
    platform = running.platform("dataset")
    async with platform.database.transaction() as tx:
        return await platform.resources.create(
            tx,
            kind="version",
            project_id=tenant.project_id,
            owner_id=tenant.user_id,
            name="V001",
            unique_name=False,
            properties={"manifest_path": manifest},
        )


def test_more_loss_than_allowed_is_not_accepted(tenant: Tenant, events: RecordedEvents, job: str, digits: Any) -> None:
    # Rows a thousand times too bright stretch the ranges until nothing is left of the real ones.
    bright = digits.rows[1400:] * 1000
    onnx_task = finish(tenant, tenant.client.post(BASE, order(job))["id"])
    assert onnx_task["report"]["judged_by"] == "agreement"
    assert onnx_task["report"]["data"] == "random numbers"
    mixed = np.concatenate([bright, digits.rows[1400:]])
    labels = np.concatenate([digits.classes[1400:]] * 2)
    tenant.objects.put(f"s3://{job}/data/mixed.npz", digits.npz(x=mixed, y=labels))
    body = order(
        job,
        name="too-lossy",
        template_id=INT8,
        input_path=f"s3://{job}/onnx/",
        output_path=f"s3://{job}/int8/",
        options={"per_channel": False},
        data={"path": f"s3://{job}/data/mixed.npz"},
        max_accuracy_loss=0.0,
    )
    task = finish(tenant, tenant.client.post(BASE, body)["id"])
    assert task["status"] == "FAILED", task["report"]
    assert task["fail_reason"].startswith("not accepted: accuracy fell by ")
    assert task["report"]["accepted"] is False
    assert task["report"]["comparison"]["accuracy"]["loss"] > 0
    assert task["model_path"] is None
    names = {p.rpartition("/")[2] for p in tenant.objects.list(f"s3://{job}/int8/")}
    assert names == {"report.json", "job_log.txt"}
    failed = events.wait("conversion.task.failed.v1", task_id=task["id"])
    assert failed.data["not_accepted"] is True


class Spectrum(torch.nn.Module):
    """Uses an operator that ONNX opset 13 has not."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = torch.special.bessel_j0(x)
        return found.flatten(1)


def test_an_unsupported_operator_is_named(tenant: Tenant, job: str) -> None:
    tenant.objects.put(f"s3://{job}/odd/model.pt", script_of(Spectrum()))
    body = order(job, input_path=f"s3://{job}/odd/", options={"input_shape": [4]})
    task = finish(tenant, tenant.client.post(BASE, body)["id"])
    assert task["status"] == "FAILED"
    assert "bessel_j0" in task["fail_reason"]
    assert "exit code" not in task["fail_reason"]
    log = tenant.client.get(f"{BASE}/{task['id']}/log")
    assert "conversion failed" in log["text"]


def test_an_exported_program(tenant: Tenant, bucket: str, digits: Any, tmp_path: Any) -> None:
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)).eval()
    batch = torch.export.Dim("batch")
    program = torch.export.export(network, (torch.zeros(2, 1, 8, 8),), dynamic_shapes=({0: batch},))
    torch.export.save(program, tmp_path / "model.pt2")
    tenant.objects.put(f"s3://{bucket}/job/model.pt2", (tmp_path / "model.pt2").read_bytes())
    task = finish(tenant, tenant.client.post(BASE, order(bucket))["id"])
    assert task["status"] == "SUCCESS", task["fail_reason"]
    assert task["report"]["comparison"]["outputs"][0]["max_abs"] < 1e-4
    assert task["report"]["comparison"]["rows"] == 256


@pytest.mark.parametrize(
    ("content", "options", "words"),
    [
        (b"not a model at all", {"input_shape": [1, 8, 8]}, ["model.pt is not TorchScript"]),
        (None, {}, ["the shape of the model's input is not known"]),
        (None, {"input_shape": [3, 5, 5]}, ["does not take an input of shape [3, 5, 5]"]),
    ],
)
def test_what_the_worker_refuses(
    tenant: Tenant, bucket: str, digits: Any, content: bytes | None, options: dict[str, Any], words: list[str]
) -> None:
    tenant.objects.put(f"s3://{bucket}/job/model.pt", content or digits.script)
    task = finish(tenant, tenant.client.post(BASE, order(bucket, options=options))["id"])
    assert task["status"] == "FAILED"
    for word in words:
        assert word in task["fail_reason"]


def test_stop(tenant: Tenant, events: RecordedEvents, job: str) -> None:
    task = tenant.client.post(BASE, order(job))
    refused(lambda: tenant.client.delete(f"{BASE}/{task['id']}"), 409, "stop it first")
    tenant.client.post(f"{BASE}/{task['id']}/stop")
    ended = finish(tenant, task["id"])
    assert ended["status"] == "STOPPED"
    events.wait("conversion.task.stopped.v1", task_id=task["id"])
    refused(lambda: tenant.client.post(f"{BASE}/{task['id']}/stop"), 409, "has ended")
    tenant.client.delete(f"{BASE}/{task['id']}")
    assert tenant.client.get(BASE)["total_count"] == 0


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"name": "über"}, 400, ["name"]),
        ({"template_id": "caffe-om"}, 400, ["no template 'caffe-om'", ONNX, INT8]),
        ({"options": {"opset": "new"}}, 400, ["opset", "its options are"]),
        ({"options": {"colour": 1}}, 400, ["colour", "input_shape"]),
        ({"max_accuracy_loss": 2}, 400, ["max_accuracy_loss"]),
        ({"max_accuracy_loss": "0.1"}, 400, ["max_accuracy_loss"]),
        ({"surprise": 1}, 400, ["surprise"]),
        ({"flavor": "huge"}, 400, ["flavor 'huge' is not offered"]),
        ({"input_path": "job/"}, 400, ["input_path", "not an object path"]),
        ({"input_path": "s3://{bucket}/../x/"}, 400, [".."]),
        ({"input_path": "s3://{bucket}/nothing/"}, 400, ["holds nothing", "model/"]),
        ({"input_path": "s3://{bucket}/data/"}, 400, ["holds no model", "held-out.npz"]),
        ({"input_path": "s3://{bucket}/two/"}, 400, ["holds 2 models"]),
        ({"input_path": "s3://nobodys-bucket/x/"}, 403, ["not one of yours"]),
        ({"output_path": "s3://nobodys-bucket/x/"}, 403, ["not one of yours"]),
        ({"output_path": "s3://{bucket}/data/"}, 400, ["not empty", "held-out.npz"]),
        ({"output_path": "s3://{bucket}/"}, 400, ["whole bucket"]),
        ({"template_id": INT8, "input_path": "s3://{bucket}/ready/"}, 400, ["at least 100 rows"]),
        ({"data": {"path": "s3://{bucket}/data/no.npz"}}, 400, ["no such object"]),
        ({"data": {"path": "s3://{bucket}/job/model/model.pt"}}, 400, [".npz"]),
        ({"data": {"dataset_version_id": "x"}}, 400, ["no dataset version 'x'"]),
        ({"source_urn": "bottega:training:p:job/1"}, 400, ["source_urn"]),
    ],
)
def test_bad_orders_change_nothing(
    tenant: Tenant, job: str, changes: dict[str, Any], status: int, words: list[str]
) -> None:
    tenant.objects.put_many({f"s3://{job}/two/a.pt": b"", f"s3://{job}/two/b.pt": b"", f"s3://{job}/ready/a.onnx": b""})
    filled = json.loads(json.dumps(changes).replace("{bucket}", job))
    refused(lambda: tenant.client.post(BASE, order(job, **filled)), status, *words)
    assert tenant.client.get(BASE)["total_count"] == 0


def test_one_name_and_one_output_at_a_time(tenant: Tenant, job: str) -> None:
    first = tenant.client.post(BASE, order(job))
    refused(lambda: tenant.client.post(BASE, order(job, output_path=f"s3://{job}/b/")), 409, "named 'digits'")
    refused(lambda: tenant.client.post(BASE, order(job, name="other")), 409, "being written")
    tenant.client.post(f"{BASE}/{first['id']}/stop")
    finish(tenant, first["id"])


def test_strangers_and_the_powerless_see_nothing(tenant: Tenant, stranger: Tenant, job: str) -> None:
    task = tenant.client.post(BASE, order(job))
    path = f"/v2/{tenant.project_id}/conversions"
    for client in (stranger.client, tenant.user().client):
        for method, url, body in (
            ("GET", path, None),
            ("GET", f"{path}/{task['id']}", None),
            ("GET", f"{path}/{task['id']}/log", None),
            ("POST", path, order(job, name="mine")),
            ("POST", f"{path}/{task['id']}/stop", None),
            ("DELETE", f"{path}/{task['id']}", None),
        ):
            refused(partial(client.request, method, url, json=body), 403)
    # Ids of another project do not leak into one's own.
    refused(lambda: stranger.client.get(f"{BASE}/{task['id']}"), 404)
    # Rights on conversion alone do not open the storage.
    allowed = {"Version": "1.1", "Statement": [{"Effect": "Allow", "Action": ["modelarts:*:*"]}]}
    halfway = tenant.user([allowed])
    refused(lambda: halfway.client.post(BASE, order(job, name="mine")), 403, "obs:object:GetObject")
    tenant.client.post(f"{BASE}/{task['id']}/stop")
    finish(tenant, task["id"])


def test_templates(tenant: Tenant) -> None:
    found = {t["id"]: t for t in tenant.client.get("/v2/{project_id}/conversion-templates")["templates"]}
    assert {ONNX, INT8} <= set(found)
    assert found[INT8]["available"]
    assert found[INT8]["options"]["calibration_rows"]["minimum"] == 100
    assert found[ONNX]["model_formats"] == [".pt", ".pt2"]
