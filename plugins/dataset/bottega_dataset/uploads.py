"""Adding samples from a person's machine (002 §2.4): checked, stored in the dataset's input path, entered as samples.

The documents' limits hold for a batch: images 8 MB together (JPG, JPEG, PNG, BMP); WAV sounds 4 MB each and 8 MB
together; TXT and CSV 8 MB together, where each line is a text. What is no such file is refused by itself; the others of
the batch are added.
"""

from __future__ import annotations

import mimetypes
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b, md5
from pathlib import PurePosixPath
from typing import Any

import anyio

from bottega.errors import ApiError, Invalid
from bottega.objects import ObjectInfo, ObjectPath, ObjectStore
from bottega_dataset import media
from bottega_dataset.entities import Dataset
from bottega_dataset.extension_points import DatasetType, Importer, ImportRequest, check
from bottega_dataset.sample import SIZE, Annotation, BadSample, SampleRecord

MB = 2**20
BATCH = 8 * MB
SOUND = 4 * MB
_AT_ONCE = 16
_LISTED = 5000
_IMAGE, _TEXT, _SOUND, _TABLE = 0, 1, 2, 4
_OF_LINES = (_TEXT, _TABLE)
_NAME = re.compile(r"""[^!<>=&"'\x00-\x1f]{0,1024}""")
_ENCODINGS = {"utf-8": "utf-8-sig", "gbk": "gbk", "gb2312": "gb2312"}


@dataclass(slots=True)
class File:
    """One file of a batch: its bytes, or the object it is already (`at`); what is said of it; what became of it.

    `records` are the samples it makes, `error` why it makes none.
    """

    name: str
    data: bytes = b""
    at: ObjectPath | None = None
    encoding: str = "UTF-8"
    annotations: Sequence[Annotation] = ()
    property: Mapping[str, Any] = field(default_factory=dict)
    records: list[SampleRecord] = field(default_factory=list)
    info: str = ""
    error: ApiError | None = None


def folder(dataset: Dataset, dataset_name: str) -> ObjectPath:
    """Where uploaded files go: the input path, or a folder of the output path where a dataset has none."""
    if dataset.data_path:
        return ObjectPath.parse(dataset.data_path, "data_path").folder
    return ObjectPath.parse(dataset.work_path, "work_path").folder / f"{dataset_name}-{dataset.id}/data/"


def check_batch(kind: DatasetType, files: Sequence[File]) -> None:
    """Raises Invalid when the batch is larger than the documents allow."""
    if sum(len(one.data) for one in files) > BATCH:
        raise Invalid(
            f"the files of one batch have {sum(len(one.data) for one in files):,} bytes together; "
            f"at most {BATCH // MB} MB are taken at once: send them in several batches"
        )
    for one in files:
        if kind.sample_type == _SOUND and len(one.data) > SOUND:
            raise Invalid(f"'{one.name}' has {len(one.data):,} bytes; a sound may have {SOUND // MB} MB")
        if not _NAME.fullmatch(one.name):
            raise Invalid(f"name '{one.name[:80]}' must have at most 1,024 characters and none of ! < > = & \" '")


class Uploads:
    """Stores files and says which samples they are."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    async def take(
        self,
        kind: DatasetType,
        target: ObjectPath,
        files: Sequence[File],
        importer: Importer,
        request: Callable[[ObjectStore], ImportRequest],
    ) -> None:
        """Check the files, store them under `target` many at once, and fill their `records` or `error`.

        :param importer: of folders of the type, which reads the files that hold many samples as it would in storage.
        """
        await self._each(files, lambda one: self._checked(kind, one))
        fresh = [one for one in files if one.error is None and one.at is None]
        await self._name(target, fresh)
        if kind.sample_type in _OF_LINES:
            await _read(fresh, importer, request)
        await self._each(fresh, lambda one: self._stored(kind, one))

    async def _each(self, files: Sequence[File], work: Any) -> None:
        limit = anyio.CapacityLimiter(_AT_ONCE)

        async def run(one: File) -> None:
            if one.error is not None:
                return
            async with limit:
                try:
                    await work(one)
                except BadSample as e:
                    one.error = Invalid(f"'{one.name}': {e}")
                except ApiError as e:
                    one.error = e

        async with anyio.create_task_group() as group:
            for one in files:
                group.start_soon(run, one)

    async def _checked(self, kind: DatasetType, one: File) -> None:
        """Look at the file and note which samples it makes; where they lie is said later."""
        if one.at is not None:
            one.records = [await self._there(kind, one, one.at)]
            return
        if not one.data:
            raise BadSample("the file is empty")
        if kind.sample_type in _OF_LINES:
            one.data = self._text(one).encode()
            return
        prop = dict(one.property)
        if kind.sample_type == _IMAGE:
            if not PurePosixPath(one.name).suffix:
                one.name = await media.off_loop(lambda: _named(one))
            info = await media.off_loop(lambda: media.image(one.data, one.name))
            prop.setdefault(SIZE, [info.width, info.height, info.depth])
        elif kind.sample_type == _SOUND:
            await media.off_loop(lambda: media.audio(one.data))
        one.records = [
            SampleRecord(
                source="",
                annotations=list(one.annotations),
                size=len(one.data),
                property=prop or None,
            )
        ]

    async def _there(self, kind: DatasetType, one: File, path: ObjectPath) -> SampleRecord:
        info = await self._store.head(path)
        record = SampleRecord(
            source=str(path),
            annotations=list(one.annotations),
            name=path.name,
            size=info.size,
            modified_at=info.modified_at,
            property=dict(one.property) or None,
        )
        if kind.sample_type == _IMAGE:
            image = await media.image_at(self._store, path)
            record.property = {SIZE: [image.width, image.height, image.depth], **one.property}
        return check(kind, record)

    async def _name(self, target: ObjectPath, files: Sequence[File]) -> None:
        """Give each file its object; a name that another object has, with other bytes, gets a mark of its content."""
        wanted: dict[str, File] = {}
        for one in files:
            try:
                if not one.name or one.name.endswith("/"):
                    raise Invalid("a file needs a name")
                path = ObjectPath.parse(f"{target}{one.name.lstrip('/')}", "name")
                if str(path) in wanted and wanted[str(path)].data != one.data:
                    path = _marked(path, one.data)
                one.at = path
                wanted[str(path)] = one
            except Invalid as e:
                one.error = Invalid(f"'{one.name}': {e.message}")
        taken = await self._taken(target, [one.at for one in wanted.values() if one.at is not None])
        for one in wanted.values():
            assert one.at is not None
            size, etag = taken.get(one.at.key, (-1, ""))
            if size == -1:
                continue
            if size != len(one.data) or etag != _etag(one.data):
                one.at = _marked(one.at, one.data)
                one.info = f"stored as '{one.at.name}': another object has that name"

    async def _taken(self, target: ObjectPath, paths: Sequence[ObjectPath]) -> dict[str, tuple[int, str]]:
        """Which of the objects are there already: size and ETag by key."""
        if not paths:
            return {}
        keys = sorted(path.key for path in paths)
        wanted, seen = set(keys), 0
        found: dict[str, tuple[int, str]] = {}
        before = keys[0][:-1] + chr(max(ord(keys[0][-1]) - 1, 1))
        async for info in self._store.list(target, start_after=before):
            if info.path.key > keys[-1]:
                return found
            seen += 1
            if info.path.key in wanted:
                found[info.path.key] = (info.size, info.etag)
            if seen > _LISTED:
                break
        else:
            return found
        for path in paths:  # a folder of very many objects: asking for each is quicker
            if path.key not in found and path.key > info.path.key:
                async for entry in self._store.list(path, limit=1):
                    if entry.path == path:
                        found[path.key] = (entry.size, entry.etag)
        return found

    async def _stored(self, kind: DatasetType, one: File) -> None:
        assert one.at is not None
        path = one.at
        if kind.sample_type not in _OF_LINES:
            one.records = [check(kind, replace(r, source=str(path), name=path.name)) for r in one.records]
        await self._store.put(path, one.data, _content_type(path))

    @staticmethod
    def _text(one: File) -> str:
        encoding = _ENCODINGS.get(one.encoding.lower())
        if encoding is None:
            raise BadSample(f"encoding '{one.encoding}' is none of UTF-8, GBK, GB2312")
        if not one.name.lower().endswith((".txt", ".csv")):
            raise BadSample("a text file's name must end with .txt or .csv")
        try:
            return one.data.decode(encoding)
        except UnicodeDecodeError as e:
            raise BadSample(f"byte {e.start:,} is not {one.encoding}: {e.reason}") from e


async def _read(files: Sequence[File], importer: Importer, request: Callable[[ObjectStore], ImportRequest]) -> None:
    """Read files that hold many samples, before they are stored, as an import of them would; a bad line refuses one."""
    for one in files:
        base = next((b for b in files if _result_of(b.name) == one.name), None)
        if base is not None and base.at is not None:
            one.at = ObjectPath(base.at.bucket, _result_of(base.at.key))
    by_path = {str(one.at): one for one in files if one.error is None}
    batch: Any = _Batch({path: one.data for path, one in by_path.items()})
    async for chunk in importer.read(request(batch), {}):
        for record in chunk.samples:
            one = by_path[record.file or ""]
            record.annotations = [*record.annotations, *one.annotations]
            record.property, record.modified_at = dict(one.property) or record.property, None
            one.records.append(record)
        for problem in chunk.problems:
            path, _, line = problem.place.partition(", ")
            one = by_path[path]
            if one.error is None:
                one.error = Invalid(f"'{one.name}'{', ' if line else ''}{line}: {problem.reason}")
    results = {str(one.at) for one in files if any(_result_of(base.name) == one.name for base in files)}
    for path, one in by_path.items():
        if one.error is None and not one.records and path not in results:
            one.error = Invalid(f"'{one.name}': there is no text in it")


def _result_of(name: str) -> str:
    """The file that holds the labels of a text file's lines."""
    stem, dot, suffix = name.rpartition(".")
    return f"{stem}_result{dot}{suffix}"


class _Batch:
    """The files of a batch as a store that can be read."""

    name = "upload"

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = {ObjectPath.parse(path): data for path, data in files.items()}

    async def list(
        self, folder: ObjectPath, *, start_after: str = "", limit: int | None = None
    ) -> AsyncIterator[ObjectInfo]:
        for path in sorted(self._files, key=lambda one: one.key):
            if path.key.startswith(folder.key) and path.key > start_after:
                yield await self.head(path)

    async def head(self, path: ObjectPath) -> ObjectInfo:
        return ObjectInfo(path, len(self._files[path]), _etag(self._files[path]), 0)

    async def get(self, path: ObjectPath, start: int | None = None, end: int | None = None) -> bytes:
        return self._files[path][start or 0 : None if end is None else end + 1]


def _named(one: File) -> str:
    """A name for an image that came without one, or without a suffix."""
    info = media.image(one.data, whole=False)
    suffix = {"JPEG": ".jpg"}.get(info.format, f".{info.format.lower()}")
    return (one.name or blake2b(one.data, digest_size=8).hexdigest()) + suffix


def _marked(path: ObjectPath, data: bytes) -> ObjectPath:
    stem, dot, suffix = path.key.rpartition(".")
    mark = blake2b(data, digest_size=4).hexdigest()
    return ObjectPath(path.bucket, f"{stem}-{mark}{dot}{suffix}" if dot else f"{path.key}-{mark}")


def _etag(data: bytes) -> str:
    """The ETag S3 gives an object that was put whole."""
    return md5(data, usedforsecurity=False).hexdigest()


def _content_type(path: ObjectPath) -> str:
    return mimetypes.guess_type(path.name)[0] or "application/octet-stream"
