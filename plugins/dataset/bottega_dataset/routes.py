"""The plugin's part of the HTTP API, ``/v2/{project_id}/datasets…``, and the actions it checks."""

from __future__ import annotations

from fastapi import APIRouter

from bottega.platform import Platform
from bottega.plugins import Action
from bottega.routing import Router, join
from bottega_dataset import (
    dataset_routes,
    filter_routes,
    import_upload,
    label_routes,
    labeling_routes,
    migration_routes,
    rollback_routes,
    sample_routes,
    similarity_routes,
    statistics_routes,
    sync_routes,
    task_routes,
    type_routes,
    upload_routes,
    version_routes,
)
from bottega_dataset.intelligent import routes as intelligent_routes
from bottega_dataset.kinds import Kinds
from bottega_dataset.processing import routes as processing_routes
from bottega_dataset.processing.planner import ProcessingPlanner
from bottega_dataset.processing.processors import Processors
from bottega_dataset.team import routes as team_routes

ACTIONS = (
    Action("modelarts:dataset:create", "Create datasets", "dataset", "createDataset"),
    Action("modelarts:dataset:list", "List datasets", "dataset", "listDatasets"),
    Action("modelarts:dataset:get", "See a dataset", "dataset", "getDataset"),
    Action("modelarts:dataset:update", "Change a dataset", "dataset", "updateDataset"),
    Action("modelarts:dataset:delete", "Delete a dataset", "dataset", "deleteDataset"),
    Action("modelarts:dataset:listSamples", "See samples and their labels", "dataset", "listSamples"),
    Action("modelarts:dataset:updateSamples", "Label samples", "dataset", "updateSamples"),
    Action("modelarts:dataset:uploadSamples", "Add samples", "dataset", "uploadSamples"),
    Action("modelarts:dataset:deleteSamples", "Delete samples", "dataset", "deleteSamples"),
    Action("modelarts:dataset:syncDataSource", "Synchronize with the input path", "dataset", "syncDataSource"),
    Action("modelarts:dataset:listLabels", "See the labels of a dataset", "dataset", "listLabels"),
    Action("modelarts:dataset:createLabel", "Add labels to a dataset", "dataset", "createLabel"),
    Action("modelarts:dataset:updateLabel", "Rename and change labels", "dataset", "updateLabel"),
    Action("modelarts:dataset:deleteLabel", "Delete labels", "dataset", "deleteLabel"),
    Action("modelarts:dataset:import", "Import samples into a dataset", "dataset", "importSamplesToDataset"),
    Action("modelarts:dataset:listImports", "See imports", "dataset", "listImportTasks"),
    Action("modelarts:dataset:publish", "Publish versions of a dataset", "dataset", "publishDatasetVersion"),
    Action("modelarts:dataset:listVersions", "See versions of a dataset", "dataset", "listDatasetVersions"),
    Action("modelarts:dataset:deleteVersion", "Delete versions of a dataset", "dataset", "deleteDatasetVersion"),
    Action("modelarts:dataset:export", "Export a dataset", "dataset", "exportDataFromDataset"),
    Action("modelarts:dataset:listExports", "See exports", "dataset", "listExportTasks"),
    Action("modelarts:dataset:stopTask", "Stop imports, exports and intelligent tasks", "dataset", "stopTask"),
    Action("modelarts:dataset:startTask", "Start intelligent tasks", "dataset", "createAutoLabelingTask", spends=True),
    Action("modelarts:dataset:listTasks", "See intelligent tasks", "dataset", "listTasks"),
    *processing_routes.ACTIONS,
    *team_routes.ACTIONS,
)


def router(platform: Platform) -> APIRouter:
    kinds = Kinds.of_platform(platform)
    routes = Router()
    parts = (
        migration_routes,  # its path would be a dataset's
        dataset_routes,
        label_routes,
        sample_routes,
        labeling_routes,
        filter_routes,
        similarity_routes,
        upload_routes,
        statistics_routes,
        sync_routes,
        version_routes,
        rollback_routes,
        task_routes,
        import_upload,
        type_routes,
        intelligent_routes,
    )
    for part in parts:
        join(routes, part.router(platform, kinds))
    processors = Processors.of_platform(platform)
    planner = ProcessingPlanner(platform, kinds, processors)
    return join(routes, processing_routes.router(platform, planner, processors), team_routes.router(platform, kinds))
