"""Points of metrics: written by the minute, read by any period."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import case, delete, func
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import col, select

from bottega.context import now_ms
from bottega.database import AsyncSession, Transaction
from bottega.errors import Invalid

from .entities import Point

MINUTE_MS = 60_000
STATISTICS = ("average", "max", "min", "sum")


@dataclass(frozen=True, slots=True)
class Sample:
    """One value measured now, or the average of `count`. `dimensions` name of what, as ``{"service_id": "…"}``."""

    project_id: str
    metric: str
    dimensions: Mapping[str, str]
    value: float
    count: int = 1


def dimensions_text(dimensions: Mapping[str, str]) -> str:
    return ";".join(f"{name},{dimensions[name]}" for name in sorted(dimensions))


def dimensions_list(text: str) -> list[dict[str, str]]:
    pairs = (part.partition(",") for part in text.split(";")) if text else ()
    return [{"name": name, "value": value} for name, _, value in pairs]


def read_dimensions(pairs: Iterable[tuple[str, str]]) -> str:
    """The key of what is named by `pairs`. Raises Invalid for a name given twice or characters that separate."""
    found: dict[str, str] = {}
    for name, value in pairs:
        if not name or not value or any(c in name + value for c in ",;"):
            raise Invalid(f"dimension '{name}': write a name and a value without ',' and ';'")
        if name in found:
            raise Invalid(f"dimension '{name}' is given twice")
        found[name] = value
    return dimensions_text(found)


async def record(tx: Transaction, samples: Sequence[Sample], at: int | None = None) -> None:
    """Add samples to the points of their minute."""
    minute = (at or now_ms()) // MINUTE_MS * MINUTE_MS
    # In the order of the key, so that two writers lock rows in the same order.
    for sample in sorted(samples, key=lambda s: (s.project_id, s.metric, dimensions_text(s.dimensions))):
        values = {
            "project_id": sample.project_id,
            "metric": sample.metric,
            "dimensions": dimensions_text(sample.dimensions),
            "minute": minute,
            "samples": sample.count,
            "total": sample.value * sample.count,
            "least": sample.value,
            "most": sample.value,
        }
        await tx.session.execute(_upsert(tx.session, values))


def _upsert(session: AsyncSession, values: dict[str, Any]) -> Any:
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    statement = dialect.insert(Point).values(**values)
    new = statement.excluded
    return statement.on_conflict_do_update(
        index_elements=["project_id", "metric", "dimensions", "minute"],
        set_={
            "samples": col(Point.samples) + new.samples,
            "total": col(Point.total) + new.total,
            "least": case((new.least < col(Point.least), new.least), else_=col(Point.least)),
            "most": case((new.most > col(Point.most), new.most), else_=col(Point.most)),
        },
    )


async def forget(tx: Transaction, before: int) -> None:
    await tx.session.execute(delete(Point).where(col(Point.minute) < before))


def _value(statistic: str, samples: int, total: float, least: float, most: float) -> float:
    match statistic:
        case "average":
            return total / samples
        case "max":
            return most
        case "min":
            return least
        case _:
            return total


async def series(
    session: AsyncSession, project_id: str, metric: str, dimensions: str, statistic: str, period_ms: int, span: range
) -> list[tuple[int, float]]:
    """``(beginning, value)`` of each period of `span` (epoch ms) in which there is data, oldest first."""
    bucket = (col(Point.minute) - span.start) / period_ms
    query: Any = (
        select(  # type: ignore[call-overload]  # SQLModel describes up to four columns
            func.min(Point.minute),
            func.sum(Point.samples),
            func.sum(Point.total),
            func.min(Point.least),
            func.max(Point.most),
        )
        .where(
            Point.project_id == project_id,
            Point.metric == metric,
            Point.dimensions == dimensions,
            col(Point.minute) >= span.start,
            col(Point.minute) < span.stop,
        )
        .group_by(func.floor(bucket))
        .order_by(func.min(Point.minute))
    )
    rows = (await session.execute(query)).all()
    return [
        (
            span.start + (minute - span.start) // period_ms * period_ms,
            _value(statistic, int(samples), total, least, most),
        )
        for minute, samples, total, least, most in rows
    ]
