"""What moves a job on: planned by its engine, started and finished by a backend.

Every step is driven by an event and looks at the job's phase first, so that a repeated event changes nothing and one
that arrives late does not take a job back.
"""

from __future__ import annotations

from typing import Any

import anyio.to_thread

from bottega.backends import WorkloadFinished, WorkloadSpec, WorkloadStarted
from bottega.bus import Bus, Retry
from bottega.context import now_ms
from bottega.database import Transaction
from bottega.errors import ApiError, Invalid, NotFound, Unavailable
from bottega.events import Event, Received
from bottega.objects import ObjectPath
from bottega.platform import Platform
from bottega.urn import Urn
from bottega_training import evaluation, layout, observation, requests
from bottega_training.engines import Engines, Script
from bottega_training.entities import (
    COMPLETED,
    CREATING,
    FAILED,
    FINAL,
    PENDING,
    RUNNING,
    TERMINATED,
    TrainingEvaluation,
    TrainingJob,
    TrainingNote,
)
from bottega_training.evaluation import EVALUATION_FILE, METRICS_FILE, Evaluation
from bottega_training.events import JobCompleted, JobFailed, JobStarted, JobStopped, JobSubmitted
from bottega_training.jobs import move
from bottega_training.layout import Channel
from bottega_training.settings import TrainingSettings

KIND = "training"
_LARGEST_FILE = 64 << 20
_AWAY_S = 2.0


class Lifecycle:
    def __init__(self, platform: Platform, engines: Engines) -> None:
        self._platform = platform
        self._settings: TrainingSettings = platform.settings
        self._engines = engines

    def subscribe(self, bus: Bus) -> None:
        bus.on(JobSubmitted, self.plan)
        bus.on(WorkloadStarted, self.started)
        bus.on_external(WorkloadFinished, self.finished)

    async def plan(self, received: Received[JobSubmitted], tx: Transaction) -> None:
        """Let the job's engine say what to run, and ask for it."""
        job = await tx.session.get(TrainingJob, received.event.job_id, with_for_update=True)
        if job is None or job.phase != CREATING:
            return
        try:
            spec = self._spec(job, received.event.name)
        except Exception as e:  # an engine is foreign code: whatever it raises is why this job cannot run
            reason = e.message if isinstance(e, ApiError) else f"{type(e).__name__}: {e}"
            await self._fail(tx, job, "CreateFailed", f"could not be planned: {reason}", None)
            return
        try:
            workload = await self._platform.workloads.request(
                tx,
                spec,
                kind=KIND,
                flavor_id=job.flavor_id,
                resource_urn=job.urn,
                project_id=job.project_id,
                user_id=job.user_id,
                workspace_id=job.workspace_id,
                node_count=job.node_count,
            )
        except ApiError as refused:  # the budget is spent by now, say, or the flavor gone
            await self._fail(tx, job, "CreateFailed", refused.message, None)
            return
        job.workload_id, job.planned_at = workload.id, now_ms()
        await move(tx, self._platform, job, PENDING, "Queuing", f"waiting for {job.flavor_id} on {workload.backend}")

    async def started(self, received: Received[WorkloadStarted], tx: Transaction) -> None:
        if received.event.kind != KIND:
            return
        job = await tx.session.get(TrainingJob, Urn.parse(received.event.resource_urn).id, with_for_update=True)
        if job is None or job.phase in FINAL or job.started_at is not None:
            return
        job.started_at = received.event.started_at
        if job.phase != PENDING:  # it is asked to stop
            tx.session.add(job)
            return
        resource = await move(tx, self._platform, job, RUNNING, RUNNING, "the process runs")
        tx.emit(JobStarted(job_id=job.id, name=resource.name, started_at=job.started_at), job.urn)

    async def finished(self, received: Received[WorkloadFinished]) -> None:
        """Read what the job left behind and settle it. Outside a transaction, for it reads object storage."""
        event = received.event
        if event.kind != KIND:
            return
        job_id = Urn.parse(event.resource_urn).id
        async with self._platform.database.read() as session:
            job = await session.get(TrainingJob, job_id)
        if job is None or job.phase in FINAL:
            return
        try:
            usage = await observation.usage(self._platform, job)
            result, metrics, notes = await self._results(job) if event.state == "succeeded" else (None, {}, [])
        except Unavailable as e:
            raise Retry(_AWAY_S, f"object storage is away: {e.message}") from e
        async with self._platform.database.transaction() as tx:
            locked = await tx.session.get(TrainingJob, job_id, with_for_update=True)
            assert locked is not None
            if locked.phase in FINAL:
                return
            if locked.started_at is None and event.started_at is not None:  # its own event is still on the way
                name = locked.request["metadata"]["name"]
                tx.emit(JobStarted(job_id=job_id, name=name, started_at=event.started_at), locked.urn)
            locked.usage, locked.exit_code = usage, event.exit_code
            locked.started_at, locked.finished_at = event.started_at, event.finished_at
            tx.session.add_all(TrainingNote(job_id=job_id, level="Warning", message=text) for text in notes)
            if event.state == "succeeded":
                await self._complete(tx, locked, result, metrics)
            elif event.state == "stopped":
                locked.message = event.reason
                resource = await move(tx, self._platform, locked, TERMINATED, TERMINATED, "the process has ended")
                stopped = JobStopped(
                    job_id=job_id, name=resource.name, train_url=locked.train_url, finished_at=event.finished_at
                )
                await self._tell(tx, locked, stopped)
            else:
                await self._fail(tx, locked, FAILED, event.reason, event.exit_code)

    async def _complete(
        self, tx: Transaction, job: TrainingJob, result: Evaluation | None, metrics: dict[str, float]
    ) -> None:
        if result is not None:
            tx.session.add(TrainingEvaluation(job_id=job.id, document=result.model_dump(mode="json")))
        job.summary = metrics
        assert job.finished_at is not None
        resource = await move(tx, self._platform, job, COMPLETED, COMPLETED, "completed")
        completed = JobCompleted(
            job_id=job.id,
            name=resource.name,
            engine_id=job.engine_id,
            train_url=job.train_url,
            outputs={o["name"]: o["path"] for o in job.outputs},
            metrics=metrics,
            finished_at=job.finished_at,
        )
        await self._tell(tx, job, completed)

    async def _fail(
        self, tx: Transaction, job: TrainingJob, secondary: str, reason: str, exit_code: int | None
    ) -> None:
        job.message = reason
        resource = await move(tx, self._platform, job, FAILED, secondary, reason, level="Error")
        assert job.finished_at is not None
        failed = JobFailed(
            job_id=job.id,
            name=resource.name,
            reason=reason,
            exit_code=exit_code,
            train_url=job.train_url,
            finished_at=job.finished_at,
        )
        await self._tell(tx, job, failed)

    async def _tell(self, tx: Transaction, job: TrainingJob, event: Event) -> None:
        if job.started_at is not None:
            for output in job.outputs:
                await self._platform.resources.link(tx, job.urn, output["path"], "written by")
        tx.emit(event, job.urn)

    def _spec(self, job: TrainingJob, name: str) -> WorkloadSpec:
        engine = self._engines.get(job.engine_id)
        if engine is None or engine.missing:
            raise Invalid(f"engine '{job.engine_id}': {engine.missing if engine else 'its plugin is not on any more'}")
        flavor = self._platform.workloads.flavor(job.flavor_id, KIND)
        algorithm = requests.Algorithm.model_validate(job.request["algorithm"])
        inputs = [Channel.load(c) for c in job.inputs]
        outputs = [Channel.load(c) for c in job.outputs]
        script = Script(
            boot_file=layout.boot_file(job),
            arguments=layout.arguments(algorithm.parameters, [*inputs, *outputs]),
            node_count=job.node_count,
            cpus=flavor.cpus,
            gpus=flavor.gpus,
        )
        plan = engine.plan(script)
        code = ObjectPath.parse(job.code_dir)
        stop: dict[str, Any] | None = job.request["spec"].get("auto_stop")
        return WorkloadSpec(
            command=list(plan.command),
            environment={
                **plan.environment,
                "MA_NUM_GPUS": str(flavor.gpus),
                **layout.environment(job, name, inputs, outputs),
                **algorithm.environments,
            },
            inputs=[layout.code_transfer(code), *(c.transfer for c in inputs)],
            outputs=[c.transfer for c in outputs],
            files={f"{layout.CACHE}/.keep": ""},
            log_path=job.log_path,
            ports=["task"],
            may_read=[path for c in inputs for path in c.reads],
            timeout_s=stop["duration"] * 3600 if stop else None,
            grace_s=self._settings.stop_grace_s,
            upload_every_s=self._settings.upload_every_s,
        )

    async def _results(self, job: TrainingJob) -> tuple[Evaluation | None, dict[str, float], list[str]]:
        """The evaluation and the figures a job wrote, and what is wrong with them."""
        result: Evaluation | None = None
        metrics: dict[str, float] = {}
        notes = []
        for output in job.outputs:
            folder = ObjectPath.parse(output["path"])
            try:
                if content := await self._read(folder / METRICS_FILE):
                    metrics |= evaluation.read_metrics(content)
                if result is None and (content := await self._read(folder / EVALUATION_FILE)):
                    result = await anyio.to_thread.run_sync(evaluation.read_evaluation, content)
            except Invalid as e:
                notes.append(e.message)
        return result, {**metrics, **(result.summary if result else {})}, notes

    async def _read(self, path: ObjectPath) -> bytes | None:
        try:
            size = (await self._platform.objects.head(path)).size
            if size > _LARGEST_FILE:
                raise Invalid(f"{path} has {size >> 20} MB and is not read; the limit is {_LARGEST_FILE >> 20} MB")
            return await self._platform.objects.get(path)
        except NotFound:
            return None
