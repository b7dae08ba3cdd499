"""``…/datasets/{dataset_id}/workforce-tasks``: team labeling tasks, as their owner sees and rules them."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Response
from sqlmodel import col, select

from bottega.entities import Resource
from bottega.errors import ApiError, Invalid
from bottega.gateway import Caller, Page, paging, requires
from bottega.plans import Need
from bottega.platform import Platform
from bottega.plugins import Action
from bottega.routing import Router
from bottega_dataset import shapes as dataset_shapes
from bottega_dataset.datasets import Datasets
from bottega_dataset.entities import Dataset
from bottega_dataset.kinds import Kinds
from bottega_dataset.team import acceptance, agreement_report, handing_over, progress, shapes
from bottega_dataset.team.assembly import Teams
from bottega_dataset.team.entities import DELETED, Labeler, TeamMember, TeamTask, Worker
from bottega_dataset.team.items import ItemFilter
from bottega_dataset.team.requests import (
    MergeRequest,
    NewTeamTask,
    Notification,
    TeamTaskChange,
    TeamTaskStart,
)
from bottega_dataset.team.workforces import urn_of

TASKS = "/v2/{project_id}/datasets/{dataset_id}/workforce-tasks"
ONE = TASKS + "/{workforce_task_id}"
DATASET = "dataset/{dataset_id}"
LIST, GET = "modelarts:dataset:listWorkforceTasks", "modelarts:dataset:getWorkforceTask"
_CREATE, _UPDATE = "modelarts:dataset:createWorkforceTask", "modelarts:dataset:updateWorkforceTask"
_DELETE, _START = "modelarts:dataset:deleteWorkforceTask", "modelarts:dataset:startWorkforceTask"
_SEND = "modelarts:dataset:sendEmails"

ACTIONS = (
    Action(_CREATE, "Create team labeling tasks", "dataset", "createWorkforceTask"),
    Action(LIST, "List team labeling tasks", "dataset", "listWorkforceTasks"),
    Action(GET, "See a team labeling task, its samples and its figures", "dataset", "getWorkforceTask"),
    Action(_UPDATE, "Change a team labeling task", "dataset", "updateWorkforceTask"),
    Action(_DELETE, "Delete a team labeling task", "dataset", "deleteWorkforceTask"),
    Action(_START, "Start a team labeling task", "dataset", "startWorkforceTask"),
    Action(_SEND, "Send e-mails to the members of a team labeling task", "dataset", "sendEmails"),
)


def router(platform: Platform, teams: Teams, kinds: Kinds) -> APIRouter:
    routes = Router()
    service, views, datasets = teams.tasks, teams.views(kinds), Datasets(platform)

    @routes.get("/v2/{project_id}/workforces/worker-tasks")
    async def list_worker_tasks(
        search_content: str | None = None,
        sort_by: Literal["create_time", "workforce_task_name"] = "create_time",
        order: Literal["asc", "desc"] = "desc",
        page: Page = paging(maximum=100),
        caller: Caller = requires(LIST),
    ) -> Any:
        """What the members of all teams have to do, task by task."""
        query = (
            select(TeamTask, Dataset, TeamMember, Worker)
            .join(Dataset, col(Dataset.key) == TeamTask.dataset_key)
            .join(Resource, col(Resource.id) == Dataset.id)
            .join(TeamMember, col(TeamMember.task_key) == TeamTask.key)
            .join(Worker, col(Worker.key) == TeamMember.worker_key)
            .where(
                TeamTask.project_id == caller.project_id,
                Worker.status != DELETED,
                platform.resources.visible(Resource.workspace_id),
            )
        )
        if search_content:
            query = query.where(col(TeamTask.name).contains(search_content, autoescape=True))
        async with platform.database.read() as session:
            rows = list((await session.exec(query)).all())
            rows.sort(
                key=lambda row: (row[0].name if sort_by == "workforce_task_name" else row[2].created_at, row[3].key),
                reverse=order == "desc",
            )
            shown = await views.worker_tasks(session, rows[page.offset : page.offset + page.limit])
        return {"count": len(rows), "worker_tasks": shown}

    @routes.post(TASKS, status_code=201)
    async def create_task(dataset_id: str, body: NewTeamTask, caller: Caller = requires(_CREATE, DATASET)) -> Any:
        """Have samples labeled by teams; with an `agency` once that team administrator starts it, else at once."""
        async with platform.database.transaction() as tx:
            found = await datasets.get(tx.session, caller.project_id, dataset_id)
            caller.about(resource=found.resource.urn, name=found.resource.name)
            await check_rights(caller, found.resource.urn, body)
            task = await service.create(tx, found, body, caller.user_id)
        return {"task_id": task.id}

    @routes.get(TASKS)
    async def list_tasks(
        dataset_id: str, page: Page = paging(default=1000, maximum=1000), caller: Caller = requires(LIST, DATASET)
    ) -> Any:
        async with platform.database.read() as session:
            found = await datasets.get(session, caller.project_id, dataset_id)
            total, rows = await service.listing(session, found.dataset.key, page.offset, page.limit)
            shown = await views.tasks(session, found.dataset, rows)
            members = await service.members(session, [task.key for task in rows])
            for task, one in zip(rows, shown, strict=True):
                one["sample_stats"] = await progress.stats(session, task)
                one["workforce_stats"] = shapes.workforce_stats(members[task.key or 0])
        return {"count": total, "tasks": shown}

    @routes.get(ONE)
    async def show_task(
        dataset_id: str,
        workforce_task_id: str,
        label_stats: bool = False,
        sample_stats: bool = False,
        workforce_stats: bool = False,
        caller: Caller = requires(GET, DATASET),
    ) -> Any:
        async with teams.reading(caller, dataset_id, workforce_task_id) as (session, found, task):
            (shown,) = await views.tasks(session, found.dataset, [task])
            members = (await service.members(session, [task.key]))[task.key or 0]
            rows = [(task, found.dataset, member, person.worker) for member, person in members]
            shown["worker_stats"] = await views.worker_tasks(session, rows)
            if sample_stats:
                shown["sample_stats"] = await progress.stats(session, task)
            if workforce_stats:
                shown["workforce_stats"] = shapes.workforce_stats(members)
            if label_stats:
                statistics = await views.statistics(session, found.dataset, task, ItemFilter())
                shown["label_stats"] = statistics["label_stats"]
        return shown

    @routes.put(ONE)
    async def modify_task(
        dataset_id: str, workforce_task_id: str, body: TeamTaskChange, caller: Caller = requires(_UPDATE, DATASET)
    ) -> Any:
        """With `workforces_config`, whom it does not name leaves the task; what is open goes to those who are in it."""
        async with teams.changing(caller, dataset_id, workforce_task_id) as (tx, found, task):
            await service.modify(tx, found, task, body.task_name, body.description, body.workforces_config)
        return {"task_id": workforce_task_id}

    @routes.delete(ONE, status_code=204, response_class=Response)
    async def delete_task(dataset_id: str, workforce_task_id: str, caller: Caller = requires(_DELETE, DATASET)) -> None:
        """What was accepted stays in the dataset; what was not is gone."""
        async with teams.changing(caller, dataset_id, workforce_task_id) as (tx, found, task):
            await service.delete(tx, found, task)

    @routes.post(ONE)
    async def start_task(
        dataset_id: str, workforce_task_id: str, body: TeamTaskStart, caller: Caller = requires(_START, DATASET)
    ) -> Any:
        async with teams.changing(caller, dataset_id, workforce_task_id) as (tx, found, task):
            await service.start(tx, found, task, body.workforces_config, caller.user_id)
        return {"task_id": workforce_task_id}

    @routes.post(ONE + "/notify")
    async def notify_members(
        dataset_id: str, workforce_task_id: str, body: Notification, caller: Caller = requires(_SEND, DATASET)
    ) -> Any:
        """Send members what waits for them; `email_status` of a member tells what became of it.

        An address that takes no part in the task fails alone.
        """
        teams.mails.check()
        results: list[ApiError | None] = []
        async with teams.changing(caller, dataset_id, workforce_task_id) as (tx, _, task):
            members = (await service.members(tx.session, [task.key]))[task.key or 0]
            by_email = {p.email.casefold(): p.worker for _, p in members if p.worker.labeler_id}
            open_items = await handing_over.loads(tx.session, task.key or 0, handing_over.OPEN)
            for email in body.emails:
                worker = by_email.get(email.strip().casefold())
                if worker is None:
                    results.append(Invalid("this address takes no part in the team labeling task"))
                    continue
                labeler = await tx.session.get_one(Labeler, worker.labeler_id)
                waiting = open_items.get(worker.key or 0, 0)
                await teams.mails.assigned(tx, labeler, task.key or 0, task.name, waiting)
                results.append(None)
        return dataset_shapes.batch(results)

    @routes.get(ONE + "/agreement")
    async def show_agreement(
        dataset_id: str,
        workforce_task_id: str,
        page: Page = paging(maximum=1000),
        caller: Caller = requires(GET, DATASET),
    ) -> Any:
        """How far annotators agree who labeled the same samples, and on which they do not."""
        async with teams.reading(caller, dataset_id, workforce_task_id) as (session, _, task):
            return await agreement_report.report(session, task, page.offset, page.limit)

    @routes.post(ONE + "/synchronize", status_code=202)
    async def synchronize_results(
        dataset_id: str, workforce_task_id: str, body: MergeRequest, caller: Caller = requires(_UPDATE, DATASET)
    ) -> Any:
        """Let accepted labels become the dataset's, for a task that does not do so by itself."""
        async with teams.changing(caller, dataset_id, workforce_task_id) as (tx, found, task):
            await caller.check("modelarts:dataset:updateSamples", found.resource.urn)
            work = await acceptance.request_merge(tx, found, task, body.overwrite_last_result, caller.user_id)
        return {"task_id": work.id}

    return routes


async def check_rights(caller: Caller, urn: str, body: NewTeamTask) -> None:
    """Who lets others see samples, and their labels become the dataset's, must be allowed to do so himself.

    Raises Forbidden naming all that is missing.
    """
    needs = [Need("modelarts:dataset:listSamples", urn, "the members see samples")]
    if body.auto_sync_dataset:
        needs.append(Need("modelarts:dataset:updateSamples", urn, "accepted labels become the dataset's"))
    for one in body.workforces_config.workforces:
        team = urn_of(caller.project_id, one.workforce_id)
        needs.append(Need("modelarts:workforce:get", team, "the members of the team are looked up"))
    await caller.require(needs)
