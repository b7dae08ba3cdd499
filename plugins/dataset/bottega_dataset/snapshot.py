"""Reading all samples of a dataset as they were at one moment, in constant memory, and writing them as a manifest."""

from __future__ import annotations

import hashlib
import tempfile
from array import array
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from hashlib import blake2b
from operator import itemgetter
from pathlib import Path
from types import TracebackType
from typing import Any

import orjson
from sqlalchemy import Compiled, Select, Subquery, bindparam, func, select, type_coerce
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import NullType
from sqlmodel import col

from bottega.database import AsyncSession, Database
from bottega_dataset.entities import SAMPLES_PER_DATASET, AnnotationRow, Dataset, Label, Sample
from bottega_dataset.manifest import format_line, write_annotation
from bottega_dataset.query import SampleFilter, conditions
from bottega_dataset.sample import Annotation, SampleRecord

_AT_ONCE = 2000
_REMEMBERED = 50_000

Said = tuple[int, str | None, Any, bool | None, str, int | None, float | None, str | None]
"""An annotation's label key, type (None: the dataset's own), property, hard, author, time, confidence, id."""
Row = tuple[int, bytes, str, str | None, Any, list[Said]]
"""A sample's key, id, source, usage, extra, and annotations; `extra` and properties as the driver gives them."""


@asynccontextmanager
async def snapshot(database: Database) -> AsyncIterator[AsyncSession]:
    """A session in which all queries see the same state, whatever is written meanwhile."""
    async with database.read() as session:
        if not database.is_sqlite:
            await session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        yield session


async def rows(session: AsyncSession, dataset: Dataset, wanted: SampleFilter) -> AsyncIterator[list[Row]]:
    """All samples that pass the filter, in the order they were added, some thousand at a time."""
    reader = Reader.of(await session.connection(), dataset, wanted)
    after = reader.first
    while found := await reader.read(after):
        batch = to_rows(found)
        after = batch[-1][0]
        yield batch


def to_rows(found: list[Any]) -> list[Row]:
    """What `Reader.read` gave, in the order samples were added."""
    found.sort()  # by key and position: what is between them is the same in all rows of a sample
    if any(row[5] > 0 for row in found):
        return _grouped(found)
    return [(row[0], row[1], row[2], row[3], row[4], [row[6:]] if row[5] == 0 else []) for row in found]


def _grouped(found: Sequence[Any]) -> list[Row]:
    batch: list[Row] = []
    last = None
    for row in found:
        if row[0] != last:
            last = row[0]
            annotations: list[Any] = []
            batch.append((last, row[1], row[2], row[3], row[4], annotations))
        if row[5] >= 0:
            annotations.append(row[6:])
    return batch


class Reader:
    """Runs a query with the parameter ``after`` again and again, at first with `first`.

    :param plain: nothing in it needs what SQLAlchemy makes of values: then it goes to the driver, in half the time.
    """

    def __init__(self, connection: AsyncConnection, query: Select[Any], *, plain: bool, first: int = 0) -> None:
        self.first = first
        self._connection = connection
        self._query = query
        self._compiled: Compiled | None = None
        if plain:
            self._compiled = query.compile(dialect=connection.dialect, compile_kwargs={"render_postcompile": True})

    @classmethod
    def of(cls, connection: AsyncConnection, dataset: Dataset, wanted: SampleFilter) -> Reader:
        """Of all samples that pass the filter, with their annotations, some thousand samples at a time."""
        assert dataset.key is not None
        first = dataset.key * SAMPLES_PER_DATASET - 1
        return cls(connection, _query(dataset, wanted), plain=wanted == SampleFilter(), first=first)

    async def read(self, after: int) -> list[Any]:
        """The next rows; none at the end."""
        if self._compiled is None:
            return list((await self._connection.execute(self._query, {"after": after})).all())
        driver: Any = (await self._connection.get_raw_connection()).driver_connection
        values: Any = self._compiled.construct_params({"after": after})
        statement = str(self._compiled)
        try:
            if self._connection.dialect.name == "sqlite":
                names: Any = self._compiled.positiontup  # type: ignore[attr-defined]  # of compiled SQL only
                return list(await driver.execute_fetchall(statement, [values[name] for name in names]))
            cursor = await driver.execute(statement, values)
            return list(await cursor.fetchall())
        except self._connection.dialect.loaded_dbapi.Error as e:  # as SQLAlchemy says it: what may pass is tried again
            raise OperationalError(statement, values, e) from e


def some_samples(dataset: Dataset, wanted: SampleFilter) -> Subquery:
    """The next samples behind the key ``after`` that pass the filter: key, id, source, usage, extra."""
    assert dataset.key is not None
    sample: Any = Sample.__table__  # type: ignore[attr-defined]
    last = (dataset.key + 1) * SAMPLES_PER_DATASET - 1
    raw = [type_coerce(sample.c[name], NullType()).label(name) for name in ("sample_id", "source", "usage", "extra")]
    return (
        select(sample.c.key, *raw)
        .where(sample.c.key > bindparam("after"), sample.c.key <= last, *conditions(dataset, wanted)[1:])
        .order_by(sample.c.key)
        .limit(_AT_ONCE)
        .subquery("chosen")
    )


def _query(dataset: Dataset, wanted: SampleFilter) -> Select[Any]:
    """Plain columns, past the ORM and what SQLAlchemy makes of JSON: that takes longer than everything else.

    The samples of a dataset are a span of keys. With its key as a condition SQLite would choose an index by that, and
    sort all there is for each batch.
    """
    some = some_samples(dataset, wanted)
    said: Any = AnnotationRow.__table__.alias("said")  # type: ignore[attr-defined]
    about = ("label_key", "type", "property", "hard", "annotated_by", "created_at", "confidence", "id")
    columns = [type_coerce(said.c[name], NullType()).label(f"said_{name}") for name in about]
    position = func.coalesce(said.c.position, -1).label("position")
    return select(*some.c, position, *columns).select_from(some.outerjoin(said, said.c.sample_key == some.c.key))


async def read(
    session: AsyncSession, dataset: Dataset, kind: str, wanted: SampleFilter
) -> AsyncIterator[list[tuple[int, bytes, SampleRecord]]]:
    """All samples that pass the filter (key, id, record), in the order they were added, some thousand at a time."""
    form = await Form.of(session, dataset, kind)
    async for batch in rows(session, dataset, wanted):
        yield [(row[0], row[1], form.record(row)) for row in batch]


class Form:
    """Makes of rows what manifests say: records, or lines, which are the same bytes `format_line` makes of records."""

    def __init__(self, kind: str, names: Mapping[int, str], *, hard: bool = True) -> None:
        """
        :param kind: the dataset type's own annotation type.
        :param names: of labels by key.
        :param hard: whether to keep what is said of hard examples.
        """
        self._kind = kind
        self._names = names
        self._hard = hard
        self._known: dict[Said, tuple[orjson.Fragment, bytes]] = {}

    @classmethod
    async def of(cls, session: AsyncSession, dataset: Dataset, kind: str, *, hard: bool = True) -> Form:
        query = select(col(Label.key), col(Label.name)).where(col(Label.dataset_key) == dataset.key)
        names: dict[int, str] = {row[0] or 0: row[1] for row in await (await session.connection()).execute(query)}
        return cls(kind, names, hard=hard)

    def record(self, row: Row) -> SampleRecord:
        _, ident, source, usage, extra, said = row
        more = _json(extra) or {}
        return SampleRecord(
            source=source,
            annotations=[self._annotation(one) for one in said],
            usage=usage,
            id=more.get("id") or ident.hex(),
            inference_loc=more.get("inference-loc"),
            property=more.get("property"),
        )

    def line(self, row: Row, usage: str | None) -> tuple[bytes, bytes]:
        """A line, and 8 bytes that stand for what is said in it (`content`)."""
        _, ident, source, _, extra, said = row
        data: dict[str, Any] = {"source": source}
        if usage:
            data["usage"] = usage
        data["id"] = ident.hex()
        written = [self._known.get(one) or self._said(one) if one[2] is None else self._said(one) for one in said]
        if written:
            data["annotation"] = [fragment for fragment, _ in written]
        if extra is not None:
            more = _json(extra) or {}
            data["id"] = more.get("id") or data["id"]
            if more.get("property"):
                data["property"] = more["property"]
            if more.get("inference-loc"):
                data["inference-loc"] = more["inference-loc"]
        return orjson.dumps(data, option=orjson.OPT_APPEND_NEWLINE), together([digest for _, digest in written])

    def _annotation(self, one: Said) -> Annotation:
        key, kind, prop, hard, by, created, confidence, ident = one
        return Annotation(
            type=kind or self._kind,
            name=self._names.get(key, ""),
            property=_json(prop),
            hard=None if hard is None or not self._hard else bool(hard),
            annotated_by=by,
            created_at=created,
            confidence=confidence,
            id=ident,
        )

    def _said(self, one: Said) -> tuple[orjson.Fragment, bytes]:
        annotation = self._annotation(one)
        found = orjson.Fragment(orjson.dumps(write_annotation(annotation))), content(annotation)
        if one[2] is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[one] = found
        return found


def content(one: Annotation) -> bytes:
    """8 bytes that stand for what an annotation says: the same whoever says it, when, and how surely."""
    what = orjson.dumps([one.type, one.name, one.property, one.hard, one.id], option=orjson.OPT_SORT_KEYS)
    return blake2b(what, digest_size=8).digest()


def together(contents: Sequence[bytes]) -> bytes:
    """8 bytes that stand for several annotations, in whatever order."""
    if len(contents) == 1:
        return contents[0]
    return blake2b(b"".join(sorted(contents)), digest_size=8).digest() if contents else bytes(8)


def _json(value: Any) -> Any:
    """What SQLite's driver gives as text and PostgreSQL's as an object."""
    return orjson.loads(value) if isinstance(value, str | bytes) else value


class Split:
    """Which labeled samples are for training and which for evaluation.

    Each label is divided in the same proportion, so both parts are like the whole; a label of two or more samples is
    in both. Of several labels on a sample the rarest one counts: the others have samples enough. The same samples and
    seed always give the same split.
    """

    def __init__(self, ratio: float, seed: int) -> None:
        self._ratio = ratio
        self._seed = seed.to_bytes(8, "big", signed=True)
        self._drawn: dict[int, array[int]] = {}
        self._limits: dict[int, int] = {}
        self._sizes: dict[int, int] = {}

    async def prepare(self, session: AsyncSession, dataset: Dataset) -> None:
        assert dataset.key is not None
        if not 0 < self._ratio < 1:
            return
        first = dataset.key * SAMPLES_PER_DATASET
        last = first + SAMPLES_PER_DATASET - 1
        connection = await session.connection()
        label, sample_key = col(AnnotationRow.label_key), col(AnnotationRow.sample_key)
        sizes = select(label, func.count()).where(sample_key.between(first, last)).group_by(label)
        self._sizes = {row[0]: row[1] for row in await connection.execute(sizes)}
        some = (
            select(col(Sample.key).label("key"), type_coerce(col(Sample.sample_id), NullType()).label("ident"))
            .where(col(Sample.key) > bindparam("after"), col(Sample.key) <= last)
            .order_by(col(Sample.key))
            .limit(5 * _AT_ONCE)
            .subquery("some")
        )
        query = select(some.c.key, some.c.ident, label).select_from(
            some.outerjoin(AnnotationRow, sample_key == some.c.key)
        )
        after = first - 1
        reader = Reader(connection, query, plain=True)
        while found := await reader.read(after):
            found.sort(key=itemgetter(0))
            said: dict[int, tuple[bytes, int]] = {}
            for key, ident, label in found:
                known = said.get(key)
                if label is not None:
                    said[key] = (ident, label if known is None else self.stratum((known[1], label)))
            self.count((label, bytes(ident)) for ident, label in said.values())
            after = found[-1][0]
        self.settle()

    def stratum(self, labels: Iterable[int]) -> int:
        """The label a sample that bears these counts for."""
        return min(labels, key=lambda label: (self._sizes.get(label, 0), label))

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
        if not 0 < self._ratio < 1:
            return "TRAIN" if self._ratio else "EVAL"
        return "TRAIN" if self._draw(ident) < self._limits[label] else "EVAL"

    def _draw(self, ident: bytes) -> int:
        return int.from_bytes(blake2b(ident, key=self._seed, digest_size=8).digest(), "big")


class ManifestFile:
    """A manifest being written to a temporary file; `sha256`, `lines` and `size` tell what is in it so far."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="bottega-manifest-")
        self.path = Path(self._folder.name) / "manifest"
        self._hash = hashlib.sha256()
        self.lines = 0
        self.size = 0

    def __enter__(self) -> ManifestFile:
        self._out = self.path.open("wb")
        return self

    def write(self, records: Iterable[SampleRecord]) -> None:
        self.write_lines([format_line(record) for record in records])

    def write_lines(self, lines: Sequence[bytes]) -> None:
        self.write_block(b"".join(lines), len(lines))

    def write_block(self, block: bytes, lines: int) -> None:
        """Write lines that are one text already."""
        self._out.write(block)
        self._hash.update(block)
        self.lines += lines
        self.size += len(block)

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
