"""Team labeling tasks: given out in all ways, to members who come and leave; figures, letters, rights."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from bottega.context import now_ms
from bottega.testing import Tenant, wait_until
from bottega.testing.mailbox import Mailbox

from .conftest import WORKFORCES, Console, Job, label, own, refused

Join = Callable[..., tuple[str, Console]]
Address = Callable[[str], str]


def test_samples_are_given_out_by_weight_by_label_and_to_several(job: Job, join: Join, address: Address) -> None:
    (_, a), (ben, b), (_, c) = join("ann"), join("ben"), join("cat")
    task = job.create(
        [{"email": address("ann"), "weight": 3}, {"worker_id": ben, "weight": 1}], allocation={"method": "weight"}
    )
    assert (len(own(a, task)), len(own(b, task))) == (6, 2)
    label_of = {"method": "label", "labels": {"old": [address("cat")]}}
    task = job.create(task_name="by-label", allocation=label_of)
    assert {"text 0", "text 1"} <= {s["sample_data"][0] for s in own(c, task)}
    assert not {"text 0", "text 1"} & {s["sample_data"][0] for s in own(a, task)}
    task = job.create(task_name="twice", repetition=2)
    counted = Counter(s["sample_id"] for s in job.samples())
    assert set(counted.values()) == {2}
    assert sorted(len(own(x, task)) for x in (a, b, c)) == [5, 5, 6]
    assert job.stats()["total"] == 8
    for wrong in (
        {"repetition": 4},
        {"workforces_config": {"workforces": [{"workforce_id": job.team, "workers": [{"email": "x@y.zz"}]}]}},
        {"allocation": {"method": "label", "labels": {"old": ["nobody"]}}},
        {"sample_conditions": "{"},
        {"sample_conditions": '{"color": "red"}'},
        {"task_name": "no blanks"},
    ):
        assert refused(job.create, **{"task_name": "bad", **wrong}).status == 400, wrong
    assert refused(job.create, task_name="twice").status == 409
    listed = job.client.get(job.tasks)
    assert listed["count"] == 3
    assert [t["task_name"] for t in listed["tasks"]] == ["twice", "by-label", "round-1"]
    assert listed["tasks"][0]["workforce_stats"]["labeler_count"] == 3


def test_members_leave_and_come_and_all_samples_stay_with_somebody(job: Job, join: Join, address: Address) -> None:
    (ann, a), (ben, b) = join("ann"), join("ben")
    task = job.create()
    label(a, task, own(a, task)[:1], "cat")
    job.client.delete(f"{WORKFORCES}/{job.team}/workers/{ann}")
    assert len(own(b, task)) == 7
    assert refused(a.call, "GET", "/tasks").status == 401
    assert job.stats() == {"total": 8, "unannotated": 7, "uncheck": 1}
    left = [w for t in job.show()["workforces_config"]["workforces"] for w in t["workers"] if w["status"] == 3]
    assert [(w["worker_id"], w["email"]) for w in left] == [(ann, "")]
    cat, c = join("cat")
    config = {"workforces": [{"workforce_id": job.team, "workers": [{"worker_id": ben}, {"worker_id": cat}]}]}
    job.client.put(job.one, {"workforces_config": config, "description": "more"})
    assert sorted([len(own(b, task)), len(own(c, task))]) == [3, 4]
    job.client.put(
        job.one, {"workforces_config": {"workforces": [{**config["workforces"][0], "workers": [{"worker_id": cat}]}]}}
    )
    assert len(own(c, task)) == 7
    assert refused(own, b, task).status == 404
    job.client.delete(f"{WORKFORCES}/{job.team}")
    assert job.stats() == {"total": 8, "unannotated": 7, "uncheck": 1}
    job.client.delete(job.one)
    assert refused(job.show).status == 404


def test_deleting_in_any_order_leaves_nothing(job: Job, join: Join, tenant: Tenant) -> None:
    _, a = join("ann")
    task = job.create()
    samples = own(a, task)
    label(a, task, samples[:2], "cat")
    gone = {"samples": [samples[0]["sample_id"], samples[7]["sample_id"]]}
    job.client.post(f"/v2/{{project_id}}/datasets/{job.dataset_id}/data-annotations/samples/delete", gone)
    assert job.stats() == {"total": 6, "unannotated": 5, "uncheck": 1, "deleted": 2}
    job.datasets.delete("texts")
    assert a.call("GET", "/tasks")["count"] == 0
    assert refused(own, a, task).status == 404
    job.client.delete(f"{WORKFORCES}/{job.team}")

    async def left() -> dict[str, int]:
        from sqlalchemy import text

        async with tenant.running.platform("dataset").database.read() as session:
            queries = {
                "worker": "SELECT count(*) FROM dataset_worker WHERE project_id = :p",
                "labeler": "SELECT count(*) FROM dataset_labeler WHERE project_id = :p",
                "task": "SELECT count(*) FROM dataset_team_task WHERE project_id = :p",
                "item": "SELECT count(*) FROM dataset_team_item i WHERE NOT EXISTS "
                "(SELECT 1 FROM dataset_team_task t WHERE t.key = i.task_key)",
            }
            return {
                name: (await session.execute(text(q), {"p": tenant.project_id} if ":p" in q else {})).scalar_one()
                for name, q in queries.items()
            }

    assert tenant.running.run(left()) == {"worker": 0, "labeler": 0, "task": 0, "item": 0}


def test_new_data_joins_a_task_that_wants_it(job: Job, join: Join, tenant: Tenant, bucket: str) -> None:
    _, a = join("ann")
    job.create(synchronize_data=True)
    closed = Job(job.client, job.datasets, job.team, job.dataset_id)
    closed.create(task_name="closed")
    more = [{"source": "content://new 1"}, {"source": "content://new 2"}]
    more.append({"source": "content://new 3", "annotation": [{"type": "text_classification", "name": "old"}]})  # type: ignore[dict-item]
    tenant.objects.put(f"s3://{bucket}/more.manifest", "\n".join(map(json.dumps, more)).encode())
    job.datasets.import_from("texts", f"s3://{bucket}/more.manifest", import_type="manifest")
    wait_until(lambda: job.stats()["total"] == 10)
    assert {s["sample_data"][0] for s in own(a, job.task_id)} >= {"new 1", "new 2"}
    assert closed.stats()["total"] == 8


def test_a_team_administrator_starts_a_task_it_was_given(job: Job, join: Join, address: Address) -> None:
    (ann, a), (_, boss) = join("ann"), join("bob", 2)
    config = {"agency": address("bob"), "workforces": []}
    job.task_id = job.client.post(job.tasks, {"task_name": "later", "workforces_config": config})["task_id"]
    assert job.show()["status"] == 6
    assert a.call("GET", "/tasks")["count"] == 0
    assert boss.call("GET", "/tasks")["count"] == 1
    start = {"workforces_config": {"workforces": [{"workforce_id": job.team, "workers": [{"worker_id": ann}]}]}}
    boss.call("POST", f"/tasks/{job.task_id}/start", start)
    job.wait(1)
    assert len(own(a, job.task_id)) == 8
    assert len(own(boss, job.task_id)) == 8
    assert refused(job.client.post, job.one, start).status == 409


def test_figures_of_members_and_labels_and_letters_to_them(
    job: Job, join: Join, mailbox: Mailbox, address: Address
) -> None:
    (ann, a), (ben, _) = join("ann"), join("ben")
    task = job.create()
    label(a, task, own(a, task)[:3], "cat", "dog")
    metrics = job.client.get(f"{job.one}/metrics")
    assert metrics["sample_stats"][ann]["uncheck_sample_count"] == 3
    assert metrics["sample_stats"][ben]["unannotated_sample_count"] == 4
    assert metrics["label_stats"] == {ann: {"cat": 2, "dog": 1}, ben: {}}
    when = {"start_time": now_ms() - 60_000, "end_time": now_ms() + 60_000, "workforce_task_id": task}
    monitored = job.client.get(f"/v2/{{project_id}}/datasets/{job.dataset_id}/metrics", when)["metrics"]
    assert sum(monitored["labeled"].values()) == sum(monitored[f"labeled_by/worker:{ann}"].values()) == 3
    (listed,) = job.client.get("/v2/{project_id}/datasets")["datasets"]
    assert listed["workforce_descriptor"]["current_task_name"] == "round-1"
    stats = job.client.get(f"{job.one}/data-annotations/stats")
    assert {x["name"]: x["count"] for x in stats["label_stats"]} == {"old": 0, "cat": 2, "dog": 1}
    assert stats["sample_stats"]["un_check"] == 3
    assert [s["worker_id"] for s in job.samples(label_name="cat")] == [ann, ann]
    shown = job.show(label_stats=True, sample_stats=True, workforce_stats=True)
    assert shown["workforce_stats"] == {"labeler_count": 2, "reviewer_count": 0, "workforce_count": 1}
    assert {w["email"] for w in shown["worker_stats"]} == {address("ann"), address("ben")}
    answer = job.client.post(f"{job.one}/notify", {"emails": [address("ben"), "x@y.zz"]})
    assert [x["success"] for x in answer["results"]] == [True, False]
    assert "4 samples wait for you" in mailbox.wait(address("ben"), "Labeling task round-1")
    wait_until(lambda: {w["email_status"] for w in job.show()["worker_stats"]} == {0, 3})
    rows = job.client.get(f"{WORKFORCES}/worker-tasks")
    assert {(w["worker_id"], w["task_id"]) for w in rows["worker_tasks"]} == {(ann, task), (ben, task)}
    mailbox.refused.add(address("ann"))
    job.client.post(f"{job.one}/notify", {"emails": [address("ann")]})
    wait_until(lambda: {w["email_status"] for w in job.show()["worker_stats"]} == {1, 3})


def test_a_dataset_is_labeled_by_a_team_from_the_beginning(job: Job, join: Join, tenant: Tenant, bucket: str) -> None:
    _, a = join("ann")
    tenant.objects.put(f"s3://{bucket}/in/a.txt", b"one\ntwo\nthree")
    body = {
        "dataset_name": "fresh",
        "dataset_type": 100,
        "work_path": f"/{bucket}/fresh/",
        "data_sources": [{"data_path": f"/{bucket}/in/"}],
        "workforce_information": {
            "task_name": "at-once",
            "data_sync_type": 3,
            "workforces_config": {"workforces": [{"workforce_id": job.team}]},
        },
    }
    made = tenant.client.post("/v2/{project_id}/datasets", body)
    fresh = Job(job.client, job.datasets, job.team, made["dataset_id"])
    fresh.task_id = job.client.get(fresh.tasks)["tasks"][0]["task_id"]
    shown = fresh.wait(1)
    assert (shown["synchronize_data"], shown["auto_sync_dataset"]) == (True, True)
    assert {s["sample_data"][0] for s in own(a, fresh.task_id)} == {"one", "two", "three"}


def test_rights_and_traces(job: Job, join: Join, tenant: Tenant) -> None:
    join("ann")
    statement = {"Effect": "Allow", "Action": ["modelarts:dataset:getWorkforceTask"]}
    reader = tenant.user([{"Version": "1.1", "Statement": [statement]}]).client
    only = {"Effect": "Allow", "Action": ["modelarts:dataset:createWorkforceTask"]}
    maker = tenant.user([{"Version": "1.1", "Statement": [only]}]).client
    config = {"workforces": [{"workforce_id": job.team}]}
    missing = refused(maker.post, job.tasks, {"task_name": "round-1", "workforces_config": config})
    assert missing.status == 403
    for action in ("modelarts:dataset:listSamples", "modelarts:dataset:updateSamples", "modelarts:workforce:get"):
        assert action in missing.message
    job.create()
    assert reader.get(job.one)["task_name"] == "round-1"
    for method, path, body in (
        ("put", job.one, {"description": "x"}),
        ("delete", job.one, None),
        ("post", f"{job.one}/acceptance", {"sampling_num": 1}),
        ("post", WORKFORCES, {"workforce_name": "w"}),
    ):
        call = getattr(reader, method)
        assert (refused(call, path, body) if body else refused(call, path)).status == 403
    job.client.delete(job.one)

    def traces() -> set[str]:
        called: Iterator[Any] = (e.data for e in tenant.events.all("core.api.called.v1"))
        return {e["trace"] for e in called if e["status"] < 300}

    wait_until(lambda: traces() >= {"createWorkforceTask", "deleteWorkforceTask"})
