"""A platform with a mail server, and what the tests of labeling teams share."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from bottega.client import ApiFailure, Client
from bottega.testing import RunningPlatform, Tenant, wait_until
from bottega.testing.mailbox import Mailbox
from bottega_dataset.client import Datasets

WORKFORCES = "/v2/{project_id}/workforces"
GOOD = "Correct-horse-7"


@pytest.fixture(scope="session")
def mailbox() -> Iterator[Mailbox]:
    with Mailbox() as mailbox:
        yield mailbox


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory, mailbox: Mailbox) -> Iterator[RunningPlatform]:
    often = {"plugins": {"dataset": {"labeling_logins_per_address": "100000/minute"}}}
    with RunningPlatform(tmp_path_factory.mktemp("teams"), {"smtp": mailbox.settings, **often}) as platform:
        yield platform


class Console:
    """The labeling console's routes of one project, with the token of who logged in."""

    def __init__(self, tenant: Tenant) -> None:
        self.base = f"{tenant.running.url}/v2/{tenant.project_id}/labeling"
        self.token: str | None = None

    def call(self, method: str, path: str, json: Any = None, **params: Any) -> Any:
        """Raises ApiFailure."""
        headers = {"X-Auth-Token": self.token} if self.token else {}
        answer = httpx.request(method, self.base + path, json=json, params=params, headers=headers, timeout=60)
        if answer.is_error:
            body = answer.json()
            raise ApiFailure(answer.status_code, body["error_code"], body["error_msg"], "")
        return answer.json() if answer.content else None

    def login(self, email: str, password: str) -> Any:
        answer = self.call("POST", "/login", {"email": email, "password": password})
        self.token = answer["token"]
        return answer


@pytest.fixture
def console(tenant: Tenant) -> Callable[[], Console]:
    return lambda: Console(tenant)


@pytest.fixture
def address() -> Callable[[str], str]:
    """An address that no other test uses."""
    run = uuid.uuid4().hex[:8]
    return lambda name: f"{name}.{run}@labels.example"


def initial_password(mail: str) -> str:
    found = re.search(r"^    (\S{16})$", mail, re.MULTILINE)
    assert found, mail
    return found[1]


@pytest.fixture
def team(tenant: Tenant) -> str:
    """The id of an empty team."""
    return str(tenant.client.post(WORKFORCES, {"workforce_name": "labelers"})["workforce_id"])


@pytest.fixture
def join(
    tenant: Tenant, team: str, mailbox: Mailbox, address: Callable[[str], str]
) -> Callable[..., tuple[str, Console]]:
    """Takes somebody into the team and logs it in with a password of its own: worker id and console."""

    def join(name: str, role: int = 0) -> tuple[str, Console]:
        email, console = address(name), Console(tenant)
        (made,) = tenant.client.post(f"{WORKFORCES}/{team}/workers", {"emails": email, "role": role})["workers"]
        password = initial_password(mailbox.wait(email, "Invitation"))
        console.login(email, password)
        changed = console.call("PUT", "/password", {"old_password": password, "new_password": GOOD})
        console.token = changed["token"]
        return made["worker_id"], console

    return join


def refused(call: Callable[..., Any], *arguments: Any, **named: Any) -> ApiFailure:
    with pytest.raises(ApiFailure) as e:
        call(*arguments, **named)
    return e.value


@dataclass
class Job:
    """A dataset of texts with a team, and the owner's calls on its team labeling task."""

    client: Client
    datasets: Datasets
    team: str
    dataset_id: str
    task_id: str = ""

    @property
    def tasks(self) -> str:
        return f"/v2/{{project_id}}/datasets/{self.dataset_id}/workforce-tasks"

    @property
    def one(self) -> str:
        return f"{self.tasks}/{self.task_id}"

    def create(self, workers: list[dict[str, Any]] | None = None, **options: Any) -> str:
        config = {"workforces": [{"workforce_id": self.team, "workers": workers or []}]}
        body = {"task_name": "round-1", "workforces_config": config, **options}
        self.task_id = self.client.post(self.tasks, body)["task_id"]
        if "agency" not in body["workforces_config"]:
            self.wait(1)
        return self.task_id

    def wait(self, status: int) -> dict[str, Any]:
        wait_until(lambda: self.show()["status"] == status)
        return self.show()

    def show(self, **what: Any) -> dict[str, Any]:
        shown: dict[str, Any] = self.client.get(self.one, what)
        return shown

    def stats(self) -> dict[str, int]:
        """Those counts of samples that are not 0, by the beginning of their names."""
        stats = self.show(sample_stats=True)["sample_stats"]
        return {name.removesuffix("_sample_count"): n for name, n in stats.items() if n}

    def samples(self, **filters: Any) -> list[dict[str, Any]]:
        answer = self.client.get(f"{self.one}/data-annotations/samples", {"limit": 100, **filters})
        assert answer["sample_count"] == len(answer["samples"])
        found: list[dict[str, Any]] = answer["samples"]
        return found

    def review(self, *comments: dict[str, Any]) -> Any:
        return self.client.post(f"{self.one}/data-annotations/review", {"comments": list(comments)})

    def labels(self) -> dict[str, list[str]]:
        """The dataset's own labels, by text."""
        shown = self.datasets.samples("texts")
        return {s["sample_data"][0]: [x["name"] for x in s["labels"]] for s in shown if s["labels"]}

    def accept(self, action: int, **options: Any) -> Any:
        return self.client.put(f"{self.one}/acceptance/status", {"action": action, **options})

    def draw(self, **how: Any) -> str:
        return str(self.client.post(f"{self.one}/acceptance", how)["task_id"])


@pytest.fixture
def job(tenant: Tenant, team: str, bucket: str) -> Job:
    """Eight texts, the first two of them labeled."""
    datasets = Datasets(tenant.client)
    lines = [
        {"source": f"content://text {n}"}
        | ({"annotation": [{"type": "text_classification", "name": "old"}]} if n < 2 else {})
        for n in range(8)
    ]
    tenant.objects.put(f"s3://{bucket}/t.manifest", "\n".join(map(json.dumps, lines)).encode())
    made = datasets.create("texts", f"/{bucket}/out/", dataset_type=100)
    datasets.import_from("texts", f"s3://{bucket}/t.manifest", import_type="manifest")
    return Job(tenant.client, datasets, team, made["dataset_id"])


def own(console: Console, task: str, **filters: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = console.call("GET", f"/tasks/{task}/samples", limit=100, **filters)["samples"]
    return found


def label(console: Console, task: str, samples: list[dict[str, Any]], *names: str) -> Any:
    """Gives samples labels, in turn those of `names`."""
    body = [{"sample_id": s["sample_id"], "labels": [{"name": names[i % len(names)]}]} for i, s in enumerate(samples)]
    return console.call("PUT", f"/tasks/{task}/samples", {"samples": body})
