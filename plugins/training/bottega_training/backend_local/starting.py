"""Preparing a workload's directory and starting launch in it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from bottega.backends import Flavor, WorkloadSpec
from bottega.entities import Workload
from bottega.errors import Invalid
from bottega.launch.directory import Job, Spec, WorkloadDirectory, write_whole
from bottega.platform import Platform
from bottega.private_files import private_directory
from bottega_training.backend_local.capacity import is_batch

_DISK_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_PASSED_ON = ("LD_LIBRARY_PATH", "TZ", "CUDA_VISIBLE_DEVICES")
_NICE = 5


def job_of(platform: Platform, workload: Workload, flavor: Flavor, cores: list[int] | None, patience_s: float) -> Job:
    """What launch is to do. Raises Invalid for what this backend cannot."""
    if workload.node_count != 1:
        raise Invalid(f"this backend runs on one machine; the workload asks for {workload.node_count} nodes")
    spec = WorkloadSpec.model_validate(workload.spec)
    root = platform.data_dir / "workloads"
    work = root / workload.id / "work"
    if spec.persistent_dir is not None:
        if not _DISK_NAME.fullmatch(spec.persistent_dir):
            raise Invalid(f"'{spec.persistent_dir}' is no name for a disk: letters, digits, '.', '_' and '-'")
        work = platform.data_dir / "disks" / spec.persistent_dir
    fields = spec.model_dump(mode="json", include=set(Spec.__annotations__))
    return Job(
        workload_id=workload.id,
        project_id=workload.project_id,
        kind=workload.kind,
        spec=Spec(**fields),  # type: ignore[typeddict-item]  # the same fields, a test compares them
        work_dir=str(work),
        ports_dir=str(root / ".ports"),
        threads=max(1, round(flavor.cpus)),
        cores=cores,
        memory_mb=flavor.memory_mb,
        nice=_NICE if is_batch(workload.kind) else 0,
        nats_url=platform.nats_url if spec.nats_publish or spec.nats_subscribe else None,
        patience_s=patience_s,
    )


async def write_access(platform: Platform, workload: Workload, directory: WorkloadDirectory, lifetime_s: float) -> None:
    """Give the workload a fresh identity: a token, and NATS credentials if its spec names subjects."""
    token = await platform.identity.issue_workload_token(workload, lifetime_s)
    directory.write_access({"url": platform.url, "token": token})
    publish, subscribe = workload.spec.get("nats_publish") or [], workload.spec.get("nats_subscribe") or []
    if publish or subscribe:
        credentials = platform.nats_credentials(f"workload-{workload.id}", publish, subscribe, lifetime_s)
        write_whole(directory.nats_file, credentials.encode())


def spawn(directory: WorkloadDirectory) -> subprocess.Popen[bytes]:
    """Start launch so that it outlives the platform: a session of its own, nothing inherited, output to a file."""
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    # The platform's own programs (jupyter, torchrun) come first.
    environment["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
    with directory.launch_log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "bottega.launch", str(directory.job_file)],
            cwd=directory.root,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def prepare(directory: WorkloadDirectory, job: Job) -> None:
    """Make the directory, or take it up again: the platform may have died on the way to starting launch."""
    private_directory(directory.root)
    directory.write_job(job)
