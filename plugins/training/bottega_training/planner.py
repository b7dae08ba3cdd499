"""What a job means before there is one: its paths read, the machines it will use, the permissions of its whole life."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from bottega.entities import Resource
from bottega.errors import Invalid, NotFound
from bottega.gateway import Caller
from bottega.objects import ObjectPath
from bottega.plans import Need, Plan, Use
from bottega.platform import Platform
from bottega.urn import Urn, new_id
from bottega_training import layout, manifest, requests
from bottega_training.engines import Engine, Engines
from bottega_training.layout import Channel
from bottega_training.settings import TrainingSettings

CREATE, GET, STOP = "modelarts:trainJob:create", "modelarts:trainJob:get", "modelarts:trainJob:stop"
PUBLISH = "smn:topic:publish"
_PLATFORM_PREFIXES = ("DLS_", "BATCH_", "BOTTEGA_")


@dataclass(frozen=True)
class InputPath:
    """An input before anybody has looked whether it is there. `version` is the dataset version it is, if one."""

    request: requests.Input
    path: ObjectPath
    local: str
    version: Resource | None = None
    reads: tuple[ObjectPath, ...] = ()


@dataclass
class Foreseen:
    """A request whose names and paths have been read. `needs` are the permissions of the job's whole life."""

    id: str
    engine: Engine
    code_dir: ObjectPath
    boot_file: ObjectPath
    log_folder: ObjectPath
    uses: tuple[Use, ...]
    inputs: list[InputPath] = field(default_factory=list)
    outputs: list[Channel] = field(default_factory=list)
    needs: list[Need] = field(default_factory=list)


class JobPlanner:
    def __init__(self, platform: Platform, engines: Engines) -> None:
        self._platform = platform
        self._engines = engines
        self._settings: TrainingSettings = platform.settings

    async def plan(self, caller: Caller, request: requests.JobRequest) -> Plan:
        """Raises Invalid as the creation would; it does not look whether the paths exist."""
        foreseen = await self.foresee(caller, request)
        return Plan(foreseen.uses, tuple(foreseen.needs), request.metadata.workspace_id)

    async def foresee(self, caller: Caller, request: requests.JobRequest) -> Foreseen:
        """Raises Invalid saying what is wrong and what would be right."""
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
        code_dir = ObjectPath.parse(algorithm.code_dir, "algorithm.code_dir").folder
        boot_file = _boot_file(code_dir, algorithm.boot_file)
        ident = new_id()
        default = _default_folder(code_dir, self._settings.default_folder, request.metadata.name, ident)
        wanted = request.spec.log_export_path
        log_url = wanted.obs_url if wanted else None
        log_folder = (ObjectPath.parse(log_url, "log_export_path").folder if log_url else default / "log/").folder
        uses = (Use("training", resource.flavor_id, resource.node_count),)
        foreseen = Foreseen(ident, engine, code_dir, boot_file, log_folder, uses, needs=_own_needs(caller.project_id))
        foreseen.needs += Need.path(code_dir, "the code is read from algorithm.code_dir")
        for index, output in enumerate(algorithm.outputs):
            foreseen.outputs.append(_output(output, index))
        if not foreseen.outputs:
            # Told by environment: a script that declares no output knows no --train_url.
            folder = str(default / "output/")
            foreseen.outputs.append(Channel("train_url", folder, "modelarts/outputs/train_url_0", "env"))
        for index, channel in enumerate(algorithm.inputs):
            local = layout.local_folder(channel, "inputs", index)
            foreseen.inputs.append(await self._input(caller, channel, local, foreseen.needs))
        for output_channel in foreseen.outputs:
            path = ObjectPath.parse(output_channel.path)
            foreseen.needs += Need.path(path, f"output '{output_channel.name}' is written", write=True)
        foreseen.needs += Need.path(log_folder, "the log is written", write=True)
        if request.spec.notification is not None:
            topic, why = request.spec.notification.topic_urn, "news of the job are sent to spec.notification.topic_urn"
            foreseen.needs += (Need(PUBLISH, topic, why), Need(PUBLISH, topic, why, "agency"))
        return foreseen

    async def _input(self, caller: Caller, channel: requests.Input, local: str, needs: list[Need]) -> InputPath:
        """Where an input lies; the permissions to read it are added to `needs`."""
        what = f"input '{channel.name}'"
        if channel.remote.obs is not None:
            path = ObjectPath.parse(channel.remote.obs.obs_url, what)
            needs += Need.path(path, f"{what} is read")
            return InputPath(channel, path, local)
        assert channel.remote.dataset is not None  # one of the two, as the request's model says
        version = await self._version(caller.project_id, channel.remote.dataset, what)
        path = ObjectPath.parse(str(version.properties["manifest_path"]), f"manifest of {what}")
        read = Need.path(path, f"the manifest of {what} is read")
        needs += read
        if not (await caller.has(read[0])).allowed:
            return InputPath(channel, path, local, version)  # what it names is not for this caller to know
        folders = await manifest.folders(self._platform.objects, path)
        for folder in folders:
            needs += Need.path(folder, f"the samples of {what} are read")
        return InputPath(channel, path, local, version, tuple(folders))

    async def _version(self, project_id: str, wanted: requests.DatasetRemote, what: str) -> Resource:
        missing = Invalid(f"{what}: dataset '{wanted.id}' has no version '{wanted.version_id}' in this project")
        try:
            async with self._platform.database.read() as session:
                version = await self._platform.resources.get(
                    session, "version", project_id, wanted.version_id, plugin="dataset"
                )
        except NotFound:
            raise missing from None
        if version.properties.get("dataset_id") != wanted.id:
            raise missing
        if not version.properties.get("manifest_path"):
            raise Invalid(f"{what}: version '{version.name}' has no manifest (status '{version.status}')")
        return version


def _own_needs(project_id: str) -> list[Need]:
    """What its user does with a job: create it, follow it, end what costs."""
    jobs = str(Urn("training", project_id, "job", "*"))
    return [
        Need(CREATE, f"bottega:training:{project_id}:*", "the job is created"),
        Need(GET, jobs, "the job and its log are followed"),
        Need(STOP, jobs, "the job is stopped when it shall cost no more"),
    ]


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
    channels: Sequence[requests.Channel] = (*algorithm.inputs, *algorithm.outputs)
    told = [p.name for p in algorithm.parameters] + [c.name for c in channels]
    twice = sorted({name for name in told if told.count(name) > 1})
    if twice:
        raise Invalid(f"'{twice[0]}' is given twice among algorithm.parameters, inputs and outputs; names are unique")
    for name in algorithm.environments:
        if name.startswith(_PLATFORM_PREFIXES):
            raise Invalid(f"algorithm.environments: the platform sets '{name}' itself; choose another name")
