"""What this plugin does beside answering: sending messages to subscribers, and events to webhooks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bottega.platform import Platform

from .dispatching import dispatching
from .webhooks.running import running


@asynccontextmanager
async def background(platform: Platform) -> AsyncIterator[None]:
    """At work as long as the block lasts."""
    async with dispatching(platform), running(platform):
        yield
