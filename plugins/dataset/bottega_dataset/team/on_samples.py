"""What teams said of samples, for the lists of the dataset itself."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sqlmodel import col, select

from bottega.database import AsyncSession
from bottega.platform import Platform
from bottega_dataset.team import shapes
from bottega_dataset.team.assembly import Teams
from bottega_dataset.team.entities import TeamItem, Worker


async def of_samples(platform: Platform, session: AsyncSession, keys: Sequence[int]) -> dict[int, dict[str, Any]]:
    """Fields of the vendor's DescribeSampleResp by sample key, for samples some team labeling task has given out.

    They are of the newest of these tasks: who was given the sample, and what was said of the labels given last.
    """
    query = (
        select(TeamItem, Worker)
        .join(Worker, col(Worker.key) == TeamItem.worker_key)
        .where(col(TeamItem.sample_key).in_(keys))
        .order_by(col(TeamItem.task_key).desc(), col(TeamItem.worker_key))
    )
    given: dict[int, list[tuple[TeamItem, Worker]]] = defaultdict(list)
    for item, worker in (await session.exec(query)).all():
        some = given[item.sample_key]
        if not some or some[0][0].task_key == item.task_key:
            some.append((item, worker))
    if not given:
        return {}
    workers = {worker.key: worker for some in given.values() for _, worker in some}
    members = await Teams.of(platform).workforces.with_emails(session, list(workers.values()))
    shown = {member.worker.key: shapes.worker(member) for member in members}
    found = {}
    for key, some in given.items():
        item, worker = max(some, key=lambda one: one[0].labeled_at or 0)
        found[key] = shapes.verdicts(item, worker) | {"labelers": [shown[one.key] for _, one in some]}
    return found
