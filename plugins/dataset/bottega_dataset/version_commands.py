"""``bottega datasets publish|versions|use|compare|rollback|delete-version``; and what commands show while they wait."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from bottega.cli_support import OPTIONS, connect, console, errors, note, show
from bottega_dataset.client import Datasets, TaskFailed

_SHOWN = 50


def add_to(datasets: typer.Typer) -> None:
    """The commands of this module, as part of ``bottega datasets``."""
    for name, command in (
        ("publish", publish),
        ("versions", list_versions),
        ("use", use),
        ("compare", compare),
        ("rollback", rollback),
        ("delete-version", delete_version),
    ):
        datasets.command(name)(command)


def publish(
    name: str,
    version: Annotated[str | None, typer.Option(help="Name of the version (default: V001, V002, …).")] = None,
    train: Annotated[float, typer.Option(min=0, max=1, help="Part of each label that is for training.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Decides which samples the split takes.")] = 0,
    description: str = "",
    images: Annotated[bool, typer.Option("--images", help="Copy the objects beside the manifest.")] = False,
    keep_usage: Annotated[bool, typer.Option("--keep-usage", help="Keep TRAIN, EVAL, … the samples have.")] = False,
    keep_hard: Annotated[bool, typer.Option("--keep-hard", help="Keep which samples are hard examples.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Write the samples as a table (data.csv) as well.")] = False,
    header: Annotated[bool, typer.Option(help="Begin the table with the names of its columns.")] = True,
) -> None:
    """Publish a version."""
    options: dict[str, Any] = {
        "description": description,
        "export_images": images,
        "remove_sample_usage": not keep_usage,
        "clear_hard_property": not keep_hard,
        "version_format": "CSV" if csv else "Default",
        "with_column_header": header,
    }
    with waiting(f"publish {name}"):
        shown = Datasets(connect()).publish(name, version, train_ratio=train, seed=seed, **options)
    show(shown, ["version_name", "version_id", "total_sample_count", "annotated_sample_count", "manifest_path"])


def compare(
    name: str,
    version: Annotated[str | None, typer.Argument(help="Name of a version (default: the current one).")] = None,
    base: Annotated[
        str | None, typer.Argument(help="The version to compare it with (default: the one before).")
    ] = None,
    change: Annotated[str | None, typer.Option(help="Only added, removed or modified samples.")] = None,
) -> None:
    """Show what is different between two versions: samples, and their labels in both."""
    found, samples = Datasets(connect()).compare(name, version, base, change=change)
    counts = ("add_sample_count", "deleted_sample_count", "modified_sample_count")
    if OPTIONS.as_json:
        show({k: v for k, v in found.items() if k != "samples"} | {"samples": list(samples)})
        return
    added, removed, modified = (found[key] for key in counts)
    names = f"{found['base_version_name']} to {found['version_name']}"
    note(f"{names}: {added} samples added, {removed} removed, {modified} modified")
    if found["labels"]:
        show(found["labels"], ["name", "change", "base_sample_count", "sample_count"], title="labels")
    some = [
        row | {side: ", ".join(one["name"] for one in row[side]) for side in ("base_labels", "labels")}
        for row, _ in zip(samples, range(_SHOWN), strict=False)
    ]
    if some:
        columns = ["sample_id", "change", "base_labels", "labels", "source"]
        show(some, columns, title=f"samples (at most {_SHOWN})")


def list_versions(name: str) -> None:
    """List the versions of a dataset, the newest first."""
    columns = {
        "version_name": "name",
        "is_current": "current",
        "status": "status",
        "total_sample_count": "samples",
        "annotated_sample_count": "labeled",
        "create_time": "created",
        "manifest_path": "manifest",
        "version_id": "id",
    }
    show(list(Datasets(connect()).versions(name)), columns)


def rollback(name: str, version: Annotated[str, typer.Argument(help="Name of a version.")]) -> None:
    """Set the labels of all samples back to those of a version; `bottega datasets undo` takes it back."""
    service = Datasets(connect())
    with waiting(f"rollback {name}"):
        task = service.roll_back(name, version)
    columns = ["changed_sample_count", "unchanged_sample_count", "missing_sample_count", "other_sample_count"]
    show(task, [*columns, "change_id"])
    if task["missing_sample_count"] and not OPTIONS.as_json:
        rows = [row for row, _ in zip(service.rollback_problems(name, task["task_id"]), range(20), strict=False)]
        show(rows, ["place", "text"], title="not in the dataset any more (the first 20)")


def use(name: str, version: Annotated[str, typer.Argument(help="Name of a version.")]) -> None:
    """Make a version the current one; no sample changes by it."""
    Datasets(connect()).use_version(name, version)
    note(f"version {version} is the current one of {name}")


def delete_version(
    name: str,
    version: Annotated[str, typer.Argument(help="Name of a version.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Take a version out of the lists; its files stay in storage."""
    if not yes:
        typer.confirm(f"delete version {version} of {name}?", abort=True)
    Datasets(connect()).delete_version(name, version)
    note(f"version {version} deleted")


@contextmanager
def waiting(what: str) -> Iterator[None]:
    with (
        failing(),
        Progress(TextColumn(what), BarColumn(), TimeElapsedColumn(), console=console, disable=OPTIONS.as_json) as bar,
    ):
        bar.add_task(what, total=None)
        yield


@contextmanager
def failing() -> Iterator[None]:
    try:
        yield
    except TaskFailed as e:
        errors.print(str(e), style="red", markup=False)
        raise typer.Exit(1) from e
