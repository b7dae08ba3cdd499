"""Label Studio JSON: a list of tasks with their annotations and predictions (https://labelstud.io/guide/task_format).

What a model said goes out as a prediction, and comes in from one where nobody annotated the task.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.sax.saxutils import quoteattr

import anyio.to_thread
import orjson

from bottega.errors import Invalid
from bottega.hookspecs import hookimpl
from bottega.objects import ObjectPath
from bottega_dataset.extension_points import Exporter, ExportRequest, Importer, ImportRequest
from bottega_dataset.formats import label_studio_results as results
from bottega_dataset.formats.coco import find_root
from bottega_dataset.formats.label_studio_results import OBJECT_OF
from bottega_dataset.formats.reading import SHOWN, Entry, FileImporter, Reader, inside
from bottega_dataset.media import ImageInfo, off_loop
from bottega_dataset.sample import CONTENT, HUMAN, USAGES, BadSample, SampleRecord, line_id
from bottega_dataset.types.text import TRIPLET

_ABSOLUTE = ("s3://", "obs://", "https://", "http://", CONTENT)
_LOCAL, _UPLOADED = "/data/local-files/?d=", "/data/upload/"
_LOOKED_AT = 100
_CONTROLS = {
    1: (("rectanglelabels", "RectangleLabels"), ("polygonlabels", "PolygonLabels"), ("ellipselabels", "EllipseLabels"),
        ("keypointlabels", "KeyPointLabels")),
    3: (("polygonlabels", "PolygonLabels"), ("brushlabels", "BrushLabels")),
    101: (("label", "Labels"),),
    102: (("label", "Labels"),),
    202: (("label", "Labels"),),
}  # fmt: skip


def encode(record: SampleRecord, code: int, size: ImageInfo | None, value: str) -> tuple[dict[str, Any], list[str]]:
    """A sample as a task, without its id, and what of it cannot be carried.

    :param value: what stands in the task's data: the text, or where the object is.
    """
    found, notes = results.encode(record, code, size)
    task: dict[str, Any] = {"data": {OBJECT_OF[code]: value}, "annotations": [], "predictions": []}
    meta = {"usage": record.usage, "id": record.id if record.is_text else None}
    kept = {key: one for key, one in meta.items() if one}
    if kept:
        task["meta"] = kept
    makers = {one.annotated_by for one in record.annotations}
    if len(makers) == 1 and not next(iter(makers)).startswith(HUMAN):
        task["predictions"] = [{"model_version": makers.pop(), "result": found}]
    elif found:
        task["annotations"] = [{"result": found, "was_cancelled": False, "ground_truth": False}]
    return task, notes


def decode(task: Mapping[str, Any], code: int, kind: str) -> tuple[SampleRecord, list[str]]:
    """The sample of a task; its source is as the task names it. Raises BadSample."""
    data = task.get("data")
    if not isinstance(data, dict):
        raise BadSample("the task has no data")
    value = _value(data, code)
    is_text = OBJECT_OF[code] == "text" and not value.startswith(("s3://", "obs://"))
    record = SampleRecord(CONTENT + value if is_text else value)
    if is_text and not value.strip():
        raise BadSample("the text is empty")
    meta = task.get("meta")
    if isinstance(meta, dict):
        record.usage = meta.get("usage") if meta.get("usage") in USAGES else None
        record.id = meta["id"] if is_text and isinstance(meta.get("id"), str) else None
    done = [one for one in _objects(task.get("annotations") or task.get("completions")) if not one.get("was_cancelled")]
    guessed = _objects(task.get("predictions"))
    notes = [f"{len(done)} annotations; the first is taken"] if len(done) > 1 else []
    if done:
        notes += results.decode(_results(done[0]), record, code, kind)
    elif guessed:
        by = guessed[0].get("model_version")
        by = str(by)[:64] if by else "label-studio/prediction"
        notes += results.decode(_results(guessed[0]), record, code, kind, by)
    return record, notes


def _results(annotation: Mapping[str, Any]) -> list[Any]:
    found = annotation.get("result")
    return found if isinstance(found, list) else []


def _objects(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _value(data: Mapping[str, Any], code: int) -> str:
    given = data.get(OBJECT_OF[code])
    if isinstance(given, str):
        return given
    for one in data.values():
        if isinstance(one, str) and one:
            return one
    raise BadSample(f"the task's data has no {OBJECT_OF[code]}")


class LabelStudioExporter:
    """``tasks.json``, the objects in a folder beside it, and a ``labeling_config.xml`` in which the tasks open."""

    export_format = "label-studio"
    dataset_types = frozenset(OBJECT_OF)

    async def write(self, request: ExportRequest) -> None:
        folder, code = request.folder, request.dataset_type.code
        out = folder.open("tasks.json")
        out.write(b"[")
        labels, relations, count = dict.fromkeys(request.labels), dict[str, None](), 0
        used: set[str] = set()
        async for batch in request.samples:
            sizes: dict[int, ImageInfo] = {}
            if OBJECT_OF[code] == "image":
                sizes = {id(r): size for r, size in await folder.sized(batch)}
                batch = [record for record in batch if id(record) in sizes]
            objects = [record for record in batch if not record.is_text]
            names = {id(r): f"{OBJECT_OF[code]}s/{folder.name_of(r)}" for r in objects}
            there = {id(record) for record in await folder.copy([(r, names[id(r)]) for r in objects])}
            for record in batch:
                if not record.is_text and id(record) not in there:
                    continue
                for one in record.annotations:
                    (relations if one.type == TRIPLET else labels)[one.name] = None
                value = record.source.removeprefix(CONTENT)
                if folder.copies and not record.is_text:
                    value = names[id(record)]
                size = sizes.get(id(record))
                if code in results.SHAPES:
                    task, notes = await off_loop(partial(encode, record, code, size, value))
                else:
                    task, notes = encode(record, code, size, value)
                for note in notes:
                    folder.note(record, note)
                said = [*task["annotations"], *task["predictions"]]
                used |= {one.get("from_name", "") for part in said for one in part["result"]}
                count += 1
                out.write((b",\n" if count > 1 else b"\n") + orjson.dumps({"id": count, **task}))
        out.write(b"\n]\n")
        await folder.put({"labeling_config.xml": _config(code, labels, relations, used)})


def _config(code: int, labels: Iterable[str], relations: Iterable[str], used: Container[str]) -> bytes:
    """The interface in which Label Studio shows the tasks, with the tools that were `used`."""
    target = OBJECT_OF[code]
    lines = ["<View>"]
    if code in results.CLASSIFICATION:
        lines += [f'  <Choices name="choice" toName="{target}" choice="multiple">']
        lines += [*(f"    <Choice value={quoteattr(name)}/>" for name in labels), "  </Choices>"]
    controls = _CONTROLS.get(code, ())
    for name, tag in [one for one in controls if one[0] in used] or controls[:1]:
        lines += [f'  <{tag} name="{name}" toName="{target}">']
        lines += [*(f"    <Label value={quoteattr(label)}/>" for label in labels if label), f"  </{tag}>"]
    if code == 102:
        lines += ["  <Relations>", *(f"    <Relation value={quoteattr(n)}/>" for n in relations), "  </Relations>"]
    if code in (results.SPEECH, results.STRETCHES):
        per = ' perRegion="true"' if code == results.STRETCHES else ""
        lines += [f'  <TextArea name="transcription" toName="audio"{per}/>']
    lines += [f'  <{target.capitalize()} name="{target}" value="${target}"/>', "</View>", ""]
    return "\n".join(lines).encode()


class LabelStudioImporter(FileImporter):
    """The tasks of a JSON file, in their order. Files they name without a bucket lie beside it or in ``images``."""

    import_type = "label-studio"
    dataset_types = frozenset(OBJECT_OF)
    suffixes = (".json",)

    async def open(self, request: ImportRequest, source: ObjectPath, local: Path) -> Reader:
        tasks = _Tasks(local, str(source), request.dataset_type.code, request.dataset_type.annotation_type)
        name = await anyio.to_thread.run_sync(tasks.first_relative)
        beside = ObjectPath(source.bucket, source.key.rpartition("/")[0])
        tasks.root = await find_root(request.store, source, "", name) if name else beside
        return tasks


class _Tasks(Reader):
    def __init__(self, file: Path, place: str, code: int, kind: str) -> None:
        self._file = file
        self._place = place
        self._code = code
        self._kind = kind
        self._size = max(1, file.stat().st_size)
        self.root: ObjectPath

    def first_relative(self) -> str | None:
        """The first object that is named without a bucket. Raises Invalid when the file is no list of tasks."""
        number = 0
        try:
            for number, (task, _) in enumerate(self._tasks(), 1):
                try:
                    source = decode(task, self._code, self._kind)[0].source
                except BadSample:
                    source = CONTENT
                if not source.startswith(_ABSOLUTE):
                    return _relative(source)
                if number > _LOOKED_AT:
                    break
        except Invalid:
            if not number:
                raise
        return None

    def entries(self) -> Iterator[Entry]:
        number = 0
        try:
            for number, (task, at) in enumerate(self._tasks(), 1):
                self.progress = min(1.0, at / self._size)
                yield self._entry(number, task)
        except Invalid as e:
            yield Entry(f"{self._place}, behind task {number}", reason=e.message)

    def _entry(self, number: int, task: Mapping[str, Any]) -> Entry:
        place = f"{self._place}, task {number}"
        try:
            record, notes = decode(task, self._code, self._kind)
            if record.is_text:
                record.id = record.id or line_id(self._place, number, record.source)
            else:
                source = record.source
                record.source = inside(self.root, source if source.startswith(_ABSOLUTE) else _relative(source))
                record.name = record.source.rpartition("/")[2]
        except BadSample as e:
            return Entry(place, reason=str(e), text=str(task.get("data"))[:SHOWN])
        return Entry(place, record, text=str(task.get("data"))[:SHOWN], notes=notes)

    def _tasks(self) -> Iterator[tuple[dict[str, Any], int]]:
        """Each task, and how far the file was read. Raises Invalid."""
        import ijson

        with self._file.open("rb") as file:
            begin = file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
            if begin != b"[":
                raise Invalid(f"{self._place} is no list of tasks: it does not begin with '['")
            file.seek(0)
            try:
                for task in ijson.items(file, "item", use_float=True):
                    yield task if isinstance(task, dict) else {}, file.tell()
            except (ijson.JSONError, UnicodeDecodeError, RecursionError) as e:
                raise Invalid(f"{self._place} is not whole JSON: {e}") from e


def _relative(source: str) -> str:
    """The name of a file below the folder of the tasks."""
    if source.startswith(_LOCAL):
        return unquote(source.removeprefix(_LOCAL))
    if source.startswith(_UPLOADED):
        return unquote(source.rpartition("/")[2])
    return source


@hookimpl
def bottega_dataset_importers() -> Iterable[Importer]:
    return [LabelStudioImporter()]


@hookimpl
def bottega_dataset_exporters() -> Iterable[Exporter]:
    return [LabelStudioExporter()]
