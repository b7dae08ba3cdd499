"""What docs/events.md tells integrators is true: the subscriber runs, its credentials see one project, schemas hold."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio
import jsonschema
import nats
import pytest
from nats.aio.client import RawCredentials

from bottega.events import Event
from bottega.testing import Receiver, RunningPlatform, Tenant, wait_until

PAGE = (Path(__file__).parents[1] / "docs" / "events.md").read_text("utf-8")


class JobCompleted(Event, type="training.job.completed.v1"):
    name: str


def finish_job(tenant: Tenant, name: str) -> None:
    """Let the training plugin say that a job of this project has finished."""

    async def emit() -> None:
        async with tenant.running.platform("training").database.transaction() as tx:
            tx.emit(JobCompleted(name=name), f"bottega:training:{tenant.project_id}:job/{name}")

    tenant.running.run(emit())


def as_user(tenant: Tenant, folder: Path) -> dict[str, str]:
    """The environment of a shell in which `bottega` is the tenant's."""
    file = folder / "credentials.json"
    known = {"url": tenant.running.url, "project_id": tenant.project_id}
    file.write_text(json.dumps({**known, "access_key": tenant.access_key, "secret_key": tenant.secret_key}))
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "BOTTEGA_CREDENTIALS": str(file), "COLUMNS": "200", "PYTHONUNBUFFERED": "1"}


def shell(line: str, environment: dict[str, str]) -> str:
    """What a line of the page prints."""
    return subprocess.run(["bash", "-c", line], check=True, capture_output=True, text=True, env=environment).stdout


@pytest.fixture
def bottega(tenant: Tenant, tmp_path: Path) -> Callable[..., str]:
    """The command line, as the tenant."""
    environment = as_user(tenant, tmp_path)
    return lambda *words: shell(shlex.join(["bottega", *words]), environment)


@pytest.fixture
def given(bottega: Callable[..., str], tmp_path: Path) -> Path:
    """The file `bottega events credentials` writes."""
    file = tmp_path / "greeter.json"
    bottega("events", "credentials", str(file), "--name", "greeter", "--days", "1")
    assert file.stat().st_mode & 0o777 == 0o600
    return file


@contextmanager
def subscriber(given: Path) -> Iterator[Callable[[], list[str]]]:
    """The page's program at work; call what is yielded for the lines it has printed."""
    (source,) = re.findall(r'^```python title="greeter.py"\n(.*?)^```$', PAGE, re.MULTILINE | re.DOTALL)
    program, output = given.with_name("greeter.py"), given.with_name("output.txt")
    program.write_text(source)
    with output.open("wb") as stdout:
        process = subprocess.Popen([sys.executable, str(program), str(given)], stdout=stdout, stderr=stdout)
    try:
        yield lambda: output.read_text("utf-8").splitlines()
        assert process.poll() is None, output.read_text("utf-8")
    finally:
        process.terminate()
        process.wait(10)


def test_the_subscriber_hears_its_project_and_misses_nothing(tenant: Tenant, stranger: Tenant, given: Path) -> None:
    finish_job(tenant, "before")
    with subscriber(given) as printed:
        wait_until(lambda: printed() == ["before: well done"])
        finish_job(stranger, "foreign")
        finish_job(tenant, "during")
        wait_until(lambda: printed() == ["before: well done", "during: well done"])
    finish_job(tenant, "meanwhile")
    with subscriber(given) as printed:
        wait_until(lambda: printed() == ["meanwhile: well done"])


def test_it_needs_nothing_of_bottega() -> None:
    (source,) = re.findall(r'^```python title="greeter.py"\n(.*?)^```$', PAGE, re.MULTILINE | re.DOTALL)
    assert "bottega" not in source


def test_the_server_refuses_everything_else(stranger: Tenant, given: Path) -> None:
    known = json.loads(given.read_text("utf-8"))
    refusals: list[str] = []

    async def note(error: Exception) -> None:
        refusals.append(str(error).lower())

    async def trespass() -> None:
        connection = await nats.connect(
            known["nats_url"],
            user_credentials=RawCredentials(known["credentials"]),
            inbox_prefix=known["inbox_prefix"],
            error_cb=note,
        )
        await connection.subscribe(f"evt.{stranger.project_id}.>")
        await connection.publish(f"{known['subjects'][0][:-1]}training.job.completed.v1", b"{}")
        with anyio.move_on_after(5):
            while len(refusals) < 2:
                await anyio.sleep(0.05)
        await connection.close()

    anyio.run(trespass)
    assert len(refusals) == 2
    assert all("permissions violation" in refusal for refusal in refusals)


def test_someone_without_the_right_gets_no_credentials(tenant: Tenant) -> None:
    with pytest.raises(Exception, match="no statement allows bottega:event:subscribe"):
        tenant.user().client.post("/v1/{project_id}/nats-credentials", {"name": "x"})


CONSOLE = [
    line.removeprefix("$ ")
    for block in re.findall(r"^```console\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
    if line.startswith("$ ")
]


@pytest.mark.parametrize("line", [line for line in CONSOLE if line.startswith("bottega events tail")])
def test_following_the_events_of_a_project(tenant: Tenant, tmp_path: Path, line: str) -> None:
    output = tmp_path / "output.txt"
    with output.open("wb") as stdout:
        following = subprocess.Popen(["bash", "-c", f"exec {line}"], stdout=stdout, env=as_user(tenant, tmp_path))
        try:
            numbers = iter(range(1000))

            def heard() -> bool:
                # It hears what happens from when it is there, which nothing outside tells.
                finish_job(tenant, f"job-{next(numbers)}")
                return "job-" in output.read_text("utf-8")

            wait_until(heard)
        finally:
            following.terminate()
            following.wait(10)
    assert "training.job.completed.v1" in output.read_text("utf-8")


def test_the_webhook_of_the_page(tmp_path: Path) -> None:
    networks = {"plugins": {"notify": {"allowed_networks": ["127.0.0.0/8"]}}}
    lines = [line for line in CONSOLE if line.startswith("bottega webhooks")]
    with RunningPlatform(tmp_path / "data", networks) as running, Receiver().listening() as receiver:
        tenant = running.tenant()
        environment = as_user(tenant, tmp_path)
        said = [shell(line.replace("https://example.org/hooks", receiver.url), environment) for line in lines]
        assert "whsec_" in said[0]
        assert len(receiver.taken) == 1  # the test
        finish_job(tenant, "wine")
        finish_job(tenant, "digits")
        wait_until(lambda: len(receiver.taken) == 2)
        assert json.loads(receiver.taken[1].body)["data"]["name"] == "digits"
        wait_until(lambda: "delivered" in shell(lines[-1], environment))


def test_the_function_that_verifies_knows_true_from_false(tenant: Tenant) -> None:
    (source,) = re.findall(r'^```python title="verify.py"\n(.*?)^```$', PAGE, re.MULTILINE | re.DOTALL)
    assert len(source.partition("def verify")[2].strip().splitlines()) <= 10
    names: dict[str, Any] = {}
    exec(source, names)
    verify: Callable[[str, dict[str, str], bytes], bool] = names["verify"]
    networks = {"plugins": {"notify": {"allowed_networks": ["127.0.0.0/8"]}}}
    with TemporaryDirectory() as folder, RunningPlatform(Path(folder), networks) as running:
        client = running.tenant().client
        with Receiver().listening() as receiver:
            wanted = {"name": "n", "url": receiver.url, "events": ["training.>"]}
            made = client.post("/v1/{project_id}/webhooks", wanted)
            assert client.post(f"/v1/{{project_id}}/webhooks/{made['id']}/test")["delivered"]
            rotated = client.post(f"/v1/{{project_id}}/webhooks/{made['id']}/rotate-secret", {})
            assert client.post(f"/v1/{{project_id}}/webhooks/{made['id']}/test")["delivered"]
    first, second = receiver.taken
    assert verify(made["secret"], first.headers, first.body)
    assert not verify(made["secret"], first.headers, first.body + b" ")
    assert not verify(rotated["secret"], first.headers, first.body)
    assert not verify(made["secret"], {**first.headers, "webhook-timestamp": "1700000000"}, first.body)
    assert verify(made["secret"], second.headers, second.body)
    assert verify(rotated["secret"], second.headers, second.body)


# -- the schemas -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def asyncapi() -> dict[str, Any]:
    shown = subprocess.run([sys.executable, "-m", "bottega", "events", "schema"], capture_output=True, check=True)
    document: dict[str, Any] = json.loads(shown.stdout)
    return document


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from ([value["$ref"]] if "$ref" in value else [])
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def resolve(document: dict[str, Any], reference: str) -> Any:
    found: Any = document
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return found


def test_the_asyncapi_document_is_whole(asyncapi: dict[str, Any], running: RunningPlatform) -> None:
    assert asyncapi["asyncapi"] == "3.0.0"
    published = {e.type for p in running.runtime.plugins.on() for e in p.events_out}
    assert published | {"core.api.called.v1"} <= set(asyncapi["channels"])
    for kind, channel in asyncapi["channels"].items():
        assert channel["address"] == f"evt.{{project}}.{kind}"
        assert asyncapi["operations"][kind]["action"] == "send"
    for reference in references(asyncapi):
        assert resolve(asyncapi, reference)
    for message in asyncapi["components"]["messages"].values():
        jsonschema.Draft202012Validator.check_schema(message["payload"])


def test_what_travels_is_what_the_schemas_say(
    tenant: Tenant, bottega: Callable[..., str], asyncapi: dict[str, Any]
) -> None:
    tenant.client.post("/v1/{project_id}/nats-credentials", {"name": "x"})
    tenant.events.wait("core.api.called.v1")
    events = [json.loads(envelope.encode()) for envelope in tenant.events.all()]
    assert events
    schema = json.loads(bottega("events", "schema", "core.api.called.v1"))
    for event in events:
        payload = asyncapi["components"]["messages"][event["type"]]["payload"]
        jsonschema.validate(event, {**payload, "components": asyncapi["components"]})
        if event["type"] == "core.api.called.v1":
            jsonschema.validate(event, schema)
    wrong = {**events[0], "data": {}}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**wrong, "type": "core.api.called.v1"}, schema)


def test_the_envelope_shown_has_the_fields_that_travel(tenant: Tenant) -> None:
    finish_job(tenant, "shown")
    travelled = json.loads(tenant.events.wait("training.job.completed.v1").encode())
    (shown,) = re.findall(r"^```json\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert set(travelled) | {"causationid"} == set(json.loads(shown))
