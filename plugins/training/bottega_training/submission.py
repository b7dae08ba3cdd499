"""Accepting a job: everything is checked before anything is changed, then the job and its event commit together."""

from __future__ import annotations

from dataclasses import dataclass

from bottega.entities import Resource, Workload
from bottega.errors import Conflict, Invalid, NotFound
from bottega.gateway import Caller
from bottega.objects import ObjectPath
from bottega.platform import Platform
from bottega_training import requests
from bottega_training.entities import TASK, TrainingJob, TrainingNote
from bottega_training.events import JobSubmitted
from bottega_training.jobs import Jobs
from bottega_training.layout import Channel
from bottega_training.planner import Foreseen, InputPath, JobPlanner
from bottega_training.settings import TrainingSettings


@dataclass
class _Checked:
    """A request of which everything has been checked."""

    foreseen: Foreseen
    inputs: list[Channel]

    @property
    def outputs(self) -> list[Channel]:
        return self.foreseen.outputs


class Submission:
    def __init__(self, platform: Platform, jobs: Jobs, planner: JobPlanner) -> None:
        self._platform = platform
        self._jobs = jobs
        self._planner = planner
        self._settings: TrainingSettings = platform.settings

    async def submit(self, caller: Caller, request: requests.JobRequest) -> tuple[TrainingJob, Resource]:
        """Raises Invalid saying what is wrong and what would be right, Forbidden for paths the caller may not use."""
        checked = await self._check(caller, request)
        foreseen = checked.foreseen
        metadata, resource = request.metadata, request.spec.resource
        job = TrainingJob(
            id=foreseen.id,
            project_id=caller.project_id,
            workspace_id=metadata.workspace_id,
            user_id=caller.user_id,
            user_name=caller.principal.user_name,
            engine_id=foreseen.engine.id,
            flavor_id=resource.flavor_id,
            node_count=resource.node_count,
            request=request.model_dump(mode="json", exclude_none=True),
            code_dir=str(foreseen.code_dir),
            boot_file=str(foreseen.boot_file),
            inputs=[c.dump() for c in checked.inputs],
            outputs=[c.dump() for c in checked.outputs],
            log_path=str(foreseen.log_folder / f"modelarts-job-{foreseen.id}-{TASK}.log"),
        )
        async with self._platform.database.transaction() as tx:
            registered = await self._platform.resources.create(
                tx,
                id=job.id,
                kind="job",
                project_id=job.project_id,
                workspace_id=job.workspace_id,
                owner_id=job.user_id,
                name=metadata.name,
                description=metadata.description,
                status=job.phase,
                properties={"train_url": job.train_url, "engine": job.engine_id, "flavor": job.flavor_id},
            )
            tx.session.add(job)
            await tx.session.flush()
            await self._platform.workloads.admit(tx.session, _workload_of(job))
            tx.session.add(TrainingNote(job_id=job.id, message=f"submitted by {job.user_name}"))
            for channel in checked.inputs:
                await self._platform.resources.link(tx, channel.source, job.urn, "trained on")
            await self._platform.resources.link(tx, job.code_dir, job.urn, "code from")
            tx.emit(
                JobSubmitted(job_id=job.id, name=metadata.name, engine_id=job.engine_id, flavor_id=job.flavor_id),
                job.urn,
            )
        caller.about(resource=job.urn, name=metadata.name)
        return job, registered

    async def _check(self, caller: Caller, request: requests.JobRequest) -> _Checked:
        await caller.enter(request.metadata.workspace_id)
        # The registry decides in the end; asked first so that a taken name costs no look into object storage.
        if await self._jobs.name_taken(caller.project_id, request.metadata.name):
            raise Conflict(f"a job named '{request.metadata.name}' exists in this project; choose another name")
        foreseen = await self._planner.foresee(caller, request)
        await caller.require(foreseen.needs)
        if not await self._exists(foreseen.boot_file):
            raise Invalid(f"algorithm.boot_file '{foreseen.boot_file}' does not exist; upload it or name another file")
        for path in (*(ObjectPath.parse(o.path) for o in foreseen.outputs), foreseen.log_folder):
            await self._check_bucket(path)
        checked = _Checked(foreseen, [await self._channel(each) for each in foreseen.inputs])
        _check_apart(checked)
        return checked

    async def _channel(self, given: InputPath) -> Channel:
        """Raises Invalid when there is nothing at the path of the input."""
        channel, path = given.request, given.path
        if given.version is not None:
            reads = tuple(map(str, given.reads))
            source = given.version.urn
            return Channel(channel.name, str(path), given.local, channel.access_method, "manifest", source, reads)
        if path.key and not path.key.endswith("/") and await self._exists(path):
            return Channel(channel.name, str(path), given.local, channel.access_method, "file", source=str(path))
        try:
            async for _ in self._platform.objects.list(path.folder, limit=1):
                folder = str(path.folder)
                return Channel(channel.name, folder, given.local, channel.access_method, source=folder)
        except NotFound:
            pass
        raise Invalid(f"input '{channel.name}': there is nothing at '{path}'")

    async def _exists(self, path: ObjectPath) -> bool:
        try:
            await self._platform.objects.head(path)
        except NotFound:
            return False
        return True

    async def _check_bucket(self, path: ObjectPath) -> None:
        if path.bucket not in await self._platform.objects.list_buckets():
            raise Invalid(f"there is no bucket '{path.bucket}' for '{path}'; create it or name another")


def _workload_of(job: TrainingJob) -> Workload:
    """What will be asked for once the job's engine has planned it."""
    return Workload(
        project_id=job.project_id,
        workspace_id=job.workspace_id,
        user_id=job.user_id,
        kind="training",
        resource_urn=job.urn,
        backend="",
        flavor=job.flavor_id,
        node_count=job.node_count,
    )


def _check_apart(checked: _Checked) -> None:
    """Outputs must not mix with each other or with what the job reads (002 §5.3, table 5-17)."""
    outputs = [(o, ObjectPath.parse(o.path)) for o in checked.outputs]
    for output, path in outputs:
        for other, place in outputs:
            if other is not output and place.contains(path):
                raise Invalid(f"outputs '{output.name}' and '{other.name}' lie in one another; separate them")
        read = [ObjectPath.parse(i.path) for i in checked.inputs]
        if path in (*read, checked.foreseen.code_dir):
            raise Invalid(f"output '{output.name}' would write into '{path}', which the job reads; choose another")
    locals_ = [c.local for c in (*checked.inputs, *checked.outputs)]
    twice = next((place for place in locals_ if locals_.count(place) > 1), None)
    if twice is not None:
        raise Invalid(f"local_dir '{twice}' is used by more than one input or output; give each its own")
