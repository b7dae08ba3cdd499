"""``…/data-annotations/labels``: create, list, change, delete."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Query

from bottega.database import Transaction
from bottega.errors import Invalid
from bottega.gateway import Caller, Page, paging, requires
from bottega.objects import ObjectPath
from bottega.platform import Platform
from bottega.routing import Router
from bottega.urn import new_id
from bottega_dataset import history, labels, removal, samples, shapes, versions
from bottega_dataset.datasets import Datasets, Found
from bottega_dataset.events import LabelsChanged, SamplesDeleted
from bottega_dataset.extension_points import DatasetType
from bottega_dataset.kinds import Kinds
from bottega_dataset.labeling import Author
from bottega_dataset.removal import Named
from bottega_dataset.requests import LabelBody, LabelList
from bottega_dataset.sample import BadSample
from bottega_dataset.sample_routes import check_deletion

_LABELS = "/v2/{project_id}/datasets/{dataset_id}/data-annotations/labels"
_DATASET = "dataset/{dataset_id}"
_LABEL_ONLY, _WITH_SAMPLES, _WITH_SOURCES = 0, 1, 2


def router(platform: Platform, kinds: Kinds) -> APIRouter:
    routes = Router()
    service = Datasets(platform)

    @routes.post(_LABELS)
    async def create_labels(
        dataset_id: str, body: LabelList, caller: Caller = requires("modelarts:dataset:createLabel", _DATASET)
    ) -> Any:
        async with platform.database.transaction() as tx:
            found = await service.get(tx.session, caller.project_id, dataset_id)
            caller.about(resource=found.resource.urn, name=found.resource.name)
            await add_labels_to(tx, found, body.labels, kinds.of(found.dataset.dataset_type))
        return shapes.batch([None] * len(body.labels))

    @routes.get(_LABELS)
    async def list_labels(
        dataset_id: str,
        version_id: str | None = None,
        page: Page = paging(default=100_000, maximum=100_000),
        caller: Caller = requires("modelarts:dataset:listLabels", _DATASET),
    ) -> Any:
        async with platform.database.read() as session:
            found = await service.get(session, caller.project_id, dataset_id)
            if version_id is None:
                shown = [labels.shape(row) for row in await labels.of_dataset(session, found.dataset)]
            else:
                stats = (await versions.get(session, found.dataset, version_id)).label_stats
                shown = [{k: v for k, v in one.items() if k not in ("count", "sample_count")} for one in stats]
        return {"total_number": len(shown), "labels": shown[page.offset : page.offset + page.limit]}

    @routes.put(_LABELS)
    async def change_labels(
        dataset_id: str, body: LabelList, caller: Caller = requires("modelarts:dataset:updateLabel", _DATASET)
    ) -> Any:
        await _change(caller, dataset_id, body.labels)
        return shapes.batch([None] * len(body.labels))

    @routes.put(_LABELS + "/{label_name}")
    async def change_label(
        dataset_id: str,
        label_name: str,
        body: dict[str, Any],
        label_type: int | None = None,
        caller: Caller = requires("modelarts:dataset:updateLabel", _DATASET),
    ) -> Any:
        await _change(caller, dataset_id, [LabelBody(name=label_name, type=label_type, property=body)])
        return {"success": True}

    @routes.post(_LABELS + "/delete")
    async def delete_labels(
        dataset_id: str,
        body: LabelList,
        delete_policy: int = Query(_LABEL_ONLY, ge=_LABEL_ONLY, le=_WITH_SOURCES),
        caller: Caller = requires("modelarts:dataset:deleteLabel", _DATASET),
    ) -> Any:
        """Policy 0: the labels; 1: also the samples that bear only them; 2: and those samples' objects.

        Taking back the change puts everything back, but for the samples whose objects were deleted.
        """
        change_id = await _remove(caller, dataset_id, [(one.name, one.type) for one in body.labels], delete_policy)
        return shapes.batch([None] * len(body.labels)) | {"change_id": change_id}

    @routes.delete(_LABELS + "/{label_name}")
    async def delete_label_with_samples(
        dataset_id: str,
        label_name: str,
        delete_source: bool = False,
        label_type: int | None = None,
        caller: Caller = requires("modelarts:dataset:deleteLabel", _DATASET, trace="deleteLabelWithSamples"),
    ) -> Any:
        """Delete a label and the samples that bear only it."""
        policy = _WITH_SOURCES if delete_source else _WITH_SAMPLES
        return {"success": True, "change_id": await _remove(caller, dataset_id, [(label_name, label_type)], policy)}

    async def _change(caller: Caller, dataset_id: str, wanted: Sequence[LabelBody]) -> None:
        async with platform.database.transaction() as tx:
            found = await service.get(tx.session, caller.project_id, dataset_id)
            caller.about(resource=found.resource.urn, name=found.resource.name)
            await change_labels_of(tx, found, wanted, caller.principal.user_name)

    async def _remove(caller: Caller, dataset_id: str, names: Sequence[Named], policy: int) -> str:
        if policy != _LABEL_ONLY:
            caller.about(trace="deleteLabelWithSamples")
        if policy == _WITH_SOURCES:
            async with platform.database.read() as session:
                found = await service.get(session, caller.project_id, dataset_id)
                await check_deletion(caller, list(await removal.sources_of_only(session, found.dataset, names)))
        async with platform.database.transaction() as tx:
            found = await service.get(tx.session, caller.project_id, dataset_id)
            caller.about(resource=found.resource.urn, name=found.resource.name)
            user = caller.principal.user_name
            change_id, sources = await remove_labels_of(tx, found, names, user, policy)
        if policy == _WITH_SOURCES:
            await platform.objects.delete([ObjectPath.parse(s) for s in sources if s.startswith("s3://")])
        return change_id

    return routes


async def add_labels_to(tx: Transaction, found: Found, wanted: Sequence[LabelBody], kind: DatasetType) -> None:
    """Raises Invalid for a type of labels the dataset does not have, or one that lacks what its type asks for."""
    for one in wanted:
        try:
            kind.check_label(kind.annotation_of(one.type), one.property)
        except BadSample as e:
            raise Invalid(f"label '{one.name}': {e}") from e
        await labels.add(tx.session, found.dataset, one.name, one.property, one.attributes or (), label_type=one.type)
    if wanted:
        created = [one.name for one in wanted]
        tx.emit(LabelsChanged(dataset_id=found.dataset.id, created=created), found.resource.urn)


async def change_labels_of(tx: Transaction, found: Found, wanted: Sequence[LabelBody], user: str) -> None:
    """Give labels other properties, or names: for every sample at once, and kept in the history as one fact."""
    await samples.lock(tx.session, found.dataset)
    names = {
        one.name: await labels.change(
            tx.session, found.dataset, one.name, one.property, one.attributes, label_type=one.type
        )
        for one in wanted
    }
    renamed = {old: new for old, new in names.items() if old != new}
    if renamed:
        types = {one.name: one.type for one in wanted if one.name in renamed}
        await history.record_rename(tx.session, found.dataset, Author(user), renamed, types)
    event = LabelsChanged(dataset_id=found.dataset.id, renamed=renamed, updated=list(names.values()))
    tx.emit(event, found.resource.urn)


async def remove_labels_of(
    tx: Transaction, found: Found, wanted: Sequence[Named], user: str, policy: int = _LABEL_ONLY
) -> tuple[str, Sequence[str]]:
    """Delete labels, if asked with the samples that bear only these. Returns the change, and these samples' sources."""
    await samples.lock(tx.session, found.dataset)
    names, change_id = [name for name, _ in wanted], new_id()
    how = {"with_samples": policy != _LABEL_ONLY, "with_objects": policy == _WITH_SOURCES}
    removed = await removal.remove_labels(tx.session, found.dataset, wanted, change_id, **how)
    details = {"deleted": names, "deleted_samples": len(removed.sources), "labels": list(removed.labels)}
    author = Author(user, history.DELETED_LABEL)
    await history.record(tx.session, found.dataset, author, removed.changed, details, change_id)
    tx.emit(LabelsChanged(dataset_id=found.dataset.id, deleted=names), found.resource.urn)
    if removed.sources:
        tx.emit(SamplesDeleted(dataset_id=found.dataset.id, count=len(removed.sources)), found.resource.urn)
    return change_id, removed.sources
