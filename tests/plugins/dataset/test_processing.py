"""Processing tasks through the API and the client, with real workers over real objects."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import typer
from PIL import Image, ImageDraw, ImageFilter
from typer.testing import CliRunner

from bottega.cli_support import OPTIONS
from bottega.client import ApiFailure
from bottega.testing import RecordedEvents, Tenant, wait_until
from bottega_dataset.client import Datasets, TaskFailed
from bottega_dataset.commands import datasets as commands
from bottega_dataset.processing import commands as processing_commands
from bottega_dataset.processing.client import Processing

TASKS = "/v2/{project_id}/processor-tasks"


def png(image: Image.Image, kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    image.save(out, kind)
    return out.getvalue()


def drawn(seed: int, size: tuple[int, int] = (96, 64), shade: int = 128) -> Image.Image:
    """Sharp rectangles on an even ground, others for each seed."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", size, (shade,) * 3)
    draw = ImageDraw.Draw(image)
    for _ in range(6):
        x, y, width, height = (int(n) for n in rng.integers((0, 0, 8, 8), (size[0] - 24, size[1] - 24, 24, 24)))
        color = tuple(int(c) for c in rng.integers(0, 256, 3))
        draw.rectangle((x, y, x + width, y + height), fill=color)
    return image


@pytest.fixture
def processing(tenant: Tenant) -> Processing:
    return Processing(tenant.client)


@pytest.fixture
def animals(tenant: Tenant, bucket: str, make: Callable[..., str], datasets: Datasets) -> str:
    """Six cats and four dogs: one dog is a cat once more, one is blurred, one is broken."""
    folder = f"s3://{bucket}/pictures/"
    files = {f"{folder}cat/{n}.png": png(drawn(n)) for n in range(6)}
    files[f"{folder}dog/7.png"] = png(drawn(7, (64, 64), 40))
    files[f"{folder}dog/blurred.png"] = png(drawn(8).filter(ImageFilter.GaussianBlur(5)))
    files[f"{folder}dog/again.png"] = files[f"{folder}cat/0.png"]
    files[f"{folder}dog/broken.png"] = files[f"{folder}cat/1.png"][:200]
    tenant.objects.put_many(files)
    made = make("animals", data_path=folder)
    where = f"/v2/{{project_id}}/datasets/{datasets.get(made)['dataset_id']}/data-annotations/labels"
    tenant.client.put(where, {"labels": [{"name": "cat", "property": {"@modelarts:color": "#aabbcc"}}]})
    return made


def order(datasets: Datasets, dataset: str, **fields: Any) -> dict[str, Any]:
    source = {"type": "DATASET", "source": datasets.get(dataset)["dataset_id"]}
    return {"name": "probe", "template": {"id": "sys_data_analyse"}, "data_source": source, **fields}


def refused(call: Callable[[], Any], status: int, *said: str) -> None:
    with pytest.raises(ApiFailure) as failure:
        call()
    assert failure.value.status == status, failure.value
    for word in said:
        assert word in failure.value.message, failure.value.message


def test_a_version_is_analysed(tenant: Tenant, animals: str, datasets: Datasets, processing: Processing) -> None:
    version = datasets.publish(animals, "first")
    percents: list[int] = []
    found = processing.analyze(animals, "first", name="look", progress=lambda shown: percents.append(shown["progress"]))
    assert percents == sorted(percents)
    assert percents[-1] == 100
    assert found["class_balance"]["counts"] == {"cat": 6, "dog": 4}
    assert found["resolution"]["width"]["max"] == 96
    assert found["duplicates"]["counts"]["the same"] == 1
    assert found["readability"]["unreadable"] == 1
    for one in found.values():
        if "figure" in one:
            assert tenant.objects.get(one["figure"])[:4] == b"\x89PNG"
    shown = httpx.get(found["brightness"]["figure_url"])
    assert (shown.status_code, shown.content[:4]) == (200, b"\x89PNG")
    (task,) = tenant.client.get(TASKS, {"task_type": "sys_data_analyse", "status": 2, "task_name": "loo"})["tasks"]
    assert (task["name"], task["version_name"], task["is_current"], task["version_count"]) == ("look", "first", True, 1)
    assert task["result"].keys() == found.keys()
    assert task["data_source"]["source"] == datasets.get(animals)["dataset_id"]
    where = f"/v2/{{project_id}}/datasets/{datasets.get(animals)['dataset_id']}/versions/{version['version_id']}"
    told = tenant.client.get(where)
    assert (told["analysis_task_id"], told["analysis_status"]) == (task["task_id"], 2)
    assert told["data_analysis"]["class_balance"]["counts"] == {"cat": 6, "dog": 4}
    assert told["analysis_cache_path"].endswith("/report/")
    # A second one of the same version is the current one then.
    processing.analyze(animals, "first", name="again", operators={"ClassBalance": {}})
    current = tenant.client.get(TASKS, {"query_current": True, "version_id": version["version_id"]})
    assert [(t["name"], list(t["result"])) for t in current["tasks"]] == [
        ("again", ["class_balance", "labels_per_sample"])
    ]
    assert tenant.client.get(TASKS, {"query_current": True, "source_type": "OBS"})["count"] == 0
    by_name = tenant.client.get(TASKS, {"sort_by": "name", "order": "asc", "return_result": False})
    assert [(t["name"], "result" in t) for t in by_name["tasks"]] == [("again", False), ("look", False)]


def test_a_dataset_is_cleaned_into_a_new_one(
    tenant: Tenant, bucket: str, animals: str, datasets: Datasets, processing: Processing, events: RecordedEvents
) -> None:
    operators = {"Unreadable": {}, "Blurred": {}, "SimDeduplication": {"simlarity_threshold": "0.98"}}
    body = order(
        datasets,
        animals,
        name="clean",
        description="for training",
        create_version=True,
        template={"id": "sys_data_cleaning", "operator_params": [{"id": k, "params": v} for k, v in operators.items()]},
        work_path={"type": "DATASET", "name": "clean-animals", "output_path": f"/{bucket}/clean/"},
    )
    started = tenant.client.post(TASKS, body)
    done = processing.wait(started["task_id"], started["version_id"])
    counts = {k: done[f"{k}_sample_count"] for k in ("origin", "add", "deleted", "modified", "unmodified")}
    assert counts == {"origin": 10, "add": 0, "deleted": 3, "modified": 0, "unmodified": 7}
    assert [(one["id"], one["deleted"]) for one in done["operators"]] == [(name, 1) for name in operators]
    reasons = {
        r["origin_source"].rpartition("/")[2]: r["result_description"] for r in processing.results(done, "deleted")
    }
    assert "broken or cut off" in reasons["broken.png"][0]["reason"]
    assert reasons["blurred.png"][0]["operator"] == "Blurred"
    assert reasons["again.png"][0]["duplicate_of"] == f"s3://{bucket}/pictures/cat/0.png"
    where = f"{TASKS}/{started['task_id']}/versions/{started['version_id']}/results"
    page = tenant.client.get(where, {"result_property": "0", "offset": 5, "limit": 10})
    assert (page["count"], page["has_more"], len(page["results"])) == (7, False, 2)
    assert tenant.client.get(where)["has_more"] is False
    assert tenant.client.get(where, {"result_property": -1, "limit": 3})["has_more"] is True
    kept = page["results"][0]
    assert httpx.get(kept["signed_new_source"]).content == tenant.objects.get(kept["new_source"])
    made = datasets.get("clean-animals")
    assert (made["total_sample_count"], made["annotated_sample_count"]) == (7, 7)
    assert {r["sample_id"] for r in processing.results(done, "reserved")} == {
        s["sample_id"] for s in datasets.samples("clean-animals")
    }
    made_labels = tenant.client.get(f"/v2/{{project_id}}/datasets/{made['dataset_id']}")["labels"]
    (cat,) = (label for label in made_labels if label["name"] == "cat")
    assert cat["property"]["@modelarts:color"] == "#aabbcc"
    assert datasets.get(animals)["total_sample_count"] == 10, "the dataset that was processed stays as it was"
    event = events.wait("dataset.processing.finished.v1", task_version_id=done["task_version_id"])
    assert event.data["output_dataset_id"] == made["dataset_id"] == done["output_dataset_id"]
    assert events.wait("dataset.dataset.created.v1", name="clean-animals").causation_id is not None
    task = tenant.client.get(f"{TASKS}/{started['task_id']}")
    assert (task["status"], task["description"], task["version_count"]) == (2, "for training", 1)
    urn = f"bottega:dataset:{tenant.project_id}"
    above = tenant.client.get("/v1/{project_id}/lineage", {"urn": f"{urn}:dataset/{made['dataset_id']}"})
    assert f"{urn}:processor-task/{started['task_id']}" in str(above)
    # The same name cannot be made twice; nothing is begun.
    refused(lambda: tenant.client.post(TASKS, body | {"name": "clean2"}), 409, "clean-animals")
    tenant.client.put(f"{TASKS}/{started['task_id']}", {"description": "done"})
    assert tenant.client.get(f"{TASKS}/{started['task_id']}")["description"] == "done"
    processing.delete(started["task_id"])
    refused(lambda: tenant.client.get(f"{TASKS}/{started['task_id']}"), 404)
    assert datasets.get("clean-animals")["total_sample_count"] == 7


def test_objects_are_augmented_into_a_new_version_and_that_is_processed_on(
    tenant: Tenant, bucket: str, datasets: Datasets, processing: Processing
) -> None:
    image = Image.new("RGB", (100, 80))
    ImageDraw.Draw(image).rectangle((10, 20, 39, 59), fill=(255, 255, 255))
    voc = (
        "<annotation><filename>{n}.png</filename><size><width>100</width><height>80</height><depth>3</depth></size>"
        "<object><name>plate</name><bndbox><xmin>10</xmin><ymin>20</ymin><xmax>40</xmax><ymax>60</ymax></bndbox></object>"
        "</annotation>"
    )
    files: dict[str, bytes] = {}
    for n in range(3):
        files |= {f"s3://{bucket}/in/{n}.png": png(image), f"s3://{bucket}/in/{n}.xml": voc.format(n=n).encode()}
    tenant.objects.put_many(files)
    made = datasets.create("plates", f"/{bucket}/work/", dataset_type=1, data_path=f"/{bucket}/in/")
    datasets.wait_import("plates", made["import_task_id"])
    datasets.publish("plates")
    done = processing.process(
        "plates", "sys_data_augmentation", {"Flip": {}}, version="V001", new_version="", name="flip", seed=3
    )
    assert (done["origin_sample_count"], done["add_sample_count"]) == (3, 3)
    version = datasets.version("plates", "V002")
    assert version["is_current"] is True
    assert (version["total_sample_count"], version["annotated_sample_count"], version["add_sample_count"]) == (6, 6, 3)
    assert version["processor_task_id"] == done["task_id"]
    assert version["label_stats"][0]["sample_count"] == 6
    assert datasets.get("plates")["total_sample_count"] == 3, "the dataset itself stays as it was"
    lines = list(datasets.read_manifest(version["manifest_path"]))
    assert len(lines) == 6
    new = [line for line in lines if "/annotation/V002/" in line.source]
    assert len(new) == 3
    flipped = np.asarray(Image.open(io.BytesIO(tenant.objects.get(new[0].source))).convert("L")) > 127
    columns = np.nonzero(flipped.any(0))[0]
    assert (columns.min(), columns.max() + 1) == (60, 90)
    # What was published is what anybody reads: imported again, the boxes are where the pixels are.
    datasets.create("again", f"/{bucket}/again/", dataset_type=1)
    assert datasets.import_from("again", version["manifest_path"], import_type="manifest")["imported_sample_count"] == 6
    boxes = {s["source"]: s["labels"][0]["property"]["@modelarts:feature"] for s in datasets.samples("again")}
    assert boxes[new[0].source] == [[60, 20], [90, 60]]
    # And the result of the task is a source of the next, into a folder, without a dataset.
    body = {
        "name": "half",
        "create_version": True,
        "inputs": [{"type": "TASK", "source": done["task_id"]}],
        "template": {"id": "sys_data_selection", "operator_params": [{"id": "RandomSelection", "params": {}}]},
        "work_path": {"type": "OBS", "path": f"/{bucket}/half/"},
        "seed": 1,
    }
    started = tenant.client.post(TASKS, body)
    half = processing.wait(started["task_id"], started["version_id"])
    first = tenant.objects.get(half["manifest_path"])
    assert len(first.splitlines()) == 3
    assert half["manifest_path"].startswith(f"/{bucket}/half/")
    same = processing.again(started["task_id"])
    assert same["version_name"] == "V0002"
    assert tenant.objects.get(same["manifest_path"]) == first, "the same seed gives the same bytes"
    other = processing.again(started["task_id"], seed=2)
    assert tenant.objects.get(other["manifest_path"]) != first
    versions = tenant.client.get(f"{TASKS}/{started['task_id']}/versions", {"sort_by": "version_name", "order": "asc"})
    assert [v["version_name"] for v in versions["versions"]] == ["V0001", "V0002", "V0003"]
    tenant.client.delete(f"{TASKS}/{started['task_id']}/versions/{other['task_version_id']}")
    assert tenant.client.get(f"{TASKS}/{started['task_id']}")["version_count"] == 2


def test_a_folder_and_chosen_samples(
    tenant: Tenant, bucket: str, animals: str, datasets: Datasets, processing: Processing
) -> None:
    done = processing.process(
        f"s3://{bucket}/pictures/", "sys_data_validation", new_dataset=("valid", f"/{bucket}/valid/")
    )
    assert (done["origin_sample_count"], done["deleted_sample_count"]) == (10, 1)
    assert datasets.get("valid")["total_sample_count"] == 9
    only = {"label_list": {"labels": [{"name": "cat"}]}}
    found = processing.process(animals, "sys_data_analyse", {"ClassBalance": {}}, search_conditions=[only])["result"]
    assert found["class_balance"]["counts"] == {"cat": 6}
    ids = [s["sample_id"] for s in datasets.samples(animals)][:2]
    found = processing.process(animals, "sys_data_analyse", {"ClassBalance": {}}, samples=ids)["result"]
    assert sum(found["class_balance"]["counts"].values()) == 2


WRONG: list[tuple[dict[str, Any], int, tuple[str, ...]]] = [
    ({"template": {"id": "sys_data_magic"}}, 400, ("sys_data_magic", "sys_data_analyse")),
    ({"template": {"id": "sys_data_cleaning", "operator_params": [{"id": "Blured"}]}}, 400, ("Blured", "Blurred")),
    ({"template": {"id": "sys_data_cleaning", "operator_params": [{"id": "Flip"}]}}, 400, ("sys_data_augmentation",)),
    ({"template": {"id": "sys_data_cleaning", "operator_params": [{"id": "Silent"}]}}, 400, ("does not understand",)),
    (
        {"template": {"id": "sys_data_cleaning", "operator_params": [{"id": "Blurred", "params": {"treshold": 3}}]}},
        400,
        ("Blurred", "treshold", "threshold (default 60)"),
    ),
    (
        {"template": {"id": "sys_data_cleaning", "operator_params": [{"id": "Blurred", "params": {"threshold": "x"}}]}},
        400,
        ("Blurred", "threshold", "number"),
    ),
    ({"template": {"id": "sys_data_augmentation"}}, 400, ("names no operator", "Flip")),
    ({"name": "no blanks"}, 400, ("no blanks",)),
    ({"description": "<script>"}, 400, ("description",)),
    ({"data_source": None}, 400, ("data_source",)),
    ({"data_source": {"type": "CUSTOM", "source": "x"}}, 400, ("CUSTOM",)),
    ({"data_source": {"type": "OBS", "source": "nowhere"}}, 400, ("nowhere",)),
    ({"data_source": {"type": "DATASET", "source": "00000000-0000-4000-8000-000000000000"}}, 404, ("no dataset",)),
    ({"data_source": {"type": "TASK", "source": "00000000-0000-4000-8000-000000000000"}}, 404, ("processor-task",)),
    ({"flavor": "no.such"}, 400, ("no.such",)),
    ({"template": {"id": "sys_data_validation"}, "work_path": {"type": "DATASET", "name": "x"}}, 400, ("output_path",)),
    ({"template": {"id": "sys_data_validation"}, "work_path": {"type": "OBS", "path": "bad"}}, 400, ("bad",)),
]


def test_what_is_wrong_is_said_before_anything_begins(tenant: Tenant, animals: str, datasets: Datasets) -> None:
    good = order(datasets, animals)
    for fields, status, said in WRONG:
        body = {k: v for k, v in (good | fields).items() if v is not None}
        refused(lambda body=body: tenant.client.post(TASKS, body), status, *said)  # type: ignore[misc]
    assert tenant.client.get(TASKS)["count"] == 0
    told = tenant.client.post(f"{TASKS}/preflight", good)
    assert told["allowed"] is True
    items = tenant.client.get(f"{TASKS}/items")
    assert items["total"] == 5
    assert {(one["template_id"], one["label_en"], one["label_zh"]) for one in items["items"]} >= {
        ("sys_data_analyse", "Feature analysis", "特征分析")
    }


def test_who_may_not_read_or_write_is_refused(
    tenant: Tenant, stranger: Tenant, bucket: str, animals: str, datasets: Datasets
) -> None:
    allowed = [{"Effect": "Allow", "Action": ["modelarts:*:*"]}]
    user = tenant.user([{"Version": "1.1", "Statement": allowed}])
    body = order(datasets, animals, work_path={"type": "OBS", "path": f"/{bucket}/report/"})
    refused(lambda: user.client.post(TASKS, body), 403, "obs:object:PutObject", f"{bucket}/report/")
    refused(lambda: user.client.post(TASKS, body), 403, "obs:object:GetObject", f"{bucket}/pictures/")
    refused(lambda: stranger.client.post(TASKS, body), 404)
    mine = stranger.create_bucket()
    foreign = {"type": "OBS", "source": f"/{bucket}/pictures/"}
    there = body | {"data_source": foreign, "work_path": {"type": "OBS", "path": f"/{mine}/report/"}}
    refused(lambda: stranger.client.post(TASKS, there), 403, "not one of yours")
    # Rights on the dataset's own folder are not rights on all its samples.
    elsewhere = tenant.create_bucket()
    tenant.objects.put(f"s3://{elsewhere}/secret.png", png(drawn(1)))
    tenant.objects.put(f"s3://{bucket}/more.manifest", f'{{"source": "s3://{elsewhere}/secret.png"}}\n'.encode())
    datasets.import_from(animals, f"s3://{bucket}/more.manifest", import_type="manifest")
    objects = {"Effect": "Allow", "Action": ["obs:object:*"], "Resource": [f"obs:*:*:object:{bucket}/*"]}
    reader = tenant.user([{"Version": "1.1", "Statement": [*allowed, objects]}])
    started = reader.client.post(
        TASKS, body | {"template": {"id": "sys_data_analyse", "operator_params": [{"id": "ClassBalance"}]}}
    )
    done = Processing(reader.client).wait(started["task_id"], started["version_id"])
    assert (done["origin_sample_count"], done["left_out_sample_count"]) == (10, 1)
    assert done["problems"][0]["place"] == f"s3://{elsewhere}/secret.png"


def test_stopping_and_failing_leave_nothing_half_made(
    tenant: Tenant, bucket: str, animals: str, datasets: Datasets, processing: Processing
) -> None:
    started = processing.start(
        animals,
        "sys_data_augmentation",
        {"Rotate": {"copies": 20}, "MotionBlur": {"copies": 20}},
        new_version="rotated",
    )
    where = f"{TASKS}/{started['task_id']}/versions/{started['version_id']}"
    refused(lambda: processing.delete(started["task_id"]), 409, "stop it first")
    processing.stop(started["task_id"], started["version_id"])
    with pytest.raises(TaskFailed, match="was stopped"):
        processing.wait(started["task_id"], started["version_id"])
    refused(lambda: processing.stop(started["task_id"], started["version_id"]), 409, "has ended (stopped)")
    assert tenant.client.get(where + "/results")["count"] == 0
    with pytest.raises(ApiFailure, match="no version"):
        wait_until(lambda: datasets.version(animals, "rotated")["status"] != 0 and datasets.version(animals, "gone"))
    (left,) = datasets.versions(animals)
    assert (left["status"], left["message"]) == (4, "the processing task was stopped")
    # Too few samples of a label: the operator says why, and the dataset it was to make is not there.
    with pytest.raises(TaskFailed, match="at least two labels with five samples"):
        processing.process(animals, "sys_data_cleaning", {"Mislabeled": {}}, new_dataset=("never", f"/{bucket}/never/"))
    with pytest.raises(ApiFailure, match="no dataset 'never'"):
        datasets.get("never")
    assert tenant.client.get(TASKS, {"status": 4})["count"] == 1
    (failed,) = tenant.client.get(TASKS, {"status": 3})["tasks"]
    assert "at least two labels" in failed["error_msg"]


def test_from_the_command_line(
    tenant: Tenant, bucket: str, animals: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "credentials.json"
    keys = {"access_key": tenant.access_key, "secret_key": tenant.secret_key}
    file.write_text(json.dumps({"url": tenant.running.url, "project_id": tenant.project_id, **keys}))
    monkeypatch.setattr(OPTIONS, "credentials", file)
    app = typer.Typer()
    app.add_typer(commands, name="datasets")
    processing_commands.add_to(commands)

    def run(*words: str) -> str:
        result = CliRunner().invoke(app, ["datasets", *words])
        assert result.exit_code == 0, result.output
        return result.output

    shown = run("analyze", animals, "-o", "ImageFeatures", "-o", "ClassBalance", "--figures", str(tmp_path / "figures"))
    assert "brightness" in shown
    assert "█" in shown
    assert (tmp_path / "figures" / "brightness.png").read_bytes()[:4] == b"\x89PNG"
    wanted = ("-o", "Unreadable", "-o", "TooSmall:min_pixels=64,action=flag")
    shown = run("process", animals, "clean", *wanted, "--new-dataset", "small", "--output", f"s3://{bucket}/small/")
    assert "10 samples, 1 deleted" in shown
    assert "cannot be read" in shown
    assert "Rotate" in run("operators", "augment")
    monkeypatch.setattr(OPTIONS, "as_json", True)
    (cleaned, looked) = json.loads(run("processing-tasks"))
    assert (cleaned["status"], looked["template"]["id"]) == (2, "sys_data_analyse")
    rows = json.loads(
        run("processing-results", cleaned["task_id"], cleaned["latest_task_version_id"], "--outcome", "deleted")
    )
    assert [row["origin_source"] for row in rows] == [f"s3://{bucket}/pictures/dog/broken.png"]
    run("delete-processing", looked["task_id"])
    assert [one["task_id"] for one in json.loads(run("processing-tasks"))] == [cleaned["task_id"]]
    wrong = CliRunner().invoke(app, ["datasets", "process", animals, "clean", "-o", "Blurred:30"])
    assert (wrong.exit_code, "Rotate:angle_max=30" in wrong.output) == (2, True)
