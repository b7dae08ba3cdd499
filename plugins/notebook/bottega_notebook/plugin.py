"""Plugin ``notebook``: JupyterLab instances behind the platform's authentication (002 §4.1)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bottega.hookspecs import hookimpl
from bottega.plugins import Action, Entities, Quota

if TYPE_CHECKING:
    import typer
    from fastapi import APIRouter
    from pydantic import BaseModel

    from bottega.bus import Bus
    from bottega.events import Event
    from bottega.plans import Planner
    from bottega.platform import Platform


@hookimpl
def bottega_settings() -> type[BaseModel]:
    from bottega_notebook.settings import NotebookSettings

    return NotebookSettings


@hookimpl
def bottega_entities() -> Entities:
    from bottega_notebook.entities import KeyPair, Notebook

    return Entities([Notebook, KeyPair], Path(__file__).parent / "migrations")


@hookimpl
def bottega_actions() -> Iterable[Action]:
    return (
        Action("modelarts:notebook:create", "Create a notebook", "Notebook", "createNotebook", spends=True),
        Action("modelarts:notebook:list", "List notebooks and their flavors", "Notebook"),
        Action("modelarts:notebook:get", "See a notebook", "Notebook"),
        Action("modelarts:notebook:update", "Change a notebook or its lease", "Notebook", "updateNotebook"),
        Action("modelarts:notebook:delete", "Delete a notebook", "Notebook", "deleteNotebook"),
        Action("modelarts:notebook:action", "Start and stop a notebook", "Notebook", "startNotebook"),
        Action("modelarts:notebook:access", "Open a notebook and run code in it", "Notebook", "openNotebook"),
        Action("kps:keypair:create", "Make or import an SSH key pair", "keypair", "createOrImportKeypair"),
        Action("kps:keypair:list", "List one's SSH key pairs", "keypair"),
        Action("kps:keypair:get", "See an SSH key pair of one's own", "keypair"),
        Action("kps:keypair:update", "Describe an SSH key pair of one's own", "keypair", "updateKeypair"),
        Action("kps:keypair:delete", "Delete an SSH key pair of one's own", "keypair", "deleteKeypair"),
    )


@hookimpl
def bottega_quotas(platform: Platform) -> Iterable[Quota]:
    return [Quota("instance", platform.settings.max_notebooks, "notebooks")]


@hookimpl
def bottega_events() -> Iterable[type[Event]]:
    from bottega_notebook import events

    return (
        events.NotebookCreated,
        events.NotebookStarted,
        events.NotebookStopped,
        events.NotebookFailed,
        events.NotebookDeleted,
    )


@hookimpl
def bottega_subscribe(bus: Bus, platform: Platform) -> None:
    from bottega.backends import WorkloadFinished, WorkloadStarted
    from bottega_notebook.service import Notebooks

    notebooks = Notebooks(platform)
    bus.on(WorkloadStarted, notebooks.on_started)
    bus.on(WorkloadFinished, notebooks.on_finished)


@hookimpl
def bottega_routes(platform: Platform) -> APIRouter:
    from bottega_notebook import routes
    from bottega_notebook.proxy import Proxy
    from bottega_notebook.service import Notebooks

    return routes.router(platform, Notebooks(platform), Proxy.of(platform))


@hookimpl
def bottega_answers() -> Path:
    return Path(__file__).parent / "answers.json"


@hookimpl
def bottega_plans(platform: Platform) -> Iterable[Planner]:
    from bottega.plans import Planner
    from bottega_notebook.planner import CREATE, NotebookPlanner
    from bottega_notebook.requests import CreateRequest
    from bottega_notebook.service import Notebooks

    return [Planner("/v1/{project_id}/notebooks", CREATE, CreateRequest, NotebookPlanner(Notebooks(platform)).plan)]


@hookimpl
def bottega_lifespan(platform: Platform) -> AbstractAsyncContextManager[None]:
    import anyio

    from bottega_notebook.proxy import Proxy
    from bottega_notebook.service import Notebooks
    from bottega_notebook.ssh_door import SshDoor

    @asynccontextmanager
    async def lifespan() -> AsyncIterator[None]:
        notebooks = Notebooks(platform)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(notebooks.keep_leases)
            tasks.start_soon(notebooks.serve_ssh_again)
            yield
            tasks.cancel_scope.cancel()
        await SshDoor.of(platform).close()
        await Proxy.of(platform).close()

    return lifespan()


@hookimpl
def bottega_commands(cli: typer.Typer) -> None:
    from bottega_notebook import commands, key_pair_commands

    cli.add_typer(commands.app, name="notebooks")
    cli.add_typer(key_pair_commands.app, name="keypairs")
