"""The index of a version: what its manifest says of which sample and where, sorted by the samples' ids.

Two versions are compared by walking along their indexes, and a page of a version is read from its manifest by where
its lines begin. It is made when the version is published, kept beside its folder, and made anew when it is missing.

The file: a head; for each sample its id and what stands for its annotations (`content`), in the order of ids; for each
of these in the same order where its line begins in the manifest and how long it is; and where every `STRIDE`-th line
of the manifest begins.
"""

from __future__ import annotations

import heapq
import struct
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from bottega.errors import Conflict
from bottega.objects import ObjectPath
from bottega_dataset.entities import DatasetVersion

STRIDE = 500
_MAGIC = b"BOTTIDX1"
_HEAD = struct.Struct("<8sQQ")
KEY = 24
"""Bytes of a sample's id and content."""
PLACE = struct.Struct("<QI")
_MARK = struct.Struct("<Q")
_ENTRY = KEY + PLACE.size
_RUN = 50_000
_AT_ONCE = 8192


def path_of(version: DatasetVersion) -> ObjectPath:
    """``…/<name>-<id>/index/<version id>``: beside ``annotation``, whose layout the documents fix (002 §2.5)."""
    manifest = ObjectPath.parse(version.manifest_path, "manifest_path")
    above, found, _ = manifest.key.rpartition("/annotation/")
    folder = above if found else manifest.key.rpartition("/")[0]
    return ObjectPath(manifest.bucket, f"{folder}/index/{version.id}")


class IndexWriter:
    """Takes the samples of a version in the order of its manifest; memory does not grow with their number."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="bottega-index-")
        self._runs: list[Path] = []
        self._entries: list[bytes] = []
        self._marks = bytearray()
        self._position = 0
        self._count = 0

    def __enter__(self) -> IndexWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._folder.cleanup()

    def add(self, samples: Iterable[tuple[bytes, bytes, int]]) -> None:
        """:param samples: id, content, and length of the line with its newline."""
        entries, pack, position, count = self._entries, PLACE.pack, self._position, self._count
        for ident, said, length in samples:
            if count % STRIDE == 0:
                self._marks += _MARK.pack(position)
            entries.append(ident + said + pack(position, length))
            position += length
            count += 1
        self._position, self._count = position, count
        if len(entries) >= _RUN:
            self._spill()

    def finish(self) -> Path:
        """The file, readable as long as the block lasts."""
        if not self._runs:
            self._entries.sort()
            entries: Iterator[bytes] = iter(self._entries)
        else:
            self._spill()
            entries = heapq.merge(*(_entries(run) for run in self._runs))
        target = Path(self._folder.name) / "index"
        places = Path(self._folder.name) / "places"
        with target.open("wb") as out, places.open("w+b") as beside:
            out.write(_HEAD.pack(_MAGIC, self._count, len(self._marks) // _MARK.size))
            for entry in entries:
                out.write(entry[:KEY])
                beside.write(entry[KEY:])
            beside.seek(0)
            while block := beside.read(1 << 20):
                out.write(block)
            out.write(self._marks)
        return target

    def _spill(self) -> None:
        self._entries.sort()
        run = Path(self._folder.name) / str(len(self._runs))
        run.write_bytes(b"".join(self._entries))
        self._runs.append(run)
        self._entries = []


def _entries(run: Path) -> Iterator[bytes]:
    with run.open("rb") as file:
        while block := file.read(_ENTRY * 1000):
            yield from (block[at : at + _ENTRY] for at in range(0, len(block), _ENTRY))


@dataclass(frozen=True, slots=True)
class Head:
    """Sizes of an index: its samples, its marks, and where its parts begin."""

    count: int
    marks: int

    @classmethod
    def of(cls, data: bytes) -> Head:
        """Raises Conflict for what is no index."""
        if len(data) < _HEAD.size or not data.startswith(_MAGIC):
            raise Conflict("the index of the version is damaged; delete it, and it is made anew")
        _, count, marks = _HEAD.unpack(data[: _HEAD.size])
        return cls(count, marks)

    @property
    def keys(self) -> int:
        return _HEAD.size

    @property
    def places(self) -> int:
        return self.keys + self.count * KEY

    @property
    def end(self) -> int:
        return self.places + self.count * PLACE.size

    size = _HEAD.size


class Index:
    """An index in a local file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with path.open("rb") as file:
            self.head = Head.of(file.read(Head.size))

    @property
    def count(self) -> int:
        return self.head.count

    def ident(self, number: int) -> bytes:
        """The id of the sample of that rank."""
        with self._path.open("rb") as file:
            file.seek(self.head.keys + number * KEY)
            return file.read(16)

    def place(self, number: int) -> tuple[int, int]:
        """Where the line of the sample of that rank begins, and how long it is."""
        with self._path.open("rb") as file:
            file.seek(self.head.places + number * PLACE.size)
            begin, length = PLACE.unpack(file.read(PLACE.size))
        return begin, length

    def walk(self) -> Walk:
        return Walk(self._path, self.head)


class Walk:
    """The keys of an index, one behind the other; `block` shows the next ones at once."""

    def __init__(self, path: Path, head: Head) -> None:
        self._file = path.open("rb")
        self._file.seek(head.keys)
        self._left = head.count * KEY
        self._buffer = b""
        self._at = 0
        self.number = 0

    def block(self, count: int) -> memoryview:
        """The next `count` keys, or as many as there are."""
        if len(self._buffer) - self._at < count * KEY and self._left:
            more = self._file.read(min(self._left, max(count, _AT_ONCE) * KEY))
            self._left -= len(more)
            self._buffer, self._at = self._buffer[self._at :] + more, 0
        return memoryview(self._buffer)[self._at : self._at + count * KEY]

    def skip(self, count: int) -> None:
        self._at += count * KEY
        self.number += count

    def close(self) -> None:
        self._file.close()


ADDED, REMOVED, MODIFIED = "added", "removed", "modified"
CHANGES = (ADDED, REMOVED, MODIFIED)
_SAME = 512


def differences(old: Index | None, new: Index) -> Iterator[tuple[str, int, int]]:
    """What changed from one version to the other: how, and the ranks of the sample in the old and the new index.

    A rank that does not exist is -1. Long stretches that are the same are passed over as a whole.
    """
    if old is None:
        yield from ((ADDED, -1, number) for number in range(new.count))
        return
    before, after = old.walk(), new.walk()
    try:
        while True:
            a, b = before.block(_SAME), after.block(_SAME)
            if a == b:
                if not a:
                    return
                before.skip(len(a) // KEY)
                after.skip(len(b) // KEY)
                continue
            first, second = bytes(a), bytes(b)
            x = y = 0
            # As long as both stretches last; then the next ones are compared as a whole again.
            while x < len(first) and y < len(second):
                one, other = first[x : x + KEY], second[y : y + KEY]
                if one == other:
                    x, y = x + KEY, y + KEY
                elif one[:16] == other[:16]:
                    yield MODIFIED, before.number + x // KEY, after.number + y // KEY
                    x, y = x + KEY, y + KEY
                elif one < other:
                    yield REMOVED, before.number + x // KEY, -1
                    x += KEY
                else:
                    yield ADDED, -1, after.number + y // KEY
                    y += KEY
            if not second:
                yield from ((REMOVED, before.number + n, -1) for n in range(len(first) // KEY))
                x = len(first)
            elif not first:
                yield from ((ADDED, -1, after.number + n) for n in range(len(second) // KEY))
                y = len(second)
            before.skip(x // KEY)
            after.skip(y // KEY)
    finally:
        before.close()
        after.close()
