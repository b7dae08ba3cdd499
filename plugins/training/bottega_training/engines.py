"""What an engine is: it says how a job's script is run. Engines come from plugins (`extension_points`)."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Protocol

from bottega.errors import Invalid

if TYPE_CHECKING:
    from bottega.platform import Platform

PYTHON = ".".join(platform.python_version_tuple()[:2])


@dataclass(frozen=True, slots=True)
class Script:
    """A job as an engine sees it. `boot_file` is relative to the directory the process starts in."""

    boot_file: str
    arguments: Sequence[str]
    node_count: int
    cpus: float
    gpus: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run: `command` may hold ``{python}`` and ``{dir}`` (see `bottega.backends.WorkloadSpec`)."""

    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


class Engine(Protocol):
    """An AI framework that scripts are written for, in one version.

    `missing` is empty when it can be used; otherwise it says what is not there and how to get it.
    """

    id: str
    name: str
    version: str
    missing: str

    def plan(self, script: Script) -> Plan:
        """Called once for each job, when it is planned; must be quick and free of side effects."""
        ...


class PythonEngine:
    """An engine that is a Python package in the interpreter of the hardware backend.

    Versions are written as the vendor does: ``PyTorch-2.13.0-python3.11`` (002 §5.3, table 5-17). How the package was
    built (the ``+cpu`` of ``2.13.0+cpu``) is not part of them: a request must mean the same on every machine.
    """

    def __init__(self, name: str, package: str, extra: str) -> None:
        self.name = name
        self.missing = ""
        try:
            found = version(package).partition("+")[0]
        except PackageNotFoundError:
            found = "none"
            self.missing = f"the Python package '{package}' is not installed; pip install 'bottega[{extra}]' brings it"
        self.version = f"{name}-{found}-python{PYTHON}"
        self.id = self.version.lower()

    def plan(self, script: Script) -> Plan:
        return Plan(["{python}", "-u", script.boot_file, *script.arguments])


class Engines:
    """The engines of all plugins that are on."""

    def __init__(self, found: Iterable[Iterable[Engine]]) -> None:
        self.all: list[Engine] = sorted((e for some in found for e in some), key=lambda e: e.id)

    @classmethod
    def of(cls, platform: Platform) -> Engines:
        return cls(platform.extensions("bottega_training_engines"))

    def get(self, engine_id: str) -> Engine | None:
        return next((e for e in self.all if e.id == engine_id), None)

    def choose(self, engine_id: str | None, name: str | None, version: str | None) -> Engine:
        """The engine by its id, or by name and version; the name alone, also as `engine_id`, if it has one version.

        Raises Invalid, naming the engines there are, when there is no such one or it is not installed.
        """
        if not engine_id and not name:
            raise Invalid(f"algorithm.engine: give engine_id, or engine_name and engine_version; {self._offer()}")
        if engine_id:
            short = engine_id.lower().replace("-", "_")
            matching = [e for e in self.all if e.id == engine_id] or [e for e in self.all if e.name.lower() == short]
            wanted = engine_id
        else:
            matching = [e for e in self.all if e.name == name and version in (None, "", e.version)]
            wanted = f"{name} {version or ''}".strip()
        if not matching:
            raise Invalid(f"algorithm.engine: there is no engine '{wanted}'; {self._offer()}")
        if len(matching) > 1:
            raise Invalid(f"algorithm.engine: '{wanted}' has several versions, give engine_version; {self._offer()}")
        if matching[0].missing:
            raise Invalid(f"algorithm.engine: '{wanted}' cannot be used here: {matching[0].missing}")
        return matching[0]

    def _offer(self) -> str:
        usable = ", ".join(e.id for e in self.all if not e.missing)
        return f"there are: {usable}" if usable else "no engine plugin is on with its framework installed"
