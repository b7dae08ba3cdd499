"""``bottega models`` and ``bottega services``."""

from __future__ import annotations

import json
import mimetypes
import time
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer

from bottega import quoting
from bottega.cli_support import OPTIONS, connect, console, errors, note, show
from bottega.client import ApiFailure, Client, Unreachable
from bottega.quoting import Quote
from bottega_serving import naming
from bottega_serving.naming import MODELS, SERVICES

models = typer.Typer(no_args_is_help=True, help="Models: versions of what training made, ready to be served.")
services = typer.Typer(no_args_is_help=True, help="Real-time services: models that answer predictions.")

_WAITING = ("publishing", "deploying", "stopping")
_MODEL_ROW = {"model_id": "id", "model_name": "name", "model_version": "version", "model_status": "status"}
_SERVICE_ROW = {"service_id": "id", "service_name": "name", "status": "status", "invocation_times": "calls"}
_MODEL = {
    **_MODEL_ROW,
    "model_type": "type",
    "model_size": "bytes",
    "description": "description",
    "source_location": "imported from",
    "source_job_id": "training job",
    "model_labels": "labels",
    "create_at": "created",
    "error_msg": "error",
}
_SERVICE = {
    **_SERVICE_ROW,
    "failed_times": "failed calls",
    "access_address": "address",
    "description": "description",
    "publish_at": "deployed",
    "error_msg": "error",
}
_MODEL_ARGUMENT = Annotated[str, typer.Argument(metavar="MODEL", help="NAME, NAME:VERSION or id.")]
_SERVICE_ARGUMENT = Annotated[str, typer.Argument(metavar="SERVICE", help="Name or id.")]


def add_to(cli: typer.Typer) -> None:
    cli.add_typer(models, name="models")
    cli.add_typer(services, name="services")


@models.command("list")
def list_models(name: Annotated[str | None, typer.Option(help="Part of the name.")] = None) -> None:
    """List models, newest first."""
    rows = list(connect().pages(MODELS, "models", {"model_name": name}))
    show(rows, _MODEL_ROW)


@models.command("import")
def import_model(
    name: str,
    source: Annotated[str | None, typer.Argument(help="Folder that holds model/, such as s3://bucket/resnet/.")] = None,
    job: Annotated[
        str | None, typer.Option(help="Training job to import from, by name or id, instead of a folder.")
    ] = None,
    version: Annotated[str, typer.Option(help="x.y.z")] = "0.0.1",
    description: str = "",
    quote: Quote = False,
) -> None:
    """Import a model and wait until it is published."""
    client = connect()
    body = {"model_name": name, "model_version": version, "description": description}
    body |= {"source_job_id": naming.job_id(client, job)} if job else {"source_location": source or ""}
    id = quoting.create(client, MODELS, body, quote)["model_id"]
    shown = _wait(client, f"{MODELS}/{id}", "model_status", f"importing {name} {version}")
    _finish(shown, "model_status", {**_MODEL_ROW, "error_msg": "error"})
    if not shown["install_type"]:
        note(f"no runtime that is on serves {shown['model_type']} models: this one cannot be deployed as it is")


@models.command("show")
def show_model(model: _MODEL_ARGUMENT) -> None:
    """Show a model."""
    _fields(naming.model(connect(), model), _MODEL)


@models.command("delete")
def delete_model(
    model: _MODEL_ARGUMENT, cascade: Annotated[bool, typer.Option(help="All versions of its name.")] = False
) -> None:
    """Delete a model version that no service uses."""
    client = connect()
    id = naming.model_id(client, model)
    show(client.request("DELETE", f"{MODELS}/{id}", params={"cascade": str(cascade).lower()}).json())


@services.command("list")
def list_services(status: str | None = None) -> None:
    """List services, newest first."""
    rows = list(connect().pages(SERVICES, "services", {"status": status}))
    show(rows, _SERVICE_ROW)


@services.command("create")
def create_service(
    name: str,
    model: Annotated[list[str], typer.Option(help="MODEL or MODEL=WEIGHT, a MODEL being NAME, NAME:VERSION or id.")],
    specification: Annotated[str | None, typer.Option(help="Default: the first one offered.")] = None,
    stop_after_hours: Annotated[int | None, typer.Option(help="Stop by itself after so many hours.")] = None,
    quote: Quote = False,
) -> None:
    """Deploy a service and wait until it answers."""
    client = connect()
    if specification is None:
        offered = client.get(f"{SERVICES}/specifications")["specifications"]
        specification = offered[0]["specification"] if offered else ""
    config = []
    for text in model:
        chosen, _, weight = text.partition("=")
        share = int(weight) if weight.isdigit() else 100 // len(model)
        id = naming.model_id(client, chosen)
        config.append({"model_id": id, "weight": share, "specification": specification, "instance_count": 1})
    body: dict[str, Any] = {"service_name": name, "infer_type": "real-time", "config": config}
    if stop_after_hours:
        body["schedule"] = [{"type": "stop", "time_unit": "HOURS", "duration": stop_after_hours}]
    id = quoting.create(client, SERVICES, body, quote)["service_id"]
    shown = _wait(client, f"{SERVICES}/{id}", "status", f"deploying {name}")
    _finish(shown, "status", _SERVICE)


@services.command("show")
def show_service(service: _SERVICE_ARGUMENT) -> None:
    """Show a service with its versions, address and counts."""
    client = connect()
    shown = client.get(f"{SERVICES}/{naming.service_id(client, service)}")
    _fields(shown, _SERVICE)
    if not OPTIONS.as_json:
        columns = {"model_name": "model", "model_version": "version", "weight": "%", "specification": "specification"}
        show(shown["config"], columns)


@services.command("predict")
def predict(
    service: _SERVICE_ARGUMENT,
    data: Annotated[str | None, typer.Option(help="JSON, or @FILE: '{\"input\": [[1, 2]]}'.")] = None,
    file: Annotated[list[str] | None, typer.Option(help="A form field with a file: images=@picture.png.")] = None,
    path: Annotated[str, typer.Option(help="A path that the model's config.json declares.")] = "/",
) -> None:
    """Ask a service for a prediction, signed with your credentials."""
    client = connect()
    address = client.get(f"{SERVICES}/{naming.service_id(client, service)}").get("access_address")
    if not address:
        errors.print("the service does not run; start it with: bottega services start " + service)
        raise typer.Exit(1)
    url = address + (path if path != "/" else "")
    try:
        if file:
            forms = [_form_file(entry) for entry in file]
            answer = client.http.post(url, files=forms)
        else:
            text = data or "{}"
            content = _read(text[1:], "--data") if text.startswith("@") else text.encode()
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
def stop_service(service: _SERVICE_ARGUMENT) -> None:
    """Stop a service."""
    _turn(service, "stopped")


@services.command("start")
def start_service(service: _SERVICE_ARGUMENT) -> None:
    """Start a stopped service again."""
    _turn(service, "running")


@services.command("delete")
def delete_service(service: _SERVICE_ARGUMENT) -> None:
    """Delete a service; its models stay."""
    client = connect()
    client.delete(f"{SERVICES}/{naming.service_id(client, service)}")
    note("deleted")


@services.command("logs")
def service_logs(
    service: _SERVICE_ARGUMENT,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on until interrupted.")] = False,
) -> None:
    """Show what a service's processes have printed."""
    client, offset = connect(), 0
    id = naming.service_id(client, service)
    while True:
        part = client.get(f"{SERVICES}/{id}/logs/preview", {"offset": offset})
        console.print(part["content"], end="", markup=False, highlight=False)
        more = part["end_byte"] < part["current_size"]
        if not more and (part["complete"] or not follow):
            return
        if not more:
            time.sleep(1)
        offset = part["end_byte"]


def _turn(service: str, status: str) -> None:
    client = connect()
    id = naming.service_id(client, service)
    client.put(f"{SERVICES}/{id}", {"status": status})
    shown = _wait(client, f"{SERVICES}/{id}", "status", f"waiting until {status}")
    _finish(shown, "status", _SERVICE)


def _wait(client: Client, path: str, key: str, doing: str) -> dict[str, Any]:
    with console.status(doing) if not OPTIONS.as_json else errors.status(doing):
        while True:
            shown: dict[str, Any] = client.get(path)
            if shown[key] not in _WAITING:
                return shown
            time.sleep(0.3)


def _fields(shown: dict[str, Any], fields: dict[str, str]) -> None:
    """Those of `fields` that have a value, or with ``--json`` everything."""
    show(shown, {key: heading for key, heading in fields.items() if shown.get(key) not in (None, "", [])})


def _finish(shown: dict[str, Any], key: str, fields: dict[str, str]) -> None:
    _fields(shown, fields)
    if shown[key] == "failed":
        raise typer.Exit(1)


def _form_file(entry: str) -> tuple[str, tuple[str, bytes, str]]:
    field, _, name = entry.partition("=@")
    if not name:
        raise typer.BadParameter(f"'{entry}' is not FIELD=@FILE")
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    return field, (Path(name).name, _read(name, "--file"), kind)


def _read(name: str, option: str) -> bytes:
    try:
        return Path(name).read_bytes()
    except OSError as problem:
        raise typer.BadParameter(f"cannot read '{name}': {problem.strerror}", param_hint=option) from problem
