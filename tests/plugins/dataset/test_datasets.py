"""Datasets through the API: creating, finding, changing, deleting; and who may not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bottega.client import ApiFailure, Client
from bottega.testing import RecordedEvents, Tenant
from bottega_dataset.client import Datasets

ALL = "/v2/{project_id}/datasets"


def body(bucket: str, **changes: object) -> dict[str, object]:
    plain = {
        "dataset_name": "animals",
        "dataset_type": 0,
        "work_path": f"/{bucket}/output/",
        "work_path_type": 0,
    }
    return plain | changes


def test_created_with_labels_and_shown(client: Client, tenant: Tenant, bucket: str, events: RecordedEvents) -> None:
    label = {"name": "Cat", "property": {"@modelarts:color": "#FFFFF0", "@modelarts:shortcut": "C"}}
    source = {"data_type": 0, "data_path": f"/{bucket}/input/"}
    wanted = body(bucket, labels=[label], description="pets of the office", data_sources=[source])
    with pytest.raises(ApiFailure, match="nothing to import under") as empty:
        client.post(ALL, wanted)
    assert (empty.value.status, client.get(ALL)["total_number"]) == (400, 0)
    tenant.objects.put(f"s3://{bucket}/input/readme.md", b"no picture")
    made = client.post(ALL, wanted)
    shown = client.get(f"{ALL}/{made['dataset_id']}")
    assert shown["dataset_name"] == "animals"
    assert shown["dataset_type"] == 0
    assert shown["description"] == "pets of the office"
    (shown_source,) = shown["data_sources"]
    assert (shown_source["data_type"], shown_source["data_path"]) == (0, f"/{bucket}/input/")
    assert shown["work_path"] == f"/{bucket}/output/"
    assert shown["labels"] == [{**label, "type": 0, "attributes": []}]
    assert shown["total_sample_count"] == 0
    events.wait("dataset.dataset.created.v1", dataset_id=made["dataset_id"])
    call = events.wait("core.api.called.v1", trace="createDataset", status=201)
    assert call.data["resource_type"] == "dataset"
    assert call.data["resource_name"] == "animals"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"dataset_name": ""}, "dataset_name"),
        ({"dataset_name": "no spaces"}, "dataset_name"),
        ({"dataset_name": "a" * 101}, "dataset_name"),
        ({"description": "d" * 257}, "description"),
        ({"description": "a<b"}, "description"),
        ({"dataset_type": 7}, "dataset_type"),
        ({"dataset_type": "cats"}, "dataset_type"),
        ({"work_path": "/BUCKET/input/"}, "both"),
        ({"work_path": "/BUCKET/input"}, "both"),
        ({"work_path": "/BUCKET/input/deeper/"}, "lies in the input"),
        ({"work_path": "/BUCKET/"}, "whole bucket"),
        ({"work_path": "/BUCKET/a/../b/"}, "'..'"),
        ({"work_path": "output"}, "not an object path"),
        ({"work_path_type": 3}, "work_path_type"),
        ({"labels": [{"name": "a b"}]}, "label 'a b'"),
        ({"labels": [{"name": "é"}]}, "label"),
        ({"labels": [{"name": "x" * 33}]}, "label"),
        ({"labels": [{"name": "x", "property": {"@modelarts:color": "red"}}]}, "color"),
        ({"labels": [{"name": "x", "property": {"@modelarts:shortcut": "AB"}}]}, "shortcut"),
    ],
)
def test_rules_refuse_and_nothing_is_made(
    client: Client, tenant: Tenant, bucket: str, changes: dict[str, object], says: str
) -> None:
    given = {k: v.replace("BUCKET", bucket) if isinstance(v, str) else v for k, v in changes.items()}
    tenant.objects.put(f"s3://{bucket}/input/a.txt", b"no picture")
    given["data_sources"] = [{"data_type": 0, "data_path": f"/{bucket}/input/"}]
    with pytest.raises(ApiFailure) as refused:
        client.post(ALL, body(bucket, **given))
    assert refused.value.status == 400
    assert says in refused.value.message
    assert client.get(ALL)["total_number"] == 0


def test_a_chinese_name_is_one(client: Client, bucket: str) -> None:
    made = client.post(ALL, body(bucket, dataset_name="猫_狗-1"))
    assert client.get(f"{ALL}/{made['dataset_id']}")["dataset_name"] == "猫_狗-1"


def test_a_name_is_taken_once_and_free_after_deletion(client: Client, bucket: str) -> None:
    made = client.post(ALL, body(bucket))
    with pytest.raises(ApiFailure) as refused:
        client.post(ALL, body(bucket))
    assert refused.value.status == 409
    client.delete(f"{ALL}/{made['dataset_id']}")
    again = client.post(ALL, body(bucket))
    assert again["dataset_id"] != made["dataset_id"]
    with pytest.raises(ApiFailure) as gone:
        client.get(f"{ALL}/{made['dataset_id']}")
    assert gone.value.status == 404


def test_listed_filtered_sorted_and_paged(client: Client, bucket: str) -> None:
    for name, kind in (("cats", 0), ("words", 100), ("dogs", 0)):
        client.post(ALL, body(bucket, dataset_name=name, dataset_type=kind, work_path=f"/{bucket}/out-{name}/"))
    names = [d["dataset_name"] for d in client.get(ALL)["datasets"]]
    assert names == ["dogs", "words", "cats"]
    by_name = client.get(ALL, {"sort_by": "dataset_name", "order": "asc", "limit": 2})
    assert by_name["total_number"] == 3
    assert [d["dataset_name"] for d in by_name["datasets"]] == ["cats", "dogs"]
    assert [d["dataset_name"] for d in client.get(ALL, {"dataset_type": 100})["datasets"]] == ["words"]
    found = client.get(ALL, {"search_content": "og", "with_labels": True})
    assert [(d["dataset_name"], d["labels"]) for d in found["datasets"]] == [("dogs", [])]
    assert client.get(ALL, {"contain_versions": True})["total_number"] == 0
    with pytest.raises(ApiFailure):
        client.get(ALL, {"limit": 0})


def test_modified_whole_or_not_at_all(client: Client, bucket: str) -> None:
    made = client.post(ALL, body(bucket, labels=[{"name": "Cat"}]))
    path = f"{ALL}/{made['dataset_id']}"
    with pytest.raises(ApiFailure) as refused:
        client.put(path, {"dataset_name": "pets", "description": "new", "add_labels": [{"name": "Cat"}]})
    assert refused.value.status == 409
    assert client.get(path)["dataset_name"] == "animals"
    rename = {"name": "Cat", "property": {"@modelarts:rename_to": "Kitten", "@modelarts:color": "#000000"}}
    client.put(path, {"dataset_name": "pets", "description": "new", "update_labels": [rename]})
    shown = client.get(path)
    assert (shown["dataset_name"], shown["description"]) == ("pets", "new")
    assert [(x["name"], x["property"]) for x in shown["labels"]] == [("Kitten", {"@modelarts:color": "#000000"})]
    client.put(path, {"delete_labels": [{"name": "Kitten"}]})
    assert client.get(path)["labels"] == []
    with pytest.raises(ApiFailure) as unknown:
        client.put(path, {"current_version_id": "no-such-version"})
    assert unknown.value.status == 404


def test_deleting_keeps_the_objects(
    datasets: Datasets, pictures: str, make: Callable[..., str], tenant: Tenant, events: RecordedEvents
) -> None:
    before = tenant.objects.list(pictures)
    name = make(data_path=pictures)
    version = datasets.publish(name)
    datasets.delete(name)
    assert tenant.objects.list(pictures) == before
    assert tenant.objects.get(version["manifest_path"])
    assert list(datasets.list()) == []
    events.wait("dataset.dataset.deleted.v1")
    assert make(data_path=pictures) == name
    assert datasets.get(name)["total_sample_count"] == 13


def test_quota(client: Client, bucket: str, tenant: Tenant) -> None:
    from bottega.entities import QuotaLimit

    async def allow_one() -> None:
        async with tenant.running.platform().database.transaction() as tx:
            tx.session.add(QuotaLimit(account_id=tenant.account_id, plugin="dataset", kind="dataset", maximum=1))

    tenant.running.run(allow_one())
    client.post(ALL, body(bucket))
    with pytest.raises(ApiFailure) as refused:
        client.post(ALL, body(bucket, dataset_name="second", work_path=f"/{bucket}/second/"))
    assert refused.value.status == 403
    assert "quota" in refused.value.message


def test_paths_outside_the_callers_buckets_are_refused(client: Client, bucket: str, stranger: Tenant) -> None:
    foreign = stranger.create_bucket()
    for changes in ({"work_path": f"/{foreign}/x/"}, {"data_sources": [{"data_path": f"/{foreign}/x/"}]}):
        with pytest.raises(ApiFailure) as refused:
            client.post(ALL, body(bucket, **changes))
        assert refused.value.status == 403
        assert foreign in refused.value.message
    assert client.get(ALL)["total_number"] == 0


ROUTES = [
    ("POST", "", {"dataset_name": "x", "work_path": "/bucket/x/"}),
    ("GET", "", None),
    ("GET", "/ID", None),
    ("PUT", "/ID", {"description": "mine now"}),
    ("DELETE", "/ID", None),
    ("GET", "/ID/data-annotations/samples", None),
    ("GET", "/ID/data-annotations/samples/" + "0" * 32, None),
    ("PUT", "/ID/data-annotations/samples", {"samples": [{"sample_id": "0" * 32}]}),
    ("POST", "/ID/data-annotations/samples/delete", {"samples": ["0" * 32]}),
    ("GET", "/ID/data-annotations/labels", None),
    ("POST", "/ID/data-annotations/labels", {"labels": [{"name": "x"}]}),
    ("PUT", "/ID/data-annotations/labels", {"labels": [{"name": "x"}]}),
    ("PUT", "/ID/data-annotations/labels/x", {}),
    ("DELETE", "/ID/data-annotations/labels/x", None),
    ("POST", "/ID/data-annotations/labels/delete", {"labels": [{"name": "x"}]}),
    ("GET", "/ID/data-annotations/stats", None),
    ("POST", "/ID/import-tasks", {"import_path": "/bucket/x/"}),
    ("GET", "/ID/import-tasks", None),
    ("GET", "/ID/import-tasks/x", None),
    ("GET", "/ID/import-tasks/x/problems", None),
    ("POST", "/ID/export-tasks", {"path": "/bucket/x/"}),
    ("GET", "/ID/export-tasks", None),
    ("GET", "/ID/export-tasks/x", None),
    ("POST", "/ID/versions", {}),
    ("GET", "/ID/versions", None),
    ("GET", "/ID/versions/x", None),
    ("DELETE", "/ID/versions/x", None),
]


def test_strangers_and_users_without_rights_are_refused(
    client: Client, bucket: str, tenant: Tenant, stranger: Tenant
) -> None:
    made = client.post(ALL, body(bucket))
    outsider = Client(tenant.running.url, tenant.project_id, stranger.access_key, stranger.secret_key)
    for method, tail, given in ROUTES:
        path = ALL + tail.replace("ID", made["dataset_id"])
        for who in (outsider, tenant.user().client):
            with pytest.raises(ApiFailure) as refused:
                who.request(method, path, json=given)
            assert refused.value.status == 403, f"{method} {path}"
        if "ID" in tail:
            with pytest.raises(ApiFailure) as unknown:
                stranger.client.request(method, path, json=given)
            assert unknown.value.status == 404, f"{method} {path}"


def test_a_policy_may_allow_one_dataset_only(client: Client, bucket: str, tenant: Tenant) -> None:
    mine = client.post(ALL, body(bucket))["dataset_id"]
    other = client.post(ALL, body(bucket, dataset_name="other", work_path=f"/{bucket}/other/"))["dataset_id"]
    allow = {
        "Version": "1.1",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": ["modelarts:dataset:get"],
                "Resource": [f"bottega:dataset:*:dataset/{mine}"],
            }
        ],
    }
    reader = tenant.user([allow]).client
    assert reader.get(f"{ALL}/{mine}")["dataset_id"] == mine
    for path in (f"{ALL}/{other}", f"{ALL}/{mine}/versions"):
        with pytest.raises(ApiFailure) as refused:
            reader.get(path)
        assert refused.value.status == 403


def test_lists_with_all_the_vendor_asks(client: Client, datasets: Datasets, bucket: str, pictures: str) -> None:
    source = {"data_type": 0, "data_path": pictures}
    made = client.post(ALL, body(bucket, data_sources=[source], managed=True))
    datasets.wait_import("animals", made["import_task_id"])
    client.post(ALL, body(bucket, dataset_name="rows", dataset_type=400, work_path=f"/{bucket}/rows/"))
    asked = {"file_preview": True, "with_labels": True, "support_export": True}
    (shown,) = client.get(ALL, asked)["datasets"]
    assert (shown["dataset_name"], shown["managed"], len(shown["samples"])) == ("animals", True, 4)
    assert shown["samples"][0]["file_type"] == "jpg"
    assert {label["name"] for label in shown["labels"]} == {"Cat", "Dog"}
    assert client.get(ALL, {"train_evaluate_ratio": "0.5,0.9"})["total_number"] == 0
    datasets.publish("animals", train_ratio=0.8)
    (split,) = client.get(ALL, {"train_evaluate_ratio": "0.5,0.9"})["datasets"]
    assert split["versions"][0]["version_name"] == split["current_version_name"] == "V001"
    assert split["data_url"].endswith("/annotation/V001/")
