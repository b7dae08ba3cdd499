"""CVAT for images 1.1: one XML file of images with their shapes and tags (https://docs.cvat.ai/docs/other/xml_format).

Tags for classified images; boxes, polygons, polylines, points, ellipses and masks. What CVAT has no field for stands in
``<attribute>`` elements, as the attributes of its labels do.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, SubElement, tostring
from xml.sax.saxutils import escape

import anyio.to_thread
import orjson

from bottega.errors import Invalid
from bottega.hookspecs import hookimpl
from bottega.objects import ObjectPath
from bottega_dataset.extension_points import Exporter, ExportRequest, Importer, ImportRequest
from bottega_dataset.formats import outlines
from bottega_dataset.formats.coco import find_root
from bottega_dataset.formats.outlines import SUBSET_OF, confidence_of, number, shape_of
from bottega_dataset.formats.reading import SHOWN, Entry, FileImporter, Reader, inside, label_of
from bottega_dataset.media import MAX_PIXELS, ImageInfo, off_loop
from bottega_dataset.sample import SIZE, Annotation, BadSample, SampleRecord
from bottega_dataset.types.geometry import FEATURE, MASK, OCCLUDED, SHAPE
from bottega_dataset.xml_reader import read_elements

CLASSIFICATION, DETECTION, SEGMENTATION = 0, 1, 3
_ABSOLUTE = ("s3://", "obs://", "https://", "http://")
_WHOLE = re.compile(r"\d{1,6}", re.ASCII)
_CONFIDENCE, _ID = "confidence", "id"
_OF_POINTS = {"polygon": "polygon", "polyline": "polyline", "line": "polyline", "dashed": "polyline", "point": "points"}


def encode(record: SampleRecord, name: str, size: ImageInfo, number: int) -> tuple[Element, list[str]]:
    """A sample as an ``<image>``, and what of it CVAT cannot carry."""
    wide = {"width": str(size.width), "height": str(size.height)}
    image = Element("image", {"id": str(number), "name": name, "subset": SUBSET_OF[record.usage], **wide})
    notes: list[str] = []
    for index, one in enumerate(record.annotations):
        try:
            _write(image, one, size)
        except BadSample as e:
            notes.append(f"annotation[{index}]: {e}")
    return image, notes


def decode(image: Element, code: int, kind: str) -> tuple[SampleRecord, list[str]]:
    """The sample of an ``<image>``, its source as the file names it. Raises BadSample."""
    name = image.get("name")
    if not name:
        raise BadSample("the image has no name")
    given = (image.get("width", ""), image.get("height", ""))
    size = [int(text) if _WHOLE.fullmatch(text) else 0 for text in given]
    record = SampleRecord(name, property={SIZE: size} if all(size) else None)
    record.usage = outlines.usage_of(image.get("subset", ""))
    notes: list[str] = []
    for element in image:
        try:
            record.annotations.append(_read(element, size, code, kind))
        except BadSample as e:
            notes.append(f"{element.tag} '{element.get('label', '')[:40]}': {e}")
    return record, notes


def _write(image: Element, one: Annotation, size: ImageInfo) -> None:
    shape, feature = shape_of(one)
    mask = (one.property or {}).get(MASK)
    more = outlines.extras(one)
    given = {"label": one.name, "source": "manual" if one.annotated_by == "human" else "auto"}
    hidden = more.get(OCCLUDED)
    is_hidden = type(hidden) is int and hidden == 1 and bool(shape or mask)
    occluded = {"occluded": "1" if is_hidden else "0", "z_order": "0"}
    if is_hidden:
        del more[OCCLUDED]
    if shape in ("line", "dashed"):
        more[SHAPE] = shape
    if one.confidence is not None:
        more[_CONFIDENCE] = one.confidence
    if one.id is not None:
        more[_ID] = one.id
    if mask is not None:
        if isinstance(mask, str) or shape:
            raise BadSample("CVAT carries a polygon or run lengths; no PNG file, not both")
        element = SubElement(image, "mask", given | occluded | _mask_attributes(mask, size))
    elif shape == "bndbox":
        corners = dict(zip(("xtl", "ytl", "xbr", "ybr"), map(_text, outlines.flat(feature)), strict=True))
        element = SubElement(image, "box", given | occluded | corners)
    elif shape == "circle":
        (cx, cy), (r,) = feature
        round_ = {"cx": _text(cx), "cy": _text(cy), "rx": _text(r), "ry": _text(r)}
        element = SubElement(image, "ellipse", given | occluded | round_)
    elif shape in _OF_POINTS:
        points = {"points": ";".join(f"{_text(x)},{_text(y)}" for x, y in feature)}
        element = SubElement(image, _OF_POINTS[shape], given | occluded | points)
    elif not shape:
        element = SubElement(image, "tag", given)
    else:
        raise BadSample(f"CVAT carries no {shape}")
    for key, value in more.items():
        SubElement(element, "attribute", {"name": key}).text = _attribute(value)


def _read(element: Element, size: list[int], code: int, kind: str) -> Annotation:
    found = Annotation(kind, label_of(element.get("label", "")))
    more: dict[str, Any] = {}
    for one in element.iterfind("attribute"):
        more[one.get("name", "")] = _attribute_value(one.text or "")
    shape = more.pop(SHAPE, None)
    found.confidence = confidence_of(more.pop(_CONFIDENCE, None))
    ident = more.pop(_ID, None)
    found.id = ident if isinstance(ident, str) else None
    if element.get("occluded") == "1":
        more[OCCLUDED] = 1
    if number(_float(element.get("rotation", "0"))):
        raise BadSample("it is rotated; shapes here are upright")
    found.property = _outline(element, size, shape if isinstance(shape, str) else "")
    if (found.property is None) != (code == CLASSIFICATION):
        raise BadSample(f"a {element.tag} is not taken by {kind.replace('_', ' ')} datasets")
    return outlines.with_extras(found, more)


def _outline(element: Element, size: list[int], shape: str) -> dict[str, Any] | None:
    """Shape and feature, or mask; None for a tag."""

    def at(key: str) -> float:
        return number(_float(element.get(key, "")))

    if element.tag == "tag":
        return None
    if element.tag == "box":
        return {SHAPE: "bndbox", FEATURE: [[at("xtl"), at("ytl")], [at("xbr"), at("ybr")]]}
    if element.tag == "ellipse":
        if at("rx") != at("ry"):
            raise BadSample("an ellipse is no circle")
        return {SHAPE: "circle", FEATURE: [[at("cx"), at("cy")], [at("rx")]]}
    if element.tag == "mask":
        return {MASK: _mask(element, size)}
    if element.tag not in ("polygon", "polyline", "points"):
        raise BadSample("this kind of shape is not read")
    pairs = [pair.split(",") for pair in element.get("points", "").split(";")]
    if any(len(pair) != 2 for pair in pairs):
        raise BadSample("points must look like x,y;x,y")
    feature = [[number(_float(x)), number(_float(y))] for x, y in pairs]
    if element.tag == "points":
        if len(feature) > 1:
            raise BadSample("several points at once; a point here is one")
        return {SHAPE: "point", FEATURE: feature}
    return {SHAPE: shape if shape in ("line", "dashed") else element.tag, FEATURE: feature}


def _mask_attributes(mask: Mapping[str, Any], size: ImageInfo) -> dict[str, str]:
    """CVAT's mask: run lengths row after row, of the rectangle it lies in."""
    width, height, pixels = outlines.bitmap_of(mask)
    if (width, height) != (size.width, size.height):
        raise BadSample("the mask is not as large as its image")
    rows = [pixels[at : at + width] for at in range(0, len(pixels), width)]
    used = [index for index, row in enumerate(rows) if 1 in row] or [0]
    rows = rows[used[0] : used[-1] + 1]
    left = min((row.find(1) for row in rows if 1 in row), default=0)
    right = max((row.rfind(1) for row in rows), default=0)
    cut = b"".join(row[left : max(right, left) + 1] for row in rows)
    return {
        "rle": ", ".join(map(str, outlines.runs_of_bytes(cut))),
        "left": str(left),
        "top": str(used[0]),
        "width": str(max(right, left) - left + 1),
        "height": str(len(rows)),
    }


def _mask(element: Element, size: list[int]) -> dict[str, Any]:
    width, height = size
    try:
        counts = [int(count) for count in element.get("rle", "").split(",")]
        left, top, wide, high = (int(element.get(key, "")) for key in ("left", "top", "width", "height"))
    except ValueError as e:
        raise BadSample(f"rle, left, top, width and height must be whole numbers: {e}") from e
    inside_ = left >= 0 and top >= 0 and 0 < wide <= width - left and 0 < high <= height - top
    if not inside_ or width * height > MAX_PIXELS or min(counts) < 0 or sum(counts) != wide * high:
        raise BadSample(f"rle must fill {wide} x {high} pixels at {left}, {top} of an image of {width} x {height}")
    cut = b"".join((b"\x01" if index % 2 else b"\x00") * count for index, count in enumerate(counts))
    before, behind = bytes(left), bytes(width - left - wide)
    rows = [before + cut[at : at + wide] + behind for at in range(0, len(cut), wide)]
    pixels = bytes(top * width) + b"".join(rows) + bytes((height - top - high) * width)
    return outlines.mask_of_bitmap(width, height, pixels)


def _text(value: float) -> str:
    return repr(number(value))


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError as e:
        raise BadSample(f"'{text[:40]}' is no number") from e


def _attribute(value: Any) -> str:
    """A text as it is, everything else as JSON; and a text that could be taken for JSON, too."""
    if isinstance(value, str):
        try:
            orjson.loads(value)
        except orjson.JSONDecodeError:
            return value
    return orjson.dumps(value).decode()


def _attribute_value(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


class CvatExporter:
    """``annotations.xml`` and ``images/<subset>/…``."""

    export_format = "cvat"
    dataset_types = frozenset({CLASSIFICATION, DETECTION, SEGMENTATION})

    async def write(self, request: ExportRequest) -> None:
        folder = request.folder
        out = folder.open("annotations.xml")
        out.write(b'<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n<meta><task>')
        labels = "".join(f"<label><name>{escape(name)}</name></label>" for name in request.labels)
        name = f"<name>{escape(request.name)}</name>"
        out.write(f"{name}<mode>annotation</mode><labels>{labels}</labels></task></meta>\n".encode())
        count = 0
        async for batch in request.samples:
            sized = await folder.sized(batch)
            names = {id(r): f"images/{SUBSET_OF[r.usage]}/{folder.name_of(r)}" for r, _ in sized}
            there = {id(r) for r in await folder.copy([(r, names[id(r)]) for r, _ in sized])}
            for record, size in sized:
                if id(record) not in there:
                    continue
                name = names[id(record)] if folder.copies else record.source
                image, notes = await off_loop(partial(encode, record, name, size, count))
                count += 1
                for note in notes:
                    folder.note(record, note)
                out.write(tostring(image, "utf-8") + b"\n")
        out.write(b"</annotations>\n")


class CvatImporter(FileImporter):
    """The images of an XML file, in their order. They are looked for beside it, and in ``images``."""

    import_type = "cvat"
    dataset_types = frozenset({CLASSIFICATION, DETECTION, SEGMENTATION})
    suffixes = (".xml",)

    async def open(self, request: ImportRequest, source: ObjectPath, local: Path) -> Reader:
        images = _Images(local, str(source), request.dataset_type.code, request.dataset_type.annotation_type)
        name = await anyio.to_thread.run_sync(images.first_name)
        beside = ObjectPath(source.bucket, source.key.rpartition("/")[0])
        relative = name and not name.startswith(_ABSOLUTE)
        images.root = await find_root(request.store, source, "", name) if name and relative else beside
        return images


class _Images(Reader):
    def __init__(self, file: Path, place: str, code: int, kind: str) -> None:
        self._file = file
        self._place = place
        self._code = code
        self._kind = kind
        self._size = max(1, file.stat().st_size)
        self.root: ObjectPath

    def first_name(self) -> str | None:
        """Raises Invalid when the file goes wrong before its first image."""
        try:
            with self._file.open("rb") as file:
                for image in read_elements(file, "image"):
                    return image.get("name")
                file.seek(0)
                if next(read_elements(file, "track"), None) is not None:
                    raise Invalid(f"{self._place} is of a video; export it from CVAT as 'CVAT for images 1.1'")
        except BadSample as e:
            raise Invalid(f"{self._place}: {e}") from e
        return None

    def entries(self) -> Iterator[Entry]:
        n = 0
        try:
            with self._file.open("rb") as file:
                for n, image in enumerate(read_elements(file, "image"), 1):
                    self.progress = min(1.0, file.tell() / self._size)
                    yield self._entry(n, image)
        except BadSample as e:
            yield Entry(f"{self._place}, behind image {n}", reason=str(e))

    def _entry(self, n: int, image: Element) -> Entry:
        place, shown = f"{self._place}, image {n}", image.get("name", "")[:SHOWN]
        try:
            record, notes = decode(image, self._code, self._kind)
            record.source = inside(self.root, record.source)
        except BadSample as e:
            return Entry(place, reason=str(e), text=shown)
        record.name = record.source.rpartition("/")[2]
        return Entry(place, record, text=shown, notes=notes)


@hookimpl
def bottega_dataset_importers() -> Iterable[Importer]:
    return [CvatImporter()]


@hookimpl
def bottega_dataset_exporters() -> Iterable[Exporter]:
    return [CvatExporter()]
