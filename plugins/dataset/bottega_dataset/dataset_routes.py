"""``/v2/{project_id}/datasets``: create, list, show, modify, delete."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from fastapi import APIRouter, Query, Response

from bottega.database import AsyncSession, Transaction
from bottega.gateway import Caller, Page, paging, requires, workspace_of
from bottega.objects import ObjectPath
from bottega.platform import Platform
from bottega.routing import Router
from bottega_dataset import counting, datasets, imports, labels, pages, samples, shapes, statistics, sync, tasks
from bottega_dataset.datasets import Datasets, Found
from bottega_dataset.entities import Dataset, Task
from bottega_dataset.kinds import Kinds
from bottega_dataset.label_routes import add_labels_to, change_labels_of, remove_labels_of
from bottega_dataset.planner import CREATE, DATASETS, folders_of, plan_dataset
from bottega_dataset.processing import views
from bottega_dataset.query import SampleFilter
from bottega_dataset.requests import DatasetChange, NewImport
from bottega_dataset.task_routes import import_params
from bottega_dataset.team.assembly import Teams
from bottega_dataset.team.requests import NewTeamDataset
from bottega_dataset.team.task_routes import check_rights
from bottega_dataset.team.team_tasks import count_tasks

TABLE = 400
"""The one type whose input path is imported at once only when asked (``import_data``)."""
_ONE = "/v2/{project_id}/datasets/{dataset_id}"
_RUNNING = {2: ("export",), 4: ("export",), 5: ("import", "sync"), 6: ("publish",)}
"""The kinds of tasks that the API's ``running_task_type`` means; the others are tasks of other tables."""
_PREVIEWS = 4


def router(platform: Platform, kinds: Kinds) -> APIRouter:
    routes = Router()
    service, teams = Datasets(platform), Teams.of(platform)

    @routes.post(DATASETS, status_code=201)
    async def create_dataset(body: NewTeamDataset, caller: Caller = requires(CREATE)) -> Any:
        """Create a dataset; what lies in its input path is imported at once, in the background."""
        kinds.of(body.dataset_type)
        datasets.check_name(body.dataset_name)
        datasets.check_description(body.description)
        work_path, data_path = folders_of(body)
        for label in body.labels:
            labels.check_property(label.name, label.property)
        await caller.require((await plan_dataset(caller, body)).needs)
        if body.workforce_information:
            await caller.check("modelarts:dataset:createWorkforceTask", kinds.urn(caller.project_id, "*"))
        if data_path:
            await imports.check_folder(platform.objects, data_path)
        async with platform.database.transaction() as tx:
            found = await service.create(
                tx,
                name=body.dataset_name,
                dataset_type=body.dataset_type,
                description=body.description,
                data_path=data_path,
                work_path=work_path,
                label_format=body.label_format.model_dump(exclude_none=True),
                options=body.options,
                watch=body.watch,
                project_id=caller.project_id,
                user_id=caller.user_id,
                workspace_id=workspace_of(body.workspace_id),
            )
            caller.about(resource=found.resource.urn, name=body.dataset_name)
            await add_labels_to(tx, found, body.labels, kinds.of(body.dataset_type))
            task_id = None
            if data_path and (body.import_data or body.dataset_type != TABLE):
                wanted = NewImport(
                    import_path=str(data_path),
                    import_annotations=body.import_annotations,
                    data_source=body.data_sources[0],
                )
                task_id = await _import(tx, kinds, found.dataset, wanted, caller)
            if body.workforce_information:
                await check_rights(caller, found.resource.urn, body.workforce_information)
                ready = task_id is None
                await teams.tasks.create(tx, found, body.workforce_information, caller.user_id, give_out=ready)
        return {"dataset_id": found.dataset.id, "import_task_id": task_id}

    @routes.get("/v2/{project_id}/datasets")
    async def list_datasets(
        dataset_type: int | None = None,
        search_content: str | None = None,
        sort_by: Literal["create_time", "dataset_name"] = "create_time",
        order: Literal["asc", "desc"] = "desc",
        contain_versions: bool | None = None,
        with_labels: bool = False,
        file_preview: bool = False,
        support_export: bool = False,
        train_evaluate_ratio: str | None = Query(None, pattern=r"^\d(\.\d+)?,\d(\.\d+)?$"),
        running_task_type: int | None = None,
        check_running_task: bool = True,
        workspace_id: str | None = None,
        page: Page = paging(maximum=100),
        caller: Caller = requires("modelarts:dataset:list"),
    ) -> Any:
        async with platform.database.read() as session:
            total, found = await service.listing(
                session,
                caller.project_id,
                dataset_type=dataset_type,
                contains=search_content,
                workspace_id=workspace_id,
                published=contain_versions,
                exportable=support_export,
                ratios=_ratios(train_evaluate_ratio),
                by_name=sort_by == "dataset_name",
                descending=order == "desc",
                offset=page.offset,
                limit=page.limit,
            )
            rows = await _shapes(platform, session, kinds, found, running_task_type, told=check_running_task)
            for row, one in zip(rows, found, strict=True):
                if row["exist_workforce_task"]:
                    row["workforce_descriptor"] = await teams.views(kinds).descriptor(session, one.dataset)
            if file_preview:
                for row, one in zip(rows, found, strict=True):
                    row["samples"] = await _previews(session, kinds, one.dataset)
            if with_labels:
                for row, one in zip(rows, found, strict=True):
                    row["labels"] = [labels.shape(x) for x in await labels.of_dataset(session, one.dataset)]
        return {"total_number": total, "datasets": rows}

    @routes.get(_ONE)
    async def show_dataset(
        dataset_id: str,
        running_task_type: int | None = None,
        check_running_task: bool = True,
        caller: Caller = requires("modelarts:dataset:get", "dataset/{dataset_id}"),
    ) -> Any:
        async with platform.database.read() as session:
            found = await service.get(session, caller.project_id, dataset_id)
            (row,) = await _shapes(platform, session, kinds, [found], running_task_type, told=check_running_task)
            row["labels"] = [labels.shape(x) for x in await labels.of_dataset(session, found.dataset)]
            row["workforce_descriptor"] = await teams.views(kinds).descriptor(session, found.dataset)
            return row

    @routes.put(_ONE)
    async def modify_dataset(
        dataset_id: str,
        body: DatasetChange,
        caller: Caller = requires("modelarts:dataset:update", "dataset/{dataset_id}"),
    ) -> Any:
        """Name, description, current version, and labels to add, change and delete; all of it or nothing."""
        async with platform.database.transaction() as tx:
            found = await service.get(tx.session, caller.project_id, dataset_id)
            caller.about(resource=found.resource.urn, name=found.resource.name)
            await service.modify(
                tx,
                found,
                name=body.dataset_name,
                description=body.description,
                current_version_id=body.current_version_id,
            )
            await add_labels_to(tx, found, body.add_labels, kinds.of(found.dataset.dataset_type))
            if body.watch is not None:
                service.watch(tx, found, body.watch)
                if body.watch:  # what happened before
                    await sync.request(tx, found.dataset, caller.project_id, caller.user_id)
            user = caller.principal.user_name
            if body.update_labels:
                await change_labels_of(tx, found, body.update_labels, user)
            if body.delete_labels:
                gone = [(one.name, one.type) for one in body.delete_labels]
                await remove_labels_of(tx, found, gone, user)
        return {"dataset_id": dataset_id}

    @routes.delete(_ONE, status_code=204, response_class=Response)
    async def delete_dataset(
        dataset_id: str,
        caller: Caller = requires("modelarts:dataset:delete", "dataset/{dataset_id}"),
    ) -> None:
        """Delete a dataset; the objects it was made of, and those it published, stay in storage."""
        async with platform.database.transaction() as tx:
            found = await service.get(tx.session, caller.project_id, dataset_id)
            caller.about(resource=found.resource.urn, name=found.resource.name)
            await service.delete(tx, found)

    return routes


async def _shapes(
    platform: Platform,
    session: AsyncSession,
    kinds: Kinds,
    found: Sequence[Found],
    running_task_type: int | None = None,
    *,
    told: bool = True,
) -> list[dict[str, Any]]:
    """Datasets as the API shows them; unless `told` without their running tasks."""
    keys = [one.dataset.key for one in found if one.dataset.key is not None]
    ids = [one.dataset.id for one in found]
    counted = await counting.counts(session, keys)
    current = await datasets.versions_by_id(session, [one.dataset.current_version_id for one in found])
    waiting = await statistics.unconfirmed(session, keys)
    numbers = await datasets.version_counts(session, ids)
    team_tasks = await count_tasks(session, keys)
    running: dict[str, list[Task]] = {}
    for task in await tasks.unfinished(session, ids):
        if running_task_type is not None and task.kind not in _RUNNING.get(running_task_type, ()):
            continue
        running.setdefault(task.dataset_id, []).append(task)
    rows = [
        shapes.dataset(
            one,
            counted=counted[one.dataset.key or 0],
            version=current.get(one.dataset.current_version_id),
            unconfirmed=waiting[one.dataset.key or 0],
            version_count=numbers.get(one.dataset.id, 0),
            running=running.get(one.dataset.id, []),
            kind=kinds.types.get(one.dataset.dataset_type),
            workforce_tasks=team_tasks.get(one.dataset.key or 0, 0),
        )
        for one in found
    ]
    processed = await views.of_versions(session, platform, list(current.values())) if current else {}
    for row in rows:
        row["versions"] = [one | processed.get(one["version_id"], {}) for one in row["versions"]]
        if not told:
            row |= {"exist_running_task": False, "running_tasks_id": []}
    return rows


async def _previews(session: AsyncSession, kinds: Kinds, dataset: Dataset) -> list[dict[str, Any]]:
    kind = kinds.types.get(dataset.dataset_type)
    if kind is None:
        return []
    found = (await pages.find(session, dataset, SampleFilter(), limit=_PREVIEWS, count="none")).samples
    said = await samples.annotations_of(session, [row.key for row in found], kind.annotation_type)
    return [shapes.annotation_file(row, dataset.id, said[row.key]) for row in found]


def _ratios(text: str | None) -> tuple[float, float] | None:
    if not text:
        return None
    low, _, high = text.partition(",")
    return float(low), float(high)


async def _import(tx: Transaction, kinds: Kinds, dataset: Dataset, wanted: NewImport, caller: Caller) -> str:
    imports.check_request(kinds, dataset, "dir", ObjectPath.parse(wanted.import_path, "data_path"))
    task = Task(
        kind="import",
        dataset_id=dataset.id,
        project_id=caller.project_id,
        user_id=caller.user_id,
        params=import_params(wanted),
    )
    dataset.import_task_id = task.id
    tx.session.add(dataset)
    return (await tasks.request(tx, task)).id
