"""``…/versions/{version_id}/rollback``: set the labels of a dataset back to those of a version."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from bottega.gateway import Caller, Page, paging, requires
from bottega.platform import Platform
from bottega.routing import Router
from bottega_dataset import rollback, shapes, tasks, versions
from bottega_dataset.datasets import Datasets
from bottega_dataset.entities import Task
from bottega_dataset.kinds import Kinds
from bottega_dataset.sample_routes import DATASET

_VERSION = "/v2/{project_id}/datasets/{dataset_id}/versions/{version_id}/rollback"
_TASK = "/v2/{project_id}/datasets/{dataset_id}/rollback-tasks/{task_id}"
_UPDATE, _LIST = "modelarts:dataset:updateSamples", "modelarts:dataset:listVersions"


def router(platform: Platform, kinds: Kinds) -> APIRouter:
    routes = Router()
    service = Datasets(platform)

    @routes.post(_VERSION, status_code=201)
    async def roll_back(dataset_id: str, version_id: str, caller: Caller = requires(_UPDATE, DATASET)) -> Any:
        """Set the labels of all samples back to those of a version, in the background: all of them or none.

        It is one change of the history and is taken back as such. Samples that are not in the dataset any more are
        reported, those that came after the version stay as they are; so does which version is the current one.
        """
        async with platform.database.transaction() as tx:
            found = await service.get(tx.session, caller.project_id, dataset_id)
            caller.about(resource=found.resource.urn, name=found.resource.name)
            version = versions.normal(await versions.get(tx.session, found.dataset, version_id))
            task = Task(
                kind=rollback.KIND,
                dataset_id=dataset_id,
                project_id=caller.project_id,
                user_id=caller.user_id,
                params={"version_id": version.id},
            )
            await tasks.request(tx, task)
        return rollback.shape(task)

    @routes.get(_TASK)
    async def show_rollback(dataset_id: str, task_id: str, caller: Caller = requires(_LIST, DATASET)) -> Any:
        async with platform.database.read() as session:
            await service.get(session, caller.project_id, dataset_id)
            return rollback.shape(await tasks.get(session, rollback.KIND, dataset_id, task_id))

    @routes.get(_TASK + "/problems")
    async def rollback_problems(
        dataset_id: str, task_id: str, page: Page = paging(default=100), caller: Caller = requires(_LIST, DATASET)
    ) -> Any:
        """The samples of the version that are not in the dataset any more: the first ones, all are counted."""
        async with platform.database.read() as session:
            await service.get(session, caller.project_id, dataset_id)
            task = await tasks.get(session, rollback.KIND, dataset_id, task_id)
            rows = await tasks.problems(session, task_id, page.offset, page.limit)
        return {"total_count": task.counts.get("bad", 0), "problems": [shapes.problem(row) for row in rows]}

    return routes
