"""The vendor's public REST reference of team labeling: every operation, called on a platform that can send mail."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from bottega.testing import RunningPlatform, Tenant, wait_until
from bottega.testing.mailbox import Mailbox
from bottega_dataset.client import Datasets

from .conftest import Documented

ANN, BEN, REX = "ann@labels.example", "ben@labels.example", "rex@labels.example"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    folder = tmp_path_factory.mktemp("teams")
    with Mailbox() as mailbox, RunningPlatform(folder, {"smtp": mailbox.settings}) as platform:
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
