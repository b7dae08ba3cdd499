"""The command line ``bottega``: the core's commands and those the plugins bring."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from bottega.cli_support import OPTIONS, connect, console, errors, note, show
from bottega.client import ApiFailure, Unreachable
from bottega.errors import BottegaError, ConfigError, NotFound
from bottega.plugins import Plugins
from bottega.settings import LogSettings, load_settings

cli = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Bottega, an open AI platform.",
)
events = typer.Typer(no_args_is_help=True, help="Follow events, and care for those no handler could process.")
dead = typer.Typer(no_args_is_help=True, help="Events a handler could not process.")
cli.add_typer(events, name="events")
events.add_typer(dead, name="dead")


@cli.callback()
def options(
    credentials: Annotated[
        Path | None, typer.Option(help="credentials.json of the platform (default: $BOTTEGA_CREDENTIALS).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    OPTIONS.credentials, OPTIONS.as_json = credentials, as_json


@cli.command()
def up(
    data_dir: Annotated[Path | None, typer.Option(help="Where everything is kept.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    config: Annotated[Path | None, typer.Option(help="bottega.toml to read.")] = None,
) -> None:
    """Start the platform; Ctrl-C or SIGTERM stops it with everything it started."""
    from bottega.server import serve

    server = {k: v for k, v in (("port", port), ("host", host)) if v is not None}
    serve(config, {**({"data_dir": str(data_dir)} if data_dir else {}), "server": server})


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

    settings = load_settings(config)
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


@cli.command(name="can-i")
def can_i(action: str, resource: Annotated[str, typer.Argument()] = "*", user: str | None = None) -> None:
    """Ask whether ACTION on RESOURCE is allowed, and which statement decides; exit code 1 when it is not."""
    answer = connect().post(
        "/v1/{project_id}/permissions/check", {"action": action, "resource": resource, "user": user}
    )
    if OPTIONS.as_json:
        show(answer)
    else:
        console.print(("[green]yes[/]: " if answer["allowed"] else "[red]no[/]: "), end="")
        console.print(answer["explanation"], markup=False)
    if not answer["allowed"]:
        raise typer.Exit(1)


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
    since: Annotated[int | None, typer.Option(help="From this epoch millisecond on.")] = None,
    follow: Annotated[bool, typer.Option(help="Wait for further events.")] = True,
) -> None:
    """Print the project's events as they happen."""
    params: dict[str, Any] = {"type": type, "follow": follow} | ({"since": since} if since is not None else {})
    for event in connect().lines("/v1/{project_id}/events", params):
        if OPTIONS.as_json:
            sys.stdout.write(json.dumps(event) + "\n")
        else:
            console.print(f"[dim]{event['time'][11:23]}[/] [bold]{event['type']}[/] {event['data']}", highlight=False)


@events.command()
def schema(
    type: Annotated[str | None, typer.Argument(help="Print the JSON Schema of this event only.")] = None,
) -> None:
    """Print what the installed plugins say as an AsyncAPI document; needs no running platform."""
    from importlib.metadata import version

    from bottega import asyncapi
    from bottega.runtime import CORE_EVENTS

    found = [*CORE_EVENTS, *(e for p in Plugins(load_settings()).on() for e in p.events_out)]
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
    note(f"{file} is good for {days} days; see docs/events.md for what to do with it")


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


def main() -> None:
    """Run the command line; failures become one clear line and an exit code."""
    from bottega import logs

    # What is broken is told by `bottega plugins` and by `bottega up`, not by every command.
    logs.configure(LogSettings(level="error"))
    try:
        found = Plugins(load_settings(), commands_only=True)
        for plugin in found.on():
            found.call(plugin, "bottega_commands", cli=cli)
        cli(_json_first(sys.argv[1:]))
    except ApiFailure as e:
        errors.print(f"[red]refused[/] ({e.status} {e.error_code}): ", end="")
        errors.print(f"{e.message} [request {e.request_id}]", markup=False)
        sys.exit(1)
    except (Unreachable, ConfigError) as e:
        errors.print(str(e), style="red", markup=False)
        sys.exit(3 if isinstance(e, Unreachable) else 2)
    except BottegaError as e:
        errors.print(str(e), style="red", markup=False)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
