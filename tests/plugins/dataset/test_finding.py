"""Finding samples: every condition of the API, cursors, saved filters, similar samples; and old jobs migrated."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bottega.client import ApiFailure, Client
from bottega.errors import Invalid
from bottega.testing import Tenant
from bottega_dataset.client import Datasets
from bottega_dataset.query import SampleFilter
from bottega_dataset.search import KNOWN, narrowed
from bottega_dataset.similarity import of_image, of_text

Make = Callable[..., str]
One = Callable[[str], str]

LINES: list[dict[str, Any]] = [
    {"source": "s3://{b}/x/a1.png", "annotation": [{"name": "Cat", "property": {"coat": "black", "age": "3"}}]},
    {"source": "s3://{b}/x/a2.PNG", "annotation": [{"name": "Cat", "confidence": 0.4, "property": {"coat": "white"}}]},
    {"source": "s3://{b}/x/b1.jpg", "usage": "EVAL", "annotation": [{"name": "Dog"}, {"name": "Cat"}]},
    {"source": "s3://{b}/x/b2.jpg", "annotation": [{"name": "Dog", "hard": "true", "annotated-by": "human/eva"}]},
    {"source": "s3://{b}/y/c1.bmp", "property": {"camera": "left", "@modelarts:import_origin": 2}},
    {"source": "s3://{b}/y/c2.bmp", "property": {"camera": "right", "@modelarts:hard_coefficient": 0.7}},
]


@pytest.fixture
def found(tenant: Tenant, datasets: Datasets, make: Make, one: One, bucket: str) -> Callable[..., Any]:
    """Names of the samples that a search finds, in the order they were added."""
    lines = []
    for line in LINES:
        for label in line.get("annotation", []):
            label["type"] = "modelarts/image_classification"
        lines.append(json.dumps(line).replace("{b}", bucket))
    tenant.objects.put(f"s3://{bucket}/some.manifest", "\n".join(lines).encode())
    name = make("found")
    datasets.import_from(name, f"s3://{bucket}/some.manifest", import_type="manifest")
    path = one(name) + "/data-annotations/samples"

    def search(*conditions: dict[str, Any], **params: Any) -> str:
        first = ""
        asked = {"search_conditions": json.dumps(conditions)} if conditions else {}
        for order in ("asc", "desc"):
            answer = tenant.client.get(path, {"limit": 100, "order": order, **asked, **params})
            assert answer["sample_count"] == len(answer["samples"])
            assert answer["sample_count_exact"] is True
            names = [s["sample_name"].partition(".")[0] for s in answer["samples"]]
            shown = " ".join(names if order == "asc" else names[::-1])
            assert order == "asc" or shown == first
            first = shown
        return first

    return search


def labels(*wanted: Any, op: str = "OR") -> dict[str, Any]:
    return {"label_list": {"labels": [w if isinstance(w, dict) else {"name": w} for w in wanted], "op": op}}


def test_every_condition(found: Callable[..., str], bucket: str) -> None:
    assert found() == "a1 a2 b1 b2 c1 c2"
    assert found(labels("Cat")) == "a1 a2 b1"
    assert found(labels("Cat", "Dog")) == "a1 a2 b1 b2"
    assert found(labels("Cat", "Dog", op="AND")) == "b1"
    assert found(labels("Cat", "Bird", op="AND")) == ""
    assert found(labels("Cat"), {"sample_name": "b"}) == "b1"
    assert found(labels({"name": "Cat", "property": {"coat": ["black", "white"]}})) == "a1 a2"
    assert found(labels({"name": "Cat", "property": {"coat": ["white"], "age": None}, "op": "OR"})) == "a1 a2"
    assert found(labels({"name": "Cat", "property": {"coat": ["white"], "age": None}, "op": "AND"})) == ""
    assert found(labels({"name": "Cat", "property": {"coat": ["black"]}}, "Dog")) == "a1 b1 b2"
    assert found(labels({"name": "Cat", "property": {"coat": ["red"]}}, "Dog", op="AND")) == ""
    assert found(labels({"type": 0})) == "a1 a2 b1 b2"
    assert found({"score": "0.3,0.5"}) == "a2"
    assert found({"score": "0.5,1"}) == "a1 b1 b2"
    assert found(labels("Cat"), {"score": "0,0.5"}) == "a2"
    assert found({"hard": "1"}) == "b2"
    assert found({"hard": "0"}, sample_state="__ALL__") == "a1 a2 b1"
    assert found({"labeler": "eva"}) == "b2"
    assert found({"labeler": "human"}) == "a1 a2 b1"
    assert found({"labeler": "nobody"}) == ""
    assert found({"sample_format": ["png", "bmp"]}) == "a1 a2 c1 c2"
    assert found({"sample_format": "jpg"}, {"hard": "1"}) == "b2"
    assert found({"sample_usage": "EVAL"}) == "b1"
    assert found({"sample_dir": f"/{bucket}/y/"}) == "c1 c2"
    assert found({"sample_dir": f"/{bucket}/"}) == ""
    assert found({"metadata": {"props": {"camera": ["left", "middle"]}}}) == "c1"
    assert found({"metadata": {"props": {"camera": None}}}) == "c1 c2"
    assert found({"metadata": {"props": {"camera": ["left"], "lens": ["x"]}, "op": "OR"}}) == "c1"
    assert found({"metadata": {"props": {"camera": ["left"], "lens": ["x"]}, "op": "AND"}}) == ""
    assert found({"import_origin": "2"}) == "c1"
    assert found({"coefficient": "0.5,0.9"}) == "c2"
    assert found({"sample_time": "day"}) == "a1 a2 b1 b2 c1 c2"
    assert found({"sample_time": "20010101-20020101"}) == ""
    assert found({"sample_state": "__NONE__"}) == "c1 c2"
    assert found({"sample_size": "1,"}) == ""
    assert found(labels("Cat"), count="exact") == "a1 a2 b1"


VALUES: st.SearchStrategy[Any] = st.sampled_from(
    [None, "", "x", "0.2,0.1", "1,", -1, True, [], [1], {}, {"labels": [{}]}, {"props": {"a": 1}}]
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from([*KNOWN, "strange"]), VALUES, max_size=3) | VALUES)
def test_any_condition_is_read_or_refused(condition: Any) -> None:
    try:
        narrowed(SampleFilter(), condition)
    except Invalid:
        return


def test_pages_by_cursor(client: Client, found: Callable[..., str], one: One) -> None:
    path = one("found") + "/data-annotations/samples"
    names, cursor = [], None
    while True:
        page = client.get(path, {"limit": 2, "order": "asc", "label_name": "Cat", "cursor": cursor})
        names += [s["sample_name"] for s in page["samples"]]
        cursor = page["next_cursor"]
        if not cursor:
            break
        client.post(path + "/delete", {"samples": [page["samples"][-1]["sample_id"]]})
    assert names == ["a1.png", "a2.PNG", "b1.jpg"]
    with pytest.raises(ApiFailure) as refused:
        client.get(path, {"cursor": "zz"})
    assert refused.value.status == 400


def test_filters_with_names(client: Client, found: Callable[..., str], one: One) -> None:
    path = one("found") + "/data-annotations"
    body = {"name": "old cats", "search_conditions": [labels("Cat"), {"sample_format": "png"}]}
    saved = client.post(path + "/filters", body)
    assert found(filter_id=saved["filter_id"]) == "a1 a2"
    assert found({"score": "0.5,1"}, filter_id=saved["filter_id"]) == "a1"
    with pytest.raises(ApiFailure) as taken:
        client.post(path + "/filters", body)
    assert taken.value.status == 409
    client.put(f"{path}/filters/{saved['filter_id']}", {"name": "dogs", "search_conditions": [labels("Dog")]})
    assert [f["name"] for f in client.get(path + "/filters")["filters"]] == ["dogs"]
    change = {"filter_id": saved["filter_id"], "add_labels": [{"name": "Pet"}]}
    assert client.post(path + "/samples/batch-update", change)["changed_sample_count"] == 2
    gone = client.post(path + "/samples/delete", {"filter_id": saved["filter_id"]})
    assert gone["deleted_sample_count"] == 2
    assert found() == "a1 a2 c1 c2"
    with pytest.raises(ApiFailure) as wrong:
        client.post(path + "/filters", {"name": "x", "search_conditions": [{"color": "red"}]})
    assert wrong.value.status == 400
    client.delete(f"{path}/filters/{saved['filter_id']}")
    with pytest.raises(ApiFailure) as missing:
        client.get(path + "/samples", {"filter_id": saved["filter_id"]})
    assert missing.value.status == 404


def test_what_there_is_to_search_by(client: Client, found: Callable[..., str], one: One) -> None:
    there = client.get(one("found") + "/data-annotations/search-condition")
    assert {x["name"] for x in there["labels"]} == {"Cat", "Dog"}
    assert there["labelers"] == ["eva"]
    assert there["metadata"]["camera"] == ["left", "right"]
    stats = client.get(one("found") + "/data-annotations/stats")
    assert stats["key_sample_stats"] == {"total": 6, "key_sample": 1, "non_key_sample": 5}
    assert {x["name"]: (x["count"], x["sample_count"]) for x in stats["label_stats"]} == {"Cat": (3, 3), "Dog": (2, 2)}
    now = int(time.time() * 1000)
    metrics = client.get(one("found") + "/metrics", {"start_time": now - 3_600_000, "end_time": now + 1000})["metrics"]
    assert sum(metrics["added"].values()) == 6


@pytest.mark.parametrize("given", ["3-20", [3, 20], ["3", 20, "x", 10**9]])
def test_why_samples_are_hard_is_counted_however_it_is_written(
    client: Client, found: Callable[..., str], one: One, given: Any
) -> None:
    path = one("found") + "/data-annotations"
    (sample, *_) = client.get(path + "/samples")["samples"]
    said = {"@modelarts:hard": 1, "@modelarts:hard_reasons": given}
    client.post(path + "/samples/batch-update", {"samples": [sample["sample_id"]], "metadata": said})
    stats = client.get(path + "/stats")["hard_detail_stats"]
    assert {reason: one["key"] for reason, one in stats.items()} == {"3": 1, "20": 1}
    assert set(client.get(f"{path}/samples/{sample['sample_id']}")["hard_details"]) == {"3", "20"}


def picture(shade: int, tilt: int = 0) -> bytes:
    from PIL import Image

    image = Image.new("RGB", (64, 64), (shade, 40, 200 - shade))
    for x in range(64):
        for y in range(64):
            if (x + tilt * y) % 32 < 12:
                image.putpixel((x, y), (200, shade, 30))
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def likeness(one: bytes, other: bytes) -> float:
    return 1 - 2 * (int.from_bytes(one, "big") ^ int.from_bytes(other, "big")).bit_count() / (8 * len(one))


def test_signatures_tell_like_from_unlike() -> None:
    text = "the quick brown fox jumps over the lazy dog while the cat sleeps in the afternoon sun"
    near, far = of_text(text.replace("afternoon", "morning")), of_text("an invoice for seven boxes of screws, payable")
    assert likeness(of_text(text), near) > 0.6 > 0.3 > likeness(of_text(text), far)
    assert of_text(text) == of_text(text.upper() + "  ")
    assert likeness(of_image(picture(20)), of_image(picture(24))) > 0.8
    assert likeness(of_image(picture(20)), of_image(picture(20, tilt=1))) < 0.8


def test_samples_like_one(tenant: Tenant, datasets: Datasets, make: Make, one: One, bucket: str) -> None:
    texts = ["red apples and green pears", "red apples and green plums", "the train leaves at noon", "x"]
    tenant.objects.put(f"s3://{bucket}/t/a.txt", "\n".join(texts).encode())
    name = make("alike", dataset_type=100, data_path=f"s3://{bucket}/t/")
    ids = {s["sample_data"][0]: s["sample_id"] for s in datasets.samples(name)}
    path = one(name) + f"/data-annotations/samples/{ids[texts[0]]}/similar"
    deadline = time.monotonic() + 30
    while (answer := tenant.client.get(path, {"limit": 2}))["compared_sample_count"] < 4:
        assert answer["task_id"]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert answer["samples"][0]["sample_data"] == [texts[1]]
    assert 1 > answer["samples"][0]["similarity"] > answer["samples"][1]["similarity"]
    with pytest.raises(ApiFailure) as refused:
        tenant.client.get(one(make("sounds", dataset_type=200)) + f"/data-annotations/samples/{'0' * 32}/similar")
    assert refused.value.status == 400


def test_old_labeling_jobs_become_datasets(
    tenant: Tenant, datasets: Datasets, one: One, bucket: str, pictures: str
) -> None:
    label = {"type": "modelarts/image_classification", "name": "Kitten"}
    line = {"source": pictures + "0.bmp", "annotation": [label]}
    tenant.objects.put(f"s3://{bucket}/old/job.manifest", json.dumps(line).encode())
    jobs = [
        {"name": "by-folder", "sources": [pictures], "work_path": f"/{bucket}/w1/"},
        {"name": "by-manifest", "sources": [pictures], "work_path": f"/{bucket}/w2/",
         "manifest_path": f"s3://{bucket}/old/job.manifest"},
        {"name": "nowhere", "sources": [f"s3://{bucket}/nothing/"], "work_path": f"/{bucket}/w3/"},
    ]  # fmt: skip
    migrations = "/v2/{project_id}/datasets/migrations"
    answer = tenant.client.post(migrations, {"jobs": jobs})
    assert [r["success"] for r in answer["results"]] == [True, True, False]
    assert "nothing to import" in answer["results"][2]["error_msg"]
    again = tenant.client.post(migrations, {"jobs": jobs[:1]})
    assert again["results"][0]["error_code"] == "ModelArts.0105"
    for job, made in zip(jobs, answer["results"], strict=False):
        for task in made.get("import_task_ids", []):
            datasets.wait_import(str(job["name"]), task)
    report = {m["dataset_name"]: m for m in tenant.client.get(migrations)["migrations"]}
    assert {name: m["status"] for name, m in report.items()} == {"by-folder": "COMPLETED", "by-manifest": "COMPLETED"}
    counted = {n: (m["total_sample_count"], m["annotated_sample_count"]) for n, m in report.items()}
    assert counted == {"by-folder": (13, 10), "by-manifest": (13, 1)}
    limited = tenant.user([{"Version": "1.1", "Statement": [{"Effect": "Allow", "Action": ["modelarts:*:*"]}]}])
    with pytest.raises(ApiFailure) as refused:
        limited.client.post(migrations, {"jobs": [jobs[0] | {"name": "other"}]})
    assert refused.value.status == 403
