"""Keeps what runs on this machine in step with what the database says shall run.

The database decides and the directories tell what is; events only say that it is time to look. So nothing depends
on an event coming once, in order, or before a crash, and a start of the platform is the same as any other look.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import anyio
import anyio.to_thread
import structlog
from pydantic import ValidationError

from bottega.backends import Flavor, WorkloadRequested, WorkloadStopRequested
from bottega.context import now_ms
from bottega.entities import Workload
from bottega.errors import ApiError
from bottega.events import Received
from bottega.launch.directory import Result, Stop, WorkloadDirectory
from bottega.platform import Platform
from bottega.private_files import private_directory
from bottega_training.backend_local import starting, traces
from bottega_training.backend_local.capacity import choose_cores, is_batch
from bottega_training.backend_local.settings import NAME, LocalSettings, cores

log = structlog.get_logger("bottega.backend-local")

_WATCH_S, _LOOK_S, _TIDY_S, _TROUBLE_S = 0.1, 5.0, 3600.0, 1.0
_SILENT_S = 60.0
_STOP_S = 10.0
"""How long launch may take, beyond the grace of its process, when the platform ends."""


@dataclass
class Running:
    """A workload whose launch was started, by this platform (`process`) or an earlier one."""

    workload: Workload
    directory: WorkloadDirectory
    cpus: float
    cores: list[int] | None
    grace_s: float
    process: subprocess.Popen[bytes] | None = None
    renew_at: float = 0.0
    stop: Stop | None = None
    told: Stop | None = None
    """The last `stop` that launch was signalled to read."""
    silent: bool = False


class Supervisor:
    def __init__(self, platform: Platform, settings: LocalSettings) -> None:
        self._platform = platform
        self._settings = settings
        self._flavors: dict[str, Flavor] = {flavor.id: flavor for flavor in settings.offered()}
        self._root = platform.data_dir / "workloads"
        self._running: dict[str, Running] = {}
        self._awake = asyncio.Event()

    async def on_requested(self, received: Received[WorkloadRequested]) -> None:
        if received.event.backend == NAME:
            self._awake.set()

    async def on_stop_requested(self, received: Received[WorkloadStopRequested]) -> None:
        if received.event.backend == NAME:
            self._awake.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Adopt what earlier platforms started, then look after everything until the end."""
        private_directory(self._root)
        await self._tidy()
        await self._look()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._run)
            try:
                yield
            finally:
                tasks.cancel_scope.cancel()
        if self._settings.on_shutdown == "stop":
            await self._stop_all()

    async def _run(self) -> None:
        look_at = tidy_at = 0.0
        tidy_at = time.monotonic() + _TIDY_S
        while True:
            try:
                now = time.monotonic()
                if self._awake.is_set() or now >= look_at:
                    self._awake.clear()
                    await self._look()
                    look_at = now + _LOOK_S
                await self._watch_all()
                if now >= tidy_at:
                    tidy_at = now + _TIDY_S
                    await self._tidy()
            except Exception:  # the database or the disk may be away: whatever it is, workloads stay looked after
                log.exception("workloads.not_looked_after")
                await anyio.sleep(_TROUBLE_S)
            with anyio.move_on_after(_WATCH_S if self._running else _LOOK_S):
                await self._awake.wait()

    async def _look(self) -> None:
        """Adopt, stop and start, by what the database says."""
        rows = sorted(await self._platform.workloads.open_on(NAME), key=lambda row: (row.requested_at, row.id))
        waiting = []
        for workload in rows:
            running = self._running.get(workload.id) or self._adopt(workload)
            if running is not None:
                if workload.stop_requested_at and running.stop is None:
                    running.stop = {"reason": "stopped on request", "store": True}
            elif workload.state != "requested":
                await self._finish(workload, "failed", "lost: the directory it ran in is gone")
            elif workload.stop_requested_at:
                await self._finish(workload, "stopped", "stopped before it started")
            else:
                waiting.append(workload)
        await self._start_waiting(waiting)

    def _adopt(self, workload: Workload) -> Running | None:
        directory = WorkloadDirectory(self._root / workload.id)
        if not directory.claimed:
            return None
        job = directory.job()
        flavor = self._flavors.get(workload.flavor)
        running = Running(
            workload,
            directory,
            cpus=flavor.cpus if flavor else 1,
            cores=job["cores"] if job else None,
            grace_s=job["spec"]["grace_s"] if job else 0,
        )
        log.info("workload.adopted", workload_id=workload.id, pid=directory.launch_pid())
        self._running[workload.id] = running
        return running

    async def _start_waiting(self, waiting: list[Workload]) -> None:
        """Start what fits, each kind of queue in order: one that waits for processors holds back those behind it."""
        batch_waits = False
        for workload in waiting:
            if len(self._running) >= self._settings.max_workloads:
                return
            flavor = self._flavors.get(workload.flavor)
            if flavor is None:
                await self._finish(workload, "failed", f"this machine no longer offers the flavor '{workload.flavor}'")
            elif is_batch(workload.kind) and (batch_waits or not self._fits(flavor)):
                batch_waits = True
            else:
                await self._start(workload, flavor)

    def _fits(self, flavor: Flavor) -> bool:
        batch = [running.cpus for running in self._running.values() if is_batch(running.workload.kind)]
        # Alone it always fits: a flavor larger than the limit would wait for ever.
        return not batch or sum(batch) + flavor.cpus <= self._settings.cpus

    async def _start(self, workload: Workload, flavor: Flavor) -> None:
        directory = WorkloadDirectory(self._root / workload.id)
        pinned = choose_cores(flavor.cpus, cores(), [running.cores for running in self._running.values()])
        try:
            job = starting.job_of(self._platform, workload, flavor, pinned, self._settings.patience_s)
            starting.prepare(directory, job)
            lifetime_s = self._settings.token_lifetime_s
            await starting.write_access(self._platform, workload, directory, lifetime_s)
            if not await self._platform.workloads.save_handle(workload.id, {"directory": str(directory.root)}):
                return
            # From here on a crash is no harm: launch claims the directory, and only one ever can.
            process = starting.spawn(directory)
        except (ApiError, OSError, ValidationError) as problem:
            await self._finish(workload, "failed", f"could not be started: {problem}")
            return
        running = Running(workload, directory, flavor.cpus, pinned, job["spec"]["grace_s"], process)
        running.renew_at = time.monotonic() + lifetime_s / 2
        self._running[workload.id] = running
        log.info("workload.starting", workload_id=workload.id, kind=workload.kind, pid=process.pid)

    async def _watch_all(self) -> None:
        for running in list(self._running.values()):
            await self._watch(running)

    async def _watch(self, running: Running) -> None:
        workload, directory = running.workload, running.directory
        pid = directory.launch_pid()  # first: once it is gone, what the files say is final
        status = directory.status()
        if status and status["started_at"] and workload.state == "requested":
            await self._platform.workloads.mark_started(workload.id, status["endpoints"], at=status["started_at"])
            workload.state = "started"
            log.info("workload.started", workload_id=workload.id)
        if pid is not None:
            if running.stop is not None and running.stop != running.told:
                directory.write_stop(running.stop)
                running.told = running.stop
                _signal(pid, signal.SIGTERM)
            if time.monotonic() >= running.renew_at:
                await self._renew(running)
            if status and status["phase"] == "running" and directory.heartbeat_age_s() > _SILENT_S:
                if not running.silent:
                    log.warning("workload.silent", workload_id=workload.id, pid=pid, for_s=_SILENT_S)
                running.silent = True
        elif running.process is None or running.process.poll() is not None:
            await self._settle(running)

    async def _settle(self, running: Running) -> None:
        workload, directory = running.workload, running.directory
        result = directory.result()
        if result is not None:
            await self._finish(workload, result["state"], result["reason"], result["exit_code"], result["finished_at"])
        elif directory.claimed:
            killed = await anyio.to_thread.run_sync(traces.kill_processes, workload.id)
            log.warning("workload.lost", workload_id=workload.id, processes_killed=killed)
            await self._finish(
                workload, "failed", "lost: the program that looked after it was killed, or the machine restarted"
            )
        elif running.stop is not None:
            await self._finish(workload, "stopped", running.stop["reason"])
        else:
            said = directory.last_words(directory.launch_log)
            await self._finish(workload, "failed", f"could not be started: {said or 'launch said nothing'}")
        del self._running[workload.id]
        self._awake.set()
        await anyio.to_thread.run_sync(traces.tidy, directory)

    async def _finish(
        self,
        workload: Workload,
        state: str,
        reason: str,
        exit_code: int | None = None,
        at: int | None = None,
    ) -> None:
        await self._platform.workloads.mark_finished(workload.id, state, reason=reason, exit_code=exit_code, at=at)
        directory = WorkloadDirectory(self._root / workload.id)
        if directory.root.is_dir() and directory.result() is None:  # what ended without launch's own word
            directory.write_result(Result(state=state, exit_code=exit_code, reason=reason, finished_at=at or now_ms()))
        log.info("workload.finished", workload_id=workload.id, state=state, reason=reason)

    async def _renew(self, running: Running) -> None:
        lifetime_s = self._settings.token_lifetime_s
        running.renew_at = time.monotonic() + lifetime_s / 2
        try:
            await starting.write_access(self._platform, running.workload, running.directory, lifetime_s)
        except ApiError as problem:
            # Its user is gone, say: it runs on, but cannot ask the platform for anything when the old one runs out.
            log.warning("workload.identity_not_renewed", workload_id=running.workload.id, reason=str(problem))

    async def _stop_all(self) -> None:
        """End everything because the platform ends. Outputs stay unstored: nothing answers transfers any more."""
        for running in self._running.values():
            reason = running.stop["reason"] if running.stop else "the platform was stopped"
            running.stop = {"reason": reason, "store": False}
        longest = max((running.grace_s for running in self._running.values()), default=0.0)
        kill_at = time.monotonic() + longest + _STOP_S
        while self._running:
            await self._watch_all()
            if time.monotonic() > kill_at:
                for running in self._running.values():
                    if pid := running.directory.launch_pid():
                        _signal(pid, signal.SIGKILL)
            await anyio.sleep(_WATCH_S / 2)

    async def _tidy(self) -> None:
        open_ids = {workload.id for workload in await self._platform.workloads.open_on(NAME)}
        await anyio.to_thread.run_sync(
            traces.tidy_ended, self._root, open_ids, self._settings.keep_logs, self._settings.keep_logs_days
        )


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
