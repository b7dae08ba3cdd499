"""``bottega notebooks …``."""

from __future__ import annotations

import subprocess
import sys
import time
import webbrowser
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from bottega import quoting
from bottega.cli_support import OPTIONS, connect, console, note, show
from bottega.client import ApiFailure, Client
from bottega.quoting import Quote

app = typer.Typer(no_args_is_help=True, help="JupyterLab instances.")
BASE = "/v1/{project_id}/notebooks"
_COLUMNS = ["id", "name", "status", "flavor", "fail_reason", "create_at"]
_HOUR_MS = 3_600_000
_POLL_S = 0.3
Instance = Annotated[str, typer.Argument(help="Name or id of the notebook.")]
Hours = Annotated[int, typer.Option(min=1, max=72, help="Stopped by itself after so many hours.")]
Wait = Annotated[bool, typer.Option(help="Wait until it runs, or has stopped.")]


@app.command("list")
def list_notebooks(status: Annotated[str | None, typer.Option(help="RUNNING, STOPPED, …")] = None) -> None:
    """List the notebooks, newest first."""
    show(list(connect().pages(BASE, "data", {"status": status})), _COLUMNS)


@app.command()
def create(
    name: str,
    flavor: Annotated[str | None, typer.Option(help="Size of machine.")] = None,
    description: str = "",
    hours: Hours = 1,
    allow: Annotated[
        list[str] | None, typer.Option(help="Address, network or range (first-last) it is opened from; else from all.")
    ] = None,
    key_pair: Annotated[
        list[str] | None, typer.Option(help="A key pair of yours (`keypairs`) that opens it over SSH, too.")
    ] = None,
    wait: Wait = True,
    quote: Quote = False,
) -> None:
    """Create and start a notebook."""
    client = connect()
    body: dict[str, Any] = {"name": name, "flavor": flavor, "description": description, "duration": hours * _HOUR_MS}
    body |= {"endpoints": _endpoints(allow or [], key_pair or [])} if allow or key_pair else {}
    _finish(client, quoting.create(client, BASE, body, quote), "RUNNING", wait)


@app.command()
def start(notebook: Instance, hours: Hours = 1, wait: Wait = True) -> None:
    """Start a stopped notebook; its files are as they were."""
    client = connect()
    path = f"{BASE}/{_id(client, notebook)}/start?duration={hours * _HOUR_MS}"
    _finish(client, client.post(path), "RUNNING", wait)


@app.command()
def stop(notebook: Instance, wait: Wait = True) -> None:
    """Stop a running notebook."""
    client = connect()
    _finish(client, client.post(f"{BASE}/{_id(client, notebook)}/stop"), "STOPPED", wait)


@app.command("open")
def open_notebook(
    notebook: Instance, browser: Annotated[bool, typer.Option(help="Open it in a browser, too.")] = True
) -> None:
    """Print a link into a running notebook that is good for a minute, and open it."""
    client = connect()
    link = client.post(f"{BASE}/{_id(client, notebook)}/open")
    if OPTIONS.as_json:
        show(link)
        return
    sys.stdout.write(f"{link['url']}\n")
    if browser and sys.stdout.isatty():
        webbrowser.open(link["url"])


@app.command()
def allow(
    notebook: Instance,
    addresses: Annotated[list[str] | None, typer.Argument(help="Addresses, networks or ranges; none: all.")] = None,
) -> None:
    """Say from which addresses a notebook is opened."""
    client = connect()
    present = client.get(f"{BASE}/{_id(client, notebook)}")
    pairs = [name for endpoint in present["endpoints"] for name in endpoint["key_pair_names"]]
    _reach(client, present, addresses or [], pairs)


@app.command("key-pairs")
def choose_key_pairs(
    notebook: Instance,
    names: Annotated[list[str] | None, typer.Argument(help="Key pairs of yours; none: not over SSH.")] = None,
) -> None:
    """Say which key pairs open a notebook over SSH. One that ran without any has to be started anew."""
    client = connect()
    present = client.get(f"{BASE}/{_id(client, notebook)}")
    _reach(client, present, present["endpoints"][0]["allowed_access_ips"], names or [])


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def ssh(
    context: typer.Context,
    notebook: Instance,
    identity: Annotated[str | None, typer.Option("--identity", "-i", help="File of the private key.")] = None,
) -> None:
    """Open a shell in a running notebook, or run the COMMAND that follows, by the machine's own ssh."""
    client = connect()
    shown = client.get(f"{BASE}/{_id(client, notebook)}")
    place = next((e["uri"] for e in shown["endpoints"] if e["service"] == "SSH"), "")
    if OPTIONS.as_json:
        show({"uri": place})
    elif not place:
        raise ApiFailure(409, "ModelArts.0105", f"it is {shown['status']}, or no key pair opens it", "-")
    else:
        url = urlsplit(place)
        known = ["-i", identity] if identity else []
        command = ["ssh", *known, "-p", str(url.port), f"{url.username}@{url.hostname}", *context.args]
        raise typer.Exit(subprocess.run(command, check=False).returncode)


@app.command()
def delete(notebook: Instance) -> None:
    """Delete a stopped notebook."""
    client = connect()
    client.delete(f"{BASE}/{_id(client, notebook)}")
    note(f"notebook {notebook} is deleted")


@app.command()
def run(notebook: Instance, code: str) -> None:
    """Run CODE in a fresh kernel of a running notebook and print what it prints; exit code 1 when it raises."""
    from bottega_notebook.cell import run_cell

    client = connect()
    result = run_cell(client, _id(client, notebook), code, on_output=None if OPTIONS.as_json else _print_piece)
    if OPTIONS.as_json:
        show({"ok": result.ok, "text": result.text})
    if not result.ok:
        raise typer.Exit(1)


def _endpoints(addresses: list[str], key_pairs: list[str]) -> list[dict[str, Any]]:
    ssh = {"service": "SSH", "key_pair_names": key_pairs}
    return [{"service": "NOTEBOOK", "allowed_access_ips": addresses}, *([ssh] if key_pairs else [])]


def _reach(client: Client, notebook: dict[str, Any], addresses: list[str], key_pairs: list[str]) -> None:
    changed = client.put(f"{BASE}/{notebook['id']}", {"endpoints": _endpoints(addresses, key_pairs)})
    show(changed["endpoints"], ["service", "allowed_access_ips", "key_pair_names", "uri"])


def _print_piece(piece: str) -> None:
    sys.stdout.write(piece)
    sys.stdout.flush()


def _id(client: Client, notebook: str) -> str:
    """The id of a notebook given by id or exact name."""
    for row in client.pages(BASE, "data", {"name": notebook}):
        if row["name"] == notebook:
            return str(row["id"])
    return str(client.get(f"{BASE}/{notebook}")["id"])


def _finish(client: Client, instance: dict[str, Any], goal: str, wait: bool) -> None:
    with console.status("") as status:
        while wait and instance["status"] in ("CREATING", "STARTING", "STOPPING"):
            status.update(f"notebook {instance['name']}: {instance['status']}")
            time.sleep(_POLL_S)
            instance = client.get(f"{BASE}/{instance['id']}")
    show(instance if OPTIONS.as_json else {key: instance[key] for key in (*_COLUMNS, "url")})
    if wait and instance["status"] != goal:
        raise ApiFailure(409, "ModelArts.0105", f"it is {instance['status']}: {instance['fail_reason']}", "-")
