"""How the suite is spread over processes: a file stays in one, and what is compared at its end stays together."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        file = item.path.relative_to(HERE)
        # The tables of conformance are written from what all of its files saw.
        group = "conformance" if file.parts[0] == "conformance" else str(file)
        item.add_marker(pytest.mark.xdist_group(group))
