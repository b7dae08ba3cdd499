"""Labels are set back to those of a version: all of them or none, as one change that is taken back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bottega.client import ApiFailure
from bottega.testing import RecordedEvents, Tenant
from bottega_dataset.client import Datasets, TaskFailed

Make = Callable[..., str]
BOX = {"@modelarts:shape": "bndbox", "@modelarts:feature": [[1, 2], [30, 40]]}


def said(datasets: Datasets, name: str) -> dict[str, list[tuple[str, str]]]:
    return {
        s["sample_name"]: [(one["name"], one["annotated_by"]) for one in s["labels"]] for s in datasets.samples(name)
    }


def test_labels_are_those_of_the_version_again(
    tenant: Tenant, datasets: Datasets, make: Make, pictures: str, events: RecordedEvents
) -> None:
    name = make(data_path=pictures)
    datasets.labeling.change_label(name, "Dog", color="#aabbcc")
    datasets.publish(name, "gold")
    before = said(datasets, name)
    ids = {s["sample_name"]: s["sample_id"] for s in datasets.samples(name)}
    tenant.objects.put(pictures + "Cat/later.png", tenant.objects.get(pictures + "Cat/2.png"))
    datasets.import_from(name, pictures)
    datasets.label(name, {ids["0.png"]: ["Lion"], ids["0.bmp"]: ["Cat", "Lion"]})
    datasets.labeling.delete_label(name, "Dog")
    datasets.labeling.delete(name, [ids["1.png"]])
    datasets.publish(name, "silver")
    changed = said(datasets, name)

    done = datasets.roll_back(name, "gold")
    counts = {k: done[f"{k}_sample_count"] for k in ("changed", "unchanged", "missing", "other")}
    assert counts == {"changed": 6, "unchanged": 6, "missing": 1, "other": 1}
    assert said(datasets, name) == {k: v for k, v in before.items() if k != "1.png"} | {
        "later.png": changed["later.png"]
    }
    (problem,) = datasets.rollback_problems(name, done["task_id"])
    assert problem["place"] == f"sample {ids['1.png']}"
    assert "not in the dataset any more" in problem["reason"]
    (dog,) = (label for label in datasets.labeling.labels(name) if label["name"] == "Dog")
    assert dog["property"] == {"@modelarts:color": "#aabbcc"}
    assert datasets.get(name)["current_version_name"] == "silver", "what is current is another matter (002 §2.5)"
    newest = next(iter(datasets.labeling.changes(name)))
    assert (newest["cause"], newest["change_id"], newest["sample_count"]) == ("rollback", done["change_id"], 6)
    assert newest["details"]["version_name"] == "gold"
    assert datasets.labeling.history(name, ids["0.png"]).__next__()["cause"] == "rollback"
    events.wait("dataset.task.finished.v1", kind="rollback", state="completed")
    assert datasets.roll_back(name, "gold")["change_id"] is None, "nothing is left to change"
    datasets.labeling.undo_change(name, done["change_id"])
    assert said(datasets, name) == changed


def test_shapes_come_back_from_the_files_of_the_version(
    tenant: Tenant, datasets: Datasets, make: Make, bucket: str
) -> None:
    tenant.objects.put(f"s3://{bucket}/a.jpg", b"x")
    tenant.objects.put(f"s3://{bucket}/a.manifest", f'{{"source": "s3://{bucket}/a.jpg"}}'.encode())
    name = make("plates", dataset_type=1)
    datasets.import_from(name, f"s3://{bucket}/a.manifest", import_type="manifest")
    ((ident, _),) = ((s["sample_id"], s) for s in datasets.samples(name))
    datasets.label(name, {ident: [{"name": "plate", "property": BOX}]})

    def boxes() -> list[Any]:
        return [one["property"]["@modelarts:feature"] for s in datasets.samples(name) for one in s["labels"]]

    datasets.publish(name, "gold")
    datasets.label(name, {ident: []})
    assert datasets.roll_back(name, "gold")["changed_sample_count"] == 1
    assert boxes() == [BOX["@modelarts:feature"]]


def test_nothing_is_set_back_to_what_was_not_published(
    tenant: Tenant, datasets: Datasets, make: Make, pictures: str
) -> None:
    name = make(data_path=pictures)
    version = datasets.publish(name, "gold")
    manifest = tenant.objects.get(version["manifest_path"])
    tenant.objects.put(version["manifest_path"], manifest.replace(b'"Dog"', b'"Cow"'))
    before = said(datasets, name)
    with pytest.raises(TaskFailed, match="was changed since it was published; nothing was set back"):
        datasets.roll_back(name, "gold")
    assert said(datasets, name) == before
    ident = datasets.get(name)["dataset_id"]
    with pytest.raises(ApiFailure) as unknown:
        tenant.client.post(f"/v2/{{project_id}}/datasets/{ident}/versions/none/rollback", {})
    assert unknown.value.status == 404
