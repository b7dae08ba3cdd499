"""YOLO as Ultralytics reads it: ``images``, ``labels`` (a text file for each image) and ``data.yaml``.

A line is ``class cx cy w h`` (a box) or ``class x1 y1 x2 y2 …`` (a polygon), in parts of the image's size
(https://docs.ultralytics.com/datasets/detect/). A file says nothing but that:
confidence and attributes are not carried.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from bottega.errors import Invalid, NotFound
from bottega.hookspecs import hookimpl
from bottega.objects import ObjectInfo, ObjectPath
from bottega_dataset import media
from bottega_dataset.extension_points import Exporter, ExportRequest, Importer, ImportRequest
from bottega_dataset.formats import outlines
from bottega_dataset.formats.outlines import SUBSET_OF, USAGE_OF, boxed, shape_of, shaped
from bottega_dataset.formats.reading import Entry, ListingImporter, chunk, gathered, inside, label_of, text_at
from bottega_dataset.sample import SIZE, Annotation, BadSample, Chunk, SampleRecord
from bottega_dataset.types.geometry import MASK

DETECTION, SEGMENTATION = 1, 3
SOURCES = "sources.txt"
"""Where the images lie when they were not copied: ``images/train/a.jpg``, a tab, the source; a line for each."""
_NAMES = ("classes.txt", "obj.names", "labels.txt")
_CONFIGS = ("data.yaml", "dataset.yaml", "data.yml")
_PARTS = ("train", "val", "test")


def encode(record: SampleRecord, width: int, height: int, class_of: Mapping[str, int]) -> tuple[str, list[str]]:
    """A sample's label file, and what of its annotations it cannot say."""
    lines: list[str] = []
    notes: list[str] = []
    for index, one in enumerate(record.annotations):
        shape, feature = shape_of(one)
        if shape == "bndbox":
            (left, top), (right, bottom) = feature
            values = [(left + right) / 2 / width, (top + bottom) / 2 / height]
            values += [(right - left) / width, (bottom - top) / height]
        elif shape == "polygon":
            values = [part for x, y in feature for part in (x / width, y / height)]
        else:
            notes.append(f"annotation[{index}]: YOLO carries no {shape or 'mask'}")
            continue
        if outlines.extras(one) or one.confidence is not None or one.id or MASK in (one.property or {}):
            notes.append(f"annotation[{index}]: YOLO carries its outline and label, nothing else")
        lines.append(" ".join([str(class_of[one.name]), *map(_written, values)]))
    return "".join(f"{line}\n" for line in lines), notes


def decode(
    text: str, width: int, height: int, names: Mapping[int, str], code: int, kind: str
) -> tuple[list[Annotation], list[str]]:
    """The annotations of a label file, and the lines that say nothing that may be said."""
    found: list[Annotation] = []
    notes: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            found.append(_decoded(line.split(), width, height, names, code, kind))
        except BadSample as e:
            notes.append(f"line {number}: {e}")
    return found, notes


def _decoded(
    parts: Sequence[str], width: int, height: int, names: Mapping[int, str], code: int, kind: str
) -> Annotation:
    try:
        label, values = int(parts[0]), [float(part) for part in parts[1:]]
    except ValueError as e:
        raise BadSample(f"a line is a class and numbers: {e}") from e
    if label not in names:
        raise BadSample(f"there is no class {label}; the names have {len(names)}")
    if any(not -0.01 <= value <= 1.01 for value in values):
        raise BadSample("coordinates are parts of the image's size, from 0 to 1")
    name = label_of(names[label])
    if len(values) in (4, 5):
        if code != DETECTION:
            raise BadSample("a box is no area; give a polygon")
        x, y, w, h = values[0] * width, values[1] * height, values[2] * width, values[3] * height
        corners = [_within(x - w / 2, width), _within(y - h / 2, height)]
        corners += [_within(x + w / 2, width), _within(y + h / 2, height)]
        return boxed(kind, name, corners, confidence=values[4] if len(values) == 5 else None)
    if len(values) < 6 or len(values) % 2:
        raise BadSample(f"{len(values)} numbers are neither a box (4) nor a polygon (6, 8, …)")
    points = [[_within(x * width, width), _within(y * height, height)] for x, y in outlines.paired(values)]
    return shaped(kind, name, "polygon", points)


def _within(value: float, most: int) -> float:
    return outlines.number(min(max(value, 0), most))


def _written(value: float) -> str:
    return f"{value:.9f}".rstrip("0").rstrip(".") or "0"


class YoloExporter:
    """``images/<subset>/a.jpg``, ``labels/<subset>/a.txt`` and ``data.yaml``."""

    export_format = "yolo"
    dataset_types = frozenset({DETECTION, SEGMENTATION})

    async def write(self, request: ExportRequest) -> None:
        folder = request.folder
        class_of = {name: number for number, name in enumerate(request.labels)}
        subsets: set[str] = set()
        async for batch in request.samples:
            sized = await folder.sized(batch)
            names = {id(r): f"images/{SUBSET_OF[r.usage]}/{folder.name_of(r)}" for r, _ in sized}
            there = {id(r) for r in await folder.copy([(r, names[id(r)]) for r, _ in sized])}
            written: dict[str, bytes] = {}
            for record, size in sized:
                if id(record) not in there:
                    continue
                for one in record.annotations:
                    class_of.setdefault(one.name, len(class_of))
                text, notes = encode(record, size.width, size.height, class_of)
                for note in notes:
                    folder.note(record, note)
                name = names[id(record)]
                subsets.add(SUBSET_OF[record.usage])
                if record.annotations:
                    written[_label_file(name)] = text.encode()
                if not folder.copies:
                    folder.open(SOURCES).write(f"{name}\t{record.source}\n".encode())
            await folder.put(written)
        await folder.put({"data.yaml": _config(subsets, class_of)})


def _label_file(image: str) -> str:
    """``images/train/a.jpg`` → ``labels/train/a.txt``; where no folder is called ``images``, beside the image."""
    head, _, tail = f"/{image}".rpartition("/images/")
    stem = image.removesuffix(PurePosixPath(image).suffix)
    if not tail:
        return f"{stem}.txt"
    return f"{head}/labels/{tail.removesuffix(PurePosixPath(tail).suffix)}.txt".removeprefix("/")


def _config(subsets: set[str], class_of: Mapping[str, int]) -> bytes:
    lines = ["path: ."]
    # Training wants both: what was not divided is both.
    first = next(iter(sorted(subsets, reverse=True)), "default")
    parts = [part for part in _PARTS if part in subsets or part != "test"]
    lines += [f"{part}: images/{part if part in subsets else first}" for part in parts]
    names = [f"  {number}: {json.dumps(name, ensure_ascii=False)}" for name, number in class_of.items()]
    return "\n".join([*lines, "names:" if names else "names: {}", *names, ""]).encode()


class YoloImporter(ListingImporter):
    """Every image of the folder; its labels lie in ``labels`` instead of ``images``, or beside it.

    The classes are named in ``data.yaml``, or line by line in ``classes.txt``; ``train``, ``val`` and ``test`` in an
    image's path are its usage.
    """

    import_type = "yolo"
    dataset_types = frozenset({DETECTION, SEGMENTATION})
    suffixes = (".jpg", ".jpeg", ".png", ".bmp")

    async def prepare(self, request: ImportRequest) -> Mapping[int, str]:
        try:
            return await _names(request)
        except BadSample as e:
            raise Invalid(str(e)) from e

    async def read(self, request: ImportRequest, cursor: Mapping[str, Any]) -> AsyncIterator[Chunk]:
        try:
            sources = await text_at(request.store, request.path.folder / SOURCES, 2**30)
        except BadSample as e:
            raise Invalid(str(e)) from e
        if sources is None:
            async for found in super().read(request, cursor):
                yield found
            return
        names = await self.prepare(request)
        lines = [line for line in sources.splitlines() if line]
        for at in range(cursor.get("done", 0), len(lines), 200):
            calls = [_Linked(request, names, line) for line in lines[at : at + 200]]
            entries = await gathered([one.entry for one in calls])
            done = min(at + 200, len(lines))
            yield chunk(request, entries, {"done": done}, done / len(lines))

    async def entry(self, request: ImportRequest, known: Mapping[int, str], info: ObjectInfo) -> Entry:
        record = SampleRecord(str(info.path), name=info.path.name, size=info.size, modified_at=info.modified_at)
        return await _labeled(request, known, record, info.path.key, str(info.path))


@dataclass(frozen=True, slots=True)
class _Linked:
    """A line of `SOURCES`."""

    request: ImportRequest
    names: Mapping[int, str]
    line: str

    async def entry(self) -> Entry:
        folder = self.request.path.folder
        place, _, source = self.line.partition("\t")
        try:
            record = SampleRecord(inside(folder, source), name=source.rpartition("/")[2])
            image = ObjectPath.parse(inside(folder, place))
        except (BadSample, Invalid) as e:
            return Entry(str(folder / SOURCES), reason=str(e), text=self.line[:200])
        return await _labeled(self.request, self.names, record, image.key, record.source)


async def _labeled(
    request: ImportRequest, names: Mapping[int, str], record: SampleRecord, key: str, place: str
) -> Entry:
    """The sample with the labels of the image at `key`."""
    kind = request.dataset_type
    inner = key.removeprefix(request.path.folder.key)
    record.usage = next((USAGE_OF[part] for part in reversed(inner.split("/")[:-1]) if part in USAGE_OF), None)
    notes: list[str] = []
    try:
        text = await text_at(request.store, ObjectPath(request.path.bucket, _label_file(key)))
        if text and text.strip():
            source = ObjectPath.parse(record.source)
            refused = await request.refusal(source)
            if refused:
                raise BadSample(refused)
            size = await media.image_at(request.store, source)
            record.property = {SIZE: [size.width, size.height, size.depth]}
            record.annotations, notes = decode(text, size.width, size.height, names, kind.code, kind.annotation_type)
    except (BadSample, NotFound, Invalid) as e:
        return Entry(place, reason=str(e))
    return Entry(place, record, notes=notes)


async def _names(request: ImportRequest) -> Mapping[int, str]:
    folder = request.path.folder
    for name in _CONFIGS:
        text = await text_at(request.store, folder / name)
        if text is not None:
            return _configured(text, str(folder / name))
    for name in _NAMES:
        text = await text_at(request.store, folder / name)
        if text is not None:
            return dict(enumerate(line.strip() for line in text.splitlines() if line.strip()))
    raise Invalid(f"the classes have no names: there is none of {', '.join((*_CONFIGS, *_NAMES))} in {folder}")


def _configured(text: str, place: str) -> Mapping[int, str]:
    import yaml

    try:
        config = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as e:
        raise BadSample(f"{place} is not YAML: {e}") from e
    names = config.get("names") if isinstance(config, dict) else None
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not all(
        isinstance(n, int) and isinstance(v, str | int) for n, v in names.items()
    ):
        raise BadSample(f"{place} must have names: a list, or class numbers with a name each")
    return {number: str(name) for number, name in names.items()}


@hookimpl
def bottega_dataset_importers() -> Iterable[Importer]:
    return [YoloImporter()]


@hookimpl
def bottega_dataset_exporters() -> Iterable[Exporter]:
    return [YoloExporter()]
