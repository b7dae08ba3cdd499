"""Migrations on SQLite and PostgreSQL: they make what the models say, once, and never on a newer database."""

from __future__ import annotations

import shutil
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import inspect, text
from sqlmodel import SQLModel

from bottega import entities as core_entities
from bottega import schema
from bottega.database import Database
from bottega.errors import ConfigError
from bottega.plugins import Plugins
from bottega.settings import Settings
from bottega.testing import RunningPlatform
from bottega.testing.postgres import Postgres

pytestmark = pytest.mark.anyio
CORE_TABLES = [
    thing
    for thing in vars(core_entities).values()
    if isinstance(thing, type) and issubclass(thing, SQLModel) and getattr(thing, "__table__", None) is not None
]


@pytest.fixture
def postgres_url(postgres: Postgres) -> str:
    """The URL of a database of this test's own."""
    return postgres.database()


@pytest.fixture(params=["sqlite", "postgresql"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    url = f"sqlite+aiosqlite:///{tmp_path / 'schema.db'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_url")
    opened = Database(url)
    yield opened
    await opened.close()


async def _revisions(database: Database) -> set[str]:
    async with database.read() as session:
        return set((await session.execute(text("SELECT version_num FROM alembic_version"))).scalars())


async def _tables(database: Database) -> set[str]:
    async with database.engine.connect() as connection:
        return set(await connection.run_sync(lambda c: inspect(c).get_table_names()))


async def test_the_migrations_make_what_the_models_say(database: Database) -> None:
    plugins = Plugins(Settings())
    await schema.upgrade(database, plugins)
    tables = list(CORE_TABLES)
    for _, brought in plugins.collect("bottega_entities", lambda _: {}):
        tables.extend(brought.tables)
    async with database.engine.connect() as connection:
        assert await connection.run_sync(schema.differences, tables) == []
    assert await _tables(database) >= {str(table.__tablename__) for table in tables}


async def test_a_missing_column_would_be_noticed(database: Database) -> None:
    await schema.upgrade(database, Plugins(Settings(), found=[]))
    async with database.engine.connect() as connection:
        await connection.execute(text("ALTER TABLE core_bucket DROP COLUMN created_at"))
        found = await connection.run_sync(schema.differences, CORE_TABLES)
    assert "core_bucket" in repr(found)


async def test_a_second_upgrade_changes_nothing(database: Database) -> None:
    plugins = Plugins(Settings())
    await schema.upgrade(database, plugins)
    before = await _revisions(database), await _tables(database)
    await schema.upgrade(database, plugins)
    assert (await _revisions(database), await _tables(database)) == before


async def test_a_database_of_a_newer_version_is_refused(database: Database) -> None:
    plugins = Plugins(Settings(), found=[])
    await schema.upgrade(database, plugins)
    async with database.transaction() as tx:
        await tx.session.execute(text("UPDATE alembic_version SET version_num = 'core_9999'"))
    with pytest.raises(ConfigError, match=r"newer version \(revision core_9999\): install it or restore a backup"):
        await schema.upgrade(database, plugins)
    assert await _revisions(database) == {"core_9999"}


LATER = """
import sqlalchemy as sa
from alembic import op

revision = "{branch}_9999"
down_revision = "{head}"


def upgrade() -> None:
    op.add_column("{table}", sa.Column("added", sa.String()))
"""
REVISION = """
import sqlalchemy as sa
from alembic import op

revision = "{name}_0001"
down_revision = None
branch_labels = ("{name}",)
depends_on = "core_0001"


def upgrade() -> None:
    op.create_table("{name}_thing", sa.Column("id", sa.String(), primary_key=True))
    {more}
"""
MODULE = """
from pathlib import Path
from bottega.hookspecs import hookimpl
from bottega.plugins import Entities
from sqlmodel import Field, SQLModel


class Thing(SQLModel, table=True):
    __tablename__ = "{table}"
    id: str = Field(primary_key=True)


@hookimpl
def bottega_entities():
    return Entities([Thing], Path({folder!r}))
"""


@pytest.fixture
def brings_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Make a plugin with one table and one revision."""
    made: list[str] = []

    def make(name: str, more: str = "", table: str | None = None) -> EntryPoint:
        folder = tmp_path / name
        folder.mkdir()
        (folder / f"{name}_0001_first.py").write_text(REVISION.format(name=name, more=more))
        module, table = f"brings_{name}_{uuid.uuid4().hex}", table or f"{name}_thing"
        (tmp_path / f"{module}.py").write_text(MODULE.format(table=table, folder=str(folder)))
        made.append(table)
        return EntryPoint(name, module, "bottega")

    monkeypatch.syspath_prepend(str(tmp_path))
    yield make
    for table in made:
        SQLModel.metadata.remove(SQLModel.metadata.tables[table])
    for module in [m for m in sys.modules if m.startswith("brings_")]:
        del sys.modules[module]


async def test_a_removed_plugins_tables_wait_for_it(database: Database, brings_tables: Any) -> None:
    point = brings_tables("visitor")
    await schema.upgrade(database, Plugins(Settings(), found=[point]))
    async with database.transaction() as tx:
        await tx.session.execute(text("INSERT INTO visitor_thing (id) VALUES ('kept')"))
    for found in ([], [point]):
        await schema.upgrade(database, Plugins(Settings(), found=found))
    async with database.read() as session:
        assert (await session.execute(text("SELECT id FROM visitor_thing"))).scalar() == "kept"


@pytest.mark.parametrize("branch", ["core", "grown"])
async def test_an_older_database_is_brought_up(
    database: Database, brings_tables: Any, branch: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = tmp_path / "core"
    shutil.copytree(schema.CORE, core)
    monkeypatch.setattr(schema, "CORE", core)
    points = [brings_tables("grown"), brings_tables("other")]
    await schema.upgrade(database, Plugins(Settings(), found=points))
    table = {"core": "core_bucket", "grown": "grown_thing"}[branch]
    latest = max((path.name[:4] for path in (tmp_path / branch).glob("[0-9]*.py")), default="0001")
    later = LATER.format(branch=branch, table=table, head=f"{branch}_{latest}")
    (tmp_path / branch / "9999_later.py").write_text(later)
    plugins = Plugins(Settings(), found=points)
    await schema.upgrade(database, plugins)
    assert [p.reason for p in plugins.all.values() if p.state != "on"] == []
    assert f"{branch}_9999" in await _revisions(database)
    async with database.engine.connect() as connection:
        columns = await connection.run_sync(lambda c: inspect(c).get_columns(table))
    assert "added" in {column["name"] for column in columns}


async def test_a_plugin_whose_revision_fails_is_broken_alone(database: Database, brings_tables: Any) -> None:
    points = [brings_tables("wrecked", "raise RuntimeError('no room')"), brings_tables("sound")]
    plugins = Plugins(Settings(), found=points)
    await schema.upgrade(database, plugins)
    assert plugins.all["wrecked"].state == "broken"
    assert plugins.all["wrecked"].reason == "migrations: RuntimeError: no room"
    assert plugins.all["sound"].state == "on"
    tables = await _tables(database)
    assert {"core_user", "sound_thing"} <= tables
    assert "wrecked_thing" not in tables


async def test_a_plugin_may_only_bring_tables_of_its_name(database: Database, brings_tables: Any) -> None:
    plugins = Plugins(Settings(), found=[brings_tables("greedy", table="core_thing_of_greedy")])
    await schema.upgrade(database, plugins)
    assert "table 'core_thing_of_greedy' must begin with 'greedy_'" in plugins.all["greedy"].reason


def test_the_whole_platform_runs_on_postgresql(postgres_url: str, tmp_path: Path) -> None:
    with RunningPlatform(tmp_path / "data", {"database": {"url": postgres_url}}) as running:
        tenant = running.tenant()
        assert tenant.client.get("/v1/whoami")["user_name"] == tenant.name
        states = {p["name"]: (p["state"], p["reason"]) for p in tenant.client.get("/v1/plugins")["plugins"]}
        assert [f"{name}: {reason}" for name, (state, reason) in states.items() if state != "on"] == []
        tenant.client.post("/v1/{project_id}/permissions/check", {"action": "bottega:plugin:list"})
        assert not (running.data_dir / "bottega.db").exists()
