"""The vendor's public REST reference of data management, walked: every operation, its fields, their types."""

from __future__ import annotations

import base64
import json
import re
import time
from typing import Any

import httpx
import pytest

from bottega.client import ApiFailure
from bottega.errors import NotSupported
from bottega.testing import RunningPlatform, Tenant, wait_until

from . import reference
from .conftest import Documented, picture
from .reference import Operation


@pytest.fixture(scope="session")
def api(running: RunningPlatform) -> Any:
    return httpx.get(f"{running.url}/openapi.json", timeout=60).json()


NO_SUCH_SOURCE = "data comes from object storage here; another data_type is refused"
KNOWN = "the platform's own knowledge, which a request cannot change; it may be sent and is not looked at"
WITHOUT_EFFECT = {
    r"SourceInfo\.\w+|DataSource\.source_info": NO_SUCH_SOURCE,
    r"Worker\.(create_time|description|status|update_time|workforce_id)": KNOWN,
    r"SampleLabels\.(sample_type|source)": KNOWN,
    r"(body|WorkforceInformation)\.(dataset_id|task_id|status)": KNOWN,
    r"body\.import_folder": "samples stay where they are; an import copies nothing",
    r"query\.locale": "messages are in English",
    r"query\.(version_format|dataset_version)": "datasets are not chosen by the format of their versions",
    r"(query|body)\.email|(query|SampleLabels)\.worker_id|query\.(sample_state|workforce_task_id)": (
        "what members of a team say is asked for, and said, by the operations of their task"
    ),
}
"""Documented fields of requests that have no effect here, and why."""


@pytest.mark.parametrize("operation", reference.operations(), ids=lambda one: one.title)
def test_an_operation_takes_its_documented_fields(api: Any, operation: Operation) -> None:
    taken = reference.taken(api, operation)
    assert taken is not None, f"{operation.call} is not routed"
    wanted = {f"query.{name}" for name in operation.query}
    wanted |= set(reference.documented(operation.body, operation.body_models, "body"))
    left = {one for one in wanted - taken if not any(re.fullmatch(known, one) for known in WITHOUT_EFFECT)}
    assert sorted(left) == []


@pytest.fixture
def filled(documented: Documented, tenant: Tenant, bucket: str) -> str:
    """The id of a dataset of image classification with three cats, two dogs and two unlabeled pictures."""
    names = ["Cat/0", "Cat/1", "Cat/2", "Dog/3", "Dog/4", "5", "6"]
    tenant.objects.put_many({f"s3://{bucket}/in/{n}.png": picture(40 * i) for i, n in enumerate(names)})
    made = documented.call(
        "Creating a Dataset",
        {
            "data_format": "Default",
            "data_sources": [{"data_path": f"/{bucket}/in/", "data_type": 0, "with_column_header": False}],
            "dataset_name": "animals",
            "dataset_type": 0,
            "description": "of the house",
            "import_annotations": True,
            "import_data": False,
            "label_format": {"label_type": "1", "text_label_separator": ",", "text_sample_separator": "|"},
            "labels": [
                {
                    "name": "Bird",
                    "type": 0,
                    "property": {"@modelarts:color": "#FFFFF0", "@modelarts:shortcut": "b"},
                    "attributes": [
                        {"name": "size", "type": "select", "values": [{"value": "big"}, {"value": "small"}]}
                    ],
                }
            ],
            "managed": False,
            "work_path": f"/{bucket}/out/",
            "work_path_type": 0,
            "workspace_id": "0",
        },
    )
    documented.finished("Querying Details About a Dataset Import Task", made["dataset_id"], made["import_task_id"])
    return str(made["dataset_id"])


def test_datasets(documented: Documented, filled: str) -> None:
    listed = documented.call(
        "Querying the Dataset List",
        query={
            "check_running_task": True,
            "contain_versions": False,
            "dataset_type": 0,
            "file_preview": True,
            "limit": 10,
            "offset": 0,
            "order": "asc",
            "search_content": "anim",
            "sort_by": "create_time",
            "with_labels": True,
            "workspace_id": "0",
        },
    )
    assert [one["dataset_id"] for one in listed["datasets"]] == [filled]
    changed = {
        "dataset_name": "pets",
        "description": "new",
        "add_labels": [{"name": "Fish"}],
        "update_labels": [{"name": "Bird", "property": {"@modelarts:rename_to": "Parrot"}}],
        "delete_labels": [{"name": "Dog"}],
    }
    documented.call("Modifying a Dataset", changed, dataset_id=filled)
    shown = documented.call(
        "Querying Details About a Dataset",
        query={"check_running_task": True, "running_task_type": 0},
        dataset_id=filled,
    )
    assert (shown["dataset_name"], shown["description"]) == ("pets", "new")
    assert {one["name"] for one in shown["labels"]} == {"Cat", "Fish", "Parrot"}
    now = int(time.time() * 1000)
    query = {"start_time": now - 3_600_000, "end_time": now + 60_000}
    assert documented.call("Querying the Monitoring Data of a Dataset", query=query, dataset_id=filled)["metrics"]
    documented.call("Deleting a Dataset", dataset_id=filled)
    with pytest.raises(ApiFailure) as gone:
        documented.call("Querying Details About a Dataset", dataset_id=filled)
    assert gone.value.status == 404


def test_samples(documented: Documented, filled: str) -> None:
    sample = {
        "name": "7.png",
        "data": base64.b64encode(picture(7)).decode(),
        "encoding": "base64",
        "sample_type": 0,
        "labels": [{"name": "Cat", "type": 0}],
        "metadata": {"@modelarts:hard": 0.0},
    }
    added = documented.call(
        "Adding Samples in Batches", {"final_annotation": True, "samples": [sample]}, dataset_id=filled
    )
    assert added["success"] is True
    query = {
        "sample_state": "__ALL__",
        "label_name": "Cat",
        "label_type": 0,
        "sample_type": 0,
        "low_score": "0",
        "high_score": "1",
        "order": "asc",
        "preview": True,
        "limit": 100,
        "offset": 0,
    }
    cats = documented.call("Obtaining a Sample List", query=query, dataset_id=filled)
    assert cats["sample_count"] == 4
    one = cats["samples"][0]["sample_id"]
    label = {"name": "Dog", "type": 0, "score": 0.9, "annotated_by": "human", "property": {"@modelarts:hard": "1"}}
    changed = {"sample_id": one, "labels": [label], "sample_usage": "TRAIN", "sample_type": 0}
    updated = documented.call("Updating Sample Labels in Batches", {"samples": [changed]}, dataset_id=filled)
    assert updated["success"] is True
    shown = documented.call("Obtaining Details About a Sample", dataset_id=filled, sample_id=one)
    assert [label["name"] for label in shown["labels"]] == ["Dog"]
    stats = documented.call("Obtaining Dataset Statistics", query={"sample_state": "__ALL__"}, dataset_id=filled)
    assert {row["name"]: row["count"] for row in stats["label_stats"]} == {"Cat": 3, "Dog": 3, "Bird": 0}
    found = documented.call("Obtaining Sample Search Condition", dataset_id=filled)
    assert {row["name"] for row in found["labels"]} == {"Cat", "Dog", "Bird"}
    gone = documented.call("Deleting Samples in Batches", {"samples": [one], "delete_source": True}, dataset_id=filled)
    assert gone["success"] is True
    assert documented.call("Obtaining a Sample List", dataset_id=filled)["sample_count"] == 7


def test_labels(documented: Documented, filled: str) -> None:
    fish = {"name": "Fish", "type": 0, "property": {"@modelarts:color": "#00FF00"}, "attributes": []}
    assert documented.call("Creating a Dataset Label", {"labels": [fish]}, dataset_id=filled)["success"]
    recolored = {"name": "Fish", "property": {"@modelarts:color": "#0000FF", "@modelarts:shortcut": "f"}}
    assert documented.call("Modifying Labels in Batches", {"labels": [recolored]}, dataset_id=filled)["success"]
    documented.call(
        "Updating a Label by Label Names",
        {"@modelarts:rename_to": "Shark"},
        query={"label_type": 0},
        dataset_id=filled,
        label_name="Fish",
    )
    listed = documented.call("Querying the Dataset Label List", dataset_id=filled)
    assert {row["name"] for row in listed["labels"]} == {"Bird", "Cat", "Dog", "Shark"}
    documented.call(
        "Deleting a Label and the Files that Only Contain the Label",
        query={"delete_source": False, "label_type": 0},
        dataset_id=filled,
        label_name="Dog",
    )
    assert documented.call("Querying Details About a Dataset", dataset_id=filled)["total_sample_count"] == 5
    answer = documented.call(
        "Deleting Labels in Batches",
        {"labels": [{"name": "Shark"}, {"name": "Bird"}]},
        query={"delete_policy": 0},
        dataset_id=filled,
    )
    assert answer["success"] is True


def test_import_export_and_synchronization(documented: Documented, tenant: Tenant, bucket: str, filled: str) -> None:
    tenant.objects.put_many({f"s3://{bucket}/more/Cat/{n}.png": picture(100 + n) for n in range(2)})
    task = documented.call(
        "Creating an Import Task",
        {
            "import_path": f"/{bucket}/more/",
            "import_type": "dir",
            "data_source": {"data_path": f"/{bucket}/more/", "data_type": 0},
            "difficult_only": False,
            "final_annotation": True,
            "import_annotations": True,
            "import_samples": True,
            "included_labels": [{"name": "Cat"}],
            "excluded_labels": [{"name": "Dog"}],
            "label_format": {"label_type": "1"},
        },
        dataset_id=filled,
    )
    ended = documented.finished("Querying Details About a Dataset Import Task", filled, task["task_id"])
    assert (ended["imported_sample_count"], ended["annotated_sample_count"]) == (2, 2)
    listed = documented.call("Querying the Dataset Import Task List", query={"limit": 1}, dataset_id=filled)
    assert [one["task_id"] for one in listed["import_tasks"]] == [task["task_id"]]
    exported = documented.call(
        "Creating a Dataset Export Task",
        {
            "path": f"/{bucket}/exported/",
            "export_type": 3,
            "export_params": {
                "sample_state": "__ALL__",
                "export_dest": "DIR",
                "clear_hard_property": True,
                "ratio_sample_usage": True,
                "train_sample_ratio": "0.5",
                "search_conditions": [{"label_list": {"labels": [{"name": "Cat", "type": 0}], "op": "OR"}}],
            },
        },
        dataset_id=filled,
    )
    ended = documented.finished("Querying the Status of a Dataset Export Task", filled, exported["task_id"])
    assert ended["finished_sample_count"] == 5
    listed = documented.call("Querying the Dataset Export Task List", query={"export_type": 3}, dataset_id=filled)
    assert [one["task_id"] for one in listed["export_tasks"]] == [exported["task_id"]]
    tenant.objects.put(f"s3://{bucket}/in/Cat/new.png", picture(200))
    documented.call("Synchronizing a Dataset", dataset_id=filled)
    status = "Querying the Status of a Dataset Synchronization Task"
    done = documented.until(status, lambda task: task["status"] == "COMPLETED", dataset_id=filled)
    assert (done["add_sample_count"], done["deleted_sample_count"]) == (1, 0)


def test_versions(documented: Documented, filled: str) -> None:
    made = documented.call(
        "Creating a Dataset Labeling Version",
        {
            "version_name": "first",
            "description": "the first",
            "version_format": "Default",
            "train_evaluate_sample_ratio": "0.5",
            "clear_hard_property": True,
            "remove_sample_usage": True,
            "export_images": False,
            "with_column_header": False,
        },
        dataset_id=filled,
    )
    ids = {"dataset_id": filled, "version_id": made["version_id"]}
    about = "Querying Details About a Dataset Version"
    version = documented.until(about, lambda version: version["status"] == 1, **ids)
    assert (version["version_name"], version["total_sample_count"]) == ("first", 7)
    assert version["is_current"] is True
    query = {"status": 1, "train_evaluate_ratio": "0.4,0.6"}
    listed = documented.call("Querying the Dataset Version List", query=query, dataset_id=filled)
    assert [one["version_id"] for one in listed["versions"]] == [made["version_id"]]
    documented.call("Modifying a Dataset", {"current_version_id": made["version_id"]}, dataset_id=filled)
    documented.call("Deleting a Dataset Labeling Version", **ids)
    assert documented.call("Querying the Dataset Version List", dataset_id=filled)["versions"] == []


def test_processing(documented: Documented, bucket: str, filled: str) -> None:
    items = documented.call("Querying the Algorithm Type for Data Processing")
    assert "sys_data_analyse" in {one["template_id"] for one in items["items"]}
    source = {"type": "DATASET", "source": filled, "name": "animals"}
    operator = {"id": "RandomSelection", "name": "random", "params": {"sample_count": 3}}
    template = {"id": "sys_data_selection", "name": "selection", "operator_params": [operator]}
    work_path = {"type": "OBS", "path": f"/{bucket}/selected/"}
    ordered = {
        "name": "choose",
        "description": "a few",
        "create_version": False,
        "inputs": [source],
        "template": template,
        "work_path": work_path,
        "workspace_id": "0",
    }
    task_id = documented.call("Creating a Processing Task", ordered)["task_id"]
    version = {"name": "again", "description": "once more", "data_source": source, "work_path": work_path}
    version_id = documented.call(
        "Creating a Data Processing Task Version", {**version, "template": template}, task_id=task_id
    )["version_id"]
    ids = {"task_id": task_id, "version_id": version_id}
    about = "Querying the Details About the Version of a Data Processing Task"
    ended = documented.until(about, lambda version: version["status"] > 1, **ids)
    assert ended["status"] == 2, ended
    assert ended["origin_sample_count"] == 7
    results = documented.call(
        "Obtaining the Result of a Data Processing Task Version",
        query={"limit": 10, "offset": 0, "process_parameter": "image/resize,h_4"},
        **ids,
    )
    assert results["count"] == len(results["results"])
    assert all(one["signed_origin_source"].startswith("data:image/jpeg;base64,") for one in results["results"])
    query = {"order": "asc", "sort_by": "create_time"}
    versions = documented.call("Querying the Version List of a Data Processing Task", query=query, task_id=task_id)
    assert [one["task_version_id"] for one in versions["versions"]] == [version_id]
    another = documented.call(
        "Creating a Data Processing Task Version", {**version, "template": template}, task_id=task_id
    )
    stopped = {"task_id": task_id, "version_id": another["version_id"]}
    documented.call("Stopping the Version of a Data Processing Task", **stopped)
    documented.until(about, lambda shown: shown["status"] == 4, **stopped)
    documented.call("Updating a Processing Task", {"description": "chosen"}, task_id=task_id)
    shown = documented.call("Querying Details About a Processing Task", task_id=task_id)
    assert (shown["name"], shown["description"]) == ("choose", "chosen")
    wanted = {"task_name": "choose", "task_type": "sys_data_selection", "return_result": True, "sort_by": "name"}
    listed = documented.call("Querying the List of a Processing Task", query=wanted)
    assert [one["task_id"] for one in listed["tasks"]] == [task_id]
    documented.call("Deleting a Data Processing Task Version", **ids)
    documented.call("Deleting a Processing Task", task_id=task_id)
    assert documented.call("Querying the List of a Processing Task")["count"] == 0


def test_intelligent_tasks(documented: Documented, tenant: Tenant, bucket: str) -> None:
    words = {"fruit": ["apple", "pear", "plum"], "tool": ["saw", "drill", "file"]}
    lines: list[dict[str, Any]] = []
    for label, (a, b, c) in words.items():
        texts = [f"{a} and {b} no. {n} {c}" for n in range(8)]
        lines += [
            {
                "source": f"content://{text}",
                "annotation": [{"type": "modelarts/text_classification", "name": label}] if n < 5 else [],
            }
            for n, text in enumerate(texts)
        ]
    tenant.objects.put(f"s3://{bucket}/texts.manifest", "\n".join(json.dumps(one) for one in lines).encode())
    made = documented.call(
        "Creating a Dataset",
        {
            "dataset_name": "things",
            "dataset_type": 100,
            "data_sources": [],
            "work_path": f"/{bucket}/out/",
            "work_path_type": 0,
        },
    )
    ids = {"dataset_id": made["dataset_id"]}
    imported = documented.call(
        "Creating an Import Task", {"import_path": f"/{bucket}/texts.manifest", "import_type": "manifest"}, **ids
    )
    documented.finished("Querying Details About a Dataset Import Task", made["dataset_id"], imported["task_id"])
    task = documented.call(
        "Starting Intelligent Tasks",
        {
            "task_type": "auto-label",
            "collect_key_sample": False,
            "config": {"name": "first", "algorithm_type": "fast", "description": "of texts"},
        },
        **ids,
    )
    about = "Obtaining Details About an Auto Labeling Task"
    ended = documented.until(about, lambda shown: shown["status"] in (2, 3, 4), task_id=task["task_id"], **ids)
    assert (ended["task_name"], ended["status"]) == ("first", 3), ended
    listed = documented.call(
        "Obtaining an Auto Labeling Task List by Page", query={"task_name": "first", "type": "auto-label"}, **ids
    )
    assert [one["task_id"] for one in listed["tasks"]] == [task["task_id"]]
    query = {"label_name": "fruit", "label_type": 100, "low_score": "0", "high_score": "1", "order": "asc"}
    fruit = documented.call("Obtaining an Auto Labeling Sample List", query=query, **ids)
    assert fruit["sample_count"] == 3
    sample_id = fruit["samples"][0]["sample_id"]
    shown = documented.call("Querying Details About an Auto Labeling Sample", sample_id=sample_id, **ids)
    assert [one["name"] for one in shown["labels"]] == ["fruit"]
    again = documented.call("Starting Intelligent Tasks", {"task_type": "auto-grouping"}, **ids)
    for shown in (
        documented.call("Querying Details About a Dataset", **ids),
        documented.call("Querying the Dataset List")["datasets"][0],
    ):
        assert shown["running_tasks_id"] == [again["task_id"]]
    unasked = documented.call("Querying Details About a Dataset", query={"check_running_task": False}, **ids)
    assert (unasked["exist_running_task"], unasked["running_tasks_id"]) == (False, [])
    with pytest.raises(ApiFailure, match="auto-deploy has no operation in the reference") as unknown:
        documented.call("Starting Intelligent Tasks", {"task_type": "auto-deploy"}, **ids)
    assert unknown.value.error_code == NotSupported.code
    tried = {"trace_name": "createAutoDeployTask"}
    wait_until(lambda: tenant.client.get("/v3/{project_id}/traces", tried)["traces"])
    documented.call("Stopping an Intelligent Task", task_id=again["task_id"], **ids)
