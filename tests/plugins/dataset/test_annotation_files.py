"""Object detection over HTTP: VOC files are read where a manifest names them, and written with a version."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bottega.client import ApiFailure
from bottega.testing import Tenant
from bottega_dataset.client import Datasets, TaskFailed

Make = Callable[..., str]
VOC = (
    "<annotation><folder>in</folder><filename>{}</filename><size><width>{}</width><height>80</height><depth>3</depth>"
    "</size><segmented>0</segmented><object><name>cat</name><pose>Left</pose><truncated>1</truncated>"
    "<occluded>0</occluded><difficult>0</difficult><confidence>0.5</confidence>"
    "<bndbox><xmin>1</xmin><ymin>2.5</ymin><xmax>60</xmax><ymax>70</ymax></bndbox></object></annotation>"
)
LAUGHS = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "ha">]><annotation><folder>&a;</folder></annotation>'


def line(bucket: str, name: str, location: str | None) -> str:
    said = (
        f', "annotation": [{{"type": "modelarts/object_detection", "annotation-loc": "{location}", '
        '"annotation-format": "PASCAL VOC", "annotated-by": "human/ann", "creation-time": "2019-01-23 11:30:30"}]'
        if location
        else ""
    )
    return f'{{"source": "s3://{bucket}/in/{name}"{said}}}\n'


@pytest.fixture
def detected(tenant: Tenant, bucket: str) -> str:
    """A manifest of five images: two labeled, one not, one whose file is hostile and one whose box is too wide."""
    tenant.objects.put(f"s3://{bucket}/voc/a.xml", VOC.format("a.jpg", 100).encode())
    tenant.objects.put(f"s3://{bucket}/voc/wide.xml", VOC.format("wide.jpg", 50).encode())
    tenant.objects.put(f"s3://{bucket}/voc/laughs.xml", LAUGHS.encode())
    where = {"a.jpg": "a", "b.jpg": "a", "hostile.jpg": "laughs", "wide.jpg": "wide", "gone.jpg": "gone"}
    lines = [line(bucket, name, f"s3://{bucket}/voc/{file}.xml") for name, file in where.items()]
    path = f"s3://{bucket}/all.manifest"
    tenant.objects.put(path, "".join([*lines, line(bucket, "plain.jpg", None)]).encode())
    return path


def test_files_are_read_and_written_without_loss(
    tenant: Tenant, datasets: Datasets, make: Make, bucket: str, detected: str
) -> None:
    make("first", dataset_type=1)
    task = datasets.import_from("first", detected, import_type="manifest")
    problems = {p["place"].rpartition(" ")[2]: p["reason"] for p in datasets.problems("first", task["task_id"])}
    assert sorted(problems) == ["3", "4", "5"]
    assert "laughs.xml: the XML has a document type" in problems["3"]
    assert "lies outside of the image of 50 x 80 pixels" in problems["4"]
    assert "gone.xml" in problems["5"]

    (sample,) = (s for s in datasets.samples("first") if s["sample_name"] == "a.jpg")
    assert sample["metadata"]["@modelarts:size"] == [100, 80, 3]
    (label,) = sample["labels"]
    assert (label["name"], label["type"], label["score"], label["annotated_by"]) == ("cat", 1, 0.5, "human/ann")
    assert label["property"] == {
        "@modelarts:shape": "bndbox",
        "@modelarts:feature": [[1, 2.5], [60, 70]],
        "@modelarts:pose": "Left",
        "@modelarts:truncated": 1,
    }

    version = datasets.publish("first")
    folder = version["data_path"]
    names = [o["key"].rpartition("/")[2] for o in datasets.objects.listing(folder)]
    assert sorted(n.partition("-")[2] or n for n in names) == ["V001.manifest", "a.xml", "b.xml"]
    written = {n: datasets.objects.read(folder + n) for n in names}
    datasets.publish("first", "again")
    other = datasets.version("first", "again")["data_path"]
    for name, content in written.items():
        if name.endswith(".xml"):
            assert datasets.objects.read(other + name) == content, "the same state gives the same bytes"

    make("second", dataset_type=1)
    datasets.import_from("second", version["manifest_path"], import_type="manifest")

    def said(name: str) -> dict[str, Any]:
        return {s["sample_id"]: (s["labels"], s["metadata"]) for s in datasets.samples(name)}

    assert said("second") == said("first")
    for options in ({}, {"version_id": version["version_id"]}):
        exported = datasets.export("first", f"/{bucket}/export/", **options)["manifest_path"]
        make(name := f"third{len(options)}", dataset_type=1)
        datasets.import_from(name, exported, import_type="manifest")
        assert said(name) == said("first")

    records = {r.name: r for r in datasets.read_manifest(version["manifest_path"])}
    assert [(a.name, a.confidence) for a in records["a.jpg"].annotations] == [("cat", 0.5)]
    assert records["plain.jpg"].annotations == []


def test_a_file_the_user_may_not_read_is_not_read(tenant: Tenant, datasets: Datasets, make: Make, bucket: str) -> None:
    another = tenant.running.tenant()
    secret = another.create_bucket()
    another.objects.put(f"s3://{secret}/a.xml", VOC.format("a.jpg", 100).encode())
    path = f"s3://{bucket}/thief.manifest"
    tenant.objects.put(path, line(bucket, "a.jpg", f"s3://{secret}/a.xml").encode())
    name = make("theft", dataset_type=1)
    task = datasets.import_from(name, path, import_type="manifest")
    (problem,) = datasets.problems(name, task["task_id"])
    assert f"bucket '{secret}' is not one of yours" in problem["reason"]
    assert list(datasets.samples(name)) == []


def test_a_box_outside_of_the_image_is_refused_by_hand_too(
    datasets: Datasets, make: Make, detected: str, bucket: str
) -> None:
    name = make("boxes", dataset_type=1)
    datasets.import_from(name, detected, import_type="manifest")
    (sample,) = (s for s in datasets.samples(name) if s["sample_name"] == "a.jpg")
    box = {"@modelarts:shape": "bndbox", "@modelarts:feature": [[1, 2], [101, 70]]}
    with pytest.raises(ApiFailure) as refused:
        datasets.label(name, {sample["sample_id"]: [{"name": "cat", "property": box}]})
    assert f"sample {sample['sample_id']}: annotation[0].property['@modelarts:feature']" in str(refused.value)
    assert refused.value.status == 400


def test_a_version_whose_manifest_was_changed_opens_nothing_of_others(
    tenant: Tenant, datasets: Datasets, make: Make, bucket: str, detected: str, one: Callable[[str], str]
) -> None:
    another = tenant.running.tenant()
    secret = another.create_bucket()
    another.objects.put(f"s3://{secret}/a.xml", VOC.format("a.jpg", 100).encode())
    name = make("changed", dataset_type=1)
    datasets.import_from(name, detected, import_type="manifest")
    version = datasets.publish(name)
    listing = one(name) + "/data-annotations/samples"
    asked = {"version_id": version["version_id"], "preview": True}
    assert [bool(s.get("preview_url")) for s in tenant.client.get(listing, asked)["samples"]] == [True] * 3

    lines = version["total_sample_count"]
    size = len(tenant.objects.get(version["manifest_path"])) // lines
    strange = f'{{"source": "s3://{secret}/a.jpg"}}'.ljust(size - 1)
    tenant.objects.put(version["manifest_path"], f"{strange}\n".encode() * lines)
    shown = tenant.client.get(listing, asked)["samples"]
    assert {s["source"] for s in shown} == {f"s3://{secret}/a.jpg"}
    assert [s for s in shown if s.get("preview_url")] == []
    tenant.objects.put(version["manifest_path"], line(secret, "a.jpg", f"s3://{secret}/a.xml").encode() * lines)
    with pytest.raises(TaskFailed, match="was changed since it was published"):
        datasets.export(name, f"/{bucket}/export/", version_id=version["version_id"])
