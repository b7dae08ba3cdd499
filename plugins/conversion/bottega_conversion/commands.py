"""``bottega conversions …``."""

from __future__ import annotations

import json
import time
from typing import Annotated, Any

import typer

from bottega import quoting
from bottega.cli_support import OPTIONS, connect, console, note, show
from bottega.client import Client
from bottega.quoting import Quote

app = typer.Typer(no_args_is_help=True, help="Convert models to other formats, checked against their source.")
BASE = "/v2/{project_id}/conversions"
_POLL_S = 0.5
_ROW = ["id", "name", "status"]
_OPEN = ("INIT", "RUNNING")
_TASK = Annotated[str, typer.Argument(metavar="CONVERSION", help="Name or id.")]


@app.command("list")
def list_tasks(
    name: Annotated[str | None, typer.Option(help="Part of the name.")] = None,
    status: Annotated[str | None, typer.Option(help="INIT, RUNNING, SUCCESS, FAILED or STOPPED.")] = None,
) -> None:
    """List the conversion tasks, newest first."""
    show(list(connect().pages(BASE, "conversions", {"name": name, "status": status})), _ROW)


@app.command()
def templates() -> None:
    """List the conversion templates and their options."""
    rows = connect().get("/v2/{project_id}/conversion-templates")["templates"]
    if not OPTIONS.as_json:
        rows = [{**row, "options": list(row["options"])} for row in rows]
    show(rows, ["id", "available", "options", "reason"])


@app.command()
def create(
    name: str,
    template: Annotated[str, typer.Option(help="Template id, see `bottega conversions templates`.")],
    input: Annotated[str, typer.Option(help="Folder with model/…, or the model itself.")],
    output: Annotated[str, typer.Option(help="Empty folder for the result.")],
    dataset_version: Annotated[
        str | None, typer.Option(help="DATASET/VERSION or version id, to calibrate and compare with.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="The same as an .npz object with arrays x and y.")] = None,
    option: Annotated[list[str] | None, typer.Option("--option", "-o", help="Advanced option, NAME=VALUE.")] = None,
    max_accuracy_loss: Annotated[float, typer.Option(help="More loss than this is not accepted.")] = 0.01,
    flavor: str | None = None,
    wait: Annotated[bool, typer.Option(help="Wait for the end; exit code 1 when it fails.")] = False,
    quote: Quote = False,
) -> None:
    """Create a conversion task."""
    client = connect()
    body = {
        "name": name,
        "template_id": template,
        "input_path": input,
        "output_path": output,
        "options": dict(_option(text) for text in option or ()),
        "data": {"dataset_version_id": _version(client, dataset_version), "path": data},
        "max_accuracy_loss": max_accuracy_loss,
        "flavor": flavor,
    }
    task = quoting.create(client, BASE, body, quote)
    if wait:
        task = _follow(client, task["id"])
    _print(task)
    if wait and task["status"] != "SUCCESS":
        raise typer.Exit(1)


@app.command("show")
def show_task(conversion: _TASK) -> None:
    """Show a task and the report of its check."""
    client = connect()
    _print(client.get(f"{BASE}/{_find(client, conversion)}"))


@app.command()
def logs(conversion: _TASK, follow: Annotated[bool, typer.Option("--follow", "-f")] = False) -> None:
    """Print the log of a task; with -f until it ends."""
    client, offset = connect(), 0
    conversion_id = _find(client, conversion)
    while True:
        chunk = client.get(f"{BASE}/{conversion_id}/log", {"offset": offset})
        console.print(chunk["text"], end="", markup=False, highlight=False)
        offset = chunk["next_offset"]
        if offset < chunk["size"]:
            continue
        if chunk["complete"] or not follow:
            return
        time.sleep(_POLL_S)


@app.command()
def stop(conversion: _TASK) -> None:
    """Stop a task that runs."""
    client = connect()
    client.post(f"{BASE}/{_find(client, conversion)}/stop")
    note(f"conversion {conversion} is being stopped")


@app.command()
def delete(conversion: _TASK) -> None:
    """Delete a task that has ended; what it wrote stays."""
    client = connect()
    client.delete(f"{BASE}/{_find(client, conversion)}")
    note(f"conversion {conversion} is deleted")


def _follow(client: Client, conversion_id: str) -> dict[str, Any]:
    with console.status("") as status:
        while True:
            task: dict[str, Any] = client.get(f"{BASE}/{conversion_id}")
            if task["status"] not in _OPEN:
                return task
            status.update(f"conversion {task['name']}: {task['status']}")
            time.sleep(_POLL_S)


def _find(client: Client, conversion: str) -> str:
    """The id of the task of that id or name."""
    named = client.pages(BASE, "conversions", {"name": conversion})
    return next((str(task["id"]) for task in named if task["name"] == conversion), conversion)


def _version(client: Client, version: str | None) -> str | None:
    """The id of the dataset version of that id or ``DATASET/VERSION``, which is its name in the registry."""
    if version is None or "/" not in version:
        return version
    query = {"plugin": "dataset", "kind": "version", "name": version}
    for found in client.get("/v1/{project_id}/resources", query)["resources"]:
        if found["name"] == version:
            return str(found["id"])
    raise typer.BadParameter(f"there is no dataset version '{version}'", param_hint="--dataset-version")


def _option(text: str) -> tuple[str, Any]:
    name, given, value = text.partition("=")
    if not given:
        raise typer.BadParameter(f"'{text}' is not NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _print(task: dict[str, Any]) -> None:
    if OPTIONS.as_json or not task["report"]:
        show(task)
        return
    show({key: value for key, value in task.items() if key != "report"})
    report = task["report"]
    accuracy = report["comparison"]["accuracy"] or {}
    rows = [
        {"measure": "size (bytes)", **report["size_bytes"]},
        {"measure": "latency p50 (ms)", **{k: v["p50"] for k, v in report["latency_ms"].items()}},
        {"measure": "latency p95 (ms)", **{k: v["p95"] for k, v in report["latency_ms"].items()}},
        {"measure": "accuracy", "before": accuracy.get("before"), "after": accuracy.get("after")},
    ]
    show(rows, ["measure", "before", "after"], title=f"{report['comparison']['rows']} rows, {report['data']}")
