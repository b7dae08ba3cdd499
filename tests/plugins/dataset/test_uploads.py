"""Adding samples from a person's machine: the documents' limits, hostile files, and where they are stored."""

from __future__ import annotations

import base64
import io
import struct
from collections.abc import Callable
from typing import Any

import pytest

from bottega.client import ApiFailure, Client
from bottega.testing import RecordedEvents, Tenant
from bottega_dataset.client import Datasets

Make = Callable[..., str]
One = Callable[[str], str]
MB = 2**20


def picture(form: str = "PNG", size: tuple[int, int] = (8, 6), color: int = 0) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.new("RGB", size, (color, 0, 0)).save(out, form)
    return out.getvalue()


def sound(seconds: float = 0.1, said: int | None = None) -> bytes:
    data = b"\0" * int(8000 * seconds)
    head = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + len(data), b"WAVE", b"fmt ", 16, 1, 1, 8000, 8000, 1, 8,
                       b"data", len(data) if said is None else said)  # fmt: skip
    return head + data


def send(client: Client, path: str, files: dict[str, bytes], **more: Any) -> Any:
    samples = [{"name": name, "data": base64.b64encode(data).decode()} for name, data in files.items()]
    return client.post(path + "/data-annotations/samples", {"samples": samples, **more})


@pytest.fixture
def images(make: Make, pictures: str) -> str:
    return make("images", data_path=pictures)


def test_images_are_stored_in_the_input_path_and_unlabeled(
    tenant: Tenant, datasets: Datasets, images: str, one: One, pictures: str, events: RecordedEvents
) -> None:
    path, before = one(images), datasets.get(images)["total_sample_count"]
    good = {"new.png": picture(), "new.jpg": picture("JPEG"), "below/new.bmp": picture("BMP")}
    answer = send(
        tenant.client,
        path,
        {**good, "lies.png": picture("JPEG"), "broken.png": picture(size=(64, 64))[:60], "a.gif": b"GIF89a"},
    )
    assert [r["success"] for r in answer["results"]] == [True, True, True, False, False, False]
    assert "not what its name ends with" in answer["results"][3]["error_msg"]
    assert "broken" in answer["results"][4]["error_msg"]
    assert answer["added_sample_count"] == 3
    for name, data in good.items():
        assert tenant.objects.get(pictures + name) == data
    shown = tenant.client.get(f"{path}/data-annotations/samples/{answer['results'][0]['sample_id']}")
    assert (shown["sample_status"], shown["source"]) == ("__NONE__", pictures + "new.png")
    assert shown["metadata"]["@modelarts:size"] == [8, 6, 3]
    assert datasets.get(images)["total_sample_count"] == before + 3
    events.wait("core.api.called.v1", trace="uploadSamples")
    events.wait("dataset.samples.uploaded.v1", count=3)
    again = send(tenant.client, path, {"new.png": picture()})
    assert (again["added_sample_count"], again["known_sample_count"]) == (0, 1)
    other = send(tenant.client, path, {"new.png": picture(color=9)})
    assert other["added_sample_count"] == 1
    assert "another object has that name" in other["results"][0]["info"]
    assert tenant.objects.get(pictures + "new.png") == picture()


def test_labels_and_objects_by_path_and_labels_to_confirm(
    tenant: Tenant, datasets: Datasets, images: str, one: One, bucket: str
) -> None:
    path = one(images)
    elsewhere = f"s3://{bucket}/elsewhere/cat.png"
    tenant.objects.put(elsewhere, picture(color=3))
    labels = [{"name": "Cat", "score": 0.5}]
    by_path = {"data_source": {"data_path": elsewhere}, "labels": labels, "metadata": {"camera": "left"}}
    answer = tenant.client.post(path + "/data-annotations/samples", {"samples": [by_path]})
    shown = tenant.client.get(f"{path}/data-annotations/samples/{answer['results'][0]['sample_id']}")
    assert (shown["source"], shown["labels"][0]["score"], shown["metadata"]["camera"]) == (elsewhere, 0.5, "left")
    new = {"name": "maybe.png", "data": base64.b64encode(picture(color=4)).decode(), "labels": labels}
    answer = tenant.client.post(path + "/data-annotations/samples", {"samples": [new], "final_annotation": False})
    shown = tenant.client.get(f"{path}/data-annotations/samples/{answer['results'][0]['sample_id']}")
    assert shown["labels"] == []
    assert datasets.statistics(images)["sample_stats"]["unconfirmed"] == 1
    limited = tenant.user([{"Version": "1.1", "Statement": [{"Effect": "Allow", "Action": ["modelarts:*:*"]}]}])
    for sample in (by_path, new):
        with pytest.raises(ApiFailure) as refused:
            limited.client.post(path + "/data-annotations/samples", {"samples": [sample]})
        assert refused.value.status == 403


@pytest.mark.parametrize(
    ("kind", "files", "says"),
    [
        (0, {"a.png": b"\0" * (5 * MB), "b.png": b"\0" * (4 * MB)}, "at most 8 MB"),
        (200, {"a.wav": b"\0" * (4 * MB + 1)}, "4 MB"),
        (100, {"a.txt": b"x" * (8 * MB + 1)}, "at most 8 MB"),
        (0, {"a<b>.png": b"x"}, "none of"),
    ],
)
def test_the_limits_of_the_documents(
    client: Client, make: Make, one: One, kind: int, files: dict[str, bytes], says: str
) -> None:
    with pytest.raises(ApiFailure) as refused:
        send(client, one(make("limits", dataset_type=kind)), files)
    assert refused.value.status == 400
    assert says in refused.value.message


@pytest.mark.parametrize("data", ["%%%", "猫"])
def test_data_that_is_not_base64_is_refused(client: Client, make: Make, one: One, data: str) -> None:
    texts = one(make("encoded", dataset_type=100))
    with pytest.raises(ApiFailure) as refused:
        client.post(f"{texts}/data-annotations/samples", {"samples": [{"name": "a.txt", "data": data}]})
    assert refused.value.status == 400
    assert "the data of 'a.txt' is not base64" in refused.value.message


def test_sounds_and_texts_and_rows(tenant: Tenant, datasets: Datasets, make: Make, one: One, bucket: str) -> None:
    client = tenant.client
    sounds = one(make("sounds", dataset_type=200))
    answer = send(client, sounds, {"good.wav": sound(), "lies.wav": sound(said=9_000_000), "no.wav": b"RIFF"})
    assert [r["success"] for r in answer["results"]] == [True, False, False]
    texts = one(make("texts", dataset_type=100))
    gbk = "猫\n狗\n".encode("gbk")
    body = {"name": "chinese.txt", "data": base64.b64encode(gbk).decode(), "encoding": "GBK"}
    client.post(texts + "/data-annotations/samples", {"samples": [body]})
    files = {"a.txt": b"first\n\nthird\n", "a_result.txt": b"Cat\n\nDog,Cat\n", "bad.txt": b"\xff\xfe"}
    answer = send(client, texts, files)
    assert [r["success"] for r in answer["results"]] == [True, True, False]
    assert "is not UTF-8" in answer["results"][2]["error_msg"]
    found = {s["sample_data"][0]: [x["name"] for x in s["labels"]] for s in datasets.samples("texts")}
    assert found == {"猫": [], "狗": [], "first": ["Cat"], "third": ["Dog", "Cat"]}
    tabbed = send(client, texts, {"b.csv": b"fourth\tCat\n"}, label_format={"label_type": "1"})
    assert tabbed["added_sample_count"] == 1
    rows = one(make("rows", dataset_type=400))
    answer = send(client, rows, {"t.csv": b"a,b\n1,2\n3,4\n", "u.csv": b"a,b\n1\n"})
    assert [r["success"] for r in answer["results"]] == [True, False], answer["results"][0]
    assert answer["added_sample_count"] == 2


def test_as_a_form(tenant: Tenant, datasets: Datasets, images: str, one: One, pictures: str) -> None:
    path = one(images).replace("{project_id}", tenant.client.project_id)
    files = [("files", (f"form-{n}.png", picture(color=n), "image/png")) for n in range(3)]
    response = tenant.client.http.post(
        path + "/data-annotations/samples/files", files=files, data={"labels": '[{"name": "Cat"}]'}
    )
    assert response.status_code == 200
    assert response.json()["added_sample_count"] == 3
    shown = tenant.client.get(f"{path}/data-annotations/samples/{response.json()['results'][2]['sample_id']}")
    assert [x["name"] for x in shown["labels"]] == ["Cat"]
