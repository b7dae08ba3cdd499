"""Hook implementations of ``backend-local``."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import cast

from pydantic import BaseModel

from bottega.backends import Backend, WorkloadRequested, WorkloadStopRequested
from bottega.bus import Bus
from bottega.hookspecs import hookimpl
from bottega.platform import Platform
from bottega_training.backend_local.backend import LocalBackend
from bottega_training.backend_local.settings import NAME, LocalSettings


@hookimpl
def bottega_settings() -> type[BaseModel]:
    return LocalSettings


@hookimpl
def bottega_backends(platform: Platform) -> Backend:
    return LocalBackend(platform, platform.settings)


@hookimpl
def bottega_subscribe(bus: Bus, platform: Platform) -> None:
    supervisor = _own(platform).supervisor
    bus.on_external(WorkloadRequested, supervisor.on_requested)
    bus.on_external(WorkloadStopRequested, supervisor.on_stop_requested)


@hookimpl
def bottega_lifespan(platform: Platform) -> AbstractAsyncContextManager[None]:
    return _own(platform).supervisor.running()


def _own(platform: Platform) -> LocalBackend:
    return cast(LocalBackend, platform.workloads.backend(NAME))
