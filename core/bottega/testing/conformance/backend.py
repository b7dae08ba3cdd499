"""What every hardware backend must do. Subclass it, say the flavor, and run it with pytest::

class TestMyBackend(BackendContract):
    flavor = "mine.small"
"""

from __future__ import annotations

import time
import uuid
from typing import Any

from bottega.backends import LogChunk, Transfer, WorkloadSpec
from bottega.entities import Workload
from bottega.testing.running import Tenant, wait_until
from bottega.workloads import FINAL

_PYTHON = ["{python}", "-u", "-c"]


class BackendContract:
    """Runs real workloads on the platform of the ``running`` fixture."""

    flavor: str
    start_timeout_s: float = 60

    def request(self, tenant: Tenant, **spec: Any) -> str:
        platform = tenant.running.runtime.platform

        async def ask() -> str:
            async with platform.database.transaction() as tx:
                workload = await platform.workloads.request(
                    tx,
                    WorkloadSpec(**spec),
                    kind="training",
                    flavor_id=self.flavor,
                    resource_urn=f"bottega:core:{tenant.project_id}:probe/{uuid.uuid4()}",
                    project_id=tenant.project_id,
                    user_id=tenant.user_id,
                )
            return workload.id

        return tenant.running.run(ask())

    def read(self, tenant: Tenant, workload_id: str) -> Workload:
        platform = tenant.running.runtime.platform

        async def get() -> Workload:
            async with platform.database.read() as session:
                return await platform.workloads.get(session, workload_id)

        return tenant.running.run(get())

    def finish(self, tenant: Tenant, workload_id: str) -> Workload:
        def ended() -> Workload | None:
            workload = self.read(tenant, workload_id)
            return workload if workload.state in FINAL else None

        workload = wait_until(ended, self.start_timeout_s)
        assert workload is not None
        return workload

    def log(self, tenant: Tenant, workload: Workload) -> LogChunk:
        return tenant.running.run(tenant.running.runtime.platform.workloads.read_log(workload))

    def test_a_workload_runs_and_its_log_is_kept(self, tenant: Tenant) -> None:
        code = "import os; print('hello', os.environ['GREETED'])"
        workload = self.finish(tenant, self.request(tenant, command=[*_PYTHON, code], environment={"GREETED": "world"}))
        assert (workload.state, workload.exit_code) == ("succeeded", 0)
        chunk = self.log(tenant, workload)
        assert "hello world" in chunk.text
        assert chunk.complete
        started = tenant.events.wait("core.workload.started.v1", workload_id=workload.id)
        finished = tenant.events.wait("core.workload.finished.v1", workload_id=workload.id, state="succeeded")
        assert started.data["started_at"] <= finished.data["finished_at"]

    def test_a_failure_gives_its_exit_code_and_a_reason(self, tenant: Tenant) -> None:
        workload = self.finish(tenant, self.request(tenant, command=[*_PYTHON, "raise SystemExit(7)"]))
        assert (workload.state, workload.exit_code) == ("failed", 7)
        assert workload.reason

    def test_an_input_that_is_not_there_is_named(self, tenant: Tenant, bucket: str) -> None:
        path = f"s3://{bucket}/nowhere/file.txt"
        workload = self.finish(
            tenant, self.request(tenant, command=[*_PYTHON, "pass"], inputs=[Transfer(path=path, local="in/file.txt")])
        )
        assert workload.state == "failed"
        assert path in workload.reason

    def test_inputs_come_and_outputs_go_even_when_it_fails(self, tenant: Tenant, bucket: str) -> None:
        tenant.objects.put(f"s3://{bucket}/in/a.txt", b"payload")
        code = (
            "import os, pathlib; text = pathlib.Path('in/a.txt').read_text();"
            "pathlib.Path('out').mkdir(exist_ok=True); pathlib.Path('out/b.txt').write_text(text[::-1]); os._exit(3)"
        )
        workload = self.finish(
            tenant,
            self.request(
                tenant,
                command=[*_PYTHON, code],
                inputs=[Transfer(path=f"s3://{bucket}/in/", local="in/")],
                outputs=[Transfer(path=f"s3://{bucket}/out/", local="out/")],
            ),
        )
        assert workload.exit_code == 3
        assert tenant.objects.get(f"s3://{bucket}/out/b.txt") == b"daolyap"

    def test_a_stop_ends_it_with_its_children(self, tenant: Tenant, bucket: str) -> None:
        code = (
            "import subprocess, sys, time;"
            "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
            "print('child', p.pid); time.sleep(600)"
        )
        ident = self.request(tenant, command=[*_PYTHON, code], grace_s=1)
        wait_until(lambda: self.read(tenant, ident).state == "started", self.start_timeout_s)
        wait_until(lambda: "child" in self.log(tenant, self.read(tenant, ident)).text, self.start_timeout_s)
        platform = tenant.running.runtime.platform

        async def stop() -> bool:
            async with platform.database.transaction() as tx:
                return await platform.workloads.stop(tx, ident)

        began = time.monotonic()
        assert tenant.running.run(stop()) is True
        assert self.finish(tenant, ident).state == "stopped"
        assert time.monotonic() - began < 30
        assert tenant.running.run(stop()) is False

    def test_a_port_is_given_and_started_means_it_answers(self, tenant: Tenant) -> None:
        import httpx

        ident = self.request(
            tenant,
            command=["{python}", "-m", "http.server", "{port:http}", "--bind", "127.0.0.1"],
            ports=["http"],
            readiness="http:/",
            grace_s=1,
        )
        wait_until(lambda: self.read(tenant, ident).state == "started", self.start_timeout_s)
        endpoint = self.read(tenant, ident).endpoints["http"]
        assert httpx.get(f"http://{endpoint}/").status_code == 200
        platform = tenant.running.runtime.platform

        async def stop() -> None:
            async with platform.database.transaction() as tx:
                await platform.workloads.stop(tx, ident)

        tenant.running.run(stop())
        assert self.finish(tenant, ident).state == "stopped"
