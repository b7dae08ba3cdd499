"""A whole platform on a thread of its own, tenants in it, and the events they cause."""

from __future__ import annotations

import asyncio
import io
import threading
import time
import uuid
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import anyio
import fastapi.dependencies.models
from sqlmodel import col, select

from bottega import logs
from bottega.bus import Bus
from bottega.client import Client
from bottega.entities import Account, Bucket, Group, GroupMember, Policy, PolicyGrant, Project, User
from bottega.events import Envelope
from bottega.objects import ObjectPath
from bottega.platform import Platform
from bottega.plugins import Plugins
from bottega.runtime import Runtime, bind_listener
from bottega.settings import Settings, load_settings

T = TypeVar("T")


def wait_until(found: Callable[[], T], timeout: float = 30, every: float = 0.05) -> T:
    """Call `found` until what it returns is true, and return it. Raises AssertionError after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        value = found()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not reached within {timeout} s; last seen: {value!r}")
        time.sleep(every)


class RunningPlatform:
    """A platform started on a free port over `data_dir`, with settings as in ``bottega.toml`` (nested dicts)."""

    def __init__(
        self,
        data_dir: Path,
        overrides: Mapping[str, Any] | None = None,
        plugins: Callable[[Settings], Plugins] | None = None,
    ) -> None:
        self.data_dir = data_dir
        values = {
            "data_dir": str(data_dir),
            "log": {"level": "warning"},
            "server": {"rate_limit": "100000/second", "records_of_unknown": "100000/second"},
        }
        self.settings = load_settings(None, {**values, **(overrides or {})}, {})
        logs.configure(self.settings.log)
        self._plugins = plugins
        self._thread: threading.Thread | None = None
        self._started: Future[None] = Future()
        self._stopping: anyio.Event
        self._loop: asyncio.AbstractEventLoop
        self.runtime: Runtime

    @property
    def url(self) -> str:
        return self.runtime.platform.url

    def platform(self, plugin: str = "core") -> Platform:
        """The platform as a plugin sees it."""
        found = self.runtime.plugins.all.get(plugin)
        return self.runtime.platform.bind(plugin, found.settings if found else None)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the platform's own event loop and return its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(120)

    def start(self) -> RunningPlatform:
        """Raises what the start raised."""
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), name="platform", daemon=True)
        self._thread.start()
        self._started.result(60)
        return self

    def stop(self) -> None:
        if self._thread and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(60)
            assert not self._thread.is_alive(), f"the platform did not stop within 60 s; it waits in:\n{self._waits()}"
            _forget_functions()

    def _waits(self) -> str:
        """Where the tasks of the platform are."""
        found = io.StringIO()
        for task in asyncio.all_tasks(self._loop):
            task.print_stack(limit=6, file=found)
        return found.getvalue()

    def __enter__(self) -> RunningPlatform:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def tenant(self, name: str | None = None) -> Tenant:
        """A fresh account with one project and an access key of its root user."""
        return self.run(self._tenant(name or f"t{uuid.uuid4().hex[:10]}"))

    def operator(self) -> Tenant:
        """The platform's own (first) account, with a fresh access key of its root."""
        return self.run(self._operator())

    async def _operator(self) -> Tenant:
        platform = self.runtime.platform
        account_id = await platform.identity.platform_account()
        async with platform.database.transaction() as tx:
            query = select(Project).where(Project.account_id == account_id).order_by(col(Project.created_at))
            project = (await tx.session.exec(query)).first()
            assert project is not None
            name = (await platform.identity.account(account_id)).name
            issued = await platform.identity.create_access_key(tx, account_id)
        return Tenant(self, account_id, project.id, account_id, name, issued.access_key, issued.secret_key)

    async def _main(self) -> None:
        self._stopping, self._loop = anyio.Event(), asyncio.get_running_loop()
        try:
            listener = bind_listener("127.0.0.1", 0)
            self.runtime = Runtime(self.settings, self._plugins(self.settings) if self._plugins else None)
            async with self.runtime.running(listener):
                self._started.set_result(None)
                await self._stopping.wait()
            listener.close()
        except BaseException as e:
            if self._started.done():
                raise
            self._started.set_exception(e)

    async def _tenant(self, name: str) -> Tenant:
        identity = self.runtime.platform.identity
        async with self.runtime.platform.database.transaction() as tx:
            account = Account(name=name)
            tx.session.add(account)
            await tx.session.flush()
            root = User(id=account.id, account_id=account.id, name=name, is_account_root=True)
            project = Project(account_id=account.id, name="local-1")
            tx.session.add_all([root, project])
            await tx.session.flush()
            issued = await identity.create_access_key(tx, root.id)
        return Tenant(self, account.id, project.id, root.id, name, issued.access_key, issued.secret_key)


def _forget_functions() -> None:
    """Empty FastAPI's memory of the thousands of functions it saw last: each keeps the platform it was made for."""
    for one in vars(fastapi.dependencies.models).values():
        if hasattr(one, "cache_clear"):
            one.cache_clear()


@dataclass
class Tenant:
    """Someone with credentials. `client` is signed with them."""

    running: RunningPlatform
    account_id: str
    project_id: str
    user_id: str
    name: str
    access_key: str
    secret_key: str

    def __post_init__(self) -> None:
        self.client = Client(self.running.url, self.project_id, self.access_key, self.secret_key)

    def user(self, policies: Sequence[Mapping[str, Any]] = (), name: str | None = None) -> Tenant:
        """Another user of the account, with exactly these policy documents through a group of its own."""
        return self.running.run(self._user(policies, name or f"u{uuid.uuid4().hex[:8]}"))

    def create_bucket(self, name: str | None = None) -> str:
        """A fresh bucket of the account."""
        bucket = name or f"b{uuid.uuid4().hex[:16]}"
        self.running.run(self._create_bucket(bucket))
        return bucket

    @property
    def objects(self) -> Objects:
        return Objects(self.running)

    @property
    def events(self) -> RecordedEvents:
        """The events of this tenant's project, from its beginning."""
        return RecordedEvents(self.running, self.project_id)

    async def _create_bucket(self, bucket: str) -> None:
        platform = self.running.runtime.platform
        await platform.objects.create_bucket(bucket)
        async with platform.database.transaction() as tx:
            tx.session.add(Bucket(name=bucket, account_id=self.account_id))
        platform.identity.invalidate()

    async def _user(self, policies: Sequence[Mapping[str, Any]], name: str) -> Tenant:
        platform = self.running.runtime.platform
        async with platform.database.transaction() as tx:
            user = User(account_id=self.account_id, name=name)
            group = Group(account_id=self.account_id, name=f"group of {name}")
            tx.session.add_all([user, group])
            await tx.session.flush()
            tx.session.add(GroupMember(group_id=group.id, user_id=user.id))
            for index, document in enumerate(policies):
                policy = Policy(account_id=self.account_id, name=f"policy {index} of {name}", document=dict(document))
                tx.session.add(policy)
                await tx.session.flush()
                tx.session.add(PolicyGrant(policy_id=policy.id, group_id=group.id))
            issued = await platform.identity.create_access_key(tx, user.id)
        platform.identity.invalidate()
        return Tenant(
            self.running,
            self.account_id,
            self.project_id,
            user.id,
            name,
            issued.access_key,
            issued.secret_key,
        )


class Objects:
    """The platform's object store, for tests that are not async."""

    def __init__(self, running: RunningPlatform) -> None:
        self._running = running

    def put(self, path: str, data: bytes) -> None:
        store = self._running.runtime.platform.objects
        self._running.run(store.put(ObjectPath.parse(path), data))

    def put_many(self, items: Mapping[str, bytes]) -> None:
        store = self._running.runtime.platform.objects

        async def put_all() -> None:
            async with anyio.create_task_group() as tasks:
                for path, data in items.items():
                    tasks.start_soon(store.put, ObjectPath.parse(path), data)

        self._running.run(put_all())

    def get(self, path: str) -> bytes:
        return self._running.run(self._running.runtime.platform.objects.get(ObjectPath.parse(path)))

    def list(self, folder: str) -> list[str]:
        """The full paths of the objects under a folder."""

        async def read() -> list[str]:
            store = self._running.runtime.platform.objects
            return [str(info.path) async for info in store.list(ObjectPath.parse(folder))]

        return self._running.run(read())


class RecordedEvents:
    """The events of one project, read from the stream."""

    def __init__(self, running: RunningPlatform, project_id: str) -> None:
        self._running = running
        self._project_id = project_id

    def all(self, type: str = ">") -> list[Envelope]:
        """Those published so far, in order."""

        async def read() -> list[Envelope]:
            bus: Bus = self._running.runtime.platform.bus
            return [e async for e in bus.tail(f"evt.{self._project_id}.{type}", sequence=1, follow=False)]

        return self._running.run(read())

    def wait(self, type: str, timeout: float = 30, **data: Any) -> Envelope:
        """The first event of `type` whose data has these values. Raises AssertionError when none comes in time."""

        def found() -> Envelope | None:
            matching = (e for e in self.all(type) if all(e.data.get(k) == v for k, v in data.items()))
            return next(matching, None)

        envelope = wait_until(found, timeout)
        assert envelope is not None
        return envelope
