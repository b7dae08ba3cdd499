"""``backend-local`` on a real platform: what it starts, how that ends, and what survives when the platform does not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import psutil
import pytest

from bottega.backends import LogChunk, WorkloadRequested, WorkloadSpec
from bottega.entities import Workload
from bottega.errors import NotFound
from bottega.launch.directory import WorkloadDirectory
from bottega.plugins import Plugins
from bottega.settings import Settings
from bottega.testing import RunningPlatform, Tenant, wait_until
from bottega.testing.running import Objects
from bottega.workloads import FINAL, workload_urn
from bottega_training.backend_local.capacity import choose_cores
from bottega_training.backend_local.traces import tidy_ended

NEEDED = ("backend-local", "store-s3")


def only_what_is_needed(settings: Settings) -> Plugins:
    return Plugins(settings, [point for point in entry_points(group="bottega") if point.name in NEEDED])


def platform_on(directory: Path, **settings: Any) -> RunningPlatform:
    overrides = {"plugins": {"backend-local": settings}} if settings else None
    return RunningPlatform(directory, overrides, only_what_is_needed)


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    with platform_on(tmp_path_factory.mktemp("platform")) as running:
        yield running


@pytest.fixture
def owner(platform: RunningPlatform) -> Tenant:
    return platform.tenant()


def request(
    owner: Tenant, *command: str, kind: str = "training", flavor: str = "local.small", nodes: int = 1, **spec: Any
) -> str:
    """Ask for a workload and return its id."""

    async def ask() -> str:
        core = owner.running.platform()
        async with core.database.transaction() as tx:
            workload = await core.workloads.request(
                tx,
                WorkloadSpec(command=list(command), **spec),
                kind=kind,
                flavor_id=flavor,
                resource_urn=f"bottega:training:{owner.project_id}:job/1",
                project_id=owner.project_id,
                user_id=owner.user_id,
                node_count=nodes,
            )
        return workload.id

    return owner.running.run(ask())


def stop(running: RunningPlatform, workload_id: str) -> None:
    async def ask() -> None:
        core = running.platform()
        async with core.database.transaction() as tx:
            await core.workloads.stop(tx, workload_id)

    running.run(ask())


def show(running: RunningPlatform, workload_id: str) -> Workload:
    async def read() -> Workload:
        core = running.platform()
        async with core.database.read() as session:
            return await core.workloads.get(session, workload_id)

    return running.run(read())


def wait_state(running: RunningPlatform, workload_id: str, *states: str, timeout: float = 40) -> Workload:
    def reached() -> Workload | None:
        workload = show(running, workload_id)
        if workload.state in FINAL and workload.state not in states:
            raise AssertionError(f"{workload.state}: {workload.reason}")
        return workload if workload.state in states else None

    workload = wait_until(reached, timeout)
    assert workload is not None
    return workload


def read_log(running: RunningPlatform, workload_id: str, offset: int = 0, limit: int = 65536) -> LogChunk:
    return running.run(running.platform().workloads.read_log(show(running, workload_id), offset, limit))


def directory_of(running: RunningPlatform, workload_id: str) -> WorkloadDirectory:
    return WorkloadDirectory(running.data_dir / "workloads" / workload_id)


def launch_pid(running: RunningPlatform, workload_id: str) -> int:
    pid = wait_until(directory_of(running, workload_id).launch_pid)
    assert pid is not None
    return pid


def processes_of(workload_id: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            mine = process.environ().get("BOTTEGA_WORKLOAD_ID") == workload_id
            if mine and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def test_a_workload_from_its_inputs_to_its_events(platform: RunningPlatform, owner: Tenant) -> None:
    bucket = owner.create_bucket()
    owner.objects.put(f"s3://{bucket}/in/a", b"input")
    before = time.time_ns() // 1_000_000
    workload_id = request(
        owner,
        "sh",
        "-c",
        "cp in/a out/b; echo done",
        inputs=[{"path": f"/{bucket}/in/", "local": "in"}],
        outputs=[{"path": f"s3://{bucket}/out/", "local": "out"}],
        log_path=f"obs://{bucket}/logs/job.log",
    )
    workload = wait_state(platform, workload_id, "succeeded")
    assert (workload.exit_code, workload.reason) == (0, "")
    assert owner.objects.get(f"s3://{bucket}/out/b") == b"input"
    assert owner.objects.get(f"s3://{bucket}/logs/job.log") == b"done\n"
    assert read_log(platform, workload_id).text == "done\n"
    assert platform.run(platform.platform().workloads.read_usage(workload))

    started = owner.events.wait("core.workload.started.v1", workload_id=workload_id).data
    finished = owner.events.wait("core.workload.finished.v1", workload_id=workload_id).data
    assert before <= started["started_at"] == finished["started_at"] <= finished["finished_at"]
    assert (finished["state"], finished["flavor"]) == ("succeeded", "local.small")

    directory = directory_of(platform, workload_id)
    wait_until(lambda: not directory.work.exists() and not directory.access_file.exists())
    assert oct(directory.root.stat().st_mode)[-3:] == "700"


def test_a_failure_carries_its_reason(platform: RunningPlatform, owner: Tenant) -> None:
    missing = wait_state(
        platform, request(owner, "true", inputs=[{"path": "s3://nowhere-at-all/x/", "local": "in"}]), "failed"
    )
    assert missing.reason == "input s3://nowhere-at-all/x/ does not exist"
    assert missing.started_at is None
    failed = wait_state(platform, request(owner, "sh", "-c", "echo bad data; exit 7"), "failed")
    assert (failed.reason, failed.exit_code) == ("exit code 7: bad data", 7)


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"nodes": 2}, "one machine; the workload asks for 2 nodes"),
        ({"persistent_dir": "../other"}, "no name for a disk"),
    ],
)
def test_what_this_machine_cannot_do_fails_at_once(
    platform: RunningPlatform, owner: Tenant, spec: dict[str, Any], reason: str
) -> None:
    assert reason in wait_state(platform, request(owner, "true", **spec), "failed").reason


def test_a_stop_ends_it(platform: RunningPlatform, owner: Tenant) -> None:
    workload_id = request(owner, "sleep", "60")
    wait_state(platform, workload_id, "started")
    assert len(processes_of(workload_id)) == 1
    stop(platform, workload_id)
    stopped = wait_state(platform, workload_id, "stopped")
    assert stopped.reason == "stopped on request"
    assert processes_of(workload_id) == []


def test_it_is_reported_started_when_it_answers(platform: RunningPlatform, owner: Tenant) -> None:
    workload_id = request(
        owner,
        *("{python}", "-m", "http.server", "--bind", "127.0.0.1", "{port:web}"),
        kind="serving",
        ports=["web"],
        readiness="web:/",
    )
    workload = wait_state(platform, workload_id, "started")
    host, _, port = workload.endpoints["web"].partition(":")
    assert host == "127.0.0.1"
    assert int(port) in range(30_000, 32_000)
    stop(platform, workload_id)
    wait_state(platform, workload_id, "stopped")


def test_a_disk_outlives_its_workload(platform: RunningPlatform, owner: Tenant) -> None:
    for _ in range(2):
        wait_state(platform, request(owner, "sh", "-c", "echo x >> kept", persistent_dir="disk-1"), "succeeded")
    assert (platform.data_dir / "disks" / "disk-1" / "kept").read_text() == "x\nx\n"


def test_a_start_that_is_delivered_again_runs_nothing_twice(platform: RunningPlatform, owner: Tenant) -> None:
    workload_id = request(owner, "sh", "-c", "echo x >> count; sleep 1", persistent_dir="count")

    async def repeat() -> None:
        core = platform.platform()
        async with core.database.transaction() as tx:
            workload = await core.workloads.get(tx.session, workload_id)
            again = WorkloadRequested(
                workload_id=workload_id,
                kind=workload.kind,
                backend=workload.backend,
                flavor=workload.flavor,
                resource_urn=workload.resource_urn,
            )
            tx.emit(again, workload_urn(workload))

    for _ in range(5):
        platform.run(repeat())
        time.sleep(0.1)
    wait_state(platform, workload_id, "succeeded")
    platform.run(repeat())
    time.sleep(0.5)
    assert (platform.data_dir / "disks" / "count" / "count").read_text() == "x\n"


def test_when_launch_is_killed_the_workload_fails_and_its_processes_end(
    platform: RunningPlatform, owner: Tenant
) -> None:
    workload_id = request(owner, "sh", "-c", "setsid sleep 60 & sleep 60")
    wait_state(platform, workload_id, "started")
    wait_until(lambda: len(processes_of(workload_id)) == 3)
    os.kill(launch_pid(platform, workload_id), signal.SIGKILL)
    lost = wait_state(platform, workload_id, "failed")
    assert lost.reason.startswith("lost: ")
    assert processes_of(workload_id) == []
    assert wait_until(lambda: read_log(platform, workload_id).complete)


def test_a_log_is_read_in_pieces_that_hold_whole_characters(platform: RunningPlatform, owner: Tenant) -> None:
    text = "naïve 漢字 🙂 end\n" * 3
    workload_id = request(owner, "{python}", "-c", f"print({text!r}, end='')")
    wait_state(platform, workload_id, "succeeded")
    pieces, offset = [], 0
    while True:
        chunk = read_log(platform, workload_id, offset, 5)
        pieces.append(chunk.text)
        offset = chunk.next_offset
        if chunk.complete:
            break
    assert "".join(pieces) == text
    assert read_log(platform, workload_id, -4).text == "end\n"
    with pytest.raises(NotFound):
        platform.run(platform.platform().workloads.backend("backend-local").read_log("../secrets"))


def test_more_than_fits_waits_in_order(tmp_path: Path) -> None:
    with platform_on(tmp_path / "data", cpus=1, max_workloads=3) as running:
        owner = running.tenant()
        turn = f"date +%s%N >> {tmp_path}/{{0}}; sleep 0.5; date +%s%N >> {tmp_path}/{{0}}"
        queued = [request(owner, "sh", "-c", turn.format(n)) for n in range(3)]
        waiting = request(owner, "sleep", "60")
        services = [request(owner, "sleep", "60", kind="serving") for _ in range(3)]
        for service in services[:2]:
            wait_state(running, service, "started")  # services do not wait for the processor
        assert show(running, services[2]).state == "requested"  # but for the number of workloads
        stop(running, waiting)
        assert wait_state(running, waiting, "stopped").reason == "stopped before it started"
        for workload_id in queued:
            wait_state(running, workload_id, "succeeded")
        times = [int(line) for n in range(3) for line in (tmp_path / str(n)).read_text().split()]
        assert times == sorted(times)


def test_a_platform_that_stops_ends_its_workloads(tmp_path: Path) -> None:
    with platform_on(tmp_path / "data") as running:
        owner = running.tenant()
        bucket = owner.create_bucket()
        output = {"path": f"s3://{bucket}/out/", "local": "out"}
        workload_id = request(owner, "sh", "-c", "echo 1 > out/a; sleep 60", outputs=[output], upload_every_s=100)
        wait_state(running, workload_id, "started")
    assert processes_of(workload_id) == []
    with platform_on(tmp_path / "data") as running:
        workload = show(running, workload_id)
        assert workload.state == "stopped"
        assert workload.reason.startswith("the platform was stopped")
        events = Tenant(running, "", owner.project_id, "", "", "", "").events
        events.wait("core.workload.finished.v1", workload_id=workload_id)


def test_workloads_that_are_kept_are_adopted(tmp_path: Path) -> None:
    with platform_on(tmp_path / "data", on_shutdown="keep") as running:
        owner = running.tenant()
        bucket = owner.create_bucket()
        go = tmp_path / "go"
        output = {"path": f"s3://{bucket}/out/", "local": "out"}
        quick = request(owner, "sh", "-c", "sleep 1; exit 4")
        uploading = request(
            owner, "sh", "-c", f"until [ -e {go} ]; do sleep 0.1; done; echo 1 > out/a", outputs=[output]
        )
        endless = request(owner, "sleep", "60", kind="notebook")
        for workload_id in (quick, uploading, endless):
            wait_state(running, workload_id, "started")
        pid = launch_pid(running, endless)
    go.touch()  # it ends, and stores its outputs, while no platform answers
    ended = wait_until(directory_of(running, quick).result)
    assert ended is not None
    wait_until(lambda: (directory_of(running, uploading).status() or {"phase": ""})["phase"] == "uploading")
    time.sleep(0.5)
    with platform_on(tmp_path / "data") as running:
        failed = wait_state(running, quick, "failed")
        assert (failed.reason, failed.finished_at) == ("exit code 4", ended["finished_at"])
        wait_state(running, uploading, "succeeded")
        assert Objects(running).get(f"s3://{bucket}/out/a") == b"1\n"
        assert launch_pid(running, endless) == pid
        assert show(running, endless).state == "started"
        stop(running, endless)
        wait_state(running, endless, "stopped")


class Victim:
    """A platform in a process of its own that asked for a workload, to be killed."""

    def __init__(self, data_dir: Path, *command: str, **spec: Any) -> None:
        arguments = json.dumps([str(data_dir), command, spec])
        self.process = subprocess.Popen(
            [sys.executable, __file__, arguments], stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        assert self.process.stdout is not None
        self.workload_id = self.process.stdout.readline().strip()
        assert self.workload_id, "the platform did not start"

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def be_a_victim(data_dir: str, command: list[str], spec: dict[str, Any]) -> None:
    with platform_on(Path(data_dir)) as running:
        print(request(running.tenant(), *command, **spec), flush=True)
        time.sleep(120)


def test_the_workload_of_a_killed_platform_is_adopted(tmp_path: Path) -> None:
    victim = Victim(tmp_path, "sh", "-c", "sleep 4; echo survived")
    directory = WorkloadDirectory(tmp_path / "workloads" / victim.workload_id)
    wait_until(lambda: directory.status() and directory.status()["phase"] == "running")  # type: ignore[index]
    pid = directory.launch_pid()
    assert pid is not None
    victim.kill()
    with platform_on(tmp_path) as running:
        assert directory.launch_pid() == pid
        workload = wait_state(running, victim.workload_id, "succeeded")
        assert read_log(running, victim.workload_id).text == "survived\n"
        assert workload.started_at is not None


@pytest.mark.parametrize("delay_s", [0.0, 0.05, 0.15, 0.3])
def test_a_platform_killed_at_any_point_of_a_start_runs_it_once(tmp_path: Path, delay_s: float) -> None:
    victim = Victim(tmp_path, "sh", "-c", "echo x >> count; sleep 0.5", persistent_dir="disk")
    time.sleep(delay_s)
    victim.kill()
    with platform_on(tmp_path) as running:
        wait_state(running, victim.workload_id, "succeeded")
    assert (tmp_path / "disks" / "disk" / "count").read_text() == "x\n"


def test_a_workload_lost_while_the_platform_was_away_fails(tmp_path: Path) -> None:
    victim = Victim(tmp_path, "sleep", "60")
    directory = WorkloadDirectory(tmp_path / "workloads" / victim.workload_id)
    pid = wait_until(directory.launch_pid)
    assert pid is not None
    wait_until(lambda: processes_of(victim.workload_id))
    victim.kill()
    os.kill(pid, signal.SIGKILL)
    with platform_on(tmp_path) as running:
        assert wait_state(running, victim.workload_id, "failed").reason.startswith("lost: ")
    assert processes_of(victim.workload_id) == []


def test_ended_workloads_are_forgotten_by_age_and_number(tmp_path: Path) -> None:
    for name, age_days in (("new", 0), ("newer", -1), ("old", 5), ("open", 9)):
        (tmp_path / name / "work").mkdir(parents=True)
        (tmp_path / name / "log.txt").write_text("log")
        when = time.time() - age_days * 86400
        os.utime(tmp_path / name, (when, when))
    tidy_ended(tmp_path, {"open"}, keep=10, keep_days=3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "newer", "open"]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["log.txt"]
    assert (tmp_path / "open" / "work").exists()
    os.utime(tmp_path / "newer", (time.time() + 5,) * 2)
    tidy_ended(tmp_path, {"open"}, keep=1, keep_days=3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["newer", "open"]


@pytest.mark.parametrize(
    ("cpus", "taken", "chosen"),
    [
        (1, [], [0]),
        (1, [[0]], [1]),
        (2, [[0], [1], None], [2, 3]),
        (0.5, [[0, 1, 2]], [3]),
        (4, [[0]], None),
    ],
)
def test_the_least_used_processors_are_chosen(
    cpus: float, taken: list[list[int] | None], chosen: list[int] | None
) -> None:
    assert choose_cores(cpus, [0, 1, 2, 3], taken) == chosen


if __name__ == "__main__":
    be_a_victim(*json.loads(sys.argv[1]))
