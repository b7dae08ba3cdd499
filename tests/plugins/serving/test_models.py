"""Models through HTTP: imported from folders and jobs, checked, copied, listed, deleted."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bottega.client import ApiFailure
from bottega.entities import LineageEdge, Resource
from bottega.testing import RecordedEvents, RunningPlatform, Tenant

MODELS = "/v1/{project_id}/models"


def refused(server: Any, **body: Any) -> ApiFailure:
    with pytest.raises(ApiFailure) as failure:
        server.client.post(MODELS, {"model_name": "m", "model_version": "1.0.0", **body})
    return failure.value


def good(server: Any) -> dict[str, Any]:
    return {"config.json": server.config_json(), "model.onnx": server.linear_onnx([[1.0]])}


def test_an_import_shows_what_config_json_says(server: Any, events: RecordedEvents) -> None:
    config = server.config_json(
        metrics={"f1": 0.345294, "recall": 0.5},
        runtime="python3.6",
        dependencies=[
            {
                "installer": "pip",
                "packages": [{"package_name": "numpy", "package_version": "1.15.0", "restraint": "ATLEAST"}],
            }
        ],
        health={"url": "/health", "period_seconds": "5"},
    )
    folder = server.put("resnet", {**good(server), "config.json": config, "labels/names.txt": "a\nb"})
    id = server.submit(
        folder, "网络-1", description="a network", model_docs=[{"doc_name": "d", "doc_url": "https://d"}]
    )
    shown = server.published(id)
    assert (shown["model_name"], shown["model_version"], shown["model_type"]) == ("网络-1", "1.0.0", "ONNX")
    assert json.loads(shown["model_metrics"]) == {"f1": 0.345294, "recall": 0.5}
    assert json.loads(shown["apis"])[0]["url"] == "/"
    assert shown["dependencies"][0]["packages"][0]["restraint"] == "ATLEAST"
    assert shown["health"]["url"] == "/health"
    assert shown["runtime"] == "python3.6"
    assert shown["install_type"] == ["real-time"]
    assert shown["source_location"] == f"{folder}model/"
    assert [f["path"] for f in shown["files"]] == ["model/config.json", "model/labels/names.txt", "model/model.onnx"]
    assert all(len(f["sha256"]) == 64 for f in shown["files"])
    assert shown["model_size"] == sum(f["size"] for f in shown["files"])
    assert events.wait("serving.model.published.v1", model_id=id).data["name"] == "网络-1"


def test_versions_are_listed_filtered_and_paged(server: Any) -> None:
    folder = server.put("p", good(server))
    ids = [server.submit(folder, name, version) for name, version in (("a", "0.0.1"), ("a", "0.0.2"), ("b_c", "1.0.0"))]
    assert server.published(ids[0])
    found = server.client.get(MODELS, {"model_name": "a"})
    assert (found["total_count"], [m["model_version"] for m in found["models"]]) == (2, ["0.0.2", "0.0.1"])
    assert server.client.get(MODELS, {"model_name": "b_", "exact_match": "false"})["total_count"] == 1
    assert server.client.get(MODELS, {"model_name": "b_", "exact_match": "true"})["total_count"] == 0
    page = server.client.get(MODELS, {"limit": 1, "offset": 1, "order": "asc"})
    assert (page["total_count"], page["count"], page["models"][0]["model_version"]) == (3, 1, "0.0.2")
    assert server.client.get(MODELS, {"not_model_type": "ONNX"})["total_count"] == 0
    engines = server.client.get(f"{MODELS}/ai-engine-runtimes")["engine_runtimes"]
    assert {e["ai_engine"] for e in engines} >= {"ONNX", "PyTorch"}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"model_algorithm": None}, "model_algorithm"),
        ({"model_type": "Tensorflow"}, "'Tensorflow' is none of TensorFlow"),
        ({"apis": []}, "apis"),
        ({"apis": [{"protocol": "http"}]}, "apis.0.url: Field required"),
        ({"runtime": "python2.7"}, "python2.7 is not offered"),
        ({"metrics": {"f1": "good"}}, "metrics.f1"),
        ({"model_type": "Image"}, "swr_location is required"),
        ({"dependencies": [{"installer": "conda", "packages": []}]}, "dependencies.0.installer"),
        (
            {"dependencies": [{"installer": "pip", "packages": [{"package_name": "a", "package_version": "1"}]}]},
            "restraint must be EXACT, ATLEAST or ATMOST",
        ),
        ({"bottega": {"images": {"images": {"siz": [8, 8]}}}}, "bottega.images.images"),
    ],
)
def test_each_mistake_in_config_json_is_named(server: Any, change: dict[str, Any], told: str) -> None:
    config = {k: v for k, v in server.config_json(**change).items() if v is not None}
    folder = server.put("p", {**good(server), "config.json": config})
    failure = refused(server, source_location=folder)
    assert failure.status == 400
    assert told in failure.message
    assert failure.error_code.startswith("ModelArts.")
    assert server.client.get(MODELS)["total_count"] == 0


def test_each_mistake_of_the_layout_is_named(server: Any) -> None:
    config, model = server.config_json(), server.linear_onnx([[1.0]])
    for number, (files, told) in enumerate(
        (
            ({}, "no folder 'model'"),
            ({"model.onnx": model}, "config.json is missing"),
            ({"config.json": config}, "holds no model file"),
            ({"config.json": config, "weights.bin": b"1"}, "no .onnx file"),
            ({"config.json": "{", "model.onnx": model}, "config.json is not JSON"),
            ({"config.json": config, "model.onnx": model, "sub/config.json": config}, "2 files config.json"),
            ({"sub/config.json": config, "model.onnx": model}, "must lie directly in model/"),
            ({"config.json": config, "model.onnx": model, "code/customize_service.py": ""}, "must lie directly"),
        )
    ):
        failure = refused(server, source_location=server.put(f"p{number}", files))
        assert (failure.status, told in failure.message) == (400, True), failure.message


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("", "1.0.0"),
        ("1a", "1.0.0"),
        ("a b", "1.0.0"),
        ("a" * 49, "1.0.0"),
        ("a", "1.0"),
        ("a", "01.0.0"),
        ("a", "1.0.100"),
    ],
)
def test_names_and_versions_keep_the_rules(server: Any, name: str, version: str) -> None:
    folder = server.put("p", good(server))
    assert refused(server, model_name=name, model_version=version, source_location=folder).status == 400


def test_a_version_exists_once(server: Any) -> None:
    folder = server.put("p", good(server))
    server.published(server.submit(folder, "m", "1.0.0"))
    failure = refused(server, source_location=folder)
    assert (failure.status, "choose another version" in failure.message) == (409, True)
    assert server.submit(folder, "m", "1.0.1")


def test_a_job_or_a_folder_is_given_and_must_be_there(server: Any, bucket: str, stranger: Tenant) -> None:
    assert refused(server).status == 400
    assert refused(server, source_location=f"s3://{bucket}/p/", source_job_id="x").status == 400
    assert refused(server, source_location="p/model").status == 400
    assert refused(server, source_job_id="nothing").status == 404
    foreign = stranger.create_bucket()
    assert refused(server, source_location=f"s3://{foreign}/p/").status == 403


def test_lineage_begins_at_the_job(server: Any, running: RunningPlatform, tenant: Tenant) -> None:
    folder = server.put("out", good(server))
    training = running.platform("training")

    async def register() -> Resource:
        async with training.database.transaction() as tx:
            return await training.resources.create(
                tx,
                kind="job",
                project_id=tenant.project_id,
                owner_id=tenant.user_id,
                name="job",
                properties={"train_url": folder},
            )

    job = running.run(register())
    id = server.client.post(MODELS, {"model_name": "m", "source_job_id": job.id})["model_id"]
    assert server.published(id)["source_job_id"] == job.id
    assert server.published(id)["model_version"] == "0.0.1"

    async def edge() -> LineageEdge | None:
        async with running.platform().database.read() as session:
            target = f"bottega:serving:{tenant.project_id}:model/{id}"
            return await session.get(LineageEdge, (job.urn, target, "imported from"))

    assert running.run(edge()) is not None


def test_a_model_in_use_stays(server: Any, bucket: str) -> None:
    used = server.linear(1.0, "1.0.0")
    free = server.linear(2.0, "2.0.0")
    service = server.create(used)
    with pytest.raises(ApiFailure, match="used by service") as failure:
        server.client.delete(f"{MODELS}/{used}")
    assert failure.value.status == 409
    answer = server.client.request("DELETE", f"{MODELS}/{free}", params={"cascade": "true"}).json()
    assert answer["delete_success_list"] == [free]
    assert [f["model_id"] for f in answer["delete_failed_list"]] == [used]
    server.delete(service)
    assert server.client.delete(f"{MODELS}/{used}")["delete_success_list"] == [used]
    with pytest.raises(ApiFailure) as gone:
        server.client.get(f"{MODELS}/{used}")
    assert gone.value.status == 404


def test_what_is_not_allowed_is_refused(server: Any, tenant: Tenant, stranger: Tenant) -> None:
    id = server.linear(1.0, "1.0.0")
    nobody = tenant.user([])
    for other in (nobody, stranger):
        for method, path in (("GET", f"{MODELS}/{id}"), ("DELETE", f"{MODELS}/{id}"), ("GET", MODELS)):
            with pytest.raises(ApiFailure) as failure:
                other.client.request(method, path.replace("{project_id}", tenant.project_id))
            assert failure.value.status == 403
