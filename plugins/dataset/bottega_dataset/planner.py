"""What a dataset and the work on it will need, told before it is begun. Only processing uses machines."""

from __future__ import annotations

from bottega.errors import Invalid
from bottega.gateway import Caller
from bottega.objects import ObjectPath
from bottega.plans import Need, Plan, Planner
from bottega.platform import Platform
from bottega.urn import Urn
from bottega_dataset.datasets import check_paths
from bottega_dataset.intelligent.planner import START, IntelligentPlanner
from bottega_dataset.intelligent.planner import TASKS as INTELLIGENT_TASKS
from bottega_dataset.intelligent.requests import NewTask as NewIntelligentTask
from bottega_dataset.kinds import Kinds
from bottega_dataset.processing.planner import CREATE as CREATE_TASK
from bottega_dataset.processing.planner import TASKS, ProcessingPlanner
from bottega_dataset.processing.processors import Processors
from bottega_dataset.processing.requests import NewTask
from bottega_dataset.requests import DataSource, Migration, NewDataset, NewExport, NewImport, OldJob

CREATE, IMPORT, EXPORT = "modelarts:dataset:create", "modelarts:dataset:import", "modelarts:dataset:export"
_LIST_IMPORTS, _LIST_EXPORTS = "modelarts:dataset:listImports", "modelarts:dataset:listExports"
DATASETS = "/v2/{project_id}/datasets"
MIGRATIONS = DATASETS + "/migrations"


def folders_of(body: NewDataset) -> tuple[ObjectPath, ObjectPath | None]:
    """The output folder and the input folder, if one is given. Raises Invalid."""
    work_path = ObjectPath.parse(body.work_path, "work_path").folder
    given = body.data_sources[0] if body.data_sources else None
    if given and given.data_type != 0:
        raise Invalid(f"data_sources.data_type {given.data_type} is not offered; use 0, object storage")
    data_path = ObjectPath.parse(given.data_path, "data_path").folder if given and given.data_path else None
    check_paths(data_path, work_path)
    return work_path, data_path


async def plan_dataset(caller: Caller, body: NewDataset) -> Plan:
    """Raises Invalid for paths that cannot serve."""
    work_path, data_path = folders_of(body)
    needs = [
        Need(CREATE, f"bottega:dataset:{caller.project_id}:*", "the dataset is created"),
        Need("modelarts:dataset:get", _any_dataset(caller), "the dataset is found again"),
        *Need.path(work_path, "versions and deleted samples are written to work_path", write=True),
    ]
    if data_path:
        needs += Need.path(data_path, "samples are imported from the input path")
    return Plan(needs=tuple(needs), workspace_id=body.workspace_id)


def dataset_of(job: OldJob) -> NewDataset:
    """What an old labeling job becomes."""
    return NewDataset(
        dataset_name=job.name,
        dataset_type=job.type,
        work_path=job.work_path,
        data_sources=[DataSource(data_path=job.sources[0])],
        description=job.description,
        workspace_id=job.workspace_id,
        import_annotations=job.manifest_path is None,
    )


async def plan_migration(caller: Caller, body: Migration) -> Plan:
    """Raises Invalid for paths that cannot serve."""
    needs: list[Need] = []
    for job in body.jobs:
        needs += (await plan_dataset(caller, dataset_of(job))).needs
        for path in (*job.sources[1:], *([job.manifest_path] if job.manifest_path else [])):
            needs += Need.path(ObjectPath.parse(path, "sources"), "what was labeled is imported")
    return Plan(needs=tuple(needs), workspace_id=body.jobs[0].workspace_id)


async def plan_import(caller: Caller, body: NewImport) -> Plan:
    """Raises Invalid for what is no path."""
    path = ObjectPath.parse(body.import_path, "import_path")
    followed = Need(_LIST_IMPORTS, _any_dataset(caller), "the import is followed")
    return Plan(needs=(followed, *Need.path(path, "samples are imported from import_path")))


async def plan_export(caller: Caller, body: NewExport) -> Plan:
    """Raises Invalid for what is no path."""
    needs = [Need(_LIST_EXPORTS, _any_dataset(caller), "the export is followed")]
    path, work_path = export_paths(body)
    if path:
        needs += Need.path(path, "the export is written to path", write=True)
    if work_path:
        needs.append(Need(CREATE, f"bottega:dataset:{caller.project_id}:*", "the new dataset is created"))
        needs += Need.path(work_path, "versions of the new dataset are written to its work_path", write=True)
    return Plan(needs=tuple(needs))


def export_paths(body: NewExport) -> tuple[ObjectPath | None, ObjectPath | None]:
    """Where an export is written to, and the output folder of a new dataset. Raises Invalid."""
    params = body.export_params
    if params.export_dest == "DIR":
        return ObjectPath.parse(body.path, "path").folder, None
    if not params.export_new_dataset_name or not params.export_new_dataset_work_path:
        raise Invalid("a new dataset needs export_new_dataset_name and export_new_dataset_work_path")
    work_path = ObjectPath.parse(params.export_new_dataset_work_path, "export_new_dataset_work_path").folder
    path = ObjectPath.parse(body.path, "path").folder if body.path else None
    check_paths(path, work_path)
    return path, work_path


def planners(platform: Platform) -> list[Planner]:
    processing = ProcessingPlanner(platform, Kinds.of_platform(platform), Processors.of_platform(platform))
    intelligent = IntelligentPlanner(platform, Kinds.of_platform(platform))
    return [
        Planner(INTELLIGENT_TASKS, START, NewIntelligentTask, intelligent.plan),
        Planner(TASKS, CREATE_TASK, NewTask, processing.plan),
        Planner(DATASETS, CREATE, NewDataset, plan_dataset),
        Planner(MIGRATIONS, CREATE, Migration, plan_migration),
        Planner(DATASETS + "/{dataset_id}/import-tasks", IMPORT, NewImport, plan_import),
        Planner(DATASETS + "/{dataset_id}/export-tasks", EXPORT, NewExport, plan_export),
    ]


def _any_dataset(caller: Caller) -> str:
    return str(Urn("dataset", caller.project_id, "dataset", "*"))
