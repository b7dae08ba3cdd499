"""Formats through the API: names, subsets, rights, objects that lie in files, stopping, and what is refused."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from bottega.client import ApiFailure
from bottega.errors import Invalid
from bottega.plugins import Plugins
from bottega.testing import RunningPlatform, Tenant, wait_until
from bottega_dataset.client import Datasets, TaskFailed
from bottega_dataset.kinds import Kinds
from bottega_dataset.manifest import format_line
from bottega_dataset.sample import Annotation, SampleRecord

Make = Callable[..., str]
PAGE = (Path(__file__).parents[3] / "docs" / "datasets.md").read_text("utf-8")
BOX = {"@modelarts:shape": "bndbox", "@modelarts:feature": [[1, 2], [3, 4]]}


def picture(kind: str = "PNG", orientation: int | None = None) -> bytes:
    out, exif = io.BytesIO(), Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    Image.new("RGB", (40, 30)).save(out, kind, exif=exif)
    return out.getvalue()


@pytest.fixture
def boxes(tenant: Tenant, datasets: Datasets, make: Make, bucket: str) -> str:
    """Two images of one name, one of them turned by its EXIF; train and evaluation."""
    folder = f"s3://{bucket}/in/"
    tenant.objects.put_many({folder + "a/1.png": picture(), folder + "b/1.jpg": picture("JPEG", 6)})
    records = [
        SampleRecord(folder + "a/1.png", [Annotation("object_detection", "cat", BOX)], "TRAIN"),
        SampleRecord(folder + "b/1.jpg", [Annotation("object_detection", "dog", BOX)], "EVAL"),
    ]
    tenant.objects.put(f"s3://{bucket}/all.manifest", b"".join(map(format_line, records)))
    datasets.import_from(make("boxes", dataset_type=1), f"s3://{bucket}/all.manifest", import_type="manifest")
    return "boxes"


def test_names_subsets_and_turned_images(tenant: Tenant, datasets: Datasets, boxes: str, bucket: str) -> None:
    task = datasets.export(boxes, f"s3://{bucket}/out/", format="yolo")
    keys = sorted(
        o["key"].partition("/")[2].partition("/")[2] for o in datasets.objects.listing(f"s3:/{task['export_path']}")
    )
    second = next(s["sample_id"] for s in datasets.samples(boxes) if s["sample_name"] == "1.jpg")
    # The second of one name bears its id, so that its label file is its own.
    assert keys == ["data.yaml", "images/train/1.png", f"images/val/1-{second}.jpg",
                    "labels/train/1.txt", f"labels/val/1-{second}.txt"]  # fmt: skip
    config = tenant.objects.get(f"s3:/{task['export_path']}data.yaml").decode()
    assert config == 'path: .\ntrain: images/train\nval: images/val\nnames:\n  0: "cat"\n  1: "dog"\n'
    # 40 x 30 pixels turned by a quarter are 30 x 40.
    assert tenant.objects.get(f"s3:/{task['export_path']}labels/train/1.txt") == b"0 0.05 0.1 0.05 0.066666667\n"
    assert (
        tenant.objects.get(f"s3:/{task['export_path']}labels/val/1-{second}.txt")
        == b"1 0.066666667 0.075 0.066666667 0.05\n"
    )
    divided = datasets.export(boxes, f"s3://{bucket}/out/", format="COCO", export_type=0, export_images=False)
    train = json.loads(tenant.objects.get(f"s3:/{divided['export_path']}annotations/instances_train.json"))
    assert train["images"] == [
        {"id": 1, "file_name": "1.png", "width": 40, "height": 30, "coco_url": f"s3://{bucket}/in/a/1.png"}
    ]
    datasets.create("again", f"/{bucket}/again/", dataset_type=1)
    datasets.import_from("again", f"{divided['export_path']}annotations/", import_type="coco")
    assert {(s["source"], s["usage"]) for s in datasets.samples("again")} == {
        (f"s3://{bucket}/in/a/1.png", "TRAIN"),
        (f"s3://{bucket}/in/b/1.jpg", "EVAL"),
    }


def test_objects_are_copied_by_the_rights_of_who_exports(
    tenant: Tenant, datasets: Datasets, boxes: str, bucket: str
) -> None:
    statements = [
        {"Effect": "Allow", "Action": ["modelarts:dataset:*"]},
        {"Effect": "Allow", "Action": ["obs:object:PutObject"]},
        {"Effect": "Allow", "Action": ["obs:object:GetObject"], "Resource": [f"obs:*:*:object:{bucket}/in/a/*"]},
    ]
    user = tenant.user([{"Version": "1.1", "Statement": [one]} for one in statements])
    theirs = Datasets(user.client)
    task = theirs.export(boxes, f"s3://{bucket}/out/", format="voc")
    (problem,) = theirs.export_problems(boxes, task["task_id"])
    assert problem["place"] == f"s3://{bucket}/in/b/1.jpg"
    assert "GetObject" in problem["reason"] or "may not read" in problem["reason"]
    assert (task["finished_sample_count"], task["left_out_sample_count"]) == (1, 1)


def parquet(rows: list[dict[str, Any]], features: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    table = pa.Table.from_pylist(rows)
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, out)
    return out.getvalue()


def test_images_that_lie_in_a_hugging_face_file(tenant: Tenant, datasets: Datasets, make: Make, bucket: str) -> None:
    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["cat", "dog"]}}
    rows = [
        {"image": {"bytes": picture("JPEG"), "path": None}, "label": 1},
        {"image": {"bytes": picture("PNG"), "path": "x.png"}, "label": -1},
        {"image": {"bytes": picture("JPEG")[:300], "path": None}, "label": 0},
    ]
    tenant.objects.put(f"s3://{bucket}/hub/data/train-00000-of-00001.parquet", parquet(rows, features))
    tenant.objects.put(f"s3://{bucket}/in/first.png", picture())
    make("pets", data_path=f"s3://{bucket}/in/")
    for _ in range(2):
        task = datasets.import_from("pets", f"s3://{bucket}/hub/", import_type="huggingface")
        found = {s["source"]: (s["usage"], [one["name"] for one in s["labels"]]) for s in datasets.samples("pets")}
        stem = f"s3://{bucket}/in/hub/data/train-00000-of-00001"
        assert found == {
            f"s3://{bucket}/in/first.png": ("", []),
            f"{stem}-1.jpg": ("TRAIN", ["dog"]),
            f"{stem}-2.png": ("TRAIN", []),
        }
        (problem,) = datasets.problems("pets", task["task_id"])
        assert problem["place"].endswith("parquet, row 3")
        assert "truncated or broken" in problem["reason"]
    make("without")
    with pytest.raises(TaskFailed, match="no input path to store them in"):
        datasets.import_from("without", f"s3://{bucket}/hub/", import_type="huggingface")
    reader = tenant.user(
        [
            {
                "Version": "1.1",
                "Statement": [{"Effect": "Allow", "Action": ["modelarts:dataset:*", "obs:object:GetObject"]}],
            }
        ]
    )
    with pytest.raises(ApiFailure, match="PutObject") as refused:
        Datasets(reader.client).import_from("pets", f"s3://{bucket}/hub/", import_type="huggingface")
    assert refused.value.status == 403


def test_detection_and_entities_of_hugging_face(tenant: Tenant, datasets: Datasets, make: Make, bucket: str) -> None:
    classes = {"_type": "ClassLabel", "names": ["O", "B-PER", "I-PER", "B-LOC"]}
    features = {
        "tokens": {"_type": "List", "feature": {"_type": "Value"}},
        "ner_tags": {"_type": "List", "feature": classes},
    }
    row = {"tokens": ["Ann", "Lee", "likes", "Rome"], "ner_tags": [1, 2, 0, 3]}
    tenant.objects.put(f"s3://{bucket}/ner/test.parquet", parquet([row], features))
    datasets.import_from(make("ner", dataset_type=101), f"s3://{bucket}/ner/", import_type="huggingface")
    (sample,) = datasets.samples("ner")
    spans = [
        (o["name"], o["property"]["@modelarts:start_index"], o["property"]["@modelarts:end_index"])
        for o in sample["labels"]
    ]
    assert (sample["sample_data"], sample["usage"], spans) == (
        ["Ann Lee likes Rome"], "TEST", [("PER", 0, 7), ("LOC", 14, 18)],
    )  # fmt: skip
    features = {"objects": {"feature": {"category": {"_type": "ClassLabel", "names": ["cat"]}}, "_type": "List"}}
    row = {"image": {"bytes": picture(), "path": None}, "objects": {"bbox": [[1.0, 2.0, 3.0, 4.0]], "category": [0]}}
    tenant.objects.put(f"s3://{bucket}/boxes/train.parquet", parquet([row], features))
    tenant.objects.put(f"s3://{bucket}/empty/x.png", picture())
    datasets.import_from(
        make("found", dataset_type=1, data_path=f"s3://{bucket}/empty/"),
        f"s3://{bucket}/boxes/",
        import_type="huggingface",
    )
    (labeled,) = datasets.samples("found", labeled=True)
    assert labeled["labels"][0]["property"]["@modelarts:feature"] == [[1, 2], [4, 6]]


@pytest.mark.parametrize(
    ("kind", "code", "name", "body", "reason"),
    [
        ("coco", 1, "a.json", b'{"images": [{"id": 1', "is not whole JSON"),
        ("coco", 1, "a.json", b'{"licenses": []}', "no list 'images'"),
        (
            "coco",
            1,
            "a.json",
            b'{"images": [{"id": 1, "file_name": "nowhere.png"}]}',
            "'nowhere.png', which .* is in none of",
        ),
        ("label-studio", 100, "a.json", b'{"data": 1}', "does not begin with"),
        ("cvat", 1, "a.xml", b'<!DOCTYPE a [<!ENTITY b "c">]><annotations/>', "document type"),
        ("cvat", 1, "a.xml", b"<annotations><track/></annotations>", "is of a video"),
        ("yolo", 1, "a.txt", b"0 0 0 0 0", "the classes have no names"),
        ("yolo", 1, "data.yaml", b"names: 7", "must have names"),
        ("csv", 100, "a.csv", b"\xff\xfe\0", "no CSV"),
        ("parquet", 100, "a.parquet", b"PAR1", "no Parquet file"),
        ("huggingface", 100, "a.arrow", b"ARROW", "no Arrow file"),
        ("voc", 0, "a.xml", b"<annotation/>", "does not fit image_classification"),
    ],
)
def test_a_file_that_cannot_be_imported(
    tenant: Tenant,
    datasets: Datasets,
    make: Make,
    bucket: str,
    kind: str,
    code: int,
    name: str,
    body: bytes,
    reason: str,
) -> None:
    tenant.objects.put(f"s3://{bucket}/in/{name}", body)
    with pytest.raises((TaskFailed, ApiFailure), match=reason):
        datasets.import_from(make(dataset_type=code), f"s3://{bucket}/in/", import_type=kind)
    assert datasets.get("animals")["total_sample_count"] == 0


SLOW = '''
"""An exporter that takes its time."""

import anyio

from bottega.hookspecs import hookimpl


class Slow:
    export_format, dataset_types = "slow", None

    async def write(self, request):
        count = 0
        async for batch in request.samples:
            await request.folder.put({f"{count}.txt": b"x"})
            count += 1
            request.folder.note(batch[0], "only its text is carried")
            await anyio.sleep(0.4)


@hookimpl
def bottega_dataset_exporters():
    return [Slow()]
'''


@pytest.fixture
def slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningPlatform]:
    (tmp_path / "slow_exporter_of_a_third_party.py").write_text(SLOW)
    monkeypatch.syspath_prepend(str(tmp_path))
    wanted = ("dataset", "store-s3", "types-text")
    found = [point for point in entry_points(group="bottega") if point.name in wanted]
    found.append(EntryPoint("slow", "slow_exporter_of_a_third_party", "bottega"))
    with RunningPlatform(tmp_path / "data", plugins=lambda settings: Plugins(settings, found)) as running:
        yield running
    del sys.modules["slow_exporter_of_a_third_party"]


def test_stopped_it_leaves_nothing_and_finished_it_is_whole(slow: RunningPlatform) -> None:
    tenant = slow.tenant()
    bucket = tenant.create_bucket()
    datasets = Datasets(tenant.client)
    lines = b"".join(format_line(SampleRecord(f"content://text {n}")) for n in range(1400))
    tenant.objects.put(f"s3://{bucket}/texts.manifest", lines)
    ident = datasets.create("texts", f"/{bucket}/work/", dataset_type=100)["dataset_id"]
    datasets.import_from("texts", f"s3://{bucket}/texts.manifest", import_type="manifest")
    where = f"/v2/{{project_id}}/datasets/{ident}/export-tasks"
    body = {"path": f"/{bucket}/out/", "annotation_format": "slow"}
    task = tenant.client.post(where, body)["task_id"]

    def stored() -> list[str]:
        return [o["key"] for o in datasets.objects.listing(f"s3://{bucket}/out/")]

    wait_until(lambda: stored() and tenant.client.get(f"{where}/{task}")["finished_sample_count"])
    assert 0 < tenant.client.get(f"{where}/{task}")["progress"] < 100
    assert datasets.stop("texts", task)["status"] == "STOPPED"
    assert wait_until(lambda: stored() == [])
    wait_until(lambda: tenant.client.get(f"/v2/{{project_id}}/datasets/{ident}")["exist_running_task"] is False)
    assert stored() == []

    whole = datasets.export("texts", f"/{bucket}/out/", format="slow")
    report = whole["export_path"].partition("/out/")[2].rstrip("/") + ".export.json"
    assert stored() == [f"out/{report}", *(f"out/{report[:-12]}/{n}.txt" for n in range(7))]
    assert json.loads(tenant.objects.get(f"s3://{bucket}/out/{report}"))["problems"] == 7
    assert len(list(datasets.export_problems("texts", whole["task_id"]))) == 7


def test_the_page_says_which_formats_there_are(running: RunningPlatform) -> None:
    kinds = Kinds.of_platform(running.platform("dataset"))
    table = PAGE.partition("## Formats")[2]
    rows = re.findall(r"^\| `([a-z-]+)` \| (yes|no) \| (yes|no) \| ([^|]+) \|", table, re.M)
    for name, reads, writes, types in rows:
        codes = [int(code) for code in re.findall(r"\d+", types)] or list(kinds.types)
        for code in kinds.types:
            said = reads == "yes" and (code in codes or types.startswith("all"))
            assert offers(kinds.importer, name, code) == said, (name, code)
            if name != "manifest":
                assert offers(kinds.exporter, name, code) == (writes == "yes" and code in codes), (name, code)
    with pytest.raises(Invalid) as refused:
        kinds.importer("?", 1)
    offered = set(refused.value.message.rpartition(": ")[2].split(", "))
    assert offered <= {row[0] for row in rows}


def offers(find: Callable[[str, int], object], name: str, code: int) -> bool:
    try:
        find(name, code)
    except Invalid:
        return False
    return True
