"""Team labeling tasks: given out, labeled by members at the console, reviewed, accepted, and the dataset's then."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
from sqlmodel import select

from bottega.client import ApiFailure, Client
from bottega.testing import RecordedEvents, Tenant, wait_until
from bottega.testing.mailbox import Mailbox
from bottega_dataset.client import Datasets

from .conftest import WORKFORCES, Console

Join = Callable[..., tuple[str, Console]]
Address = Callable[[str], str]


def refused(call: Callable[..., Any], *arguments: Any, **named: Any) -> ApiFailure:
    with pytest.raises(ApiFailure) as e:
        call(*arguments, **named)
    return e.value


@dataclass
class Job:
    """A dataset of texts with a team, and the owner's calls on its team labeling task."""

    client: Client
    datasets: Datasets
    team: str
    dataset_id: str
    task_id: str = ""

    @property
    def tasks(self) -> str:
        return f"/v2/{{project_id}}/datasets/{self.dataset_id}/workforce-tasks"

    @property
    def one(self) -> str:
        return f"{self.tasks}/{self.task_id}"

    def create(self, workers: list[dict[str, Any]] | None = None, **options: Any) -> str:
        config = {"workforces": [{"workforce_id": self.team, "workers": workers or []}]}
        body = {"task_name": "round-1", "workforces_config": config, **options}
        self.task_id = self.client.post(self.tasks, body)["task_id"]
        if "agency" not in body["workforces_config"]:
            self.wait(1)
        return self.task_id

    def wait(self, status: int) -> dict[str, Any]:
        wait_until(lambda: self.show()["status"] == status)
        return self.show()

    def show(self, **what: Any) -> dict[str, Any]:
        shown: dict[str, Any] = self.client.get(self.one, what)
        return shown

    def stats(self) -> dict[str, int]:
        """Those counts of samples that are not 0, by the beginning of their names."""
        stats = self.show(sample_stats=True)["sample_stats"]
        return {name.removesuffix("_sample_count"): n for name, n in stats.items() if n}

    def samples(self, **filters: Any) -> list[dict[str, Any]]:
        answer = self.client.get(f"{self.one}/data-annotations/samples", {"limit": 100, **filters})
        assert answer["sample_count"] == len(answer["samples"])
        found: list[dict[str, Any]] = answer["samples"]
        return found

    def review(self, *comments: dict[str, Any]) -> Any:
        return self.client.post(f"{self.one}/data-annotations/review", {"comments": list(comments)})

    def labels(self) -> dict[str, list[str]]:
        """The dataset's own labels, by text."""
        shown = self.datasets.samples("texts")
        return {s["sample_data"][0]: [x["name"] for x in s["labels"]] for s in shown if s["labels"]}

    def accept(self, action: int, **options: Any) -> Any:
        return self.client.put(f"{self.one}/acceptance/status", {"action": action, **options})

    def draw(self, **how: Any) -> str:
        return str(self.client.post(f"{self.one}/acceptance", how)["task_id"])


@pytest.fixture
def job(tenant: Tenant, team: str, bucket: str) -> Job:
    """Eight texts, the first two of them labeled."""
    datasets = Datasets(tenant.client)
    lines = [
        {"source": f"content://text {n}"}
        | ({"annotation": [{"type": "text_classification", "name": "old"}]} if n < 2 else {})
        for n in range(8)
    ]
    tenant.objects.put(f"s3://{bucket}/t.manifest", "\n".join(map(json.dumps, lines)).encode())
    made = datasets.create("texts", f"/{bucket}/out/", dataset_type=100)
    datasets.import_from("texts", f"s3://{bucket}/t.manifest", import_type="manifest")
    return Job(tenant.client, datasets, team, made["dataset_id"])


def own(console: Console, task: str, **filters: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = console.call("GET", f"/tasks/{task}/samples", limit=100, **filters)["samples"]
    return found


def label(console: Console, task: str, samples: list[dict[str, Any]], *names: str) -> Any:
    """Gives samples labels, in turn those of `names`."""
    body = [{"sample_id": s["sample_id"], "labels": [{"name": names[i % len(names)]}]} for i, s in enumerate(samples)]
    return console.call("PUT", f"/tasks/{task}/samples", {"samples": body})


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
