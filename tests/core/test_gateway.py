"""The HTTP edge through a real platform: authentication, permission, errors, limits, records of calls."""

from __future__ import annotations

import re
import time
from pathlib import Path

import httpx
import pytest

from bottega import routes, signing
from bottega.client import ApiFailure, Client
from bottega.testing import RunningPlatform, Tenant

LIST = {"Version": "1.1", "Statement": [{"Effect": "Allow", "Action": ["bottega:resource:list"]}]}
FROM_TEN = {
    "Version": "1.1",
    "Statement": [
        {
            "Effect": "Allow",
            "Action": ["bottega:resource:list"],
            "Condition": {"IpAddress": {"g:SourceIp": ["10.0.0.0/8"]}},
        }
    ],
}
DENY = {"Version": "1.1", "Statement": [{"Effect": "Deny", "Action": ["bottega:resource:*"]}]}


def raw(tenant: Tenant, path: str, headers: dict[str, str]) -> httpx.Response:
    return httpx.get(tenant.running.url + path.replace("{project_id}", tenant.project_id), headers=headers)


def assert_refused(response: httpx.Response, status: int, code: str) -> None:
    body = response.json()
    assert (response.status_code, body["error_code"]) == (status, code), body
    assert body["error_msg"]
    assert response.headers["x-request-id"]


def test_a_request_without_credentials_is_refused(tenant: Tenant) -> None:
    assert_refused(raw(tenant, "/v1/{project_id}/resources", {}), 401, "APIGW.0301")


def test_a_tampered_token_is_refused(running: RunningPlatform, tenant: Tenant) -> None:
    token = running.runtime.platform.identity.issue_token(
        running.run(running.runtime.platform.identity.principal(tenant.user_id)), 60
    )
    assert raw(tenant, "/v1/whoami", {"X-Auth-Token": token}).status_code == 200
    head, body, signature = token.split(".")
    assert_refused(raw(tenant, "/v1/whoami", {"X-Auth-Token": f"{head}.{body[:-2]}AA.{signature}"}), 401, "APIGW.0307")


def test_an_expired_token_is_refused(running: RunningPlatform, tenant: Tenant) -> None:
    identity = running.runtime.platform.identity
    token = identity.issue_token(running.run(identity.principal(tenant.user_id)), -1)
    assert_refused(raw(tenant, "/v1/whoami", {"X-Auth-Token": token}), 401, "APIGW.0307")


def test_a_signature_outside_its_window_is_refused(tenant: Tenant) -> None:
    url = f"{tenant.running.url}/v1/whoami"
    signed = signing.sign("GET", url, {}, b"", tenant.access_key, tenant.secret_key, now=time.time() - 3600)
    assert_refused(httpx.get(url, headers=signed), 401, "APIGW.0301")


def test_a_signed_request_heard_by_others_does_only_what_it_said(tenant: Tenant) -> None:
    """Inside the window it can be sent again: equal requests of one second are signed alike, and both are meant."""
    url = f"{tenant.running.url}/v1/whoami"
    signed = signing.sign("GET", url, {}, b"", tenant.access_key, tenant.secret_key)
    assert [httpx.get(url, headers=signed).status_code for _ in range(2)] == [200, 200]
    assert_refused(httpx.get(f"{url}?again=1", headers=signed), 401, "APIGW.0301")
    other = f"{tenant.running.url}/v1/{tenant.project_id}/nats-credentials"
    assert_refused(httpx.post(other, headers=signed), 401, "APIGW.0301")
    later = {**signed, "X-Sdk-Date": time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(time.time() + 60))}
    assert_refused(httpx.get(url, headers=later), 401, "APIGW.0301")


def test_a_wrong_secret_is_refused(tenant: Tenant) -> None:
    stolen = Client(tenant.running.url, tenant.project_id, tenant.access_key, "guess")
    with pytest.raises(ApiFailure) as refused:
        stolen.get("/v1/whoami")
    assert (refused.value.status, refused.value.error_code) == (401, "APIGW.0301")


def test_another_accounts_project_is_refused_and_told_apart_from_nothing(tenant: Tenant, stranger: Tenant) -> None:
    for project in (tenant.project_id, "0" * 32):
        with pytest.raises(ApiFailure) as refused:
            stranger.client.get(f"/v1/{project}/resources")
        assert refused.value.status == 403
        assert refused.value.message == f"project '{project}' is not one of yours"


def test_a_token_of_another_project_is_refused(running: RunningPlatform, tenant: Tenant, stranger: Tenant) -> None:
    identity = running.runtime.platform.identity
    principal = running.run(identity.principal(tenant.user_id, scope=stranger.project_id))
    response = raw(tenant, "/v1/{project_id}/resources", {"X-Auth-Token": identity.issue_token(principal, 60)})
    assert_refused(response, 403, "ModelArts.0103")


def test_rights_come_from_policies_and_the_answer_names_the_statement(tenant: Tenant) -> None:
    with pytest.raises(ApiFailure) as refused:
        tenant.user().client.get("/v1/{project_id}/resources")
    assert "no statement allows bottega:resource:list" in refused.value.message
    reader = tenant.user([LIST])
    assert reader.client.get("/v1/{project_id}/resources") == {"resources": []}
    both = tenant.user([LIST, DENY], name="both")
    with pytest.raises(ApiFailure) as refused:
        both.client.get("/v1/{project_id}/resources")
    assert 'denied by statement 0 of policy "policy 1 of both"' in refused.value.message


def test_can_i_says_who_decided(tenant: Tenant) -> None:
    tenant.user([LIST], name="reader")
    ask = {"action": "bottega:resource:list", "user": "reader"}
    answer = tenant.client.post("/v1/{project_id}/permissions/check", ask)
    assert answer["allowed"]
    assert answer["policy"] == "policy 0 of reader"
    with pytest.raises(ApiFailure) as refused:
        tenant.user().client.post("/v1/{project_id}/permissions/check", ask)
    assert refused.value.status == 403


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/v9/nothing", None, 404, "APIGW.0101"),
        ("DELETE", "/v1/whoami", None, 405, "APIGW.0101"),
        ("GET", "/v1/{project_id}/resources?limit=many", None, 400, "ModelArts.0101"),
        ("GET", "/v1/{project_id}/lineage?urn=x", None, 400, "ModelArts.0101"),
        ("POST", "/v1/{project_id}/permissions/check", {"action": 1}, 400, "ModelArts.0101"),
    ],
)
def test_errors_have_the_vendors_shape(
    tenant: Tenant, method: str, path: str, body: dict[str, int] | None, status: int, code: str
) -> None:
    with pytest.raises(ApiFailure) as refused:
        tenant.client.request(method, path, json=body)
    assert (refused.value.status, refused.value.error_code) == (status, code)
    assert refused.value.request_id


@pytest.mark.parametrize(
    ("content", "headers", "complaint"),
    [
        (
            b'{\n"action": ',
            {"Content-Type": "application/json"},
            "the body is not JSON: Expecting value, line 2 column",
        ),
        (b'{"action": "a:b:c"}', {}, "send 'Content-Type: application/json'"),
        (b'{"action": "foo"}', {"Content-Type": "application/json"}, "write service:resource:operation"),
    ],
)
def test_a_malformed_body_is_a_clear_400(
    tenant: Tenant, content: bytes, headers: dict[str, str], complaint: str
) -> None:
    with pytest.raises(ApiFailure) as refused:
        tenant.client.request("POST", "/v1/{project_id}/permissions/check", content=content, headers=headers)
    assert (refused.value.status, refused.value.error_code) == (400, "ModelArts.0101")
    assert complaint in refused.value.message


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with RunningPlatform(tmp_path / "data") as running:
        tenant = running.tenant()

        async def fill() -> None:
            async with running.runtime.platform.database.engine.connect() as connection:
                await connection.exec_driver_sql("PRAGMA max_page_count=1")  # SQLite takes what it has by now

        running.run(fill())

        def write() -> None:
            for number in range(1000):
                wanted = {"name": f"cn-north-1_p{number}", "description": "x" * 250}
                tenant.client.post("/v3/projects", {"project": wanted})

        with pytest.raises(ApiFailure) as refused:
            write()
        assert (refused.value.status, refused.value.error_code) == (507, "ModelArts.0109")
        assert "no space is left" in refused.value.message
        monkeypatch.setattr(routes, "_LEAST_FREE", 2**62)
        ready = httpx.get(f"{running.url}/readyz")
        assert (ready.status_code, "free on the disk" in ready.json()["status"]) == (503, True)


def test_a_forbidden_character_is_told_in_words(tenant: Tenant) -> None:
    with pytest.raises(ApiFailure) as refused:
        tenant.client.post("/v1/{project_id}/nats-credentials", {"name": "a b"})
    assert refused.value.message == "name: only A to Z, a to z, digits, '_', '-' may be used, 1 to 32 characters"
    with pytest.raises(ApiFailure) as refused:
        tenant.client.get("/v1/{project_id}/lineage", {"urn": "x", "direction": "left"})
    assert refused.value.message == "query.direction: must be one of: up, down"


def test_the_api_describes_its_authentication_and_its_refusals(running: RunningPlatform) -> None:
    schema = httpx.get(f"{running.url}/openapi.json", timeout=60).json()
    assert set(schema["components"]["securitySchemes"]) == {"token", "bearer", "signature"}
    asking = schema["paths"]["/v1/{project_id}/permissions/check"]["post"]
    assert asking["security"] == [{"token": []}, {"bearer": []}, {"signature": []}]
    assert {"400", "401", "403"} <= set(asking["responses"])
    assert "security" not in schema["paths"]["/healthz"]["get"]
    assert not [p for p, operations in schema["paths"].items() for o in operations.values() if "422" in o["responses"]]


def test_a_body_over_the_limit_is_refused(tenant: Tenant) -> None:
    with pytest.raises(ApiFailure) as refused:
        tenant.client.request("POST", "/v1/{project_id}/permissions/check", content=b"x" * (65 * 2**20))
    assert (refused.value.status, refused.value.error_code) == (413, "ModelArts.0106")


def test_refusals_and_changes_are_recorded_and_reads_are_not(tenant: Tenant) -> None:
    nobody = tenant.user()
    with pytest.raises(ApiFailure) as refused:
        nobody.client.get("/v1/{project_id}/resources")
    record = tenant.events.wait("core.api.called.v1", request_id=refused.value.request_id)
    assert record.data["status"] == 403
    assert record.data["user_name"] == nobody.name
    assert record.data["action"] == "bottega:resource:list"
    assert record.data["source_ip"] == "127.0.0.1"
    tenant.client.get("/v1/{project_id}/resources")
    tenant.client.post("/v1/{project_id}/nats-credentials", {})
    made = tenant.events.wait("core.api.called.v1", action="bottega:event:subscribe")
    assert made.data["status"] == 201
    assert [e.data["action"] for e in tenant.events.all("core.api.called.v1")] == [
        "bottega:resource:list",
        "bottega:event:subscribe",
    ]


def test_metrics_need_the_right_to_read_them(tenant: Tenant) -> None:
    tenant.client.get("/v1/whoami")
    text = tenant.client.request("GET", "/metrics").text
    assert 'bottega_request_seconds_count{method="GET",route="/v1/whoami",status="200"}' in text
    assert re.search(r'bottega_events_published_total{stream="EVENTS"} [1-9]', text)
    assert 'bottega_events_consumed_total{consumer="audit__events"}' in text
    with pytest.raises(ApiFailure):
        tenant.user().client.request("GET", "/metrics")


def test_nobody_says_where_he_comes_from(tenant: Tenant) -> None:
    user = tenant.user([FROM_TEN])
    with pytest.raises(ApiFailure) as refused:
        user.client.request("GET", "/v1/{project_id}/resources", headers={"X-Forwarded-For": "10.1.2.3"})
    assert refused.value.status == 403


def test_who_asks_too_often_is_held_back_and_a_trusted_proxy_says_where_callers_are(tmp_path: Path) -> None:
    server = {"rate_limit": "5/minute", "trusted_proxies": ["127.0.0.0/8"]}
    with RunningPlatform(tmp_path / "data", {"server": server}) as slow:
        tenant = slow.tenant()
        user = tenant.user([FROM_TEN])
        for address, status in (("10.1.2.3", 200), ("11.1.2.3", 403), ("10.1.2.3, 11.1.2.3", 403)):
            signed = signing.sign(
                "GET", f"{slow.url}/v1/{tenant.project_id}/resources", {}, b"", user.access_key, user.secret_key
            )
            assert raw(user, "/v1/{project_id}/resources", {**signed, "X-Forwarded-For": address}).status_code == status
        codes = [httpx.get(f"{slow.url}/v1/whoami").status_code for _ in range(7)]
        assert codes == [401] * 5 + [429] * 2
        for _ in range(5):
            tenant.client.get("/v1/whoami")
        with pytest.raises(ApiFailure) as refused:
            tenant.client.get("/v1/whoami")
        assert (refused.value.status, refused.value.error_code) == (429, "ModelArts.0107")


def test_health_is_open_and_says_nothing_more(running: RunningPlatform) -> None:
    assert httpx.get(f"{running.url}/healthz").json() == {"status": "ok"}
    assert httpx.get(f"{running.url}/readyz").json() == {"status": "ready", "nats": True}
