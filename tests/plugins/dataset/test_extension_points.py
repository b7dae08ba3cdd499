"""A third party's plugin brings a dataset type and an importer, which the API then offers as its own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import pytest

from bottega.client import ApiFailure
from bottega.plugins import Plugins
from bottega.testing import RunningPlatform
from bottega_dataset.client import Datasets

PLUGIN = '''
"""Ratings: a text with one to five stars, imported from CSV."""

import csv
import io

from bottega.hookspecs import hookimpl
from bottega_dataset.extension_points import AnnotationKind, DatasetType
from bottega_dataset.sample import Annotation, BadSample, Chunk, Problem, SampleRecord


class Ratings(DatasetType):
    code, name, sample_type, tags = 910, "ratings", 1, ("Text", "Rating")
    texts = True
    annotations = (AnnotationKind("rating", 910),)

    def check_annotations(self, record):
        for one in record.annotations:
            if one.name not in "12345":
                raise BadSample(f"'{one.name}' is no number of stars from 1 to 5")


    def measures(self, record):
        if record.source == "content://unmeasurable":
            raise RuntimeError("a type's own error")
        return {"stars": int(record.annotations[0].name), "nothing": float("nan")}


class Csv:
    import_type, dataset_types = "csv", frozenset({910})

    async def read(self, request, cursor):
        samples, problems = [], []
        text = (await request.store.get(request.path)).decode()
        for number, (said, stars) in enumerate(csv.reader(io.StringIO(text)), 1):
            record = SampleRecord("content://" + said, [Annotation("rating", stars)])
            try:
                request.dataset_type.check_annotations(record)
                samples.append(record)
            except BadSample as e:
                problems.append(Problem(f"line {number}", str(e), said))
        yield Chunk(samples, problems, {}, 1.0)


@hookimpl
def bottega_dataset_types():
    return [Ratings()]


@hookimpl
def bottega_dataset_importers():
    return [Csv()]
'''


@pytest.fixture
def platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningPlatform]:
    (tmp_path / "ratings_of_a_third_party.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(str(tmp_path))
    wanted = ("dataset", "types-image", "store-s3")
    found = [point for point in entry_points(group="bottega") if point.name in wanted]
    found.append(EntryPoint("ratings", "ratings_of_a_third_party", "bottega"))
    with RunningPlatform(tmp_path / "data", plugins=lambda settings: Plugins(settings, found)) as running:
        yield running
    del sys.modules["ratings_of_a_third_party"]


def test_a_type_and_an_importer_of_another_plugin(platform: RunningPlatform) -> None:
    assert platform.runtime.plugins.all["ratings"].state == "on"
    tenant = platform.tenant()
    bucket = tenant.create_bucket()
    datasets = Datasets(tenant.client)
    tenant.objects.put(f"s3://{bucket}/said.csv", b"great,5\nnever again,1\nodd,9\nunmeasurable,3\n")
    datasets.create("said", f"/{bucket}/out/", dataset_type=910)
    assert datasets.get("said")["dataset_tags"] == ["Text", "Rating"]
    task = datasets.import_from("said", f"s3://{bucket}/said.csv", import_type="csv")
    assert [p["reason"] for p in datasets.problems("said", task["task_id"])] == [
        "'9' is no number of stars from 1 to 5"
    ]
    found = {s["sample_data"][0]: (s["sample_id"], s["labels"][0]["name"]) for s in datasets.samples("said")}
    stars = {text: number for text, (_, number) in found.items()}
    assert stars == {"great": "5", "never again": "1", "unmeasurable": "3"}
    with pytest.raises(ApiFailure, match="no number of stars"):
        datasets.label("said", {found["great"][0]: ["7"]})
    measured = datasets.statistics("said")["measure_stats"]
    assert measured == {"stars": {"count": 2, "min": 1.0, "max": 5.0, "mean": 3.0}}, "what fails harms no statistics"
    version = datasets.publish("said")
    assert {r.annotations[0].type for r in datasets.read_manifest(version["manifest_path"])} == {"rating"}
    datasets.create("pictures", f"/{bucket}/pictures/")
    with pytest.raises(ApiFailure, match="does not fit image_classification"):
        datasets.import_from("pictures", f"s3://{bucket}/said.csv", import_type="csv")
