"""The sessions of the database, as plugins use them."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from sqlalchemy import update
from sqlmodel import select

from bottega.database import Database
from bottega.entities import Outbox

pytestmark = pytest.mark.anyio


async def test_execute_and_exec_are_used_side_by_side_without_a_warning(tmp_path: Path) -> None:
    database = Database(f"sqlite+aiosqlite:///{tmp_path / 'db'}")
    async with database.engine.begin() as connection:
        await connection.run_sync(Outbox.__table__.create)  # type: ignore[attr-defined]  # SQLModel sets it
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ResourceWarning)  # what tests before this one left is collected at any time
        async with database.transaction() as tx:
            await tx.session.execute(update(Outbox).values(subject="x"))
            assert (await tx.session.exec(select(Outbox))).all() == []
    await database.close()
