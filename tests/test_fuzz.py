"""Every route under whatever can be sent, made from our own OpenAPI: no failure inside, no change by a refusal.

``BOTTEGA_FUZZ=200`` sends that many requests to each operation instead of the suite's few; to those of datasets, about
things that exist, a quarter of that.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import GenerationMode

from bottega.testing import RunningPlatform, Tenant, wait_until
from bottega.testing.mailbox import Mailbox
from bottega_dataset.client import Datasets

EXAMPLES = int(os.environ.get("BOTTEGA_FUZZ", "4"))
OWNERS = ("core", "iam", "billing", "quota", "audit", "notify", "monitor")
CHANGES_BY_ITSELF = (
    "core_outbox",
    "core_processed_event",
    "core_workload",
    "core_revoked_token",
    "audit_",
    "billing_",
    "monitor_point",
    "notify_dispatch",
    "notify_webhook_",
    "dataset_labeler_login_failure",
    "iam_login_failure",
    "alembic_version",
    "sqlite_",
)
"""Tables that time, records of calls, or a login that fails on purpose, change whatever is asked."""
KEPT_IN_BILLING = ("billing_budget", "billing_order", "billing_package")
NOT_FUZZED = {
    "GET /v1/{project_id}/events": "follows the stream until the caller leaves",
    "PUT /s3/{bucket}": "makes real buckets; its own tests send what is wrong",
}


@pytest.fixture(scope="module")
def mailbox() -> Iterator[Mailbox]:
    with Mailbox() as mailbox:
        yield mailbox


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, mailbox: Mailbox) -> Iterator[RunningPlatform]:
    """A platform of its own, which nobody hinders to ask often."""
    overrides = {
        "server": {"rate_limit": "100000/second", "records_of_unknown": "100000/second"},
        "plugins": {"dataset": {"labeling_logins_per_address": "100000/minute"}},
        "smtp": mailbox.settings,
    }
    with RunningPlatform(tmp_path_factory.mktemp("platform"), overrides) as platform:
        yield platform


@pytest.fixture
def description(running: RunningPlatform) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{running.url}/openapi.json", timeout=60).json()
    return found


def state(directory: Path) -> dict[str, str]:
    """A digest of each table that only requests change."""
    digests = {}
    with sqlite3.connect(f"file:{directory / 'bottega.db'}?mode=ro", uri=True) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            if table.startswith(CHANGES_BY_ITSELF) and not table.startswith(KEPT_IN_BILLING):
                continue
            rows = connection.execute(f'SELECT * FROM "{table}" ORDER BY 1').fetchall()
            digests[table] = hashlib.sha256(repr(rows).encode()).hexdigest()
    return digests


class Fuzz:
    """Sends what is generated and keeps what went wrong."""

    def __init__(self, running: RunningPlatform, tenant: Tenant) -> None:
        self.running, self.tenant = running, tenant
        self.http = tenant.client.http
        self.wrong: list[str] = []
        self.answers = 0

    def send(self, case: Any, unchanged: bool) -> None:
        request = case.as_transport_kwargs(base_url=self.running.url)
        sent = {key: request[key] for key in ("method", "url", "params", "json", "data", "files") if request.get(key)}
        if "data" in sent and isinstance(sent["data"], bytes | str):
            sent["content"] = sent.pop("data")
        before = self._state() if unchanged else {}
        try:
            answer = self.http.request(**sent)
        except (httpx.InvalidURL, UnicodeError, ValueError, TypeError, AttributeError):
            return  # what no client can send
        self.answers += 1
        label = f"{case.operation.label}: {answer.status_code} {answer.text[:300]} for {case.as_curl_command()[:600]}"
        if answer.status_code >= 500:
            self.wrong.append(label)
        elif answer.status_code >= 400:
            if sent["method"] != "HEAD" and "error_code" not in answer.text and "<Error>" not in answer.text:
                self.wrong.append(f"no error_code: {label}")
            if unchanged and self._state() != before and self._changes_again(sent):
                self.wrong.append(f"a refused request changed something: {label}")

    def _state(self) -> dict[str, str]:
        return state(self.running.runtime.data_dir)

    def _changes_again(self, sent: dict[str, Any]) -> bool:
        """Whether it was the request, not work that earlier ones began: it changes something whenever it is asked."""
        return all(self._changes_at_rest(sent) for _ in range(3))

    def _changes_at_rest(self, sent: dict[str, Any]) -> bool:
        before, since = self._state(), time.monotonic()
        while time.monotonic() - since < 1:
            if (now := self._state()) != before:
                before, since = now, time.monotonic()
        return self.http.request(**sent).is_error and self._state() != before


@pytest.mark.timeout(600)
@pytest.mark.parametrize("owner", OWNERS)
def test_nothing_that_can_be_sent_breaks_the_platform(
    running: RunningPlatform, description: dict[str, Any], owner: str
) -> None:
    fuzz = Fuzz(running, running.tenant())
    schema = schemathesis.openapi.from_dict(description)
    operations: list[Any] = [found.ok() for found in schema.get_all_operations()]  # type: ignore[union-attr]  # ours
    mine = [one for one in operations if owner in (one.tags or [])]
    assert mine, f"no route of {owner} is described"
    for operation in mine:
        if operation.label in NOT_FUZZED:
            continue
        own = {"project_id": fuzz.tenant.project_id} if "{project_id}" in operation.path else {}
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            _run(fuzz, operation, mode, own, EXAMPLES)
    assert fuzz.answers > len(mine)
    assert not fuzz.wrong, f"{len(fuzz.wrong)} went wrong:\n" + "\n".join(fuzz.wrong[:40])


class Labeling:
    """A dataset of texts with all that hangs on one: a version, a filter, and a team whose member labels it."""

    def __init__(self, tenant: Tenant, bucket: str, mailbox: Mailbox) -> None:
        client, datasets = tenant.client, Datasets(tenant.client)
        label = {"annotation": [{"type": "text_classification", "name": "old"}]}
        lines = [{"source": f"content://text {n}"} | (label if n < 4 else {}) for n in range(8)]
        tenant.objects.put(f"s3://{bucket}/t.manifest", "\n".join(map(json.dumps, lines)).encode())
        made = datasets.create("texts", f"/{bucket}/out/", dataset_type=100)
        datasets.import_from("texts", f"s3://{bucket}/t.manifest", import_type="manifest")
        datasets.publish("texts", "V001")
        teams, one = "/v2/{project_id}/workforces", f"/v2/{{project_id}}/datasets/{made['dataset_id']}"
        team = client.post(teams, {"workforce_name": "team"})["workforce_id"]
        (member,) = client.post(f"{teams}/{team}/workers", {"emails": "ann@labels.example", "role": 0})["workers"]
        asked = {"task_name": "round-1", "workforces_config": {"workforces": [{"workforce_id": team}]}}
        self.task_id = client.post(f"{one}/workforce-tasks", asked)["task_id"]
        wait_until(lambda: client.get(f"{one}/workforce-tasks/{self.task_id}")["status"] == 1)
        self.import_id = client.get(f"{one}/import-tasks")["import_tasks"][0]["task_id"]
        self.ids = {
            "project_id": tenant.project_id,
            "dataset_id": made["dataset_id"],
            "sample_id": client.get(f"{one}/data-annotations/samples")["samples"][0]["sample_id"],
            "version_id": next(datasets.versions("texts"))["version_id"],
            "filter_id": client.post(f"{one}/data-annotations/filters", {"name": "f"})["filter_id"],
            "label_name": "old",
            "workforce_id": team,
            "worker_id": member["worker_id"],
            "workforce_task_id": self.task_id,
        }
        self.http = httpx.Client(headers={"X-Auth-Token": self._log_in(tenant, mailbox)}, timeout=60)
        """As the member at the labeling console."""

    @staticmethod
    def _log_in(tenant: Tenant, mailbox: Mailbox) -> str:
        found = re.search(r"^    (\S{16})$", mailbox.wait("ann@labels.example", "Invitation"), re.MULTILINE)
        assert found
        console = f"{tenant.running.url}/v2/{tenant.project_id}/labeling"
        asked = {"email": "ann@labels.example", "password": found[1]}
        session = httpx.post(console + "/login", json=asked, timeout=60).json()
        change = {"old_password": found[1], "new_password": "Correct-horse-7"}
        headers = {"X-Auth-Token": session["token"]}
        return str(httpx.put(console + "/password", json=change, headers=headers, timeout=60).json()["token"])

    def named(self, path: str) -> dict[str, str]:
        """Things that exist for the parameters of a path; others stay as they are generated."""
        ids = {name: self.ids[name] for name in re.findall(r"{(\w+)}", path) if name in self.ids}
        if "/import-tasks/{task_id}" in path:
            ids["task_id"] = self.import_id
        if "/labeling/tasks/{task_id}" in path:
            ids["task_id"] = self.task_id
        return ids


@pytest.mark.timeout(600)
def test_nothing_that_can_be_sent_about_a_dataset_breaks_the_platform(
    running: RunningPlatform, description: dict[str, Any], mailbox: Mailbox
) -> None:
    tenant = running.tenant()
    fuzz, labeling = Fuzz(running, tenant), Labeling(tenant, tenant.create_bucket(), mailbox)
    schema = schemathesis.openapi.from_dict(description)
    operations: list[Any] = [found.ok() for found in schema.get_all_operations()]  # type: ignore[union-attr]  # ours
    mine = [one for one in operations if "dataset" in (one.tags or [])]
    for operation in sorted(mine, key=lambda one: one.method.upper() == "DELETE"):  # what is gone is no trial
        inside = "/labeling/tasks" in operation.path
        fuzz.http = labeling.http if inside else tenant.client.http
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            _run(fuzz, operation, mode, labeling.named(operation.path), max(1, EXAMPLES // 4))
    assert fuzz.answers > len(mine)
    assert not fuzz.wrong, f"{len(fuzz.wrong)} went wrong:\n" + "\n".join(fuzz.wrong[:40])


def _run(fuzz: Fuzz, operation: Any, mode: GenerationMode, named: dict[str, str], examples: int) -> None:
    """Send `examples` requests whose parameters in the path are those `named`, where they are."""
    strategy = operation.as_strategy(generation_mode=mode, path_parameters=named or None)
    changing = operation.method.upper() in ("POST", "PUT", "PATCH", "DELETE")

    @seed(0)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=strategy)
    def send(case: Any) -> None:
        fuzz.send(case, changing)

    try:
        send()
    except Exception as e:  # schemathesis has no negative case for an operation that takes nothing
        if type(e).__name__ not in ("Unsatisfiable", "SkipTest", "Skipped"):
            raise
