"""What strangers wrote never breaks a parser: each entry is a sample or says why it is none."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bottega.errors import ApiError
from bottega.objects import ObjectPath
from bottega_dataset.extension_points import ImportRequest
from bottega_dataset.formats import coco, csv_file, cvat, label_studio, rle_pack, rows, yolo
from bottega_dataset.formats.label_studio_results import OBJECT_OF
from bottega_dataset.formats.reading import Entry, Reader
from bottega_dataset.sample import BadSample
from bottega_dataset.types.geometry import FEATURE
from bottega_dataset.types.image import ImageClassification, ObjectDetection
from bottega_dataset.types.table import Table
from bottega_dataset.types.text import NamedEntities, TextClassification
from bottega_dataset.xml_reader import read_elements

DETECTION = "object_detection"

junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
fuzz = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def _spoiled(value: Any, draw: Callable[[Any], Any]) -> Any:
    """The same JSON with one thing in it replaced by junk, or missing."""
    if isinstance(value, dict) and value and draw(st.booleans()):
        key = draw(st.sampled_from(sorted(value)))
        changed = dict(value)
        if draw(st.booleans()):
            changed[key] = _spoiled(value[key], draw)
        else:
            del changed[key]
        return changed
    if isinstance(value, list) and value and draw(st.booleans()):
        at = draw(st.integers(0, len(value) - 1))
        return [*value[:at], _spoiled(value[at], draw), *value[at + 1 :]]
    return draw(junk)


@fuzz
@given(st.data())
def test_a_spoiled_coco_file(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    good = {
        "images": [{"id": 1, "file_name": "a.png", "width": 9, "height": 9}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "segmentation": [[1, 1, 2, 2, 3, 1]]}
        ],
        "categories": [{"id": 1, "name": "cat"}],
    }
    body = json.dumps(_spoiled(good, data.draw)).encode()
    file = tmp_path_factory.mktemp("coco") / "a.json"
    file.write_bytes(body[: data.draw(st.integers(0, len(body) * 2))])

    def read() -> Reader:
        index = coco.CocoIndex(file, "s3://pets/a.json")
        index.of(ObjectPath("pets", "images/"), None, data.draw(st.sampled_from([1, 3])), DETECTION)
        return index

    _survives(read)


RESULTS: list[Any] = [
    {"id": "a", "type": "rectanglelabels", "original_width": 9, "original_height": 9, "score": 0.5, "meta": {"x": 1},
     "value": {"x": 1, "y": 2, "width": 3, "height": 4, "rotation": 0, "rectanglelabels": ["cat"]}},
    {"id": "b", "type": "brushlabels", "original_width": 8, "original_height": 6,
     "value": {"format": "rle", "rle": rle_pack.pack([10, 20, 18]), "brushlabels": ["cat"]}},
    {"id": "c", "type": "labels", "value": {"start": 0, "end": 1, "labels": ["cat"]}},
    {"type": "relation", "from_id": "c", "to_id": "c", "direction": "right", "labels": ["is"]},
    {"id": "d", "type": "choices", "value": {"choices": ["cat"]}},
    {"id": "e", "type": "textarea", "value": {"start": 0, "end": 1, "text": ["hm"]}},
]  # fmt: skip


@fuzz
@given(st.data())
def test_a_spoiled_label_studio_file(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    code = data.draw(st.sampled_from(sorted(OBJECT_OF)))
    good = [{"data": {"text": "hello", "image": "s3://pets/a.png", "audio": "s3://pets/a.wav"},
             "annotations": [{"result": RESULTS}]}] * 2  # fmt: skip
    body = json.dumps(_spoiled(good, data.draw)).encode()
    file = tmp_path_factory.mktemp("ls") / "a.json"
    file.write_bytes(body[: data.draw(st.integers(0, len(body) * 2))])

    def read() -> Reader:
        tasks = label_studio._Tasks(file, "s3://pets/a.json", code, "kind")
        tasks.first_relative()
        tasks.root = ObjectPath("pets", "images/")
        return tasks

    _survives(read)


CVAT = b"""<?xml version="1.0"?><annotations><version>1.1</version>
<image id="0" name="a.png" width="9" height="9"><box label="cat" xtl="1" ytl="1" xbr="2" ybr="2" occluded="1">
<attribute name="confidence">0.5</attribute></box><polygon label="cat" points="1,1;2,2;3,1"/><tag label="cat"/>
<mask label="cat" rle="1, 2, 3" left="1" top="1" width="3" height="2"/></image></annotations>"""


@fuzz
@given(st.data())
def test_a_spoiled_cvat_file(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    body = bytearray(CVAT[: data.draw(st.integers(0, len(CVAT) * 2))])
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(body)))
        body[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
    file = tmp_path_factory.mktemp("cvat") / "a.xml"
    file.write_bytes(body)

    def read() -> Reader:
        images = cvat._Images(file, "s3://pets/a.xml", data.draw(st.sampled_from([0, 1, 3])), "kind")
        images.first_name()
        images.root = ObjectPath("pets", "images/")
        return images

    _survives(read)


@fuzz
@given(st.data())
def test_a_spoiled_csv_file(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    lines = st.lists(st.text('ab,"\n\r;\0é ', max_size=20), max_size=5)
    file = tmp_path_factory.mktemp("csv") / "a.csv"
    body = "text,label\n" * data.draw(st.booleans()) + "\n".join(data.draw(lines))
    file.write_bytes(body.encode()[: data.draw(st.integers(0, 200))] + data.draw(st.binary(max_size=3)))
    kind = data.draw(st.sampled_from([TextClassification(), ImageClassification(), Table()]))
    store: Any = None

    def read() -> Reader:
        reader = csv_file._Lines(ImportRequest(ObjectPath("pets", "a.csv"), kind, store, {}), file, "s3://pets/a.csv")
        reader.first_relative()
        return reader

    _survives(read)


@fuzz
@given(st.text("01. -9abcnife\n\t", max_size=80), st.sampled_from([1, 3]))
def test_a_spoiled_yolo_file(text: str, code: int) -> None:
    found, _ = yolo.decode(text, 9, 9, {0: "cat", 1: "dog"}, code, DETECTION)
    for one in found:
        for part in (one.property or {})[FEATURE]:
            assert all(0 <= value <= 9 for value in part)


@fuzz
@given(st.dictionaries(st.sampled_from(["source", "annotations", "text", "label", "image", "objects", "tokens",
                                        "ner_tags", "usage", "id", "property"]), junk))  # fmt: skip
def test_a_spoiled_row(row: dict[str, Any]) -> None:
    for kind in (TextClassification(), ImageClassification(), ObjectDetection(), NamedEntities(), Table()):
        try:
            entry = rows.decode(row, rows.Columns(list(row)), kind, "here")
        except ApiError:
            continue
        assert entry.record is not None or entry.reason


def _survives(read: Callable[[], Reader]) -> None:
    """Each entry is a sample or says why it is none; the whole file is refused by an error for its user."""
    try:
        reader = read()
    except ApiError as e:
        assert e.message  # noqa: PT017
        return
    try:
        for entry in reader.entries():
            assert isinstance(entry, Entry)
            assert entry.record is not None or entry.reason
            assert entry.place
    finally:
        reader.close()


@pytest.mark.parametrize(
    "body",
    [
        b'<!DOCTYPE a [<!ENTITY b "'
        + b"ha" * 99
        + b'"><!ENTITY c "&b;&b;&b;">]><annotations><image name="&c;"/></annotations>',
        b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotations/>',
        b"<a>" * 100,
    ],
)
def test_xml_that_means_harm(body: bytes) -> None:
    with pytest.raises(BadSample, match=r"document type|deep"):
        list(read_elements(io.BytesIO(body), "image"))
