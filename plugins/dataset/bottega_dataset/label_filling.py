"""What imported samples tell of the properties of their labels, which nobody has said yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlmodel import col, select

from bottega.database import AsyncSession, Database
from bottega_dataset import labels, samples
from bottega_dataset.entities import AnnotationRow, Dataset, Label
from bottega_dataset.extension_points import DatasetType
from bottega_dataset.labeling import states_by_key
from bottega_dataset.sample import BadSample, SampleRecord

_AT_ONCE = 1000


async def told(database: Database, dataset: Dataset, kind: DatasetType) -> dict[int, Mapping[str, Any]]:
    """The properties that labels lack and all samples that bear them agree about, by the labels' keys."""
    found: dict[int, Mapping[str, Any]] = {}
    if not kind.has_label_rules:
        return found
    async with database.read() as session:
        for label in await labels.of_dataset(session, dataset):
            annotation_type = kind.annotation_of(label.type)
            try:
                kind.check_label(annotation_type, label.property)
            except BadSample:
                properties = await _agreed(session, kind, label, annotation_type)
                if properties and label.key is not None:
                    found[label.key] = properties
    return found


async def _agreed(
    session: AsyncSession, kind: DatasetType, label: Label, annotation_type: str
) -> Mapping[str, Any] | None:
    agreed: Mapping[str, Any] | None = None
    after = -1
    while True:
        bearing = select(AnnotationRow.sample_key).where(
            AnnotationRow.label_key == label.key, col(AnnotationRow.sample_key) > after
        )
        query = bearing.distinct().order_by(col(AnnotationRow.sample_key)).limit(_AT_ONCE)
        keys: Sequence[int] = (await session.exec(query)).all()
        if not keys:
            return agreed
        after = keys[-1]
        for state in (await states_by_key(session, keys, kind.annotation_type)).values():
            record = SampleRecord(state.source, list(state.annotations), property=dict(state.property))
            for of, name, properties in kind.label_properties(record):
                if (of, name) != (annotation_type, label.name):
                    continue
                if agreed is not None and agreed != properties:
                    return None
                agreed = properties


async def fill(session: AsyncSession, dataset: Dataset, found: Mapping[int, Mapping[str, Any]]) -> list[str]:
    """Give labels what was `told` of them; what somebody has said meanwhile stays. Returns their names."""
    if not found:
        return []
    await samples.lock(session, dataset)
    filled = []
    for label in await labels.of_dataset(session, dataset):
        properties = found.get(label.key or 0)
        if properties:
            label.property = {**properties, **label.property}
            session.add(label)
            filled.append(label.name)
    return filled
