"""What every dataset type, importer and exporter must do. Subclass these in your tests::

class TestSounds(DatasetTypeContract):
    code = 200
    sources = ("s3://{bucket}/a.wav", "s3://{bucket}/b.wav")
    misfit = "content://a text"
    good = [Annotation("audio_classification", "rain")]
    bad = [Annotation("audio_classification", "no such weather")], "no such weather"
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from bottega.client import ApiFailure
from bottega.errors import ApiError
from bottega.objects import ObjectPath
from bottega.testing.running import RunningPlatform, Tenant
from bottega_dataset.client import Datasets
from bottega_dataset.extension_points import DatasetType, Exporter, Importer, ImportRequest
from bottega_dataset.kinds import Kinds
from bottega_dataset.manifest import TYPE_PREFIX, format_line, parse_line
from bottega_dataset.sample import Annotation, BadSample, Chunk, SampleRecord, identity

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_FORMAT = re.compile(r"[a-z][a-z0-9_-]*")


class DatasetTypeContract:
    """Tests of `DatasetType`, on the platform of the ``running`` fixture, where its plugin must be on.

    `sources` are two that fit and `misfit` one that does not (None: all do); ``{bucket}`` in them is a bucket of the
    test. `good` may be said of both, `bad` of neither: its second part is what the refusal must name, field or value.
    """

    code: int
    sources: tuple[str, str]
    misfit: str | None
    good: Sequence[Annotation]
    bad: tuple[Sequence[Annotation], str]

    def kind(self, running: RunningPlatform) -> DatasetType:
        return Kinds.of_platform(running.platform("dataset")).of(self.code)

    def test_it_describes_itself(self, running: RunningPlatform) -> None:
        kind = self.kind(running)
        assert kind.code == self.code
        assert _NAME.fullmatch(kind.name), f"name '{kind.name}': lower case, digits and '_'"
        assert kind.annotations, "annotations are empty"
        for one in kind.annotations:
            assert one.type, "an annotation's type is empty"
            assert not one.type.startswith(TYPE_PREFIX), f"an annotation's type stands without '{TYPE_PREFIX}'"
            assert kind.annotation_of(one.code) == one.type, f"two kinds of annotations have the label type {one.code}"
        assert kind.layout, "layout is empty: how is a folder read?"
        assert all(s.startswith(".") and s == s.lower() for s in kind.suffixes), "suffixes look like '.jpg'"
        assert isinstance(kind.sample_type, int)
        assert kind.tags, "tags are empty"
        assert not isinstance(kind.tags, str), "tags are several texts, not one"

    def test_it_takes_what_fits_and_says_what_does_not(self, running: RunningPlatform) -> None:
        kind = self.kind(running)
        bad, named = self.bad
        for source in self.sources:
            record = SampleRecord(source.format(bucket="pets"))
            kind.check_source(record)
            kind.check_annotations(record)
            kind.check_annotations(replace(record, annotations=[*self.good]))
        if self.misfit is not None:
            with pytest.raises(BadSample) as misfit:
                kind.check_source(SampleRecord(self.misfit.format(bucket="pets")))
            assert str(misfit.value), "a refusal says why"
        with pytest.raises(BadSample, match=re.escape(named)):
            kind.check_annotations(replace(record, annotations=[*bad]))
        with pytest.raises(BadSample, match="of_another_type"):
            kind.check_annotations(replace(record, annotations=[*self.good, Annotation("of_another_type", "x")]))

    def test_its_measures_are_numbers(self, running: RunningPlatform) -> None:
        kind = self.kind(running)
        for source in self.sources:
            found = kind.measures(SampleRecord(source.format(bucket="pets"), [*self.good]))
            assert all(math.isfinite(number) for number in found.values()), "measures are finite numbers"
            assert bool(found) <= kind.has_measures

    def test_publishing_loses_nothing(self, running: RunningPlatform) -> None:
        kind = self.kind(running)
        folder = ObjectPath("pets", "animals/annotation/V001/")
        said = [replace(one, annotated_by="human/ann", confidence=0.5, hard=True) for one in self.good]
        for source in self.sources:
            record = SampleRecord(source.format(bucket="pets"), said, usage="TRAIN")
            published, files = kind.published(record, folder)
            assert all(folder.contains(path) for path in files), "files lie in the folder of the version"
            assert kind.published(record, folder) == (published, files), "the same sample gives the same bytes"
            assert bool(files) <= kind.has_files, "`published` writes files that `expanded` does not read"
            read = parse_line(format_line(published))
            located = {one.loc: files[ObjectPath.parse(one.loc)] for one in read.annotations if one.loc}
            again = kind.expanded(read, located) if located else read
            assert again.annotations == said, "what is published is not what is imported again"

    def test_its_samples_are_imported_labeled_published_and_imported_again(self, tenant: Tenant, bucket: str) -> None:
        kind = self.kind(tenant.running)
        first, second = (source.format(bucket=bucket) for source in self.sources)
        lines = [
            SampleRecord(first, [*self.good]),
            SampleRecord(second),
            SampleRecord(first, [*self.bad[0]]),
            *([SampleRecord(self.misfit.format(bucket=bucket))] if self.misfit is not None else []),
        ]
        path = f"s3://{bucket}/in/all.manifest"
        tenant.objects.put(path, b"".join(map(format_line, lines)))
        datasets = Datasets(tenant.client)
        datasets.create("first", f"/{bucket}/first/", dataset_type=self.code)
        task = datasets.import_from("first", path, import_type="manifest")
        problems = [p["place"] for p in datasets.problems("first", task["task_id"])]
        assert problems == [f"{path}, line {n}" for n in range(3, len(lines) + 1)], (
            "what does not fit is left out and reported"
        )
        (unlabeled,) = datasets.samples("first", labeled=False)
        with pytest.raises(ApiFailure, match=re.escape(self.bad[1])) as refused:
            datasets.label("first", {unlabeled["sample_id"]: self._labels(kind, self.bad[0])})
        assert refused.value.status == 400
        datasets.label("first", {unlabeled["sample_id"]: self._labels(kind, self.good)})
        measured = datasets.statistics("first")["measure_stats"]
        named = kind.measures(SampleRecord(first, [*self.good])).keys()
        assert measured.keys() == named, "statistics show the measures"
        manifest = datasets.publish("first")["manifest_path"]
        said = {source: [(a.type, a.name, a.property, a.id) for a in self.good] for source in (first, second)}
        assert self._said(datasets, manifest) == said
        datasets.create("again", f"/{bucket}/again/", dataset_type=self.code)
        datasets.import_from("again", manifest, import_type="manifest")
        assert self._said(datasets, datasets.publish("again")["manifest_path"]) == said

    @staticmethod
    def _labels(kind: DatasetType, annotations: Sequence[Annotation]) -> list[dict[str, Any]]:
        """Annotations as the API takes them."""
        return [
            {"name": a.name, "type": kind.label_type(a.type), "property": a.property or {}, "id": a.id}
            for a in annotations
        ]

    @staticmethod
    def _said(datasets: Datasets, manifest: str) -> dict[str, list[tuple[Any, ...]]]:
        records = datasets.read_manifest(manifest)
        return {r.source: [(a.type, a.name, a.property, a.id) for a in r.annotations] for r in records}


class ImporterContract:
    """Tests of `Importer`, on the platform of the ``running`` fixture, where its plugin must be on.

    `code` is a dataset type it fills, `path` what a request names below the folder the files lie in.
    """

    import_type: str
    code: int = 0
    path: str = ""
    label: str = "cat"
    most_in_a_chunk = 2000
    many = 1200
    """More than fit into one chunk."""

    def files(self, folder: str, samples: int, flaws: int) -> Mapping[str, bytes]:
        """Files by their name below `folder` that hold so many samples, each with the one label `label`.

        Besides, so many entries that cannot be read.
        """
        raise NotImplementedError("a subclass gives what is to be imported")

    def importer(self, running: RunningPlatform) -> Importer:
        return Kinds.of_platform(running.platform("dataset")).importer(self.import_type, self.code)

    def put(self, tenant: Tenant, bucket: str, samples: int, flaws: int) -> str:
        """Store the files and return what to import."""
        folder = f"s3://{bucket}/in/"
        tenant.objects.put_many({folder + name: data for name, data in self.files(folder, samples, flaws).items()})
        return folder + self.path

    def read(self, running: RunningPlatform, path: ObjectPath, cursor: Mapping[str, Any]) -> list[Chunk]:
        platform = running.platform("dataset")
        kind = Kinds.of_platform(platform).of(self.code)
        request = ImportRequest(path, kind, platform.objects, {})

        async def all_of_it() -> list[Chunk]:
            return [chunk async for chunk in self.importer(running).read(request, cursor)]

        return running.run(all_of_it())

    def test_it_describes_itself(self, running: RunningPlatform) -> None:
        importer = self.importer(running)
        assert importer.import_type == self.import_type
        assert _FORMAT.fullmatch(importer.import_type), f"import_type '{importer.import_type}'"
        codes = importer.dataset_types
        assert codes is None or self.code in codes
        assert set(codes or ()) <= set(Kinds.of_platform(running.platform("dataset")).types), "a type nobody brings"

    def test_what_can_be_read_is_imported_once_and_the_rest_reported(self, tenant: Tenant, bucket: str) -> None:
        path = self.put(tenant, bucket, samples=3, flaws=2)
        datasets = Datasets(tenant.client)
        datasets.create("mine", f"/{bucket}/out/", dataset_type=self.code)
        for _ in range(2):
            task = datasets.import_from("mine", path, import_type=self.import_type)
            found = [[label["name"] for label in sample["labels"]] for sample in datasets.samples("mine")]
            assert found == [[self.label]] * 3
            problems = list(datasets.problems("mine", task["task_id"]))
            assert len(problems) == 2, "each entry that cannot be read is reported"
            assert [p for p in problems if not p["reason"] or bucket not in p["place"]] == []

    def test_it_goes_on_behind_any_chunk(self, tenant: Tenant, bucket: str) -> None:
        path = ObjectPath.parse(self.put(tenant, bucket, samples=self.many, flaws=1))
        chunks = self.read(tenant.running, path, {})
        sizes = [len(chunk.samples) + len(chunk.problems) for chunk in chunks]
        assert max(sizes) <= self.most_in_a_chunk, f"a chunk holds about a thousand entries, not {max(sizes)}"
        assert sum(sizes) == self.many + 1
        assert len({identity(s) for chunk in chunks for s in chunk.samples}) == self.many
        assert len([size for size in sizes if size]) > 1, "all of it came in one chunk"
        progress = [chunk.progress for chunk in chunks if chunk.progress is not None]
        assert progress == sorted(progress), "progress only grows"
        assert [p for p in progress if not 0 <= p <= 1] == []
        for index, chunk in enumerate(chunks):
            rest = [s for later in chunks[index + 1 :] for s in later.samples]
            again = self.read(tenant.running, path, json.loads(json.dumps(chunk.cursor)))
            assert [s.source for later in again for s in later.samples] == [s.source for s in rest], (
                f"going on behind chunk {index} does not give exactly what came after it"
            )

    def test_what_is_not_there_is_an_error(self, running: RunningPlatform) -> None:
        with pytest.raises(ApiError) as refused:
            self.read(running, ObjectPath("bottega-no-such-bucket", f"in/{self.path}"), {})
        assert "bottega-no-such-bucket" in refused.value.message


class ExporterContract:
    """Tests of `Exporter`, on the platform of the ``running`` fixture, where its plugin must be on.

    An importer whose ``import_type`` is the exporter's ``export_format`` must read what it wrote, from the folder or
    from the file `reads` in it.
    """

    export_format: str
    code: int
    reads: str = ""

    def objects(self) -> Mapping[str, bytes]:
        """The objects the samples lie in, by name; for texts there are none."""
        return {}

    def samples(self, folder: str) -> Sequence[SampleRecord]:
        """Samples the format carries whole, most of them labeled; their objects lie below `folder`."""
        raise NotImplementedError("a subclass gives what is to be exported")

    def misfits(self, folder: str) -> Sequence[SampleRecord]:
        """Samples that fit the dataset type, and that the format cannot carry, or not whole."""
        return ()

    def exporter(self, running: RunningPlatform) -> Exporter:
        return Kinds.of_platform(running.platform("dataset")).exporter(self.export_format, self.code)

    def test_it_describes_itself(self, running: RunningPlatform) -> None:
        exporter = self.exporter(running)
        assert _FORMAT.fullmatch(exporter.export_format), f"export_format '{exporter.export_format}'"
        codes = exporter.dataset_types
        assert codes is None or self.code in codes
        assert set(codes or ()) <= set(Kinds.of_platform(running.platform("dataset")).types), "a type nobody brings"

    def test_what_it_wrote_is_read_again(self, tenant: Tenant, bucket: str) -> None:
        datasets, given = self._filled(tenant, bucket, self.samples(f"s3://{bucket}/in/"))
        for images in (False, True):
            task = datasets.export("mine", f"/{bucket}/out/{images}/", format=self.export_format, export_images=images)
            problems = list(datasets.export_problems("mine", task["task_id"]))
            assert (problems, task["finished_sample_count"]) == ([], len(given)), "all of it can be carried"
            report = json.loads(tenant.objects.get(f"s3:/{task['export_path'].rstrip('/')}.export.json"))
            assert (report["format"], report["samples"], report["left_out"]) == (self.export_format, len(given), 0)
            name = f"again-{images}"
            datasets.create(name, f"/{bucket}/again/{images}/", dataset_type=self.code)
            read = datasets.import_from(name, task["export_path"] + self.reads, import_type=self.export_format)
            assert list(datasets.problems(name, read["task_id"])) == []
            assert self._said(datasets, name) == self._said(datasets, "mine")

    def test_what_it_cannot_carry_is_told(self, tenant: Tenant, bucket: str) -> None:
        misfits = self.misfits(f"s3://{bucket}/in/")
        datasets, _ = self._filled(tenant, bucket, [*self.samples(f"s3://{bucket}/in/")[:1], *misfits])
        task = datasets.export("mine", f"/{bucket}/out/", format=self.export_format)
        places = {problem["place"] for problem in datasets.export_problems("mine", task["task_id"])}
        assert places == {one.source for one in misfits}, "each sample that is not carried whole is named"
        assert task["finished_sample_count"] + task["left_out_sample_count"] == 1 + len(misfits)

    def _filled(
        self, tenant: Tenant, bucket: str, given: Sequence[SampleRecord]
    ) -> tuple[Datasets, Sequence[SampleRecord]]:
        """A dataset ``mine`` of these samples."""
        folder = f"s3://{bucket}/in/"
        objects = {folder + name: data for name, data in self.objects().items()}
        tenant.objects.put_many(objects | {f"s3://{bucket}/all.manifest": b"".join(map(format_line, given))})
        datasets = Datasets(tenant.client)
        datasets.create("mine", f"/{bucket}/work/", dataset_type=self.code)
        task = datasets.import_from("mine", f"s3://{bucket}/all.manifest", import_type="manifest")
        assert list(datasets.problems("mine", task["task_id"])) == [], "the suite's samples fit the dataset type"
        return datasets, given

    @staticmethod
    def _said(datasets: Datasets, name: str) -> list[tuple[str, Any]]:
        """What is said of each sample, named by its text or by the last part of its object's name."""
        found = [
            (
                (sample["sample_data"] or [sample["sample_name"]])[0],
                [(one["type"], one["name"], one["property"], one.get("score")) for one in sample["labels"]],
            )
            for sample in datasets.samples(name)
        ]
        return sorted(found, key=lambda one: str(one[0]))
