"""The first-party dataset types and importers keep their contracts, and the contracts find who does not."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import pytest

from bottega.plugins import Plugins
from bottega.testing import RunningPlatform
from bottega_dataset.client import TaskFailed
from bottega_dataset.conformance import DatasetTypeContract, ImporterContract
from bottega_dataset.manifest import format_line
from bottega_dataset.sample import Annotation, SampleRecord


class TestImageClassification(DatasetTypeContract):
    code = 0
    sources = ("s3://{bucket}/a.png", "s3://{bucket}/b.jpg")
    misfit = "content://a text"
    good = (Annotation("image_classification", "cat"),)
    bad = (Annotation("image_classification", "no label!"),), "no label!"


class TestTextClassification(DatasetTypeContract):
    code = 100
    sources = ("content://a good day", "s3://{bucket}/b.txt")
    misfit = "s3://{bucket}/a.png"
    good = (Annotation("text_classification", "fine"),)
    bad = (Annotation("text_classification", "no label!"),), "no label!"


BOX = {"@modelarts:shape": "bndbox", "@modelarts:feature": [[1, 2], [30, 40.5]]}
INTERVAL = {"@modelarts:start_time": "00:00:01.000", "@modelarts:end_time": "00:00:02.500"}


class TestObjectDetection(DatasetTypeContract):
    code = 1
    sources = ("s3://{bucket}/a.png", "s3://{bucket}/b.JPG")
    misfit = "s3://{bucket}/a.wav"
    good = (Annotation("object_detection", "cat", BOX), Annotation("object_detection", "cat", BOX))
    bad = (Annotation("object_detection", "cat", {**BOX, "@modelarts:feature": [[1, 2], [0, 1]]}),), "feature"


class TestImageSegmentation(DatasetTypeContract):
    code = 3
    sources = ("s3://{bucket}/a.png", "s3://{bucket}/b.jpg")
    misfit = "content://a text"
    good = (
        Annotation("image_segmentation", "cat", {"@modelarts:mask": {"size": [2, 3], "counts": [1, 4, 1]}}),
        Annotation(
            "image_segmentation",
            "dog",
            {"@modelarts:shape": "polygon", "@modelarts:feature": [[0, 0], [9, 0], [9, 9.5]]},
        ),
    )
    bad = (Annotation("image_segmentation", "cat", {"@modelarts:mask": {"size": [2, 3], "counts": [7]}}),), "counts"


class TestNamedEntities(DatasetTypeContract):
    code = 101
    sources = ("content://Michael Jordan plays", "s3://{bucket}/b.txt")
    misfit = "s3://{bucket}/a.png"
    good = (Annotation("text_entity", "人物", {"@modelarts:start_index": 0, "@modelarts:end_index": 14}),)
    bad = (Annotation("text_entity", "Person", {"@modelarts:start_index": 7, "@modelarts:end_index": 7}),), "end_index"


class TestTextTriplets(DatasetTypeContract):
    code = 102
    sources = ("content://Liu wrote Three Body", "content://Liu wrote nothing else")
    misfit = "s3://{bucket}/a.png"
    good = (
        Annotation("text_entity", "Person", {"@modelarts:start_index": 0, "@modelarts:end_index": 3}, id="E1"),
        Annotation("text_entity", "Book", {"@modelarts:start_index": 10, "@modelarts:end_index": 20}, id="E2"),
        Annotation("text_triplet", "wrote", {"@modelarts:from": "E1", "@modelarts:to": "E2"}, id="R1"),
    )
    bad = (*good[:2], Annotation("text_triplet", "wrote", {"@modelarts:from": "E1", "@modelarts:to": "E9"})), "E9"


class TestSoundClassification(DatasetTypeContract):
    code = 200
    sources = ("s3://{bucket}/a.wav", "s3://{bucket}/b.WAV")
    misfit = "content://a text"
    good = (Annotation("audio_classification", "rain"), Annotation("audio_classification", "wind"))
    bad = (Annotation("audio_classification", "rain"), Annotation("audio_classification", "rain")), "second time"


class TestSpeechContent(DatasetTypeContract):
    code = 201
    sources = ("s3://{bucket}/a.wav", "s3://{bucket}/b.wav")
    misfit = "content://a text"
    good = (Annotation("audio_content", property={"@modelarts:content": "Today is a good day."}),)
    bad = (Annotation("audio_content", property={"@modelarts:content": ""}),), "@modelarts:content"


class TestSpeechSegmentation(DatasetTypeContract):
    code = 202
    sources = ("s3://{bucket}/a.wav", "s3://{bucket}/b.wav")
    misfit = "s3://{bucket}/a.mp4"
    good = (
        Annotation("audio_segmentation", property={**INTERVAL, "@modelarts:source": "Tom"}),
        Annotation("audio_segmentation", "speech", property=INTERVAL),
    )
    bad = (Annotation("audio_segmentation", property={**INTERVAL, "@modelarts:end_time": "0:1"}),), "end_time"


class TestTable(DatasetTypeContract):
    code = 400
    sources = ('content://{{"width":1.5,"name":"a"}}', 'content://{{"width":null,"name":"b"}}')
    misfit = "content://[1, 2]"
    good = (Annotation("table", "setosa"),)
    bad = (Annotation("table", "no label!"),), "no label!"


class TestVideo(DatasetTypeContract):
    code = 600
    sources = ("s3://{bucket}/a.mp4", "s3://{bucket}/b.mov")
    misfit = "s3://{bucket}/a.png"
    good = (
        Annotation("video_interval", "goal", INTERVAL),
        Annotation("video_frame", "ball", {**BOX, "@modelarts:time_in_video": 1.473722, "@modelarts:track": "7"}),
        Annotation("video_frame", "sunny", {"@modelarts:time_in_video": 2}),
    )
    bad = (Annotation("video_frame", "ball", BOX),), "time_in_video"


class TestFreeFormat(DatasetTypeContract):
    code = 900
    sources = ("s3://{bucket}/a.bin", "content://anything")
    misfit = None
    good = (Annotation("free_format", property={"whatever": [1, {"it": "is"}]}), Annotation("free_format", "odd"))
    bad = (Annotation("free_format", "no label!"),), "no label!"


class TestImageFolder(ImporterContract):
    import_type = "dir"

    def files(self, folder: str, samples: int, flaws: int) -> Mapping[str, bytes]:
        return {f"cat/{n}.png": b"x" for n in range(samples)} | {f"cat/{n}.doc": b"x" for n in range(flaws)}


class TestTextFolder(ImporterContract):
    import_type = "dir"
    code = 100

    def files(self, folder: str, samples: int, flaws: int) -> Mapping[str, bytes]:
        texts = "".join(f"text {n}\n" for n in range(samples)).encode()
        return {"a.txt": texts, "a_result.txt": b"cat\n" * samples} | {f"{n}.doc": b"x" for n in range(flaws)}


class TestManifest(ImporterContract):
    import_type = "manifest"
    path = "all.manifest"
    many, most_in_a_chunk = 40_000, 33_000  # chunks are large: they are written at once

    def files(self, folder: str, samples: int, flaws: int) -> Mapping[str, bytes]:
        said = [Annotation("image_classification", "cat")]
        lines = [format_line(SampleRecord(f"{folder}{n}.png", said)) for n in range(samples)]
        return {"all.manifest": b"".join([b"{}\n" * flaws, *lines])}


WRONG = '''
from dataclasses import replace

from bottega.errors import NotFound
from bottega.hookspecs import hookimpl
from bottega_dataset.sample import Annotation, BadSample, Chunk, Problem, SampleRecord
from bottega_dataset.extension_points import AnnotationKind
from bottega_dataset.types.text import TextClassification


class Careless(TextClassification):
    code, name = 901, "careless"

    def check_source(self, record): ...

    def check_annotations(self, record): ...


class Raises(TextClassification):
    code, name = 902, "raises"

    def check_annotations(self, record):
        if any("!" in a.name for a in record.annotations):
            raise ValueError("no")


class Misnamed(TextClassification):
    code, name, annotations = 903, "Misnamed type", (AnnotationKind("modelarts/text_classification", 903),)


class Lossy(TextClassification):
    code, name = 904, "lossy"

    def published(self, record, folder):
        return replace(record, annotations=[replace(one, confidence=None) for one in record.annotations]), {}


class Lines:
    """A text a line, as it should be; one without letters cannot be read. Those below break one rule each."""

    import_type, dataset_types, chunk = "lines", frozenset({100}), 1000

    async def read(self, request, cursor):
        try:
            lines = (await request.store.get(request.path)).decode().splitlines()
        except NotFound:
            lines = self.without()
        start = self.start(cursor)
        while start < len(lines):
            part = lines[start : start + self.chunk]
            start += self.chunk
            samples = [SampleRecord("content://" + line, [Annotation("text_classification", "cat")])
                       for line in part if line != "-"]
            problems = [Problem(str(request.path), "no text") for line in part if line == "-"]
            yield Chunk(samples, self.reported(problems), {"start": start}, min(1.0, start / len(lines)))

    def without(self):
        raise

    def start(self, cursor):
        return cursor.get("start", 0)

    def reported(self, problems):
        return problems


class Forgetful(Lines):
    import_type = "forgetful"

    def start(self, cursor):
        return 0


class Greedy(Lines):
    import_type, chunk = "greedy", 10**9


class Silent(Lines):
    import_type = "silent"

    def reported(self, problems):
        return []


class Blind(Lines):
    import_type = "blind"

    def without(self):
        return []


class Stray(Lines):
    import_type, dataset_types = "stray", frozenset({100, 4711})


@hookimpl
def bottega_dataset_types():
    return [Careless(), Raises(), Misnamed(), Lossy()]


@hookimpl
def bottega_dataset_importers():
    return [Lines(), Forgetful(), Greedy(), Silent(), Blind(), Stray()]
'''


@pytest.fixture(scope="module")
def wrong(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    """A platform with types and importers that break one rule each."""
    folder = tmp_path_factory.mktemp("wrong")
    (folder / "wrong_datasets.py").write_text(WRONG)
    found = [point for point in entry_points(group="bottega") if point.name in ("dataset", "types-text", "store-s3")]
    found.append(EntryPoint("wrong-datasets", "wrong_datasets", "bottega"))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        with RunningPlatform(folder / "data", plugins=lambda settings: Plugins(settings, found)) as running:
            assert running.runtime.plugins.all["wrong-datasets"].state == "on"
            yield running
    del sys.modules["wrong_datasets"]


class TestLines(ImporterContract):
    """An importer of a third party, in order."""

    import_type = "lines"
    code = 100
    path = "a.txt"

    @pytest.fixture
    def running(self, wrong: RunningPlatform) -> RunningPlatform:
        return wrong

    @pytest.fixture
    def tenant(self, wrong: RunningPlatform) -> Any:
        return wrong.tenant()

    def files(self, folder: str, samples: int, flaws: int) -> Mapping[str, bytes]:
        return {"a.txt": ("".join(f"text {n}\n" for n in range(samples)) + "-\n" * flaws).encode()}


FOUND = (AssertionError, pytest.fail.Exception, TaskFailed)


@pytest.mark.parametrize(
    ("code", "test", "found"),
    [
        (901, "it_takes_what_fits_and_says_what_does_not", "DID NOT RAISE"),
        (901, "its_samples_are_imported_labeled_published_and_imported_again", "does not fit is left out"),
        (902, "its_samples_are_imported_labeled_published_and_imported_again", "ValueError"),
        (903, "it_describes_itself", "Misnamed type"),
        (904, "publishing_loses_nothing", "not what is imported again"),
    ],
)
def test_a_wrong_type_is_found(wrong: RunningPlatform, code: int, test: str, found: str) -> None:
    contract = TestTextClassification()
    contract.code = code
    with pytest.raises(FOUND, match=found):
        perform(contract, test, wrong)


@pytest.mark.parametrize(
    ("import_type", "test", "found"),
    [
        ("forgetful", "it_goes_on_behind_any_chunk", "behind chunk 0 does not give"),
        ("greedy", "it_goes_on_behind_any_chunk", "one chunk"),
        ("silent", "what_can_be_read_is_imported_once_and_the_rest_reported", "is reported"),
        ("blind", "what_is_not_there_is_an_error", "DID NOT RAISE"),
        ("stray", "it_describes_itself", "nobody brings"),
    ],
)
def test_a_wrong_importer_is_found(wrong: RunningPlatform, import_type: str, test: str, found: str) -> None:
    contract = TestLines()
    contract.import_type = import_type
    with pytest.raises(FOUND, match=found):
        perform(contract, test, wrong)


def perform(contract: DatasetTypeContract | ImporterContract, test: str, running: RunningPlatform) -> None:
    """Run one test of a contract by hand."""
    tenant = running.tenant()
    given = {"running": running, "tenant": tenant, "bucket": tenant.create_bucket()}
    function = getattr(contract, f"test_{test}")
    wanted = function.__code__.co_varnames[1 : function.__code__.co_argcount]
    function(**{name: given[name] for name in wanted})
