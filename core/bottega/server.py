"""``bottega up``: the whole platform in one process, from start to a clean stop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import structlog

from bottega import logs
from bottega.cli_support import console
from bottega.runtime import Runtime, bind_listener
from bottega.settings import load_settings

log = structlog.get_logger("bottega")


def serve(config: Path | None, overrides: Mapping[str, Any]) -> None:
    """Run until SIGINT or SIGTERM. Raises ConfigError for settings that are wrong."""
    settings = load_settings(config, overrides)
    logs.configure(settings.log)
    with contextlib.suppress(ImportError):
        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    listener = bind_listener(settings.server.host, settings.server.port)
    runtime = Runtime(settings)

    async def run() -> None:
        stopping = anyio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stopping.set)
        async with runtime.running(listener):
            gc.freeze()  # what is there now is never garbage: no collection has to look at it again
            gc.enable()
            _greet(runtime, config)
            await stopping.wait()

    with listener:
        asyncio.run(run())


def _greet(runtime: Runtime, config: Path | None) -> None:
    url, file = runtime.platform.url, runtime.credentials_file
    console.print(f"[bold green]Bottega is up[/] at [bold]{url}[/]  (Ctrl-C stops it)")
    if config is not None:
        console.print(f"Settings are from {config.resolve()}", highlight=False, markup=False, soft_wrap=True)
    if runtime.first_password:
        console.print(
            f"Log in as [bold]{runtime.settings.account}[/]; password and access key are in {file}", soft_wrap=True
        )
    console.print("To use the command line, say in your shell:")
    console.print(f"export BOTTEGA_CREDENTIALS={file}", highlight=False, markup=False, soft_wrap=True)
    for plugin in runtime.plugins.all.values():
        if plugin.state == "broken":
            console.print(f"[red]plugin {plugin.name} is broken[/]: ", end="")
            console.print(plugin.reason, markup=False)
