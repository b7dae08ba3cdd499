"""Exports: what is chosen, how it is divided, into a new dataset, stopped, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bottega.client import ApiFailure
from bottega.testing import Tenant
from bottega.testing.running import wait_until
from bottega_dataset.client import Datasets, TaskFailed
from bottega_dataset.manifest import format_line
from bottega_dataset.sample import Annotation, SampleRecord

Make = Callable[..., str]


@pytest.fixture
def name(datasets: Datasets, make: Make, pictures: str) -> str:
    return make(data_path=pictures)


def names(datasets: Datasets, task: dict[str, Any]) -> list[str]:
    return [r.source.rpartition("/")[2] for r in datasets.read_manifest(task["manifest_path"])]


def test_divided_by_ratio_each_label_by_itself(datasets: Datasets, name: str, bucket: str) -> None:
    params = {"ratio_sample_usage": True, "train_sample_ratio": "0.5"}
    task = datasets.export(name, f"s3://{bucket}/out/", export_params=params)
    usages: dict[str, list[str | None]] = {}
    for record in datasets.read_manifest(task["manifest_path"]):
        usages.setdefault(record.annotations[0].name if record.annotations else "", []).append(record.usage)
    assert {label: found.count("TRAIN") for label, found in usages.items()} == {"Cat": 3, "Dog": 2, "": 0}
    assert set(usages[""]) == {None}
    assert (task["total_sample_count"], task["finished_sample_count"], task["progress"]) == (13, 13, 100.0)


def test_chosen_samples_of_a_dataset_and_of_a_version(datasets: Datasets, name: str, bucket: str) -> None:
    wanted = {s["sample_id"]: s["sample_name"] for s in datasets.samples(name, label="Dog")}
    ids = list(wanted)[:2]
    options: dict[str, Any] = {"export_type": 3, "export_params": {"samples": ids}}
    chosen = [wanted[one] for one in ids]
    assert names(datasets, datasets.export(name, f"s3://{bucket}/out/", **options)) == chosen
    version = datasets.publish(name)["version_id"]
    assert names(datasets, datasets.export(name, f"s3://{bucket}/out/", version_id=version, **options)) == chosen
    unlabeled = datasets.export(name, f"s3://{bucket}/out/", version_id=version, export_type=1)
    assert names(datasets, unlabeled) == ["0.bmp", "1.bmp", "2.bmp"]


def test_hard_examples_and_prefixes_of_sources(tenant: Tenant, datasets: Datasets, make: Make, bucket: str) -> None:
    record = SampleRecord(f"s3://{bucket}/a.png", [Annotation("image_classification", "cat", hard=True)])
    tenant.objects.put(f"s3://{bucket}/a.manifest", format_line(record))
    datasets.import_from(make(), f"s3://{bucket}/a.manifest", import_type="manifest")

    def exported(**options: Any) -> str:
        task = datasets.export("animals", f"s3://{bucket}/out/", **options)
        return tenant.objects.get(task["manifest_path"]).decode()

    assert '"hard":"true"' in exported()
    assert '"hard"' not in exported(keep_hard=False)
    assert f'"source":"obs://{bucket}/a.png"' in exported(source_type_header="obs://")
    # The vendor's default, for who asks the API without saying anything of it.
    path = f"/v2/{{project_id}}/datasets/{datasets.get('animals')['dataset_id']}/export-tasks"
    assert datasets._client.post(path, {"path": f"/{bucket}/out/"})["export_params"]["clear_hard_property"] is True


def test_into_a_new_dataset_with_copies_and_a_version(
    tenant: Tenant, datasets: Datasets, name: str, bucket: str, pictures: str
) -> None:
    datasets._client.post(
        f"/v2/{{project_id}}/datasets/{datasets.get(name)['dataset_id']}/data-annotations/labels",
        {"labels": [{"name": "Bird", "property": {"@modelarts:color": "#00FF00"}}]},
    )
    ids = [s["sample_id"] for s in datasets.samples(name, label="Dog")]
    new = datasets.export_to_dataset(
        name,
        "dogs",
        f"/{bucket}/dogs-out/",
        data_path=f"/{bucket}/dogs/",
        version="first",
        samples=ids,
        ratio_sample_usage=True,
        train_sample_ratio="0.75",
    )
    assert [one["data_path"] for one in new["data_sources"]] == [f"/{bucket}/dogs/"]
    assert {one["name"] for one in new["labels"]} == {"Cat", "Dog", "Bird"}
    found = list(datasets.samples("dogs"))
    assert [(s["source"], s["labels"][0]["name"]) for s in found] == [
        (f"s3://{bucket}/dogs/Dog/{n}.JPG", "Dog") for n in range(4)
    ]
    assert sorted(s["usage"] for s in found) == ["EVAL", "TRAIN", "TRAIN", "TRAIN"]
    assert tenant.objects.get(f"s3://{bucket}/dogs/Dog/1.JPG") == tenant.objects.get(f"{pictures}Dog/1.JPG")
    version = wait_until(lambda: next((v for v in datasets.versions("dogs") if v["status"] == 1), None))
    assert version is not None
    assert (version["version_name"], version["total_sample_count"]) == ("first", 4)
    assert {r.usage for r in datasets.read_manifest(version["manifest_path"])} == {"TRAIN", "EVAL"}
    assert [o["key"] for o in datasets.objects.listing(f"s3://{bucket}/dogs-out/export")] == []


def test_into_a_new_dataset_that_shares_the_objects(datasets: Datasets, name: str, bucket: str) -> None:
    new = datasets.export_to_dataset(name, "shared", f"/{bucket}/shared-out/", sample_state="__NONE__")
    assert (new["total_sample_count"], new["data_sources"]) == (3, [])
    assert {s["source"] for s in datasets.samples("shared")} == {
        s["source"] for s in datasets.samples(name, labeled=False)
    }


def test_a_new_dataset_that_cannot_be_finished_is_not_there(datasets: Datasets, name: str, bucket: str) -> None:
    nothing = [{"sample_name": "no such name"}]
    with pytest.raises(TaskFailed, match="no samples to publish"):
        datasets.export_to_dataset(
            name, "new", f"/{bucket}/new-out/", data_path=f"/{bucket}/new-in/", version="v1", search_conditions=nothing
        )
    wait_until(lambda: [d["dataset_name"] for d in datasets.list()] == [name])
    assert list(datasets.objects.listing(f"s3://{bucket}/new-")) == []


def test_what_cannot_be_exported_is_refused(datasets: Datasets, name: str, make: Make, bucket: str) -> None:
    make("taken")
    folder, work = f"s3://{bucket}/out/", f"/{bucket}/new-out/"
    new = {"export_dest": "NEW_DATASET", "export_new_dataset_name": "new", "export_new_dataset_work_path": work}
    version = datasets.publish(name)["version_id"]
    cases: list[tuple[int, str, dict[str, Any]]] = [
        (400, "exported as 'carbon', but as: .*manifest", {"format": "carbon"}),
        (400, "give export_params.search_conditions", {"export_type": 3}),
        (400, "not among those of a version", {"version_id": version, "export_params": {"search_conditions": [{}]}}),
        (400, "needs export_new_dataset_name", {"export_params": {"export_dest": "NEW_DATASET"}}),
        (400, "dataset_name 'a b' must", {"export_params": {**new, "export_new_dataset_name": "a b"}}),
        (400, "export_dest", {"export_params": {"export_dest": "MOON"}}),
        (409, "lies in .* already", {"path": f"s3://{bucket}/pictures/", "export_params": new}),
        (404, "no version", {"version_id": "x"}),
    ]
    for status, reason, options in cases:
        with pytest.raises(ApiFailure, match=reason) as refused:
            datasets.export(name, options.pop("path", folder), **options)
        assert refused.value.status == status
    with pytest.raises(Exception, match="taken"):
        datasets.export(name, f"s3://{bucket}/a/", export_params={**new, "export_new_dataset_name": "taken"})


def test_a_finished_task_is_not_stopped(datasets: Datasets, name: str, bucket: str) -> None:
    task = datasets.export(name, f"s3://{bucket}/out/")
    with pytest.raises(ApiFailure, match="nothing to stop") as refused:
        datasets.stop(name, task["task_id"])
    assert refused.value.status == 409
    with pytest.raises(ApiFailure) as unknown:
        datasets.stop(name, "x")
    assert unknown.value.status == 404
