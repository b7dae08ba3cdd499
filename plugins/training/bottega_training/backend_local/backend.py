"""The backend as the platform asks it: flavors, logs, measurements."""

from __future__ import annotations

import os
from typing import cast

import orjson

from bottega.backends import Flavor, LogChunk, UsageSample
from bottega.errors import NotFound
from bottega.launch.directory import WorkloadDirectory
from bottega.platform import Platform
from bottega_training.backend_local.settings import NAME, LocalSettings
from bottega_training.backend_local.supervisor import Supervisor


class LocalBackend:
    """Implements ``bottega.backends.Backend``."""

    name = NAME

    def __init__(self, platform: Platform, settings: LocalSettings) -> None:
        self.supervisor = Supervisor(platform, settings)
        self._flavors = settings.offered()
        self._root = platform.data_dir / "workloads"

    @classmethod
    def of(cls, platform: Platform) -> LocalBackend:
        """The one this plugin gave to `platform`."""
        return cast(LocalBackend, platform.workloads.backend(NAME))

    def flavors(self) -> list[Flavor]:
        return self._flavors

    async def read_log(self, workload_id: str, offset: int = 0, limit: int = 65536) -> LogChunk:
        directory = self._directory(workload_id)
        complete = directory.result() is not None  # before reading: what is written between comes next time
        try:
            file = directory.log.open("rb")
        except FileNotFoundError:
            return LogChunk(text="", offset=0, next_offset=0, size=0, complete=complete)
        with file:
            size = file.seek(0, os.SEEK_END)
            start = max(0, size + offset) if offset < 0 else min(offset, size)
            file.seek(start)
            data = file.read(max(0, limit))
        if start + len(data) < size or not complete:
            data = _whole_characters(data)
        end = start + len(data)
        return LogChunk(
            text=data.decode("utf-8", "replace"),
            offset=start,
            next_offset=end,
            size=size,
            complete=complete and end >= size,
        )

    async def read_usage(self, workload_id: str) -> list[UsageSample]:
        try:
            lines = self._directory(workload_id).usage.read_bytes().splitlines(keepends=True)
        except FileNotFoundError:
            return []
        return [UsageSample(**orjson.loads(line)) for line in lines if line.endswith(b"\n")]

    def _directory(self, workload_id: str) -> WorkloadDirectory:
        path = self._root / workload_id
        if path.parent != self._root or not path.is_dir():
            raise NotFound(f"this machine holds no log of workload '{workload_id}'")
        return WorkloadDirectory(path)


def _whole_characters(data: bytes) -> bytes:
    """`data` without the beginning of a character whose rest is still to come."""
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte & 0xC0 == 0x80:
            continue
        needed = 4 if byte >= 0xF0 else 3 if byte >= 0xE0 else 2 if byte >= 0xC0 else 1
        return data[:-back] if needed > back and len(data) > back else data
    return data
