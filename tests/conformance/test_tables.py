"""docs/conformance.md says of every operation what the tests of this folder saw; they run before these."""

from __future__ import annotations

from typing import Any

import pytest


def test_the_page_says_what_the_tests_saw(
    table: Any, whole_run: bool, conformance_page: str, capsys: pytest.CaptureFixture[str]
) -> None:
    documented = table.documented(conformance_page)
    if whole_run:
        with capsys.disabled():
            print(f"\n{table.title}: {table.text.partition(chr(10))[0]}")
        assert documented == table.text, "run: pytest tests/conformance --write-table"
    for name, outcome in table.outcomes.items():
        if name in table.operations:
            assert f"| `{name}` | `{table.operations[name]}` | {outcome} |" in documented
