"""One workload from its inputs to its result."""

from __future__ import annotations

import http.client
import os
import re
import signal
import sys
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bottega.launch.directory import Job, Phase, Result, Status, WorkloadDirectory, inside
from bottega.launch.failure import Cancelled, LaunchFailure
from bottega.launch.ports import Ports
from bottega.launch.process import ProcessTree
from bottega.launch.usage import UsageWatch

if TYPE_CHECKING:
    from bottega.launch.transfers import Transfers

_PLACE = re.compile(r"\{(python|dir|port:[^{}]+)\}")
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_QUICK_S, _QUICK_POLL_S, _POLL_S = 2.0, 0.02, 0.1
_UPLOAD_SHARE = 10
"""Storing may take one part in this of the time, so that a large log is not stored over and over."""


@dataclass(frozen=True, slots=True)
class Outcome:
    state: str
    reason: str = ""
    exit_code: int | None = None


class Run:
    """Use once, from the main thread: it handles SIGTERM."""

    def __init__(self, directory: WorkloadDirectory, job: Job) -> None:
        self._directory = directory
        self._job = job
        self._spec = job["spec"]
        self._work = Path(job["work_dir"])
        self._stop = threading.Event()
        self._abandon = threading.Event()
        self._ports: dict[str, int] = {}
        self._started_at: int | None = None
        self._transfers: Transfers | None = None

    def run(self) -> Result:
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # blocked since before the claim
        for ignored in (signal.SIGINT, signal.SIGHUP):
            signal.signal(ignored, signal.SIG_IGN)
        os.umask(0o077)
        os.nice(self._job["nice"])
        if self._job["cores"] is not None and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, self._job["cores"])
        self._report("preparing")
        if self._spec["inputs"] or self._spec["outputs"] or self._spec["log_path"]:
            # Only now: what moves no files (a model worker, say) is spared the HTTP client and its memory.
            from bottega.launch.transfers import Transfers

            ids = self._job["project_id"], self._job["workload_id"]
            self._transfers = Transfers(self._directory, *ids, self._work)
        try:
            self._prepare()
            outcome = self._supervise()
        except Cancelled:
            outcome = self._broken_off("stopped", self._directory.stop()["reason"])
        except (LaunchFailure, OSError) as problem:
            outcome = self._broken_off("failed", str(problem))
        outcome = self._store_at_end(outcome)
        self._report("done")
        return {
            "state": outcome.state,
            "exit_code": outcome.exit_code,
            "reason": outcome.reason,
            "finished_at": time.time_ns() // 1_000_000,
        }

    def _on_signal(self, _number: int, _frame: object) -> None:
        self._stop.set()
        if not self._directory.stop()["store"]:
            self._abandon.set()

    def _prepare(self) -> None:
        self._work.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory.temporary.mkdir(mode=0o700, exist_ok=True)
        for name, content in self._spec["files"].items():
            file = inside(self._work, name)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content, "utf-8")
        for item in self._spec["outputs"]:
            local = inside(self._work, item["local"])
            (local if item["path"].endswith("/") else local.parent).mkdir(parents=True, exist_ok=True)
        if self._transfers and self._spec["inputs"]:
            self._transfers.fetch(self._spec["inputs"], self._job["patience_s"], self._stop)
        try:
            self._ports = Ports(Path(self._job["ports_dir"])).take(self._spec["ports"])
        except OSError as problem:
            raise LaunchFailure(str(problem)) from problem

    def _supervise(self) -> Outcome:
        if self._stop.is_set():
            raise Cancelled
        argv = [self._fill(argument) for argument in self._spec["command"]]
        tree = ProcessTree(argv, self._environment(), self._work, self._directory.log)
        watch = UsageWatch(tree, self._job["memory_mb"], self._directory.usage, self._directory.status_file)
        watch.start()
        uploads = threading.Event()
        uploader = threading.Thread(target=self._store_meanwhile, args=(uploads,), daemon=True)
        uploader.start()
        try:
            outcome = self._wait(tree)
        finally:
            tree.kill()
            watch.stop()
            uploads.set()
            uploader.join()
        if watch.out_of_memory:
            return self._broken_off("failed", f"out of memory (limit {self._job['memory_mb']} MB)", outcome.exit_code)
        return outcome

    def _wait(self, tree: ProcessTree) -> Outcome:
        spec, began = self._spec, time.monotonic()
        if spec["readiness"] is None:
            self._mark_ready()
        while True:
            code = tree.poll()
            if code is not None:
                return self._judge(code)
            if self._stop.is_set():
                tree.end(spec["grace_s"])
                return self._broken_off("stopped", self._directory.stop()["reason"], tree.poll())
            ran_s = time.monotonic() - began
            if spec["timeout_s"] is not None and ran_s > spec["timeout_s"]:
                tree.end(spec["grace_s"])
                return self._broken_off("failed", f"timed out after {spec['timeout_s']:g} s", tree.poll())
            if self._started_at is None and spec["readiness"] is not None:
                if self._is_ready(spec["readiness"]):
                    self._mark_ready()
                elif ran_s > spec["readiness_timeout_s"]:
                    tree.end(spec["grace_s"])
                    reason = f"not ready within {spec['readiness_timeout_s']:g} s{self._last_words()}"
                    return self._broken_off("failed", reason, tree.poll())
            self._stop.wait(_QUICK_POLL_S if ran_s < _QUICK_S else _POLL_S)

    def _judge(self, code: int) -> Outcome:
        if code < 0:
            number = -code
            reason = f"killed by signal {number} ({signal.Signals(number).name})"
            if number == signal.SIGKILL:
                reason += "; the machine may have run out of memory"
            return Outcome("failed", reason, _shell_code(code))
        if code > 0:
            return Outcome("failed", f"exit code {code}{self._last_words()}", code)
        if self._started_at is None:
            return Outcome("failed", f"ended before it was ready{self._last_words()}", 0)
        return Outcome("succeeded", "", 0)

    def _mark_ready(self) -> None:
        self._started_at = time.time_ns() // 1_000_000
        self._report("running")

    def _is_ready(self, readiness: str) -> bool:
        name, _, path = readiness.partition(":")
        if name not in self._ports:
            raise LaunchFailure(f"readiness names the port '{name}', which the workload does not have")
        connection = http.client.HTTPConnection("127.0.0.1", self._ports[name], timeout=2)
        try:
            connection.request("GET", path)
            return 200 <= connection.getresponse().status < 300
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _store_meanwhile(self, ending: threading.Event) -> None:
        wait = self._spec["upload_every_s"]
        while not ending.wait(wait):
            began = time.monotonic()
            try:
                self._store(0, ending)
            except Cancelled:
                return
            except (LaunchFailure, OSError) as problem:
                print(f"storing outputs while it runs: {problem}", file=sys.stderr, flush=True)
            wait = max(self._spec["upload_every_s"], _UPLOAD_SHARE * (time.monotonic() - began))

    def _store_at_end(self, outcome: Outcome) -> Outcome:
        """The outputs and the log go out however the process ended; a success without its outputs is none."""
        self._report("uploading")
        try:
            self._store(self._job["patience_s"], self._abandon)
        except (Cancelled, LaunchFailure, OSError) as problem:
            lost = f"outputs were not stored: {str(problem) or 'the platform was ending'}"
            if outcome.state == "succeeded":
                return replace(outcome, state="failed", reason=lost)
            return replace(outcome, reason=f"{outcome.reason}; {lost}")
        return outcome

    def _store(self, patience_s: float, cancelled: threading.Event) -> None:
        if self._transfers is not None:
            log_path = self._spec["log_path"]
            log = (self._directory.log, log_path) if log_path else None
            self._transfers.store(self._spec["outputs"], log, patience_s, cancelled)

    def _environment(self) -> dict[str, str]:
        """What the process sees: what the backend gave launch, which is nothing of the platform's own."""
        access = self._directory.access()
        threads = str(self._job["threads"])
        environment = {
            **os.environ,
            "HOME": str(self._work),
            "TMPDIR": str(self._directory.temporary),
            "LANG": "C.UTF-8",
            "PYTHONUNBUFFERED": "1",
            **dict.fromkeys(_THREADS, threads),
        }
        environment |= {name: self._fill(value) for name, value in self._spec["environment"].items()}
        environment |= {
            "BOTTEGA_URL": access["url"],
            "BOTTEGA_TOKEN": access["token"],
            "BOTTEGA_ACCESS_FILE": str(self._directory.access_file),
            "BOTTEGA_PROJECT_ID": self._job["project_id"],
            "BOTTEGA_WORKLOAD_ID": self._job["workload_id"],
        }
        if self._job["nats_url"]:
            environment["BOTTEGA_NATS_URL"] = self._job["nats_url"]
            environment["BOTTEGA_NATS_CREDENTIALS"] = str(self._directory.nats_file)
        return environment

    def _fill(self, text: str) -> str:
        def value(match: re.Match[str]) -> str:
            place = match[1]
            if place == "python":
                return sys.executable
            if place == "dir":
                return str(self._work)
            name = place.removeprefix("port:")
            if name not in self._ports:
                raise LaunchFailure(f"'{match[0]}' names a port the workload does not have")
            return str(self._ports[name])

        return _PLACE.sub(value, text)

    def _report(self, phase: Phase) -> None:
        status: Status = {"phase": phase, "started_at": self._started_at, "endpoints": self._endpoints()}
        self._directory.write_status(status)

    def _endpoints(self) -> dict[str, str]:
        return {name: f"127.0.0.1:{port}" for name, port in self._ports.items()}

    def _last_words(self) -> str:
        words = self._directory.last_words(self._directory.log)
        return f": {words}" if words else ""

    def _broken_off(self, state: str, reason: str, code: int | None = None) -> Outcome:
        """An end that is not the process's own. It stands in the log too, which the user reads first."""
        with self._directory.log.open("ab") as log:
            log.write(f"[bottega] {state}: {reason}\n".encode())
        return Outcome(state, reason, _shell_code(code))


def _shell_code(code: int | None) -> int | None:
    return 128 - code if code is not None and code < 0 else code
