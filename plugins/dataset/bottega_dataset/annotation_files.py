"""Annotations that lie in files of their own: read where an import finds them, written where a version is published."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any

import anyio
import anyio.to_thread

from bottega.errors import ApiError, Conflict, Invalid, Unavailable
from bottega.objects import ObjectPath, ObjectStore
from bottega_dataset.extension_points import DatasetType, ImportRequest, Refusal, check
from bottega_dataset.manifest import MAX_LINE, ManifestReader, parse_line
from bottega_dataset.sample import BadSample, Chunk, Problem, SampleRecord

MAX_FILE = 16 * 2**20
"""Bytes of one annotation file."""
CHUNK = 1000
SHOWN = 200
_AT_ONCE = 32

Placed = tuple[str, str, SampleRecord]
"""Where a record was found, as reports say it; the beginning of its text; and the record."""


async def read_manifest(request: ImportRequest, cursor: Mapping[str, Any]) -> AsyncIterator[Chunk]:
    """What `Importer.read` yields for a manifest whose lines may name annotation files."""
    number: int = cursor.get("line", 0)
    reader = ManifestReader(request.store, request.path, offset=cursor.get("offset", 0), etag=cursor.get("etag"))
    found: list[Placed] = []
    problems: list[Problem] = []
    offset = 0
    async for offset, line in reader.lines():
        number += 1
        place = f"{request.path}, line {number}"
        shown = (line or b"")[: SHOWN * 4].decode("utf-8", "replace")[:SHOWN]
        try:
            if line is None:
                raise BadSample(f"the line is longer than {MAX_LINE // 2**20} MB")
            if line.strip():
                found.append((place, shown, parse_line(line)))
        except BadSample as e:
            problems.append(Problem(place, str(e), shown))
        if len(found) + len(problems) >= CHUNK:
            samples, more = await expand(request, found)
            at = {"offset": offset, "line": number, "etag": reader.etag}
            yield Chunk(samples, [*problems, *more], at, offset / reader.size)
            found, problems = [], []
    samples, more = await expand(request, found)
    end = {"offset": reader.size, "line": number, "etag": reader.etag}
    yield Chunk(samples, [*problems, *more], end, 1.0)


async def expand(request: ImportRequest, found: Sequence[Placed]) -> tuple[list[SampleRecord], list[Problem]]:
    """The records with what their annotation files say, checked; and those that are not as the rules want them."""
    located = {one.loc: ObjectPath.parse(one.loc) for *_, r in found for one in r.annotations if one.loc}
    files = await _read(request.store, request.refusal, located)
    kind = request.dataset_type
    samples: list[SampleRecord] = []
    problems: list[Problem] = []
    for place, shown, record in found:
        try:
            own: dict[str, bytes] = {}
            for one in record.annotations:
                if one.loc:
                    content = files[one.loc]
                    if isinstance(content, BadSample):
                        raise content
                    own[one.loc] = content
            samples.append(check(kind, kind.expanded(record, own) if own else record))
        except BadSample as e:
            problems.append(Problem(place, str(e), shown))
    return samples, problems


async def inline(
    store: ObjectStore, kind: DatasetType, records: Sequence[SampleRecord], manifest: str
) -> list[SampleRecord]:
    """Records of a version with what its own files say in them.

    Raises NotFound when one is gone, Conflict when one is not the version's: its manifest lies in a bucket of the
    user's, who may have written into it whatever may be read by the platform but not by them.
    """
    folder = ObjectPath.parse(manifest.rpartition("/")[0] + "/")
    paths = {one.loc: ObjectPath.parse(one.loc) for record in records for one in record.annotations if one.loc}
    for path in paths.values():
        if not folder.contains(path):
            raise Conflict(f"{manifest} was changed since it was published: {path} is no file of this version")
    files: dict[str, bytes] = {}
    limit = anyio.CapacityLimiter(_AT_ONCE)

    async def read(location: str, path: ObjectPath) -> None:
        async with limit:
            files[location] = await store.get(path)

    await _all(read(location, path) for location, path in paths.items())
    return [kind.expanded(record, files) if record.annotations else record for record in records]


async def _read(
    store: ObjectStore, refusal_of: Refusal, located: Mapping[str, ObjectPath]
) -> dict[str, bytes | BadSample]:
    """The content of files, or why there is none. Raises Unavailable when the store is away."""
    files: dict[str, bytes | BadSample] = {}
    limit = anyio.CapacityLimiter(_AT_ONCE)

    async def read(location: str, path: ObjectPath) -> None:
        async with limit:
            try:
                refusal = await refusal_of(path)
                if refusal:
                    raise BadSample(f"{path}: {refusal}")
                files[location] = await _content(store, path)
            except Unavailable:
                raise
            except ApiError as e:
                files[location] = BadSample(e.message)
            except BadSample as e:
                files[location] = e

    await _all(read(location, path) for location, path in located.items())
    return files


async def _content(store: ObjectStore, path: ObjectPath) -> bytes:
    """One request for a file, with one byte more than it may have. Raises BadSample when it is longer."""
    try:
        content = await store.get(path, 0, MAX_FILE)
    except Invalid:  # an empty object has no range
        content = await store.get(path)
    if len(content) > MAX_FILE:
        raise BadSample(f"{path} is longer than {MAX_FILE // 2**20} MB, and so long an annotation file may be")
    return content


async def publish(
    store: ObjectStore, kind: DatasetType, records: Sequence[SampleRecord], folder: ObjectPath
) -> list[SampleRecord]:
    """Write the files of records into the folder of a version; the records as its manifest has them."""
    # Off the event loop: drawing masks takes a while.
    done = await anyio.to_thread.run_sync(lambda: [kind.published(record, folder) for record in records])
    limit = anyio.CapacityLimiter(_AT_ONCE)

    async def write(path: ObjectPath, content: bytes) -> None:
        async with limit:
            await store.put(path, content)

    await _all(write(path, content) for _, files in done for path, content in files.items())
    return [record for record, _ in done]


async def _all(work: Iterable[Any]) -> None:
    """Do all of it at once. Raises the first error, not a group of them."""

    async def one(coroutine: Any) -> None:
        await coroutine

    try:
        async with anyio.create_task_group() as group:
            for coroutine in work:
                group.start_soon(one, coroutine)
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from failures
