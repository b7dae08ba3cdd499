"""The importer of manifests."""

from __future__ import annotations

import pickle
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack
from typing import Any

import anyio.lowlevel

from bottega_dataset import annotation_files
from bottega_dataset.extension_points import ImportRequest
from bottega_dataset.manifest import ManifestReader
from bottega_dataset.parsing import Parser, ParserProcess, problem, too_long
from bottega_dataset.sample import Chunk

CHUNK = 1000
_APART_FROM = 16 * 2**20
"""Bytes of a manifest that are worth a process of their own; less is parsed here, a little at a time."""
_BLOCK, _PART, _LITTLE = 4 * 2**20, 2**20, 64 * 1024
"""Bytes that are read at once, become a chunk, and are parsed here before others have their turn."""


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
        async with AsyncExitStack() as stack:
            apart = None
            if reader.size - cursor.get("offset", 0) >= _APART_FROM and _travels(parser):
                apart = await stack.enter_async_context(ParserProcess(parser))
            async for behind, block in reader.blocks(_BLOCK):
                if block is None:
                    number += 1
                    problems = [problem(str(request.path), number, str(too_long()), None)]
                    yield Chunk([], problems, _at(reader, behind, number), behind / reader.size)
                    continue
                offset = behind - len(block)
                for part in _parts(block, _PART):
                    if apart and apart.is_ready:
                        found = await apart(part, number + 1)
                    else:
                        following = number + 1
                        for little in _parts(part, _LITTLE):
                            await anyio.lowlevel.checkpoint()
                            following += parser.read(little, following)
                        found = parser.taken()
                    number, offset = number + found.lines, offset + len(part)
                    cursor, progress = _at(reader, offset, number), offset / reader.size
                    yield Chunk(found.samples, found.problems, cursor, progress, found.left_out)


def _at(reader: ManifestReader, offset: int, number: int) -> dict[str, Any]:
    return {"offset": offset, "line": number, "etag": reader.etag}


def _parts(block: bytes, size: int) -> Iterator[bytes]:
    """Whole lines of about `size` bytes together."""
    start = 0
    while start < len(block):
        end = block.find(b"\n", start + size) + 1 or len(block)
        yield block[start:end]
        start = end


def _travels(parser: Parser) -> bool:
    """Whether a parser can be sent to another process; a type that is made inside a function cannot."""
    try:
        pickle.dumps(parser)
    except Exception:  # what pickling raises depends on what is pickled
        return False
    return True
