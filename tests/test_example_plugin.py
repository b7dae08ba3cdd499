"""A third party's plugin: installed with pip it appears, removed with pip everything it brought is gone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import nats
import pytest
from nats.aio.client import RawCredentials

from bottega.client import ApiFailure, Client
from bottega.events import Envelope, uuid7
from bottega.testing import PlatformProcess, wait_until

EXAMPLE = Path(__file__).parents[1] / "examples" / "bottega-hello"


class Environment:
    """A virtual environment of its own that also sees the packages of this one; the developer's stays as it is."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder, with_pip=False, symlinks=True)
        self.python = folder / "bin" / "python"
        site = next((folder / "lib").glob("python3*/site-packages"))
        # A .pth line is what makes the .pth files of that directory (the editable installation) count here too.
        site.joinpath("outer.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
        self.variables = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}

    def run(self, *command: str, check: bool = True, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.python), "-m", *command],
            capture_output=True,
            text=True,
            check=check,
            cwd=cwd,
            env={**os.environ, **self.variables},
            timeout=200,
        )

    def pip(self, *words: str) -> None:
        self.run("pip", "--disable-pip-version-check", *words)

    def bottega(self, platform: PlatformProcess, *words: str) -> subprocess.CompletedProcess[str]:
        file = str(platform.data_dir / "credentials.json")
        return self.run("bottega", "--credentials", file, "--json", *words, check=False)


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return Environment(tmp_path / "venv")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A copy of the example, so that building it leaves nothing in the tree."""
    ignore = shutil.ignore_patterns("__pycache__")
    return Path(shutil.copytree(EXAMPLE, tmp_path / "bottega-hello", ignore=ignore))


@pytest.fixture
def platform(environment: Environment, tmp_path: Path) -> Iterator[PlatformProcess]:
    process = PlatformProcess(tmp_path / "data", environment.variables, str(environment.python))
    yield process
    process.stop()


def publish_completed_job(platform: PlatformProcess, name: str) -> str:
    """Say that a job has finished, as the training plugin would; its event's id."""
    known = platform.credentials
    envelope = Envelope(
        id=uuid7(),
        type="training.job.completed.v1",
        urn=f"bottega:training:{known['project_id']}:job/1",
        time="2026-01-01T00:00:00.000000Z",
        data={"job_id": "1", "name": name},
        source="/plugins/training",
        actor="system:system",
        correlation_id="flow",
    )

    async def publish() -> None:
        credentials = RawCredentials(Path(known["nats_credentials"]).read_text("utf-8"))
        connection = await nats.connect(known["nats_url"], user_credentials=credentials)
        await connection.jetstream().publish(envelope.subject, envelope.encode())
        await connection.close()

    anyio.run(publish)
    return envelope.id


def said(client: Client, type: str) -> list[dict[str, Any]]:
    return list(client.lines("/v1/{project_id}/events", {"type": type, "since": 0, "follow": False}))


def test_it_is_there_when_installed_and_gone_when_removed(
    environment: Environment, source: Path, platform: PlatformProcess
) -> None:
    environment.pip("install", "--no-deps", "--no-build-isolation", str(source))
    platform.start()
    (hello,) = (p for p in json.loads(environment.bottega(platform, "plugins").stdout) if p["name"] == "hello")
    assert (hello["distribution"], hello["state"]) == ("bottega-hello", "on")
    assert hello["events_in"] == ["training.job.completed.v1"]
    assert hello["events_out"] == ["hello.job.greeted.v1"]
    assert hello["actions"] == ["hello:greeting:get"]
    assert json.loads(environment.bottega(platform, "hello", "digits").stdout) == {"text": "digits: well done"}
    cause = publish_completed_job(platform, "digits")
    (greeted,) = wait_until(lambda: said(platform.client, "hello.job.greeted.v1"))
    assert greeted["data"] == {"text": "digits: well done"}
    assert (greeted["causationid"], greeted["correlationid"]) == (cause, "flow")
    platform.stop()

    environment.pip("uninstall", "--yes", "bottega-hello")
    platform.start()
    assert "hello" not in [p["name"] for p in platform.client.get("/v1/plugins")["plugins"]]
    with pytest.raises(ApiFailure) as gone:
        platform.client.get("/v1/{project_id}/hello/digits")
    assert (gone.value.status, gone.value.error_code) == (404, "APIGW.0101")
    without = environment.bottega(platform, "hello", "digits")
    assert (without.returncode, "No such command 'hello'" in without.stderr) == (2, True)

    publish_completed_job(platform, "meanwhile")
    environment.pip("install", "--no-deps", "--no-build-isolation", str(source))
    platform.stop()
    platform.start()
    texts = wait_until(lambda: [e["data"]["text"] for e in said(platform.client, "hello.job.greeted.v1")][1:])
    assert texts == ["meanwhile: well done"], "back again, it catches up with what it missed"


@pytest.mark.parametrize(("example", "passed"), [("bottega-hello", 3), ("bottega-point-clouds", 9)])
def test_its_own_tests_pass_outside_the_tree(
    environment: Environment, tmp_path: Path, example: str, passed: int
) -> None:
    ignore = shutil.ignore_patterns("__pycache__")
    source = Path(shutil.copytree(EXAMPLE.parent / example, tmp_path / example, ignore=ignore))
    environment.pip("install", "--no-deps", "--no-build-isolation", str(source))
    ran = environment.run("pytest", "-q", "-p", "no:cacheprovider", "tests", cwd=source, check=False)
    assert ran.returncode == 0, ran.stdout[-3000:]
    assert f"{passed} passed" in ran.stdout


def test_a_label_type_is_small_and_needs_what_types_need_only() -> None:
    lines = (EXAMPLE.parent / "bottega-point-clouds" / "bottega_point_clouds.py").read_text("utf-8").splitlines()
    assert len(lines) < 80
    used = {line.split()[1] for line in lines if line.startswith(("import ", "from "))}
    assert {m for m in used if m.startswith("bottega_")} == {
        "bottega_dataset.extension_points",
        "bottega_dataset.sample",
    }


def test_it_is_small_and_imports_no_plugin() -> None:
    lines = (EXAMPLE / "bottega_hello.py").read_text("utf-8").splitlines()
    assert len([line for line in lines if line.strip() and not line.strip().startswith(("#", '"""'))]) < 50
    assert not any("bottega_" in line.split()[1] for line in lines if line.startswith(("import ", "from ")))
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text("utf-8"))
    assert project["project"]["entry-points"]["bottega"] == {"hello": "bottega_hello"}
