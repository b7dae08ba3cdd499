"""``bottega datasets auto-label`` and its like: intelligent tasks from the command line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from bottega.cli_support import OPTIONS, connect, console, errors, note, show
from bottega_dataset.client import Datasets, TaskFailed
from bottega_dataset.client import Progress as Follow

_SORTS = ("sample", "score", "learning")


def add_to(datasets: typer.Typer) -> None:
    """Add the commands to ``bottega datasets``, once."""
    if any(one.name == "auto-label" for one in datasets.registered_commands):
        return
    for name, command in (
        ("auto-label", auto_label),
        ("suggestions", suggestions),
        ("confirm", confirm),
        ("discard", discard),
        ("group", group),
        ("label-group", label_group),
        ("tasks", tasks),
        ("stop-task", stop_task),
    ):
        datasets.command(name)(command)


def auto_label(
    name: str,
    model: Annotated[str | None, typer.Option(help="A model of yours: its id, or the folder of its package.")] = None,
    fast: Annotated[bool, typer.Option("--fast", help="Learn from the labeled samples only.")] = False,
    confirm_above: Annotated[
        float | None, typer.Option(min=0, max=1, help="Confirm at once what is at least as certain.")
    ] = None,
    hard: Annotated[str | None, typer.Option(help="Folder for a manifest of the hard examples.")] = None,
    flavor: Annotated[str | None, typer.Option(help="On which machine.")] = None,
) -> None:
    """Learn from the labels there are, and suggest labels for the other samples."""
    service = Datasets(connect())
    config: dict[str, Any] = {"algorithm_type": "fast" if fast else "accurate"}
    if flavor:
        config["flavor"] = {"code": flavor}
    if model:
        config["model_path" if "/" in model else "model_id"] = model
    if hard:
        config["key_sample_output"] = hard
    with _following(f"label {name}") as follow:
        task = service.auto_label(
            name,
            task_type="pre-label" if model else "auto-label",
            progress=follow,
            collect_key_sample=hard is not None,
            **config,
        )
    confirmed = service.confirm(name, low_score=confirm_above) if confirm_above is not None else {}
    if OPTIONS.as_json:
        show(task | confirmed)
        return
    accuracy, method = task["result"]["accuracy"], task["result"]["method"]
    measured = "" if accuracy is None else f", {accuracy:.1%} right where it could be measured ({method})"
    note(f"{task['annotated_sample_count']} samples have suggestions{measured}")
    note(f"{task['result']['hard_sample_count']} are hard examples, {task['problem_count']} could not be read")
    if confirmed:
        note(f"{confirmed['confirmed_sample_count']} suggestions were confirmed")


def suggestions(
    name: str,
    label: Annotated[str | None, typer.Option(help="Only those that suggest it.")] = None,
    low: Annotated[float | None, typer.Option(min=0, max=1, help="Least confidence.")] = None,
    high: Annotated[float | None, typer.Option(min=0, max=1, help="Greatest confidence.")] = None,
    sort: Annotated[str, typer.Option(help="sample, score, or learning: what teaches most first.")] = "sample",
    number: Annotated[int, typer.Option("--number", "-n", min=1, help="How many to show.")] = 20,
) -> None:
    """Show what is suggested and nobody has confirmed yet."""
    if sort not in _SORTS:
        raise typer.BadParameter(f"must be one of {', '.join(_SORTS)}", param_hint="--sort")
    found = Datasets(connect()).suggestions(name, sort_by=sort, label_name=label, low_score=low, high_score=high)
    rows = list(islice(found, number))
    if not OPTIONS.as_json:
        for row in rows:
            row["sample"] = (row["sample_data"] or [row["sample_name"]])[0][:60]
            row["labels"] = [f"{one['name']} {one['score']:.2f}" for one in row["labels"]]
            row["hard"] = [detail["reason"] for detail in row["hard_details"].values()]
    show(rows, {"sample_id": "id", "sample": "sample", "labels": "suggested", "hard": "hard because"})


def confirm(
    name: str,
    sample: Annotated[list[str] | None, typer.Argument(help="Sample ids; none: all that match.")] = None,
    above: Annotated[float | None, typer.Option(min=0, max=1, help="All of at least this confidence.")] = None,
    label: Annotated[str | None, typer.Option(help="All that suggest it; with ids: what they are.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All suggestions.")] = False,
) -> None:
    """Make suggestions labels, as they are or corrected."""
    service = Datasets(connect())
    if sample:
        answer = service.confirm(name, {one: [label] if label else None for one in sample})
    elif above is not None or label or everything:
        answer = service.confirm(name, low_score=above, label_name=label)
    else:
        raise typer.BadParameter("name sample ids, or say --above, --label or --all")
    if OPTIONS.as_json:
        show(answer)
    else:
        note(f"{answer['confirmed_sample_count']} samples are labeled now")
        for failed in (one for one in answer.get("results", ()) if not one["success"]):
            errors.print(failed["error_msg"], style="red", markup=False)


def discard(
    name: str,
    sample: Annotated[list[str] | None, typer.Argument(help="Sample ids; none: all that match.")] = None,
    below: Annotated[float | None, typer.Option(min=0, max=1, help="All of at most this confidence.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All suggestions.")] = False,
) -> None:
    """Throw suggestions away; the samples stay unlabeled."""
    if not sample and below is None and not everything:
        raise typer.BadParameter("name sample ids, or say --below or --all")
    answer = Datasets(connect()).discard(name, sample or None, high_score=below)
    note(f"{answer['discarded_sample_count']} suggestions discarded")


def group(
    name: str,
    groups: Annotated[int | None, typer.Option(min=1, help="How many; as many as part best without it.")] = None,
    by: Annotated[list[str] | None, typer.Option(help="ambiguity, image_brightness, image_colorfulness.")] = None,
) -> None:
    """Put samples that are alike into groups."""
    service = Datasets(connect())
    config: dict[str, Any] = {} if groups is None else {"n_clusters": groups}
    with _following(f"group {name}") as follow:
        task = service.auto_label(
            name, task_type="auto-grouping", progress=follow, **config, **dict.fromkeys(by or (), True)
        )
    rows = service.groups(name, task["task_id"])
    note(f"task {task['task_id']}")
    columns = {"group": "group", "sample_count": "samples", "annotated_sample_count": "labeled"}
    show(rows, {**columns, "label_stats": "labels", "typical_samples": "typical samples"})


def label_group(name: str, task: str, group: int, label: Annotated[list[str], typer.Argument(help="Labels.")]) -> None:
    """Give the unlabeled samples of a group the same labels."""
    note(f"{Datasets(connect()).label_group(name, task, group, *label)} samples labeled")


def tasks(name: str) -> None:
    """List the intelligent tasks of a dataset, the newest first."""
    columns = {"task_id": "id", "task_type": "type", "message": "state", "progress": "%"}
    columns |= {"annotated_sample_count": "suggested", "unconfirmed_sample_count": "to confirm", "error_msg": "error"}
    show(Datasets(connect()).intelligent_tasks(name), columns)


def stop_task(name: str, task: str) -> None:
    """Stop an intelligent task."""
    Datasets(connect()).stop_intelligent(name, task)
    note(f"task {task} is being stopped")


@contextmanager
def _following(what: str) -> Iterator[Follow]:
    """A bar that follows a task, and what it is doing."""
    columns = (TextColumn(what), BarColumn(), TextColumn("{task.percentage:>3.0f}%"), TimeElapsedColumn())
    try:
        with Progress(
            *columns, TextColumn("{task.fields[doing]}"), console=console, disable=OPTIONS.as_json
        ) as progress:
            shown = progress.add_task(what, total=100, doing="")
            yield lambda task: progress.update(shown, completed=task["progress"], doing=task["message"])
    except TaskFailed as e:
        errors.print(str(e), style="red", markup=False)
        raise typer.Exit(1) from e
