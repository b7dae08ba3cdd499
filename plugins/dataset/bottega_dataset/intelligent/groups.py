"""The groups automatic grouping found: listed with their samples, labeled whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import and_
from sqlmodel import col, func, select

from bottega.database import AsyncSession
from bottega.errors import NotFound
from bottega_dataset.entities import AnnotationRow, Dataset, GroupMember, Label, Sample

AT_ONCE = 50_000
"""So many samples of a group one request labels."""
_TYPICAL = 5


async def listing(session: AsyncSession, dataset: Dataset, task_id: str) -> list[dict[str, Any]]:
    """The groups of a task, the largest first: counts, the labels in them, and the samples nearest to the middle.

    Raises NotFound when a later grouping has replaced them.
    """
    of_task = GroupMember.task_id == task_id
    joined = and_(col(Sample.key) == GroupMember.sample_key)
    counted = (
        select(GroupMember.number, col(Sample.labeled), func.count())
        .join(Sample, joined)
        .where(of_task)
        .group_by(col(GroupMember.number), col(Sample.labeled))
    )
    found: dict[int, dict[str, Any]] = {}
    for number, labeled, count in (await session.exec(counted)).all():
        group = found.setdefault(number, {"group": number, "sample_count": 0, "annotated_sample_count": 0})
        group["sample_count"] += count
        group["annotated_sample_count"] += count if labeled else 0
    if not found:
        raise NotFound(f"task '{task_id}' has no groups any more; the last grouping of the dataset is another one")
    labels = (
        select(GroupMember.number, col(Label.name), func.count(func.distinct(AnnotationRow.sample_key)))
        .join(AnnotationRow, col(AnnotationRow.sample_key) == GroupMember.sample_key)
        .join(Label, col(Label.key) == AnnotationRow.label_key)
        .where(of_task)
        .group_by(col(GroupMember.number), col(Label.name))
    )
    stats: dict[int, list[dict[str, Any]]] = {}
    for number, name, count in (await session.exec(labels)).all():
        stats.setdefault(number, []).append({"name": name, "sample_count": count})
    for number, group in found.items():
        near = (
            select(col(Sample.sample_id))
            .join(GroupMember, joined)
            .where(of_task, GroupMember.number == number)
            .order_by(col(GroupMember.distance), col(Sample.key))
            .limit(_TYPICAL)
        )
        group["label_stats"] = sorted(stats.get(number, []), key=lambda one: (-one["sample_count"], one["name"]))
        group["typical_samples"] = [bytes(ident).hex() for ident in (await session.exec(near)).all()]
    return [found[number] for number in sorted(found)]


async def page(
    session: AsyncSession, task_id: str, number: int, offset: int, limit: int
) -> tuple[int, Sequence[tuple[Sample, float]]]:
    """The number of samples in a group, and some of them with their distance to its middle, the nearest first."""
    chosen = (GroupMember.task_id == task_id, GroupMember.number == number)
    total = (await session.exec(select(func.count()).select_from(GroupMember).where(*chosen))).one()
    if not total:
        raise NotFound(f"task '{task_id}' has no group {number}")
    query = (
        select(Sample, GroupMember.distance)
        .join(GroupMember, col(GroupMember.sample_key) == Sample.key)
        .where(*chosen)
        .order_by(col(GroupMember.distance), col(Sample.key))
    )
    return total, (await session.exec(query.offset(offset).limit(limit))).all()


async def members(session: AsyncSession, task_id: str, number: int, *, labeled_too: bool) -> list[int]:
    """The keys of the samples of a group that a request labels. Raises NotFound when there is no such group."""
    chosen = [GroupMember.task_id == task_id, GroupMember.number == number]
    if (await session.exec(select(GroupMember.sample_key).where(*chosen).limit(1))).first() is None:
        raise NotFound(f"task '{task_id}' has no group {number}")
    query = select(Sample.key).join(GroupMember, col(GroupMember.sample_key) == Sample.key).where(*chosen)
    if not labeled_too:
        query = query.where(col(Sample.labeled).is_(False))
    return list((await session.exec(query.order_by(col(Sample.key)).limit(AT_ONCE))).all())
