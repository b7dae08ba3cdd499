"""The command line ``bottega``: the core's commands and those the plugins bring."""

from __future__ import annotations

import gc
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from bottega.cli_support import OPTIONS, as_text, connect, console, errors, moment, note, show
from bottega.client import ApiFailure, Unreachable
from bottega.errors import BottegaError, ConfigError, NotFound, is_full_disk
from bottega.plugins import Plugins
from bottega.secret_commands import secrets
from bottega.settings import LogSettings, default_config, load_settings

cli = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Bottega, an open AI platform.",
)
events = typer.Typer(no_args_is_help=True, help="Follow events, and care for those no handler could process.")
dead = typer.Typer(no_args_is_help=True, help="Events a handler could not process.")
cli.add_typer(events, name="events")
cli.add_typer(secrets, name="secrets")
events.add_typer(dead, name="dead")
_EXPECTED = (ApiFailure, Unreachable, BottegaError, OSError, json.JSONDecodeError)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        sys.stdout.write(f"bottega {version('bottega')}\n")
        raise typer.Exit


@cli.callback()
def options(
    credentials: Annotated[
        Path | None, typer.Option(help="credentials.json of the platform (default: $BOTTEGA_CREDENTIALS).")
    ] = None,
    project: Annotated[
        str | None, typer.Option(help="Id or name of the project to act in (default: that of the credentials).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    OPTIONS.credentials, OPTIONS.project, OPTIONS.as_json = credentials, project, as_json


@cli.command()
def up(
    data_dir: Annotated[Path | None, typer.Option(help="Where everything is kept.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    config: Annotated[Path | None, typer.Option(help="bottega.toml to read.")] = None,
) -> None:
    """Start the platform; Ctrl-C or SIGTERM stops it with everything it started."""
    # What is imported and built from here until the platform is up stays, and looking through all of it for garbage
    # again and again is a tenth of the start. `serve` switches it on again.
    gc.disable()
    from bottega.server import serve

    server = {k: v for k, v in (("port", port), ("host", host)) if v is not None}
    serve(config or default_config(), {**({"data_dir": str(data_dir)} if data_dir else {}), "server": server})


@cli.command(name="nats-config")
def nats_config(
    output: Annotated[Path, typer.Argument(help="File to write.")],
    config: Annotated[Path | None, typer.Option(help="bottega.toml to read.")] = None,
    listen: Annotated[str, typer.Option(help="Address of the server.")] = "0.0.0.0:4222",  # in its own network
    monitor: Annotated[str, typer.Option(help="Address of its health check.")] = "0.0.0.0:8222",
    store: Annotated[Path, typer.Option(help="Where the server keeps its streams.")] = Path("/data"),
) -> None:
    """Write the configuration of a NATS server that trusts this installation's keys, and nobody else's.

    The keys are those of [nats] authority_dir, made when they are not there yet; the file holds none of them.
    """
    from bottega.nats_auth import NatsAuthority

    settings = load_settings(config or default_config())
    directory = settings.nats.authority_dir or settings.data_dir / "secrets" / "nats"
    authority = NatsAuthority.load_or_create(directory)
    lines = (
        f'server_name: bottega\nlisten: "{listen}"\nhttp: "{monitor}"\n'
        f'jetstream: {{\n  store_dir: "{store}"\n  sync_interval: "10s"\n}}\n'
    )
    output.write_text(lines + authority.server_config(), "utf-8")


@cli.command()
def plugins(name: Annotated[str | None, typer.Argument(help="Show this one whole.")] = None) -> None:
    """List the plugins: version, state and why one is not on; with NAME also its hooks, events and actions."""
    rows = connect().get("/v1/plugins")["plugins"]
    if name is None:
        show(rows, ["name", "version", "state", "reason"])
        return
    found = next((row for row in rows if row["name"] == name), None)
    if found is None:
        raise ApiFailure(404, "ModelArts.0104", f"there is no plugin '{name}'", "-")
    show(found)


@cli.command()
def whoami() -> None:
    """Show who the credentials belong to."""
    show(connect().get("/v1/whoami"))


@cli.command()
def lineage(
    urn: str,
    down: Annotated[bool, typer.Option(help="What it led to, instead of what it came from.")] = False,
) -> None:
    """Show what a thing came from, back to the data."""
    graph = connect().get("/v1/{project_id}/lineage", {"urn": urn, "direction": "down" if down else "up"})
    if OPTIONS.as_json:
        show(graph)
        return
    from rich.tree import Tree

    names = {
        n["urn"]: f"[bold]{n['kind']}[/] {n['name']}" + (" (deleted)" if n["deleted"] else "") for n in graph["nodes"]
    }
    near, far = ("source", "target") if down else ("target", "source")

    def grow(tree: Tree, at: str, seen: frozenset[str]) -> None:
        for edge in graph["edges"]:
            if edge[near] == at and edge[far] not in seen:
                branch = tree.add(f"{edge['relation']} {names.get(edge[far], edge[far])}")
                grow(branch, edge[far], seen | {edge[far]})

    tree = Tree(names.get(urn, urn))
    grow(tree, urn, frozenset({urn}))
    console.print(tree)


@events.command()
def tail(
    type: Annotated[str, typer.Option(help="Event type, with * and > as wildcards.")] = ">",
    since: Annotated[str | None, typer.Option(help="From 30m, 2h or 7d ago, an ISO time or epoch ms on.")] = None,
    follow: Annotated[bool, typer.Option(help="Wait for further events.")] = True,
) -> None:
    """Print the project's events as they happen."""
    params: dict[str, Any] = {"type": type, "follow": follow} | ({"since": moment(since)} if since else {})
    for event in connect().lines("/v1/{project_id}/events", params):
        if OPTIONS.as_json:
            sys.stdout.write(json.dumps(event) + "\n")
        else:
            head = f"[dim]{event['time'][11:23]}[/] [bold]{event['type']}[/]"
            console.print(f"{head} {escape(as_text(event['data']))}", highlight=False, soft_wrap=True)


@events.command()
def schema(
    type: Annotated[str | None, typer.Argument(help="Print the JSON Schema of this event only.")] = None,
) -> None:
    """Print what the installed plugins say as an AsyncAPI document; needs no running platform."""
    from importlib.metadata import version

    from bottega import asyncapi
    from bottega.runtime import CORE_EVENTS

    found = [*CORE_EVENTS, *(e for p in Plugins(load_settings(default_config())).on() for e in p.events_out)]
    if type is None:
        answer = asyncapi.document(found, version("bottega"))
    else:
        wanted = next((e for e in found if e.type == type), None)
        if wanted is None:
            raise NotFound(f"no installed plugin publishes '{type}'; see `bottega events schema`")
        answer = asyncapi.schema(wanted)
    sys.stdout.write(json.dumps(answer, indent=2, ensure_ascii=False) + "\n")


@events.command()
def credentials(
    file: Annotated[Path, typer.Argument(help="Where to write them (mode 0600).")],
    name: Annotated[str, typer.Option(help="What the subscriber is called.")] = "integrator",
    days: Annotated[int, typer.Option(help="How long they are good.", min=1, max=365)] = 30,
) -> None:
    """Get NATS credentials that see this project's events only, for a subscriber of its own."""
    from bottega.private_files import write_private

    wanted = {"name": name, "expires_s": days * 86400}
    answer = connect().post("/v1/{project_id}/nats-credentials", wanted)
    write_private(file, json.dumps(answer, indent=2) + "\n")
    note(f"{file} is good for {answer['expires_s'] / 86400:g} days; see docs/events.md for what to do with it")
    if "note" in answer:
        note(answer["note"])


@dead.command("list")
def dead_list(consumer: str | None = None) -> None:
    """List dead letters with the reason."""
    rows = connect().get("/v1/dead-letters", {"consumer": consumer})["dead_letters"]
    show(rows, ["sequence", "consumer", "type", "urn", "attempts", "reason", "time"])


@dead.command("show")
def dead_show(sequence: int) -> None:
    """Show one dead letter whole."""
    rows = connect().get("/v1/dead-letters", {"limit": 1000})["dead_letters"]
    found = next((row for row in rows if row["sequence"] == sequence), None)
    if found is None:
        raise ApiFailure(404, "ModelArts.0104", f"there is no dead letter {sequence}", "-")
    show(found)


@events.command()
@dead.command("replay")
def replay(sequence: int) -> None:
    """Give a dead letter to its handler again."""
    connect().post(f"/v1/dead-letters/{sequence}/replay")
    note(f"dead letter {sequence} was given to its handler again")


def _json_first(arguments: list[str]) -> list[str]:
    """``--json`` may stand anywhere before ``--``; it is an option of the program."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    if "--json" not in arguments[:end]:
        return arguments
    return ["--json", *(a for a in arguments[:end] if a != "--json"), *arguments[end:]]


def _add_commands(found: Plugins) -> dict[str, str]:
    """Let the plugins bring their commands; returns whose each of them is."""
    owners: dict[str, str] = {}
    for plugin in found.on():
        before = len(cli.registered_commands), len(cli.registered_groups)
        found.call(plugin, "bottega_commands", cli=cli)
        for command in cli.registered_commands[before[0] :]:
            owners[command.name or getattr(command.callback, "__name__", "").replace("_", "-")] = plugin.name
        for group in cli.registered_groups[before[1] :]:
            owners[str(group.name)] = plugin.name
    return owners


def _explain_missing(failed: ApiFailure, owners: dict[str, str], arguments: list[str]) -> str:
    """What a failure says; when the platform has no such API, because the plugin of the command is not on there."""
    owner = next((owners[word] for word in arguments if word in owners), None)
    if failed.error_code != "APIGW.0101" or owner is None:
        return failed.message
    rows = connect().get("/v1/plugins")["plugins"]
    state = next((f"{row['state']} ({row['reason']})" for row in rows if row["name"] == owner), "not installed")
    return failed.message if state.startswith("on ") else f"the plugin '{owner}' is {state} on this platform"


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in _leaves(inner)]
    return [error]


def _fail(error: BaseException, owners: dict[str, str], arguments: list[str]) -> int:
    """Say in one line what went wrong, and return the exit code."""
    if isinstance(error, ApiFailure):
        message = _explain_missing(error, owners, arguments)
        errors.print(f"[red]refused[/] ({error.status} {error.error_code}): ", end="")
        request = f" [request {error.request_id}]" if error.request_id not in ("", "-") else ""
        errors.print(message + request, markup=False, soft_wrap=True)
        return 1
    text, code = str(error), 1
    if isinstance(error, Unreachable | ConfigError):
        code = 3 if isinstance(error, Unreachable) else 2
    elif is_full_disk(error):
        place = getattr(error, "filename", None)
        text = "no space is left on the disk" + (f": {place}" if place else "")
    elif isinstance(error, OSError):
        text = f"{error.filename}: {error.strerror}" if error.filename is not None else str(error)
    elif isinstance(error, json.JSONDecodeError):
        text = f"not valid JSON: {error}"
    errors.print(text, style="red", markup=False, soft_wrap=True)
    return code


def main() -> None:
    """Run the command line; failures become one clear line and an exit code."""
    from bottega import logs

    # What is broken is told by `bottega plugins` and by `bottega up`, not by every command.
    logs.configure(LogSettings(level="error"))
    owners: dict[str, str] = {}
    arguments = _json_first(sys.argv[1:])
    try:
        owners = _add_commands(Plugins(load_settings(), commands_only=True))
        cli(arguments)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as e:  # only what is expected ends here
        if not all(isinstance(leaf, _EXPECTED) or is_full_disk(leaf) for leaf in _leaves(e)):
            raise
        try:
            code = _fail(_leaves(e)[0], owners, arguments)
        except (ApiFailure, Unreachable) as again:
            code = _fail(again, {}, [])
        sys.exit(code)
