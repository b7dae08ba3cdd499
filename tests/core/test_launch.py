"""``bottega.launch`` as a real process in a directory, against an object service that can be made to misbehave."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import psutil
import pytest

from bottega.backends import UsageSample, WorkloadSpec
from bottega.launch.directory import Job, Result, Spec, Status, WorkloadDirectory
from bottega.testing import wait_until

DATA = "s3://bucket/data/"
OUT = "s3://bucket/out/"
LOG = "s3://bucket/logs/job.log"


class ObjectService(ThreadingHTTPServer):
    """The platform's two object routes and the presigned URLs behind them. `broken` answers come before good ones."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.objects: dict[str, bytes] = {}
        self.names: dict[str, str] = {}
        self.puts: list[str] = []
        self.token = "good"
        self.broken: list[int] = []
        self.stalled = threading.Event()

    def list(self, path: str) -> list[dict[str, str]]:
        found = [k for k in sorted(self.objects) if k == path or (path.endswith("/") and k.startswith(path))]
        return [
            {
                "path": key,
                "name": self.names.get(key) or key.removeprefix(path) or key.rpartition("/")[2],
                "url": f"{self.url}/raw?{key}",
            }
            for key in found
        ]


class _Handler(BaseHTTPRequestHandler):
    server: ObjectService
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        if address.path == "/raw":
            return self._answer(200, self.server.objects[unquote(address.query)])
        self._serve(lambda: {"objects": self.server.list(parse_qs(address.query)["path"][0]), "next": None})

    def do_POST(self) -> None:
        paths = json.loads(self._body())["paths"]
        self._serve(lambda: {"urls": {path: f"{self.server.url}/raw?{path}" for path in paths}})

    def do_PUT(self) -> None:
        path = unquote(urlsplit(self.path).query)
        self.server.objects[path] = self._body()
        self.server.puts.append(path)
        self._answer(200, b"")

    def _serve(self, answer: Any) -> None:
        assert urlsplit(self.path).path == "/v1/project/workloads/w1/objects"
        if self.server.stalled.is_set():
            return self._answer(503, b"")
        if self.server.broken:
            status = self.server.broken.pop(0)
            return self._answer(status, b'{"error_code": "ModelArts.0103", "error_msg": "not yours"}')
        if self.headers["X-Auth-Token"] != self.server.token:
            return self._answer(401, b"{}")
        self._answer(200, json.dumps(answer()).encode())

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers["Content-Length"]))

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


class Workload:
    """A workload directory as a backend prepares it."""

    def __init__(self, root: Path, url: str) -> None:
        root.mkdir(mode=0o700)
        self.directory = WorkloadDirectory(root)
        self.directory.write_access({"url": url, "token": "good"})
        self.process: subprocess.Popen[bytes] | None = None

    def start(
        self, *command: str, memory_mb: int = 2048, patience_s: float = 20, work: Path | None = None, **spec: Any
    ) -> Workload:
        full = WorkloadSpec(command=list(command), **spec).model_dump(mode="json", include=set(Spec.__annotations__))
        job: Job = {
            "workload_id": "w1",
            "project_id": "project",
            "kind": "training",
            "spec": full,  # type: ignore[typeddict-item]  # the same fields
            "work_dir": str(work or self.directory.work),
            "ports_dir": str(self.directory.root.parent / "ports"),
            "threads": 1,
            "cores": None,
            "memory_mb": memory_mb,
            "nice": 0,
            "nats_url": None,
            "patience_s": patience_s,
        }
        self.directory.write_job(job)
        self.process = self.launch()
        return self

    def launch(self, **environment: str) -> subprocess.Popen[bytes]:
        with self.directory.launch_log.open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "-P", "-m", "bottega.launch", str(self.directory.job_file)],
                env={"PATH": os.environ["PATH"], **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def python(self, program: str, **spec: Any) -> Workload:
        return self.start("{python}", "-c", program, **spec)

    def result(self, timeout: float = 30) -> Result:
        assert self.process is not None
        self.process.wait(timeout)
        result = self.directory.result()
        assert result is not None, self.directory.launch_log.read_text()
        return result

    def stop(self, reason: str = "stopped on request", *, store: bool = True) -> None:
        self.directory.write_stop({"reason": reason, "store": store})
        pid = wait_until(self.directory.launch_pid)
        assert pid is not None
        os.kill(pid, signal.SIGTERM)

    def wait_phase(self, phase: str) -> Status:
        def reached() -> Status | None:
            status = self.directory.status()
            return status if status is not None and status["phase"] == phase else None

        status = wait_until(reached)
        assert status is not None
        return status

    def wait_log(self, text: str) -> None:
        wait_until(lambda: text in self.log())

    def log(self) -> str:
        return self.directory.log.read_text() if self.directory.log.exists() else ""

    def file(self, name: str) -> str:
        return (self.directory.work / name).read_text()


@pytest.fixture
def service() -> Iterator[ObjectService]:
    server = ObjectService()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def workload(tmp_path: Path, service: ObjectService) -> Iterator[Workload]:
    workload = Workload(tmp_path / "w1", service.url)
    yield workload
    if workload.process is not None and workload.process.poll() is None:
        os.killpg(workload.process.pid, signal.SIGKILL)
        workload.process.wait()


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_its_spec_is_part_of_the_platforms() -> None:
    assert set(Spec.__annotations__) <= set(WorkloadSpec.model_fields)


def test_it_loads_nothing_of_the_platform_and_the_http_client_only_for_transfers() -> None:
    heavy = {"bottega.events", "pydantic", "sqlalchemy", "fastapi", "nats", "boto3", "structlog", "httpx"}
    program = f"import bottega.launch.__main__, sys; print(sorted({heavy} & set(sys.modules)))"
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[]"


def test_success_leaves_log_usage_status_and_result(workload: Workload) -> None:
    before = time.time_ns() // 1_000_000
    result = workload.python(
        "import sys, time; print('to out'); print('to err', file=sys.stderr); time.sleep(1.2)"
    ).result()
    assert (result["state"], result["exit_code"], result["reason"]) == ("succeeded", 0, "")
    assert workload.log() == "to out\nto err\n"
    status = workload.directory.status()
    assert status is not None
    assert status["phase"] == "done"
    assert status["started_at"] is not None
    assert before <= status["started_at"] <= result["finished_at"]
    samples = [UsageSample(**json.loads(line)) for line in workload.directory.usage.read_text().splitlines()]
    assert len(samples) >= 2
    assert samples[-1].memory_mb > 3


@pytest.mark.parametrize(
    ("command", "code", "reason"),
    [
        (("sh", "-c", "echo first; echo it broke >&2; exit 3"), 3, "exit code 3: it broke"),
        (("sh", "-c", "exit 1"), 1, "exit code 1"),
        (("sh", "-c", "kill -TERM $$"), 143, "killed by signal 15 (SIGTERM)"),
        (("no-such-program",), None, "cannot start 'no-such-program': No such file or directory"),
        (("echo", "{port:web}"), None, "'{port:web}' names a port the workload does not have"),
    ],
)
def test_failures_say_why(workload: Workload, command: tuple[str, ...], code: int | None, reason: str) -> None:
    result = workload.start(*command).result()
    assert (result["state"], result["exit_code"], result["reason"]) == ("failed", code, reason)
    if code is None:
        assert reason in workload.log()


def test_the_process_sees_a_clean_environment_and_its_places_filled_in(workload: Workload) -> None:
    program = "import os, json, sys; json.dump([dict(os.environ), sys.argv[1:], os.getcwd()], open('seen', 'w'))"
    arguments = ["{dir}/x", "{port:web}", '{"lr": {"x": 1}}']
    command = ["{python}", "-c", program, *arguments]
    workload.start(*command, environment={"PLACE": "{dir}", "LANG": "C"}, ports=["web"]).result()
    environment, argv, cwd = json.loads(workload.file("seen"))
    work = str(workload.directory.work)
    status = workload.directory.status()
    assert status is not None
    assert argv == [f"{work}/x", status["endpoints"]["web"].removeprefix("127.0.0.1:"), '{"lr": {"x": 1}}']
    assert (cwd, environment["HOME"], environment["PLACE"], environment["LANG"]) == (work, work, work, "C")
    assert (environment["BOTTEGA_TOKEN"], environment["BOTTEGA_WORKLOAD_ID"]) == ("good", "w1")
    assert environment["OMP_NUM_THREADS"] == "1"
    assert json.loads(Path(environment["BOTTEGA_ACCESS_FILE"]).read_text())["token"] == "good"
    assert oct(workload.directory.access_file.stat().st_mode)[-3:] == "600"


def test_a_stop_lets_the_process_end_by_itself(workload: Workload) -> None:
    program = """
import signal, sys, time
def last(*_):
    open('saved', 'w').write('checkpoint'); sys.exit(0)
signal.signal(signal.SIGTERM, last)
print('ready', flush=True)
time.sleep(60)
"""
    workload.python(program, grace_s=20).wait_log("ready")
    workload.stop("stopped by alice")
    result = workload.result()
    assert (result["state"], result["exit_code"], result["reason"]) == ("stopped", 0, "stopped by alice")
    assert workload.file("saved") == "checkpoint"
    assert "[bottega] stopped: stopped by alice" in workload.log()


STUBBORN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = os.fork()
if child == 0:
    os.setsid()
    if os.fork() > 0:
        os._exit(0)
    open('daemon', 'w').write(str(os.getpid()))
    time.sleep(60)
os.waitpid(child, 0)
while not os.path.exists('daemon') or not open('daemon').read():
    time.sleep(0.01)
print('ready', flush=True)
"""


def test_what_ignores_a_stop_is_killed_after_the_grace_and_its_daemons_too(workload: Workload) -> None:
    workload.python(STUBBORN + "time.sleep(60)", grace_s=0.5).wait_log("ready")
    daemon = int(workload.file("daemon"))
    assert not is_gone(daemon)
    workload.stop()
    began = time.monotonic()
    result = workload.result()
    assert (result["state"], result["exit_code"]) == ("stopped", 137)
    assert 0.4 < time.monotonic() - began < 10
    assert is_gone(daemon)


def test_what_a_process_leaves_running_ends_with_it(workload: Workload) -> None:
    assert workload.python(STUBBORN).result()["state"] == "succeeded"
    assert is_gone(int(workload.file("daemon")))


def test_a_stop_is_never_lost_however_early(tmp_path: Path, service: ObjectService) -> None:
    for number in range(5):
        workload = Workload(tmp_path / f"early-{number}", service.url).start("sleep", "60")
        workload.stop()
        assert workload.result()["state"] == "stopped"


def test_a_timeout_ends_it(workload: Workload) -> None:
    result = workload.start("sleep", "60", timeout_s=0.5).result()
    assert (result["state"], result["reason"]) == ("failed", "timed out after 0.5 s")


def test_memory_of_the_whole_tree_is_limited(workload: Workload) -> None:
    child = "import time; x = b'x' * (400 << 20); time.sleep(60)"
    hungry = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    result = workload.python(hungry, memory_mb=200).result()
    assert (result["state"], result["reason"]) == ("failed", "out of memory (limit 200 MB)")
    assert "out of memory" in workload.log()


SERVER = """
import http.server, sys, time
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if time.time() > begin + 0.7 and self.path == '/health' else 503)
        self.end_headers()
begin = time.time()
http.server.HTTPServer(('127.0.0.1', int(sys.argv[1])), Handler).serve_forever()
"""


def test_it_counts_as_started_once_it_is_ready(workload: Workload) -> None:
    began = time.time_ns() // 1_000_000
    workload.start("{python}", "-c", SERVER, "{port:web}", ports=["web"], readiness="web:/health")
    status = workload.wait_phase("running")
    assert status["started_at"] is not None
    assert status["started_at"] - began >= 700
    workload.stop()
    assert workload.result()["state"] == "stopped"


def test_one_that_never_gets_ready_fails(workload: Workload) -> None:
    spec: dict[str, Any] = {"ports": ["web"], "readiness": "web:/", "readiness_timeout_s": 0.5}
    result = workload.start("sh", "-c", "echo cannot bind; exec sleep 60", **spec).result()
    assert (result["state"], result["reason"]) == ("failed", "not ready within 0.5 s: cannot bind")
    status = workload.directory.status()
    assert status is not None
    assert status["started_at"] is None


def test_ports_of_workloads_differ(tmp_path: Path, service: ObjectService) -> None:
    names = [f"p{number}" for number in range(20)]
    both = [Workload(tmp_path / f"ports-{n}", service.url).start("sleep", "60", ports=names) for n in range(2)]
    found = []
    for workload in both:
        found += list(workload.wait_phase("running")["endpoints"].values())
        workload.stop()
    assert len(set(found)) == 40
    for workload in both:
        workload.result()


def test_a_directory_is_run_once(workload: Workload) -> None:
    workload.start("sh", "-c", "echo ran >> count; sleep 1")
    rivals = [workload.launch() for _ in range(3)]  # any of the four may be the one that runs it
    assert [rival.wait(20) for rival in rivals] == [0, 0, 0]
    assert workload.result()["state"] == "succeeded"
    assert workload.launch().wait(20) == 0
    assert workload.file("count") == "ran\n"


def test_inputs_come_and_outputs_and_log_go(workload: Workload, service: ObjectService) -> None:
    service.objects = {DATA + "a.txt": b"1", DATA + "deep/b.txt": b"2", DATA + "deep/": b"", "s3://bucket/one": b"3"}
    result = workload.start(
        "sh",
        "-c",
        "cat in/a.txt in/deep/b.txt single > out/all; mkdir out/sub; echo x > out/sub/y; cp out/all kept; echo said",
        inputs=[{"path": DATA, "local": "in"}, {"path": "s3://bucket/one", "local": "single"}],
        outputs=[{"path": OUT, "local": "out"}, {"path": "s3://bucket/kept", "local": "kept"}],
        files={"conf/settings.json": "{}"},
        log_path=LOG,
    ).result()
    assert result["state"] == "succeeded", result
    assert service.objects[OUT + "all"] == service.objects["s3://bucket/kept"] == b"123"
    assert service.objects[OUT + "sub/y"] == b"x\n"
    assert service.objects[LOG] == b"said\n"
    assert workload.file("conf/settings.json") == "{}"


def test_outputs_go_while_it_runs_and_only_what_changed(workload: Workload, service: ObjectService) -> None:
    workload.start(
        "sh",
        "-c",
        "echo 1 > out/once; until [ -e go ]; do sleep 0.05; done; echo 2 > out/late",
        outputs=[{"path": OUT, "local": "out"}],
        upload_every_s=0.2,
    )
    wait_until(lambda: OUT + "once" in service.objects)
    (workload.directory.work / "go").touch()
    workload.result()
    assert sorted(service.puts) == [OUT + "late", OUT + "once"]


def test_outputs_of_a_failed_workload_are_kept(workload: Workload, service: ObjectService) -> None:
    result = workload.start(
        "sh", "-c", "echo half > out/part; echo oh no; exit 1", outputs=[{"path": OUT, "local": "out"}], log_path=LOG
    ).result()
    assert result["reason"] == "exit code 1: oh no"
    assert service.objects == {OUT + "part": b"half\n", LOG: b"oh no\n"}


def test_a_missing_input_is_named(workload: Workload, service: ObjectService) -> None:
    result = workload.start("true", inputs=[{"path": DATA, "local": "in"}], log_path=LOG).result()
    assert (result["state"], result["reason"]) == ("failed", f"input {DATA} does not exist")
    assert b"does not exist" in service.objects[LOG]


def test_what_the_platform_refuses_is_not_tried_again(workload: Workload, service: ObjectService) -> None:
    service.broken = [403]
    result = workload.start("true", inputs=[{"path": DATA, "local": "in"}]).result()
    assert (result["state"], result["reason"]) == ("failed", "not yours")


def test_transfers_wait_for_a_platform_that_is_away(workload: Workload, service: ObjectService) -> None:
    service.objects = {DATA + "a": b"1"}
    service.broken = [503, 502, 429]
    transfers: dict[str, Any] = {"inputs": [{"path": DATA, "local": "in"}], "outputs": [{"path": OUT, "local": "out"}]}
    workload.start("cp", "in/a", "out/a", **transfers)
    assert workload.result()["state"] == "succeeded"
    assert service.objects[OUT + "a"] == b"1"


def test_a_renewed_identity_at_a_new_address_is_taken_up(workload: Workload, service: ObjectService) -> None:
    workload.directory.write_access({"url": "http://127.0.0.1:9", "token": "old"})
    workload.start("sh", "-c", "echo 1 > out/a", outputs=[{"path": OUT, "local": "out"}])
    workload.wait_phase("uploading")
    workload.directory.write_access({"url": service.url, "token": "old"})
    time.sleep(0.3)  # long enough for a refused attempt with the old token
    workload.directory.write_access({"url": service.url, "token": "good"})
    assert workload.result()["state"] == "succeeded"
    assert service.objects == {OUT + "a": b"1\n"}


def test_a_success_whose_outputs_cannot_be_stored_is_a_failure(workload: Workload, service: ObjectService) -> None:
    service.stalled.set()
    result = workload.start(
        "sh", "-c", "echo 1 > out/a", outputs=[{"path": OUT, "local": "out"}], patience_s=0.5
    ).result()
    assert (result["state"], result["exit_code"]) == ("failed", 0)
    assert result["reason"] == "outputs were not stored: the platform answered 503"


def test_when_the_platform_ends_storing_is_given_up(workload: Workload, service: ObjectService) -> None:
    service.stalled.set()
    workload.start("sh", "-c", "echo 1 > out/a", outputs=[{"path": OUT, "local": "out"}], patience_s=60)
    workload.wait_phase("uploading")
    workload.stop()
    assert workload.process is not None
    with pytest.raises(subprocess.TimeoutExpired):
        workload.process.wait(0.5)  # a stop on request still waits for the store
    workload.stop("the platform was stopped", store=False)
    result = workload.result(10)
    assert (result["state"], result["reason"]) == ("failed", "outputs were not stored: the platform was ending")


@pytest.mark.parametrize(
    "spec",
    [
        {"files": {"../escaped": "x"}},
        {"files": {"/tmp/bottega-escaped": "x"}},
        {"inputs": [{"path": "s3://bucket/one", "local": "../escaped"}]},
        {"inputs": [{"path": DATA, "local": "in"}]},
        {"outputs": [{"path": OUT, "local": "../"}]},
    ],
)
def test_nothing_is_written_or_read_outside_its_directory(
    workload: Workload, service: ObjectService, spec: Mapping[str, Any]
) -> None:
    service.objects = {"s3://bucket/one": b"x", DATA + "evil": b"x"}
    service.names = {DATA + "evil": "../../escaped"}
    result = workload.start("true", **spec).result()
    assert result["state"] == "failed"
    assert "leads out of the workload's directory" in result["reason"]
    assert not list(workload.directory.root.parent.rglob("*escaped*"))
    assert not Path("/tmp/bottega-escaped").exists()


def test_links_lead_nothing_out(workload: Workload, service: ObjectService, tmp_path: Path) -> None:
    outside, disk = tmp_path / "outside", tmp_path / "disk"
    outside.mkdir()
    disk.mkdir()
    (outside / "secret").write_text("secret")
    (disk / "in").symlink_to(outside)
    service.objects = {DATA + "evil": b"x"}
    result = workload.start("true", inputs=[{"path": DATA, "local": "in"}], work=disk).result()
    assert result["reason"] == "'in/evil' leads out of the workload's directory through a link"
    assert [path.name for path in outside.iterdir()] == ["secret"]


def test_an_output_that_links_to_elsewhere_is_left_out(
    workload: Workload, service: ObjectService, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("secret")
    workload.start("ln", "-s", str(tmp_path / "secret"), "out/link", outputs=[{"path": OUT, "local": "out"}])
    assert workload.result()["state"] == "succeeded"
    assert service.objects == {}
