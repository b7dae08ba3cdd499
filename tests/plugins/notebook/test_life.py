"""The life of a notebook: states, disk, lease, quota, names, failure; with a real JupyterLab."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from bottega.client import ApiFailure
from bottega.testing import RecordedEvents, RunningPlatform, Tenant
from bottega_notebook.cell import run_cell
from bottega_notebook.entities import Notebook

BASE = "/v1/{project_id}/notebooks"
HOUR = 3_600_000


def bottega(credentials: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line, as a person runs it."""
    program = "from bottega.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", program, "--credentials", str(credentials), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
    )


def refused(call: Callable[[], Any], status: int, *words: str) -> None:
    with pytest.raises(ApiFailure) as failure:
        call()
    assert failure.value.status == status, failure.value
    for word in words:
        assert word in failure.value.message


def test_from_creation_to_deletion(tenant: Tenant, events: RecordedEvents, notebooks: Any) -> None:
    client = tenant.client
    notebook = notebooks.create("lab", description="mine", duration=2 * HOUR)
    for doing in ("stop", "start", "open"):
        refused(partial(client.post, f"{BASE}/{notebook.id}/{doing}"), 409, "CREATING")
    refused(lambda: client.delete(f"{BASE}/{notebook.id}"), 409, "only STOPPED or CREATE_FAILED")
    state = notebooks.reach(notebook, "RUNNING")
    assert state["url"] == f"{notebook.url}/lab"
    assert state["token"] == ""
    assert state["lease"]["duration"] == 2 * HOUR
    assert state["lease"]["type"] == "TIMING"
    assert state["user"]["id"] == tenant.user_id
    assert state["volume"]["category"] == "EVS"
    assert [step["status"] for step in state["action_progress"]] == ["COMPLETED"] * 4
    refused(lambda: client.post(f"{BASE}/{notebook.id}/start"), 409, "RUNNING")
    refused(lambda: client.delete(f"{BASE}/{notebook.id}"), 409, "RUNNING")

    kept = run_cell(client, notebook.id, "open('kept.txt', 'w').write('still here'); import os; os.getcwd()")
    assert kept.ok
    assert kept.text.strip().endswith("/work'")
    notebooks.stop(notebook)
    refused(lambda: client.post(f"{BASE}/{notebook.id}/open"), 409, "STOPPED; only RUNNING can be opened")
    refused(lambda: client.get(f"{notebook.path}/api/status"), 409, "only RUNNING")
    refused(lambda: client.post(f"{BASE}/{notebook.id}/stop"), 409, "only RUNNING can be stopped")

    client.put(f"{BASE}/{notebook.id}", {"name": "renamed", "description": "changed"})
    client.post(f"{BASE}/{notebook.id}/start?duration={3 * HOUR}")
    state = notebooks.reach(notebook, "RUNNING")
    assert (state["name"], state["description"], state["lease"]["duration"]) == ("renamed", "changed", 3 * HOUR)
    assert run_cell(client, notebook.id, "print(open('kept.txt').read())").text == "still here\n"
    refused(
        lambda: client.put(f"{BASE}/{notebook.id}", {"flavor": other_flavor(tenant, state["flavor"])}), 409, "flavor"
    )
    lease = client.request("PATCH", f"{BASE}/{notebook.id}/lease?duration={5 * HOUR}", json={"duration": HOUR})
    assert lease.json()["duration"] == 5 * HOUR
    assert client.get(f"{BASE}/{notebook.id}/lease") == lease.json()
    notebooks.stop(notebook)
    assert client.delete(f"{BASE}/{notebook.id}")["status"] == "DELETED"
    refused(lambda: client.get(f"{BASE}/{notebook.id}"), 404)
    assert client.get(BASE)["total"] == 0

    told = [e.type.split(".")[2] for e in events.all("notebook.>")]
    assert told == ["created", "started", "stopped", "started", "stopped", "deleted"]


def other_flavor(tenant: Tenant, present: str) -> str:
    rows = tenant.client.get(f"{BASE}/flavors")["flavors"]
    return next(str(row["id"]) for row in rows if row["id"] != present)


def test_what_a_killed_jupyter_says(tenant: Tenant, events: RecordedEvents, notebooks: Any) -> None:
    notebook = notebooks.running()
    server(notebook.id).send_signal(signal.SIGKILL)
    state = notebooks.reach(notebook, "ERROR")
    assert "SIGKILL" in state["fail_reason"]
    failed = events.wait("notebook.instance.failed.v1", notebook_id=notebook.id)
    assert failed.data["reason"] == state["fail_reason"]
    tenant.client.post(f"{BASE}/{notebook.id}/start")
    assert notebooks.reach(notebook, "RUNNING")["fail_reason"] == ""


def server(notebook_id: str) -> psutil.Process:
    """The process of a notebook's JupyterLab."""
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        if "jupyterlab" in line and any(notebook_id in argument for argument in line):
            return process
    raise AssertionError(f"no JupyterLab of {notebook_id} runs")


def test_the_lease_ends(running: RunningPlatform, tenant: Tenant, events: RecordedEvents, notebooks: Any) -> None:
    notebook = notebooks.running()

    async def run_out() -> None:
        async with running.platform("notebook").database.transaction() as tx:
            row = await tx.session.get(Notebook, notebook.id)
            assert row is not None
            row.lease_from -= row.lease_ms
            tx.session.add(row)

    running.run(run_out())
    notebooks.reach(notebook, "STOPPED")
    stopped = events.wait("notebook.instance.stopped.v1", notebook_id=notebook.id)
    assert stopped.data["reason"] == "lease"


def test_a_notebook_that_cannot_start(running: RunningPlatform, tenant: Tenant, notebooks: Any) -> None:
    notebook = notebooks.running()
    notebooks.stop(notebook)
    # Where JupyterLab wants a folder of its own the user has left a file.
    share = running.data_dir / "disks" / f"notebook-{notebook.id}" / ".local" / "share"
    os.rename(share, share.with_name("aside"))
    share.write_text("in the way")
    tenant.client.post(f"{BASE}/{notebook.id}/start")
    state = notebooks.reach(notebook, "START_FAILED")
    assert "exit code" in state["fail_reason"]
    tenant.client.delete(f"{BASE}/{notebook.id}")


def test_names_and_the_quota(running: RunningPlatform, tenant: Tenant, notebooks: Any) -> None:
    for number in range(9):
        running.run(stopped_notebook(running, tenant, f"nb-{number}"))
    refused(lambda: tenant.client.post(BASE, {"name": "nb-0"}), 409, "named 'nb-0'")
    last = notebooks.create("nb-9")
    refused(lambda: tenant.client.post(BASE, {"name": "nb-10"}), 403, "10 of 10")
    rows = tenant.client.get(BASE, {"limit": 4, "offset": 4, "sort_key": "name", "sort_dir": "ASC"})
    assert [row["name"] for row in rows["data"]] == ["nb-4", "nb-5", "nb-6", "nb-7"]
    assert (rows["total"], rows["pages"], rows["current"], rows["size"]) == (10, 3, 1, 4)
    assert tenant.client.get(f"{BASE}/all", {"name": "nb-9"})["total"] == 1
    assert tenant.client.get(BASE, {"status": "STOPPED"})["total"] == 9
    tenant.client.delete(f"{BASE}/{rows['data'][0]['id']}")
    refused(lambda: tenant.client.post(BASE, {"name": "nb-9"}), 409, "named 'nb-9'")
    notebooks.reach(last, "RUNNING")


async def stopped_notebook(running: RunningPlatform, tenant: Tenant, name: str) -> None:
    platform = running.platform("notebook")
    async with platform.database.transaction() as tx:
        resource = await platform.resources.create(
            tx,
            kind="instance",
            project_id=tenant.project_id,
            owner_id=tenant.user_id,
            name=name,
            status="STOPPED",
        )
        flavor = platform.workloads.flavors("notebook")[0].id
        tx.session.add(Notebook(id=resource.id, project_id=tenant.project_id, flavor=flavor, lease_ms=HOUR))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "a" * 21}, ["name"]),
        ({"name": "笔记"}, ["name"]),
        ({"name": ""}, ["name"]),
        ({"duration": 1000}, ["duration"]),
        ({"lease": {"type": "IDLE"}}, ["lease.type"]),
        ({"flavor": "huge"}, ["flavor 'huge' is not offered"]),
        ({"image_id": "x"}, ["no image 'x'"]),
        ({"volume": {"category": "OBS"}}, ["volume.category"]),
        ({"volume": {"capacity": 501}}, ["volume.capacity"]),
        ({"description": "<b>"}, ["description"]),
    ],
)
def test_bad_requests_change_nothing(tenant: Tenant, changes: dict[str, Any], words: list[str]) -> None:
    refused(lambda: tenant.client.post(BASE, {"name": "lab", **changes}), 400, *words)
    assert tenant.client.get(BASE)["total"] == 0


def test_the_command_line(tenant: Tenant, notebooks: Any, tmp_path: Path) -> None:
    credentials = tmp_path / "credentials.json"
    known = {"url": tenant.running.url, "project_id": tenant.project_id}
    credentials.write_text(json.dumps({**known, "access_key": tenant.access_key, "secret_key": tenant.secret_key}))
    made = bottega(credentials, "--json", "notebooks", "create", "lab")
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["status"] == "RUNNING"
    ran = bottega(credentials, "notebooks", "run", "lab", "print('from a cell'); 6 * 7")
    assert ran.stdout == "from a cell\n42\n", ran.stderr
    raised = bottega(credentials, "notebooks", "run", "lab", "1 / 0")
    assert raised.returncode == 1
    assert "ZeroDivisionError" in raised.stdout
    link = bottega(credentials, "notebooks", "open", "lab").stdout.strip()
    assert link.startswith(f"{tenant.running.url}/notebooks/{tenant.project_id}/")
    assert bottega(credentials, "notebooks", "delete", "lab").returncode == 1
    assert bottega(credentials, "notebooks", "stop", "lab").returncode == 0
    assert bottega(credentials, "notebooks", "delete", "lab").returncode == 0
    assert json.loads(bottega(credentials, "--json", "notebooks", "list").stdout) == []
