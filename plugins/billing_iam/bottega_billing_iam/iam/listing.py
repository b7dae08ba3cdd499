"""Lists in parts: every one is bounded, and each client's own way to ask for the next part is understood."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from urllib.parse import urlencode

from fastapi import Depends, Query, Request
from sqlalchemy import func
from sqlmodel import select
from sqlmodel.sql.expression import SelectOfScalar

from bottega.database import AsyncSession
from bottega.errors import Invalid
from bottega.platform import Platform

T = TypeVar("T")
MOST = 1000
"""Rows in one answer, whatever was asked for; ``links.next`` leads on."""


@dataclass(frozen=True, slots=True)
class Window:
    """Which part of a list was asked for, and at which address."""

    offset: int
    limit: int
    marker: str | None
    path: str
    query: tuple[tuple[str, str], ...]

    def links(self, platform: Platform, more: bool) -> dict[str, str | None]:
        """The links of a vendor's list; `next` is set when there is more."""
        place = f"{platform.url}{self.path}"
        marker = [("marker", self.marker)] if self.marker else []
        onward = [*self.query, *marker, ("offset", str(self.offset + self.limit)), ("limit", str(self.limit))]
        return {
            "self": place,
            "previous": None,
            "next": f"{place}?{urlencode(onward)}" if more else None,
        }


@dataclass(frozen=True, slots=True)
class Part(Generic[T]):
    """One part of a list; `total` counts all of it."""

    rows: Sequence[T]
    more: bool
    total: int


def windowing() -> Any:
    """``page`` and ``per_page`` (1 to 300 rows), or ``limit`` with ``offset`` or ``marker`` (id of the last row seen).

    Without any, the first 1000 rows.
    """

    def read(
        request: Request,
        page: int | None = Query(None, ge=1, le=2**31),
        per_page: int | None = Query(None, ge=1, le=300),
        limit: int | None = Query(None, ge=1),
        offset: int = Query(0, ge=0, le=2**31),
        marker: str | None = None,
    ) -> Window:
        if (page is None) != (per_page is None):
            raise Invalid("page and per_page: give both, or neither")
        query = tuple((k, v) for k, v in request.query_params.multi_items() if k not in _WINDOW)
        if page is not None and per_page is not None:
            return Window((page - 1) * per_page, per_page, None, request.url.path, query)
        return Window(offset, min(limit or MOST, MOST), marker, request.url.path, query)

    return Depends(read)


_WINDOW = frozenset({"page", "per_page", "limit", "offset", "marker"})


async def part_of(session: AsyncSession, query: SelectOfScalar[T], window: Window) -> Part[T]:
    """The rows of `query`, which gives one table in a definite order (by name, for a marker), that `window` shows."""
    if window.marker is not None:
        table = query.column_descriptions[0]["entity"]
        query = query.where(table.name > select(table.name).where(table.id == window.marker).scalar_subquery())
    rows = (await session.exec(query.offset(window.offset).limit(window.limit + 1))).all()
    shown, more = rows[: window.limit], len(rows) > window.limit
    if not more and (rows or not window.offset):
        return Part(shown, more, window.offset + len(rows))
    counted = select(func.count()).select_from(query.order_by(None).subquery())
    return Part(shown, more, (await session.exec(counted)).one())
