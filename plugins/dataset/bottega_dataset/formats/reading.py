"""What importers of formats share: files fetched from storage, read entry after entry in a thread, in chunks."""

from __future__ import annotations

import tempfile
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import anyio
import anyio.to_thread
import orjson

from bottega.errors import Conflict, Invalid, NotFound
from bottega.objects import ObjectInfo, ObjectPath, ObjectStore
from bottega_dataset.extension_points import ImportRequest, check
from bottega_dataset.parsing import refuse_nul
from bottega_dataset.sample import BadSample, Chunk, Problem, SampleRecord

CHUNK = 1000
SHOWN = 200
_MOST_FILES = 10_000
_LISTED_AT_ONCE = 200
_AT_ONCE = 16

T = TypeVar("T")


@dataclass(slots=True)
class Entry:
    """One sample of a file, or why it is none. `notes` say what of it cannot be taken over; the rest of it is."""

    place: str
    record: SampleRecord | None = None
    reason: str = ""
    text: str = ""
    notes: list[str] = field(default_factory=list)
    data: bytes | None = None
    """The object itself, where a file holds it; `FileImporter.complete` stores it and says so in the record."""


class Reader(ABC):
    """The entries of one file. `progress` is the part of it that was read."""

    progress: float | None = None

    @abstractmethod
    def entries(self) -> Iterator[Entry]:
        """Runs in a thread."""

    def close(self) -> None:  # noqa: B027  # most have nothing to close
        """Runs when the entries were read, or reading was given up."""


class FileImporter(ABC):
    """Reads the file a request names, or the files of its folder whose names end with one of `suffixes`."""

    import_type: str
    dataset_types: frozenset[int] | None = None
    suffixes: tuple[str, ...]

    @abstractmethod
    async def open(self, request: ImportRequest, source: ObjectPath, local: Path) -> Reader:
        """`local` is a copy of the file. Raises an ApiError when the whole cannot be read."""

    async def complete(self, request: ImportRequest, entries: Sequence[Entry]) -> Sequence[Entry]:
        """What a thread cannot do: look into storage."""
        return entries

    async def read(self, request: ImportRequest, cursor: Mapping[str, Any]) -> AsyncIterator[Chunk]:
        files = await self._files(request)
        begun = cursor.get("file", "")
        for index, info in enumerate(files):
            key = info.path.key
            at = cursor if key == begun else {}
            if key < begun or at.get("whole"):
                continue
            if at.get("etag") not in (None, info.etag):
                raise Conflict(f"{info.path} was changed while it was being read; import it again")
            done: int = at.get("done", 0)
            async with fetched(request.store, info.path) as local:
                reader = await self.open(request, info.path, local)
                try:
                    entries = islice(reader.entries(), done, None)
                    while some := await anyio.to_thread.run_sync(_take, entries):
                        done += len(some)
                        here = {"file": key, "etag": info.etag, "done": done}
                        progress = None if reader.progress is None else (index + reader.progress) / len(files)
                        yield chunk(request, await self.complete(request, some), here, progress)
                finally:
                    reader.close()
            yield Chunk([], [], {"file": key, "whole": True}, (index + 1) / len(files))

    async def _files(self, request: ImportRequest) -> list[ObjectInfo]:
        return await files(request.store, request.path, self.suffixes)


class ListingImporter(ABC):
    """Reads the objects of a folder whose names end with one of `suffixes`, each a sample."""

    import_type: str
    dataset_types: frozenset[int] | None = None
    suffixes: tuple[str, ...]

    @abstractmethod
    async def prepare(self, request: ImportRequest) -> Any:
        """What `entry` needs to know of the whole folder. Raises an ApiError when that cannot be read."""

    @abstractmethod
    async def entry(self, request: ImportRequest, known: Any, info: ObjectInfo) -> Entry:
        """The sample of an object."""

    async def read(self, request: ImportRequest, cursor: Mapping[str, Any]) -> AsyncIterator[Chunk]:
        known = await self.prepare(request)
        after: str = cursor.get("after", "")
        some: list[ObjectInfo] = []
        async for info in request.store.list(request.path.folder, start_after=after):
            if info.path.key.lower().endswith(self.suffixes):
                some.append(info)
                after = info.path.key
            if len(some) == _LISTED_AT_ONCE:
                yield await self._chunk(request, known, some, after)
                some = []
        yield await self._chunk(request, known, some, after, 1.0)

    async def _chunk(
        self, request: ImportRequest, known: Any, some: Sequence[ObjectInfo], after: str, progress: float | None = None
    ) -> Chunk:
        entries = await gathered([partial(self.entry, request, known, info) for info in some])
        return chunk(request, entries, {"after": after}, progress)


def chunk(request: ImportRequest, entries: Sequence[Entry], cursor: Mapping[str, Any], progress: float | None) -> Chunk:
    """The entries that fit the dataset's type, and the problems of the others."""
    samples: list[SampleRecord] = []
    problems: list[Problem] = []
    for entry in entries:
        problems += [Problem(entry.place, note) for note in entry.notes]
        if entry.record is None:
            problems.append(Problem(entry.place, entry.reason, entry.text))
            continue
        try:
            samples.append(_storable(check(request.dataset_type, entry.record)))
        except BadSample as e:
            problems.append(Problem(entry.place, str(e), entry.text))
    return Chunk(samples, problems, cursor, progress)


def _storable(record: SampleRecord) -> SampleRecord:
    """Raises BadSample for what a database cannot keep: the character NUL, half of a surrogate pair."""
    try:
        said = orjson.dumps((record, record.annotations))
    except orjson.JSONEncodeError as e:
        raise BadSample(f"a text that is no Unicode: {e}") from e
    if b"\\u0000" in said:
        refuse_nul(orjson.loads(said))
    return record


@asynccontextmanager
async def fetched(store: ObjectStore, path: ObjectPath) -> AsyncIterator[Path]:
    """An object as a local file."""
    with _folder() as folder:
        file = folder / "file"
        await store.download(path, file)
        yield file


async def files(store: ObjectStore, path: ObjectPath, suffixes: tuple[str, ...]) -> list[ObjectInfo]:
    """The object at `path`, or those of the folder with these suffixes, in the order of their keys. Raises Invalid."""
    if path.key and not path.key.endswith("/"):
        try:
            return [await store.head(path)]
        except NotFound:
            pass
    found = []
    async for info in store.list(path.folder):
        if info.path.key.lower().endswith(suffixes):
            found.append(info)
            if len(found) > _MOST_FILES:
                raise Invalid(f"more than {_MOST_FILES} {' or '.join(suffixes)} files lie under {path.folder}")
    if not found:
        raise Invalid(f"no {' or '.join(suffixes)} file lies at or under {path}")
    return found


async def gathered(calls: Sequence[Callable[[], Awaitable[T]]]) -> list[T]:
    """What the calls give, in their order, some of them under way at once."""
    found: list[Any] = [None] * len(calls)
    limit = anyio.Semaphore(_AT_ONCE)

    async def one(index: int) -> None:
        async with limit:
            found[index] = await calls[index]()

    try:
        async with anyio.create_task_group() as group:
            for index in range(len(calls)):
                group.start_soon(one, index)
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from failures
    return found


async def text_at(store: ObjectStore, path: ObjectPath, most: int = 2**20) -> str | None:
    """A small text in storage; None when there is none. Raises BadSample when it is large, or not UTF-8."""
    try:
        info = await store.head(path)
        if info.size > most:
            raise BadSample(f"{path} is larger than {most} bytes")
        return (await store.get(path)).decode("utf-8-sig")
    except NotFound:
        return None
    except UnicodeDecodeError as e:
        raise BadSample(f"{path} is not UTF-8: {e}") from e


def inside(root: ObjectPath, name: str) -> str:
    """The source of an object a file names relative to `root`, or by its whole path. Raises BadSample."""
    if name.startswith(("https://", "http://")):
        return name
    try:
        path = ObjectPath.parse(name if name.startswith(("s3://", "obs://")) else str(root.folder / name), "file")
    except Invalid as e:
        raise BadSample(e.message) from e
    if not path.key or path.key.endswith("/"):
        raise BadSample(f"'{name}' names no file")
    return str(path)


def label_of(name: Any) -> str:
    """A label as it may be called here: ``traffic light`` becomes ``traffic_light``. Raises BadSample."""
    from bottega_dataset.label_names import LABEL_NAME, LABEL_RULE

    text = str(name)
    if LABEL_NAME.fullmatch(text):
        return text
    cleaned = "_".join(part for part in "".join(c if LABEL_NAME.fullmatch(c) else " " for c in text).split())
    if not LABEL_NAME.fullmatch(cleaned):
        raise BadSample(f"label '{text[:64]}' breaks the rule: {LABEL_RULE}")
    return cleaned


def _take(entries: Iterator[Entry]) -> list[Entry]:
    return list(islice(entries, CHUNK))


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="bottega-import-") as name:
        yield Path(name)
