"""The way into JupyterLab: cells over websockets, pages in a browser, and everyone who must stay outside."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent
from typing import Any

import httpx
import psutil
import pytest
from sqlmodel import select
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync.client import connect

from bottega.client import ApiFailure, Client
from bottega.entities import GroupMember
from bottega.testing import Tenant
from bottega_notebook.access import ACTION, COOKIE
from bottega_notebook.cell import run_cell

BASE = "/v1/{project_id}/notebooks"


def allowing(*actions: str, resource: str | None = None) -> dict[str, Any]:
    statement: dict[str, Any] = {"Effect": "Allow", "Action": list(actions)}
    if resource:
        statement["Resource"] = [resource]
    return {"Version": "1.1", "Statement": [statement]}


def key_of(notebook: Any) -> str:
    """The key the platform shows to this JupyterLab, as its process was given it."""
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        if "jupyterlab" in line and any(notebook.id in argument for argument in line):
            return str(process.environ()["BOTTEGA_NOTEBOOK_KEY"])
    raise AssertionError("its JupyterLab does not run")


def address_of(notebook: Any) -> str:
    urn = notebook.state["urn"]

    async def read() -> str:
        platform = notebook.tenant.running.platform("notebook")
        async with platform.database.read() as session:
            workload = (await platform.workloads.of_resource(session, urn))[0]
        return str(workload.endpoints["jupyter"])

    found: str = notebook.tenant.running.run(read())
    return found


@contextmanager
def browser(notebook: Any) -> Iterator[httpx.Client]:
    """A browser that followed the link of `open`."""
    link = notebook.tenant.client.post(f"{BASE}/{notebook.id}/open")["url"]
    with httpx.Client(base_url=notebook.tenant.running.url, follow_redirects=True, timeout=30) as session:
        page = session.get(link)
        assert page.status_code == 200, page.text[:300]
        yield session


def test_a_cell_works_for_its_owner(shared: Any) -> None:
    code = """
        import sys
        from bottega.client import Client, ApiFailure
        client = Client.from_environment()
        print(client.get('/v1/whoami')['user_name'], client.project_id)
        print(client.get('/v1/{project_id}/notebooks')['total'])
        try:
            client.post('/v1/{project_id}/notebooks', {'name': 'another'})
        except ApiFailure as refused:
            print(refused.status)
        print('progress', file=sys.stderr)
    """
    pieces: list[str] = []
    result = run_cell(shared.tenant.client, shared.id, dedent(code), on_output=pieces.append)
    assert result.ok, result.text
    assert f"{shared.tenant.name} {shared.tenant.project_id}\n1\n403\n" in result.text
    assert "progress" in result.text
    assert "".join(pieces) == result.text


def test_what_pip_installs_lands_on_the_notebooks_own_disk(shared: Any, tmp_path: Path) -> None:
    package = tmp_path / "brought_along"
    package.mkdir()
    (package / "brought_along.py").write_text("answer = 42\n")
    setup = "[project]\nname = 'brought-along'\nversion = '1'\n[tool.hatch.build]\ninclude = ['*.py']\n"
    build = "[build-system]\nrequires = []\nbuild-backend = 'hatchling.build'\n"
    (package / "pyproject.toml").write_text(setup + build)
    code = f"""
        !pip install --quiet --no-index --no-build-isolation {package}
        import brought_along
        print(brought_along.answer, brought_along.__file__)
    """
    result = run_cell(shared.tenant.client, shared.id, dedent(code))
    assert result.ok, result.text
    assert "42 " in result.text
    assert f"disks/notebook-{shared.id}/" in result.text


def test_the_kernel_does_not_know_the_platforms_key(shared: Any) -> None:
    key = key_of(shared)
    seen = run_cell(shared.tenant.client, shared.id, "import os; print(dict(os.environ))")
    assert "BOTTEGA_TOKEN" in seen.text
    assert key not in seen.text
    assert "BOTTEGA_NOTEBOOK_KEY" not in seen.text


def test_a_browser_gets_in_with_a_link_that_works_once(shared: Any) -> None:
    client = shared.tenant.client
    link = client.post(f"{BASE}/{shared.id}/open")["url"]
    first = httpx.get(link)
    assert first.status_code == 303
    assert first.headers["location"] == f"{shared.path}/lab"
    cookie = first.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert f"Path={shared.path}/" in cookie
    assert httpx.get(link).status_code == 401
    assert httpx.get(f"{shared.url}/_open").status_code == 401

    with browser(shared) as session:
        page = session.get(f"{shared.path}/lab")
        assert "JupyterLab" in page.text
        config = re.search(r'id="jupyter-config-data"[^>]*>(.*?)</script>', page.text, re.S)
        assert config is not None
        assert json.loads(config[1])["token"] == ""
        assert json.loads(config[1])["baseUrl"] == f"{shared.path}/"
        script = re.search(rf'src="({shared.path}/static/[^"]+\.js[^"]*)"', page.text)
        assert script is not None
        assert session.get(script[1]).status_code == 200
        key = key_of(shared)
        for path in ("lab", "api/status", "api/me", "api/config/x", "api/terminals", "lab/api/settings"):
            answer = session.get(f"{shared.path}/{path}")
            assert key not in answer.text + str(answer.headers), path
            assert "set-cookie" not in answer.headers
        assert session.get(f"{shared.path}/api/me").json()["identity"]["username"] == shared.tenant.name
        # The cookie is for this notebook and this purpose only.
        token = {"X-Auth-Token": session.cookies[COOKIE]}
        url = shared.tenant.running.url
        project = shared.tenant.project_id
        assert httpx.get(f"{url}/v1/{project}/notebooks", headers=token).status_code == 403
        other = f"{url}/notebooks/{project}/00000000-0000-4000-8000-000000000000/api"
        assert httpx.get(other, headers=token).status_code == 403


def test_files_go_in_and_out(shared: Any) -> None:
    with browser(shared) as session:
        origin = {"Origin": shared.tenant.running.url}
        content = "x" * 300_000
        body = {"type": "file", "format": "text", "content": content}
        put = session.put(f"{shared.path}/api/contents/größe ä.txt", json=body, headers=origin)
        assert put.status_code == 201, put.text
        assert session.get(f"{shared.path}/files/größe ä.txt").text == content
        part = session.get(f"{shared.path}/api/contents", params={"content": 1}).json()
        assert "größe ä.txt" in [entry["name"] for entry in part["content"]]
        assert session.delete(f"{shared.path}/api/contents/größe ä.txt", headers=origin).status_code == 204


def test_foreign_pages_cannot_use_the_cookie(shared: Any) -> None:
    with browser(shared) as session:
        for headers in ({"Origin": "http://evil.example"}, {"Origin": "http://127.0.0.1:1"}, {}):
            answer = session.post(f"{shared.path}/api/kernels", json={}, headers=headers)
            assert answer.status_code == 403, headers
            with pytest.raises(InvalidStatus) as refused:
                _websocket(shared, {"Cookie": f"{COOKIE}={session.cookies[COOKIE]}", **headers})
            assert refused.value.response.status_code == 403
        own = {"Cookie": f"{COOKIE}={session.cookies[COOKIE]}", "Origin": shared.tenant.running.url}
        with _websocket(shared, own) as socket:
            assert json.loads(socket.recv(timeout=20))[0] == "setup"


def _websocket(notebook: Any, headers: dict[str, str]) -> Any:
    """A terminal, which greets at once."""
    made = notebook.tenant.client.post(f"{notebook.path}/api/terminals", {})
    url = "ws" + notebook.url.removeprefix("http") + f"/terminals/websocket/{made['name']}"
    return connect(url, additional_headers=headers, proxy=None)


def test_strangers_and_the_powerless_stay_outside(shared: Any, stranger: Tenant) -> None:
    project = shared.tenant.project_id
    powerless = shared.tenant.user()
    halfway = shared.tenant.user([allowing("modelarts:notebook:get", "modelarts:notebook:list")])
    elsewhere = shared.tenant.user([allowing(ACTION, resource=f"bottega:notebook:{project}:instance/other")])
    key = key_of(shared)
    inside = ("lab", "api/status", "api/kernels", "static/lab/index.html", "files/kept.txt", "")
    for path in inside:
        assert httpx.get(f"{shared.url}/{path}").status_code == 401
        assert httpx.get(f"{shared.url}/{path}", headers={"X-Auth-Token": "wrong"}).status_code == 401
        assert httpx.get(f"{shared.url}/{path}", headers={"Cookie": f"{COOKIE}=wrong"}).status_code == 401
        # The key is no credential of the platform.
        assert httpx.get(f"{shared.url}/{path}", headers={"X-Bottega-Notebook-Key": key}).status_code == 401
        for someone in (stranger, powerless, halfway, elsewhere):
            with pytest.raises(ApiFailure) as refused:
                someone.client.get(f"{shared.path}/{path}")
            assert refused.value.status == 403
    for someone in (stranger, powerless, halfway, elsewhere):
        client = Client(someone.running.url, project, someone.access_key, someone.secret_key)
        with pytest.raises(ApiFailure) as refused:
            client.post(f"{BASE}/{shared.id}/open")
        assert refused.value.status == 403
        with pytest.raises(ApiFailure) as refused:
            run_cell(client, shared.id, "1")
        assert refused.value.status == 403
    with pytest.raises(InvalidStatus) as closed:
        _websocket(shared, {})
    assert closed.value.response.status_code == 401
    assert json.loads(closed.value.response.body)["error_code"] == "APIGW.0301"
    with pytest.raises(InvalidStatus) as closed:
        _websocket(shared, {"X-Auth-Token": "wrong"})
    assert closed.value.response.status_code == 401
    # Another account's project does not lead to this notebook either.
    with pytest.raises(ApiFailure) as refused:
        stranger.client.get(f"/notebooks/{stranger.project_id}/{shared.id}/api/status")
    assert refused.value.status == 404


def test_a_colleague_with_the_right_gets_in(shared: Any) -> None:
    project = shared.tenant.project_id
    colleague = shared.tenant.user([allowing(ACTION, resource=f"bottega:notebook:{project}:instance/{shared.id}")])
    assert colleague.client.get(f"{shared.path}/api/me")["identity"]["username"] == colleague.name
    assert run_cell(colleague.client, shared.id, "40 + 2").text == "42\n"


def test_a_right_taken_away_ends_what_is_open(shared: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bottega_notebook.proxy.RECHECK_S", 0.1)
    tenant = shared.tenant
    colleague = tenant.user([allowing(ACTION)])
    made = tenant.client.post(f"{shared.path}/api/terminals", {})
    link = colleague.client.post(f"{BASE}/{shared.id}/open")["url"]
    cookie = httpx.get(link).cookies[COOKIE]
    headers = {"Cookie": f"{COOKIE}={cookie}", "Origin": tenant.running.url}
    url = "ws" + shared.url.removeprefix("http") + f"/terminals/websocket/{made['name']}"
    with connect(url, additional_headers=headers, proxy=None) as socket:
        socket.recv(timeout=20)
        tenant.running.run(take_rights(tenant, colleague))
        with pytest.raises(ConnectionClosedError):
            list(socket)
        assert socket.close_code == 1008
    assert httpx.get(f"{shared.url}/api/status", headers=headers).status_code == 403


async def take_rights(tenant: Tenant, user: Tenant) -> None:
    """Out of all groups."""
    platform = tenant.running.platform()
    async with platform.database.transaction() as tx:
        members = await tx.session.exec(select(GroupMember).where(GroupMember.user_id == user.user_id))
        for member in members.all():
            await tx.session.delete(member)
    platform.identity.invalidate()


def test_the_trail_holds_the_opening_and_not_every_keystroke(shared: Any) -> None:
    with browser(shared) as session:
        origin = {"Origin": shared.tenant.running.url}
        assert session.post(f"{shared.path}/api/terminals", json={}, headers=origin).status_code == 200
    stranger = shared.tenant.user()
    with pytest.raises(ApiFailure):
        stranger.client.get(f"{shared.path}/lab")
    calls = [e.data for e in shared.tenant.events.all("core.api.called.v1")]
    opened = [c for c in calls if c["trace"] == "openNotebook" and c["status"] == 200]
    assert opened[-1]["resource_name"] == "lab"
    assert opened[-1]["resource_type"] == "Notebook"
    inside = [c for c in calls if c["path"].startswith("/notebooks/")]
    assert {c["status"] for c in inside} <= {401, 403}
    assert stranger.user_id in {c["user_id"] for c in inside}


def test_jupyter_itself_opens_to_nobody(shared: Any) -> None:
    address = address_of(shared)
    assert address.startswith("127.0.0.1:")
    direct = f"http://{address}{shared.path}"
    assert httpx.get(f"{direct}/api/status").status_code == 403
    assert httpx.get(f"{direct}/api/status", params={"token": ""}).status_code == 403
    assert httpx.get(f"{direct}/api/status", headers={"Authorization": "token x"}).status_code == 403
    assert httpx.get(f"{direct}/lab").status_code in (302, 403)
    assert httpx.post(f"{direct}/api/kernels", json={}).status_code == 403
    assert httpx.post(f"{direct}/login", data={"password": ""}).status_code in (403, 404, 405)
