"""docs/team-labeling.md, run as it stands: its commands, and what its members do."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from bottega.cli_support import OPTIONS
from bottega.testing import Tenant
from bottega.testing.mailbox import Mailbox
from bottega_dataset.plugin import bottega_commands

from .conftest import initial_password

PAGE = (Path(__file__).parents[4] / "docs" / "team-labeling.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(console|python)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_the_page_runs(tenant: Tenant, mailbox: Mailbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = tenant.create_bucket()
    texts = ("red breast, brown back", "small, brown, tail up", "red face", "brown, loud")
    lines = "\n".join(json.dumps({"source": f"content://{text}"}) for text in texts)
    tenant.objects.put(f"s3://{bucket}/sightings.manifest", lines.encode())
    file = tmp_path / "credentials.json"
    keys = {"access_key": tenant.access_key, "secret_key": tenant.secret_key}
    file.write_text(json.dumps({"url": tenant.running.url, "project_id": tenant.project_id, **keys}))
    monkeypatch.setattr(OPTIONS, "credentials", file)
    monkeypatch.setattr(OPTIONS, "as_json", False)
    monkeypatch.setenv("COLUMNS", "200")
    app = typer.Typer()
    bottega_commands(cli=app)
    said: dict[str, str] = {}
    for language, text in BLOCKS:
        if language == "python":
            names = ("anna", "ben", "rosa")
            first = {n: initial_password(mailbox.wait(f"{n}@example.com", "Invitation")) for n in names}
            known: dict[str, Any] = {
                "url": tenant.running.url,
                "project_id": tenant.project_id,
                "first_passwords": first,
            }
            exec(text, known)  # what the page shows
            continue
        for line in text.splitlines():
            words = shlex.split(line.removeprefix("$ bottega ").replace("s3://birds/", f"s3://{bucket}/"))
            done = CliRunner().invoke(app, words)
            assert done.exit_code == 0, (line, done.output, done.exception)
            said[" ".join(words[:3])] = done.output
    assert "anna@example.com" in said["teams show birders"]
    assert "4 samples imported" in said["datasets import sightings"]
    assert re.search(r"agreement\W+0\.5\b", said["datasets team-tasks agreement"])
    assert "completed" in said["datasets team-tasks accept"]
    assert said["datasets show sightings"].count("robin") >= 4
