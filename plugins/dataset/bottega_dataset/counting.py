"""How many samples datasets have: kept in the dataset's row, for counting millions takes too long to show."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import update
from sqlmodel import col, select

from bottega.database import AsyncSession
from bottega_dataset.entities import Dataset


async def note(session: AsyncSession, dataset: Dataset, total: int, labeled: int) -> None:
    """So many samples, and labeled ones among them, came in this transaction, which has the lock; or went (< 0)."""
    if total or labeled:
        query = update(Dataset).where(col(Dataset.id) == dataset.id)
        new = {"sample_count": Dataset.sample_count + total, "labeled_count": Dataset.labeled_count + labeled}
        await session.exec(query.values(**new), execution_options={"synchronize_session": False})


async def gone(session: AsyncSession, dataset: Dataset, total: int, labeled: int) -> None:
    """So many samples left the dataset (the API's ``deleted_sample_count``), or came back (< 0)."""
    await note(session, dataset, -total, -labeled)
    query = update(Dataset).where(col(Dataset.id) == dataset.id)
    query = query.values(deleted_samples=Dataset.deleted_samples + total)
    await session.exec(query, execution_options={"synchronize_session": False})


async def counts(session: AsyncSession, dataset_keys: Sequence[int]) -> dict[int, tuple[int, int]]:
    """Samples, and labeled samples, of datasets by key."""
    query = select(Dataset.key, Dataset.sample_count, Dataset.labeled_count).where(col(Dataset.key).in_(dataset_keys))
    found = dict.fromkeys(dataset_keys, (0, 0))
    found |= {key: (total, labeled) for key, total, labeled in (await session.exec(query)).all() if key is not None}
    return found
