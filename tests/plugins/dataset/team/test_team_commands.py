"""Team labeling from the command line and from Python: all an owner does, and what a member does with its password."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bottega.client import ApiFailure
from bottega.testing import Tenant
from bottega.testing.mailbox import Mailbox
from bottega_dataset.team.client import LabelingConsole, Teams

from .conftest import GOOD, Job, initial_password


@pytest.fixture
def member(tenant: Tenant, mailbox: Mailbox) -> Callable[[str], LabelingConsole]:
    """The console of somebody who was invited, with a password of its own."""

    def member(email: str) -> LabelingConsole:
        console = LabelingConsole(tenant.running.url, tenant.project_id)
        password = initial_password(mailbox.wait(email, "Invitation"))
        console.login(email, password)
        console.change_password(password, GOOD)
        return console

    return member


def test_a_round_of_team_labeling(
    cli: Any, job: Job, address: Callable[[str], str], member: Callable[[str], LabelingConsole]
) -> None:
    ann, ben, eve = address("ann"), address("ben"), address("eve")
    cli.json("invite", "labelers", ann, ben, group="teams")
    cli.json("invite", "labelers", eve, "--role", "reviewer", group="teams")
    assert cli.json("modify", "labelers", "--description", "who labels", group="teams")["description"] == "who labels"
    round_1 = cli.json(
        *("team-tasks", "create", "texts", "round-1", "--team", "labelers", "--where", '{"text": "text"}'),
        *("--unlabeled", "--member", f"{ann}=2", "--member", ben, "--member", eve, "--no-write"),
    )
    given = {one["email"]: one["sample_stats"]["total_sample_count"] for one in round_1["worker_stats"]}
    assert (given[ann], given[ben]) == (4, 2)
    for email, name in ((ann, "good"), (ben, "bad")):
        console = member(email)
        (task,) = console.tasks()
        mine = console.samples(task["task_id"], "__NONE__")
        assert console.sample(task["task_id"], mine[0]["sample_id"])["sample_data"] == mine[0]["sample_data"]
        console.label(task["task_id"], {one["sample_id"]: [name] for one in mine})
    waiting = cli.json("team-tasks", "samples", "texts", "round-1", "--state", "unreviewed")
    ids = [one["sample_id"] for one in waiting]
    assert len(ids) == 6
    cli.done("team-tasks", "review", "texts", "round-1", ids[0], "--reject", "--comment", "look again", "--score", "C")
    cli.done("team-tasks", "review", "texts", "round-1", *ids[1:], "--score", "A")
    (back,) = cli.json("team-tasks", "samples", "texts", "round-1", "--state", "rejected")
    assert back["sample_id"] == ids[0]
    by = {one["worker_id"]: one["email"] for one in round_1["worker_stats"]}
    Teams(job.client).label("texts", "round-1", by[back["worker_id"]], {ids[0]: ["good"]})
    cli.done("team-tasks", "review", "texts", "round-1", ids[0])
    (drawn, *_) = cli.json("team-tasks", "draw", "texts", "round-1", "--rate", "0.5")
    cli.done("team-tasks", "check", "texts", "round-1", drawn["sample_id"], "--score", "B")
    cli.json("team-tasks", "accept", "texts", "round-1")
    assert len(job.labels()) == 2, "it was asked not to write by itself"
    cli.json("team-tasks", "write", "texts", "round-1")
    assert len(job.labels()) == 8
    counted = Teams(job.client).statistics("texts", "round-1")["label_stats"]
    assert {one["name"] for one in counted} >= {"good", "bad"}
    renamed = cli.json("team-tasks", "modify", "texts", "round-1", "--name", "first")
    assert renamed["task_name"] == "first"


def test_samples_go_by_label_once_the_administrator_starts(
    cli: Any, job: Job, address: Callable[[str], str], member: Callable[[str], LabelingConsole]
) -> None:
    ann, ben, amy = address("ann"), address("ben"), address("amy")
    cli.json("invite", "labelers", ann, ben, amy, group="teams")
    changed = cli.json("change-member", "labelers", amy, "--role", "administrator", group="teams")
    assert changed["role"] == 2
    waiting = cli.json(
        *("team-tasks", "create", "texts", "old", "--team", "labelers", "--agency", amy),
        *("--of-label", f"old={ben}", "--persons", "1"),
    )
    assert waiting["status"] == 6
    console = member(amy)
    console.start(console.tasks()[0]["task_id"])
    job.task_id = waiting["task_id"]
    job.wait(1)
    by = {one["worker_id"]: one["email"] for one in job.show()["worker_stats"]}
    given = {one["sample_data"][0]: by[one["worker_id"]] for one in job.samples()}
    assert {given["text 0"], given["text 1"]} == {ben}
    assert set(given.values()) == {ann, ben}
    again = cli.run("team-tasks", "start", "texts", "old")
    assert isinstance(again.exception, ApiFailure)
    assert again.exception.status == 409
    nobody = cli.run("team-tasks", "create", "texts", "x", "--team", "labelers", "--member", "nobody@labels.example")
    assert isinstance(nobody.exception, ApiFailure)
    assert "in none of these teams" in nobody.exception.message
    assert (
        cli.run("team-tasks", "create", "texts", "x", "--team", "labelers", "--member", "a@b.example=x").exit_code == 2
    )


def test_a_forgotten_password_is_set_anew(
    cli: Any, tenant: Tenant, mailbox: Mailbox, address: Callable[[str], str], member: Callable[[str], LabelingConsole]
) -> None:
    ann = address("ann")
    cli.json("create", "readers", group="teams")
    cli.json("invite", "readers", ann, group="teams")
    console = member(ann)
    console.logout()
    console.forgotten(ann)
    mail = mailbox.wait(ann, "password")
    code = next(line.strip() for line in mail.splitlines() if line.startswith("    "))
    console.reset(ann, code, "Another-horse-8")
    assert console.login(ann, "Another-horse-8")["must_change_password"] is False
