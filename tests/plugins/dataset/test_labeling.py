"""Labeling by hand through the API: nobody's work is lost, everything is kept, and everything can be taken back."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from bottega.client import ApiFailure, Client
from bottega.testing import RecordedEvents, Tenant
from bottega_dataset.client import Datasets

Make = Callable[..., str]
One = Callable[[str], str]


@pytest.fixture
def texts(tenant: Tenant, datasets: Datasets, make: Make, bucket: str) -> str:
    """A dataset of 12 texts without labels."""
    lines = b"".join(b'{"source": "content://text %02d"}\n' % n for n in range(12))
    tenant.objects.put(f"s3://{bucket}/texts.manifest", lines)
    name = make("texts", dataset_type=100)
    datasets.import_from(name, f"s3://{bucket}/texts.manifest", import_type="manifest")
    return name


@pytest.fixture
def path(texts: str, one: One) -> str:
    return one(texts) + "/data-annotations"


def listed(client: Client, path: str, **params: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get(path + "/samples", {"limit": 100, "order": "asc", **params})["samples"]
    return found


def said(client: Client, path: str, ident: str) -> list[str]:
    return [label["name"] for label in client.get(f"{path}/samples/{ident}")["labels"]]


def put(client: Client, path: str, ident: str, names: list[str], **more: Any) -> Any:
    return client.put(
        path + "/samples", {"samples": [{"sample_id": ident, "labels": [{"name": n} for n in names], **more}]}
    )


def test_who_saw_an_old_revision_changes_nothing_and_sees_both_states(client: Client, path: str) -> None:
    first, second = listed(client, path)[:2]
    assert first["revision"] == 0
    put(client, path, first["sample_id"], ["Cat"], revision=0)
    both = [
        {"sample_id": first["sample_id"], "labels": [{"name": "Dog"}], "revision": 0},
        {"sample_id": second["sample_id"], "labels": [{"name": "Dog"}], "revision": 0},
    ]
    response = client.http.put(path.replace("{project_id}", client.project_id) + "/samples", json={"samples": both})
    assert response.status_code == 409
    (conflict,) = response.json()["conflicts"]
    assert [x["name"] for x in conflict["current"]["labels"]] == ["Cat"]
    assert conflict["current"]["revision"] == 1
    assert [x["name"] for x in conflict["yours"]["labels"]] == ["Dog"]
    assert said(client, path, second["sample_id"]) == []
    answer = client.put(path + "/samples", {"samples": both, "partial": True})
    assert [r["success"] for r in answer["results"]] == [False, True]
    assert answer["results"][0]["conflicts"][0]["current"]["revision"] == 1
    assert said(client, path, first["sample_id"]) == ["Cat"]
    assert said(client, path, second["sample_id"]) == ["Dog"]


def test_annotators_at_the_same_sample_lose_nothing(tenant: Tenant, path: str) -> None:
    """Eight people add a label each to one sample at the same time, each from what they have read."""
    client = tenant.client
    ident = listed(client, path)[0]["sample_id"]

    def annotate(name: str) -> int:
        for attempt in range(200):
            shown = client.get(f"{path}/samples/{ident}")
            try:
                put(client, path, ident, [x["name"] for x in shown["labels"]] + [name], revision=shown["revision"])
            except ApiFailure as e:
                if e.status == 409:
                    continue
                raise
            return attempt
        raise AssertionError("never got through")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(annotate, [f"label-{n}" for n in range(8)]))
    assert sorted(said(client, path, ident)) == [f"label-{n}" for n in range(8)]
    history = client.get(f"{path}/samples/{ident}/history", {"limit": 100})
    assert history["revision"] == history["total_count"] == 8
    assert [len(h["labels"]) for h in history["history"]] == list(range(7, -1, -1))


def test_every_change_is_kept_and_taken_back(tenant: Tenant, path: str) -> None:
    client = tenant.client
    ident = listed(client, path)[0]["sample_id"]
    put(client, path, ident, ["Cat"], sample_usage="TRAIN")
    put(client, path, ident, ["Cat"])
    put(client, path, ident, ["Cat", "Dog"], metadata={"@modelarts:hard": 1, "camera": "left"})
    history = client.get(f"{path}/samples/{ident}/history")
    assert [(h["revision"], h["actor"], h["cause"]) for h in history["history"]] == [
        (2, tenant.name, "label"),
        (1, tenant.name, "label"),
    ]
    assert history["history"][0]["sample"] == {"hard": False, "property": {}}
    client.put(path + "/labels/Cat", {"@modelarts:rename_to": "Kitten"})
    undone = client.post(f"{path}/samples/{ident}/undo", {"revision": 2})
    assert [x["name"] for x in undone["labels"]] == ["Kitten"]
    assert (undone["revision"], undone["metadata"], undone["usage"]) == (3, {"@modelarts:hard": 0.0}, "TRAIN")
    undone = client.post(f"{path}/samples/{ident}/undo", {})
    assert (undone["labels"], undone["usage"], undone["sample_status"]) == ([], "", "__NONE__")
    with pytest.raises(ApiFailure) as nothing:
        client.post(f"{path}/samples/{ident}/undo", {})
    assert nothing.value.status == 409
    with pytest.raises(ApiFailure) as stale:
        client.post(f"{path}/samples/{ident}/undo", {"revision": 1})
    assert stale.value.status == 409
    causes = [c["cause"] for c in client.get(path + "/changes")["changes"]]
    assert causes == ["undo", "undo", "rename", "label", "label"]


def test_a_rename_is_taken_back_for_all_samples(tenant: Tenant, path: str, events: RecordedEvents) -> None:
    client = tenant.client
    first, second, *_ = listed(client, path)
    put(client, path, first["sample_id"], ["Cat"])
    put(client, path, second["sample_id"], ["Cat", "Dog"])
    client.put(path + "/labels", {"labels": [{"name": "Cat", "property": {"@modelarts:rename_to": "Kitten"}}]})
    renaming = client.get(path + "/changes")["changes"][0]["change_id"]
    undone = client.post(f"{path}/changes/{renaming}/undo", {})
    assert undone["changed_sample_count"] == 2
    events.wait("dataset.labels.changed.v1", renamed={"Kitten": "Cat"})
    assert {x["name"] for x in client.get(path + "/labels")["labels"]} >= {"Cat", "Dog"}
    client.post(f"{path}/changes/{undone['change_id']}/undo", {})
    assert [x["name"] for x in client.get(f"{path}/samples/{first['sample_id']}")["labels"]] == ["Kitten"]
    client.post(path + "/labels", {"labels": [{"name": "Cat"}]})
    with pytest.raises(ApiFailure) as taken:
        client.post(f"{path}/changes/{renaming}/undo", {})
    assert (taken.value.status, "a label 'Cat' already" in taken.value.message) == (409, True)


def test_many_labeled_by_filter_and_taken_back_together(client: Client, path: str, events: RecordedEvents) -> None:
    rows = listed(client, path)
    ids = [row["sample_id"] for row in rows]
    put(client, path, ids[0], ["Cat"])
    batch = path + "/samples/batch-update"
    answer = client.post(batch, {"search_conditions": [{"text": "text 0"}], "add_labels": [{"name": "Dog"}]})
    assert (answer["changed_sample_count"], answer["unchanged_sample_count"]) == (10, 0)
    events.wait("dataset.samples.labeled.v1", count=10)
    assert said(client, path, ids[0]) == ["Cat", "Dog"]
    again = client.post(batch, {"sample_state": "__ALL__", "add_labels": [{"name": "Dog"}]})
    assert (again["changed_sample_count"], again["unchanged_sample_count"], again["change_id"]) == (0, 10, None)
    client.post(batch, {"samples": ids[:2], "remove_labels": [{"name": "Dog"}], "sample_usage": "EVAL"})
    assert [said(client, path, i) for i in ids[:3]] == [["Cat"], [], ["Dog"]]
    with pytest.raises(ApiFailure) as stale:
        client.post(f"{path}/changes/{answer['change_id']}/undo", {})
    assert stale.value.status == 409
    assert said(client, path, ids[2]) == ["Dog"]
    partly = client.post(f"{path}/changes/{answer['change_id']}/undo", {"partial": True})
    assert (partly["changed_sample_count"], partly["success"]) == (8, False)
    assert [said(client, path, i) for i in ids[:3]] == [["Cat"], [], []]
    changes = client.get(path + "/changes")
    assert changes["changes"][0]["details"] == {"undoes": answer["change_id"]}
    redone = client.post(f"{path}/changes/{partly['change_id']}/undo", {})
    assert redone["changed_sample_count"] == 8
    assert said(client, path, ids[2]) == ["Dog"]
    for wrong in (
        {"add_labels": [{"name": "Dog"}]},
        {"samples": ids[:1], "sample_state": "__ALL__", "add_labels": [{"name": "Dog"}]},
        {"samples": ids[:1]},
        {"samples": ids[:1], "add_labels": [{"name": "no spaces"}]},
    ):
        with pytest.raises(ApiFailure) as refused:
            client.post(batch, wrong)
        assert refused.value.status == 400


def test_of_what_stays_the_author_stays(tenant: Tenant, path: str) -> None:
    ident = listed(tenant.client, path)[0]["sample_id"]
    put(tenant.client, path, ident, ["Cat"])
    other = tenant.user([{"Version": "1.1", "Statement": [{"Effect": "Allow", "Action": ["*:*:*"]}]}])
    put(other.client, path, ident, ["Cat", "Dog"])
    shown = tenant.client.get(f"{path}/samples/{ident}")["labels"]
    assert [x["annotated_by"] for x in shown] == [f"human/{tenant.name}", f"human/{other.name}"]


def test_labels_deleted_are_one_fact_and_make_readers_old(client: Client, datasets: Datasets, path: str) -> None:
    ids = [row["sample_id"] for row in listed(client, path)]
    client.post(path + "/samples/batch-update", {"sample_state": "__NONE__", "add_labels": [{"name": "Cat"}]})
    seen = client.get(f"{path}/samples/{ids[0]}")
    client.post(path + "/labels/delete", {"labels": [{"name": "Cat"}]})
    with pytest.raises(ApiFailure) as stale:
        put(client, path, ids[0], ["Cat"], revision=seen["revision"])
    assert stale.value.status == 409
    fact = client.get(path + "/changes")["changes"][0]
    assert (fact["cause"], fact["sample_count"], fact["details"]["deleted"]) == ("delete-label", 12, ["Cat"])
    with pytest.raises(ApiFailure, match="that is taken back for all samples") as gone:
        client.post(f"{path}/samples/{ids[0]}/undo", {})
    assert gone.value.status == 409


def test_label_attributes(client: Client, path: str) -> None:
    color = {"name": "coat", "type": "select", "values": [{"value": "black"}, {"value": "white"}]}
    client.post(
        path + "/labels", {"labels": [{"name": "Cat", "attributes": [color, {"name": "note", "type": "text"}]}]}
    )
    (label,) = client.get(path + "/labels")["labels"]
    kept = label["attributes"]
    assert [(a["name"], a["type"]) for a in kept] == [("coat", "select"), ("note", "text")]
    assert all(a["id"] for a in kept)
    assert all(v["id"] for v in kept[0]["values"])
    more = {**kept[0], "values": [*kept[0]["values"], {"value": "red"}], "default_value": "red"}
    client.put(path + "/labels", {"labels": [{"name": "Cat", "attributes": [more]}]})
    (label,) = client.get(path + "/labels")["labels"]
    assert [v["id"] for v in label["attributes"][0]["values"]][:2] == [v["id"] for v in kept[0]["values"]]
    assert label["attributes"][0]["id"] == kept[0]["id"]
    ids = [row["sample_id"] for row in listed(client, path)]
    cat = {"name": "Cat", "property": {"coat": "white"}}
    client.put(path + "/samples", {"samples": [{"sample_id": ids[0], "labels": [cat]}]})
    cat = {"name": "Cat", "property": {"coat": "green"}}
    with pytest.raises(ApiFailure, match="'coat'") as refused:
        client.put(path + "/samples", {"samples": [{"sample_id": ids[0], "labels": [cat]}]})
    assert refused.value.status == 400
    for wrong in (
        {"name": "", "type": "text"},
        {"name": "a", "type": "number"},
        {"name": "a", "type": "select"},
        {"name": "a", "type": "select", "values": [{"value": "x"}, {"value": "x"}]},
        {"name": "a", "type": "select", "values": [{"value": "x"}], "default_value": "y"},
    ):
        with pytest.raises(ApiFailure) as refused:
            client.post(path + "/labels", {"labels": [{"name": "Dog", "attributes": [wrong]}]})
        assert refused.value.status == 400
