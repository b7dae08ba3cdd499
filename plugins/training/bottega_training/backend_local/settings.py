"""What an operator may set under ``[plugins.backend-local]``."""

from __future__ import annotations

import os
import platform
from typing import Literal

import psutil
from pydantic import Field

from bottega.backends import Flavor
from bottega.settings import Section

NAME = "backend-local"
_LARGE_SHARE = 0.8
"""Of the machine's memory; the rest is the platform's and the system's."""


class FlavorSettings(Section):
    id: str
    name: str
    cpus: float = Field(gt=0)
    memory_mb: int = Field(ge=64)
    gpus: int = Field(0, ge=0)
    kinds: list[str] | None = None
    """The kinds of workload it is offered for; None: all."""


class LocalSettings(Section):
    flavors: list[FlavorSettings] = Field(default_factory=lambda: default_flavors())
    max_workloads: int = Field(16, ge=1)
    """More than these wait for one to end."""
    cpus: float = Field(default_factory=lambda: float(core_count()), gt=0)
    """How many processors training, conversion and the like may fill at once; the rest of them wait. Services and
    notebooks are mostly idle and live for days: they do not count, or nothing else would ever run."""
    on_shutdown: Literal["stop", "keep"] = "stop"
    """``stop``: an orderly end of the platform ends the workloads too and leaves nothing running. ``keep``: they
    run on and the next start adopts them, as it does after a crash."""
    keep_logs: int = Field(1000, ge=0)
    keep_logs_days: float = Field(30, ge=0)
    """Logs and measurements of ended workloads stay here so many days, but no more than so many of them."""
    token_lifetime_s: float = Field(3600, ge=10)
    """A workload's identity; renewed at half of it while the workload runs."""
    patience_s: float = Field(600, ge=0)
    """How long a workload waits for the platform or the object store to come back before a transfer fails."""

    def offered(self) -> list[Flavor]:
        return [
            Flavor(
                id=flavor.id,
                name=flavor.name,
                backend=NAME,
                cpus=flavor.cpus,
                memory_mb=flavor.memory_mb,
                gpus=flavor.gpus,
                arch=platform.machine(),
                **({} if flavor.kinds is None else {"kinds": flavor.kinds}),
            )
            for flavor in self.flavors
        ]


def default_flavors() -> list[FlavorSettings]:
    """One processor, two where there are two, and the whole machine."""
    cores = core_count()
    large = int(psutil.virtual_memory().total / 2**20 * _LARGE_SHARE)
    flavors = [
        FlavorSettings(id="local.small", name="1 processor, 2 GB", cpus=1, memory_mb=2048),
        FlavorSettings(id="local.medium", name="2 processors, 4 GB", cpus=2, memory_mb=4096),
        FlavorSettings(id="local.large", name="the whole machine", cpus=cores, memory_mb=large),
    ]
    return [flavor for flavor in flavors if flavor.cpus <= cores]


def cores() -> list[int]:
    """The processors this process may use, where the system tells which."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return []


def core_count() -> int:
    return len(cores()) or os.cpu_count() or 1
