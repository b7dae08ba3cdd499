"""``…/tasks``: start, list, follow, stop intelligent tasks; their groups. ``…/auto-annotations/samples``: decide."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any, Literal

from fastapi import APIRouter, Query

from bottega.database import AsyncSession, Transaction
from bottega.errors import ApiError, Invalid, NotFound, NotSupported
from bottega.gateway import Caller, Page, paging, requires
from bottega.platform import Platform
from bottega.routing import Router
from bottega_dataset import labeling, previews, samples, statistics, tasks
from bottega_dataset import shapes as dataset_shapes
from bottega_dataset.datasets import Datasets, Found
from bottega_dataset.entities import Dataset, Task
from bottega_dataset.events import LabelsChanged, SamplesLabeled
from bottega_dataset.extension_points import DatasetType
from bottega_dataset.intelligent import groups, shapes, suggestions
from bottega_dataset.intelligent.planner import LIST, START, STOP, TASK_TYPES, IntelligentPlanner
from bottega_dataset.intelligent.requests import DEPLOY, Decision, GroupLabels, NewTask, TaskType
from bottega_dataset.intelligent.suggestions import SortBy, Wanted
from bottega_dataset.intelligent.work import IntelligentTasks
from bottega_dataset.kinds import Kinds
from bottega_dataset.labeling import Author, Edit, Outcome
from bottega_dataset.labeling_routes import annotation_of
from bottega_dataset.previews import Resize
from bottega_dataset.query import SampleFilter
from bottega_dataset.requests import SampleLabelBody
from bottega_dataset.sample import Annotation, BadSample
from bottega_dataset.sample_routes import sample_id_of, shown_samples
from bottega_dataset.search import from_search, narrowed
from bottega_dataset.team import on_samples

_DATASET = "dataset/{dataset_id}"
_TASKS = "/v2/{project_id}/datasets/{dataset_id}/tasks"
_SUGGESTED = "/v2/{project_id}/datasets/{dataset_id}/auto-annotations/samples"
_SEE, _LABEL = "modelarts:dataset:listSamples", "modelarts:dataset:updateSamples"
_TRACES = {"auto-grouping": "createAutoGroupingTask", DEPLOY: "createAutoDeployTask"}
_LOG_TAIL = 2000


def router(platform: Platform, kinds: Kinds) -> APIRouter:
    routes = Router()
    service = Datasets(platform)
    intelligent = IntelligentTasks(platform, kinds)
    planner = IntelligentPlanner(platform, kinds)

    @routes.post(_TASKS, status_code=201)
    async def start_task(
        dataset_id: str, body: NewTask, caller: Caller = requires(START, _DATASET, spends=True)
    ) -> Any:
        """Start automatic labeling (``auto-label``), labeling by a model of one's own (``pre-label``), or grouping.

        Learning needs 2 labels with 5 samples each and unlabeled samples; one task works on a dataset at a time.
        """
        async with platform.database.read() as session:
            found = await service.get(session, caller.project_id, dataset_id)
        caller.about(resource=found.resource.urn, name=found.resource.name, trace=_TRACES.get(body.task_type))
        if body.task_type == DEPLOY:
            raise NotSupported(
                "auto-deploy has no operation in the reference; label with auto-label, then train on a version, "
                "import the model, and create a service of it"
            )
        task = await intelligent.start(caller, found, body, await planner.foresee(caller, body))
        return {"task_id": task.id}

    @routes.get(_TASKS)
    async def list_tasks(
        dataset_id: str,
        type: TaskType | None = None,
        task_name: str | None = None,
        page: Page = paging(maximum=100),
        caller: Caller = requires(LIST, _DATASET),
    ) -> Any:
        """The intelligent tasks of a dataset, the newest first; without `type` those that label."""
        wanted = (type,) if type else ("auto-label", "pre-label")
        async with platform.database.read() as session:
            found = await service.get(session, caller.project_id, dataset_id)
            total, rows = await intelligent.listing(session, dataset_id, wanted, task_name, page.offset, page.limit)
            waiting = await _waiting(session, found.dataset)
            newest = await suggestions.newest_task(session, found.dataset)
        shown = [shapes.task(row, log=await _log(row), unconfirmed=waiting if row.id == newest else 0) for row in rows]
        return {"total_count": total, "tasks": shown, "exist_running_deploy_task": False}

    @routes.get(_TASKS + "/{task_id}")
    async def show_task(dataset_id: str, task_id: str, caller: Caller = requires(LIST, _DATASET)) -> Any:
        async with platform.database.read() as session:
            found = await service.get(session, caller.project_id, dataset_id)
            task = await _task(session, dataset_id, task_id)
            waiting = await _waiting(session, found.dataset)
            newest = await suggestions.newest_task(session, found.dataset)
        return shapes.task(task, log=await _log(task), unconfirmed=waiting if task.id == newest else 0)

    @routes.post(_TASKS + "/{task_id}/stop")
    async def stop_task(dataset_id: str, task_id: str, caller: Caller = requires(STOP, _DATASET)) -> Any:
        """Stop a task that runs; suggestions of earlier tasks stay."""
        async with platform.database.read() as session:
            found = await service.get(session, caller.project_id, dataset_id)
        caller.about(resource=found.resource.urn, name=found.resource.name)
        await intelligent.stop(caller.project_id, dataset_id, task_id)
        return {}

    @routes.get(_TASKS + "/{task_id}/log")
    async def task_log(
        dataset_id: str,
        task_id: str,
        offset: int = Query(0, ge=-(2**31), le=2**31),
        limit: int = Query(65536, ge=1, le=1 << 20),
        caller: Caller = requires(LIST, _DATASET),
    ) -> Any:
        """The output of the task's workload from byte `offset` (negative: from the end)."""
        async with platform.database.read() as session:
            await service.get(session, caller.project_id, dataset_id)
            task = await _task(session, dataset_id, task_id)
        return (await intelligent.read_log(task, offset, limit)).model_dump()

    @routes.get(_TASKS + "/{task_id}/problems")
    async def task_problems(
        dataset_id: str, task_id: str, page: Page = paging(default=100), caller: Caller = requires(LIST, _DATASET)
    ) -> Any:
        """The samples the task had to leave out, and why."""
        async with platform.database.read() as session:
            await service.get(session, caller.project_id, dataset_id)
            task = await _task(session, dataset_id, task_id)
            rows = await tasks.problems(session, task_id, page.offset, page.limit)
        return {"total_count": task.counts.get("bad", 0), "problems": [dataset_shapes.problem(row) for row in rows]}

    # -- groups ----------------------------------------------------------------------------------------------------

    @routes.get(_TASKS + "/{task_id}/groups")
    async def list_groups(dataset_id: str, task_id: str, caller: Caller = requires(_SEE, _DATASET)) -> Any:
        """The groups an auto-grouping task found, the largest first, each with its labels and most typical samples."""
        async with platform.database.read() as session:
            found = await service.get(session, caller.project_id, dataset_id)
            await _task(session, dataset_id, task_id)
            rows = await groups.listing(session, found.dataset, task_id)
        return {"total_count": len(rows), "groups": rows}

    @routes.get(_TASKS + "/{task_id}/groups/{group}/samples")
    async def group_samples(
        dataset_id: str,
        task_id: str,
        group: int,
        preview: bool = False,
        page: Page = paging(maximum=1000),
        caller: Caller = requires(_SEE, _DATASET),
    ) -> Any:
        """The samples of a group, the most typical first."""
        async with platform.database.read() as session:
            found = await service.get(session, caller.project_id, dataset_id)
            kind = kinds.of(found.dataset.dataset_type)
            await _task(session, dataset_id, task_id)
            total, rows = await groups.page(session, task_id, group, page.offset, page.limit)
            plain = await shown_samples(platform, session, kind, [row for row, _ in rows])
        if preview:
            await previews.show(platform.objects, plain, [row for row, _ in rows])
        shown = [one | {"group": group, "distance": distance} for one, (_, distance) in zip(plain, rows, strict=True)]
        return {"sample_count": total, "samples": shown}

    @routes.put(_TASKS + "/{task_id}/groups/{group}/labels")
    async def label_group(
        dataset_id: str,
        task_id: str,
        group: int,
        body: GroupLabels,
        caller: Caller = requires(_LABEL, _DATASET),
    ) -> Any:
        """Give all samples of a group the same labels."""
        async with platform.database.read() as session:
            found = await service.get(session, caller.project_id, dataset_id)
            await _task(session, dataset_id, task_id)
        caller.about(resource=found.resource.urn, name=found.resource.name)
        kind = kinds.of(found.dataset.dataset_type)
        annotations = _annotations("labels", body.labels, kind, caller)
        async with platform.database.transaction() as tx:
            await samples.lock(tx.session, found.dataset)
            keys = await groups.members(tx.session, task_id, group, labeled_too=body.relabel)
            author = Author(caller.principal.user_name)
            outcome = await labeling.edit(tx.session, found.dataset, kind, keys, Edit(set=annotations), author)
            _announce(tx, found, outcome)
        return {"annotated_sample_count": outcome.changed, "change_id": outcome.change_id}

    # -- suggestions -----------------------------------------------------------------------------------------------

    @routes.get(_SUGGESTED)
    async def list_suggested(
        dataset_id: str,
        label_name: str | None = None,
        label_type: int | None = None,
        low_score: float | None = Query(None, ge=0, le=1),
        high_score: float | None = Query(None, ge=0, le=1),
        search_conditions: str | None = None,
        order: Literal["asc", "desc"] = "desc",
        sort_by: SortBy = "sample",
        process_parameter: str | None = None,
        preview: bool = False,
        page: Page = paging(maximum=1000),
        caller: Caller = requires(_SEE, _DATASET),
    ) -> Any:
        """The samples automatic labeling has labeled and nobody has confirmed yet.

        `sort_by` ``score`` sorts by confidence; ``learning`` gives those first that teach most when labeled by hand.
        `process_parameter` (``image/resize,m_lfit,h_200``) makes previews small: at most 100 on a page.
        """
        resize = Resize.of(process_parameter)
        wanted = Wanted.of(from_search(search_conditions, SampleFilter()), label_name, low_score, high_score)
        async with platform.database.read() as session:
            found = await service.get(session, caller.project_id, dataset_id)
            kind = kinds.of(found.dataset.dataset_type)
            if label_type is not None and label_type != kind.code:
                return {"sample_count": 0, "samples": []}
            total, rows = await suggestions.page(
                session,
                found.dataset,
                wanted,
                sort_by=sort_by,
                descending=order == "desc",
                offset=page.offset,
                limit=page.limit,
            )
            keys = [row.key for row in rows]
            said = await suggestions.of_samples(session, keys)
            by_teams = await on_samples.of_samples(platform, session, keys)
        shown = [shapes.suggested(row, said[row.key], kind) | by_teams.get(row.key, {}) for row in rows]
        if preview or resize:
            await previews.show(platform.objects, shown, rows, resize)
        return {"sample_count": total, "samples": shown}

    @routes.get(_SUGGESTED + "/{sample_id}")
    async def show_suggested(dataset_id: str, sample_id: str, caller: Caller = requires(_SEE, _DATASET)) -> Any:
        async with platform.database.read() as session:
            found = await service.get(session, caller.project_id, dataset_id)
            row, said = await suggestions.get(session, found.dataset, sample_id_of(sample_id))
            by_teams = await on_samples.of_samples(platform, session, [row.key])
        shown = shapes.suggested(row, said, kinds.of(found.dataset.dataset_type)) | by_teams.get(row.key, {})
        await previews.show(platform.objects, [shown], [row])
        return shown

    @routes.post(_SUGGESTED + "/confirm")
    async def confirm(dataset_id: str, body: Decision, caller: Caller = requires(_LABEL, _DATASET)) -> Any:
        """Make suggestions annotations: of samples named (corrected where they carry `labels`), or of all that match.

        What one request does not reach is in `remaining_sample_count`; ask again.
        """
        async with platform.database.read() as session:
            found = await service.get(session, caller.project_id, dataset_id)
        caller.about(resource=found.resource.urn, name=found.resource.name)
        kind = kinds.of(found.dataset.dataset_type)
        corrections = {}
        for one in body.samples:
            if one.labels is not None:
                corrections[sample_id_of(one.sample_id)] = _annotations(
                    f"sample {one.sample_id}", one.labels, kind, caller
                )
        async with platform.database.transaction() as tx:
            total, ids = await _about(tx.session, found.dataset, body)
            name = caller.principal.user_name
            outcome, corrected = await suggestions.confirm(tx.session, found.dataset, kind, ids, corrections, name)
            _announce(tx, found, outcome)
        return _decided(body, [outcome.failures.get(ident) for ident in ids]) | {
            "confirmed_sample_count": outcome.changed,
            "corrected_sample_count": corrected,
            "remaining_sample_count": total - len(ids),
            "change_id": outcome.change_id,
        }

    @routes.post(_SUGGESTED + "/discard")
    async def discard(dataset_id: str, body: Decision, caller: Caller = requires(_LABEL, _DATASET)) -> Any:
        """Throw suggestions away: the samples stay unlabeled."""
        async with platform.database.read() as session:
            found = await service.get(session, caller.project_id, dataset_id)
        caller.about(resource=found.resource.urn, name=found.resource.name)
        async with platform.database.transaction() as tx:
            total, ids = await _about(tx.session, found.dataset, body)
            count, missing = await suggestions.discard(tx.session, found.dataset, ids)
        failures = [
            NotFound(f"there are no suggestions for sample '{ident.hex()}'") if ident in missing else None
            for ident in ids
        ]
        return _decided(body, failures) | {
            "discarded_sample_count": count,
            "remaining_sample_count": total - len(ids),
        }

    # -- parts -----------------------------------------------------------------------------------------------------

    async def _about(session: Any, dataset: Any, body: Decision) -> tuple[int, list[bytes]]:
        """How many samples a decision is about, and those it is about now. Raises Invalid when it does not say."""
        if bool(body.samples) == body.all:
            raise Invalid("name samples, or say all (with filters, if not every one is meant)")
        if body.samples:
            ids = [sample_id_of(one.sample_id) for one in body.samples]
            return len(ids), ids
        base = reduce(narrowed, body.search_conditions, SampleFilter())
        wanted = Wanted.of(base, body.label_name, body.low_score, body.high_score)
        return await suggestions.matching(session, dataset, wanted)

    async def _task(session: Any, dataset_id: str, task_id: str) -> Task:
        task: Task | None = await session.get(Task, task_id)
        if task is None or task.dataset_id != dataset_id or task.kind not in TASK_TYPES:
            raise NotFound(f"the dataset has no intelligent task '{task_id}'")
        return task

    async def _log(task: Task) -> str:
        """The end of its workload's output, while it works."""
        if task.cursor.get("phase") != "working" or task.state not in ("running", "stopping"):
            return ""
        try:
            return (await intelligent.read_log(task, -_LOG_TAIL, _LOG_TAIL)).text
        except ApiError:
            return ""

    return routes


async def _waiting(session: AsyncSession, dataset: Dataset) -> int:
    """How many samples have suggestions nobody has confirmed."""
    assert dataset.key is not None
    return (await statistics.unconfirmed(session, [dataset.key]))[dataset.key]


def _annotations(where: str, labels: Sequence[SampleLabelBody], kind: DatasetType, caller: Caller) -> list[Annotation]:
    """Raises Invalid for labels of a type the dataset does not have."""
    try:
        return [annotation_of(one, kind, caller.principal.user_name) for one in labels]
    except BadSample as e:
        raise Invalid(f"{where}: {e}") from e


def _announce(tx: Transaction, found: Found, outcome: Outcome) -> None:
    if outcome.changed:
        tx.emit(SamplesLabeled(dataset_id=found.dataset.id, count=outcome.changed), found.resource.urn)
    if outcome.new_labels:
        tx.emit(LabelsChanged(dataset_id=found.dataset.id, created=outcome.new_labels), found.resource.urn)


def _decided(body: Decision, failures: Sequence[ApiError | None]) -> dict[str, Any]:
    """Results for each sample named; for a decision by filters only those that failed."""
    if body.samples:
        return dataset_shapes.batch(failures)
    return dataset_shapes.batch([one for one in failures if one is not None][:1000])
