"""Migrating the labeling jobs of the old data management into datasets (002 §3): all of them in one call.

An old job is its images, which lie in the user's own bucket, and what was said of them. Each becomes a dataset of the
same name; what was labeled is imported from the job's manifest or, where there is none, from the folder itself.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from sqlmodel import col, select

from bottega.database import Transaction
from bottega.entities import Resource
from bottega.errors import ApiError, Conflict, Forbidden
from bottega.gateway import Caller, Page, paging, requires, workspace_of
from bottega.objects import ObjectPath
from bottega.platform import Platform
from bottega.routing import Router
from bottega_dataset import counting, datasets, import_shapes, imports, tasks
from bottega_dataset.datasets import Datasets
from bottega_dataset.entities import Dataset, Task
from bottega_dataset.kinds import Kinds
from bottega_dataset.planner import CREATE, MIGRATIONS, dataset_of, plan_migration
from bottega_dataset.requests import Migration, NewImport, OldJob
from bottega_dataset.task_routes import import_params


def router(platform: Platform, kinds: Kinds) -> APIRouter:
    routes = Router()
    service = Datasets(platform)

    @routes.post(MIGRATIONS)
    async def migrate(body: Migration, caller: Caller = requires(CREATE)) -> Any:
        """Make a dataset of each old labeling job; one that cannot be migrated, or is being, fails alone.

        The data stays where it is; it and its labels are imported in the background.
        """
        results = []
        for job in body.jobs:
            try:
                results.append({"name": job.name, "success": True, **await _migrated(caller, job)})
            except ApiError as e:
                if isinstance(e, Forbidden) and len(body.jobs) == 1:
                    raise
                failure = {"success": False, "error_code": e.code, "error_msg": e.message}
                results.append({"name": job.name, **failure})
        return {"success": all(one["success"] for one in results), "results": results}

    @routes.get(MIGRATIONS)
    async def list_migrations(
        page: Page = paging(maximum=100), caller: Caller = requires("modelarts:dataset:list")
    ) -> Any:
        """The datasets that were old jobs, the newest first, with what was imported into them and what was not."""
        async with platform.database.read() as session:
            migrated = col(Resource.properties)["migrated"].as_string()
            query = (
                select(Dataset, Resource)
                .join(Resource, col(Resource.id) == Dataset.id)
                .where(
                    col(Resource.project_id) == caller.project_id,
                    col(Resource.deleted_at).is_(None),
                    migrated.is_not(None),
                    platform.resources.visible(Resource.workspace_id),
                )
                .order_by(col(Resource.created_at).desc(), col(Dataset.key).desc())
            )
            found = (await session.execute(query)).all()
            some = found[page.offset : page.offset + page.limit]
            keys = [dataset.key for dataset, _ in some if dataset.key is not None]
            counted = await counting.counts(session, keys)
            rows = []
            for dataset, resource in some:
                _, done = await tasks.listing(session, "import", dataset.id, 0, 10)
                rows.append(import_shapes.migration(dataset, resource, counted[dataset.key or 0], done))
        return {"total_count": len(found), "migrations": rows}

    async def _migrated(caller: Caller, job: OldJob) -> dict[str, Any]:
        kind = kinds.of(job.type)
        datasets.check_name(job.name)
        first = ObjectPath.parse(job.sources[0], "sources").folder
        others = [ObjectPath.parse(text, "sources").folder for text in job.sources[1:]]
        manifest = ObjectPath.parse(job.manifest_path, "manifest_path") if job.manifest_path else None
        await caller.require((await plan_migration(caller, Migration(jobs=[job]))).needs)
        if manifest:
            await platform.objects.head(manifest)
        else:
            for path in (first, *others):
                await imports.check_folder(platform.objects, path)
        async with platform.database.transaction() as tx:
            await _check_new(tx, caller, job.name)
            found = await service.create(
                tx,
                name=job.name,
                dataset_type=kind.code,
                description=job.description,
                data_path=first,
                work_path=ObjectPath.parse(job.work_path, "work_path").folder,
                label_format={},
                options=dataset_of(job).options,
                project_id=caller.project_id,
                user_id=caller.user_id,
                workspace_id=workspace_of(job.workspace_id),
            )
            found.resource.properties = {**found.resource.properties, "migrated": str(manifest or first)}
            tx.session.add(found.resource)
            caller.about(resource=found.resource.urn, name=job.name)
            steps = [NewImport(import_path=str(manifest), import_type="manifest")] if manifest else []
            steps += [
                NewImport(import_path=str(path), import_annotations=manifest is None) for path in (first, *others)
            ]
            ids = [await _import(tx, caller, found.dataset, step) for step in steps]
            found.dataset.import_task_id = ids[0]
            tx.session.add(found.dataset)
        return {"dataset_id": found.dataset.id, "import_task_ids": ids}

    async def _check_new(tx: Transaction, caller: Caller, name: str) -> None:
        """Raises Conflict, saying whether the job is being migrated or was."""
        query = select(Resource).where(
            Resource.project_id == caller.project_id,
            Resource.plugin == platform.name,
            Resource.kind == "dataset",
            Resource.claimed_name == name,
        )
        there = (await tx.session.exec(query)).first()
        if there is None:
            return
        if any(task.kind == "import" for task in await tasks.unfinished(tx.session, [there.id])):
            raise Conflict(f"'{name}' is being migrated; wait until its imports have ended")
        raise Conflict(f"there is a dataset '{name}' already: the job was migrated, or its name is taken")

    async def _import(tx: Transaction, caller: Caller, dataset: Dataset, body: NewImport) -> str:
        task = Task(
            kind="import",
            dataset_id=dataset.id,
            project_id=caller.project_id,
            user_id=caller.user_id,
            params=import_params(body),
        )
        return (await tasks.request(tx, task)).id

    return routes
