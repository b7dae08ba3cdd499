"""Workloads as a backend sees them: the spec, the flavors, the protocol, and the events that drive a backend.

The life of a workload: a plugin calls ``Workloads.request``; ``core.workload.requested.v1`` reaches the
backend named in it, which starts ``bottega.launch`` with the spec; the backend reports ``started`` and ``finished``
through ``Workloads.mark_started`` and ``Workloads.mark_finished``, which commit the row and the event together.
"""

from __future__ import annotations

from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, Field

from bottega.events import Event


class Transfer(BaseModel):
    """Something that is fetched before the start or stored at the end.

    `path` is an object path (a folder when it ends with ``/``); `local` is relative to the workload's directory.
    An input with `manifest` is a dataset version's manifest: it and the objects it names are fetched into the folder
    `local` (`bottega.launch.manifests`); the spec's `may_read` must cover those objects.
    """

    model_config = ConfigDict(extra="forbid")
    path: str
    local: str
    manifest: bool = False


class WorkloadSpec(BaseModel):
    """What to run.

    `command` is an argument vector; ``{python}`` stands for the backend's interpreter, ``{port:NAME}`` for a port of
    `ports`, ``{dir}`` for the workload's directory, in arguments and environment alike. `readiness` is
    ``NAME:/path``: the workload counts as started when that port answers HTTP 2xx (without it, when the process runs).
    Folders in `outputs` and the log are stored while it runs (each `upload_every_s`) and at the end, whatever the
    exit code. `may_read` / `may_write` are object-path prefixes the workload's short-lived identity can presign;
    those of code, inputs, outputs and log are included by themselves.
    """

    model_config = ConfigDict(extra="forbid")
    command: list[str] = Field(min_length=1)
    environment: dict[str, str] = {}
    inputs: list[Transfer] = []
    outputs: list[Transfer] = []
    files: dict[str, str] = {}
    """Small text files written into the directory before the start: relative path → content."""
    persistent_dir: str | None = None
    """Name of a directory that outlives the workload (a notebook's disk); None: a fresh one, removed afterwards."""
    log_path: str | None = None
    ports: list[str] = []
    readiness: str | None = None
    readiness_timeout_s: float = 120
    may_read: list[str] = []
    may_write: list[str] = []
    session_policy: dict[str, Any] | None = None
    """Limits what the workload's token may do beyond the rights of the user it acts for; None: objects only."""
    agency_id: str | None = None
    """The agency that asked for it, set by the platform: its rights are the workload's, instead of the user's."""
    nats_publish: list[str] = []
    nats_subscribe: list[str] = []
    timeout_s: float | None = None
    grace_s: float = 10
    upload_every_s: float = 15


class Flavor(BaseModel):
    """A size of machine. `memory_mb` is enforced where the backend can. Prices belong to billing, by `id`."""

    id: str
    name: str
    backend: str
    cpus: float
    memory_mb: int
    gpus: int = 0
    arch: str = "x86_64"
    kinds: list[str] = ["training", "notebook", "serving", "conversion", "dataset"]


class WorkloadRequested(Event, type="core.workload.requested.v1"):
    """A workload was asked for; its backend starts it."""

    workload_id: str
    kind: str
    backend: str
    flavor: str
    resource_urn: str


class WorkloadStopRequested(Event, type="core.workload.stop_requested.v1"):
    """A workload shall end; its backend stops the whole process group."""

    workload_id: str
    backend: str


class WorkloadStarted(Event, type="core.workload.started.v1"):
    """A workload runs (and is ready, when its spec says how to tell). Metering starts here."""

    workload_id: str
    kind: str
    backend: str
    flavor: str
    node_count: int
    resource_urn: str
    endpoints: dict[str, str]
    started_at: int


class WorkloadFinished(Event, type="core.workload.finished.v1"):
    """A workload ended. `state` is ``succeeded``, ``failed`` or ``stopped``. `started_at` is None if it never ran."""

    workload_id: str
    kind: str
    backend: str
    flavor: str
    node_count: int
    resource_urn: str
    state: str
    reason: str
    exit_code: int | None
    started_at: int | None
    finished_at: int


class LogChunk(BaseModel):
    """A piece of a log: `text` from byte `offset`; the next begins at `next_offset`; `complete`: no more comes."""

    text: str
    offset: int
    next_offset: int
    size: int
    complete: bool


class UsageSample(BaseModel):
    """Resource use of a workload at a time: CPU in percent of one core, memory in MB."""

    at: int
    cpu_percent: float
    memory_mb: float
    gpu_percent: float | None = None
    gpu_memory_mb: float | None = None


class Backend(Protocol):
    """A hardware backend, filled in by plugins through ``bottega_backends``."""

    name: str

    def flavors(self) -> list[Flavor]: ...
    async def read_log(self, workload_id: str, offset: int = 0, limit: int = 65536) -> LogChunk:
        """Standard output and error of the user's process, together. A negative offset counts from the end.

        Raises NotFound when this backend holds no log of the workload (any more)."""
        ...

    async def read_usage(self, workload_id: str) -> list[UsageSample]: ...
