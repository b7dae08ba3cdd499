"""What workloads leave behind: processes that outlived their launcher, directories, logs."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import structlog

from bottega.launch.directory import WorkloadDirectory

log = structlog.get_logger("bottega.backend-local")
_KILL_DEADLINE_S = 10.0


def kill_processes(workload_id: str) -> int:
    """Kill every process that carries the workload's id in its environment; returns how many. Blocks.

    For when launch, who otherwise does this, was killed itself.
    """
    killed, deadline = 0, time.monotonic() + _KILL_DEADLINE_S
    while (found := list(_processes_of(workload_id))) and time.monotonic() < deadline:
        for process in found:
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                process.kill()
                killed += 1
        time.sleep(0.02)
    return killed


def _processes_of(workload_id: str) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied, OSError):
            if process.environ().get("BOTTEGA_WORKLOAD_ID") == workload_id and process.status() != psutil.STATUS_ZOMBIE:
                yield process


def tidy(directory: WorkloadDirectory) -> None:
    """Remove what an ended workload needs no more; its log, measurements and result stay. Blocks."""
    for folder in (directory.work, directory.temporary):
        shutil.rmtree(folder, ignore_errors=True)
    for file in (directory.job_file, directory.access_file, directory.nats_file, directory.stop_file):
        file.unlink(missing_ok=True)


def tidy_ended(root: Path, open_ids: set[str], keep: int, keep_days: float) -> None:
    """Clear up after all workloads but the open ones, and forget the older of them. Blocks.

    One that still runs though the database says that it ended, or knows nothing of it, is ended.
    """
    ended = []
    for path in root.iterdir():
        if path.name.startswith(".") or path.name in open_ids or not path.is_dir():
            continue
        directory = WorkloadDirectory(path)
        ended.append((path.stat().st_mtime, path))
        pid = directory.launch_pid()
        if pid is not None:
            log.warning("workload.unknown", workload_id=path.name, pid=pid)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            kill_processes(path.name)
        tidy(directory)
    oldest = time.time() - keep_days * 86400
    ended.sort(reverse=True)
    for number, (changed, path) in enumerate(ended):
        if number >= keep or changed < oldest:
            shutil.rmtree(path, ignore_errors=True)
