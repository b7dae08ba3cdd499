"""Annotations as Label Studio's results, and back: choices, shapes, entities, relations, speech."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from bottega_dataset.formats import outlines, rle_pack
from bottega_dataset.formats.outlines import boxed, confidence_of, number, shape_of, shaped
from bottega_dataset.formats.reading import label_of
from bottega_dataset.media import ImageInfo
from bottega_dataset.sample import CONTENT, FROM, SIZE, TO, Annotation, BadSample, SampleRecord
from bottega_dataset.types.audio import CONTENT as SAID
from bottega_dataset.types.audio import SOURCE as SPEAKER
from bottega_dataset.types.geometry import MASK
from bottega_dataset.types.text import END, ENTITY, START, TRIPLET
from bottega_dataset.types.times import END as END_TIME
from bottega_dataset.types.times import START as START_TIME
from bottega_dataset.types.times import milliseconds

OBJECT_OF = {0: "image", 1: "image", 3: "image", 100: "text", 101: "text", 102: "text"} | dict.fromkeys(
    (200, 201, 202), "audio"
)
"""The object tag, and the key in a task's data, of each dataset type."""
CLASSIFICATION, SHAPES, ENTITIES, SPEECH, STRETCHES = (0, 100, 200), (1, 3), (101, 102), 201, 202
_CONFIDENCE = "confidence"
Result = dict[str, Any]


def encode(record: SampleRecord, code: int, size: ImageInfo | None) -> tuple[list[Result], list[str]]:
    """The results of one annotation of the task, and what of the sample they cannot say."""
    results: list[Result] = []
    notes: list[str] = []
    if code in CLASSIFICATION:
        return ([_choices(record.annotations, OBJECT_OF[code])] if record.annotations else []), notes
    for index, one in enumerate(record.annotations):
        try:
            results += _encoded(one, index, record, code, size)
        except BadSample as e:
            notes.append(f"annotation[{index}]: {e}")
    return results, notes


def decode(results: Sequence[Any], record: SampleRecord, code: int, kind: str, by: str | None = None) -> list[str]:
    """Give the record what the results say of it. Returns what could not be taken over.

    :param by: the model whose prediction it is.
    """
    notes: list[str] = []
    objects = [one for one in results if isinstance(one, dict)]
    groups: Iterable[Any] = objects
    read: Callable[[Any], Iterable[Annotation]]
    if code == STRETCHES:
        groups, read = _by_id(objects), _stretch
    elif code in ENTITIES:
        ends = {one.get(key) for one in objects if one.get("type") == "relation" for key in ("from_id", "to_id")}

        def read(one: Any) -> Iterable[Annotation]:
            return _entity_or_relation(one, record, ends, code)
    elif code in SHAPES:

        def read(one: Any) -> Iterable[Annotation]:
            return [_outline(one, record, kind)]
    else:

        def read(one: Any) -> Iterable[Annotation]:
            return _labels(one, kind) if code in CLASSIFICATION else [_speech(one, kind)]

    for one in groups:
        try:
            found = list(read(one))
        except (BadSample, KeyError, TypeError, AttributeError, OverflowError) as e:
            what = str(e) if isinstance(e, BadSample) else f"not as Label Studio writes it ({type(e).__name__}: {e})"
            first = one[0] if isinstance(one, list) else one
            notes.append(f"result {str(first.get('id'))[:40]} ({str(first.get('type'))[:40]}): {what}")
            continue
        for annotation in found:
            if by and annotation.annotated_by == "human":
                annotation.annotated_by = by
            record.annotations.append(annotation)
    return notes


def _result(kind: str, name: str, target: str, value: dict[str, Any], **more: Any) -> Result:
    return {"type": kind, "from_name": name, "to_name": target, "value": value, **more}


def _more(one: Annotation) -> dict[str, Any]:
    """Fields of a result that say what its value does not."""
    found: dict[str, Any] = {}
    if one.confidence is not None:
        found["score"] = one.confidence
    extras = outlines.extras(one)
    for known in (START, END, FROM, TO, START_TIME, END_TIME, SAID, SPEAKER):
        extras.pop(known, None)
    if extras:
        found["meta"] = extras
    return found


def _completed(one: Annotation, result: Mapping[str, Any]) -> Annotation:
    one.confidence = confidence_of(result.get("score"))
    return outlines.with_extras(one, result.get("meta"))


def _choices(annotations: Sequence[Annotation], target: str) -> Result:
    result = _result("choices", "choice", target, {"choices": [one.name for one in annotations]}, id="choice")
    more = []
    for one in annotations:
        known = {} if one.confidence is None else {_CONFIDENCE: one.confidence}
        more.append(outlines.extras(one) | known)
    return result | {"meta": {"annotations": more}} if any(more) else result


def _labels(result: Mapping[str, Any], kind: str) -> list[Annotation]:
    names = result["value"].get("choices")
    if not isinstance(names, list):
        raise BadSample("a classification holds choices")
    meta = result.get("meta")
    more = meta.get("annotations") if isinstance(meta, dict) else None
    if not isinstance(more, list) or len(more) != len(names):
        more = [{}] * len(names)
    found = []
    for name, extras in zip(names, more, strict=True):
        given = dict(extras) if isinstance(extras, dict) else {}
        confidence = confidence_of(given.pop(_CONFIDENCE, result.get("score")))
        found.append(outlines.with_extras(Annotation(kind, label_of(name), confidence=confidence), given))
    return found


def _encoded(one: Annotation, index: int, record: SampleRecord, code: int, size: ImageInfo | None) -> list[Result]:
    ident = one.id or f"r{index}"
    if code in SHAPES:
        assert size is not None
        return [_shape_result(one, size) | {"id": ident, **_more(one)}]
    given = one.property or {}
    if one.type == TRIPLET:
        ends = {"from_id": given[FROM], "to_id": given[TO]}
        return [{"type": "relation", **ends, "direction": "right", "labels": [one.name], **_more(one)}]
    if one.type == ENTITY:
        text = record.source.removeprefix(CONTENT)[given[START] : given[END]]
        value = {"start": given[START], "end": given[END], "text": text, "labels": [one.name]}
        return [_result("labels", "label", "text", value, id=ident, **_more(one))]
    if code == SPEECH:
        return [_result("textarea", "transcription", "audio", {"text": [given[SAID]]}, id=ident, **_more(one))]
    where = {"start": milliseconds(given[START_TIME]) / 1000, "end": milliseconds(given[END_TIME]) / 1000}
    labels = _result("labels", "label", "audio", {**where, "labels": [one.name] if one.name else []}, id=ident)
    found = [labels | _more(one)]
    if given.get(SPEAKER) is not None:
        found.append(_result("choices", "speaker", "audio", {**where, "choices": [given[SPEAKER]]}, id=ident))
    if given.get(SAID) is not None:
        found.append(_result("textarea", "transcription", "audio", {**where, "text": [given[SAID]]}, id=ident))
    return found


def _shape_result(one: Annotation, size: ImageInfo) -> Result:
    """Coordinates in percent of the image's width and height."""
    shape, feature = shape_of(one)
    mask = (one.property or {}).get(MASK)
    wide = {"original_width": size.width, "original_height": size.height, "image_rotation": 0}

    def made(kind: str, value: dict[str, Any]) -> Result:
        return _result(kind, kind, "image", {**value, kind: [one.name]}, **wide)

    def x(value: float) -> float:
        return value / size.width * 100

    def y(value: float) -> float:
        return value / size.height * 100

    if mask is not None:
        if isinstance(mask, str) or shape:
            raise BadSample("Label Studio carries a polygon or run lengths; no PNG file, not both")
        width, height, pixels = outlines.bitmap_of(mask)
        if (width, height) != (size.width, size.height) or width * height > rle_pack.MOST_PIXELS:
            raise BadSample(f"a brush is as large as its image, and at most {rle_pack.MOST_PIXELS:,} pixels")
        return made("brushlabels", {"format": "rle", "rle": rle_pack.pack(outlines.runs_of_bytes(pixels))})
    if shape == "bndbox":
        (left, top), (right, bottom) = feature
        box = {"x": x(left), "y": y(top), "width": x(right - left), "height": y(bottom - top), "rotation": 0}
        return made("rectanglelabels", box)
    if shape == "polygon":
        return made("polygonlabels", {"points": [[x(a), y(b)] for a, b in feature], "closed": True})
    if shape == "circle":
        (cx, cy), (r,) = feature
        return made("ellipselabels", {"x": x(cx), "y": y(cy), "radiusX": x(r), "radiusY": y(r), "rotation": 0})
    if shape == "point":
        ((px, py),) = feature
        return made("keypointlabels", {"x": x(px), "y": y(py), "width": 0.5})
    raise BadSample(f"Label Studio carries no {shape or 'annotation without a shape'}")


def _outline(result: Mapping[str, Any], record: SampleRecord, kind: str) -> Annotation:
    form, value = str(result.get("type")), result["value"]
    names = value.get(form)
    if not form.endswith("labels") or not isinstance(names, list) or len(names) != 1:
        raise BadSample("a shape bears one label")
    width, height = _size(result)
    record.property = {**(record.property or {}), SIZE: [width, height]}
    if number(value.get("rotation") or 0):
        raise BadSample("it is rotated; shapes here are upright")

    def at(key: str, extent: int) -> float:
        return _percent(value[key], extent)

    name = label_of(names[0])
    if form == "brushlabels":
        pixels = rle_pack.unpack(value["rle"], width, height)
        return _completed(Annotation(kind, name, {MASK: outlines.mask_of_bitmap(width, height, pixels)}), result)
    if form == "rectanglelabels":
        left, top = at("x", width), at("y", height)
        right, bottom = min(left + at("width", width), width), min(top + at("height", height), height)
        return _completed(boxed(kind, name, (max(left, 0), max(top, 0), right, bottom)), result)
    if form == "polygonlabels":
        points = [[_pixels(a, width), _pixels(b, height)] for a, b in value["points"]]
        return _completed(shaped(kind, name, "polygon", points), result)
    if form == "ellipselabels":
        radius, other = number(at("radiusX", width)), number(at("radiusY", height))
        if radius != other:
            raise BadSample("an ellipse is no circle")
        center = [number(at("x", width)), number(at("y", height))]
        return _completed(shaped(kind, name, "circle", [center, [radius]]), result)
    if form == "keypointlabels":
        point = [number(at("x", width)), number(at("y", height))]
        return _completed(shaped(kind, name, "point", [point]), result)
    raise BadSample("this kind of shape is not read")


def _size(result: Mapping[str, Any]) -> tuple[int, int]:
    size = result.get("original_width"), result.get("original_height")
    if not all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in size):
        raise BadSample("original_width and original_height must be the image's size in pixels")
    return size[0], size[1]  # type: ignore[return-value]  # checked above


def _entity_or_relation(result: Mapping[str, Any], record: SampleRecord, ends: set[Any], code: int) -> list[Annotation]:
    if result.get("type") == "relation":
        if code == 101:
            raise BadSample("a dataset of named entities holds no relations")
        given = result.get("labels") or [""]
        head, tail = result["from_id"], result["to_id"]
        if result.get("direction") == "left":
            head, tail = tail, head
        return [_completed(Annotation(TRIPLET, label_of(given[0]), {FROM: head, TO: tail}), result)]
    value = result["value"]
    names = value.get("labels")
    if result.get("type") != "labels" or not isinstance(names, list) or not names:
        raise BadSample("an entity bears labels")
    ident = result.get("id")
    spans = {START: value["start"], END: value["end"]}
    return [
        _completed(
            Annotation(ENTITY, label_of(name), dict(spans), id=ident if ident in ends and not at else None), result
        )
        for at, name in enumerate(names)
    ]


def _speech(result: Mapping[str, Any], kind: str) -> Annotation:
    if result.get("type") != "textarea":
        raise BadSample("what is said stands in a textarea")
    return _completed(Annotation(kind, "", {SAID: _text(result)}), result)


def _stretch(results: Sequence[Mapping[str, Any]]) -> list[Annotation]:
    value = results[0]["value"]
    found = Annotation("audio_segmentation", "", {START_TIME: _time(value["start"]), END_TIME: _time(value["end"])})
    assert found.property is not None
    for one in results:
        if one.get("type") == "textarea":
            found.property[SAID] = _text(one)
        elif one.get("type") == "choices":
            found.property[SPEAKER] = str(one["value"]["choices"][0])
        elif one.get("type") == "labels":
            names = one["value"]["labels"]
            found.name = label_of(names[0]) if names else ""
            found = _completed(found, one)
        else:
            raise BadSample("a stretch has labels, choices (the speaker) and a textarea (what is said)")
    return [found]


def _by_id(results: Sequence[Result]) -> list[list[Result]]:
    groups: dict[str, list[Result]] = {}
    for index, one in enumerate(results):
        groups.setdefault(str(one.get("id") or f"#{index}"), []).append(one)
    return list(groups.values())


def _text(result: Mapping[str, Any]) -> str:
    text = result["value"]["text"]
    return "\n".join(map(str, text)) if isinstance(text, list) else str(text)


def _percent(value: Any, extent: int) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1 <= value <= 101:
        raise BadSample(f"coordinates are percent of the image's size, not {str(value)[:40]!r}")
    return value / 100 * extent


def _pixels(value: Any, extent: int) -> float:
    return number(min(max(_percent(value, extent), 0), extent))


def _time(seconds: Any) -> str:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < 360_000:
        raise BadSample(f"a time is a number of seconds, not {str(seconds)[:40]!r}")
    rest, ms = divmod(round(seconds * 1000), 1000)
    minutes, rest = divmod(rest, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{rest:02}.{ms:03}"
