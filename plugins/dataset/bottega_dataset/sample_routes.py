"""``…/data-annotations/samples``: list, show, label one and many, delete."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Query

from bottega.context import now_ms
from bottega.errors import ApiError, Invalid, NotFound
from bottega.gateway import Caller, Page, paging, requires
from bottega.objects import ObjectPath
from bottega.platform import Platform
from bottega_dataset import samples, shapes
from bottega_dataset.datasets import Datasets
from bottega_dataset.entities import Sample
from bottega_dataset.events import LabelsChanged, SamplesDeleted, SamplesLabeled
from bottega_dataset.extension_points import DatasetType
from bottega_dataset.kinds import Kinds
from bottega_dataset.query import SampleFilter, from_search
from bottega_dataset.requests import SampleDeletion, SampleLabelBody, SampleLabelsBody, SampleLabelsList
from bottega_dataset.sample import HUMAN, Annotation, BadSample

_SAMPLES = "/v2/{project_id}/datasets/{dataset_id}/data-annotations/samples"
_DATASET = "dataset/{dataset_id}"
_PREVIEW_S = 900


def router(platform: Platform, kinds: Kinds) -> APIRouter:
    routes = APIRouter()
    service = Datasets(platform)

    @routes.get(_SAMPLES)
    async def list_samples(
        dataset_id: str,
        sample_state: str | None = None,
        label_name: str | None = None,
        low_score: float | None = Query(None, ge=0, le=1),
        high_score: float | None = Query(None, ge=0, le=1),
        search_conditions: str | None = None,
        order: Literal["asc", "desc"] = "desc",
        preview: bool = False,
        version_id: str | None = None,
        after_sample_id: str | None = None,
        page: Page = paging(maximum=1000),
        caller: Caller = requires("modelarts:dataset:listSamples", _DATASET),
    ) -> Any:
        """A page of samples, in the order they were added.

        `after_sample_id` continues behind a sample, which stays fast through millions where `offset` does not.
        """
        if version_id is not None:
            raise Invalid("the samples of a version are in its manifest; list versions for its manifest_path")
        base = SampleFilter(
            state=sample_state, labels=(label_name,) if label_name else (), low=low_score, high=high_score
        )
        wanted = from_search(search_conditions, base)
        async with platform.database.read() as session:
            found = await service.get(session, caller.project_id, dataset_id)
            kind = kinds.of(found.dataset.dataset_type)
            total, rows = await samples.page(
                session,
                found.dataset,
                wanted,
                offset=page.offset,
                limit=page.limit,
                descending=order == "desc",
                after=_id(after_sample_id) if after_sample_id else None,
            )
            annotations = await samples.annotations_of(session, [row.key for row in rows], kind.annotation_type)
        shown = [shapes.sample(row, annotations[row.key], kind, _preview(row) if preview else None) for row in rows]
        return {"sample_count": total, "samples": shown}

    @routes.get(_SAMPLES + "/{sample_id}")
    async def show_sample(
        dataset_id: str, sample_id: str, caller: Caller = requires("modelarts:dataset:listSamples", _DATASET)
    ) -> Any:
        async with platform.database.read() as session:
            found = await service.get(session, caller.project_id, dataset_id)
            kind = kinds.of(found.dataset.dataset_type)
            row = await samples.get(session, found.dataset, _id(sample_id))
            annotations = await samples.annotations_of(session, [row.key], kind.annotation_type)
        return shapes.sample(row, annotations[row.key], kind, _preview(row))

    @routes.put(_SAMPLES)
    async def label_samples(
        dataset_id: str,
        body: SampleLabelsList,
        caller: Caller = requires("modelarts:dataset:updateSamples", _DATASET),
    ) -> Any:
        """Set the labels of samples; none removes them. A label the dataset does not have yet is added to it.

        A label that breaks the rules refuses the whole request; a sample that does not exist fails alone.
        """
        async with platform.database.read() as session:
            found = await service.get(session, caller.project_id, dataset_id)
        caller.about(resource=found.resource.urn, name=found.resource.name)
        kind = kinds.of(found.dataset.dataset_type)
        changes = [_change(one, kind, caller.principal.user_name) for one in body.samples]
        async with platform.database.transaction() as tx:
            missing, new_labels = await samples.change(tx.session, found.dataset, kind, changes)
            done = len(changes) - len(missing)
            tx.emit(SamplesLabeled(dataset_id=dataset_id, count=done), found.resource.urn)
            if new_labels:
                tx.emit(LabelsChanged(dataset_id=dataset_id, created=new_labels), found.resource.urn)
        return shapes.batch([_missing(one.sample_id) if one.sample_id in missing else None for one in changes])

    @routes.post(_SAMPLES + "/delete")
    async def delete_samples(
        dataset_id: str,
        body: SampleDeletion,
        caller: Caller = requires("modelarts:dataset:deleteSamples", _DATASET),
    ) -> Any:
        """Take samples out of the dataset; with `delete_source` their objects are deleted too."""
        ids = [_id(text) for text in dict.fromkeys(body.samples)]
        async with platform.database.read() as session:
            found = await service.get(session, caller.project_id, dataset_id)
            caller.about(resource=found.resource.urn, name=found.resource.name)
            if body.delete_source:
                for source in await samples.sources(session, found.dataset, ids):
                    if source.startswith("s3://"):
                        path = ObjectPath.parse(source)
                        await caller.check_path(path, write=True)
                        await caller.check("obs:object:DeleteObject", path.urn)
        async with platform.database.transaction() as tx:
            missing, sources = await samples.remove(tx.session, found.dataset, ids)
            tx.emit(SamplesDeleted(dataset_id=dataset_id, count=len(sources)), found.resource.urn)
        if body.delete_source:
            await platform.objects.delete([ObjectPath.parse(s) for s in sources if s.startswith("s3://")])
        return shapes.batch([_missing(one) if one in missing else None for one in ids])

    def _preview(row: Sample) -> str | None:
        path = shapes.preview_path(row)
        return platform.objects.presign("GET", path, _PREVIEW_S) if path else None

    return routes


def _change(one: SampleLabelsBody, kind: DatasetType, user_name: str) -> samples.Change:
    """Raises Invalid, naming the sample, for labels of a type the dataset does not have."""
    try:
        annotations = [_annotation(label, kind, user_name) for label in one.labels or ()]
    except BadSample as e:
        raise Invalid(f"sample {one.sample_id}: {e}") from e
    hard = (one.metadata or {}).get(shapes.HARD)
    return samples.Change(
        sample_id=_id(one.sample_id),
        annotations=annotations,
        usage=one.sample_usage,
        hard=None if hard is None else str(hard) not in ("0", "0.0", "false", "False"),
    )


def _annotation(label: SampleLabelBody, kind: DatasetType, user_name: str) -> Annotation:
    prop = dict(label.property)
    hard = prop.pop(shapes.HARD, None)
    return Annotation(
        type=kind.annotation_of(label.type),
        name=label.name,
        property=prop or None,
        hard=None if hard is None else str(hard).lower() in ("1", "true"),
        annotated_by=label.annotated_by or f"{HUMAN}/{user_name}",
        created_at=now_ms() // 1000 * 1000,
        confidence=label.score,
        id=label.id,
    )


def _id(text: str) -> bytes:
    try:
        ident = bytes.fromhex(text)
    except ValueError:
        ident = b""
    if len(ident) != 16:
        raise Invalid(f"sample id '{text}' must be 32 hexadecimal digits")
    return ident


def _missing(sample_id: bytes) -> ApiError:
    return NotFound(f"the dataset has no sample '{sample_id.hex()}'")
