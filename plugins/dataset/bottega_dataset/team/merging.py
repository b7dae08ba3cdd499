"""Making accepted labels the dataset's own, chunk after chunk in the background, with whose work they are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Integer, cast, func, update
from sqlalchemy import select as select_rows
from sqlmodel import col, select

from bottega.database import Transaction
from bottega.errors import Invalid
from bottega.platform import Platform
from bottega_dataset import labeling
from bottega_dataset.entities import Dataset, Sample
from bottega_dataset.events import LabelsChanged, SamplesLabeled
from bottega_dataset.kinds import Kinds
from bottega_dataset.labeling import Author, Change
from bottega_dataset.sample import Problem
from bottega_dataset.tasks import Running
from bottega_dataset.team import handing_over
from bottega_dataset.team.agreement import representative
from bottega_dataset.team.entities import ACCEPTED, TeamItem, TeamTask, Worker
from bottega_dataset.team.events import TeamResultsMerged
from bottega_dataset.team.items import unpack

_CHUNK = 1000
_ITEMS: Any = TeamItem.__table__  # type: ignore[attr-defined]  # many rows go past the ORM


class Merging:
    def __init__(self, platform: Platform, kinds: Kinds) -> None:
        self._platform = platform
        self._kinds = kinds

    async def perform(self, running: Running) -> None:
        """Merge what is accepted and not merged yet.

        Of several annotators' labels those that agree best with the others' are taken. A sample whose labels somebody
        has changed in the dataset meanwhile keeps those, unless the task's `overwrite` says otherwise.
        """
        dataset, merged = running.dataset, 0
        while True:
            async with self._platform.database.transaction() as tx:
                query = select(TeamTask).where(TeamTask.id == running.task.params["team_task_id"])
                task = (await tx.session.exec(query)).first()
                if task is None or task.key is None:
                    await running.commit(tx, progress=1.0, state="completed")
                    return
                task = await handing_over.lock(tx.session, task.key)
                overwrite = running.task.params["overwrite"]
                behind = running.task.cursor.get("sample_key", -1)
                keys, count, problems = await self._chunk(tx, dataset, task, behind, overwrite=overwrite)
                merged += count
                done = len(keys) < _CHUNK
                if done and merged:
                    event = TeamResultsMerged(dataset_id=dataset.id, task_id=task.id, count=merged)
                    tx.emit(event, self._kinds.urn(task.project_id, dataset.id))
                await running.commit(
                    tx,
                    cursor={"sample_key": keys[-1]} if keys else None,
                    counted={"merged": count},
                    found=problems,
                    progress=1.0 if done else None,
                    state="completed" if done else "running",
                )
            if done:
                return

    async def _chunk(
        self, tx: Transaction, dataset: Dataset, task: TeamTask, behind: int, *, overwrite: bool
    ) -> tuple[Sequence[int], int, list[Problem]]:
        """The samples that were looked at, how many changed, and what could not be."""
        ready = (
            select(TeamItem.sample_key)
            .where(TeamItem.task_key == task.key, TeamItem.sample_key > behind)
            .group_by(col(TeamItem.sample_key))
            .having(func.min(TeamItem.state) == ACCEPTED, func.sum(cast(TeamItem.merged, Integer)) == 0)
            .order_by(col(TeamItem.sample_key))
            .limit(_CHUNK)
        )
        keys = (await tx.session.exec(ready)).all()
        mine = (col(TeamItem.task_key) == task.key, col(TeamItem.sample_key).in_(keys))
        row = _ITEMS.c
        query = (
            select_rows(row.sample_key, row.worker_key, row.labels, row.said, row.base_revision)
            .add_columns(col(Sample.sample_id), col(Sample.revision))
            .join(Sample, col(Sample.key) == row.sample_key)
            .where(*mine)
            .order_by(row.sample_key, row.worker_key)
        )
        found: dict[int, list[Any]] = defaultdict(list)
        for one in (await tx.session.execute(query)).all():
            found[one.sample_key].append(one)
        changes: dict[int, list[Change]] = defaultdict(list)
        settled = list[int]()
        for key, items in found.items():
            if overwrite or all(one.base_revision == one.revision for one in items):
                given = {one.worker_key: unpack(one.labels) for one in items}
                chosen = representative(given)
                said = next(one.said for one in items if one.worker_key == chosen) or {}
                changes[chosen].append(Change(bytes(items[0].sample_id), annotations=given[chosen], **said))
                settled.append(key)
        count, problems = await self._apply(tx, dataset, task, changes)
        done = (col(TeamItem.task_key) == task.key, col(TeamItem.sample_key).in_(settled))
        await tx.session.exec(update(TeamItem).where(*done).values(merged=True))
        return keys, count, problems

    async def _apply(
        self, tx: Transaction, dataset: Dataset, task: TeamTask, changes: Mapping[int, Sequence[Change]]
    ) -> tuple[int, list[Problem]]:
        """Change the dataset's labels in the name of each worker: how many, and what cannot be said any more."""
        query = select(Worker.key, Worker.id).where(col(Worker.key).in_(changes))
        ids = dict((await tx.session.exec(query)).all())
        kind, urn = self._kinds.of(dataset.dataset_type), self._kinds.urn(task.project_id, dataset.id)
        count, problems, new_labels = 0, list[Problem](), list[str]()
        for worker, some in changes.items():
            author = Author(f"worker:{ids[worker]}", "review")
            try:
                outcomes = [await labeling.change(tx.session, dataset, kind, some, author)]
            except Invalid:
                outcomes = []
                for one in some:
                    try:
                        outcomes.append(await labeling.change(tx.session, dataset, kind, [one], author))
                    except Invalid as e:
                        problems.append(Problem(one.sample_id.hex(), e.message))
            count += sum(outcome.changed for outcome in outcomes)
            new_labels += [name for outcome in outcomes for name in outcome.new_labels]
        if count:
            tx.emit(SamplesLabeled(dataset_id=dataset.id, count=count), urn)
        if new_labels:
            tx.emit(LabelsChanged(dataset_id=dataset.id, created=new_labels), urn)
        return count, problems
