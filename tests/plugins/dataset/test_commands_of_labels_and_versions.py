"""What `bottega datasets` and the Python client do with labels, samples, filters and versions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bottega.client import ApiFailure
from bottega.testing import Tenant
from bottega_dataset.client import Datasets

from .conftest import Cli


def test_a_dataset_gets_another_name_and_description(cli: Cli, make: Callable[..., str]) -> None:
    make("animals")
    changed = cli.json("modify", "animals", "--name", "beasts", "--description", "all of them")
    assert (changed["dataset_name"], changed["description"]) == ("beasts", "all of them")
    assert cli.run("modify", "beasts").exit_code == 2


def test_imports_by_label_and_what_was_left_out(
    cli: Cli, tenant: Tenant, bucket: str, make: Callable[..., str], tmp_path: Path
) -> None:
    said = [{"type": "text_classification", "name": name} for name in ("good", "bad", "odd")]
    lines = [{"source": f"content://{one['name']}", "annotation": [one]} for one in said]
    text = "\n".join(map(json.dumps, lines)) + "\nno line\n"
    tenant.objects.put(f"s3://{bucket}/a.manifest", text.encode())
    here = tmp_path / "a.manifest"
    here.write_text(text)
    make("stored", dataset_type=100)
    make("sent", dataset_type=100)
    task = cli.json("import", "stored", f"s3://{bucket}/a.manifest", "--only", "good", "--only", "odd")
    cli.json("import", "sent", str(here), "--without", "odd")
    assert [s["sample_data"] for s in cli.json("search", "stored")] == [["good"], ["odd"]]
    assert [s["sample_data"] for s in cli.json("search", "sent")] == [["good"], ["bad"]]
    (listed,) = cli.json("imports", "stored")
    assert (listed["task_id"], listed["imported_sample_count"]) == (task["task_id"], 2)
    assert cli.json("problems", "stored", task["task_id"])[0]["text"] == "no line"
    where = '{"label_list": {"labels": [{"name": "odd"}]}}'
    exported = cli.json("export", "stored", f"s3://{bucket}/out/", "--where", where)
    assert exported["finished_sample_count"] == 1
    assert [one["task_id"] for one in cli.json("exports", "stored")] == [exported["task_id"]]
    assert cli.json("problems", "stored", exported["task_id"]) == []


def test_labels_have_colors_shortcuts_shapes_and_attributes(
    cli: Cli, datasets: Datasets, make: Callable[..., str]
) -> None:
    make("boxes", dataset_type=1)
    cli.done("labels", "add", "boxes", "cat", "--shortcut", "c", "--shape", "polygon", "--attribute", "age")
    cli.done("labels", "change", "boxes", "cat", "--color", "#FF0000", "--shortcut", "")
    (label,) = datasets.labeling.labels("boxes")
    assert label["property"] == {"@modelarts:default_shape": "polygon", "@modelarts:color": "#FF0000"}
    assert [(one["name"], one["type"]) for one in label["attributes"]] == [("age", "text")]
    cli.done("labels", "change", "boxes", "cat", "--attribute", "coat=white,black")
    (label,) = datasets.labeling.labels("boxes")
    (coat,) = label["attributes"]
    assert (coat["name"], [one["value"] for one in coat["values"]]) == ("coat", ["white", "black"])
    make("triplets", dataset_type=102)
    cli.done("labels", "add", "triplets", "Person", "--type", "103")
    cli.done("labels", "add", "triplets", "knows", "--type", "102", "--joins", "Person", "Person")
    relation = next(one for one in datasets.labeling.labels("triplets") if one["name"] == "knows")
    assert relation["type"] == 102
    assert relation["property"] == {"@modelarts:from_type": "Person", "@modelarts:to_type": "Person"}


def test_labels_with_all_they_say_are_set_and_nobody_is_overwritten(
    cli: Cli, tenant: Tenant, datasets: Datasets, bucket: str, make: Callable[..., str]
) -> None:
    lines = [{"source": "content://Ann met Ben"}, {"source": "content://Ben left"}]
    tenant.objects.put(f"s3://{bucket}/a.manifest", "\n".join(map(json.dumps, lines)).encode())
    make("met", dataset_type=101)
    datasets.import_from("met", f"s3://{bucket}/a.manifest", import_type="manifest")
    first, second = cli.json("search", "met")
    span = {"@modelarts:start_index": 0, "@modelarts:end_index": 3}
    line = {"sample_id": first["sample_id"], "labels": [{"name": "Person", "property": span}], "revision": 0}
    cli.done("annotate", "met", "-", piped=json.dumps(line) + "\n")
    shown = cli.json("search", "met")[0]
    assert [(one["name"], one["property"]["@modelarts:end_index"]) for one in shown["labels"]] == [("Person", 3)]
    late = cli.run("annotate", "met", "-", piped=json.dumps(line))
    assert isinstance(late.exception, ApiFailure)
    assert late.exception.status == 409
    other = {"name": "Person", "property": {**span, "@modelarts:end_index": 2}}
    wanted = {first["sample_id"]: [other], second["sample_id"]: [other]}
    with pytest.raises(ApiFailure) as e:
        datasets.label("met", wanted, revisions={first["sample_id"]: 0, second["sample_id"]: 0})
    (conflict,) = e.value.details["conflicts"]
    assert conflict["current"]["labels"][0]["property"]["@modelarts:end_index"] == 3
    assert conflict["yours"]["labels"][0]["property"]["@modelarts:end_index"] == 2
    assert cli.json("search", "met", "--unlabeled")[0]["sample_id"] == second["sample_id"]
    assert cli.run("annotate", "met", "-", piped="{}\n").exit_code == 2


def test_filters_and_what_they_find_are_deleted(cli: Cli, make: Callable[..., str], pictures: str) -> None:
    make("animals", data_path=pictures)
    cli.json("search", "animals", "--where", '{"sample_format": ["bmp"]}', "--save", "bitmaps")
    assert [one["name"] for one in cli.json("filters", "animals")] == ["bitmaps"]
    assert cli.run("delete-samples", "animals", "--filter", "bitmaps").exit_code == 1
    cli.done("delete-samples", "animals", "--filter", "bitmaps", "--yes")
    cli.done("delete-samples", "animals", "--where", '{"sample_name": ".JPG"}', "--yes")
    (first, *_) = cli.json("search", "animals")
    cli.done("delete-samples", "animals", first["sample_id"], "--yes")
    assert cli.json("show", "animals")["total_sample_count"] == 5
    change = cli.json("history", "animals")[0]
    assert cli.json("undo", "animals", change["change_id"])["restored_sample_count"] == 1
    assert cli.json("filters", "animals", "--delete", "bitmaps") == []
    missing = cli.run("search", "animals", "--filter", "bitmaps")
    assert isinstance(missing.exception, ApiFailure)
    assert missing.exception.status == 404


def test_versions_become_current_and_go(
    cli: Cli, datasets: Datasets, make: Callable[..., str], pictures: str, bucket: str
) -> None:
    make("animals", data_path=pictures)
    first = cli.json("publish", "animals", "--description", "the first", "--images")
    assert first["description"] == "the first"
    beside = [one["key"] for one in datasets.objects.listing(first["manifest_path"].rpartition("/")[0] + "/")]
    assert len(beside) == 14
    cli.json("publish", "animals")
    cli.done("use", "animals", "V001")
    assert cli.json("show", "animals")["current_version_name"] == "V001"
    assert cli.run("delete-version", "animals", "V002").exit_code == 1
    cli.done("delete-version", "animals", "V002", "--yes")
    assert [one["version_name"] for one in cli.json("versions", "animals")] == ["V001"]
    copied = cli.json("copy", "animals", "same", "--output", f"s3://{bucket}/same/", "--version", "gold")
    assert copied["current_version_name"] == "gold"
