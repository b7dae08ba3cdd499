"""Discovery of plugins and the boundary around their code: one broken plugin never stops the platform."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import Distribution, EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pluggy
import structlog
from pydantic import BaseModel

from bottega import hookspecs
from bottega.errors import ConfigError, PluginError
from bottega.settings import Section, Settings, validate

if TYPE_CHECKING:
    from fastapi import APIRouter
    from sqlmodel import SQLModel

    from bottega.events import Event

log = structlog.get_logger("bottega.plugins")
GROUP = "bottega"
_PREFIX = "bottega_"
_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")


@dataclass(frozen=True, slots=True)
class Action:
    """An IAM action a plugin checks, such as ``modelarts:trainJob:create``.

    `resource_type` and `trace` are what the audit trail calls it (003 §10.5, tables 10-1 to 10-6).
    `spends` marks what an account in arrears cannot do (000 §7, table 7-2).
    """

    name: str
    guards: str
    resource_type: str | None = None
    trace: str | None = None
    spends: bool = False


@dataclass(frozen=True, slots=True)
class Quota:
    """How many things of a kind an account may have unless its administrator or operator says otherwise (003 §11).

    `label` is what a user calls them, in the plural.
    """

    kind: str
    maximum: int
    label: str


@dataclass(frozen=True, slots=True)
class SystemPolicy:
    """A read-only policy the installation offers."""

    name: str
    description: str
    document: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Entities:
    """A plugin's tables and where its Alembic migrations are; `migrations` holds revisions of a branch of its own."""

    tables: Sequence[type[SQLModel]]
    migrations: Path


@dataclass(frozen=True, slots=True)
class ConsolePage:
    """A page of the web console: `files` is a folder served under ``/console/<plugin>/``."""

    title: str
    path: str
    files: Path


class NoSettings(Section):
    """For plugins without settings."""


@dataclass
class Plugin:
    """One discovered plugin. `state` is ``on``, ``off`` or ``broken``; `reason` says why it is not on."""

    name: str
    distribution: str
    version: str
    state: str = "on"
    reason: str = ""
    module: ModuleType | None = None
    settings: BaseModel = field(default_factory=NoSettings)
    hooks: list[str] = field(default_factory=list)
    actions: list[Action] = field(default_factory=list)
    events_out: list[type[Event]] = field(default_factory=list)
    events_in: list[str] = field(default_factory=list)
    router: APIRouter | None = None

    def report(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "distribution": self.distribution,
            "version": self.version,
            "state": self.state,
            "reason": self.reason,
            "hooks": self.hooks,
            "events_out": [e.type for e in self.events_out],
            "events_in": sorted(self.events_in),
            "actions": [a.name for a in self.actions],
        }


@lru_cache(maxsize=16)
def _told(distribution: Distribution) -> tuple[str, str]:
    """Name and version. Each look parses all metadata anew, and most plugins are of one distribution."""
    metadata = distribution.metadata
    return metadata["Name"], metadata["Version"]


class Plugins:
    """The plugins of this process. Every call into one goes through `call`, inside its error boundary."""

    def __init__(
        self, settings: Settings, found: Iterable[EntryPoint] | None = None, *, commands_only: bool = False
    ) -> None:
        """Load every plugin of the environment (or of `found`).

        With `commands_only` settings are not checked, so the command line works beside any configuration.
        Raises ConfigError for settings of a plugin that is not installed or that its model refuses.
        """
        self.settings = settings
        self.manager = pluggy.PluginManager("bottega")
        self.manager.add_hookspecs(hookspecs)
        self.all: dict[str, Plugin] = {}
        self.guards: dict[str, tuple[Plugin, Action]] = {}
        """Each IAM action with the plugin that declared it."""
        points = sorted(entry_points(group=GROUP) if found is None else found, key=lambda e: e.name)
        for point in points:
            self._discover(point)
        for name in settings.plugins:
            if name not in self.all:
                near = difflib.get_close_matches(name, self.all, n=1)
                hint = f"; did you mean '{near[0]}'?" if near else ""
                raise ConfigError(f"[plugins.{name}] configures a plugin that is not installed{hint}")
        for plugin in self.on():
            self._open_extension_points(plugin)
        for plugin in self.on():
            self._register(plugin)
        if not commands_only:
            for plugin in self.on():
                self._configure(plugin)

    def on(self) -> list[Plugin]:
        return [p for p in self.all.values() if p.state == "on"]

    def owner(self, action: str) -> str:
        """The plugin that declared an action; core's own carry ``core``."""
        found = self.guards.get(action)
        return found[0].name if found else "core"

    def call(self, plugin: Plugin, hook: str, **arguments: Any) -> Any:
        """The one result of `plugin`'s implementation of `hook`; None when it has none or broke on it."""
        results = list(self._values(plugin, hook, **arguments))
        return results[0] if results else None

    def collect(self, hook: str, arguments: Callable[[Plugin], dict[str, Any]]) -> list[tuple[Plugin, Any]]:
        """What every plugin that is on returns for `hook`, each called alone with its own arguments."""
        found = []
        for plugin in self.on():
            value = self.call(plugin, hook, **arguments(plugin))
            if value is not None:
                found.append((plugin, value))
        return found

    def mark_broken(self, plugin: Plugin, reason: str) -> None:
        plugin.state, plugin.reason = "broken", reason
        log.warning("plugin broken", plugin=plugin.name, reason=reason)

    @contextmanager
    def boundary(self, plugin: Plugin, doing: str) -> Iterator[None]:
        """Whatever foreign code raises in here marks its plugin as broken and goes no further."""
        try:
            yield
        except Exception as e:  # the boundary around foreign code: anything may come out of it
            log.debug("plugin raised", plugin=plugin.name, doing=doing, exc_info=True)
            self.mark_broken(plugin, f"{doing}: {type(e).__name__}: {e}")

    def _discover(self, point: EntryPoint) -> None:
        plugin = Plugin(point.name, *(_told(point.dist) if point.dist else ("?", "?")))
        if point.name in self.all:
            other = self.all[point.name]
            self.mark_broken(
                other, f"two distributions bring '{point.name}': {other.distribution}, {plugin.distribution}"
            )
            return
        self.all[point.name] = plugin
        if not _NAME.fullmatch(point.name):
            self.mark_broken(plugin, "a plugin's name is made of lower case letters, digits and '-'")
            return
        if self.settings.plugins.get(point.name, {}).get("enabled") is False:
            plugin.state, plugin.reason = "off", "switched off in the configuration"
            return
        with self.boundary(plugin, "import"):
            plugin.module = point.load()

    def _open_extension_points(self, plugin: Plugin) -> None:
        # Before anything is registered: pluggy would hold a wrong implementation against the owner of the hook.
        declare = getattr(plugin.module, "bottega_extension_points", None)
        with self.boundary(plugin, "bottega_extension_points"):
            if declare is not None:
                self.manager.add_hookspecs(declare())

    def _register(self, plugin: Plugin) -> None:
        with self.boundary(plugin, "hooks"):
            for name, function in vars(plugin.module).items():
                if not name.startswith(_PREFIX) or not inspect.isfunction(function):
                    continue
                if not hasattr(function, "bottega_impl"):
                    raise PluginError(f"function '{name}' is not marked with @hookimpl")
                owner = self._away(name)
                if owner is not None:
                    reason = f"it fills '{name}' of the plugin '{owner.name}', which is {owner.state}"
                    plugin.state, plugin.reason = "off", reason
                    return
                self._check_hook(name, function)
                plugin.hooks.append(name)
            self.manager.register(plugin.module, plugin.name)

    def _away(self, hook: str) -> Plugin | None:
        """The plugin whose extension point (``bottega_<plugin>_<what>``) is missing because it is not on."""
        if hasattr(self.manager.hook, hook):
            return None
        owners = (p for p in self.all.values() if hook.startswith(f"{_PREFIX}{p.name.replace('-', '_')}_"))
        return next((p for p in owners if p.state != "on"), None)

    def _check_hook(self, name: str, function: Callable[..., Any]) -> None:
        known = [known for known in dir(self.manager.hook) if known.startswith(_PREFIX)]
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
            raise PluginError(f"there is no hook '{name}'; the nearest is '{near[0]}'")
        if inspect.iscoroutinefunction(function):
            raise PluginError(f"hook '{name}' is async; hooks describe at start and are plain functions")
        spec = getattr(self.manager.hook, name).spec
        strange = [a for a in inspect.signature(function).parameters if a not in spec.argnames]
        if strange:
            raise PluginError(
                f"hook '{name}' has no argument '{strange[0]}'; it has {', '.join(spec.argnames) or 'none'}"
            )

    def _configure(self, plugin: Plugin) -> None:
        section = {k: v for k, v in self.settings.plugins.get(plugin.name, {}).items() if k != "enabled"}
        model = self.call(plugin, "bottega_settings") or NoSettings
        with self.boundary(plugin, "bottega_settings"):
            if not (isinstance(model, type) and issubclass(model, BaseModel)):
                raise PluginError(f"a pydantic model class is needed, not {model!r}")
        if plugin.state == "on":
            # Wrong settings are the operator's mistake, not the plugin's: they stop the start with a clear error.
            plugin.settings = validate(model, section, f"plugins.{plugin.name}")
        with self.boundary(plugin, "bottega_actions"):
            plugin.actions = list(self.call(plugin, "bottega_actions") or ())
            for action in plugin.actions:
                self.guards.setdefault(action.name, (plugin, action))
        with self.boundary(plugin, "bottega_events"):
            plugin.events_out = list(self.call(plugin, "bottega_events") or ())
            for event in plugin.events_out:
                if event.type.split(".")[0] != plugin.name:
                    raise PluginError(f"event type '{event.type}' must begin with the plugin's name '{plugin.name}.'")

    def _values(self, plugin: Plugin, hook: str, **arguments: Any) -> Iterator[Any]:
        if plugin.state != "on":
            return
        with self.boundary(plugin, hook):
            others = [m for name, m in self.manager.list_name_plugin() if m is not None and name != plugin.name]
            yield from self.manager.subset_hook_caller(hook, remove_plugins=others)(**arguments)
