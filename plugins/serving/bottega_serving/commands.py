"""``bottega models`` and ``bottega services``."""

from __future__ import annotations

import json
import mimetypes
import time
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer

from bottega.cli_support import OPTIONS, connect, console, errors, note, show
from bottega.client import ApiFailure, Client, Unreachable

models = typer.Typer(no_args_is_help=True, help="Models: versions of what training made, ready to be served.")
services = typer.Typer(no_args_is_help=True, help="Real-time services: models that answer predictions.")

_MODELS = "/v1/{project_id}/models"
_SERVICES = "/v1/{project_id}/services"
_WAITING = ("publishing", "deploying", "stopping")


def add_to(cli: typer.Typer) -> None:
    cli.add_typer(models, name="models")
    cli.add_typer(services, name="services")


@models.command("list")
def list_models(name: Annotated[str | None, typer.Option(help="Part of the name.")] = None) -> None:
    """List models, newest first."""
    rows = list(connect().pages(_MODELS, "models", {"model_name": name}))
    show(rows, ["model_id", "model_name", "model_version", "model_type", "model_status", "model_size", "create_at"])


@models.command("import")
def import_model(
    name: str,
    source: Annotated[str | None, typer.Argument(help="Folder that holds model/, such as s3://bucket/resnet/.")] = None,
    job: Annotated[str | None, typer.Option(help="Training job to take the model from, instead of a folder.")] = None,
    version: Annotated[str, typer.Option(help="x.y.z")] = "0.0.1",
    description: str = "",
) -> None:
    """Import a model and wait until it is published."""
    client = connect()
    body = {"model_name": name, "model_version": version, "description": description}
    body |= {"source_job_id": job} if job else {"source_location": source or ""}
    id = client.post(_MODELS, body)["model_id"]
    shown = _wait(client, f"{_MODELS}/{id}", "model_status", f"importing {name} {version}")
    _finish(shown, "model_status", ["model_id", "model_name", "model_version", "model_status", "error_msg"])


@models.command("show")
def show_model(model_id: str) -> None:
    """Show a model."""
    show(connect().get(f"{_MODELS}/{model_id}"))


@models.command("delete")
def delete_model(
    model_id: str, cascade: Annotated[bool, typer.Option(help="All versions of its name.")] = False
) -> None:
    """Delete a model version that no service uses."""
    show(connect().request("DELETE", f"{_MODELS}/{model_id}", params={"cascade": str(cascade).lower()}).json())


@services.command("list")
def list_services(status: str | None = None) -> None:
    """List services, newest first."""
    rows = list(connect().pages(_SERVICES, "services", {"status": status}))
    show(rows, ["service_id", "service_name", "status", "invocation_times", "failed_times", "publish_at"])


@services.command("create")
def create_service(
    name: str,
    model: Annotated[list[str], typer.Option(help="MODEL_ID or MODEL_ID=WEIGHT; several share the traffic.")],
    specification: Annotated[str | None, typer.Option(help="Default: the first one offered.")] = None,
    stop_after_hours: Annotated[int | None, typer.Option(help="Stop by itself after so many hours.")] = None,
) -> None:
    """Deploy a service and wait until it answers."""
    client = connect()
    if specification is None:
        offered = client.get(f"{_SERVICES}/specifications")["specifications"]
        specification = offered[0]["specification"] if offered else ""
    config = []
    for text in model:
        id, _, weight = text.partition("=")
        share = int(weight) if weight.isdigit() else 100 // len(model)
        config.append({"model_id": id, "weight": share, "specification": specification, "instance_count": 1})
    body: dict[str, Any] = {"service_name": name, "infer_type": "real-time", "config": config}
    if stop_after_hours:
        body["schedule"] = [{"type": "stop", "time_unit": "HOURS", "duration": stop_after_hours}]
    id = client.post(_SERVICES, body)["service_id"]
    shown = _wait(client, f"{_SERVICES}/{id}", "status", f"deploying {name}")
    _finish(shown, "status", ["service_id", "service_name", "status", "access_address", "error_msg"])


@services.command("show")
def show_service(service_id: str) -> None:
    """Show a service with its versions, address and counts."""
    show(connect().get(f"{_SERVICES}/{service_id}"))


@services.command("predict")
def predict(
    service_id: str,
    data: Annotated[str | None, typer.Option(help="JSON, or @FILE: '{\"input\": [[1, 2]]}'.")] = None,
    file: Annotated[list[str] | None, typer.Option(help="A form field with a file: images=@picture.png.")] = None,
    path: Annotated[str, typer.Option(help="A path that the model's config.json declares.")] = "/",
) -> None:
    """Ask a service for a prediction, signed with your credentials."""
    client = connect()
    address = client.get(f"{_SERVICES}/{service_id}").get("access_address")
    if not address:
        errors.print("the service does not run; start it with: bottega services start " + service_id)
        raise typer.Exit(1)
    url = address + (path if path != "/" else "")
    try:
        if file:
            forms = [_form_file(entry) for entry in file]
            answer = client.http.post(url, files=forms)
        else:
            text = data or "{}"
            content = Path(text[1:]).read_bytes() if text.startswith("@") else text.encode()
            answer = client.http.post(url, content=content, headers={"Content-Type": "application/json"})
    except httpx.TransportError as problem:
        raise Unreachable(f"cannot reach {url}: {problem}") from problem
    body = answer.json()
    if answer.status_code >= 400:
        told = (body.get("error_code", ""), body.get("error_msg", ""))
        raise ApiFailure(answer.status_code, *told, answer.headers.get("x-request-id", ""))
    note(f"answered by version {answer.headers.get('x-model-version')}")
    if OPTIONS.as_json:
        show(body)
    else:
        console.print_json(json.dumps(body))


@services.command("stop")
def stop_service(service_id: str) -> None:
    """Stop a service."""
    _turn(service_id, "stopped")


@services.command("start")
def start_service(service_id: str) -> None:
    """Start a stopped service again."""
    _turn(service_id, "running")


@services.command("delete")
def delete_service(service_id: str) -> None:
    """Delete a service; its models stay."""
    connect().delete(f"{_SERVICES}/{service_id}")
    note("deleted")


@services.command("logs")
def service_logs(
    service_id: str, follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on until interrupted.")] = False
) -> None:
    """Show what a service's processes have printed."""
    client, offset = connect(), 0
    while True:
        part = client.get(f"{_SERVICES}/{service_id}/logs/preview", {"offset": offset})
        console.print(part["content"], end="", markup=False, highlight=False)
        more = part["end_byte"] < part["current_size"]
        if not more and (part["complete"] or not follow):
            return
        if not more:
            time.sleep(1)
        offset = part["end_byte"]


def _turn(service_id: str, status: str) -> None:
    client = connect()
    client.put(f"{_SERVICES}/{service_id}", {"status": status})
    shown = _wait(client, f"{_SERVICES}/{service_id}", "status", f"waiting until {status}")
    _finish(shown, "status", ["service_id", "service_name", "status", "access_address", "error_msg"])


def _wait(client: Client, path: str, key: str, doing: str) -> dict[str, Any]:
    with console.status(doing) if not OPTIONS.as_json else errors.status(doing):
        while True:
            shown: dict[str, Any] = client.get(path)
            if shown[key] not in _WAITING:
                return shown
            time.sleep(0.3)


def _finish(shown: dict[str, Any], key: str, columns: list[str]) -> None:
    show(shown, columns)
    if shown[key] == "failed":
        raise typer.Exit(1)


def _form_file(entry: str) -> tuple[str, tuple[str, bytes, str]]:
    field, _, name = entry.partition("=@")
    if not name:
        raise typer.BadParameter(f"'{entry}' is not FIELD=@FILE")
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    return field, (Path(name).name, Path(name).read_bytes(), kind)
