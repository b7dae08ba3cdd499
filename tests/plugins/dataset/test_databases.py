"""The whole way of a dataset on SQLite and on PostgreSQL, with several writers at once."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from bottega.client import ApiFailure
from bottega.testing import RunningPlatform, Tenant
from bottega_dataset.client import Datasets
from bottega_dataset.manifest import format_line
from bottega_dataset.processing.client import Processing
from bottega_dataset.sample import Annotation, SampleRecord, identity
from bottega_dataset.team.client import LabelingConsole, Teams

SIZE = 5000
Fits = Callable[[str], bool]


@pytest.fixture(scope="module")
def platform(each_database: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    with RunningPlatform(tmp_path_factory.mktemp("datasets") / "data", each_database) as running:
        yield running


@pytest.fixture
def owner(platform: RunningPlatform) -> Tenant:
    return platform.tenant()


@pytest.fixture
def manifest(owner: Tenant) -> str:
    """Texts of four labels, every fifth of them unlabeled."""
    path = f"s3://{owner.create_bucket()}/texts.manifest"
    lines = []
    for n in range(SIZE):
        annotation = [{"type": "text_classification", "name": f"label-{n % 4}", "property": {"n": n}}]
        lines.append(json.dumps({"source": f"content://text {n}"} | ({"annotation": annotation} if n % 5 else {})))
    owner.objects.put(path, "\n".join(lines).encode())
    return path


def make(owner: Tenant, manifest: str) -> Datasets:
    datasets = Datasets(owner.client)
    datasets.create("texts", manifest.rpartition("/")[0] + "/out/", dataset_type=100)
    return datasets


def test_from_import_to_version(owner: Tenant, manifest: str) -> None:
    datasets = make(owner, manifest)
    task = datasets.import_from("texts", manifest, import_type="manifest")
    assert (task["imported_sample_count"], task["annotated_sample_count"]) == (SIZE, SIZE * 4 // 5)
    assert datasets.import_from("texts", manifest, import_type="manifest")["known_sample_count"] == SIZE
    unlabeled = [s["sample_id"] for s in datasets.samples("texts", labeled=False)]
    assert len(unlabeled) == SIZE // 5
    datasets.label("texts", {ident: ["new", "label-0"] for ident in unlabeled})
    assert len(list(datasets.samples("texts", label="new"))) == SIZE // 5
    version = datasets.publish("texts", train_ratio=0.8)
    assert version["annotated_sample_count"] == version["total_sample_count"] == SIZE
    again = list(datasets.read_manifest(version["manifest_path"]))
    assert len(again) == SIZE
    assert sum(r.usage == "TRAIN" for r in again) == SIZE * 4 // 5
    assert again[1].annotations[0].property == {"n": 1}
    assert datasets.publish("texts", train_ratio=0.8)["manifest_sha256"] == version["manifest_sha256"]
    datasets.publish("texts", "table", version_format="CSV")
    where = f"/v2/{{project_id}}/datasets/{datasets.get('texts')['dataset_id']}/versions"
    counted = [owner.client.get(where, {"version_format": form})["total_number"] for form in (0, 1, 2)]
    assert counted == [2, 0, 1]
    ident = datasets.get("texts")["dataset_id"]
    owner.client.delete(f"/v2/{{project_id}}/datasets/{ident}/data-annotations/labels/new")
    assert datasets.get("texts")["total_sample_count"] == SIZE
    owner.client.delete(f"/v2/{{project_id}}/datasets/{ident}/data-annotations/labels/label-1")
    assert datasets.get("texts")["total_sample_count"] == SIZE * 4 // 5
    datasets.delete("texts")
    assert list(datasets.list()) == []


def test_every_condition_and_every_change(owner: Tenant, manifest: str) -> None:
    """Conditions ask both databases in their own words; what they find is the same."""
    bucket = manifest.removeprefix("s3://").partition("/")[0]
    said = {"type": "image_classification", "name": "Cat", "confidence": 0.4, "property": {"coat": "black"}}
    lines = [
        {"source": f"s3://{bucket}/a_b/1.png", "annotation": [said], "usage": "EVAL", "property": {"camera": "left"}},
        {"source": f"s3://{bucket}/aXb/2.jpg", "annotation": [{**said, "confidence": None, "hard": "true"}]},
        {"source": f"s3://{bucket}/a_b/c/3.png", "property": {"@modelarts:hard_coefficient": 0.7}},
    ]
    owner.objects.put(f"s3://{bucket}/i.manifest", "\n".join(json.dumps(line) for line in lines).encode())
    datasets = Datasets(owner.client)
    datasets.create("images", f"s3://{bucket}/out/", dataset_type=0)
    datasets.import_from("images", f"s3://{bucket}/i.manifest", import_type="manifest")
    work = datasets.labeling

    def found(**condition: Any) -> str:
        return "".join(row["sample_name"][0] for row in work.search("images", [condition]))

    assert found(sample_dir=f"/{bucket}/a_b/") == "1"
    assert found(sample_name=".png") == "13"
    assert found(sample_format="jpg") == "2"
    assert found(hard="1") == "2"
    assert found(hard="0") == "13"
    assert found(score="0.3,0.5") == "1"
    assert found(coefficient="0.5,1") == "3"
    assert found(metadata={"props": {"camera": ["left"]}}) == "1"
    assert found(sample_usage="EVAL") == "1"
    assert found(label_list={"labels": [{"name": "Cat", "property": {"coat": ["black"]}}]}, score="0.9,1") == "2"
    changed = work.edit("images", conditions=[{"sample_format": "png"}], add=["Dog"], metadata={"seen": "yes"})
    assert changed["changed_sample_count"] == 2
    assert found(labeler=owner.name) == "13"
    assert found(label_list={"labels": [{"name": "Dog"}, {"name": "Cat"}], "op": "AND"}) == "1"
    assert found(metadata={"props": {"seen": ["yes"], "camera": ["left"]}}) == "1"
    work.change_label("images", "Dog", rename_to="Hound")
    assert work.undo_change("images", changed["change_id"])["changed_sample_count"] == 2
    assert found(metadata={"props": {"seen": None}}) == ""
    assert found(labeler=owner.name) == ""
    assert [c["cause"] for c in work.changes("images")] == ["undo", "rename", "label"]
    stats = datasets.statistics("images")
    assert {x["name"]: x["sample_count"] for x in stats["label_stats"]} == {"Cat": 2, "Hound": 0}
    assert owner.client.get(f"/v2/{{project_id}}/datasets/{datasets.get('images')['dataset_id']}/metrics",
                            {"start_time": 0, "end_time": 2**42})["metrics"]["added"]  # fmt: skip
    work.delete_label("images", "Cat", with_samples=True)
    assert found() == "3"
    undone = work.undo_change("images", next(work.changes("images"))["change_id"])
    assert (undone["changed_sample_count"], undone["restored_sample_count"]) == (2, 2)
    assert (found(), found(hard="1"), found(label_list={"labels": [{"name": "Cat"}]})) == ("123", "2", "12")
    work.delete("images", [row["sample_id"] for row in work.search("images", [{"hard": "1"}])])
    work.delete_label("images", "Cat")
    changes = [one["change_id"] for one, _ in zip(work.changes("images"), range(2), strict=False)]
    assert [work.undo_change("images", one)["restored_sample_count"] for one in changes] == [0, 1]
    assert found(label_list={"labels": [{"name": "Cat"}]}) == "12"


def test_several_imports_at_once_never_bring_a_sample_twice(owner: Tenant, manifest: str) -> None:
    datasets = make(owner, manifest)
    with ThreadPoolExecutor(4) as pool:
        imports = pool.map(lambda _: datasets.import_from("texts", manifest, import_type="manifest"), range(4))
        tasks = list(imports)
    assert sum(t["imported_sample_count"] for t in tasks) == SIZE
    assert sum(t["known_sample_count"] for t in tasks) == 3 * SIZE
    stats = datasets.statistics("texts")
    assert stats["sample_stats"]["total"] == SIZE
    assert [x["sample_count"] for x in stats["label_stats"]] == [SIZE // 5] * 4


def test_versions_published_at_once_all_get_names(owner: Tenant, manifest: str) -> None:
    datasets = make(owner, manifest)
    datasets.import_from("texts", manifest, import_type="manifest")

    def publish(name: str | None) -> str:
        try:
            return str(datasets.publish("texts", name)["version_name"])
        except ApiFailure as e:
            return str(e.status)

    with ThreadPoolExecutor(6) as pool:
        names = sorted(pool.map(publish, [None, None, None, "gold", "gold", "gold"]))
    assert names[:2] == ["409", "409"]
    assert names[2:] == ["V001", "V002", "V003", "gold"] or len(set(names[2:])) == 4
    assert len(list(datasets.versions("texts"))) == 4


def test_teams_label_many_samples_at_once(owner: Tenant, manifest: str) -> None:
    datasets, client = make(owner, manifest), owner.client
    datasets.import_from("texts", manifest, import_type="manifest")
    teams = Teams(client)
    teams.create("all")
    people = [f"p{n}@teams.example" for n in range(4)]
    first = [one["initial_password"] for one in teams.invite("all", people)]
    task = teams.start_task("texts", "round", ["all"], repetition=2, sample_state="__NONE__")

    def work(who: tuple[str, str]) -> int:
        console = LabelingConsole(owner.running.url, owner.project_id)
        console.login(*who)
        console.change_password(who[1], "Early-bird-7")
        mine = console.samples(task, "__NONE__", limit=1000)
        for at in range(0, len(mine), 100):
            console.label(task, {s["sample_id"]: ["same"] for s in mine[at : at + 100]})
        return len(mine)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, zip(people, first, strict=True))) == [SIZE // 5 * 2 // 4] * 4
    assert len(list(teams.samples("texts", "round", label_name="same"))) == SIZE // 5 * 2
    assert teams.agreement("texts", "round")["agreement"] == 1
    teams.draw("texts", "round", 0.1, seed=5)
    done = teams.accept("texts", "round")
    assert (done["status"], done["sample_stats"]["accepted_sample_count"]) == (3, SIZE // 5)
    assert len(list(datasets.samples("texts", label="same"))) == SIZE // 5
    datasets.delete("texts")
    teams.delete("all")


def test_processing_into_a_dataset_a_version_and_back(owner: Tenant, manifest: str) -> None:
    datasets, processing = make(owner, manifest), Processing(owner.client)
    datasets.import_from("texts", manifest, import_type="manifest")
    out = manifest.rpartition("/")[0]
    half: dict[str, dict[str, Any]] = {"RandomSelection": {}}
    done = processing.process("texts", "sys_data_selection", half, new_dataset=("half", f"{out}/half/"), seed=1)
    kept = SIZE // 2
    counts = [done[f"{name}_sample_count"] for name in ("origin", "deleted", "unmodified")]
    assert (counts, datasets.get("half")["total_sample_count"]) == ([SIZE, SIZE - kept, kept], kept)
    gone = {one["sample_id"] for one in processing.results(done, outcome="deleted")}
    assert len(gone) == SIZE - kept
    assert not gone & {sample["sample_id"] for sample in datasets.samples("half")}
    processing.process("half", "sys_data_selection", half, new_version="quarter", name="again", seed=2)
    assert datasets.version("half", "quarter")["total_sample_count"] == kept // 2
    assert [one["name"] for one in processing.list(sort_by="name", order="asc", task_name="agai")] == ["again"]
    processing.delete(done["task_id"])
    with pytest.raises(ApiFailure):
        processing.again(done["task_id"])
    for name in ("half", "texts"):
        datasets.delete(name)


def test_counts_are_those_of_the_samples_whatever_is_done(owner: Tenant) -> None:
    """Counts are kept, not counted: after any changes they are what listing everything finds."""
    datasets, rng = Datasets(owner.client), random.Random(20261127)
    bucket = owner.create_bucket()
    datasets.create("counted", f"s3://{bucket}/out/", dataset_type=100)
    work, path = datasets.labeling, f"/v2/{{project_id}}/datasets/{datasets.get('counted')['dataset_id']}"

    def add(numbers: list[int], labels: list[str]) -> None:
        said = [{"type": "text_classification", "name": name} for name in labels]
        lines = [json.dumps({"source": f"content://text {n}", "annotation": said}) for n in numbers]
        owner.objects.put(f"s3://{bucket}/some.manifest", "\n".join(lines).encode())
        datasets.import_from("counted", f"s3://{bucket}/some.manifest", import_type="manifest")

    def undo() -> None:
        work.undo_change("counted", next(iter(work.changes("counted")))["change_id"])

    def some() -> list[str]:
        there = [one["sample_id"] for one in datasets.samples("counted")]
        return rng.sample(there, min(len(there), 7))

    def forget_label(with_samples: bool) -> None:
        present = [one["name"] for one in datasets.statistics("counted")["label_stats"] if one["sample_count"]]
        work.delete_label("counted", rng.choice(present), with_samples=with_samples)

    add([*range(30), 3, 3], [])
    done_in_turn: list[Callable[[], Any]] = [
        lambda: add(rng.sample(range(50), 15) * 2, [f"label-{rng.randrange(3)}"]),
        lambda: datasets.label("counted", {ident: [f"label-{rng.randrange(3)}", "other"] for ident in some()}),
        lambda: datasets.label("counted", {ident: [] for ident in some()}),
        undo,
        lambda: work.delete("counted", some()[:3]),
        undo,
        lambda: work.delete("counted", some()[:2]),
        lambda: work.edit("counted", some(), add=["other"]),
        lambda: forget_label(with_samples=False),
        undo,
        lambda: forget_label(with_samples=True),
        undo,
        lambda: forget_label(with_samples=False),
        lambda: datasets.roll_back("counted", "V001"),
        undo,
        lambda: forget_label(with_samples=True),
    ]
    for step in range(2 * len(done_in_turn)):
        done_in_turn[step % len(done_in_turn)]()
        if step == 1:
            datasets.publish("counted")
        there = list(datasets.samples("counted"))
        done = sum(bool(one["labels"]) for one in there)
        stats = datasets.statistics("counted")["sample_stats"]
        assert (stats["total"], stats["manual_annotation"]) == (len(there), done), step
        for state, number in (("__ALL__", done), ("__NONE__", len(there) - done), (None, len(there))):
            asked = {"sample_state": state, "limit": 5, "offset": 4, "order": "asc"}
            page = owner.client.get(f"{path}/data-annotations/samples", asked)
            assert page["sample_count"] == number, step
            fitting = [one for one in there if state is None or bool(one["labels"]) == (state == "__ALL__")]
            assert [one["sample_id"] for one in page["samples"]] == [one["sample_id"] for one in fitting[4:9]]


def test_names_and_folders_are_found_as_if_each_was_looked_at(owner: Tenant) -> None:
    """Samples imported by the thousand, some more by the handful, some taken out: by chance, against plain Python."""
    datasets, rng = Datasets(owner.client), random.Random(20261128)
    bucket = owner.create_bucket()
    datasets.create("found", f"s3://{bucket}/out/")
    path = f"/v2/{{project_id}}/datasets/{datasets.get('found')['dataset_id']}/data-annotations/samples"
    letters = ["a", "b", "B", "ä", "Ä", "_", "%", "1", "12", "ab", ".", "-"]
    folders = ["", "x/", "X/", "x/y/", "x_y/", "x%/", *(f"n/{n:03}/" for n in range(300))]

    def sources(count: int) -> list[str]:
        names = ("".join(rng.choices(letters, k=rng.randint(1, 9))) for _ in range(count))
        return [f"s3://{bucket}/{rng.choice(folders)}0{name}{n}.jpg" for n, name in enumerate(names)]

    there: list[str] = []
    for count in (1500, 3, 900, 20):
        some = [one for one in dict.fromkeys(sources(count)) if one not in there]
        said = [{"type": "image_classification", "name": "Cat"}]
        lines = [json.dumps({"source": one, "annotation": said if n % 3 else []}) for n, one in enumerate(some)]
        owner.objects.put(f"s3://{bucket}/some.manifest", "\n".join(lines).encode())
        datasets.import_from("found", f"s3://{bucket}/some.manifest", import_type="manifest")
        there += some
    shown = list(datasets.samples("found"))
    assert [one["source"] for one in shown] == there
    gone = rng.sample(range(len(there)), 100)
    datasets.labeling.delete("found", [shown[n]["sample_id"] for n in gone])
    left = [one for n, one in enumerate(shown) if n not in set(gone)]

    def check(
        condition: dict[str, str], fits: Callable[[str], bool], more: Callable[[str], bool], **asked: Any
    ) -> None:
        state = asked.get("sample_state")
        mine = [one for one in left if state is None or bool(one["labels"]) == (state == "__ALL__")]
        asked |= {"search_conditions": json.dumps([condition]), "limit": 300, "order": "asc"}
        answer = owner.client.get(path, asked)
        found = [one["source"] for one in answer["samples"]]
        surely = [one["source"] for one in mine if fits(one["source"])]
        perhaps = [one["source"] for one in mine if more(one["source"])]
        assert found[:300] == [one for one in perhaps if one in set(found)][:300], condition
        if len(perhaps) < 300:
            assert set(surely) <= set(found), condition
            assert answer["sample_count"] == len(found)
            last = owner.client.get(path, asked | {"order": "desc", "limit": 2, "offset": 1})
            assert [one["source"] for one in last["samples"]] == found[::-1][1:3], condition

    def name(source: str) -> str:
        return source.rpartition("/")[2]

    for n in range(12):
        whole = name(rng.choice(there))
        start = rng.randrange(len(whole))
        part = whole[start : start + rng.randint(1, 6)] + ("x" if n % 4 == 0 else "")
        states: Any = ({}, {"sample_state": "__ALL__"}, {"sample_state": "__NONE__"})[n % 3]
        # Whether capitals count depends on the database.
        check({"sample_name": part}, lambda s: part in name(s), lambda s: part.lower() in name(s).lower(), **states)  # noqa: B023
        folder = f"s3://{bucket}/{rng.choice([*folders, 'n/', 'nowhere/'])}"

        def inside(source: str, folder: str = folder) -> bool:
            return source.rpartition("/")[0] + "/" == folder

        check({"sample_dir": folder if n % 2 else folder[4:].rstrip("/")}, inside, inside, **states)
        check({"sample_dir": folder, "sample_name": part}, lambda s: inside(s) and part in name(s), inside)  # noqa: B023


def test_exported_lines_are_those_of_the_samples_byte_for_byte(owner: Tenant) -> None:
    """Lines are written by the database where they are plain: with every character JSON writes in its own way."""
    datasets, rng = Datasets(owner.client), random.Random(20261129)
    bucket = owner.create_bucket()
    datasets.create("exported", f"s3://{bucket}/out/", dataset_type=100)
    strange = [chr(n) for n in (1, 8, 9, 10, 13, 31, 34, 39, 47, 92, 127, 128, 233, 0x2028, 0x1F600)]
    records = []
    for n in range(5000):
        text = f"content://{n} {''.join(rng.choices(strange, k=3))}"
        said = Annotation(
            "text_classification", rng.choice(["Cat", "猫", "a-b_1"]), hard=rng.choice([None, True, False])
        )
        said.created_at = rng.choice([None, 0, 1_548_243_030_000, 253_402_300_799_000])
        said.annotated_by = rng.choice(["human", 'human/"eva\\"', "modelarts/ü"])
        record = SampleRecord(text, [said] if n % 5 else [], usage=rng.choice([None, "TRAIN", "EVAL"]))
        if 2500 <= n < 2520:  # what only some samples have: more labels, a property, a confidence, an id, an old time
            record.property = {"camera": "left"} if n % 5 == 0 else None
            said.confidence = 0.1 + 0.2 if n % 5 == 1 else None
            said.property = {"x": [1, None]} if n % 5 == 2 else None
            said.created_at = -1_000_000 if n % 5 == 3 else said.created_at
            record.annotations += [Annotation("text_classification", "second")] if n % 5 == 4 else []
        records.append(record)
    owner.objects.put(f"s3://{bucket}/in.manifest", b"".join(map(format_line, records)))
    assert datasets.import_from("exported", f"s3://{bucket}/in.manifest", import_type="manifest")[
        "imported_sample_count"
    ] == len(records)
    expected = [format_line(replace(one, id=one.id or identity(one).hex())) for one in records]

    def lines(**options: Any) -> list[bytes]:
        task = datasets.export("exported", f"s3://{bucket}/to/", **options)
        return owner.objects.get(task["manifest_path"]).splitlines(keepends=True)

    assert lines() == expected
    assert lines(export_type=0) == [line for line, one in zip(expected, records, strict=True) if one.annotations]
    assert lines(export_type=1) == [line for line, one in zip(expected, records, strict=True) if not one.annotations]
