"""``bottega balance``, ``bottega recharge``, ``bottega quote``, ``bottega budgets`` and ``bottega payers``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from bottega.cli_support import OPTIONS, connect, note, show
from bottega.quoting import show_quote

budgets = typer.Typer(help="Budgets: what may be spent in a month.", no_args_is_help=True)
payers = typer.Typer(help="How accounts pay; for the operator.", no_args_is_help=True)
_BUDGETS = "/v2/{project_id}/budgets"


def add_to(cli: typer.Typer) -> None:
    cli.command("balance")(balance)
    cli.command("recharge")(recharge)
    cli.command("quote")(quote)
    cli.add_typer(budgets, name="budgets")
    cli.add_typer(payers, name="payers")


def balance() -> None:
    """Show what the account has, and whether it is in arrears."""
    show(_flat(connect().get("/v2/{project_id}/balance")))


def recharge(
    account: Annotated[str, typer.Argument(help="The account's id or name.")],
    amount: Annotated[str, typer.Argument(help='Such as "100.00".')],
    order_no: Annotated[str | None, typer.Option(help="Makes it happen once, however often it is sent.")] = None,
    memo: str = "",
) -> None:
    """Add to the balance of an account (operator)."""
    body = {"amount": amount, "order_no": order_no, "memo": memo}
    answer = connect().post(f"/v2/billing/accounts/{_account(account)}/recharges", body)
    if OPTIONS.as_json:
        show(answer)
        return
    if not answer["new"]:
        note(f"order {answer['order_no']} was recharged before; nothing is added")
    show(_flat(answer["account"]))


def quote(
    path: Annotated[str | None, typer.Argument(help="Of the creating request, or its last part: notebooks.")] = None,
    body: Annotated[Path | None, typer.Argument(help="A JSON file with the request's body.")] = None,
) -> None:
    """Show what creating something would cost an hour; without a path, what can be asked for."""
    client = connect()
    offered = client.get("/v2/{project_id}/quotes")["quotes"]
    if path is None or body is None:
        show(offered)
        return
    wanted = path.strip("/")
    found = [q["path"] for q in offered if q["path"].strip("/") == wanted or q["path"].endswith(f"/{wanted}")]
    if len(found) != 1:
        raise typer.BadParameter(f"'{path}' cannot be quoted; there are: {', '.join(q['path'] for q in offered)}")
    try:
        request = json.loads(body.read_text("utf-8"))
    except (OSError, ValueError) as e:
        raise typer.BadParameter(f"{body}: {e}") from e
    show_quote(client.post(f"{found[0]}/quote", request))


@payers.command("list")
def list_payers() -> None:
    """All accounts with their balance and standing."""
    rows = [_flat(row) for row in connect().pages("/v2/billing/accounts", "accounts")]
    show(rows, ["account_name", "account_id", "mode", "balance", "unsettled", "available", "standing"])


@payers.command("set")
def set_payer(
    account: Annotated[str, typer.Argument(help="The account's id or name.")],
    mode: Annotated[str | None, typer.Option(help="prepaid or postpaid; the installation's.")] = None,
    credit: Annotated[str | None, typer.Option(help='How far below zero, such as "100.00".')] = None,
    level: Annotated[str, typer.Option(help="The customer's level, for the length of the retention period.")] = "",
) -> None:
    """Say how one account pays."""
    body = {"mode": mode, "credit": credit, "level": level}
    show(_flat(connect().put(f"/v2/billing/accounts/{_account(account)}/terms", body)))


@budgets.command("list")
def list_budgets(account: Annotated[bool, typer.Option(help="Those of the whole account.")] = False) -> None:
    """The budgets of the project, and how much of each is spent."""
    answer = connect().get(_BUDGETS, {"scope": "account"} if account else None)
    rows = [row | {"scope": f"{row['scope']['type']} {row['scope']['id']}"} for row in answer["budgets"]]
    show(rows, ["name", "budget_id", "scope", "amount", "spent", "used_percent", "stop"])


@budgets.command("create")
def create_budget(
    name: str,
    amount: Annotated[str, typer.Argument(help='What may be spent in a month, such as "500.00".')],
    scope: Annotated[str, typer.Option(help="account, project, workspace, user or tag.")] = "project",
    id: Annotated[str, typer.Option(help="Of the project, workspace or user; key:value of a tag.")] = "",
    threshold: Annotated[list[int] | None, typer.Option(help="Percents at which it is told.")] = None,
    forecast: Annotated[bool, typer.Option(help="Tell, too, when the month will end above it.")] = False,
    stop: Annotated[bool, typer.Option(help="At 100 % stop what runs and begin nothing new.")] = False,
    topic: Annotated[str | None, typer.Option(help="The URN of the topic to tell.")] = None,
) -> None:
    """Make a budget for each calendar month from this one on."""
    body: dict[str, Any] = {"name": name, "amount": amount, "scope": {"type": scope, "id": id}}
    body |= {"thresholds": threshold or [80, 100], "forecast": forecast, "stop": stop, "topic_urn": topic}
    show(connect().post(_BUDGETS, body))


Named = Annotated[str, typer.Argument(help="The budget's id or name.")]


@budgets.command("show")
def show_budget(budget: Named) -> None:
    """A budget, what is spent of it, and what was told."""
    show(connect().get(f"{_BUDGETS}/{_budget(budget)}"))


@budgets.command("delete")
def delete_budget(budget: Named) -> None:
    """Delete a budget."""
    connect().delete(f"{_BUDGETS}/{_budget(budget)}")


def _budget(text: str) -> str:
    """The id of a budget that is named by its id or its name."""
    client = connect()
    rows = client.get(_BUDGETS)["budgets"]
    found = [row["budget_id"] for row in rows if row["name"] == text]
    return str(found[0]) if len(found) == 1 else text


def _flat(account: dict[str, Any]) -> dict[str, Any]:
    arrears = account["arrears"] or {}
    return {k: v for k, v in account.items() if k != "arrears"} | {f"arrears_{k}": v for k, v in arrears.items()}


def _account(text: str) -> str:
    """The id of an account that is named by its id or its name."""
    rows = list(connect().pages("/v2/billing/accounts", "accounts"))
    found = [row["account_id"] for row in rows if text in (row["account_id"], row["account_name"])]
    if not found:
        raise typer.BadParameter(f"there is no account '{text}'")
    return str(found[0])
