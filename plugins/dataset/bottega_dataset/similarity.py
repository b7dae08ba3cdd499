"""Finding samples that look or read alike, by signatures of a few bytes that are kept of each.

An image's signature is how brightness goes from left to right and from top to bottom (a difference hash) and where
which colors are; a text's (a MinHash) has most bits in common with that of a text of the same wording. That finds
copies, resized and slightly edited ones, the same scene and the same words; it knows nothing of what is meant. All
signatures of a dataset are compared one by one: about a second for a million.
"""

from __future__ import annotations

import heapq
import io
from collections.abc import Sequence
from typing import Any
from zlib import crc32

import anyio
from sqlalchemy import delete, func, insert, select
from sqlmodel import col

from bottega.database import AsyncSession
from bottega.errors import ApiError, Invalid
from bottega.objects import ObjectPath, ObjectStore
from bottega.platform import Platform
from bottega_dataset import media
from bottega_dataset.entities import Dataset, Sample, Signature
from bottega_dataset.extension_points import DatasetType
from bottega_dataset.kinds import Kinds
from bottega_dataset.query import span
from bottega_dataset.sample import CONTENT, BadSample
from bottega_dataset.tasks import Running

KIND = "signatures"
_AT_ONCE = 200
_TOGETHER = 16
_HASH, _GRID, _STEPS = 8, 4, (64, 128, 192)
_PARTS, _MIX = 64, 0x9E3779B1
_LONGEST = 10_000
_LARGEST = 32 * 2**20
_SAMPLE: Any = Sample.__table__  # type: ignore[attr-defined]
_SIGNATURE: Any = Signature.__table__  # type: ignore[attr-defined]


def check(kind: DatasetType) -> None:
    """Raises Invalid for a type whose samples are not compared."""
    if kind.sample_type not in (0, 1):
        raise Invalid(f"similar samples are found among images and texts, not in {kind.name} datasets")


def of_text(text: str) -> bytes:
    """256 bits: for each of 64 parts of all groups of three characters, 4 bits of the one with the smallest hash.

    The part of bits that differ is half the part of groups that two texts do not have in common.
    """
    folded = " ".join(text.lower().split())[:_LONGEST].encode("utf-8", "surrogatepass")
    least = [-1] * _PARTS
    for at in range(max(len(folded) - 2, 1)):
        value = crc32(folded[at : at + 3])
        part, rank = value % _PARTS, value // _PARTS
        if not 0 <= least[part] <= rank:
            least[part] = rank
    last = next(value for value in reversed(least) if value >= 0)
    bits = 0
    for value in least:
        last = value if value >= 0 else last  # a part no group fell into is that before it
        bits = bits << 4 | (last * _MIX >> 16) & 15
    return bits.to_bytes(_PARTS // 2, "big")


def of_image(data: bytes) -> bytes:
    """272 bits. Raises BadSample for what is no image. Blocks: call it through `media.off_loop`."""
    from PIL import Image, ImageOps

    media.image(data, whole=False)
    try:
        with Image.open(io.BytesIO(data), formats=media.IMAGE_FORMATS) as opened:
            opened.draft("RGB", (64, 64))
            shown = ImageOps.exif_transpose(opened).convert("RGB")
    except Exception as e:  # a decoder given hostile bytes may fail in any way
        raise BadSample(f"the image is truncated or broken: {e}") from e
    grey = shown.convert("L")
    across = list(grey.resize((_HASH + 1, _HASH)).tobytes())
    down = list(grey.resize((_HASH, _HASH + 1)).tobytes())
    bits = [across[y * (_HASH + 1) + x] < across[y * (_HASH + 1) + x + 1] for y in range(_HASH) for x in range(_HASH)]
    bits += [down[y * _HASH + x] < down[(y + 1) * _HASH + x] for y in range(_HASH) for x in range(_HASH)]
    bits += [value > step for value in shown.resize((_GRID, _GRID)).tobytes() for step in _STEPS]
    return sum(1 << index for index, bit in enumerate(bits) if bit).to_bytes(len(bits) // 8, "big")


async def of_source(store: ObjectStore, source: str) -> bytes:
    """The signature of a sample. Raises BadSample, NotFound."""
    if source.startswith(CONTENT):
        return await media.off_loop(lambda: of_text(source.removeprefix(CONTENT)))
    if not source.startswith("s3://"):
        raise BadSample(f"'{source}' lies outside of object storage")
    path = ObjectPath.parse(source, "source")
    if (await store.head(path)).size > _LARGEST:
        raise BadSample(f"{path} is too large to be compared")
    data = await store.get(path)
    if path.key.lower().endswith((".txt", ".csv")):
        return await media.off_loop(lambda: of_text(data.decode("utf-8", "replace")))
    return await media.off_loop(lambda: of_image(data))


async def coverage(session: AsyncSession, dataset: Dataset) -> int:
    """How many samples have a signature."""
    first, last = span(dataset)
    query = select(func.count()).select_from(_SIGNATURE).where(_SIGNATURE.c.sample_key.between(first, last))
    return int((await (await session.connection()).execute(query)).scalar_one())


async def nearest(
    session: AsyncSession, dataset: Dataset, bits: bytes, but: int, limit: int
) -> list[tuple[int, float]]:
    """The keys of the samples most like `bits`, the most similar first, with how similar: 1 is the same."""
    first, last = span(dataset)
    query = select(_SIGNATURE.c.sample_key, _SIGNATURE.c.bits).where(_SIGNATURE.c.sample_key.between(first, last))
    rows = (await (await session.connection()).execute(query)).all()
    wanted, width = int.from_bytes(bits, "big"), len(bits) * 8

    def compare() -> list[tuple[int, int]]:
        found = ((int.from_bytes(other, "big") ^ wanted).bit_count() for _, other in rows)
        pairs = ((distance, row.sample_key) for distance, row in zip(found, rows, strict=True) if row.sample_key != but)
        return heapq.nsmallest(limit, pairs)

    return [(key, round(max(0.0, 1 - 2 * distance / width), 4)) for distance, key in await media.off_loop(compare)]


async def keep(session: AsyncSession, found: Sequence[tuple[int, str, bytes]]) -> None:
    """Keep signatures: sample key, source and bits."""
    if found:
        await session.exec(delete(Signature).where(col(Signature.sample_key).in_([key for key, _, _ in found])))
        await session.exec(
            insert(Signature), params=[{"sample_key": k, "of": source, "bits": bits} for k, source, bits in found]
        )


class Signing:
    """Performs tasks that make the signatures which are missing; the cursor is the last sample looked at."""

    def __init__(self, platform: Platform, kinds: Kinds) -> None:
        self._platform = platform
        self._kinds = kinds

    async def perform(self, running: Running) -> None:
        dataset = running.dataset
        last = int(running.task.cursor.get("after", -1))
        row = _SAMPLE.c
        while True:
            async with self._platform.database.read() as session:
                missing = select(row.key, row.source).outerjoin(_SIGNATURE, _SIGNATURE.c.sample_key == row.key)
                missing = missing.where(
                    row.dataset_key == dataset.key, row.key > last, _SIGNATURE.c.sample_key.is_(None)
                )
                rows = (await (await session.connection()).execute(missing.order_by(row.key).limit(_AT_ONCE))).all()
            if not rows:
                break
            last = rows[-1].key
            found = await self._made(rows)
            async with self._platform.database.transaction() as tx:
                there = select(row.key).where(row.key.in_([key for key, _, _ in found]))
                known = set((await (await tx.session.connection()).execute(there)).scalars())
                await keep(tx.session, [one for one in found if one[0] in known])
                counted = {"signed": len(found), "left_out": len(rows) - len(found)}
                await running.commit(tx, cursor={"after": last}, counted=counted)
        async with self._platform.database.transaction() as tx:
            await running.commit(tx, progress=1.0, state="completed")

    async def _made(self, rows: Sequence[Any]) -> list[tuple[int, str, bytes]]:
        made: list[tuple[int, str, bytes]] = []
        limit = anyio.CapacityLimiter(_TOGETHER)

        async def one(key: int, source: str) -> None:
            async with limit:
                try:
                    made.append((key, source, await of_source(self._platform.objects, source)))
                except (BadSample, ApiError):
                    return  # such a sample is like no other

        async with anyio.create_task_group() as group:
            for key, source in rows:
                group.start_soon(one, key, source)
        return made
