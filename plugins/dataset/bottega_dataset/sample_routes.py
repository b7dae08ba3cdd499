"""``…/data-annotations/samples``: list, show, delete; and the conditions there are to search by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from fastapi import APIRouter, Query

from bottega.database import AsyncSession
from bottega.errors import ApiError, Conflict, Forbidden, Invalid, NotFound
from bottega.gateway import Caller, Page, paging, requires
from bottega.objects import ObjectPath
from bottega.platform import Platform
from bottega.routing import Router
from bottega.urn import new_id
from bottega_dataset import history, labels, pages, previews, removal, samples, shapes, statistics, versions
from bottega_dataset.comparing import page_of, row_of
from bottega_dataset.datasets import Datasets
from bottega_dataset.entities import Dataset, Sample, SavedFilter
from bottega_dataset.events import SamplesDeleted
from bottega_dataset.extension_points import DatasetType
from bottega_dataset.kinds import Kinds
from bottega_dataset.labeling import Author
from bottega_dataset.previews import Resize
from bottega_dataset.query import SampleFilter, span
from bottega_dataset.requests import SampleChoice, SampleDeletion
from bottega_dataset.search import alternatives, from_search, narrowed
from bottega_dataset.team import on_samples

ANNOTATIONS = "/v2/{project_id}/datasets/{dataset_id}/data-annotations"
SAMPLES = ANNOTATIONS + "/samples"
DATASET = "dataset/{dataset_id}"
_LIST = "modelarts:dataset:listSamples"


def router(platform: Platform, kinds: Kinds) -> APIRouter:
    routes = Router()
    service = Datasets(platform)

    @routes.get(SAMPLES)
    async def list_samples(
        dataset_id: str,
        sample_state: str | None = None,
        label_name: str | None = None,
        label_type: int | None = None,
        sample_type: int | None = None,
        low_score: float | None = Query(None, ge=0, le=1),
        high_score: float | None = Query(None, ge=0, le=1),
        search_conditions: str | None = None,
        order: Literal["asc", "desc"] = "desc",
        preview: bool = False,
        process_parameter: str | None = None,
        version_id: str | None = None,
        after_sample_id: str | None = None,
        cursor: str | None = None,
        filter_id: str | None = None,
        count: pages.Count | None = None,
        page: Page = paging(maximum=1000),
        caller: Caller = requires(_LIST, DATASET),
    ) -> Any:
        """A page of samples, in the order they were added.

        `cursor` (the last answer's ``next_cursor``) or `after_sample_id` continues behind a sample, which stays fast
        through millions where `offset` does not. ``sample_count`` is exact up to 10,000 matches and says at least how
        many there are beyond (``sample_count_exact``); `count` ``exact`` counts all, ``none`` (with a cursor) none.
        `process_parameter` (``image/resize,m_lfit,h_200``) makes previews small: at most 100 on a page.
        """
        resize = Resize.of(process_parameter)
        preview = preview or resize is not None
        base = SampleFilter(
            state=sample_state, labels=(label_name,) if label_name else (), low=low_score, high=high_score
        )
        wanted = from_search(search_conditions, base)
        descending = order == "desc"
        if version_id is not None:
            if search_conditions or base != SampleFilter() or cursor or after_sample_id:
                raise Invalid("the samples of a version are listed by offset and limit; filters are for the dataset")
            return await _of_version(dataset_id, version_id, caller, page, descending, preview, resize)
        async with platform.database.read() as session:
            found = await service.get(session, caller.project_id, dataset_id)
            dataset, kind = found.dataset, kinds.of(found.dataset.dataset_type)
            if label_type not in (None, kind.code) or sample_type not in (None, kind.sample_type):
                return {"samples": [], "next_cursor": None, "sample_count": 0, "sample_count_exact": True}
            if filter_id:
                wanted = applied(await saved_filter(session, dataset, filter_id), wanted)
            after = _key_of(dataset, cursor) if cursor else None
            if after_sample_id:
                after = (await samples.get(session, dataset, sample_id_of(after_sample_id))).key
            result = await pages.find(
                session,
                dataset,
                wanted,
                offset=page.offset,
                limit=page.limit,
                descending=descending,
                after=after,
                count=count or ("none" if cursor else "bounded"),
            )
            shown = await shown_samples(platform, session, kind, result.samples)
        if preview:
            await previews.show(platform.objects, shown, result.samples, resize)
        full = len(result.samples) == page.limit
        answer: dict[str, Any] = {
            "samples": shown,
            "next_cursor": _cursor_of(dataset, result.samples[-1]) if full else None,
        }
        if result.total is not None:
            answer |= {"sample_count": result.total, "sample_count_exact": result.exact}
        return answer

    async def _of_version(
        dataset_id: str,
        version_id: str,
        caller: Caller,
        page: Page,
        descending: bool,
        preview: bool,
        resize: Resize | None,
    ) -> Any:
        """A page of the samples as they were published, out of the version's manifest."""
        async with platform.database.read() as session:
            found = await service.get(session, caller.project_id, dataset_id)
            version = await versions.get(session, found.dataset, version_id)
        if not version.manifest_sha256:
            raise Conflict(f"version '{version.name}' is not published")
        kind, total = kinds.of(found.dataset.dataset_type), version.total_samples
        offset = max(0, total - page.offset - page.limit) if descending else page.offset
        limit = min(page.limit, max(0, total - page.offset))
        records = await page_of(platform.objects, kind, version, offset, limit)
        rows = [(row_of(record, version.created_at), record) for record in records]
        shown = [shapes.sample(row, record.annotations, kind) for row, record in rows]
        if preview:
            mine = [index for index, (row, _) in enumerate(rows) if await _may_see(caller, row)]
            await previews.show(platform.objects, [shown[i] for i in mine], [rows[i][0] for i in mine], resize)
        return {"sample_count": total, "sample_count_exact": True, "samples": shown[::-1] if descending else shown}

    @routes.get(SAMPLES + "/{sample_id}")
    async def show_sample(dataset_id: str, sample_id: str, caller: Caller = requires(_LIST, DATASET)) -> Any:
        async with platform.database.read() as session:
            found = await service.get(session, caller.project_id, dataset_id)
            kind = kinds.of(found.dataset.dataset_type)
            row = await samples.get(session, found.dataset, sample_id_of(sample_id))
            shown = await shown_samples(platform, session, kind, [row])
        await previews.show(platform.objects, shown, [row])
        return shown[0]

    @routes.get(ANNOTATIONS + "/search-condition")
    async def search_condition(dataset_id: str, caller: Caller = requires(_LIST, DATASET)) -> Any:
        """What there is to search by: labels, who labeled, properties of samples and their values, suffixes, usages."""
        async with platform.database.read() as session:
            found = await service.get(session, caller.project_id, dataset_id)
            rows = await labels.of_dataset(session, found.dataset)
            there = await statistics.to_search_by(session, found.dataset)
        return {"labels": [labels.shape(row) for row in rows], **there}

    @routes.post(SAMPLES + "/delete")
    async def delete_samples(
        dataset_id: str,
        body: SampleDeletion,
        caller: Caller = requires("modelarts:dataset:deleteSamples", DATASET),
    ) -> Any:
        """Take samples out of the dataset: those named, or all that pass `search_conditions` (one of them).

        With `delete_source` their objects are deleted too; a text file stays, as other samples lie in it. Without, they
        are kept aside, and taking back the change (`change_id`) puts them back as they were.
        """
        async with platform.database.read() as session:
            found = await service.get(session, caller.project_id, dataset_id)
            caller.about(resource=found.resource.urn, name=found.resource.name)
            ids = await chosen_ids(session, found.dataset, body)
            if body.delete_source:
                await check_deletion(caller, await removal.sources(session, found.dataset, ids))
        async with platform.database.transaction() as tx:
            change_id = None if body.delete_source else new_id()
            missing, sources = await removal.remove(tx.session, found.dataset, ids, change_id)
            if sources:
                author = Author(caller.principal.user_name, history.DELETED_SAMPLES)
                details = {"deleted_samples": len(sources), "with_objects": body.delete_source}
                fact = await history.record(tx.session, found.dataset, author, len(sources), details, change_id)
                change_id = fact.id
            tx.emit(SamplesDeleted(dataset_id=dataset_id, count=len(sources)), found.resource.urn)
        if body.delete_source:
            await platform.objects.delete([ObjectPath.parse(s) for s in sources if s.startswith("s3://")])
        named = ids if body.samples else []
        answer = shapes.batch([missing_sample(one) if one in missing else None for one in named])
        return answer | {"deleted_sample_count": len(sources), "change_id": change_id if sources else None}

    return routes


async def saved_filter(session: AsyncSession, dataset: Dataset, filter_id: str) -> SavedFilter:
    """Raises NotFound."""
    row = await session.get(SavedFilter, filter_id)
    if row is None or row.dataset_key != dataset.key:
        raise NotFound(f"the dataset has no filter '{filter_id}'")
    return row


def applied(saved: SavedFilter, base: SampleFilter) -> SampleFilter:
    """`base`, narrowed by all that a saved filter asks."""
    for one in saved.conditions:
        base = narrowed(base, one)
    return replace(base, state=saved.sample_state) if saved.sample_state else base


async def wanted_by(session: AsyncSession, dataset: Dataset, body: SampleChoice) -> list[SampleFilter]:
    """The filters of which one must hold. Raises Invalid when the body names samples as well, or nothing at all."""
    by_filter = body.search_conditions is not None or bool(body.sample_state) or body.filter_id is not None
    if bool(body.samples) == by_filter:
        raise Invalid("name either samples, or search_conditions, a sample_state or a filter_id that all are to fit")
    base = SampleFilter(state=body.sample_state)
    if body.filter_id:
        base = applied(await saved_filter(session, dataset, body.filter_id), base)
    return alternatives(body.search_conditions or [], base)


async def chosen_ids(session: AsyncSession, dataset: Dataset, body: SampleDeletion) -> list[bytes]:
    """The samples a body names, or those its conditions fit. Raises Invalid unless it does one of these."""
    wanted = await wanted_by(session, dataset, body)
    if body.samples:
        return [sample_id_of(text) for text in dict.fromkeys(body.samples)]
    keys = await pages.matching(session, dataset, wanted, MOST + 1)
    if len(keys) > MOST:
        raise Invalid(f"more than {MOST:,} samples fit; delete fewer at once")
    return await samples.ids_of(session, keys)


MOST = 100_000
"""Samples one call may take out: they go together or not at all, and others wait meanwhile."""


async def check_deletion(caller: Caller, sources: list[str]) -> None:
    """Raises Forbidden unless the caller may delete the objects."""
    for source in sources:
        if source.startswith("s3://"):
            path = ObjectPath.parse(source)
            await caller.check_path(path, write=True)
            await caller.check("obs:object:DeleteObject", path.urn)


async def shown_samples(
    platform: Platform, session: AsyncSession, kind: DatasetType, rows: Sequence[Sample]
) -> list[dict[str, Any]]:
    """Samples as the API shows them, with their annotations."""
    annotations = await samples.annotations_of(session, [row.key for row in rows], kind.annotation_type)
    by_teams = await on_samples.of_samples(platform, session, [row.key for row in rows])
    return [shapes.sample(row, annotations[row.key], kind) | by_teams.get(row.key, {}) for row in rows]


async def _may_see(caller: Caller, row: Sample) -> bool:
    """Whether the caller may read the object: what a manifest in a bucket of the user's names may be anybody's."""
    path = previews.object_of(row.source)
    if path is None:
        return False
    try:
        await caller.check_path(path)
    except Forbidden:
        return False
    return True


def sample_id_of(text: str) -> bytes:
    """Raises Invalid."""
    try:
        ident = bytes.fromhex(text)
    except ValueError:
        ident = b""
    if len(ident) != 16:
        raise Invalid(f"sample id '{text}' must be 32 hexadecimal digits")
    return ident


def missing_sample(sample_id: bytes) -> ApiError:
    return NotFound(f"the dataset has no sample '{sample_id.hex()}'")


def _cursor_of(dataset: Dataset, row: Sample) -> str:
    return f"{row.key - span(dataset)[0]:x}"


def _key_of(dataset: Dataset, cursor: str) -> int:
    first, last = span(dataset)
    try:
        key = first + int(cursor, 16)
    except ValueError:
        key = -1
    if not first <= key <= last:
        raise Invalid(f"cursor '{cursor}' is not one that a list of samples gave")
    return key
