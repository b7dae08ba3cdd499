"""Writing many samples at once: one statement for a chunk's samples, and one or two for its annotations.

The database itself makes rows of the JSON a chunk is packed in. That takes half the time of binding values row by row,
and none of the interpreter's, which serves requests meanwhile.
"""

# ruff: noqa: S608 - the statements are made of names of columns; every value is bound

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import orjson
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from bottega.context import now_ms
from bottega.database import AsyncSession
from bottega_dataset import counting, labels, lookup
from bottega_dataset.entities import SAMPLES_PER_DATASET, Dataset, Sample
from bottega_dataset.extension_points import DatasetType
from bottega_dataset.packing import COLUMNS, Packed, Said
from bottega_dataset.sample import CONTENT, digest

_KEYS_AT_ONCE = 1000
_SAID = ("label_key", "confidence", "hard", "annotated_by", "created_at", "property", "type", "id")
_SAMPLES = f"INSERT INTO dataset_sample (key, dataset_key, sample_id, {', '.join(COLUMNS)}, added_at)"
_ANNOTATIONS = f"INSERT INTO dataset_annotation (sample_key, position, {', '.join(_SAID)})"

_BYTES = bytes(range(256))

Place = tuple[int, int, int]
"""Where an annotation is: key of the sample, position there, index of what is said."""


@dataclass(frozen=True, slots=True)
class Added:
    """What became of samples: new ones, ones that got (their first) annotations, and ones that were there before.

    `taken`: of those left out because their id is another sample's, id, source, and the source of the other one.
    """

    imported: int
    annotated: int
    known: int
    new_labels: Sequence[str]
    taken: Sequence[tuple[str, str, str]] = ()


async def load(session: AsyncSession, dataset: Dataset, kind: DatasetType, chunk: Packed, first: int) -> Added:
    """Add what is not there yet; what is there without annotations gets the chunk's.

    :param first: the number of the chunk's first sample; `chunk.count` numbers from it on are the caller's.
    """
    assert dataset.key is not None
    start = dataset.key * SAMPLES_PER_DATASET + first
    connection = await session.connection()
    into: _Into = _Sqlite(connection) if connection.dialect.name == "sqlite" else _Postgres(connection)
    total = len(chunk)
    imported = await into.samples(chunk, dataset.key, start)
    if imported:
        await lookup.keep(session, start, chunk.count, chunk.lookup)
    late: dict[int, list[int]] = {}
    taken: list[tuple[str, str, str]] = []
    if imported < total:
        chunk, late, taken = await _apart(connection, dataset.key, chunk, start)
    annotated = chunk.count - chunk.first.count(b"null") + len(late)
    await counting.note(session, dataset, imported, annotated)
    if not annotated:
        return Added(imported, 0, total - imported - len(taken), [], taken)
    keys, new_labels = await labels.ensure(session, dataset, kind, (one[:2] for one in _used(chunk, late)))
    own = kind.annotation_type
    said = [(keys.get(one[:2]), *one[2:7], None if one[0] == own else one[0], one[7]) for one in chunk.said]
    further = [(start + number, position, index) for number, position, index in chunk.further]
    further += [(key, position, index) for key, indices in late.items() for position, index in enumerate(indices)]
    await into.annotations(said, chunk.first.decode(), start, further)
    return Added(imported, annotated, total - imported - len(taken), new_labels, taken)


async def _apart(
    connection: AsyncConnection, dataset_key: int, chunk: Packed, start: int
) -> tuple[Packed, dict[int, list[int]], list[tuple[str, str, str]]]:
    """Of a chunk with samples that were there: the new ones, by key what is said of old ones that say nothing, and
    those whose id is another's (`Added.taken`)."""
    mine = select(col(Sample.key)).where(col(Sample.key).between(start, start + chunk.count - 1))
    new = {key - start for (key,) in await connection.execute(mine)}
    known = [number for number in range(chunk.count) if number not in new and number not in chunk.removed]
    others = await _others(connection, dataset_key, chunk, known)
    annotations = chunk.annotations()
    wanted: dict[bytes, list[int]] = {}
    for number in known:
        if number in annotations and number not in others:
            wanted.setdefault(chunk.ids_of(number), annotations[number])
    late: dict[int, list[int]] = {}
    idents = list(wanted)
    for at in range(0, len(idents), _KEYS_AT_ONCE):
        chosen = (
            col(Sample.dataset_key) == dataset_key,
            col(Sample.sample_id).in_(idents[at : at + _KEYS_AT_ONCE]),
            col(Sample.labeled).is_(False),
        )
        found = (await connection.execute(select(col(Sample.key), col(Sample.sample_id)).where(*chosen))).all()
        late |= {key: wanted[bytes(ident)] for key, ident in found}
    for hard in (False, True):
        keys = [key for key, indices in late.items() if hard == any(chunk.said[i][3] for i in indices)]
        for at in range(0, len(keys), _KEYS_AT_ONCE):
            these = col(Sample.key).in_(keys[at : at + _KEYS_AT_ONCE])
            await connection.execute(
                update(Sample).where(these).values(labeled=True, hard=hard, revision=Sample.revision + 1)
            )
    return chunk.without(known), late, list(others.values())


async def _others(
    connection: AsyncConnection, dataset_key: int, chunk: Packed, known: Sequence[int]
) -> dict[int, tuple[str, str, str]]:
    """Which of the samples that are known are others than those that are there: texts with the id of another text."""
    numbers = set(known)
    named = {
        number: (values["source"], (orjson.loads(values["extra"] or b"{}")).get("id") or chunk.ids_of(number).hex())
        for number, values in chunk.columns()
        if number in numbers
        and values["source"].startswith(CONTENT)
        and digest(values["source"]) != chunk.ids_of(number)
    }
    there: dict[bytes, str] = {}
    idents = list({chunk.ids_of(number) for number in named})
    for at in range(0, len(idents), _KEYS_AT_ONCE):
        chosen = col(Sample.sample_id).in_(idents[at : at + _KEYS_AT_ONCE])
        query = select(col(Sample.sample_id), col(Sample.source)).where(col(Sample.dataset_key) == dataset_key, chosen)
        there |= {bytes(ident): source for ident, source in (await connection.execute(query)).all()}
    found = {number: (ident, source, there[chunk.ids_of(number)]) for number, (source, ident) in named.items()}
    return {number: one for number, one in found.items() if one[1] != one[2]}


def _used(chunk: Packed, late: dict[int, list[int]]) -> Iterable[Said]:
    """What is said of any sample that is to be annotated: of a chunk that was taken apart maybe not all of it."""
    if not chunk.removed:
        return chunk.said
    used = {index for indices in (*chunk.annotations().values(), *late.values()) for index in indices}
    return [chunk.said[index] for index in sorted(used)]


class _Into(Protocol):
    """The statements of one kind of database."""

    async def samples(self, chunk: Packed, dataset_key: int, start: int) -> int:
        """Write the samples that are not there yet, under the keys from `start` on. Returns how many those are."""
        ...

    async def annotations(self, said: Sequence[tuple[Any, ...]], first: str, start: int, further: list[Place]) -> None:
        """Write what is said of the samples from `start` on (`Packed.first`), and of others.

        :param said: rows of `_SAID`.
        """
        ...


def _values(chunk: Packed, dataset_key: int, start: int) -> dict[str, Any]:
    where = {"start": start, "dataset_key": dataset_key, "ids": chunk.ids, "rows": chunk.rows.decode()}
    return {"tails": chunk.tails, "marks": chunk.marks, "bytes": _BYTES, **where, "now": now_ms(), **chunk.constants}


class _Sqlite:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def samples(self, chunk: Packed, dataset_key: int, start: int) -> int:
        source = "value" if len(chunk.varying) == 1 else "json_extract(value, '$[0]')"

        def column(name: str) -> str:
            if name == "name" and chunk.tails:
                # A byte as a number: where it stands among all bytes. That is cheaper than the name in the JSON.
                return f"substr({source}, length({source}) + 2 - instr(:bytes, substr(:tails, key + 1, 1)))"
            if name == "labeled" and chunk.marks:
                return "substr(:marks, key + 1, 1) = x'01'"
            if name not in chunk.varying:
                return f":{name}"
            return "value" if len(chunk.varying) == 1 else f"json_extract(value, '$[{chunk.varying.index(name)}]')"

        statement = (
            f"{_SAMPLES} SELECT :start + key, :dataset_key, substr(:ids, 16 * key + 1, 16), "
            f"{', '.join(map(column, COLUMNS))}, :now FROM json_each(:rows) WHERE value IS NOT NULL "
            "ON CONFLICT DO NOTHING"
        )
        values = _values(chunk, dataset_key, start)
        return (await self._connection.exec_driver_sql(statement, values)).rowcount

    async def annotations(self, said: Sequence[tuple[Any, ...]], first: str, start: int, further: list[Place]) -> None:
        # Bound and not read from JSON: SQLite does not always read the nearest double of a decimal number.
        execute = self._connection.exec_driver_sql
        await execute(f"CREATE TEMP TABLE IF NOT EXISTS dataset_said (n INTEGER PRIMARY KEY, {', '.join(_SAID)})")
        await execute("DELETE FROM temp.dataset_said")
        rows = [(n, *one) for n, one in enumerate(said)]
        await execute("INSERT INTO temp.dataset_said VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
        what = ", ".join(f"said.{name}" for name in _SAID)
        statement = (
            f"{_ANNOTATIONS} SELECT :start + each.key, 0, {what} FROM json_each(:first) each "
            "CROSS JOIN temp.dataset_said said ON said.n = each.value"
        )
        await execute(statement, {"start": start, "first": first})
        if further:
            place, position, index = (f"json_extract(each.value, '$[{n}]')" for n in range(3))
            statement = (
                f"{_ANNOTATIONS} SELECT {place}, {position}, {what} FROM json_each(:further) each "
                f"CROSS JOIN temp.dataset_said said ON said.n = {index}"
            )
            await execute(statement, {"further": orjson.dumps(further).decode()})


_TYPES = {"size": "bigint", "modified_at": "bigint", "labeled": "boolean", "hard": "boolean", "extra": "json"}
_SAID_TYPES = ("integer", "double precision", "boolean", "text", "bigint", "json", "text", "text")


class _Postgres:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def samples(self, chunk: Packed, dataset_key: int, start: int) -> int:
        def column(name: str) -> str:
            if name == "name" and chunk.tails:
                source = column("source")
                return f"right({source}, get_byte(%(tails)s::bytea, number::integer - 1))"
            if name == "labeled" and chunk.marks:
                return "get_byte(%(marks)s::bytea, number::integer - 1) = 1"
            kind = _TYPES.get(name, "text")
            if name not in chunk.varying:
                return f"%({name})s::{kind}"
            found = "value #>> '{}'" if len(chunk.varying) == 1 else f"value ->> {chunk.varying.index(name)}"
            return f"({found})::{kind}"

        statement = (
            f"{_SAMPLES} SELECT %(start)s::bigint + number - 1, %(dataset_key)s::integer, "
            "substring(%(ids)s::bytea FROM 16 * number::integer - 15 FOR 16), "
            f"{', '.join(map(column, COLUMNS))}, %(now)s::bigint "
            "FROM json_array_elements(%(rows)s::json) WITH ORDINALITY AS each(value, number) "
            "WHERE json_typeof(value) <> 'null' ON CONFLICT DO NOTHING"
        )
        values = _values(chunk, dataset_key, start)
        return (await self._connection.exec_driver_sql(statement, values)).rowcount

    async def annotations(self, said: Sequence[tuple[Any, ...]], first: str, start: int, further: list[Place]) -> None:
        what = ", ".join(f"said.{name}" for name in _SAID)
        columns = ", ".join(f"(value ->> {n})::{kind} AS {_SAID[n]}" for n, kind in enumerate(_SAID_TYPES))
        meant = (
            f"WITH said AS (SELECT number - 1 AS n, {columns} "
            "FROM json_array_elements(%(said)s::json) WITH ORDINALITY AS each(value, number))"
        )
        statement = (
            f"{meant} {_ANNOTATIONS} SELECT %(start)s::bigint + each.number - 1, 0, {what} "
            "FROM json_array_elements_text(%(first)s::json) WITH ORDINALITY AS each(value, number) "
            "JOIN said ON said.n = each.value::bigint"
        )
        values = {"said": orjson.dumps(said).decode(), "first": first, "start": start}
        await self._connection.exec_driver_sql(statement, values)
        if further:
            statement = (
                f"{meant} {_ANNOTATIONS} SELECT (value ->> 0)::bigint, (value ->> 1)::integer, {what} "
                "FROM json_array_elements(%(further)s::json) AS each(value) JOIN said ON said.n = (value ->> 2)::bigint"
            )
            values = {"said": values["said"], "further": orjson.dumps(further).decode()}
            await self._connection.exec_driver_sql(statement, values)
