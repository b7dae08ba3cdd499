"""``bottega topics``: who is told what happens."""

from __future__ import annotations

from typing import Annotated

import typer

from bottega.cli_support import OPTIONS, connect, note, show

app = typer.Typer(help="Topics, and the addresses that hear them.", no_args_is_help=True)
_TOPICS = "/v2/{project_id}/notifications/topics"
_STATES = {0: "asked", 1: "confirmed", 3: "left"}


def add_to(cli: typer.Typer) -> None:
    cli.add_typer(app, name="topics")


@app.command("create")
def create(name: str, display_name: Annotated[str, typer.Option("--title", help="Shown to subscribers.")] = "") -> None:
    """Make a topic and print its URN."""
    answer = connect().post(_TOPICS, {"name": name, "display_name": display_name})
    show({"topic_urn": answer["topic_urn"]})


@app.command("list")
def find() -> None:
    """List the topics of the project."""
    answer = connect().get(_TOPICS)
    show(answer if OPTIONS.as_json else answer["topics"], ["name", "display_name", "topic_urn"])


@app.command("delete")
def delete(topic: str) -> None:
    """Delete a topic with its subscriptions."""
    connect().delete(f"{_TOPICS}/{topic}")
    note("deleted")


@app.command("subscribe")
def subscribe(
    topic: str,
    endpoint: Annotated[str, typer.Argument(help="An e-mail address, or http(s)://…")],
    remark: str = "",
) -> None:
    """Ask an address whether it wants to hear a topic; it hears nothing until it agrees."""
    scheme = endpoint.partition("://")[0]
    protocol = scheme if scheme in ("http", "https") else "email"
    answer = connect().post(
        f"{_TOPICS}/{topic}/subscriptions", {"protocol": protocol, "endpoint": endpoint, "remark": remark}
    )
    show({"subscription_urn": answer["subscription_urn"]})


@app.command("subscriptions")
def subscriptions(topic: str) -> None:
    """List who subscribed to a topic."""
    answer = connect().get(f"{_TOPICS}/{topic}/subscriptions")
    if OPTIONS.as_json:
        show(answer)
        return
    rows = [{**row, "state": _STATES.get(row["status"], row["status"])} for row in answer["subscriptions"]]
    show(rows, ["protocol", "endpoint", "state", "remark", "subscription_urn"])


@app.command("unsubscribe")
def unsubscribe(subscription: str) -> None:
    """Cancel a subscription, by its URN."""
    connect().delete(f"/v2/{{project_id}}/notifications/subscriptions/{subscription}")
    note("cancelled")


@app.command("publish")
def publish(topic: str, message: str, subject: str = "") -> None:
    """Send a message to all who hear a topic."""
    answer = connect().post(f"{_TOPICS}/{topic}/publish", {"subject": subject, "message": message})
    show({"message_id": answer["message_id"]})
