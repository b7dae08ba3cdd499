"""The commands of docs/billing.md run as they stand, in their order, by the operator of a fresh platform."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from bottega.cli_support import OPTIONS
from bottega.testing import RunningPlatform

PAGE = (Path(__file__).parents[3] / "docs" / "billing.md").read_text("utf-8")


def blocks(language: str) -> dict[str, str]:
    found = re.findall(rf"^```{language}(?: title=\"([^\"]*)\")?\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return {title or str(number): text for number, (title, text) in enumerate(found)}


def test_the_page_runs(cli: typer.Typer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "notebook.json").write_text(blocks("json")["notebook.json"])
    prices = tmp_path / "prices.toml"
    prices.write_text(blocks("toml")["prices.toml"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(OPTIONS, "as_json", False)
    answers = {}
    with RunningPlatform(tmp_path / "platform", {"plugins": {"billing": {"price_list": str(prices)}}}) as running:
        monkeypatch.setattr(OPTIONS, "credentials", running.data_dir / "credentials.json")
        for line in "".join(blocks("console").values()).splitlines():
            program, *arguments = shlex.split(line.removeprefix("$ "))
            assert program == "bottega"
            project = arguments[1] if arguments[0] == "--project" else None
            monkeypatch.setattr(OPTIONS, "project", project)
            result = CliRunner().invoke(cli, arguments[2:] if project else arguments, env={"COLUMNS": "200"})
            assert result.exit_code == 0, f"{line}\n{result.output}\n{result.exception!r}"
            answers[line] = result.output
    assert "starter" in answers["$ bottega packages offers"]
    assert "0.200000 CNY an hour" in answers["$ bottega quote notebooks notebook.json"]  # local.medium has no own price
    listed = answers["$ bottega budgets list --account"]
    assert all(name in listed for name in ("research-2026", "sales-2026", "company"))
    assert "856" in answers["$ bottega balance"]  # 1000 paid in, a month of local.small taken out
    assert (tmp_path / "usage.csv").exists()
