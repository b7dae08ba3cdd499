"""Labels and samples that were deleted are put back as they were, as far as they are kept."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bottega.client import ApiFailure
from bottega.testing import Tenant
from bottega_dataset.client import Datasets

Labels = dict[str, list[tuple[str, Any]]]


@pytest.fixture
def name(tenant: Tenant, datasets: Datasets, bucket: str) -> str:
    """a has one label, b two, c another one; d none."""
    folder = f"s3://{bucket}/in/"
    tenant.objects.put_many({f"{folder}{n}.wav": b"x" for n in "abcd"})
    said = {"a": ["cat"], "b": ["cat", "dog"], "c": ["dog"], "d": []}
    lines = [
        {
            "source": f"{folder}{n}.wav",
            "annotation": [
                {"type": "free_format", "name": label, "hard": "true" if n == "a" else "false", "property": {"of": n}}
                for label in labels
            ],
        }
        for n, labels in said.items()
    ]
    tenant.objects.put(f"s3://{bucket}/all.manifest", "\n".join(map(json.dumps, lines)).encode())
    datasets.create("animals", f"/{bucket}/out/", dataset_type=900)
    datasets.import_from("animals", f"s3://{bucket}/all.manifest", import_type="manifest")
    datasets.labeling.change_label("animals", "cat", color="#aabbcc")
    return "animals"


def state(datasets: Datasets, name: str) -> Labels:
    return {
        s["sample_name"][0]: [(one["name"], one["property"]) for one in s["labels"]] for s in datasets.samples(name)
    }


def last(datasets: Datasets, name: str) -> str:
    change: str = next(iter(datasets.labeling.changes(name)))["change_id"]
    return change


def ids(datasets: Datasets, name: str) -> dict[str, str]:
    return {s["sample_name"][0]: s["sample_id"] for s in datasets.samples(name)}


def test_a_deleted_label_comes_back_everywhere(datasets: Datasets, name: str) -> None:
    before, stats, colors = state(datasets, name), datasets.statistics(name), datasets.labeling.labels(name)
    datasets.labeling.delete_label(name, "cat")
    assert state(datasets, name)["a"] == []
    gone = last(datasets, name)
    with pytest.raises(ApiFailure, match="that is taken back for all samples"):
        datasets.labeling.undo(name, ids(datasets, name)["a"])
    done = datasets.labeling.undo_change(name, gone)
    assert (done["changed_sample_count"], done["restored_sample_count"]) == (2, 0)
    assert state(datasets, name) == before
    assert datasets.statistics(name) == stats
    assert sorted(map(str, datasets.labeling.labels(name))) == sorted(map(str, colors))
    causes = [(one["cause"], one["details"].get("undoes")) for one in datasets.labeling.changes(name)]
    assert causes[:2] == [("undo", gone), ("delete-label", None)]
    with pytest.raises(ApiFailure, match="was taken back already") as again:
        datasets.labeling.undo_change(name, gone)
    assert again.value.status == 409


def test_samples_that_went_with_a_label_come_back_with_their_history(datasets: Datasets, name: str) -> None:
    datasets.label(name, {ids(datasets, name)["a"]: ["cat", "lion"]})
    datasets.label(name, {ids(datasets, name)["a"]: ["cat"]})
    before, known = state(datasets, name), ids(datasets, name)
    datasets.labeling.delete_label(name, "cat", with_samples=True)
    assert set(state(datasets, name)) == {"b", "c", "d"}
    done = datasets.labeling.undo_change(name, last(datasets, name))
    assert (done["changed_sample_count"], done["restored_sample_count"]) == (2, 1)
    assert (state(datasets, name), ids(datasets, name)) == (before, known)
    assert [one["cause"] for one in datasets.labeling.history(name, known["a"])] == ["label", "label"]


def test_who_labeled_since_is_not_run_over(datasets: Datasets, name: str) -> None:
    known = ids(datasets, name)
    datasets.labeling.delete_label(name, "cat")
    gone = last(datasets, name)
    datasets.label(name, {known["b"]: ["tiger"]})
    with pytest.raises(ApiFailure, match="changed meanwhile") as stale:
        datasets.labeling.undo_change(name, gone)
    assert stale.value.status == 409
    # Whoever made a label of that name again gets no second one.
    datasets.labeling.add_label(name, "cat")
    done = datasets.labeling.undo_change(name, gone, partial=True)
    assert done["changed_sample_count"] == 1
    now = state(datasets, name)
    assert ([one for one, _ in now["a"]], [one for one, _ in now["b"]]) == (["cat"], ["tiger"])
    assert [one["name"] for one in datasets.labeling.labels(name)].count("cat") == 1


def test_deleted_samples_come_back_unless_their_objects_went_too(
    tenant: Tenant, datasets: Datasets, name: str, bucket: str
) -> None:
    before, known = state(datasets, name), ids(datasets, name)
    datasets.labeling.delete(name, [known["a"], known["b"], known["d"]])
    deleted = last(datasets, name)
    # What one of them bore was deleted meanwhile, and one came back by itself.
    datasets.labeling.delete_label(name, "dog")
    line = json.dumps({"source": f"s3://{bucket}/in/d.wav"})
    tenant.objects.put(f"s3://{bucket}/d.manifest", line.encode())
    datasets.import_from(name, f"s3://{bucket}/d.manifest", import_type="manifest")
    done = datasets.labeling.undo_change(name, deleted)
    assert (done["restored_sample_count"], done["success"]) == (2, False)
    assert "is in the dataset again" in str(done["results"])
    datasets.labeling.undo_change(
        name, next(one["change_id"] for one in datasets.labeling.changes(name) if one["cause"] == "delete-label")
    )
    assert (state(datasets, name), ids(datasets, name)) == (before, known)
    assert datasets.get(name)["deleted_sample_count"] == 1
    datasets.labeling.delete(name, [known["a"]], with_objects=True)
    with pytest.raises(ApiFailure, match="objects were deleted with the samples"):
        datasets.labeling.undo_change(name, last(datasets, name))
    datasets.labeling.delete_label(name, "dog", with_samples=True, with_objects=True)
    done = datasets.labeling.undo_change(name, last(datasets, name))
    assert (done["changed_sample_count"], done["restored_sample_count"]) == (1, 0)
    assert {one: len(said) for one, said in state(datasets, name).items()} == {"b": 2, "d": 0}
    datasets.delete(name)
