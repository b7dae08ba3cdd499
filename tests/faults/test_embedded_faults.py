"""The embedded parts are killed under a running platform: they come back and nothing is lost."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import boto3
import psutil
import pytest
from botocore.config import Config

from bottega.testing import PlatformProcess, wait_until


@pytest.fixture
def process(tmp_path: Path) -> Iterator[PlatformProcess]:
    with PlatformProcess(tmp_path / "data") as platform:
        yield platform


def events(process: PlatformProcess) -> list[str]:
    """The ids of the credentials calls on the stream, in order."""
    found = process.client.lines("/v1/{project_id}/events", {"since": 0, "follow": False, "type": "core.api.called.v1"})
    return [event["data"]["request_id"] for event in found]


def change(process: PlatformProcess) -> str:
    response = process.client.request("POST", "/v1/{project_id}/nats-credentials", json={})
    return response.headers["X-Request-Id"]


def s3(process: PlatformProcess):  # type: ignore[no-untyped-def]  # boto3 builds its clients at run time
    known = process.credentials
    return boto3.client(
        "s3",
        endpoint_url=known["s3_endpoint"],
        aws_access_key_id=known["s3_access_key"],
        aws_secret_access_key=known["s3_secret_key"],
        region_name="us-east-1",
        config=Config(request_checksum_calculation="when_required", response_checksum_validation="when_required"),
    )


def test_state_changes_go_on_without_nats_and_their_events_follow(process: PlatformProcess) -> None:
    before = [change(process) for _ in range(3)]
    nats = process.child("nats-server")
    nats.send_signal(signal.SIGSTOP)  # gone for the platform, and not restarted by its supervisor yet
    during = [change(process) for _ in range(5)]
    nats.kill()
    process.child("nats-server", other_than=nats.pid)
    after = [change(process) for _ in range(3)]
    made = before + during + after

    def arrived() -> bool:
        return len(set(events(process)) & set(made)) == len(made)

    assert wait_until(arrived, timeout=60)
    assert [r for r in events(process) if r in made] == made


def test_the_object_store_comes_back_with_everything(process: PlatformProcess) -> None:
    client = s3(process)
    client.create_bucket(Bucket="kept")
    client.put_object(Bucket="kept", Key="a/b.bin", Body=b"x" * 100_000)
    store = process.child("rclone")
    store.kill()
    process.child("rclone", other_than=store.pid)

    def readable() -> bool:
        try:
            return bool(s3(process).get_object(Bucket="kept", Key="a/b.bin")["Body"].read() == b"x" * 100_000)
        except Exception:  # whatever the client says while the server is on its way
            return False

    assert wait_until(readable, timeout=30)


def test_after_a_kill_the_next_start_finds_everything_and_leaves_no_second_server(process: PlatformProcess) -> None:
    client = s3(process)
    client.create_bucket(Bucket="kept")
    client.put_object(Bucket="kept", Key="a", Body=b"1")
    made = change(process)
    old = {p.pid for p in psutil.Process(process.pid).children(recursive=True)}
    keys = process.credentials["access_key"], process.credentials["s3_endpoint"]
    process.kill()
    process.start()
    assert (process.credentials["access_key"], process.credentials["s3_endpoint"]) == keys
    assert s3(process).get_object(Bucket="kept", Key="a")["Body"].read() == b"1"
    assert wait_until(lambda: made in events(process), timeout=30)
    wait_until(lambda: not any(psutil.pid_exists(pid) for pid in old), timeout=10)


def test_nothing_runs_on_after_an_orderly_stop(tmp_path: Path) -> None:
    process = PlatformProcess(tmp_path / "data").start()
    children = psutil.Process(process.pid).children(recursive=True)
    assert {p.name() for p in children} >= {"nats-server", "rclone"}
    process.stop()
    assert not [p for p in children if p.is_running()]
    assert json.loads((tmp_path / "data" / "credentials.json").read_text())["url"]
