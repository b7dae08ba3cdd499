"""Export ∘ import = identity, for all that may be said in any type; and folders of texts and tables from strangers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from bottega.objects import ObjectInfo, ObjectPath
from bottega_dataset.extension_points import DatasetType, ImportRequest, check
from bottega_dataset.import_folder import TextFolderImporter
from bottega_dataset.import_rows import Columns, RowFolderImporter
from bottega_dataset.manifest import format_line, parse_line
from bottega_dataset.sample import USAGES, Annotation, BadSample, SampleRecord
from bottega_dataset.types.audio import SoundClassification, SpeechContent, SpeechSegmentation
from bottega_dataset.types.free import FreeFormat
from bottega_dataset.types.image import ImageClassification, ImageSegmentation, ObjectDetection
from bottega_dataset.types.table import Table
from bottega_dataset.types.text import NamedEntities, TextClassification, TextTriplets
from bottega_dataset.types.times import milliseconds
from bottega_dataset.types.video import Video

settings.register_profile("loaded", suppress_health_check=[HealthCheck.too_slow], deadline=None)
settings.load_profile("loaded")  # a machine with other work is no failure

NAMES = st.text("aB猫9_-", min_size=1, max_size=32)
TEXTS = st.text("ab \x00\n\r\"'\\,<&猫\u2028\ufeff\U0001f600", min_size=1, max_size=12)
FREE = st.dictionaries(TEXTS, TEXTS | st.integers(-9, 9) | st.floats(-1, 1) | st.booleans() | st.none(), max_size=2)
NUMBERS = st.integers(0, 500) | st.floats(0, 500)
POINTS = st.lists(st.tuples(NUMBERS, NUMBERS).map(list), min_size=3, max_size=5)
POLYGON = POINTS.map(lambda points: {"@modelarts:shape": "polygon", "@modelarts:feature": points})
MASK = st.integers(0, 12).map(lambda n: {"@modelarts:mask": {"size": [3, 4], "counts": [n, 12 - n]}})
SPAN = st.integers(0, 9).flatmap(lambda start: st.tuples(st.just(start), st.integers(start + 1, 10)))
SPANS = SPAN.map(lambda span: {"@modelarts:start_index": span[0], "@modelarts:end_index": span[1]})
INTERVALS = st.tuples(st.integers(0, 99 * 3_600_000), st.integers(1, 10**7)).map(
    lambda t: {"@modelarts:start_time": clock(t[0]), "@modelarts:end_time": clock(t[0] + t[1])}
)


def clock(ms: int) -> str:
    return f"{ms // 3_600_000:02d}:{ms // 60_000 % 60:02d}:{ms // 1000 % 60:02d}.{ms % 1000:03d}"


def said(kind: str, name: st.SearchStrategy[str], prop: st.SearchStrategy[Any]) -> st.SearchStrategy[Annotation]:
    return st.builds(
        Annotation,
        type=st.just(kind),
        name=name,
        property=st.tuples(prop, FREE).map(lambda parts: {**parts[1], **parts[0]} or None),
        hard=st.none() | st.booleans(),
        annotated_by=TEXTS,
        created_at=st.none() | st.integers(0, 2**31).map(lambda s: s * 1000),
        confidence=st.none() | st.floats(0, 1),
    )


def several(one: st.SearchStrategy[Annotation], most: int = 3) -> st.SearchStrategy[list[Annotation]]:
    return st.lists(one, max_size=most, unique_by=lambda a: (a.name, str(a.property)))


def labels(kind: str) -> st.SearchStrategy[list[Annotation]]:
    return st.lists(said(kind, NAMES, st.just({})), max_size=3, unique_by=lambda a: a.name)


@st.composite
def triplets(draw: st.DrawFn) -> list[Annotation]:
    found = draw(st.lists(said("text_entity", NAMES, SPANS), max_size=3, unique_by=lambda a: (a.name, str(a.property))))
    for number, one in enumerate(found):
        one.id = f"E{number}"
    for _ in range(draw(st.integers(0, 2)) if found else 0):
        ends = {
            f"@modelarts:{end}": draw(st.sampled_from([one.id for one in found if one.id])) for end in ("from", "to")
        }
        found.append(draw(said("text_triplet", NAMES, st.just(ends))))
    return found


OBJECTS, CARRIED = st.text("ab .-猫", min_size=1, max_size=8), TEXTS.filter(lambda t: t.strip())
SAYINGS: list[tuple[DatasetType, st.SearchStrategy[str], st.SearchStrategy[list[Annotation]]]] = [
    (ImageClassification(), OBJECTS.map(lambda n: f"s3://pets/x{n}.jpg"), labels("image_classification")),
    (ObjectDetection(), st.just("s3://pets/a.png"), several(said("object_detection", NAMES, POLYGON))),
    (ImageSegmentation(), st.just("s3://pets/a.png"), several(said("image_segmentation", NAMES, POLYGON | MASK))),
    (TextClassification(), CARRIED.map(lambda t: "content://" + t), labels("text_classification")),
    (NamedEntities(), CARRIED.map(lambda t: f"content://0123456789{t}"), several(said("text_entity", NAMES, SPANS))),
    (TextTriplets(), CARRIED.map(lambda t: f"content://0123456789{t}"), triplets()),
    (SoundClassification(), OBJECTS.map(lambda n: f"s3://pets/x{n}.wav"), labels("audio_classification")),
    (
        SpeechContent(),
        st.just("s3://pets/a.wav"),
        several(said("audio_content", st.just(""), TEXTS.map(lambda t: {"@modelarts:content": t})), 1),
    ),
    (
        SpeechSegmentation(),
        st.just("https://host/a.wav?x=1"),
        several(said("audio_segmentation", NAMES | st.just(""), INTERVALS)),
    ),
    (Table(), st.integers().map(lambda n: f'content://{{"a":{n % 99}}}'), labels("table")),
    (
        Video(),
        st.just("s3://pets/a.mp4"),
        several(
            said("video_interval", NAMES, INTERVALS)
            | said("video_frame", NAMES, NUMBERS.map(lambda n: {"@modelarts:time_in_video": n}))
            | said("video_frame", NAMES, POLYGON.map(lambda p: {**p, "@modelarts:time_in_video": 1.5}))
        ),
    ),
    (FreeFormat(), OBJECTS.map(lambda n: f"s3://pets/x{n}y"), several(said("free_format", NAMES | st.just(""), FREE))),
]


@pytest.mark.parametrize(("kind", "sources", "sayings"), SAYINGS, ids=lambda one: getattr(one, "name", ""))
def test_what_is_published_is_imported_again(
    kind: DatasetType, sources: st.SearchStrategy[str], sayings: st.SearchStrategy[list[Annotation]]
) -> None:
    folder = ObjectPath("out", "V001/")

    @settings(max_examples=40)
    @given(sources, sayings, st.sampled_from([None, *USAGES]), st.none() | TEXTS)
    def trip(source: str, annotations: list[Annotation], usage: str | None, ident: str | None) -> None:
        record = SampleRecord(source, annotations, usage=usage, id=ident)
        try:
            check(kind, record)
        except BadSample:
            assume(False)
        published, files = kind.published(record, folder)
        line = format_line(published)
        again = parse_line(line)
        located = {one.loc: files[ObjectPath.parse(one.loc)] for one in again.annotations if one.loc}
        again = check(kind, kind.expanded(again, located) if located else again)
        record.name = again.name
        assert again == record
        assert format_line(kind.published(again, folder)[0]) == line

    trip()


@given(st.integers(0, 10**9))
def test_times_of_sounds(ms: int) -> None:
    assert milliseconds(clock(ms)) == ms


@given(st.text(max_size=15) | st.from_regex(r"\d{1,3}:\d\d:\d\d[.,]\d{2,4}", fullmatch=True))
@example("00:00:00.000\n")
@example("٠٠:٠٠:٠٠.٠٠٠")
def test_other_times_are_none(text: str) -> None:
    interval = {"@modelarts:start_time": "00:00:00.000", "@modelarts:end_time": text}
    record = SampleRecord("s3://a-bucket/a.wav", [Annotation("audio_segmentation", property=interval)])
    try:
        SpeechSegmentation().check_annotations(record)
    except BadSample as e:
        assert "@modelarts:end_time" in str(e)  # noqa: PT017  # a good time is as fine as a refused one


class Memory:
    """A folder in memory, as much of a store as an importer of folders asks for."""

    def __init__(self, objects: dict[str, bytes]) -> None:
        self.objects = objects

    async def list(self, folder: ObjectPath, *, start_after: str = "", limit: int | None = None) -> AsyncIterator[Any]:
        for key in sorted(self.objects):
            if key > start_after and key.startswith(folder.key):
                yield await self.head(ObjectPath("pets", key))

    async def head(self, path: ObjectPath) -> ObjectInfo:
        return ObjectInfo(path, len(self.objects[path.key]), "etag", 0)

    async def get(self, path: ObjectPath, start: int = 0, end: int | None = None) -> bytes:
        return self.objects[path.key][start : None if end is None else end + 1]


def imported(importer: Any, kind: DatasetType, objects: dict[str, bytes], **options: Any) -> tuple[list[str], int]:
    """What an importer finds in a folder, and how much of it is wrong."""

    async def read() -> tuple[list[str], int]:
        request = ImportRequest(ObjectPath("pets", "in/"), kind, Memory(objects), options)  # type: ignore[arg-type]
        chunks = [chunk async for chunk in importer.read(request, {})]
        for problem in (p for chunk in chunks for p in chunk.problems):
            assert problem.place.startswith("s3://pets/in/")
            assert problem.reason
        return [r.source for c in chunks for r in c.samples], sum(len(c.problems) for c in chunks)

    return anyio.run(read)


ODD = [b"good", b"", b"\xff", b"very good", b"a,b", b'"', b"x\ty", "猫".encode(), b"\r", b"\0"]
LINES = st.lists(st.sampled_from(ODD), max_size=5)


@settings(max_examples=60)
@given(LINES, LINES, st.sampled_from(["0", "1"]))
@example([b"good", b"good"], [b"a"], "0")  # fewer labels than texts
def test_result_files_of_strangers(texts: list[bytes], results: list[bytes], label_type: str) -> None:
    objects = {"in/a.txt": b"\n".join(texts), "in/a_result.txt": b"\n".join(results)}
    found, wrong = imported(TextFolderImporter(), TextClassification(), objects, label_type=label_type)
    assert len(found) + wrong <= len(texts) + len(results) + 1


def test_quotes_in_tables() -> None:
    rows = b'5" pipe,x\n"a\n\nb ""c""",d\ne,"f\ng",h\n"open,x\ny'
    found, wrong = imported(RowFolderImporter(), Table(), {"in/a.csv": rows})
    assert found == [
        'content://{"c1":"5\\" pipe","c2":"x"}',
        'content://{"c1":"a\\n\\nb \\"c\\"","c2":"d"}',
        'content://{"c1":"e","c2":"f\\ng","c3":"h"}',
    ]
    assert wrong == 1


@pytest.mark.parametrize(
    ("wanted", "cell"), [("INT", "9" * 30), ("LONG", "1_0"), ("DOUBLE", "nan"), ("FLOAT", "1e999")]
)
def test_numbers_no_database_keeps(wanted: str, cell: str) -> None:
    with pytest.raises(BadSample, match=f"column 'a': '{cell}' is no {wanted}"):
        Columns([{"name": "a", "type": wanted}], None).row([cell])


@settings(max_examples=60)
@given(LINES, st.booleans())
@example([b'"', b"x"], False)
@example([b'a"b', b'"x"y'], False)
def test_tables_of_strangers(rows: list[bytes], header: bool) -> None:
    found, wrong = imported(RowFolderImporter(), Table(), {"in/a.csv": b"\n".join(rows)}, with_column_header=header)
    assert len(found) + wrong <= len(rows)
