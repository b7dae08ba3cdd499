"""PASCAL VOC: the document's own example, both ways round for anything that can be said, and hostile files."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bottega.objects import ObjectPath
from bottega_dataset.extension_points import DatasetType
from bottega_dataset.sample import SIZE, Annotation, BadSample, SampleRecord, identity
from bottega_dataset.types.image import ImageSegmentation, ObjectDetection
from bottega_dataset.voc import read_voc

EXAMPLE = b"""
<annotation>
  <folder>test_data</folder>
  <filename>260730932.jpg</filename>
  <size><width>767</width><height>959</height><depth>3</depth></size>
  <segmented>0</segmented>
  <object><name>point</name><pose>Unspecified</pose><truncated>0</truncated><occluded>0</occluded>
    <difficult>0</difficult><point><x1>456</x1><y1>596</y1></point></object>
  <object><name>line</name><pose>Unspecified</pose><truncated>0</truncated><occluded>0</occluded>
    <difficult>0</difficult><line><x1>133</x1><y1>651</y1><x2>229</x2><y2>561</y2></line></object>
  <object><name>bag</name><pose>Unspecified</pose><truncated>0</truncated><occluded>0</occluded>
    <difficult>0</difficult><bndbox><xmin>108</xmin><ymin>101</ymin><xmax>251</xmax><ymax>238</ymax></bndbox></object>
  <object><name>boots</name><pose>Unspecified</pose><truncated>0</truncated><occluded>0</occluded>
    <difficult>0</difficult><polygon><x1>373</x1><y1>264</y1><x2>500</x2><y2>198</y2><x3>437</x3><y3>76</y3>
    <x4>310</x4><y4>142</y4></polygon></object>
  <object><name>circle</name><pose>Unspecified</pose><truncated>0</truncated><occluded>0</occluded>
    <difficult>0</difficult><circle><cx>405</cx><cy>170</cy><r>100</r></circle></object>
</annotation>
"""
FOLDER = ObjectPath("out", "animals-1/annotation/V001/")
LAUGHS = b"""<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>
<annotation><object><name>&b;</name></object></annotation>"""


def one_object(inner: str) -> bytes:
    return f"<annotation><object><name>cat</name>{inner}</object></annotation>".encode()


def test_the_example_of_the_document() -> None:
    voc = read_voc(EXAMPLE, "object_detection")
    assert (voc.folder, voc.filename, voc.size, voc.segmented) == ("test_data", "260730932.jpg", [767, 959, 3], False)
    assert [(one.name, *(one.property or {}).values()) for one in voc.objects] == [
        ("point", "point", [[456, 596]]),
        ("line", "line", [[133, 651], [229, 561]]),
        ("bag", "bndbox", [[108, 101], [251, 238]]),
        ("boots", "polygon", [[373, 264], [500, 198], [437, 76], [310, 142]]),
        ("circle", "circle", [[405, 170], [100]]),
    ]
    record = SampleRecord("s3://in/260730932.jpg", [*voc.objects], property={SIZE: [767, 959, 3]})
    ObjectDetection().check_annotations(record)


def test_a_point_in_the_form_of_the_table() -> None:
    (one,) = read_voc(one_object("<point><x>100</x><y>100.5</y></point>"), "object_detection").objects
    assert one.property == {"@modelarts:shape": "point", "@modelarts:feature": [[100, 100.5]]}


def test_what_voc_says_besides_the_shape() -> None:
    data = one_object(
        "<pose>Left</pose><truncated>1</truncated><occluded>1</occluded><difficult>1</difficult>"
        "<confidence>0.8</confidence><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>3</xmax><ymax>4</ymax></bndbox>"
    )
    said = Annotation("object_detection", hard=True, annotated_by="human/ann", created_at=1000)
    (one,) = read_voc(data, "object_detection", said).objects
    assert one.property is not None
    assert {k: v for k, v in one.property.items() if k not in ("@modelarts:shape", "@modelarts:feature")} == {
        "@modelarts:pose": "Left",
        "@modelarts:truncated": 1,
        "@modelarts:occluded": 1,
        "@modelarts:difficult": 1,
    }
    assert (one.confidence, one.hard, one.annotated_by, one.created_at) == (0.8, True, "human/ann", 1000)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (LAUGHS, "document type"),
        (b"<annotation>", "not XML"),
        (b"", "not XML"),
        (b"\xff\xfe", "not XML"),
        (b'<?xml version="1.0" encoding="martian"?><annotation/>', "not XML"),
        (b"<a>" * 100 + b"</a>" * 100, "deep"),
        (b"<annotation>" + b" " * (16 * 2**20) + b"</annotation>", "16 MB"),
        (b"<html/>", "<html>"),
        (b"<annotation><object/></annotation>", "object[0] has no <name>"),
        (b"<annotation><size><width>wide</width></size></annotation>", "size.width 'wide'"),
        (one_object("<bndbox><xmin>1</xmin></bndbox>"), "object[0].bndbox.ymin is missing"),
        (one_object("<bndbox><xmin>1</xmin><ymin>nan</ymin></bndbox>"), "object[0].bndbox.ymin 'nan'"),
        (one_object("<polygon><x1>1</x1><y1>1</y1><x3>1</x3><y3>1</y3></polygon>"), "polygon.x2 is missing"),
        (one_object("<line><x1>1</x1></line>"), "pairs"),
        (one_object("<line/><circle/>"), "two shapes: line and circle"),
        (one_object("<bndbox/><bndbox/>"), "two shapes: bndbox and bndbox"),
        (one_object("<truncated>maybe</truncated>"), "object[0].truncated 'maybe'"),
        (one_object("<confidence>2</confidence>"), "object[0].confidence '2'"),
        (one_object("<rle>{</rle>"), "object[0].rle is not JSON"),
    ],
)
def test_the_place_and_the_rule_are_named(data: bytes, says: str) -> None:
    with pytest.raises(BadSample) as refused:
        read_voc(data, "object_detection")
    assert says in str(refused.value)


settings.register_profile("loaded", suppress_health_check=[HealthCheck.too_slow], deadline=None)
settings.load_profile("loaded")  # a machine with other work is no failure
TEXTS = st.text("ab \x00\t\n\r<&>'\"]猫\x85\ufffe\U0001f600", max_size=6)
NUMBERS = st.integers(0, 2000) | st.floats(0, 2000)
POINT = st.tuples(NUMBERS, NUMBERS).map(list)


def points(least: int, most: int) -> st.SearchStrategy[list[list[float]]]:
    return st.lists(POINT, min_size=least, max_size=most)


BOXES = st.tuples(NUMBERS, NUMBERS, st.integers(1, 99), st.floats(0.5, 99)).map(
    lambda b: [[b[0], b[1]], [b[0] + b[2], b[1] + b[3]]]
)
CIRCLES = st.tuples(POINT, st.integers(1, 99) | st.floats(0.1, 9)).map(lambda c: [c[0], [c[1]]])
FEATURES: dict[str, st.SearchStrategy[Any]] = {
    "point": points(1, 1),
    "line": points(2, 2),
    "dashed": points(2, 2),
    "polyline": points(2, 5),
    "polygon": points(3, 6),
    "bndbox": BOXES,
    "circle": CIRCLES,
}
SHAPES = st.sampled_from(sorted(FEATURES)).flatmap(
    lambda shape: st.fixed_dictionaries({"@modelarts:shape": st.just(shape), "@modelarts:feature": FEATURES[shape]})
)
POLYGONS = st.fixed_dictionaries({"@modelarts:shape": st.just("polygon"), "@modelarts:feature": points(3, 6)})
MASKS = st.fixed_dictionaries(
    {
        "@modelarts:mask": st.one_of(
            st.integers(0, 12).map(lambda n: {"size": [3, 4], "counts": [n, 12 - n]}),
            st.just({"size": [3, 4], "counts": "52203"}),
            st.just("s3://masks/a.png"),
        )
    }
)
ASIDE = st.fixed_dictionaries(
    {},
    optional={
        "@modelarts:pose": TEXTS.filter(lambda t: t not in ("", "Unspecified")),
        "@modelarts:truncated": st.just(1),
        "@modelarts:occluded": st.just(1),
        "@modelarts:difficult": st.just(1),
        "color": TEXTS | st.booleans() | st.none() | st.lists(TEXTS, max_size=2) | st.integers(-9, 9),
        "\x00 odd\r": TEXTS,
    },
)


def records(kind: str, areas: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[SampleRecord]:
    annotation = st.builds(
        Annotation,
        type=st.just(kind),
        name=st.text("abc猫_-1", min_size=1, max_size=32),
        property=st.tuples(areas, ASIDE).map(lambda parts: parts[0] | parts[1]),
        hard=st.none() | st.booleans(),
        annotated_by=TEXTS,
        created_at=st.none() | st.integers(0, 2**31).map(lambda s: s * 1000),
        confidence=st.none() | st.floats(0, 1),
        id=st.none() | TEXTS.filter(bool),
    )
    return st.builds(
        SampleRecord,
        source=st.sampled_from(["s3://in/a/b c.jpg", "s3://in/1.png", "https://host/x.jpg?size=1"]),
        annotations=st.lists(annotation, max_size=4),
        id=st.just("0" * 32),
        property=st.none() | st.just({SIZE: [3000, 3000, 3]}) | st.just({SIZE: [3000, 3000]}) | st.just({"a": 1}),
    )


def is_kept(kind: DatasetType, record: SampleRecord) -> None:
    published, files = kind.published(record, FOLDER)
    located = {one.loc: files[ObjectPath.parse(one.loc)] for one in published.annotations if one.loc}
    assert [str(path).startswith(str(FOLDER)) for path in files] == [True] * len(files)
    again = kind.expanded(published, located)
    assert again == record
    assert kind.published(again, FOLDER) == (published, files)


@given(records("object_detection", SHAPES))
def test_objects_are_the_same_after_publishing(record: SampleRecord) -> None:
    is_kept(ObjectDetection(), record)


@given(records("image_segmentation", POLYGONS | MASKS | st.tuples(POLYGONS, MASKS).map(lambda p: p[0] | p[1])))
def test_areas_are_the_same_after_publishing(record: SampleRecord) -> None:
    is_kept(ImageSegmentation(), record)


def test_masks_are_drawn() -> None:
    import io

    from PIL import Image

    masks = [{"size": [2, 3], "counts": [1, 2, 3]}, {"size": [2, 3], "counts": "33"}]
    said = [Annotation("image_segmentation", "a", {"@modelarts:mask": mask}) for mask in masks]
    record = SampleRecord("s3://in/a.jpg", said, id="../1")
    _, files = ImageSegmentation().published(record, FOLDER)
    drawn = Image.open(io.BytesIO(files[FOLDER / f"{identity(record).hex()}-a.png"])).convert("RGB")
    assert drawn.size == (3, 2)
    red, green, black = (128, 0, 0), (0, 128, 0), (0, 0, 0)
    assert [[drawn.getpixel((x, y)) for x in range(3)] for y in range(2)] == [[black, red, green], [red, green, green]]
    assert b"<mask_color>0,128,0</mask_color>" in files[FOLDER / f"{identity(record).hex()}-a.xml"]


@given(st.binary(max_size=100) | TEXTS.map(lambda t: f"<annotation><object>{t}</object></annotation>".encode()))
@example(EXAMPLE[:-20])
def test_anything_else_is_a_bad_sample_and_never_more(data: bytes) -> None:
    try:
        read_voc(data, "object_detection")
    except BadSample as e:
        assert str(e)  # noqa: PT017  # a parsed file is as fine as a refused one


TAGS = st.sampled_from(
    ["object", "name", "size", "width", "bndbox", "xmin", "polygon", "x1", "y1", "circle", "point", "x", "confidence",
     "hard", "creation_time", "attributes", "attribute", "value", "rle", "mask_source", "id", "truncated"]
)  # fmt: skip
TREES = st.recursive(
    st.sampled_from(["", "1", "-3", "1e400", "0.5", "nan", "x", "[1]", "{", "2020-01-01", "9" * 30]),
    lambda inner: st.lists(st.tuples(TAGS, st.sampled_from(["", ' type="json"']), inner), max_size=4).map(
        lambda parts: "".join(f"<{tag}{attribute}>{text}</{tag}>" for tag, attribute, text in parts)
    ),
    max_leaves=12,
)


@given(TREES)
def test_elements_in_any_order_are_bad_samples_and_never_more(inner: str) -> None:
    kind = ObjectDetection()
    for text in (inner, f"<object><name>cat</name>{inner}</object>"):
        record = SampleRecord("s3://in/a.jpg", [Annotation("object_detection", loc="s3://in/a.xml")])
        try:
            kind.check_annotations(
                kind.expanded(record, {"s3://in/a.xml": f"<annotation>{text}</annotation>".encode()})
            )
        except BadSample as e:
            assert str(e)  # noqa: PT017  # see above
