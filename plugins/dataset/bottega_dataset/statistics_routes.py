"""``…/data-annotations/stats`` and ``…/metrics``."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Query

from bottega.errors import Invalid
from bottega.gateway import Caller, requires
from bottega.platform import Platform
from bottega.routing import Router
from bottega_dataset import statistics
from bottega_dataset.datasets import Datasets
from bottega_dataset.kinds import Kinds
from bottega_dataset.sample import LABELED, UNLABELED
from bottega_dataset.sample_routes import ANNOTATIONS, DATASET
from bottega_dataset.team import progress
from bottega_dataset.team.assembly import Teams

_METRICS = "/v2/{project_id}/datasets/{dataset_id}/metrics"


def router(platform: Platform, kinds: Kinds) -> APIRouter:
    routes = Router()
    service, teams = Datasets(platform), Teams.of(platform)

    @routes.get(ANNOTATIONS + "/stats")
    async def show_statistics(
        dataset_id: str,
        sample_state: str | None = None,
        caller: Caller = requires("modelarts:dataset:listLabels", DATASET),
    ) -> Any:
        if sample_state not in (None, "", LABELED, UNLABELED):
            raise Invalid(f"sample_state '{sample_state}': there are statistics of {LABELED} and {UNLABELED}")
        async with platform.database.read() as session:
            found = await service.get(session, caller.project_id, dataset_id)
            kind = kinds.of(found.dataset.dataset_type)
            return await statistics.of_dataset(session, found.dataset, kind, sample_state)

    @routes.get(_METRICS)
    async def show_metrics(
        dataset_id: str,
        start_time: int = Query(ge=0),
        end_time: int = Query(ge=0),
        workforce_task_id: str | None = None,
        caller: Caller = requires("modelarts:dataset:get", DATASET),
    ) -> Any:
        """How many samples were added and labeled, and by whom, by the hour or day; also of one team labeling task."""
        if end_time < start_time:
            raise Invalid("end_time lies before start_time; both are epoch milliseconds")
        async with platform.database.read() as session:
            found = await service.get(session, caller.project_id, dataset_id)
            if workforce_task_id:
                task = await teams.tasks.get(session, found, workforce_task_id)
                return {"metrics": await progress.metrics(session, task, start_time, end_time)}
            return {"metrics": await statistics.metrics(session, found.dataset, start_time, end_time)}

    return routes
