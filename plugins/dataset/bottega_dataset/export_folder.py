"""The folder an exporter writes into: files, copies of the samples' objects, and the list of what it cannot carry."""

from __future__ import annotations

import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import BinaryIO

import anyio

from bottega.errors import NotFound
from bottega.objects import ObjectPath, ObjectStore
from bottega_dataset import media
from bottega_dataset.sample import SIZE, BadSample, Problem, SampleRecord

_AT_ONCE = 16
_DELETED_AT_ONCE = 1000

Refusal = Callable[[SampleRecord], Awaitable[str | None]]


class ExportFolder:
    """What lies under `path` once the export is done.

    :param origin: the dataset's input folder: samples keep their place below it.
    :param refusal: why a sample's source must not be read by the one who exports; None when it may.
    :param copies: whether objects are copied beside what is written of them.
    """

    def __init__(
        self, store: ObjectStore, path: ObjectPath, *, origin: str, refusal: Refusal, copies: bool = True
    ) -> None:
        self._store = store
        self._origin = origin
        self._refusal = refusal
        self._names: set[int] = set()
        self._files: dict[str, BinaryIO] = {}
        self._local = tempfile.TemporaryDirectory(prefix="bottega-export-")
        self.path = path
        self.copies = copies
        self.problems: list[Problem] = []
        self.left_out = 0

    def leave_out(self, record: SampleRecord, reason: str) -> None:
        """The sample is not in the export."""
        self.note(record, reason)
        self.left_out += 1

    def note(self, record: SampleRecord, reason: str) -> None:
        """Something of the sample is not in the export."""
        self.problems.append(Problem(record.source[:1000], reason))

    def place_of(self, record: SampleRecord) -> str:
        """A name for the sample's object that no other sample has: as in the input folder where it is from there."""
        if self._origin and record.source.startswith(self._origin):
            return record.source.removeprefix(self._origin)
        return f"{record.id}-{record.source.rpartition('/')[2]}"

    def name_of(self, record: SampleRecord, within: str | None = None) -> str:
        """A name such as ``cats/1.jpg``. No two differ in their suffix only: a file of annotations may stand beside.

        The same samples in the same order get the same names.

        :param within: the folder to name it in, with its ``/``; without one its place in the input folder.
        """
        inside = record.source.startswith(self._origin) if self._origin and within is None else False
        name = record.source.removeprefix(self._origin) if inside else (within or "") + record.source.rpartition("/")[2]
        suffix = PurePosixPath(name).suffix
        stem = name.removesuffix(suffix)
        mark = int.from_bytes(blake2b(stem.encode(), digest_size=8).digest(), "big")
        if mark in self._names:
            return f"{stem}-{record.id}{suffix}"
        self._names.add(mark)
        return name

    def open(self, name: str) -> BinaryIO:
        """A file to write, piece by piece. It is stored when the export is done; the same name is the same file."""
        if name not in self._files:
            self._files[name] = (Path(self._local.name) / str(len(self._files))).open("w+b")
        return self._files[name]

    async def put(self, files: Mapping[str, bytes]) -> None:
        """Store whole files by their relative names."""
        await self._each([partial(self._store.put, self._inside(n), d) for n, d in files.items()])

    async def copy(self, wanted: Sequence[tuple[SampleRecord, str]]) -> list[SampleRecord]:
        """Copy samples' objects under relative names; returns those that are there.

        One that may not or cannot be read is left out. Without `copies` nothing is copied, and all are returned.
        """
        if not self.copies:
            return [record for record, _ in wanted]
        missing: set[int] = set()

        async def copy(record: SampleRecord, name: str) -> None:
            reason = await self._refusal(record) if record.source.startswith("s3://") else "it lies elsewhere"
            if reason is None:
                try:
                    await self._copy(ObjectPath.parse(record.source), self._inside(name))
                    return
                except NotFound:
                    reason = "its object is not there any more"
            missing.add(id(record))
            self.leave_out(record, f"not copied: {reason}")

        await self._each([partial(copy, r, n) for r, n in wanted])
        return [record for record, _ in wanted if id(record) not in missing]

    async def sized(self, batch: Sequence[SampleRecord]) -> list[tuple[SampleRecord, media.ImageInfo]]:
        """The images with their sizes, which are read from the objects where they are not known.

        An image whose size cannot be read is left out.
        """
        found: dict[int, media.ImageInfo] = {}

        async def measure(record: SampleRecord) -> None:
            try:
                found[id(record)] = known_size(record) or await self._measured(record)
            except (BadSample, NotFound) as e:
                self.leave_out(record, f"its size is not known: {e}")

        await self._each([partial(measure, r) for r in batch])
        return [(record, found[id(record)]) for record in batch if id(record) in found]

    async def finish(self) -> None:
        """Store the opened files, in the order they were opened."""
        for name, file in self._files.items():
            file.close()
            await self._store.upload(Path(file.name), self._inside(name))

    async def clear(self) -> None:
        """Remove everything under the path: what an interrupted export left there."""
        await clear(self._store, self.path)

    def __enter__(self) -> ExportFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._files.values():
            file.close()
        self._local.cleanup()

    def _inside(self, name: str) -> ObjectPath:
        return ObjectPath.parse(str(self.path / name), "name")

    async def _measured(self, record: SampleRecord) -> media.ImageInfo:
        if not record.source.startswith("s3://"):
            raise BadSample("it lies elsewhere")
        reason = await self._refusal(record)
        if reason:
            raise BadSample(reason)
        return await media.image_at(self._store, ObjectPath.parse(record.source))

    async def _copy(self, source: ObjectPath, target: ObjectPath) -> None:
        local = Path(self._local.name) / f"copy-{blake2b(str(target).encode(), digest_size=12).hexdigest()}"
        await self._store.download(source, local)
        await self._store.upload(local, target)
        local.unlink()

    @staticmethod
    async def _each(calls: Sequence[Callable[[], Awaitable[object]]]) -> None:
        limit = anyio.Semaphore(_AT_ONCE)

        async def one(call: Callable[[], Awaitable[object]]) -> None:
            async with limit:
                await call()

        try:
            async with anyio.create_task_group() as group:
                for call in calls:
                    group.start_soon(one, call)
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from failures


async def clear(store: ObjectStore, folder: ObjectPath) -> None:
    """Remove every object under a folder."""
    some: list[ObjectPath] = []
    async for info in store.list(folder.folder):
        some.append(info.path)
        if len(some) == _DELETED_AT_ONCE:
            await store.delete(some)
            some = []
    if some:
        await store.delete(some)


def known_size(record: SampleRecord) -> media.ImageInfo | None:
    """The size a sample carries with it (``@modelarts:size``)."""
    size = (record.property or {}).get(SIZE)
    if not isinstance(size, list) or not 2 <= len(size) <= 3:
        return None
    if not all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in size):
        return None
    return media.ImageInfo("", size[0], size[1], size[2] if len(size) == 3 else 3)
