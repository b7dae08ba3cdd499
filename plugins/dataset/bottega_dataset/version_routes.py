"""``…/versions``: publish, list, show, delete."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Response

from bottega.errors import Invalid
from bottega.gateway import Caller, Page, paging, requires
from bottega.objects import ObjectPath
from bottega.platform import Platform
from bottega.routing import Router
from bottega_dataset import datasets, shapes, versions
from bottega_dataset.comparing import Comparisons, label_changes
from bottega_dataset.datasets import Datasets
from bottega_dataset.kinds import Kinds
from bottega_dataset.processing import views
from bottega_dataset.requests import NewVersion
from bottega_dataset.version_index import ADDED, CHANGES, MODIFIED, REMOVED

_VERSIONS = "/v2/{project_id}/datasets/{dataset_id}/versions"
_DATASET = "dataset/{dataset_id}"


def router(platform: Platform, kinds: Kinds) -> APIRouter:
    routes = Router()
    service = Datasets(platform)
    comparisons = Comparisons(platform.objects)

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
        if body.version_format == versions.CSV:
            kinds.exporter(versions.CSV.lower(), found.dataset.dataset_type)
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
                    "version_format": body.version_format,
                    "with_column_header": body.with_column_header,
                },
                project_id=caller.project_id,
                user_id=caller.user_id,
            )
        return {"version_id": version.id, "version_name": version.name}

    @routes.get(_VERSIONS)
    async def list_versions(
        dataset_id: str,
        status: int | None = None,
        train_evaluate_ratio: str | None = None,
        version_format: int | None = None,
        page: Page = paging(default=1000),
        caller: Caller = requires("modelarts:dataset:listVersions", _DATASET),
    ) -> Any:
        """The newest first. `train_evaluate_ratio` (``0.5,0.9``) bounds the part that is for training."""
        async with platform.database.read() as session:
            found = await service.get(session, caller.project_id, dataset_id)
            total, rows = await versions.listing(
                session,
                found.dataset,
                status=status,
                ratio=_span(train_evaluate_ratio),
                form=version_format,
                offset=page.offset,
                limit=page.limit,
            )
            processed = await views.of_versions(session, platform, rows)
        dataset = found.dataset
        tags = kinds.of(dataset.dataset_type).tags
        shown = [
            shapes.version(row, dataset.dataset_type, dataset.current_version_id, tags) | (processed.get(row.id) or {})
            for row in rows
        ]
        return {"total_number": total, "versions": shown}

    @routes.get(_VERSIONS + "/compare")
    async def compare_versions(
        dataset_id: str,
        version_id: str,
        base_version_id: str | None = None,
        change: Literal["added", "removed", "modified"] | None = None,
        page: Page = paging(maximum=100),
        caller: Caller = requires("modelarts:dataset:listVersions", _DATASET),
    ) -> Any:
        """What is different in a version: samples and labels, and a page of the samples with their labels in both.

        Without `base_version_id` it is compared with the version before it.
        """
        async with platform.database.read() as session:
            found = await service.get(session, caller.project_id, dataset_id)
            after = await versions.get(session, found.dataset, version_id)
            base_id = base_version_id or after.previous_id
            if base_id is None:
                raise Invalid(f"version '{after.name}' has none before it; name a base_version_id to compare it with")
            before = await versions.get(session, found.dataset, base_id)
        kind = kinds.of(found.dataset.dataset_type)
        comparison = await comparisons.compare(kind, before, after)
        wanted = (change,) if change else CHANGES
        some = await comparisons.page(kind, before, after, comparison, wanted, page.offset, page.limit)
        return {
            "base_version_id": before.id,
            "base_version_name": before.name,
            "version_id": after.id,
            "version_name": after.name,
            "add_sample_count": comparison.count(ADDED),
            "deleted_sample_count": comparison.count(REMOVED),
            "modified_sample_count": comparison.count(MODIFIED),
            "labels": label_changes(before, after),
            "total_number": sum(comparison.count(one) for one in wanted),
            "samples": [shapes.difference(one, kind) for one in some],
        }

    @routes.get(_VERSIONS + "/{version_id}")
    async def show_version(
        dataset_id: str, version_id: str, caller: Caller = requires("modelarts:dataset:listVersions", _DATASET)
    ) -> Any:
        async with platform.database.read() as session:
            found = await service.get(session, caller.project_id, dataset_id)
            row = await versions.get(session, found.dataset, version_id)
            processed = await views.of_versions(session, platform, [row])
        dataset = found.dataset
        tags = kinds.of(dataset.dataset_type).tags
        shown = shapes.version(row, dataset.dataset_type, dataset.current_version_id, tags)
        return shown | (processed.get(row.id) or {})

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


def _span(text: str | None) -> tuple[float, float] | None:
    """Raises Invalid."""
    if not text:
        return None
    try:
        low, _, high = text.partition(",")
        return float(low), float(high or 1)
    except ValueError as e:
        raise Invalid(f"train_evaluate_ratio '{text}' must be two numbers from 0 to 1, such as 0.5,0.9") from e
