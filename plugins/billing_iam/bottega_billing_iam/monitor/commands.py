"""``bottega alarms`` and ``bottega measured``."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from bottega.cli_support import OPTIONS, connect, note, show

app = typer.Typer(help="Thresholds on metrics, and whom to tell when they are crossed.", no_args_is_help=True)


def add_to(cli: typer.Typer) -> None:
    cli.add_typer(app, name="alarms")
    cli.command("measured")(measured)


def _dimensions(pairs: list[str]) -> list[dict[str, str]]:
    split = [pair.partition("=") for pair in pairs]
    for name, equals, value in split:
        if not (name and equals and value):
            raise typer.BadParameter("write NAME=VALUE, such as service_id=4f1c…", param_hint="--of")
    return [{"name": name, "value": value} for name, _, value in split]


OF = Annotated[list[str], typer.Option("--of", help="What it is measured of: NAME=VALUE, such as service_id=4f1c…")]


@app.command("create")
def create(
    name: str,
    metric: str,
    comparison: Annotated[str, typer.Argument(help="One of > >= = <= <")],
    value: float,
    of: OF = [],  # noqa: B006  # typer reads the default, nobody changes it
    statistic: Annotated[str, typer.Option(help="average, max, min or sum")] = "average",
    period: Annotated[int, typer.Option(help="Seconds: 1, 300, 1200, 3600, 14400 or 86400")] = 300,
    count: Annotated[int, typer.Option(help="Periods in a row")] = 1,
    topic: Annotated[list[str], typer.Option(help="URN of a topic to tell; several times for several")] = [],  # noqa: B006
    platform: Annotated[bool, typer.Option(help="A metric of the platform itself")] = False,
) -> None:
    """Make an alarm rule."""
    told = [{"type": "notification", "notificationList": topic}] if topic else []
    metric_ref: dict[str, Any] = {"metric_name": metric, "dimensions": _dimensions(of)}
    if platform:
        metric_ref["namespace"] = "SYS.Bottega"
    condition = {
        "period": period,
        "filter": statistic,
        "comparison_operator": comparison,
        "value": value,
        "count": count,
    }
    body = {
        "alarm_name": name,
        "metric": metric_ref,
        "condition": condition,
        "alarm_actions": told,
        "ok_actions": told,
    }
    show(connect().post("/V1.0/{project_id}/alarms", body))


@app.command("list")
def find() -> None:
    """List the alarm rules of the project with their state."""
    answer = connect().get("/V1.0/{project_id}/alarms", {"limit": 1000})
    if OPTIONS.as_json:
        show(answer)
        return
    rows = [
        {
            "id": rule["alarm_id"],
            "name": rule["alarm_name"],
            "metric": rule["metric"]["metric_name"],
            "rule": f"{rule['condition']['comparison_operator']} {rule['condition']['value']:g}",
            "state": rule["alarm_state"] if rule["alarm_enabled"] else "off",
        }
        for rule in answer["metric_alarms"]
    ]
    show(rows, {"id": "id", "name": "name", "metric": "metric", "rule": "rule", "state": "state"})


@app.command("delete")
def delete(alarm_id: str) -> None:
    """Delete an alarm rule."""
    connect().delete(f"/V1.0/{{project_id}}/alarms/{alarm_id}")
    note("deleted")


@app.command("switch")
def switch(alarm_id: str, on: Annotated[bool, typer.Argument(help="true or false")]) -> None:
    """Switch an alarm rule on or off."""
    connect().put(f"/V1.0/{{project_id}}/alarms/{alarm_id}/action", {"alarm_enabled": on})


def measured(
    metric: Annotated[str | None, typer.Argument(help="Without one: list what is measured.")] = None,
    of: OF = [],  # noqa: B006
    statistic: Annotated[str, typer.Option(help="average, max, min or sum")] = "average",
    period: Annotated[int, typer.Option(help="Seconds: 1, 300, 1200, 3600, 14400 or 86400")] = 300,
    hours: Annotated[float, typer.Option(help="How far back")] = 1,
    platform: Annotated[bool, typer.Option(help="A metric of the platform itself")] = False,
) -> None:
    """Show what was measured of services, jobs, notebooks, pools and the platform."""
    asked: dict[str, Any] = {"namespace": "SYS.Bottega"} if platform else {}
    if metric is None:
        answer = connect().get("/V1.0/{project_id}/metrics", asked)
        rows = [
            {"metric": m["metric_name"], "of": " ".join(f"{d['name']}={d['value']}" for d in m["dimensions"])}
            for m in answer["metrics"]
        ]
        show(answer if OPTIONS.as_json else rows)
        return
    now = int(time.time() * 1000)
    dims = {f"dim.{i}": f"{d['name']},{d['value']}" for i, d in enumerate(_dimensions(of))}
    asked |= {"metric_name": metric, "from": now - int(hours * 3_600_000), "to": now + 60_000}
    asked |= {"period": period, "filter": statistic, **dims}
    answer = connect().get("/V1.0/{project_id}/metric-data", asked)
    show(answer if OPTIONS.as_json else answer["datapoints"])
