"""The documents say what the code does: hooks, settings, events, actions, commands, examples, links."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import BaseModel
from typer.core import TyperCommand, TyperGroup

from bottega import cli, hookspecs, routes
from bottega.plugins import Plugin, Plugins
from bottega.settings import Settings

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md")), *sorted((ROOT / "plugins").glob("*/README.md"))]
PLUGINS = Plugins(Settings())
NAMES = sorted(PLUGINS.all)


def blocks(page: Path, language: str) -> list[tuple[str, str]]:
    """The title (or nothing) and the text of each fenced block of a language."""
    pattern = rf"^```{language}(?: title=\"([^\"]*)\")?\n(.*?)^```$"
    return re.findall(pattern, page.read_text("utf-8"), re.MULTILINE | re.DOTALL)


# -- your first plugin -------------------------------------------------------------------------------------------


def test_the_first_plugin_is_the_tested_example() -> None:
    page, example = DOCS / "your-first-plugin.md", ROOT / "examples" / "bottega-hello"
    module = "\n\n\n".join(text.strip() for title, text in blocks(page, "python") if not title) + "\n"
    assert module == (example / "bottega_hello.py").read_text("utf-8")
    (_, project), *_ = blocks(page, "toml")
    assert project == (example / "pyproject.toml").read_text("utf-8")
    (tests,) = (text for title, text in blocks(page, "python") if title == "tests/test_hello.py")
    assert tests == (example / "tests" / "test_hello.py").read_text("utf-8")


def test_the_first_label_type_is_the_tested_example() -> None:
    page, example = DOCS / "your-first-label-type.md", ROOT / "examples" / "bottega-point-clouds"
    module = "\n\n\n".join(text.strip() for title, text in blocks(page, "python") if not title) + "\n"
    assert module == (example / "bottega_point_clouds.py").read_text("utf-8")
    (_, project), *_ = blocks(page, "toml")
    assert project == (example / "pyproject.toml").read_text("utf-8")
    (tests,) = (text for title, text in blocks(page, "python") if title == "tests/test_point_clouds.py")
    assert tests == (example / "tests" / "test_point_clouds.py").read_text("utf-8")


# -- hooks -------------------------------------------------------------------------------------------------------


def signatures(file: Path) -> Iterator[str]:
    """Each hook specification of a file as ``name(arguments) -> result``."""
    for node in ast.parse(file.read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("bottega_"):
            assert node.returns is not None, f"{node.name} does not say what it returns"
            yield f"{node.name}({ast.unparse(node.args)}) -> {ast.unparse(node.returns)}"


def extension_points() -> Iterator[Path]:
    for plugin in PLUGINS.all.values():
        declare = getattr(plugin.module, "bottega_extension_points", None)
        if declare is not None:
            yield Path(declare().__file__)


def test_every_hook_is_documented_with_its_signature() -> None:
    known = [s for file in (Path(hookspecs.__file__), *extension_points()) for s in signatures(file)]
    documented = re.findall(r"^### `(.*)`$", (DOCS / "hooks.md").read_text("utf-8"), re.MULTILINE)
    assert sorted(documented) == sorted(known)


def test_every_hook_has_an_example_that_implements_it() -> None:
    sections = re.split(r"^### `(\w+)\(.*`$", (DOCS / "hooks.md").read_text("utf-8"), flags=re.MULTILINE)[1:]
    for hook, text in zip(sections[::2], sections[1::2], strict=True):
        (example,) = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        functions = [n.name for n in ast.parse(example).body if isinstance(n, ast.FunctionDef)]
        assert hook in functions
        assert len(text.partition("```")[0].split()) > 8, f"{hook} is not explained"


def test_an_extension_point_is_named_after_its_owner() -> None:
    for plugin in PLUGINS.all.values():
        declare = getattr(plugin.module, "bottega_extension_points", None)
        names = [n for n in vars(declare()) if n.startswith("bottega_")] if declare else []
        assert [n for n in names if not n.startswith(f"bottega_{plugin.name.replace('-', '_')}_")] == []


def contracts(file: Path) -> list[str]:
    return [
        node.name
        for node in ast.parse(file.read_text("utf-8")).body
        if isinstance(node, ast.ClassDef) and node.name.endswith("Contract")
    ]


def test_every_conformance_suite_is_listed() -> None:
    core = (ROOT / "core" / "bottega" / "testing" / "conformance").glob("*.py")
    suites = [f"bottega.testing.conformance.{file.stem}.{name}" for file in core for name in contracts(file)]
    for file in (ROOT / "plugins").glob("*/*/conformance.py"):
        suites += [f"{file.parent.name}.conformance.{name}" for name in contracts(file)]
    page = (DOCS / "testing.md").read_text("utf-8")
    assert [suite for suite in suites if f"`{suite}`" not in page] == []


def test_every_extension_point_of_a_plugin_has_a_suite() -> None:
    page = (DOCS / "testing.md").read_text("utf-8")
    points = [s.partition("(")[0] for file in extension_points() for s in signatures(file)]
    assert points
    assert [point for point in points if f"| `{point}` |" not in page] == []


# -- settings ----------------------------------------------------------------------------------------------------


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from keys(kind, f"{prefix}{name}.")
        elif name != "plugins":
            yield f"{prefix}{name}", field.default


def test_every_setting_is_documented_with_its_default() -> None:
    rows = re.findall(r"^\| `([a-z0-9_.]+)` \|([^|]*)\|", (DOCS / "operate.md").read_text("utf-8"), re.MULTILINE)
    documented = {key: shown.strip(" `") for key, shown in rows}
    for key, default in keys(Settings):
        shown = "" if default is None else json.dumps(default) if isinstance(default, list) else str(default)
        assert documented.get(key) == shown, key


def readme(plugin: Plugin) -> str:
    """The README of the folder a plugin comes from."""
    assert plugin.module is not None, plugin.reason
    package = plugin.module.__name__.partition(".")[0]
    return (ROOT / "plugins" / package.removeprefix("bottega_") / "README.md").read_text("utf-8")


def named(word: str, text: str) -> bool:
    """Whether a text names a setting or an event, the latter also folded: ``training.job.{started,stopped}.v1``."""
    family, _, verb = word.removesuffix(".v1").rpartition(".")
    return word in text or (bool(family) and f"{family}." in text and verb in text)


@pytest.mark.parametrize("name", NAMES)
def test_a_plugins_readme_names_its_settings_and_events(name: str) -> None:
    plugin = PLUGINS.all[name]
    text = readme(plugin)
    wanted = [*type(plugin.settings).model_fields, *(event.type for event in plugin.events_out)]
    assert [word for word in wanted if not named(word, text)] == []


# -- what describes itself ---------------------------------------------------------------------------------------


def test_every_action_says_what_it_guards() -> None:
    actions = [*routes.ACTIONS, *(a for p in PLUGINS.all.values() for a in p.actions)]
    assert [a.name for a in actions if not a.guards.strip()] == []
    assert [a.name for a in actions if not re.fullmatch(r"[a-z]+:[A-Za-z]+:[A-Za-z]+", a.name)] == []


def undescribed(command: Any, path: str) -> Iterator[str]:
    if isinstance(command, TyperGroup):
        for name, inner in command.commands.items():
            yield from undescribed(inner, f"{path} {name}")
    if isinstance(command, TyperGroup | TyperCommand) and not (command.help or "").strip():
        yield path


def test_every_command_says_what_it_does() -> None:
    assert list(undescribed(typer.main.get_command(cli.cli), "bottega")) == []
    for plugin in PLUGINS.all.values():
        app = typer.Typer(help="A plugin's commands.")
        app.command("nothing")(lambda: None)
        app.registered_commands[-1].help = "So that there is always one."
        PLUGINS.call(plugin, "bottega_commands", cli=app)
        assert list(undescribed(typer.main.get_command(app), plugin.name)) == []


# -- links -------------------------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{target} in {page.name}"
        if anchor:
            assert anchor in anchors(file), f"{target} in {page.name}"
