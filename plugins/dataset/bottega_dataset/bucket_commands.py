"""``bottega objects``: buckets and objects from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from bottega.cli_support import OPTIONS, connect, console, note, show
from bottega.errors import Invalid
from bottega_dataset.transfer import Objects

objects = typer.Typer(no_args_is_help=True, help="Buckets and objects.")


@objects.command("mb")
def make_bucket(name: str) -> None:
    """Create a bucket."""
    Objects(connect()).create_bucket(name)
    note(f"bucket {name} created")


@objects.command("ls")
def list_objects(path: Annotated[str | None, typer.Argument(help="s3://bucket/folder/")] = None) -> None:
    """List your buckets, or the objects under a path."""
    store = Objects(connect())
    if path is None:
        show(store.buckets(), {"name": "bucket", "created_at": "created"})
    else:
        show(list(store.listing(path)), {"key": "key", "size": "bytes", "modified_at": "modified"})


@objects.command("put")
def put(source: Annotated[Path, typer.Argument(exists=True)], target: str) -> None:
    """Store a file or a folder: `bottega objects put digits/ s3://bucket/digits/`."""
    total = (
        sum(f.stat().st_size for f in source.rglob("*") if f.is_file()) if source.is_dir() else source.stat().st_size
    )
    with _progress() as bar:
        task = bar.add_task(f"to {target}", total=total)
        count = Objects(connect()).put(source, target, lambda moved: bar.advance(task, moved))
    note(f"{count} files stored")


@objects.command("rm")
def remove(path: str, yes: Annotated[bool, typer.Option("--yes", help="Do not ask about a folder.")] = False) -> None:
    """Delete an object, or a folder (closing /) with all that is in it."""
    if path.endswith("/") and not yes:
        typer.confirm(f"delete everything under {path}?", abort=True)
    note(f"{Objects(connect()).remove(path)} objects deleted")


@objects.command("get")
def get(source: str, target: Path) -> None:
    """Fetch an object, or a folder (closing /) into a directory."""
    store = Objects(connect())
    total = sum(o["size"] for o in store.listing(source))
    with _progress() as bar:
        task = bar.add_task(f"from {source}", total=total)
        try:
            count = store.get(source, target, lambda moved: bar.advance(task, moved))
        except OSError as e:
            raise Invalid(f"cannot write {e.filename or target}: {e.strerror}") from e
    note(f"{count} files fetched")


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    return Progress(*columns, console=console, disable=OPTIONS.as_json)
