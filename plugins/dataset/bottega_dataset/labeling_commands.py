"""``bottega datasets upload|search|annotate|edit|history|undo|…`` and ``bottega datasets labels``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import Progress

from bottega.cli_support import OPTIONS, connect, console, errors, note, show
from bottega_dataset.client import Datasets
from bottega_dataset.labeling_client import Labeling, SyncFailed

labels = typer.Typer(no_args_is_help=True, help="The labels of a dataset.")
_SAMPLE = {"sample_id": "id", "sample": "sample", "label_names": "labels", "usage": "usage"}
_Samples = Annotated[list[str] | None, typer.Argument(help="Sample ids.")]
Where = Annotated[
    str | None,
    typer.Option("--where", help='Search conditions as JSON: {"sample_name": "cat", "hard": "1"}, or a list of them.'),
]


def add_to(datasets: typer.Typer) -> None:
    """The commands of this module, as part of ``bottega datasets``."""
    for name, command in (
        ("upload", upload),
        ("search", search),
        ("filters", filters),
        ("annotate", annotate),
        ("edit", edit),
        ("delete-samples", delete_samples),
        ("history", history),
        ("undo", undo),
        ("similar", similar),
        ("sync", sync),
        ("migrate", migrate),
        ("migrations", migrations),
    ):
        datasets.command(name)(command)
    datasets.add_typer(labels, name="labels")


def upload(
    name: str,
    files: Annotated[list[Path], typer.Argument(help="Files, or folders of them.", exists=True)],
    label: Annotated[list[str] | None, typer.Option(help="A label for all of them.")] = None,
) -> None:
    """Add files of this machine as samples; they are stored in the dataset's input path."""
    found = [f for given in files for f in (sorted(given.rglob("*")) if given.is_dir() else [given]) if f.is_file()]
    if not found:
        raise typer.BadParameter("there are no files", param_hint="FILES")
    with Progress(console=console, disable=OPTIONS.as_json) as bar:
        task = bar.add_task("upload", total=len(found))
        results = _service().upload(name, found, labels=label or (), progress=lambda n: bar.advance(task, n))
    failed = [one for one in results if not one["success"]]
    show(results if OPTIONS.as_json else failed, {"name": "file", "error_msg": "why not"})
    note(f"{len(results) - len(failed)} of {len(results)} files added")
    if failed:
        raise typer.Exit(1)


def search(
    name: str,
    where: Where = None,
    unlabeled: Annotated[bool, typer.Option(help="Only samples without labels.")] = False,
    filter: Annotated[str | None, typer.Option(help="The name of a saved filter.")] = None,
    save: Annotated[str | None, typer.Option(help="Keep the conditions as a filter of this name.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many to show.")] = 20,
) -> None:
    """Find samples."""
    service, conditions = _service(), conditions_of(where)
    state = "__NONE__" if unlabeled else None
    if save:
        service.save_filter(name, save, conditions, state=state)
    ident = service.filter(name, filter)["filter_id"] if filter else None
    found = service.search(name, conditions, state=state, filter_id=ident)
    _show_samples([row for row, _ in zip(found, range(limit), strict=False)])


def filters(
    name: str, delete: Annotated[str | None, typer.Option(help="The name of a filter that is to go.")] = None
) -> None:
    """List the saved filters of a dataset; or delete one."""
    service = _service()
    if delete:
        service.delete_filter(name, delete)
    rows = service.filters(name)
    show(rows, {"name": "name", "sample_state": "state", "search_conditions": "conditions", "created_by": "by"})


def annotate(
    name: str,
    file: Annotated[typer.FileText, typer.Argument(help="JSON lines, or - for what is piped in.")],
) -> None:
    """Set labels with all that types know of: shapes, spans, times.

    A line: {"sample_id": "…", "labels": [{"name": "cat", "property": {"@modelarts:shape": "bndbox", …}}]}. With the
    "revision" that `search` shows, nothing is changed where somebody was quicker. One call, all or nothing.
    """
    try:
        lines = [json.loads(line) for line in file if line.strip()]
        wanted = {one["sample_id"]: one["labels"] for one in lines}
    except (json.JSONDecodeError, KeyError, TypeError) as e:
        raise typer.BadParameter(f'each line must be {{"sample_id": …, "labels": […]}}: {e}', param_hint="FILE") from e
    revisions = {one["sample_id"]: one["revision"] for one in lines if "revision" in one}
    Datasets(connect()).label(name, wanted, revisions=revisions)
    note(f"{len(wanted)} samples labeled")


def delete_samples(
    name: str,
    sample: _Samples = None,
    where: Where = None,
    filter: Annotated[str | None, typer.Option(help="All that a saved filter finds.")] = None,
    with_objects: Annotated[bool, typer.Option(help="Also their objects in storage: for good.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Take samples out of a dataset: those named, or all that fit; `undo` brings them back unless the objects went."""
    service = _service()
    more = {"filter_id": service.filter(name, filter)["filter_id"]} if filter else {}
    if not yes:
        which = f"{len(sample)} samples" if sample else "all samples that fit"
        typer.confirm(f"delete {which} of {name}{' with their objects' if with_objects else ''}?", abort=True)
    conditions = conditions_of(where) if where else None
    number = service.delete(name, sample or (), conditions=conditions, with_objects=with_objects, **more)
    note(f"{number} samples deleted")


def edit(
    name: str,
    sample: _Samples = None,
    where: Where = None,
    add: Annotated[list[str] | None, typer.Option(help="A label to put on.")] = None,
    remove: Annotated[list[str] | None, typer.Option(help="A label to take off.")] = None,
    usage: Annotated[str | None, typer.Option(help="TRAIN, EVAL, TEST, INFERENCE, or empty.")] = None,
) -> None:
    """Put labels on many samples, or take them off: those named, or all that fit."""
    conditions = conditions_of(where) if where else None
    answer = _service().edit(
        name, sample or (), conditions=conditions, add=add or (), remove=remove or (), sample_usage=usage
    )
    show(answer, ["changed_sample_count", "unchanged_sample_count", "change_id"])


def history(name: str, sample: Annotated[str | None, typer.Argument(help="A sample id.")] = None) -> None:
    """What was done in a dataset; or what a sample was before each change."""
    service = _service()
    if sample is None:
        columns = {"time": "time", "actor": "who", "cause": "what", "sample_count": "samples", "change_id": "id"}
        show(list(service.changes(name)), columns)
        return
    rows = list(service.history(name, sample))
    for row in () if OPTIONS.as_json else rows:
        row["before"] = [label["name"] for label in row["labels"]]
    show(rows, {"revision": "revision", "time": "time", "actor": "who", "cause": "what", "before": "before"})


def undo(
    name: str,
    what: Annotated[str, typer.Argument(help="A sample id (32 digits), or the id of a change.")],
    partial: Annotated[bool, typer.Option(help="Leave samples that were changed since as they are.")] = False,
) -> None:
    """Take back the last change of a sample, or a change of many."""
    if len(what) == 32 and "-" not in what:
        _show_samples([_service().undo(name, what)])
        return
    show(_service().undo_change(name, what, partial=partial), ["changed_sample_count", "change_id"])


def similar(name: str, sample: str, limit: Annotated[int, typer.Option(min=1, max=100)] = 10) -> None:
    """The samples that look or read most like one."""
    _show_samples(_service().similar(name, sample, limit), {"similarity": "similarity"})


def sync(
    name: str,
    watch: Annotated[bool | None, typer.Option(help="Follow the input path from now on, or no longer.")] = None,
) -> None:
    """Take in what is new in the input path, and take out what is gone from it."""
    service = _service()
    try:
        with console.status(f"synchronizing {name}"):
            status = service.sync(name)
    except SyncFailed as e:
        errors.print(f"the synchronization failed: {e}")
        raise typer.Exit(1) from e
    if watch is not None:
        service.watch(name, watch)
    show(status, ["add_sample_count", "changed_sample_count", "deleted_sample_count", "total_sample_count"])


def migrate(
    name: str,
    source: Annotated[list[str], typer.Option(help="A folder of the old job's images: s3://bucket/folder/.")],
    output: Annotated[str, typer.Option(help="Folder for what the dataset publishes.")],
    type: Annotated[str, typer.Option(help="image (classification) or detection.")] = "image",
    manifest: Annotated[str | None, typer.Option(help="The manifest of what was labeled.")] = None,
) -> None:
    """Make a dataset of a labeling job of the old data management."""
    if type not in ("image", "detection"):
        raise typer.BadParameter("must be image or detection", param_hint="--type")
    job = {
        "name": name,
        "type": 1 if type == "detection" else 0,
        "sources": source,
        "manifest_path": manifest,
        "work_path": output,
    }
    (result,) = _service().migrate([job])
    show(result, ["name", "success", "dataset_id", "error_msg"])
    if not result["success"]:
        raise typer.Exit(1)


def migrations() -> None:
    """List what became of labeling jobs of the old data management, the newest first."""
    show(list(_service().migrations()), ["name", "status", "dataset_id", "error_msg"])


@labels.command("list")
def list_labels(name: str) -> None:
    """List a dataset's labels, and how many samples bear them."""
    rows = Datasets(connect()).statistics(name)["label_stats"]
    show(rows, {"name": "label", "sample_count": "samples", "count": "times", "property": "property"})


_Color = Annotated[str | None, typer.Option(help="Such as #FFFFF0; empty: none.")]
_Shortcut = Annotated[str | None, typer.Option(help="One letter or digit; empty: none.")]
_Shape = Annotated[str | None, typer.Option(help="What it is drawn as: bndbox, polygon, circle, line, point, …")]
_Attributes = Annotated[
    list[str] | None,
    typer.Option("--attribute", help="What may be said beside it: age (any text) or coat=white,black (one of these)."),
]
_Type = Annotated[int | None, typer.Option("--type", help="Of triplets: 102 a relation, 103 an entity.")]


@labels.command("add")
def add_label(
    name: str,
    label: str,
    color: _Color = None,
    shortcut: _Shortcut = None,
    shape: _Shape = None,
    attribute: _Attributes = None,
    type: _Type = None,
    joins: Annotated[tuple[str, str] | None, typer.Option(help="Of a relation: the labels it joins.")] = None,
) -> None:
    """Add a label."""
    given = _properties(color, shortcut, shape)
    if joins:
        given |= {"from_type": joins[0], "to_type": joins[1]}
    _service().add_label(name, label, attributes=_attributes(attribute) or (), label_type=type, **given)


@labels.command("change")
def change_label(
    name: str,
    label: str,
    color: _Color = None,
    shortcut: _Shortcut = None,
    shape: _Shape = None,
    attribute: _Attributes = None,
    type: _Type = None,
) -> None:
    """Give a label another color, shortcut or shape, or other attributes in place of those it has."""
    given = _properties(color, shortcut, shape)
    _service().change_label(name, label, attributes=_attributes(attribute), label_type=type, **given)


@labels.command("rename")
def rename_label(name: str, label: str, new: str) -> None:
    """Rename a label on all samples."""
    _service().change_label(name, label, rename_to=new)


@labels.command("delete")
def delete_label(
    name: str,
    label: str,
    with_samples: Annotated[bool, typer.Option(help="Also the samples that bear only it.")] = False,
    with_objects: Annotated[bool, typer.Option(help="And those samples' objects in storage.")] = False,
) -> None:
    """Delete a label."""
    _service().delete_label(name, label, with_samples=with_samples, with_objects=with_objects)


def _properties(color: str | None, shortcut: str | None, shape: str | None) -> dict[str, str]:
    given = {"color": color, "shortcut": shortcut, "default_shape": shape}
    return {key: value for key, value in given.items() if value is not None}


def _attributes(given: list[str] | None) -> list[dict[str, Any]] | None:
    """``age``, ``coat=white,black``: attributes as the API has them."""
    found: list[dict[str, Any]] = []
    for one in given or ():
        attribute, equals, values = one.partition("=")
        of_some = {"type": "select", "values": [{"value": value} for value in values.split(",")]}
        found.append({"name": attribute, **(of_some if equals else {"type": "text"})})
    return None if given is None else found


def _service() -> Labeling:
    return Datasets(connect()).labeling


def conditions_of(text: str | None) -> list[dict[str, Any]]:
    if not text:
        return []
    try:
        read = json.loads(text)
    except json.JSONDecodeError as e:
        raise typer.BadParameter(f"must be JSON: {e}", param_hint="--where") from e
    return read if isinstance(read, list) else [read]


def _show_samples(rows: list[dict[str, Any]], more: dict[str, str] | None = None) -> None:
    for row in () if OPTIONS.as_json else rows:
        row["sample"] = (row["sample_data"] or [row["sample_name"]])[0][:80]
        row["label_names"] = [one["name"] for one in row["labels"]]
    show(rows, {**_SAMPLE, **(more or {})})
