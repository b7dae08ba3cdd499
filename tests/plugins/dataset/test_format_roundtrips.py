"""What a format carries comes back from it unchanged, whatever it is."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import fromstring, tostring

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_masks
from pycocotools.coco import COCO

from bottega_dataset.extension_points import DatasetType
from bottega_dataset.formats import coco, csv_file, cvat, label_studio, outlines, parquet, rle_pack, rows, yolo
from bottega_dataset.formats.reading import label_of
from bottega_dataset.media import ImageInfo
from bottega_dataset.sample import CONTENT, SIZE, Annotation, BadSample, SampleRecord
from bottega_dataset.types.audio import SoundClassification, SpeechContent, SpeechSegmentation
from bottega_dataset.types.geometry import FEATURE, MASK, SHAPE
from bottega_dataset.types.image import ImageSegmentation, ObjectDetection
from bottega_dataset.types.masks import run_lengths
from bottega_dataset.types.text import NamedEntities, TextClassification, TextTriplets

WIDE = ImageInfo("PNG", 640, 480, 3)
DETECTION, SEGMENTATION = "object_detection", "image_segmentation"

labels = st.text("abcXYZ09_-中文", min_size=1, max_size=8)
words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30).filter(
    str.strip
)
confidences = st.none() | st.integers(0, 1000).map(lambda n: n / 1000)
xs, ys = (st.integers(0, most * 8).map(lambda n: n / 8).map(outlines.number) for most in (640, 480))
points = st.tuples(xs, ys).map(list)
properties = st.dictionaries(
    st.sampled_from(["color", "@modelarts:occluded", "角"]), words | st.integers(-5, 5) | st.booleans(), max_size=2
)


@st.composite
def described(draw: st.DrawFn, kind: str, prop: dict[str, Any] | None = None) -> Annotation:
    """An annotation of a kind with whatever may be said besides its shape."""
    more = draw(properties)
    return Annotation(
        kind,
        draw(labels),
        {**(prop or {}), **more} or None,
        hard=draw(st.none() | st.booleans()),
        annotated_by=draw(st.sampled_from(["human", "human/ann", "modelarts/auto"])),
        created_at=draw(st.none() | st.integers(0, 4_000_000_000).map(lambda s: s * 1000)),
        confidence=draw(confidences),
    )


def plain(one: Annotation) -> Annotation:
    """Its label and outline, nothing else."""
    kept = {k: v for k, v in (one.property or {}).items() if k in (SHAPE, FEATURE)}
    return Annotation(one.type, one.name, kept)


@st.composite
def shapes(draw: st.DrawFn, kind: str, names: Sequence[str]) -> Annotation:
    name = draw(st.sampled_from(names))
    if name == "bndbox":
        (left, top), (right, bottom) = draw(points), draw(points)
        feature = [[min(left, right), min(top, bottom)], [max(left, right) + 1, max(top, bottom) + 1]]
        feature = [feature[0], [min(feature[1][0], 640), min(feature[1][1], 480)]]
        if feature[0][0] >= feature[1][0] or feature[0][1] >= feature[1][1]:
            feature = [[1, 1], [2, 2]]
    elif name == "circle":
        feature = [draw(points), [draw(st.integers(1, 300))]]
    else:
        least, most = {"polygon": (3, 6), "polyline": (2, 6), "point": (1, 1)}.get(name, (2, 2))
        feature = draw(st.lists(points, min_size=least, max_size=most))
    return draw(described(kind, {SHAPE: name, FEATURE: feature}))


@st.composite
def masks(draw: st.DrawFn, kind: str) -> Annotation:
    pixels = draw(st.binary(min_size=48, max_size=48)).translate(bytes(n & 1 for n in range(256)))
    return draw(described(kind, {MASK: outlines.mask_of_bitmap(8, 6, pixels)}))


def image(annotations: Sequence[Annotation], size: ImageInfo = WIDE) -> SampleRecord:
    return SampleRecord("s3://pets/a.png", list(annotations), property={SIZE: [size.width, size.height]})


few = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@few
@given(st.lists(shapes(DETECTION, ("bndbox", "polygon")), max_size=4))
def test_coco_boxes_and_polygons(given_: list[Annotation]) -> None:
    _same_in_coco(image(given_), 1, DETECTION)


@few
@given(st.lists(shapes(SEGMENTATION, ("polygon",)) | masks(SEGMENTATION), max_size=4))
def test_coco_areas(given_: list[Annotation]) -> None:
    _same_in_coco(image(given_, ImageInfo("PNG", 8, 6, 3)), 3, SEGMENTATION)


def _same_in_coco(record: SampleRecord, code: int, kind: str) -> None:
    names = {one.name: n for n, one in enumerate(record.annotations)}
    encoded, notes = coco.encode(record, names)
    assert notes == []
    width, height = (record.property or {})[SIZE]
    entry = {"file_name": "a.png", "width": width, "height": height}
    said = json.loads(json.dumps(encoded))
    read, problems = coco.decode(entry, said, {n: name for name, n in names.items()}, code, kind)
    assert problems == []
    assert (read.annotations, read.property) == (record.annotations, record.property)


@few
@given(st.lists(shapes(DETECTION, ("bndbox", "polygon")).map(plain), max_size=4))
def test_yolo_boxes_and_polygons(given_: list[Annotation]) -> None:
    names = {one.name: n for n, one in enumerate(given_)}
    text, notes = yolo.encode(image(given_), 640, 480, names)
    assert notes == []
    assert yolo.decode(text, 640, 480, {n: name for name, n in names.items()}, 1, DETECTION) == (given_, [])


ALL_SHAPES = ("bndbox", "polygon", "circle", "line", "dashed", "point", "polyline")


@few
@given(st.lists(shapes(DETECTION, ALL_SHAPES), max_size=4), st.sampled_from([None, "TRAIN", "EVAL", "TEST"]))
def test_cvat_shapes(given_: list[Annotation], usage: str | None) -> None:
    _same_in_cvat(replace(image(given_), usage=usage), WIDE, 1, DETECTION)


@few
@given(st.lists(described("image_classification"), max_size=3))
def test_cvat_tags(given_: list[Annotation]) -> None:
    _same_in_cvat(image(given_), WIDE, 0, "image_classification")


@few
@given(st.lists(masks(SEGMENTATION) | shapes(SEGMENTATION, ("polygon",)), max_size=3))
def test_cvat_areas(given_: list[Annotation]) -> None:
    small = ImageInfo("PNG", 8, 6, 3)
    _same_in_cvat(image(given_, small), small, 3, SEGMENTATION)


def _same_in_cvat(record: SampleRecord, size: ImageInfo, code: int, kind: str) -> None:
    # XML has no control characters, and its readers make one line end of all: CVAT's texts cannot carry them.
    for one in record.annotations:
        one.property = {
            k: v for k, v in (one.property or {}).items() if not isinstance(v, str) or v.isprintable()
        } or None
    element, notes = cvat.encode(record, "a.png", size, 0)
    assert notes == []
    read, problems = cvat.decode(fromstring(tostring(element, "utf-8")), code, kind)
    assert problems == []
    assert (read.annotations, read.usage, read.property) == (record.annotations, record.usage, record.property)


LS_SHAPES = ("bndbox", "polygon", "circle", "point")


@few
@given(st.lists(shapes(DETECTION, LS_SHAPES), min_size=1, max_size=4))
def test_label_studio_shapes(given_: list[Annotation]) -> None:
    _same_in_label_studio(image(given_), ObjectDetection(), WIDE)


@few
@given(st.lists(masks(SEGMENTATION), min_size=1, max_size=2))
def test_label_studio_brushes(given_: list[Annotation]) -> None:
    small = ImageInfo("PNG", 8, 6, 3)
    _same_in_label_studio(image(given_, small), ImageSegmentation(), small)


@few
@given(texts, st.lists(described("text_classification"), max_size=3), st.sampled_from([None, "TRAIN"]))
def test_label_studio_classified(text: str, given_: list[Annotation], usage: str | None) -> None:
    _same_in_label_studio(SampleRecord(CONTENT + text, given_, usage=usage, id="7"), TextClassification())
    said = [replace(one, type="audio_classification") for one in given_]
    _same_in_label_studio(SampleRecord("s3://pets/a.wav", said, usage=usage), SoundClassification())


@few
@given(texts, st.data())
def test_label_studio_entities_and_relations(text: str, data: st.DataObject) -> None:
    spans = st.tuples(st.integers(0, len(text) - 1), st.integers(1, len(text))).filter(lambda s: s[0] < s[1])
    found = []
    for n, (start, end) in enumerate(data.draw(st.lists(spans, min_size=2, max_size=4))):
        one = data.draw(described("text_entity", {"@modelarts:start_index": start, "@modelarts:end_index": end}))
        found.append(replace(one, id=f"e{n}" if n < 2 else None))
    relation = data.draw(described("text_triplet", {"@modelarts:from": "e0", "@modelarts:to": "e1"}))
    _same_in_label_studio(SampleRecord(CONTENT + text, [*found, relation]), TextTriplets())
    _same_in_label_studio(SampleRecord(CONTENT + text, [replace(one, id=None) for one in found]), NamedEntities())


@few
@given(st.data())
def test_label_studio_speech(data: st.DataObject) -> None:
    begin = data.draw(st.integers(0, 10**7))
    times = {
        "@modelarts:start_time": _clock(begin),
        "@modelarts:end_time": _clock(begin + data.draw(st.integers(1, 10**6))),
    }
    said = data.draw(st.fixed_dictionaries({}, optional={"@modelarts:content": texts, "@modelarts:source": texts}))
    one = data.draw(described("audio_segmentation", {**times, **said}))
    named = replace(one, name=data.draw(st.sampled_from(["", one.name])))
    _same_in_label_studio(SampleRecord("s3://pets/a.wav", [named]), SpeechSegmentation())
    spoken = Annotation("audio_content", "", {"@modelarts:content": data.draw(texts)}, confidence=one.confidence)
    _same_in_label_studio(SampleRecord("s3://pets/a.wav", [spoken]), SpeechContent())


def _clock(ms: int) -> str:
    return f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02}.{ms % 1000:03}"


def _same_in_label_studio(record: SampleRecord, kind: DatasetType, size: ImageInfo | None = None) -> None:
    task, notes = label_studio.encode(record, kind.code, size, record.source.removeprefix(CONTENT))
    assert notes == []
    read, problems = label_studio.decode(json.loads(json.dumps(task)), kind.code, kind.annotation_type)
    assert problems == []
    assert read == record


@few
@given(texts, st.lists(labels, max_size=3, unique=True), st.sampled_from([None, "EVAL"]))
def test_csv_lines(text: str, names: list[str], usage: str | None) -> None:
    record = SampleRecord(CONTENT + text, [Annotation("text_classification", n) for n in names], usage, "id 1")
    columns = ["text", "label", "usage", "id"]
    line, notes = csv_file.encode(record, 1, "", columns)
    assert notes == []
    row = dict(zip(columns, line, strict=True))
    assert rows.decode(row, rows.Columns(columns), TextClassification(), "here").record == record


@few
@given(shapes(DETECTION, ALL_SHAPES) | described(DETECTION), st.sampled_from([None, "TEST"]))
def test_parquet_rows(one: Annotation, usage: str | None) -> None:
    record = replace(image([one]), usage=usage, id="x", name="a.png", inference_loc="s3://pets/out/")
    row = parquet.encode(record, record.source)
    assert rows.decode(row, rows.Columns(list(row)), ObjectDetection(), "here").record == record


@few
@given(st.integers(1, 40), st.integers(1, 40), st.data())
def test_masks_are_those_of_coco(width: int, height: int, data: st.DataObject) -> None:
    """COCO's own library reads what we write, and we read what it writes."""
    size = width * height
    pixels = data.draw(st.binary(min_size=size, max_size=size)).translate(bytes(n & 1 for n in range(256)))
    ours = outlines.mask_of_bitmap(width, height, pixels)
    array = np.frombuffer(pixels, np.uint8).reshape(height, width)
    assert np.array_equal(coco_masks.decode(ours), array)
    theirs = coco_masks.encode(np.asfortranarray(array))
    assert ours["counts"] == theirs["counts"].decode()
    assert outlines.bitmap_of(ours) == (width, height, pixels)
    counts = run_lengths(ours, "mask")[2]
    assert list(outlines.mask_bounds(height, counts)) == coco_masks.toBbox(theirs).tolist()
    assert rle_pack.unpack(rle_pack.pack(outlines.runs_of_bytes(pixels)), width, height) == pixels


def test_cocos_own_reader_reads_our_file(tmp_path: Path) -> None:
    box = outlines.boxed(DETECTION, "cat", (10, 20, 60.5, 70))
    polygon = outlines.shaped(DETECTION, "dog", "polygon", [[1, 2], [30, 2], [15, 40]])
    out = io.BytesIO()
    file = coco._SubsetFile(out)
    file.add(
        image([box, polygon]), "a.png", WIDE, coco.encode(image([box, polygon]), {"cat": 1, "dog": 2})[0], linked=False
    )
    file.finish({"cat": 1, "dog": 2})
    (tmp_path / "a.json").write_bytes(out.getvalue())
    read = COCO(str(tmp_path / "a.json"))
    assert [c["name"] for c in read.loadCats(read.getCatIds())] == ["cat", "dog"]
    (first,) = read.loadAnns(read.getAnnIds(catIds=[1]))
    assert (first["bbox"], first["area"]) == ([10, 20, 50.5, 50], 2525)
    (second,) = read.loadAnns(read.getAnnIds(catIds=[2]))
    assert read.annToMask(second).sum() == pytest.approx(second["area"], rel=0.1)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("traffic light", "traffic_light"), ("a/b (c)", "a_b_c"), ("人", "人"), ("ok-1_x", "ok-1_x"), (7, "7")],
)
def test_labels_of_other_tools_are_made_to_fit(name: Any, expected: str) -> None:
    assert label_of(name) == expected


@pytest.mark.parametrize("name", ["", "!!!", "x" * 33])
def test_labels_that_cannot_be_made_to_fit(name: str) -> None:
    with pytest.raises(BadSample, match="breaks the rule"):
        label_of(name)
