"""The vendor's public REST reference of team labeling: every operation, called on a platform that can send mail."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from bottega.testing import RunningPlatform, Tenant, wait_until
from bottega.testing.mailbox import Mailbox
from bottega_dataset.client import Datasets

from .conftest import Documented, picture
from .test_rest_answers import SEARCH

ANN, BEN, REX = "ann@labels.example", "ben@labels.example", "rex@labels.example"


@pytest.fixture(scope="module")
def mailbox() -> Iterator[Mailbox]:
    with Mailbox() as mailbox:
        yield mailbox


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, mailbox: Mailbox) -> Iterator[RunningPlatform]:
    with RunningPlatform(tmp_path_factory.mktemp("teams"), {"smtp": mailbox.settings}) as platform:
        yield platform


@pytest.fixture
def texts(tenant: Tenant, bucket: str) -> str:
    """The id of a dataset of six unlabeled texts."""
    lines = [{"source": f"content://text {n}"} for n in range(6)]
    tenant.objects.put(f"s3://{bucket}/t.manifest", "\n".join(map(json.dumps, lines)).encode())
    datasets = Datasets(tenant.client)
    made = datasets.create("texts", f"/{bucket}/out/", dataset_type=100)
    datasets.import_from("texts", f"s3://{bucket}/t.manifest", import_type="manifest")
    return str(made["dataset_id"])


def workers_of(documented: Documented, team: str) -> dict[str, str]:
    listed = documented.call(
        "Querying the List of Labeling Team Members",
        query={"limit": 100, "offset": 0, "order": "asc", "sort_by": "create_time"},
        workforce_id=team,
    )
    assert listed["total_number"] == len(listed["workers"])
    return {one["email"]: one["worker_id"] for one in listed["workers"]}


def test_teams_and_members(documented: Documented) -> None:
    made = documented.call("Creating a Labeling Team", {"workforce_name": "night", "description": "shift"})
    team = made["workforce_id"]
    documented.call("Updating a Labeling Team", {"workforce_name": "day", "description": "shift 2"}, workforce_id=team)
    shown = documented.call("Querying Details About a Labeling Team", workforce_id=team)
    assert (shown["workforce_name"], shown["description"], shown["worker_count"]) == ("day", "shift 2", 0)
    query = {"search_content": "da", "sort_by": "create_time", "order": "desc"}
    listed = documented.call("Querying the Labeling Team List", query=query)
    assert [one["workforce_id"] for one in listed["workforces"]] == [team]
    for email, role in ((ANN, 0), (BEN, 0), (REX, 1)):
        body = {"emails": email, "role": role, "description": "of the house"}
        documented.call("Creating a Labeling Team Member", body, workforce_id=team)
    found = workers_of(documented, team)
    assert set(found) == {ANN, BEN, REX}
    changed = {"description": "the new one", "role": 1}
    documented.call("Updating a Labeling Team Member", changed, workforce_id=team, worker_id=found[BEN])
    ben = documented.call("Querying Details About Labeling Team Members", workforce_id=team, worker_id=found[BEN])
    assert (ben["email"], ben["role"], ben["description"]) == (BEN, 1, "the new one")
    everybody = documented.call("Querying the List of All Labeling Team Members", query={"role": 1})
    assert {one["email"] for one in everybody["workers"]} == {BEN, REX}
    documented.call("Deleting a Labeling Team Member", workforce_id=team, worker_id=found[BEN])
    gone = documented.call("Deleting Labeling Team Members in Batches", {"workers": [found[REX]]}, workforce_id=team)
    assert gone["success"] is True
    assert set(workers_of(documented, team)) == {ANN}
    documented.call("Deleting a Labeling Team", workforce_id=team)
    assert documented.call("Querying the Labeling Team List")["total_number"] == 0


def test_a_task_from_beginning_to_acceptance(documented: Documented, texts: str) -> None:
    team = documented.call("Creating a Labeling Team", {"workforce_name": "day"})["workforce_id"]
    for email, role in ((ANN, 0), (REX, 2)):
        documented.call("Creating a Labeling Team Member", {"emails": email, "role": role}, workforce_id=team)
    workers = workers_of(documented, team)
    config = {"workforces": [{"workforce_id": team, "workers": [{"email": ANN, "worker_id": workers[ANN]}]}]}
    made = documented.call(
        "Creating a Team Labeling Task",
        {
            "task_name": "round-1",
            "repetition": 1,
            "sample_conditions": "{}",
            "data_sync_type": 2,
            "auto_sync_dataset": True,
            "synchronize_data": False,
            "synchronize_auto_labeling_data": False,
            "workforces_config": {"agency": REX, **config},
        },
        dataset_id=texts,
    )
    ids = {"dataset_id": texts, "workforce_task_id": made["task_id"]}
    documented.call("Starting a Team Labeling Task", {"workforces_config": config}, **ids)

    def task() -> Any:
        query = {"label_stats": True, "sample_stats": True, "workforce_stats": True}
        return documented.call("Querying Details About a Team Labeling Task", query=query, **ids)

    wait_until(lambda: task()["status"] == 1)
    changed = {"task_name": "round-one", "description": "the first"}
    documented.call("Updating a Team Labeling Task", changed, **ids)
    listed = documented.call("Querying the Team Labeling Task List of a Dataset", dataset_id=texts)
    assert [one["task_name"] for one in listed["tasks"]] == ["round-one"]
    mine = documented.call("Querying the Team Labeling Task List by a Team Member", query={"sort_by": "create_time"})
    assert mine["count"] == len(mine["worker_tasks"])
    sent = documented.call("Sending an Email to a Labeling Team Member", {"emails": [ANN]}, **ids)
    assert sent["success"] is True

    samples = documented.call(
        "Obtaining a Sample List of a Team Labeling Task by Page",
        query={"limit": 10, "offset": 0, "sample_state": "__NONE__"},
        **ids,
    )
    assert samples["sample_count"] == 6
    labeled = [
        {"sample_id": one["sample_id"], "labels": [{"name": "good", "type": 100}], "worker_id": workers[ANN]}
        for one in samples["samples"]
    ]
    said = {"email": ANN, "samples": labeled}
    assert documented.call("Updating Labels of Team Labeling Samples in Batches", said, **ids)["success"] is True
    first = labeled[0]["sample_id"]
    shown = documented.call("Obtaining Details About a Team Labeling Sample", sample_id=first, **ids)
    assert [one["name"] for one in shown["labels"]] == ["good"]
    stats = documented.call("Querying Details About Team Labeling Task Statistics", **ids)
    assert {one["name"]: one["count"] for one in stats["label_stats"]} == {"good": 6}
    progress = documented.call("Querying Details About the Progress of a Team Labeling Task Member", **ids)
    assert progress["sample_stats"]
    comments = [{"sample_id": one["sample_id"], "accept": True, "score": "A", "comment": "fine"} for one in labeled]
    documented.call("Reviewing Team Labeling Results", {"comments": comments}, **ids)

    drawn = documented.call(
        "Creating a Team Labeling Acceptance Task", {"sampling_num": 2, "sampling_rate": None}, **ids
    )
    sampled = documented.call(
        "Obtaining a Sample List of a Team Labeling Task by Page",
        query={"sample_state": "__WORKFORCE_SAMPLED__"},
        **ids,
    )
    verdicts = [{"sample_id": one["sample_id"], "accept": True, "score": "B"} for one in sampled["samples"]]
    documented.call("Submitting Sample Review Comments of an Acceptance Task", {"comments": verdicts}, **ids)
    report = documented.call(
        "Querying the Report of a Team Labeling Acceptance Task", query={"checking_task_id": drawn["task_id"]}, **ids
    )
    assert report["checking_stats"]["accepted_sample_count"] == 2
    own = {"samples": [{"sample_id": first, "labels": [{"name": "bad"}]}]}
    documented.call("Updating Sample Labels in Batches", own, dataset_id=texts)
    query = {"locale": "en-us"}
    met = documented.call("Updating Status of a Team Labeling Acceptance Task", {"action": 3}, query=query, **ids)
    assert [(one["sample_id"], one["sample_data"]) for one in met["samples"]] == [(first, shown["sample_data"])]
    documented.call(
        "Updating Status of a Team Labeling Acceptance Task",
        {"action": 0, "overwrite_last_result": False},
        query={"locale": "en-us"},
        **ids,
    )
    wait_until(lambda: task()["status"] == 3)
    total = "Querying Details About a Dataset"
    wait_until(lambda: documented.call(total, dataset_id=texts)["annotated_sample_count"] == 6)
    documented.call("Deleting a Team Labeling Task", **ids)
    assert documented.call("Querying the Team Labeling Task List of a Dataset", dataset_id=texts)["count"] == 0


def test_what_is_told_of_a_sample_that_a_team_labels(
    documented: Documented, tenant: Tenant, bucket: str, mailbox: Mailbox
) -> None:
    about = {"@modelarts:size": [8, 8, 3], "@modelarts:hard_reasons": [1, 2], "@modelarts:hard_coefficient": 0.7}
    about |= {"@modelarts:import_origin": 0, "color": "red"}
    box: dict[str, Any] = {"@modelarts:shape": "bndbox", "@modelarts:feature": [[1, 1], [5, 5]]}
    hard = {"@modelarts:hard_coefficient": "0.7", "@modelarts:hard_reasons": "1-2"}
    guess = {"type": "modelarts/object_detection", "name": "cat", "confidence": 0.8, "property": box | hard}
    folders = {"in/0": 0, "more/1": 1, "more/2": 2}
    tenant.objects.put_many({f"s3://{bucket}/{name}.png": picture(n) for name, n in folders.items()})
    lines = [{"source": f"s3://{bucket}/more/{n}.png", "property": about, "annotation": [guess]} for n in (1, 2)]
    tenant.objects.put(f"s3://{bucket}/p.manifest", "\n".join(map(json.dumps, lines)).encode())
    looks: dict[str, Any] = {"name": "cat", "property": {"@modelarts:color": "#FFFFF0"}}
    looks["attributes"] = [{"name": "mood", "type": "select", "values": [{"value": "good"}]}]
    body: dict[str, Any] = {
        "dataset_name": "seen",
        "dataset_type": 1,
        "data_sources": [],
        "work_path": f"/{bucket}/out/",
    }
    body |= {"work_path_type": 0, "labels": [looks]}
    body["data_sources"] = [{"data_path": f"/{bucket}/in/", "data_type": 0}]
    made = documented.call("Creating a Dataset", body | {"import_annotations": False})
    pictures = made["dataset_id"]
    imported = "Querying Details About a Dataset Import Task"
    documented.finished(imported, pictures, made["import_task_id"])
    order = {"import_path": f"/{bucket}/p.manifest", "import_type": "manifest", "final_annotation": False}
    task = documented.call("Creating an Import Task", order, dataset_id=pictures)
    assert documented.finished(imported, pictures, task["task_id"])["unconfirmed_sample_count"] == 2
    version = documented.call("Creating a Dataset Labeling Version", {}, dataset_id=pictures)["version_id"]
    wait_until(lambda: documented.call("Querying Details About a Dataset", dataset_id=pictures)["current_version_id"])

    team = documented.call("Creating a Labeling Team", {"workforce_name": "day"})["workforce_id"]
    worker = {"emails": ANN, "role": 0, "description": "of the house"}
    documented.call("Creating a Labeling Team Member", worker, workforce_id=team)
    for email, role in ((REX, 1), (BEN, 2)):
        documented.call("Creating a Labeling Team Member", {"emails": email, "role": role}, workforce_id=team)
    config = {"workforces": [{"workforce_id": team}]}
    order = {"task_name": "boxes", "workforces_config": config, "synchronize_auto_labeling_data": True}
    order["sample_conditions"] = json.dumps({"metadata": {"props": {"color": ["red"]}}})
    ids = {"dataset_id": pictures}
    ids["workforce_task_id"] = documented.call("Creating a Team Labeling Task", order, dataset_id=pictures)["task_id"]
    shown = "Querying Details About a Team Labeling Task"
    documented.until(shown, lambda task: task["status"] == 1, **ids)
    given = documented.call("Obtaining a Sample List of a Team Labeling Task by Page", **ids)["samples"]
    said = {"name": "cat", "type": 1, "score": 0.9, "property": box}
    labels = [{"sample_id": one["sample_id"], "labels": [said]} for one in given]
    wrong = {"sample_id": "0" * 32, "labels": []}
    answer = documented.call(
        "Updating Labels of Team Labeling Samples in Batches", {"samples": [*labels, wrong]}, **ids
    )
    assert [one["success"] for one in answer["results"]] == [True, True, False]
    seen = {"accept": True, "comment": "fine", "score": "A"}
    comments = [{"sample_id": one["sample_id"], **seen} for one in given]
    documented.call("Reviewing Team Labeling Results", {"comments": comments}, **ids)
    documented.call("Creating a Team Labeling Acceptance Task", {"sampling_num": 2}, **ids)
    documented.call("Submitting Sample Review Comments of an Acceptance Task", {"comments": comments}, **ids)

    one = given[0]["sample_id"]
    for title in ("Obtaining a Sample List", "Obtaining an Auto Labeling Sample List"):
        listed = documented.call(title, dataset_id=pictures)["samples"]
        listed = [row for row in listed if "/in/" not in row["source"]]
        assert {(row["review_comment"], row["check_score"], row["score"]) for row in listed} == {("fine", "A", "A")}
        assert {worker["email"] for row in listed for worker in row["labelers"]} == {ANN}
    for title in ("Obtaining Details About a Sample", "Querying Details About an Auto Labeling Sample"):
        assert documented.call(title, dataset_id=pictures, sample_id=one)["check_accept"] is True
    documented.call("Obtaining Details About a Team Labeling Sample", sample_id=one, **ids)
    small = {"process_parameter": "image/resize,m_lfit,h_4"}
    for title in ("Obtaining a Sample List of a Team Labeling Task by Page", "Obtaining an Auto Labeling Sample List"):
        for row in documented.call(title, query=small, **ids)["samples"]:
            assert row["preview_url"].startswith("data:image/jpeg;base64,"), title
    stats = documented.call("Querying Details About Team Labeling Task Statistics", **ids)
    assert stats["metadata_stats"]["color"] == {"red": 2}
    change = {"samples": [{"sample_id": one, "labels": [{"name": "cat", "property": box | {"@modelarts:hard": "1"}}]}]}
    documented.call("Updating Sample Labels in Batches", change, dataset_id=pictures)
    stats = documented.call("Querying Details About Team Labeling Task Statistics", **ids)
    assert stats["key_sample_stats"] == {"total": 2, "key_sample": 1, "non_key_sample": 1}
    assert {reason: found["key"] for reason, found in stats["hard_detail_stats"].items()} == {"1": 1, "2": 1}
    status = "Updating Status of a Team Labeling Acceptance Task"
    conflicts = documented.call(status, {"action": 3}, query={"locale": "en-us"}, **ids)
    assert [row["sample_id"] for row in conflicts["samples"]] == [one]

    (task,) = documented.call("Querying the Team Labeling Task List of a Dataset", dataset_id=pictures)["tasks"]
    assert (task["version_id"], task["checking_task_desc"]["checking_stats"]["accepted_sample_count"]) == (version, 2)
    documented.call(shown, query={"label_stats": True}, **ids)
    sent = documented.call("Sending an Email to a Labeling Team Member", {"emails": [ANN, "nobody@x.example"]}, **ids)
    assert [result["success"] for result in sent["results"]] == [True, False]
    mailbox.wait(ANN, "boxes")
    tasks = "Querying the Team Labeling Task List by a Team Member"
    wait_until(lambda: any(row["last_notify_time"] for row in documented.call(tasks)["worker_tasks"]))
    order = {"task_name": "none", "sample_conditions": json.dumps([SEARCH])}
    order["workforces_config"] = config | {"agency": BEN}
    ids["workforce_task_id"] = documented.call("Creating a Team Labeling Task", order, dataset_id=pictures)["task_id"]
    assert documented.call(shown, **ids)["sample_search_conditions"] == [SEARCH]
    documented.call("Querying the Dataset List")
    documented.call("Querying Details About a Dataset", dataset_id=pictures)
