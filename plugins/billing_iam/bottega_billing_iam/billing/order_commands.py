"""``bottega orders`` and ``bottega packages``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from bottega.cli_support import OPTIONS, connect, note, show

ORDERS = "/v2/{project_id}/orders"
Number = Annotated[str | None, typer.Option("--order-no", help="Your own number: the same one never orders twice.")]
Whole = Annotated[bool, typer.Option("--account", help="The whole account, not only the project.")]


def add_to(cli: typer.Typer) -> None:
    orders = typer.Typer(help="What was bought at once: packages, pools, model tuning.", no_args_is_help=True)
    orders.command("list")(list_orders)
    orders.command("show")(show_order)
    orders.command("pool")(buy_pool)
    orders.command("renew")(renew_pool)
    orders.command("tuning")(buy_tuning)
    cli.add_typer(orders, name="orders")
    packages = typer.Typer(help="Prepaid hours, which are used first.", no_args_is_help=True)
    packages.command("offers")(list_offers)
    packages.command("buy")(buy_package)
    packages.command("list")(list_packages)
    cli.add_typer(packages, name="packages")


def list_orders(account: Whole = False) -> None:
    """List orders, the newest first."""
    _list(ORDERS, account, ("order_id", "order_type", "name", "amount", "currency", "status"))


def show_order(order_id: Annotated[str, typer.Argument(help="As `bottega orders list` shows it.")]) -> None:
    """Show an order; of a pool also whether it may be scaled or deleted."""
    show(connect().get(f"{ORDERS}/{order_id}"))


def buy_pool(
    name: Annotated[str, typer.Argument(help="Lower case letters, digits, - and _.")],
    flavor: Annotated[str, typer.Option(help="Of each node.")],
    months: Annotated[int, typer.Option(min=1, max=12, help="Twelve cost ten.")],
    nodes: Annotated[int, typer.Option(min=1)] = 1,
    order_no: Number = None,
) -> None:
    """Buy a dedicated pool by the month. It can be neither scaled nor deleted before it ends."""
    _buy({"order_type": "pool", "name": name, "flavor": flavor, "node_count": nodes, "period_num": months}, order_no)


def renew_pool(
    order_id: Annotated[str, typer.Argument(help="Any order of the pool.")],
    months: Annotated[int, typer.Option(min=1, max=12, help="Twelve cost ten.")],
    order_no: Number = None,
) -> None:
    """Renew a pool from the end of what is paid, in its retention period too."""
    show(connect().post(f"{ORDERS}/{order_id}/renewals", {"period_num": months, "order_no": order_no}))


def buy_tuning(
    amount: Annotated[str, typer.Argument(help="A multiple of 1000, such as 100000.")],
    agreed: Annotated[bool, typer.Option(help="You have read and accept the payment statement.")] = False,
    order_no: Number = None,
) -> None:
    """Order a model tuning, paid once."""
    _buy({"order_type": "model_tuning", "amount": amount, "agreed": agreed}, order_no)


def list_offers() -> None:
    """List the packages that can be bought now."""
    answer = connect().get("/v2/{project_id}/package-offers")
    if OPTIONS.as_json:
        show(answer)
        return
    show(answer["offers"], {"name": "name", "hours": "hours", "period_num": "months", "price": "price"})


def buy_package(
    name: Annotated[str, typer.Argument(help="As `bottega packages offers` shows it.")],
    count: Annotated[int, typer.Option(min=1, help="How many of it.")] = 1,
    order_no: Number = None,
) -> None:
    """Buy a package of hours."""
    _buy({"order_type": "package", "name": name, "count": count}, order_no)


def list_packages(account: Whole = False) -> None:
    """List the packages bought, with what is left of each."""
    columns = ("order_id", "name", "node_seconds", "remaining_node_seconds", "status")
    _list("/v2/{project_id}/packages", account, columns)


def _list(path: str, account: bool, columns: tuple[str, ...]) -> None:
    answer = connect().get(path, {"scope": "account" if account else None, "limit": 1000})
    if OPTIONS.as_json:
        show(answer)
        return
    show(answer["orders"], {name: name.replace("_", " ") for name in columns})


def _buy(body: dict[str, Any], order_no: str | None) -> None:
    answer = connect().post(ORDERS, body | ({"order_no": order_no} if order_no else {}))
    if OPTIONS.as_json:
        show(answer)
        return
    note(f"{answer['order_type']} {answer['name']} for {answer['amount']} {answer['currency']}: {answer['order_id']}")
