"""Folders in the layout of each type (002 §2.3.2.1): what lies where, what is its label, what is left out."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from bottega.client import ApiFailure, Client
from bottega.testing import Tenant
from bottega_dataset import import_upload
from bottega_dataset.client import Datasets, TaskFailed
from bottega_dataset.conformance import ImporterContract

Make = Callable[..., str]
BOX = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>3</xmax><ymax>4</ymax></bndbox>"
VOC = f"<annotation><object><name>cat</name>{BOX}</object></annotation>".encode()
SPEECH = "Today is a good day."


class TestDetectionFolder(ImporterContract):
    import_type = "dir"
    code = 1

    def files(self, folder: str, samples: int, flaws: int) -> Mapping[str, bytes]:
        images = {f"{n}.jpg": b"x" for n in range(samples)} | {f"{n}.xml": VOC for n in range(samples)}
        return images | {f"flaw{n}.xml": VOC for n in range(flaws)}


class TestSoundFolder(ImporterContract):
    import_type = "dir"
    code = 200
    label = "Cat"

    def files(self, folder: str, samples: int, flaws: int) -> Mapping[str, bytes]:
        return {f"Cat/{n}.wav": b"x" for n in range(samples)} | {f"Cat/{n}.mp3": b"x" for n in range(flaws)}


def found(datasets: Datasets, name: str) -> dict[str, list[tuple[str, Any]]]:
    """The labels of each sample by its name, or its text."""
    return {
        (s["sample_data"] or [s["sample_name"]])[0]: [(one["name"], one["property"]) for one in s["labels"]]
        for s in datasets.samples(name)
    }


SHAPED = [("cat", {"@modelarts:shape": "bndbox", "@modelarts:feature": [[1, 2], [3, 4]]})]


@pytest.mark.parametrize(
    ("code", "files", "expected", "problems"),
    [
        (
            1,
            {"a.jpg": b"", "a.xml": VOC, "b.PNG": b"", "c.jpg": b"", "c.xml": b"<no", "d.xml": VOC, "deep/e.bmp": b""},
            {"a.jpg": SHAPED, "b.PNG": [], "e.bmp": []},
            {"c.jpg": "not XML", "d.xml": "no object beside it (d.jpg or"},
        ),
        (
            201,
            {"a.wav": b"", "a.txt": SPEECH.encode(), "b.wav": b"", "c.wav": b"", "c.txt": b"\xff", "d.txt": b"x"},
            {"a.wav": [("", {"@modelarts:content": SPEECH})], "b.wav": []},
            {"c.wav": "not UTF-8", "d.txt": "no object beside it (d.wav)"},
        ),
        (202, {"deep/a.wav": b"", "b.mp3": b""}, {"a.wav": []}, {"b.mp3": "must end with .wav"}),
        (600, {"a.mp4": b"", "b.jpg": b""}, {"a.mp4": []}, {"b.jpg": "must end with .mp4"}),
        (900, {"a.bin": b"", "no-suffix": b""}, {"a.bin": [], "no-suffix": []}, {}),
        (
            101,
            {"a.txt": "北京很大\n\nMichael Jordan".encode(), "a_result.txt": b"x\n"},
            {"北京很大": [], "Michael Jordan": []},
            {"a_result.txt": "take no labels from folders"},
        ),
    ],
)
def test_the_folder_of_each_type(
    tenant: Tenant,
    datasets: Datasets,
    make: Make,
    bucket: str,
    code: int,
    files: dict[str, bytes],
    expected: dict[str, Any],
    problems: dict[str, str],
) -> None:
    folder = f"s3://{bucket}/in/"
    tenant.objects.put_many({folder + name: data or b"x" for name, data in files.items()})
    name = make("mine", dataset_type=code)
    task = datasets.import_from(name, folder)
    assert found(datasets, name) == expected
    said = {p["place"].rpartition("/")[2]: p["reason"] for p in datasets.problems(name, task["task_id"])}
    assert said.keys() == problems.keys()
    assert [place for place, part in problems.items() if part not in said[place]] == []


TABLE = 'size,name,big\n1.5,"a ""b""\nc",true\n2,d,no\n3,e\n'
SCHEMA = [{"name": "name", "type": "STRING"}, {"name": "size", "type": "double"}, {"name": "big", "type": "BOOLEAN"}]


def test_rows_of_a_table(tenant: Tenant, datasets: Datasets, bucket: str) -> None:
    tenant.objects.put(f"s3://{bucket}/in/a.csv", ("\ufeff" + TABLE.replace("\n2", "\r\n2")).encode())
    body = {
        "dataset_name": "rows",
        "dataset_type": 400,
        "work_path": f"/{bucket}/out/",
        "work_path_type": 0,
        "schema": SCHEMA,
        "data_sources": [{"data_type": 0, "data_path": f"/{bucket}/in/", "with_column_header": True}],
    }
    unread = tenant.client.post("/v2/{project_id}/datasets", body)
    assert unread["import_task_id"] is None, "a table is imported when it is asked for"
    datasets.delete("rows")
    made = tenant.client.post("/v2/{project_id}/datasets", {**body, "import_data": True})
    datasets.wait_import("rows", made["import_task_id"])
    assert [(c["name"], c["type"]) for c in datasets.get("rows")["schema"]] == [(c["name"], c["type"]) for c in SCHEMA]
    assert list(found(datasets, "rows")) == ['{"size":1.5,"name":"a \\"b\\"\\nc","big":true}']
    problems = [(p["place"].partition(", ")[2], p["reason"]) for p in datasets.problems("rows", made["import_task_id"])]
    assert problems == [
        ("line 4", "column 'big': 'no' is no BOOLEAN"),
        ("line 5", "the row has 2 cells; there are 3 columns"),
    ]
    plain = datasets.create("plain", f"/{bucket}/plain/", dataset_type=400)
    assert plain["import_task_id"] is None
    tenant.objects.put(f"s3://{bucket}/two/a.csv", b"1,x\n1,x\n\n")
    datasets.import_from("plain", f"s3://{bucket}/two/")
    rows = [s["sample_data"][0] for s in datasets.samples("plain")]
    assert rows == ['{"c1":"1","c2":"x"}'] * 2, "equal rows are two samples"


def test_an_import_stops_at_what_is_wrong_when_asked(
    tenant: Tenant, datasets: Datasets, make: Make, bucket: str
) -> None:
    path = f"s3://{bucket}/a.manifest"
    tenant.objects.put(path, b'{"source": "content://one"}\nnonsense\n{"source": "content://two"}\n')
    name = make("texts", dataset_type=100)
    with pytest.raises(TaskFailed, match=r"stopped, as asked, at .*line 2: not a JSON object.* 0 samples"):
        datasets.import_from(name, path, import_type="manifest", on_error="stop")
    ident = datasets.get(name)["dataset_id"]
    (task,) = tenant.client.get(f"/v2/{{project_id}}/datasets/{ident}/import-tasks")["import_tasks"]
    assert [p["place"] for p in datasets.problems(name, task["task_id"])] == [f"{path}, line 2"]
    assert list(datasets.samples(name)) == []
    datasets.import_from(name, path, import_type="manifest")
    assert sorted(found(datasets, name)) == ["one", "two"]


def test_labels_that_are_asked_for_bring_what_they_join(
    tenant: Tenant, datasets: Datasets, make: Make, bucket: str
) -> None:
    path = f"s3://{bucket}/a.manifest"
    span = '"property": {"@modelarts:start_index": %d, "@modelarts:end_index": %d}'
    entity = '{"type": "modelarts/text_entity", "name": "%s", "id": "%s", ' + span + "}"
    ends = '"property": {"@modelarts:from": "E1", "@modelarts:to": "E2"}'
    joined = '{"type": "modelarts/text_triplet", "name": "wrote", ' + ends + "}"
    said = ", ".join([entity % ("Person", "E1", 0, 3), entity % ("Book", "E2", 10, 20), entity % ("Verb", "E3", 4, 9)])
    tenant.objects.put(
        path, f'{{"source": "content://Liu wrote Three Body", "annotation": [{said}, {joined}]}}'.encode()
    )
    name = make("texts", dataset_type=102)
    datasets.import_from(name, path, import_type="manifest", included_labels=[{"name": "wrote"}])
    (sample,) = datasets.samples(name)
    assert [(one["name"], one["type"]) for one in sample["labels"]] == [("Person", 103), ("Book", 103), ("wrote", 102)]


LINES = b'{"source": "content://one", "annotation": [{"type": "modelarts/text_classification", "name": "a"}]}\n{}\n'


def test_a_manifest_of_ones_own_machine(
    tenant: Tenant, datasets: Datasets, make: Make, bucket: str, tmp_path: Path
) -> None:
    name = make("texts", dataset_type=100)
    file = tmp_path / "all.manifest"
    for data in (LINES, gzip.compress(LINES[:20]) + gzip.compress(LINES[20:])):
        file.write_bytes(data)
        task = datasets.import_file(name, file, import_annotations=data == LINES)
        assert found(datasets, name) == {"one": [("a", {})]}
        (problem,) = datasets.problems(name, task["task_id"])
        assert problem["place"].endswith(f"/import/{task['task_id']}.manifest, line 2")
    where = f"/v2/{{project_id}}/datasets/{datasets.get(name)['dataset_id']}/import-tasks/manifest"
    for body, status, says in (
        (b"", 400, "no body"),
        (b"x" * (8 * 2**20 + 1), 413, "larger than 8 MB"),
        (gzip.compress(LINES)[:-9], 400, "ends too early"),
        (b"\x1f\x8b nonsense", 400, "not good gzip"),
    ):
        with pytest.raises(ApiFailure) as refused:
            tenant.client.request("POST", where, content=body)
        assert refused.value.status == status
        assert says in str(refused.value)
    file.write_bytes(LINES)
    with pytest.raises(TaskFailed, match="stopped"):
        datasets.import_file(name, file, on_error="stop")


def test_what_unpacks_without_end_is_refused(
    monkeypatch: pytest.MonkeyPatch, tenant: Tenant, datasets: Datasets, make: Make, tmp_path: Path
) -> None:
    monkeypatch.setattr(import_upload, "MAX_UNPACKED", 3 * 2**20)
    file = tmp_path / "bomb.manifest"
    file.write_bytes(gzip.compress(b"\n" * 4 * 2**20))
    with pytest.raises(ApiFailure, match="more than 3 MB when it is unpacked"):
        datasets.import_file(make("texts", dataset_type=100), file)


def test_types_describe_themselves(client: Client) -> None:
    types = {one["dataset_type"]: one for one in client.get("/v2/{project_id}/dataset-types")["dataset_types"]}
    assert set(types) == {0, 1, 3, 100, 101, 102, 200, 201, 202, 400, 600, 900}
    assert types[1]["companion"] == ".xml"
    assert "manifest" in types[1]["import_types"]
    (box,) = types[1]["annotations"]
    assert (box["type"], box["label"]) == ("object_detection", "required")
    assert box["property"]["required"] == ["@modelarts:shape", "@modelarts:feature"]
    assert [(one["type"], one["label_type"]) for one in types[102]["annotations"]] == [
        ("text_triplet", 102),
        ("text_entity", 103),
    ]


def test_a_relation_says_what_it_joins(client: Client, make: Make, one: Callable[[str], str]) -> None:
    path = one(make("texts", dataset_type=102)) + "/data-annotations/labels"
    with pytest.raises(ApiFailure, match="label 'wrote': a relation needs @modelarts:to_type"):
        client.post(path, {"labels": [{"name": "wrote", "type": 102, "property": {"@modelarts:from_type": "Person"}}]})
    with pytest.raises(ApiFailure, match="label 'x': type 0 does not occur in text_triplet"):
        client.post(path, {"labels": [{"name": "x", "type": 0}]})
    speech = one(make("speech", dataset_type=201)) + "/data-annotations/labels"
    with pytest.raises(ApiFailure, match="audio_content datasets have no labels"):
        client.post(speech, {"labels": [{"name": "x"}]})
    ends = {"@modelarts:from_type": "Person", "@modelarts:to_type": "Book"}
    wanted = [{"name": "Book", "type": 103}, {"name": "wrote", "type": 102, "property": ends}]
    client.post(path, {"labels": wanted})
    assert [(x["name"], x["type"], x["property"]) for x in client.get(path)["labels"]] == [
        ("Book", 103, {}),
        ("wrote", 102, ends),
    ]


def test_a_relation_joins_what_it_says(
    tenant: Tenant, datasets: Datasets, client: Client, make: Make, bucket: str, one: Callable[[str], str]
) -> None:
    tenant.objects.put(f"s3://{bucket}/in/a.txt", b"Liu wrote Three Body")
    name = make("texts", dataset_type=102)
    datasets.import_from(name, f"s3://{bucket}/in/")
    ends = {"@modelarts:from_type": "Person", "@modelarts:to_type": "Book"}
    client.post(one(name) + "/data-annotations/labels", {"labels": [{"name": "wrote", "type": 102, "property": ends}]})
    (sample,) = datasets.samples(name)

    def said(book: str) -> list[dict[str, Any]]:
        spans = [("Person", "E1", 0, 3), (book, "E2", 10, 20)]
        entities = [
            {"name": n, "type": 103, "id": i, "property": {"@modelarts:start_index": s, "@modelarts:end_index": e}}
            for n, i, s, e in spans
        ]
        joined = {"name": "wrote", "type": 102, "property": {"@modelarts:from": "E1", "@modelarts:to": "E2"}}
        return [*entities, joined]

    with pytest.raises(ApiFailure, match=r"\['@modelarts:to'\] is a 'Film'; 'wrote' takes a 'Book' there"):
        datasets.label(name, {sample["sample_id"]: said("Film")})
    datasets.label(name, {sample["sample_id"]: said("Book")})


def test_two_texts_with_one_id(tenant: Tenant, datasets: Datasets, make: Make, bucket: str) -> None:
    path = f"s3://{bucket}/a.manifest"
    lines = [b'{"source": "content://one", "id": "A"}', b'{"source": "content://two", "id": "A"}'] * 2
    tenant.objects.put(path, b"\n".join([*lines, b'{"source": "content://three", "id": "B"}']))
    name = make("texts", dataset_type=100)
    task = datasets.import_from(name, path, import_type="manifest")
    assert sorted(found(datasets, name)) == ["one", "three"]
    said = [(p["place"], p["reason"], p["text"]) for p in datasets.problems(name, task["task_id"])]
    assert said == [(f"{path}, id 'A'", "the id 'A' is that of another sample: 'one'", "two")] * 2
    assert (task["imported_sample_count"], task["known_sample_count"], task["problem_count"]) == (2, 1, 2)
    other = make("strict", dataset_type=100)
    with pytest.raises(TaskFailed, match=r"stopped, as asked, at .* id 'A'"):
        datasets.import_from(other, path, import_type="manifest", on_error="stop")
    assert list(datasets.samples(other)) == []


def test_what_no_database_keeps(tenant: Tenant, datasets: Datasets, make: Make, bucket: str) -> None:
    tenant.objects.put(f"s3://{bucket}/in/a.txt", b"good\nb\0d\n")
    name = make("texts", dataset_type=100)
    task = datasets.import_from(name, f"s3://{bucket}/in/")
    assert list(found(datasets, name)) == ["good"]
    assert ["NUL" in p["reason"] for p in datasets.problems(name, task["task_id"])] == [True]


def test_labels_without_samples_and_labels_to_be_confirmed(
    tenant: Tenant, client: Client, datasets: Datasets, make: Make, bucket: str, one: Callable[[str], str]
) -> None:
    tenant.objects.put_many({f"s3://{bucket}/in/{n}": b"x" for n in ("Cat/1.jpg", "Dog/2.jpg")})
    tenant.objects.put(f"s3://{bucket}/a.manifest", f'{{"source": "s3://{bucket}/in/Cat/1.jpg"}}\n'.encode())
    name = make()
    datasets.import_from(name, f"s3://{bucket}/a.manifest", import_type="manifest")
    task = datasets.import_from(name, f"s3://{bucket}/in/", import_samples=False, final_annotation=False)
    assert (task["unconfirmed_sample_count"], task["left_out_sample_count"]) == (1, 1)
    assert found(datasets, name) == {"1.jpg": []}
    (waiting,) = client.get(one(name) + "/auto-annotations/samples")["samples"]
    assert [label["name"] for label in waiting["labels"]] == ["Cat"]
    datasets.import_from(name, f"s3://{bucket}/in/")
    assert found(datasets, name) == {"1.jpg": [("Cat", {})], "2.jpg": [("Dog", {})]}
    refused: tuple[tuple[dict[str, Any], str], ...] = (
        ({"import_origin": "dws"}, "object storage"),
        ({"on_error": "maybe"}, "on_error"),
    )
    for wrong, says in refused:
        with pytest.raises(ApiFailure, match=says):
            datasets.import_from(name, f"s3://{bucket}/in/", **wrong)


def test_labels_of_imported_relations_say_what_they_join(
    tenant: Tenant, datasets: Datasets, make: Callable[..., str], bucket: str
) -> None:
    def line(text: str, *relations: tuple[str, str, str]) -> bytes:
        """Of entities "a Person", "a Book", … one character each."""
        names = sorted({end for _, *ends in relations for end in ends})
        entities = [
            {
                "type": "text_entity",
                "name": name,
                "id": name,
                "property": {"@modelarts:start_index": n, "@modelarts:end_index": n + 1},
            }
            for n, name in enumerate(names)
        ]
        joined = [
            {"type": "text_triplet", "name": name, "property": {"@modelarts:from": start, "@modelarts:to": end}}
            for name, start, end in relations
        ]
        return json.dumps({"source": f"content://{text}", "annotation": entities + joined}).encode()

    def imported(name: str, *lines: bytes) -> dict[str, Any]:
        tenant.objects.put(f"s3://{bucket}/{name}.manifest", b"\n".join(lines))
        return datasets.import_from("triplets", f"s3://{bucket}/{name}.manifest", import_type="manifest")

    make("triplets", dataset_type=102)
    wrote, lies = ("wrote", "Person", "Book"), ("lies-in", "City", "Country")
    other = ("lies-in", "House", "City")
    imported("first", line("one text", wrote, lies), line("two texts", wrote), line("three texts", other))
    known = {one["name"]: one["property"] for one in datasets.labeling.labels("triplets") if one["type"] == 102}
    ends = {"@modelarts:from_type": "Person", "@modelarts:to_type": "Book"}
    assert known == {"wrote": ends, "lies-in": {}}, "what joins several things says nothing"
    task = imported("second", line("four texts", ("wrote", "Book", "Person")), line("five texts", wrote))
    (problem,) = datasets.problems("triplets", task["task_id"])
    assert (problem["place"], task["imported_sample_count"]) == ("four texts", 1)
    assert "is a 'Book'; 'wrote' takes a 'Person' there" in problem["reason"]
