"""Reading which objects a dataset version's manifest names (002 §2.3.2: one JSON object a line)."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio.to_thread
import orjson

from bottega.errors import Invalid
from bottega.objects import ObjectPath, ObjectStore

_PIECE = 8 << 20
_MOST_FOLDERS = 100


async def folders(store: ObjectStore, manifest: ObjectPath) -> list[ObjectPath]:
    """The folders that hold the samples of `manifest`, without those inside others of them.

    In constant memory. When there are very many, one per bucket that holds them all. Raises Invalid for a line that
    is not a sample.
    """
    found: set[ObjectPath] = set()
    line_number = 0
    async for lines in _pieces(store, manifest):
        seen, line_number = await anyio.to_thread.run_sync(_folders_of, lines, line_number, manifest)
        found |= seen
    if len(found) > _MOST_FOLDERS:
        found = {_common([f for f in found if f.bucket == bucket]) for bucket in {f.bucket for f in found}}
    ordered = sorted(found, key=lambda f: (f.bucket, f.key))
    return [f for f in ordered if not any(other != f and other.contains(f) for other in ordered)]


async def _pieces(store: ObjectStore, manifest: ObjectPath) -> AsyncIterator[list[bytes]]:
    size = (await store.head(manifest)).size
    rest = b""
    for start in range(0, size, _PIECE):
        piece = rest + await store.get(manifest, start, min(start + _PIECE, size) - 1)
        *lines, rest = piece.split(b"\n")
        yield lines
    yield [rest]


def _folders_of(lines: list[bytes], line_number: int, manifest: ObjectPath) -> tuple[set[ObjectPath], int]:
    found = set()
    for line in lines:
        line_number += 1
        if not line.strip():
            continue
        try:
            source = orjson.loads(line)["source"]
            if not source.startswith("content://"):
                path = ObjectPath.parse(source, "source")
                found.add(ObjectPath(path.bucket, path.key[: path.key.rfind("/") + 1]))
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError, Invalid) as e:
            raise Invalid(f"line {line_number} of {manifest} is not a sample with a source: {e}") from e
    return found, line_number


def _common(paths: list[ObjectPath]) -> ObjectPath:
    first, last = min(p.key for p in paths), max(p.key for p in paths)
    length = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return ObjectPath(paths[0].bucket, first[: first.rfind("/", 0, length) + 1])
