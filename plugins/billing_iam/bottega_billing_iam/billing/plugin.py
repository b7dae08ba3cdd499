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
    from .money_entities import AccountTerms, Budget, BudgetAlarm, PoolEnd, Renewal, Retention

    money = (AccountTerms, Retention, Renewal, PoolEnd, Budget, BudgetAlarm)
    tables = (UsageRecord, PriceVersion, Order, Invoice, InvoicedEntry, Payer, Entry, Posting)
    return Entities((*tables, *money), Path(__file__).parent / "migrations")


@hookimpl
def bottega_events() -> Iterable[type[Event]]:
    from . import money_events
    from .events import EntryPosted, InvoiceClosed, OrderPlaced

    return (EntryPosted, OrderPlaced, InvoiceClosed, *money_events.EVENTS)


@hookimpl
def bottega_actions() -> Iterable[Action]:
    return (
        Action("bss:bill:view", "See what was used and what it cost", "bill"),
        Action("bss:bill:export", "Write usage and bills to a file", "bill", "exportBill"),
        Action("bss:invoice:view", "See invoices", "invoice"),
        Action("bss:order:pay", "Buy packages, pools and model tuning", "order", "payOrder", spends=True),
        Action("bss:order:view", "See orders and what is left of packages", "order"),
        Action("bss:price:list", "See the price list", "price"),
        Action("bss:order:renew", "Renew a pool, in arrears too", "order", "renewOrder"),
        Action("bss:quote:create", "Ask what something would cost", "quote"),
        Action("bss:balance:view", "See what the account has and owes", "account"),
        Action("bss:account:list", "See all accounts with their balance (operator)", "account"),
        Action("bss:account:update", "Say how an account pays (operator)", "account", "updateAccountTerms"),
        Action("bss:account:recharge", "Add to the balance of an account (operator)", "account", "rechargeAccount"),
        Action("bss:budget:create", "Make a budget", "budget", "createBudget"),
        Action("bss:budget:list", "See budgets", "budget"),
        Action("bss:budget:get", "See a budget and what is spent of it", "budget"),
        Action("bss:budget:update", "Change a budget", "budget", "updateBudget"),
        Action("bss:budget:delete", "Delete a budget", "budget", "deleteBudget"),
    )


@hookimpl
def bottega_subscribe(bus: Bus, platform: Platform) -> None:
    from bottega.backends import WorkloadFinished, WorkloadStarted

    from . import events, metering
    from .arrears import Arrears
    from .budgets import Budgets

    # The arrears first: whose work they stop needs no budget to stop it.
    bus.on(events.EntryPosted, Arrears(platform).on_entry)
    bus.on(events.EntryPosted, Budgets(platform).on_entry)

    bus.on(WorkloadStarted, metering.on_started)
    bus.on(WorkloadFinished, metering.on_finished)
    bus.on(events.NotebookCreated, metering.on_notebook_created)
    bus.on(events.NotebookDeleted, metering.on_notebook_deleted)
    bus.on(events.ApiCalled, metering.on_called)
    bus.on(events.CallsCounted, metering.on_calls_counted)


@hookimpl
def bottega_routes(platform: Platform) -> APIRouter:
    from bottega.routing import join

    from . import account_routes, budget_routes, export_routes, order_routes, quotes, renewals, routes

    others = (export_routes, order_routes, renewals, account_routes, budget_routes, quotes)
    return join(routes.router(platform), *(other.router(platform) for other in others))


@hookimpl
def bottega_lifespan(platform: Platform) -> AbstractAsyncContextManager[None]:
    """Adopt the price list; one that would change the past leaves this plugin broken and the rest running."""
    from . import jobs, prices
    from .watch import Watch

    @asynccontextmanager
    async def running() -> AsyncIterator[None]:
        offered = prices.PriceList.read(platform.settings.price_list or prices.SHIPPED)
        async with platform.database.transaction() as tx:
            await prices.adopt(tx, offered)
        async with jobs.running(platform), Watch(platform).running():
            yield

    return running()


@hookimpl
def bottega_commands(cli: typer.Typer) -> None:
    from . import commands, money_commands, order_commands

    commands.add_to(cli)
    money_commands.add_to(cli)
    order_commands.add_to(cli)
