"""Tasks, samples and figures as answers show them, to owners and to labelers alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlmodel import col, select

from bottega.database import AsyncSession
from bottega.entities import Resource
from bottega.platform import Platform
from bottega_dataset import labels
from bottega_dataset import shapes as dataset_shapes
from bottega_dataset import statistics as dataset_statistics
from bottega_dataset.entities import Dataset
from bottega_dataset.intelligent import suggestions
from bottega_dataset.kinds import Kinds
from bottega_dataset.sample import Annotation
from bottega_dataset.team import acceptance, items, progress, shapes
from bottega_dataset.team.entities import Acceptance, TeamMember, TeamTask, Worker
from bottega_dataset.team.items import ItemFilter, Row
from bottega_dataset.team.team_tasks import TeamTasks
from bottega_dataset.team.workforces import Member, Workforces


class Views:
    def __init__(self, platform: Platform, kinds: Kinds, workforces: Workforces, tasks: TeamTasks) -> None:
        self._platform = platform
        self._kinds = kinds
        self._workforces = workforces
        self._tasks = tasks

    async def tasks(self, session: AsyncSession, dataset: Dataset, rows: Sequence[TeamTask]) -> list[dict[str, Any]]:
        keys = [task.key for task in rows]
        members = await self._tasks.members(session, keys)
        ids = {person.worker.workforce_id for some in members.values() for _, person in some}
        query = select(Resource.id, Resource.name).where(col(Resource.id).in_(ids))
        names = dict((await session.exec(query)).all())
        verdicts = await progress.task_verdicts(session, keys)
        return [
            shapes.team_task(
                task,
                dataset,
                members[task.key or 0],
                names,
                await self.checking(session, task),
                verdicts.get(task.key or 0, (0.0, 0.0)),
            )
            for task in rows
        ]

    async def descriptor(self, session: AsyncSession, dataset: Dataset) -> dict[str, Any] | None:
        """The vendor's ``WorkforceDescriptor`` of a dataset: its newest team labeling task."""
        _, rows = await self._tasks.listing(session, dataset.key, 0, 1)
        if not rows:
            return None
        (task,) = rows
        (shown,) = await self.tasks(session, dataset, [task])
        teams = shown["workforces_config"]["workforces"]
        return {
            "current_task_id": task.id,
            "current_task_name": task.name,
            "reject_num": (await progress.stats(session, task))["rejected_sample_count"],
            "repetition": task.repetition,
            "is_synchronize_auto_labeling_data": task.synchronize_auto_labeling_data,
            "is_synchronize_data": task.synchronize_data,
            "workers": [worker for team in teams for worker in team["workers"]],
            "workforce_id": teams[0]["workforce_id"] if teams else None,
            "workforce_name": teams[0]["workforce_name"] if teams else None,
        }

    async def checking(self, session: AsyncSession, task: TeamTask) -> dict[str, Any] | None:
        """The vendor's ``WorkforceSamplingTaskDesc`` of a task's last acceptance."""
        if task.acceptance_id is None:
            return None
        last = (await session.exec(select(Acceptance).where(Acceptance.id == task.acceptance_id))).first()
        if last is None:
            return None
        return {
            "action": last.action,
            "checking_task_id": last.id,
            "overwrite_last_result": last.overwrite_last_result,
            "checking_stats": (await acceptance.counts(session, last)).shape(last.id),
            "total_stats": (await acceptance.history(session, task)).shape(last.id),
        }

    async def worker_tasks(
        self, session: AsyncSession, rows: Sequence[tuple[TeamTask, Dataset, TeamMember, Worker]]
    ) -> list[dict[str, Any]]:
        keys = [task.key for task, *_ in rows]
        people = await self._workforces.with_emails(session, [worker for *_, worker in rows])
        stats = await progress.worker_stats(session, keys)
        verdicts = await progress.verdicts(session, keys)
        none: dict[str, int] = progress.empty()
        return [
            shapes.worker_task(
                task,
                dataset,
                member,
                person,
                stats.get((member.task_key, member.worker_key), none),
                verdicts.get((member.task_key, member.worker_key), (0.0, 0.0)),
            )
            for (task, dataset, member, _), person in zip(rows, people, strict=True)
        ]

    async def rows(
        self, session: AsyncSession, dataset: Dataset, task: TeamTask, rows: Sequence[Row], *, private: bool
    ) -> list[dict[str, Any]]:
        """Samples with what their workers say. `private`: each shows its own worker and nobody else."""
        kind = self._kinds.of(dataset.dataset_type)
        keys = [row.sample.key for row in rows]
        given_to = await items.labelers(session, task, keys)
        query = select(Worker).where(col(Worker.key).in_({key for some in given_to.values() for key in some}))
        workers = (await session.exec(query)).all()
        people: dict[int | None, Member] = {
            person.worker.key: person for person in await self._workforces.with_emails(session, workers)
        }
        shown = []
        guesses = await self._suggested(session, dataset, task, rows)
        for row in rows:
            who = [row.item.worker_key] if private else given_to[row.sample.key]
            one = shapes.item(row, kind, [shapes.worker(people[key]) for key in who])
            if row.sample.key in guesses and not row.item.labels:
                one["suggestions"] = [
                    dataset_shapes.label(guess, kind, index) for index, guess in enumerate(guesses[row.sample.key])
                ]
            shown.append(one)
        return shown

    async def statistics(
        self, session: AsyncSession, dataset: Dataset, task: TeamTask, wanted: ItemFilter
    ) -> dict[str, Any]:
        """Of a task's labels and samples, in the form of the dataset's own statistics."""
        by_worker = await progress.label_counts(session, dataset, task, wanted)
        known = {label.name: labels.shape(label) for label in await labels.of_dataset(session, dataset)}
        totals: dict[str, tuple[int, int]] = {}
        for some in by_worker.values():
            for name, (count, samples) in some.items():
                before = totals.get(name, (0, 0))
                totals[name] = (before[0] + count, before[1] + samples)
        code = self._kinds.of(dataset.dataset_type).annotations[0].code
        stats = [
            known.get(name, {"name": name, "type": code, "property": {}, "attributes": []})
            | {"count": totals.get(name, (0, 0))[0], "sample_count": totals.get(name, (0, 0))[1]}
            for name in dict.fromkeys([*known, *totals])
        ]
        counted = await progress.stats(session, task)
        return {
            "label_stats": stats,
            "grouped_label_stats": {str(dataset.dataset_type): stats},
            "sample_stats": {
                "total": counted["total_sample_count"],
                "all": counted["total_sample_count"] - counted["unannotated_sample_count"],
                "un_annotation": counted["unannotated_sample_count"],
                "un_reviewed": counted["unreviewed_sample_count"],
                "un_check": counted["uncheck_sample_count"],
                "accepted": counted["accepted_sample_count"],
                "rejected": counted["rejected_sample_count"],
                "sampled": counted["sampled_sample_count"],
                "auto_annotation": counted["auto_annotation_sample_count"],
                "deleted": counted["deleted_sample_count"],
            },
            **await dataset_statistics.of_properties(
                session, dataset, counted["total_sample_count"], progress.given_out(task)
            ),
            "data_path": dataset_shapes.vendor_path(dataset.data_path),
            "data_spliting_enable": any(samples > 1 for _, samples in totals.values()),
        }

    async def _suggested(
        self, session: AsyncSession, dataset: Dataset, task: TeamTask, rows: Sequence[Row]
    ) -> dict[int, list[Annotation]]:
        """What auto-labeling says, by sample, where the task's annotators are to see it."""
        if not task.synchronize_auto_labeling_data:
            return {}
        kind = self._kinds.of(dataset.dataset_type)
        found = await suggestions.of_samples(session, [row.sample.key for row in rows])
        return {key: suggestions.said(some, kind, "auto", None) for key, some in found.items()}
