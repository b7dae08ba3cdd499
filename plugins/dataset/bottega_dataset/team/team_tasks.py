"""Team labeling tasks: which samples, by whom, and how far they are."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import func
from sqlmodel import col, select

from bottega.context import now_ms
from bottega.database import AsyncSession, Transaction
from bottega.errors import ApiError, Conflict, Invalid, NotFound
from bottega.platform import Platform
from bottega_dataset import tasks
from bottega_dataset.datasets import Found
from bottega_dataset.entities import Task
from bottega_dataset.extension_points import DatasetType
from bottega_dataset.query import SampleFilter
from bottega_dataset.sample import UNLABELED
from bottega_dataset.search import from_search
from bottega_dataset.team import handing_over, items
from bottega_dataset.team.entities import ADMINISTRATOR, ANNOTATOR, DELETED, REVIEWER, TeamMember, TeamTask, Worker
from bottega_dataset.team.events import TeamSamplesLabeled, TeamTaskCreated, TeamTaskDeleted, TeamTaskUpdated
from bottega_dataset.team.items import Labeling
from bottega_dataset.team.requests import Allocation, NewTeamTask, WorkerRef, WorkforcesConfig
from bottega_dataset.team.workforces import MOST_OF_A_ROLE, Member, Workforces, check_description, check_name, purge

STARTING, RUNNING, ACCEPTING, COMPLETED, REJECTED, CREATED = 0, 1, 2, 3, 4, 6
ALLOCATE, MERGE = "allocate", "team-merge"


@dataclass(frozen=True, slots=True)
class Chosen:
    """A worker that takes part in a task."""

    worker: Worker
    role: int
    weight: float


class TeamTasks:
    def __init__(self, platform: Platform, workforces: Workforces) -> None:
        self._platform = platform
        self._workforces = workforces

    # -- finding -------------------------------------------------------------------------------------------------

    async def get(self, session: AsyncSession, found: Found, task_id: str) -> TeamTask:
        query = select(TeamTask).where(TeamTask.id == task_id, TeamTask.dataset_key == found.dataset.key)
        task = (await session.exec(query)).first()
        if task is None:
            raise NotFound(f"the dataset has no team labeling task '{task_id}'")
        return task

    async def locked(self, tx: Transaction, found: Found, task_id: str) -> TeamTask:
        """The task, for a change: whoever else changes it or its items waits."""
        task = await self.get(tx.session, found, task_id)
        assert task.key is not None
        return await handing_over.lock(tx.session, task.key)

    async def listing(
        self, session: AsyncSession, dataset_key: int | None, offset: int, limit: int
    ) -> tuple[int, Sequence[TeamTask]]:
        """The number of a dataset's tasks, and some of them, the newest first."""
        mine = TeamTask.dataset_key == dataset_key
        total = (await session.exec(select(func.count()).select_from(TeamTask).where(mine))).one()
        order = (col(TeamTask.created_at).desc(), col(TeamTask.key).desc())
        rows = await session.exec(select(TeamTask).where(mine).order_by(*order).offset(offset).limit(limit))
        return total, rows.all()

    async def members(
        self, session: AsyncSession, task_keys: Sequence[int | None]
    ) -> dict[int, list[tuple[TeamMember, Member]]]:
        """The workers of tasks by the tasks' keys, those deleted since included."""
        query = (
            select(TeamMember, Worker)
            .join(Worker, col(Worker.key) == TeamMember.worker_key)
            .where(col(TeamMember.task_key).in_(task_keys))
            .order_by(col(TeamMember.task_key), col(TeamMember.worker_key))
        )
        rows = (await session.exec(query)).all()
        known = await self._workforces.with_emails(session, [worker for _, worker in rows])
        found: dict[int, list[tuple[TeamMember, Member]]] = {key: [] for key in task_keys if key is not None}
        for (member, _), person in zip(rows, known, strict=True):
            found[member.task_key].append((member, person))
        return found

    # -- changing ------------------------------------------------------------------------------------------------

    async def create(
        self, tx: Transaction, found: Found, body: NewTeamTask, actor: str, *, give_out: bool = True
    ) -> TeamTask:
        """A new task; with teams and no `agency` it starts at once.

        :param give_out: whether its samples are there; else they are given out when the dataset's import ends.
        """
        wanted = conditions_of(body.sample_conditions)
        filter_of(wanted, body.sample_state)
        bits = body.data_sync_type
        assert found.dataset.key is not None
        task = TeamTask(
            dataset_key=found.dataset.key,
            project_id=found.resource.project_id,
            name=check_name(body.task_name or f"task-{secrets.token_hex(2)}", "task_name"),
            description=check_description(body.description),
            repetition=body.repetition,
            auto_sync_dataset=body.auto_sync_dataset if bits is None else bool(bits & 2),
            synchronize_data=body.synchronize_data or bool((bits or 0) & 1),
            synchronize_auto_labeling_data=body.synchronize_auto_labeling_data,
            conditions=wanted,
            sample_state=body.sample_state,
            seed=body.seed,
            created_by=actor,
        )
        query = select(TeamTask.id).where(TeamTask.dataset_key == task.dataset_key, TeamTask.name == task.name)
        if (await tx.session.exec(query)).first() is not None:
            raise Conflict(f"the dataset has a team labeling task named '{task.name}'; choose another name")
        chosen = await self._chosen(tx.session, task.project_id, body.workforces_config)
        task.allocation = await self._allocation(tx.session, task.project_id, body.allocation, chosen)
        agency = await self._agency(tx.session, task.project_id, body.workforces_config)
        if agency is not None:
            task.agency = agency.id
            if all(one.worker.id != agency.id for one in chosen):
                chosen = [*chosen, Chosen(agency, agency.role, 1.0)]
        tx.session.add(task)
        await tx.session.flush()
        tx.emit(TeamTaskCreated(dataset_id=found.dataset.id, task_id=task.id, name=task.name), found.resource.urn)
        await self._join(tx, task, chosen)
        if agency is None and chosen:
            await self._start(tx, found, task, chosen, give_out)
        return task

    async def start(
        self, tx: Transaction, found: Found, task: TeamTask, config: WorkforcesConfig, user_id: str
    ) -> None:
        """Give the samples out, to whom `config` names beside those chosen before. Raises Conflict when it runs."""
        if task.status != CREATED:
            raise Conflict(f"the team labeling task '{task.name}' has been started already")
        chosen = await self._chosen(tx.session, task.project_id, config)
        await self._join(tx, task, chosen)
        assert task.key is not None
        members = await self.members(tx.session, [task.key])
        present = [
            Chosen(person.worker, member.role, member.weight)
            for member, person in members[task.key]
            if person.worker.status != DELETED
        ]
        await self._start(tx, found, task, present, True, user_id)

    async def modify(
        self,
        tx: Transaction,
        found: Found,
        task: TeamTask,
        name: str | None,
        description: str | None,
        config: WorkforcesConfig | None,
    ) -> None:
        """Members that `config` does not name leave, and what they have not labeled goes to those who stay or come."""
        if name is not None and name != task.name:
            query = select(TeamTask.id).where(TeamTask.dataset_key == task.dataset_key, TeamTask.name == name)
            if (await tx.session.exec(query)).first() is not None:
                raise Conflict(f"the dataset has a team labeling task named '{name}'; choose another name")
            task.name = check_name(name, "task_name")
        if description is not None:
            task.description = check_description(description)
        tx.session.add(task)
        if config is not None:
            await self._replace(tx, found, task, config)
        tx.emit(TeamTaskUpdated(dataset_id=found.dataset.id, task_id=task.id, name=task.name), found.resource.urn)

    async def delete(self, tx: Transaction, found: Found, task: TeamTask) -> None:
        """What was accepted is the dataset's already; everything else of the task goes."""
        await tx.session.delete(task)
        await tx.session.flush()
        await purge(tx.session, task.project_id)
        tx.emit(TeamTaskDeleted(dataset_id=found.dataset.id, task_id=task.id, name=task.name), found.resource.urn)

    async def label(
        self, tx: Transaction, found: Found, task: TeamTask, kind: DatasetType, wanted: Sequence[Labeling]
    ) -> list[ApiError | None]:
        """Set labels, the task being locked; one event tells of each worker's."""
        items.check_running(task)
        results, done = await items.label(tx.session, found.dataset, task, kind, wanted)
        query = select(Worker.key, Worker.id).where(col(Worker.key).in_([worker for worker, _ in done]))
        ids = dict((await tx.session.exec(query)).all())
        for worker, count in done:
            event = TeamSamplesLabeled(dataset_id=found.dataset.id, task_id=task.id, worker_id=ids[worker], count=count)
            tx.emit(event, found.resource.urn)
        return results

    async def worker_by_email(self, session: AsyncSession, task: TeamTask, email: str) -> int:
        """The key of a task's worker. Raises Invalid when the address takes no part in it."""
        members = (await self.members(session, [task.key]))[task.key or 0]
        for _, person in members:
            if person.email and person.email.casefold() == email.strip().casefold():
                return person.worker.key or 0
        raise Invalid("email: this address takes no part in the team labeling task")

    # -- members -------------------------------------------------------------------------------------------------

    async def _replace(self, tx: Transaction, found: Found, task: TeamTask, config: WorkforcesConfig) -> None:
        assert task.key is not None
        chosen = await self._chosen(tx.session, task.project_id, config)
        if task.status != CREATED:
            _check_enough(task.repetition, chosen)
        staying = {one.worker.key for one in chosen}
        members = (await self.members(tx.session, [task.key]))[task.key]
        leaving = [
            person.worker
            for _, person in members
            if person.worker.key not in staying and person.worker.id != task.agency
        ]
        await self._join(tx, task, chosen)
        for worker in leaving:
            assert worker.key is not None
            await handing_over.give_away(tx, worker.key, task.key)
        if task.status != CREATED:
            await handing_over.share(tx, task.key)
            if task.synchronize_data or not task.allocated:
                await request_allocation(tx, found.dataset.id, task, task.created_by)

    async def _join(self, tx: Transaction, task: TeamTask, chosen: Sequence[Chosen]) -> None:
        assert task.key is not None
        for one in chosen:
            assert one.worker.key is not None
            member = await tx.session.get(TeamMember, (task.key, one.worker.key))
            if member is None:
                member = TeamMember(task_key=task.key, worker_key=one.worker.key, role=one.role, weight=one.weight)
            member.weight, member.updated_at = one.weight, now_ms()
            tx.session.add(member)
        await tx.session.flush()

    async def _start(
        self,
        tx: Transaction,
        found: Found,
        task: TeamTask,
        chosen: Sequence[Chosen],
        give_out: bool,
        user_id: str | None = None,
    ) -> None:
        _check_enough(task.repetition, chosen)
        task.status, task.updated_at = STARTING, now_ms()
        tx.session.add(task)
        if give_out:
            await request_allocation(tx, found.dataset.id, task, user_id or found.resource.owner_id)

    async def _chosen(self, session: AsyncSession, project_id: str, config: WorkforcesConfig) -> list[Chosen]:
        """The workers that a request names. Raises Invalid for one that is in none of the teams."""
        chosen: dict[str, Chosen] = {}
        for one in config.workforces:
            team = await self._workforces.get(session, project_id, one.workforce_id)
            members = await self._workforces.members(session, project_id, team.id)
            if not one.workers:
                chosen |= {m.worker.id: Chosen(m.worker, m.worker.role, 1.0) for m in members}
            for wanted in one.workers:
                member = _named(members, wanted)
                if member is None:
                    who = wanted.worker_id or wanted.email
                    raise Invalid(f"workforces_config: '{who}' is no member of the team '{team.name}'")
                role = member.worker.role if wanted.role is None else wanted.role
                if role > member.worker.role:
                    raise Invalid(f"workforces_config: a member of role {member.worker.role} cannot act as role {role}")
                chosen[member.worker.id] = Chosen(member.worker, role, wanted.weight)
        for role, what in ((ANNOTATOR, "annotators"), (REVIEWER, "reviewers")):
            if sum(one.role == role for one in chosen.values()) > MOST_OF_A_ROLE:
                raise Invalid(f"workforces_config: a task has at most {MOST_OF_A_ROLE} {what}")
        return list(chosen.values())

    async def _agency(self, session: AsyncSession, project_id: str, config: WorkforcesConfig) -> Worker | None:
        if not config.agency:
            return None
        members = await self._workforces.members(session, project_id)
        known = [m for m in members if config.agency in (m.worker.id, m.email) and m.worker.role >= ADMINISTRATOR]
        if not known:
            raise Invalid(f"workforces_config.agency '{config.agency}' is no team administrator (role 2)")
        return known[0].worker

    async def _allocation(
        self, session: AsyncSession, project_id: str, wanted: Allocation, chosen: Sequence[Chosen]
    ) -> dict[str, Any]:
        """The allocation with workers by key. Raises Invalid for a label's worker who takes no part."""
        if wanted.method == "label" and not wanted.labels:
            raise Invalid('allocation.labels: say whose samples of which label are, as {"cat": ["anna@example.com"]}')
        known = await self._workforces.with_emails(session, [one.worker for one in chosen])
        by_name = {name: m.worker.key for m in known for name in (m.worker.id, m.email.casefold())}
        labels: dict[str, list[int | None]] = {}
        for label, workers in wanted.labels.items():
            missing = [one for one in workers if one.casefold() not in by_name and one not in by_name]
            if missing:
                raise Invalid(f"allocation.labels['{label}']: '{missing[0]}' takes no part in the task")
            labels[label] = [by_name.get(one, by_name.get(one.casefold())) for one in workers]
        return {"method": wanted.method, "labels": labels}


async def count_tasks(session: AsyncSession, dataset_keys: Sequence[int]) -> dict[int, int]:
    """How many team labeling tasks datasets have, by the datasets' keys."""
    query = select(TeamTask.dataset_key, func.count()).where(col(TeamTask.dataset_key).in_(dataset_keys))
    return dict((await session.exec(query.group_by(col(TeamTask.dataset_key)))).all())


async def request_allocation(tx: Transaction, dataset_id: str, task: TeamTask, user_id: str) -> None:
    """Have a task's samples, or those new since, given out in the background."""
    work = Task(
        kind=ALLOCATE,
        dataset_id=dataset_id,
        project_id=task.project_id,
        user_id=user_id,
        params={"team_task_id": task.id},
    )
    await tasks.request(tx, work)


def conditions_of(given: str | Sequence[Mapping[str, Any]] | Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Search conditions as a list, from JSON or what it means. Raises Invalid."""
    if not given:
        return []
    try:
        parsed = orjson.loads(given) if isinstance(given, str) else given
    except orjson.JSONDecodeError as e:
        raise Invalid(f"sample_conditions is not JSON: {e}") from e
    return [dict(one) for one in ([parsed] if isinstance(parsed, Mapping) else parsed)]


def filter_of(conditions: Sequence[Mapping[str, Any]], state: str | None) -> SampleFilter:
    """Which samples a task takes. Raises Invalid for conditions nobody knows."""
    return from_search(orjson.dumps(list(conditions)).decode() if conditions else None, SampleFilter(state=state))


def filter_of_task(task: TeamTask) -> SampleFilter:
    """Which samples a task takes now: at first those it was made for, later the unlabeled ones among the new."""
    later = task.status != STARTING and task.allocated > 0
    return filter_of(task.conditions, UNLABELED if later else task.sample_state)


def _check_enough(repetition: int, chosen: Sequence[Chosen]) -> None:
    annotators = sum(one.role == ANNOTATOR for one in chosen)
    if not annotators:
        raise Invalid("workforces_config: nobody in it is an annotator (role 0)")
    if annotators < repetition:
        raise Invalid(f"repetition {repetition}: there are only {annotators} annotators to label each sample")


def _named(members: Sequence[Member], wanted: WorkerRef) -> Member | None:
    for member in members:
        if wanted.worker_id == member.worker.id:
            return member
        if wanted.worker_id is None and wanted.email and wanted.email.casefold() == member.email.casefold():
            return member
    return None
