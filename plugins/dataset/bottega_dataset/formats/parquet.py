"""Parquet: a row for each sample, of every type of dataset, with everything a manifest says of it.

The columns are ``source``, ``usage``, ``id``, ``labels`` (a list, for whoever reads it with pandas), ``annotations``
and ``property`` (JSON, as in a manifest) and ``inference_loc``. Files of others are read by the names of their columns,
as those of Hugging Face are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio.to_thread
import orjson

from bottega.errors import Invalid
from bottega.hookspecs import hookimpl
from bottega.objects import ObjectPath
from bottega_dataset.extension_points import DatasetType, Exporter, ExportRequest, Importer, ImportRequest
from bottega_dataset.formats.coco import find_root
from bottega_dataset.formats.outlines import SUBSET_OF
from bottega_dataset.formats.reading import Entry, FileImporter, Reader, gathered, inside
from bottega_dataset.formats.rows import Columns, decode, stored
from bottega_dataset.manifest import write_annotation
from bottega_dataset.sample import BadSample, SampleRecord, line_id

_ABSOLUTE = ("s3://", "obs://", "https://", "http://")
_TEXTS = ("source", "usage", "id", "annotations", "property", "inference_loc")
_AT_ONCE = 200
_GROUP = 10_000


def encode(record: SampleRecord, source: str) -> dict[str, Any]:
    """A sample as a row."""
    return {
        "source": source,
        "usage": record.usage,
        "id": record.id,
        "labels": [one.name for one in record.annotations if one.name],
        "annotations": orjson.dumps([write_annotation(one) for one in record.annotations]).decode(),
        "property": orjson.dumps(record.property).decode() if record.property else None,
        "inference_loc": record.inference_loc,
    }


class ParquetExporter:
    """``data/<subset>.parquet``, and the objects in ``files``."""

    export_format = "parquet"
    dataset_types = None

    async def write(self, request: ExportRequest) -> None:
        folder = request.folder
        writers: dict[str, _Writer] = {}
        async for batch in request.samples:
            objects = [record for record in batch if record.source.startswith("s3://")]
            names = {id(record): f"files/{folder.name_of(record)}" for record in objects}
            there = {id(record) for record in await folder.copy([(r, names[id(r)]) for r in objects])}
            for record in batch:
                if id(record) in names and id(record) not in there:
                    continue
                source = names[id(record)] if folder.copies and id(record) in names else record.source
                subset = SUBSET_OF[record.usage]
                if subset not in writers:
                    writers[subset] = _Writer(folder.open(f"data/{subset}.parquet"))
                await writers[subset].add(encode(record, source))
        for writer in writers.values():
            await writer.close()


class _Writer:
    def __init__(self, out: Any) -> None:
        pa = arrow()
        import pyarrow.parquet as pq

        self._schema = pa.schema(
            [(name, pa.string()) for name in _TEXTS[:3]]
            + [("labels", pa.list_(pa.string()))]
            + [(name, pa.string()) for name in _TEXTS[3:]]
        )
        self._pa = pa
        self._writer = pq.ParquetWriter(out, self._schema)
        self._rows: list[dict[str, Any]] = []

    async def add(self, row: dict[str, Any]) -> None:
        self._rows.append(row)
        if len(self._rows) == _GROUP:
            await self._flush()

    async def close(self) -> None:
        await self._flush()
        self._writer.close()

    async def _flush(self) -> None:
        if self._rows:
            rows, self._rows = self._rows, []
            table = self._pa.Table.from_pylist(rows, self._schema)
            await anyio.to_thread.run_sync(self._writer.write_table, table)


class ParquetImporter(FileImporter):
    """A sample a row. What the rows hold of images and sounds is put into the dataset's input folder."""

    import_type = "parquet"
    dataset_types: frozenset[int] | None = None
    suffixes: tuple[str, ...] = (".parquet",)
    stores_objects = True

    async def open(self, request: ImportRequest, source: ObjectPath, local: Path) -> Reader:
        rows = await anyio.to_thread.run_sync(
            Rows, local, str(source), request.dataset_type, split_of(source), source.key.endswith(".arrow")
        )
        name = await anyio.to_thread.run_sync(rows.first_relative)
        beside = ObjectPath(source.bucket, source.key.rpartition("/")[0])
        rows.root = await find_root(request.store, source, "", name) if name else beside
        return rows

    async def complete(self, request: ImportRequest, entries: Sequence[Entry]) -> Sequence[Entry]:
        return await gathered([_Store(request, entry).run for entry in entries])


class _Store:
    def __init__(self, request: ImportRequest, entry: Entry) -> None:
        self._request = request
        self._entry = entry

    async def run(self) -> Entry:
        # The place names file and row: read again, the same row is the same object.
        name = self._entry.place.rpartition(self._request.path.folder.key)[2]
        stem = name.replace(", row ", "-").replace(".parquet", "").replace(".arrow", "")
        return await stored(self._request, self._entry, f"{self._request.path.name}/{stem}")


class Rows(Reader):
    """The rows of a Parquet or Arrow file. Raises Invalid when it is none, or has no column of samples."""

    def __init__(self, file: Path, place: str, kind: DatasetType, split: str, is_arrow: bool) -> None:
        self._file = file
        self._place = place
        self._kind = kind
        self._split = split
        self._is_arrow = is_arrow
        self.root = ObjectPath.parse(place)
        self._pa = arrow()
        try:
            schema, self._total = self._opened()
        except Exception as e:  # a file of a stranger, read by a library that may raise anything
            raise Invalid(f"{place} is no {'Arrow' if is_arrow else 'Parquet'} file: {e}") from e
        self.columns = Columns(schema.names, features_of(schema.metadata))
        if not {"source", "annotations"} <= set(schema.names) and kind.sample_type != 4:
            self.columns.sample(kind.sample_type)

    def first_relative(self) -> str | None:
        """The first object, when it is named without a bucket."""
        for entry in self._entries():
            record = entry.record
            if record is not None and entry.data is None and not record.is_text:
                return None if record.source.startswith(_ABSOLUTE) else record.source
            return None
        return None

    def entries(self) -> Iterator[Entry]:
        for number, entry in enumerate(self._entries(), 1):
            self.progress = min(1.0, number / max(1, self._total)) if self._total else None
            record = entry.record
            if record is not None and record.is_text:
                record.id = record.id or line_id(self._place, number, record.source)
            elif record is not None and entry.data is None:
                try:
                    record.source = inside(self.root, record.source)
                    record.name = record.source.rpartition("/")[2]
                except BadSample as e:
                    entry = Entry(entry.place, reason=str(e))
            yield entry

    def _entries(self) -> Iterator[Entry]:
        number = 0
        try:
            for batch in self._batches():
                for row in batch.to_pylist():
                    number += 1
                    yield decode(row, self.columns, self._kind, f"{self._place}, row {number}", self._split)
        except Exception as e:  # the same library, at a later page of the file
            yield Entry(f"{self._place}, behind row {number}", reason=f"reading stops here: {e}")

    def _opened(self) -> tuple[Any, int]:
        if self._is_arrow:
            with self._pa.memory_map(str(self._file)) as source:
                return self._pa.ipc.open_stream(source).schema, 0
        import pyarrow.parquet as pq

        with pq.ParquetFile(self._file) as file:
            return file.schema_arrow, file.metadata.num_rows

    def _batches(self) -> Iterator[Any]:
        if self._is_arrow:
            with self._pa.memory_map(str(self._file)) as source:
                for batch in self._pa.ipc.open_stream(source):
                    for at in range(0, batch.num_rows, _AT_ONCE):
                        yield batch.slice(at, _AT_ONCE)
            return
        import pyarrow.parquet as pq

        with pq.ParquetFile(self._file) as file:
            yield from file.iter_batches(_AT_ONCE)


def features_of(metadata: Mapping[bytes, bytes] | None) -> dict[str, Any]:
    """The features Hugging Face writes into a schema; none where it did not."""
    try:
        found = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def split_of(path: ObjectPath) -> str:
    """``train`` of ``data/train-00000-of-00001.parquet``, ``train.parquet`` and ``train/data-00000-of-00001.arrow``."""
    folder, _, name = path.key.rpartition("/")
    stem = name.rpartition(".")[0].split("-")[0]
    return folder.rpartition("/")[2] if stem == "data" else stem


def arrow() -> Any:
    """PyArrow. Raises Invalid where it is not installed."""
    try:
        import pyarrow
    except ImportError as e:
        raise Invalid("Parquet and Arrow need pyarrow here: the operator installs bottega[formats]") from e
    return pyarrow


@hookimpl
def bottega_dataset_importers() -> Iterable[Importer]:
    return [ParquetImporter()]


@hookimpl
def bottega_dataset_exporters() -> Iterable[Exporter]:
    return [ParquetExporter()]
