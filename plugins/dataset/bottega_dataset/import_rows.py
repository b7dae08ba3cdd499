"""The importer of tables: every line of a .csv file is a sample."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import orjson

from bottega.objects import ObjectInfo
from bottega_dataset.annotation_files import CHUNK, SHOWN
from bottega_dataset.extension_points import ImportRequest, check
from bottega_dataset.manifest import MAX_LINE, ManifestReader
from bottega_dataset.sample import CONTENT, BadSample, Chunk, Problem, SampleRecord, line_id

_TRUE, _FALSE = ("true", "1"), ("false", "0")
WHOLE = ("BYTE", "SHORT", "INT", "INTEGER", "LONG", "BIGINT")
BROKEN = ("FLOAT", "DOUBLE", "DECIMAL")


class RowFolderImporter:
    """``a.csv``: comma-separated, quoted with ``"``, UTF-8.

    The dataset's schema names the columns and says what their cells are; ``with_column_header`` lets the first line
    name them, in any order (``schema_maps`` gives other names). Without either they are texts called c1, c2, …
    """

    import_type = "dir"
    dataset_types = frozenset({400})

    async def read(self, request: ImportRequest, cursor: Mapping[str, Any]) -> AsyncIterator[Chunk]:
        after: str = cursor.get("after", "")
        within: Mapping[str, Any] = cursor.get("within") or {}
        async for info in request.store.list(request.path.folder, start_after=after):
            key = info.path.key
            if key.endswith("/"):
                continue
            if key.lower().endswith(".csv"):
                async for chunk in self._file(request, info, after, within):
                    yield chunk
            else:
                yield Chunk([], [Problem(str(info.path), "not a table: the name must end with .csv")], {"after": key})
            after, within = key, {}
        yield Chunk([], [], {"after": after}, 1.0)

    async def _file(
        self, request: ImportRequest, info: ObjectInfo, after: str, within: Mapping[str, Any]
    ) -> AsyncIterator[Chunk]:
        lines = ManifestReader(request.store, info.path, offset=within.get("offset", 0), etag=within.get("etag"))
        columns = Columns(request.schema, within.get("columns"))
        number: int = within.get("line", 0)
        samples: list[SampleRecord] = []
        problems: list[Problem] = []
        row, first, goes_on = b"", number + 1, False
        async for offset, line in lines.lines():
            number += 1
            first = first if goes_on else number
            row = row + b"\n" + line if goes_on and line is not None else line or b""
            try:
                if line is None or len(row) > MAX_LINE:
                    raise BadSample(f"the row is longer than {MAX_LINE // 2**20} MB")
                if goes_on and line.count(b'"') % 2 == 0:
                    continue
                record = self._sample(request, info, columns, first, row)
                if record:
                    samples.append(check(request.dataset_type, record))
            except _Unfinished:
                goes_on = True
                continue
            except (BadSample, UnicodeDecodeError, csv.Error) as e:
                shown = row[: SHOWN * 4].decode("utf-8", "replace")[:SHOWN]
                problems.append(Problem(f"{info.path}, line {first}", str(e), shown))
            row, goes_on = b"", False
            if len(samples) + len(problems) >= CHUNK:
                here = {"line": number, "offset": offset, "etag": lines.etag, "columns": columns.names}
                yield Chunk(samples, problems, {"after": after, "within": here})
                samples, problems = [], []
        if goes_on:
            shown = row[: SHOWN * 4].decode("utf-8", "replace")[:SHOWN]
            problems.append(Problem(f"{info.path}, line {first}", 'a cell begins with " and does not end', shown))
        yield Chunk(samples, problems, {"after": info.path.key})

    @staticmethod
    def _sample(
        request: ImportRequest, info: ObjectInfo, columns: Columns, number: int, row: bytes
    ) -> SampleRecord | None:
        text = row.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        if not text.strip():
            return None
        try:
            (cells,) = csv.reader(io.StringIO(text, newline=""), strict=True)
        except csv.Error as e:
            if "unexpected end" in str(e):
                raise _Unfinished from e
            raise
        if number == 1 and request.label_format.get("with_column_header"):
            columns.head(cells, request.label_format.get("schema_maps") or {})
            return None
        return SampleRecord(
            source=CONTENT + orjson.dumps(columns.row(cells)).decode(),
            id=line_id(str(info.path), number, text),
            file=str(info.path),
            name=info.path.name,
            size=len(row),
            modified_at=info.modified_at,
        )


class _Unfinished(Exception):
    """A cell in quotes goes on in the next line."""


class Columns:
    """The columns of one file, and what their cells must be."""

    def __init__(self, schema: Sequence[Mapping[str, Any]], names: Sequence[str] | None) -> None:
        self._types = {str(field["name"]): str(field.get("type") or "STRING").upper() for field in schema}
        self.names = list(names or self._types)

    def head(self, cells: Sequence[str], renamed: Mapping[str, str]) -> None:
        """Take the names of the first line. Raises BadSample when the schema has others, or one is there twice."""
        names = [renamed.get(cell.strip(), cell.strip()) for cell in cells]
        if len(set(names)) != len(names) or "" in names:
            raise BadSample("the first line must name each column, and none twice")
        missing = [name for name in self._types if name not in names]
        if missing:
            raise BadSample(f"the first line has no column '{missing[0]}', which the schema has")
        self.names = names

    def row(self, cells: Sequence[str]) -> dict[str, Any]:
        """Raises BadSample, naming the column."""
        names = self.names or [f"c{n}" for n in range(1, len(cells) + 1)]
        if len(cells) != len(names):
            raise BadSample(f"the row has {len(cells)} cells; there are {len(names)} columns")
        return {name: self._cell(name, cell) for name, cell in zip(names, cells, strict=True)}

    def _cell(self, name: str, cell: str) -> Any:
        wanted = self._types.get(name, "STRING")
        text = cell.strip()
        try:
            if wanted in WHOLE:
                return _whole(text) if text else None
            if wanted in BROKEN:
                return _broken(text) if text else None
        except ValueError as e:
            raise BadSample(f"column '{name}': '{cell[:40]}' is no {wanted}") from e
        if wanted == "BOOLEAN":
            if text.lower() not in (*_TRUE, *_FALSE, ""):
                raise BadSample(f"column '{name}': '{cell[:40]}' is no BOOLEAN")
            return text.lower() in _TRUE if text else None
        return cell


def _whole(text: str) -> int:
    """Raises ValueError for what is none, or does not fit in 64 bits."""
    number = int(text)
    if "_" in text or not -(2**63) <= number < 2**63:
        raise ValueError
    return number


def _broken(text: str) -> float:
    """Raises ValueError for what is no number, and for infinity and NaN, which JSON does not have."""
    number = float(text)
    if "_" in text or number - number != 0:
        raise ValueError
    return number
