"""``…/samples/{sample_id}/similar``: the samples most like one."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Query
from sqlmodel import col, select

from bottega.errors import Invalid
from bottega.gateway import Caller, requires
from bottega.platform import Platform
from bottega.routing import Router
from bottega_dataset import counting, previews, samples, similarity, tasks
from bottega_dataset.datasets import Datasets
from bottega_dataset.entities import Sample, Task
from bottega_dataset.kinds import Kinds
from bottega_dataset.sample import BadSample
from bottega_dataset.sample_routes import DATASET, SAMPLES, sample_id_of, shown_samples


def router(platform: Platform, kinds: Kinds) -> APIRouter:
    routes = Router()
    service = Datasets(platform)

    @routes.get(SAMPLES + "/{sample_id}/similar")
    async def similar_samples(
        dataset_id: str,
        sample_id: str,
        limit: int = Query(20, ge=1, le=100),
        preview: bool = False,
        caller: Caller = requires("modelarts:dataset:listSamples", DATASET),
    ) -> Any:
        """The samples most like this one, the most similar first, each with its `similarity` (1 is the same).

        Samples are compared by signatures, which a task makes of those that have none yet: ``compared_sample_count`` of
        ``total_sample_count`` have one, and ``task_id`` names the task while there is one.
        """
        async with platform.database.read() as session:
            found = await service.get(session, caller.project_id, dataset_id)
            dataset, kind = found.dataset, kinds.of(found.dataset.dataset_type)
            similarity.check(kind)
            row = await samples.get(session, dataset, sample_id_of(sample_id))
            assert dataset.key is not None
            total, _ = (await counting.counts(session, [dataset.key]))[dataset.key]
            compared = await similarity.coverage(session, dataset)
            running = [t for t in await tasks.unfinished(session, [dataset_id]) if t.kind == similarity.KIND]
        try:
            bits = await similarity.of_source(platform.objects, row.source)
        except BadSample as e:
            raise Invalid(f"sample {sample_id} cannot be compared: {e}") from e
        if compared < total and not running:
            async with platform.database.transaction() as tx:
                await samples.lock(tx.session, dataset)
                running = [t for t in await tasks.unfinished(tx.session, [dataset_id]) if t.kind == similarity.KIND]
                if not running:
                    task = Task(
                        kind=similarity.KIND,
                        dataset_id=dataset_id,
                        project_id=caller.project_id,
                        user_id=caller.user_id,
                    )
                    running = [await tasks.request(tx, task)]
        async with platform.database.read() as session:
            near = await similarity.nearest(session, dataset, bits, row.key, limit)
            query = select(Sample).where(col(Sample.key).in_([key for key, _ in near]))
            rows = {one.key: one for one in (await session.exec(query)).all()}
            ordered = [(rows[key], likeness) for key, likeness in near if key in rows]
            shown = await shown_samples(platform, session, kind, [one for one, _ in ordered])
        if preview:
            await previews.show(platform.objects, shown, [one for one, _ in ordered])
        return {
            "samples": [one | {"similarity": likeness} for one, (_, likeness) in zip(shown, ordered, strict=True)],
            "compared_sample_count": compared,
            "total_sample_count": total,
            "task_id": running[0].id if running else None,
        }

    return routes
