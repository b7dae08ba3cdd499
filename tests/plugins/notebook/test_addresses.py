"""From which addresses a notebook is opened (``endpoints[].allowed_access_ips``)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from bottega.cli_support import OPTIONS
from bottega.client import ApiFailure
from bottega_notebook.commands import app

BASE = "/v1/{project_id}/notebooks"
ELSEWHERE = [{"service": "NOTEBOOK", "allowed_access_ips": ["192.0.2.0/24", "2001:db8::1"]}]
HERE = [{"service": "NOTEBOOK", "allowed_access_ips": ["192.0.2.7", "127.0.0.0-127.0.0.9"]}]


def test_a_notebook_is_opened_from_listed_addresses_only(shared: Any) -> None:
    client = shared.tenant.client
    token = shared.tenant.running.platform().identity.issue_token(
        shared.tenant.running.run(shared.tenant.running.platform().identity.principal(shared.tenant.user_id)), 600
    )
    headers = {"X-Auth-Token": token}
    try:
        shown = client.put(f"{BASE}/{shared.id}", {"endpoints": ELSEWHERE})
        assert shown["endpoints"][0]["allowed_access_ips"] == ["192.0.2.0/24", "2001:db8::1"]
        with pytest.raises(ApiFailure) as refused:
            client.post(f"{BASE}/{shared.id}/open")
        assert (refused.value.status, "127.0.0.1" in refused.value.message) == (403, True)
        assert httpx.get(f"{shared.url}/api/status", headers=headers).status_code == 403
        with pytest.raises(InvalidStatus) as closed:
            connect(shared.url.replace("http", "ws") + "/api/events/subscribe", additional_headers=headers)
        assert closed.value.response.status_code == 403
        client.put(f"{BASE}/{shared.id}", {"endpoints": HERE})
        assert httpx.get(f"{shared.url}/api/status", headers=headers).status_code == 200
        assert client.post(f"{BASE}/{shared.id}/open")["url"]
    finally:
        client.put(f"{BASE}/{shared.id}", {"endpoints": [{"service": "NOTEBOOK"}]})
    assert client.post(f"{BASE}/{shared.id}/open")["url"]


def test_addresses_on_the_command_line(shared: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tenant, file = shared.tenant, tmp_path / "credentials.json"
    known = {"url": tenant.running.url, "project_id": tenant.project_id}
    file.write_text(json.dumps({**known, "access_key": tenant.access_key, "secret_key": tenant.secret_key}))
    monkeypatch.setattr(OPTIONS, "credentials", file)
    for addresses in (["192.0.2.0/24"], []):
        done = CliRunner().invoke(app, ["allow", shared.id, *addresses], env={"COLUMNS": "200"})
        assert (done.exit_code, all(a in done.output for a in addresses)) == (0, True), done.output
        assert shared.state["endpoints"][0]["allowed_access_ips"] == addresses


@pytest.mark.parametrize(
    "endpoint",
    [
        {"service": "NOTEBOOK", "allowed_access_ips": ["nowhere"]},
        {"service": "SSH", "allowed_access_ips": ["10.0.0.9-10.0.0.1"]},
    ],
)
def test_what_cannot_be_enforced_is_refused(tenant: Any, endpoint: dict[str, Any]) -> None:
    with pytest.raises(ApiFailure) as refused:
        tenant.client.post(BASE, {"name": "refused", "endpoints": [endpoint]})
    assert (refused.value.status, refused.value.error_code) == (400, "ModelArts.0101")
    assert tenant.client.get(BASE)["total"] == 0
