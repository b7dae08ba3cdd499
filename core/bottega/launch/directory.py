"""The directory of one workload: how its launch process and the backend that started it speak to each other.

============== ======= =================================================================================
file           writer  content
============== ======= =================================================================================
``job.json``   backend what to run (`Job`)
``access.json`` backend the platform's URL and a short-lived token (`Access`), renewed while the workload runs
``nats.creds`` backend NATS credentials of the workload, renewed with it; absent when it needs none
``stop.json``  backend why it shall end (`Stop`), written before the SIGTERM that says to read it
``launch.pid`` launch  the claim: made once, locked as long as launch lives
``status.json`` launch how far it is (`Status`); its modification time is the heartbeat
``result.json`` launch how it ended (`Result`), the last thing launch writes
``log.txt``    user    standard output and error of the user's process
``usage.jsonl`` launch one sample of CPU and memory a line
``launch.log`` launch  its own troubles, for the operator
``work/``      both    the user's working directory, unless the workload has a disk that outlives it
``tmp/``       user    the user's TMPDIR
============== ======= =================================================================================
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict, cast

import orjson

from bottega.launch.failure import LaunchFailure

Phase = Literal["preparing", "running", "uploading", "done"]


class TransferItem(TypedDict):
    path: str
    local: str
    manifest: NotRequired[bool]


class Spec(TypedDict):
    """The fields of ``bottega.backends.WorkloadSpec`` that launch acts on, as documented there."""

    command: list[str]
    environment: dict[str, str]
    inputs: list[TransferItem]
    outputs: list[TransferItem]
    files: dict[str, str]
    log_path: str | None
    ports: list[str]
    readiness: str | None
    readiness_timeout_s: float
    timeout_s: float | None
    grace_s: float
    upload_every_s: float


class Job(TypedDict):
    """What to run and within which limits. `cores` pins to processors (None: any); `nice` lowers its rank."""

    workload_id: str
    project_id: str
    kind: str
    spec: Spec
    work_dir: str
    ports_dir: str
    threads: int
    cores: list[int] | None
    memory_mb: int
    nice: int
    nats_url: str | None
    patience_s: float
    """How long a transfer is tried again while the platform or the object store is away."""


class Access(TypedDict):
    url: str
    token: str


class Status(TypedDict):
    """`started_at` is epoch milliseconds, None until the process runs and is ready."""

    phase: Phase
    started_at: int | None
    endpoints: dict[str, str]


class Result(TypedDict):
    """`state` is ``succeeded``, ``failed`` or ``stopped``; killed by signal N is exit code 128 + N."""

    state: str
    exit_code: int | None
    reason: str
    finished_at: int


class Stop(TypedDict):
    """`store`: whether there is still somebody to store the outputs with; not when the platform itself ends."""

    reason: str
    store: bool


class WorkloadDirectory:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.job_file = root / "job.json"
        self.access_file = root / "access.json"
        self.nats_file = root / "nats.creds"
        self.stop_file = root / "stop.json"
        self.claim_file = root / "launch.pid"
        self.status_file = root / "status.json"
        self.result_file = root / "result.json"
        self.log = root / "log.txt"
        self.usage = root / "usage.jsonl"
        self.launch_log = root / "launch.log"
        self.work = root / "work"
        self.temporary = root / "tmp"
        self._claim: int | None = None

    def claim(self) -> bool:
        """Take the workload for this process, for ever; False when one took it before.

        The file appears locked and complete, so nobody sees a claim that is half made; whoever finds it
        unlocked knows that its maker is gone, whatever became of the process id.
        """
        draft = self.root / f".claim.{os.getpid()}"
        descriptor = os.open(draft, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.write(descriptor, str(os.getpid()).encode())
        try:
            os.link(draft, self.claim_file)
        except FileExistsError:
            os.close(descriptor)
            return False
        finally:
            draft.unlink()
        self._claim = descriptor
        return True

    @property
    def claimed(self) -> bool:
        return self.claim_file.exists()

    def launch_pid(self) -> int | None:
        """The process that runs this workload now; None when none does (not yet, or no longer)."""
        try:
            descriptor = os.open(self.claim_file, os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return int(os.read(descriptor, 20))
        finally:
            os.close(descriptor)
        return None

    def write_job(self, job: Job) -> None:
        write_whole(self.job_file, orjson.dumps(job))

    def job(self) -> Job | None:
        return cast("Job | None", _read(self.job_file))

    def write_access(self, access: Access) -> None:
        write_whole(self.access_file, orjson.dumps(access))

    def access(self) -> Access:
        """Read anew for each use: the backend renews it, and a restarted platform may have another URL."""
        return cast(Access, orjson.loads(self.access_file.read_bytes()))

    def write_status(self, status: Status) -> None:
        write_whole(self.status_file, orjson.dumps(status))

    def status(self) -> Status | None:
        return cast("Status | None", _read(self.status_file))

    def heartbeat_age_s(self) -> float:
        return time.time() - self.status_file.stat().st_mtime

    def write_result(self, result: Result) -> None:
        write_whole(self.result_file, orjson.dumps(result))

    def result(self) -> Result | None:
        return cast("Result | None", _read(self.result_file))

    def write_stop(self, stop: Stop) -> None:
        write_whole(self.stop_file, orjson.dumps(stop))

    def stop(self) -> Stop:
        """Why SIGTERM came."""
        found = cast("Stop | None", _read(self.stop_file))
        return found or {"reason": "ended by a signal from outside the platform", "store": True}

    def last_words(self, file: Path) -> str:
        """The last line of `file` that says something, shortened for a one-line reason."""
        try:
            with file.open("rb") as stream:
                stream.seek(max(0, stream.seek(0, os.SEEK_END) - 4096))
                lines = stream.read().decode("utf-8", "replace").splitlines()
        except FileNotFoundError:
            return ""
        return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "")


def write_whole(path: Path, content: bytes) -> None:
    """Replace a private file in one step, so that a reader or a crash never meets half of it."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with open(os.open(draft, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)


def _read(path: Path) -> Any:
    try:
        return orjson.loads(path.read_bytes())
    except FileNotFoundError:
        return None


def inside(base: Path, relative: str) -> Path:
    """`base` / `relative`. Raises LaunchFailure when that leads out of `base`, as written or by a link."""
    if relative.startswith("/") or ".." in relative.split("/") or "\0" in relative:
        raise LaunchFailure(f"'{relative}' leads out of the workload's directory")
    target = base / relative
    if not target.resolve().is_relative_to(base.resolve()):
        raise LaunchFailure(f"'{relative}' leads out of the workload's directory through a link")
    return target
