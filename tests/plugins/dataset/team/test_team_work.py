"""What is done in a team labeling task: labeled at the console, reviewed, compared, accepted, the dataset's then."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlmodel import select

from bottega.client import ApiFailure
from bottega.testing import RecordedEvents, Tenant, wait_until

from .conftest import Console, Job, label, own, refused

Join = Callable[..., tuple[str, Console]]
Address = Callable[[str], str]


def test_from_task_to_accepted_labels(job: Job, join: Join, events: RecordedEvents) -> None:
    (ann, a), (ben, b) = join("ann"), join("ben")
    _, r = join("rex", 1)
    task = job.create(sample_state="__NONE__", seed=3)
    assert job.stats() == {"total": 6, "unannotated": 6}
    assert [len(own(c, task)) for c in (a, b)] == [3, 3]
    assert label(a, task, own(a, task), "cat", "dog")["success"] is True
    label(b, task, own(b, task), "cat")
    assert job.stats() == {"total": 6, "unreviewed": 6}
    assert job.labels() == {"text 0": ["old"], "text 1": ["old"]}
    theirs = own(r, task, sample_state="__UNREVIEWED__")
    assert {s["worker_id"] for s in theirs} == {ann, ben}
    wrong, *good = [{"sample_id": s["sample_id"], "accept": True, "score": "B"} for s in theirs]
    wrong |= {"accept": False, "comment": "a bird, is it not", "score": "D"}
    r.call("POST", f"/tasks/{task}/review", {"comments": [wrong, *good]})
    assert job.stats() == {"total": 6, "uncheck": 5, "rejected": 1}
    (back,) = [s for c in (a, b) for s in own(c, task, sample_state="__REJECTED__")]
    assert (back["review_accept"], back["review_comment"], back["review_score"]) == (False, "a bird, is it not", "D")
    label(a if back["worker_id"] == ann else b, task, [back], "bird")
    job.review({"sample_id": back["sample_id"], "accept": True})
    assert job.stats() == {"total": 6, "uncheck": 6}

    acceptance = job.draw(sampling_rate=0.5, seed=1)
    assert job.show()["status"] == 2
    drawn = job.samples(sample_state="__WORKFORCE_SAMPLED_UNCHECK__")
    assert len(drawn) == 3
    bad, *fine = [{"sample_id": s["sample_id"], "accept": True, "score": "A"} for s in drawn]
    job.client.post(f"{job.one}/acceptance/batch-comment", {"comments": [bad | {"accept": False, "score": "C"}, *fine]})
    report = job.client.get(f"{job.one}/acceptance/report", {"checking_task_id": acceptance})["checking_stats"]
    assert {k: report[k] for k in ("total_sample_count", "sampled_sample_count", "rejected_sample_count")} == {
        "total_sample_count": 6,
        "sampled_sample_count": 3,
        "rejected_sample_count": 1,
    }
    assert (report["pass_rate"], report["total_score"], report["score"]) == (pytest.approx(2 / 3), 10, "3.33")
    job.accept(4)
    assert job.show()["status"] == 4
    assert job.stats() == {"total": 6, "accepted": 5, "rejected": 1}
    wait_until(lambda: len(job.labels()) == 7)
    (again,) = [s for c in (a, b) for s in own(c, task, sample_state="__REJECTED__")]
    label(a if again["worker_id"] == ann else b, task, [again], "fish")
    job.review({"sample_id": again["sample_id"], "accept": True})
    job.draw(sampling_num=1)
    job.accept(0)
    assert job.show()["status"] == 3
    wait_until(lambda: len(job.labels()) == 8)
    assert job.labels()[again["sample_data"][0]] == ["fish"]
    done = events.wait("dataset.team_task.accepted.v1", status=3).data
    assert (done["task_id"], done["accepted"]) == (task, 1)
    by = {x["annotated_by"] for s in job.datasets.samples("texts") for x in s["labels"]}
    assert by == {"human", f"human/{ann}", f"human/{ben}"}
    total = job.client.get(f"{job.one}/acceptance/report", {"checking_task_id": acceptance})["total_stats"]
    assert (total["total_sample_count"], total["sampled_sample_count"]) == (7, 4)
    detail = job.client.get(f"/v2/{{project_id}}/datasets/{job.dataset_id}")["workforce_descriptor"]
    assert (detail["current_task_id"], len(detail["workers"])) == (task, 3)
    called = {"createWorkforceTask", "updateWorkforceTaskSamples", "reviewSamples", "acceptSamples"}
    called |= {"startWorkforceSamplingTask", "updateWorkforceSamplingTask"}
    wait_until(lambda: {e.data["trace"] for e in events.all("core.api.called.v1")} >= called)
    shown = job.datasets.get("texts")
    assert (shown["exist_workforce_task"], shown["workforce_task_count"]) == (True, 1)


def test_an_annotator_sees_its_own_samples_and_nothing_else(
    job: Job, join: Join, tenant: Tenant, address: Address
) -> None:
    (_, a), (_, b) = join("ann"), join("ben")
    task = job.create()
    mine, theirs = own(a, task), own(b, task)
    assert not {s["sample_id"] for s in mine} & {s["sample_id"] for s in theirs}
    assert address("ben") not in json.dumps(mine)
    foreign = theirs[0]["sample_id"]
    assert refused(a.call, "GET", f"/tasks/{task}/samples/{foreign}").status == 404
    answer = label(a, task, [theirs[0], mine[0]], "cat")
    assert [x["success"] for x in answer["results"]] == [False, True]
    assert own(b, task, sample_state="__ALL__") == []
    assert refused(a.call, "GET", f"/tasks/{task}/samples", sample_state="odd").status == 400
    comment = {"comments": [{"sample_id": mine[0]["sample_id"], "accept": True}]}
    assert refused(a.call, "POST", f"/tasks/{task}/review", comment).status == 403
    assert refused(a.call, "POST", f"/tasks/{task}/start", {}).status == 403
    other = Job(job.client, job.datasets, job.team, job.dataset_id)
    other.create([{"email": address("ben")}], task_name="other")
    assert refused(a.call, "GET", f"/tasks/{other.task_id}").status == 404
    assert [t["task_id"] for t in a.call("GET", "/tasks")["worker_tasks"]] == [task]
    assert a.call("GET", f"/tasks/{task}")["sample_stats"]["total_sample_count"] == 4


def test_a_labeling_token_opens_no_other_route(job: Job, join: Join, tenant: Tenant) -> None:
    import httpx

    from bottega.application import every_route

    _, a = join("ann")
    task = job.create()
    application: Any = tenant.running.runtime.app
    answered = []
    http = httpx.Client(base_url=tenant.running.url, headers={"X-Auth-Token": a.token or ""}, timeout=30)
    for route in every_route(application.app.routes):
        if route.requirement is None or "/labeling/" in route.path:
            continue
        path = route.path.replace("{project_id}", tenant.project_id).replace("{dataset_id}", job.dataset_id)
        path = path.replace("{workforce_task_id}", task).replace("{workforce_id}", job.team)
        path = path.replace("{", "").replace("}", "").replace(":path", "")
        for method in route.methods:
            got = http.request(method, path)
            if got.status_code != 401:
                answered.append((method, route.path, got.status_code))
    assert [one for one in answered if one[2] < 400] == []
    assert {one[2] for one in answered} <= {403}


def test_agreement_of_several_annotators_and_the_majority_is_merged(job: Job, join: Join) -> None:
    consoles = [join(name)[1] for name in ("ann", "ben", "cat")]
    task = job.create(repetition=3, sample_conditions={"sample_time": "day"})
    said = {0: "aaaaabbb", 1: "aaaaabba", 2: "aaaabbba"}
    for n, console in enumerate(consoles):
        for one in own(console, task):
            label(console, task, [one], said[n][int(one["sample_data"][0].split()[1])])
    found = job.client.get(f"{job.one}/agreement")
    assert (found["method"], found["sample_count"], found["disagreement_count"]) == ("kappa", 8, 2)
    assert found["kappa"] == pytest.approx(0.625)
    assert len(found["pairs"]) == 3
    assert all(0.4 < pair["kappa"] < 0.9 for pair in found["pairs"])
    assert {len(x["labels"]) for x in found["disagreements"]} == {3}
    job.draw(sampling_rate=1)
    job.accept(0)
    assert job.show()["status"] == 3
    wait_until(lambda: set(map(tuple, job.labels().values())) == {("a",), ("b",)})
    assert [job.labels()[f"text {n}"] for n in range(8)] == [[x] for x in "aaaaabba"]


def test_an_acceptance_is_seeded_canceled_rejected(job: Job, join: Join) -> None:
    _, a = join("ann")
    task = job.create()
    assert refused(job.draw, sampling_num=1).status == 409
    label(a, task, own(a, task), "cat")
    for wrong in ({}, {"sampling_num": 1, "sampling_rate": 0.5}, {"sampling_num": 9}, {"sampling_rate": 1.5}):
        assert refused(job.draw, **wrong).status == 400

    def drawn() -> list[str]:
        return [s["sample_id"] for s in job.samples(sample_state="__WORKFORCE_SAMPLED__")]

    job.draw(sampling_num=3, seed=7)
    first = drawn()
    assert refused(job.draw, sampling_num=1).status == 409
    frozen = label(a, task, own(a, task)[:1], "dog")["results"][0]
    assert (frozen["success"], frozen["error_code"]) == (False, "ModelArts.0105")
    job.accept(2)
    assert (job.show()["status"], job.stats()) == (1, {"total": 8, "uncheck": 8})
    job.draw(sampling_num=3, seed=7)
    assert drawn() == first
    job.accept(2)
    job.draw(sampling_num=3, seed=8)
    assert drawn() != first
    outside = next(s["sample_id"] for s in job.samples() if s["sample_id"] not in drawn())
    comments = {"comments": [{"sample_id": outside, "accept": True}]}
    assert refused(job.client.post, f"{job.one}/acceptance/batch-comment", comments).status == 409
    job.accept(1)
    assert (job.show()["status"], job.stats()) == (4, {"total": 8, "rejected": 8})
    assert refused(job.accept, 0).status == 409
    assert job.labels() == {"text 0": ["old"], "text 1": ["old"]}
    label(a, task, own(a, task, sample_state="__REJECTED__"), "dog")
    job.draw(sampling_num=8)
    ids = drawn()
    comments = {"comments": [{"sample_id": one, "accept": True} for one in ids[:5]]}
    job.client.post(f"{job.one}/acceptance/batch-comment", comments)
    job.accept(5)
    assert job.stats() == {"total": 8, "accepted": 5, "rejected": 3}


def test_what_somebody_labeled_in_the_dataset_meanwhile_stays_unless_overwritten(job: Job, join: Join) -> None:
    _, a = join("ann")
    task = job.create(sample_state="__NONE__")
    label(a, task, own(a, task), "cat")
    theirs = {s["sample_data"][0]: s["sample_id"] for s in own(a, task)}
    job.datasets.label("texts", {theirs["text 2"]: ["mine"]})
    job.draw(sampling_num=1)
    conflicts = job.accept(3)
    assert [s["sample_data"][0] for s in conflicts["samples"]] == ["text 2"]
    job.accept(0)
    wait_until(lambda: len(job.labels()) == 8)
    assert (job.labels()["text 2"], job.labels()["text 3"]) == (["mine"], ["cat"])
    job.client.post(f"{job.one}/synchronize", {"overwrite_last_result": True})
    wait_until(lambda: job.labels()["text 2"] == ["cat"])
    history = f"/v2/{{project_id}}/datasets/{job.dataset_id}/data-annotations/samples/{theirs['text 2']}/history"
    before = job.client.get(history)["history"][0]
    assert (before["cause"], [x["name"] for x in before["labels"]]) == ("review", ["mine"])
    assert before["actor"] == f"worker:{own(a, task)[0]['worker_id']}"


def test_two_reviewers_and_two_tabs_lose_nothing(job: Job, join: Join) -> None:
    _, a = join("ann")
    reviewers = [join(name, 1)[1] for name in ("rex", "ria")]
    task = job.create()
    (one, *_) = own(a, task)
    stale = [{"sample_id": one["sample_id"], "labels": [{"name": n}], "revision": 0} for n in ("cat", "dog")]

    def save(body: dict[str, Any]) -> Any:
        return a.call("PUT", f"/tasks/{task}/samples", {"samples": [body]})["results"][0]

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(save, stale))
    assert sorted(x["success"] for x in results) == [False, True]
    kept = own(a, task, sample_state="__ALL__")[0]
    assert [x["name"] for x in kept["labels"]] == [["cat", "dog"][results[1]["success"]]]
    assert kept["revision"] == 1

    def decide(reviewer: Console, accept: bool) -> int:
        try:
            comment = {"sample_id": one["sample_id"], "accept": accept}
            reviewer.call("POST", f"/tasks/{task}/review", {"comments": [comment]})
        except ApiFailure as e:
            return e.status
        return 200

    with ThreadPoolExecutor(2) as pool:
        statuses = list(pool.map(decide, reviewers, (True, False)))
    assert sorted(statuses) == [200, 409]
    verdict = own(a, task, sample_state="__REVIEWED__")[0]["review_accept"]
    assert verdict is (statuses[0] == 200)


def test_the_owner_labels_in_the_name_of_a_member(job: Job, join: Join, address: Address) -> None:
    ann, a = join("ann")
    task = job.create(auto_sync_dataset=False)
    ids = [s["sample_id"] for s in own(a, task)]
    said = {"sample_usage": "EVAL", "metadata": {"@modelarts:hard": 1, "light": "dim"}}
    body = {"email": address("ann"), "samples": [{"sample_id": ids[0], "labels": [{"name": "cat"}], **said}]}
    job.client.put(f"{job.one}/data-annotations/samples", body)
    (one,) = own(a, task, sample_state="__ALL__")
    assert (one["worker_id"], one["labels"][0]["name"]) == (ann, "cat")
    assert job.client.get(f"{job.one}/data-annotations/samples/{ids[0]}")["sample_status"] == "__UNCHECK__"
    bad = {"samples": [{"sample_id": ids[1], "labels": [{"name": "no blanks"}]}, {"sample_id": "f" * 32, "labels": []}]}
    results = job.client.put(f"{job.one}/data-annotations/samples", bad)["results"]
    assert [x["error_code"] for x in results] == ["ModelArts.0101", "ModelArts.0104"]
    job.draw(sampling_num=1)
    job.accept(0)
    assert one["sample_data"][0] not in {t for t, names in job.labels().items() if names == ["cat"]}
    job.client.post(f"{job.one}/synchronize", {})
    wait_until(lambda: job.labels().get(one["sample_data"][0]) == ["cat"])
    shown = next(s for s in job.datasets.samples("texts", label="cat"))
    for seen in (one, shown):
        assert seen["usage"] == "EVAL"
        assert (seen["metadata"]["@modelarts:hard"], seen["metadata"]["light"]) == (1.0, "dim")
    assert len(job.samples(label_type=100)) == 1
    assert refused(job.samples, label_type=1).status == 400


def test_annotators_see_what_auto_labeling_suggests(job: Job, join: Join, tenant: Tenant) -> None:
    from bottega_dataset.entities import Dataset, Sample, Suggestion

    _, a = join("ann")
    task = job.create(synchronize_auto_labeling_data=True)
    first = own(a, task)[0]["sample_id"]

    async def suggest() -> None:
        async with tenant.running.platform("dataset").database.transaction() as tx:
            mine = select(Dataset.key).where(Dataset.id == job.dataset_id).scalar_subquery()
            query = select(Sample.key).where(Sample.sample_id == bytes.fromhex(first), Sample.dataset_key == mine)
            key = (await tx.session.exec(query)).one()
            tx.session.add(Suggestion(sample_key=key, position=0, task_id="t", name="cat", confidence=0.75))

    tenant.running.run(suggest())
    (shown,) = own(a, task, sample_state="__AUTO_ANNOTATION__")
    assert [(x["name"], x["score"]) for x in shown["suggestions"]] == [("cat", 0.75)]
    assert job.stats()["auto_annotation"] == 1
    label(a, task, [shown], "cat")
    assert own(a, task, sample_state="__AUTO_ANNOTATION__") == []
