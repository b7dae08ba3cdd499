"""``…/import-tasks`` and ``…/export-tasks``: start, list, follow; and what an import left out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter
from sqlalchemy import ColumnElement
from sqlmodel import col

from bottega.gateway import Caller, Page, paging, requires
from bottega.objects import ObjectPath
from bottega.plans import Need
from bottega.platform import Platform
from bottega.routing import Router
from bottega_dataset import datasets, exports, imports, shapes, tasks, versions
from bottega_dataset.datasets import Datasets
from bottega_dataset.entities import Task
from bottega_dataset.export_shapes import export_task
from bottega_dataset.export_staging import filters
from bottega_dataset.import_shapes import import_task
from bottega_dataset.kinds import Kinds
from bottega_dataset.planner import EXPORT, IMPORT, export_paths, plan_export, plan_import
from bottega_dataset.requests import NewExport, NewImport

_DATASET = "dataset/{dataset_id}"
_STOP = "modelarts:dataset:stopTask"


@dataclass(frozen=True)
class _Kind:
    """A kind of tasks: its path, the right to see them, how one is shown, and what is told of two operations."""

    name: str
    path: str
    see: str
    shape: Callable[[Task], dict[str, Any]]
    problems: str
    stopped: str


_IMPORT = _Kind(
    "import",
    "/v2/{project_id}/datasets/{dataset_id}/import-tasks",
    "modelarts:dataset:listImports",
    import_task,
    "What was left out, where and why. The first ones are kept (``problems_kept``), all are counted.",
    "What was imported stays.",
)
_EXPORT = _Kind(
    "export",
    "/v2/{project_id}/datasets/{dataset_id}/export-tasks",
    "modelarts:dataset:listExports",
    export_task,
    "What the format could not carry. The first ones are kept (``problems_kept``), all are counted.",
    "What was written is removed.",
)


def import_params(body: NewImport) -> dict[str, Any]:
    """What an import task keeps of its request."""
    return {
        "import_type": body.import_type,
        "import_path": str(ObjectPath.parse(body.import_path, "import_path")),
        "import_annotations": body.import_annotations,
        "difficult_only": body.difficult_only,
        "included_labels": [one.name for one in body.included_labels],
        "excluded_labels": [one.name for one in body.excluded_labels],
        "label_format": body.label_format.model_dump(exclude_none=True) | _table(body),
        "on_error": body.on_error,
        "import_samples": body.import_samples,
        "final_annotation": body.final_annotation,
    }


def _table(body: NewImport) -> dict[str, Any]:
    """How the files of a table name their columns."""
    source = body.data_source
    found: dict[str, Any] = {}
    if body.with_column_header or (source and source.with_column_header):
        found["with_column_header"] = True
    if source and source.schema_maps:
        found["schema_maps"] = {one.src_name: one.dest_name for one in source.schema_maps}
    return found


def export_params(body: NewExport) -> dict[str, Any]:
    """What an export task keeps of its request."""
    kept = body.export_params.model_dump() | body.model_dump(exclude={"export_params", "annotation_format", "path"})
    named = (body.annotation_format or "").lower()
    implied = "csv" if body.version_format == "CSV" else "dir" if body.export_format else exports.MANIFEST
    return kept | {
        "path": str(ObjectPath.parse(body.path, "path").folder) if body.path else "",
        "format": named or implied,
        "layout": "tile" if body.export_format == 2 else "tree",
        "sample_state": body.sample_state or body.export_params.sample_state,
    }


def router(platform: Platform, kinds: Kinds) -> APIRouter:
    routes = Router()
    service = Datasets(platform)

    @routes.post(_IMPORT.path, status_code=201)
    async def start_import(dataset_id: str, body: NewImport, caller: Caller = requires(IMPORT, _DATASET)) -> Any:
        """Import a folder (``dir``) or a manifest in the background; what is there already is not imported again."""
        path = ObjectPath.parse(body.import_path, "import_path")
        async with platform.database.read() as session:
            found = await service.get(session, caller.project_id, dataset_id)
        caller.about(resource=found.resource.urn, name=found.resource.name)
        imports.check_request(kinds, found.dataset, body.import_type, path)
        imports.check_options(found.dataset, body)
        needs = (await plan_import(caller, body)).needs
        importer = kinds.importer(body.import_type, found.dataset.dataset_type)
        if getattr(importer, "stores_objects", False) and found.dataset.data_path:
            target = ObjectPath.parse(found.dataset.data_path)
            needs = (*needs, *Need.path(target, "what the files hold is stored in the input path", write=True))
        await caller.require(needs)
        await imports.check_source(platform.objects, body.import_type, path)
        async with platform.database.transaction() as tx:
            task = _task("import", caller, dataset_id, import_params(body))
            await tasks.request(tx, task)
        return {"task_id": task.id}

    @routes.post(_EXPORT.path, status_code=201)
    async def start_export(dataset_id: str, body: NewExport, caller: Caller = requires(EXPORT, _DATASET)) -> Any:
        """Write a manifest of the dataset or of a version, a folder in another format, or a new dataset."""
        path, work_path = export_paths(body)
        params = export_params(body)
        async with platform.database.read() as session:
            found = await service.get(session, caller.project_id, dataset_id)
            if body.version_id:
                await versions.get(session, found.dataset, body.version_id)
        caller.about(resource=found.resource.urn, name=found.resource.name)
        if work_path:
            datasets.check_name(params["export_new_dataset_name"])
        elif params["format"] != exports.MANIFEST:
            kinds.exporter(params["format"], found.dataset.dataset_type)
        filters(params)
        await caller.require((await plan_export(caller, body)).needs)
        if path and work_path:
            await exports.check_empty(platform.objects, path)
        async with platform.database.transaction() as tx:
            task = _task("export", caller, dataset_id, params)
            await tasks.request(tx, task)
        return export_task(task)

    for kind in (_IMPORT, _EXPORT):
        _follow(routes, platform, kind)
    return routes


def _follow(routes: APIRouter, platform: Platform, kind: _Kind) -> None:
    """Serve what imports and exports have in common: list, show, report, stop."""
    service = Datasets(platform)

    async def listed(caller: Caller, dataset_id: str, page: Page, *also: ColumnElement[bool]) -> Any:
        async with platform.database.read() as session:
            await service.get(session, caller.project_id, dataset_id)
            total, rows = await tasks.listing(session, kind.name, dataset_id, page.offset, page.limit, *also)
        return {"total_count": total, f"{kind.name}_tasks": [kind.shape(row) for row in rows]}

    if kind is _EXPORT:

        @routes.get(kind.path)
        async def list_exports(
            dataset_id: str,
            export_type: int | None = None,
            page: Page = paging(maximum=100),
            caller: Caller = requires(kind.see, _DATASET),
        ) -> Any:
            also = [] if export_type is None else [col(Task.params)["export_type"].as_integer() == export_type]
            return await listed(caller, dataset_id, page, *also)
    else:

        @routes.get(kind.path)
        async def list_imports(
            dataset_id: str, page: Page = paging(maximum=100), caller: Caller = requires(kind.see, _DATASET)
        ) -> Any:
            return await listed(caller, dataset_id, page)

    @routes.get(kind.path + "/{task_id}", name=f"show_{kind.name}")
    async def show(dataset_id: str, task_id: str, caller: Caller = requires(kind.see, _DATASET)) -> Any:
        async with platform.database.read() as session:
            await service.get(session, caller.project_id, dataset_id)
            return kind.shape(await tasks.get(session, kind.name, dataset_id, task_id))

    @routes.get(kind.path + "/{task_id}/problems", name=f"{kind.name}_problems", description=kind.problems)
    async def problems(
        dataset_id: str,
        task_id: str,
        page: Page = paging(default=100),
        caller: Caller = requires(kind.see, _DATASET),
    ) -> Any:
        async with platform.database.read() as session:
            await service.get(session, caller.project_id, dataset_id)
            task = await tasks.get(session, kind.name, dataset_id, task_id)
            rows = await tasks.problems(session, task_id, page.offset, page.limit)
        return {"total_count": task.counts.get("bad", 0), "problems": [shapes.problem(row) for row in rows]}

    @routes.post(kind.path + "/{task_id}/stop", name=f"stop_{kind.name}", description=kind.stopped)
    async def stop(dataset_id: str, task_id: str, caller: Caller = requires(_STOP, _DATASET)) -> Any:
        async with platform.database.transaction() as tx:
            found = await service.get(tx.session, caller.project_id, dataset_id)
            caller.about(resource=found.resource.urn, name=found.resource.name)
            task = await tasks.get(tx.session, kind.name, dataset_id, task_id)
            await tasks.stop(tx, task)
        return kind.shape(task)


def _task(kind: str, caller: Caller, dataset_id: str, params: dict[str, Any]) -> Task:
    return Task(kind=kind, dataset_id=dataset_id, project_id=caller.project_id, user_id=caller.user_id, params=params)
