"""Importing folders and manifests: layouts, reports, rights, repetition, interruption."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from bottega.client import ApiFailure, Client
from bottega.testing import RecordedEvents, Tenant
from bottega_dataset.client import Datasets, TaskFailed

Make = Callable[..., str]
One = Callable[[str], str]


def labels(datasets: Datasets, name: str) -> dict[str, list[str]]:
    """Label names by source."""
    return {s["source"]: [x["name"] for x in s["labels"]] for s in datasets.samples(name)}


def test_a_folder_of_images_is_imported_when_the_dataset_is_made(
    datasets: Datasets, make: Make, pictures: str, events: RecordedEvents, client: Client
) -> None:
    name = make(data_path=pictures)
    found = labels(datasets, name)
    assert len(found) == 13
    assert found[pictures + "Cat/3.png"] == ["Cat"]
    assert found[pictures + "Dog/3.JPG"] == ["Dog"]
    assert found[pictures + "1.bmp"] == []
    shown = datasets.get(name)
    assert (shown["total_sample_count"], shown["annotated_sample_count"]) == (13, 10)
    (left_out,) = datasets.problems(name, shown["import_task_id"])
    assert left_out["place"] == pictures + "Cat/notes.txt"
    assert "must end with .jpg, .jpeg, .png, .bmp" in left_out["reason"]
    events.wait("dataset.task.finished.v1", kind="import", state="completed")
    source = client.get(
        "/v1/{project_id}/lineage", {"urn": f"bottega:dataset:{client.project_id}:dataset/{shown['dataset_id']}"}
    )
    assert pictures in [edge["source"] for edge in source["edges"]]


def test_the_same_import_again_adds_nothing_and_keeps_hand_labels(
    datasets: Datasets, make: Make, pictures: str
) -> None:
    name = make(data_path=pictures)
    some = next(s for s in datasets.samples(name, label="Cat"))
    datasets.label(name, {some["sample_id"]: ["Dog"]})
    again = datasets.import_from(name, pictures)
    assert (again["imported_sample_count"], again["known_sample_count"]) == (0, 13)
    assert labels(datasets, name)[some["source"]] == ["Dog"]
    assert datasets.get(name)["total_sample_count"] == 13


def test_without_their_labels_first_and_with_them_later(datasets: Datasets, make: Make, pictures: str) -> None:
    name = make()
    datasets.import_from(name, pictures, import_annotations=False)
    assert datasets.get(name)["annotated_sample_count"] == 0
    task = datasets.import_from(name, pictures)
    assert (task["imported_sample_count"], task["annotated_sample_count"]) == (0, 10)
    assert datasets.get(name)["annotated_sample_count"] == 10


def test_a_label_is_the_folder_the_image_lies_in(tenant: Tenant, datasets: Datasets, make: Make, bucket: str) -> None:
    folder = f"s3://{bucket}/deep/"
    tenant.objects.put_many({folder + "a/b/Cat/1.jpg": b"x", folder + "not a label/2.jpg": b"x"})
    name = make()
    task = datasets.import_from(name, folder)
    assert labels(datasets, name) == {folder + "a/b/Cat/1.jpg": ["Cat"]}
    (problem,) = datasets.problems(name, task["task_id"])
    assert "'not a label'" in problem["reason"]


COMMENTS = """手感很好，反应速度很快，不知道以后怎样
三个月前买了一个用的非常好\r
没充一会电源怎么也会发热呢
算是给自己的父亲节礼物吧
"""
RESULTS = "positive positive\nnegative\n\npositive,cheap\n"


def test_texts_with_their_labels_line_by_line(tenant: Tenant, datasets: Datasets, make: Make, bucket: str) -> None:
    folder = f"s3://{bucket}/texts/"
    tenant.objects.put_many(
        {
            folder + "COMMENTS_20180919_114745.txt": COMMENTS.encode(),
            folder + "COMMENTS_20180919_114745_result.txt": RESULTS.encode(),
            folder + "plain.txt": b"one\n\ntwo\ntwo\n",
            folder + "lonely_result.txt": b"positive\n",
            folder + "short.txt": b"a\n",
            folder + "short_result.txt": b"good\nbad\n",
            folder + "broken.txt": b"fine\n\xff\xfe\n",
            folder + "picture.png": b"x",
        }
    )
    name = make("comments", dataset_type=100)
    task = datasets.import_from(name, folder)
    found = [(s["sample_data"][0], [x["name"] for x in s["labels"]], s["sample_name"]) for s in datasets.samples(name)]
    file = "COMMENTS_20180919_114745.txt"
    assert found == [
        ("手感很好，反应速度很快，不知道以后怎样", ["positive"], file),
        ("三个月前买了一个用的非常好", ["negative"], file),
        ("没充一会电源怎么也会发热呢", [], file),
        ("算是给自己的父亲节礼物吧", ["positive", "cheap"], file),
        ("fine", [], "broken.txt"),
        ("one", [], "plain.txt"),
        ("two", [], "plain.txt"),
        ("two", [], "plain.txt"),
        ("a", ["good"], "short.txt"),
    ]
    problems = {p["place"].removeprefix(folder): p["reason"] for p in datasets.problems(name, task["task_id"])}
    assert set(problems) == {"broken.txt, line 2", "lonely_result.txt", "picture.png", "short_result.txt, line 2"}
    assert datasets.import_from(name, folder)["known_sample_count"] == 9


def test_texts_and_labels_in_one_line(tenant: Tenant, datasets: Datasets, make: Make, bucket: str) -> None:
    folder = f"s3://{bucket}/lines/"
    tenant.objects.put(folder + "a.txt", b"good phone|fast,cheap\nbad phone|\nno separator\n")
    name = make("lines", dataset_type=100)
    datasets.import_from(name, folder, label_format={"label_type": "1", "text_sample_separator": "|"})
    assert labels(datasets, name) == {
        "content://good phone": ["fast", "cheap"],
        "content://bad phone": [],
        "content://no separator": [],
    }


SEED_IMAGE = {
    "source": "s3://BUCKET/to/image1.jpg",
    "usage": "TRAIN",
    "id": "0162005993f8065ef47eefb59d1e4970",
    "annotation": [
        {
            "type": "modelarts/image_classification",
            "name": "cat",
            "property": {"color": "white", "kind": "Persian cat"},
            "hard": "true",
            "annotated-by": "human",
            "creation-time": "2019-01-23 11:30:30",
        },
        {
            "type": "modelarts/image_classification",
            "name": "animal",
            "annotated-by": "modelarts/active-learning",
            "confidence": 0.8,
            "creation-time": "2019-01-23 11:30:30",
        },
    ],
    "inference-loc": "/path/to/inference-output",
}


def test_the_documents_own_image_manifest(tenant: Tenant, datasets: Datasets, make: Make, bucket: str) -> None:
    """002 §2.3.2.2: every field comes in, is shown, and goes out again."""
    line = json.dumps(SEED_IMAGE).replace("BUCKET", bucket)
    tenant.objects.put(f"s3://{bucket}/animal.manifest", line.encode())
    name = make()
    datasets.import_from(name, f"s3://{bucket}/animal.manifest", import_type="manifest")
    (shown,) = datasets.samples(name)
    assert shown["usage"] == "TRAIN"
    cat, animal = shown["labels"]
    assert (cat["name"], cat["property"], cat["annotated_by"], cat["create_time"]) == (
        "cat",
        {"color": "white", "kind": "Persian cat", "@modelarts:hard": "1"},
        "human",
        1548243030000,
    )
    assert (animal["score"], animal["annotated_by"]) == (0.8, "modelarts/active-learning")
    exported = datasets.export(name, f"s3://{bucket}/exported/")
    assert exported["manifest_path"].startswith(f"s3://{bucket}/exported/animals-v")
    assert json.loads(tenant.objects.get(exported["manifest_path"])) == json.loads(line)


def test_a_bad_line_is_reported_and_the_rest_goes_on(
    tenant: Tenant, datasets: Datasets, make: Make, bucket: str
) -> None:
    good = b'{"source": "s3://%s/%d.jpg", "annotation": [{"type": "image_classification", "name": "cat"}]}'
    where = bucket.encode()
    lines = [
        good % (where, 1),
        b"{not json",
        b"[]",
        b"",
        b'{"usage": "TRAIN"}',
        b'{"source": "content://a text"}',
        b'{"source": "s3://%s/2.jpg", "usage": "OFTEN"}' % where,
        b'{"source": "s3://%s/3.jpg", "annotation": [{"type": "modelarts/text_classification", "name": "x"}]}' % where,
        b'{"source": "s3://%s/4.jpg", "annotation": [{"type": "image_classification", "name": "a b"}]}' % where,
        b'{"source": "s3://%s/5.jpg", "annotation": [{"type": "image_classification", "name": "a", "confidence": 2}]}'
        % where,
        b'{"source": "s3://%s/6.jpg", "annotation": [{"type": "image_classification"}]}' % where,
        b'{"source": "s3://%s/7.jpg", "annotation": {"type": "image_classification"}}' % where,
        b'{"source": "../../etc/passwd"}',
        b'{"source": "s3://%s/a/../../b.jpg"}' % where,
        b'{"source": "s3://%s/%s"}' % (where, b"x" * 2**20),
        good % (where, 8),
        good % (where, 1),
    ]
    tenant.objects.put(f"s3://{bucket}/mixed.manifest", b"\n".join(lines))
    name = make()
    task = datasets.import_from(name, f"s3://{bucket}/mixed.manifest", import_type="manifest")
    assert task["imported_sample_count"] == 2
    assert task["problem_count"] == 13
    places = [p["place"].rpartition(" ")[2] for p in datasets.problems(name, task["task_id"])]
    assert places == ["2", "3", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15"]
    first = next(datasets.problems(name, task["task_id"]))
    assert first["text"] == "{not json"
    assert all(p["reason"] for p in datasets.problems(name, task["task_id"]))


def test_only_some_labels_or_hard_ones(tenant: Tenant, datasets: Datasets, make: Make, bucket: str) -> None:
    def line(n: int, *names: str, hard: str | None = None) -> bytes:
        annotation = [{"type": "image_classification", "name": x} | ({"hard": hard} if hard else {}) for x in names]
        return json.dumps({"source": f"s3://{bucket}/{n}.jpg", "annotation": annotation}).encode() + b"\n"

    path = f"s3://{bucket}/choose.manifest"
    tenant.objects.put(path, line(1, "cat") + line(2, "cat", "dog") + line(3, "dog", hard="True") + line(4))
    cats = make("cats")
    datasets.import_from(cats, path, import_type="manifest", included_labels=[{"name": "cat"}])
    assert list(labels(datasets, cats).values()) == [["cat"], ["cat"]]
    no_dogs = make("no-dogs")
    datasets.import_from(no_dogs, path, import_type="manifest", excluded_labels=[{"name": "dog"}])
    assert list(labels(datasets, no_dogs).values()) == [["cat"], []]
    hard = make("hard")
    task = datasets.import_from(hard, path, import_type="manifest", difficult_only=True)
    assert list(labels(datasets, hard).values()) == [["dog"]]
    assert task["left_out_sample_count"] == 3


def test_refused_before_anything_happens(
    client: Client, tenant: Tenant, stranger: Tenant, make: Make, one: One, bucket: str
) -> None:
    foreign = stranger.create_bucket()
    path = one(make()) + "/import-tasks"
    for body, status, says in (
        ({"import_path": f"/{foreign}/x/"}, 403, "not one of yours"),
        ({"import_path": f"/{bucket}/folder/", "import_type": "manifest"}, 400, "is a folder"),
        ({"import_path": f"/{bucket}/missing.manifest", "import_type": "manifest"}, 404, "missing.manifest"),
        ({"import_path": f"/{bucket}/x/", "import_type": "coco"}, 400, "those take: csv, cvat, dir"),
        ({"import_path": f"/{bucket}/x/"}, 400, "nothing to import under"),
        ({"import_path": "nowhere"}, 400, "object path"),
        ({}, 400, "import_path"),
    ):
        with pytest.raises(ApiFailure) as refused:
            client.post(path, body)
        assert refused.value.status == status
        assert says in refused.value.message
    assert client.get(path)["total_count"] == 0


def test_sources_the_caller_may_not_read_stay_out(
    tenant: Tenant, stranger: Tenant, datasets: Datasets, make: Make, one: One, bucket: str
) -> None:
    foreign = stranger.create_bucket()
    sources = [f"s3://{bucket}/open/1.jpg", f"s3://{bucket}/closed/2.jpg", f"s3://{foreign}/open/3.jpg"]
    path = f"s3://{bucket}/open/all.manifest"
    tenant.objects.put(path, b"".join(json.dumps({"source": s}).encode() + b"\n" for s in sources))
    name = make()
    may = {
        "Version": "1.1",
        "Statement": [
            {"Effect": "Allow", "Action": ["modelarts:dataset:*"]},
            {"Effect": "Allow", "Action": ["obs:object:GetObject"], "Resource": [f"obs:*:*:object:{bucket}/open/*"]},
        ],
    }
    limited = Datasets(tenant.user([may]).client)
    task = limited.import_from(name, path, import_type="manifest")
    assert list(labels(datasets, name)) == sources[:1]
    reasons = {p["place"]: p["reason"] for p in limited.problems(name, task["task_id"])}
    assert set(reasons) == set(sources[1:])
    assert "not one of yours" in reasons[sources[2]]


def test_the_agency_that_acts_for_the_caller_must_be_able_to_read_them_too(
    tenant: Tenant, datasets: Datasets, make: Make, bucket: str, programs_may_touch: Callable[[str], None]
) -> None:
    sources = [f"s3://{bucket}/open/1.jpg", f"s3://{bucket}/closed/2.jpg"]
    path = f"s3://{bucket}/open/all.manifest"
    tenant.objects.put(path, b"".join(json.dumps({"source": s}).encode() + b"\n" for s in sources))
    name = make()
    programs_may_touch(f"{bucket}/open/*")
    task = datasets.import_from(name, path, import_type="manifest")
    assert list(labels(datasets, name)) == sources[:1]
    (problem,) = datasets.problems(name, task["task_id"])
    assert problem["place"] == sources[1]
    assert "the agency that acts for you may not read it" in problem["reason"]


def test_a_dataset_deleted_meanwhile_fails_the_import(
    tenant: Tenant, datasets: Datasets, make: Make, bucket: str
) -> None:
    path = f"s3://{bucket}/long.manifest"
    tenant.objects.put(path, b"".join(b'{"source": "content://text %d"}\n' % n for n in range(30_000)))
    name = make("texts", dataset_type=100)
    ident = datasets.get(name)["dataset_id"]
    tenant.client.post(
        f"/v2/{{project_id}}/datasets/{ident}/import-tasks", {"import_path": path, "import_type": "manifest"}
    )
    datasets.delete(name)
    failed = tenant.events.wait("dataset.task.finished.v1", dataset_id=ident)
    assert failed.data["state"] == "failed"
    assert "deleted" in failed.data["error_msg"]


def test_a_manifest_changed_while_it_is_read_is_not_mixed_up(
    tenant: Tenant, datasets: Datasets, make: Make, bucket: str
) -> None:
    from bottega.objects import ObjectPath
    from bottega_dataset.extension_points import ImportRequest
    from bottega_dataset.import_manifest import ManifestImporter
    from bottega_dataset.types.text import TextClassification

    path = f"s3://{bucket}/changing.manifest"
    platform = tenant.running.platform("dataset")
    request = ImportRequest(ObjectPath.parse(path), TextClassification(), platform.objects, {})

    async def read(cursor: dict[str, Any]) -> list[dict[str, Any]]:
        return [dict(chunk.cursor) async for chunk in ManifestImporter().read(request, cursor)]

    tenant.objects.put(path, b"".join(b'{"source": "content://text %d"}\n' % n for n in range(150_000)))
    cursors = tenant.running.run(read({}))
    reached = [c["line"] for c in cursors]
    assert reached[-1] == 150_000
    assert len(reached) > 1
    further = [c["line"] for c in tenant.running.run(read(cursors[0]))]
    assert (further[0] > reached[0], further[-1]) == (True, 150_000)
    tenant.objects.put(path, b'{"source": "content://other"}\n')
    with pytest.raises(Exception, match="changed while it was being read"):
        tenant.running.run(read(cursors[0]))


def test_another_process_reads_the_same(tenant: Tenant, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from bottega.objects import ObjectPath
    from bottega_dataset import import_manifest
    from bottega_dataset.extension_points import ImportRequest
    from bottega_dataset.parsing import ParserProcess
    from bottega_dataset.types.text import TextClassification

    path = f"s3://{bucket}/large.manifest"
    request = ImportRequest(
        ObjectPath.parse(path), TextClassification(), tenant.running.platform("dataset").objects, {}
    )
    lines = [b'{"source": "content://text %d"}' % n if n % 1009 else b"{bad %d" % n for n in range(40_000)]
    tenant.objects.put(path, b"\n".join(lines))

    async def read() -> list[tuple[Any, ...]]:
        chunks = [chunk async for chunk in import_manifest.ManifestImporter().read(request, {})]
        return [(c.cursor, c.progress, [one.source for one in c.samples], c.problems) for c in chunks]

    monkeypatch.setattr(import_manifest, "_PART", 50_000)
    here = tenant.running.run(read())
    monkeypatch.setattr(import_manifest, "_APART_FROM", 1)
    monkeypatch.setattr(ParserProcess, "is_ready", True)
    assert tenant.running.run(read()) == here
    assert len(here) > 20
    assert [p.place for *_, problems in here for p in problems][1] == f"{path}, line 1010"


def test_when_the_process_that_reads_is_killed_the_import_says_so(
    tenant: Tenant, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bottega.errors import Unavailable
    from bottega.objects import ObjectPath
    from bottega_dataset import import_manifest
    from bottega_dataset.extension_points import ImportRequest
    from bottega_dataset.parsing import ParserProcess
    from bottega_dataset.types.text import TextClassification

    path = f"s3://{bucket}/large.manifest"
    objects = tenant.running.platform("dataset").objects
    request = ImportRequest(ObjectPath.parse(path), TextClassification(), objects, {})
    tenant.objects.put(path, b"\n".join(b'{"source": "content://text %d"}' % n for n in range(40_000)))
    monkeypatch.setattr(import_manifest, "_PART", 50_000)
    monkeypatch.setattr(import_manifest, "_APART_FROM", 1)
    monkeypatch.setattr(ParserProcess, "is_ready", True)

    async def read() -> None:
        async for _ in import_manifest.ManifestImporter().read(request, {}):
            for process in psutil.Process().children():
                with contextlib.suppress(psutil.NoSuchProcess):  # one that has ended, a zombie too
                    if "bottega_dataset.parsing" in " ".join(process.cmdline()):
                        process.kill()

    with pytest.raises(Unavailable, match="the process that reads the manifest was ended"):
        tenant.running.run(read())


def test_failures_say_why(datasets: Datasets, tenant: Tenant, make: Make, bucket: str, one: One) -> None:
    name = make()
    tenant.running.run(_import_from_nowhere(tenant, datasets.get(name)["dataset_id"]))
    (task,) = tenant.client.get(one(name) + "/import-tasks")["import_tasks"]
    with pytest.raises(TaskFailed, match=r"not one of yours"):
        datasets.wait_import(name, task["task_id"])


async def _import_from_nowhere(tenant: Tenant, dataset_id: str) -> None:
    """As if the rights were lost between the request and its performance."""
    from bottega_dataset import tasks
    from bottega_dataset.entities import Task
    from bottega_dataset.requests import NewImport
    from bottega_dataset.task_routes import import_params

    platform = tenant.running.platform("dataset")
    async with platform.database.transaction() as tx:
        params = import_params(NewImport(import_path="s3://nobodys-bucket/x/"))
        task = Task(
            kind="import", dataset_id=dataset_id, project_id=tenant.project_id, user_id=tenant.user_id, params=params
        )
        await tasks.request(tx, task)
