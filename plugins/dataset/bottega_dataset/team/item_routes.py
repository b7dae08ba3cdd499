"""``…/workforce-tasks/{workforce_task_id}/data-annotations`` and ``…/acceptance``, for the owner of the dataset."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Query

from bottega.gateway import Caller, Page, paging, requires
from bottega.platform import Platform
from bottega.plugins import Action
from bottega.routing import Router
from bottega_dataset import previews
from bottega_dataset import shapes as dataset_shapes
from bottega_dataset.kinds import Kinds
from bottega_dataset.previews import Resize
from bottega_dataset.query import SampleFilter
from bottega_dataset.sample_routes import sample_id_of
from bottega_dataset.search import from_search
from bottega_dataset.team import acceptance, bodies, items, progress
from bottega_dataset.team.assembly import Teams
from bottega_dataset.team.events import TeamSamplesReviewed
from bottega_dataset.team.items import ItemFilter
from bottega_dataset.team.requests import AcceptanceStatus, Comments, NewAcceptance, TeamSampleLabelsList
from bottega_dataset.team.task_routes import DATASET, GET, ONE

SAMPLES = ONE + "/data-annotations/samples"
_LABEL, _REVIEW = "modelarts:dataset:updateWorkforceTaskSamples", "modelarts:dataset:reviewSamples"
_DRAW, _END = "modelarts:dataset:startWorkforceSamplingTask", "modelarts:dataset:updateWorkforceSamplingTask"
_CHECK = "modelarts:dataset:acceptSamples"

ACTIONS = (
    Action(_LABEL, "Label samples of a team labeling task", "dataset", "updateWorkforceTaskSamples"),
    Action(_REVIEW, "Review what a team labeled", "dataset", "reviewSamples"),
    Action(_DRAW, "Start the acceptance of a team's labels", "dataset", "startWorkforceSamplingTask"),
    Action(_CHECK, "Say of drawn samples whether they pass", "dataset", "acceptSamples"),
    Action(_END, "Approve, reject or cancel an acceptance", "dataset", "updateWorkforceSamplingTask"),
)


def router(platform: Platform, teams: Teams, kinds: Kinds) -> APIRouter:
    routes = Router()
    service, views = teams.tasks, teams.views(kinds)

    @routes.get(SAMPLES)
    async def list_samples(
        dataset_id: str,
        workforce_task_id: str,
        sample_state: str | None = None,
        label_name: str | None = None,
        label_type: int | None = None,
        search_conditions: str | None = None,
        worker_id: str | None = None,
        process_parameter: str | None = None,
        preview: bool = False,
        page: Page = paging(maximum=1000),
        caller: Caller = requires(GET, DATASET),
    ) -> Any:
        """A page of samples with what was said of them; one that several label is there for each of them.

        `process_parameter` (``image/resize,m_lfit,h_200``) makes previews small: at most 100 on a page.
        """
        resize = Resize.of(process_parameter)
        async with teams.reading(caller, dataset_id, workforce_task_id) as (session, found, task):
            workers = await items.worker_keys(session, task, [worker_id] if worker_id else [])
            kind = kinds.of(found.dataset.dataset_type)
            wanted = ItemFilter(
                sample_state,
                label_name,
                workers[worker_id] if worker_id else None,
                None if label_type is None else bodies.annotation_type(kind, label_type),
                from_search(search_conditions, SampleFilter()) if search_conditions else None,
            )
            total, rows = await items.page(session, found.dataset, task, wanted, page.offset, page.limit)
            shown = await views.rows(session, found.dataset, task, rows, private=False)
        if preview or resize:
            await previews.show(platform.objects, shown, [row.sample for row in rows], resize)
        return {"sample_count": total, "samples": shown}

    @routes.get(SAMPLES + "/{sample_id}")
    async def show_sample(
        dataset_id: str,
        workforce_task_id: str,
        sample_id: str,
        worker_id: str | None = None,
        caller: Caller = requires(GET, DATASET),
    ) -> Any:
        """What one worker says of a sample: the first of its annotators where none is named."""
        ident = sample_id_of(sample_id)
        async with teams.reading(caller, dataset_id, workforce_task_id) as (session, found, task):
            workers = await items.worker_keys(session, task, [worker_id] if worker_id else [])
            worker_key = workers[worker_id] if worker_id else None
            rows = await items.of_sample(session, found.dataset, task, ident, worker_key)
            shown = await views.rows(session, found.dataset, task, rows[:1], private=False)
        await previews.show(platform.objects, shown, [rows[0].sample])
        return shown[0]

    @routes.put(SAMPLES)
    async def label_samples(
        dataset_id: str,
        workforce_task_id: str,
        body: TeamSampleLabelsList,
        caller: Caller = requires(_LABEL, DATASET),
    ) -> Any:
        """Set labels in the name of annotators; a sample that cannot be labeled fails alone."""
        async with teams.changing(caller, dataset_id, workforce_task_id) as (tx, found, task):
            by_email = await service.worker_by_email(tx.session, task, body.email) if body.email else None
            workers = await items.worker_keys(
                tx.session, task, [one.worker_id for one in body.samples if one.worker_id]
            )
            kind = kinds.of(found.dataset.dataset_type)
            wanted = [
                bodies.labeling(
                    one, kind, caller.principal.user_name, workers[one.worker_id] if one.worker_id else by_email
                )
                for one in body.samples
            ]
            results = await service.label(tx, found, task, kind, wanted)
        return dataset_shapes.batch(results)

    @routes.get(ONE + "/data-annotations/stats")
    async def statistics(
        dataset_id: str,
        workforce_task_id: str,
        sample_state: str | None = None,
        caller: Caller = requires(GET, DATASET),
    ) -> Any:
        async with teams.reading(caller, dataset_id, workforce_task_id) as (session, found, task):
            return await views.statistics(session, found.dataset, task, ItemFilter(sample_state))

    @routes.get(ONE + "/metrics")
    async def member_progress(dataset_id: str, workforce_task_id: str, caller: Caller = requires(GET, DATASET)) -> Any:
        """How far each member is, by worker id; and how often each gave which label."""
        async with teams.reading(caller, dataset_id, workforce_task_id) as (session, found, task):
            members = (await service.members(session, [task.key]))[task.key or 0]
            stats = await progress.worker_stats(session, [task.key])
            labels = await progress.label_counts(session, found.dataset, task, ItemFilter())
        ids = {person.worker.key or 0: person.worker.id for _, person in members}
        return {
            "sample_stats": {id: stats.get((task.key or 0, key), progress.empty()) for key, id in ids.items()},
            "label_stats": {
                id: {name: count for name, (count, _) in labels.get(key, {}).items()} for key, id in ids.items()
            },
        }

    @routes.post(ONE + "/data-annotations/review")
    async def review_samples(
        dataset_id: str, workforce_task_id: str, body: Comments, caller: Caller = requires(_REVIEW, DATASET)
    ) -> Any:
        """Accept samples or send them back to their annotators; all of them or none."""
        async with teams.changing(caller, dataset_id, workforce_task_id) as (tx, found, task):
            accepted, rejected = await items.review(
                tx.session, found.dataset, task, body.comments, caller.principal.actor, owner=True
            )
            event = TeamSamplesReviewed(dataset_id=dataset_id, task_id=task.id, accepted=accepted, rejected=rejected)
            tx.emit(event, found.resource.urn)
        return {"success": True}

    @routes.post(ONE + "/acceptance", status_code=201)
    async def start_acceptance(
        dataset_id: str, workforce_task_id: str, body: NewAcceptance, caller: Caller = requires(_DRAW, DATASET)
    ) -> Any:
        async with teams.changing(caller, dataset_id, workforce_task_id) as (tx, found, task):
            started = await acceptance.start(tx, found, task, body, caller.principal.actor)
        return {"task_id": started.id}

    @routes.get(ONE + "/acceptance/report")
    async def acceptance_report(
        dataset_id: str,
        workforce_task_id: str,
        checking_task_id: str = Query(),
        caller: Caller = requires(GET, DATASET),
    ) -> Any:
        async with teams.reading(caller, dataset_id, workforce_task_id) as (session, _, task):
            one = await acceptance.get(session, task, checking_task_id)
            return {
                "checking_stats": (await acceptance.counts(session, one)).shape(one.id),
                "total_stats": (await acceptance.history(session, task)).shape(one.id),
            }

    @routes.post(ONE + "/acceptance/batch-comment")
    async def check_samples(
        dataset_id: str, workforce_task_id: str, body: Comments, caller: Caller = requires(_CHECK, DATASET)
    ) -> Any:
        """Say of drawn samples whether they pass; of all of them or none."""
        async with teams.changing(caller, dataset_id, workforce_task_id) as (tx, found, task):
            await acceptance.comment(tx, found, task, body.comments, caller.principal.actor)
        return {"success": True}

    @routes.put(ONE + "/acceptance/status")
    async def end_acceptance(
        dataset_id: str,
        workforce_task_id: str,
        body: AcceptanceStatus,
        locale: str | None = None,
        caller: Caller = requires(_END, DATASET),
    ) -> Any:
        """End the acceptance, or (action 3) list what somebody has labeled in the dataset itself meanwhile."""
        async with teams.changing(caller, dataset_id, workforce_task_id) as (tx, found, task):
            if body.action == acceptance.CONFLICTS:
                rows = await acceptance.conflicts(tx.session, found, task)
                shown = await views.rows(tx.session, found.dataset, task, rows, private=False)
                return {"sample_count": len(rows), "samples": shown}
            done = await acceptance.finish(tx, found, task, body.action, body.overwrite_last_result, caller.user_id)
        return {"sample_count": done.counts["passed"], "samples": []}

    return routes
