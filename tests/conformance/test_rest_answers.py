"""The vendor's public REST reference of data management: what is answered where it means something.

Each test makes the state in which certain documented fields have a value. That every field is answered somewhere, or is
known not to be, is compared in `test_tables`, over the calls of all tests.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from bottega.client import ApiFailure
from bottega.testing import Tenant, wait_until

from . import reference
from .conftest import Documented, picture

IMPORTED, VERSION = "Querying Details About a Dataset Import Task", "Querying Details About a Dataset Version"
LISTED = "Obtaining a Sample List"
SEARCH = {
    "coefficient": "0.1,0.9",
    "frame_in_video": 1,
    "hard": "1",
    "import_origin": "0",
    "kvp": "120",
    "label_list": {"op": "OR", "labels": [{"name": "a", "type": 0, "op": "AND", "property": {"color": ["red"]}}]},
    "labeler": "human",
    "metadata": {"op": "AND", "props": {"color": ["red"]}},
    "parent_sample_id": "7",
    "sample_dir": "in",
    "sample_name": "a",
    "sample_time": "month",
    "score": "0.1,0.9",
    "slice_thickness": "2",
    "study_date": "20190101",
    "time_in_video": "3",
}
"""All that may be searched by, in one condition; no sample fits."""
Make = Callable[..., str]


@pytest.fixture
def make(documented: Documented, tenant: Tenant, bucket: str) -> Make:
    """``make(type, lines, **fields)``: the id of a dataset with the samples of a manifest, imported."""

    def make(dataset_type: int, lines: list[dict[str, Any]], **fields: Any) -> str:
        body = {"dataset_name": f"set-{time.time_ns()}", "dataset_type": dataset_type, "data_sources": []}
        body |= {"work_path": f"/{bucket}/out/", "work_path_type": 0, **fields}
        dataset_id = documented.call("Creating a Dataset", body)["dataset_id"]
        if lines:
            path = f"{bucket}/{time.time_ns()}.manifest"
            tenant.objects.put(f"s3://{path}", "\n".join(map(json.dumps, lines)).encode())
            order = {"import_path": f"/{path}", "import_type": "manifest"}
            task_id = documented.call("Creating an Import Task", order, dataset_id=dataset_id)["task_id"]
            assert documented.finished(IMPORTED, dataset_id, task_id)["status"] == "COMPLETED"
        return str(dataset_id)

    return make


def properties(documented: Documented, dataset_id: str) -> list[dict[str, Any]]:
    """Those of all labels of all samples."""
    listed = documented.call(LISTED, query={"order": "asc"}, dataset_id=dataset_id)
    return [one["property"] for sample in listed["samples"] for one in sample["labels"]]


def test_a_refusal_says_which_and_why(documented: Documented) -> None:
    nothing: dict[str, Any] = dict.fromkeys(
        ("dataset_id", "resource_id", "workforce_id", "workforce_task_id", "task_id"), "0"
    )
    nothing |= {"version_id": "0", "worker_id": "0", "sample_id": "0" * 32, "label_name": "none"}
    for operation in reference.operations():
        if "error_code" in operation.answer and "{" in operation.path.replace("{project_id}", ""):
            with pytest.raises(ApiFailure) as refused:
                documented.call(operation.title, {}, **nothing)
            assert refused.value.status in (400, 404), operation.title
    with pytest.raises(ApiFailure) as refused:
        documented.call("Creating a Dataset", {"dataset_name": "?", "work_path": "/none/", "data_sources": []})
    assert refused.value.error_code
    assert refused.value.message


def test_of_several_those_that_fail_say_why(documented: Documented, make: Make) -> None:
    pictures = make(0, [])
    ids: dict[str, Any] = {"dataset_id": pictures}
    none = "0" * 32
    sample = {"name": "a.png", "data": base64.b64encode(picture(1)).decode(), "encoding": "base64"}
    wrong = {"name": "b.png", "data": base64.b64encode(b"no picture").decode(), "encoding": "base64"}
    other = sample | {"data": base64.b64encode(picture(2)).decode()}
    assert documented.call("Adding Samples in Batches", {"samples": [sample]}, **ids)["success"]
    added = documented.call("Adding Samples in Batches", {"samples": [other, wrong]}, **ids)
    assert [one["success"] for one in added["results"]] == [True, False]
    assert "another object has that name" in added["results"][0]["info"]
    labels = {"samples": [{"sample_id": none, "labels": [{"name": "a"}]}]}
    assert documented.call("Updating Sample Labels in Batches", labels, **ids)["success"] is False
    deleted = documented.call("Deleting Samples in Batches", {"samples": [none]}, **ids)
    assert deleted["results"][0]["error_code"]


def test_what_is_said_of_texts_sounds_and_tables(
    documented: Documented, make: Make, tenant: Tenant, bucket: str
) -> None:
    entity = {"type": "modelarts/text_entity", "name": "Person", "id": "E1"}
    entity["property"] = {"@modelarts:start_index": 0, "@modelarts:end_index": 3}  # type: ignore[assignment]
    book = entity | {"id": "E2", "name": "Book"}
    wrote = {"type": "modelarts/text_triplet", "name": "wrote", "id": "R1"}
    wrote["property"] = {"@modelarts:from": "E1", "@modelarts:to": "E2"}  # type: ignore[assignment]
    joins = {"name": "wrote", "type": 102, "property": {"@modelarts:from_type": "Person", "@modelarts:to_type": "Book"}}
    both = [{"name": "Person", "type": 103}, {"name": "Book", "type": 103}, joins]
    texts = make(102, [{"source": "content://Liu", "annotation": [entity, book, wrote]}], labels=both)
    said = properties(documented, texts)
    assert {"@modelarts:from", "@modelarts:start_index"} <= {key for one in said for key in one}
    found = documented.call(LISTED, dataset_id=texts)["samples"][0]
    assert (found["sample_data"], found["sample_size"]) == (["Liu"], 3)
    detail = documented.call("Obtaining Details About a Sample", dataset_id=texts, sample_id=found["sample_id"])
    assert detail["sample_data"] == ["Liu"]
    listed = documented.call("Querying the Dataset Label List", dataset_id=texts)["labels"]
    assert joins["property"] in [one["property"] for one in listed]

    stretch = {"@modelarts:start_time": "00:00:01.000", "@modelarts:end_time": "00:00:02.000"}
    stretch |= {"@modelarts:source": "Tom", "@modelarts:content": "How are you?"}
    spoken = {"type": "modelarts/audio_segmentation", "property": stretch}
    sounds = make(202, [{"source": f"s3://{bucket}/a.wav", "annotation": [spoken]}])
    assert properties(documented, sounds) == [stretch]

    tenant.objects.put(f"s3://{bucket}/rows/a.csv", b"w,label\n1.5,a\n2.5,b\n")
    source = {"data_path": f"/{bucket}/rows/", "data_type": 0, "with_column_header": True}
    source["schema_maps"] = [{"src_name": "w", "dest_name": "width"}]
    columns = [{"schema_id": 1, "name": "width", "type": "DOUBLE", "description": "of a leaf"}]
    columns += [{"schema_id": 2, "name": "label", "type": "STRING", "description": "its kind"}]
    table = make(400, [], data_sources=[source], schema=columns, import_data=True)
    shown = documented.call("Querying Details About a Dataset", dataset_id=table)
    assert shown["schema"] == columns
    ended = documented.finished(IMPORTED, table, shown["import_task_id"])
    assert (ended["status"], ended["data_source"]) == ("COMPLETED", source)
    documented.call("Querying the Dataset Import Task List", dataset_id=table)
    documented.call("Querying the Dataset List")
    tenant.objects.put(f"s3://{bucket}/bad.manifest", b"nonsense\n")
    order = {"import_path": f"/{bucket}/bad.manifest", "import_type": "manifest", "on_error": "stop"}
    failed = documented.call("Creating an Import Task", order, dataset_id=texts)["task_id"]
    assert documented.finished(IMPORTED, texts, failed)["error_msg"]
    documented.call("Querying the Dataset Import Task List", dataset_id=texts)


@pytest.fixture
def pictures(make: Make, tenant: Tenant, bucket: str) -> str:
    """The id of a dataset of object detection: a hard picture with a box, and one without."""
    tenant.objects.put_many({f"s3://{bucket}/in/{n}.png": picture(n) for n in range(2)})
    about = {"@modelarts:size": [8, 8, 3], "@modelarts:hard_reasons": [1, 2], "@modelarts:hard_coefficient": 0.7}
    about |= {"@modelarts:import_origin": 0, "color": "red"}
    box = {"@modelarts:shape": "bndbox", "@modelarts:feature": [[1, 1], [5, 5]]}
    box |= {"@modelarts:hard_coefficient": "0.7", "@modelarts:hard_reasons": "1-2"}
    said = {"type": "modelarts/object_detection", "name": "cat", "hard": "true", "confidence": 0.8, "property": box}
    lines = [{"source": f"s3://{bucket}/in/0.png", "property": about, "annotation": [said]}]
    lines.append({"source": f"s3://{bucket}/in/1.png", "property": about})
    mood = {"name": "mood", "type": "select", "default_value": "good", "values": [{"value": "good"}, {"value": "bad"}]}
    looks = {"@modelarts:default_shape": "bndbox", "@modelarts:color": "#FFFFF0", "@modelarts:shortcut": "c"}
    return make(1, lines, labels=[{"name": "cat", "property": looks, "attributes": [mood]}])


def publish(documented: Documented, dataset_id: str, **fields: Any) -> Any:
    """The version, once it is published or is known not to be."""
    made = documented.call("Creating a Dataset Labeling Version", fields, dataset_id=dataset_id)
    ids = {"dataset_id": dataset_id, "version_id": made["version_id"]}
    return documented.until(VERSION, lambda version: version["status"] != 0, **ids)


def test_what_is_told_of_pictures_and_versions(
    documented: Documented, make: Make, pictures: str, tenant: Tenant, bucket: str
) -> None:
    listed = documented.call(LISTED, query={"order": "asc"}, dataset_id=pictures)["samples"]
    hard = documented.call("Obtaining Details About a Sample", dataset_id=pictures, sample_id=listed[0]["sample_id"])
    assert {name: one["alo_name"] for name, one in hard["hard_details"].items()} == {
        "1": "low_confidence",
        "2": "unlike_cluster",
    }
    stats = documented.call("Obtaining Dataset Statistics", dataset_id=pictures)
    assert stats["hard_detail_stats"]["1"]["key"] == 1
    assert stats["metadata_stats"]["color"] == {"red": 2}
    assert documented.call("Obtaining Sample Search Condition", dataset_id=pictures)["metadata"]["color"] == ["red"]
    documented.call("Querying the Dataset Label List", dataset_id=pictures)

    first = publish(documented, pictures, description="the first")
    second = publish(documented, pictures)
    assert second["previous_version_id"] == first["version_id"]
    assert second["data_statistics"]["sample_stats"] == {"total": 2, "manual_annotation": 1, "un_annotation": 1}
    lost = make(0, [{"source": f"s3://{bucket}/in/none.png"}])
    failed = publish(documented, lost, export_images=True)
    assert (failed["status"], failed["code"]) == (4, "ModelArts.0104"), failed
    assert failed["message"]
    documented.call("Querying the Dataset Version List", dataset_id=lost)
    shown = documented.call("Querying the Dataset List", query={"file_preview": True, "with_labels": True})["datasets"]
    (one,) = (one for one in shown if one["dataset_id"] == pictures)
    assert one["data_statistics"]["sample_stats"]["un_annotation"] == 1
    (previewed,) = (sample for sample in one["samples"] if sample["tags"])
    assert (previewed["tags"], previewed["width"], previewed["depth"]) == ({"cat": "human"}, 8, 3)

    source = {"type": "DATASET", "source": pictures, "name": "pictures"}
    operator = {"id": "RandomSelection", "params": {"sample_count": 1}}
    into = {"type": "DATASET", "path": pictures, "name": "pictures", "version_name": "one"}
    select = {"id": "sys_data_selection", "name": "selection", "operator_params": [operator]}
    ordered = {"name": "choose", "inputs": [source], "template": select, "work_path": into, "create_version": True}
    choose = documented.call("Creating a Processing Task", ordered)["task_id"]
    nothing = {"type": "DATASET", "source": lost, "sample_state": "__ALL__"}
    ordered = {"name": "fail", "inputs": [nothing], "template": select, "create_version": True}
    fail = documented.call("Creating a Processing Task", ordered)["task_id"]
    about = "Querying Details About a Processing Task"
    ended = documented.until(about, lambda task: task["status"] > 1, task_id=choose)
    made = ended["work_path"]["version_id"]
    figures = {"id": "ImageFeatures", "advanced_params_switch": False}
    analysis = {"id": "sys_data_analyse", "operator_params": [figures]}
    ordered = {"name": "look", "data_source": source | {"version_id": made, "version_name": "one"}}
    look = documented.call("Creating a Processing Task", ordered | {"template": analysis})["task_id"]
    for task_id, status in ((look, 2), (fail, 3)):
        ended = documented.until(about, lambda task: task["status"] > 1, task_id=task_id)
        assert ended["status"] == status, ended
    told = documented.call("Querying the List of a Processing Task")["tasks"]
    assert {one["task_id"] for one in told} == {look, choose, fail}
    (ran,) = documented.call("Querying the Version List of a Data Processing Task", task_id=choose)["versions"]
    (looked,) = documented.call("Querying the Version List of a Data Processing Task", task_id=look)["versions"]
    for task_id, version in ((choose, ran), (look, looked)):
        ids = {"task_id": task_id, "version_id": version["task_version_id"]}
        shown = documented.call("Querying the Details About the Version of a Data Processing Task", **ids)
        assert shown["inputs"][0]["source"] == pictures
    versions = documented.call("Querying the Dataset Version List", dataset_id=pictures)["versions"]
    assert {one["analysis_task_id"] for one in versions} == {look, ""}
    for one in versions:
        documented.call(VERSION, dataset_id=pictures, version_id=one["version_id"])
    (current,) = documented.call("Querying Details About a Dataset", dataset_id=pictures)["versions"]
    assert (current["analysis_task_id"], current["processor_task_id"]) == (look, choose)


def test_what_is_told_of_exports(documented: Documented, pictures: str, bucket: str) -> None:
    version = publish(documented, pictures, description="to be exported")
    sample_id = documented.call(LISTED, dataset_id=pictures)["samples"][0]["sample_id"]
    params = {
        "clear_hard_property": False,
        "export_dataset_version_format": "Default",
        "export_dataset_version_name": "V9",
        "export_dest": "NEW_DATASET",
        "export_new_dataset_name": "found",
        "export_new_dataset_work_path": f"/{bucket}/found/",
        "ratio_sample_usage": True,
        "sample_state": "__ALL__",
        "samples": [sample_id],
        "search_conditions": [SEARCH],
        "train_sample_ratio": "0.5",
    }
    found = {"path": f"/{bucket}/copied/", "export_type": 3, "export_params": params}
    folder = {"path": f"/{bucket}/folder/", "export_format": 1, "version_id": version["version_id"]}
    ids: dict[str, Any] = {"dataset_id": pictures}
    status = "Querying the Status of a Dataset Export Task"
    for order in found, folder, folder | {"export_format": 2, "annotation_format": "COCO"}:
        task_id = documented.call("Creating a Dataset Export Task", order, **ids)["task_id"]
        documented.finished(status, pictures, task_id)
    assert documented.call("Querying the Dataset Export Task List", **ids)["total_count"] == 3
    documented.call("Querying Details About a Dataset", dataset_id=pictures)


CONFIG = {
    "algorithm_type": "fast",
    "ambiguity": True,
    "collect_rule": "all",
    "collect_sample": True,
    "confidence_scope": "0.10-0.90",
    "description": "all that may be said",
    "engine_name": "any",
    "export_format": 1,
    "export_params": {"sample_state": "__ALL__", "search_conditions": [SEARCH]},
    "image_brightness": True,
    "image_colorfulness": True,
    "inf_cluster_id": "c",
    "inf_config_list": [
        {"envs": {"A": "1"}, "instance_count": 1, "model_id": "m", "specification": "s", "weight": 100}
    ],
    "model_parameter": "{}",
    "n_clusters": 2,
    "name": "everything",
    "parameters": [{"label": "epochs", "value": "1"}],
    "pool_id": "p",
    "property": "color",
    "req_uri": "/",
    "result_type": 1,
    "stop_time": 15,
    "time": "0",
    "version_format": "Default",
    "worker_server_num": 1,
}
"""What an intelligent task may be told; paths and a model come with the test."""


def a_model() -> bytes:
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "same", value[:1], value[1:])
    made: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=9)
    return bytes(made.SerializeToString())


def test_what_is_told_of_an_intelligent_task(
    documented: Documented, pictures: str, tenant: Tenant, bucket: str
) -> None:
    package = f"s3://{bucket}/package/model/"
    said = {"type": "object"}
    api = {"protocol": "http", "url": "/", "method": "post"}
    api |= {"request": {"Content-type": "multipart/form-data", "data": said}}  # type: ignore[dict-item]
    api |= {"response": {"Content-type": "application/json", "data": said}}  # type: ignore[dict-item]
    config = {"model_type": "ONNX", "model_algorithm": "object_detection", "apis": [api]}
    tenant.objects.put_many({f"{package}a.onnx": a_model(), f"{package}config.json": json.dumps(config).encode()})
    wanted = {"model_name": "same", "model_version": "0.0.1", "model_type": "ONNX"}
    model = tenant.client.post("/v1/{project_id}/models", {**wanted, "source_location": f"/{bucket}/package/"})
    where = f"/v1/{{project_id}}/models/{model['model_id']}"
    wait_until(lambda: tenant.client.get(where)["model_status"] == "published")
    chosen = {"sample_id": "0" * 32, "sample_type": 0, "sample_usage": "TRAIN", "source": "s3://a/b", "worker_id": "w"}
    chosen |= {"labels": [{"name": "a"}], "metadata": {"@modelarts:hard": 1.0}}
    folders = ["annotation_output", "inf_output", "infer_result_output_dir", "key_sample_output", "log_url"]
    folders += ["manifest_path", "output_dir", "train_data_path", "train_url"]
    named = {"model_id": model["model_id"], "model_name": "same", "model_version": "0.0.1", "samples": [chosen]}
    paths = {name: f"/{bucket}/results/{name}/" for name in folders}
    ids: dict[str, Any] = {"dataset_id": pictures}
    body = {"task_type": "pre-label", "collect_key_sample": True, "config": CONFIG | paths | named}
    task_id = documented.call("Starting Intelligent Tasks", body, **ids)["task_id"]
    about = "Obtaining Details About an Auto Labeling Task"
    ended = documented.until(about, lambda task: task["status"] in (2, 3), task_id=task_id, **ids)
    assert ended["status"] == 2
    documented.call("Obtaining an Auto Labeling Task List by Page", **ids)
    (whole,) = ended["result"]["events"]
    assert (whole["status"], whole["error_code"]) == ("failed", ended["error_code"])
    assert [one["parent_name"] for one in whole["events"]] == ["pre-label"] * 3
    assert ended["result"]["hard_select_tasks"][0]["task_status"] == "failed"
