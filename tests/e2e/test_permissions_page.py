"""The commands of docs/permissions.md run as they stand, in their order, in a shell, against a fresh platform."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bottega.testing import PlatformProcess

PAGE = (Path(__file__).parents[2] / "docs" / "permissions.md").read_text("utf-8")
BLOCK = re.compile(r"^```(\w+)(?: title=\"([^\"]*)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.timeout(300)
def test_the_page_runs(tmp_path: Path) -> None:
    commands = []
    for language, title, text in BLOCK.findall(PAGE):
        if language == "json":
            (tmp_path / title).write_text(text)
        elif language == "console":
            commands += [line.removeprefix("$ ") for line in text.splitlines()]
    assert len(commands) > 40
    with PlatformProcess(tmp_path / "data") as platform:
        environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "BOTTEGA_CREDENTIALS": str(platform.data_dir / "credentials.json"),
            "COLUMNS": "200",
        }
        script = "set -e\n" + "\n".join(f"echo '$ '{_quoted(command)}\n{command}" for command in commands)
        done = subprocess.run(
            ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=280
        )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    said = _by_command(done.stdout)
    assert said["bottega --project vision can-i modelarts:notebook:create --user ann"].startswith("yes")
    assert said["bottega --project vision can-i modelarts:notebook:delete --user ann || true"].startswith("no")
    assert "Tenant Guest" in said["bottega policies list"]
    who = said["bottega --project vision who-can modelarts:notebook:create"]
    assert "ann" in who
    assert "audrey" not in who
    preflight = "preflight '/v1/{project_id}/notebooks' notebook.json"
    assert "missing for caller" in said[f"bottega --project vision --credentials audrey.json {preflight} || true"]
    train = "can-i modelarts:trainJob:create --user ann"
    assert said[f"bottega --project vision {train} --workspace vision-lab"].startswith("yes")
    assert said[f"bottega --project vision {train} || true"].startswith("no")
    assert said[f"bottega {train}"].startswith("yes")  # in loose mode
    assert said[f"bottega {train} || true"].startswith("no")
    taken_back = said["bottega --project vision can-i modelarts:notebook:create --user ann || true"]
    assert taken_back.startswith("no")
    assert said["bottega --project vision can-i modelarts:notebook:list --user ben || true"].startswith("no")
    audrey = "bottega --credentials audrey.json"
    budgets = said[f"{audrey} budgets list --account"]
    assert "vision-2026" in budgets
    assert "speech-2026" in budgets
    assert "admin" in said[f"{audrey} trail --account --trace assignRoleToGroup"]
    assert said[f"{audrey} trail verify"].rstrip().endswith("intact")
    assert "CTS ReadOnlyAccess" in said[f"{audrey} policies grants auditors"]
    assert "total 0.00" in said[f"{audrey} bill --account --by project"]
    assert "refused (403" in done.stderr.splitlines()[-1]  # the last command: an auditor adds nobody to a group
    assert "iam:permissions:addUserToGroup" in done.stderr.splitlines()[-1]


def _quoted(command: str) -> str:
    return "'" + command.replace("'", "'\\''") + "'"


def _by_command(output: str) -> dict[str, str]:
    """What each command printed; of one that runs twice, the last."""
    parts = re.split(r"^\$ (.*)\n", output, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))
