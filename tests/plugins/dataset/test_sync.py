"""Datasets that follow their input path: by listing, and object by object as the store tells."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from bottega.client import ApiFailure, Client
from bottega.testing import RecordedEvents, Tenant, wait_until
from bottega_dataset.client import Datasets
from bottega_dataset.processing.client import Processing
from bottega_dataset.transfer import Objects

Make = Callable[..., str]
One = Callable[[str], str]
PNG = b"\x89PNG\r\n\x1a\n"


def synced(client: Client, path: str) -> dict[str, Any]:
    """Synchronize and return the finished status."""
    client.post(path + "/sync-data", {})
    deadline = time.monotonic() + 30
    while (status := client.get(path + "/sync-data/status"))["status"] not in ("COMPLETED", "FAILED"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    found: dict[str, Any] = status
    return found


def remove(tenant: Tenant, *paths: str) -> None:
    objects = Objects(tenant.client)
    for path in paths:
        objects.remove(path)


def test_new_changed_and_vanished_objects(
    tenant: Tenant, datasets: Datasets, make: Make, one: One, pictures: str, events: RecordedEvents
) -> None:
    name = make(data_path=pictures)
    path = one(name)
    assert tenant.client.get(path + "/sync-data/status")["status"] == "NOT_EXIST"
    known = {s["sample_name"]: s["sample_id"] for s in datasets.samples(name)}
    datasets.label(name, {known["0.bmp"]: ["Cat"]})
    tenant.objects.put(pictures + "Cat/new.png", PNG)
    tenant.objects.put(pictures + "0.bmp", PNG + b"now with other bytes")
    remove(tenant, pictures + "1.bmp", pictures + "Dog/0.JPG")
    status = synced(tenant.client, path)
    counted = (status["add_sample_count"], status["changed_sample_count"], status["deleted_sample_count"])
    assert (status["status"], counted, status["total_sample_count"]) == ("COMPLETED", (1, 1, 2), 12)
    after = {s["sample_name"]: s for s in datasets.samples(name)}
    assert "1.bmp" not in after
    assert "0.JPG" not in after
    assert [x["name"] for x in after["new.png"]["labels"]] == ["Cat"]
    assert after["0.bmp"]["sample_size"] == len(PNG) + 20
    assert [x["name"] for x in after["0.bmp"]["labels"]] == ["Cat"]
    events.wait("core.api.called.v1", trace="syncDataSource")
    events.wait("dataset.samples.deleted.v1", count=2)
    assert datasets.get(name)["deleted_sample_count"] == 2
    again = synced(tenant.client, path)
    assert (again["add_sample_count"], again["changed_sample_count"], again["deleted_sample_count"]) == (0, 0, 0)
    remove(tenant, *tenant.objects.list(pictures))
    empty = synced(tenant.client, path)
    assert (empty["status"], empty["total_sample_count"]) == ("FAILED", 12)
    assert "nothing was removed" in empty["error_msg"]


def test_lines_of_texts_come_and_go(tenant: Tenant, datasets: Datasets, make: Make, one: One, bucket: str) -> None:
    folder = f"s3://{bucket}/texts/"
    tenant.objects.put(folder + "a.txt", b"one\ntwo\nthree\n")
    tenant.objects.put(folder + "b.txt", b"four\n")
    tenant.objects.put(f"s3://{bucket}/other.manifest", b'{"source": "content://from elsewhere"}\n')
    name = make("texts", dataset_type=100, data_path=folder)
    datasets.import_from(name, f"s3://{bucket}/other.manifest", import_type="manifest")
    tenant.objects.put(folder + "a.txt", b"one\nzwei\nthree\n")
    remove(tenant, folder + "b.txt")
    status = synced(tenant.client, one(name))
    assert (status["add_sample_count"], status["deleted_sample_count"]) == (1, 2)
    assert sorted(s["sample_data"][0] for s in datasets.samples(name)) == ["from elsewhere", "one", "three", "zwei"]


def test_what_was_uploaded_stays(tenant: Tenant, datasets: Datasets, make: Make, one: One, bucket: str) -> None:
    folder = f"s3://{bucket}/mixed/"
    tenant.objects.put(folder + "a.txt", b"one\n")
    name = make("texts", dataset_type=100, data_path=folder)
    files = {"b.txt": "two\n\u2028three \u00e9\n", "c.csv": "four, five\n"}
    samples = [{"name": n, "data": base64.b64encode(text.encode()).decode()} for n, text in files.items()]
    added = tenant.client.post(one(name) + "/data-annotations/samples", {"samples": samples})
    assert added["added_sample_count"] == 3
    datasets.label(name, {s["sample_id"]: ["Number"] for s in datasets.samples(name)})
    status = synced(tenant.client, one(name))
    assert (status["add_sample_count"], status["deleted_sample_count"], status["total_sample_count"]) == (0, 0, 4)
    assert datasets.statistics(name)["sample_stats"]["un_annotation"] == 0


def test_no_input_path_no_right(tenant: Tenant, make: Make, one: One, pictures: str) -> None:
    with pytest.raises(ApiFailure, match="no input path") as refused:
        tenant.client.post(one(make("empty")) + "/sync-data", {})
    assert refused.value.status == 400
    name = make(data_path=pictures)
    limited = tenant.user([{"Version": "1.1", "Statement": [{"Effect": "Allow", "Action": ["modelarts:*:*"]}]}])
    with pytest.raises(ApiFailure) as forbidden:
        limited.client.post(one(name) + "/sync-data", {})
    assert forbidden.value.status == 403


def test_a_watched_dataset_follows_the_store(
    tenant: Tenant, datasets: Datasets, make: Make, one: One, pictures: str, bucket: str, mine: Any
) -> None:
    name = make(data_path=pictures)
    tenant.client.put(one(name), {"watch": True})
    assert datasets.get(name)["watch"] is True

    def names() -> set[str]:
        return {s["sample_name"] for s in datasets.samples(name)}

    deadline, number = time.monotonic() + 30, 0
    while not any(n.startswith("told-") for n in names()):
        assert time.monotonic() < deadline
        mine.put_object(Bucket=bucket, Key=f"pictures/Cat/told-{number}.png", Body=PNG)
        number += 1
        time.sleep(0.2)
    told = next(n for n in names() if n.startswith("told-"))
    (sample,) = [s for s in datasets.samples(name) if s["sample_name"] == told]
    assert [x["name"] for x in sample["labels"]] == ["Cat"]
    mine.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": f"pictures/Cat/{told}"}]})
    while told in names():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    tenant.client.put(one(name), {"watch": False})
    assert datasets.get(name)["watch"] is False


def test_presigned_writes_and_outputs_of_workloads_are_followed_too(
    tenant: Tenant, datasets: Datasets, make: Make, bucket: str, tmp_path: Path
) -> None:
    folder = f"s3://{bucket}/in/"
    tenant.objects.put(folder + "first.bin", b"1")
    name = make("free", dataset_type=900, data_path=folder)
    datasets.labeling.watch(name)
    where = f"/v1/{{project_id}}/buckets/{bucket}/presigned-urls"

    def sources() -> set[str]:
        return {s["source"].removeprefix(folder) for s in datasets.samples(name)}

    def presigned(key: str, **more: Any) -> str:
        url: str = tenant.client.post(where, {"keys": [key], "method": "PUT", **more})["urls"][0]["url"]
        return url

    wait_until(lambda: presigned("in/watched.bin").startswith(tenant.running.url))
    assert httpx.put(presigned("in/a b+ü.bin"), content=b"by hand").status_code == 200
    (tmp_path / "third.bin").write_bytes(b"by the client")
    Objects(tenant.client).put(tmp_path, folder)
    wait_until(lambda: sources() == {"first.bin", "a b+ü.bin", "third.bin"})
    assert tenant.objects.get(folder + "a b+ü.bin") == b"by hand"
    # A URL is for its object only, for its time only, and as good as the rights of who had it made.
    url = presigned("in/mine.bin")
    assert httpx.put(url.replace("mine.bin", "yours.bin"), content=b"x").status_code == 403
    assert httpx.get(url).status_code == 403
    assert not presigned("elsewhere/x").startswith(tenant.running.url)
    # What a workload has stored is told when it has ended.
    tenant.objects.put(f"s3://{bucket}/texts.manifest", b'{"source": "content://a"}\n{"source": "content://b"}')
    texts = make("texts", dataset_type=100)
    datasets.import_from(texts, f"s3://{bucket}/texts.manifest", import_type="manifest")
    Processing(tenant.client).process(texts, "sys_data_selection", {"RandomSelection": {}}, folder=folder + "made/")
    wait_until(lambda: any(source.endswith("/report.json") for source in sources()))


def test_exports_into_a_watched_path_are_followed(
    tenant: Tenant, datasets: Datasets, make: Make, pictures: str, bucket: str
) -> None:
    source = make("source", data_path=pictures)
    folder = f"s3://{bucket}/in/"
    tenant.objects.put(folder + "Cat/first.png", PNG + b"first")
    follower = make("follower", data_path=folder)
    aside = make("aside", data_path=folder)
    datasets.labeling.watch(follower)
    datasets.export(source, folder, format="dir")
    wait_until(lambda: datasets.get(follower)["total_sample_count"] == 14)
    assert datasets.get(aside)["total_sample_count"] == 1, "it follows nothing"
