"""Every route under whatever can be sent, made from our own OpenAPI: no failure inside, no change by a refusal.

``BOTTEGA_FUZZ=200`` sends that many requests to each operation instead of the suite's few.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import GenerationMode

from bottega.client import Client
from bottega.testing import RunningPlatform, Tenant

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
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    """A platform of its own, which nobody hinders to ask often."""
    overrides = {"server": {"rate_limit": "100000/second", "records_of_unknown": "100000/second"}}
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
        self.client: Client = tenant.client
        self.wrong: list[str] = []
        self.answers = 0

    def send(self, case: Any, unchanged: bool) -> None:
        request = case.as_transport_kwargs(base_url=self.running.url)
        sent = {key: request[key] for key in ("method", "url", "params", "json", "data", "files") if request.get(key)}
        if "data" in sent and isinstance(sent["data"], bytes | str):
            sent["content"] = sent.pop("data")
        before = state(self.running.runtime.data_dir) if unchanged else {}
        try:
            answer = self.client.http.request(**sent)
        except (httpx.InvalidURL, UnicodeError, ValueError):
            return  # what no client can send
        self.answers += 1
        label = f"{case.operation.label}: {answer.status_code} {answer.text[:300]} for {case.as_curl_command()[:600]}"
        if answer.status_code >= 500:
            self.wrong.append(label)
        elif answer.status_code >= 400:
            if sent["method"] != "HEAD" and "error_code" not in answer.text and "<Error>" not in answer.text:
                self.wrong.append(f"no error_code: {label}")
            if unchanged and state(self.running.runtime.data_dir) != before:
                self.wrong.append(f"a refused request changed something: {label}")


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
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            _run(fuzz, operation, mode)
    assert fuzz.answers > len(mine)
    assert not fuzz.wrong, f"{len(fuzz.wrong)} went wrong:\n" + "\n".join(fuzz.wrong[:40])


def _run(fuzz: Fuzz, operation: Any, mode: GenerationMode) -> None:
    own = {"project_id": fuzz.tenant.project_id} if "{project_id}" in operation.path else None
    strategy = operation.as_strategy(generation_mode=mode, path_parameters=own)
    changing = operation.method.upper() in ("POST", "PUT", "PATCH", "DELETE")

    @seed(0)
    @settings(
        max_examples=EXAMPLES,
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
