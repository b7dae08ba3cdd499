"""pytest fixtures: one platform a session, a fresh tenant a test.

``running`` is the whole platform; ``tenant`` a new account with a project, so tests never see each other's things;
``stranger`` another account; ``client``, ``bucket``, ``objects`` and ``events`` belong to ``tenant``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from bottega.client import Client
    from bottega.testing.postgres import Postgres
    from bottega.testing.running import Objects, RecordedEvents, RunningPlatform, Tenant


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """The platform runs on asyncio."""
    return "asyncio"


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    """The whole platform on embedded parts, started once."""
    from bottega.testing.running import RunningPlatform

    with RunningPlatform(tmp_path_factory.mktemp("platform")) as platform:
        yield platform


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A real PostgreSQL server; ``postgres.database()`` gives the URL of a fresh database."""
    from bottega.testing.postgres import Postgres

    server = Postgres()
    yield server
    server.stop()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def each_database(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Settings for `RunningPlatform`: what uses it runs once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        return {}
    return {"database": {"url": request.getfixturevalue("postgres").database()}}


@pytest.fixture
def tenant(running: RunningPlatform) -> Tenant:
    """A fresh account with one project; its client acts as the account's root."""
    return running.tenant()


@pytest.fixture
def stranger(running: RunningPlatform) -> Tenant:
    """A tenant of another account."""
    return running.tenant()


@pytest.fixture
def client(tenant: Tenant) -> Client:
    return tenant.client


@pytest.fixture
def bucket(tenant: Tenant) -> str:
    """The name of a fresh bucket that belongs to the tenant."""
    return tenant.create_bucket()


@pytest.fixture
def objects(tenant: Tenant) -> Objects:
    return tenant.objects


@pytest.fixture
def events(tenant: Tenant) -> RecordedEvents:
    """The events of the tenant's project."""
    return tenant.events
