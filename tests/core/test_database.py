"""The sessions of the database, as plugins use them."""

from __future__ import annotations

import asyncio
import threading
import warnings
from pathlib import Path

import anyio
import pytest
from sqlalchemy import text, update
from sqlmodel import select

from bottega.database import Database
from bottega.entities import Outbox

BUSY = text("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000000) SELECT max(i) FROM n")


@pytest.mark.anyio
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


def test_a_loop_ends_though_a_session_was_cancelled_in_the_middle_of_a_statement(tmp_path: Path) -> None:
    ended = threading.Event()

    async def cancel() -> None:
        database = Database(f"sqlite+aiosqlite:///{tmp_path / 'db'}")
        await database.check()
        with anyio.move_on_after(0.05):
            async with database.read() as session:
                await session.execute(BUSY)

    def run() -> None:
        asyncio.run(cancel())
        ended.set()

    threading.Thread(target=run, daemon=True).start()
    assert ended.wait(30)
