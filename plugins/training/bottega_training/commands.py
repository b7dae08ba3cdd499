"""``bottega jobs …``."""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from bottega import quoting
from bottega.cli_support import OPTIONS, connect, console, note, show
from bottega.client import Client
from bottega.quoting import Quote

app = typer.Typer(no_args_is_help=True, help="Training jobs.")
_JOBS = "/v2/{project_id}/training-jobs"
_TASK = "worker-0"
_FINAL = {"Completed": 0, "Failed": 1, "Terminated": 1, "Abnormal": 1}
_POLL_S = 0.5
_ROW = {
    "metadata.id": "id",
    "metadata.name": "name",
    "status.phase": "phase",
    "evaluation.accuracy": "accuracy",
}
_FIELDS = {
    **_ROW,
    "algorithm.engine.engine_id": "engine",
    "spec.resource.flavor_id": "flavor",
    "metadata.create_time": "created",
}
_ID = Annotated[str, typer.Argument(help="The job's id or name.")]


@app.command(name="list")
def list_jobs(
    name: Annotated[str | None, typer.Option(help="Part of the name.")] = None,
    phase: Annotated[str | None, typer.Option(help="Running, Completed, Failed, …")] = None,
) -> None:
    """List jobs, the newest first."""
    show(list(connect().pages(_JOBS, "items", {"name": name, "phase": phase}, limit=50)), _ROW)


@app.command()
def create(
    name: Annotated[str | None, typer.Option(help="Letters, digits, '-' and '_', up to 64.")] = None,
    engine: Annotated[str | None, typer.Option(help="Engine id or name; see `bottega jobs engines`.")] = None,
    code: Annotated[str | None, typer.Option(help="Code folder: s3://bucket/folder/")] = None,
    boot: Annotated[str | None, typer.Option(help="Boot file in the code folder: train.py")] = None,
    flavor: Annotated[str | None, typer.Option(help="Flavor; see `bottega jobs flavors`.")] = None,
    data: Annotated[list[str] | None, typer.Option(help="Input: NAME=s3://… or NAME=DATASET/VERSION")] = None,
    output: Annotated[list[str] | None, typer.Option(help="Output: NAME=s3://bucket/folder/")] = None,
    param: Annotated[list[str] | None, typer.Option(help="Hyperparameter: NAME=VALUE")] = None,
    env: Annotated[list[str] | None, typer.Option(help="Environment variable: NAME=VALUE")] = None,
    log_path: Annotated[str | None, typer.Option(help="Folder for the log.")] = None,
    notify: Annotated[str | None, typer.Option(help="URN of a topic that is told how the job goes.")] = None,
    notify_on: Annotated[
        list[str] | None, typer.Option(help="What it is told: JobStarted, JobCompleted, JobFailed …; else all.")
    ] = None,
    description: str = "",
    file: Annotated[Path | None, typer.Option(help="The whole request as JSON instead of the options.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Show the log until the job ends.")] = False,
    quote: Quote = False,
) -> None:
    """Create a job; it starts at once."""
    if file is not None:
        body = _request(file)
        client = connect()
    else:
        if not (name and engine and code and boot and flavor):
            raise typer.BadParameter("give --name, --engine, --code, --boot and --flavor, or --file")
        client = connect()
        body = {
            "kind": "job",
            "metadata": {"name": name, "description": description},
            "algorithm": {
                "engine": {"engine_id": engine},
                "code_dir": code,
                "boot_file": boot,
                "parameters": [{"name": k, "value": v} for k, v in map(_pair, param or ())],
                "inputs": [{"name": k, "remote": _remote(client, v)} for k, v in map(_pair, data or ())],
                "outputs": [{"name": k, "remote": {"obs": {"obs_url": v}}} for k, v in map(_pair, output or ())],
                "environments": dict(map(_pair, env or ())),
            },
            "spec": {
                "resource": {"flavor_id": flavor, "node_count": 1},
                **({"log_export_path": {"obs_url": log_path}} if log_path else {}),
                **({"notification": {"topic_urn": notify, "events": notify_on or []}} if notify else {}),
            },
        }
    job = quoting.create(client, _JOBS, body, quote)
    if not follow:
        show(job, _FIELDS)
        return
    note(f"job {job['metadata']['id']}")
    _follow(client, job["metadata"]["id"])


@app.command(name="show")
def show_job(job: _ID) -> None:
    """Show one job."""
    client = connect()
    found = client.get(f"{_JOBS}/{_find(client, job)}")
    if OPTIONS.as_json:
        show(found)
        return
    fields = {**_FIELDS, "status.duration": "duration ms"}
    for number, output in enumerate(found["algorithm"]["outputs"]):
        found[f"output {number}"] = output["remote"]["obs"]["obs_url"]
        fields[f"output {number}"] = f"output {output['name']}"
    for name, value in found["metrics"].items():
        if name != "accuracy":  # among the fields already
            found[f"metric {name}"] = f"{value:.4g}" if isinstance(value, float) else value
            fields[f"metric {name}"] = name
    show(found, fields)


@app.command()
def logs(
    job: _ID, follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job ends.")] = False
) -> None:
    """Print a job's log. With -f the exit code is 0 when the job completed, 1 when it did not."""
    client = connect()
    found = _find(client, job)
    if follow:
        _follow(client, found)
    else:
        sys.stdout.write(client.get(f"{_JOBS}/{found}/tasks/{_TASK}/logs/preview")["content"])


@app.command()
def stop(job: _ID) -> None:
    """Stop a job that runs."""
    client = connect()
    stopped = client.post(f"{_JOBS}/{_find(client, job)}/actions", {"action_type": "terminate"})
    show(stopped, _FIELDS)


@app.command()
def delete(job: _ID) -> None:
    """Delete a job, ending it first when it runs. What it wrote to object storage stays."""
    client = connect()
    client.delete(f"{_JOBS}/{_find(client, job)}")
    note("deleted")


@app.command()
def metrics(job: _ID) -> None:
    """Show what the script reported while it learned, and the job's resource use."""
    client = connect()
    found = _find(client, job)
    scalars = client.get(f"{_JOBS}/{found}/scalars")["scalars"]
    used = client.get(f"{_JOBS}/{found}/metrics/{_TASK}")["metrics"]
    if OPTIONS.as_json:
        show({"scalars": scalars, "metrics": used})
        return
    rows = [{"name": s["name"], "points": len(s["points"]), "last": s["points"][-1][1]} for s in scalars]
    show(rows, ["name", "points", "last"], title="reported")
    show(
        [{"name": u["metric"], "points": len(u["value"]), "last": u["value"][-1]} for u in used],
        ["name", "points", "last"],
        title="resource use, percent, a point a minute",
    )


@app.command()
def evaluation(job: _ID) -> None:
    """Show how well the job's model did: figures, labels and the confusion matrix."""
    client = connect()
    found = client.get(f"{_JOBS}/{_find(client, job)}/evaluation")
    if OPTIONS.as_json:
        show(found)
        return
    show({name: f"{found[name]:.4f}" for name in ("accuracy", "precision", "recall", "f1")})
    labels = [{k: f"{v:.4f}" if isinstance(v, float) else v for k, v in label.items()} for label in found["labels"]]
    show(labels, ["label", "precision", "recall", "f1", "support", "misrecognized"])
    matrix = Table(title="rows: true label, columns: predicted")
    matrix.add_column("")
    for label in found["labels"]:
        matrix.add_column(label["label"], justify="right")
    for label, row in zip(found["labels"], found["confusion_matrix"], strict=True):
        matrix.add_row(f"[bold]{label['label']}", *(str(count) if count else "·" for count in row))
    console.print(matrix)


@app.command()
def engines() -> None:
    """List the engines: which are installed and how to get the others."""
    found = connect().get("/v2/{project_id}/training-job-engines")["items"]
    show(found, {"engine_id": "engine", "installed": "installed", "reason": "how to get it"})


@app.command()
def flavors() -> None:
    """List the sizes of machine a job can run on."""
    found = connect().get("/v2/{project_id}/training-job-flavors")["flavors"]
    info = "flavor_info."
    show(
        found,
        {
            "flavor_id": "flavor",
            "flavor_type": "type",
            f"{info}cpu.core_num": "cores",
            f"{info}memory.size": "memory MB",
            f"{info}gpu.unit_num": "GPUs",
            "attributes.backend": "backend",
        },
    )


def _find(client: Client, job: str) -> str:
    """The id of the job of that id or name."""
    for found in client.pages(_JOBS, "items", {"name": job}, limit=50):
        if found["metadata"]["name"] == job:
            return str(found["metadata"]["id"])
    return job


def _follow(client: Client, job_id: str) -> None:
    """Print the log as it grows until the job ends; ends the program with 1 unless it completed."""
    offset, last_phase = 0, ""
    while True:
        status = client.get(f"{_JOBS}/{job_id}")["status"]
        part = client.get(f"{_JOBS}/{job_id}/tasks/{_TASK}/logs/preview", {"offset": offset})
        sys.stdout.write(part["content"])
        sys.stdout.flush()
        offset = part["next_offset"]
        if status["phase"] != last_phase:
            note(f"[dim]{status['phase']}[/]")
            last_phase = status["phase"]
        if status["phase"] in _FINAL and part["complete"]:
            failed = _FINAL[status["phase"]]
            if failed:
                note(f"[red]{status['task_statuses'][0]['message']}[/]")
            raise typer.Exit(failed)
        time.sleep(_POLL_S)


@app.command()
def example(
    name: Annotated[str, typer.Argument(help="digits_cnn (PyTorch) or iris_sklearn (scikit-learn).")],
    folder: Annotated[Path, typer.Argument(help="Where to write it.")],
) -> None:
    """Write the code of an example job to a folder, ready to be stored and run."""
    examples = {p.name: p for p in (Path(__file__).parent / "examples").iterdir() if (p / "train.py").exists()}
    if name not in examples:
        raise typer.BadParameter(f"there is no example '{name}'; there are: {', '.join(sorted(examples))}")
    if folder.exists() and not folder.is_dir():
        raise typer.BadParameter(f"'{folder}' is a file; name a folder")
    folder.mkdir(parents=True, exist_ok=True)
    for file in examples[name].glob("*.py"):
        shutil.copy(file, folder / file.name)
        note(str(folder / file.name))


def _pair(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign:
        raise typer.BadParameter(f"'{text}' must be NAME=VALUE")
    return name, value


def _request(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes())
    except OSError as problem:
        raise typer.BadParameter(f"cannot read '{file}': {problem.strerror}", param_hint="--file") from problem
    except ValueError as problem:
        raise typer.BadParameter(f"'{file}' is not JSON: {problem}", param_hint="--file") from problem


def _remote(client: Client, text: str) -> dict[str, Any]:
    if text.startswith(("s3://", "obs://", "/")):
        return {"obs": {"obs_url": text}}
    dataset, slash, version = text.partition("/")
    if not (dataset and slash and version):
        raise typer.BadParameter(f"'{text}' must be s3://… or DATASET/VERSION")
    # The registry names a published version DATASET/VERSION; ids match none and are sent as they are.
    query = {"plugin": "dataset", "kind": "version", "name": text}
    for found in client.get("/v1/{project_id}/resources", query)["resources"]:
        if found["name"] == text:
            return {"dataset": {"id": found["properties"]["dataset_id"], "version_id": found["id"]}}
    return {"dataset": {"id": dataset, "version_id": version}}
