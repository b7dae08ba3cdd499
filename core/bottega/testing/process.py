"""A platform as its operator runs it: ``bottega up`` in a process of its own, which tests may kill."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import psutil

from bottega.client import Client
from bottega.testing.running import wait_until


class PlatformProcess:
    """``bottega up`` over `data_dir`, on one port through all restarts, in the Python environment of `python`."""

    def __init__(
        self, data_dir: Path, environment: Mapping[str, str] | None = None, python: str = sys.executable
    ) -> None:
        self.data_dir = data_dir
        self.python = python
        self.environment = dict(environment or {})
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return (self.data_dir.parent / f"{self.data_dir.name}.log").read_text("utf-8", "replace")

    @property
    def credentials(self) -> dict[str, Any]:
        known: dict[str, Any] = json.loads((self.data_dir / "credentials.json").read_text("utf-8"))
        return known

    @property
    def client(self) -> Client:
        return Client.from_file(self.data_dir / "credentials.json")

    def start(self) -> PlatformProcess:
        """Start and wait until it is ready. Raises AssertionError with the end of its log when it ends instead."""
        with (self.data_dir.parent / f"{self.data_dir.name}.log").open("ab") as log:
            self._process = subprocess.Popen(
                [self.python, "-m", "bottega", "up", "--data-dir", str(self.data_dir), "--port", str(self.port)],
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment},
            )

        def ready() -> bool:
            assert self._process is not None
            assert self._process.poll() is None, f"the platform ended:\n{self.log[-3000:]}"
            try:
                return httpx.get(f"{self.url}/readyz", timeout=2).status_code == 200
            except httpx.TransportError:
                return False

        try:
            wait_until(ready, timeout=60)
        except BaseException:
            self.kill()
            raise
        return self

    def kill(self) -> None:
        """SIGKILL, as a power cut of the process: nothing of it can tidy up."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(10)

    def stop(self) -> None:
        if self._process and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(60)

    def child(self, name: str, other_than: int | None = None) -> psutil.Process:
        """A process the platform supervises, by the name of its program; waits for one that is being restarted."""

        def found() -> psutil.Process | None:
            running = psutil.Process(self.pid).children(recursive=True)
            return next((p for p in running if p.pid != other_than and p.name().startswith(name)), None)

        process = wait_until(found, timeout=30)
        assert process is not None
        return process

    def __enter__(self) -> PlatformProcess:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
