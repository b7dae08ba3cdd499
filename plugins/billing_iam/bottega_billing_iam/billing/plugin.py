"""The plugin `billing`: meters workloads by listening to their events, and shows the bill. Nobody calls it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bottega.hookspecs import hookimpl
from bottega.plugins import Action, Entities

if TYPE_CHECKING:
    import typer
    from fastapi import APIRouter
    from pydantic import BaseModel

    from bottega.bus import Bus
    from bottega.events import Event
    from bottega.platform import Platform


@hookimpl
def bottega_settings() -> type[BaseModel]:
    from .settings import BillingSettings

    return BillingSettings


@hookimpl
def bottega_entities() -> Entities:
    from .entities import Invoice, InvoicedEntry, Order, PriceVersion, UsageRecord
    from .ledger_entities import Entry, Payer, Posting

    tables = (UsageRecord, PriceVersion, Order, Invoice, InvoicedEntry, Payer, Entry, Posting)
    return Entities(tables, Path(__file__).parent / "migrations")


@hookimpl
def bottega_events() -> Iterable[type[Event]]:
    from .events import EntryPosted

    return (EntryPosted,)


@hookimpl
def bottega_actions() -> Iterable[Action]:
    return (
        Action("bss:bill:view", "See what was used and what it cost", "bill"),
        Action("bss:price:list", "See the price list", "price"),
    )


@hookimpl
def bottega_subscribe(bus: Bus) -> None:
    from bottega.backends import WorkloadFinished, WorkloadStarted

    from . import events, metering

    bus.on(WorkloadStarted, metering.on_started)
    bus.on(WorkloadFinished, metering.on_finished)
    bus.on(events.NotebookCreated, metering.on_notebook_created)
    bus.on(events.NotebookDeleted, metering.on_notebook_deleted)
    bus.on(events.ApiCalled, metering.on_called)
    bus.on(events.CallsCounted, metering.on_calls_counted)


@hookimpl
def bottega_routes(platform: Platform) -> APIRouter:
    from . import routes

    return routes.router(platform)


@hookimpl
def bottega_lifespan(platform: Platform) -> AbstractAsyncContextManager[None]:
    """Adopt the price list; one that would change the past leaves this plugin broken and the rest running."""
    from . import prices
    from .settlement import Settlements

    @asynccontextmanager
    async def running() -> AsyncIterator[None]:
        offered = prices.PriceList.read(platform.settings.price_list or prices.SHIPPED)
        async with platform.database.transaction() as tx:
            await prices.adopt(tx, offered)
        async with Settlements(platform).running():
            yield

    return running()


@hookimpl
def bottega_commands(cli: typer.Typer) -> None:
    from . import commands

    commands.add_to(cli)
