"""The command line as a script uses it: output, JSON, exit codes."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bottega.testing import PlatformProcess, wait_until

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlatformProcess]:
    with PlatformProcess(tmp_path_factory.mktemp("cli") / "data") as platform:
        yield platform


@pytest.fixture
def bottega(process: PlatformProcess) -> Run:
    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        known = {"BOTTEGA_CREDENTIALS": str(process.data_dir / "credentials.json"), **environment}
        return subprocess.run(
            [sys.executable, "-m", "bottega", *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, **known},
        )

    return run


def test_the_first_start_writes_credentials_only_its_owner_reads(process: PlatformProcess) -> None:
    file = process.data_dir / "credentials.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert set(process.credentials) >= {
        "url",
        "project_id",
        "access_key",
        "secret_key",
        "s3_endpoint",
        "s3_access_key",
        "s3_secret_key",
        "nats_url",
        "nats_credentials",
    }
    assert process.credentials["secret_key"] not in process.log


@pytest.mark.parametrize("words", [("--json", "whoami"), ("whoami", "--json")])
def test_whoami_as_json(bottega: Run, words: tuple[str, str]) -> None:
    done = bottega(*words)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["user_name"] == "admin"


def test_can_i_tells_by_exit_code_and_reason(bottega: Run) -> None:
    done = bottega("can-i", "modelarts:trainJob:create")
    assert done.returncode == 0
    assert "the account itself" in done.stdout


def test_plugins_are_listed_with_their_state(bottega: Run) -> None:
    rows = json.loads(bottega("--json", "plugins").stdout)
    assert {r["state"] for r in rows} <= {"on", "off", "broken"}
    assert "training" in {r["name"] for r in rows}


def test_a_refusal_is_one_line_and_exit_code_1(bottega: Run) -> None:
    done = bottega("lineage", "nonsense")
    assert done.returncode == 1
    assert "ModelArts.0101" in done.stderr
    assert "Traceback" not in done.stderr


def test_wrong_usage_is_exit_code_2(bottega: Run) -> None:
    assert bottega("no-such-command").returncode == 2


def test_no_platform_is_exit_code_3(bottega: Run, tmp_path: Path) -> None:
    done = bottega("whoami", BOTTEGA_CREDENTIALS=str(tmp_path / "none.json"))
    assert done.returncode == 3
    assert "bottega up" in done.stderr


def test_events_can_be_read_again(bottega: Run, process: PlatformProcess) -> None:
    process.client.post("/v1/{project_id}/nats-credentials", {})

    def seen() -> bool:
        done = bottega("--json", "events", "tail", "--since", "0", "--no-follow")
        assert done.returncode == 0, done.stderr
        return any(json.loads(line)["type"] == "core.api.called.v1" for line in done.stdout.splitlines())

    assert wait_until(seen, timeout=30)


def test_a_second_platform_on_the_same_directory_is_refused(bottega: Run, process: PlatformProcess) -> None:
    done = bottega("up", "--data-dir", str(process.data_dir), "--port", "0")
    assert done.returncode == 2
    assert str(process.data_dir) in done.stderr.replace("\n", "")


def test_a_taken_port_is_named(bottega: Run, process: PlatformProcess, tmp_path: Path) -> None:
    done = bottega("up", "--data-dir", str(tmp_path / "d"), "--port", str(process.port))
    assert done.returncode == 2
    assert str(process.port) in done.stderr


def test_a_wrong_setting_is_named_with_its_place(bottega: Run, tmp_path: Path) -> None:
    config = tmp_path / "bottega.toml"
    config.write_text("[server]\nprot = 1\n")
    done = bottega("up", "--config", str(config), "--data-dir", str(tmp_path / "d"), "--port", "0")
    assert done.returncode == 2
    assert "server.prot" in done.stderr
