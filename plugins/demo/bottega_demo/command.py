"""``bottega demo``."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from bottega.cli_support import OPTIONS, console, errors
from bottega.client import ApiFailure, Client, Unreachable
from bottega_demo import own_platform
from bottega_demo.job import MainJob
from bottega_demo.stage import Stage, StepFailed


def demo(
    keep: Annotated[bool, typer.Option(help="Leave what was made on the platform (with --credentials).")] = False,
) -> None:
    """Run the main job end to end: pictures to labeled data, model, service, and who did and paid what.

    Starts a platform of its own and leaves nothing behind; with --credentials it uses a running one.
    """
    stage = Stage(console)
    given = OPTIONS.credentials
    try:
        with nullcontext(given) if given else own_platform.started() as credentials:
            assert isinstance(credentials, Path)
            with Client.from_file(credentials) as client:
                job = MainJob(stage, client, credentials)
                try:
                    job.run()
                finally:
                    if not keep:
                        job.tidy()
    except (StepFailed, ApiFailure, Unreachable) as e:
        errors.print(f"\n[red]step {stage.steps} failed ({stage.current})[/]: ", end="")
        errors.print(str(e), markup=False)
        raise typer.Exit(1) from e
    console.print(f"\n[bold green]The whole job ran in {stage.seconds:.0f} s.[/]")
