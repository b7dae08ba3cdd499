"""Comparing two versions of a dataset, and reading pages of one, by their indexes (002 §2.6)."""

from __future__ import annotations

import struct
import tempfile
from array import array
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread

from bottega.errors import Conflict, NotFound
from bottega.objects import ObjectPath, ObjectStore
from bottega_dataset import annotation_files
from bottega_dataset.entities import DatasetVersion, Sample
from bottega_dataset.extension_points import DatasetType
from bottega_dataset.manifest import parse_line
from bottega_dataset.sample import HEX_ID, SampleRecord, identity
from bottega_dataset.snapshot import content, together
from bottega_dataset.version_index import (
    CHANGES,
    STRIDE,
    Head,
    Index,
    IndexWriter,
    differences,
    path_of,
)

_KEPT = 8
"""Comparisons kept for the next page of them."""
_LINES_AT_ONCE = 16
_MARK = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class Difference:
    """A sample that is not in both versions as it is in the other. `before` and `after` are None where it is not."""

    ident: bytes
    change: str
    before: SampleRecord | None
    after: SampleRecord | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """What two versions differ in: the ranks of the samples in both indexes, by how they changed."""

    before: Index
    after: Index
    ranks: Mapping[str, tuple[array[int], array[int]]]

    def count(self, change: str) -> int:
        return len(self.ranks[change][0])


class Comparisons:
    """Compares versions, and keeps what it found, which never changes, for those who turn pages."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._folder = tempfile.TemporaryDirectory(prefix="bottega-compare-")
        self._kept: OrderedDict[tuple[str, str], Comparison] = OrderedDict()
        self._lock = anyio.Lock()

    async def compare(self, kind: DatasetType, before: DatasetVersion, after: DatasetVersion) -> Comparison:
        """Raises Conflict unless both are published."""
        for one in (before, after):
            if not one.manifest_sha256:
                raise Conflict(f"version '{one.name}' is not published; only such can be compared")
        key = (before.id, after.id)
        async with self._lock:
            found = self._kept.pop(key, None)
            if found is None:
                old = await self._index(kind, before)
                new = await self._index(kind, after)
                found = await anyio.to_thread.run_sync(_compared, old, new)
            self._kept[key] = found
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
            used = {id for pair in self._kept for id in pair}
            for file in Path(self._folder.name).iterdir():
                if file.name not in used:
                    file.unlink()
        return found

    async def page(
        self,
        kind: DatasetType,
        before: DatasetVersion,
        after: DatasetVersion,
        found: Comparison,
        changes: Sequence[str],
        offset: int,
        limit: int,
    ) -> list[Difference]:
        """Some of the differences: of each kind of change in the order of the samples' ids."""
        chosen: list[tuple[str, int, int]] = []
        for change in changes:
            old, new = found.ranks[change]
            some = range(min(offset, len(old)), min(offset + limit - len(chosen), len(old)))
            chosen += [(change, old[n], new[n]) for n in some]
            offset = max(0, offset - len(old))
        first = await self._lines(kind, before, [found.before.place(old) if old >= 0 else None for _, old, _ in chosen])
        second = await self._lines(kind, after, [found.after.place(new) if new >= 0 else None for *_, new in chosen])
        idents = [found.after.ident(new) if new >= 0 else found.before.ident(old) for _, old, new in chosen]
        changed = [change for change, *_ in chosen]
        return [Difference(*one) for one in zip(idents, changed, first, second, strict=True)]

    async def _index(self, kind: DatasetType, version: DatasetVersion) -> Index:
        return await local_index(self._store, kind, version, Path(self._folder.name) / version.id)

    async def _lines(
        self, kind: DatasetType, version: DatasetVersion, places: Sequence[tuple[int, int] | None]
    ) -> list[SampleRecord | None]:
        manifest = ObjectPath.parse(version.manifest_path)
        lines: list[SampleRecord | None] = [None] * len(places)
        limit = anyio.CapacityLimiter(_LINES_AT_ONCE)

        async def read(number: int, begin: int, length: int) -> None:
            async with limit:
                lines[number] = parse_line(await self._store.get(manifest, begin, begin + length - 1))

        try:
            async with anyio.create_task_group() as group:
                for number, place in enumerate(places):
                    if place is not None:
                        group.start_soon(read, number, *place)
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from failures
        if kind.has_files:
            there = [n for n, record in enumerate(lines) if record is not None]
            found = [record for record in lines if record is not None]
            records = await annotation_files.inline(self._store, kind, found, version.manifest_path)
            for number, record in zip(there, records, strict=True):
                lines[number] = record
        return lines


async def page_of(
    store: ObjectStore, kind: DatasetType, version: DatasetVersion, offset: int, limit: int
) -> list[SampleRecord]:
    """Some samples of a version, in the order of its manifest. Raises NotFound when its manifest is gone."""
    if offset >= version.total_samples or not limit:
        return []
    index = path_of(version)
    try:
        head = Head.of(await store.get(index, 0, Head.size - 1))
    except NotFound:
        with tempfile.TemporaryDirectory(prefix="bottega-compare-") as place:
            await local_index(store, kind, version, Path(place) / "index")
        head = Head.of(await store.get(index, 0, Head.size - 1))
    first = offset // STRIDE
    last = min((offset + limit - 1) // STRIDE + 1, head.marks)
    begin = head.end + first * _MARK.size
    marks = await store.get(
        index, begin, min(head.end + (last + 1) * _MARK.size, head.end + head.marks * _MARK.size) - 1
    )
    positions = [position for (position,) in _MARK.iter_unpack(marks)]
    until = positions[last - first] - 1 if last < head.marks else None
    block = await store.get(ObjectPath.parse(version.manifest_path), positions[0], until)
    lines = block.splitlines()[offset - first * STRIDE :][:limit]
    records = [parse_line(line) for line in lines]
    return await annotation_files.inline(store, kind, records, version.manifest_path) if kind.has_files else records


async def local_index(store: ObjectStore, kind: DatasetType, version: DatasetVersion, file: Path) -> Index:
    """The index of a version in `file`; made of its manifest, and stored, where there is none."""
    if not file.exists():
        try:
            await store.download(path_of(version), file)
        except NotFound:
            await _made(store, kind, version, file)
    return Index(file)


async def _made(store: ObjectStore, kind: DatasetType, version: DatasetVersion, file: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="bottega-compare-") as place, IndexWriter() as writer:
        manifest = Path(place) / "manifest"
        await store.download(ObjectPath.parse(version.manifest_path), manifest)
        with manifest.open("rb") as lines:
            while some := lines.readlines(1 << 18):
                records = [parse_line(line) for line in some]
                idents = [ident(record) for record in records]
                if kind.has_files:
                    records = await annotation_files.inline(store, kind, records, version.manifest_path)
                said = [together([content(one) for one in record.annotations]) for record in records]
                writer.add(zip(idents, said, map(len, some), strict=True))
                await anyio.lowlevel.checkpoint()
        made = await anyio.to_thread.run_sync(writer.finish)
        await store.upload(made, path_of(version))
        await anyio.to_thread.run_sync(made.replace, file)


def row_of(record: SampleRecord, at: int) -> Sample:
    """A sample of a version in the form of those of the dataset, which may have others by now. `at` is epoch ms."""
    return Sample(
        key=0,
        dataset_key=0,
        sample_id=ident(record),
        source=record.source,
        name=record.name,
        usage=record.usage,
        labeled=bool(record.annotations),
        hard=any(one.hard for one in record.annotations),
        extra={"property": record.property} if record.property else None,
        added_at=at,
    )


def ident(record: SampleRecord) -> bytes:
    """The sample a line is about, though its object may have been copied and so have another source."""
    return bytes.fromhex(record.id) if record.id and HEX_ID.fullmatch(record.id) else identity(record)


def _compared(before: Index, after: Index) -> Comparison:
    ranks: dict[str, tuple[array[int], array[int]]] = {change: (array("q"), array("q")) for change in CHANGES}
    for change, old, new in differences(before, after):
        first, second = ranks[change]
        first.append(old)
        second.append(new)
    return Comparison(before, after, ranks)


def label_changes(before: DatasetVersion, after: DatasetVersion) -> list[dict[str, Any]]:
    """Labels that were added, removed, or are on another number of samples; by type and name."""
    old = {(one["type"], one["name"]): one for one in before.label_stats}
    new = {(one["type"], one["name"]): one for one in after.label_stats}
    found = []
    for key in sorted({*old, *new}):
        was, now = old.get(key), new.get(key)
        counts = [one["sample_count"] if one else 0 for one in (was, now)]
        if was is None or now is None or counts[0] != counts[1]:
            change = "added" if was is None else "removed" if now is None else "modified"
            names = {"type": key[0], "name": key[1], "change": change}
            found.append(names | {"base_sample_count": counts[0], "sample_count": counts[1]})
    return found
