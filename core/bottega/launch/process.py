"""The user's process and everything it starts: one group to signal, one tree to measure and to end."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

from bottega.launch.failure import LaunchFailure

_PR_SET_CHILD_SUBREAPER = 36
_MB = 1 << 20
_KILL_DEADLINE_S = 10.0


class ProcessTree:
    """Starts `argv` as the leader of its own process group, standard output and error together into `log`.

    On Linux a daemon that leaves the group and the tree becomes a child of launch again (subreaper), so none
    escapes.
    Use `end` and `poll` from one thread; the measuring methods from any.
    """

    def __init__(self, argv: Sequence[str], environment: Mapping[str, str], directory: Path, log: Path) -> None:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        with log.open("ab") as output:
            try:
                self._main = subprocess.Popen(
                    argv,
                    env=dict(environment),
                    cwd=directory,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    process_group=0,
                )
            except OSError as problem:
                raise LaunchFailure(f"cannot start '{argv[0]}': {problem.strerror}") from problem
        self._self = psutil.Process()
        self._cpu_seconds: dict[int, float] = {}
        self._measured_at = time.monotonic()

    def poll(self) -> int | None:
        return self._main.poll()

    def members(self) -> list[psutil.Process]:
        """Every living process of the workload; those that ended as orphans are laid to rest."""
        living = []
        for process in self._self.children(recursive=True):
            try:
                if process.status() != psutil.STATUS_ZOMBIE:
                    living.append(process)
                elif process.pid != self._main.pid and process.ppid() == self._self.pid:
                    os.waitpid(process.pid, os.WNOHANG)
            except (psutil.NoSuchProcess, ChildProcessError):
                continue
        return living

    def memory_mb(self, members: Sequence[psutil.Process]) -> float:
        """Resident memory of `members`; pages they share count once for each."""
        return self._sum_mb(members, lambda process: int(process.memory_info().rss))

    def proportional_memory_mb(self, members: Sequence[psutil.Process]) -> float:
        """The same, shared pages counted once in all where the system tells (Linux); slow."""

        def proportional(process: psutil.Process) -> int:
            info = process.memory_full_info()
            return int(getattr(info, "pss", info.uss))

        return self._sum_mb(members, proportional)

    def cpu_percent(self, members: Sequence[psutil.Process]) -> float:
        """Processor time used since the last call, in percent of one core."""
        now, used, seconds = time.monotonic(), 0.0, {}
        for process in members:
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                times = process.cpu_times()
                seconds[process.pid] = times.user + times.system
                used += max(0.0, seconds[process.pid] - self._cpu_seconds.get(process.pid, 0.0))
        percent = 100 * used / max(1e-3, now - self._measured_at)
        self._cpu_seconds, self._measured_at = seconds, now
        return percent

    def end(self, grace_s: float) -> None:
        """Ask the group to end, wait for the leader up to `grace_s`, then kill what is left of the tree."""
        self._signal_group(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._main.wait(grace_s)
        self.kill()
        self._main.wait()

    def kill(self) -> None:
        """Kill the whole tree; what it starts meanwhile is killed too."""
        self._signal_group(signal.SIGKILL)
        deadline = time.monotonic() + _KILL_DEADLINE_S  # for what the kernel holds back, on a dead disk say
        while (members := self.members()) and time.monotonic() < deadline:
            for process in members:
                with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                    process.kill()
            time.sleep(0.01)

    def _signal_group(self, number: signal.Signals) -> None:
        # The leader may be gone and waited for while others of its group live: the number stays theirs.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._main.pid, number)

    @staticmethod
    def _sum_mb(members: Sequence[psutil.Process], size: Callable[[psutil.Process], int]) -> float:
        total = 0
        for process in members:
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                total += size(process)
        return total / _MB
