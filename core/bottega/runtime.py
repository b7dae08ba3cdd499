"""Starting and stopping a whole platform: storage, NATS, plugins, the bus, the gateway."""

from __future__ import annotations

import secrets
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio
import orjson
import structlog
import uvicorn
from argon2 import PasswordHasher
from starlette.types import ASGIApp

from bottega import schema
from bottega.application import build
from bottega.backends import (
    Backend,
    WorkloadFinished,
    WorkloadRequested,
    WorkloadStarted,
    WorkloadStopRequested,
)
from bottega.bus import Bus, BusOptions, DeliveryExhausted, DeliveryPolicy, NatsOptions
from bottega.calls import ApiCalled, record_call
from bottega.database import Database
from bottega.embedded import DataDirLock, EmbeddedNats, EmbeddedObjectStore
from bottega.entities import Project
from bottega.errors import ConfigError
from bottega.events import Event
from bottega.gateway import Limiter
from bottega.hearing import Hearing
from bottega.identity import AccountStandingChanged, Identity, Issued
from bottega.metrics import Metrics
from bottega.nats_auth import NatsAuthority
from bottega.notifications import NotificationRequested
from bottega.platform import Platform, Shared
from bottega.plugins import NoSettings, Plugins
from bottega.private_files import private_directory, write_private
from bottega.resources import Resources
from bottega.sealing import Sealer
from bottega.settings import Settings
from bottega.tokens import TokenRevoked
from bottega.workloads import Workloads
from bottega.workspaces import Workspaces

log = structlog.get_logger("bottega")
CORE_EVENTS: tuple[type[Event], ...] = (
    AccountStandingChanged,
    ApiCalled,
    NotificationRequested,
    TokenRevoked,
    DeliveryExhausted,
    WorkloadRequested,
    WorkloadStarted,
    WorkloadStopRequested,
    WorkloadFinished,
)


class Runtime:
    """One platform. ``async with Runtime(settings).running(listener)`` starts it and, at the end, stops it."""

    def __init__(self, settings: Settings, plugins: Plugins | None = None) -> None:
        self.settings = settings
        self.data_dir = settings.data_dir.resolve()
        self.plugins = plugins or Plugins(settings)
        self.ready = False
        self.first_password: str | None = None
        self.platform: Platform
        self.app: ASGIApp
        self._backends: dict[str, Backend] = {}

    @asynccontextmanager
    async def running(self, listener: socket.socket) -> AsyncIterator[Runtime]:
        """Start everything and serve HTTP on `listener`; on leaving, stop it in the opposite order.

        Raises ConfigError when another platform runs on the data directory or something configured is not there.
        """
        async with AsyncExitStack() as stack:
            private_directory(self.data_dir)
            stack.enter_context(DataDirLock(self.data_dir))
            secrets_dir = private_directory(self.data_dir / "secrets")
            authority = self._authority()
            nats_url, s3 = await self._start_embedded(stack, authority)
            database = Database(self._database_url())
            stack.push_async_callback(database.close)
            await database.check()
            await schema.upgrade(database, self.plugins)

            sealer = Sealer.load_or_create(secrets_dir / "master.key")
            identity = Identity(database, sealer, secrets_dir)
            bus = Bus(
                database.bind("core"),
                NatsOptions(nats_url, self._nats_credentials(authority)),
                BusOptions(delivery=DeliveryPolicy(backoff_s=self.settings.nats.redelivery_backoff_s)),
            )
            shared = Shared(
                data_dir=self.data_dir,
                plugins=self.plugins,
                identity=identity,
                workspaces=Workspaces(database, identity, self.plugins),
                sealer=sealer,
                metrics=Metrics(),
                limiter=Limiter(self.settings.server.rate_limit),
                authority=authority,
                url=self._public_url(listener),
                nats_url=nats_url,
                s3=s3,
            )
            workloads = Workloads(database, lambda: self._backends)
            self.platform = Platform(
                "core", NoSettings(), database.bind("core"), bus, workloads, Resources("core", shared.quotas), shared
            )
            self._wire(database, identity)
            self._expose(bus, shared.metrics)
            project, issued = await self._bootstrap(identity)
            self._write_credentials(shared, project.id, issued)
            self._attach_stores_and_backends(shared)
            for plugin in self.plugins.on():
                view = self.platform.bind(plugin.name, plugin.settings)
                self.plugins.call(plugin, "bottega_subscribe", bus=view.bus, platform=view)
                plugin.events_in = view.bus.event_types
            self.app = build(self)
            await bus.start(consume=False)
            stack.push_async_callback(bus.stop)
            await stack.enter_async_context(Hearing(bus.connection, identity).running())
            # HTTP goes on until the plugins have stopped: workloads still store their outputs through it.
            await stack.enter_async_context(self._serving(listener))
            for plugin in self.plugins.on():
                await self._enter_lifespan(stack, plugin.name)
            for plugin in self.plugins.all.values():
                if plugin.state != "on":
                    bus.forget(plugin.name)
            bus.consume()
            shared.metrics.plugins.labels("on").set(len(self.plugins.on()))
            shared.metrics.plugins.labels("broken").set(sum(p.state == "broken" for p in self.plugins.all.values()))
            self.ready = shared.serving = True
            try:
                yield self
            finally:
                self.ready = False

    @asynccontextmanager
    async def _serving(self, listener: socket.socket) -> AsyncIterator[None]:
        config = uvicorn.Config(
            self.app,
            log_config=None,
            access_log=False,
            server_header=False,
            # Unless told so, nobody says for a caller where it comes from: programs of users run on this machine, too.
            proxy_headers=bool(self.settings.server.trusted_proxies),
            forwarded_allow_ips=self.settings.server.trusted_proxies,
            ws_max_size=64 * 2**20,
            timeout_graceful_shutdown=5,
            lifespan="off",
        )
        server = _Server(config)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.serve, [listener])
            try:
                yield
            finally:
                server.should_exit = True

    # -- parts ---------------------------------------------------------------------------------------------------

    def _authority(self) -> NatsAuthority | None:
        configured = self.settings.nats
        if configured.url and not configured.authority_dir:
            return None
        return NatsAuthority.load_or_create(
            private_directory(configured.authority_dir or self.data_dir / "secrets" / "nats")
        )

    async def _start_embedded(
        self, stack: AsyncExitStack, authority: NatsAuthority | None
    ) -> tuple[str, dict[str, str]]:
        configured = self.settings.objects
        nats: EmbeddedNats | None = None
        store: EmbeddedObjectStore | None = None
        if not self.settings.nats.url:
            assert authority is not None
            nats = EmbeddedNats(self.data_dir / "nats", authority)
        if not configured.endpoint:
            store = EmbeddedObjectStore(self.data_dir / "objects")
        elif not (configured.access_key and configured.secret_key):
            raise ConfigError("objects.endpoint is set; objects.access_key and objects.secret_key are needed with it")
        async with anyio.create_task_group() as tasks:
            for part in (nats, store):
                if part is not None:
                    stack.push_async_callback(part.stop)
                    tasks.start_soon(part.start)
        s3 = {
            "endpoint": store.endpoint if store else configured.endpoint or "",
            "access_key": store.access_key if store else configured.access_key or "",
            "secret_key": store.secret_key
            if store
            else configured.secret_key.get_secret_value()
            if configured.secret_key
            else "",
            "region": configured.region,
        }
        return (nats.url if nats else self.settings.nats.url or ""), s3

    def _database_url(self) -> str:
        configured = self.settings.database.url
        return configured.get_secret_value() if configured else f"sqlite+aiosqlite:///{self.data_dir / 'bottega.db'}"

    def _nats_credentials(self, authority: NatsAuthority | None) -> str:
        file = self.settings.nats.credentials_file
        if file:
            return file.read_text("utf-8")
        if authority is None:
            raise ConfigError("nats.url is set; nats.credentials_file or nats.authority_dir is needed with it")
        return authority.issue_user("platform", publish=[">"], subscribe=[">"], expires_in_s=None)

    def _public_url(self, listener: socket.socket) -> str:
        configured = self.settings.server
        if configured.public_url:
            return configured.public_url.rstrip("/")
        host = configured.host if configured.host not in ("0.0.0.0", "::", "") else "127.0.0.1"  # noqa: S104  # compared, not bound
        return f"http://{host}:{listener.getsockname()[1]}"

    def _wire(self, database: Database, identity: Identity) -> None:
        declared = {("core", e.type) for e in CORE_EVENTS}
        declared |= {(p.name, e.type) for p in self.plugins.on() for e in p.events_out}
        database.allow_publishing(lambda source, event_type: (source, event_type) in declared)
        database.before_commit(record_call)
        database.on_commit(identity.observe)

    def _expose(self, bus: Bus, metrics: Metrics) -> None:
        for name, help in (
            ("consumed", "Events handled, by consumer"),
            ("retried", "Attempts at events that failed, by consumer"),
            ("dead", "Events given up, by consumer"),
        ):

            def read(field: str = name) -> dict[str, float]:
                return {consumer: getattr(stats, field) for consumer, stats in bus.stats().consumers.items()}

            metrics.count_from(f"bottega_events_{name}", help, "consumer", read)
        metrics.count_from(
            "bottega_events_published",
            "Events published, by stream",
            "stream",
            lambda: {"EVENTS": bus.stats().published},
        )

    async def _bootstrap(self, identity: Identity) -> tuple[Project, Issued | None]:
        password = secrets.token_urlsafe(12)
        hashed = await anyio.to_thread.run_sync(PasswordHasher().hash, password) if self._is_first_start() else None
        _, project, issued = await identity.bootstrap(self.settings.account, hashed)
        if issued:
            self.first_password = password
        return project, issued

    @property
    def credentials_file(self) -> Path:
        return self.data_dir / "credentials.json"

    def _is_first_start(self) -> bool:
        return not self.credentials_file.exists()

    def _write_credentials(self, shared: Shared, project_id: str, issued: Issued | None) -> None:
        """Complete ``credentials.json`` (mode 0600): what the first start made, with the addresses of this start."""
        known: dict[str, Any] = {}
        if self.credentials_file.exists():
            known = orjson.loads(self.credentials_file.read_bytes())
        if issued:
            known |= {
                "account": self.settings.account,
                "user": self.settings.account,
                "password": self.first_password,
                "access_key": issued.access_key,
                "secret_key": issued.secret_key,
            }
        s3 = shared.s3 or {}
        known |= {
            "url": shared.url,
            "project_id": project_id,
            "s3_endpoint": s3["endpoint"],
            "s3_access_key": s3["access_key"],
            "s3_secret_key": s3["secret_key"],
            "nats_url": shared.nats_url,
        }
        if shared.authority is not None:
            file = self.data_dir / "secrets" / "operator.creds"
            if not file.exists():
                write_private(
                    file,
                    shared.authority.issue_user("operator", publish=[">"], subscribe=[">"], expires_in_s=None),
                )
            known["nats_credentials"] = str(file)
        else:
            known["nats_credentials"] = str(self.settings.nats.credentials_file)
        write_private(self.credentials_file, orjson.dumps(known, option=orjson.OPT_INDENT_2).decode() + "\n")

    def _attach_stores_and_backends(self, shared: Shared) -> None:
        wanted = self.settings.objects.store
        for store in self.platform.extensions("bottega_object_stores"):
            if store.name == wanted:
                shared.objects = store
        if shared.objects is None:
            chosen = "store" in self.settings.objects.model_fields_set
            if chosen and wanted not in self.plugins.all:
                stores = [p.name for p in self.plugins.on() if "bottega_object_stores" in p.hooks]
                raise ConfigError(
                    f"objects.store: there is no plugin '{wanted}'; installed: {', '.join(stores) or 'none'}"
                )
            log.error("no object store", wanted=wanted)
        for backend in self.platform.extensions("bottega_backends"):
            self._backends[backend.name] = backend

    async def _enter_lifespan(self, stack: AsyncExitStack, name: str) -> None:
        plugin = self.plugins.all[name]
        manager = self.plugins.call(plugin, "bottega_lifespan", platform=self.platform.bind(name, plugin.settings))
        if manager is not None:
            with self.plugins.boundary(plugin, "bottega_lifespan"):
                await stack.enter_async_context(manager)


class _Server(uvicorn.Server):
    """Leaves signals to whoever runs the platform."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def bind_listener(host: str, port: int) -> socket.socket:
    """A listening TCP socket. Raises ConfigError when the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named: otherwise asyncio does not switch Nagle's algorithm off, which costs 40 ms an answer.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as e:
        listener.close()
        raise ConfigError(f"cannot listen on {host}:{port}: {e.strerror}; choose another with --port") from e
    listener.listen(1024)
    listener.set_inheritable(False)
    return listener
