"""``/v2/{project_id}/workforces``: teams and their members."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from fastapi import APIRouter, Response
from sqlmodel import col, select

from bottega.errors import ApiError
from bottega.gateway import Caller, Page, paging, requires, workspace_of
from bottega.platform import Platform
from bottega.plugins import Action
from bottega.routing import Router
from bottega_dataset import shapes as dataset_shapes
from bottega_dataset.team import shapes
from bottega_dataset.team.assembly import Teams
from bottega_dataset.team.entities import TeamMember, TeamTask, Worker
from bottega_dataset.team.requests import NewWorkers, NewWorkforce, WorkerChange, WorkerIds, WorkforceChange
from bottega_dataset.team.workforces import KIND, Member

_ALL = "/v2/{project_id}/workforces"
_ONE = _ALL + "/{workforce_id}"
_WORKERS = _ONE + "/workers"
_WORKER = _WORKERS + "/{worker_id}"
_TEAM = "workforce/{workforce_id}"

ACTIONS = (
    Action("modelarts:workforce:create", "Create labeling teams", "workforce", "createWorkforce"),
    Action("modelarts:workforce:list", "List labeling teams and their members", "workforce", "listWorkforces"),
    Action("modelarts:workforce:get", "See a labeling team and its members", "workforce", "getWorkforce"),
    Action("modelarts:workforce:update", "Change a labeling team", "workforce", "updateWorkforce"),
    Action("modelarts:workforce:delete", "Delete a labeling team", "workforce", "deleteWorkforce"),
    Action("modelarts:workforce:createWorker", "Invite members into a labeling team", "workforce", "createWorker"),
    Action("modelarts:workforce:updateWorker", "Change members, give them new passwords", "workforce", "updateWorker"),
    Action("modelarts:workforce:deleteWorker", "Take members out of a labeling team", "workforce", "deleteWorker"),
)


def router(platform: Platform, teams: Teams) -> APIRouter:
    routes = Router()
    service = teams.workforces

    @routes.post(_ALL, status_code=201)
    async def create_workforce(body: NewWorkforce, caller: Caller = requires("modelarts:workforce:create")) -> Any:
        async with platform.database.transaction() as tx:
            team = await service.create(
                tx,
                caller.project_id,
                caller.user_id,
                body.workforce_name,
                body.description,
                workspace_of(body.workspace_id),
            )
            caller.about(resource=team.urn, name=team.name)
        return {"workforce_id": team.id}

    @routes.get(_ALL)
    async def list_workforces(
        search_content: str | None = None,
        sort_by: Literal["create_time", "workforce_name"] = "create_time",
        order: Literal["asc", "desc"] = "desc",
        workforce_task_id: str | None = None,
        page: Page = paging(maximum=100),
        caller: Caller = requires("modelarts:workforce:list"),
    ) -> Any:
        async with platform.database.read() as session:
            total, rows = await platform.resources.list(
                session,
                KIND,
                caller.project_id,
                name_contains=search_content,
                sort_by="name" if sort_by == "workforce_name" else sort_by,
                descending=order == "desc",
                offset=0 if workforce_task_id else page.offset,
                limit=2**31 if workforce_task_id else page.limit,
            )
            if workforce_task_id:
                query = (
                    select(Worker.workforce_id)
                    .join(TeamMember, col(TeamMember.worker_key) == Worker.key)
                    .join(TeamTask, col(TeamTask.key) == TeamMember.task_key)
                    .where(TeamTask.id == workforce_task_id, TeamTask.project_id == caller.project_id)
                )
                taking_part = set((await session.exec(query)).all())
                chosen = [row for row in rows if row.id in taking_part]
                total, rows = len(chosen), chosen[page.offset : page.offset + page.limit]
            counted = await service.counts(session, [row.id for row in rows])
        return {
            "total_number": total,
            "workforces": [shapes.workforce(row, counted.get(row.id, 0)) for row in rows],
        }

    @routes.get(_ALL + "/workers")
    async def list_all_workers(
        role: int | None = None,
        sort_by: Literal["create_time", "email"] = "create_time",
        order: Literal["asc", "desc"] = "desc",
        page: Page = paging(maximum=100),
        caller: Caller = requires("modelarts:workforce:list"),
    ) -> Any:
        """The members of all teams; of every role where none is given."""
        async with platform.database.read() as session:
            members = await service.members(session, caller.project_id, role=role)
        return _page(members, sort_by, order, page)

    @routes.get(_ONE)
    async def show_workforce(workforce_id: str, caller: Caller = requires("modelarts:workforce:get", _TEAM)) -> Any:
        async with platform.database.read() as session:
            team = await service.get(session, caller.project_id, workforce_id)
            counted = await service.counts(session, [team.id])
        return shapes.workforce(team, counted.get(team.id, 0))

    @routes.put(_ONE)
    async def modify_workforce(
        workforce_id: str, body: WorkforceChange, caller: Caller = requires("modelarts:workforce:update", _TEAM)
    ) -> Any:
        async with platform.database.transaction() as tx:
            team = await service.get(tx.session, caller.project_id, workforce_id)
            caller.about(resource=team.urn, name=team.name)
            await service.modify(tx, team, body.workforce_name, body.description)
        return {"workforce_id": workforce_id}

    @routes.delete(_ONE)
    async def delete_workforce(
        workforce_id: str, caller: Caller = requires("modelarts:workforce:delete", _TEAM)
    ) -> Any:
        """Delete a team and its members; what they labeled stays, what they did not goes to others of the task."""
        async with platform.database.transaction() as tx:
            team = await service.get(tx.session, caller.project_id, workforce_id)
            caller.about(resource=team.urn, name=team.name)
            members = await service.delete(tx, team)
        return dataset_shapes.batch([None] * len(members))

    @routes.post(_WORKERS, status_code=201)
    async def create_workers(
        workforce_id: str, body: NewWorkers, caller: Caller = requires("modelarts:workforce:createWorker", _TEAM)
    ) -> Any:
        """Take people into a team by their e-mail addresses; all of them or none. Each is sent an invitation.

        Without a mail server the answer has the initial passwords, for the administrator to hand over.
        """
        emails = list({email.casefold(): email for email in body.emails}.values())
        initial = [await teams.labelers.new_password() for _ in emails]
        async with platform.database.transaction() as tx:
            team = await service.get(tx.session, caller.project_id, workforce_id)
            caller.about(resource=team.urn, name=team.name)
            made = [
                await service.add(tx, team, email, body.role, body.description, password)
                for email, password in zip(emails, initial, strict=True)
            ]
        answer: list[dict[str, Any]] = [{"worker_id": worker.id} for worker, _ in made]
        if not teams.mails.possible:
            for row, (_, password) in zip(answer, made, strict=True):
                row["initial_password"] = password
        return {"workers": answer}

    @routes.get(_WORKERS)
    async def list_workers(
        workforce_id: str,
        sort_by: Literal["create_time", "email"] = "create_time",
        order: Literal["asc", "desc"] = "desc",
        page: Page = paging(maximum=100),
        caller: Caller = requires("modelarts:workforce:get", _TEAM),
    ) -> Any:
        async with platform.database.read() as session:
            await service.get(session, caller.project_id, workforce_id)
            members = await service.members(session, caller.project_id, workforce_id)
        return _page(members, sort_by, order, page)

    @routes.post(_WORKERS + "/batch-delete")
    async def delete_workers(
        workforce_id: str,
        body: WorkerIds,
        caller: Caller = requires("modelarts:workforce:deleteWorker", _TEAM, trace="batchDeleteWorker"),
    ) -> Any:
        """Take members out; one that is not in the team fails alone."""
        results: list[ApiError | None] = []
        async with platform.database.transaction() as tx:
            team = await service.get(tx.session, caller.project_id, workforce_id)
            caller.about(resource=team.urn, name=team.name)
            for worker_id in body.workers:
                try:
                    await service.remove(
                        tx, await service.member(tx.session, caller.project_id, workforce_id, worker_id)
                    )
                    results.append(None)
                except ApiError as e:
                    results.append(e)
        return dataset_shapes.batch(results)

    @routes.get(_WORKER)
    async def show_worker(
        workforce_id: str, worker_id: str, caller: Caller = requires("modelarts:workforce:get", _TEAM)
    ) -> Any:
        async with platform.database.read() as session:
            await service.get(session, caller.project_id, workforce_id)
            worker = await service.member(session, caller.project_id, workforce_id, worker_id)
            (member,) = await service.with_emails(session, [worker])
        return shapes.worker(member)

    @routes.put(_WORKER)
    async def modify_worker(
        workforce_id: str,
        worker_id: str,
        body: WorkerChange,
        caller: Caller = requires("modelarts:workforce:updateWorker", _TEAM),
    ) -> Any:
        async with platform.database.transaction() as tx:
            team = await service.get(tx.session, caller.project_id, workforce_id)
            caller.about(resource=team.urn, name=team.name)
            worker = await service.member(tx.session, caller.project_id, workforce_id, worker_id)
            await service.change(tx, worker, body.role, body.description)
        return {"worker_id": worker_id}

    @routes.post(_WORKER + "/reset-password")
    async def reset_worker_password(
        workforce_id: str, worker_id: str, caller: Caller = requires("modelarts:workforce:updateWorker", _TEAM)
    ) -> Any:
        """Give a member a new initial password by e-mail; it has to be changed. Also invites somebody once more.

        Without a mail server the answer has the password.
        """
        initial = await teams.labelers.new_password()
        async with platform.database.transaction() as tx:
            team = await service.get(tx.session, caller.project_id, workforce_id)
            caller.about(resource=team.urn, name=team.name)
            worker = await service.member(tx.session, caller.project_id, workforce_id, worker_id)
            await service.renew_password(tx, worker, initial)
        answer = {"worker_id": worker_id}
        return answer if teams.mails.possible else answer | {"initial_password": initial[0]}

    @routes.delete(_WORKER, status_code=204, response_class=Response)
    async def delete_worker(
        workforce_id: str, worker_id: str, caller: Caller = requires("modelarts:workforce:deleteWorker", _TEAM)
    ) -> None:
        async with platform.database.transaction() as tx:
            team = await service.get(tx.session, caller.project_id, workforce_id)
            caller.about(resource=team.urn, name=team.name)
            await service.remove(tx, await service.member(tx.session, caller.project_id, workforce_id, worker_id))

    return routes


def _page(members: Sequence[Member], sort_by: str, order: str, page: Page) -> dict[str, Any]:
    rows = sorted(members, key=lambda one: one.email.casefold()) if sort_by == "email" else list(members)
    if order == "desc":
        rows.reverse()
    some = rows[page.offset : page.offset + page.limit]
    return {"total_number": len(rows), "workers": [shapes.worker(one) for one in some]}
