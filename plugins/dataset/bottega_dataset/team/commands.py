"""``bottega teams`` and ``bottega datasets team-tasks``: labeling teams from the command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from bottega.cli_support import OPTIONS, connect, note, show
from bottega_dataset.labeling_commands import Where, conditions_of
from bottega_dataset.team.client import CANCEL, PASS_ALL, PASS_REST, REJECT_ALL, REJECT_REST, ROLES, Teams

teams = typer.Typer(no_args_is_help=True, help="Labeling teams: members by e-mail, without platform accounts.")
team_tasks = typer.Typer(no_args_is_help=True, help="What labeling teams have to do in a dataset.")
_TEAM = {"workforce_name": "name", "worker_count": "members", "description": "description", "workforce_id": "id"}
_MEMBER = {"email": "email", "role": "role", "status": "status", "description": "description", "worker_id": "id"}
_STATUS = {0: "starting", 1: "running", 2: "acceptance", 3: "completed", 4: "rejected", 6: "created"}
_LOGIN = {0: "not invited", 1: "invited", 2: "logged in", 3: "deleted"}
_ACTIONS = {
    "pass": PASS_ALL,
    "reject": REJECT_ALL,
    "cancel": CANCEL,
    "pass-rest": PASS_REST,
    "reject-rest": REJECT_REST,
}


@teams.command("list")
def list_teams() -> None:
    """List the project's labeling teams."""
    show(list(Teams(connect()).list()), _TEAM)


@teams.command("create")
def create_team(name: str, description: str = "") -> None:
    """Create a labeling team."""
    service = Teams(connect())
    service.create(name, description)
    show(service.get(name), _TEAM)


@teams.command("show")
def show_team(name: str) -> None:
    """Show a labeling team and its members."""
    service = Teams(connect())
    shown = service.get(name) | {"workers": list(service.members(name))}
    if OPTIONS.as_json:
        show(shown)
        return
    show(shown, _TEAM)
    show([_named(one) for one in shown["workers"]], _MEMBER)


@teams.command("invite")
def invite(
    name: str,
    email: Annotated[list[str], typer.Argument(help="Addresses of who is to be in the team.")],
    role: Annotated[str, typer.Option(help="annotator, reviewer or administrator.")] = "annotator",
    description: str = "",
) -> None:
    """Take people into a team; each is sent an invitation with a first password."""
    _check_role(role)
    made = Teams(connect()).invite(name, email, role, description)
    rows = [{"email": one, **row} for one, row in zip(email, made, strict=False)]
    columns = ["email", "worker_id"]
    if any("initial_password" in row for row in rows):
        note("no mail server is set up: hand the passwords over yourself")
        columns.append("initial_password")
    show(rows, columns)


@teams.command("modify")
def modify_team(
    name: str,
    new_name: Annotated[str | None, typer.Option("--name", help="Its name from now on.")] = None,
    description: Annotated[str | None, typer.Option(help="Its description from now on.")] = None,
) -> None:
    """Give a labeling team another name or description."""
    service = Teams(connect())
    service.modify(name, **_given(workforce_name=new_name, description=description))
    show(service.get(new_name or name), _TEAM)


@teams.command("change-member")
def change_member(
    name: str,
    email: str,
    role: Annotated[str | None, typer.Option(help="annotator, reviewer or administrator.")] = None,
    description: Annotated[str | None, typer.Option()] = None,
) -> None:
    """Give a member another role or description."""
    if role is not None:
        _check_role(role)
    service = Teams(connect())
    service.change_member(name, email, role, description)
    changed = service.member(name, email)
    show(changed if OPTIONS.as_json else _named(changed), _MEMBER)


@teams.command("remove")
def remove(name: str, email: str) -> None:
    """Take a member out of a team; what it has not labeled goes to others."""
    Teams(connect()).remove(name, email)
    note(f"{email} is not in {name} any more")


@teams.command("reset-password")
def reset_password(name: str, email: str) -> None:
    """Give a member a new first password, by e-mail; also invites once more."""
    answer = Teams(connect()).reset_password(name, email)
    if "initial_password" in answer:
        show(answer, ["worker_id", "initial_password"])
    else:
        note(f"a new password was sent to {email}")


@teams.command("delete")
def delete_team(name: str, yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False) -> None:
    """Delete a team and its members; what they labeled stays."""
    service = Teams(connect())
    if not yes:
        count = service.get(name)["worker_count"]
        typer.confirm(f"delete labeling team {name} with {count} members?", abort=True)
    service.delete(name)
    note(f"labeling team {name} deleted")


@team_tasks.command("list")
def list_tasks(dataset: str) -> None:
    """List the team labeling tasks of a dataset."""
    columns = {"task_name": "name", "status": "status", "repetition": "persons a sample", "pass_rate": "pass rate"}
    rows = list(Teams(connect()).tasks(dataset))
    show(rows if OPTIONS.as_json else [_state(row) for row in rows], columns | {"task_id": "id"})


@team_tasks.command("create")
def create_task(
    dataset: str,
    name: str,
    team: Annotated[list[str], typer.Option(help="Who labels; may be given several times.")],
    unlabeled: Annotated[bool, typer.Option(help="Only samples without labels.")] = False,
    where: Where = None,
    persons: Annotated[int, typer.Option(min=1, help="How many label each sample, to compare them.")] = 1,
    member: Annotated[
        list[str] | None,
        typer.Option(help="Only these take part: anna@example.com, or with a weight anna@example.com=2."),
    ] = None,
    of_label: Annotated[
        list[str] | None, typer.Option(help="Whose samples of a label are: cat=anna@example.com,ben@example.com.")
    ] = None,
    agency: Annotated[str | None, typer.Option(help="The team administrator who is to start it.")] = None,
    new_data: Annotated[bool, typer.Option(help="Samples that come later join.")] = False,
    suggestions: Annotated[bool, typer.Option(help="Show annotators what auto-labeling suggests.")] = False,
    write: Annotated[bool, typer.Option(help="What is accepted becomes the dataset's by itself.")] = True,
    seed: int = 0,
) -> None:
    """Have samples labeled by teams: given out evenly, by weight, or by label."""
    options: dict[str, Any] = {
        "repetition": persons,
        "sample_state": "__NONE__" if unlabeled else None,
        "sample_conditions": conditions_of(where),
        "synchronize_data": new_data,
        "synchronize_auto_labeling_data": suggestions,
        "auto_sync_dataset": write,
        "seed": seed,
    }
    members = _weights(member) if member else None
    if of_label:
        parts = [one.partition("=") for one in of_label]
        options["allocation"] = {"method": "label", "labels": {label: to.split(",") for label, _, to in parts}}
    elif member and any("=" in one for one in member):
        options["allocation"] = {"method": "weight"}
    service = Teams(connect())
    _show(service, dataset, service.start_task(dataset, name, team, members=members, agency=agency, **options))


@team_tasks.command("start")
def start_task(dataset: str, task: str) -> None:
    """Start a task that waits for its team administrator."""
    service = Teams(connect())
    _show(service, dataset, service.begin(dataset, task))


@team_tasks.command("modify")
def modify_task(
    dataset: str,
    task: str,
    new_name: Annotated[str | None, typer.Option("--name", help="Its name from now on.")] = None,
    description: Annotated[str | None, typer.Option(help="Its description from now on.")] = None,
) -> None:
    """Give a team labeling task another name or description."""
    service = Teams(connect())
    service.modify_task(dataset, task, **_given(task_name=new_name, description=description))
    _show(service, dataset, new_name or task)


@team_tasks.command("show")
def show_task(dataset: str, task: str) -> None:
    """Show how far a team labeling task and each of its members is."""
    _show(Teams(connect()), dataset, task)


@team_tasks.command("samples")
def list_samples(
    dataset: str,
    task: str,
    state: Annotated[
        str | None, typer.Option(help="none, unreviewed, rejected, reviewed, uncheck, accepted, workforce_sampled, …")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many to show.")] = 20,
) -> None:
    """Show what was said of the samples of a team labeling task."""
    asked = {"sample_state": f"__{state.upper()}__"} if state else {}
    found = Teams(connect()).samples(dataset, task, **asked)
    rows = [_sample(row) for row, _ in zip(found, range(limit), strict=False)]
    columns = {"sample_id": "id", "text_or_name": "sample", "label_names": "labels", "worker_id": "by"}
    show(rows, columns)


_Samples = Annotated[list[str], typer.Argument(help="Sample ids.")]
_Reject = Annotated[bool, typer.Option("--reject", help="Send them back to who labeled them.")]
_Comment = Annotated[str, typer.Option(help="What is to be done better.")]
_Score = Annotated[str | None, typer.Option(help="A to D.")]
_By = Annotated[str | None, typer.Option("--by", help="Of samples several label: whose answer (id of the member).")]


@team_tasks.command("review")
def review(
    dataset: str,
    task: str,
    sample: _Samples,
    reject: _Reject = False,
    comment: _Comment = "",
    score: _Score = None,
    by: _By = None,
) -> None:
    """Accept what annotators say of samples, or send it back."""
    Teams(connect()).review(dataset, task, _comments(sample, not reject, comment, score, by))


@team_tasks.command("check")
def check(
    dataset: str,
    task: str,
    sample: _Samples,
    reject: _Reject = False,
    comment: _Comment = "",
    score: _Score = None,
    by: _By = None,
) -> None:
    """Say of samples an acceptance drew whether they pass."""
    Teams(connect()).check(dataset, task, _comments(sample, not reject, comment, score, by))


@team_tasks.command("agreement")
def agreement(dataset: str, task: str) -> None:
    """Show how far annotators agree who labeled the same samples."""
    found = Teams(connect()).agreement(dataset, task)
    if OPTIONS.as_json:
        show(found)
        return
    show(found, ["method", "sample_count", "agreement", "kappa", "disagreement_count"])
    show(found["pairs"], {"workers": "workers", "sample_count": "samples", "agreement": "agreement", "kappa": "kappa"})


@team_tasks.command("draw")
def draw(
    dataset: str,
    task: str,
    rate: Annotated[float, typer.Option(min=0, max=1, help="Part of what is done that is looked at.")] = 0.1,
    seed: int = 0,
) -> None:
    """Begin an acceptance: draw samples to look at."""
    service = Teams(connect())
    service.draw(dataset, task, rate, seed=seed)
    rows = [_sample(row) for row in service.samples(dataset, task, sample_state="__WORKFORCE_SAMPLED__")]
    show(rows, {"sample_id": "id", "text_or_name": "sample", "label_names": "labels"})


@team_tasks.command("accept")
def accept(
    dataset: str,
    task: str,
    action: Annotated[str, typer.Option(help="pass, reject, cancel, pass-rest or reject-rest.")] = "pass",
    overwrite: Annotated[bool, typer.Option(help="Also where the dataset's labels changed meanwhile.")] = False,
) -> None:
    """End an acceptance; what passes becomes the dataset's, what does not goes back to who labeled it."""
    if action not in _ACTIONS:
        raise typer.BadParameter(f"must be one of {', '.join(_ACTIONS)}", param_hint="--action")
    service = Teams(connect())
    service.accept(dataset, task, _ACTIONS[action], overwrite=overwrite)
    _show(service, dataset, task)


@team_tasks.command("write")
def write_results(
    dataset: str,
    task: str,
    overwrite: Annotated[bool, typer.Option(help="Also where the dataset's labels changed meanwhile.")] = False,
) -> None:
    """Let accepted labels become the dataset's, for a task that does not do so by itself (`create --no-write`)."""
    service = Teams(connect())
    service.synchronize(dataset, task, overwrite=overwrite)
    _show(service, dataset, task)


@team_tasks.command("notify")
def notify(dataset: str, task: str, email: list[str]) -> None:
    """Tell members by e-mail what waits for them."""
    results = Teams(connect()).notify(dataset, task, email)["results"]
    show([{"email": one, **row} for one, row in zip(email, results, strict=True)], ["email", "success", "error_msg"])


@team_tasks.command("delete")
def delete_task(
    dataset: str, task: str, yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False
) -> None:
    """Delete a team labeling task; what was accepted stays in the dataset."""
    if not yes:
        typer.confirm(f"delete team labeling task {task} with all labels that were not accepted?", abort=True)
    Teams(connect()).delete_task(dataset, task)
    note(f"team labeling task {task} deleted")


def _show(service: Teams, dataset: str, task: str) -> None:
    shown = service.task(dataset, task, sample_stats=True)
    if OPTIONS.as_json:
        show(shown)
        return
    figures = {name.removesuffix("_sample_count"): n for name, n in shown["sample_stats"].items()}
    columns = ["task_name", "status", "total", "unannotated", "unreviewed", "uncheck", "accepted", "rejected"]
    show(_state(shown) | figures, [*columns, "task_id"])
    rows = [
        {"email": one["email"], "role": _role(one["role"]), **one["sample_stats"], "pass_rate": one["pass_rate"]}
        for one in shown["worker_stats"]
    ]
    show(
        rows,
        {
            "email": "email",
            "role": "role",
            "total_sample_count": "samples",
            "unannotated_sample_count": "open",
            "rejected_sample_count": "back",
            "accepted_sample_count": "accepted",
            "pass_rate": "pass rate",
        },
    )


def _comments(
    samples: Sequence[str], accept: bool, comment: str, score: str | None, by: str | None
) -> list[dict[str, Any]]:
    said = {"accept": accept, "comment": comment, "score": score, "worker_id": by}
    return [{"sample_id": one, **said} for one in samples]


def _weights(given: Sequence[str]) -> dict[str, float]:
    """``anna@example.com=2``: members with their weights, 1 where none is said."""
    found = {}
    for one in given:
        address, _, weight = one.partition("=")
        try:
            found[address] = float(weight or 1)
        except ValueError as e:
            raise typer.BadParameter(f"'{weight}' is no weight", param_hint="--member") from e
    return found


def _check_role(role: str) -> None:
    if role not in ROLES:
        raise typer.BadParameter(f"must be one of {', '.join(ROLES)}", param_hint="--role")


def _given(**changes: str | None) -> dict[str, str]:
    """What was asked to change. Raises BadParameter when that is nothing."""
    found = {key: value for key, value in changes.items() if value is not None}
    if not found:
        raise typer.BadParameter("say what to change: --name or --description")
    return found


def _state(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"status": _STATUS.get(row["status"], row["status"])}


def _named(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"role": _role(row["role"]), "status": _LOGIN.get(row["status"], row["status"])}


def _role(code: int) -> str:
    return {number: name for name, number in ROLES.items()}.get(code, "owner")


def _sample(row: dict[str, Any]) -> dict[str, Any]:
    names = [one["name"] for one in row["labels"]]
    return row | {"text_or_name": (row["sample_data"] or [row["sample_name"]])[0][:80], "label_names": names}
