"""From which addresses a notebook is opened (``endpoints[].allowed_access_ips``)."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from bottega.client import ApiFailure

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


@pytest.mark.parametrize(
    ("endpoint", "code"),
    [
        ({"service": "NOTEBOOK", "allowed_access_ips": ["nowhere"]}, "ModelArts.0101"),
        ({"service": "NOTEBOOK", "allowed_access_ips": ["10.0.0.9-10.0.0.1"]}, "ModelArts.0101"),
        ({"service": "SSH", "key_pair_names": ["mine"]}, "ModelArts.0112"),
    ],
)
def test_what_cannot_be_enforced_is_refused(tenant: Any, endpoint: dict[str, Any], code: str) -> None:
    with pytest.raises(ApiFailure) as refused:
        tenant.client.post(BASE, {"name": "refused", "endpoints": [endpoint]})
    assert (refused.value.status, refused.value.error_code) == (400, code)
    assert tenant.client.get(BASE)["total"] == 0
