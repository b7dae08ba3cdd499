"""Manifests: reading, writing, both ways round for anything that can be said; and hostile input."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bottega.objects import ObjectInfo, ObjectPath
from bottega_dataset import manifest
from bottega_dataset.manifest import ManifestReader, format_line, parse_line
from bottega_dataset.sample import USAGES, Annotation, BadSample, SampleRecord, identity, line_id

settings.register_profile("loaded", suppress_health_check=[HealthCheck.too_slow], deadline=None)
settings.load_profile("loaded")  # a machine with other work is no failure
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda t: t.strip())
KEYS = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/"), min_size=1, max_size=20).filter(
    lambda t: t not in (".", "..")
)
SOURCES = st.one_of(
    TEXTS.map(lambda t: "content://" + t),
    st.lists(KEYS, min_size=1, max_size=4).map(lambda parts: "s3://a-bucket/" + "/".join(parts)),
    KEYS.map(lambda k: "https://host.example/" + k),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
MOMENTS = st.datetimes(datetime(1970, 1, 2), datetime(2100, 1, 1)).map(
    lambda d: int(d.replace(microsecond=0, tzinfo=UTC).timestamp() * 1000)
)
ANNOTATIONS = st.builds(
    Annotation,
    type=st.sampled_from(["image_classification", "text_classification", "object_detection"]),
    name=st.text(st.characters(exclude_categories=["Cs"])),
    property=st.none() | st.dictionaries(TEXTS, JSON, min_size=1, max_size=3),
    hard=st.none() | st.booleans(),
    annotated_by=TEXTS,
    created_at=st.none() | MOMENTS,
    confidence=st.none() | st.floats(0, 1),
)
RECORDS = st.builds(
    SampleRecord,
    source=SOURCES,
    annotations=st.lists(ANNOTATIONS, max_size=4),
    usage=st.none() | st.sampled_from(USAGES),
    id=st.none() | TEXTS,
    inference_loc=st.none() | TEXTS,
)


@given(RECORDS)
def test_what_is_written_is_read_again(record: SampleRecord) -> None:
    line = format_line(record)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    again = parse_line(line)
    record.name = again.name
    assert again == record
    assert format_line(again) == line


@given(st.binary(max_size=200) | JSON.map(lambda v: json.dumps(v).encode()))
@example(b'{"source": "s3://b"}')
@example(b'{"source": "content://x", "annotation": [[]]}')
@example(b"[" * 100_000)
@example(b'{"source": "content://\\ud800"}')
def test_anything_else_is_a_bad_sample_and_never_more(line: bytes) -> None:
    try:
        parse_line(line)
    except BadSample as e:
        assert str(e)  # noqa: PT017  # a parsed line is as fine as a refused one


@given(st.dictionaries(st.sampled_from(["source", "usage", "annotation", "id", "inference-loc"]), JSON))
def test_fields_of_wrong_types_are_bad_samples(fields: dict[str, Any]) -> None:
    line = json.dumps({"source": "content://text"} | fields).encode()
    try:
        parse_line(line)
    except BadSample as e:
        assert str(e)  # noqa: PT017  # see above


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"source": ""}, "source"),
        ({"source": "content://  "}, "no text"),
        ({"source": "s3://bucket/folder/"}, "folder"),
        ({"source": "image.jpg"}, "not an object path"),
        ({"source": "s3://bucket/a/../../b"}, "'..'"),
        ({"usage": "MAYBE"}, "usage 'MAYBE'"),
        ({"annotation": {}}, "annotation"),
        ({"annotation": [{"name": "x"}]}, "annotation[0].type"),
        ({"annotation": [{"type": "t", "hard": "maybe"}]}, "annotation[0].hard"),
        ({"annotation": [{"type": "t", "confidence": 1.01}]}, "confidence"),
        ({"annotation": [{"type": "t", "confidence": True}]}, "confidence"),
        ({"annotation": [{"type": "t", "property": []}]}, "property"),
        ({"annotation": [{"type": "t"}, {"type": "t", "creation-time": "yesterday"}]}, "creation-time"),
    ],
)
def test_the_place_and_the_rule_are_named(change: dict[str, Any], says: str) -> None:
    with pytest.raises(BadSample) as refused:
        parse_line(json.dumps({"source": "content://text"} | change).encode())
    assert says in str(refused.value)


@pytest.mark.parametrize("written", ["s3://bucket/a/b.jpg", "obs://bucket/a/b.jpg", "/bucket/a/b.jpg"])
def test_all_forms_of_a_path_are_one_sample(written: str) -> None:
    record = parse_line(json.dumps({"source": written}).encode())
    assert record.source == "s3://bucket/a/b.jpg"
    assert record.name == "b.jpg"
    assert identity(record) == identity(SampleRecord("s3://bucket/a/b.jpg", id="other"))


def test_texts_are_told_apart_by_id_and_by_line() -> None:
    assert identity(SampleRecord("content://same")) == identity(SampleRecord("content://same"))
    assert identity(SampleRecord("content://same", id="1")) != identity(SampleRecord("content://same", id="2"))
    own = "0162005993f8065ef47eefb59d1e4970"
    assert identity(SampleRecord("content://same", id=own)).hex() == own
    assert line_id("s3://b/a.txt", 1, "same") != line_id("s3://b/a.txt", 2, "same")


class Memory:
    """An object in memory, as much of a store as a reader asks for."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    async def head(self, path: ObjectPath) -> ObjectInfo:
        return ObjectInfo(path, len(self.data), "etag", 0)

    async def get(self, path: ObjectPath, start: int = 0, end: int = 0) -> bytes:
        return self.data[start : end + 1]


async def read(data: bytes, offset: int = 0) -> AsyncIterator[tuple[int, bytes | None]]:
    reader = ManifestReader(Memory(data), ObjectPath("bucket", "key"), offset=offset)  # type: ignore[arg-type]
    async for found in reader.lines():
        yield found


@pytest.mark.anyio
async def test_lines_are_whole_however_they_fall_into_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "MAX_LINE", 12)
    data = b"first\n\nthird line\n" + b"far too long " * 4 + b"\nfifth\n" + b"also too long at the end"
    for size in (1, 2, 3, 7, 13, 20, 1000):
        monkeypatch.setattr(manifest, "_READ_AT_ONCE", size)
        found = [pair async for pair in read(data)]
        assert [line for _, line in found] == [b"first", b"", b"third line", None, b"fifth", None], size
        assert [offset for offset, _ in found] == [6, 7, 18, 71, 77, len(data)], size
        for index, (offset, _) in enumerate(found):
            assert [pair async for pair in read(data, offset)] == found[index + 1 :], (size, offset)


class Huge:
    """An object whose first line has 100 MB, never in memory as a whole, and whose second is good."""

    tail = b"\ngood\n"
    size = 100 * 2**20

    def __init__(self) -> None:
        self.asked: list[int] = []

    async def head(self, path: ObjectPath) -> ObjectInfo:
        return ObjectInfo(path, self.size, "etag", 0)

    async def get(self, path: ObjectPath, start: int = 0, end: int = 0) -> bytes:
        self.asked.append(end + 1 - start)
        if end == self.size - 1:
            return b"x" * (end + 1 - start - len(self.tail)) + self.tail
        return b"x" * (end + 1 - start)


@pytest.mark.anyio
async def test_a_line_of_100_mb_is_passed_over() -> None:
    store = Huge()
    reader = ManifestReader(store, ObjectPath("bucket", "key"))  # type: ignore[arg-type]
    found = [pair async for pair in reader.lines()]
    assert found == [(store.size - 5, None), (store.size, b"good")]
    assert max(store.asked) <= 4 * 2**20, "it is read in pieces"
