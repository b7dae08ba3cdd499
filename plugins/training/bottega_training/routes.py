"""Training jobs over HTTP, in the official client's shape (sdk_spec §3.1)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

from fastapi import APIRouter, Query

from bottega.backends import Flavor
from bottega.errors import Invalid
from bottega.gateway import Caller, Page, paging, requires
from bottega.platform import Platform
from bottega.plugins import Action
from bottega.routing import Router, join
from bottega.tags import tag_routes
from bottega.urn import Urn
from bottega_training import observation, requests, views
from bottega_training.engines import Engines
from bottega_training.entities import TASK
from bottega_training.jobs import Found, Jobs
from bottega_training.lifecycle import KIND
from bottega_training.planner import CREATE, GET, STOP, JobPlanner
from bottega_training.submission import Submission

_TYPE = "ModelArtsTrainJob"
_JOB = "job/{training_job_id}"
LIST, UPDATE, DELETE = "modelarts:trainJob:list", "modelarts:trainJob:update", "modelarts:trainJob:delete"
ACTIONS = (
    Action(CREATE, "Create training jobs", _TYPE, "createModelArtsTrainJob", spends=True),
    Action(GET, "See a training job, its log, metrics, events and evaluation", _TYPE),
    Action(LIST, "List training jobs, engines and flavors", _TYPE),
    Action(UPDATE, "Change a training job's description", _TYPE, "updateModelArtsTrainDesc"),
    Action(STOP, "Stop a training job", _TYPE, "stopModelArtsTrainVersion"),
    Action(DELETE, "Delete a training job", _TYPE, "deleteModelArtsTrainJob"),
)


def router(platform: Platform, engines: Engines) -> APIRouter:
    jobs = Jobs(platform)
    submission = Submission(platform, jobs, JobPlanner(platform, engines))
    routes = Router(prefix="/v2/{project_id}", tags=["training"])
    _offer(routes, platform, jobs, engines)
    _collection(routes, platform, jobs, submission)
    _one(routes, platform, jobs)
    _observe(routes, platform, jobs)
    tagged = "/v2/{project_id}/modelarts-training-job"
    return join(routes, tag_routes(platform, tagged, "job", listing=LIST, reading=GET, changing=UPDATE))


def _flavor(platform: Platform, flavor_id: str) -> Flavor | None:
    return next((f for f in platform.workloads.flavors() if f.id == flavor_id), None)


def _view(platform: Platform, found: Found) -> dict[str, Any]:
    job, resource = found
    return views.job_view(job, resource, _flavor(platform, job.flavor_id))


def _offer(routes: APIRouter, platform: Platform, jobs: Jobs, engines: Engines) -> None:
    @routes.get("/training-job-engines")
    async def list_engines(caller: Caller = requires(LIST)) -> dict[str, Any]:
        return {"total": len(engines.all), "items": [views.engine_view(e) for e in engines.all]}

    @routes.get("/training-job-flavors")
    async def list_flavors(
        flavor_type: Literal["CPU", "GPU", "Ascend"] | None = None, caller: Caller = requires(LIST)
    ) -> dict[str, Any]:
        found = [f for f in platform.workloads.flavors(KIND) if flavor_type in (None, views.flavor_type(f))]
        return {"total_count": len(found), "flavors": [views.flavor_view(f) for f in found]}

    @routes.get("/training-job-names")
    async def check_name(job_name: str, caller: Caller = requires(LIST)) -> dict[str, bool]:
        return {"is_duplicate": await jobs.name_taken(caller.project_id, job_name)}


def _collection(routes: APIRouter, platform: Platform, jobs: Jobs, submission: Submission) -> None:
    @routes.post("/training-jobs", status_code=201)
    async def create(body: requests.JobRequest, caller: Caller = requires(CREATE)) -> dict[str, Any]:
        return _view(platform, await submission.submit(caller, body))

    @routes.get("/training-jobs")
    async def list_jobs(
        page: Page = paging(10, 50),
        name: str | None = None,
        phase: str | None = None,
        caller: Caller = requires(LIST),
    ) -> dict[str, Any]:
        """The newest first; `name` is a part of the name. Here `offset` counts rows."""
        wanted = {"name": ("like", name), "phase": ("in", phase)}
        search = requests.Search(
            limit=page.limit,
            filters=[
                requests.Filter.model_validate({"key": key, "operator": operator, "value": [value]})
                for key, (operator, value) in wanted.items()
                if value
            ],
        )
        return await listing(caller, search, page.offset, page.offset)

    @routes.post("/training-job-searches")
    async def search_jobs(body: requests.Search, caller: Caller = requires(LIST)) -> dict[str, Any]:
        """Here `offset` counts pages."""
        return await listing(caller, body, body.offset * body.limit, body.offset)

    async def listing(caller: Caller, search: requests.Search, first_row: int, offset: int) -> dict[str, Any]:
        total, count, found = await jobs.search(caller.project_id, search, first_row)
        return {
            "total": total,
            "count": count,
            "limit": search.limit,
            "offset": offset,
            "sort_by": search.sort_by,
            "order": search.order,
            "group_by": "",
            "workspace_id": search.workspace_id or "0",
            "ai_project": "default-ai-project",
            "items": [_view(platform, each) for each in found],
        }

    @routes.post("/training-jobs/batch-delete", status_code=200)
    async def batch_delete(body: requests.BatchDeletion, caller: Caller = requires(DELETE)) -> dict[str, Any]:
        wanted = list(dict.fromkeys(job.metadata.id for job in body.jobs))
        for job_id in wanted:
            await caller.check(DELETE, str(Urn("training", caller.project_id, "job", job_id)))
        await jobs.delete(caller, wanted)
        return {}


def _one(routes: APIRouter, platform: Platform, jobs: Jobs) -> None:
    @routes.get("/training-jobs/{training_job_id}")
    async def show(training_job_id: str, caller: Caller = requires(GET, _JOB)) -> dict[str, Any]:
        return _view(platform, await jobs.show(caller.project_id, training_job_id))

    @routes.put("/training-jobs/{training_job_id}")
    async def describe(
        training_job_id: str, body: requests.Change, caller: Caller = requires(UPDATE, _JOB)
    ) -> dict[str, Any]:
        await jobs.describe(caller, training_job_id, body.description)
        return {}

    @routes.post("/training-jobs/{training_job_id}/actions", status_code=202)
    async def stop(
        training_job_id: str, body: requests.Action, caller: Caller = requires(STOP, _JOB)
    ) -> dict[str, Any]:
        return _view(platform, await jobs.stop(caller, training_job_id))

    @routes.delete("/training-jobs/{training_job_id}", status_code=202)
    async def delete(training_job_id: str, caller: Caller = requires(DELETE, _JOB)) -> dict[str, Any]:
        await jobs.delete(caller, [training_job_id])
        return {}


def _observe(routes: APIRouter, platform: Platform, jobs: Jobs) -> None:
    @routes.get("/training-jobs/{training_job_id}/tasks")
    async def list_tasks(training_job_id: str, caller: Caller = requires(GET, _JOB)) -> list[dict[str, Any]]:
        await jobs.show(caller.project_id, training_job_id)
        return [{"task": TASK, "ip": "", "host_ip": "", "schedule_count": 1}]

    @routes.get("/training-jobs/{training_job_id}/tasks/{task_id}/logs/preview")
    async def preview_log(
        training_job_id: str, task_id: str, offset: int | None = None, caller: Caller = requires(GET, _JOB)
    ) -> dict[str, Any]:
        """The last 5 MiB, or what follows byte `offset`; read on from `next_offset` until `complete`."""
        job = await jobs.task(caller.project_id, training_job_id, task_id)
        limit = observation.PREVIEW_BYTES
        part = await observation.read_log(platform, job, -limit if offset is None else offset, limit)
        return {
            "content": part.content,
            "current_size": len(part.content.encode()),
            "full_size": part.size,
            "next_offset": part.next_offset,
            "complete": part.complete,
        }

    @routes.get("/training-jobs/{training_job_id}/tasks/{task_id}/logs/url")
    async def log_url(training_job_id: str, task_id: str, caller: Caller = requires(GET, _JOB)) -> dict[str, str]:
        job = await jobs.task(caller.project_id, training_job_id, task_id)
        return {"obs_url": await observation.log_url(platform, job)}

    @routes.get("/training-jobs/{training_job_id}/logs/{task_id}")
    async def log_lines(
        training_job_id: str,
        task_id: str,
        base_line: int | None = Query(None, ge=0),
        lines: int = Query(50, ge=1, le=500),
        order: Literal["asc", "desc"] = "desc",
        caller: Caller = requires(GET, _JOB),
    ) -> dict[str, Any]:
        """Lines of the last 5 MiB: in order ``asc`` from `base_line` on, in ``desc`` those up to it, newest first."""
        job = await jobs.task(caller.project_id, training_job_id, task_id)
        part = await observation.read_log(platform, job, -observation.PREVIEW_BYTES, observation.PREVIEW_BYTES)
        every = part.content.splitlines()
        if order == "asc":
            first = min(base_line or 0, len(every))
            last = min(first + lines, len(every))
        else:
            last = len(every) if base_line is None else min(base_line, len(every))
            first = max(0, last - lines)
        chosen = every[first:last] if order == "asc" else every[first:last][::-1]
        return {
            "start_line": str(first),
            "end_line": str(last),
            "lines": len(chosen),
            "content": "\n".join(chosen),
        }

    @routes.get("/training-jobs/{training_job_id}/metrics/{task_id}")
    async def resource_use(training_job_id: str, task_id: str, caller: Caller = requires(GET, _JOB)) -> dict[str, Any]:
        job = await jobs.task(caller.project_id, training_job_id, task_id)
        used = await observation.usage(platform, job)
        return {"metrics": [{"metric": name, "value": values} for name, values in used.items()]}

    @routes.get("/training-jobs/{training_job_id}/scalars")
    async def show_scalars(training_job_id: str, caller: Caller = requires(GET, _JOB)) -> dict[str, Any]:
        """The figures the script writes to ``metrics.jsonl`` while it learns: ``[step, value]`` points by name."""
        job, _ = await jobs.show(caller.project_id, training_job_id)
        return {"scalars": await observation.scalars(platform, job)}

    @routes.get("/training-jobs/{training_job_id}/evaluation")
    async def show_evaluation(training_job_id: str, caller: Caller = requires(GET, _JOB)) -> dict[str, Any]:
        job, resource = await jobs.show(caller.project_id, training_job_id)
        found = await observation.evaluation_of(platform, job)
        return {"job_id": job.id, "name": resource.name, "create_time": found.created_at, **found.document}

    @routes.get("/training-jobs/{training_job_id}/stages")
    async def list_stages(training_job_id: str, caller: Caller = requires(GET, _JOB)) -> dict[str, Any]:
        job, _ = await jobs.show(caller.project_id, training_job_id)
        return {"total_count": 1, "running_records": [{"record_order": 1, "stages": views.stages(job)}]}

    @routes.get("/training-jobs/{training_job_id}/events")
    async def list_events(
        training_job_id: str,
        offset: int = Query(0, ge=0, le=10**6),
        limit: int = Query(50, ge=1, le=100),
        order: Literal["asc", "desc"] = "desc",
        start_time: str | None = None,
        end_time: str | None = None,
        level: Literal["Info", "Warning", "Error"] | None = None,
        pattern: str | None = Query(None, max_length=256),
        caller: Caller = requires(GET, _JOB),
    ) -> dict[str, Any]:
        """What happened to the job; `offset` counts pages. Times are ISO 8601 or epoch milliseconds."""
        if (start_time is None) != (end_time is None):
            raise Invalid("start_time and end_time go together; give both or neither")
        between = (_time(start_time), _time(end_time)) if start_time and end_time else None
        job, _ = await jobs.show(caller.project_id, training_job_id)
        total, found = await observation.notes(
            platform,
            job,
            first_row=offset * limit,
            limit=limit,
            newest_first=order == "desc",
            level=level,
            pattern=pattern,
            between=between,
        )
        return {
            "total": total,
            "limit": limit,
            "offset": offset,
            "order": order,
            "start_time": start_time or "",
            "end_time": end_time or "",
            "events": [views.note_view(note) for note in found],
        }


def _time(text: str) -> int:
    if text.isdecimal():
        return int(text)
    try:
        found = datetime.fromisoformat(text)
    except ValueError as e:
        raise Invalid(f"'{text}' is not a time; write 2024-01-31T12:00:00Z or epoch milliseconds") from e
    return int(found.replace(tzinfo=found.tzinfo or UTC).timestamp() * 1000)
