"""What makes large imports, versions and comparisons fast gives the same as the plain way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bottega_dataset import version_index
from bottega_dataset.manifest import format_line, parse_line
from bottega_dataset.packing import pack
from bottega_dataset.parsing import Parser
from bottega_dataset.sample import EVERYTHING, USAGES, Annotation, Choice, SampleRecord, identity
from bottega_dataset.snapshot import Form, Split, content, together
from bottega_dataset.types.image import ImageClassification
from bottega_dataset.types.text import TextClassification
from bottega_dataset.version_index import Index, IndexWriter, differences

settings.register_profile("loaded", suppress_health_check=[HealthCheck.too_slow], deadline=None)
settings.load_profile("loaded")  # a machine with other work is no failure

TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12).filter(lambda t: t.strip())
SAID = st.builds(
    Annotation,
    type=st.just("image_classification"),
    name=st.sampled_from(["cat", "dog", "a_very-long_label"]),
    property=st.none() | st.dictionaries(TEXTS, st.integers(-(2**53), 2**53) | TEXTS, min_size=1, max_size=2),
    hard=st.none() | st.booleans(),
    annotated_by=TEXTS,
    created_at=st.none() | st.integers(0, 2_000_000_000).map(lambda s: s * 1000),
    confidence=st.none() | st.floats(0, 1),
    id=st.none() | TEXTS,
)
RECORDS = st.builds(
    SampleRecord,
    source=st.one_of(
        st.integers(0, 30).map(lambda n: f"s3://a-bucket/folder/{n}.jpg"),
        TEXTS.map(lambda t: "https://host/" + t.replace("/", "_") + ".png"),
    ),
    annotations=st.lists(SAID, max_size=3, unique_by=lambda one: one.name),
    usage=st.none() | st.sampled_from(USAGES),
    id=st.none() | TEXTS,
    inference_loc=st.none() | TEXTS,
    size=st.none() | st.integers(0, 2**40),
    modified_at=st.none() | st.integers(0, 2**42),
    property=st.none() | st.dictionaries(TEXTS, st.integers(0, 9), min_size=1, max_size=2),
)
# Lines as they come from elsewhere: nearly right, in all ways.
VALUES: Any = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 2), st.floats(-1, 2), st.sampled_from(["", "true", "False", "1", "cat"])
)
LINES = st.fixed_dictionaries(
    {"source": st.sampled_from(["s3://a-bucket/a/1.jpg", "s3://a-bucket/.a/1.jpg", "content://a", "s3://b/", 3, "x"])},
    optional={
        "usage": st.sampled_from(["TRAIN", "eval", "", None, 3, []]),
        "id": st.sampled_from([None, "x", identity(SampleRecord("s3://a-bucket/a/1.jpg")).hex(), 7]),
        "other": st.just(1),
        "annotation": st.lists(
            st.fixed_dictionaries(
                {"type": st.sampled_from(["modelarts/image_classification", "image_classification", "x", None])},
                optional={
                    "name": VALUES | st.just("dog"),
                    "hard": VALUES,
                    "annotated-by": VALUES | st.just("human/ann"),
                    "creation-time": st.sampled_from(["2019-01-23 11:30:30", "yesterday", "", None, 5]),
                    "confidence": VALUES,
                    "property": st.sampled_from([None, {}, {"color": "white"}, 3]),
                },
            )
            | VALUES,
            max_size=3,
        )
        | VALUES,
    },
)


class Carefully(ImageClassification):
    """The same type, of which every line goes the slow way."""

    labels_alone = False


def parsed(kind: Any, block: bytes, choice: Choice = EVERYTHING) -> tuple[Any, ...]:
    found = Parser(kind, choice, "m")(block, 1)
    return list(found.samples), found.samples.ids, found.problems, found.left_out


@given(st.lists(LINES, max_size=6))
@example([{"source": "s3://a-bucket/a/1.jpg", "annotation": [{"type": "image_classification", "name": "cat"}] * 2}])
@example([{"source": "s3://a-bucket/a/1.jpg", "annotation": [{"type": "image_classification", "hard": 1.0}]}])
def test_plain_lines_are_read_as_any_others(lines: list[dict[str, Any]]) -> None:
    block = b"\n".join(json.dumps(line).encode() for line in lines)
    assert parsed(ImageClassification(), block) == parsed(Carefully(), block)


@given(st.lists(RECORDS, max_size=8), st.sets(st.integers(0, 7)))
def test_records_come_out_of_a_pack_as_they_went_in(records: list[SampleRecord], gone: set[int]) -> None:
    found, left = pack(records)
    assert not left
    for record in records:
        record.id = record.id or identity(record).hex()
    assert list(found) == records
    assert [source for _, source in found.sources()] == [record.source for record in records]
    gone = {n for n in gone if n < len(records)}
    rest = found.without(gone)
    assert list(rest) == [record for n, record in enumerate(records) if n not in gone]
    assert len(rest) == len(records) - len(gone)


def test_a_text_no_database_keeps_is_refused() -> None:
    lines = [
        b'{"source": "content://a\\u0000b"}',
        b'{"source": "content://a", "id": "x\\u0000"}',
        b'{"source": "content://a"}',
    ]
    samples, _, problems, *_ = parsed(TextClassification(), b"\n".join(lines))
    assert [one.source for one in samples] == ["content://a"]
    assert [one.place for one in problems] == ["m, line 1", "m, line 2"]
    assert all("NUL" in one.reason for one in problems)


def test_what_is_chosen_is_counted() -> None:
    said = {"type": "image_classification", "name": "cat"}
    lines = [{"source": f"s3://b-1/{n}.jpg", "annotation": [said | ({"hard": "true"} if n else {})]} for n in range(3)]
    block = b"\n".join(json.dumps(line).encode() for line in [*lines, {"source": "s3://b-1/3.jpg"}])
    samples, _, _, left_out = parsed(ImageClassification(), block, Choice(hard_only=True, annotations=False))
    assert [(one.source[-5:], one.annotations) for one in samples] == [("1.jpg", []), ("2.jpg", [])]
    assert left_out == 2


@given(st.lists(RECORDS, max_size=5))
def test_lines_are_written_as_records_are(records: list[SampleRecord]) -> None:
    names = {1: "cat", 2: "dog", 3: "a_very-long_label"}
    keys = {name: key for key, name in names.items()}
    form = Form("image_classification", names)
    for record in [*records, *records]:
        ident = identity(record)
        record.id, record.name, record.size, record.modified_at = record.id or ident.hex(), "", None, None
        extra = {"id": record.id, "property": record.property, "inference-loc": record.inference_loc}
        said: Any = [
            (
                keys[one.name],
                None,
                json.dumps(one.property) if one.property else None,
                one.hard,
                one.annotated_by,
                one.created_at,
                one.confidence,
                one.id,
            )
            for one in record.annotations
        ]
        row = (1, ident, record.source, record.usage, json.dumps(extra), said)
        line, what = form.line(row, record.usage)
        assert line == format_line(record) == format_line(form.record(row))
        again = parse_line(line).annotations
        assert what == together([content(one) for one in again[::-1]])


KEPT = st.dictionaries(st.integers(0, 60), st.integers(0, 2), max_size=60)


@settings(max_examples=60)
@given(KEPT, KEPT, st.integers(2, 7))
def test_what_two_versions_differ_in(old: dict[int, int], new: dict[int, int], run: int) -> None:
    def key(number: int) -> bytes:
        return identity(SampleRecord(f"content://{number}"))

    with pytest.MonkeyPatch.context() as patch, IndexWriter() as first, IndexWriter() as second:
        patch.setattr(version_index, "_RUN", run)
        patch.setattr(version_index, "_SAME", run)
        patch.setattr(version_index, "_AT_ONCE", run)
        for writer, kept in ((first, old), (second, new)):
            for number, said in kept.items():
                writer.add([(key(number), bytes([said] * 8), 10 + number)])
        before, after = Index(first.finish()), Index(second.finish())
        assert (before.count, after.count) == (len(old), len(new))
        found = set()
        for change, rank, other in differences(before, after):
            ident = after.ident(other) if other >= 0 else before.ident(rank)
            assert rank < 0 or before.ident(rank) == ident
            found.add((change, ident))
        assert found == {
            *(("added", key(n)) for n in new.keys() - old.keys()),
            *(("removed", key(n)) for n in old.keys() - new.keys()),
            *(("modified", key(n)) for n in old.keys() & new.keys() if old[n] != new[n]),
        }
        begin = 0
        places = {before.ident(rank): before.place(rank) for rank in range(before.count)}
        for number in old:
            assert places[key(number)] == (begin, 10 + number)
            begin += 10 + number


def test_an_index_that_is_none_says_so(tmp_path: Path) -> None:
    from bottega.errors import Conflict

    (tmp_path / "index").write_bytes(b"BOTTIDX")
    with pytest.raises(Conflict, match="damaged"):
        Index(tmp_path / "index")


@pytest.mark.parametrize(("ratio", "used"), [(0, {"EVAL"}), (1, {"TRAIN"})])
def test_a_split_that_is_none_needs_no_preparation(ratio: float, used: set[str]) -> None:
    split = Split(ratio, 0)
    assert {split.usage(n % 3, bytes([n] * 16)) for n in range(20)} == used
