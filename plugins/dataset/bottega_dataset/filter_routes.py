"""``…/data-annotations/filters``: filters of samples with names."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response
from sqlmodel import col, select

from bottega.context import now_ms
from bottega.database import AsyncSession
from bottega.errors import Conflict
from bottega.gateway import Caller, Page, paging, requires
from bottega.platform import Platform
from bottega.routing import Router
from bottega_dataset import samples, shapes
from bottega_dataset.datasets import Datasets
from bottega_dataset.entities import Dataset, SavedFilter
from bottega_dataset.kinds import Kinds
from bottega_dataset.query import SampleFilter
from bottega_dataset.requests import FilterBody
from bottega_dataset.sample_routes import ANNOTATIONS, DATASET, saved_filter
from bottega_dataset.search import narrowed

_FILTERS = ANNOTATIONS + "/filters"
_SEE, _CHANGE = "modelarts:dataset:listSamples", "modelarts:dataset:update"


def router(platform: Platform, kinds: Kinds) -> APIRouter:
    routes = Router()
    service = Datasets(platform)

    @routes.post(_FILTERS, status_code=201)
    async def save_filter(dataset_id: str, body: FilterBody, caller: Caller = requires(_CHANGE, DATASET)) -> Any:
        """Give conditions, which must all hold, a name; `filter_id` in the list of samples asks for them."""
        _check(body)
        async with platform.database.transaction() as tx:
            found = await service.get(tx.session, caller.project_id, dataset_id)
            caller.about(resource=found.resource.urn, name=found.resource.name)
            await samples.lock(tx.session, found.dataset)
            await _check_name(tx.session, found.dataset, body.name)
            assert found.dataset.key is not None
            row = SavedFilter(
                dataset_key=found.dataset.key,
                name=body.name,
                sample_state=body.sample_state,
                conditions=body.search_conditions,
                created_by=caller.principal.user_name,
            )
            tx.session.add(row)
            await tx.session.flush()
            return shapes.saved_filter(row)

    @routes.get(_FILTERS)
    async def list_filters(
        dataset_id: str, page: Page = paging(default=100), caller: Caller = requires(_SEE, DATASET)
    ) -> Any:
        async with platform.database.read() as session:
            found = await service.get(session, caller.project_id, dataset_id)
            query = select(SavedFilter).where(SavedFilter.dataset_key == found.dataset.key)
            rows = (await session.exec(query.order_by(col(SavedFilter.name)))).all()
        some = rows[page.offset : page.offset + page.limit]
        return {"total_count": len(rows), "filters": [shapes.saved_filter(row) for row in some]}

    @routes.get(_FILTERS + "/{filter_id}")
    async def show_filter(dataset_id: str, filter_id: str, caller: Caller = requires(_SEE, DATASET)) -> Any:
        async with platform.database.read() as session:
            found = await service.get(session, caller.project_id, dataset_id)
            return shapes.saved_filter(await saved_filter(session, found.dataset, filter_id))

    @routes.put(_FILTERS + "/{filter_id}")
    async def change_filter(
        dataset_id: str, filter_id: str, body: FilterBody, caller: Caller = requires(_CHANGE, DATASET)
    ) -> Any:
        _check(body)
        async with platform.database.transaction() as tx:
            found = await service.get(tx.session, caller.project_id, dataset_id)
            await samples.lock(tx.session, found.dataset)
            row = await saved_filter(tx.session, found.dataset, filter_id)
            if row.name != body.name:
                await _check_name(tx.session, found.dataset, body.name)
            row.name, row.sample_state, row.conditions = body.name, body.sample_state, body.search_conditions
            row.updated_at = now_ms()
            tx.session.add(row)
            return shapes.saved_filter(row)

    @routes.delete(_FILTERS + "/{filter_id}", status_code=204, response_class=Response)
    async def delete_filter(dataset_id: str, filter_id: str, caller: Caller = requires(_CHANGE, DATASET)) -> None:
        async with platform.database.transaction() as tx:
            found = await service.get(tx.session, caller.project_id, dataset_id)
            await tx.session.delete(await saved_filter(tx.session, found.dataset, filter_id))

    return routes


def _check(body: FilterBody) -> None:
    """Raises Invalid for conditions that cannot be asked."""
    wanted = SampleFilter(state=body.sample_state)
    for one in body.search_conditions:
        wanted = narrowed(wanted, one)


async def _check_name(session: AsyncSession, dataset: Dataset, name: str) -> None:
    query = select(SavedFilter.id).where(SavedFilter.dataset_key == dataset.key, SavedFilter.name == name)
    if (await session.exec(query)).first():
        raise Conflict(f"the dataset has a filter '{name}' already")
