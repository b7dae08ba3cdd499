"""The parts of webhooks in one process: made with the plugin's handlers, at work as long as the platform runs."""

from __future__ import annotations

import socket
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import new_class

import anyio

from bottega.bus import Bus
from bottega.event_rights import event_types
from bottega.events import Event
from bottega.platform import Platform
from bottega.plugins import Plugins
from bottega_billing_iam.notify.addresses import Addresses
from bottega_billing_iam.notify.http import Client

from .dispatcher import Dispatcher
from .queue import Queue
from .registry import Registry
from .replay import Replayer
from .retention import keep_tidy
from .sending import Sender
from .service import Webhooks


class Parts:
    """One process's webhooks."""

    def __init__(self, platform: Platform) -> None:
        settings = platform.settings
        addresses = Addresses(settings.allowed_networks)
        self.registry = Registry(platform.sealer)
        self.client = Client(addresses, settings.webhook_timeout_s)
        self.sender = Sender(platform, self.client)
        # Only one platform runs on a data directory at a time.
        holder = f"{socket.gethostname()}:{platform.data_dir}"
        self.dispatcher = Dispatcher(platform, self.registry, self.sender, holder)
        self.queue = Queue(platform, self.registry, self.dispatcher.wake)
        self.replayer = Replayer(platform, self.queue)
        self.webhooks = Webhooks(platform, addresses)


_parts: weakref.WeakKeyDictionary[Plugins, Parts] = weakref.WeakKeyDictionary()


def parts(platform: Platform) -> Parts:
    """The same parts for the handlers, the routes and the work of one platform."""
    found = _parts.get(platform.shared.plugins)
    if found is None:
        found = _parts[platform.shared.plugins] = Parts(platform)
    return found


def subscribe(bus: Bus, platform: Platform) -> None:
    """Hear every type that is published here; a reader without fields reads any."""
    queue = parts(platform).queue
    for type in event_types(platform.shared.plugins):
        bus.on(new_class("AnyEvent", (Event,), {"type": type}), queue.on_event)


@asynccontextmanager
async def running(platform: Platform) -> AsyncIterator[None]:
    """Deliver, replay and tidy up as long as the block lasts."""
    mine = parts(platform)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(mine.dispatcher.run)
            tasks.start_soon(mine.replayer.run)
            tasks.start_soon(keep_tidy, platform)
            yield
            tasks.cancel_scope.cancel()
    finally:
        mine.client.close()
        _parts.pop(platform.shared.plugins, None)  # they know the platform, and would keep it for ever
