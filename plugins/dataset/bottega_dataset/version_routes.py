"""``…/versions``: publish, list, show, delete."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response

from bottega.gateway import Caller, Page, paging, requires
from bottega.objects import ObjectPath
from bottega.platform import Platform
from bottega_dataset import datasets, shapes, versions
from bottega_dataset.datasets import Datasets
from bottega_dataset.kinds import Kinds
from bottega_dataset.requests import NewVersion

_VERSIONS = "/v2/{project_id}/datasets/{dataset_id}/versions"
_DATASET = "dataset/{dataset_id}"


def router(platform: Platform, kinds: Kinds) -> APIRouter:
    routes = APIRouter()
    service = Datasets(platform)

    @routes.post(_VERSIONS, status_code=201)
    async def publish(
        dataset_id: str, body: NewVersion, caller: Caller = requires("modelarts:dataset:publish", _DATASET)
    ) -> Any:
        """Publish the dataset as it will be found when publishing begins; its version appears when all is written."""
        datasets.check_description(body.description)
        async with platform.database.read() as session:
            found = await service.get(session, caller.project_id, dataset_id)
        caller.about(resource=found.resource.urn, name=found.resource.name)
        await caller.check_path(ObjectPath.parse(found.dataset.work_path, "work_path"), write=True)
        async with platform.database.transaction() as tx:
            found = await service.get(tx.session, caller.project_id, dataset_id)
            version = await versions.request(
                tx,
                found.dataset,
                name=body.version_name or None,
                description=body.description,
                train_ratio=body.train_evaluate_sample_ratio,
                options={
                    "seed": body.seed,
                    "export_images": body.export_images,
                    "keep_usage": not body.remove_sample_usage,
                    "keep_hard": not body.clear_hard_property,
                },
                project_id=caller.project_id,
                user_id=caller.user_id,
            )
        return {"version_id": version.id, "version_name": version.name}

    @routes.get(_VERSIONS)
    async def list_versions(
        dataset_id: str,
        status: int | None = None,
        page: Page = paging(default=1000),
        caller: Caller = requires("modelarts:dataset:listVersions", _DATASET),
    ) -> Any:
        async with platform.database.read() as session:
            found = await service.get(session, caller.project_id, dataset_id)
            total, rows = await versions.listing(
                session, found.dataset, status=status, offset=page.offset, limit=page.limit
            )
        dataset = found.dataset
        shown = [shapes.version(row, dataset.dataset_type, dataset.current_version_id) for row in rows]
        return {"total_number": total, "versions": shown}

    @routes.get(_VERSIONS + "/{version_id}")
    async def show_version(
        dataset_id: str, version_id: str, caller: Caller = requires("modelarts:dataset:listVersions", _DATASET)
    ) -> Any:
        async with platform.database.read() as session:
            found = await service.get(session, caller.project_id, dataset_id)
            row = await versions.get(session, found.dataset, version_id)
        return shapes.version(row, found.dataset.dataset_type, found.dataset.current_version_id)

    @routes.delete(_VERSIONS + "/{version_id}", status_code=204, response_class=Response)
    async def delete_version(
        dataset_id: str, version_id: str, caller: Caller = requires("modelarts:dataset:deleteVersion", _DATASET)
    ) -> None:
        """Take a version out of the lists; its files stay in storage."""
        async with platform.database.transaction() as tx:
            found = await service.get(tx.session, caller.project_id, dataset_id)
            caller.about(resource=found.resource.urn, name=found.resource.name)
            version = await versions.get(tx.session, found.dataset, version_id)
            await versions.remove(tx, platform, found.dataset, caller.project_id, version)

    return routes
