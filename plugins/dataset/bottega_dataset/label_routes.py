"""``…/data-annotations/labels``: create, list, change, delete; and ``…/data-annotations/stats``."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Query

from bottega.gateway import Caller, Page, paging, requires
from bottega.objects import ObjectPath
from bottega.platform import Platform
from bottega_dataset import labels, samples, shapes
from bottega_dataset.datasets import Datasets, Found
from bottega_dataset.entities import Dataset
from bottega_dataset.events import LabelsChanged, SamplesDeleted
from bottega_dataset.kinds import Kinds
from bottega_dataset.requests import LabelList

_LABELS = "/v2/{project_id}/datasets/{dataset_id}/data-annotations/labels"
_DATASET = "dataset/{dataset_id}"
_LABEL_ONLY, _WITH_SAMPLES, _WITH_SOURCES = 0, 1, 2


def router(platform: Platform, kinds: Kinds) -> APIRouter:
    routes = APIRouter()
    service = Datasets(platform)

    @routes.post(_LABELS)
    async def create_labels(
        dataset_id: str, body: LabelList, caller: Caller = requires("modelarts:dataset:createLabel", _DATASET)
    ) -> Any:
        async with platform.database.transaction() as tx:
            found = await service.get(tx.session, caller.project_id, dataset_id)
            caller.about(resource=found.resource.urn, name=found.resource.name)
            for one in body.labels:
                await labels.add(tx.session, found.dataset, one.name, one.property, one.attributes)
            created = [one.name for one in body.labels]
            tx.emit(LabelsChanged(dataset_id=dataset_id, created=created), found.resource.urn)
        return shapes.batch([None] * len(body.labels))

    @routes.get(_LABELS)
    async def list_labels(
        dataset_id: str,
        page: Page = paging(default=100_000, maximum=100_000),
        caller: Caller = requires("modelarts:dataset:listLabels", _DATASET),
    ) -> Any:
        async with platform.database.read() as session:
            found = await service.get(session, caller.project_id, dataset_id)
            rows = await labels.of_dataset(session, found.dataset)
        some = rows[page.offset : page.offset + page.limit]
        return {"total_number": len(rows), "labels": [labels.shape(row) for row in some]}

    @routes.put(_LABELS)
    async def change_labels(
        dataset_id: str, body: LabelList, caller: Caller = requires("modelarts:dataset:updateLabel", _DATASET)
    ) -> Any:
        await _change(caller, dataset_id, {one.name: one.property for one in body.labels})
        return shapes.batch([None] * len(body.labels))

    @routes.put(_LABELS + "/{label_name}")
    async def change_label(
        dataset_id: str,
        label_name: str,
        body: dict[str, Any],
        caller: Caller = requires("modelarts:dataset:updateLabel", _DATASET),
    ) -> Any:
        await _change(caller, dataset_id, {label_name: body})
        return {"success": True}

    @routes.post(_LABELS + "/delete")
    async def delete_labels(
        dataset_id: str,
        body: LabelList,
        delete_policy: int = Query(_LABEL_ONLY, ge=_LABEL_ONLY, le=_WITH_SOURCES),
        caller: Caller = requires("modelarts:dataset:deleteLabel", _DATASET),
    ) -> Any:
        """Policy 0: the labels; 1: also the samples that bear only them; 2: and those samples' objects."""
        await _remove(caller, dataset_id, [one.name for one in body.labels], delete_policy)
        return shapes.batch([None] * len(body.labels))

    @routes.delete(_LABELS + "/{label_name}")
    async def delete_label_with_samples(
        dataset_id: str,
        label_name: str,
        delete_source: bool = False,
        caller: Caller = requires("modelarts:dataset:deleteLabel", _DATASET, trace="deleteLabelWithSamples"),
    ) -> Any:
        """Delete a label and the samples that bear only it."""
        await _remove(caller, dataset_id, [label_name], _WITH_SOURCES if delete_source else _WITH_SAMPLES)
        return {"success": True}

    @routes.get("/v2/{project_id}/datasets/{dataset_id}/data-annotations/stats")
    async def statistics(dataset_id: str, caller: Caller = requires("modelarts:dataset:listLabels", _DATASET)) -> Any:
        async with platform.database.read() as session:
            found = await service.get(session, caller.project_id, dataset_id)
            label_stats = await labels.counts(session, found.dataset)
            total, labeled = (await samples.counts(session, [_key(found.dataset)]))[_key(found.dataset)]
        return {
            "label_stats": label_stats,
            "grouped_label_stats": {str(found.dataset.dataset_type): label_stats},
            "sample_stats": {
                "all": total,
                "total": total,
                "manual_annotation": labeled,
                "un_annotation": total - labeled,
            },
            "data_path": shapes.vendor_path(found.dataset.data_path),
            "data_spliting_enable": any(one["sample_count"] > 1 for one in label_stats),
        }

    async def _change(caller: Caller, dataset_id: str, wanted: dict[str, dict[str, Any]]) -> None:
        async with platform.database.transaction() as tx:
            found = await service.get(tx.session, caller.project_id, dataset_id)
            caller.about(resource=found.resource.urn, name=found.resource.name)
            names = {old: await labels.change(tx.session, found.dataset, old, new) for old, new in wanted.items()}
            renamed = {old: new for old, new in names.items() if old != new}
            event = LabelsChanged(dataset_id=dataset_id, renamed=renamed, updated=list(names.values()))
            tx.emit(event, found.resource.urn)

    async def _remove(caller: Caller, dataset_id: str, names: list[str], policy: int) -> None:
        if policy != _LABEL_ONLY:
            caller.about(trace="deleteLabelWithSamples")
        if policy == _WITH_SOURCES:
            await _check_sources(caller, dataset_id, names)
        async with platform.database.transaction() as tx:
            found = await service.get(tx.session, caller.project_id, dataset_id)
            caller.about(resource=found.resource.urn, name=found.resource.name)
            sources = await labels.remove(tx.session, found.dataset, names, with_samples=policy != _LABEL_ONLY)
            tx.emit(LabelsChanged(dataset_id=dataset_id, deleted=names), found.resource.urn)
            if sources:
                tx.emit(SamplesDeleted(dataset_id=dataset_id, count=len(sources)), found.resource.urn)
        if policy == _WITH_SOURCES:
            await platform.objects.delete([ObjectPath.parse(s) for s in sources if s.startswith("s3://")])

    async def _check_sources(caller: Caller, dataset_id: str, names: list[str]) -> None:
        async with platform.database.read() as session:
            found: Found = await service.get(session, caller.project_id, dataset_id)
            for source in await labels.sources_of_only(session, found.dataset, names):
                if source.startswith("s3://"):
                    path = ObjectPath.parse(source)
                    await caller.check_path(path, write=True)
                    await caller.check("obs:object:DeleteObject", path.urn)

    return routes


def _key(dataset: Dataset) -> int:
    assert dataset.key is not None
    return dataset.key
