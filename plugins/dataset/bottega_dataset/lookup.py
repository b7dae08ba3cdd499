"""Finding samples by a part of their name, or by their folder, without reading a million rows.

What is imported in bulk leaves one row for a chunk: the names of its samples one after the other, and its folders with
the one each sample lies in. Such rows are searched as fast as memory is read, and give keys whose samples are looked at
then: that they are still there, and all else that is asked. Samples that came a few at a time have no such row; they
are walked (`Places.gaps`).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, insert
from sqlalchemy import select as select_rows

from bottega.database import AsyncSession
from bottega_dataset.entities import Dataset, LookupRow
from bottega_dataset.packing import FOLDER, INSTEAD, NAME, SEPARATOR, Texts
from bottega_dataset.query import SampleFilter, folder_of, span

_MOST = 20_000
"""Keys that are looked at one by one; where more fit, walking soon finds as many as are wanted."""
_MOST_GAPS = 16
_AT_ONCE = 16
_ROW: Any = LookupRow.__table__  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class Places:
    """The keys of samples that may fit, and the spans of keys of which that is not known; both rising."""

    keys: Sequence[int]
    gaps: Sequence[tuple[int, int]]


async def keep(session: AsyncSession, first: int, count: int, texts: Sequence[Texts]) -> None:
    """Keep what can be looked up of `count` samples, whose keys begin at `first`."""
    if texts:
        rows = [
            {"what": what, "first": first, "count": count, "texts": text, "numbers": numbers}
            for what, text, numbers in texts
        ]
        await (await session.connection()).execute(insert(_ROW), rows)


async def forget(session: AsyncSession, dataset: Dataset) -> None:
    """All samples of a dataset go."""
    query = delete(_ROW).where(_ROW.c.what.in_((NAME, FOLDER)), _ROW.c.first.between(*span(dataset)))
    await (await session.connection()).execute(query)


async def places(session: AsyncSession, dataset: Dataset, wanted: SampleFilter) -> Places | None:
    """Where samples of this name, or in this folder, may be. None where only walking through all tells."""
    text = folder_of(wanted.folder) if wanted.folder else wanted.name
    if not text or SEPARATOR in text or INSTEAD in text:
        return None
    what = FOLDER if wanted.folder else NAME
    first, last = span(dataset)
    query = select_rows(_ROW.c.first, _ROW.c.count, _ROW.c.texts, _ROW.c.numbers)
    query = query.where(_ROW.c.what == what, _ROW.c.first.between(first, last)).order_by(_ROW.c.first)
    keys: list[int] = []
    gaps: list[tuple[int, int]] = []
    known = first
    after = first - 1
    while rows := (await (await session.connection()).execute(query.where(_ROW.c.first > after).limit(_AT_ONCE))).all():
        for start, count, texts, numbers in rows:
            if start > known:
                gaps.append((known, start - 1))
            known = start + count
            found = _in_folder(texts, numbers, text.encode()) if numbers else _named(texts, text.encode().lower())
            keys += [start + number for number in found]
        after = rows[-1][0]
        if len(keys) > _MOST or len(gaps) > _MOST_GAPS:
            return None
    if known == first:
        return None
    return Places(keys, [*gaps, (known, last)])


def _named(texts: bytes, part: bytes) -> Iterator[int]:
    """The numbers of the names that hold a part."""
    number = at = 0
    while (found := texts.find(part, at)) >= 0:
        number += texts.count(b"\n", at, found)
        yield number
        at = texts.find(b"\n", found) + 1
        if not at:
            return
        number += 1


def _in_folder(texts: bytes, numbers: bytes, folder: bytes) -> Iterator[int]:
    """The numbers of the samples that lie in a folder."""
    folders = texts.split(b"\n")
    if folder not in folders:
        return
    wanted = array("H", [folders.index(folder)]).tobytes()
    at = numbers.find(wanted)
    while at >= 0:
        if at % 2 == 0:  # two bytes that are alike may begin between two numbers as well
            yield at // 2
        at = numbers.find(wanted, at + 1)
