"""Changing the key that secrets and personal data are sealed with, while the platform runs.

What is sealed names its key, so the rows that are left are found by a query and nothing has to be remembered: after a
crash the rotation goes on with the rows that still carry an earlier key. That key stays until no row needs it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Column, Table, func, select, text, tuple_, update
from sqlmodel import SQLModel

from bottega import entities, schema
from bottega.database import Database
from bottega.errors import ConfigError
from bottega.plugins import Plugins
from bottega.sealing import MARKER, Sealer, purpose_of

_BATCH = 200


@dataclass
class Progress:
    """`unreadable` names what no key opens; `waiting` the plugins that are not on and may hold sealed rows.

    While there are any of these, or rows are `left`, the earlier keys stay.
    """

    resealed: int = 0
    left: bool = False
    unreadable: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        return not (self.left or self.unreadable or self.waiting)


def sealed_columns(plugins: Plugins) -> Iterator[Column[Any]]:
    """Every column declared with `bottega.sealing.sealed`, of the core and of all plugins that are on."""
    tables: list[type[SQLModel]] = [
        table for table in vars(entities).values() if isinstance(table, type) and hasattr(table, "__table__")
    ]
    for _, brought in plugins.collect("bottega_entities", lambda _: {}):
        tables.extend(brought.tables)
    for table in tables:
        for column in table.__table__.columns:  # type: ignore[attr-defined]  # SQLModel does not declare it
            if MARKER in column.info:
                yield column


async def reseal(database: Database, sealer: Sealer, plugins: Plugins, *, for_s: float) -> Progress:
    """Seal with the present key what an earlier one sealed, for about `for_s` seconds; drop those when all is done.

    Each row changes in one statement, and only if nobody else has changed it meanwhile.
    """
    progress, until = Progress(), time.monotonic() + for_s
    for column in sealed_columns(plugins):
        after: Sequence[Any] | None = None
        while True:
            if time.monotonic() > until:
                progress.left = True
                return progress
            after = await _batch(database, sealer, column, after, progress)
            if after is None:
                break
    known = schema.folders(plugins)
    async with database.read() as session:
        found = (await session.execute(text("SELECT version_num FROM alembic_version"))).scalars()
        progress.waiting = sorted({revision.rsplit("_", 1)[0] for revision in found} - set(known))
    if progress.complete and len(sealer.key_ids) > 1:
        sealer.drop_earlier_keys()
    return progress


async def _batch(
    database: Database, sealer: Sealer, column: Column[Any], after: Sequence[Any] | None, progress: Progress
) -> Sequence[Any] | None:
    """Renew the next rows behind the primary key `after`; returns the last key seen, None at the end."""
    table = column.table
    assert isinstance(table, Table)
    keys = list(table.primary_key)
    stale = column.is_not(None) & (func.substr(column, 1, len(sealer.header)) != sealer.header)
    # Whole rows: a purpose may name any column.
    query = select(table).where(stale).order_by(*keys).limit(_BATCH)
    if after is not None:
        query = query.where(tuple_(*keys) > tuple_(*after))
    async with database.transaction() as tx:
        rows = (await tx.session.execute(query)).mappings().all()
        for row in rows:
            place = [row[key.name] for key in keys]
            try:
                opened = sealer.unseal(row[column.name], purpose_of(column, row))  # type: ignore[arg-type]  # by name
            except ConfigError:
                progress.unreadable.append(f"{table.name}.{column.name} {'/'.join(map(str, place))}")
                continue
            same = [key == value for key, value in zip(keys, place, strict=True)]
            fresh = sealer.seal(opened, purpose_of(column, row))  # type: ignore[arg-type]  # by name
            changed = update(table).where(*same, column == row[column.name]).values({column.name: fresh})
            await tx.session.execute(changed)
            progress.resealed += 1
    return [rows[-1][key.name] for key in keys] if len(rows) == _BATCH else None
