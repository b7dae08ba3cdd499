"""``bottega datasets``: datasets from the command line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from bottega.cli_support import OPTIONS, connect, console, note, show
from bottega_dataset import labeling_commands, version_commands
from bottega_dataset.client import Datasets
from bottega_dataset.client import Progress as Follow
from bottega_dataset.labeling_commands import Where, conditions_of
from bottega_dataset.sample import LABELED
from bottega_dataset.team.commands import team_tasks
from bottega_dataset.version_commands import failing, waiting

datasets = typer.Typer(no_args_is_help=True, help="Datasets: samples, labels, versions.")
datasets.add_typer(team_tasks, name="team-tasks")
labeling_commands.add_to(datasets)
version_commands.add_to(datasets)
_TYPES = {"image": 0, "text": 100}
_COLUMNS = {
    "dataset_name": "name",
    "dataset_type": "type",
    "total_sample_count": "samples",
    "annotated_sample_count": "labeled",
    "current_version_name": "version",
    "create_time": "created",
    "dataset_id": "id",
}


@datasets.command("list")
def list_datasets(contains: Annotated[str | None, typer.Option(help="Part of the name.")] = None) -> None:
    """List the project's datasets."""
    show([_named(row) for row in Datasets(connect()).list(contains)], _COLUMNS)


@datasets.command("types")
def list_types() -> None:
    """List the types of datasets there are: what they hold, and how a folder is read."""
    rows = Datasets(connect()).types()
    for row in () if OPTIONS.as_json else rows:
        row["holds"] = " ".join(row["suffixes"]) or "anything"
    show(rows, {"dataset_type": "type", "name": "name", "holds": "holds", "layout": "folder"})


@datasets.command("create")
def create(
    name: str,
    output: Annotated[str, typer.Option(help="Folder for what the dataset publishes: s3://bucket/folder/.")],
    input: Annotated[str | None, typer.Option(help="Folder whose samples are imported at once.")] = None,
    type: Annotated[str, typer.Option(help="image, text, or the name or number of a type (`types`).")] = "image",
    label: Annotated[list[str] | None, typer.Option(help="A label; may be given several times.")] = None,
    description: str = "",
) -> None:
    """Create a dataset and import what lies in its input folder."""
    service = Datasets(connect())
    code = int(type) if type.isdecimal() else _TYPES.get(type)
    if code is None:
        offered = {one["name"]: one["dataset_type"] for one in service.types()}
        if type.replace("-", "_") not in offered:
            names = ", ".join([*_TYPES, *offered])
            raise typer.BadParameter(f"must be one of {names}, or a number", param_hint="--type")
        code = offered[type.replace("-", "_")]
    made = service.create(
        name,
        output,
        data_path=input,
        dataset_type=code,
        labels={one: {} for one in label or ()},
        description=description,
    )
    if made["import_task_id"]:
        with _following(f"import {input}") as follow:
            _report(service, name, service.wait_import(name, made["import_task_id"], follow))
    show(service.get(name), _COLUMNS)


@datasets.command("modify")
def modify(
    name: str,
    new_name: Annotated[str | None, typer.Option("--name", help="Its name from now on.")] = None,
    description: Annotated[str | None, typer.Option(help="Its description from now on.")] = None,
) -> None:
    """Give a dataset another name or description."""
    if new_name is None and description is None:
        raise typer.BadParameter("say what to change: --name or --description")
    service = Datasets(connect())
    changes = {"dataset_name": new_name, "description": description}
    service.modify(name, **{key: value for key, value in changes.items() if value is not None})
    show(_named(service.get(new_name or name)), [*_COLUMNS, "description"])


@datasets.command("show")
def show_dataset(
    name: str,
    samples: Annotated[int, typer.Option(help="Also show this many samples.")] = 0,
    label: Annotated[str | None, typer.Option(help="Only samples that bear it.")] = None,
    unlabeled: Annotated[bool, typer.Option(help="Only samples without labels.")] = False,
) -> None:
    """Show a dataset, its labels and, if asked, some samples."""
    service = Datasets(connect())
    shown = service.get(name)
    shown["label_stats"] = service.statistics(name)["label_stats"]
    wanted = service.samples(name, label=label, labeled=False if unlabeled else None)
    rows = [row for row, _ in zip(wanted, range(samples), strict=False)]
    if OPTIONS.as_json:
        show(shown | ({"samples": rows} if samples else {}))
        return
    show(_named(shown), [*_COLUMNS, "description", "work_path"])
    show(shown["label_stats"], {"name": "label", "sample_count": "samples", "property": "property"})
    if samples:
        for row in rows:
            row["text_or_name"] = (row["sample_data"] or [row["sample_name"]])[0][:80]
            row["label_names"] = [one["name"] for one in row["labels"]]
        show(rows, {"sample_id": "id", "text_or_name": "sample", "label_names": "labels", "sample_size": "bytes"})


@datasets.command("import")
def import_samples(
    name: str,
    path: Annotated[str, typer.Argument(help="A folder or manifest in object storage, or a manifest of this machine.")],
    manifest: Annotated[bool | None, typer.Option(help="Whether it is a manifest (default: by its name).")] = None,
    format: Annotated[str | None, typer.Option(help="coco, yolo, label-studio, cvat, voc, csv, parquet, …")] = None,
    labels: Annotated[bool, typer.Option(help="Take the labels over too.")] = True,
    hard_only: Annotated[bool, typer.Option(help="Hard examples only.")] = False,
    only: Annotated[
        list[str] | None, typer.Option(help="Only what bears this label; several times: one of them.")
    ] = None,
    without: Annotated[list[str] | None, typer.Option(help="Nothing that bears this label.")] = None,
    stop: Annotated[bool, typer.Option(help="Stop at the first thing that breaks a rule.")] = False,
) -> None:
    """Import samples; what is there already is not imported again."""
    service = Datasets(connect())
    is_manifest = path.endswith((".manifest", ".jsonl")) if manifest is None else manifest
    options: dict[str, Any] = {
        "import_annotations": labels,
        "difficult_only": hard_only,
        "on_error": "stop" if stop else "continue",
    }
    chosen = {"included_labels": only or [], "excluded_labels": without or []}
    with _following(f"import {path}") as follow:
        if "://" not in path and Path(path).is_file():
            task = service.import_file(name, Path(path), progress=follow, **options, **chosen)
        else:
            options |= {key: [{"name": one} for one in names] for key, names in chosen.items()}
            kind = format or ("manifest" if is_manifest else "dir")
            task = service.import_from(name, path, import_type=kind, progress=follow, **options)
    _report(service, name, task)


@datasets.command("imports")
def list_imports(name: str) -> None:
    """List the imports of a dataset, the newest first."""
    columns = {
        "import_path": "path",
        "status": "status",
        "imported_sample_count": "samples",
        "problem_count": "left out",
        "create_time": "created",
        "task_id": "id",
    }
    show(list(Datasets(connect()).imports(name)), columns)


@datasets.command("exports")
def list_exports(name: str) -> None:
    """List the exports of a dataset, the newest first."""
    columns = {
        "path": "path",
        "annotation_format": "format",
        "status": "status",
        "finished_sample_count": "samples",
        "problem_count": "not carried",
        "create_time": "created",
        "task_id": "id",
    }
    show(list(Datasets(connect()).exports(name)), columns)


@datasets.command("problems")
def list_problems(name: str, task: Annotated[str, typer.Argument(help="Id of an import or export.")]) -> None:
    """List all that an import left out or an export could not carry, where and why."""
    service = Datasets(connect())
    if any(one["task_id"] == task for one in service.imports(name)):
        show(list(service.problems(name, task)), ["place", "reason", "text"])
    else:
        show(list(service.export_problems(name, task)), ["place", "reason"])


@datasets.command("label")
def label_samples(
    name: str,
    label: str,
    sample: Annotated[list[str] | None, typer.Argument(help="Sample ids.")] = None,
    file: Annotated[Path | None, typer.Option(help="A file with a sample id a line.", exists=True)] = None,
) -> None:
    """Give samples a label, in place of those they have; an empty one ("") removes them."""
    wanted = [*(sample or ()), *(file.read_text("utf-8").split() if file else ())]
    if not wanted:
        raise typer.BadParameter("name sample ids, or a --file of them")
    service = Datasets(connect())
    with Progress(*_columns(), console=console, disable=OPTIONS.as_json) as bar:
        task = bar.add_task("label", total=len(wanted))
        for at in range(0, len(wanted), 1000):
            some = wanted[at : at + 1000]
            service.label(name, {one: [label] if label else [] for one in some})
            bar.advance(task, len(some))
    note(f"{len(wanted)} samples labeled")


@datasets.command("export")
def export(
    name: str,
    path: Annotated[str, typer.Argument(help="Folder in object storage, below which it is written.")],
    version: Annotated[str | None, typer.Option(help="Name of a version (default: the dataset as it is).")] = None,
    format: Annotated[str | None, typer.Option(help="coco, yolo, label-studio, … (default: a manifest).")] = None,
    labeled: Annotated[bool, typer.Option("--labeled", help="Labeled samples only.")] = False,
    where: Where = None,
    images: Annotated[bool, typer.Option(help="Copy the objects too (formats other than manifest).")] = True,
    train: Annotated[float | None, typer.Option(min=0, max=1, help="Part of each label for training.")] = None,
) -> None:
    """Write a dataset, or one of its versions, as a manifest or in another format."""
    service = Datasets(connect())
    options: dict[str, Any] = {"export_type": 0 if labeled else 2, "export_images": images}
    if version:
        options["version_id"] = service.version(name, version)["version_id"]
    params: dict[str, Any] = {"search_conditions": conditions_of(where)}
    if train is not None:
        params |= {"ratio_sample_usage": True, "train_sample_ratio": f"{train:.4f}"}
    options["export_params"] = params
    with _following(f"export {name}") as follow:
        task = service.export(name, path, format=format, progress=follow, **options)
    show(task, ["export_path" if format else "manifest_path", "finished_sample_count", "left_out_sample_count"])
    if task["problem_count"] and not OPTIONS.as_json:
        rows = [row for row, _ in zip(service.export_problems(name, task["task_id"]), range(20), strict=False)]
        show(rows, ["place", "reason"], title="not carried (the first 20)")


@datasets.command("copy")
def copy(
    name: str,
    new: Annotated[str, typer.Argument(help="Name of the new dataset.")],
    output: Annotated[str, typer.Option(help="Folder for what the new dataset publishes.")],
    input: Annotated[str, typer.Option(help="An empty folder the objects are copied to (default: shared).")] = "",
    labeled: Annotated[bool, typer.Option("--labeled", help="Labeled samples only.")] = False,
    version: Annotated[str | None, typer.Option(help="Also publish a version of this name.")] = None,
) -> None:
    """Make a new dataset of the samples of another, with its labels."""
    state: dict[str, Any] = {"sample_state": LABELED} if labeled else {}
    with waiting(f"copy {name}"):
        made = Datasets(connect()).export_to_dataset(name, new, output, data_path=input, version=version, **state)
    show(made, _COLUMNS)


@datasets.command("stop")
def stop(name: str, task: Annotated[str, typer.Argument(help="Id of an import or export.")]) -> None:
    """Stop an import, whose samples stay, or an export, which leaves nothing."""
    show(Datasets(connect()).stop(name, task), ["task_id", "status"])


@datasets.command("delete")
def delete(name: str, yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False) -> None:
    """Delete a dataset and its versions; every object stays in storage."""
    service = Datasets(connect())
    if not yes:
        count = service.get(name)["total_sample_count"]
        typer.confirm(f"delete dataset {name} with {count} samples and all its versions?", abort=True)
    service.delete(name)
    note(f"dataset {name} deleted")


def _named(row: dict[str, Any]) -> dict[str, Any]:
    """A dataset with its type by name, for people; as it is for programs."""
    names = {code: name for name, code in _TYPES.items()}
    return row if OPTIONS.as_json else row | {"dataset_type": names.get(row["dataset_type"], row["dataset_type"])}


def _report(service: Datasets, name: str, task: dict[str, Any]) -> None:
    if OPTIONS.as_json:
        show(task | {"problems": list(service.problems(name, task["task_id"]))})
        return
    note(
        f"{task['imported_sample_count']} samples imported, {task['known_sample_count']} were there before, "
        f"{task['problem_count']} left out"
    )
    if task["problem_count"]:
        rows = [row for row, _ in zip(service.problems(name, task["task_id"]), range(20), strict=False)]
        show(rows, ["place", "reason", "text"], title="left out (the first 20)")


def _columns() -> tuple[Any, ...]:
    return (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"), TimeElapsedColumn())


@contextmanager
def _following(what: str) -> Iterator[Follow]:
    """A bar that follows a task by the answers of the API."""
    with (
        failing(),
        Progress(*_columns(), TextColumn("{task.fields[count]}"), console=console, disable=OPTIONS.as_json) as bar,
    ):
        shown = bar.add_task(what, total=100, count="")

        def follow(task: dict[str, Any]) -> None:
            count = task.get("imported_sample_count", task.get("finished_sample_count", 0))
            bar.update(shown, completed=task["progress"], count=f"{count} samples")

        yield follow
