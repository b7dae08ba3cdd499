"""The bodies of requests, in the official client's shape (sdk_spec §3.1).

The client sends many more fields than a job needs. Those that would change what a job does and are not offered are
refused by name; the rest is ignored.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator


def _refuse(value: Any) -> None:
    if value:
        raise ValueError("is not offered by this installation; leave it out")


def _flat(value: Any) -> Any:
    # The official client reads `environments` back as a list of one mapping (sdk_spec §1.5).
    if isinstance(value, list):
        return {name: text for part in value for name, text in dict(part).items()}
    return value


NotOffered = Annotated[Any, AfterValidator(_refuse)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
ChannelName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_-]{0,63}$")]
VariableName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=8192)]
VariableValue = Annotated[str, Field(max_length=4096)]


class Body(BaseModel):
    model_config = ConfigDict(coerce_numbers_to_str=True, defer_build=True)


class Metadata(Body):
    name: Name
    workspace_id: str = "0"
    description: str = Field("", max_length=256)
    annotations: dict[str, str] | None = None


class Parameter(Body):
    """A hyperparameter. Without a value it becomes a bare ``--name``."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,127}$")]
    value: str | None = None
    description: str | None = None


class DatasetRemote(Body):
    id: str
    version_id: str


class ObsRemote(Body):
    obs_url: str


class InputRemote(Body):
    dataset: DatasetRemote | None = None
    obs: ObsRemote | None = None

    @model_validator(mode="after")
    def _one(self) -> InputRemote:
        if (self.dataset is None) == (self.obs is None):
            raise ValueError("give either dataset (id and version_id) or obs (obs_url)")
        return self


class OutputRemote(Body):
    obs: ObsRemote


class Channel(Body):
    name: ChannelName
    description: str | None = None
    local_dir: str | None = None
    access_method: Literal["parameter", "env"] = "parameter"


class Input(Channel):
    remote: InputRemote


class Output(Channel):
    remote: OutputRemote


class EngineChoice(Body):
    engine_id: str | None = None
    engine_name: str | None = None
    engine_version: str | None = None
    image_url: NotOffered = None


class Algorithm(Body):
    code_dir: str
    boot_file: str
    engine: EngineChoice
    parameters: list[Parameter] = Field([], max_length=200)
    inputs: list[Input] = Field([], max_length=50)
    outputs: list[Output] = Field([], max_length=50)
    environments: Annotated[dict[VariableName, VariableValue], BeforeValidator(_flat)] = Field({}, max_length=100)
    id: NotOffered = None
    subscription_id: NotOffered = None
    item_version_id: NotOffered = None
    command: NotOffered = None
    policies: NotOffered = None
    autosearch_config_path: NotOffered = None
    local_code_dir: NotOffered = None
    working_dir: NotOffered = None


class Resource(Body):
    flavor_id: str
    node_count: int = Field(1, ge=1)
    pool_id: NotOffered = None


class LogExportPath(Body):
    obs_url: str | None = None


class AutoStop(Body):
    time_unit: Literal["HOURS"]
    duration: int = Field(ge=1, le=24 * 365)


News = Literal["JobStarted", "JobCompleted", "JobFailed", "JobTerminated", "JobRestarted", "JobHanged", "JobPreempted"]
_OLDER_NAMES = {"OnJobRunning": "JobStarted", "OnJobSucceeded": "JobCompleted", "OnJobFailed": "JobFailed"}


class Notification(Body):
    """A topic that is told of the job's life: of its `events`, or of all (002 §5.3 calls them ``OnJobRunning`` …)."""

    topic_urn: str = Field(pattern=r"^urn:smn:[^:]+:[^:]+:[^:]+$", max_length=256)
    events: list[Annotated[News, BeforeValidator(lambda name: _OLDER_NAMES.get(str(name), name))]] = Field(
        [], max_length=20
    )


class JobSpec(Body):
    resource: Resource
    log_export_path: LogExportPath | None = None
    auto_stop: AutoStop | None = None
    notification: Notification | None = None
    volumes: NotOffered = None


class JobRequest(Body):
    kind: Literal["job"]
    metadata: Metadata
    algorithm: Algorithm
    spec: JobSpec
    tasks: NotOffered = None
    endpoints: NotOffered = None
    ftjob_config: NotOffered = None


class Action(Body):
    action_type: Literal["terminate"]


class Change(Body):
    description: str = Field("", max_length=256)


class DeletionMetadata(Body):
    id: str


class Deletion(Body):
    kind: Literal["job"] = "job"
    metadata: DeletionMetadata


class BatchDeletion(Body):
    jobs: list[Deletion] = Field(min_length=1, max_length=100)


class Filter(Body):
    key: Literal["name", "phase", "create_time", "engine_id"]
    operator: Literal["between", "like", "in", "not"]
    value: list[str] = Field(min_length=1, max_length=100)


class Search(Body):
    """`offset` counts pages here (sdk_spec §1.6)."""

    offset: int = Field(0, ge=0, le=10**6)
    limit: int = Field(10, ge=1, le=50)
    sort_by: Literal["create_time", "name"] = "create_time"
    order: Literal["asc", "desc"] = "desc"
    workspace_id: str | None = None
    filters: list[Filter] = Field([], max_length=20)
