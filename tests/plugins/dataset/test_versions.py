"""Versions and exports: what is published, where, how it is split, and that it never changes."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from bottega.client import ApiFailure, Client
from bottega.entities import Resource
from bottega.testing import RecordedEvents, Tenant
from bottega_dataset.client import Datasets, TaskFailed

Make = Callable[..., str]
One = Callable[[str], str]


@pytest.fixture
def name(make: Make, pictures: str) -> str:
    return make(data_path=pictures)


def lines(tenant: Tenant, version: dict[str, Any]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in tenant.objects.get(version["manifest_path"]).splitlines()]


def test_published_in_the_documents_layout(
    tenant: Tenant, datasets: Datasets, name: str, bucket: str, events: RecordedEvents, pictures: str
) -> None:
    ident = datasets.get(name)["dataset_id"]
    version = datasets.publish(name, description="first one")
    folder = f"s3://{bucket}/output/animals/animals-{ident}/annotation/V001/"
    assert version["manifest_path"] == folder + "V001.manifest"
    assert tenant.objects.list(folder) == [version["manifest_path"]]
    manifest = tenant.objects.get(version["manifest_path"])
    assert hashlib.sha256(manifest).hexdigest() == version["manifest_sha256"]
    found = lines(tenant, version)
    assert len(found) == version["total_sample_count"] == 13
    assert version["annotated_sample_count"] == 10
    assert version["label_type"] == "single"
    assert {x["name"]: x["sample_count"] for x in version["label_stats"]} == {"Cat": 6, "Dog": 4}
    cat = next(x for x in found if x["source"] == pictures + "Cat/0.png")
    assert cat["annotation"] == [{"type": "modelarts/image_classification", "name": "Cat", "annotated-by": "human"}]
    assert cat["usage"] == "TRAIN"
    assert "annotation" not in next(x for x in found if x["source"] == pictures + "0.bmp")
    published = events.wait("dataset.version.published.v1", version_id=version["version_id"])
    assert published.data["manifest_path"] == version["manifest_path"]
    assert (published.data["dataset_name"], published.data["version_name"]) == ("animals", "V001")
    assert published.data["sample_count"] == 13
    events.wait("core.api.called.v1", trace="publishDatasetVersion")


def test_other_plugins_find_it_in_the_registry_and_its_lineage(
    tenant: Tenant, datasets: Datasets, name: str, pictures: str
) -> None:
    version = datasets.publish(name)

    async def entry() -> Resource | None:
        async with tenant.running.platform().database.read() as session:
            return await session.get(Resource, version["version_id"])

    found = tenant.running.run(entry())
    assert found is not None
    assert (found.plugin, found.kind, found.name) == ("dataset", "version", "animals/V001")
    assert found.properties["manifest_path"] == version["manifest_path"]
    assert found.properties["dataset_name"] == "animals"
    assert version["manifest_path"].startswith(found.properties["output_path"])
    graph = tenant.client.get("/v1/{project_id}/lineage", {"urn": found.urn})
    dataset_urn = f"bottega:dataset:{tenant.project_id}:dataset/{found.properties['dataset_id']}"
    edges = {(e["source"], e["target"]) for e in graph["edges"]}
    assert edges == {(dataset_urn, found.urn), (pictures, dataset_urn)}


def test_names_count_on_or_are_ones_own(datasets: Datasets, client: Client, name: str, one: One) -> None:
    given = [datasets.publish(name, wanted)["version_name"] for wanted in (None, "gold_1", None)]
    assert given == ["V001", "gold_1", "V003"]
    assert [v["version_name"] for v in datasets.versions(name)] == ["V003", "gold_1", "V001"]
    for wrong, status in (("gold_1", 409), ("no spaces", 400), ("x" * 33, 400)):
        with pytest.raises(ApiFailure) as refused:
            client.post(one(name) + "/versions", {"version_name": wrong})
        assert refused.value.status == status
    assert client.get(one(name) + "/versions")["total_number"] == 3


def test_a_version_never_changes(tenant: Tenant, datasets: Datasets, name: str) -> None:
    first = datasets.publish(name, train_ratio=0.5)
    before = tenant.objects.get(first["manifest_path"])
    datasets.label(name, {s["sample_id"]: ["Bird"] for s in datasets.samples(name)})
    second = datasets.publish(name, train_ratio=0.5)
    assert tenant.objects.get(first["manifest_path"]) == before
    assert tenant.objects.get(second["manifest_path"]) != before
    assert second["previous_version_id"] == first["version_id"]
    third = datasets.publish(name, train_ratio=0.5)
    assert third["manifest_sha256"] == second["manifest_sha256"]


def test_the_split_is_even_over_labels_and_repeatable(
    tenant: Tenant, datasets: Datasets, make: Make, bucket: str
) -> None:
    path = f"s3://{bucket}/many.manifest"
    sizes = {"a": 100, "b": 50, "c": 2, "d": 1}
    rows = [
        {"source": f"content://{label} {n}", "annotation": [{"type": "text_classification", "name": label}]}
        for label, size in sizes.items()
        for n in range(size)
    ]
    tenant.objects.put(path, "\n".join(json.dumps(r) for r in [*rows, {"source": "content://nothing"}]).encode())
    name = make("texts", dataset_type=100)
    datasets.import_from(name, path, import_type="manifest")

    def split(version: dict[str, Any]) -> tuple[Counter[tuple[str, str]], set[str]]:
        found = lines(tenant, version)
        used = Counter((x["annotation"][0]["name"], x["usage"]) for x in found if "annotation" in x)
        assert [x.get("usage") for x in found if "annotation" not in x] == [None]
        return used, {x["source"] for x in found if x.get("usage") == "EVAL"}

    used, held_out = split(datasets.publish(name, train_ratio=0.8))
    assert used == {
        ("a", "TRAIN"): 80,
        ("a", "EVAL"): 20,
        ("b", "TRAIN"): 40,
        ("b", "EVAL"): 10,
        ("c", "TRAIN"): 1,
        ("c", "EVAL"): 1,
        ("d", "TRAIN"): 1,
    }
    assert split(datasets.publish(name, train_ratio=0.8))[1] == held_out
    assert split(datasets.publish(name, train_ratio=0.8, seed=1))[1] != held_out
    everything = split(datasets.publish(name))
    assert everything[1] == set()


def test_usage_and_hardness_are_cleared_or_kept(tenant: Tenant, datasets: Datasets, make: Make, bucket: str) -> None:
    path = f"s3://{bucket}/hard.manifest"
    line = {
        "source": f"s3://{bucket}/1.jpg",
        "usage": "TEST",
        "annotation": [{"type": "image_classification", "name": "cat", "hard": "true"}],
    }
    tenant.objects.put(path, json.dumps(line).encode())
    name = make()
    datasets.import_from(name, path, import_type="manifest")
    (cleared,) = lines(tenant, datasets.publish(name))
    assert cleared["usage"] == "TRAIN"
    assert "hard" not in cleared["annotation"][0]
    (kept,) = lines(tenant, datasets.publish(name, remove_sample_usage=False, clear_hard_property=False))
    assert kept["usage"] == "TEST"
    assert kept["annotation"][0]["hard"] == "true"


def test_images_may_be_copied_beside_the_manifest(tenant: Tenant, datasets: Datasets, name: str, pictures: str) -> None:
    version = datasets.publish(name, export_images=True)
    found = lines(tenant, version)
    assert all(x["source"].startswith(version["data_path"]) for x in found)
    originals = {tenant.objects.get(path) for path in tenant.objects.list(pictures) if not path.endswith(".txt")}
    assert {tenant.objects.get(x["source"]) for x in found} == originals


def test_current_version_is_set_and_versions_are_deleted(
    tenant: Tenant, datasets: Datasets, client: Client, name: str, one: One, events: RecordedEvents
) -> None:
    first, second = datasets.publish(name), datasets.publish(name)
    assert datasets.get(name)["current_version_name"] == "V002"
    client.put(one(name), {"current_version_id": first["version_id"]})
    assert datasets.version(name)["version_name"] == "V001"
    client.delete(f"{one(name)}/versions/{first['version_id']}")
    assert datasets.get(name)["current_version_id"] == second["version_id"]
    assert datasets.get(name)["dataset_version_count"] == 1
    assert tenant.objects.get(first["manifest_path"])
    with pytest.raises(ApiFailure) as gone:
        client.get(f"{one(name)}/versions/{first['version_id']}")
    assert gone.value.status == 404
    with pytest.raises(ApiFailure) as taken:
        datasets.publish(name, "V001")
    assert taken.value.status == 409
    events.wait("dataset.version.deleted.v1", version_name="V001")


def test_nothing_to_publish(datasets: Datasets, make: Make) -> None:
    with pytest.raises(ApiFailure) as refused:
        datasets.publish(make())
    assert refused.value.status == 409


def test_a_version_that_cannot_be_written_is_a_failed_one(
    tenant: Tenant, datasets: Datasets, client: Client, name: str, one: One, pictures: str
) -> None:
    """A picture is gone that should be copied: the version says so, and its name is free again when it is removed."""
    from bottega.objects import ObjectPath

    store = tenant.running.platform().objects
    tenant.running.run(store.delete([ObjectPath.parse(pictures + "Cat/0.png")]))
    with pytest.raises(TaskFailed, match=r"Cat/0\.png"):
        datasets.publish(name, "gold", export_images=True)
    (failed,) = datasets.versions(name)
    assert failed["status"] == 4
    with pytest.raises(ApiFailure) as refused:
        client.put(one(name), {"current_version_id": failed["version_id"]})
    assert refused.value.status == 409
    client.delete(f"{one(name)}/versions/{failed['version_id']}")
    assert datasets.publish(name, "gold")["status"] == 1


def test_exported_by_state_by_search_and_as_a_version(
    tenant: Tenant, datasets: Datasets, name: str, bucket: str
) -> None:
    target = f"s3://{bucket}/exported/"

    def export(**options: Any) -> list[str]:
        task = datasets.export(name, target, **options)
        found = [r.source.rpartition("/")[2] for r in datasets.read_manifest(task["manifest_path"])]
        assert task["finished_sample_count"] == len(found)
        return found

    assert len(export()) == 13
    assert len(export(export_type=0)) == 10
    assert export(export_type=1) == ["0.bmp", "1.bmp", "2.bmp"]
    either = [{"label_list": {"labels": [{"name": "Dog"}]}}, {"sample_name": "0."}]
    assert export(export_type=3, export_params={"search_conditions": either}) == [
        "0.JPG",
        "1.JPG",
        "2.JPG",
        "3.JPG",
        "0.bmp",
        "0.png",
    ]
    version = datasets.publish(name, train_ratio=0.5)
    task = datasets.export(name, target, version_id=version["version_id"])
    assert tenant.objects.get(task["manifest_path"]) == tenant.objects.get(version["manifest_path"])
    with pytest.raises(ApiFailure) as refused:
        datasets.export(name, f"s3://{bucket}/x/", export_type=3, export_params={"search_conditions": [{"size": 1}]})
    assert refused.value.status == 400


def test_exported_and_imported_again_is_the_same(
    tenant: Tenant, datasets: Datasets, name: str, make: Make, bucket: str
) -> None:
    datasets.label(name, {s["sample_id"]: ["Cat", "Dog"] for s in datasets.samples(name, label="Dog")})
    path = datasets.export(name, f"s3://{bucket}/exported/")["manifest_path"]
    copy = make("copy")
    datasets.import_from(copy, path, import_type="manifest")
    again = datasets.export(copy, f"s3://{bucket}/exported/")["manifest_path"]
    assert tenant.objects.get(again) == tenant.objects.get(path)


def test_two_versions_are_compared(
    tenant: Tenant, datasets: Datasets, client: Client, name: str, one: One, pictures: str
) -> None:
    first = datasets.publish(name)
    assert (first["add_sample_count"], first["previous_total_sample_count"]) == (13, 0)
    sources = {s["source"].removeprefix(pictures): s["sample_id"] for s in datasets.samples(name)}
    datasets.label(name, {sources["Cat/0.png"]: ["Bird"], sources["0.bmp"]: ["Cat"]})
    datasets.label(name, {sources["Cat/1.png"]: ["Cat"]})  # says the same again, later and by somebody else
    client.post(one(name) + "/data-annotations/samples/delete", {"samples": [sources["Dog/0.JPG"]]})
    tenant.objects.put(pictures + "Dog/new.png", b"\x89PNG\r\n\x1a\nnew")
    datasets.import_from(name, pictures)
    client.post(one(name) + "/data-annotations/samples/delete", {"samples": [sources["Dog/0.JPG"]]})
    second = datasets.publish(name, train_ratio=0.5)
    counted = ("add_sample_count", "deleted_sample_count", "modified_sample_count")
    assert [second[c] for c in counted] == [1, 1, 2]
    assert (second["previous_total_sample_count"], second["previous_annotated_sample_count"]) == (13, 10)

    where = one(name) + "/versions/compare"
    found = client.get(where, {"version_id": second["version_id"]})
    assert (found["base_version_name"], found["version_name"]) == ("V001", "V002")
    assert [found[c] for c in counted] == [1, 1, 2]
    assert found["total_number"] == 4
    told = {
        s["source"].removeprefix(pictures): (
            s["change"],
            [x["name"] for x in s["base_labels"]],
            [x["name"] for x in s["labels"]],
        )
        for s in found["samples"]
    }
    assert told == {
        "Dog/new.png": ("added", [], ["Dog"]),
        "Dog/0.JPG": ("removed", ["Dog"], []),
        "Cat/0.png": ("modified", ["Cat"], ["Bird"]),
        "0.bmp": ("modified", [], ["Cat"]),
    }
    assert next(s for s in found["samples"] if s["change"] == "removed")["sample_id"] == sources["Dog/0.JPG"]
    assert found["labels"] == [
        {"type": 0, "name": "Bird", "change": "added", "base_sample_count": 0, "sample_count": 1}
    ]
    pages = [client.get(where, {"version_id": second["version_id"], "offset": n, "limit": 1}) for n in range(5)]
    assert [s for page in pages for s in page["samples"]] == found["samples"]
    only = client.get(where, {"version_id": second["version_id"], "change": "modified"})
    assert (only["total_number"], len(only["samples"])) == (2, 2)
    back = client.get(where, {"version_id": first["version_id"], "base_version_id": second["version_id"]})
    assert [back[c] for c in counted] == [1, 1, 2]
    same = client.get(where, {"version_id": first["version_id"], "base_version_id": first["version_id"]})
    assert same["total_number"] == 0
    with pytest.raises(ApiFailure, match="none before it") as refused:
        client.get(where, {"version_id": first["version_id"]})
    assert refused.value.status == 400


def test_a_comparison_needs_nothing_but_the_manifests(
    tenant: Tenant, datasets: Datasets, client: Client, name: str, one: One, bucket: str
) -> None:
    """The index that is kept of a version is made anew when it is gone."""
    first = datasets.publish(name)
    some = next(s for s in datasets.samples(name, label="Cat"))
    datasets.label(name, {some["sample_id"]: ["Dog"]})
    second = datasets.publish(name, export_images=True)
    folder = first["manifest_path"].partition("annotation/")[0] + "index/"
    kept = tenant.objects.list(folder)
    assert len(kept) == 2
    before = {path: tenant.objects.get(path) for path in kept}
    from bottega.objects import ObjectPath

    store = tenant.running.platform().objects
    tenant.running.run(store.delete([ObjectPath.parse(path) for path in kept]))
    found = client.get(one(name) + "/versions/compare", {"version_id": second["version_id"]})
    assert [s["sample_id"] for s in found["samples"]] == [some["sample_id"]]
    assert {path: tenant.objects.get(path) for path in kept} == before


def test_samples_of_a_version_stay_as_they_were(datasets: Datasets, client: Client, name: str, one: One) -> None:
    before = {s["sample_id"]: [x["name"] for x in s["labels"]] for s in datasets.samples(name)}
    version = datasets.publish(name)
    datasets.label(name, {ident: ["Bird"] for ident in before})
    where = one(name) + "/data-annotations/samples"
    options = {"version_id": version["version_id"], "order": "asc"}
    pages = [client.get(where, options | {"offset": n, "limit": 4}) for n in range(0, 16, 4)]
    assert {page["sample_count"] for page in pages} == {13}
    found = [s for page in pages for s in page["samples"]]
    assert {s["sample_id"]: [x["name"] for x in s["labels"]] for s in found} == before
    backwards = client.get(where, options | {"order": "desc", "limit": 100})["samples"]
    assert backwards == found[::-1]
    with pytest.raises(ApiFailure, match="offset and limit"):
        client.get(where, options | {"label_name": "Cat"})


def test_versions_are_found_by_status_and_split(datasets: Datasets, client: Client, name: str, one: One) -> None:
    datasets.publish(name, train_ratio=0.5)
    datasets.publish(name)

    def found(**wanted: Any) -> list[str]:
        return [v["version_name"] for v in client.get(one(name) + "/versions", wanted)["versions"]]

    assert found(train_evaluate_ratio="0.4,0.9") == ["V001"]
    assert found(status=1) == ["V002", "V001"]
    datasets.publish(name, "table", version_format="CSV")
    assert found(version_format=0) == ["V002", "V001"]
    assert found(version_format=1) == []
    assert found(version_format=2) == ["table"]
    with pytest.raises(ApiFailure, match="two numbers"):
        found(train_evaluate_ratio="half")


def test_a_version_is_a_table_as_well(tenant: Tenant, datasets: Datasets, make: Make, bucket: str) -> None:
    rows = make(dataset_type=400)
    tenant.objects.put(f"s3://{bucket}/rows/a.csv", b'size,name\n1,"a, b"\n2,c\n')
    datasets.import_from(rows, f"s3://{bucket}/rows/", with_column_header=True)
    version = datasets.publish(rows, "with", version_format="CSV")
    assert (version["version_format"], version["with_column_header"]) == ("CSV", True)
    table = version["data_path"] + "data.csv"
    assert tenant.objects.list(version["data_path"]) == [table, version["manifest_path"]]
    assert tenant.objects.get(table).decode() == 'size,name,@label,@usage\r\n1,"a, b",,\r\n2,c,,\r\n'
    bare = datasets.publish(rows, "without", version_format="CSV", with_column_header=False)
    assert tenant.objects.get(bare["data_path"] + "data.csv").decode() == '1,"a, b",,\r\n2,c,,\r\n'
    tenant.objects.put(f"s3://{bucket}/others/b.csv", b"weight\n3\n")
    datasets.import_from(rows, f"s3://{bucket}/others/", with_column_header=True)
    with pytest.raises(TaskFailed, match="the row has the columns weight; the first one has others"):
        datasets.publish(rows, "mixed", version_format="CSV")
    datasets.publish(rows, "manifest")


def test_what_is_no_table_is_told_before(datasets: Datasets, make: Make) -> None:
    boxes = make(dataset_type=1)
    with pytest.raises(ApiFailure, match="object_detection datasets are not exported as 'csv'"):
        datasets.publish(boxes, version_format="CSV")
    with pytest.raises(ApiFailure, match="version_format"):
        datasets.publish(boxes, version_format="CarbonData")


def test_the_split_keeps_rare_labels_in_both_parts(tenant: Tenant, datasets: Datasets, make: Make, bucket: str) -> None:
    """Every sample bears the label `all`, some a rarer one before or behind it."""
    path = f"s3://{bucket}/rare.manifest"
    rows = []
    for n in range(100):
        names = ["all"] + (["rare"] if n % 10 == 0 else [])
        said = [{"type": "text_classification", "name": label} for label in (names if n % 20 else names[::-1])]
        rows.append({"source": f"content://{n}", "annotation": said})
    tenant.objects.put(path, "\n".join(json.dumps(r) for r in rows).encode())
    name = make("texts", dataset_type=100)
    datasets.import_from(name, path, import_type="manifest")
    used = Counter(
        (label["name"], x["usage"])
        for x in lines(tenant, datasets.publish(name, train_ratio=0.8))
        for label in x["annotation"]
    )
    assert used == {("all", "TRAIN"): 80, ("all", "EVAL"): 20, ("rare", "TRAIN"): 8, ("rare", "EVAL"): 2}
