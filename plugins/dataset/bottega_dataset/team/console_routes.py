"""``/v2/{project_id}/labeling/tasks``: what a labeler sees and does, and nothing else.

An annotator has the samples given to it; a reviewer, and a team administrator, those of all annotators of a task.
"""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Depends
from sqlmodel import col, select

from bottega.database import AsyncSession
from bottega.entities import Resource
from bottega.errors import Forbidden, NotFound
from bottega.gateway import Page, paging
from bottega.platform import Platform
from bottega.plugins import Action
from bottega.routing import Router
from bottega_dataset import labels, previews
from bottega_dataset import shapes as dataset_shapes
from bottega_dataset.datasets import Found
from bottega_dataset.entities import Dataset
from bottega_dataset.kinds import Kinds
from bottega_dataset.previews import Resize
from bottega_dataset.sample_routes import sample_id_of
from bottega_dataset.team import bodies, handing_over, items
from bottega_dataset.team.assembly import Teams
from bottega_dataset.team.console_access import ByLabeler, LabelerCaller, Part, part_of, parts_query
from bottega_dataset.team.entities import ADMINISTRATOR, ANNOTATOR, REVIEWER, TeamTask
from bottega_dataset.team.events import TeamSamplesReviewed
from bottega_dataset.team.items import ItemFilter
from bottega_dataset.team.login_routes import LABELING
from bottega_dataset.team.requests import Comments, TeamSampleLabelsList, TeamTaskStart

_TASK = LABELING + "/tasks/{task_id}"
_SEE, _LABEL = "modelarts:labelConsole:list", "modelarts:labelConsole:label"
_REVIEW, _START = "modelarts:labelConsole:review", "modelarts:labelConsole:start"
_KIND = "labelConsoleWorker"
ACTIONS = (
    Action(_SEE, "See one's labeling tasks and their samples (members of teams)", _KIND),
    Action(_LABEL, "Label one's samples (members of teams)", "dataset", "updateWorkforceTaskSamples"),
    Action(_REVIEW, "Review what others labeled (reviewers of teams)", "dataset", "reviewSamples"),
    Action(_START, "Start a labeling task as its contact person", "dataset", "startWorkforceTask"),
)


def router(platform: Platform, teams: Teams, kinds: Kinds) -> APIRouter:
    routes = Router()
    views = teams.views(kinds)

    def may(action: str) -> Any:
        return Depends(ByLabeler(action, teams=teams))

    @routes.get(LABELING + "/tasks")
    async def list_own_tasks(
        search_content: str | None = None,
        order: Literal["asc", "desc"] = "desc",
        page: Page = paging(maximum=100),
        caller: LabelerCaller = may(_SEE),
    ) -> Any:
        async with platform.database.read() as session:
            query = parts_query(caller.labeler)
            if search_content:
                query = query.where(col(TeamTask.name).contains(search_content, autoescape=True))
            parts = [Part(*row) for row in (await session.exec(query)).all()]
            parts.sort(key=lambda p: (p.member.created_at, p.worker.key or 0), reverse=order == "desc")
            some = parts[page.offset : page.offset + page.limit]
            datasets = {p.task.dataset_key: await _dataset(session, p.task) for p in some}
            rows = [(p.task, datasets[p.task.dataset_key].dataset, p.member, p.worker) for p in some]
            shown = await views.worker_tasks(session, rows)
        return {"count": len(parts), "worker_tasks": shown}

    @routes.get(_TASK)
    async def show_own_task(task_id: str, caller: LabelerCaller = may(_SEE)) -> Any:
        """A task with the labels of its dataset, and how far one is in it."""
        async with platform.database.read() as session:
            part = await part_of(session, caller.labeler, task_id)
            found = await _dataset(session, part.task)
            (shown,) = await views.worker_tasks(session, [(part.task, found.dataset, part.member, part.worker)])
            known = await labels.of_dataset(session, found.dataset)
        return shown | {
            "dataset_name": found.resource.name,
            "description": part.task.description,
            "labels": [labels.shape(one) for one in known],
        }

    @routes.get(_TASK + "/samples")
    async def list_own_samples(
        task_id: str,
        sample_state: str | None = None,
        label_name: str | None = None,
        preview: bool = True,
        process_parameter: str | None = None,
        page: Page = paging(maximum=1000),
        caller: LabelerCaller = may(_SEE),
    ) -> Any:
        resize = Resize.of(process_parameter)
        async with platform.database.read() as session:
            part = await part_of(session, caller.labeler, task_id)
            found = await _dataset(session, part.task)
            wanted = ItemFilter(sample_state, label_name, _own(part))
            total, rows = await items.page(session, found.dataset, part.task, wanted, page.offset, page.limit)
            private = part.member.role == ANNOTATOR
            shown = await views.rows(session, found.dataset, part.task, rows, private=private)
        if preview or resize:
            await previews.show(platform.objects, shown, [row.sample for row in rows], resize)
        return {"sample_count": total, "samples": shown}

    @routes.get(_TASK + "/samples/{sample_id}")
    async def show_own_sample(
        task_id: str, sample_id: str, worker_id: str | None = None, caller: LabelerCaller = may(_SEE)
    ) -> Any:
        ident = sample_id_of(sample_id)
        async with platform.database.read() as session:
            part = await part_of(session, caller.labeler, task_id)
            found = await _dataset(session, part.task)
            key = _own(part)
            if key is None and worker_id is not None:
                key = (await items.worker_keys(session, part.task, [worker_id]))[worker_id]
            rows = await items.of_sample(session, found.dataset, part.task, ident, key)
            private = part.member.role == ANNOTATOR
            shown = await views.rows(session, found.dataset, part.task, rows[:1], private=private)
        await previews.show(platform.objects, shown, [rows[0].sample])
        return shown[0]

    @routes.put(_TASK + "/samples")
    async def label_own_samples(task_id: str, body: TeamSampleLabelsList, caller: LabelerCaller = may(_LABEL)) -> Any:
        """Set the labels of samples given to oneself; one that is not, or cannot be labeled, fails alone."""
        async with platform.database.transaction() as tx:
            part = await part_of(tx.session, caller.labeler, task_id)
            found = await _dataset(tx.session, part.task)
            caller.call.resource = found.resource.urn
            task = await handing_over.lock(tx.session, part.task.key or 0)
            kind = kinds.of(found.dataset.dataset_type)
            wanted = [bodies.labeling(one, kind, part.worker.id, part.worker.key) for one in body.samples]
            results = await teams.tasks.label(tx, found, task, kind, wanted)
        return dataset_shapes.batch(results)

    @routes.post(_TASK + "/review")
    async def review(task_id: str, body: Comments, caller: LabelerCaller = may(_REVIEW)) -> Any:
        """Accept samples or send them back to their annotators; all of them or none."""
        async with platform.database.transaction() as tx:
            part = await part_of(tx.session, caller.labeler, task_id)
            _check_role(part, REVIEWER, "review")
            found = await _dataset(tx.session, part.task)
            caller.call.resource = found.resource.urn
            task = await handing_over.lock(tx.session, part.task.key or 0)
            accepted, rejected = await items.review(
                tx.session, found.dataset, task, body.comments, part.actor, owner=part.member.role >= ADMINISTRATOR
            )
            event = TeamSamplesReviewed(
                dataset_id=found.dataset.id, task_id=task.id, accepted=accepted, rejected=rejected
            )
            tx.emit(event, found.resource.urn)
        return {"success": True}

    @routes.post(_TASK + "/start")
    async def start(task_id: str, body: TeamTaskStart, caller: LabelerCaller = may(_START)) -> Any:
        """Give the samples of a task out to whom one names, as the team administrator who was asked to."""
        async with platform.database.transaction() as tx:
            part = await part_of(tx.session, caller.labeler, task_id)
            if part.task.agency != part.worker.id:
                raise Forbidden("the task is started by the team administrator it names as its agency")
            found = await _dataset(tx.session, part.task)
            caller.call.resource = found.resource.urn
            foreign = [w for w in body.workforces_config.workforces if w.workforce_id != part.worker.workforce_id]
            if foreign:
                raise Forbidden(f"workforces_config: team '{foreign[0].workforce_id}' is not yours")
            task = await handing_over.lock(tx.session, part.task.key or 0)
            await teams.tasks.start(tx, found, task, body.workforces_config, task.created_by)
        return {"task_id": task_id}

    async def _dataset(session: AsyncSession, task: TeamTask) -> Found:
        query = select(Dataset, Resource).join(Resource, col(Resource.id) == Dataset.id)
        row = (await session.exec(query.where(Dataset.key == task.dataset_key))).first()
        if row is None:
            raise NotFound(f"you have no labeling task '{task.id}'")
        return Found(*row)

    return routes


def _own(part: Part) -> int | None:
    """An annotator sees its own samples; None stands for those of everybody."""
    return part.worker.key if part.member.role == ANNOTATOR else None


def _check_role(part: Part, least: int, what: str) -> None:
    if part.member.role < least:
        raise Forbidden(f"you may not {what} in the labeling task '{part.task.name}': your role is {part.member.role}")
