"""One distribution, several roots: the lists in pyproject.toml agree, and the wheel holds what they promise."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
WHEEL_PACKAGES: list[str] = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
ENTRY_POINTS: dict[str, str] = PROJECT["project"]["entry-points"]["bottega"]


def test_every_folder_is_in_every_list() -> None:
    folders = {"core"} | {f"plugins/{path.name}" for path in (ROOT / "plugins").iterdir() if path.is_dir()}
    assert {package.rpartition("/")[0] for package in WHEEL_PACKAGES} == folders
    assert set(PROJECT["tool"]["mypy"]["mypy_path"].split(":")) == folders
    for package in WHEEL_PACKAGES:
        root, _, name = package.rpartition("/")
        expected = "bottega" if root == "core" else f"bottega_{Path(root).name}"
        assert name == expected, "a package is named after its folder"
        assert (ROOT / package / "__init__.py").is_file(), f"{package} is not a package"


def test_every_folder_brings_a_plugin_and_a_description_of_it() -> None:
    with_plugins = {value.partition(".")[0] for value in ENTRY_POINTS.values()}
    for package in WHEEL_PACKAGES:
        if package != "core/bottega":
            assert package.rpartition("/")[2] in with_plugins
            assert (ROOT / package).parent.joinpath("README.md").is_file(), f"{package} has no README.md beside it"


def test_every_entry_point_names_a_module_that_is_there() -> None:
    roots = {Path(package).name: (ROOT / package).parent for package in WHEEL_PACKAGES}
    missing = []
    for name, value in ENTRY_POINTS.items():
        module = roots[value.partition(".")[0]].joinpath(*value.split("."))
        if not (module.with_suffix(".py").is_file() or (module / "__init__.py").is_file()):
            missing.append(name)
    assert missing == []


def requirements() -> Iterator[str]:
    yield from PROJECT["project"]["dependencies"]
    for extra in PROJECT["project"]["optional-dependencies"].values():
        yield from extra


def canonical(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found
    return re.sub(r"[-_.]+", "-", found.group()).lower()


def test_every_requirement_is_pinned_in_the_constraints() -> None:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    pinned = {canonical(name) for name in pins}
    assert {canonical(r) for r in requirements()} - pinned - {"bottega"} == set()
    assert pins["torch"] == "2.13.0"


def test_what_is_heavy_is_an_extra() -> None:
    always = {canonical(r) for r in PROJECT["project"]["dependencies"]}
    assert always & {"torch", "onnx", "onnxruntime", "scikit-learn", "jupyterlab", "ray", "numpy", "pillow"} == set()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (built,) = folder.glob("*.whl")
    return zipfile.ZipFile(built)


def test_the_wheel_holds_every_source_file_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    tops = {Path(package).name for package in WHEEL_PACKAGES}
    assert {name.partition("/")[0] for name in held} == tops
    for package in WHEEL_PACKAGES:
        root = (ROOT / package).parent
        tracked = subprocess.run(["git", "ls-files", package], cwd=ROOT, capture_output=True, text=True, check=True)
        wanted = {(ROOT / line).relative_to(root).as_posix() for line in tracked.stdout.splitlines()}
        assert wanted - held == set()


def test_the_packages_promise_their_types(wheel: zipfile.ZipFile) -> None:
    held = set(wheel.namelist())
    assert [p for p in WHEEL_PACKAGES if f"{Path(p).name}/py.typed" not in held] == []
