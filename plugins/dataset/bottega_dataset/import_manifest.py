"""The importer of manifests."""

from __future__ import annotations

import asyncio
import pickle
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack
from itertools import chain, repeat
from typing import Any

import anyio.lowlevel

from bottega_dataset import annotation_files
from bottega_dataset.extension_points import ImportRequest
from bottega_dataset.manifest import ManifestReader
from bottega_dataset.parsing import Parsed, Parser, ParserProcess, problem, too_long
from bottega_dataset.sample import Chunk

CHUNK = 1000
_APART_FROM = 16 * 2**20
"""Bytes of a manifest that are worth a process of their own; less is parsed here, a little at a time."""
_AHEAD = 1
"""Parts the process is given beside the one that is waited for, so that it has something to do meanwhile."""
_LINES = 32_000
"""Short ones in a chunk, about: others who write wait for them."""
_BLOCK, _PART, _LITTLE = 4 * 2**20, 4 * 2**20, 64 * 1024
"""Bytes that are read at once, become a chunk, and are parsed here before others have their turn."""
_GROWING = (16, 8, 4, 2)
"""How many times as small as others the first chunks are: writing, which takes longer than parsing, begins soon and
goes on without a pause."""


class ManifestImporter:
    """Every line is a sample; a bad one is reported and the next one read."""

    import_type = "manifest"
    dataset_types = None

    async def read(self, request: ImportRequest, cursor: Mapping[str, Any]) -> AsyncIterator[Chunk]:
        if request.dataset_type.has_files:
            async for chunk in annotation_files.read_manifest(request, cursor):
                yield chunk
            return
        number: int = cursor.get("line", 0)
        reader = ManifestReader(request.store, request.path, offset=cursor.get("offset", 0), etag=cursor.get("etag"))
        await reader.open()
        parser = Parser(request.dataset_type, request.choice, str(request.path))
        # What the other process has been given: its answer, and the offset and the number of lines behind it.
        ahead: deque[tuple[asyncio.Task[Parsed], int, int]] = deque()
        shares = chain(_GROWING, repeat(1))

        async def answer() -> Chunk:
            found, end, lines = ahead.popleft()
            return _chunk(reader, await found, end, lines)

        async with AsyncExitStack() as stack:
            apart = None
            if reader.size - cursor.get("offset", 0) >= _APART_FROM and _travels(parser):
                apart = await stack.enter_async_context(ParserProcess(parser))
            stack.callback(_drop, ahead)
            async for behind, block in reader.blocks(_BLOCK):
                if block is None:
                    while ahead:
                        yield await answer()
                    number += 1
                    problems = [problem(str(request.path), number, str(too_long()), None)]
                    yield Chunk([], problems, _at(reader, behind, number), behind / reader.size)
                    continue
                offset = behind - len(block)
                average = len(block) // (block.count(b"\n") + 1) + 1
                most = min(_PART, _LINES * average)
                for part in _parts(block, (most // share for share in shares)):
                    following, offset = number + 1, offset + len(part)
                    if apart and apart.is_ready:
                        number += part.count(b"\n") + (not part.endswith(b"\n"))
                        ahead.append((asyncio.create_task(apart(part, following)), offset, number))
                        if len(ahead) > _AHEAD:
                            yield await answer()
                        continue
                    for little in _parts(part, repeat(_LITTLE)):
                        await anyio.lowlevel.checkpoint()
                        number += parser.read(little, number + 1)
                    yield _chunk(reader, parser.taken(), offset, number)
            while ahead:
                yield await answer()


def _drop(ahead: Iterable[tuple[asyncio.Task[Parsed], int, int]]) -> None:
    """Nobody wants these answers any more, nor to hear why there are none."""
    for answer, *_ in ahead:
        answer.cancel()
        answer.add_done_callback(lambda ended: ended.cancelled() or ended.exception())


def _chunk(reader: ManifestReader, found: Parsed, offset: int, number: int) -> Chunk:
    cursor, progress = _at(reader, offset, number), offset / reader.size
    return Chunk(found.samples, found.problems, cursor, progress, found.left_out)


def _at(reader: ManifestReader, offset: int, number: int) -> dict[str, Any]:
    return {"offset": offset, "line": number, "etag": reader.etag}


def _parts(block: bytes, sizes: Iterator[int]) -> Iterator[bytes]:
    """Whole lines, together of about as many bytes as `sizes` says part by part."""
    start = 0
    while start < len(block):
        end = block.find(b"\n", start + next(sizes)) + 1 or len(block)
        yield block[start:end]
        start = end


def _travels(parser: Parser) -> bool:
    """Whether a parser can be sent to another process; a type that is made inside a function cannot."""
    try:
        pickle.dumps(parser)
    except Exception:  # what pickling raises depends on what is pickled
        return False
    return True
