"""CSV: a line for each text, image, sound or row of a table, with its labels.

Columns are ``text`` or ``path``, ``label`` (several, separated by commas), ``usage`` and ``id``; those of a table are
its own, and ``@label`` and ``@usage``. A first line that names none of them is a sample.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import anyio.to_thread
import orjson

from bottega.errors import Invalid
from bottega.hookspecs import hookimpl
from bottega.objects import ObjectPath
from bottega_dataset.extension_points import Exporter, ExportRequest, Importer, ImportRequest
from bottega_dataset.formats import outlines
from bottega_dataset.formats.coco import find_root
from bottega_dataset.formats.reading import Entry, FileImporter, Reader, inside
from bottega_dataset.formats.rows import LABEL_OF_ROW, TABLE, TEXT, USAGE_OF_ROW, Columns, decode
from bottega_dataset.import_rows import Columns as TableColumns
from bottega_dataset.sample import CONTENT, BadSample, SampleRecord, line_id

TYPES = frozenset({0, 100, 200, 400})
MAX_LINE = 2**20
"""Characters of a line."""
_ABSOLUTE = ("s3://", "obs://", "https://", "http://")


def encode(record: SampleRecord, sample_type: int, path: str, columns: Sequence[str]) -> tuple[list[Any], list[str]]:
    """A sample's line, and what of it a line cannot say. Raises BadSample when it has no place in the columns.

    :param path: where its object is; for a text it is not looked at.
    """
    notes = []
    if any(outlines.extras(one) or one.confidence is not None for one in record.annotations):
        notes.append("CSV carries labels, nothing else of an annotation")
    labels = ",".join(one.name for one in record.annotations)
    if sample_type == TABLE:
        cells = orjson.loads(record.source.removeprefix(CONTENT))
        if list(cells) != list(columns[:-2]):
            raise BadSample(f"the row has the columns {', '.join(cells)[:200]}; the first one has others")
        return ["" if cell is None else cell for cell in cells.values()] + [labels, record.usage or ""], notes
    if sample_type == TEXT and record.is_text:
        return [record.source.removeprefix(CONTENT), labels, record.usage or "", record.id or ""], notes
    if sample_type == TEXT:
        raise BadSample("a text that is an object of its own; CSV carries texts")
    return [path, labels, record.usage or ""], notes


class CsvExporter:
    """``data.csv``, and the objects in ``files`` beside it."""

    export_format = "csv"
    dataset_types = TYPES

    async def write(self, request: ExportRequest) -> None:
        folder, kind = request.folder, request.dataset_type.sample_type
        out = io.TextIOWrapper(folder.open("data.csv"), "utf-8", newline="", write_through=True)
        lines = csv.writer(out)
        columns: list[str] = []
        async for batch in request.samples:
            objects = [record for record in batch if not record.is_text]
            names = {id(record): f"files/{folder.name_of(record)}" for record in objects}
            there = {id(record) for record in await folder.copy([(r, names[id(r)]) for r in objects])}
            for record in batch:
                if not record.is_text and id(record) not in there:
                    continue
                if not columns:
                    columns = _columns(record, kind)
                    if request.options.get("with_column_header", True):
                        lines.writerow(columns)
                path = names[id(record)] if folder.copies and not record.is_text else record.source
                try:
                    line, notes = encode(record, kind, path, columns)
                except BadSample as e:
                    folder.leave_out(record, str(e))
                    continue
                lines.writerow(line)
                for note in notes:
                    folder.note(record, note)
        out.detach()


def _columns(record: SampleRecord, sample_type: int) -> list[str]:
    if sample_type == TABLE:
        return [*orjson.loads(record.source.removeprefix(CONTENT)), LABEL_OF_ROW, USAGE_OF_ROW]
    return ["text", "label", "usage", "id"] if sample_type == TEXT else ["path", "label", "usage"]


class CsvImporter(FileImporter):
    """A sample a line. Objects that are named without a bucket lie beside the file."""

    import_type = "csv"
    dataset_types = TYPES
    suffixes = (".csv",)

    async def open(self, request: ImportRequest, source: ObjectPath, local: Path) -> Reader:
        lines = _Lines(request, local, str(source))
        name = await anyio.to_thread.run_sync(lines.first_relative)
        beside = ObjectPath(source.bucket, source.key.rpartition("/")[0])
        lines.root = await find_root(request.store, source, "", name) if name else beside
        return lines


class _Lines(Reader):
    def __init__(self, request: ImportRequest, file: Path, place: str) -> None:
        self._request = request
        self._file = file
        self._place = place
        self._size = max(1, file.stat().st_size)
        self.root = request.path

    def first_relative(self) -> str | None:
        """The first object, when it is named without a bucket. Raises Invalid when the file is no CSV."""
        for entry in self._rows():
            record = entry.record
            if record is None or record.is_text or record.source.startswith(_ABSOLUTE):
                continue
            return record.source
        return None

    def entries(self) -> Iterator[Entry]:
        for number, entry in enumerate(self._rows(), 1):
            record = entry.record
            if record is not None and record.is_text:
                record.id = record.id or line_id(self._place, number, record.source)
            elif record is not None:
                try:
                    record.source = inside(self.root, record.source)
                except BadSample as e:
                    entry = Entry(entry.place, reason=str(e), text=record.source[:200])
            yield entry

    def _rows(self) -> Iterator[Entry]:
        csv.field_size_limit(MAX_LINE)
        number = 0
        with self._file.open("rb") as raw, io.TextIOWrapper(raw, "utf-8-sig", newline="") as file:
            lines = csv.reader(_bounded(file), strict=True)
            try:
                names: list[str] | None = None
                for cells in lines:
                    if not cells:
                        continue
                    if names is None:
                        names, is_header = self._header(cells)
                        if is_header:
                            continue
                    number += 1
                    self.progress = min(1.0, raw.tell() / self._size)
                    yield self._row(f"{self._place}, line {lines.line_num}", names, cells)
            except (csv.Error, UnicodeDecodeError) as e:
                if not number:
                    raise Invalid(f"{self._place} is no CSV: {e}") from e
                yield Entry(f"{self._place}, behind line {lines.line_num}", reason=f"reading stops here: {e}")

    def _header(self, cells: Sequence[str]) -> tuple[list[str], bool]:
        """The columns' names, and whether the first line has them."""
        kind, given = self._request.dataset_type.sample_type, [cell.strip() for cell in cells]
        if kind == TABLE:
            is_header = LABEL_OF_ROW in given or bool(self._request.label_format.get("with_column_header"))
            named = [str(column["name"]) for column in self._request.schema]
            return (given if is_header else named or [f"c{n}" for n in range(1, len(cells) + 1)]), is_header
        try:
            Columns(given).sample(kind)
        except Invalid:
            return ["text" if kind == TEXT else "path", "label", "usage"][: len(cells)], False
        return given, True

    def _row(self, place: str, names: Sequence[str], cells: Sequence[str]) -> Entry:
        shown = ",".join(cells)[:200]
        if len(cells) != len(names):
            return Entry(place, reason=f"the line has {len(cells)} cells; there are {len(names)} columns", text=shown)
        row: dict[str, Any] = dict(zip(names, cells, strict=True))
        if self._request.dataset_type.sample_type == TABLE:
            special = (LABEL_OF_ROW, USAGE_OF_ROW)
            own = [name for name in names if name not in special]
            try:
                typed = TableColumns(self._request.schema, own).row([row[name] for name in own])
            except BadSample as e:
                return Entry(place, reason=str(e), text=shown)
            row = {**typed, "usage": row.get(USAGE_OF_ROW), LABEL_OF_ROW: row.get(LABEL_OF_ROW)}
            entry = decode(row, Columns([*own, LABEL_OF_ROW]), self._request.dataset_type, place)
        else:
            entry = decode(row, Columns(names), self._request.dataset_type, place)
        entry.text = entry.text or shown
        return entry


def _bounded(file: TextIO) -> Iterator[str]:
    """Lines. Raises csv.Error at one that is too long to be read whole."""
    while line := file.readline(MAX_LINE + 1):
        if len(line) > MAX_LINE:
            raise csv.Error(f"a line is longer than {MAX_LINE // 2**20} MB")
        yield line


@hookimpl
def bottega_dataset_importers() -> Iterable[Importer]:
    return [CsvImporter()]


@hookimpl
def bottega_dataset_exporters() -> Iterable[Exporter]:
    return [CsvExporter()]
