"""Labeling teams from Python: for owners of datasets, and for who labels.

::

    from bottega.client import Client
    from bottega_dataset.team.client import LabelingConsole, Teams

    teams = Teams(Client.from_environment())
    teams.create("birds")
    teams.invite("birds", ["anna@example.com", "ben@example.com"])
    task = teams.start_task("photos", "round-1", ["birds"], repetition=2)

    anna = LabelingConsole("https://platform.example", project_id)
    anna.login("anna@example.com", "…")
    anna.label(task, {sample_id: ["robin"]})
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import httpx

from bottega.client import ApiFailure, Client, failure
from bottega_dataset.client import Datasets, TaskFailed

_ALL = "/v2/{project_id}/workforces"
_POLL_S = 0.2
ROLES = {"annotator": 0, "reviewer": 1, "administrator": 2}
STARTING = 0
PASS_ALL, REJECT_ALL, CANCEL, PASS_REST, REJECT_REST = 0, 1, 2, 4, 5


class Teams:
    """The labeling teams of a project and what they have to do. Teams, tasks and datasets go by name or id."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._datasets = Datasets(client)

    # -- teams and members ---------------------------------------------------------------------------------------

    def list(self, contains: str | None = None) -> Iterator[dict[str, Any]]:
        return self._client.pages(_ALL, "workforces", {"search_content": contains})

    def get(self, team: str) -> dict[str, Any]:
        """Raises ApiFailure (404)."""
        return _one(self.list(), ("workforce_name", "workforce_id"), team, "labeling team")

    def create(self, name: str, description: str = "") -> dict[str, Any]:
        made: dict[str, Any] = self._client.post(_ALL, {"workforce_name": name, "description": description})
        return made

    def modify(self, team: str, **changes: str) -> None:
        """Give a team another name or description: ``workforce_name``, ``description``."""
        self._client.put(self._team(team), changes)

    def delete(self, team: str) -> None:
        self._client.delete(self._team(team))

    def members(self, team: str) -> Iterator[dict[str, Any]]:
        return self._client.pages(self._team(team) + "/workers", "workers", {"order": "asc"})

    def invite(
        self, team: str, emails: Sequence[str], role: str = "annotator", description: str = ""
    ) -> Sequence[dict[str, Any]]:
        """Invite people by e-mail; where the platform sends none, the answer has their initial passwords."""
        body = {"emails": [*emails], "role": ROLES[role], "description": description}
        made: Sequence[dict[str, Any]] = self._client.post(self._team(team) + "/workers", body)["workers"]
        return made

    def remove(self, team: str, email: str) -> None:
        """Take a member out; what it has not labeled goes to others."""
        self._client.delete(f"{self._team(team)}/workers/{self.member(team, email)['worker_id']}")

    def change_member(self, team: str, email: str, role: str | None = None, description: str | None = None) -> None:
        """Give a member another role or description."""
        worker = self.member(team, email)["worker_id"]
        body = {"role": None if role is None else ROLES[role], "description": description}
        self._client.put(f"{self._team(team)}/workers/{worker}", body)

    def reset_password(self, team: str, email: str) -> dict[str, Any]:
        """Give a member a new initial password, by e-mail or, where none is sent, in the answer."""
        worker = self.member(team, email)["worker_id"]
        answer: dict[str, Any] = self._client.post(f"{self._team(team)}/workers/{worker}/reset-password", {})
        return answer

    def member(self, team: str, email: str) -> dict[str, Any]:
        """Raises ApiFailure (404)."""
        return _one(self.members(team), ("email", "worker_id"), email, "member")

    # -- tasks ---------------------------------------------------------------------------------------------------

    def tasks(self, dataset: str) -> Iterator[dict[str, Any]]:
        return self._client.pages(self._tasks(dataset), "tasks")

    def task(self, dataset: str, task: str, **what: bool) -> dict[str, Any]:
        """A task with the progress of its members; `sample_stats`, `label_stats`, `workforce_stats` add figures."""
        found: dict[str, Any] = self._client.get(self._task(dataset, task), what)
        return found

    def start_task(
        self,
        dataset: str,
        name: str,
        teams: Sequence[str],
        *,
        members: Mapping[str, float] | None = None,
        agency: str | None = None,
        **options: Any,
    ) -> str:
        """Have a dataset's samples labeled by teams; returns the task's id once they are given out.

        `options` are further fields of the API, such as ``repetition=2``, ``sample_state="__NONE__"``,
        ``sample_conditions={"sample_name": "bird"}``, ``allocation={"method": "weight"}``.

        :param members: addresses of those who take part, with their weights; all of the teams without it.
        :param agency: the address of the team administrator who is to start the task (`begin`); it waits until then.
        """
        config = self._config(teams, members) | {"agency": agency}
        where = self._tasks(dataset)
        body = {"task_name": name, "workforces_config": config, **options}
        return self._given_out(dataset, self._client.post(where, body)["task_id"])

    def begin(
        self, dataset: str, task: str, teams: Sequence[str] = (), members: Mapping[str, float] | None = None
    ) -> str:
        """Start a task that waits for it, with `teams` beside its own; returns its id once samples are given out."""
        where = self._task(dataset, task)
        started = self._client.post(where, {"workforces_config": self._config(teams, members)})
        return self._given_out(dataset, started["task_id"])

    def modify_task(self, dataset: str, task: str, **changes: Any) -> None:
        """`changes` are fields of the API: ``task_name``, ``description``, ``workforces_config``."""
        self._client.put(self._task(dataset, task), changes)

    def _config(self, teams: Sequence[str], members: Mapping[str, float] | None) -> dict[str, Any]:
        """The API's ``workforces_config``. Raises ApiFailure (404) for an address that is in none of the teams."""
        chosen = []
        left = {address.casefold() for address in members or ()}
        for team in teams:
            there = {one["email"].casefold() for one in self.members(team)} if members else set()
            workers = [{"email": one, "weight": n} for one, n in (members or {}).items() if one.casefold() in there]
            left -= there
            if workers or not members:
                chosen.append({"workforce_id": self.get(team)["workforce_id"], "workers": workers})
        if left:
            raise ApiFailure(404, "ModelArts.0104", f"'{min(left)}' is in none of these teams", "")
        return {"workforces": chosen}

    def _given_out(self, dataset: str, task_id: str) -> str:
        where = self._tasks(dataset)
        while True:
            at_work = self._datasets.get(dataset)["exist_running_task"]
            if self._client.get(f"{where}/{task_id}")["status"] != STARTING:
                return task_id
            if not at_work:
                raise TaskFailed(f"the samples of '{dataset}' were not given out; the platform's log says why")
            time.sleep(_POLL_S)

    def delete_task(self, dataset: str, task: str) -> None:
        self._client.delete(self._task(dataset, task))

    def samples(self, dataset: str, task: str, **filters: Any) -> Iterator[dict[str, Any]]:
        """What was said of the samples of a task; ``sample_state="__UNREVIEWED__"`` and the like."""
        return self._client.pages(self._task(dataset, task) + "/data-annotations/samples", "samples", filters)

    def statistics(self, dataset: str, task: str, sample_state: str | None = None) -> dict[str, Any]:
        """How many samples of a task are how far, and how often each label was given."""
        where = self._task(dataset, task) + "/data-annotations/stats"
        found: dict[str, Any] = self._client.get(where, {"sample_state": sample_state})
        return found

    def label(
        self, dataset: str, task: str, email: str, wanted: Mapping[str, Sequence[str | Mapping[str, Any]]]
    ) -> None:
        """Set labels of a task's samples in the name of an annotator. Raises ApiFailure for one refused."""
        body = {"email": email, "samples": _labeled(wanted)}
        _check(self._client.put(self._task(dataset, task) + "/data-annotations/samples", body))

    def review(self, dataset: str, task: str, comments: Sequence[Mapping[str, Any]]) -> None:
        """Accept samples (`sample_id`, `accept`, `comment`, `score`) or send them back; all or none."""
        self._client.post(self._task(dataset, task) + "/data-annotations/review", {"comments": [*comments]})

    def agreement(self, dataset: str, task: str, limit: int = 10) -> dict[str, Any]:
        found: dict[str, Any] = self._client.get(self._task(dataset, task) + "/agreement", {"limit": limit})
        return found

    def draw(self, dataset: str, task: str, rate: float | None = None, number: int | None = None, seed: int = 0) -> str:
        """Begin an acceptance over a seeded sample; returns its id."""
        body = {"sampling_rate": rate, "sampling_num": number, "seed": seed}
        given = {key: value for key, value in body.items() if value is not None}
        started: str = self._client.post(self._task(dataset, task) + "/acceptance", given)["task_id"]
        return started

    def check(self, dataset: str, task: str, comments: Sequence[Mapping[str, Any]]) -> None:
        """Say of drawn samples whether they pass."""
        self._client.post(self._task(dataset, task) + "/acceptance/batch-comment", {"comments": [*comments]})

    def accept(self, dataset: str, task: str, action: int = PASS_ALL, *, overwrite: bool = False) -> dict[str, Any]:
        """End an acceptance; returns the task once what passed is in the dataset."""
        where = self._task(dataset, task)
        self._client.put(f"{where}/acceptance/status", {"action": action, "overwrite_last_result": overwrite})
        return self._merged(dataset, where)

    def report(self, dataset: str, task: str, acceptance_id: str) -> dict[str, Any]:
        """What an acceptance came to, and all of the task's together."""
        where = self._task(dataset, task) + "/acceptance/report"
        found: dict[str, Any] = self._client.get(where, {"checking_task_id": acceptance_id})
        return found

    def synchronize(self, dataset: str, task: str, *, overwrite: bool = False) -> dict[str, Any]:
        """Let accepted labels become the dataset's, for a task with ``auto_sync_dataset=False``; returns the task."""
        where = self._task(dataset, task)
        self._client.post(where + "/synchronize", {"overwrite_last_result": overwrite})
        return self._merged(dataset, where)

    def _merged(self, dataset: str, where: str) -> dict[str, Any]:
        """The task, once its results are in the dataset."""
        while self._datasets.get(dataset)["exist_running_task"]:
            time.sleep(_POLL_S)
        shown: dict[str, Any] = self._client.get(where, {"sample_stats": True})
        return shown

    def notify(self, dataset: str, task: str, emails: Sequence[str]) -> dict[str, Any]:
        answer: dict[str, Any] = self._client.post(self._task(dataset, task) + "/notify", {"emails": [*emails]})
        return answer

    def _team(self, team: str) -> str:
        return f"{_ALL}/{self.get(team)['workforce_id']}"

    def _tasks(self, dataset: str) -> str:
        return f"/v2/{{project_id}}/datasets/{self._datasets.get(dataset)['dataset_id']}/workforce-tasks"

    def _task(self, dataset: str, task: str) -> str:
        found = _one(self.tasks(dataset), ("task_name", "task_id"), task, "team labeling task")
        return f"{self._tasks(dataset)}/{found['task_id']}"


class LabelingConsole:
    """The labeling console for a member of a team, who is no user of the platform.

    `url` is the platform's, `project_id` that of the teams; both stand in the invitation.
    """

    def __init__(self, url: str, project_id: str) -> None:
        self.http = httpx.Client(base_url=f"{url.rstrip('/')}/v2/{project_id}/labeling", timeout=60)

    def login(self, email: str, password: str) -> dict[str, Any]:
        """With an initial password, `change_password` comes next: nothing else is allowed before."""
        return self._enter(self._call("POST", "/login", {"email": email, "password": password}))

    def change_password(self, old: str, new: str) -> dict[str, Any]:
        return self._enter(self._call("PUT", "/password", {"old_password": old, "new_password": new}))

    def forgotten(self, email: str) -> None:
        """Have a code sent by e-mail with which `reset` sets a new password."""
        self._call("POST", "/password/forgotten", {"email": email})

    def reset(self, email: str, code: str, new: str) -> None:
        """Set a new password with the code that was sent; then log in."""
        self._call("POST", "/password/reset", {"email": email, "code": code, "new_password": new})

    def logout(self) -> None:
        self._call("POST", "/logout")
        self.http.headers.pop("X-Auth-Token", None)

    def tasks(self) -> list[dict[str, Any]]:
        """What one has to do, and how far one is."""
        found: list[dict[str, Any]] = self._call("GET", "/tasks", limit=100)["worker_tasks"]
        return found

    def task(self, task_id: str) -> dict[str, Any]:
        """A task with the labels there are."""
        found: dict[str, Any] = self._call("GET", f"/tasks/{task_id}")
        return found

    def samples(self, task_id: str, state: str | None = None, limit: int = 100) -> list[dict[str, Any]]:
        """One's own samples, or for a reviewer everybody's; ``__NONE__`` are those to be labeled."""
        asked = {"limit": limit} | ({"sample_state": state} if state else {})
        found: list[dict[str, Any]] = self._call("GET", f"/tasks/{task_id}/samples", **asked)["samples"]
        return found

    def sample(self, task_id: str, sample_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self._call("GET", f"/tasks/{task_id}/samples/{sample_id}")
        return found

    def label(self, task_id: str, wanted: Mapping[str, Sequence[str | Mapping[str, Any]]]) -> None:
        """Set the labels of samples by id: names, or labels with properties. Raises ApiFailure for one refused."""
        _check(self._call("PUT", f"/tasks/{task_id}/samples", {"samples": _labeled(wanted)}))

    def review(self, task_id: str, comments: Sequence[Mapping[str, Any]]) -> None:
        self._call("POST", f"/tasks/{task_id}/review", {"comments": [*comments]})

    def start(self, task_id: str, workforces: Sequence[Mapping[str, Any]] = ()) -> None:
        """Give out the samples of a task that names one as its agency; `workforces` of one's own team join it."""
        self._call("POST", f"/tasks/{task_id}/start", {"workforces_config": {"workforces": [*workforces]}})

    def _enter(self, session: dict[str, Any]) -> dict[str, Any]:
        self.http.headers["X-Auth-Token"] = session["token"]
        return session

    def _call(self, method: str, path: str, body: Any = None, **params: Any) -> Any:
        answer = self.http.request(method, path, json=body, params=params)
        if answer.is_error:
            raise failure(answer)
        return answer.json() if answer.content else None


def _labeled(wanted: Mapping[str, Sequence[str | Mapping[str, Any]]]) -> list[dict[str, Any]]:
    return [
        {"sample_id": sample, "labels": [{"name": one} if isinstance(one, str) else dict(one) for one in labels]}
        for sample, labels in wanted.items()
    ]


def _check(answer: Mapping[str, Any]) -> None:
    """Raises ApiFailure for the first sample that was refused."""
    for result in answer["results"]:
        if not result["success"]:
            raise ApiFailure(409, result["error_code"], result["error_msg"], "")


def _one(rows: Iterator[dict[str, Any]], keys: Sequence[str], wanted: str, what: str) -> dict[str, Any]:
    for row in rows:
        if wanted in [row[key] for key in keys]:
            return row
    raise ApiFailure(404, "ModelArts.0104", f"there is no {what} '{wanted}'", "")
