"""``bottega bill``, ``usage``, ``invoices`` and ``prices``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from bottega.cli_support import OPTIONS, connect, note, show

Since = Annotated[str | None, typer.Option("--from", help="Date or epoch ms; the month's beginning.")]
Until = Annotated[str | None, typer.Option("--to", help="Date or epoch ms; now.")]
Whole = Annotated[bool, typer.Option("--account", help="The whole account, not only the project.")]
OfUser = Annotated[str | None, typer.Option("--user", help="Only of this user (id, as `bill --by user` shows it).")]
OfWorkspace = Annotated[
    str | None, typer.Option("--workspace", help="Only of this workspace (id, as `bill --by workspace` shows it).")
]
OfTag = Annotated[str | None, typer.Option("--tag", help="Only what has this tag, key:value.")]
Format = Annotated[str, typer.Option(help="csv or parquet.")]


def add_to(cli: typer.Typer) -> None:
    cli.command("bill")(bill)
    cli.command("usage")(usage)
    cli.command("prices")(prices)
    app = typer.Typer(help="Closed months.", no_args_is_help=True)
    app.command("list")(list_invoices)
    app.command("show")(show_invoice)
    cli.add_typer(app, name="invoices")


def bill(
    since: Since = None,
    until: Until = None,
    by: Annotated[
        str, typer.Option(help="resource, account, project, workspace, user, flavor, kind, day or tag:<key>.")
    ] = "resource",
    account: Whole = False,
    user: OfUser = None,
    workspace: OfWorkspace = None,
    tag: OfTag = None,
    to: Annotated[
        str | None, typer.Option("--export", help="Write it to a file, or to a bucket with s3://bucket/path.")
    ] = None,
    format: Format = "csv",
) -> None:
    """Show what was used and what it costs, to the cent."""
    asked = _asked(since, until, account, user, workspace, tag) | {"group_by": by}
    if to is not None:
        _export(asked, to, format)
        return
    answer = connect().get("/v2/{project_id}/bills", asked | {"limit": 1000})
    if OPTIONS.as_json:
        show(answer)
        return
    columns = {"name": "name", "seconds": "seconds", "node_seconds": "node seconds", "amount": "amount"}
    if by == "resource":
        # A URN is as long as a line; its kind is what tells resources of one name apart.
        for row in answer["records"]:
            row["kind"] = row["resource"].rpartition(":")[2].partition("/")[0]
        columns = {"kind": "kind"} | columns
    else:
        columns = {by: by} | columns
    show(answer["records"], columns)
    note(f"[bold]total {answer['total_amount']} {answer['currency']}[/] (exactly {answer['exact_amount']})")


def prices() -> None:
    """Show the price list: per node and hour."""
    answer = connect().get("/v2/{project_id}/prices")
    if OPTIONS.as_json:
        show(answer)
        return
    for version in answer["versions"]:
        rows = [{"flavor": flavor, "price": price} for flavor, price in version["flavors"].items()]
        rows.append({"flavor": "any other", "price": version["default"]})
        show(rows, title=f"{version['version']}, from {version['valid_from']}, {answer['currency']} an hour")
        if version["free_kinds"]:
            note(f"free: {', '.join(version['free_kinds'])}")


def usage(
    since: Since = None,
    until: Until = None,
    account: Whole = False,
    user: OfUser = None,
    workspace: OfWorkspace = None,
    tag: OfTag = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many records.")] = 100,
    to: Annotated[
        str | None, typer.Option("--export", help="Write all to a file, or to a bucket with s3://bucket/path.")
    ] = None,
    format: Format = "csv",
) -> None:
    """Show what was used, record by record, with what each costs."""
    asked = _asked(since, until, account, user, workspace, tag)
    if to is not None:
        _export(asked, to, format)
        return
    answer = connect().get("/v2/{project_id}/usage-records", asked | {"limit": limit})
    if OPTIONS.as_json:
        show(answer)
        return
    columns = ("kind", "name", "flavor", "measure", "quantity", "seconds", "amount", "user_name")
    show(answer["records"], {name: name.replace("_", " ") for name in columns})
    if answer["more"]:
        note("there is more: --limit, or --export to a file")


def list_invoices() -> None:
    """List the invoices of the account, the newest first."""
    answer = connect().get("/v2/{project_id}/invoices", {"limit": 1000})
    if OPTIONS.as_json:
        show(answer)
        return
    show(answer["invoices"], {"invoice_no": "invoice", "month": "month", "amount": "amount", "currency": "currency"})


def show_invoice(invoice_no: Annotated[str, typer.Argument(help="As `bottega invoices list` shows it.")]) -> None:
    """Show an invoice line by line."""
    answer = connect().get(f"/v2/{{project_id}}/invoices/{invoice_no}")
    if OPTIONS.as_json:
        show(answer)
        return
    columns = ("kind", "name", "flavor", "user_name", "corrects", "amount")
    show(answer["lines"], {name: name.replace("_", " ") for name in columns})
    note(f"[bold]total {answer['amount']} {answer['currency']}[/] (exactly {answer['exact_amount']})")


def _asked(
    since: str | None, until: str | None, account: bool, user: str | None, workspace: str | None, tag: str | None
) -> dict[str, Any]:
    scope = "account" if account else None
    return {"from": since, "to": until, "scope": scope, "user_id": user, "workspace_id": workspace, "tag": tag}


def _export(asked: dict[str, Any], to: str, format: str) -> None:
    client = connect()
    asked = {name: value for name, value in asked.items() if value is not None} | {"format": format}
    if to.startswith(("s3://", "obs://")):
        written = client.post("/v2/{project_id}/bills/exports", asked | {"path": to})
        note(f"{written['rows']} rows in {written['path']}")
        return
    answer = client.request("GET", "/v2/{project_id}/bills/export", params=asked)
    Path(to).write_bytes(answer.content)
    note(f"{len(answer.content)} bytes in {to}")
