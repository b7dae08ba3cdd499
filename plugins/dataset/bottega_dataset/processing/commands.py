"""``bottega datasets analyze`` and ``process``: processing tasks from the command line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from bottega.cli_support import OPTIONS, connect, console, errors, note, show
from bottega_dataset.client import Datasets, TaskFailed
from bottega_dataset.processing.client import OUTCOMES, Processing
from bottega_dataset.processing.client import Progress as Follow

_KINDS = {
    "analyse": "sys_data_analyse",
    "clean": "sys_data_cleaning",
    "augment": "sys_data_augmentation",
    "validate": "sys_data_validation",
    "select": "sys_data_selection",
}
_STATES = ("initialized", "running", "completed", "failed", "stopped")
_BLOCKS = " ▁▂▃▄▅▆▇█"
_WIDTH = 30
_SHOWN = 20


def add_to(datasets: typer.Typer) -> None:
    """Add the commands to ``bottega datasets``, once."""
    if any(one.name == "analyze" for one in datasets.registered_commands):
        return
    for name, command in (
        ("analyze", analyze),
        ("process", process),
        ("operators", operators),
        ("processing-tasks", tasks),
        ("processing-results", results),
        ("stop-processing", stop),
        ("delete-processing", delete),
    ):
        datasets.command(name)(command)


def analyze(
    name: str,
    version: Annotated[str | None, typer.Option(help="A version of it, instead of the dataset as it is.")] = None,
    operator: Annotated[list[str] | None, typer.Option("--operator", "-o", help="Only these analyses.")] = None,
    figures: Annotated[Path | None, typer.Option(help="Folder into which the pictures are fetched.")] = None,
) -> None:
    """Analyse what the samples of a dataset are like: sizes, brightness, labels, duplicates, lengths, loudness."""
    client = connect()
    with _following(f"analyze {name}") as follow:
        found = Processing(client).analyze(name, version, operators=_operators(operator or ()), progress=follow)
    if figures is not None:
        figures.mkdir(parents=True, exist_ok=True)
        objects = Datasets(client).objects
        for one in found.values():
            if "figure" in one:
                objects.get(one["figure"], figures)
    if OPTIONS.as_json:
        show(found)
        return
    for title, columns, rows in (
        ("distributions", ("feature", "unit", "min", "median", "max", "mean", "histogram"), _distributions(found)),
        ("counts", ("feature", "name", "count", "bar"), _counts(found)),
    ):
        if rows:
            show(rows, columns, title=title)
    unread = found.get("readability", {}).get("problems", [])
    if unread:
        show(unread[:_SHOWN], ["source", "reason"], title="cannot be read")
    shown = [{"feature": key, "picture": one["figure"]} for key, one in found.items() if "figure" in one]
    if figures is not None:
        note(f"{len(shown)} pictures are in {figures}")
    else:
        show(shown, ["feature", "picture"], title="pictures (--figures FOLDER fetches them)")


def process(
    source: Annotated[str, typer.Argument(help="A dataset, or a folder in object storage.")],
    kind: Annotated[str, typer.Argument(help="validate, clean, augment, select or analyse.")],
    operator: Annotated[
        list[str] | None,
        typer.Option("--operator", "-o", help="What to do: Rotate, or with parameters Rotate:angle_max=30,copies=2."),
    ] = None,
    new_dataset: Annotated[
        str | None, typer.Option(help="Name of a new dataset for the result; with --output.")
    ] = None,
    output: Annotated[str | None, typer.Option(help="Folder: of the new dataset, or for the result itself.")] = None,
    new_version: Annotated[
        str | None, typer.Option(help='Name of a new version of the dataset for the result ("": V001, V002, …).')
    ] = None,
    version: Annotated[str | None, typer.Option(help="Take this version of the dataset.")] = None,
    dataset_type: Annotated[int, typer.Option(help="What a folder holds.")] = 0,
    seed: Annotated[int | None, typer.Option(help="The same one gives the same result.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the task.")] = None,
    flavor: Annotated[str | None, typer.Option(help="On which machine.")] = None,
) -> None:
    """Validate, clean, deduplicate, augment or select samples into a new dataset, a new version or a folder."""
    if kind not in _KINDS:
        raise typer.BadParameter(f"must be {', '.join(_KINDS)}", param_hint="KIND")
    if new_dataset and not output:
        raise typer.BadParameter("a new dataset needs its output folder", param_hint="--output")
    service = Processing(connect())
    with _following(f"{kind} {source}") as follow:
        done = service.process(
            source,
            _KINDS[kind],
            _operators(operator or ()),
            version=version,
            dataset_type=dataset_type,
            new_dataset=(new_dataset, output) if new_dataset and output else None,
            new_version=new_version,
            folder=None if new_dataset else output,
            name=name,
            seed=seed,
            flavor=flavor,
            progress=follow,
        )
    if OPTIONS.as_json:
        show(done)
        return
    counted = {
        key: done[f"{field}_sample_count"]
        for key, field in (("of", "origin"), ("deleted", "deleted"), ("modified", "modified"), ("added", "add"))
    }
    note(", ".join(f"{number} {key}" if key != "of" else f"{number} samples" for key, number in counted.items()))
    show(done["operators"], ["id", "deleted", "modified", "added", "flagged", "seconds"], title="operators")
    changed = islice((one for one in service.results(done) if one["result_property"]), _SHOWN)
    show([_result(one) for one in changed], ["sample", "outcome", "operator", "reason"], title="samples (the first 20)")
    where = (
        new_dataset or (done["output_version_id"] and f"version {done['output_version_id']}") or done["manifest_path"]
    )
    note(f"the result is in {where}; task {done['task_id']}")


def operators(
    kind: Annotated[str | None, typer.Argument(help="validate, clean, augment, select or analyse.")] = None,
) -> None:
    """What processing tasks can do, and with which parameters."""
    wanted = {_KINDS.get(kind, kind)} if kind else set(_KINDS.values())
    rows = [
        {
            "kind": next(
                (short for short, id in _KINDS.items() if id == template["template_id"]), template["label_en"]
            ),
            **one,
            "parameters": ", ".join(f"{key}={value.get('default')}" for key, value in one["params"].items()),
        }
        for template in Processing(connect()).templates()
        if template["template_id"] in wanted
        for one in template["operators"]
    ]
    show(rows, ["kind", "id", "description", "parameters"])


def tasks(limit: Annotated[int, typer.Option(help="How many, the newest first.")] = 20) -> None:
    """The project's processing tasks."""
    rows = list(islice(Processing(connect()).list(), limit))
    if not OPTIONS.as_json:
        rows = [{**row, "status": _STATES[row["status"]], "kind": row["template"]["id"]} for row in rows]
    columns = {"name": "name", "kind": "kind", "status": "status", "duration_seconds": "seconds", "task_id": "id"}
    show(rows, columns | {"latest_task_version_id": "version"})


def results(
    task_id: str,
    version_id: str,
    outcome: Annotated[str | None, typer.Option(help="reserved, modified, deleted or added.")] = None,
    limit: Annotated[int, typer.Option(help="How many.")] = 100,
) -> None:
    """What became of the samples of a processing task, and why."""
    if outcome is not None and outcome not in OUTCOMES:
        raise typer.BadParameter(f"must be {', '.join(OUTCOMES)}", param_hint="--outcome")
    found = Processing(connect()).results({"task_id": task_id, "task_version_id": version_id}, outcome)
    rows = list(islice(found, limit))
    if OPTIONS.as_json:
        show(rows)
    else:
        show([_result(one) for one in rows], ["sample", "outcome", "operator", "reason"])


def stop(task_id: str, version_id: str) -> None:
    """Stop a version of a processing task; nothing of its result remains in datasets."""
    Processing(connect()).stop(task_id, version_id)
    note("stopping")


def delete(task_id: str) -> None:
    """Delete a processing task with its versions; what they made stays."""
    Processing(connect()).delete(task_id)
    note("deleted")


def _operators(given: Sequence[str]) -> dict[str, dict[str, Any]]:
    """``Rotate:angle_max=30,copies=2`` as the operator's name and its parameters."""
    found: dict[str, dict[str, Any]] = {}
    for text in given:
        name, _, said = text.partition(":")
        pairs = [one.partition("=") for one in said.split(",") if one]
        if any(not separator for _, separator, _ in pairs):
            raise typer.BadParameter(f"'{text}' must look like Rotate:angle_max=30,copies=2", param_hint="--operator")
        found[name] = {key.strip(): value.strip() for key, _, value in pairs}
    return found


def _result(one: Mapping[str, Any]) -> dict[str, Any]:
    said = one["result_description"]
    names = {number: name for name, number in OUTCOMES.items()}
    return {
        "sample": (one["new_source"] or one["origin_source"])[-70:],
        "outcome": names[one["result_property"]],
        "operator": ", ".join(dict.fromkeys(note["operator"] for note in said if note["operator"])),
        "reason": "; ".join(note["reason"] for note in said),
    }


def _distributions(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for name, one in found.items():
        if "histogram" in one:
            most = max(one["histogram"]["counts"]) or 1
            blocks = [_BLOCKS[-(-count * 8 // most)] for count in one["histogram"]["counts"]]
            rows.append({"feature": name, "unit": one["unit"], "histogram": "".join(blocks), **one["statistics"]})
    return rows


def _counts(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for name, one in found.items():
        counts = list(one.get("counts", {}).items())[:10]
        most = max((number for _, number in counts), default=0) or 1
        rows += [
            {"feature": name, "name": key, "count": number, "bar": "█" * round(_WIDTH * number / most)}
            for key, number in counts
        ]
    return rows


@contextmanager
def _following(what: str) -> Iterator[Follow]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
    )
    try:
        with Progress(*columns, console=console, disable=OPTIONS.as_json) as bar:
            shown = bar.add_task(what, total=100)
            yield lambda version: bar.update(shown, completed=version["progress"])
    except TaskFailed as e:
        errors.print(str(e), style="red", markup=False)
        raise typer.Exit(1) from e
