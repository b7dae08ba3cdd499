"""One server process that the platform owns: started, watched, restarted, stopped, and never left behind.

It dies with the platform where the kernel offers that (Linux). Elsewhere, or when that failed, the next start
on the same directory finds it by its pid file and replaces it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import random
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import anyio
import psutil
import structlog

from bottega.errors import ConfigError
from bottega.private_files import write_private

log = structlog.get_logger("bottega.embedded")

_START_DEADLINE_S = 60.0  # a large JetStream store is read before the server listens
_STOP_GRACE_S = 5.0
_FIRST_BACKOFF_S, _LAST_BACKOFF_S, _STEADY_S = 0.1, 5.0, 30.0
_CLOCK_TOLERANCE_S = 60.0
_OUTPUT_LIMIT = 1 << 20
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


class ChildProcess:
    """Runs `command` in `directory`, keeps it running, and tells through `restarts` how often that took a
    restart.

    `ready` is awaited again and again after each start until it no longer raises OSError; what it lets
    through is that the server really answers. Use from one thread, the one that ends with the platform: on
    Linux the child is told to stop when the thread that started it ends.
    """

    def __init__(
        self,
        name: str,
        directory: Path,
        *,
        command: Sequence[str],
        environment: Mapping[str, str],
        ready: Callable[[], Awaitable[None]],
    ) -> None:
        self.name = name
        self.restarts = 0
        self._directory = directory
        self._command = list(command)
        self._environment = dict(environment)
        self._ready = ready
        self._process: asyncio.subprocess.Process | None = None
        self._supervisor: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError(f"{self.name} is not started")
        return self._process.pid

    async def start(self) -> None:
        """Return once the server answers. Raises ConfigError, with its last words, when it ends or stays
        silent."""
        try:
            await self._spawn()
        except BaseException:
            await self.stop()
            raise
        self._supervisor = asyncio.create_task(self._supervise(), name=f"supervise {self.name}")

    async def stop(self) -> None:
        """Ask it to end, insist after a grace of 5 s. Does nothing when it does not run."""
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.wait({self._supervisor})
            self._supervisor = None
        if self._process is not None:
            await self._end(self._process)
            self._process = None
        self._pid_file.unlink(missing_ok=True)

    async def _supervise(self) -> None:
        backoff = _FIRST_BACKOFF_S
        clock = asyncio.get_running_loop()
        while self._process is not None:
            up_since = clock.time()
            code = await self._process.wait()
            if clock.time() - up_since > _STEADY_S:
                backoff = _FIRST_BACKOFF_S
            log.warning("embedded.died", server=self.name, exit_code=code, restart_in_s=backoff)
            await asyncio.sleep(backoff)
            backoff = min(backoff * 2, _LAST_BACKOFF_S)
            try:
                await self._spawn()
            except (ConfigError, OSError) as problem:
                log.error("embedded.restart_failed", server=self.name, error=str(problem))
                continue
            self.restarts += 1
            log.warning("embedded.restarted", server=self.name, pid=self.pid, restarts=self.restarts)

    async def _spawn(self) -> None:
        output = self._open_output()
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self._environment,
                cwd=self._directory,
                start_new_session=True,  # Ctrl-C on the terminal is for the platform, which stops in order
                preexec_fn=_enter_child(os.getpid()),
            )
        finally:
            os.close(output)
        self._process = process
        with contextlib.suppress(psutil.NoSuchProcess):
            created = psutil.Process(process.pid).create_time()
            record = {"pid": process.pid, "create_time": created, "command": self._command}
            write_private(self._pid_file, json.dumps(record))
        try:
            await self._answer(process)
        except BaseException:
            await self._end(process)
            raise

    async def _answer(self, process: asyncio.subprocess.Process) -> None:
        clock = asyncio.get_running_loop()
        deadline = clock.time() + _START_DEADLINE_S
        while True:
            try:
                return await self._ready()
            except OSError as problem:
                if process.returncode is not None:
                    raise ConfigError(
                        f"{self.name} ended at once with status {process.returncode}: {self._last_words()}"
                    ) from problem
                if clock.time() > deadline:
                    raise ConfigError(
                        f"{self.name} did not answer within {_START_DEADLINE_S:.0f} s ({problem}): {self._last_words()}"
                    ) from problem
            await asyncio.sleep(0.01)

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        if process.returncode is not None:
            return
        with anyio.CancelScope(shield=True):
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            with anyio.move_on_after(_STOP_GRACE_S):
                await process.wait()
                return
            log.warning("embedded.killed", server=self.name, grace_s=_STOP_GRACE_S)
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    @property
    def _pid_file(self) -> Path:
        return self._directory / f"{self.name}.pid"

    @property
    def _output(self) -> Path:
        return self._directory / f"{self.name}.out"

    def _open_output(self) -> int:
        descriptor = os.open(self._output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        if os.fstat(descriptor).st_size > _OUTPUT_LIMIT:
            os.ftruncate(descriptor, 0)
        return descriptor

    def _last_words(self) -> str:
        """The end of what it printed and logged, for the person who has to repair it."""
        said = []
        for path in (self._output, self._directory / f"{self.name}.log"):
            with contextlib.suppress(OSError):
                said += path.read_text(errors="replace").splitlines()[-2:]
        return " / ".join(said) or "it said nothing"


def end_stale(directory: Path, name: str) -> None:
    """End the process an earlier platform left behind in `directory`, if it still runs. Blocks up to 10 s.

    It is ended only when pid, command line and start time are those of the pid file, so a pid that was given
    to another program meanwhile is left alone. Raises ConfigError when it cannot be ended.
    """
    pid_file = directory / f"{name}.pid"
    process = _left_behind(pid_file)
    if process is not None:
        log.warning("embedded.stale_child", server=name, pid=process.pid)
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
            _, alive = psutil.wait_procs([process], timeout=_STOP_GRACE_S)
            for stuck in alive:
                stuck.kill()
            if psutil.wait_procs(alive, timeout=_STOP_GRACE_S)[1]:
                raise ConfigError(f"{name}, process {process.pid}, still uses {directory} and cannot be ended")
    pid_file.unlink(missing_ok=True)


def _left_behind(pid_file: Path) -> psutil.Process | None:
    try:
        record = json.loads(pid_file.read_text(encoding="utf-8"))
        process = psutil.Process(record["pid"])
        # The command line names our own directory; the tolerance is for clocks that were set since.
        same_command = process.cmdline() == record["command"]
        same_start = abs(process.create_time() - record["create_time"]) < _CLOCK_TOLERANCE_S
    except (FileNotFoundError, ValueError, KeyError, TypeError, psutil.NoSuchProcess, psutil.AccessDenied):
        return None  # no record or a damaged one; the process is gone, or its number is another user's
    return process if same_command and same_start else None


def choose_port(remembered: Path) -> int:
    """The port of 127.0.0.1 kept in the file `remembered` when it is free, else a free one, kept there.

    Ports below the range the system gives to outgoing connections are taken: inside it, a client that
    reconnects while the server is away can be given the very port it calls and so meet itself.
    """
    with contextlib.suppress(FileNotFoundError, ValueError):
        port = int(remembered.read_text())
        if port_is_free(port):
            return port
        log.warning("embedded.port_taken", port=port, file=str(remembered))
    for port in random.sample(range(20_000, 30_000), 1_000):
        if port_is_free(port):
            write_private(remembered, str(port))
            return port
    raise ConfigError("no free port on 127.0.0.1 between 20000 and 30000")


def port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do: ignore TIME_WAIT
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError):
            return False
        return True


def _enter_child(parent: int) -> Callable[[], None]:
    def enter() -> None:
        # Runs between fork and exec: only system calls, on names resolved before.
        os.umask(0o077)
        if _libc is not None:
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:  # the platform died before the call above
                os._exit(1)

    return enter
