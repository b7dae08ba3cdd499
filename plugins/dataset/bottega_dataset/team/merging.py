"""Making accepted labels the dataset's own, chunk after chunk in the background, with whose work they are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from sqlalchemy import Integer, cast, func, update
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

_CHUNK = 500


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
        query = select(TeamItem, Sample).join(Sample, col(Sample.key) == TeamItem.sample_key).where(*mine)
        found: dict[int, dict[int, TeamItem]] = defaultdict(dict)
        of: dict[int, Sample] = {}
        for item, sample in (await tx.session.exec(query.order_by(col(TeamItem.worker_key)))).all():
            found[sample.key][item.worker_key], of[sample.key] = item, sample
        changes: dict[int, list[Change]] = defaultdict(list)
        for key, by_worker in found.items():
            sample = of[key]
            untouched = all(item.base_revision == sample.revision for item in by_worker.values())
            if overwrite or untouched:
                given = {worker: unpack(item.labels) for worker, item in by_worker.items()}
                chosen = representative(given)
                said = by_worker[chosen].said or {}
                changes[chosen].append(Change(bytes(sample.sample_id), annotations=given[chosen], **said))
        count, problems = await self._apply(tx, dataset, task, changes)
        await tx.session.exec(update(TeamItem).where(*mine).values(merged=True))
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
