"""Hook implementations of ``backend-local``."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from bottega.hookspecs import hookimpl

if TYPE_CHECKING:
    from pydantic import BaseModel

    from bottega.backends import Backend
    from bottega.bus import Bus
    from bottega.platform import Platform


@hookimpl
def bottega_settings() -> type[BaseModel]:
    from bottega_training.backend_local.settings import LocalSettings

    return LocalSettings


@hookimpl
def bottega_backends(platform: Platform) -> Backend:
    from bottega_training.backend_local.backend import LocalBackend

    return LocalBackend(platform, platform.settings)


@hookimpl
def bottega_subscribe(bus: Bus, platform: Platform) -> None:
    from bottega.backends import WorkloadRequested, WorkloadStopRequested
    from bottega_training.backend_local.backend import LocalBackend

    supervisor = LocalBackend.of(platform).supervisor
    bus.on_external(WorkloadRequested, supervisor.on_requested)
    bus.on_external(WorkloadStopRequested, supervisor.on_stop_requested)


@hookimpl
def bottega_lifespan(platform: Platform) -> AbstractAsyncContextManager[None]:
    from bottega_training.backend_local.backend import LocalBackend

    return LocalBackend.of(platform).supervisor.running()
