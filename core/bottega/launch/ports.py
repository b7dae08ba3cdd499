"""Free ports of 127.0.0.1 for a workload, never the same for two of them."""

from __future__ import annotations

import fcntl
import os
import random
import socket
from collections.abc import Iterable
from pathlib import Path

_RANGE = range(30_000, 32_000)
"""Below the range from which the system serves outgoing connections, apart from the embedded servers' own."""


class Ports:
    """Holds ports for as long as the process lives: each by a locked file in `registry`.

    Finding a port free and listening on it are two steps of two processes; the lock keeps other workloads
    from taking it in between.
    """

    def __init__(self, registry: Path) -> None:
        registry.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._registry = registry
        self._locks: list[int] = []

    def take(self, names: Iterable[str]) -> dict[str, int]:
        """One port per name. Raises OSError when the range is used up."""
        return {name: self._take_one() for name in names}

    def _take_one(self) -> int:
        for port in random.sample(_RANGE, len(_RANGE)):
            lock = os.open(self._registry / str(port), os.O_CREAT | os.O_RDWR, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                continue
            if _is_free(port):
                self._locks.append(lock)
                return port
            os.close(lock)
        raise OSError(f"no free port on 127.0.0.1 between {_RANGE.start} and {_RANGE.stop}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: ignore TIME_WAIT
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
