"""Statistics of a dataset: states, labels, hard examples, properties; and what happened in a span of time."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from typing import Any

import anyio.to_thread
import structlog
from sqlalchemy import ColumnElement, and_, func, select, text
from sqlmodel import col

from bottega.database import AsyncSession
from bottega_dataset import counting, hard_reasons, labels, shapes
from bottega_dataset.entities import AnnotationRow, Dataset, DatasetChange, Sample, Suggestion
from bottega_dataset.extension_points import DatasetType
from bottega_dataset.labeling import states_by_key
from bottega_dataset.query import span
from bottega_dataset.sample import HUMAN, LABELED, UNLABELED, SampleRecord

log = structlog.get_logger("bottega.dataset")
HARD_REASONS = "@modelarts:hard_reasons"
_HOUR, _DAY = 3_600_000, 86_400_000
_LOOKED_AT = 10_000
_MEASURED = 2000
_MOST_VALUES = 100
_MOST_AUTHORS = 1000
_ROW: Any = AnnotationRow.__table__  # type: ignore[attr-defined]
_SAMPLE: Any = Sample.__table__  # type: ignore[attr-defined]


async def of_dataset(
    session: AsyncSession, dataset: Dataset, kind: DatasetType, state: str | None = None
) -> dict[str, Any]:
    """The API's statistics; with a state those of the samples in it."""
    assert dataset.key is not None
    total, labeled = (await counting.counts(session, [dataset.key]))[dataset.key]
    label_stats = await labels.counts(session, dataset)
    if state == UNLABELED:
        label_stats = [{**one, "count": 0, "sample_count": 0} for one in label_stats]
    grouped: dict[str, list[dict[str, Any]]] = {str(dataset.dataset_type): []}
    for one in label_stats:
        grouped.setdefault(str(one["type"]), []).append(one)
    shown = {LABELED: labeled, UNLABELED: total - labeled}.get(state or "", total)
    return {
        "label_stats": label_stats,
        "grouped_label_stats": grouped,
        "sample_stats": {
            "all": shown,
            "total": total,
            "manual_annotation": labeled,
            "un_annotation": total - labeled,
            "unconfirmed": (await unconfirmed(session, [dataset.key]))[dataset.key],
        },
        **await of_properties(session, dataset, total),
        "measure_stats": await _measures(session, dataset, kind) if kind.has_measures and state != UNLABELED else {},
        "data_path": shapes.vendor_path(dataset.data_path),
        "data_spliting_enable": any(one["sample_count"] > 1 for one in label_stats),
    }


async def unconfirmed(session: AsyncSession, dataset_keys: list[int]) -> dict[int, int]:
    """How many samples of datasets, by key, wait for somebody to confirm what auto-labeling says."""
    found = {}
    for key in dataset_keys:
        first, last = span(Dataset(key=key, dataset_type=0, work_path=""))
        query = select(func.count(func.distinct(col(Suggestion.sample_key)))).where(
            col(Suggestion.sample_key).between(first, last)
        )
        found[key] = int((await (await session.connection()).execute(query)).scalar_one())
    return found


async def of_properties(
    session: AsyncSession, dataset: Dataset, total: int, which: ColumnElement[bool] | None = None
) -> dict[str, Any]:
    """What the API tells of hard samples, why they are hard, and of properties of samples.

    :param total: how many samples it is about.
    :param which: a condition on samples; without one it is about all of the dataset.
    """
    also = [] if which is None else [which]
    hard, reasons = await _hard(session, and_(_SAMPLE.c.dataset_key == dataset.key, *also))
    return {
        "key_sample_stats": {"total": total, "key_sample": hard, "non_key_sample": total - hard},
        "hard_detail_stats": {
            str(reason): {"key": number, "value": shapes.hard_detail(reason)}
            for reason, number in sorted(reasons.items())
        },
        "metadata_stats": await _metadata(session, and_(_within(dataset), *also)),
    }


def _within(dataset: Dataset) -> ColumnElement[bool]:
    found: ColumnElement[bool] = _SAMPLE.c.key.between(*span(dataset))
    return found


async def _hard(session: AsyncSession, where: ColumnElement[bool]) -> tuple[int, Counter[int]]:
    """How many hard samples there are, and how often each reason was given."""
    connection = await session.connection()
    mine = (where, text("hard IS true"))
    number = int((await connection.execute(select(func.count()).select_from(_SAMPLE).where(*mine))).scalar_one())
    reasons: Counter[int] = Counter()
    if number:
        query = select(_SAMPLE.c.extra).where(*mine, _SAMPLE.c.extra.is_not(None)).limit(_LOOKED_AT)
        for extra in (await connection.execute(query)).scalars():
            reasons.update(hard_reasons.numbers((extra.get("property") or {}).get(HARD_REASONS)))
    return number, reasons


async def _measures(session: AsyncSession, dataset: Dataset, kind: DatasetType) -> dict[str, dict[str, float]]:
    """How the measures of the newest 2,000 labeled samples are spread; what cannot be measured is left out."""
    query = select(_SAMPLE.c.key).where(_SAMPLE.c.dataset_key == dataset.key, _SAMPLE.c.labeled.is_(True))
    newest = query.order_by(_SAMPLE.c.key.desc()).limit(_MEASURED)
    keys = list((await (await session.connection()).execute(newest)).scalars())
    states = await states_by_key(session, keys, kind.annotation_type)

    def measured() -> dict[str, list[float]]:
        found: dict[str, list[float]] = {}
        for one in states.values():
            record = SampleRecord(one.source, list(one.annotations), property=dict(one.property))
            try:
                numbers = {str(name): float(number) for name, number in kind.measures(record).items()}
            except Exception as e:  # types are foreign code, and statistics have more to say than that
                log.warning("sample not measured", type=kind.name, sample=one.sample_id.hex(), exc_info=e)
                continue
            for name, number in numbers.items():
                if math.isfinite(number):
                    found.setdefault(name, []).append(number)
        return found

    # Off the event loop: it may take a while.
    return {
        name: {"count": len(some), "min": min(some), "max": max(some), "mean": statistics.fmean(some)}
        for name, some in (await anyio.to_thread.run_sync(measured)).items()
    }


async def _metadata(session: AsyncSession, within: ColumnElement[bool]) -> dict[str, dict[str, int]]:
    """How often properties of samples have which values, among the newest 10,000."""
    found: dict[str, Counter[str]] = {}
    for key, value in await _properties(session, within):
        found.setdefault(key, Counter())[value] += 1
    return {key: dict(counted.most_common(_MOST_VALUES)) for key, counted in found.items()}


async def _properties(session: AsyncSession, within: ColumnElement[bool]) -> list[tuple[str, str]]:
    newest = select(_SAMPLE.c.extra).where(within).order_by(_SAMPLE.c.key.desc()).limit(_LOOKED_AT)
    found = []
    for extra in (await (await session.connection()).execute(newest)).scalars():
        for key, value in ((extra or {}).get("property") or {}).items():
            if isinstance(value, str | int | float):
                found.append((key, str(value)))
    return found


async def to_search_by(session: AsyncSession, dataset: Dataset) -> dict[str, Any]:
    """Who labeled, and the values of properties (of the newest 10,000 samples) that conditions may ask for."""
    values: dict[str, set[str]] = {}
    for key, value in await _properties(session, _within(dataset)):
        some = values.setdefault(key, set())
        if len(some) < _MOST_VALUES:
            some.add(value)
    return {
        "labelers": await _authors(session, dataset),
        "metadata": {key: sorted(some) for key, some in values.items()},
    }


async def _authors(session: AsyncSession, dataset: Dataset) -> list[str]:
    """Who annotated samples: one step of the index for each, however many annotations there are."""
    connection = await session.connection()
    first, last = span(dataset)
    found, name = [], ""
    named = text("annotated_by <> 'human'")
    for _ in range(_MOST_AUTHORS):
        query = select(_ROW.c.annotated_by).where(named, _ROW.c.annotated_by > name)
        following = (await connection.execute(query.order_by(_ROW.c.annotated_by).limit(1))).scalar_one_or_none()
        if following is None:
            break
        name = following
        mine = select(_ROW.c.sample_key).where(named, _ROW.c.annotated_by == name)
        if (await connection.execute(mine.where(_ROW.c.sample_key.between(first, last)).limit(1))).first():
            found.append(name.removeprefix(f"{HUMAN}/"))
    return found


def step_of(start: int, end: int) -> int:
    """Hours (ms) of up to two days, days of more."""
    return _HOUR if end - start <= 2 * _DAY else _DAY


async def metrics(session: AsyncSession, dataset: Dataset, start: int, end: int) -> dict[str, dict[str, int]]:
    """What happened from `start` to `end` (epoch ms), by the hour, or by the day where it is more than two.

    ``added`` counts samples that are still there, ``labeled`` samples changed by hand or a program, the others those of
    one author each (``labeled_by/<name>``). The keys inside are the beginnings of hours or days, epoch ms.
    """
    step = step_of(start, end)
    connection = await session.connection()
    at = _SAMPLE.c.added_at
    bucket = at - at % step
    first, last = span(dataset)
    query = select(bucket, func.count()).where(_SAMPLE.c.key.between(first, last), at.between(start, end))
    added = (await connection.execute(query.group_by(bucket))).all()
    found: dict[str, dict[str, int]] = {"added": {str(when): number for when, number in added}, "labeled": {}}
    changes = select(col(DatasetChange.at), col(DatasetChange.actor), col(DatasetChange.count)).where(
        col(DatasetChange.dataset_key) == dataset.key,
        col(DatasetChange.at).between(start, end),
        col(DatasetChange.cause).not_in(("rename", "delete-label", "delete-samples")),
    )
    for when, actor, number in (await connection.execute(changes)).all():
        for name in ("labeled", f"labeled_by/{actor}"):
            counted = found.setdefault(name, {})
            key = str(when - when % step)
            counted[key] = counted.get(key, 0) + number
    return found
