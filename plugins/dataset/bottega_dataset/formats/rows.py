"""Samples as rows of columns: what CSV, Parquet and Hugging Face files have in common.

The column a sample stands in is found by its name, or by the type a file gives it; so is that of its labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from bottega.errors import Invalid
from bottega_dataset import media
from bottega_dataset.extension_points import DatasetType, ImportRequest
from bottega_dataset.formats.outlines import boxed, number, usage_of
from bottega_dataset.formats.reading import Entry, label_of
from bottega_dataset.manifest import parse_data
from bottega_dataset.sample import CONTENT, USAGES, Annotation, BadSample, SampleRecord
from bottega_dataset.types.text import END, ENTITY, START

TEXT, IMAGE, SOUND, TABLE = 1, 0, 2, 4
"""The API's ``sample_type``."""
_COLUMNS = {
    TEXT: ("text", "sentence", "content", "review", "review_body", "question", "premise", "document", "tokens"),
    IMAGE: ("path", "image", "img", "file_name", "file", "filename", "source", "image_path", "url"),
    SOUND: ("path", "audio", "file_name", "file", "filename", "source", "audio_path", "url"),
}
_MEDIA = {"Image": IMAGE, "Audio": SOUND}
_LABELS = ("label", "labels", "category", "class", "classes", "sentiment", "fine_label", "tag", "tags")
LABEL_OF_ROW, USAGE_OF_ROW = "@label", "@usage"
"""The columns of a table that are no cells."""
_WHOLE, _RELATIVE = (CONTENT, "s3://", "obs://", "https://", "http://", "/"), "s3://relative/source"
_SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "BMP": ".bmp"}


@dataclass(frozen=True, slots=True)
class Columns:
    """What a file says of its columns: their names, and the features Hugging Face writes down."""

    names: Sequence[str]
    features: Mapping[str, Any] = field(default_factory=dict)

    def sample(self, sample_type: int) -> str:
        """The column of the samples. Raises Invalid."""
        for name, feature in self.features.items():
            kind = _MEDIA.get(str(feature.get("_type"))) if isinstance(feature, dict) else None
            if name in self.names and kind is not None and kind == sample_type:
                return name
        for name in _COLUMNS.get(sample_type, ()):
            if name in self.names:
                return name
        wanted = ", ".join(_COLUMNS.get(sample_type, ()))
        raise Invalid(f"none of the columns {', '.join(self.names)[:200]} holds samples; call it one of {wanted}")

    def label(self) -> str | None:
        """The column of the labels."""
        for name in _LABELS:
            if name in self.names:
                return name
        classes = (n for n, f in self.features.items() if isinstance(f, dict) and f.get("_type") == "ClassLabel")
        return next((name for name in classes if name in self.names), None)

    def classes(self, *path: str) -> list[str] | None:
        """The names of the classes of a column, or of a part of it."""
        found: Any = self.features
        for step in path:
            found = found.get(step) if isinstance(found, dict) else None
            while isinstance(found, dict) and ("feature" in found or found.get("_type") in ("Sequence", "List")):
                found = found.get("feature")
            if isinstance(found, list) and found:
                found = found[0]
        names = found.get("names") if isinstance(found, dict) else None
        return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else None


def decode(row: Mapping[str, Any], columns: Columns, kind: DatasetType, place: str, split: str = "") -> Entry:
    """The sample of a row."""
    try:
        if isinstance(row.get("annotations"), str) and isinstance(row.get("source"), str):
            return Entry(place, _whole(row))
        entry = Entry(place)
        entry.record = record = _sample(row, columns, kind, entry)
        usage = str(row.get("usage") or "").upper()
        record.usage = usage if usage in USAGES else usage_of(split)
        record.annotations = _annotations(row, columns, kind, entry)
        ident = row.get("id")
        record.id = str(ident) if record.is_text and isinstance(ident, str | int) and str(ident) else None
        return entry
    except (BadSample, KeyError, TypeError, AttributeError, OverflowError) as e:
        reason = str(e) if isinstance(e, BadSample) else f"the row is not as its columns say ({type(e).__name__}: {e})"
        return Entry(place, reason=reason, text=str({k: str(v)[:40] for k, v in row.items()})[:200])


async def stored(request: ImportRequest, entry: Entry, name: str) -> Entry:
    """The entry with the object it holds put into the dataset's input folder as `name`, and a suffix that fits.

    Raises Invalid when the dataset has no input folder.
    """
    data = entry.data
    if data is None or entry.record is None:
        return entry
    if request.target is None:
        raise Invalid("the file holds its objects; the dataset has no input path to store them in")
    try:
        if request.dataset_type.sample_type == SOUND:
            await media.off_loop(lambda: media.audio(data))
            suffix = ".wav"
        else:
            info = await media.off_loop(lambda: media.image(data))
            suffix = _SUFFIXES[info.format]
    except BadSample as e:
        return Entry(entry.place, reason=str(e))
    path = request.target.folder / f"{name}{suffix}"
    await request.store.put(path, data)
    entry.record.source, entry.record.name, entry.record.size, entry.data = str(path), path.name, len(data), None
    return entry


def _whole(row: Mapping[str, Any]) -> SampleRecord:
    """A row as `bottega_dataset.formats.parquet` writes it: a line of a manifest."""
    source = row["source"]
    data: dict[str, Any] = {"source": source if source.startswith(_WHOLE) else _RELATIVE}
    for column, key in (("usage", "usage"), ("id", "id"), ("inference_loc", "inference-loc")):
        if row.get(column):
            data[key] = row[column]
    try:
        for column, key in (("annotations", "annotation"), ("property", "property")):
            if row.get(column):
                data[key] = orjson.loads(row[column])
    except orjson.JSONDecodeError as e:
        raise BadSample(f"annotations and property must be JSON: {e}") from e
    record = parse_data(data)
    if data["source"] == _RELATIVE:
        record.source, record.name = source, source.rpartition("/")[2]
    return record


def _sample(row: Mapping[str, Any], columns: Columns, kind: DatasetType, entry: Entry) -> SampleRecord:
    if kind.sample_type == TABLE:
        cells = {name: row[name] for name in columns.names if name not in (LABEL_OF_ROW, USAGE_OF_ROW)}
        try:
            return SampleRecord(CONTENT + orjson.dumps(cells).decode())
        except (orjson.JSONEncodeError, TypeError) as e:
            raise BadSample(f"a cell is neither text nor number: {e}") from e
    name = columns.sample(kind.sample_type)
    value = row.get(name)
    if kind.sample_type == TEXT:
        if name == "tokens" and isinstance(value, list):
            value = " ".join(map(str, value))
        if not isinstance(value, str) or not value.strip():
            raise BadSample(f"column '{name}' has no text")
        return SampleRecord(CONTENT + value)
    if isinstance(value, dict):
        entry.data = value.get("bytes")
        value = value.get("path")
    elif isinstance(value, bytes):
        entry.data, value = value, None
    if entry.data is None and not (isinstance(value, str) and value):
        raise BadSample(f"column '{name}' has neither a path nor bytes")
    return SampleRecord(value or "", name=str(value or "").rpartition("/")[2])


def _annotations(row: Mapping[str, Any], columns: Columns, kind: DatasetType, entry: Entry) -> list[Annotation]:
    own = kind.annotation_type
    if kind.code == 1:
        return _boxes(row.get("objects"), columns, own, entry)
    if own == ENTITY:
        return _entities(row, columns)
    column = LABEL_OF_ROW if kind.sample_type == TABLE else columns.label()
    if column is None or kind.code not in (0, 100, 200, 400):
        return []
    return [Annotation(own, name) for name in dict.fromkeys(_names(row.get(column), columns.classes(column)))]


def _names(value: Any, classes: Sequence[str] | None) -> list[str]:
    """The labels in a cell: a number of a class, a name, several of either."""
    if value is None or value == "" or value == -1:
        return []
    if isinstance(value, list):
        return [name for one in value for name in _names(one, classes)]
    if isinstance(value, int) and not isinstance(value, bool) and classes is not None:
        if not 0 <= value < len(classes):
            raise BadSample(f"there is no class {value}; the column has {len(classes)}")
        return [label_of(classes[value])]
    return [label_of(part.strip()) for part in str(value).split(",") if part.strip()]


def _boxes(objects: Any, columns: Columns, kind: str, entry: Entry) -> list[Annotation]:
    """Hugging Face's object detection: boxes as COCO has them, and the class of each."""
    if isinstance(objects, list):
        objects = {key: [one.get(key) for one in objects] for key in ("bbox", "category", "label", "categories")}
    if not isinstance(objects, dict):
        return []
    key = next((k for k in ("category", "label", "categories") if any(c is not None for c in objects.get(k) or ())), "")
    classes = columns.classes("objects", key)
    found = []
    for index, (box, category) in enumerate(zip(objects.get("bbox") or (), objects.get(key) or (), strict=False)):
        try:
            left, top, width, height = (number(value) for value in box)
            (name,) = _names(category, classes)
            found.append(boxed(kind, name, (left, top, left + width, top + height)))
        except (BadSample, ValueError, TypeError) as e:
            entry.notes.append(f"objects[{index}]: {e}")
    return found


def _entities(row: Mapping[str, Any], columns: Columns) -> list[Annotation]:
    """Tokens with tags B-…, I-…, O, as entities of the text in which a space stands between tokens."""
    tokens = row.get("tokens")
    column = next((name for name in ("ner_tags", "tags", "labels") if name in columns.names), None)
    if not isinstance(tokens, list) or column is None:
        return []
    classes, found, at = columns.classes(column), list[Annotation](), 0
    for token, tag in zip(map(str, tokens), row.get(column) or (), strict=False):
        name = classes[tag] if classes is not None and isinstance(tag, int) and 0 <= tag < len(classes) else str(tag)
        begin, at = at, at + len(token) + 1
        if name in ("O", "", "0"):
            continue
        prefix, _, label = name.partition("-")
        label = label_of(label if prefix in ("B", "I") and label else name)
        last = found[-1] if found else None
        if prefix == "I" and last and last.name == label and (last.property or {})[END] == begin - 1:
            last.property = {**(last.property or {}), END: begin + len(token)}
        else:
            found.append(Annotation(ENTITY, label, {START: begin, END: begin + len(token)}))
    return found
