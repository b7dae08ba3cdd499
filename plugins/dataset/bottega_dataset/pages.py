"""Finding a page of samples fast among millions, and saying how many there are.

Whatever a filter asks, keys come in their order out of the index that leaves the fewest to look at: that of a label, of
an author, of hard samples, of scored annotations; else the samples themselves are walked. A count stops at `COUNTED`
(`Found.exact` says so): counting a million matches takes longer than anybody looks at them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import orjson
from sqlalchemy import ARRAY, BigInteger, Select, and_, any_, func, literal, or_, text
from sqlalchemy import select as select_rows
from sqlalchemy import union as union_of
from sqlmodel import col, select

from bottega.database import AsyncSession
from bottega_dataset import lookup
from bottega_dataset.entities import AnnotationRow, Dataset, Label, Sample
from bottega_dataset.query import (
    LabelFilter,
    SampleFilter,
    authors,
    conditions,
    has,
    of_label,
    of_labels,
    of_quality,
    of_sample,
    span,
)
from bottega_dataset.sample import HUMAN, LABELED, UNLABELED

COUNTED = 10_000
"""How many matches are counted one by one; of more it is known only that there are more."""
Count = Literal["bounded", "exact", "none"]
_STREAMS = 16
_FEW = 50_000
_MINE: Any = AnnotationRow.__table__  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class Found:
    """`total` is the number of matches; unless it is `exact` there are at least that many. None when not counted."""

    samples: Sequence[Sample]
    total: int | None
    exact: bool


async def find(
    session: AsyncSession,
    dataset: Dataset,
    wanted: SampleFilter,
    *,
    offset: int = 0,
    limit: int = 10,
    descending: bool = True,
    after: int | None = None,
    count: Count = "bounded",
) -> Found:
    """Some of the samples that pass the filter, in the order they were added.

    :param dataset: as it is in this session, for its counts.
    :param after: the key of the sample behind which the page begins, whether it is still there or not.
    """
    if wanted == SampleFilter() and after is None and dataset.sample_count == dataset.next_sample:
        # No number is missing, so it is known which samples are on the page, however far back it is.
        numbers = range(dataset.sample_count)[:: -1 if descending else 1][offset : offset + limit]
        keys = [span(dataset)[0] + number for number in numbers]
        return Found(await _rows(session, keys, descending), None if count == "none" else dataset.sample_count, True)
    walk = _Walk(session, dataset, descending, after)
    total = await _counted(session, dataset, wanted, count)
    if total is not None or count == "none" or after is not None:
        if total is None and count != "none":
            total, exact = await _bounded(_Walk(session, dataset, descending, None), wanted)
        else:
            exact = total is not None
        keys = await walk.keys(wanted, offset, limit)
        return Found(await _rows(session, keys, descending), total, exact)
    if offset + limit <= COUNTED:
        keys = await walk.keys(wanted, 0, COUNTED + 1)
        total, exact, keys = len(keys), len(keys) <= COUNTED, keys[offset : offset + limit]
    else:
        keys = await walk.keys(wanted, offset, limit + 1)
        total, exact, keys = offset + len(keys), len(keys) <= limit, keys[:limit]
    return Found(await _rows(session, keys, descending), total, exact)


async def matching(session: AsyncSession, dataset: Dataset, wanted: Sequence[SampleFilter], most: int) -> list[int]:
    """The keys of at most `most` samples that pass one of the filters, oldest first."""
    found: set[int] = set()
    for one in wanted:
        found.update(await _Walk(session, dataset, False, None).keys(one, 0, most))
    return sorted(found)[:most]


async def _counted(session: AsyncSession, dataset: Dataset, wanted: SampleFilter, count: Count) -> int | None:
    """The number of matches, where an index tells it or it must be exact."""
    if count == "none":
        return None
    labels = wanted.label_filters
    bare = replace(wanted, labels=(), all_labels=False, state=None) == SampleFilter()
    query: Any
    if bare and not labels:
        done = dataset.labeled_count
        return {LABELED: done, UNLABELED: dataset.sample_count - done}.get(wanted.state or "", dataset.sample_count)
    if bare and wanted.state is None and len(labels) == 1 and not labels[0].property:
        borne = select_rows(_MINE.c.sample_key).where(of_label(dataset, labels[0])).distinct().subquery()
        query = select_rows(func.count()).select_from(borne)
    elif count == "exact":
        query = select(func.count()).select_from(Sample).where(*conditions(dataset, wanted))
    else:
        return None
    return int((await (await session.connection()).execute(query)).scalar_one())


async def _bounded(walk: _Walk, wanted: SampleFilter) -> tuple[int, bool]:
    number = len(await walk.keys(wanted, 0, COUNTED + 1))
    return number, number <= COUNTED


async def _rows(session: AsyncSession, keys: Sequence[int], descending: bool) -> Sequence[Sample]:
    if not keys:
        return []
    order = col(Sample.key).desc() if descending else col(Sample.key).asc()
    return (await session.exec(select(Sample).where(col(Sample.key).in_(keys)).order_by(order))).all()


class _Walk:
    """The keys of samples that pass a filter, in order."""

    def __init__(self, session: AsyncSession, dataset: Dataset, descending: bool, after: int | None) -> None:
        self._session = session
        self._dataset = dataset
        self._descending = descending
        self._after = after

    async def keys(self, wanted: SampleFilter, offset: int, limit: int) -> list[int]:
        streams = await self._streams(wanted)
        if not streams:
            return []
        if len(streams) == 1:
            query: Any = self._ordered(streams[0]).offset(offset).limit(limit)
        else:
            parts = [self._ordered(one).limit(offset + limit).subquery() for one in streams]
            merged = union_of(*(select_rows(part.c.key) for part in parts)).subquery()
            order = merged.c.key.desc() if self._descending else merged.c.key.asc()
            query = select_rows(merged.c.key).order_by(order).offset(offset).limit(limit)
        return list((await (await self._session.connection()).execute(query)).scalars())

    def _ordered(self, query: Select[Any]) -> Select[Any]:
        key = query.selected_columns.key
        return query.order_by(key.desc() if self._descending else key.asc())

    async def _streams(self, wanted: SampleFilter) -> list[Select[Any]]:
        labels = wanted.label_filters
        if labels:
            known = [await self._label_keys(one) for one in labels]
            if wanted.all_labels:
                return await self._bearing_all(wanted, list(zip(labels, known, strict=True)))
            chosen = [(one, key) for one, keys in zip(labels, known, strict=True) for key in keys]
            if len(chosen) <= _STREAMS:
                return [self._bearing(wanted, one, key) for one, key in chosen]
        elif wanted.annotator and wanted.annotator != HUMAN:
            row = _MINE.c
            named = text("annotated_by <> 'human'")
            rest = of_quality(replace(wanted, annotator=None))
            return [
                self._annotated(wanted, [row.annotated_by == who, named, *rest]) for who in authors(wanted.annotator)
            ]
        elif wanted.high is not None and wanted.high < 1:
            return [self._annotated(wanted, of_quality(wanted))]
        elif places := await lookup.places(self._session, self._dataset, wanted):
            return self._looked_up(wanted, places)
        return [await self._samples(wanted)]

    def _looked_up(self, wanted: SampleFilter, places: lookup.Places) -> list[Select[Any]]:
        """The samples at some keys, and those of the spans that have to be walked."""
        key = col(Sample.key)
        first, last = self._bounds(*span(self._dataset))
        own = [*of_sample(wanted), *of_labels(self._dataset, wanted)]
        query: Select[Any] = select_rows(key.label("key")).where(*own)
        given = [one for one in places.keys if first <= one <= last]
        gaps = [key.between(max(start, first), min(end, last)) for start, end in places.gaps]
        found = [query.where(self._is_one_of(key, given))] if given else []
        return [*found, *(query.where(gap) for gap in gaps)]

    def _is_one_of(self, key: Any, given: Sequence[int]) -> Any:
        """However many: as one value, which PostgreSQL and SQLite take apart."""
        if self._session.get_bind().dialect.name == "sqlite":
            each = func.json_each(orjson.dumps(given).decode()).table_valued("value")
            return key.in_(select_rows(each.c.value))
        return key == any_(literal(list(given), ARRAY(BigInteger)))

    async def _samples(self, wanted: SampleFilter) -> Select[Any]:
        """The samples' own rows, one after the other; those of one state by its index where they are few."""
        first, last = span(self._dataset)
        own = of_sample(wanted)
        query: Select[Any] = select_rows(col(Sample.key).label("key")).where(*own, *of_labels(self._dataset, wanted))
        mine = col(Sample.dataset_key) == self._dataset.key
        by_index = bool(wanted.hard) or (wanted.state and (len(own) == 1 or await self._is_few(wanted.state)))
        if by_index:
            query = query.where(mine)
            return query if self._after is None else query.where(self._behind(col(Sample.key)))
        return query.where(self._within(col(Sample.key), first, last))

    def _bearing(self, wanted: SampleFilter, one: LabelFilter, key: int) -> Select[Any]:
        return self._annotated(wanted, [of_label(self._dataset, one, key), *of_quality(wanted)])

    async def _bearing_all(
        self, wanted: SampleFilter, labels: Sequence[tuple[LabelFilter, Sequence[int]]]
    ) -> list[Select[Any]]:
        """Driven by the rarest label; the samples are asked for the others."""
        if not all(keys for _, keys in labels):
            return []
        sizes = [await self._size(keys) for _, keys in labels]
        rarest = sizes.index(min(sizes))
        one, keys = labels[rarest]
        if len(keys) > _STREAMS:
            return [await self._samples(wanted)]
        others = tuple(other for index, (other, _) in enumerate(labels) if index != rarest)
        rest = replace(wanted, labels=others)
        return [self._bearing(rest, one, key) for key in keys]

    def _annotated(self, wanted: SampleFilter, asked: Sequence[Any]) -> Select[Any]:
        """Samples with an annotation that is as `asked`, and all else that is wanted of the sample."""
        first, last = span(self._dataset)
        key = _MINE.c.sample_key
        own = of_sample(wanted)
        if wanted.all_labels and wanted.labels:
            own += [self._bears_too(one) for one in wanted.label_filters]
        query: Select[Any] = (
            select_rows(key.label("key")).where(and_(*asked), self._within(key, first, last)).distinct()
        )
        return query.join(Sample, col(Sample.key) == key).where(*own) if own else query

    def _bears_too(self, one: LabelFilter) -> Any:
        other = _MINE.alias()
        keys = select(Label.key).where(Label.dataset_key == self._dataset.key)
        keys = keys.where(Label.name == one.name) if one.name is not None else keys
        keys = keys.where(Label.type == one.type) if one.type is not None else keys
        bears = select_rows(other.c.sample_key).where(
            other.c.sample_key == _MINE.c.sample_key, other.c.label_key.in_(keys)
        )
        asked = [has(other.c.property, (name,), values) for name, values in one.property.items()]
        if asked:
            bears = bears.where(or_(*asked) if one.any_property else and_(*asked))
        return bears.exists()

    def _within(self, key: Any, first: int, last: int) -> Any:
        return key.between(*self._bounds(first, last))

    def _bounds(self, first: int, last: int) -> tuple[int, int]:
        if self._after is None:
            return first, last
        return (first, self._after - 1) if self._descending else (self._after + 1, last)

    def _behind(self, key: Any) -> Any:
        return key < self._after if self._descending else key > self._after

    async def _label_keys(self, one: LabelFilter) -> list[int]:
        query = select(Label.key).where(Label.dataset_key == self._dataset.key)
        query = query.where(Label.name == one.name) if one.name is not None else query
        query = query.where(Label.type == one.type) if one.type is not None else query
        return [key for key in (await self._session.exec(query)).all() if key is not None]

    async def _size(self, keys: Sequence[int]) -> int:
        some = select_rows(_MINE.c.sample_key).where(_MINE.c.label_key.in_(keys)).limit(_FEW).subquery()
        query = select_rows(func.count()).select_from(some)
        return int((await (await self._session.connection()).execute(query)).scalar_one())

    async def _is_few(self, state: str) -> bool:
        chosen = select_rows(col(Sample.key)).where(
            col(Sample.dataset_key) == self._dataset.key, *of_sample(SampleFilter(state=state))
        )
        query = select_rows(func.count()).select_from(chosen.limit(_FEW + 1).subquery())
        return int((await (await self._session.connection()).execute(query)).scalar_one()) <= _FEW
