"""``…/sync-data``: bring a dataset up to date with its input path, and say how far that is."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from sqlmodel import col, select

from bottega.gateway import Caller, requires
from bottega.objects import ObjectPath
from bottega.platform import Platform
from bottega.routing import Router
from bottega_dataset import counting, import_shapes, samples, sync, tasks
from bottega_dataset.datasets import Datasets
from bottega_dataset.entities import Task
from bottega_dataset.kinds import Kinds
from bottega_dataset.sample_routes import DATASET

_SYNC = "/v2/{project_id}/datasets/{dataset_id}/sync-data"
SYNC = "modelarts:dataset:syncDataSource"


def router(platform: Platform, kinds: Kinds) -> APIRouter:
    routes = Router()
    service = Datasets(platform)

    @routes.post(_SYNC)
    async def synchronize(dataset_id: str, caller: Caller = requires(SYNC, DATASET)) -> Any:
        """Take in new objects of the input path and take out samples whose objects are gone, in the background.

        While one is at work, that is the one: its id is returned.
        """
        async with platform.database.read() as session:
            found = await service.get(session, caller.project_id, dataset_id)
        caller.about(resource=found.resource.urn, name=found.resource.name)
        sync.params(found.dataset)  # there is nothing to ask rights for without an input path
        kinds.importer("dir", found.dataset.dataset_type)
        await caller.check_path(ObjectPath.parse(found.dataset.data_path, "data_path"))
        async with platform.database.transaction() as tx:
            await samples.lock(tx.session, found.dataset)
            running = [t for t in await tasks.unfinished(tx.session, [dataset_id]) if t.kind == sync.KIND]
            task = running[0] if running else await sync.request(tx, found.dataset, caller.project_id, caller.user_id)
        return {"task_id": task.id}

    @routes.get(_SYNC + "/status")
    async def status(dataset_id: str, caller: Caller = requires("modelarts:dataset:get", DATASET)) -> Any:
        """How the last synchronization is, or was."""
        async with platform.database.read() as session:
            found = await service.get(session, caller.project_id, dataset_id)
            query = select(Task).where(Task.dataset_id == dataset_id, Task.kind == sync.KIND)
            task = (await session.exec(query.order_by(col(Task.created_at).desc()).limit(1))).first()
            assert found.dataset.key is not None
            total, _ = (await counting.counts(session, [found.dataset.key]))[found.dataset.key]
        return import_shapes.sync_status(dataset_id, task, total, sync.duration_s(task) if task else 0)

    return routes
