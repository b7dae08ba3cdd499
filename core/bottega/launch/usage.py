"""Watching what a workload uses: samples for its user, and the memory limit."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from pathlib import Path

import orjson

from bottega.launch.process import ProcessTree

_TICK_S = 0.5
_DENSE_S, _DENSE_EVERY_S, _EVERY_S = 60.0, 1.0, 5.0
_GPU_QUERY = ("--query-gpu=utilization.gpu,memory.used", "--format=csv,noheader,nounits")


class UsageWatch(threading.Thread):
    """Writes a sample to `usage` each second for a minute, then each 5 s, and touches `heartbeat` with it.

    Kills the tree when its memory passes `memory_mb`. A watch and not a resource limit of the system:
    limiting the address space breaks programs that map more than they use, such as PyTorch.
    """

    def __init__(self, tree: ProcessTree, memory_mb: int, usage: Path, heartbeat: Path) -> None:
        super().__init__(name="usage", daemon=True)
        self.out_of_memory = False
        self._tree = tree
        self._memory_mb = memory_mb
        self._usage = usage
        self._heartbeat = heartbeat
        self._gpu_tool = shutil.which("nvidia-smi")
        self._stopping = threading.Event()

    def stop(self) -> None:
        self._stopping.set()
        self.join()

    def run(self) -> None:
        began = time.monotonic()
        next_sample = began
        with self._usage.open("ab") as samples:
            while not self._stopping.is_set():
                members = self._tree.members()
                memory_mb = self._tree.memory_mb(members)
                if memory_mb > self._memory_mb:
                    memory_mb = self._tree.proportional_memory_mb(members)
                    if memory_mb > self._memory_mb:
                        self.out_of_memory = True
                        self._tree.kill()
                now = time.monotonic()
                if now >= next_sample:
                    sample = {
                        "at": time.time_ns() // 1_000_000,
                        "cpu_percent": round(self._tree.cpu_percent(members), 1),
                        "memory_mb": round(memory_mb, 1),
                        **self._gpu(),
                    }
                    samples.write(orjson.dumps(sample) + b"\n")
                    samples.flush()
                    os.utime(self._heartbeat)
                    next_sample = now + (_DENSE_EVERY_S if now - began < _DENSE_S else _EVERY_S)
                self._stopping.wait(_TICK_S)

    def _gpu(self) -> dict[str, float]:
        """Load averaged and memory summed over the machine's NVIDIA GPUs; nothing where there are none."""
        if self._gpu_tool is None:
            return {}
        try:
            output = subprocess.run(
                [self._gpu_tool, *_GPU_QUERY], capture_output=True, text=True, timeout=5, check=True
            ).stdout
            rows = [[float(value) for value in line.split(",")] for line in output.splitlines()]
        except (OSError, subprocess.SubprocessError, ValueError):
            self._gpu_tool = None  # no driver behind it: not asked again
            return {}
        if not rows:
            return {}
        return {
            "gpu_percent": sum(row[0] for row in rows) / len(rows),
            "gpu_memory_mb": sum(row[1] for row in rows),
        }
