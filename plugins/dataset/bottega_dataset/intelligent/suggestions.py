"""Suggestions of automatic labeling: listed, confirmed as they are or corrected, discarded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from sqlalchemy import ColumnElement, and_, delete, exists
from sqlalchemy.orm import aliased
from sqlmodel import col, func, select

from bottega.context import now_ms
from bottega.database import AsyncSession
from bottega.errors import ApiError, Conflict, Invalid, NotFound
from bottega_dataset import labeling, samples
from bottega_dataset.entities import Dataset, Sample, Suggestion, Task
from bottega_dataset.extension_points import DatasetType
from bottega_dataset.intelligent.results import COEFFICIENT, HARD, REASONS
from bottega_dataset.labeling import Author, Change, Outcome
from bottega_dataset.query import SampleFilter, conditions, span
from bottega_dataset.sample import HUMAN, UNLABELED, Annotation, BadSample, SampleRecord

BY_LEARNING, BY_MODEL = "modelarts/active-learning", "modelarts/pre-labeling"
"""Who annotated what a suggestion said (002 §2.3.2); the second is a model of the user's."""
AT_ONCE = 20_000
"""So many samples one request decides on; who wants more asks again."""

SortBy = Literal["sample", "score", "learning"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which suggested samples. `least_confident`: of several labels the least confident one must be in the span."""

    label: str | None = None
    low: float = 0.0
    high: float = 1.0
    hard: bool | None = None
    least_confident: bool = False
    samples: SampleFilter = field(default_factory=lambda: SampleFilter(state=UNLABELED))

    @classmethod
    def of(cls, found: SampleFilter, label: str | None, low: float | None, high: float | None, **more: Any) -> Wanted:
        """From the API's filters: those about labels, confidence and hardness are about suggestions here."""
        return cls(
            label=label or next((one.name for one in found.label_filters), None),
            low=low if low is not None else found.low or 0.0,
            high=high if high is not None else 1.0 if found.high is None else found.high,
            hard=found.hard,
            samples=replace(
                found, state=UNLABELED, labels=(), all_labels=False, low=None, high=None, hard=None, annotator=None
            ),
            **more,
        )


def _chosen(dataset: Dataset, wanted: Wanted, first: Any) -> list[ColumnElement[bool]]:
    """Conditions on samples and `first`, the suggestion each of them has."""
    found = conditions(dataset, wanted.samples)
    if wanted.hard is not None:
        found.append(first.hard.is_(wanted.hard))
    score = col(Suggestion.confidence)
    if wanted.least_confident and (wanted.low > 0 or wanted.high < 1):
        lower = exists().where(col(Suggestion.sample_key) == Sample.key, score < wanted.low)
        higher = exists().where(col(Suggestion.sample_key) == Sample.key, score > wanted.high)
        found += [~lower, ~higher]
    quality: list[ColumnElement[bool]] = []
    if wanted.label is not None:
        quality.append(col(Suggestion.name) == wanted.label)
    if not wanted.least_confident and wanted.low > 0:
        quality.append(score >= wanted.low)
    if not wanted.least_confident and wanted.high < 1:
        quality.append(score <= wanted.high)
    if quality:
        found.append(exists().where(and_(col(Suggestion.sample_key) == Sample.key, *quality)))
    return found


async def page(
    session: AsyncSession,
    dataset: Dataset,
    wanted: Wanted,
    *,
    sort_by: SortBy = "sample",
    descending: bool = True,
    offset: int = 0,
    limit: int = 10,
) -> tuple[int, Sequence[Sample]]:
    """The number of suggested samples that match, and some of them.

    :param sort_by: by when they were added, by confidence, or by what teaches most (always the most first).
    """
    first = aliased(Suggestion)
    joined = and_(col(first.sample_key) == Sample.key, col(first.position) == 0)
    found = _chosen(dataset, wanted, first)
    total = (await session.exec(select(func.count()).select_from(Sample).join(first, joined).where(*found))).one()
    query = select(Sample).join(first, joined).where(*found)
    key = col(Sample.key).desc() if descending else col(Sample.key).asc()
    if sort_by == "learning":
        query = query.where(col(first.rank).is_not(None)).order_by(col(first.rank))
    elif sort_by == "score":
        score = col(first.confidence)
        query = query.order_by(score.desc() if descending else score.asc(), key)
    else:
        query = query.order_by(key)
    return total, (await session.exec(query.offset(offset).limit(limit))).all()


async def of_samples(session: AsyncSession, keys: Sequence[int]) -> dict[int, list[Suggestion]]:
    """The suggestions of samples, by key, in their order."""
    found: dict[int, list[Suggestion]] = {}
    for at in range(0, len(keys), 1000):
        query = select(Suggestion).where(col(Suggestion.sample_key).in_(keys[at : at + 1000]))
        order = (col(Suggestion.sample_key), col(Suggestion.position))
        for row in (await session.exec(query.order_by(*order))).all():
            found.setdefault(row.sample_key, []).append(row)
    return found


async def get(session: AsyncSession, dataset: Dataset, sample_id: bytes) -> tuple[Sample, list[Suggestion]]:
    """Raises NotFound for a sample without suggestions, or labeled by now."""
    row = await samples.get(session, dataset, sample_id)
    found = (await of_samples(session, [row.key])).get(row.key)
    if not found or row.labeled:
        raise NotFound(f"there are no suggestions for sample '{sample_id.hex()}'")
    return row, found


async def newest_task(session: AsyncSession, dataset: Dataset) -> str | None:
    """The task whose suggestions a dataset has, if it has any."""
    query = select(Suggestion.task_id).where(col(Suggestion.sample_key).between(*span(dataset))).limit(1)
    return (await session.exec(query)).first()


async def matching(session: AsyncSession, dataset: Dataset, wanted: Wanted) -> tuple[int, list[bytes]]:
    """How many samples a decision by filters is about, and the ids of those that one request decides on."""
    total, rows = await page(session, dataset, replace(wanted, least_confident=True), limit=AT_ONCE, descending=False)
    return total, [bytes(row.sample_id) for row in rows]


async def confirm(
    session: AsyncSession,
    dataset: Dataset,
    kind: DatasetType,
    ids: Sequence[bytes],
    corrections: Mapping[bytes, Sequence[Annotation]],
    user_name: str,
) -> tuple[Outcome, int]:
    """Make the suggestions of samples their annotations, or the corrections where there are any.

    A correction's label that says what a suggestion said keeps that it was suggested, and its confidence. Returns what
    became of it, and how many samples were corrected. Raises Invalid for corrections that break the type's rules; what
    a suggestion breaks fails alone.
    """
    await samples.lock(session, dataset)
    rows = await _rows(session, dataset, ids)
    found = await of_samples(session, [row.key for row in rows.values()])
    annotators = {task_id: await _annotator(session, task_id) for task_id in {s[0].task_id for s in found.values()}}
    failures: dict[bytes, ApiError] = {}
    changes: list[Change] = []
    corrected = 0
    moment = now_ms() // 1000 * 1000
    for ident in ids:
        row = rows.get(ident)
        suggested = found.get(row.key) if row else None
        if row is None or not suggested or row.labeled:
            failures[ident] = NotFound(f"there are no suggestions for sample '{ident.hex()}'")
            continue
        annotations = said(suggested, kind, annotators[suggested[0].task_id], moment)
        if ident in corrections:
            annotations = [_kept(one, annotations) for one in corrections[ident]]
            corrected += any(one.annotated_by.startswith(HUMAN) for one in annotations)
        elif annotations:
            try:
                record = SampleRecord(row.source, annotations, property=(row.extra or {}).get("property"))
                kind.check_annotations(record)
            except BadSample as e:
                failures[ident] = Invalid(f"sample {ident.hex()}: {e}")
                continue
        if not annotations:
            failures[ident] = Conflict(
                f"nothing was found in sample '{ident.hex()}'; label it by hand, or discard the suggestion"
            )
            continue
        changes.append(Change(ident, annotations, revision=row.revision))
    outcome = await labeling.change(session, dataset, kind, changes, Author(user_name, "confirm"))
    outcome.failures |= failures
    return outcome, corrected


async def discard(session: AsyncSession, dataset: Dataset, ids: Sequence[bytes]) -> tuple[int, set[bytes]]:
    """Remove the suggestions of samples. Returns for how many there were any, and the ids of the others."""
    await samples.lock(session, dataset)
    rows = await _rows(session, dataset, ids)
    found = await of_samples(session, [row.key for row in rows.values()])
    await _forget(session, list(found))
    return len(found), {ident for ident in ids if ident not in rows or rows[ident].key not in found}


def said(suggested: Sequence[Suggestion], kind: DatasetType, annotator: str, moment: int | None) -> list[Annotation]:
    """What the suggestions of a sample say, as annotations; none where nothing was found."""
    found = [
        Annotation(
            type=one.type or kind.annotation_type,
            name=one.name,
            property={key: value for key, value in (one.property or {}).items() if key != HARD} or None,
            hard=True if one.hard else None,
            annotated_by=annotator,
            created_at=moment,
            confidence=one.confidence,
            id=one.annotation_id,
        )
        for one in suggested
    ]
    return [one for one in found if one.name or _content(one)]


def _kept(correction: Annotation, suggested: Sequence[Annotation]) -> Annotation:
    for one in suggested:
        if (one.type, one.name, _content(one)) == (correction.type, correction.name, _content(correction)):
            return one
    return correction


def _content(one: Annotation) -> dict[str, Any]:
    return {key: value for key, value in (one.property or {}).items() if key not in (COEFFICIENT, REASONS)}


async def _annotator(session: AsyncSession, task_id: str) -> str:
    """Who said what the suggestions of a task say; an import's are by whatever program made the file."""
    task = await session.get(Task, task_id)
    return {"auto-label": BY_LEARNING, "pre-label": BY_MODEL}.get(task.kind if task else "", "auto")


async def _rows(session: AsyncSession, dataset: Dataset, ids: Sequence[bytes]) -> dict[bytes, Sample]:
    if len(set(ids)) != len(ids):
        raise Invalid("the same sample is named twice in one request")
    found: dict[bytes, Sample] = {}
    for at in range(0, len(ids), 1000):
        some = ids[at : at + 1000]
        query = select(Sample).where(Sample.dataset_key == dataset.key, col(Sample.sample_id).in_(some))
        found |= {bytes(row.sample_id): row for row in (await session.exec(query)).all()}
    return found


async def _forget(session: AsyncSession, keys: Sequence[int]) -> None:
    for at in range(0, len(keys), 1000):
        await session.exec(delete(Suggestion).where(col(Suggestion.sample_key).in_(keys[at : at + 1000])))
