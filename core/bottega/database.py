"""Transactions in which state and events change together (a transactional outbox).

``async with database.transaction() as tx`` commits the rows written through ``tx.session`` and the events given
to ``tx.emit`` at once, or neither. SQLite runs in WAL mode with one writer at a time; PostgreSQL runs as it is.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import cache
from typing import Any, Protocol

import aiosqlite
import anyio
from sqlalchemy import event as sa_event
from sqlalchemy import insert
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.ext.asyncio import AsyncSession as PlainAsyncSession
from sqlalchemy.orm import Session as PlainSession
from sqlalchemy.pool import AsyncAdaptedQueuePool
from sqlmodel import Session as ModelSession
from sqlmodel.ext.asyncio.session import AsyncSession as ModelAsyncSession

from bottega.entities import Outbox
from bottega.errors import ConfigError, PluginError, is_full_disk
from bottega.events import Envelope, Event, envelop
from bottega.urn import Urn

__all__ = ["AsyncSession", "Database", "OutboxRow", "Transaction"]


class Session(ModelSession):
    """`exec` of SQLModel, and `execute` as SQLAlchemy has it; SQLModel's warns whoever writes several rows at once."""

    execute = PlainSession.execute


class AsyncSession(ModelAsyncSession):
    """The asynchronous side of `Session`."""

    sync_session_class = Session
    execute = PlainAsyncSession.execute


class OutboxRow(Protocol):
    event_id: str
    subject: str
    payload: bytes


class Transaction:
    """An open write transaction. `session` is an ordinary SQLAlchemy async session."""

    def __init__(self, session: AsyncSession, source: str, may_publish: Callable[[str, str], bool]) -> None:
        self.session = session
        self.source = source
        self.envelopes: list[Envelope] = []
        self._may_publish = may_publish

    def emit(self, event: Event, urn: str | Urn) -> Envelope:
        """Publish `event`, about the thing `urn`, when this transaction commits.

        Raises PluginError when the plugin did not declare the event class in its ``bottega_events`` hook.
        """
        if not self._may_publish(self.source, event.type):
            raise PluginError(
                f"plugin '{self.source}' publishes '{event.type}' without declaring "
                f"{type(event).__name__} in bottega_events"
            )
        envelope = envelop(event, str(urn), self.source)
        self.envelopes.append(envelope)
        return envelope

    def speaking_as(self, source: str) -> Transaction:
        """This same transaction for another part of the platform, which publishes its own events in it."""
        view = Transaction(self.session, source, self._may_publish)
        view.envelopes = self.envelopes
        return view


class Database:
    """The connection to SQLite (``sqlite+aiosqlite:///path``) or PostgreSQL (``postgresql+psycopg://…``)."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.is_sqlite = url.startswith("sqlite")
        self.source = "core"
        if self.is_sqlite:
            self._writer = _sqlite_engine(url, begin="BEGIN IMMEDIATE", pool_size=1, cache_mb=64, log_mb=64)
            self._reader = _sqlite_engine(url, begin="BEGIN", pool_size=4, cache_mb=8, mmap_mb=256)
        else:
            self._writer = self._reader = create_async_engine(url, pool_size=10, max_overflow=10, pool_pre_ping=True)
        self._shared = _Shared(anyio.Lock() if self.is_sqlite else None)

    def bind(self, source: str) -> Database:
        """The same database, speaking as plugin `source` (that is what its events carry)."""
        bound = object.__new__(Database)
        bound.__dict__ = {**self.__dict__, "source": source}
        return bound

    @property
    def engine(self) -> AsyncEngine:
        return self._writer

    def on_commit(self, deliver: Callable[[Sequence[Envelope]], None]) -> None:
        """Tell `deliver` about the events of each transaction right after its commit (the relay's wake-up)."""
        self._shared.on_commit.append(deliver)

    def before_commit(self, hook: Callable[[Transaction], None]) -> None:
        """Let `hook` add events to every transaction just before it commits (how the gateway records its calls)."""
        self._shared.before_commit.append(hook)

    def allow_publishing(self, check: Callable[[str, str], bool]) -> None:
        """Ask `check(source, event_type)` before an event is emitted."""
        self._shared.may_publish = check

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Commit on leaving normally, roll back on an exception. Do not nest: SQLite has one writer."""
        shared = self._shared
        if shared.lock:
            await shared.lock.acquire()
        try:
            async with AsyncSession(self._writer, expire_on_commit=False) as session:
                tx = Transaction(session, self.source, shared.may_publish)
                async with session.begin():
                    yield tx
                    for hook in shared.before_commit:
                        hook(tx)
                    if tx.envelopes:
                        await session.flush()
                        await session.execute(insert(Outbox), [_outbox_values(e) for e in tx.envelopes])
        finally:
            if shared.lock:
                shared.lock.release()
        if tx.envelopes:
            for deliver in shared.on_commit:
                deliver(tx.envelopes)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        """A session for reading one consistent state; what is changed in it is not kept."""
        async with AsyncSession(self._reader, expire_on_commit=False) as session:
            yield session

    async def check(self) -> None:
        """Raises ConfigError when the database cannot be reached or does not let the platform in."""
        try:
            async with self._writer.connect():
                pass
        except OperationalError as e:
            if is_full_disk(e):
                raise
            raise ConfigError(f"database.url: the database cannot be used: {e.orig}") from e

    async def close(self) -> None:
        await self._writer.dispose()
        if self._reader is not self._writer:
            await self._reader.dispose()


class _Shared:
    """What all bound views of one database have in common."""

    def __init__(self, lock: anyio.Lock | None) -> None:
        self.lock = lock
        self.before_commit: list[Callable[[Transaction], None]] = []
        self.on_commit: list[Callable[[Sequence[Envelope]], None]] = []
        self.may_publish: Callable[[str, str], bool] = lambda _source, _type: True


def _outbox_values(envelope: Envelope) -> dict[str, Any]:
    return {"event_id": envelope.id, "subject": envelope.subject, "payload": envelope.encode()}


def _connect_sqlite(*args: Any, **options: Any) -> aiosqlite.Connection:
    connection = aiosqlite.connect(*args, **options)
    connection._thread.daemon = True  # as SQLAlchemy does with connections that it makes itself
    # A session that is cancelled while it closes stops the connection's thread twice; the thread answers once, and
    # who waits for the other answer waits for ever.
    connection.stop = cache(connection.stop)  # type: ignore[method-assign]  # at most one of its callers waits
    return connection


def _sqlite_engine(
    url: str, *, begin: str, pool_size: int, cache_mb: int, mmap_mb: int = 0, log_mb: int = 4
) -> AsyncEngine:
    # The cache grows as it is used. Indexes of random keys, written in bulk, want all their pages in it. Who reads
    # through a whole table is nearly twice as fast on mapped pages: the system's cache, no memory of its own. What is
    # written goes to a log first; the longer that may grow, the fewer times a page that changes often is copied from it
    # (256 pages are a megabyte).
    engine = create_async_engine(
        url,
        poolclass=AsyncAdaptedQueuePool,
        pool_size=pool_size,
        max_overflow=0,
        connect_args={"async_creator_fn": _connect_sqlite},
    )

    @sa_event.listens_for(engine.sync_engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        # The driver's own implicit BEGIN is deferred and would upgrade to a write lock too late.
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in (
            "journal_mode=WAL",
            "synchronous=NORMAL",
            "foreign_keys=ON",
            "busy_timeout=10000",
            "temp_store=MEMORY",
            f"cache_size=-{cache_mb * 1024}",
            f"mmap_size={mmap_mb * 2**20}",
            f"wal_autocheckpoint={log_mb * 256}",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @sa_event.listens_for(engine.sync_engine, "begin")
    def _begin(connection: Any) -> None:
        connection.exec_driver_sql(begin)

    return engine
