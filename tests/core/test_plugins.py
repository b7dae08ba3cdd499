"""Plugins that are as wrong as plugins can be: each is named with its fault, and the platform runs on without it."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import uuid
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from bottega import hookspecs
from bottega.client import ApiFailure
from bottega.errors import ConfigError
from bottega.plugins import Plugin, Plugins
from bottega.settings import Settings, load_settings
from bottega.testing import RunningPlatform, wait_until

MakePlugin = Callable[..., EntryPoint]
HEAD = """
from bottega.events import Event
from bottega.gateway import Caller, requires
from bottega.hookspecs import hookimpl
from bottega.plugins import Action
from bottega.settings import Section
from fastapi import APIRouter
"""


def write_plugin(folder: Path, name: str, source: str) -> EntryPoint:
    module = f"plugin_{name.replace('-', '_')}_{uuid.uuid4().hex}"
    (folder / f"{module}.py").write_text(HEAD + textwrap.dedent(source))
    return EntryPoint(name, module, "bottega")


@pytest.fixture
def make_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakePlugin:
    """An entry point of a plugin with this source."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return lambda name, source: write_plugin(tmp_path, name, source)


def load(*found: EntryPoint, settings: Settings | None = None) -> dict[str, Plugin]:
    return Plugins(settings or Settings(), found=found).all


FAULTS: dict[str, tuple[str, str]] = {
    "fails-at-import": ("import a_library_that_is_not_here", "import: ModuleNotFoundError: No module named"),
    "misspelled": (
        "@hookimpl\ndef bottega_evnets(): return []",
        "hooks: PluginError: there is no hook 'bottega_evnets'; the nearest is 'bottega_events'",
    ),
    "async-hook": (
        "@hookimpl\nasync def bottega_events(): return []",
        "hooks: PluginError: hook 'bottega_events' is async; hooks describe at start and are plain functions",
    ),
    "unknown-argument": (
        "@hookimpl\ndef bottega_routes(platform, database): ...",
        "hooks: PluginError: hook 'bottega_routes' has no argument 'database'; it has platform",
    ),
    "unmarked": (
        "def bottega_events(): return []",
        "hooks: PluginError: function 'bottega_events' is not marked with @hookimpl",
    ),
    "foreign-event": (
        "class Paid(Event, type='billing.bill.paid.v1'): ...\n@hookimpl\ndef bottega_events(): return [Paid]",
        "event type 'billing.bill.paid.v1' must begin with the plugin's name 'foreign-event.'",
    ),
    "shapeless-event": (
        "class Paid(Event, type='Paid'): ...",
        "import: ConfigError: event type 'Paid' of Paid is not <plugin>.<entity>.<verb>.v<N> in lower case",
    ),
    "Bad_Name": ("", "a plugin's name is made of lower case letters, digits and '-'"),
    "no-model": (
        "@hookimpl\ndef bottega_settings(): return dict(a=1)",
        "a pydantic model class is needed, not {'a': 1}",
    ),
    "no-list": ("@hookimpl\ndef bottega_actions(): return 5", "TypeError: 'int' object is not iterable"),
    "no-module": ("@hookimpl\ndef bottega_extension_points(): return object()", "bottega_extension_points: ValueError"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_faulty_plugin_is_broken_with_the_reason(name: str, make_plugin: MakePlugin) -> None:
    source, reason = FAULTS[name]
    plugins = load(make_plugin(name, source), make_plugin("sound", ""))
    assert plugins[name].state == "broken"
    assert reason in plugins[name].reason
    assert (plugins["sound"].state, plugins["sound"].reason) == ("on", "")


def test_two_distributions_with_one_name_are_both_refused(make_plugin: MakePlugin) -> None:
    plugins = load(make_plugin("twin", ""), make_plugin("twin", ""))
    assert plugins["twin"].state == "broken"
    assert "two distributions bring 'twin'" in plugins["twin"].reason


OWNER = """
import types
import pluggy

def bottega_owner_shapes(size): ...

points = types.ModuleType("points")
points.bottega_owner_shapes = pluggy.HookspecMarker("bottega")(bottega_owner_shapes)
del bottega_owner_shapes

@hookimpl
def bottega_extension_points(): return points
"""
FILLER = "@hookimpl\ndef bottega_owner_shapes(size): return ['round'] * size"


def test_an_extension_point_is_filled_by_another_plugin(make_plugin: MakePlugin) -> None:
    plugins = Plugins(Settings(), found=[make_plugin("filler", FILLER), make_plugin("owner", OWNER)])
    assert plugins.collect("bottega_owner_shapes", lambda _: {"size": 2}) == [(plugins.all["filler"], ["round"] * 2)]


def test_a_wrong_filler_is_broken_and_not_the_owner(make_plugin: MakePlugin) -> None:
    plugins = load(make_plugin("filler", FILLER.replace("size", "color")), make_plugin("owner", OWNER))
    assert "hook 'bottega_owner_shapes' has no argument 'color'; it has size" in plugins["filler"].reason
    assert plugins["owner"].state == "on"


def test_a_filler_is_off_when_the_owner_is(make_plugin: MakePlugin) -> None:
    settings = load_settings(None, {"plugins": {"owner": {"enabled": False}}}, {})
    plugins = load(make_plugin("filler", FILLER), make_plugin("owner", OWNER), settings=settings)
    assert plugins["owner"].reason == "switched off in the configuration"
    assert plugins["filler"].state == "off"
    assert plugins["filler"].reason == "it fills 'bottega_owner_shapes' of the plugin 'owner', which is off"


CONFIGURED = """
from pydantic import SecretStr

class Words(Section):
    greeting: str = "hello"
    times: int = 1
    secret: SecretStr | None = None

@hookimpl
def bottega_settings(): return Words
"""


def test_settings_come_from_the_file_and_the_environment_over_it(make_plugin: MakePlugin, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("from a file\n")
    file = tmp_path / "bottega.toml"
    file.write_text(
        f'[plugins.my-words]\ngreeting = {{ env = "GREETING" }}\ntimes = 2\nsecret = {{ file = "{tmp_path}/key" }}\n'
    )
    environ = {"GREETING": "ciao", "BOTTEGA__PLUGINS__MY_WORDS__TIMES": "3"}
    words: Any = load(make_plugin("my-words", CONFIGURED), settings=load_settings(file, {}, environ))[
        "my-words"
    ].settings
    assert (words.greeting, words.times, words.secret.get_secret_value()) == ("ciao", 3, "from a file")
    assert "from a file" not in repr(words)


@pytest.mark.parametrize(
    ("section", "complaint"),
    [
        ({"words": {"gretting": "x"}}, "unknown setting 'plugins.words.gretting'; known here: greeting, secret, times"),
        ({"words": {"times": "often"}}, "plugins.words.times: Input should be a valid integer"),
        ({"wrods": {"times": 1}}, r"\[plugins.wrods\] configures a plugin that is not installed; did you mean 'words'"),
    ],
)
def test_wrong_settings_stop_the_start_with_the_key(
    section: dict[str, Any], complaint: str, make_plugin: MakePlugin
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        load(make_plugin("words", CONFIGURED), settings=load_settings(None, {"plugins": section}, {}))


def test_one_that_is_switched_off_is_not_even_imported(make_plugin: MakePlugin) -> None:
    point = make_plugin("quiet", "raise RuntimeError('imported')")
    plugins = load(point, settings=load_settings(None, {"plugins": {"quiet": {"enabled": False}}}, {}))
    assert (plugins["quiet"].state, plugins["quiet"].reason) == ("off", "switched off in the configuration")
    assert point.value not in sys.modules


# -- the same through a running platform -------------------------------------------------------------------------

AT_START = sorted(
    name
    for name in vars(hookspecs)
    if name.startswith("bottega_") and name not in ("bottega_commands", "bottega_console", "bottega_policies")
)
ROUTER = """
@hookimpl
def bottega_actions(): return [Action("{name}:thing:get", "See a thing")]

@hookimpl
def bottega_routes(platform):
    router = APIRouter()

    @router.get("{path}")
    async def show({check}) -> dict[str, str]:
        return {{"from": "{name}"}}

    return router
"""
ROUTERS = {
    "route-without-action": ("/v1/unguarded", "", "route /v1/unguarded names no IAM action; add 'caller: Caller ="),
    "route-undeclared": (
        "/v1/undeclared",
        "caller: Caller = requires('other:thing:get')",
        "checks 'other:thing:get', which route-undeclared does not declare in bottega_actions",
    ),
    "route-clash": (
        "/v1/whoami",
        "caller: Caller = requires('route-clash:thing:get')",
        "route GET /v1/whoami exists already",
    ),
}
LATE = (
    ROUTER.format(name="late", path="/v1/late", check="caller: Caller = requires('late:thing:get')")
    + """
class Called(Event, type="core.api.called.v1"): ...

@hookimpl
def bottega_subscribe(bus):
    async def heard(received, tx):
        raise AssertionError("a broken plugin must hear nothing")
    bus.on(Called, heard)

@hookimpl
def bottega_lifespan():
    raise RuntimeError("too late")
"""
)
DESCRIBED = """
from pathlib import Path

@hookimpl
def bottega_answers():
    page = Path(__file__).with_suffix(".json")
    page.write_text('{{"answers": {{"GET /v1/sound": ["Thing"]}}, "schemas": {{"{schema}": {{"type": "object"}}}}}}')
    return page
"""
SOUND = ROUTER.format(name="sound", path="/v1/sound", check="caller: Caller = requires('sound:thing:get')")
SOUND += DESCRIBED.format(schema="Thing")
STALLED = """
from pathlib import Path

class Called(Event, type="core.api.called.v1"):
    path: str

class Handled(Event, type="stalled.call.handled.v1"):
    path: str

@hookimpl
def bottega_events(): return [Handled]

@hookimpl
def bottega_subscribe(bus, platform):
    async def handle(received, tx):
        if received.event.path.endswith("/nats-credentials"):
            if not (platform.data_dir / "repaired").exists():
                raise RuntimeError("the printer is on fire")
            tx.emit(Handled(path=received.event.path), received.urn)

    bus.on(Called, handle)
"""


def raising(hook: str) -> str:
    return f"raises-in-{hook.replace('_', '-')}"


@pytest.fixture(scope="module")
def beset(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    """A platform with every faulty plugin there is, and two sound ones."""
    folder = tmp_path_factory.mktemp("plugins")
    sources = {name: source for name, (source, _) in FAULTS.items()}
    for hook in AT_START:
        sources[raising(hook)] = f"@hookimpl\ndef {hook}(): raise RuntimeError('on purpose')"
    for name, (path, check, _) in ROUTERS.items():
        sources[name] = ROUTER.format(name=name, path=path, check=check)
    sources |= {"late": LATE, "sound": SOUND, "stalled": STALLED, "undescribed": DESCRIBED.format(schema="Other")}
    points = [write_plugin(folder, name, source) for name, source in sources.items()]
    points.append(EntryPoint("store-s3", "bottega_dataset.store_s3", "bottega"))
    sys.path.insert(0, str(folder))
    overrides = {"nats": {"redelivery_backoff_s": [0.05, 0.1]}}
    with RunningPlatform(
        tmp_path_factory.mktemp("beset"), overrides, lambda settings: Plugins(settings, found=points)
    ) as running:
        yield running
    sys.path.remove(str(folder))


@pytest.fixture
def report(beset: RunningPlatform) -> dict[str, dict[str, Any]]:
    return {plugin["name"]: plugin for plugin in beset.tenant().client.get("/v1/plugins")["plugins"]}


@pytest.mark.parametrize("hook", AT_START)
def test_a_hook_that_raises_breaks_its_plugin_alone(hook: str, report: dict[str, dict[str, Any]]) -> None:
    plugin = report[raising(hook)]
    assert (plugin["state"], plugin["reason"]) == ("broken", f"{hook}: RuntimeError: on purpose")


@pytest.mark.parametrize("hook", ["bottega_commands", "bottega_console", "bottega_policies"])
def test_a_hook_called_later_that_raises_breaks_its_plugin_alone(hook: str, make_plugin: MakePlugin) -> None:
    found = [make_plugin("bad", f"@hookimpl\ndef {hook}(): raise RuntimeError('on purpose')"), make_plugin("sound", "")]
    plugins = Plugins(Settings(), found=found, commands_only=True)
    arguments = dict.fromkeys(getattr(plugins.manager.hook, hook).spec.argnames)
    assert plugins.collect(hook, lambda _: arguments) == []
    assert plugins.all["bad"].reason == f"{hook}: RuntimeError: on purpose"
    assert plugins.all["sound"].state == "on"


@pytest.mark.parametrize("name", [*FAULTS, *ROUTERS])
def test_the_platform_reports_each_fault(name: str, report: dict[str, dict[str, Any]]) -> None:
    assert report[name]["state"] == "broken"
    assert (FAULTS | {n: ("", reason) for n, (_, _, reason) in ROUTERS.items()})[name][1] in report[name]["reason"]


def test_a_description_of_answers_without_its_schemas_is_reported(report: dict[str, dict[str, Any]]) -> None:
    assert report["undescribed"]["state"] == "broken"
    assert "GET /v1/sound: there is no schema 'Thing'" in report["undescribed"]["reason"]


def test_the_sound_plugin_serves_among_them(beset: RunningPlatform, report: dict[str, dict[str, Any]]) -> None:
    assert report["sound"]["state"] == "on"
    assert report["sound"]["hooks"] == ["bottega_actions", "bottega_routes", "bottega_answers"]
    client = beset.tenant().client
    described = client.get("/openapi.json")["paths"]["/v1/sound"]["get"]["responses"]["200"]["content"]
    assert described["application/json"]["schema"] == {"$ref": "#/components/schemas/Thing"}
    assert client.get("/v1/sound") == {"from": "sound"}
    assert client.get("/v1/whoami")["kind"] == "user"
    for path in ("/v1/unguarded", "/v1/undeclared"):
        with pytest.raises(ApiFailure) as refused:
            client.get(path)
        assert refused.value.status == 404


def test_the_command_line_shows_state_and_reason(beset: RunningPlatform) -> None:
    command = [sys.executable, "-m", "bottega", "--credentials", str(beset.data_dir / "credentials.json")]
    shown = subprocess.run([*command, "--json", "plugins"], capture_output=True, text=True, check=True)
    report = {plugin["name"]: plugin for plugin in json.loads(shown.stdout)}
    assert report["misspelled"]["state"] == "broken"
    assert "the nearest is 'bottega_events'" in report["misspelled"]["reason"]
    assert report["stalled"]["events_in"] == ["core.api.called.v1"]
    assert report["stalled"]["events_out"] == ["stalled.call.handled.v1"]
    table = subprocess.run([*command, "plugins"], capture_output=True, text=True, check=True).stdout
    assert "misspelled" in table
    one = subprocess.run([*command, "plugins", "stalled"], capture_output=True, text=True, check=True).stdout
    assert "stalled.call.handled.v1" in one
    none = subprocess.run([*command, "plugins", "nobody"], capture_output=True, text=True)
    assert (none.returncode, "there is no plugin 'nobody'" in none.stderr) == (1, True)


def operate(beset: RunningPlatform, *words: str) -> Any:
    command = [sys.executable, "-m", "bottega", "--credentials", str(beset.data_dir / "credentials.json"), "--json"]
    ran = subprocess.run([*command, *words], capture_output=True, text=True, check=True)
    return json.loads(ran.stdout) if ran.stdout else None


def test_a_handler_that_always_raises_ends_in_dead_letters_and_replays_after_the_fix(beset: RunningPlatform) -> None:
    tenant = beset.tenant()
    tenant.client.post("/v1/{project_id}/nats-credentials", {"name": "x"})

    def letters() -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = operate(beset, "events", "dead", "list", "--consumer", "stalled__events")
        return [row for row in rows if f":{tenant.project_id}:" in row["urn"]]

    letter = wait_until(letters)[0]
    assert letter["type"] == "core.api.called.v1"
    assert letter["attempts"] == 3
    assert "the printer is on fire" in letter["reason"]
    sequence = str(letter["sequence"])
    assert json.loads(operate(beset, "events", "dead", "show", sequence)["payload"])["id"] == letter["event_id"]
    exhausted = tenant.events.wait("core.delivery.exhausted.v1", consumer="stalled__events")
    assert exhausted.data["event_id"] == letter["event_id"]

    (beset.data_dir / "repaired").touch()
    operate(beset, "events", "dead", "replay", sequence)
    handled = tenant.events.wait("stalled.call.handled.v1")
    assert handled.causation_id == letter["event_id"]
    wait_until(lambda: not letters())
    assert len(tenant.events.all("stalled.call.handled.v1")) == 1


def test_dead_letters_are_the_operators_alone(beset: RunningPlatform) -> None:
    with pytest.raises(ApiFailure) as refused:
        beset.tenant().client.get("/v1/dead-letters")
    assert refused.value.status == 404


def test_a_broken_plugin_hears_nothing(beset: RunningPlatform, report: dict[str, dict[str, Any]]) -> None:
    assert report["late"]["reason"] == "bottega_lifespan: RuntimeError: too late"
    consumers = beset.runtime.platform.bus.stats().consumers
    assert "stalled__events" in consumers
    assert "late__events" not in consumers


def test_the_routes_of_a_plugin_that_broke_last_say_why(beset: RunningPlatform) -> None:
    with pytest.raises(ApiFailure, match="the plugin 'late' is broken: bottega_lifespan: RuntimeError: too late") as e:
        beset.tenant().client.get("/v1/late")
    assert e.value.status == 503
