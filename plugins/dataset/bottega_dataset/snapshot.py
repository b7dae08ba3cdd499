"""Reading all samples of a dataset as they were at one moment, in constant memory, and writing them as a manifest."""

from __future__ import annotations

import hashlib
import tempfile
from array import array
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Any

from sqlalchemy import and_, select
from sqlmodel import col

from bottega.database import AsyncSession, Database
from bottega_dataset import samples
from bottega_dataset.entities import AnnotationRow, Dataset, Sample
from bottega_dataset.manifest import format_line
from bottega_dataset.query import SampleFilter, conditions
from bottega_dataset.sample import Annotation, SampleRecord

_AT_ONCE = 1000
# Plain columns: making an object of the ORM for each of a million rows takes longer than everything else.
_COLUMNS = (col(Sample.key), col(Sample.sample_id), col(Sample.source), col(Sample.usage), col(Sample.extra))


@asynccontextmanager
async def snapshot(database: Database) -> AsyncIterator[AsyncSession]:
    """A session in which all queries see the same state, whatever is written meanwhile."""
    async with database.read() as session:
        if not database.is_sqlite:
            await session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        yield session


async def read(
    session: AsyncSession, dataset: Dataset, kind: str, wanted: SampleFilter
) -> AsyncIterator[list[tuple[int, bytes, SampleRecord]]]:
    """All samples that pass the filter (key, id, record), in the order they were added, a thousand at a time."""
    found = conditions(dataset, wanted)
    connection = await session.connection()
    last = -1
    while True:
        query = select(*_COLUMNS).where(*found, col(Sample.key) > last).order_by(col(Sample.key)).limit(_AT_ONCE)
        rows = (await connection.execute(query)).all()
        if not rows:
            return
        last = rows[-1].key
        annotations = await samples.annotations_of(session, [row.key for row in rows], kind)
        yield [(row.key, bytes(row.sample_id), _record(row, annotations[row.key])) for row in rows]


def _record(row: Any, annotations: list[Annotation]) -> SampleRecord:
    extra = row.extra or {}
    return SampleRecord(
        source=row.source,
        annotations=annotations,
        usage=row.usage,
        id=extra.get("id") or bytes(row.sample_id).hex(),
        inference_loc=extra.get("inference-loc"),
        property=extra.get("property"),
    )


class Split:
    """Which labeled samples are for training and which for evaluation.

    Each label is divided in the same proportion (a sample counts for its first label), so both parts are like the
    whole; a label of two or more samples is in both. The same samples and seed always give the same split.
    """

    def __init__(self, ratio: float, seed: int) -> None:
        self._ratio = ratio
        self._seed = seed.to_bytes(8, "big", signed=True)
        self._drawn: dict[int, array[int]] = {}
        self._limits: dict[int, int] = {}

    async def prepare(self, session: AsyncSession, dataset: Dataset) -> None:
        last = -1
        connection = await session.connection()
        first = and_(col(AnnotationRow.sample_key) == Sample.key, col(AnnotationRow.position) == 0)
        while True:
            query = (
                select(col(Sample.key), col(Sample.sample_id), col(AnnotationRow.label_key))
                .join(AnnotationRow, first)
                .where(col(Sample.dataset_key) == dataset.key, col(Sample.key) > last)
                .order_by(col(Sample.key))
                .limit(10 * _AT_ONCE)
            )
            rows = (await connection.execute(query)).all()
            if not rows:
                break
            last = rows[-1][0]
            self.count((label, bytes(ident)) for _, ident, label in rows)
        self.settle()

    def count(self, drawn: Iterable[tuple[int, bytes]]) -> None:
        """Take note of samples: (label, sample id)."""
        for label, ident in drawn:
            self._drawn.setdefault(label, array("Q")).append(self._draw(ident))

    def settle(self) -> None:
        """All samples are known: fix where each label is cut."""
        for label, drawn in self._drawn.items():
            size = len(drawn)
            wanted = round(self._ratio * size)
            if 0 < self._ratio < 1 and size > 1:
                wanted = min(max(wanted, 1), size - 1)
            self._limits[label] = sorted(drawn)[wanted] if wanted < size else 1 << 64
        self._drawn.clear()

    def usage(self, label: int, ident: bytes) -> str:
        return "TRAIN" if self._draw(ident) < self._limits[label] else "EVAL"

    def _draw(self, ident: bytes) -> int:
        return int.from_bytes(blake2b(ident, key=self._seed, digest_size=8).digest(), "big")


class ManifestFile:
    """A manifest being written to a temporary file; `sha256` and `lines` tell what is in it so far."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="bottega-manifest-")
        self.path = Path(self._folder.name) / "manifest"
        self._hash = hashlib.sha256()
        self.lines = 0

    def __enter__(self) -> ManifestFile:
        self._out = self.path.open("wb")
        return self

    def write(self, records: Iterable[SampleRecord]) -> None:
        lines = [format_line(record) for record in records]
        block = b"".join(lines)
        self._out.write(block)
        self._hash.update(block)
        self.lines += len(lines)

    def finish(self) -> Path:
        """Everything is written: the file, readable as long as the block lasts."""
        self._out.close()
        return self.path

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._out.close()
        self._folder.cleanup()
