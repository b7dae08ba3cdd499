"""The shape of the house: who may import whom, what a start loads, how large a room may be."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PACKAGES = {
    path.name: path for path in (ROOT / p for p in PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
}
PLUGIN_PACKAGES = sorted(set(PACKAGES) - {"bottega"})
SOURCES = sorted(file for package in PACKAGES.values() for file in package.rglob("*.py"))
TESTS = sorted(file for folder in ("tests", "examples") for file in (ROOT / folder).rglob("*.py"))
LONGEST = 450
LONGER_FOR_A_REASON = {
    "tests/core/test_launch.py": "one behaviour of a workload's process after the other, on one set of fixtures",
    "tests/core/test_bus.py": "one promise of the bus after the other, on one set of fixtures",
    "tests/core/test_embedded.py": "one failure of the embedded servers after the other, on one set of fixtures",
}
DRAWERS = {"utils", "util", "common", "helpers", "helper", "functions", "misc"}
HEAVY = {
    "torch", "onnx", "onnxruntime", "onnxscript", "sklearn", "scipy", "numpy", "PIL",
    "jupyter_server", "jupyterlab", "IPython", "ipykernel", "notebook", "ray",
}  # fmt: skip
SERVER = {
    "fastapi", "starlette", "uvicorn", "limits", "prometheus_client", "sqlalchemy", "sqlmodel", "alembic",
    "boto3", "botocore", "nats", "websockets", "jwt", "argon2", "cryptography",
}  # fmt: skip


def name(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def imports(file: Path) -> Iterator[str]:
    """The absolute modules a file imports, also inside functions and for type checking only."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"), str(file))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module


def tops(file: Path) -> set[str]:
    return {module.partition(".")[0] for module in imports(file)}


def test_core_imports_no_plugin() -> None:
    found = {name(f): tops(f) & set(PLUGIN_PACKAGES) for f in PACKAGES["bottega"].rglob("*.py")}
    assert {file: used for file, used in found.items() if used} == {}


@pytest.mark.parametrize("package", PLUGIN_PACKAGES)
def test_no_plugin_imports_another(package: str) -> None:
    others = set(PLUGIN_PACKAGES) - {package}
    found = {name(f): tops(f) & others for f in PACKAGES[package].rglob("*.py")}
    assert {file: used for file, used in found.items() if used} == {}


def test_plugins_of_one_folder_know_each_other_through_the_core_only() -> None:
    # Each can be switched off, so none may need another: `billing_iam` is three of them.
    entry_points = PROJECT["project"]["entry-points"]["bottega"].values()
    package = PACKAGES["bottega_billing_iam"]
    plugins = {value.split(".")[1] for value in entry_points if value.startswith(f"{package.name}.")}
    for plugin in plugins:
        siblings = {f"{package.name}.{other}" for other in plugins - {plugin}}
        for file in (package / plugin).rglob("*.py"):
            used = {m for m in imports(file) if any(m == s or m.startswith(f"{s}.") for s in siblings)}
            assert used == set(), name(file)


def test_nothing_is_imported_by_its_folder() -> None:
    found = {name(f): tops(f) & {"core", "plugins"} for f in (*SOURCES, *TESTS)}
    assert {file: used for file, used in found.items() if used} == {}


def test_tests_share_nothing_by_import() -> None:
    found = {name(f): [m for m in imports(f) if m.partition(".")[0] == "tests"] for f in TESTS}
    benchmarks = "tests/benchmarks/"
    assert {file: used for file, used in found.items() if used and not file.startswith(benchmarks)} == {}


def test_the_core_names_no_plugin_but_its_default_store() -> None:
    # `[objects] store` names a plugin by default; nothing else in the core speaks of one.
    words = {point for point in PROJECT["project"]["entry-points"]["bottega"] if "-" in point} - {"store-s3"}
    for file in PACKAGES["bottega"].rglob("*.py"):
        tree = ast.parse(file.read_text("utf-8"))
        literals = {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
        assert literals & words == set(), name(file)


def test_there_are_no_drawers() -> None:
    found = [name(f) for f in (*SOURCES, *TESTS) if f.stem in DRAWERS or f.parent.name in DRAWERS]
    assert found == []


def test_no_file_is_too_long() -> None:
    lengths = {name(f): len(f.read_text("utf-8").splitlines()) for f in (*SOURCES, *TESTS)}
    assert {f: n for f, n in lengths.items() if n > LONGEST and f not in LONGER_FOR_A_REASON} == {}
    spared = [f for f in LONGER_FOR_A_REASON if lengths.get(f, 0) <= LONGEST]
    assert spared == [], "these need no exception any more"


def test_a_plugin_module_holds_hooks_only() -> None:
    for point, value in PROJECT["project"]["entry-points"]["bottega"].items():
        if not value.endswith(".plugin"):
            continue
        package, *rooms = value.split(".")
        file = PACKAGES[package].joinpath(*rooms).with_suffix(".py")
        functions = [n for n in ast.parse(file.read_text("utf-8")).body if isinstance(n, ast.FunctionDef)]
        assert functions, f"{point} implements no hook"
        strangers = [f.name for f in functions if not f.name.startswith("bottega_")]
        assert strangers == [], f"{name(file)} holds more than hooks"
        assert len(file.read_text("utf-8").splitlines()) <= 150, name(file)


def loaded_by(code: str) -> set[str]:
    """The top-level modules a fresh interpreter has loaded after `code`."""
    program = (
        f"{code}\nimport json, sys; print('LOADED' + json.dumps(sorted({{m.partition('.')[0] for m in sys.modules}})))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    return set(json.loads(ran.stdout.rpartition("LOADED")[2]))


def test_the_start_of_the_control_plane_loads_nothing_heavy(tmp_path: Path) -> None:
    loaded = loaded_by(f"""
import anyio
from pathlib import Path
from bottega.runtime import Runtime, bind_listener
from bottega.settings import load_settings

async def main():
    settings = load_settings(None, {{"data_dir": {str(tmp_path / "data")!r}, "log": {{"level": "error"}}}}, {{}})
    runtime = Runtime(settings)
    with bind_listener("127.0.0.1", 0) as listener:
        async with runtime.running(listener):
            assert runtime.ready

anyio.run(main)
""")
    assert loaded & HEAVY == set()


def test_the_command_line_loads_nothing_heavy_either() -> None:
    loaded = loaded_by("""
import sys
from bottega.cli import main
sys.argv = ["bottega", "--help"]
try:
    main()
except SystemExit:
    pass
""")
    assert loaded & (HEAVY | SERVER) == set()


def test_the_commands_of_all_plugins_need_nothing_of_the_server() -> None:
    # Each command pays for what it loads: only `bottega up` may wait for the server's libraries.
    loaded = loaded_by("""
from bottega.cli import cli
from bottega.plugins import Plugins
from bottega.settings import load_settings

found = Plugins(load_settings(environ={}), commands_only=True)
for plugin in found.on():
    found.call(plugin, "bottega_commands", cli=cli)
assert {p.name: p.reason for p in found.all.values() if p.state != "on"} == {}
assert {"datasets", "jobs", "services"} <= {group.name for group in cli.registered_groups}
""")
    assert "bottega_training" in loaded
    assert loaded & (HEAVY | SERVER) == set()
