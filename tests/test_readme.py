"""What the README shows is run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from bottega.plugins import Plugins
from bottega.settings import Settings
from bottega.testing import PlatformProcess

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
FIRST_SCREEN = "\n".join(README.splitlines()[:55])
CONSOLE = re.findall(r"^```console\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
PYTHON = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
COMMANDS = [
    line.partition("#")[0].strip()
    for block in CONSOLE
    for line in block.splitlines()
    if line.startswith("bottega ") and line != "bottega up"
]


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlatformProcess]:
    with PlatformProcess(tmp_path_factory.mktemp("readme") / "bottega-data") as process:
        yield process


def run(platform: PlatformProcess, *command: str) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    known = {"PATH": path, "BOTTEGA_CREDENTIALS": str(platform.data_dir / "credentials.json")}
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **known}, timeout=60)


def test_the_first_screen_says_what_it_is_and_how_to_start() -> None:
    for word in ("open, self-hosted", "core", "NATS", "plugins", "make demo", "make test", "@hookimpl"):
        assert word in FIRST_SCREEN


@pytest.mark.parametrize("target", re.findall(r"^make (\w+)", README, re.MULTILINE))
def test_the_make_targets_exist(target: str) -> None:
    subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True)


def test_the_plugin_it_shows_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = next(block for block in PYTHON if "@hookimpl" in block)
    assert len(source.splitlines()) <= 16
    (tmp_path / "readme_plugin.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    plugin = Plugins(Settings(), found=[EntryPoint("hello", "readme_plugin", "bottega")]).all["hello"]
    assert (plugin.state, plugin.reason, plugin.hooks) == ("on", "", ["bottega_subscribe"])


@pytest.mark.parametrize("command", COMMANDS)
def test_the_first_steps_work(command: str, platform: PlatformProcess) -> None:
    ran = run(platform, *command.split())
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.strip()


def test_the_same_from_python_works(platform: PlatformProcess) -> None:
    source = next(block for block in PYTHON if "Client.from_environment" in block)
    ran = run(platform, sys.executable, "-c", source)
    assert (ran.returncode, ran.stdout.strip()) == (0, "admin"), ran.stderr


def test_the_first_start_says_how_to_log_in(platform: PlatformProcess) -> None:
    assert "credentials.json" in platform.log
    assert (platform.data_dir / "credentials.json").stat().st_mode & 0o777 == 0o600
