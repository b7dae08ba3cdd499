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

from bottega.cli_support import show
from bottega.testing import PlatformProcess, RunningPlatform, wait_until

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


def test_tables_off_a_terminal_are_never_cut(bottega: Run) -> None:
    rows = json.loads(bottega("--json", "plugins").stdout)
    shown = bottega("plugins", "training").stdout
    assert json.dumps(next(r for r in rows if r["name"] == "training")["hooks"])[1:-1].replace('"', "") in shown
    longest = max(rows, key=lambda r: len(str(r["reason"])))
    assert str(longest["reason"]) in bottega("plugins", COLUMNS="40").stdout


def test_the_version_and_short_help(bottega: Run) -> None:
    assert bottega("--version").stdout.startswith("bottega 0.")
    assert "Usage" in bottega("events", "-h").stdout


def test_an_action_of_a_wrong_form_is_refused(bottega: Run) -> None:
    done = bottega("can-i", "foo")
    assert done.returncode == 1
    assert "service:resource:operation" in done.stderr


@pytest.mark.parametrize("since", ["2h", "2020-01-01", "2020-01-01T10:00:00+00:00", "0"])
def test_events_are_read_again_from_a_span_or_a_time(bottega: Run, since: str) -> None:
    done = bottega("events", "tail", "--since", since, "--no-follow")
    assert done.returncode == 0, done.stderr


def test_a_time_that_is_none_is_refused(bottega: Run) -> None:
    done = bottega("events", "tail", "--since", "soon")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "'soon' is not a time" in done.stderr


def test_another_project_goes_by_id_or_name(bottega: Run, process: PlatformProcess) -> None:
    made = process.client.post("/v3/projects", {"project": {"name": "cn-north-1_second"}})["project"]["id"]
    process.client.post("/v1/{project_id}/nats-credentials", {})
    for given in (made, "cn-north-1_second"):
        shown = bottega("--project", given, "--json", "events", "tail", "--since", "0", "--no-follow")
        assert shown.returncode == 0, shown.stderr
        projects = {json.loads(line)["urn"].split(":")[2] for line in shown.stdout.splitlines()}
        assert projects <= {made}
    unknown = bottega("--project", "nothing", "events", "tail", "--no-follow")
    assert unknown.returncode == 1
    assert "there is no project 'nothing'" in unknown.stderr


def test_a_file_that_cannot_be_written_is_one_line(bottega: Run) -> None:
    done = bottega("events", "credentials", "/nope/g.json")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "/nope" in done.stderr


def test_a_full_disk_is_one_line(bottega: Run, tmp_path: Path) -> None:
    done = bottega("nats-config", "/dev/full", BOTTEGA__NATS__AUTHORITY_DIR=str(tmp_path / "keys"))
    assert (done.returncode, done.stderr) == (1, "no space is left on the disk\n")


@pytest.mark.parametrize(("text", "complaint"), [("{", "it is not JSON"), ('{"project_id": "p"}', "holds no 'url'")])
def test_wrong_credentials_are_told_with_their_file(bottega: Run, tmp_path: Path, text: str, complaint: str) -> None:
    file = tmp_path / "credentials.json"
    file.write_text(text)
    done = bottega("--credentials", str(file), "whoami")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert str(file) in done.stderr
    assert complaint in done.stderr


def test_a_command_of_a_plugin_that_is_off_there_says_so(tmp_path: Path, bottega: Run) -> None:
    with RunningPlatform(tmp_path / "data", {"plugins": {"billing": {"enabled": False}}}):
        done = bottega("bill", BOTTEGA_CREDENTIALS=str(tmp_path / "data" / "credentials.json"))
    assert done.returncode == 1
    assert "the plugin 'billing' is off" in done.stderr


def test_the_configuration_of_the_working_directory_is_read(tmp_path: Path) -> None:
    (tmp_path / "bottega.toml").write_text("[server]\nprot = 1\n")
    words = [sys.executable, "-m", "bottega", "up", "--data-dir", str(tmp_path / "d"), "--port", "0"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 2
    assert "unknown setting 'server.prot'" in done.stderr


def test_ctrl_c_while_loading_is_quiet(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("raise KeyboardInterrupt\n")
    done = subprocess.run(
        [sys.executable, "-m", "bottega", "whoami"],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert (done.returncode, done.stderr) == (130, "")


def test_a_wrong_setting_is_named_with_its_place(bottega: Run, tmp_path: Path) -> None:
    config = tmp_path / "bottega.toml"
    config.write_text("[server]\nprot = 1\n")
    done = bottega("up", "--config", str(config), "--data-dir", str(tmp_path / "d"), "--port", "0")
    assert done.returncode == 2
    assert "server.prot" in done.stderr


@pytest.mark.parametrize("key", ["time", "create_time", "updated_at"])
def test_times_are_shown_as_times(key: str, capsys: pytest.CaptureFixture[str]) -> None:
    show([{key: 1_700_000_000_000, "times": 1_700_000_000_000}], [key, "times"])
    shown = capsys.readouterr().out
    assert ("2023-11-1" in shown, "1700000000000" in shown) == (True, True)
    show({key: 1_700_000_000_000})
    assert "2023-11-1" in capsys.readouterr().out
