"""Samples and labels through the API: lists and filters, labeling one and many, deleting."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from bottega.client import ApiFailure, Client
from bottega.testing import RecordedEvents, Tenant
from bottega_dataset.client import Datasets

Make = Callable[..., str]
One = Callable[[str], str]


@pytest.fixture
def name(make: Make, pictures: str) -> str:
    return make(data_path=pictures)


def ids(datasets: Datasets, name: str, **filters: Any) -> dict[str, str]:
    """Sample ids by the samples' names."""
    return {s["sample_name"]: s["sample_id"] for s in datasets.samples(name, **filters)}


def names(client: Client, path: str, **params: Any) -> list[str]:
    answer = client.get(path + "/data-annotations/samples", {"limit": 100, "order": "asc", **params})
    found = [s["sample_name"] for s in answer["samples"]]
    assert answer["sample_count"] == len(found)
    return found


def test_lists_and_filters(client: Client, datasets: Datasets, name: str, one: One, bucket: str) -> None:
    path = one(name)
    assert len(names(client, path)) == 13
    assert names(client, path, sample_state="__NONE__") == ["0.bmp", "1.bmp", "2.bmp"]
    assert names(client, path, label_name="Dog") == ["0.JPG", "1.JPG", "2.JPG", "3.JPG"]
    assert names(client, path, label_name="Bird") == []

    def search(**condition: Any) -> list[str]:
        return names(client, path, search_conditions=json.dumps([condition]))

    assert search(sample_name="0.") == ["0.bmp", "0.png", "0.JPG"]
    assert search(sample_name="%") == []
    assert search(sample_dir=f"/{bucket}/pictures/") == ["0.bmp", "1.bmp", "2.bmp"]
    assert len(search(label_list={"labels": [{"name": "Cat"}, {"name": "Dog"}], "op": "OR"})) == 10
    assert search(label_list={"labels": [{"name": "Cat"}, {"name": "Dog"}], "op": "AND"}) == []
    assert len(search(sample_time="day")) == 13
    assert len(search(hard="0")) == 13
    assert search(hard="1") == []
    assert names(client, path, label_name="Cat", search_conditions='{"sample_name": "5"}') == ["5.png"]
    for wrong in (
        {"search_conditions": "{"},
        {"search_conditions": '{"color": "red"}'},
        {"sample_state": "odd"},
        {"low_score": 2},
    ):
        with pytest.raises(ApiFailure) as refused:
            names(client, path, **wrong)
        assert refused.value.status == 400


def test_pages_by_offset_and_behind_a_sample(client: Client, datasets: Datasets, name: str, one: One) -> None:
    path = one(name) + "/data-annotations/samples"
    everything = [s["sample_id"] for s in client.get(path, {"limit": 100})["samples"]]
    by_offset = [s["sample_id"] for at in (0, 5, 10) for s in client.get(path, {"limit": 5, "offset": at})["samples"]]
    assert by_offset == everything
    behind: list[str] = []
    while len(behind) < 13:
        page = client.get(path, {"limit": 5, "after_sample_id": behind[-1] if behind else None})
        assert page["sample_count"] == 13
        behind += [s["sample_id"] for s in page["samples"]]
    assert behind == everything
    assert [s["sample_id"] for s in datasets.samples(name)] == everything[::-1]


def test_a_sample_shows_its_object_and_a_preview(
    tenant: Tenant, datasets: Datasets, name: str, one: One, bucket: str
) -> None:
    ident = ids(datasets, name)["5.png"]
    shown = tenant.client.get(f"{one(name)}/data-annotations/samples/{ident}")
    assert shown["source"] == f"s3://{bucket}/pictures/Cat/5.png"
    assert shown["sample_size"] == len(tenant.objects.get(shown["source"]))
    assert shown["sample_status"] == "__ALL__"
    assert shown["sample_type"] == 0
    assert [(x["name"], x["annotated_by"]) for x in shown["labels"]] == [("Cat", "human")]
    import httpx

    assert httpx.get(shown["preview_url"]).content == tenant.objects.get(shown["source"])
    for wrong, status in (("0" * 32, 404), ("zz", 400)):
        with pytest.raises(ApiFailure) as refused:
            tenant.client.get(f"{one(name)}/data-annotations/samples/{wrong}")
        assert refused.value.status == status


def test_labeled_by_hand_one_and_many(
    client: Client, datasets: Datasets, name: str, one: One, tenant: Tenant, events: RecordedEvents
) -> None:
    path, known = one(name), ids(datasets, name)
    label = {"name": "Bird", "score": 0.25, "property": {"@modelarts:hard": "1", "wings": "two"}}
    answer = client.put(
        path + "/data-annotations/samples",
        {
            "samples": [
                {"sample_id": known["0.bmp"], "labels": [label, {"name": "Cat"}], "sample_usage": "EVAL"},
                {"sample_id": known["1.bmp"], "labels": [{"name": "Dog"}]},
                {"sample_id": known["5.png"], "labels": []},
                {"sample_id": "f" * 32, "labels": [{"name": "Dog"}]},
            ]
        },
    )
    assert [r["success"] for r in answer["results"]] == [True, True, True, False]
    assert answer["success"] is False
    assert "f" * 32 in answer["results"][3]["error_msg"]
    shown = client.get(f"{path}/data-annotations/samples/{known['0.bmp']}")
    assert [(x["name"], x.get("score"), x["property"]) for x in shown["labels"]] == [
        ("Bird", 0.25, {"wings": "two", "@modelarts:hard": "1"}),
        ("Cat", None, {}),
    ]
    assert shown["labels"][0]["annotated_by"] == f"human/{tenant.name}"
    assert shown["usage"] == "EVAL"
    assert names(client, path, sample_state="__NONE__") == ["2.bmp", "5.png"]
    assert names(client, path, label_name="Cat", high_score=0.5) == []
    assert names(client, path, label_name="Bird", high_score=0.5, low_score=0.2) == ["0.bmp"]
    assert names(client, path, search_conditions='{"hard": "1"}') == ["0.bmp"]
    assert names(client, path, search_conditions=json.dumps({"labeler": tenant.name})) == ["0.bmp", "1.bmp"]
    assert {x["name"] for x in client.get(path + "/data-annotations/labels")["labels"]} == {"Cat", "Dog", "Bird"}
    events.wait("dataset.samples.labeled.v1", count=3)
    events.wait("dataset.labels.changed.v1", created=["Bird"])
    events.wait("core.api.called.v1", trace="updateSamples")


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ([{"name": "no spaces"}], "'no spaces'"),
        ([{"name": "Cat"}, {"name": "Cat"}], "second time"),
        ([{"name": "Cat", "score": 1.5}], "score"),
        ([{"name": 7}], "name"),
        ([{}], "name"),
    ],
)
def test_labels_that_break_the_rules_change_nothing(
    client: Client, datasets: Datasets, name: str, one: One, labels: list[Any], says: str
) -> None:
    known = ids(datasets, name)
    given = [
        {"sample_id": known["0.bmp"], "labels": [{"name": "Dog"}]},
        {"sample_id": known["1.bmp"], "labels": labels},
    ]
    with pytest.raises(ApiFailure) as refused:
        client.put(one(name) + "/data-annotations/samples", {"samples": given})
    assert refused.value.status == 400
    assert says in refused.value.message
    assert names(client, one(name), sample_state="__NONE__") == ["0.bmp", "1.bmp", "2.bmp"]


def test_labels_renamed_everywhere_and_deleted(client: Client, datasets: Datasets, name: str, one: One) -> None:
    path = one(name) + "/data-annotations"
    client.put(path + "/labels/Cat", {"@modelarts:rename_to": "Kitten", "@modelarts:shortcut": "K"})
    assert len(names(client, one(name), label_name="Kitten")) == 6
    with pytest.raises(ApiFailure) as taken:
        client.put(path + "/labels", {"labels": [{"name": "Dog", "property": {"@modelarts:rename_to": "Kitten"}}]})
    assert taken.value.status == 409
    with pytest.raises(ApiFailure) as shortcut:
        client.post(path + "/labels", {"labels": [{"name": "Koala", "property": {"@modelarts:shortcut": "K"}}]})
    assert shortcut.value.status == 409
    stats = client.get(path + "/stats")
    assert {x["name"]: x["sample_count"] for x in stats["label_stats"]} == {"Kitten": 6, "Dog": 4}
    assert stats["sample_stats"] | {"unconfirmed": 0} == stats["sample_stats"]
    assert stats["sample_stats"]["manual_annotation"] == 10
    both = ids(datasets, name)["3.JPG"]
    datasets.label(name, {both: ["Kitten", "Dog"]})
    client.post(path + "/labels/delete", {"labels": [{"name": "Kitten"}]})
    assert len(names(client, one(name), sample_state="__NONE__")) == 9
    assert len(names(client, one(name), label_name="Dog")) == 4
    with pytest.raises(ApiFailure) as unknown:
        client.post(path + "/labels/delete", {"labels": [{"name": "Kitten"}]})
    assert unknown.value.status == 404


def test_a_label_deleted_with_the_samples_that_bear_only_it(
    tenant: Tenant, datasets: Datasets, name: str, one: One, pictures: str, events: RecordedEvents
) -> None:
    datasets.label(name, {ids(datasets, name)["3.JPG"]: ["Cat", "Dog"]})
    tenant.client.delete(one(name) + "/data-annotations/labels/Dog")
    assert names(tenant.client, one(name), label_name="Cat")[-1] == "3.JPG"
    assert datasets.get(name)["total_sample_count"] == 10
    assert len(tenant.objects.list(pictures)) == 14
    events.wait("core.api.called.v1", trace="deleteLabelWithSamples")
    tenant.client.request("DELETE", one(name) + "/data-annotations/labels/Cat", params={"delete_source": True})
    assert datasets.get(name)["total_sample_count"] == 3
    left = [path.removeprefix(pictures) for path in tenant.objects.list(pictures)]
    assert left == ["0.bmp", "1.bmp", "2.bmp", "Cat/notes.txt", "Dog/0.JPG", "Dog/1.JPG", "Dog/2.JPG"]


def test_samples_deleted_with_and_without_their_objects(
    tenant: Tenant, datasets: Datasets, name: str, one: One, pictures: str
) -> None:
    path, known = one(name) + "/data-annotations/samples/delete", ids(datasets, name)
    answer = tenant.client.post(path, {"samples": [known["0.bmp"], "0" * 32]})
    assert [r["success"] for r in answer["results"]] == [True, False]
    assert pictures + "0.bmp" in tenant.objects.list(pictures)
    read_only = {
        "Version": "1.1",
        "Statement": [{"Effect": "Allow", "Action": ["modelarts:*:*", "obs:object:GetObject"]}],
    }
    limited = tenant.user([read_only]).client
    with pytest.raises(ApiFailure) as refused:
        limited.post(path, {"samples": [known["1.bmp"]], "delete_source": True})
    assert refused.value.status == 403
    tenant.client.post(path, {"samples": [known["1.bmp"]], "delete_source": True})
    assert pictures + "1.bmp" not in tenant.objects.list(pictures)
    assert datasets.get(name)["total_sample_count"] == 11
    datasets.import_from(name, pictures)
    assert "0.bmp" in ids(datasets, name)


def test_ten_thousand_samples_labeled_in_one_call(tenant: Tenant, datasets: Datasets, make: Make, bucket: str) -> None:
    manifest = b"".join(b'{"source": "content://text %d"}\n' % n for n in range(10_000))
    tenant.objects.put(f"s3://{bucket}/big.manifest", manifest)
    name = make("texts", dataset_type=100)
    datasets.import_from(name, f"s3://{bucket}/big.manifest", import_type="manifest")
    wanted = {s["sample_id"]: [f"label-{n % 7}"] for n, s in enumerate(datasets.samples(name))}
    assert len(wanted) == 10_000
    datasets.label(name, wanted)
    stats = datasets.statistics(name)
    assert sum(x["sample_count"] for x in stats["label_stats"]) == 10_000
    assert stats["sample_stats"]["un_annotation"] == 0
