"""A platform with a mail server, and what the tests of labeling teams share."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from bottega.client import ApiFailure
from bottega.testing import RunningPlatform, Tenant
from bottega.testing.mailbox import Mailbox

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
