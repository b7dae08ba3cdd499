"""The embedded NATS server and S3 server: real ones, on free ports of 127.0.0.1, with credentials of their
own.

Everything they keep is under the data directory, so a second start on it finds streams and objects again, on
the same ports when these are free. One platform at a time uses a data directory (`DataDirLock`).
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import hmac
import http.client
import json
import os
import secrets
import shutil
import socket
import sysconfig
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

import anyio.to_thread
import nats
import nats.errors
import nats.js.errors
from nats.aio.client import RawCredentials

from bottega.child_process import ChildProcess, choose_port, end_stale, port_is_free
from bottega.errors import ConfigError
from bottega.nats_auth import NatsAuthority
from bottega.private_files import private_directory, write_private

_PORT_ATTEMPTS = 3
_LEFTOVERS = ".rclone_temp_"  # of an upload that was never confirmed; the whole prefix is reserved by rclone


class DataDirLock:
    """The right to use a data directory; it ends with the process that holds it, however that ends."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock, making the directory (mode 0700) if needed. Raises ConfigError when another holds
        it."""
        path = private_directory(self.data_dir) / "lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as taken:
            holder = os.pread(descriptor, 32, 0).decode() or "unknown"
            os.close(descriptor)
            raise ConfigError(
                f"the data directory {self.data_dir} is in use by process {holder}; "
                "stop that platform, or choose another directory"
            ) from taken
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        self._descriptor = descriptor

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> DataDirLock:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class _EmbeddedServer(ABC):
    """What both servers share: a directory, a port that is remembered, a supervised process."""

    name: str

    def __init__(self, directory: Path) -> None:
        self._directory = directory.absolute()
        self._port = 0
        self._child: ChildProcess | None = None

    @property
    def pid(self) -> int:
        return self._running.pid

    @property
    def restarts(self) -> int:
        """How often it died and was started again."""
        return self._running.restarts

    @property
    def _running(self) -> ChildProcess:
        if self._child is None:
            raise RuntimeError(f"{self.name} is not started")
        return self._child

    async def start(self) -> None:
        """Start it and return when it answers. Call it with the data directory locked. Raises ConfigError."""
        if self._child is not None:
            raise RuntimeError(f"{self.name} is started already")
        private_directory(self._directory)
        await anyio.to_thread.run_sync(end_stale, self._directory, self.name)
        for attempt in range(1, _PORT_ATTEMPTS + 1):
            self._port = choose_port(self._directory / "port")
            child = self._prepare()
            try:
                await child.start()
            except ConfigError:
                # Another program can take the port between our look and the server's bind.
                if attempt == _PORT_ATTEMPTS or port_is_free(self._port):
                    raise
            else:
                self._child = child
                return

    async def stop(self) -> None:
        """End it in order. Does nothing when it does not run."""
        if self._child is not None:
            await self._child.stop()
            self._child = None

    @abstractmethod
    def _prepare(self) -> ChildProcess:
        """Write what the server reads and describe its process, for `self._port`."""


class EmbeddedNats(_EmbeddedServer):
    """A nats-server with JetStream that accepts the users of one authority and nobody else."""

    name = "nats-server"

    def __init__(self, directory: Path, authority: NatsAuthority) -> None:
        super().__init__(directory)
        self._authority = authority

    @property
    def url(self) -> str:
        """Known once started, and the same through restarts of the server."""
        return f"nats://127.0.0.1:{self._port}"

    def _prepare(self) -> ChildProcess:
        def quoted(path: str) -> str:
            return json.dumps(str(self._directory / path))

        config = self._directory / "nats-server.conf"
        write_private(
            config,
            f"""server_name: bottega-embedded
listen: "127.0.0.1:{self._port}"
log_file: {quoted("nats-server.log")}
log_size_limit: 10MB
log_max_num: 3
jetstream: {{
  store_dir: {quoted("jetstream")}
  max_memory_store: 256MB
  sync_interval: "10s"
}}
{self._authority.server_config()}""",
        )
        return ChildProcess(
            self.name,
            self._directory,
            command=[_binary("nats-server"), "-c", str(config)],
            environment={},
            ready=self._answers,
        )

    async def _answers(self) -> None:
        # A signed request that JetStream answers: it is our server, its accounts are loaded, its store is
        # read.
        inbox = "_INBOX.bottega-probe"
        user = self._authority.issue_user(
            "bottega-probe", publish=["$JS.API.INFO"], subscribe=[f"{inbox}.>"], expires_in_s=30
        )
        socket.create_connection(("127.0.0.1", self._port), timeout=2).close()  # cheaper to be refused
        try:
            client = await nats.connect(
                self.url,
                user_credentials=RawCredentials(user),
                inbox_prefix=inbox,
                allow_reconnect=False,
                connect_timeout=2,
                error_cb=_ignore,
            )
        except nats.errors.Error as refused:
            raise ConnectionError(f"no connection: {refused}") from refused
        try:
            await client.jetstream(timeout=2).account_info()
        except (nats.errors.Error, nats.js.errors.Error) as silent:
            raise ConnectionError(f"JetStream does not answer: {silent}") from silent
        finally:
            await client.close()


class EmbeddedObjectStore(_EmbeddedServer):
    """An S3 server (rclone) over a directory, with one key pair that is made at the first start and kept."""

    name = "rclone"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.access_key = ""
        self.secret_key = ""
        self._sweep: asyncio.Task[None] | None = None

    @property
    def endpoint(self) -> str:
        """Known once started, and the same through restarts of the server."""
        return f"http://127.0.0.1:{self._port}"

    async def start(self) -> None:
        self.access_key, self.secret_key = self._keys()
        before = time.time()
        await super().start()
        self._sweep = asyncio.create_task(self._remove_leftovers(before), name="sweep unfinished uploads")

    async def stop(self) -> None:
        if self._sweep is not None:
            self._sweep.cancel()
            await asyncio.wait({self._sweep})
            self._sweep = None
        await super().stop()

    def _keys(self) -> tuple[str, str]:
        path = private_directory(self._directory) / "keys.json"
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            path.chmod(0o600)
            return str(stored["access_key"]), str(stored["secret_key"])
        except FileNotFoundError:
            pair = {"access_key": secrets.token_hex(10).upper(), "secret_key": secrets.token_hex(20)}
            write_private(path, json.dumps(pair, indent=2) + "\n")
            return pair["access_key"], pair["secret_key"]
        except (ValueError, TypeError, KeyError) as problem:
            raise ConfigError(
                f"{path} does not hold the object store's keys; restore it, or remove it to make new ones"
            ) from problem

    def _prepare(self) -> ChildProcess:
        data = private_directory(self._directory / "data")
        flags = {
            "--addr": f"127.0.0.1:{self._port}",
            "--config": os.devnull,
            "--cache-dir": str(self._directory / "cache"),
            "--buffer-size": "0",  # the files are local: reading ahead only costs memory
            "--max-header-bytes": "65536",  # the default of 4 KiB is less than S3 allows for metadata alone
            "--log-file": str(self._directory / "rclone.log"),
            "--log-file-max-size": "10M",
            "--log-file-max-backups": "3",
        }
        return ChildProcess(
            self.name,
            self._directory,
            command=[
                _binary("rclone"),
                "serve",
                "s3",
                str(data),
                *(part for flag in flags.items() for part in flag),
            ],
            environment={
                "HOME": str(self._directory),
                # In the environment, which only the owner can read: a command line is for everyone. The value
                # is a CSV record, hence the quotes. Without it rclone serves anyone, which `_answers` does
                # not let pass.
                "RCLONE_AUTH_KEY": f'"{self.access_key},{self.secret_key}"',
                "GOMEMLIMIT": "96MiB",  # a soft limit: the collector works harder above it, uploads go on
            },
            ready=self._answers,
        )

    async def _answers(self) -> None:
        anonymous = await anyio.to_thread.run_sync(_status, self._port, {})
        if anonymous < 400:
            raise ConfigError("the embedded object store answers without credentials; it was stopped")
        signed = await anyio.to_thread.run_sync(_status, self._port, self._signed())
        if signed != 200:
            raise ConnectionError(f"the S3 server answered {signed} to a signed request")

    def _signed(self) -> dict[str, str]:
        """The headers of ``GET /`` signed for S3 (AWS Signature Version 4).

        The one request made at each start: for it alone, botocore would take 0.1 s and 13 MB.
        """
        moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        nothing = hashlib.sha256().hexdigest()
        headers = {"host": f"127.0.0.1:{self._port}", "x-amz-content-sha256": nothing, "x-amz-date": moment}
        names = ";".join(headers)
        lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
        request = hashlib.sha256(f"GET\n/\n\n{lines}\n{names}\n{nothing}".encode()).hexdigest()
        scope = f"{moment[:8]}/us-east-1/s3/aws4_request"
        key = f"AWS4{self.secret_key}".encode()
        for part in (*scope.split("/"), f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{request}"):
            key = hmac.digest(key, part.encode(), "sha256")
        given = f"Credential={self.access_key}/{scope}, SignedHeaders={names}, Signature={key.hex()}"
        return {**headers, "authorization": f"AWS4-HMAC-SHA256 {given}"}

    async def _remove_leftovers(self, before: float) -> None:
        """Delete what interrupted uploads left (rclone hides them but keeps them), beside the running
        server."""
        stop = False

        def sweep() -> None:
            for folder, _, names in os.walk(self._directory / "data"):
                if stop:
                    return
                for name in names:
                    path = Path(folder, name)
                    with contextlib.suppress(FileNotFoundError):
                        if name.startswith(_LEFTOVERS) and path.stat().st_mtime < before:
                            path.unlink()

        try:
            await anyio.to_thread.run_sync(sweep, abandon_on_cancel=True)
        finally:
            stop = True


def _binary(name: str) -> str:
    """The server that came with pip into this environment, else the one on the PATH."""
    found = shutil.which(name, path=sysconfig.get_path("scripts")) or shutil.which(name)
    if found is None:
        raise ConfigError(f"there is no {name} in this environment; install bottega with pip, which brings it")
    return found


def _status(port: int, headers: Mapping[str, str]) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/", headers=dict(headers))
        return connection.getresponse().status
    except http.client.HTTPException as problem:
        raise ConnectionError(f"no HTTP answer: {problem}") from problem
    finally:
        connection.close()


async def _ignore(problem: Exception) -> None:
    """nats-py prints a traceback without an error callback; the caller gets the error as an exception."""
