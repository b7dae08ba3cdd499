"""The embedded servers, as real processes: credentials, restarts, crashes, and what is left on disk."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import boto3
import nats
import psutil
import pytest
from botocore.client import Config
from botocore.exceptions import ClientError
from nats.aio.client import Client, RawCredentials
from nats.js.api import StreamConfig

from bottega.embedded import DataDirLock, EmbeddedNats, EmbeddedObjectStore
from bottega.errors import ConfigError, Invalid
from bottega.nats_auth import (
    NatsAuthority,
    Permissions,
    consumer_name,
    kv_reader_permissions,
    project_subscriber_permissions,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
def authority(tmp_path: Path) -> NatsAuthority:
    return NatsAuthority.load_or_create(tmp_path)


@pytest.fixture
async def bus(tmp_path: Path, authority: NatsAuthority) -> AsyncIterator[EmbeddedNats]:
    server = EmbeddedNats(tmp_path / "nats", authority)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[EmbeddedObjectStore]:
    server = EmbeddedObjectStore(tmp_path / "objects")
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
def occupied() -> Iterator[Callable[[int], None]]:
    """Takes ports, as a foreign program would."""
    sockets: list[socket.socket] = []

    def take(port: int) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen()
        sockets.append(listener)

    yield take
    for listener in sockets:
        listener.close()


@asynccontextmanager
async def connected(url: str, credentials: str, **options: Any) -> AsyncIterator[tuple[Client, list[str]]]:
    """A client and what the server complained about to it."""
    complaints: list[str] = []

    async def note(problem: Exception) -> None:
        complaints.append(str(problem))

    options = {"allow_reconnect": False, "connect_timeout": 2, **options}
    client = await nats.connect(url, user_credentials=RawCredentials(credentials), error_cb=note, **options)
    try:
        yield client, complaints
    finally:
        await client.close()


def platform(authority: NatsAuthority) -> str:
    return authority.issue_user("platform", publish=[">"], subscribe=[">"], expires_in_s=None)


def restricted(authority: NatsAuthority, name: str, permissions: Permissions) -> str:
    return authority.issue_user(name, publish=permissions.publish, subscribe=permissions.subscribe, expires_in_s=60)


def s3(store: EmbeddedObjectStore, secret_key: str | None = None) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=store.endpoint,
        aws_access_key_id=store.access_key,
        aws_secret_access_key=secret_key or store.secret_key,
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
    )


async def until(condition: Callable[[], bool], what: str, within_s: float = 15) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        await asyncio.sleep(0.02)


async def test_nats_refuses_everyone_without_credentials_of_this_authority(bus: EmbeddedNats) -> None:
    stranger = NatsAuthority.create()
    with pytest.raises(nats.errors.Error, match=r"(?i)authorization violation"):
        await nats.connect(bus.url, allow_reconnect=False, error_cb=_ignore)
    with pytest.raises(nats.errors.Error, match=r"(?i)authorization violation"):
        async with connected(bus.url, platform(stranger)):
            pass


async def test_store_refuses_no_key_and_a_wrong_key(store: EmbeddedObjectStore) -> None:
    anonymous = await asyncio.to_thread(_anonymous_status, store.endpoint)
    assert anonymous in (400, 401, 403)
    with pytest.raises(ClientError) as refused:
        s3(store, secret_key="0" * 40).list_buckets()
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    assert s3(store).list_buckets()["Buckets"] == []


async def test_a_second_start_finds_streams_and_objects_on_the_same_ports(tmp_path: Path) -> None:
    addresses = []
    for round_ in range(2):
        authority = NatsAuthority.load_or_create(tmp_path)
        bus, store = EmbeddedNats(tmp_path / "nats", authority), EmbeddedObjectStore(tmp_path / "objects")
        began = time.monotonic()
        await asyncio.gather(bus.start(), store.start())
        assert time.monotonic() - began < 2
        addresses.append((bus.url, store.endpoint, store.access_key, store.secret_key))
        async with connected(bus.url, platform(authority)) as (client, _):
            stream = client.jetstream()
            if round_ == 0:
                await stream.add_stream(StreamConfig(name="EVENTS", subjects=["evt.>"]))
                await stream.publish("evt.a.x", b"kept")
                s3(store).create_bucket(Bucket="kept")
                s3(store).put_object(Bucket="kept", Key="a/b", Body=b"kept too")
            else:
                assert (await stream.get_msg("EVENTS", seq=1)).data == b"kept"
                assert s3(store).get_object(Bucket="kept", Key="a/b")["Body"].read() == b"kept too"
        pids = bus.pid, store.pid
        await asyncio.gather(bus.stop(), store.stop())
        assert not any(psutil.pid_exists(pid) for pid in pids)
    assert addresses[0] == addresses[1]


async def test_taken_ports_are_exchanged(
    tmp_path: Path, authority: NatsAuthority, occupied: Callable[[int], None]
) -> None:
    bus, store = EmbeddedNats(tmp_path / "nats", authority), EmbeddedObjectStore(tmp_path / "objects")
    await bus.start()
    await store.start()
    before = bus.url, store.endpoint
    await bus.stop()
    await store.stop()
    for address in before:
        occupied(int(address.rpartition(":")[2]))
    await bus.start()
    await store.start()
    assert bus.url != before[0]
    assert store.endpoint != before[1]
    await bus.stop()
    await store.stop()


async def test_killed_nats_returns_and_nothing_acknowledged_is_lost(
    bus: EmbeddedNats, authority: NatsAuthority
) -> None:
    options = {"allow_reconnect": True, "max_reconnect_attempts": -1, "reconnect_time_wait": 0.05}
    async with connected(bus.url, platform(authority), **options) as (client, _):
        stream = client.jetstream(timeout=0.5)
        await stream.add_stream(StreamConfig(name="EVENTS", subjects=["evt.>"]))
        acknowledged: list[int] = []

        async def publish() -> None:
            for number in range(2_000):
                while True:
                    try:
                        await stream.publish("evt.a.x", str(number).encode(), headers={"Nats-Msg-Id": str(number)})
                        break
                    except nats.errors.Error:  # away: say it again, the id makes it count once
                        await asyncio.sleep(0.02)
                acknowledged.append(number)

        publishing = asyncio.create_task(publish())
        for kill_at in (300, 900):
            await until(lambda at=kill_at: len(acknowledged) >= at, f"{kill_at} published")  # type: ignore[misc]
            killed, restarts = bus.pid, bus.restarts
            os.kill(killed, signal.SIGKILL)
            await until(lambda n=restarts: bus.restarts > n, "NATS restarted")  # type: ignore[misc]
            assert bus.pid != killed
        await asyncio.wait_for(publishing, 30)
        stored = [int((await stream.get_msg("EVENTS", seq=n)).data or b"") for n in range(1, 2_001)]
        assert stored == list(range(2_000))
        assert (await stream.stream_info("EVENTS")).state.messages == 2_000


async def test_killed_store_returns_with_its_objects(store: EmbeddedObjectStore) -> None:
    client = s3(store)
    client.create_bucket(Bucket="kept")
    client.put_object(Bucket="kept", Key="a", Body=b"kept")
    os.kill(store.pid, signal.SIGKILL)
    await until(lambda: store.restarts == 1, "the store restarted")
    assert client.get_object(Bucket="kept", Key="a")["Body"].read() == b"kept"


async def test_unfinished_uploads_are_swept_at_start_and_objects_are_not(tmp_path: Path) -> None:
    folder = tmp_path / "objects" / "data" / "bucket" / "deep"
    folder.mkdir(parents=True)
    for name in (".rclone_temp_put_1", ".rclone_temp_multipart_2", "kept"):
        (folder / name).write_bytes(b"x")
    store = EmbeddedObjectStore(tmp_path / "objects")
    await store.start()
    await until(lambda: [path.name for path in folder.iterdir()] == ["kept"], "swept")
    await store.stop()


async def test_one_platform_per_data_directory(tmp_path: Path) -> None:
    with (
        DataDirLock(tmp_path / "data"),
        pytest.raises(ConfigError, match=f"in use by process {os.getpid()}"),
        DataDirLock(tmp_path / "data"),
    ):
        pass
    with DataDirLock(tmp_path / "data"):
        pass


PLATFORM = """
    import asyncio, sys
    from pathlib import Path
    import bottega.child_process
    from bottega.embedded import DataDirLock, EmbeddedNats, EmbeddedObjectStore
    from bottega.nats_auth import NatsAuthority

    data, orphans = Path(sys.argv[1]), sys.argv[2] == "orphans"
    if orphans:  # as on a system whose kernel does not end children with their parent
        bottega.child_process._libc = None

    async def main():
        with DataDirLock(data):
            bus = EmbeddedNats(data / "nats", NatsAuthority.load_or_create(data))
            store = EmbeddedObjectStore(data / "objects")
            await asyncio.gather(bus.start(), store.start())
            print(bus.pid, store.pid, flush=True)
            await asyncio.sleep(600)

    asyncio.run(main())
"""


def _killed_platform(data: Path, mode: str) -> list[psutil.Process]:
    command = [sys.executable, "-c", textwrap.dedent(PLATFORM), str(data), mode]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as helper:
        assert helper.stdout is not None
        children = [psutil.Process(int(pid)) for pid in helper.stdout.readline().split()]
        assert len(children) == 2
        helper.kill()
    return children


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
async def test_the_servers_end_with_a_killed_platform(tmp_path: Path) -> None:
    children = await asyncio.to_thread(_killed_platform, tmp_path, "together")
    await until(lambda: not any(child.is_running() for child in children), "both ended")
    with DataDirLock(tmp_path):
        pass


async def test_servers_left_by_a_killed_platform_are_replaced(tmp_path: Path) -> None:
    left = await asyncio.to_thread(_killed_platform, tmp_path, "orphans")
    try:
        assert all(child.is_running() for child in left)
        with DataDirLock(tmp_path):
            bus = EmbeddedNats(tmp_path / "nats", NatsAuthority.load_or_create(tmp_path))
            store = EmbeddedObjectStore(tmp_path / "objects")
            await asyncio.gather(bus.start(), store.start())
            assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in left)
            assert s3(store).list_buckets()["Buckets"] == []
            await asyncio.gather(bus.stop(), store.stop())
    finally:
        for child in left:
            if child.is_running():
                child.kill()


async def test_a_pid_that_now_belongs_to_another_program_is_left_alone(
    tmp_path: Path, authority: NatsAuthority
) -> None:
    with subprocess.Popen(["sleep", "60"]) as other:
        try:
            (tmp_path / "nats").mkdir()
            bus = EmbeddedNats(tmp_path / "nats", authority)
            await bus.start()
            record = json.loads((tmp_path / "nats" / "nats-server.pid").read_text())
            await bus.stop()
            created = psutil.Process(other.pid).create_time()
            (tmp_path / "nats" / "nats-server.pid").write_text(
                json.dumps({**record, "pid": other.pid, "create_time": created})
            )
            await bus.start()
            await bus.stop()
            assert other.poll() is None
        finally:
            other.kill()


async def test_a_project_subscriber_hears_its_project_only(bus: EmbeddedNats, authority: NatsAuthority) -> None:
    permissions = project_subscriber_permissions("a", "bill")
    async with (
        connected(bus.url, platform(authority)) as (admin, _),
        connected(bus.url, restricted(authority, "bill", permissions), inbox_prefix=permissions.inbox_prefix) as (
            bill,
            complaints,
        ),
    ):
        heard = await bill.subscribe("evt.a.>")
        logs = await bill.subscribe("log.a.>")
        await bill.flush()
        await admin.publish("evt.b.x", b"not for bill")
        await admin.publish("evt.a.x", b"for bill")
        await admin.publish("log.a.x", b"a line")
        assert (await heard.next_msg(timeout=10)).data == b"for bill"
        assert (await logs.next_msg(timeout=10)).data == b"a line"
        assert complaints == []
        forbidden = ["evt.b.>", "evt.>", "log.b.>", "cmd.a.>", ">", "_INBOX.>", "$JS.>", "$SYS.>"]
        for subject in forbidden:
            await bill.subscribe(subject)
        for subject in ("evt.a.x", "cmd.a.x", "$JS.API.STREAM.INFO.EVENTS"):
            await bill.publish(subject, b"{}")
            forbidden.append(subject)
        await until(lambda: len(complaints) >= len(forbidden), "every one refused")
        assert [each for each in complaints if "permissions violation" not in each] == []


async def test_a_project_subscriber_cannot_make_a_consumer_of_another_project(
    bus: EmbeddedNats, authority: NatsAuthority
) -> None:
    permissions = project_subscriber_permissions("a", "bill", consumer=True)
    own = consumer_name("a", "bill")
    create = "$JS.API.CONSUMER.CREATE.EVENTS"
    async with (
        connected(bus.url, platform(authority)) as (admin, _),
        connected(bus.url, restricted(authority, "bill", permissions), inbox_prefix=permissions.inbox_prefix) as (
            bill,
            complaints,
        ),
    ):
        stream = admin.jetstream()
        await stream.add_stream(StreamConfig(name="EVENTS", subjects=["evt.>"]))
        for project in "aab":
            await stream.publish(f"evt.{project}.x", project.encode())

        mine = await bill.jetstream(timeout=1).pull_subscribe("evt.a.>", durable=own, stream="EVENTS")
        messages = await mine.fetch(3, timeout=0.5)
        assert [message.data for message in messages] == [b"a", b"a"]
        for message in messages:
            await message.ack_sync()
        await bill.jetstream(timeout=1).delete_consumer("EVENTS", own)
        assert complaints == []

        smuggled: list[dict[str, Any]] = [
            {"filter_subject": "evt.b.>"},
            {"filter_subjects": ["evt.b.>"]},
            {"filter_subjects": ["evt.a.>", "evt.b.>"]},
            {"filter_subject": "evt.a.>", "filter_subjects": ["evt.b.>"]},
            {},
        ]
        for config in smuggled:
            request = {"stream_name": "EVENTS", "config": {"name": own, "ack_policy": "explicit", **config}}
            answer = await bill.request(f"{create}.{own}.evt.a.>", json.dumps(request).encode(), timeout=2)
            assert json.loads(answer.data)["error"]["err_code"] in (10131, 10137), config

        unfiltered = json.dumps({"stream_name": "EVENTS", "config": {"name": own}}).encode()
        forbidden = [
            f"{create}.{own}.evt.b.>",
            f"{create}.{own}",
            create,
            f"{create}.{consumer_name('b', 'bill')}.evt.a.>",
            f"$JS.API.CONSUMER.DURABLE.CREATE.EVENTS.{own}",
            f"$JS.API.CONSUMER.MSG.NEXT.EVENTS.{consumer_name('b', 'bill')}",
            "$JS.API.DIRECT.GET.EVENTS",
            "$JS.API.STREAM.MSG.GET.EVENTS",
        ]
        for subject in forbidden:
            await bill.publish(subject, unfiltered)
        await until(lambda: len(complaints) >= len(forbidden), "every one refused")
        assert await stream.consumers_info("EVENTS") == []


async def test_a_kv_reader_reads_and_watches_but_does_not_write(bus: EmbeddedNats, authority: NatsAuthority) -> None:
    permissions = kv_reader_permissions("routes", "proxy")
    async with (
        connected(bus.url, platform(authority)) as (admin, _),
        connected(bus.url, restricted(authority, "proxy", permissions), inbox_prefix=permissions.inbox_prefix) as (
            proxy,
            complaints,
        ),
    ):
        written = await admin.jetstream().create_key_value(bucket="routes")
        await admin.jetstream().create_key_value(bucket="secrets")
        await written.put("service.1", b"here")
        read = await proxy.jetstream(timeout=1).key_value("routes")
        assert (await read.get("service.1")).value == b"here"
        watch: Any = await read.watchall()
        assert (await watch.updates(timeout=2)).value == b"here"
        assert await watch.updates(timeout=2) is None
        await written.put("service.1", b"there")
        assert (await watch.updates(timeout=2)).value == b"there"
        await watch.stop()
        assert complaints == []
        with pytest.raises(nats.errors.Error):
            await read.put("service.1", b"mine")
        with pytest.raises(nats.errors.Error):
            await proxy.jetstream(timeout=0.5).key_value("secrets")
        assert (await written.get("service.1")).value == b"there"


async def test_expired_credentials_end_the_connection_and_open_no_new_one(
    bus: EmbeddedNats, authority: NatsAuthority
) -> None:
    issued = time.time()
    credentials = authority.issue_user("brief", publish=["x"], subscribe=["x"], expires_in_s=2)
    async with connected(bus.url, credentials) as (client, _):
        await until(lambda: client.is_closed, "the server ended it", within_s=6)
        assert "expired" in str(client.last_error)
    await until(lambda: time.time() >= issued + 3, "the second of the expiry is over")
    with pytest.raises(nats.errors.Error, match=r"(?i)authorization violation|expired"):
        async with connected(bus.url, credentials):
            pass


async def test_no_subjects_means_nothing(bus: EmbeddedNats, authority: NatsAuthority) -> None:
    credentials = authority.issue_user("mute", publish=[], subscribe=[], expires_in_s=None)
    async with connected(bus.url, credentials) as (client, complaints):
        await client.publish("x", b"")
        await client.subscribe("x")
        await until(lambda: len(complaints) == 2, "both refused")


@pytest.mark.parametrize("bad", ["", "a.b", "*", ">", "a b", "a\n", "ü", "x" * 129])
def test_names_that_would_widen_a_subject_are_refused(bad: str) -> None:
    with pytest.raises(Invalid):
        project_subscriber_permissions(bad, "x")
    with pytest.raises(Invalid):
        project_subscriber_permissions("a", bad, consumer=True)
    with pytest.raises(Invalid):
        kv_reader_permissions(bad, "x")


def test_a_damaged_authority_is_reported_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "nats-authority.json"
    path.write_text('{"operator_seed": "SOX"}')
    with pytest.raises(ConfigError, match=r"nats-authority\.json"):
        NatsAuthority.load_or_create(tmp_path)
    assert path.read_text() == '{"operator_seed": "SOX"}'


async def test_a_server_that_cannot_start_says_why(tmp_path: Path, authority: NatsAuthority) -> None:
    (tmp_path / "nats").mkdir()
    (tmp_path / "nats" / "jetstream").write_text("in the way")
    bus = EmbeddedNats(tmp_path / "nats", authority)
    with pytest.raises(ConfigError, match=r"nats-server ended .*JetStream: storage directory"):
        await bus.start()
    assert not (tmp_path / "nats" / "nats-server.pid").exists()


async def test_secrets_are_in_private_files_and_on_no_command_line(
    tmp_path: Path, authority: NatsAuthority, bus: EmbeddedNats, store: EmbeddedObjectStore
) -> None:
    secrets = [store.secret_key, authority.operator_seed, authority.account_seed]
    shown = [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
    assert any("rclone" in line for line in shown)
    assert not [line for line in shown for secret in secrets if secret in line]
    assert not any(secret in repr(authority) for secret in secrets)
    s3(store).create_bucket(Bucket="bucket")
    s3(store).put_object(Bucket="bucket", Key="a/b", Body=b"x")
    for path in tmp_path.rglob("*"):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode & 0o077 == 0, f"{path} is open to others: {mode:o}"
        if path.is_file() and path.name not in ("keys.json", "nats-authority.json"):
            content = path.read_bytes()
            assert not any(secret.encode() in content for secret in secrets), path


async def test_idle_memory(bus: EmbeddedNats, store: EmbeddedObjectStore) -> None:
    resident = sum(psutil.Process(pid).memory_info().rss for pid in (bus.pid, store.pid))
    assert resident < 110 * 2**20


async def _ignore(problem: Exception) -> None:
    """nats-py prints a traceback without an error callback."""


def _anonymous_status(endpoint: str) -> int:
    connection = http.client.HTTPConnection(endpoint.removeprefix("http://"), timeout=5)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status
    finally:
        connection.close()
