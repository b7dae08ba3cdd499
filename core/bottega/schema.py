"""Database schema: Alembic revisions, a branch for the core and one for each plugin that brings tables.

``python -m bottega.schema new <plugin> "words"`` writes the next revision of one branch from what changed in its
models.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import Connection, inspect, text
from sqlmodel import SQLModel

from bottega.database import Database
from bottega.errors import ConfigError, PluginError
from bottega.plugins import Entities, Plugins

if TYPE_CHECKING:
    from alembic.script import ScriptDirectory

CORE = Path(__file__).parent / "migrations"
_REVISION = re.compile(r"""^revision *(?:: *str *)?= *["']([^"']+)["'] *$""", re.MULTILINE)
_DOWN_REVISION = re.compile(r"""^down_revision *(?::[^=]+)?= *(?:None|["']([^"']+)["']) *$""", re.MULTILINE)


def folders(plugins: Plugins) -> dict[str, Path]:
    """Where each branch's revisions are: ``core`` and every plugin that is on and has tables.

    The tables of one that is switched off stay as they are, so its data is there when it comes back.
    """
    found = {"core": CORE}
    for plugin, entities in plugins.collect("bottega_entities", lambda _: {}):
        with plugins.boundary(plugin, "bottega_entities"):
            _check(plugin.name, entities)
            found[plugin.name] = entities.migrations
    return found


def _check(plugin: str, entities: Entities) -> None:
    prefix = f"{plugin.replace('-', '_')}_"
    for table in entities.tables:
        if not str(table.__tablename__).startswith(prefix):
            raise PluginError(f"table '{table.__tablename__}' must begin with '{prefix}'")
    if not entities.migrations.is_dir():
        raise PluginError(f"there is no folder of migrations at {entities.migrations}")


async def upgrade(database: Database, plugins: Plugins) -> None:
    """Bring the database to the newest revision of every branch, in one transaction.

    A plugin whose revisions cannot be applied is marked broken and leaves the database as it was.
    Raises ConfigError when the database holds revisions this installation does not know (it is newer).
    """
    locations = folders(plugins)
    try:
        await _apply(database, locations)
    except ConfigError:
        raise
    except Exception:  # foreign revisions: anything may come out of them
        core = {"core": locations.pop("core")}
        await _apply(database, core)
        for name, folder in locations.items():
            with plugins.boundary(plugins.all[name], "migrations"):
                await _apply(database, {**core, name: folder})


async def _apply(database: Database, locations: dict[str, Path]) -> None:
    async with database.engine.connect() as connection:
        await connection.run_sync(_upgrade, locations)
        await connection.commit()


def differences(connection: Connection, tables: Sequence[type[SQLModel]]) -> list[Any]:
    """What the models of `tables` say and the database does not, as Alembic's comparison operations."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    names = {table.__tablename__ for table in tables}

    def ours(item: Any, name: str | None, kind: str, _reflected: bool, _other: Any) -> bool:
        return name in names if kind == "table" else True

    context = MigrationContext.configure(connection, opts={"include_object": ours, "compare_type": True})
    return list(compare_metadata(context, SQLModel.metadata))


def _upgrade(connection: Connection, locations: dict[str, Path]) -> None:
    newest = _newest(locations.values())
    if newest is not None and newest <= _recorded(connection):
        return  # as at nearly every start: Alembic takes longer to import than the rest of this takes

    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError

    script = ScriptDirectory(str(CORE), version_locations=[str(p) for p in locations.values()])
    heads = set(script.get_heads())
    context = MigrationContext.configure(connection)
    present = set(context.get_current_heads())
    if heads <= present:
        return

    def exists(revision: str) -> bool:
        try:
            return script.get_revision(revision) is not None
        except CommandError:
            return False

    known = {revision for revision in present if exists(revision)}
    foreign = {r for r in present - known if r.rsplit("_", 1)[0] in locations}
    if foreign:
        raise ConfigError(
            f"the database was made by a newer version (revision {min(foreign)}): install it or restore a backup"
        )

    # Revisions of plugins that are not installed any more stay recorded and untouched.
    latest = known - {below for revision in known for below in _ancestors(script, revision)}

    def steps(_revision: Any, _context: Any) -> Any:
        return script._upgrade_revs("heads", cast("str", tuple(latest)))

    environment = MigrationContext.configure(connection, opts={"fn": steps, "transactional_ddl": True})
    from alembic.operations import Operations

    with Operations.context(environment):
        environment.run_migrations()
    # Alembic records no revision that another one depends on: were that one's plugin to leave, core would seem new.
    recorded = set(MigrationContext.configure(connection).get_current_heads())
    for revision in heads - recorded:
        connection.execute(text("INSERT INTO alembic_version (version_num) VALUES (:revision)"), {"revision": revision})


def _recorded(connection: Connection) -> set[str]:
    """The revisions the database says it is at; none for a new one."""
    if not inspect(connection).has_table("alembic_version"):
        return set()
    return set(connection.execute(text("SELECT version_num FROM alembic_version")).scalars())


def _newest(folders: Iterable[Path]) -> set[str] | None:
    """The revisions in `folders` no other one follows, read without importing them; None when that does not tell."""
    made: set[str] = set()
    followed: set[str] = set()
    for file in (file for folder in folders for file in folder.glob("*.py") if file.name != "__init__.py"):
        source = file.read_text("utf-8")
        revision, down = _REVISION.search(source), _DOWN_REVISION.search(source)
        if revision is None or down is None:
            return None  # written in a way of its own: Alembic knows
        made.add(revision[1])
        followed |= {down[1]} - {None}
    return made - followed


def _ancestors(script: ScriptDirectory, revision: str) -> Iterator[str]:
    for below in script.get_revision(revision)._all_down_revisions:
        yield below
        yield from _ancestors(script, below)


def new_revision(branch: str, words: str) -> Path:
    """Write the next revision of `branch` from the difference between its models and its revisions so far."""
    import asyncio

    from alembic.autogenerate import produce_migrations, render_python_code
    from alembic.migration import MigrationContext

    from bottega import entities as core_entities
    from bottega.settings import Settings

    plugins = Plugins(Settings())
    tables: dict[str, Entities] = {p.name: e for p, e in plugins.collect("bottega_entities", lambda _: {})}
    if branch != "core" and branch not in tables:
        raise ConfigError(f"no plugin '{branch}' with tables is on; there are: core, {', '.join(sorted(tables))}")
    folder = tables[branch].migrations if branch in tables else CORE
    folder.mkdir(exist_ok=True)
    mine = {
        str(t.__tablename__)
        for t in (tables[branch].tables if branch != "core" else vars(core_entities).values())
        if isinstance(t, type) and issubclass(t, SQLModel) and getattr(t, "__table__", None) is not None
    }
    existing = sorted(folder.glob("[0-9]*.py"))

    def render(connection: Connection) -> str:
        def ours(_item: Any, name: str | None, kind: str, _reflected: bool, _other: Any) -> bool:
            return name in mine if kind == "table" else True

        context = MigrationContext.configure(connection, opts={"include_object": ours, "user_module_prefix": None})
        migration = produce_migrations(context, SQLModel.metadata)
        assert migration.upgrade_ops is not None
        return render_python_code(migration.upgrade_ops, render_as_batch=bool(existing))

    async def run() -> str:
        with tempfile.TemporaryDirectory() as directory:
            database = Database(f"sqlite+aiosqlite:///{directory}/new.db")
            await upgrade(database, plugins)
            async with database.engine.connect() as connection:
                code = await connection.run_sync(render)
            await database.close()
            return code

    body = asyncio.run(run()).replace("sqlmodel.sql.sqltypes.AutoString", "sa.String")
    number = len(existing) + 1
    previous = f'"{branch}_{number - 1:04d}"' if existing else "None"
    labels = f'("{branch}",)' if not existing else "None"
    depends = '"core_0001"' if branch != "core" and not existing else "None"
    path = folder / f"{number:04d}_{words.lower().replace(' ', '_')}.py"
    path.write_text(
        f'"""{words[:1].upper() + words[1:]}."""\n\nimport sqlalchemy as sa\nfrom alembic import op\n\n'
        f'revision = "{branch}_{number:04d}"\ndown_revision = {previous}\nbranch_labels = {labels}\n'
        f"depends_on = {depends}\n\n\ndef upgrade() -> None:\n    {body}\n",
        "utf-8",
    )
    return path


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[1] != "new":
        sys.exit(__doc__)
    sys.stdout.write(f"{new_revision(sys.argv[2], sys.argv[3])}\n")
