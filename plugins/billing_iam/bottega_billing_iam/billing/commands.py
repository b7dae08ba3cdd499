"""``bottega bill`` and ``bottega prices``."""

from __future__ import annotations

from typing import Annotated

import typer

from bottega.cli_support import OPTIONS, connect, note, show


def add_to(cli: typer.Typer) -> None:
    cli.command("bill")(bill)
    cli.command("prices")(prices)


def bill(
    since: Annotated[str | None, typer.Option("--from", help="Date or epoch ms; the month's beginning.")] = None,
    until: Annotated[str | None, typer.Option("--to", help="Date or epoch ms; now.")] = None,
    by: Annotated[str, typer.Option(help="resource, flavor, kind, user, project or day.")] = "resource",
    account: Annotated[bool, typer.Option(help="The whole account, not only the project.")] = False,
) -> None:
    """Show what was used and what it costs, to the cent."""
    asked = {"from": since, "to": until, "group_by": by, "scope": "account" if account else None, "limit": 1000}
    answer = connect().get("/v2/{project_id}/bills", asked)
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
