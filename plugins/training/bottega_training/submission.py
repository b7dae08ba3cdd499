"""Accepting a job: everything is checked before anything is changed, then the job and its event commit together."""

from __future__ import annotations

from dataclasses import dataclass, field

from bottega.database import AsyncSession
from bottega.entities import DEFAULT_WORKSPACE, Resource, Workspace
from bottega.errors import Conflict, Invalid, NotFound
from bottega.gateway import Caller
from bottega.objects import ObjectPath
from bottega.platform import Platform
from bottega.urn import new_id
from bottega_training import layout, manifest, requests
from bottega_training.engines import Engine, Engines
from bottega_training.entities import TASK, TrainingJob, TrainingNote
from bottega_training.events import JobSubmitted
from bottega_training.jobs import Jobs
from bottega_training.layout import Channel
from bottega_training.settings import TrainingSettings

_PLATFORM_PREFIXES = ("DLS_", "BATCH_", "BOTTEGA_")


@dataclass
class _Checked:
    """What the checks have found out about a request."""

    id: str
    engine: Engine
    code_dir: ObjectPath
    boot_file: ObjectPath
    log_folder: ObjectPath
    inputs: list[Channel] = field(default_factory=list)
    outputs: list[Channel] = field(default_factory=list)


class Submission:
    def __init__(self, platform: Platform, jobs: Jobs, engines: Engines) -> None:
        self._platform = platform
        self._jobs = jobs
        self._engines = engines
        self._settings: TrainingSettings = platform.settings

    async def submit(self, caller: Caller, request: requests.JobRequest) -> tuple[TrainingJob, Resource]:
        """Raises Invalid saying what is wrong and what would be right, Forbidden for paths the caller may not use."""
        checked = await self._check(caller, request)
        metadata, resource = request.metadata, request.spec.resource
        job = TrainingJob(
            id=checked.id,
            project_id=caller.project_id,
            workspace_id=metadata.workspace_id,
            user_id=caller.user_id,
            user_name=caller.principal.user_name,
            engine_id=checked.engine.id,
            flavor_id=resource.flavor_id,
            node_count=resource.node_count,
            request=request.model_dump(mode="json", exclude_none=True),
            code_dir=str(checked.code_dir),
            boot_file=str(checked.boot_file),
            inputs=[c.dump() for c in checked.inputs],
            outputs=[c.dump() for c in checked.outputs],
            log_path=str(checked.log_folder / f"modelarts-job-{checked.id}-{TASK}.log"),
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
                quota=self._settings.max_jobs,
            )
            tx.session.add(job)
            await tx.session.flush()
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
        algorithm, resource = request.algorithm, request.spec.resource
        engine = self._engines.choose(
            algorithm.engine.engine_id, algorithm.engine.engine_name, algorithm.engine.engine_version
        )
        self._platform.workloads.flavor(resource.flavor_id, "training")
        if resource.node_count != 1:
            raise Invalid(
                f"spec.resource.node_count is {resource.node_count}; flavor '{resource.flavor_id}' runs on 1 node"
            )
        _check_names(algorithm)
        async with self._platform.database.read() as session:
            await _check_workspace(session, caller.project_id, request.metadata.workspace_id)
        # The registry decides in the end; asked first so that a taken name costs no look into object storage.
        if await self._jobs.name_taken(caller.project_id, request.metadata.name):
            raise Conflict(f"a job named '{request.metadata.name}' exists in this project; choose another name")

        code_dir = ObjectPath.parse(algorithm.code_dir, "algorithm.code_dir").folder
        boot_file = _boot_file(code_dir, algorithm.boot_file)
        await caller.check_path(code_dir)
        if not await self._exists(boot_file):
            raise Invalid(f"algorithm.boot_file '{boot_file}' does not exist; upload it or name another file")
        ident = new_id()
        default = _default_folder(code_dir, self._settings.default_folder, request.metadata.name, ident)
        wanted = request.spec.log_export_path
        log_url = wanted.obs_url if wanted else None
        log_folder = (ObjectPath.parse(log_url, "log_export_path").folder if log_url else default / "log/").folder
        checked = _Checked(ident, engine, code_dir, boot_file, log_folder)
        for index, output in enumerate(algorithm.outputs):
            checked.outputs.append(_output(output, index))
        if not checked.outputs:
            # Told by environment: a script that declares no output knows no --train_url.
            checked.outputs.append(
                Channel("train_url", str(default / "output/"), "modelarts/outputs/train_url_0", "env")
            )
        for path in (*(ObjectPath.parse(o.path) for o in checked.outputs), log_folder):
            await caller.check_path(path, write=True)
            await self._check_bucket(path)
        for index, channel in enumerate(algorithm.inputs):
            local = layout.local_folder(channel, "inputs", index)
            if channel.remote.dataset is not None:
                checked.inputs.append(await self._dataset(caller, channel, channel.remote.dataset, local))
            elif channel.remote.obs is not None:
                checked.inputs.append(await self._stored(caller, channel, channel.remote.obs.obs_url, local))
        _check_apart(checked)
        return checked

    async def _stored(self, caller: Caller, channel: requests.Input, url: str, local: str) -> Channel:
        what = f"input '{channel.name}'"
        path = ObjectPath.parse(url, what)
        await caller.check_path(path)
        if path.key and not path.key.endswith("/") and await self._exists(path):
            return Channel(channel.name, str(path), local, channel.access_method, "file", source=str(path))
        try:
            async for _ in self._platform.objects.list(path.folder, limit=1):
                return Channel(channel.name, str(path.folder), local, channel.access_method, source=str(path.folder))
        except NotFound:
            pass
        raise Invalid(f"{what}: there is nothing at '{path}'")

    async def _dataset(
        self, caller: Caller, channel: requests.Input, wanted: requests.DatasetRemote, local: str
    ) -> Channel:
        what = f"input '{channel.name}'"
        async with self._platform.database.read() as session:
            version = await session.get(Resource, wanted.version_id)
        if (
            version is None
            or version.deleted_at is not None
            or (version.plugin, version.kind, version.project_id) != ("dataset", "version", caller.project_id)
            or version.properties.get("dataset_id") != wanted.id
        ):
            raise Invalid(f"{what}: dataset '{wanted.id}' has no version '{wanted.version_id}' in this project")
        if not version.properties.get("manifest_path"):
            raise Invalid(f"{what}: version '{version.name}' has no manifest (status '{version.status}')")
        path = ObjectPath.parse(str(version.properties["manifest_path"]), f"manifest of {what}")
        await caller.check_path(path)
        folders = await manifest.folders(self._platform.objects, path)
        for folder in folders:
            await caller.check_path(folder)
        return Channel(
            channel.name,
            str(path),
            local,
            channel.access_method,
            "manifest",
            source=version.urn,
            reads=tuple(map(str, folders)),
        )

    async def _exists(self, path: ObjectPath) -> bool:
        try:
            await self._platform.objects.head(path)
        except NotFound:
            return False
        return True

    async def _check_bucket(self, path: ObjectPath) -> None:
        if path.bucket not in await self._platform.objects.list_buckets():
            raise Invalid(f"there is no bucket '{path.bucket}' for '{path}'; create it or name another")


def _default_folder(code_dir: ObjectPath, folder: str, name: str, ident: str) -> ObjectPath:
    """Where a job's outputs and log go when the request names no place: beside the code, in a folder of its own."""
    return ObjectPath(code_dir.bucket) / f"{folder}/{name}-{ident[:8]}/"


def _boot_file(code_dir: ObjectPath, text: str) -> ObjectPath:
    if text.startswith(("/", "s3://", "obs://")):
        path = ObjectPath.parse(text, "algorithm.boot_file")
    else:
        path = ObjectPath.parse(str(code_dir / text), "algorithm.boot_file")
    if not code_dir.contains(path) or path.key == code_dir.key or path.key.endswith("/"):
        raise Invalid(f"algorithm.boot_file '{text}' must be a file in algorithm.code_dir '{code_dir}'")
    return path


def _output(output: requests.Output, index: int) -> Channel:
    path = ObjectPath.parse(output.remote.obs.obs_url, f"output '{output.name}'").folder
    local = layout.local_folder(output, "outputs", index)
    return Channel(output.name, str(path), local, output.access_method)


def _check_names(algorithm: requests.Algorithm) -> None:
    told = [p.name for p in algorithm.parameters]
    told += [c.name for c in (*algorithm.inputs, *algorithm.outputs)]
    twice = sorted({name for name in told if told.count(name) > 1})
    if twice:
        raise Invalid(f"'{twice[0]}' is given twice among algorithm.parameters, inputs and outputs; names are unique")
    for name in algorithm.environments:
        if name.startswith(_PLATFORM_PREFIXES):
            raise Invalid(f"algorithm.environments: the platform sets '{name}' itself; choose another name")


def _check_apart(checked: _Checked) -> None:
    """Outputs must not mix with each other or with what the job reads (002 §5.3, table 5-17)."""
    outputs = [(o, ObjectPath.parse(o.path)) for o in checked.outputs]
    for output, path in outputs:
        for other, place in outputs:
            if other is not output and place.contains(path):
                raise Invalid(f"outputs '{output.name}' and '{other.name}' lie in one another; separate them")
        read = [ObjectPath.parse(i.path) for i in checked.inputs]
        if path in (*read, checked.code_dir):
            raise Invalid(f"output '{output.name}' would write into '{path}', which the job reads; choose another")
    locals_ = [c.local for c in (*checked.inputs, *checked.outputs)]
    twice = next((place for place in locals_ if locals_.count(place) > 1), None)
    if twice is not None:
        raise Invalid(f"local_dir '{twice}' is used by more than one input or output; give each its own")


async def _check_workspace(session: AsyncSession, project_id: str, workspace_id: str) -> None:
    if workspace_id == DEFAULT_WORKSPACE:
        return
    workspace = await session.get(Workspace, workspace_id)
    if workspace is None or workspace.project_id != project_id:
        raise Invalid(f"metadata.workspace_id: there is no workspace '{workspace_id}'; '0' is the default one")
