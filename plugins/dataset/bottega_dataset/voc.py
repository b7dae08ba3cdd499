"""PASCAL VOC files: the annotations of one image (002 §2.3.2.2, tables 2-6 and 2-7).

The document prints ``<x>100<x>`` for ``<x>100</x>``, and a point as ``x``, ``y`` in its table and as ``x1``, ``y1`` in
its example: both are read, the latter written. What VOC has no element for stands in elements of ours, which other
readers pass over: ``attributes`` (CVAT's), ``hard``, ``annotated_by``, ``creation_time``, ``id``, ``rle``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import orjson

from bottega_dataset.manifest import format_time, parse_time
from bottega_dataset.sample import Annotation, BadSample
from bottega_dataset.types.geometry import DIFFICULT, FEATURE, MASK, OCCLUDED, POINTS, POSE, SHAPE, TRUNCATED
from bottega_dataset.types.masks import color_of
from bottega_dataset.xml_reader import read_xml

MASK_COLOR = "@modelarts:mask_color"
_FLAGS = {"truncated": TRUNCATED, "occluded": OCCLUDED, "difficult": DIFFICULT}
_UNSPECIFIED = "Unspecified"
_NUMBER = re.compile(r"[-+]?(?:\d{1,15}(\.\d{0,20})?|(\.\d{1,20}))([eE][-+]?\d{1,3})?", re.ASCII)
_UNSAFE = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What no XML 1.0 file can hold, and what readers change: a carriage return."""
_BNDBOX, _CIRCLE = ("xmin", "ymin", "xmax", "ymax"), ("cx", "cy", "r")


@dataclass(frozen=True, slots=True)
class Voc:
    """What a file says: the image it is about, and the objects on it.

    `size` is width, height and, where known, depth. `mask_source` is the path of a PNG in which object n, from 0, is
    drawn in the color n + 1 of VOC (`masks.color_of`).
    """

    folder: str
    filename: str
    size: Sequence[int] | None
    segmented: bool
    objects: Sequence[Annotation]
    mask_source: str | None = None


def read_voc(data: bytes, annotation_type: str, given: Annotation | None = None) -> Voc:
    """Read a file. Raises BadSample, naming the object and the element.

    :param given: says what the file does not: who annotated and when, and whether it is hard.
    """
    root = read_xml(data)
    if root.tag != "annotation":
        raise BadSample(f"<{root.tag}> is not the <annotation> of a PASCAL VOC file")
    mask_source = _optional(root, "mask_source", "annotation") or ""
    base = given or Annotation(annotation_type)
    objects = [
        _object(element, annotation_type, base, mask_source, f"object[{index}]")
        for index, element in enumerate(root.iterfind("object"))
    ]
    segmented = _text(root, "segmented") == "1"
    return Voc(_text(root, "folder"), _text(root, "filename"), _size(root), segmented, objects, mask_source or None)


def write_voc(voc: Voc, given: Annotation) -> bytes:
    """Write a file, the same bytes for the same content.

    :param given: what a manifest says of all objects at once and need not be said again.
    """
    root = Element("annotation")
    _add(root, "folder", _UNSAFE.sub("?", voc.folder))
    _add(root, "filename", _UNSAFE.sub("?", voc.filename))
    size = SubElement(root, "size")
    for tag, value in zip(("width", "height", "depth"), [*(voc.size or ()), 0, 0, 0], strict=False):
        _add(size, tag, str(value))
    _add(root, "segmented", str(int(voc.segmented)))
    if voc.mask_source:
        _add_value(root, "mask_source", voc.mask_source)
    for index, one in enumerate(voc.objects):
        color = ",".join(map(str, color_of(index + 1))) if voc.mask_source else ""
        _write_object(SubElement(root, "object"), one, given, voc.mask_source, color)
    indent(root)
    written: bytes = tostring(root, "utf-8", xml_declaration=True)
    return written + b"\n"


def _object(element: Element, annotation_type: str, given: Annotation, mask_source: str, where: str) -> Annotation:
    name = _text(element, "name")
    if not name:
        raise BadSample(f"{where} has no <name>")
    prop: dict[str, Any] = {**(given.property or {}), **_attributes(element, where)}
    prop.update(_shape(element, where))
    pose = _optional(element, "pose", where)
    if pose and pose != _UNSPECIFIED:
        prop[POSE] = pose
    for tag, key in _FLAGS.items():
        flag = _text(element, tag)
        if flag not in ("", "0", "1"):
            raise BadSample(f"{where}.{tag} '{flag}' must be 0 or 1")
        if flag == "1":
            prop[key] = 1
    prop.update(_mask(element, mask_source, where))
    confidence = _text(element, "confidence")
    hard, by, created = (element.find(tag) for tag in ("hard", "annotated_by", "creation_time"))
    return Annotation(
        type=annotation_type,
        name=name,
        property=prop or None,
        hard=given.hard if hard is None else _hard(hard, where),
        annotated_by=given.annotated_by if by is None else str(_value(by, f"{where}.annotated_by")),
        created_at=given.created_at if created is None else parse_time(created.text) if created.text else None,
        confidence=_confidence(confidence, where) if confidence else given.confidence,
        id=_optional(element, "id", where),
    )


def _write_object(element: Element, one: Annotation, given: Annotation, mask_source: str | None, color: str) -> None:
    prop = dict(one.property or {})
    _add(element, "name", one.name)
    _add_value(element, "pose", prop.pop(POSE, _UNSPECIFIED))
    for tag, key in _FLAGS.items():
        _add(element, tag, str(prop.pop(key, 0)))
    if one.confidence is not None:
        _add(element, "confidence", repr(one.confidence))
    mask = prop.pop(MASK, None)
    if isinstance(mask, str):
        if mask != mask_source:
            _add_value(element, "mask_source", mask)
        if MASK_COLOR in prop:
            _add_value(element, "mask_color", prop.pop(MASK_COLOR))
    elif mask is not None and color:
        _add(element, "mask_color", color)
    if SHAPE in prop:
        _write_shape(element, prop.pop(SHAPE), prop.pop(FEATURE))
    if isinstance(mask, Mapping):
        _add(element, "rle", json.dumps(mask))
    if one.hard != given.hard:
        _add(element, "hard", "" if one.hard is None else str(int(one.hard)))
    if one.annotated_by != given.annotated_by:
        _add_value(element, "annotated_by", one.annotated_by)
    if one.created_at != given.created_at:
        _add(element, "creation_time", "" if one.created_at is None else format_time(one.created_at))
    if one.id is not None:
        _add_value(element, "id", one.id)
    if prop:
        attributes = SubElement(element, "attributes")
        for key, value in prop.items():
            attribute = SubElement(attributes, "attribute")
            _add_value(attribute, "name", key)
            _add_value(attribute, "value", value)


def _shape(element: Element, where: str) -> dict[str, Any]:
    """Shape and feature of the one shape an object has; nothing where it has none (a mask alone)."""
    found = [child for child in element if child.tag in (*POINTS, "bndbox", "circle")]
    if not found:
        return {}
    # A polygon often has its bounding box beside it; the box says nothing that the polygon does not.
    found = [child for child in found if child.tag != "bndbox"] or found
    if len(found) > 1:
        raise BadSample(f"{where} has two shapes: {found[0].tag} and {found[1].tag}")
    shape = found[0]
    place = f"{where}.{shape.tag}"
    if shape.tag == "bndbox":
        xmin, ymin, xmax, ymax = (_number(shape, tag, place) for tag in _BNDBOX)
        return {SHAPE: shape.tag, FEATURE: [[xmin, ymin], [xmax, ymax]]}
    if shape.tag == "circle":
        cx, cy, r = (_number(shape, tag, place) for tag in _CIRCLE)
        return {SHAPE: shape.tag, FEATURE: [[cx, cy], [r]]}
    if shape.tag == "point" and shape.find("x") is not None:
        return {SHAPE: shape.tag, FEATURE: [[_number(shape, "x", place), _number(shape, "y", place)]]}
    if len(shape) % 2:
        raise BadSample(f"{place} has {len(shape)} coordinates; they must come in pairs x1, y1, x2, y2, …")
    values = {child.tag: child for child in shape}
    count = range(1, len(shape) // 2 + 1)
    points = [[_number_of(values.get(f"{axis}{n}"), f"{place}.{axis}{n}") for axis in "xy"] for n in count]
    return {SHAPE: shape.tag, FEATURE: points}


def _write_shape(element: Element, shape: str, feature: Sequence[Sequence[float]]) -> None:
    inner = SubElement(element, shape)
    values = [value for part in feature for value in part]
    tags: Iterable[str] = {"bndbox": _BNDBOX, "circle": _CIRCLE}.get(shape) or (
        f"{axis}{n}" for n in range(1, len(feature) + 1) for axis in "xy"
    )
    for tag, value in zip(tags, values, strict=True):
        _add(inner, tag, repr(value))


def _mask(element: Element, mask_source: str, where: str) -> dict[str, Any]:
    """An object's run lengths, else the mask it is drawn in and the color it has there."""
    rle = _text(element, "rle")
    if rle:
        try:
            return {MASK: orjson.loads(rle)}
        except orjson.JSONDecodeError as e:
            raise BadSample(f"{where}.rle is not JSON: {e}") from e
    own, color = (_optional(element, tag, where) for tag in ("mask_source", "mask_color"))
    found: dict[str, Any] = {MASK: own or mask_source} if own or (mask_source and color) else {}
    return found | {MASK_COLOR: color} if color and found else found


def _attributes(element: Element, where: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for index, attribute in enumerate(element.iterfind("attributes/attribute")):
        place = f"{where}.attributes[{index}]"
        name, value = attribute.find("name"), attribute.find("value")
        if name is None or value is None:
            raise BadSample(f"{place} must have a <name> and a <value>")
        found[str(_value(name, place))] = _value(value, place)
    return found


def _size(root: Element) -> list[int] | None:
    """Width, height and depth; a depth or size of 0 is an unknown one."""
    element = root.find("size")
    if element is None:
        return None
    values = []
    for tag in ("width", "height", "depth"):
        text = _text(element, tag) or "0"
        if not re.fullmatch(r"\d{1,9}", text, re.ASCII):
            raise BadSample(f"size.{tag} '{text}' must be a whole number of at least 0")
        values.append(int(text))
    return (values if values[2] else values[:2]) if values[0] and values[1] else None


def _text(element: Element, tag: str) -> str:
    return (element.findtext(tag) or "").strip()


def _optional(element: Element, tag: str, where: str) -> Any:
    inner = element.find(tag)
    return None if inner is None else _value(inner, f"{where}.{tag}")


def _hard(element: Element, where: str) -> bool | None:
    values = {"": None, "0": False, "1": True}
    text = (element.text or "").strip()
    if text not in values:
        raise BadSample(f"{where}.hard '{text[:40]}' must be 0 or 1")
    return values[text]


def _number(element: Element, tag: str, place: str) -> float:
    return _number_of(element.find(tag), f"{place}.{tag}")


def _number_of(element: Element | None, place: str) -> float:
    if element is None:
        raise BadSample(f"{place} is missing")
    text = (element.text or "").strip()
    found = _NUMBER.fullmatch(text)
    if found is None:
        raise BadSample(f"{place} '{text[:40]}' is not a number")
    return float(text) if any(found.groups()) else int(text)


def _confidence(text: str, where: str) -> float:
    if not _NUMBER.fullmatch(text) or not 0 <= float(text) <= 1:
        raise BadSample(f"{where}.confidence '{text[:40]}' must be a number from 0 to 1")
    return float(text)


def _value(element: Element, place: str) -> Any:
    if element.get("type") != "json":
        return element.text or ""
    try:
        return orjson.loads(element.text or "")
    except orjson.JSONDecodeError as e:
        raise BadSample(f"{place} is not JSON: {e}") from e


def _add(element: Element, tag: str, text: str) -> None:
    SubElement(element, tag).text = text


def _add_value(element: Element, tag: str, value: Any) -> None:
    """A text as it is; anything else, and what XML cannot hold, as JSON in ASCII."""
    inner = SubElement(element, tag)
    if isinstance(value, str) and not _UNSAFE.search(value):
        inner.text = value
    else:
        inner.text = json.dumps(value)
        inner.set("type", "json")
